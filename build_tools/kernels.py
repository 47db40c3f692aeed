"""The CUDA kernels: one fatbin per module of csrc/device/cuda/kernels/, made by nvcc and carried by the extension.

WANOFFLOAD_CUDA says whether: auto (the default) builds them where nvcc works and says why where not, on fails where
not, off does not. Without them the device is there and says that it has no kernels. NVCC, CUDA_HOME, CUDA_PATH and the
PATH say where nvcc is.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from setuptools.errors import CompileError

from build_tools.units import Unit

FOLDER = Path("csrc/device/cuda/kernels")
FLAGS = ["-std=c++17", "-O3", "-lineinfo"]
OLDEST_NVCC = (12, 4)
# Machine code for each of these that nvcc knows, and PTX of the first and the last, for cards in between and to come.
CODES = ["80", "86", "89", "90", "100", "120"]


@dataclass(frozen=True)
class Kernels:
    """What is built for cards, or why nothing is."""

    nvcc: str = ""
    version: str = ""
    codes: tuple[str, ...] = ()
    refusal: str = ""

    @property
    def compression(self) -> str:
        """What every driver can undo that can run code of this nvcc. The kernels become a fifth of their size."""
        return "--compress-mode=size" if int(self.version.split(".")[0]) >= 13 else "-Xfatbin=-compress-all"

    @property
    def summary(self) -> str:
        if self.refusal:
            return f"not built: {self.refusal}"
        machine = " ".join(f"sm_{code}" for code in self.codes)
        return f"built {machine}, PTX {self.codes[0]} {self.codes[-1]}, with nvcc {self.version}"


def find_nvcc(env: Mapping[str, str]) -> str:
    """The first of the places that has one, or ""."""
    places = [env.get("NVCC", "")]
    places += [str(Path(env[name], "bin/nvcc")) for name in ("CUDA_HOME", "CUDA_PATH") if env.get(name)]
    places += ["nvcc", "/usr/local/cuda/bin/nvcc"]
    found = (shutil.which(place, path=env.get("PATH")) for place in places if place)
    return next((path for path in found if path), "")


def ask(*command: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=text, capture_output=True, text=True)


def examine(nvcc: str) -> Kernels:
    """What this nvcc can build, tried on a kernel of one line: it needs a host compiler that it knows."""
    found = re.search(r"release (\d+)\.(\d+)", ask(nvcc, "--version").stdout)
    if found is None:
        return Kernels(refusal=f"{nvcc} does not say its version")
    if (int(found[1]), int(found[2])) < OLDEST_NVCC:
        wanted = ".".join(map(str, OLDEST_NVCC))
        return Kernels(refusal=f"{nvcc} is {found[1]}.{found[2]}, and {wanted} or newer is needed")
    known = ask(nvcc, "--list-gpu-code").stdout.split()
    codes = tuple(code for code in CODES if f"sm_{code}" in known)
    if not codes:
        return Kernels(refusal=f"{nvcc} knows none of sm_{', sm_'.join(CODES)}")
    target = ["-x", "cu", "-cubin", f"-arch=sm_{codes[0]}", "-o", os.devnull, "-"]
    tried = ask(nvcc, *FLAGS, *target, text="__global__ void f() {}\n")
    if tried.returncode != 0:
        said = (tried.stderr.strip() or tried.stdout.strip() or "no reason given").splitlines()[0]
        return Kernels(refusal=f"{nvcc} does not work: {said}")
    return Kernels(nvcc, f"{found[1]}.{found[2]}", codes)


def probe(env: Mapping[str, str]) -> Kernels:
    """What to build, by WANOFFLOAD_CUDA and what nvcc says."""
    mode = env.get("WANOFFLOAD_CUDA") or "auto"
    if mode not in ("auto", "on", "off"):
        raise CompileError(f"WANOFFLOAD_CUDA={mode!r} is none of auto, on, off")
    if mode == "off":
        return Kernels(refusal="WANOFFLOAD_CUDA=off")
    nvcc = find_nvcc(env)
    kernels = examine(nvcc) if nvcc else Kernels(refusal="nvcc was not found (NVCC= says where it is)")
    if mode == "on" and kernels.refusal:
        raise CompileError(f"WANOFFLOAD_CUDA=on, but the CUDA kernels cannot be built: {kernels.refusal}")
    return kernels


def plan_units(kernels: Kernels, build: Path) -> list[Unit]:
    """One fatbin per module; none without nvcc."""
    if kernels.refusal:
        return []
    ends = (kernels.codes[0], kernels.codes[-1])
    targets = []
    for code in kernels.codes:
        kinds = f"[sm_{code},compute_{code}]" if code in ends else f"sm_{code}"
        targets += ["-gencode", f"arch=compute_{code},code={kinds}"]
    units = []
    for source in sorted(FOLDER.glob("*.cu")):
        target = build / "fatbins" / f"{source.stem}.fatbin"
        depfile = ["-MMD", "-MF", str(target.with_suffix(".d"))]
        flags = [*FLAGS, kernels.compression, "-Icsrc", *targets, *depfile]
        command = (kernels.nvcc, *flags, "-fatbin", str(source), "-o")
        units.append(Unit(source, target, command))
    return units


def embedding_flags(kernels: Kernels, fatbins: list[Unit]) -> list[str]:
    """For csrc/device/cuda/images.c, which copies the fatbins in. Drivers of nvcc's major version load what it made."""
    if not fatbins:
        return []
    folder, major = fatbins[0].target.parent.resolve(), int(kernels.version.split(".")[0])
    return [f'-DWO_CUDA_FATBINS="{folder}"', f"-DWO_CUDA_BUILT_WITH={1000 * major}"]
