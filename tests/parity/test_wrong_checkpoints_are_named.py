"""What is wrong with a checkpoint or its configuration is said by name, when the component is made."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import (
    IMAGE_TRANSFORMER,
    edit_weights,
    write_image_encoder,
    write_text_encoder,
    write_transformer,
    write_vae,
)
from parity.components import image_encoder, text_encoder, transformer, vae_decoder, vae_encoder
from safetensors.torch import load_file

from wanoffload.errors import CheckpointError

WRITE: dict[str, Callable[..., Any]] = {
    "transformer": write_transformer,
    "image transformer": functools.partial(write_transformer, **IMAGE_TRANSFORMER),
    "text_encoder": write_text_encoder,
    "image_encoder": write_image_encoder,
    "vae": write_vae,
    "vae encoder": write_vae,
}
MAKE: dict[str, Callable[..., Any]] = {
    "transformer": transformer,
    "image transformer": transformer,
    "text_encoder": text_encoder,
    "image_encoder": image_encoder,
    "vae": vae_decoder,
    "vae encoder": vae_encoder,
}


@pytest.mark.parametrize(
    ("stage", "tensor"),
    [
        ("transformer", "blocks.1.attn2.to_k.weight"),
        ("transformer", "scale_shift_table"),
        ("text_encoder", "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"),
        ("image transformer", "blocks.0.attn2.norm_added_k.weight"),
        ("image transformer", "condition_embedder.image_embedder.norm2.bias"),
        ("image_encoder", "embeddings.class_embedding"),
        ("image_encoder", "encoder.layers.1.mlp.fc2.bias"),
        ("vae", "decoder.up_blocks.0.upsamplers.0.time_conv.bias"),
        ("vae encoder", "encoder.down_blocks.5.time_conv.bias"),
        ("vae encoder", "quant_conv.weight"),
    ],
)
def test_a_tensor_is_missing_or_misshapen_without_its_name(tmp_path: Path, stage: str, tensor: str) -> None:
    WRITE[stage](tmp_path)
    edit_weights(tmp_path, lambda weights: weights.update({tensor: torch.cat([weights[tensor]] * 2)}))
    with pytest.raises(CheckpointError, match=tensor.replace(".", r"\.")):
        MAKE[stage](tmp_path)
    edit_weights(tmp_path, lambda weights: weights.pop(tensor))
    with pytest.raises(CheckpointError, match=tensor.replace(".", r"\.")):
        MAKE[stage](tmp_path)


@pytest.mark.parametrize("stage", WRITE)
def test_an_extra_tensor_is_fatal_or_passed_over(tmp_path: Path, stage: str) -> None:
    WRITE[stage](tmp_path)
    edit_weights(tmp_path, lambda weights: weights.update({"stranger": torch.zeros(3)}))
    assert "stranger" in dict(MAKE[stage](tmp_path).unused())


@pytest.mark.parametrize("stage", WRITE)
def test_a_parameter_is_read_by_no_layer(tmp_path: Path, stage: str) -> None:
    """Every tensor belongs to one layer, to those of its parts ("name[0]") or to the unused: together they are all of
    the checkpoint."""
    WRITE[stage](tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    component = MAKE[stage](tmp_path)
    layers = component.layers()
    claimed = {name for layer in layers for name in layer["params"]}
    whole = [name for layer in layers if not layer["name"].endswith("]") for name in layer["params"]]
    parts = [name for layer in layers if layer["name"].endswith("]") for name in layer["params"]]
    assert len(whole) == len(set(whole)) and not set(whole) & set(parts)
    assert claimed | {name for name, _ in component.unused()} == set(load_file(file))


@pytest.mark.parametrize(
    ("stage", "key", "value"),
    [
        ("transformer", "num_layers", 0),
        ("transformer", "attention_head_dim", 13),
        ("transformer", "num_attention_heads", 2**40),
        ("transformer", "freq_dim", 25),
        ("transformer", "eps", 0.0),
        ("transformer", "added_kv_proj_dim", 36),
        ("image transformer", "added_kv_proj_dim", None),
        ("image transformer", "added_kv_proj_dim", 35),
        ("image transformer", "image_dim", 0),
        ("image_encoder", "hidden_act", "quick_gelu"),
        ("image_encoder", "hidden_size", 37),
        ("image_encoder", "patch_size", 31),
        ("text_encoder", "d_model", -4),
        ("text_encoder", "relative_attention_num_buckets", 31),
        ("text_encoder", "relative_attention_max_distance", 8),
        ("vae", "z_dim", 0),
        ("vae", "num_res_blocks", 100),
        ("vae", "dim_mult", [1, 2, 0, 4]),
        ("vae", "base_dim", 2**62),
        ("vae encoder", "in_channels", 0),
        ("vae encoder", "temperal_downsample", [True]),
    ],
)
def test_an_impossible_configuration_is_taken(tmp_path: Path, stage: str, key: str, value: Any) -> None:
    WRITE[stage](tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    with pytest.raises(ValueError, match=key):
        MAKE[stage](tmp_path)
