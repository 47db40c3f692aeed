"""Prompts must become the ids that diffusers' pipeline makes of them."""

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
