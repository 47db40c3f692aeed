"""Checks of arguments, made before any work; each names the argument, what it is, and what would do."""

from __future__ import annotations

import importlib.util
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from wanoffload import noise
from wanoffload.arrays import to_float32
from wanoffload.messages import warn

OUTPUT_TYPES = ("np", "pil", "latent", "pt")
CALLBACK_TENSORS = ("latents", "prompt_embeds", "negative_prompt_embeds")


_MOST = 1_000_000  # steps, frames, rows or videos beyond this are a slip of the keyboard, and would take all memory


def whole_number(value: Any, name: str, least: int = 1) -> int:
    """An int of at least so much, and not absurdly large.

    Raises:
        TypeError: It is no whole number.
        ValueError: It is too small or too large.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"`{name}` has to be an int but is {value!r} of type {type(value).__name__}.")
    if number < least:
        raise ValueError(f"`{name}` has to be at least {least} but is {number}.")
    if number > _MOST:
        raise ValueError(f"`{name}` has to be at most {_MOST} but is {number}.")
    return number


def check_size(height: Any, width: Any) -> tuple[int, int]:
    """Height and width in pixels, as ints.

    Raises:
        ValueError: They are no multiples of 16, which the VAE's 8 and the transformer's 2 make.
    """
    height, width = whole_number(height, "height"), whole_number(width, "width")
    if height % 16 != 0 or width % 16 != 0:
        lower = (max(16, height // 16 * 16), max(16, width // 16 * 16))
        raise ValueError(
            f"`height` and `width` have to be divisible by 16 but are {height} and {width}. {lower[0]} and {lower[1]} "
            "would do."
        )
    return height, width


def check_frames(num_frames: Any, factor: int) -> int:
    """The number of frames, rounded to 4k + 1 with a warning as diffusers does it."""
    frames = whole_number(num_frames, "num_frames")
    if frames % factor != 1 and factor > 1:
        rounded = frames // factor * factor + 1
        warn(
            f"`num_frames - 1` has to be divisible by {factor}. Rounding to the nearest number: {frames} becomes "
            f"{rounded}."
        )
        frames = rounded
    return frames


def check_prompts(prompt: Any, name: str) -> list[str] | None:
    """A prompt or a list of them as a list; None stays None."""
    if prompt is None:
        return None
    if isinstance(prompt, str):
        return [prompt]
    if not isinstance(prompt, list):
        raise ValueError(f"`{name}` has to be of type `str` or `list` but is {type(prompt)}")
    if not prompt:
        raise ValueError(f"`{name}` is an empty list. Give at least one prompt.")
    for index, one in enumerate(prompt):
        if not isinstance(one, str):
            raise ValueError(
                f"`{name}` has to be a list of `str`, but its entry {index} is {one!r} of type {type(one)}"
            )
    return prompt


def check_either(first: Any, second: Any, names: tuple[str, str], both_missing: bool) -> None:
    """Raises ValueError if both of two arguments are given, or (where that matters) neither."""
    one, two = names
    if first is not None and second is not None:
        raise ValueError(
            f"Cannot forward both `{one}`: {first!r} and `{two}`. Please make sure to only forward one of the two."
        )
    if both_missing and first is None and second is None:
        raise ValueError(f"Provide either `{one}` or `{two}`. Cannot leave both `{one}` and `{two}` undefined.")


def check_texts(prompt: Any, negative: Any, prompt_embeds: Any, negative_embeds: Any) -> None:
    """Raises unless a prompt or its embeddings were given, and not both; the same for a negative one, if any."""
    check_either(prompt, prompt_embeds, ("prompt", "prompt_embeds"), both_missing=True)
    check_either(negative, negative_embeds, ("negative_prompt", "negative_prompt_embeds"), both_missing=False)
    check_prompts(prompt, "prompt")
    check_prompts(negative, "negative_prompt")


def check_callback_inputs(names: Any) -> list[str]:
    """The names of the tensors that a callback wants."""
    names = [] if names is None else list(names)
    unknown = [name for name in names if name not in CALLBACK_TENSORS]
    if unknown:
        raise ValueError(
            f"`callback_on_step_end_tensor_inputs` has to be in {list(CALLBACK_TENSORS)}, but found {unknown}"
        )
    return names


def match_negatives(prompts: list[str] | None, negatives: list[str] | None, single: bool, batch: int) -> list[str]:
    """One negative prompt per prompt: a single one counts for all, none given means empty ones."""
    if negatives is None:
        return [""] * batch
    if single:
        return negatives * batch
    if len(negatives) != batch:
        raise ValueError(
            f"`negative_prompt`: {negatives} has batch size {len(negatives)}, but `prompt`: {prompts} has batch size "
            f"{batch}. Please make sure that passed `negative_prompt` matches the batch size of `prompt`."
        )
    return negatives


def check_latents(latents: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Latents that were given, as float32 of exactly the shape that the call makes."""
    given = to_float32(latents, "latents", (None,) * 5, "batch, channels, frames, height, width")
    if given.shape != shape:
        raise ValueError(
            f"`latents` has to be of shape {list(shape)} [batch, channels, frames, height, width] for this call but is "
            f"of shape {list(given.shape)}."
        )
    return given.copy()


