"""Prompts must become the ids that diffusers' pipeline makes of them."""

import json

import numpy as np
import pytest

from wanoffload.text import Tokenizer, prompt_clean

PROMPTS = [
    "",
    "a red triangle gets bigger on a light blue background.",
    "  tabs\tand\n\nlines  ",
    "色调艳丽，过曝，静态",
    "“curly” ﬁgure &amp;amp; 5 &lt; 6 …",
    "Ａ full-width ｌｅｔｔｅｒ",
    "emoji 🎈 and zero\u200bwidth",
    "word " * 700,
]


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda p: p[:12])
def test_cleaning_differs_from_diffusers(prompt):
    pytest.importorskip("torch")
    from diffusers.pipelines.wan.pipeline_wan import prompt_clean as reference

    assert prompt_clean(prompt) == reference(prompt)


@pytest.mark.parametrize("max_length", [1, 8, 512])
def test_ids_differ_from_transformers(demo_model, max_length):
    transformers = pytest.importorskip("transformers")
    mine = Tokenizer.from_pretrained(demo_model, subfolder="tokenizer")
    reference = transformers.AutoTokenizer.from_pretrained(demo_model, subfolder="tokenizer")
    texts = [prompt_clean(prompt) for prompt in PROMPTS]
    wanted = reference(texts, padding="max_length", max_length=max_length, truncation=True, return_tensors="np")
    for ids, row, mask in zip(mine(texts, max_length), wanted.input_ids, wanted.attention_mask, strict=True):
        assert ids.dtype == np.int32
        assert ids.tolist() == row[mask > 0].tolist()


def test_a_missing_tokenizer_is_not_named(tmp_path):
    with pytest.raises(OSError, match="no tokenizer folder"):
        Tokenizer.from_pretrained(tmp_path, subfolder="tokenizer")
    with pytest.raises(OSError, match="neither tokenizer.json nor spiece.model"):
        Tokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", "not json"])
def test_a_broken_tokenizer_is_not_named(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ValueError, match="tokenizer.json"):
        Tokenizer.from_pretrained(tmp_path)


@pytest.fixture
def sentencepiece_folder(demo_model, tmp_path):
    """The demo's tokenizer as a folder with spiece.model alone."""
    model_pb2 = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    content = json.loads((demo_model / "tokenizer" / "tokenizer.json").read_text())
    proto = model_pb2.ModelProto()
    proto.trainer_spec.model_type = model_pb2.TrainerSpec.UNIGRAM
    proto.trainer_spec.unk_id = content["model"]["unk_id"]
    for index, (piece, score) in enumerate(content["model"]["vocab"]):
        kind = model_pb2.ModelProto.SentencePiece
        kinds = {content["model"]["unk_id"]: kind.UNKNOWN, 0: kind.CONTROL, 1: kind.CONTROL}
        proto.pieces.add(piece=piece, score=score, type=kinds.get(index, kind.NORMAL))
    (tmp_path / "spiece.model").write_bytes(proto.SerializeToString())
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer", "eos_token": "</s>"}')
    return tmp_path


def test_a_sentencepiece_model_gives_other_ids_than_its_tokenizer_json(demo_model, sentencepiece_folder):
    texts = [prompt_clean(prompt) for prompt in PROMPTS]
    wanted = Tokenizer.from_pretrained(demo_model, subfolder="tokenizer")(texts, 64)
    got = Tokenizer.from_pretrained(sentencepiece_folder)(texts, 64)
    assert [ids.tolist() for ids in got] == [ids.tolist() for ids in wanted]


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x0a\xff\xff"])
def test_a_broken_sentencepiece_model_is_not_named(tmp_path, content):
    pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    (tmp_path / "spiece.model").write_bytes(content)
    with pytest.raises(ValueError, match="spiece.model"):
        Tokenizer.from_pretrained(tmp_path)
