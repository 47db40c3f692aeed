"""Arrays in: NumPy, or torch where the user hands a tensor in. Inside everything is float32 NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np


def is_torch(value: Any) -> bool:
    """Whether a value is a torch tensor; torch is not imported to find out."""
    return any(base.__module__.startswith("torch") and base.__name__ == "Tensor" for base in type(value).__mro__)


def to_numpy(value: Any, name: str) -> np.ndarray:
    """Brings an array of numbers to NumPy; bfloat16 becomes float32.

    Raises:
        TypeError: It is no array of real numbers.
    """
    if is_torch(value):
        value = value.detach().cpu()
        if not value.is_complex() and value.is_floating_point():
            value = value.float()
        value = value.numpy()
    elif not isinstance(value, (np.ndarray, np.generic, list, tuple, int, float)):
        raise TypeError(f"`{name}` has to be a NumPy array or a torch tensor but is of type {type(value).__name__}.")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise TypeError(f"`{name}` is no regular array: {error}") from None
    if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
        raise TypeError(f"`{name}` has to hold real numbers but has dtype {array.dtype}.")
    return array


def to_float32(value: Any, name: str, shape: tuple[int | None, ...], axes: str, integers: bool = False) -> np.ndarray:
    """Checks an input's dtype and shape and returns it as contiguous float32.

    Args:
        value: NumPy array or torch tensor.
        name: The argument's name, for errors.
        shape: The wanted shape; None where any length is fine.
        axes: The names of the axes, for errors: ``"batch, channels, frames, height, width"``.
        integers: Whether whole numbers will do (timesteps).

    Raises:
        TypeError: It is no array, or not of floating point.
        ValueError: It has another shape.
    """
    array = to_numpy(value, name)
    if array.dtype.kind in "iub" and not integers:
        raise TypeError(f"`{name}` has to be of a floating-point dtype but is {array.dtype}.")
    if array.ndim != len(shape) or any(want not in (None, have) for want, have in zip(shape, array.shape, strict=True)):
        wanted = ", ".join(
            axis if want is None else f"{axis}={want}" for axis, want in zip(axes.split(", "), shape, strict=True)
        )
        raise ValueError(f"`{name}` has to be of shape [{wanted}] but is of shape {list(array.shape)}.")
    return np.ascontiguousarray(array, dtype=np.float32)


def like(array: np.ndarray, example: Any) -> Any:
    """Hands an array out as the caller handed his in: a torch tensor over the same memory, or the array itself."""
    if not is_torch(example):
        return array
    import torch

    return torch.from_numpy(array)


def real_rows(embeds: np.ndarray) -> int:
    """Rows of one prompt's embeddings [rows, width] up to the last that is not all zero: what follows is padding."""
    used = np.flatnonzero(embeds.any(axis=1))
    return int(used[-1]) + 1 if len(used) else 0
