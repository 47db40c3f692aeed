"""Frames on their way out: written into the result as the VAE hands them over."""

from __future__ import annotations

from typing import Any

import numpy as np

from wanoffload.pipelines.request import Request


class FrameWriter:
    """Collects decoded frames as the output type wants them.

    Args:
        request: The call: batch, frames, size and output type (np, pil or pt).
    """

    def __init__(self, request: Request) -> None:
        self._type = request.output_type
        shape = (request.batch, request.frames, request.height, request.width, 3)
        self._array: np.ndarray | None = None
        self._images: list[list[Any]] = []
        if self._type == "pil":
            self._images = [[] for _ in range(request.batch)]
        elif self._type == "pt":
            self._array = np.empty((*shape[:2], 3, *shape[2:4]), np.float32)
        else:
            self._array = np.empty(shape, np.float32)

    def write(self, video: int, start: int, frames: np.ndarray) -> None:
        """Takes frames [T, H, W, 3] in [-1, 1], which it may change, as frames `start` onwards of a video."""
        frames *= np.float32(0.5)
        frames += np.float32(0.5)
        np.clip(frames, 0.0, 1.0, out=frames)
        if self._type == "pil":
            from wanoffload.video import frames_to_pil

            self._images[video] += frames_to_pil(frames)
        elif self._array is not None:
            place = self._array[video, start : start + len(frames)]
            place[...] = frames.transpose(0, 3, 1, 2) if self._type == "pt" else frames

    def result(self) -> Any:
        """The frames of all videos."""
        if self._type == "pil":
            return self._images
        if self._type == "pt":
            import torch

            return torch.from_numpy(self._array)
        return self._array
