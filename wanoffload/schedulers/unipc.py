"""UniPC for flow matching, as diffusers' UniPCMultistepScheduler computes it, in float32."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from wanoffload.schedulers.scheduler import Scheduler, SchedulerOutput, check_steps, float32


class UniPCMultistepScheduler(Scheduler):
    """Predictor-corrector of Zhao et al. (https://arxiv.org/abs/2302.04867), B(h) form, on data predictions of a flow.

    With alpha = 1 - sigma, lambda = ln alpha - ln sigma and the data prediction m = x - sigma * velocity, a step
    corrects the last prediction with the new m and then predicts the next sample; order 1, 2, 2, ..., 1 for the default
    ``solver_order`` 2. The network is not evaluated again after a correction.

    Args:
        num_train_timesteps: Timesteps of training.
        solver_order: 1, 2 or 3.
        solver_type: "bh1" or "bh2".
        flow_shift: Shift s of f(u) = s u / (1 + (s - 1) u), or ``"auto"``: the one that a pipeline's model was
            published with for the size it is asked for (image to video: 3.0 at 480p, 5.0 at 720p).
        lower_order_final: Order falls towards the last steps; needed with a final sigma of zero.
        disable_corrector: Positions after which the next step does not correct.
        final_sigmas_type: "zero" or "sigma_min".
        sigma_grid: Ours. "diffusers" (u from 1 to 1 / num_train_timesteps, current diffusers) or "official" (Wan 2.1:
            u = 0.999 * (1 - k / N)).
        shift_terminal, use_dynamic_shifting, time_shift_type: As in diffusers.

    Other options of diffusers' class are taken at their defaults and refused otherwise: they are for models that
    predict noise.
    """

    OPTIONS = {
        "num_train_timesteps": 1000,
        "beta_start": 0.0001,
        "beta_end": 0.02,
        "beta_schedule": "linear",
        "trained_betas": None,
        "solver_order": 2,
        "prediction_type": "flow_prediction",
        "thresholding": False,
        "dynamic_thresholding_ratio": 0.995,
        "sample_max_value": 1.0,
        "predict_x0": True,
        "solver_type": "bh2",
        "lower_order_final": True,
        "disable_corrector": [],
        "solver_p": None,
        "use_karras_sigmas": False,
        "use_exponential_sigmas": False,
        "use_beta_sigmas": False,
        "use_flow_sigmas": True,
        "flow_shift": 1.0,
        "timestep_spacing": "linspace",
        "steps_offset": 0,
        "final_sigmas_type": "zero",
        "rescale_betas_zero_snr": False,
        "use_dynamic_shifting": False,
        "time_shift_type": "exponential",
        "sigma_min": None,
        "sigma_max": None,
        "shift_terminal": None,
        "sigma_grid": "diffusers",
    }
    _ONLY = {
        "prediction_type": ("flow_prediction",),
        "thresholding": (False,),
        "predict_x0": (True,),
        "solver_p": (None,),
        "use_karras_sigmas": (False,),
        "use_exponential_sigmas": (False,),
        "use_beta_sigmas": (False,),
        "use_flow_sigmas": (True,),
        "rescale_betas_zero_snr": (False,),
        "solver_type": ("bh1", "bh2"),
        "solver_order": (1, 2, 3),
        "final_sigmas_type": ("zero", "sigma_min"),
        "time_shift_type": ("exponential", "linear"),
        "sigma_grid": ("diffusers", "official"),
    }

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name, allowed in self._ONLY.items():
            if self.config[name] not in allowed:
                raise ValueError(
                    f"`{name}={self.config[name]!r}` is not available for WAN's flow models; "
                    f"it can be {' or '.join(map(repr, allowed))}."
                )
        steps = self.config.num_train_timesteps
        self.sigmas = np.linspace(1, 1 / steps, steps, dtype=np.float32)
        self.timesteps = np.linspace(0, steps - 1, steps, dtype=np.float32)[::-1].copy()
        self._reset()

    def _reset(self) -> None:
        self._predictions: list[np.ndarray] = []  # data predictions, newest last
        self._last_sample: np.ndarray | None = None
        self._last_order = 0
        self._steps_done = 0

    def set_timesteps(
        self, num_inference_steps: int | None = None, device: Any = None, sigmas: Any = None, mu: float | None = None
    ) -> None:
        """Lays out the schedule: ``sigmas`` float32 [N + 1], ``timesteps`` int64 [N] (1000 * sigma, truncated).

        Args:
            num_inference_steps: Number of steps, >= 1.
            device: Accepted and without effect; schedules live in NumPy.
            sigmas: Own sigmas, before the shift.
            mu: For dynamic shifting.
        """
        if self.config.use_dynamic_shifting and mu is None:
            raise ValueError("`mu` must be passed when `use_dynamic_shifting` is set to be `True`")
        count = check_steps(num_inference_steps if sigmas is None else len(sigmas))
        steps = self.config.num_train_timesteps
        if sigmas is not None:
            grid = np.array(sigmas, dtype=np.float64)
        elif self.config.sigma_grid == "official":
            grid = float(np.float32(1 - 1 / steps)) * (1 - np.arange(count) / count)
        else:
            grid = np.linspace(1, 1 / steps, count + 1)[:-1]
        if self.config.use_dynamic_shifting:
            factor = math.exp(mu) if self.config.time_shift_type == "exponential" else mu
            grid = factor / (factor + (1 / grid - 1))
        else:
            shift = self.shift
            grid = shift * grid / (1 + (shift - 1) * grid)
        if self.config.shift_terminal:
            remainder = 1 - grid
            grid = 1 - remainder / (remainder[-1] / (1 - self.config.shift_terminal))
        if abs(grid[0] - 1) < 1e-6:
            grid[0] -= 1e-6  # ln(alpha) of the first sigma must stay finite
        last = 0.0 if self.config.final_sigmas_type == "zero" else grid[-1]
        self._begin((grid * steps).astype(np.int64), np.append(grid, last).astype(np.float32))
        self._reset()

    def step(
        self, model_output: Any, timestep: Any, sample: Any, return_dict: bool = True
    ) -> SchedulerOutput | tuple[np.ndarray]:
        """Takes one step.

        Args:
            model_output: Velocity, float32, the shape of the sample.
            timestep: The current entry of ``timesteps``; read at the first step only, when no begin index was set.
            sample: Latents at the current timestep.
            return_dict: Return a SchedulerOutput instead of a 1-tuple.
        """
        self._locate(timestep)
        index, sample = self._step_index, float32(sample)
        prediction = sample - self.sigmas[index] * float32(model_output)
        if index > 0 and index - 1 not in self.config.disable_corrector and self._last_sample is not None:
            sample = self._correct(index, prediction)
        order = self.config.solver_order
        self._predictions = [*self._predictions, prediction][-order:]
        if self.config.lower_order_final:
            order = min(order, self.num_inference_steps - index)
        self._last_order = min(order, self._steps_done + 1)
        self._last_sample = sample
        previous = self._predict(index, sample)
        self._steps_done = min(self._steps_done + 1, self.config.solver_order)
        self._step_index += 1
        return SchedulerOutput(previous) if return_dict else (previous,)

    def _predict(self, index: int, x: np.ndarray) -> np.ndarray:
        """UniP: from sigmas[index] to sigmas[index + 1]."""
        order = self._last_order
        newest = self._predictions[-1]
        update = _Update(self.sigmas, index, index + 1, order, self.config.solver_type)
        total = update.base(x, newest)
        if order == 1:
            return total
        weights = np.float32([0.5]) if order == 2 else update.weights(order - 1)
        return total - update.scale * self._differences(update, newest, weights)

    def _correct(self, index: int, prediction: np.ndarray) -> np.ndarray:
        """UniC: the sample at sigmas[index] again, now that its own data prediction is known."""
        order = self._last_order
        newest = self._predictions[-1]
        update = _Update(self.sigmas, index - 1, index, order, self.config.solver_type)
        weights = np.float32([0.5]) if order == 1 else update.weights(order)
        change = weights[-1] * (prediction - newest)
        if order > 1:
            change = self._differences(update, newest, weights) + change
        return update.base(self._last_sample, newest) - update.scale * change

    def _differences(self, update: _Update, newest: np.ndarray, weights: np.ndarray) -> np.ndarray:
        terms = [
            weight * ((self._predictions[-(i + 2)] - newest) / ratio)
            for i, (weight, ratio) in enumerate(zip(weights, update.ratios, strict=False))
        ]
        return sum(terms[1:], terms[0])

    def add_noise(self, original_samples: Any, noise: Any, timesteps: Any) -> np.ndarray:
        """(1 - sigma) * sample + sigma * noise at each item's timestep; arrays of one shape, timesteps [batch]."""
        samples = float32(original_samples)
        sigma = self._sigmas_at(timesteps, samples.ndim)
        return (1 - sigma) * samples + sigma * float32(noise)


class _Update:
    """The scalars of one update from sigmas[source] to sigmas[target], in float32 as diffusers computes them."""

    def __init__(self, sigmas: np.ndarray, source: int, target: int, order: int, solver_type: str) -> None:
        one = np.float32(1)
        self._sigma_ratio = sigmas[target] / sigmas[source]
        self._alpha = one - sigmas[target]
        start = _log_snr(sigmas[source])
        h = _log_snr(sigmas[target]) - start
        self.ratios = [(_log_snr(sigmas[source - i]) - start) / h for i in range(1, order)]
        self._h = -h
        self._phi = np.expm1(-h)
        self._b = -h if solver_type == "bh1" else self._phi
        self.scale = self._alpha * self._b

    def base(self, x: np.ndarray, newest: np.ndarray) -> np.ndarray:
        return self._sigma_ratio * x - self._alpha * self._phi * newest

    def weights(self, count: int) -> np.ndarray:
        """Solves sum_k ratio_k^(i-1) * weight_k = b_i, i = 1 .. count; the last ratio is 1 where count exceeds them."""
        ratios = np.float32([*self.ratios, 1][:count])
        matrix = np.stack([ratios**i for i in range(count)])
        right, phi, factorial = [], self._phi / self._h - np.float32(1), 1
        for i in range(1, count + 1):
            right.append(phi * np.float32(factorial) / self._b)
            factorial *= i + 1
            phi = phi / self._h - np.float32(1 / factorial)
        return np.linalg.solve(matrix, np.float32(right)).astype(np.float32)


def _log_snr(sigma: np.float32) -> np.float32:
    """ln(1 - sigma) - ln(sigma), infinite for the final sigma of zero."""
    with np.errstate(divide="ignore"):
        return np.log(np.float32(1) - sigma) - np.log(sigma)
