"""The training loop, which is the same for every network."""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

import torch

from training.average import WeightAverage
from training.processes import Team
from training.schedule import Schedule

LOG_EVERY = 50  # steps


class Log:
    """Prints means of figures over LOG_EVERY steps."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self._began = time.monotonic()

    def add(self, step: int, rate: float, figures: dict[str, torch.Tensor]) -> None:
        """Takes in the figures of a step."""
        for name, value in figures.items():
            self._sums[name] += float(value)
        if step % LOG_EVERY == 0:
            means = "  ".join(f"{name} {value / LOG_EVERY:.4f}" for name, value in self._sums.items())
            print(f"step {step}  {time.monotonic() - self._began:.0f} s  rate {rate:.3f}  {means}", flush=True)
            self._sums.clear()


def train(
    figures_of: Callable[[int, float], dict[str, torch.Tensor]],
    optimisers: Sequence[torch.optim.Optimizer],
    average: WeightAverage,
    schedule: Schedule,
    team: Team,
    save: Callable[[int], None],
    save_every: float,
) -> None:
    """Trains until the schedule is over.

    Args:
        figures_of: Takes the step and the progress, returns figures to log; "loss" is the one to lower.
        optimisers: Every parameter group has its full step size under "peak".
        average: Holds the parameters, and is kept up to date.
        schedule: How long, and how large the steps are.
        team: The processes.
        save: Takes the number of steps made; called by the leader now and then and at the end.
        save_every: Seconds between two saves.
    """
    log, began = Log(), time.monotonic()
    saved, step = began, 0
    while (progress := schedule.progress(step, team.agree(time.monotonic() - began))) < 1:
        rate = schedule.rate(step, progress)
        for group in (group for optimiser in optimisers for group in optimiser.param_groups):
            group["lr"] = group["peak"] * rate
        figures = figures_of(step, progress)
        norm = descend(figures["loss"], optimisers, average.parameters, team)
        average.update(step)
        step += 1
        if team.leads:
            log.add(step, rate, {name: value.detach() for name, value in figures.items()} | {"gradient": norm})
            if time.monotonic() - saved > save_every:
                save(step)
                saved = time.monotonic()
    if team.leads:
        save(step)


def descend(
    loss: torch.Tensor,
    optimisers: Sequence[torch.optim.Optimizer],
    parameters: Sequence[torch.nn.Parameter],
    team: Team,
) -> torch.Tensor:
    """Makes one step with gradients of norm 1 at most, or none where they are not finite; returns their norm."""
    loss.backward()
    team.average_gradients(parameters)
    norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    if torch.isfinite(norm):
        for optimiser in optimisers:
            optimiser.step()
    for parameter in parameters:
        parameter.grad = None
    return norm


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that are the same for every network."""
    parser.add_argument("--save-every", type=float, default=150, metavar="SECONDS", help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=2, help="threads of each process (default: %(default)s)")
