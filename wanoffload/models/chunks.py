"""Videos as the VAE's encoder takes them: cut along time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class VideoChunks(Sequence):
    """A video [channels, frames, height, width] as the chunks that the encoder takes, [T, H, W, channels] each.

    Args:
        video: float32, in [-1, 1].
        length: Frames of each chunk but the first, which has one; frames that are left over are not seen.
    """

    def __init__(self, video: np.ndarray, length: int) -> None:
        self.video, self.length = video, length

    def __len__(self) -> int:
        return 1 + (self.video.shape[1] - 1) // self.length

    def __getitem__(self, index: Any) -> np.ndarray:
        start = 1 + (index - 1) * self.length
        frames = self.video[:, :1] if index == 0 else self.video[:, start : start + self.length]
        return frames.transpose(1, 2, 3, 0)
