"""The VAE encoder, one group of frames at a time, against diffusers' encode of the whole, live, in float32: relative L2
error at most 1e-5, of means and of logarithms of variances each."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import write_vae
from diffusers import AutoencoderKLWan
from parity.components import encode_video, relative_l2, vae_encoder

import wanoffload

BOUND = 1e-5


def draw_video(model: AutoencoderKLWan, frames: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    shape = (model.config.in_channels, frames, height, width)
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def reference_of(model: AutoencoderKLWan, video: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return model.encode(video[None]).latent_dist.parameters[0].numpy()


def error(moments: np.ndarray, reference: np.ndarray) -> float:
    """The larger of the errors of means and of logarithms of variances."""
    assert moments.shape == reference.shape
    pairs = zip(np.split(moments, 2), np.split(reference, 2), strict=True)
    return max(relative_l2(ours, theirs) for ours, theirs in pairs)


@pytest.mark.parametrize("frames", [1, 5, 9, 13, 3, 4, 8], ids=lambda frames: f"{frames} frames")
def test_moments_differ_from_diffusers(tmp_path: Path, frames: int) -> None:
    """Of 3, 4 and 8 frames the last ones are dropped."""
    model = write_vae(tmp_path, seed=1)
    video = draw_video(model, frames, 32, 48)
    moments = encode_video(tmp_path, video.numpy())
    assert moments.shape == (8, 1 + (frames - 1) // 4, 4, 6)
    assert error(moments, reference_of(model, video)) <= BOUND


@pytest.mark.parametrize(
    ("config", "size"),
    [
        ({"base_dim": 3}, (9, 40, 24)),
        ({"base_dim": 20, "num_res_blocks": 2}, (5, 24, 32)),
        ({"decoder_base_dim": 10}, (5, 32, 32)),
        ({"temperal_downsample": [True, False, True]}, (9, 24, 16)),
        ({"temperal_downsample": [False, False, False]}, (5, 16, 24)),
        ({"dim_mult": [1, 2], "temperal_downsample": [True]}, (5, 12, 10)),
        ({"dim_mult": [2], "temperal_downsample": []}, (5, 8, 8)),
        ({"z_dim": 1, "latents_mean": [0.0], "latents_std": [1.0], "in_channels": 4}, (5, 8, 8)),
    ],
    ids=["width 3", "width 20", "decoder width", "other times", "no times", "two levels", "one level", "one latent"],
)
def test_other_configurations_differ_from_diffusers(
    tmp_path: Path, config: dict[str, Any], size: tuple[int, int, int]
) -> None:
    model = write_vae(tmp_path, seed=2, **config)
    video = draw_video(model, *size)
    assert error(encode_video(tmp_path, video.numpy()), reference_of(model, video)) <= BOUND


def test_the_past_is_forgotten_between_groups_of_frames(tmp_path: Path) -> None:
    """Guards the tests above: the reference must depend on earlier frames, or an encoder without a past would pass."""
    model = write_vae(tmp_path, seed=3)
    video = draw_video(model, 13, 32, 32)
    other = video.clone()
    other[:, 0] *= -1
    right, changed = encode_video(tmp_path, video.numpy()), encode_video(tmp_path, other.numpy())
    for latent in range(4):
        assert relative_l2(changed[:, latent], right[:, latent]) > 1e-4, latent
    assert error(changed, reference_of(model, other)) <= BOUND


def test_a_second_film_of_one_exec_sees_the_first(tmp_path: Path) -> None:
    from wanoffload import _core

    model = write_vae(tmp_path, seed=4)
    films = [draw_video(model, 5, 16, 16, seed).numpy() for seed in range(2)]
    engine, component = _core.Engine("cpu"), vae_encoder(tmp_path)
    with _core.Exec(engine, component, component.plan(engine, 16, 16, {})) as run:
        for video in films:
            frames = np.ascontiguousarray(video.transpose(1, 2, 3, 0))
            moments = [run.encode_frames(frames[:1], first=True), run.encode_frames(frames[1:], first=False)]
            assert np.array_equal(np.stack(moments, axis=1), encode_video(tmp_path, video))


# What is set to zero to leave one module alone.
MODULES = {
    "downsamplers": ("conv2",),
    "first time downsampler": ("conv2", "down_blocks.5.time_conv"),
    "attention": ("resnets.0.conv2", "resnets.1.conv2"),
    "shortcuts": ("conv1", "conv2", "proj"),
}


@pytest.mark.parametrize("module", MODULES)
def test_module_differs_from_diffusers(tmp_path: Path, module: str) -> None:
    model = write_vae(tmp_path, seed=5)
    with torch.no_grad():
        for name, value in model.encoder.named_parameters():
            if name.endswith("weight") and any(part in name for part in MODULES[module]):
                value.zero_()
    model.save_pretrained(tmp_path)
    video = draw_video(model, 9, 32, 40)
    assert error(encode_video(tmp_path, video.numpy()), reference_of(model, video)) <= BOUND


def test_moments_differ_on_the_trained_checkpoint(demo_model: Path) -> None:
    folder = demo_model / "vae"
    model = AutoencoderKLWan.from_pretrained(folder, torch_dtype=torch.float32).eval()
    video = draw_video(model, 9, 64, 80)
    assert error(encode_video(folder, video.numpy()), reference_of(model, video)) <= BOUND


@pytest.mark.parametrize("rest", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_weights_at_rest_in_another_dtype_are_read_wrongly(tmp_path: Path, rest: torch.dtype) -> None:
    model = write_vae(tmp_path, seed=6, dtype=rest)
    video = draw_video(model, 5, 16, 24)
    assert error(encode_video(tmp_path, video.numpy()), reference_of(model, video)) <= BOUND


def test_the_decoder_is_not_accounted_for(tmp_path: Path) -> None:
    write_vae(tmp_path, seed=7)
    unused = vae_encoder(tmp_path).unused()
    assert {name.split(".")[0] for name, _ in unused} == {"decoder", "post_quant_conv"}


def test_mode_and_sample_differ_from_diffusers(tmp_path: Path) -> None:
    """Two videos, with the noise of one generator and of one for each."""
    model = write_vae(tmp_path, seed=8)
    ours = wanoffload.AutoencoderKLWan.from_pretrained(tmp_path)
    videos = torch.stack([draw_video(model, 7, 24, 32, seed) for seed in range(2)])
    with torch.no_grad():
        theirs = model.encode(videos).latent_dist
    found = ours.encode(videos).latent_dist
    assert isinstance(found.mode(), torch.Tensor) and found.mode().shape == (2, 4, 2, 3, 4)
    for name in ("mean", "logvar", "std", "var"):
        assert relative_l2(getattr(found, name).numpy(), getattr(theirs, name).numpy()) <= BOUND, name
    for seeds in ([3], [4, 5]):
        generators = [[torch.Generator().manual_seed(seed) for seed in seeds] for _ in range(2)]
        wanted = theirs.sample(generators[0] if len(seeds) > 1 else generators[0][0])
        sample = found.sample(generators[1] if len(seeds) > 1 else generators[1][0])
        assert relative_l2(sample.numpy(), wanted.numpy()) <= BOUND
        assert relative_l2(sample.numpy(), found.mode().numpy()) > 0.1
    seeded = ours.encode(videos.numpy(), return_dict=False)[0].sample(3)
    assert relative_l2(seeded, theirs.sample(torch.Generator().manual_seed(3)).numpy()) <= BOUND


@pytest.mark.parametrize(("height", "width"), [(56, 72), (32, 80), (64, 40), (32, 48)])
@pytest.mark.parametrize("frames", [1, 6])
def test_tiled_encode_differs_from_diffusers(tmp_path: Path, frames: int, height: int, width: int) -> None:
    model = write_vae(tmp_path, seed=9)
    ours = wanoffload.AutoencoderKLWan.from_pretrained(tmp_path)
    videos = torch.stack([draw_video(model, frames, height, width, seed) for seed in range(2)])
    whole = ours.encode(videos).latent_dist.mode()
    for vae in (model, ours):
        vae.enable_slicing()
        vae.enable_tiling(32, 48, 24, 32)
    with torch.no_grad():
        theirs = model.encode(videos).latent_dist
    found = ours.encode(videos).latent_dist
    assert relative_l2(found.mode().numpy(), theirs.mode().numpy()) <= BOUND
    assert relative_l2(found.logvar.numpy(), theirs.logvar.numpy()) <= BOUND
    tiled = (height, width) != (32, 48)
    assert np.array_equal(found.mode(), whole) != tiled
    assert ours.report.name == "vae encoder" and (ours.report.executions > 2) == tiled


@pytest.mark.parametrize("sampled", [False, True], ids=["mode", "sample"])
def test_encoding_and_decoding_in_one_go_differs_from_diffusers(tmp_path: Path, sampled: bool) -> None:
    model = write_vae(tmp_path, seed=6)
    video = draw_video(model, 7, 16, 24)[None]  # of 7 frames 5 come back
    with torch.no_grad():
        wanted = model(video, sampled, generator=torch.Generator().manual_seed(4)).sample.numpy()
    vae = wanoffload.AutoencoderKLWan.from_pretrained(tmp_path)
    got = vae(video.numpy(), sampled, generator=4).sample
    assert got.shape == wanted.shape == (1, 3, 5, 16, 24)
    assert relative_l2(got, wanted) <= BOUND
    assert np.array_equal(got, vae(video.numpy(), sampled, return_dict=False, generator=4)[0])
