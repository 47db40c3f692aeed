"""The running mean of weights: what is saved and scored is the mean, never the weights of the moment."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch


class WeightAverage:
    """An exponential moving average of parameters.

    Args:
        parameters: What to average, in a fixed order.
        decay: Share of the old mean that a step keeps, once training is long under way.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], decay: float) -> None:
        self.parameters = list(parameters)
        self.decay = decay
        self.mean = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes the weights in after a step, the first being 0. Early steps are forgotten faster."""
        keep = min(self.decay, (step + 1) / (step + 10))
        torch._foreach_lerp_(self.mean, self.parameters, 1 - keep)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the model has the mean for weights."""
        own = [p.detach().clone() for p in self.parameters]
        self._set(self.mean)
        try:
            yield
        finally:
            self._set(own)

    @torch.no_grad()
    def _set(self, values: list[torch.Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)
