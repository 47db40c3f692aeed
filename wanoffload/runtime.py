"""The engine that components share, and the rule that one call runs on it at a time."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from wanoffload.devices import Device, can_only_be_planned, card, prepare
from wanoffload.errors import BusyError, DeviceError
from wanoffload.messages import warn_once
from wanoffload.prediction import Rates, tabled_rates

TRACE_SPANS = 1 << 16
"""Room of a trace, unless another is asked for: 8 MiB."""


def _say_what_is_slower() -> None:
    """Says once which of the vendor's libraries is not used, and what mends it."""
    from wanoffload import _core

    for line in _core.describe_device("cuda").splitlines():
        if line.startswith(("cublaslt:", "cudnn:")) and "Mend with" in line:
            warn_once(f"{line} (nothing else changes; it is slower)")


class Runtime:
    """One `_core.Engine`, made when first needed, and the lock that lets one call in.

    A component that was loaded alone has a runtime of its own; a pipeline brings its components into one, so that they
    share the work arena and know of each other's residents.

    Attributes:
        device: Where it computes.
        members: The components that run on it.
        rates: How fast the device computes: tabled, then measured by the calls that ran. None on the cpu device, for
            which nothing is predicted.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self._engine: Any = None
        self._trace_spans = 0
        self.members: weakref.WeakSet[Any] = weakref.WeakSet()
        self.rates: Rates | None = tabled_rates(card(device)) if device.type == "cuda" else None
        self._lock = threading.Lock()
        self._running = ""

    @property
    def engine(self) -> Any:
        """The engine; its streams start when this is first read."""
        if self._engine is None:
            from wanoffload import _core

            if self.device.type == "cuda":
                prepare()
            self._engine = _core.Engine(str(self.device))
            if not self._engine.planning_only and self.device.type == "cuda":
                _say_what_is_slower()
            self._engine.record_trace(self._trace_spans)
        return self._engine

    def record_trace(self, spans: int) -> None:
        """Has calls from now on record when each group was read, copied and computed with; 0 spans: no more."""
        self._trace_spans = spans
        if self._engine is not None:
            self._engine.record_trace(spans)

    @contextmanager
    def call(self, what: str) -> Iterator[Any]:
        """Runs one call on the engine: ``with runtime.call("the pipeline") as engine``.

        Raises:
            BusyError: Another call is running.
            DeviceError: The device can be planned for only.
        """
        if can_only_be_planned(self.device):
            raise DeviceError(
                f"{what} cannot run on '{self.device}', which stands for an {card(self.device)['name']} that need not "
                "be here: it can be planned for. Move to a device that computes: to('cuda') where there is a card, "
                "to('cpu') elsewhere."
            )
        if not self._lock.acquire(blocking=False):
            raise BusyError(
                f"{what} cannot run now: {self._running or 'another call'} is running on the same engine, which serves "
                "one call at a time. Wait for it to end, or load a second pipeline."
            )
        try:
            self._running = what
            yield self.engine
        finally:
            self._running = ""
            self._lock.release()

    def held(self) -> int:
        """Bytes of the device's memory that the engine holds."""
        if self._engine is None:
            return 0
        held = self._engine.held()
        return held["resident_bytes"] + held["arena_bytes"]

    def drop(self, *cores: Any) -> None:
        """Forgets the residents and host slabs of networks, if there are any; they are loaded again when next
        needed."""
        if self._engine is not None and not self._engine.planning_only:
            with self.call("Changing how a component is offloaded"):
                for core in cores:
                    self._engine.drop(core)
