"""What a machine has for these measurements, and what it lacks: card, driver, libraries, peers, tools."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

LIBRARIES = ("cublaslt", "cudnn")
ROOT = Path(__file__).resolve().parents[2]
DEVICE = "cuda"


@cache
def card() -> tuple[dict[str, Any] | None, str]:
    """Properties of the first card, or None and why there is none that can be used."""
    from wanoffload import devices
    from wanoffload.errors import Error

    try:
        return devices.card(devices.as_device(DEVICE)), ""
    except Error as error:
        return None, " ".join(str(error).split())


@cache
def described() -> list[str]:
    """What the core says of driver, cards, kernels and libraries."""
    from wanoffload import _core, devices

    devices.prepare()
    return _core.describe_device(DEVICE).splitlines()


def libraries() -> list[str]:
    """What the core says of the vendor's libraries now; behind calls also what it did not use them for."""
    from wanoffload import _core, devices

    devices.prepare()
    return [line for line in _core.describe_device(DEVICE).splitlines() if line.startswith(LIBRARIES)]


def usable(library: str, lines: list[str]) -> bool:
    """Whether a library is there and in use, by the core's description."""
    found = next((line for line in lines if line.startswith(f"{library}: ")), f"{library}: not found")
    return not found.startswith(f"{library}: not") and ", not used: " not in found


def needs(own: bool) -> tuple[str, ...]:
    """What a row needs that measures with the vendor's libraries, or with our own kernels only."""
    return ("card",) if own else ("card", "libraries")


def sanitizer() -> str | None:
    """Where compute-sanitizer is."""
    places = [os.environ.get("CUDA_HOME", ""), "/usr/local/cuda"]
    found = [str(Path(place, "bin", "compute-sanitizer")) for place in places if place]
    return shutil.which("compute-sanitizer") or next((one for one in found if os.access(one, os.X_OK)), None)


def missing(need: str, work: Path) -> str | None:
    """Why a need is not met, None where it is.

    Args:
        need: ``"card"`` (why there is none stands in the header), ``"libraries"`` (cuBLASLt or cuDNN), a module's name,
            ``"compute-sanitizer"``, ``"torch.cuda"``, ``"disk 30"`` or ``"memory 60"`` (GB).
        work: Where checkpoints are written.
    """
    kind, _, amount = need.partition(" ")
    if kind == "card":
        return None if card()[0] is not None else "a card"
    if kind == "libraries":
        return None if any(usable(name, described()) for name in LIBRARIES) else "cuBLASLt and cuDNN"
    if kind == "compute-sanitizer":
        return None if sanitizer() else "compute-sanitizer"
    if kind == "torch.cuda":
        return _missing_torch()
    if kind == "disk":
        work.mkdir(parents=True, exist_ok=True)
        usage = shutil.disk_usage(work)
        free = (usage.free + sum(file.stat().st_size for file in work.rglob("*") if file.is_file())) / 1e9
        return None if free >= float(amount) else f"{amount} GB of disk in {work} ({free:.0f} are free)"
    if kind == "memory":
        from wanoffload import _core

        free = _core.device_memory("cpu")[0] / 1e9
        return None if free >= float(amount) else f"{amount} GB of memory ({free:.0f} are free)"
    return None if importlib.util.find_spec(kind) is not None else kind


@cache
def _missing_torch() -> str | None:
    if importlib.util.find_spec("torch") is None:
        return "torch"
    import torch

    return None if torch.cuda.is_available() else "a build of torch with CUDA that sees the card"


def header() -> dict[str, Any]:
    """What stands above every table: machine, card, versions."""
    import wanoffload
    from wanoffload import _core

    found, why = card()
    free, total = _core.device_memory("cpu")
    packages = ("numpy", "torch", "diffusers", "nvidia-cudnn-cu13", "nvidia-cublas", "nvidia-cuda-nvrtc")
    return {
        "card": found["name"] if found else None,
        "no card": why or None,
        "properties": found,
        "driver": driver_version(),
        "cuda": described(),
        "wanoffload": wanoffload.__version__,
        "commit": commit(),
        "extension": hashlib.sha256(Path(_core.__file__).read_bytes()).hexdigest(),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {_core.default_num_threads()[0]} threads",
        "memory_bytes": total,
        "memory_free_bytes": free,
        "packages": {name: version(name) for name in packages},
    }


def version(package: str) -> str | None:
    """Of an installed package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """Of the checkout, with a + where files have changed since."""
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True)
    except OSError:
        return None
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "") if head.returncode == 0 else None


def driver_version() -> str | None:
    """Of NVIDIA's driver, from its management library."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        text = ctypes.create_string_buffer(80)
        if library.nvmlInit_v2() != 0 or library.nvmlSystemGetDriverVersion(text, 80) != 0:
            return None
        return text.value.decode()
    except (OSError, AttributeError):
        return None
