"""The CLIP vision encoder against transformers, live, in float32 on the same weights: relative L2 error at most
1e-5."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import edit_weights, rename_weights, write_image_encoder
from parity.components import encode_images, image_encoder, relative_l2
from transformers import CLIPVisionModel

import wanoffload

BOUND = 1e-5


def draw_pixels(model: CLIPVisionModel, images: int, seed: int = 0) -> torch.Tensor:
    size, generator = model.config.image_size, torch.Generator().manual_seed(seed)
    return torch.randn(images, model.config.num_channels, size, size, generator=generator)


def patches_of(model: CLIPVisionModel, pixels: torch.Tensor) -> np.ndarray:
    size = model.config.patch_size
    return np.ascontiguousarray(torch.nn.functional.unfold(pixels, size, stride=size).transpose(1, 2).numpy())


def reference_of(model: CLIPVisionModel, pixels: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return model(pixels, output_hidden_states=True).hidden_states[-2].numpy()


@pytest.mark.parametrize(
    ("config", "images"),
    [
        ({}, 1),
        ({}, 3),
        ({"num_hidden_layers": 1}, 2),
        ({"num_hidden_layers": 6, "layer_norm_eps": 1e-2}, 1),
        ({"hidden_size": 80, "num_attention_heads": 1, "intermediate_size": 7}, 1),
        ({"hidden_size": 14, "num_attention_heads": 7, "num_channels": 1}, 2),
        ({"image_size": 16, "patch_size": 16}, 1),
        ({"image_size": 5, "patch_size": 1}, 1),
    ],
    ids=["one image", "three images", "one block", "eps", "head 80", "head 2, grey", "one patch", "patches of a pixel"],
)
def test_hidden_states_differ_from_transformers(tmp_path: Path, config: dict[str, Any], images: int) -> None:
    model = write_image_encoder(tmp_path, seed=1, **config)
    pixels = draw_pixels(model, images)
    hidden = encode_images(tmp_path, patches_of(model, pixels))
    assert hidden.shape[1] == image_encoder(tmp_path).tokens
    assert relative_l2(hidden, reference_of(model, pixels)) <= BOUND


def test_an_image_depends_on_its_neighbours_in_the_batch(tmp_path: Path) -> None:
    patches = patches_of(model := write_image_encoder(tmp_path, seed=2), draw_pixels(model, 3))
    together = encode_images(tmp_path, patches)
    for item in range(3):
        assert np.array_equal(encode_images(tmp_path, patches[item : item + 1])[0], together[item])


def test_patches_have_no_place_in_the_image(tmp_path: Path) -> None:
    """Guards the tests above: without positions, patches in another order would give the same rows in that order."""
    patches = patches_of(model := write_image_encoder(tmp_path, seed=3), draw_pixels(model, 1))
    hidden, turned = encode_images(tmp_path, patches), encode_images(tmp_path, patches[:, ::-1].copy())
    assert relative_l2(turned[:, :0:-1], hidden[:, 1:]) > 1e-2


@pytest.mark.parametrize("rest", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_weights_at_rest_in_another_dtype_are_read_wrongly(tmp_path: Path, rest: torch.dtype) -> None:
    model = write_image_encoder(tmp_path, seed=4, dtype=rest)
    pixels = draw_pixels(model, 1)
    assert relative_l2(encode_images(tmp_path, patches_of(model, pixels)), reference_of(model, pixels)) <= BOUND


@pytest.mark.parametrize("kind", ["CLIPVisionModel", "CLIPVisionModelWithProjection", "CLIPModel"])
@pytest.mark.parametrize("prefix", [False, True], ids=["as transformers 5 writes", "as older ones write"])
def test_a_layout_of_the_checkpoint_is_not_found(tmp_path: Path, kind: str, prefix: bool) -> None:
    model = write_image_encoder(tmp_path, seed=5, kind=kind)
    if prefix and kind == "CLIPVisionModel":
        rename_weights(tmp_path, lambda name: f"vision_model.{name}")
    if prefix:
        ids = {"vision_model.embeddings.position_ids": torch.arange(17)[None]}
        edit_weights(tmp_path, lambda weights: weights.update(ids))
    encoder = wanoffload.CLIPVisionModel.from_pretrained(tmp_path)
    pixels = draw_pixels(model, 1)
    hidden = encoder(pixel_values=pixels, output_hidden_states=True).hidden_states[-2]
    assert isinstance(hidden, torch.Tensor)
    assert relative_l2(hidden.numpy(), reference_of(model, pixels)) <= BOUND


def test_the_last_block_is_read_or_not_accounted_for(tmp_path: Path) -> None:
    write_image_encoder(tmp_path, seed=6, kind="CLIPVisionModelWithProjection")
    component = image_encoder(tmp_path)
    unused = dict(component.unused())
    assert not [name for layer in component.layers() for name in layer["params"] if "layers.2." in name]
    assert len([name for name in unused if "encoder.layers.2." in name]) == 16
    assert {"visual_projection.weight", "vision_model.post_layernorm.weight"} <= set(unused)


def test_hidden_states_that_were_not_computed_are_handed_out(tmp_path: Path) -> None:
    model = write_image_encoder(tmp_path, seed=7)
    encoder = wanoffload.CLIPVisionModel.from_pretrained(tmp_path)
    output = encoder(draw_pixels(model, 1).numpy())
    assert len(output.hidden_states) == 4 and output[0] is output.hidden_states
    assert output.hidden_states[2] is output.hidden_states[-2] and isinstance(output.hidden_states[2], np.ndarray)
    for index in (-1, 0, 3):
        with pytest.raises(ValueError, match=r"hidden_states\[-2\], and nothing else"):
            output.hidden_states[index]
    with pytest.raises(AttributeError, match="never loaded"):
        _ = output.last_hidden_state


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixel_values": np.zeros((1, 3, 30, 29), np.float32)}, "width=30"),
        ({"pixel_values": np.zeros((1, 1, 30, 30), np.float32)}, "channels=3"),
        ({"pixel_values": np.zeros((0, 3, 30, 30), np.float32)}, "empty batch"),
        ({"interpolate_pos_encoding": True}, "`interpolate_pos_encoding`.*cannot take effect"),
        ({"output_attentions": True}, "`output_attentions`.*cannot take effect"),
    ],
)
def test_image_encoder_refuses_by_name(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_image_encoder(tmp_path)
    encoder = wanoffload.CLIPVisionModel.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        encoder(**{"pixel_values": np.zeros((1, 3, 30, 30), np.float32), **changes})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"hidden_act": "quick_gelu"}, "hidden_act='quick_gelu'"),
        ({"patch_size": 31}, "patch_size=31"),
        ({"hidden_size": "wide"}, "hidden_size.*'wide'"),
        ({"architectures": ["SiglipVisionModel"]}, "a SiglipVisionModel, not a CLIPVisionModel"),
        ({"architectures": ["CLIPModel"]}, "no entry 'vision_config'"),
    ],
)
def test_a_config_that_is_no_image_encoder_of_wan_is_taken(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    write_image_encoder(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
    with pytest.raises(wanoffload.CheckpointError, match=message):
        wanoffload.CLIPVisionModel.from_pretrained(tmp_path)
