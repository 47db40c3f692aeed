"""The VAE decoder, one latent frame at a time, against diffusers' decode of the whole, live, in float32: relative L2
error at most 1e-5."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import write_vae
from diffusers import AutoencoderKLWan
from parity.components import decode, relative_l2, vae_decoder

BOUND = 1e-5


def draw_latents(model: AutoencoderKLWan, size: tuple[int, int, int], seed: int = 0) -> torch.Tensor:
    return torch.randn(model.config.z_dim, *size, generator=torch.Generator().manual_seed(seed))


def reference_of(model: AutoencoderKLWan, latents: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return model.decode(latents[None]).sample[0].permute(1, 2, 3, 0).numpy()


@pytest.mark.parametrize("latent_frames", [1, 2, 3, 4], ids=["1 frame", "5 frames", "9 frames", "13 frames"])
def test_frames_differ_from_diffusers(tmp_path: Path, latent_frames: int) -> None:
    model = write_vae(tmp_path, seed=1)
    latents = draw_latents(model, (latent_frames, 4, 6))
    frames = decode(tmp_path, latents.numpy())
    assert frames.shape == (4 * latent_frames - 3, 32, 48, 3)
    assert relative_l2(frames, reference_of(model, latents)) <= BOUND


@pytest.mark.parametrize(
    ("config", "size"),
    [
        ({"base_dim": 3}, (3, 5, 3)),
        ({"base_dim": 20, "num_res_blocks": 2}, (2, 3, 4)),
        ({"decoder_base_dim": 10}, (2, 4, 4)),
        ({"temperal_downsample": [True, False, True]}, (3, 3, 2)),
        ({"temperal_downsample": [False, False, False]}, (3, 2, 3)),
        ({"dim_mult": [1, 2], "temperal_downsample": [True]}, (4, 6, 5)),
        ({"dim_mult": [2], "temperal_downsample": []}, (2, 8, 8)),
        ({"z_dim": 1, "latents_mean": [0.0], "latents_std": [1.0], "out_channels": 4}, (2, 1, 1)),
    ],
    ids=["width 3", "width 20", "decoder width", "other times", "no times", "two levels", "one level", "one pixel"],
)
def test_other_configurations_differ_from_diffusers(
    tmp_path: Path, config: dict[str, Any], size: tuple[int, int, int]
) -> None:
    model = write_vae(tmp_path, seed=2, **config)
    latents = draw_latents(model, size)
    frames = decode(tmp_path, latents.numpy())
    component = vae_decoder(tmp_path)
    assert frames.shape[1:3] == (size[1] * component.spatial_scale, size[2] * component.spatial_scale)
    assert frames.shape[0] == 1 + (size[0] - 1) * component.frames_per_latent
    assert relative_l2(frames, reference_of(model, latents)) <= BOUND


@pytest.mark.parametrize("size", [(3, 2, 2), (3, 12, 10)], ids=["stage by stage", "frame by frame"])
def test_the_order_of_frames_changes_them(tmp_path: Path, size: tuple[int, int, int]) -> None:
    """Small frames run through one layer after the other, large ones depth first through the tail."""
    model = write_vae(tmp_path, seed=3, base_dim=12)
    latents = draw_latents(model, size)
    assert relative_l2(decode(tmp_path, latents.numpy()), reference_of(model, latents)) <= BOUND


def test_the_past_is_forgotten_between_latents(tmp_path: Path) -> None:
    """Guards the tests above: the reference must depend on earlier latents, or a decoder without a past would pass."""
    model = write_vae(tmp_path, seed=4)
    latents = draw_latents(model, (4, 4, 4))
    other = latents.clone()
    other[:, 0] += 1
    right, changed = decode(tmp_path, latents.numpy()), decode(tmp_path, other.numpy())
    for frame in range(13):
        assert relative_l2(changed[frame], right[frame]) > 1e-2, frame
    assert relative_l2(changed, reference_of(model, other)) <= BOUND


def test_a_second_film_of_one_exec_sees_the_first(tmp_path: Path) -> None:
    from wanoffload import _core

    model = write_vae(tmp_path, seed=5)
    films = [draw_latents(model, (3, 4, 4), seed).numpy() for seed in range(2)]
    engine, component = _core.Engine("cpu"), vae_decoder(tmp_path)
    with _core.Exec(engine, component, component.plan(engine, 4, 4, {})) as run:
        for latents in films:
            frames = [run.decode(np.ascontiguousarray(latents[:, i]), first=i == 0) for i in range(3)]
            assert np.array_equal(np.concatenate(frames), decode(tmp_path, latents))


def test_pixels_leave_the_range(tmp_path: Path) -> None:
    model = write_vae(tmp_path, seed=6)
    with torch.no_grad():
        model.decoder.conv_out.weight.mul_(30)
    model.save_pretrained(tmp_path)
    latents = draw_latents(model, (2, 4, 4))
    frames = decode(tmp_path, latents.numpy())
    assert np.abs(frames).max() == 1 and (np.abs(frames) == 1).mean() > 0.05
    assert relative_l2(frames, reference_of(model, latents)) <= BOUND


# What is set to zero to leave one module alone.
MODULES = {
    "upsamplers": ("conv2", "proj"),
    "attention": ("conv2",),
    "middle": ("up_blocks.0.resnets.0.conv2", "up_blocks.1.resnets.1.conv2", "up_blocks.2", "up_blocks.3"),
    "first time upsampler": ("conv2", "proj", "up_blocks.1.upsamplers.0.time_conv"),
}


@pytest.mark.parametrize("module", MODULES)
def test_module_differs_from_diffusers(tmp_path: Path, module: str) -> None:
    model = write_vae(tmp_path, seed=7)
    with torch.no_grad():
        for name, value in model.decoder.named_parameters():
            if name.endswith("weight") and any(part in name for part in MODULES[module]):
                value.zero_()
    model.save_pretrained(tmp_path)
    latents = draw_latents(model, (3, 4, 5))
    assert relative_l2(decode(tmp_path, latents.numpy()), reference_of(model, latents)) <= BOUND


def test_frames_differ_on_the_trained_checkpoint(demo_model: Path) -> None:
    folder = demo_model / "vae"
    model = AutoencoderKLWan.from_pretrained(folder, torch_dtype=torch.float32).eval()
    latents = 2 * draw_latents(model, (3, 8, 10))
    assert relative_l2(decode(folder, latents.numpy()), reference_of(model, latents)) <= BOUND


def test_the_encoder_is_not_accounted_for(tmp_path: Path) -> None:
    write_vae(tmp_path, seed=8)
    unused = vae_decoder(tmp_path).unused()
    assert {name.split(".")[0] for name, _ in unused} == {"encoder", "quant_conv"}
    assert all("another component" in reason for _, reason in unused)
