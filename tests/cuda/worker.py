"""Makes films in a process that finds the fake card, and says what the card saw.

The argument is a task in JSON: `checkpoint`, `device`, `dtype`, `call` (arguments of the pipeline), `image` (a file
with a still, for a pipeline of image to video), `runs` (a list of null for everything resident, or arguments of
enable_group_offload, or {"budget": arguments of enable_auto_offload}), `frames` (a file that the films go to, as an
array), `fault` (one of fakecuda.h's: symbol, n, result, sticky) and `libraries` (a folder: what lies there takes the
place of NVIDIA's libraries, of which there are none without it).
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

import numpy as np
import PIL.Image

import wanoffload
from wanoffload import _core, cuda_libraries

KINDS = ["contexts", "streams", "events", "modules", "allocations", "host_allocations", "registrations"]


class Card:
    """fakecuda.h, through the library that the core loads as well."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL("libcuda.so.1")
        for name in ("calls", "live", "misuses", "device_bytes", "device_peak", "pinned_bytes", "pageable_copies"):
            getattr(self.library, f"fakecuda_{name}").restype = ctypes.c_uint64
        self.library.fakecuda_message.restype = ctypes.c_char_p
        self.library.fakecuda_fail.argtypes = [ctypes.c_char_p, ctypes.c_int64, ctypes.c_int, ctypes.c_bool]

    def live(self) -> dict[str, int]:
        counts = {name: self.library.fakecuda_live(kind) for kind, name in enumerate(KINDS)}
        return {name: count for name, count in counts.items() if count}

    def state(self) -> dict[str, Any]:
        library = self.library
        return {
            "live": self.live(),
            "misuses": library.fakecuda_misuses(),
            "message": library.fakecuda_message().decode(),
            "launches": library.fakecuda_calls(b"cuLaunchKernel"),
            "pinned": library.fakecuda_pinned_bytes(),
        }

    def fail(self, symbol: str | None, n: int, result: int, sticky: bool) -> None:
        self.library.fakecuda_fail(symbol.encode() if symbol else None, n, result, sticky)


def prepare(pipe: Any, device: str, how: dict[str, Any] | None) -> None:
    """Takes the way of offloading; None: everything on the device."""
    if how is None:
        pipe.to(device)
    elif "budget" in how:
        pipe.to(device)
        pipe.enable_auto_offload(**how["budget"])
    else:
        pipe.enable_group_offload(onload_device=device, **how)


def make_films(task: dict[str, Any]) -> list[np.ndarray]:
    """One film for each of the runs, all with one pipeline."""
    kind = wanoffload.WanImageToVideoPipeline if "image" in task else wanoffload.WanPipeline
    pipe = kind.from_pretrained(task["checkpoint"], dtype=task.get("dtype", "float32"))
    pipe.set_progress_bar_config(disable=True)
    still = {"image": PIL.Image.open(task["image"])} if "image" in task else {}
    films = []
    for how in task["runs"]:
        prepare(pipe, task["device"], how)
        films.append(pipe(prompt="a red star", **task["call"], **still).frames)
    return films


def main() -> None:
    task = json.loads(sys.argv[1])
    libraries = task.get("libraries")
    _core._testing.own_kernels_only(libraries is None)
    cuda_libraries.library_folders = lambda: [libraries] if libraries else []
    card = Card() if task["device"] != "cpu" else None
    result: dict[str, Any] = {}
    if task.get("fault"):
        assert card is not None
        card.fail(**task["fault"])
    try:
        films = make_films(task)
        np.save(task["frames"], np.stack(films))
    except wanoffload.Error as error:
        result["error"] = [type(error).__name__, str(error)]
    if card is not None:
        result["card"] = card.state()
    if libraries:
        multiplier = ctypes.CDLL("libcublasLt.so.13")
        multiplier.fakecublaslt_products.restype = ctypes.c_uint64
        result["products"] = multiplier.fakecublaslt_products()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
