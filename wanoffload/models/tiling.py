"""Decoding in overlapping tiles, blended as diffusers does it (AutoencoderKLWan.tiled_decode, 0.42).

+--------+--+           Each tile is decoded alone. Where it overlaps the tile above and the tile to the left, it fades
from |  tile  |##|  next     theirs into its own, first downwards, then to the right; the neighbours are taken as
already blended. +--------+--+           Of a tile so blended, the first `stride` rows and columns are kept.
|########|##|
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Tile(NamedTuple):
    """A size in pixels."""

    height: int
    width: int


class TileGrid:
    """How latents of a size are cut into tiles.

    Args:
        height: Height of the latents.
        width: Width of the latents.
        tile: Size of a tile in pixels.
        stride: Distance between tiles in pixels.
        scale: Pixels per latent.
    """

    def __init__(self, height: int, width: int, tile: Tile, stride: Tile, scale: int) -> None:
        self.height, self.width, self.scale = height, width, scale
        self.tile = Tile(tile.height // scale, tile.width // scale)
        self.step = Tile(stride.height // scale, stride.width // scale)
        self.kept = stride
        self.blend = Tile(tile.height - stride.height, tile.width - stride.width)

    def rows(self) -> range:
        """Tops of the tiles, in latents."""
        return range(0, self.height, self.step.height)

    def columns(self) -> range:
        """Left sides of the tiles, in latents."""
        return range(0, self.width, self.step.width)

    def largest(self) -> tuple[int, int]:
        """Size of the largest tile, in latents."""
        return min(self.tile.height, self.height), min(self.tile.width, self.width)


def blend_tiles(
    grid: TileGrid, latents: np.ndarray, decode: Callable[[np.ndarray], np.ndarray], frames: int, channels: int
) -> np.ndarray:
    """Decodes every tile and puts them together.

    Args:
        grid: How to cut.
        latents: float32 [z_dim, latent frames, height, width].
        decode: Decodes a part of the latents, cut in height and width, to [frames, H, W, channels], not clamped.
        frames: Frames that come out.
        channels: Channels that come out.

    Returns:
        float32 [frames, H, W, channels], not clamped.
    """
    out = np.empty((frames, grid.height * grid.scale, grid.width * grid.scale, channels), np.float32)
    above: list[np.ndarray] = []
    top = 0
    for i in grid.rows():
        bottoms: list[np.ndarray] = []
        left: np.ndarray | None = None
        side = 0
        for j in grid.columns():
            tile = decode(latents[:, :, i : i + grid.tile.height, j : j + grid.tile.width])
            if above:
                _blend(above[len(bottoms)], tile, grid.blend.height, axis=1)
            if left is not None:
                _blend(left, tile, grid.blend.width, axis=2)
            piece = out[:, top : top + grid.kept.height, side : side + grid.kept.width]
            piece[...] = tile[:, : piece.shape[1], : piece.shape[2]]
            side += piece.shape[2]
            left = tile[:, :, max(0, tile.shape[2] - grid.blend.width) :].copy()
            bottoms.append(tile[:, max(0, tile.shape[1] - grid.blend.height) :].copy())
        above = bottoms
        top += grid.kept.height
    return out


def _blend(before: np.ndarray, tile: np.ndarray, extent: int, axis: int) -> None:
    """Fades the first `extent` lines of a tile from the last ones of its neighbour into its own, in place."""
    extent = min(before.shape[axis], tile.shape[axis], extent)
    for line in range(extent):
        mine = (slice(None),) * axis + (line,)
        theirs = (slice(None),) * axis + (before.shape[axis] - extent + line,)
        tile[mine] = before[theirs] * np.float32(1 - line / extent) + tile[mine] * np.float32(line / extent)
