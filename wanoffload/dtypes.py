"""Data types by name, so that ``"bfloat16"``, ``np.float32`` and ``torch.float16`` may all be given without importing
torch."""

from __future__ import annotations

from typing import Any

import numpy as np

_ITEMSIZE = {"float32": 4, "bfloat16": 2, "float16": 2}
_ALIASES = {
    "fp32": "float32",
    "float": "float32",
    "single": "float32",
    "bf16": "bfloat16",
    "fp16": "float16",
    "half": "float16",
}
SUPPORTED = tuple(_ITEMSIZE)


class DType:
    """The data type that a component's weights and matrix operands have.

    It compares equal to its name, to the NumPy type and to the torch dtype of the same name, and hashes like its name.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return _ITEMSIZE[self.name]

    def __eq__(self, other: object) -> bool:
        name = dtype_name(other)
        return NotImplemented if name is None else name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"wanoffload.{self.name}"


def dtype_name(value: object) -> str | None:
    """The name of a string, NumPy or torch dtype (``"float32"``); None if the value is no dtype."""
    if isinstance(value, DType):
        return value.name
    if isinstance(value, str):
        name = value.lower().removeprefix("torch.").removeprefix("np.").removeprefix("numpy.")
        return _ALIASES.get(name, name)
    if type(value).__module__ == "torch" and type(value).__name__ == "dtype":
        return str(value).removeprefix("torch.")
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return np.dtype(value).name
    return None


def as_dtype(value: Any) -> DType:
    """Turns what a user may give as a dtype into a `DType`.

    Raises:
        TypeError: The value is no dtype at all.
        ValueError: It is one, but no weights can be held in it.
    """
    name = dtype_name(value)
    if name is None:
        raise TypeError(
            f"A dtype is a string, a NumPy or a torch dtype, but got {value!r} of type {type(value).__name__}. "
            f"Supported: {', '.join(SUPPORTED)}."
        )
    if name not in _ITEMSIZE:
        raise ValueError(f"dtype {value!r} is not supported. Supported: {', '.join(SUPPORTED)}.")
    return DType(name)
