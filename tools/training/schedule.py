"""How long training takes and how large its steps are: up, level, down along half a cosine."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Progress runs from `start` to 1, over a number of steps or of seconds.

    Attributes:
        steps: Length in steps, or None.
        seconds: Length in seconds, used when steps is None.
        start: Progress at the beginning; more than 0 to go on somewhere in the schedule.
        warmup: Steps until the full step size.
        hold: Progress from which on steps become smaller.
        floor: Size of the last steps, of 1.
    """

    steps: int | None
    seconds: float
    start: float = 0.0
    warmup: int = 100
    hold: float = 0.3
    floor: float = 0.01

    def progress(self, step: int, elapsed: float) -> float:
        """Training is over when this is 1."""
        done = step / self.steps if self.steps is not None else elapsed / self.seconds
        return self.start + (1 - self.start) * done

    def rate(self, step: int, progress: float) -> float:
        """Size of a step, of 1."""
        rate = min(1.0, (step + 1) / self.warmup)
        if progress >= self.hold:
            fall = (progress - self.hold) / (1 - self.hold)
            rate *= self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * fall))
        return rate


def add_arguments(parser: argparse.ArgumentParser, minutes: float) -> None:
    """Adds the options that make a schedule."""
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=minutes, help="length of training (default: %(default)s)")
    length.add_argument("--steps", type=int, help="length of training in steps instead")
    parser.add_argument("--start", type=float, default=0.0, help="progress to begin at, 0 to 1 (default: %(default)s)")
    parser.add_argument(
        "--hold", type=float, default=0.3, help="part of the schedule at the full step size (default: %(default)s)"
    )
    parser.add_argument("--warmup", type=int, default=100, help="steps until the full step size (default: %(default)s)")


def from_options(options: argparse.Namespace, floor: float) -> Schedule:
    """The schedule that the options ask for."""
    return Schedule(options.steps, options.minutes * 60, options.start, options.warmup, options.hold, floor)
