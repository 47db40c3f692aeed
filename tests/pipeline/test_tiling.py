"""Tiles are cut and blended as diffusers does it."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan as Reference

import wanoffload
from wanoffload.models.tiling import Tile, TileGrid, blend_tiles

CASES = [
    (11, 13, Tile(48, 64), Tile(32, 40)),
    (16, 8, Tile(64, 64), Tile(48, 48)),
    (7, 20, Tile(32, 32), Tile(32, 32)),
    (9, 9, Tile(40, 32), Tile(8, 16)),
]


@pytest.mark.parametrize(("height", "width", "tile", "stride"), CASES)
def test_blending_gives_the_bits_of_diffusers(height: int, width: int, tile: Tile, stride: Tile) -> None:
    """The decoder is a stand-in that makes each tile differ from its neighbours where they overlap."""

    def upscale(part: np.ndarray) -> np.ndarray:
        pixels = part[:3].repeat(8, axis=2).repeat(8, axis=3)
        ramp = np.linspace(-1, 1, pixels.shape[2] * pixels.shape[3], dtype=np.float32).reshape(pixels.shape[2:])
        return (pixels + ramp).transpose(1, 2, 3, 0).copy()

    latents = np.random.default_rng(0).standard_normal((4, 2, height, width)).astype(np.float32)
    grid = TileGrid(height, width, tile, stride, 8)
    ours = blend_tiles(grid, lambda rows, columns: upscale(latents[:, :, rows, columns]), 2, 3)

    reference = Reference(
        base_dim=2, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0] * 4, latents_std=[1] * 4
    )
    reference.enable_tiling(tile.height, tile.width, stride.height, stride.width)
    reference.post_quant_conv = torch.nn.Identity()
    reference.decoder.forward = lambda x, **_: torch.from_numpy(upscale(x[0].numpy())).permute(3, 0, 1, 2)[None]
    with torch.no_grad():
        theirs = reference.tiled_decode(torch.from_numpy(latents)[None]).sample[0].numpy()
    assert np.array_equal(np.clip(ours, -1, 1), theirs.transpose(1, 2, 3, 0))


@pytest.mark.parametrize(("height", "width", "tile", "stride"), CASES)
def test_blending_latents_gives_the_bits_of_diffusers(height: int, width: int, tile: Tile, stride: Tile) -> None:
    """The encoder is a stand-in whose tiles differ where they overlap, and that sees one group of frames at a time."""

    def shrink(part: torch.Tensor) -> torch.Tensor:
        means = torch.nn.functional.avg_pool3d(part, (part.shape[2], 8, 8))
        ramp = torch.linspace(-1, 1, means[0, 0].numel()).reshape(means.shape[2:])
        return torch.cat([means, means * 2], 1)[:, :6] + ramp

    video = torch.rand(1, 3, 6, height * 8, width * 8, generator=torch.Generator().manual_seed(0))
    grid = TileGrid(height * 8, width * 8, tile, stride, 1, 8)

    def make(rows: slice, columns: slice) -> np.ndarray:
        part = video[..., rows, columns]
        latents = torch.cat([shrink(part[:, :, :1]), shrink(part[:, :, 1:5])], 2)
        return latents[0].permute(1, 2, 3, 0).numpy().copy()

    ours = blend_tiles(grid, make, 2, 6)
    reference = Reference(
        base_dim=2, z_dim=3, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0] * 3, latents_std=[1] * 3
    )
    reference.enable_tiling(tile.height, tile.width, stride.height, stride.width)
    reference.quant_conv = torch.nn.Identity()
    reference.encoder.forward = lambda x, **_: shrink(x)
    with torch.no_grad():
        theirs = reference.tiled_encode(video)[0].numpy()
    assert np.array_equal(ours, theirs.transpose(1, 2, 3, 0))


def test_tiles_cover_every_pixel_once() -> None:
    def ones(rows: slice, columns: slice, scale: int) -> np.ndarray:
        size = [(part.stop - part.start) * scale // 8 for part in (rows, columns)]
        return np.ones((1, *size, 3), np.float32)

    for height, width, tile, stride in CASES:
        decoded = blend_tiles(TileGrid(height, width, tile, stride, 8), lambda r, c: ones(r, c, 64), 1, 3)
        grid = TileGrid(height * 8, width * 8, tile, stride, 1, 8)
        encoded = blend_tiles(grid, lambda r, c: ones(r, c, 1), 1, 3)
        assert decoded.shape == (1, height * 8, width * 8, 3) and encoded.shape == (1, height, width, 3)
        assert np.allclose(decoded, 1, atol=1e-6) and np.allclose(encoded, 1, atol=1e-6)


@pytest.fixture
def vae(demo_model: object) -> wanoffload.AutoencoderKLWan:
    return wanoffload.AutoencoderKLWan.from_pretrained(demo_model, subfolder="vae")


def test_tiles_that_would_not_line_up_are_refused(vae: wanoffload.AutoencoderKLWan) -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        vae.enable_tiling(tile_sample_min_height=100)
    with pytest.raises(ValueError, match="tiles would leave gaps"):
        vae.enable_tiling(tile_sample_stride_width=512)
    assert not vae.use_tiling and vae.tile_sample_min_height == 256


@pytest.mark.parametrize("frames", [1, 3])
def test_tiled_decode_matches_diffusers(vae: wanoffload.AutoencoderKLWan, reference: object, frames: int) -> None:
    latents = 3 * np.random.default_rng(1).standard_normal((2, 16, frames, 6, 9)).astype(np.float32)
    tiling = {
        "tile_sample_min_height": 32,
        "tile_sample_min_width": 48,
        "tile_sample_stride_height": 24,
        "tile_sample_stride_width": 32,
    }
    whole = vae.decode(latents).sample
    vae.enable_tiling(**tiling)
    reference.vae.enable_tiling(**tiling)
    try:
        with torch.no_grad():
            theirs = reference.vae.decode(torch.from_numpy(latents)).sample.numpy()
    finally:
        reference.vae.disable_tiling()
    ours = vae.decode(latents).sample
    assert np.abs(ours - theirs).max() < 5e-5
    assert np.abs(ours - whole).max() > 1e-3
    assert vae.report.executions == 2 * 2 * 3
    vae.disable_tiling()
    assert np.array_equal(vae.decode(latents).sample, whole)


def test_frames_no_larger_than_a_tile_are_decoded_whole(vae: wanoffload.AutoencoderKLWan) -> None:
    latents = np.random.default_rng(2).standard_normal((1, 16, 1, 4, 4)).astype(np.float32)
    whole = vae.decode(latents).sample
    vae.enable_tiling()
    assert np.array_equal(vae.decode(latents).sample, whole) and vae.report.executions == 1
