"""Decoding and encoding in overlapping tiles, blended as diffusers does it (AutoencoderKLWan.tiled_decode and
tiled_encode, 0.42).

    +--------+--+
    |  tile  |##| next      Each tile is worked on alone. Where it overlaps the tile above and the tile to the left (#),
    |        |##|           it fades theirs into its own, first downwards, then to the right; the neighbours are taken
    +--------+--+           as already blended. Of a tile so blended, the first `stride` rows and columns are kept.
    |########|##|
    +--------+--+
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
    """How latents are cut into tiles that become pixels, or pixels into tiles that become latents.

    Args:
        height: Height of what is cut.
        width: Width of what is cut.
        tile: Size of a tile in pixels.
        stride: Distance between tiles in pixels.
        cut: Pixels per element of what is cut: of latents the VAE's scale, of pixels 1.
        made: Pixels per element of what comes out.
    """

    def __init__(self, height: int, width: int, tile: Tile, stride: Tile, cut: int, made: int = 1) -> None:
        self.height, self.width = height, width
        self.tile = Tile(tile.height // cut, tile.width // cut)
        self.step = Tile(stride.height // cut, stride.width // cut)
        self.kept = Tile(stride.height // made, stride.width // made)
        self.blend = Tile(tile.height // made - self.kept.height, tile.width // made - self.kept.width)
        self.result = Tile(height * cut // made, width * cut // made)

    def rows(self) -> list[slice]:
        """The rows of the tiles from top to bottom."""
        return [slice(i, min(i + self.tile.height, self.height)) for i in range(0, self.height, self.step.height)]

    def columns(self) -> list[slice]:
        """The columns of the tiles from left to right."""
        return [slice(j, min(j + self.tile.width, self.width)) for j in range(0, self.width, self.step.width)]

    def largest(self) -> tuple[int, int]:
        """Size of the largest tile, in elements of what is cut."""
        return min(self.tile.height, self.height), min(self.tile.width, self.width)


def blend_tiles(grid: TileGrid, make: Callable[[slice, slice], np.ndarray], frames: int, channels: int) -> np.ndarray:
    """Makes every tile and puts them together.

    Args:
        grid: How to cut.
        make: Makes [frames, H, W, channels] of a tile's rows and columns; its array is changed.
        frames: Frames that come out.
        channels: Channels that come out.

    Returns:
        float32 [frames, H, W, channels].
    """
    out = np.empty((frames, *grid.result, channels), np.float32)
    above: list[np.ndarray] = []
    top = 0
    for rows in grid.rows():
        bottoms: list[np.ndarray] = []
        left: np.ndarray | None = None
        side = 0
        for columns in grid.columns():
            tile = make(rows, columns)
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
