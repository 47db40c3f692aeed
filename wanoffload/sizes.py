"""Byte counts as people write and read them."""

from __future__ import annotations

import re
from typing import Any

_UNITS = {
    "": 1,
    "b": 1,
    "k": 1000,
    "kb": 1000,
    "kib": 1 << 10,
    "m": 1000**2,
    "mb": 1000**2,
    "mib": 1 << 20,
    "g": 1000**3,
    "gb": 1000**3,
    "gib": 1 << 30,
    "t": 1000**4,
    "tb": 1000**4,
    "tib": 1 << 40,
}
_PATTERN = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-zA-Z]*)\s*")


def parse_size(value: Any, name: str = "size") -> int | None:
    """Reads a number of bytes: an int, ``"8GiB"``, ``"500MB"``, ``"1.5g"``; None stays None.

    Args:
        value: What the user gave.
        name: The argument's name, for the error.

    Raises:
        TypeError: Neither an int nor a string.
        ValueError: A string that is no size, or a negative number.
    """
    if value is None:
        return None
    if isinstance(value, str):
        match = _PATTERN.fullmatch(value)
        if match is None or match[2].lower() not in _UNITS:
            raise ValueError(f"`{name}` has to be a size like '8GiB', '500MB' or a number of bytes, but is {value!r}.")
        return int(float(match[1]) * _UNITS[match[2].lower()])
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(
            f"`{name}` has to be a size like '8GiB' or an int of bytes, but is {value!r} of type "
            f"{type(value).__name__}."
        )
    size = value.__index__()
    if size < 0:
        raise ValueError(f"`{name}` has to be at least 0 bytes but is {size}.")
    return size


def format_size(count: int | None) -> str:
    """Writes a number of bytes with a binary unit and three significant figures, ``"1.39 GiB"``."""
    if count is None:
        return "-"
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1000:
            return (
                f"{count} B"
                if unit == "B"
                else f"{value:.{2 if abs(value) < 10 else 1 if abs(value) < 100 else 0}f} {unit}"
            )
        value /= 1024
    return f"{value:.2f} TiB"
