"""Encoded clips at rest: what the transformer is trained on, so that the VAE runs once per clip, not per step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from shapes import ACTIONS, BACKGROUNDS, COLOURS, SHAPES, Label

WORDS = (tuple(COLOURS), SHAPES, ACTIONS, tuple(BACKGROUNDS))


def save_latents(file: Path, latents: torch.Tensor, labels: Sequence[Label]) -> None:
    """Writes latents [clips, 16, 5, 12, 12], not normalised, in float16, with what each clip shows."""
    named = [(one.colour, one.shape, one.action, one.background) for one in labels]
    numbers = [[words.index(name) for words, name in zip(WORDS, names, strict=True)] for names in named]
    save_file({"latents": latents.half().contiguous(), "labels": torch.tensor(numbers, dtype=torch.uint8)}, file)


def load_latents(files: Sequence[Path]) -> tuple[torch.Tensor, list[Label]]:
    """Latents in float32 and labels of all files, one after the other."""
    parts = [load_file(file) for file in files]
    numbers = torch.cat([part["labels"] for part in parts]).tolist()
    labels = [Label(*(words[number] for words, number in zip(WORDS, row, strict=True))) for row in numbers]
    return torch.cat([part["latents"].float() for part in parts]), labels
