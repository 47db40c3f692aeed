"""How much of a card's memory is in use, by the driver's own count, and the most that was during a measurement."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_INTERVAL = 0.005


class CardMemory:
    """Watches the first card: ``with CardMemory() as watch: ...; watch.peak`` is the most that was seen in use beyond
    what was when it began.

    It looks when it is told to, and every few milliseconds within ``watch.sampling()``. The question takes a lock of
    the driver that launches take as well, so it is not asked while a step is timed: a warm-up step is sampled, and
    ``look()`` is called between the timed ones, which hold what they allocated until they are closed.

    Asks cuMemGetInfo on the primary context, which whoever computes here shares; so memory of other processes counts
    as well, and the card has to be ours alone.
    """

    def __init__(self) -> None:
        self._driver = ctypes.CDLL("libcuda.so.1")
        self._context = ctypes.c_void_p()
        card = ctypes.c_int()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(card), 0)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), card)
        self._card = card
        self.baseline = self.peak = 0

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._driver, name)(*arguments)
        if code != 0:
            raise RuntimeError(f"{name} failed with {code}")

    def used(self) -> int:
        """Bytes in use now."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cuCtxSetCurrent", self._context)
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return total.value - free.value

    def look(self) -> None:
        """Takes note of what is in use now."""
        self.peak = max(self.peak, self.used() - self.baseline)

    def start_over(self) -> None:
        """Counts from what is in use now."""
        self.baseline, self.peak = self.used(), 0

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """Looks again and again meanwhile, so that what is given back before the end is seen too."""
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(_INTERVAL):
                self.look()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            self.look()

    def __enter__(self) -> CardMemory:
        self.start_over()
        return self

    def __exit__(self, *error: object) -> None:
        self._call("cuDevicePrimaryCtxRelease_v2", self._card)


def host_peak() -> int:
    """Bytes of the largest resident set that this process had."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
