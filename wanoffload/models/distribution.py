"""What the VAE's encoder gives: of each latent a mean and a variance."""

from __future__ import annotations

from typing import Any

import numpy as np

from wanoffload.arrays import like, to_float32
from wanoffload.noise import randn


class DiagonalGaussianDistribution:
    """A normal distribution of latents, each independent of the others, as in diffusers.

    Args:
        parameters: Means, and behind them logarithms of variances: [batch, 2 * z_dim, frames, height, width], NumPy or
            torch; what the distribution gives is of the same kind.
        deterministic: Whether the variance is zero.

    Attributes:
        mean, logvar, std, var: float32 [batch, z_dim, frames, height, width]; logvar is clamped to -30..20.
    """

    def __init__(self, parameters: Any, deterministic: bool = False) -> None:
        axes = "batch, 2 * z_dim, frames, height, width"
        array = to_float32(parameters, "parameters", (None,) * 5, axes)
        if array.shape[1] % 2:
            raise ValueError(
                f"`parameters` has to hold means and as many logarithms of variances along axis 1, but has "
                f"{array.shape[1]} entries there."
            )
        self.parameters = parameters
        self.deterministic = deterministic
        self._mean, logvar = np.split(array, 2, axis=1)
        self._logvar = np.clip(logvar, np.float32(-30), np.float32(20))
        self._std = np.zeros_like(self._mean) if deterministic else np.exp(np.float32(0.5) * self._logvar)

    @property
    def mean(self) -> Any:
        """The means."""
        return like(self._mean, self.parameters)

    @property
    def logvar(self) -> Any:
        """Logarithms of the variances."""
        return like(self._logvar, self.parameters)

    @property
    def std(self) -> Any:
        """Standard deviations."""
        return like(self._std, self.parameters)

    @property
    def var(self) -> Any:
        """Variances."""
        return like(np.zeros_like(self._std) if self.deterministic else np.exp(self._logvar), self.parameters)

    def mode(self) -> Any:
        """The most likely latents: the means."""
        return self.mean

    def sample(self, generator: Any = None) -> Any:
        """Draws latents.

        Args:
            generator: None, an int seed, a NumPy or torch generator, or a list of them, one per batch item. A torch
                generator gives the noise that it gives in diffusers, and an int that of a generator with this seed.
        """
        noise = randn(self._mean.shape, generator)
        return like(self._mean + self._std * noise, self.parameters)
