"""The text encoder against transformers' UMT5, live, in float32 on the same weights: relative L2 error at most 1e-5."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import write_text_encoder
from parity.components import encode, relative_l2, text_encoder
from safetensors.torch import load_file, save_file
from transformers import UMT5EncoderModel

BOUND = 1e-5


def draw_ids(lengths: list[int], vocabulary: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [np.append(rng.integers(2, vocabulary, length - 1), 1).astype(np.int32) for length in lengths]


def reference_of(model: UMT5EncoderModel, ids: np.ndarray, padded_to: int | None = None) -> np.ndarray:
    padding = (padded_to or len(ids)) - len(ids)
    tokens = torch.tensor(np.append(ids, np.zeros(padding, np.int32)), dtype=torch.long)[None]
    mask = torch.tensor([1] * len(ids) + [0] * padding)[None]
    with torch.no_grad():
        return model(tokens, attention_mask=mask).last_hidden_state[0, : len(ids)].numpy()


@pytest.mark.parametrize(
    ("config", "lengths"),
    [
        ({}, [1]),
        ({}, [5]),
        ({}, [31, 32]),
        ({}, [33, 2, 17]),
        ({"num_heads": 3, "d_kv": 16, "d_model": 20, "d_ff": 9}, [20, 40]),
        ({"relative_attention_num_buckets": 8, "relative_attention_max_distance": 20}, [60]),
        ({"relative_attention_num_buckets": 30}, [150]),
        ({"layer_norm_epsilon": 1e-3, "num_layers": 1}, [12]),
    ],
    ids=["one token", "short", "two short", "three ragged", "odd sizes", "other buckets", "half a bucket", "eps"],
)
def test_embeddings_differ_from_transformers(tmp_path: Path, config: dict[str, Any], lengths: list[int]) -> None:
    model = write_text_encoder(tmp_path, seed=1, **config)
    prompts = draw_ids(lengths, model.config.vocab_size)
    for ids, value in zip(prompts, encode(tmp_path, prompts), strict=True):
        assert relative_l2(value, reference_of(model, ids)) <= BOUND


def test_distances_beyond_128_tokens_fall_into_the_wrong_bucket(tmp_path: Path) -> None:
    model = write_text_encoder(tmp_path, seed=2)
    prompts = draw_ids([300, 140], model.config.vocab_size)
    for ids, value in zip(prompts, encode(tmp_path, prompts), strict=True):
        assert relative_l2(value, reference_of(model, ids)) <= BOUND


def test_leaving_the_padding_out_changes_the_embeddings(tmp_path: Path) -> None:
    model = write_text_encoder(tmp_path, seed=3)
    (ids,) = draw_ids([9], model.config.vocab_size)
    assert relative_l2(encode(tmp_path, [ids])[0], reference_of(model, ids, padded_to=64)) <= BOUND


def test_prompts_of_one_call_influence_each_other(tmp_path: Path) -> None:
    model = write_text_encoder(tmp_path, seed=4)
    prompts = draw_ids([50, 40, 77], model.config.vocab_size)
    together = encode(tmp_path, prompts)
    for ids, value in zip(prompts, together, strict=True):
        assert np.array_equal(encode(tmp_path, [ids])[0], value)


def test_the_table_is_found_under_one_of_its_names_only(tmp_path: Path) -> None:
    """shared.weight, encoder.embed_tokens.weight, or both; the copy is listed as unused."""
    write_text_encoder(tmp_path, seed=5)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    (table,) = [weights.pop(name) for name in ("shared.weight", "encoder.embed_tokens.weight") if name in weights]
    prompts = draw_ids([7, 7], 97)
    results = []
    for names in (["shared.weight"], ["encoder.embed_tokens.weight"], ["shared.weight", "encoder.embed_tokens.weight"]):
        save_file({**weights, **{name: table.clone() for name in names}}, file)
        results.append(encode(tmp_path, prompts))
    unused = dict(text_encoder(tmp_path).unused())
    assert "copy" in unused["encoder.embed_tokens.weight"]
    for result in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(result, results[0], strict=True))


def test_embeddings_differ_on_the_trained_checkpoint(demo_model: Path) -> None:
    folder = demo_model / "text_encoder"
    model = UMT5EncoderModel.from_pretrained(folder, dtype=torch.float32).eval()
    prompts = draw_ids([12, 1, 150], model.config.vocab_size)
    for ids, value in zip(prompts, encode(folder, prompts), strict=True):
        assert relative_l2(value, reference_of(model, ids)) <= BOUND


@pytest.mark.parametrize("token", [-1, 97, 2**31 - 1])
def test_a_token_outside_the_vocabulary_is_read(tmp_path: Path, token: int) -> None:
    write_text_encoder(tmp_path, seed=6)
    with pytest.raises(ValueError, match=str(token)):
        encode(tmp_path, [np.array([3, token, 1], np.int32)])