def check_embeds(embeds: Any, name: str, batch: int | None, width: int, repeats: int) -> np.ndarray:
    """Embeddings that were given, one per video: those of a prompt are repeated for each of its videos."""
    given = to_float32(embeds, name, (None, None, width), "batch, rows, text_dim")
    if 0 in given.shape:
        raise ValueError(f"`{name}` has an empty axis: its shape is {list(given.shape)}.")
    if batch is not None and len(given) == batch * repeats and repeats > 1:
        return given
    if batch is not None and len(given) != batch:
        raise ValueError(f"`{name}` has batch size {len(given)}, but there are {batch} prompts. Give one per prompt.")
    return np.repeat(given, repeats, axis=0) if repeats > 1 else given


def callback_tensors(callback: Callable | None, names: Any) -> list[str]:
    """The tensors that a callback gets: those that it names itself (diffusers' PipelineCallback), or those asked
    for."""
    if callback is None:
        return check_callback_inputs(names)
    if not callable(callback):
        raise TypeError(f"`callback_on_step_end` has to be callable but is a {type(callback).__name__}.")
    return check_callback_inputs(getattr(callback, "tensor_inputs", names))


def check_generator(generator: Any, batch: int) -> None:
    """Raises unless noise for so many videos can be drawn from it."""
    noise.check_generator(generator)
    if isinstance(generator, (list, tuple)) and len(generator) != batch:
        raise ValueError(
            f"You have passed a list of generators of length {len(generator)}, but requested an effective batch size "
            f"of {batch}. Make sure the batch size matches the length of the generators."
        )


def check_guidance(guidance_scale: Any, name: str = "guidance_scale") -> float:
    """Guidance as a number."""
    if isinstance(guidance_scale, bool) or not isinstance(guidance_scale, (int, float, np.number)):
        raise TypeError(f"`{name}` has to be a number but is {guidance_scale!r}.")
    if not np.isfinite(guidance_scale):
        raise ValueError(f"`{name}` has to be a finite number but is {guidance_scale!r}.")
    return float(guidance_scale)


def check_guidance_2(guidance_scale_2: Any, boundary_ratio: Any) -> None:
    """Raises unless the second expert's guidance is None, or a number where there is a boundary."""
    if guidance_scale_2 is None:
        return
    if boundary_ratio is None:
        raise ValueError("`guidance_scale_2` is only supported when the pipeline's `boundary_ratio` is not None.")
    check_guidance(guidance_scale_2, "guidance_scale_2")


def check_output_type(output_type: Any) -> str:
    """The output type; ``"pt"`` only where torch is installed."""
    if not isinstance(output_type, str) or output_type not in OUTPUT_TYPES:
        raise ValueError(f"{output_type} does not exist. Please choose one of {list(OUTPUT_TYPES)}")
    if output_type == "pt" and importlib.util.find_spec("torch") is None:
        raise ImportError(
            "`output_type='pt'` gives torch tensors, but torch is not installed. Install it, or use 'np'."
        )
    return output_type


def begin_schedule(scheduler: Any, steps: int, shift: float | None = None, start: int = 0) -> np.ndarray:
    """Sets a scheduler to the beginning of a run and returns the run's timesteps.

    Args:
        scheduler: It is changed.
        steps: Steps of the whole schedule.
        shift: What the shift "auto" means.
        start: Index of the run's first step.

    Raises:
        ValueError: Its configuration gives no schedule.
    """
    try:
        with np.errstate(all="ignore"):
            if shift is not None:
                scheduler.settle_shift(shift)
            scheduler.set_timesteps(steps)
        sigmas = np.asarray(scheduler.sigmas)
        usable = bool(((sigmas >= 0) & (sigmas <= 1)).all())
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(f"{type(scheduler).__name__} cannot make a schedule of {steps} steps: {error}") from None
    if not usable:
        raise ValueError(
            f"{type(scheduler).__name__} makes a schedule with noise levels that are not from 0 to 1; check its "
            f"shift: {scheduler!r}"
        )
    scheduler.set_begin_index(start)
    return scheduler.timesteps[start:]


def check_strength(strength: Any, steps: int) -> int:
    """Index of the first step that a strength leaves: the last min(int(steps * strength), steps) are taken.

    Raises:
        ValueError, TypeError: It is no number above 0 and up to 1, or leaves no step.
    """
    if isinstance(strength, bool) or not isinstance(strength, (int, float, np.number)):
        raise TypeError(f"`strength` has to be a number but is {strength!r}.")
    if not 0 < strength <= 1:
        raise ValueError(f"`strength` has to be above 0 and at most 1 but is {strength!r}.")
    kept = min(int(steps * strength), steps)
    if kept == 0:
        unit = 10 ** (2 + len(str(steps)))
        least = -(-unit // steps) / unit  # rounded up: what is rounded down leaves no step either
        raise ValueError(f"`strength`={strength} leaves none of {steps} steps. Give at least {least}, or more steps.")
    return steps - kept
