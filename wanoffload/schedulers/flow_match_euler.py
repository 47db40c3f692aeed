"""Euler steps along the flow, as diffusers' FlowMatchEulerDiscreteScheduler takes them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from wanoffload.schedulers.scheduler import Scheduler, SchedulerOutput, check_steps, float32


class FlowMatchEulerDiscreteScheduler(Scheduler):
    """x(i+1) = x(i) + (sigma(i+1) - sigma(i)) * velocity, on diffusers' grid.

    The grid of diffusers applies ``shift`` twice at its low end: sigma_min of the shifted training grid is the last
    point before the shift is applied to the whole. Timesteps are float32 and not truncated.

    Args:
        num_train_timesteps: Timesteps of training; sigma * num_train_timesteps is what the transformer gets.
        shift: Timestep shift s of f(u) = s u / (1 + (s - 1) u), or ``"auto"``: the one that a pipeline's model was
            published with for the size it is asked for.
        use_dynamic_shifting: The shift comes from ``mu`` at ``set_timesteps``.
        time_shift_type: "exponential" or "linear", for dynamic shifting.
        shift_terminal: Stretches the schedule so that it ends at this sigma.
        stochastic_sampling: Not available; has to be False.
    """

    SHIFT = "shift"
    OPTIONS = {
        "num_train_timesteps": 1000,
        "shift": 1.0,
        "use_dynamic_shifting": False,
        "base_shift": 0.5,
        "max_shift": 1.15,
        "base_image_seq_len": 256,
        "max_image_seq_len": 4096,
        "invert_sigmas": False,
        "shift_terminal": None,
        "use_karras_sigmas": False,
        "use_exponential_sigmas": False,
        "use_beta_sigmas": False,
        "time_shift_type": "exponential",
        "stochastic_sampling": False,
    }
    _UNAVAILABLE = (
        "invert_sigmas",
        "use_karras_sigmas",
        "use_exponential_sigmas",
        "use_beta_sigmas",
        "stochastic_sampling",
    )

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in self._UNAVAILABLE:
            if self.config[name]:
                raise ValueError(f"`{name}=True` is not available: no WAN checkpoint is sampled with it. Leave it out.")
        if self.config.time_shift_type not in ("exponential", "linear"):
            raise ValueError("`time_shift_type` must either be 'exponential' or 'linear'.")
        self._lay_out_training(1.0 if self.shift_is_auto else self._shift)

    def _lay_out_training(self, shift: Any) -> None:
        """The grid of training, whose ends are those of every schedule."""
        steps = self.config.num_train_timesteps
        sigmas = np.linspace(1, steps, steps, dtype=np.float32)[::-1] / np.float32(steps)
        if not self.config.use_dynamic_shifting:
            sigmas = _shifted(sigmas, shift)
        self.sigmas = sigmas.astype(np.float32)
        self.timesteps = self.sigmas * np.float32(steps)
        self.sigma_max, self.sigma_min = float(self.sigmas[0]), float(self.sigmas[-1])

    def settle_shift(self, shift: float) -> None:
        super().settle_shift(shift)
        if self.shift_is_auto:
            self._lay_out_training(self.shift)

    def set_shift(self, shift: float) -> None:
        """Sets the shift of later schedules; as in diffusers, sigma_min stays that of the constructor's shift."""
        self._shift = shift

    def _dynamically_shifted(self, sigmas: np.ndarray, mu: float) -> np.ndarray:
        factor = math.exp(mu) if self.config.time_shift_type == "exponential" else mu
        return factor / (factor + (1 / sigmas - 1))

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        sigmas: Any = None,
        mu: float | None = None,
        timesteps: Any = None,
    ) -> None:
        """Lays out the schedule.

        Args:
            num_inference_steps: Number of steps, >= 1; may be left out when sigmas or timesteps are given.
            device: Accepted and without effect; schedules live in NumPy.
            sigmas: Own sigmas, before the shift.
            mu: For dynamic shifting.
            timesteps: Own timesteps; used as given, while the sigmas derived from them are shifted.
        """
        if self.config.use_dynamic_shifting and mu is None:
            raise ValueError("`mu` must be passed when `use_dynamic_shifting` is set to be `True`")
        given = sigmas if sigmas is not None else timesteps
        if sigmas is not None and timesteps is not None and len(sigmas) != len(timesteps):
            raise ValueError("`sigmas` and `timesteps` should have the same length")
        if given is None:
            count = check_steps(num_inference_steps)
        else:
            count = check_steps(len(given))
            if num_inference_steps is not None and count != num_inference_steps:
                raise ValueError(
                    "`sigmas` and `timesteps` should have the same length as num_inference_steps, "
                    "if `num_inference_steps` is provided"
                )
        steps = self.config.num_train_timesteps
        if sigmas is not None:
            grid = np.asarray(sigmas, dtype=np.float32)
        elif timesteps is not None:
            grid = np.asarray(timesteps, dtype=np.float32) / steps
        else:
            grid = np.linspace(self.sigma_max * steps, self.sigma_min * steps, count) / steps
        grid = self._dynamically_shifted(grid, mu) if self.config.use_dynamic_shifting else _shifted(grid, self.shift)
        if self.config.shift_terminal:
            remainder = 1 - grid
            grid = 1 - remainder / (remainder[-1] / (1 - self.config.shift_terminal))
        grid = grid.astype(np.float32)
        moments = grid * np.float32(steps) if timesteps is None else np.asarray(timesteps, dtype=np.float32)
        self._begin(moments, np.append(grid, np.float32(0)))

    def step(
        self, model_output: Any, timestep: Any, sample: Any, return_dict: bool = True, **kwargs: Any
    ) -> SchedulerOutput | tuple[np.ndarray]:
        """Takes one step.

        Args:
            model_output: Velocity, float32, the shape of the sample.
            timestep: The current entry of ``timesteps``.
            sample: Latents at the current timestep.
            return_dict: Return a SchedulerOutput instead of a 1-tuple.
        """
        if kwargs:
            raise TypeError(f"step() got an unexpected keyword argument '{next(iter(kwargs))}'")
        if isinstance(timestep, (int, np.integer)):
            raise ValueError(
                "Passing integer indices (e.g. from `enumerate(timesteps)`) as timesteps to "
                "`FlowMatchEulerDiscreteScheduler.step()` is not supported. Make sure to pass one of the "
                "`scheduler.timesteps` as a timestep."
            )
        self._locate(timestep)
        difference = self.sigmas[self._step_index + 1] - self.sigmas[self._step_index]
        previous = float32(sample) + difference * float32(model_output)
        self._step_index += 1
        return SchedulerOutput(previous) if return_dict else (previous,)

    def scale_noise(self, sample: Any, timestep: Any, noise: Any) -> np.ndarray:
        """sigma * noise + (1 - sigma) * sample at each item's timestep; arrays of one shape, timestep [batch]."""
        sample = float32(sample)
        sigma = self._sigmas_at(timestep, sample.ndim)
        return sigma * float32(noise) + (1 - sigma) * sample


def _shifted(sigmas: np.ndarray, shift: float) -> np.ndarray:
    return shift * sigmas / (1 + (shift - 1) * sigmas)
