"""The exceptions of the package.

Each derives from `Error` and from the Python exception that fits, so `except ValueError` or `except MemoryError` works
as well. Errors of the operating system stay `OSError` with errno and file name; a cancelled call raises
`KeyboardInterrupt`.
"""

from __future__ import annotations


class Error(Exception):
    """Base of every exception that wanoffload itself defines."""


class CheckpointError(Error, ValueError):
    """A checkpoint cannot be used: damaged, incomplete, of another model, or changed while it was open.

    The text names the file.
    """


class PlanError(Error, ValueError):
    """No plan fits the budgets. Raised before any work.

    Attributes:
        budget: `{"vram": bytes or None, "ram": bytes or None}` as they were given.
        needed: the smallest budgets that would do, together, under the same keys. Passing them back works.
    """

    def __init__(
        self,
        message: str,
        budget: dict[str, int | None] | None = None,
        needed: dict[str, int | None] | None = None,
    ) -> None:
        super().__init__(message)
        self.budget = budget or {"vram": None, "ram": None}
        self.needed = needed or {"vram": None, "ram": None}


class DeviceError(Error, RuntimeError):
    """A device is not there, lacks an operation, or failed."""


class OutOfMemoryError(Error, MemoryError):
    """Memory that a plan had promised could not be had."""


class BusyError(Error, RuntimeError):
    """Another call is running on this engine, and an engine serves one call at a time."""


class InternalError(Error, RuntimeError):
    """An invariant of wanoffload was broken. This is a bug: please report it with the text."""
