"""How much of a card's memory is in use, by the driver's own count, and the most that was during a measurement."""

from __future__ import annotations

import ctypes
import threading
from typing import Any

_INTERVAL = 0.005


class CardMemory:
    """Watches the first card: ``with CardMemory() as watch: ...; watch.peak`` is the most that was used beyond what was
    when it began.

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
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
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

    def _watch(self) -> None:
        while not self._stop.wait(_INTERVAL):
            self.look()

    def look(self) -> None:
        """Takes note of what is in use now."""
        self.peak = max(self.peak, self.used() - self.baseline)

    def __enter__(self) -> CardMemory:
        self.baseline = self.used()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.look()
        self._stop.set()
        self._thread.join()
        self._call("cuDevicePrimaryCtxRelease_v2", self._card)


def host_peak() -> int:
    """Bytes of the largest resident set that this process had."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
