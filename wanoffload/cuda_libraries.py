"""Where NVIDIA's libraries (cuBLASLt, cuDNN, NVRTC) may lie. Nothing of theirs is imported or loaded here: the core
loads them, from the folders that it is given.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

NAMES = (
    "libcublasLt.so.13",
    "libcublasLt.so.12",
    "libcudnn_graph.so.9",
    "libnvrtc.so.13",
    "libnvrtc.so.12",
)
_SYSTEM = ("/usr/local/cuda/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib")


def library_folders() -> list[str]:
    """The folders that have one of the libraries: those of pip packages (``pip install 'wanoffload[cuda13]'``), then
    the system's, then torch's. The core takes the first that has what it looks for."""
    found: list[str] = []
    for folder in (*_pip_folders(), *_system_folders(), *_torch_folders()):
        # A name with ':' cannot be told from two; the core takes them joined by it.
        if folder.is_absolute() and ":" not in str(folder) and str(folder) not in found and _has_library(folder):
            found.append(str(folder))
    return found


def _has_library(folder: Path) -> bool:
    try:
        return any((folder / name).is_file() for name in NAMES)
    except OSError:
        return False


def _locations(package: str) -> Iterable[str]:
    """Folders of a top-level package; finding it runs none of its code."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return ()
    return () if spec is None else spec.submodule_search_locations or ()


def _pip_folders() -> Iterator[Path]:
    """``nvidia/cu13/lib``, ``nvidia/cudnn/lib`` and, of CUDA 12, ``nvidia/cublas/lib`` and others; CUDA 13 first."""
    for location in _locations("nvidia"):
        try:
            parts = sorted(Path(location).resolve().iterdir(), key=lambda part: (part.name != "cu13", part.name))
        except OSError:
            continue
        for part in parts:
            yield part / "lib"


def _system_folders() -> Iterator[Path]:
    for name in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(name):
            yield Path(os.environ[name]) / "lib64"
    for entry in os.environ.get("LD_LIBRARY_PATH", "").split(":"):
        if entry:
            yield Path(entry)
    yield from map(Path, _SYSTEM)


def _torch_folders() -> Iterator[Path]:
    for location in _locations("torch"):
        yield Path(location) / "lib"
