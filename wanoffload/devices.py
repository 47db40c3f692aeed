"""Devices, given as a string or a torch.device."""

from __future__ import annotations

from typing import Any

from wanoffload.errors import DeviceError

AVAILABLE = ("cpu",)
_KNOWN_ELSEWHERE = ("cuda", "xpu", "mps", "hip", "npu", "meta")


class Device:
    """A device; it compares equal to its string and to the torch.device of the same name, and hashes like its
    string."""

    __slots__ = ("index", "type")

    def __init__(self, type: str, index: int | None = None) -> None:
        self.type = type
        self.index = index

    def __eq__(self, other: object) -> bool:
        try:
            other = parse_device(other)
        except (TypeError, ValueError):
            return NotImplemented
        return self.type == other.type and self.index == other.index

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        return f"wanoffload.Device('{self}')"


def parse_device(value: Any) -> Device:
    """Reads a device's name without asking whether it is there.

    Raises:
        TypeError: The value is neither a string nor a device.
        ValueError: The string is no device name.
    """
    if isinstance(value, Device):
        return value
    if isinstance(value, str):
        kind, colon, index = value.partition(":")
        if not kind.isalpha() or (colon and not index.isdigit()):
            raise ValueError(f"'{value}' is not the name of a device. Available: {', '.join(AVAILABLE)}.")
        return Device(kind, int(index) if colon else None)
    if type(value).__module__ == "torch" and type(value).__name__ == "device":
        return Device(value.type, value.index)
    raise TypeError(f"A device is a string or a torch.device, but got {value!r} of type {type(value).__name__}.")


def is_device(value: Any) -> bool:
    """Whether a positional argument of ``.to()`` names a device (rather than a dtype)."""
    try:
        return parse_device(value).type in (*AVAILABLE, *_KNOWN_ELSEWHERE)
    except (TypeError, ValueError):
        return False


def as_device(value: Any) -> Device:
    """Turns what a user may give as a device into one that can compute; None means the default.

    Raises:
        DeviceError: There is no such device here; the text says why and what there is.
    """
    if value is None:
        return Device("cpu")
    try:
        device = parse_device(value)
    except ValueError as error:
        raise DeviceError(str(error)) from None
    if device.type not in AVAILABLE:
        why = "this build has no such device yet" if device.type in _KNOWN_ELSEWHERE else "there is no such device"
        raise DeviceError(
            f"Device '{device}' cannot be used: {why}. Available: {', '.join(AVAILABLE)}. Pass device='cpu'; "
            "`wanoffload doctor` says what this machine and this build offer."
        )
    if device.index not in (None, 0):
        raise DeviceError(f"Device '{device}' cannot be used: there is one '{device.type}' device, number 0.")
    return Device(device.type)
