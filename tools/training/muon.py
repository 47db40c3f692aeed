"""Muon: momentum whose singular values are all made about one before it is applied (K. Jordan and others, 2024).

The odd polynomial of Newton and Schulz does that with matrix products only. The step is scaled by 0.2 sqrt(longer
side), which gives it the size of a step of AdamW, so that both can follow one schedule.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch

from training.processes import Team

# Of a X + b (X X') X + c (X X')^2 X; five rounds bring singular values from 1e-3 up into about 0.7..1.2.
POLYNOMIAL = (3.4445, -4.7750, 2.0315)
ROUNDS = 5


def orthogonalise(matrices: torch.Tensor) -> torch.Tensor:
    """The nearest orthogonal matrices, roughly; [count, rows, columns] in any dtype, bfloat16 inside."""
    x = matrices.to(torch.bfloat16)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    a, b, c = POLYNOMIAL
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """For the matrices of a network; convolutions count as matrices of [out, all the rest].

    Args:
        parameters: Tensors of two or more axes.
        lr: Step size.
        momentum: Of the running mean of gradients, which is looked ahead once (Nesterov).
        team: Every process makes the steps of its share of the matrices, then they are exchanged.
    """

    def __init__(
        self, parameters: Iterable[torch.nn.Parameter], lr: float, momentum: float = 0.95, team: Team | None = None
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})
        self.team = team or Team()

    @torch.no_grad()
    def step(self) -> None:
        """Makes one step with the gradients as they are."""
        for group in self.param_groups:
            parameters = group["params"]
            updates = [torch.zeros_like(p) for p in parameters]
            alike = defaultdict(list)
            for i in range(self.team.rank, len(parameters), self.team.size):
                alike[parameters[i].shape[0], parameters[i][0].numel()].append(i)
            for shape, members in alike.items():
                looked_ahead = torch.stack([self._look_ahead(parameters[i], group["momentum"]) for i in members])
                steps = orthogonalise(looked_ahead) * (0.2 * max(shape) ** 0.5)
                for i, step in zip(members, steps, strict=True):
                    updates[i] = step.view_as(parameters[i])
            for parameter, update in zip(parameters, self._exchange(updates), strict=True):
                parameter.add_(update, alpha=-group["lr"])

    def _look_ahead(self, parameter: torch.nn.Parameter, momentum: float) -> torch.Tensor:
        state = self.state[parameter]
        if "mean" not in state:
            state["mean"] = torch.zeros_like(parameter)
        state["mean"].lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(state["mean"], momentum).flatten(1)

    def _exchange(self, updates: list[torch.Tensor]) -> list[torch.Tensor]:
        """Every update is zero in all processes but one, so that their sum is the update."""
        if self.team.size == 1:
            return updates
        flat = torch.cat([update.reshape(-1) for update in updates])
        self.team.sum(flat)
        parts = flat.split([update.numel() for update in updates])
        return [part.view_as(update) for part, update in zip(parts, updates, strict=True)]
