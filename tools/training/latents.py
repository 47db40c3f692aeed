"""Encoded clips at rest: what the transformer is trained on, so that the VAE runs once per clip, not per step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from shapes import ACTIONS, BACKGROUNDS, COLOURS, SHAPES, Label

WORDS = (tuple(COLOURS), SHAPES, ACTIONS, tuple(BACKGROUNDS))


@dataclass(frozen=True)
class Encoded:
    """Clips as a VAE sees them, not normalised.

    Attributes:
        latents: [clips, 16, 5, 12, 12].
        labels: What each clip shows.
        conditions: Of the shape of latents: the first frame with grey ones after it, for image to video; or None.
        stills: Pixels of the first frames, uint8 [clips, 3, 96, 96]; None where conditions is.
    """

    latents: torch.Tensor
    labels: list[Label]
    conditions: torch.Tensor | None = None
    stills: torch.Tensor | None = None


def save_latents(file: Path, encoded: Encoded) -> None:
    """Writes encoded clips; latents become float16."""
    named = [(one.colour, one.shape, one.action, one.background) for one in encoded.labels]
    numbers = [[words.index(name) for words, name in zip(WORDS, names, strict=True)] for names in named]
    tensors = {"latents": encoded.latents.half().contiguous(), "labels": torch.tensor(numbers, dtype=torch.uint8)}
    if encoded.conditions is not None and encoded.stills is not None:
        tensors |= {"conditions": encoded.conditions.half().contiguous(), "stills": encoded.stills.contiguous()}
    save_file(tensors, file)


def load_latents(files: Sequence[Path]) -> Encoded:
    """The clips of all files, one after the other, in float32; conditions and stills only if every file has them."""
    parts = [load_file(file) for file in files]
    numbers = torch.cat([part["labels"] for part in parts]).tolist()
    labels = [Label(*(words[number] for words, number in zip(WORDS, row, strict=True))) for row in numbers]
    latents = torch.cat([part["latents"].float() for part in parts])
    if not all("conditions" in part for part in parts):
        return Encoded(latents, labels)
    conditions = torch.cat([part["conditions"].float() for part in parts])
    return Encoded(latents, labels, conditions, torch.cat([part["stills"] for part in parts]))
