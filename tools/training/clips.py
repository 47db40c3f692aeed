"""The clips of a training run: normalised, some of them kept for validation, the rest shared out to the processes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from diffusers import AutoencoderKLWan
from shapes import Label

from training.latents import Encoded
from training.processes import Team


class Clips(NamedTuple):
    """Clips as the transformer sees them.

    Attributes:
        latents: Normalised, [clips, 16, frames, height, width].
        labels: What each shows.
        conditions: Channels that image to video adds to the latents, [clips, 20, frames, height, width]; or None.
        pixels: First frames for the image encoder, [clips, 3, size, size]; or None.
    """

    latents: torch.Tensor
    labels: list[Label]
    conditions: torch.Tensor | None = None
    pixels: torch.Tensor | None = None

    def take(self, chosen: slice | list[int]) -> Clips:
        """Some of the clips."""
        labels = self.labels[chosen] if isinstance(chosen, slice) else [self.labels[i] for i in chosen]
        conditions, pixels = (None if one is None else one[chosen] for one in (self.conditions, self.pixels))
        return Clips(self.latents[chosen], labels, conditions, pixels)


class Normalisation(NamedTuple):
    """Mean and deviation of every latent channel, [1, 16, 1, 1, 1], as they stand in a VAE's configuration."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __call__(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents of mean 0 and deviation 1."""
        return (latents - self.mean) / self.deviation

    @classmethod
    def of(cls, vae: AutoencoderKLWan) -> Normalisation:
        """What a VAE's configuration says."""
        config = vae.config
        return cls(*(torch.tensor(one).view(1, -1, 1, 1, 1) for one in (config.latents_mean, config.latents_std)))


def measure_latents(vae: AutoencoderKLWan, latents: torch.Tensor) -> None:
    """Puts the statistics of latents into a VAE's configuration."""
    mean, deviation = latents.mean((0, 2, 3, 4)), latents.std((0, 2, 3, 4))
    vae.register_to_config(
        latents_mean=[round(value, 5) for value in mean.tolist()],
        latents_std=[round(value, 5) for value in deviation.tolist()],
    )


class TrainingSet:
    """Clips to train on, in random order, and a fixed set for validation.

    Args:
        clips: All of them.
        validation: How many are kept for validation, the first ones.
        batch: How many a step of a process takes.
        team: The processes; each has its own share.

    Raises:
        ValueError: There are not enough for a step.
    """

    def __init__(self, clips: Clips, validation: int, batch: int, team: Team) -> None:
        self.validation = clips.take(slice(validation))
        self.clips = clips.take(slice(validation + team.rank, None, team.size))
        if len(self.clips.labels) < batch:
            raise ValueError(
                f"{len(clips.labels)} clips leave {len(self.clips.labels)} to a process, and a step needs {batch}: "
                "encode more, or lower --batch or --validation."
            )
        self._order: list[int] = []

    def draw(self, count: int) -> Clips:
        """The next clips in a random order that is drawn anew when too few are left."""
        if len(self._order) < count:
            self._order = torch.randperm(len(self.clips.labels)).tolist()
        chosen, self._order = self._order[:count], self._order[count:]
        return self.clips.take(chosen)


def encoded_clips(encoded: Encoded, vae: AutoencoderKLWan) -> Clips:
    """Encoded clips with a VAE's normalisation, for text to video."""
    return Clips(Normalisation.of(vae)(encoded.latents), encoded.labels)
