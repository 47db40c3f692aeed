"""Devices, given as a string or a torch.device.

``"cpu"`` is always there. ``"cuda"`` and ``"cuda:1"`` are cards of this machine. ``"cuda:rtx4090"`` stands for a card
that need not be here: plans are made for it, and nothing runs on it.
"""

from __future__ import annotations

import re
from typing import Any

from wanoffload.errors import DeviceError

KINDS = ("cpu", "cuda")
_KNOWN_ELSEWHERE = ("xpu", "mps", "hip", "npu", "meta")
_CARD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class Device:
    """A device; it compares equal to its string and to the torch.device of the same name, and hashes like its string.

    Attributes:
        type: ``"cpu"`` or ``"cuda"``.
        index: The number of a card, None for the first; or the name of a card that can be planned for.
    """

    __slots__ = ("index", "type")

    def __init__(self, type: str, index: int | str | None = None) -> None:
        self.type = type
        self.index = index

    def __eq__(self, other: object) -> bool:
        try:
            other = parse_device(other)
        except (TypeError, ValueError):
            return NotImplemented
        return self.type == other.type and (self.index or 0) == (other.index or 0)

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
        card = kind == "cuda" and _CARD.fullmatch(index)
        if not kind.isalpha() or (colon and not index.isdigit() and not card):
            raise ValueError(f"'{value}' is not the name of a device. Available: {available()}.")
        return Device(kind, (int(index) if index.isdigit() else index) if colon else None)
    if type(value).__module__ == "torch" and type(value).__name__ == "device":
        return Device(value.type, value.index)
    raise TypeError(f"A device is a string or a torch.device, but got {value!r} of type {type(value).__name__}.")


def is_device(value: Any) -> bool:
    """Whether a positional argument of ``.to()`` names a device (rather than a dtype)."""
    try:
        return parse_device(value).type in (*KINDS, *_KNOWN_ELSEWHERE)
    except (TypeError, ValueError):
        return False


def as_device(value: Any) -> Device:
    """Turns what a user may give as a device into one that can compute, or be planned for; None means the default.

    Raises:
        DeviceError: There is no such device here; the text says why, and what to do.
    """
    if value is None:
        return Device("cpu")
    try:
        device = parse_device(value)
    except ValueError as error:
        raise DeviceError(str(error)) from None
    if device.type == "cuda":
        return _card(device)
    if device.type not in KINDS:
        why = "this build has no such device" if device.type in _KNOWN_ELSEWHERE else "there is no such device"
        raise DeviceError(
            f"Device '{device}' cannot be used: {why}. Available: {available()}. Pass device='cpu'; "
            "`wanoffload doctor` says what this machine and this build offer."
        )
    if device.index not in (None, 0):
        raise DeviceError(f"Device '{device}' cannot be used: there is one '{device.type}' device, number 0.")
    return Device(device.type)


_found: dict[str, dict[str, Any]] = {}  # properties of cards that were opened before, by name


def card(device: Device) -> dict[str, Any]:
    """What is known of a cuda device: `_core.card_properties`, asked for once.

    Raises:
        DeviceError: It is not there.
    """
    name = str(device)
    if name not in _found:
        from wanoffload import _core

        prepare()
        _found[name] = _core.card_properties(name)
    return _found[name]


def _card(device: Device) -> Device:
    """The same device under the one name that it goes by, after a look whether it is there."""
    if device.index == 0:
        device = Device("cuda")
    try:
        card(device)
    except ValueError as error:  # a name that no card has
        raise DeviceError(str(error)) from None
    return device


def can_only_be_planned(device: Device) -> bool:
    """Whether it stands for a card that need not be here."""
    return device.type == "cuda" and bool(card(device)["planning_only"])


def prepare() -> None:
    """Tells the core where the vendor's libraries may lie; before a card is opened or described, never at import."""
    from wanoffload import _core
    from wanoffload.cuda_libraries import library_folders

    _core.set_library_folders(library_folders())


def available() -> str:
    """The devices of this machine as words: ``"cpu, cuda"``."""
    from wanoffload import _core

    cards = [str(Device("cuda", number or None)) for number in range(_core.cuda_count())]
    return ", ".join(["cpu", *cards])
