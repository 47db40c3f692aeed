"""What all schedulers share: configuration, loading, and the position in the schedule."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wanoffload.configuration import FrozenDict, read_json

CONFIG_NAME = "scheduler_config.json"
AUTO_SHIFT = "auto"
MOST_TRAIN_TIMESTEPS = 1_000_000  # a damaged configuration must not ask for gigabytes of schedule


@dataclass
class SchedulerOutput:
    """Result of a step: ``prev_sample``, the latents at the next timestep, float32, the shape of the sample."""

    prev_sample: np.ndarray

    def __getitem__(self, index: int) -> np.ndarray:
        return (self.prev_sample,)[index]


class Scheduler:
    """Base of the schedulers.

    A subclass names its options and their defaults in ``OPTIONS``, computes ``sigmas`` and ``timesteps`` in
    ``set_timesteps`` and advances the sample in ``step``. Its option ``SHIFT`` is a number, or ``"auto"``: then a
    pipeline puts in force, call by call, the shift that its model was published with for the size of the video.
    """

    order = 1
    init_noise_sigma = 1.0
    OPTIONS: Mapping[str, Any] = {}
    SHIFT = "flow_shift"

    def __init__(self, **options: Any) -> None:
        unknown = [name for name in options if name not in self.OPTIONS]
        if unknown:
            raise TypeError(
                f"{type(self).__name__} got an unexpected keyword argument '{unknown[0]}'. "
                f"It takes: {', '.join(self.OPTIONS)}."
            )
        self.config = FrozenDict({**self.OPTIONS, **options, "_class_name": type(self).__name__})
        steps = self.config.num_train_timesteps
        is_integer = isinstance(steps, (int, np.integer)) and not isinstance(steps, bool)
        if not is_integer or not 1 <= steps <= MOST_TRAIN_TIMESTEPS:
            raise ValueError(
                f"`num_train_timesteps` has to be an integer from 1 to {MOST_TRAIN_TIMESTEPS} but is {steps!r}."
            )
        self._shift: Any = self.config.get(self.SHIFT)
        self._published_shift: float | None = None
        self.num_inference_steps: int | None = None
        self._step_index: int | None = None
        self._begin_index: int | None = None
        self.timesteps: np.ndarray
        self.sigmas: np.ndarray

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **kwargs: Any) -> Scheduler:
        """Makes a scheduler from another one's configuration; keyword arguments override entries.

        Entries that this scheduler does not know (another class's options, private names) are left out, as diffusers
        does it; an unknown keyword argument is an error.
        """
        if not isinstance(config, Mapping):
            raise TypeError(f"from_config takes a configuration, e.g. `pipe.scheduler.config`, but got {config!r}.")
        known = {name: value for name, value in config.items() if name in cls.OPTIONS}
        return cls(**{**known, **kwargs})

    @classmethod
    def from_pretrained(cls, path: str | Path, subfolder: str | None = None, **kwargs: Any) -> Scheduler:
        """Reads ``scheduler_config.json`` from a local folder (or its ``subfolder``)."""
        folder = Path(path) / (subfolder or "")
        file = folder / CONFIG_NAME if folder.is_dir() else folder
        if not file.is_file():
            raise OSError(
                f"There is no {CONFIG_NAME} in {folder}. Give the folder of a scheduler or `subfolder='scheduler'`."
            )
        return cls.from_config(read_json(file), **kwargs)

    def save_pretrained(self, path: str | Path) -> None:
        """Writes ``scheduler_config.json`` into a folder, which is made if need be."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_NAME).write_text(json.dumps(dict(self.config), indent=2, sort_keys=True) + "\n", "utf-8")

    @property
    def step_index(self) -> int | None:
        """Position in the schedule; it grows by one with each step. None before the first."""
        return self._step_index

    @property
    def begin_index(self) -> int | None:
        """Position of the first timestep, where a pipeline has set it."""
        return self._begin_index

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Says at which position the run begins; a pipeline calls it before the first step."""
        self._begin_index = begin_index

    def scale_model_input(self, sample: np.ndarray, *args: Any, **kwargs: Any) -> np.ndarray:
        """Returns the sample as it is: flow matching scales nothing."""
        return sample

    def __len__(self) -> int:
        return int(self.config.num_train_timesteps)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={self.config[name]!r}' for name in self.OPTIONS)})"

    @property
    def shift_is_auto(self) -> bool:
        """Whether the shift is to be the one that the model was published with."""
        return isinstance(self._shift, str) and self._shift == AUTO_SHIFT

    def settle_shift(self, shift: float) -> None:
        """Says what "auto" means in the schedules that follow; a shift that is a number stays as it is."""
        if self.shift_is_auto:
            self._published_shift = float(shift)

    @property
    def shift(self) -> Any:
        """The shift in use.

        Raises:
            ValueError: It is "auto", and nobody has said yet what that means.
        """
        if not self.shift_is_auto:
            return self._shift
        if self._published_shift is None:
            raise ValueError(
                f"`{self.SHIFT}='auto'` is settled by a pipeline, which knows the model and the size of the video. "
                "Call the pipeline, or give a number."
            )
        return self._published_shift

    def _begin(self, timesteps: np.ndarray, sigmas: np.ndarray) -> None:
        self.timesteps, self.sigmas = timesteps, sigmas
        self.num_inference_steps = len(timesteps)
        self._step_index = self._begin_index = None

    def _locate(self, timestep: Any) -> None:
        """Sets the position at the first step: where the pipeline said, else by the timestep's value."""
        if self.num_inference_steps is None:
            raise ValueError(
                "Number of inference steps is 'None', you need to run 'set_timesteps' after creating the scheduler"
            )
        if self._step_index is None:
            self._step_index = self.index_for_timestep(timestep) if self._begin_index is None else self._begin_index
        if self._step_index >= self.num_inference_steps:
            raise ValueError(
                f"All {self.num_inference_steps} steps of this schedule were taken; call `set_timesteps` to start anew."
            )

    def index_for_timestep(self, timestep: Any, schedule_timesteps: np.ndarray | None = None) -> int:
        """Finds a timestep's position; of equal ones the second, as diffusers does it.

        Raises:
            ValueError: The value does not occur in the schedule.
        """
        schedule = self.timesteps if schedule_timesteps is None else np.asarray(schedule_timesteps)
        found = np.flatnonzero(schedule == _scalar(timestep))
        if len(found) == 0:
            raise ValueError(f"{timestep} is not one of `scheduler.timesteps`.")
        return int(found[1] if len(found) > 1 else found[0])

    def _sigmas_at(self, timesteps: Any, rank: int) -> np.ndarray:
        """One sigma per item for adding noise, shaped to broadcast over a sample of this rank."""
        timesteps = np.atleast_1d(np.asarray(timesteps))
        if self._begin_index is None:
            indices = [self.index_for_timestep(t) for t in timesteps]
        else:
            indices = [self._begin_index if self._step_index is None else self._step_index] * len(timesteps)
        return self.sigmas[indices].reshape(-1, *[1] * (rank - 1))


def _scalar(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def check_steps(num_inference_steps: Any) -> int:
    """Checks a number of steps.

    Raises:
        ValueError: It is no positive integer.
    """
    if isinstance(num_inference_steps, bool) or not isinstance(num_inference_steps, (int, np.integer)):
        raise ValueError(f"`num_inference_steps` has to be a positive integer but is {num_inference_steps!r}.")
    if num_inference_steps < 1:
        raise ValueError(f"`num_inference_steps` has to be positive but is {num_inference_steps}.")
    return int(num_inference_steps)


def float32(value: Any) -> np.ndarray:
    """A float32 array of any array-like (NumPy or torch)."""
    if hasattr(value, "detach"):
        value = value.detach().to("cpu").float().numpy()
    return np.asarray(value, dtype=np.float32)
