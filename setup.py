"""Builds wanoffload._core from csrc/.

Every file is compiled once, except the kernels: they are compiled once per instruction set, with the flags that
csrc/isas.mk lists, and the core chooses among them at run time. The CUDA kernels are built where nvcc is
(build_tools/kernels.py). Objects carry depfiles, so a rebuild compiles only what changed. What a user builds takes no
warning for an error and no -march=native: one wheel runs on every machine of its architecture.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

sys.path.insert(0, str(Path(__file__).resolve().parent))  # build front ends do not have it there
from build_tools import kernels as cuda  # noqa: E402
from build_tools.units import Unit, compile_stale, compile_unit, is_current, locked, replace_file  # noqa: E402, F401

sys.path.pop(0)

CSRC = Path("csrc")
KERNELS = CSRC / "device/cpu/kernels"
IMAGES = CSRC / "device/cuda/images.c"
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off"]
WARNINGS = "-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 -Wundef".split()
LIBRARIES = ["m", "pthread", "dl"]


@dataclass(frozen=True)
class InstructionSet:
    """One line of csrc/isas.mk and what this compiler makes of it."""

    name: str
    flags: tuple[str, ...]
    refusal: str = ""  # why it is not built, or ""

    @property
    def macro(self) -> str:
        return self.name.upper()


def read_isas(path: Path) -> list[InstructionSet]:
    """The plain one and the x86-64 ones, in the order of the file."""
    values = dict(re.findall(r"^(\w+)\s*:=[ \t]*(.*)$", path.read_text(), re.MULTILINE))
    names = ["generic", *values["X86_ISAS"].split()]
    return [InstructionSet(name, tuple(values[f"FLAGS_{name}"].split())) for name in names]


def probe_isas(cc: list[str]) -> list[InstructionSet]:
    """Asks the compiler which instruction sets it can build for."""
    found = subprocess.run([cc[0], "-dumpmachine"], capture_output=True, text=True, check=True).stdout.strip()
    sets = []
    for isa in read_isas(CSRC / "isas.mk"):
        refusal = ""
        if isa.flags and not found.startswith("x86_64"):
            refusal = f"the compiler builds for {found}"
        elif isa.flags:
            command = [*cc, *isa.flags, "-x", "c", "-c", "-o", os.devnull, "-"]
            probe = subprocess.run(command, input="int x;", capture_output=True, text=True)
            if probe.returncode != 0:
                refusal = "the compiler refuses it: " + (probe.stderr.strip().splitlines() or ["no reason given"])[0]
        sets.append(InstructionSet(isa.name, isa.flags, refusal))
    return sets


def plan_units(
    cc: list[str], sets: list[InstructionSet], build: Path, fatbins: Sequence[Unit] = (), embedding: Sequence[str] = ()
) -> list[Unit]:
    """Every object of the module, which carries the fatbins; embedding: flags for what copies them in."""
    built = [isa for isa in sets if not isa.refusal]
    have = [f"-DWO_HAVE_ISA_{isa.macro}" for isa in built] + ["-DWO_HAVE_CUDA"]
    base = [*cc, *FLAGS, *WARNINGS, f"-I{CSRC}"]
    python = ["-isystem", sysconfig.get_path("include")]
    units = []

    def add(source: Path, folder: Path, flags: list[str], needs: tuple[Path, ...] = ()) -> None:
        target = build / folder / source.relative_to(CSRC).with_suffix(".o")
        depfile = target.with_suffix(".d")
        command = (*base, *flags, "-MMD", "-MF", str(depfile), "-c", str(source), "-o")
        units.append(Unit(source, target, command, needs))

    for source in core_sources():
        if source.is_relative_to(KERNELS):
            for isa in built:
                tag = [f"-DWO_ISA_TAG={isa.name}", f"-DWO_ISA_{isa.macro}=1"]
                add(source, Path(f"isa_{isa.name}"), [*isa.flags, "-ffp-contract=off", *tag])
        elif source.is_relative_to(CSRC / "python"):
            add(source, Path(), [*have, *python, "-isystem", numpy_include()])
        elif source == IMAGES and fatbins:
            add(source, Path(), [*have, *embedding], tuple(unit.target for unit in fatbins))
        else:
            add(source, Path(), have)
    return units


def numpy_include() -> str:
    """NumPy is there at build time through the build requirements; it is not needed to make an sdist."""
    import numpy

    return numpy.get_include()


class BuildCore(build_ext):
    """Compiles in parallel and only what changed, links, and says what was built and why the rest was not."""

    def build_extension(self, ext: Extension) -> None:
        if self.compiler.compiler_type != "unix":
            raise CompileError("wanoffload builds with a C compiler of Unix kind (gcc or clang), on Linux")
        cc = list(self.compiler.compiler_so)
        if shutil.which(cc[0]) is None:
            raise CompileError(f"wanoffload is built from C, and the C compiler {cc[0]!r} was not found (Debian: gcc)")
        build = Path(self.build_temp)
        target = Path(self.get_ext_fullpath(ext.name))
        with locked(build):
            sets = probe_isas(cc)
            kernels = cuda.probe(os.environ)
            fatbins = cuda.plan_units(kernels, build)
            units = plan_units(cc, sets, build, fatbins, cuda.embedding_flags(kernels, fatbins))
            fresh = compile_stale([*fatbins, *units])
            if fresh or not self.is_linked(target, units):
                self.link(target, [str(unit.target) for unit in units])
        self.summarize(cc, sets, len(units) + len(fatbins), fresh)
        print(f"  {'CUDA':<12} {kernels.summary}", flush=True)

    def is_linked(self, target: Path, units: list[Unit]) -> bool:
        """True when the module is there, newer than its objects, and made of exactly these."""
        record = Path(self.build_temp) / "linked"
        try:
            made = target.stat().st_mtime_ns
            same = record.read_text() == "\n".join(str(unit.target) for unit in units)
            return same and all(unit.target.stat().st_mtime_ns <= made for unit in units)
        except OSError:
            return False

    def link(self, target: Path, objects: list[str]) -> None:
        """Links beside the target and renames, so that a process which has the old module open keeps it whole."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.build_temp) as folder:
            fresh = os.path.join(folder, target.name)
            self.compiler.link_shared_object(objects, fresh, libraries=LIBRARIES, build_temp=self.build_temp)
            replace_file(fresh, target)
        (Path(self.build_temp) / "linked").write_text("\n".join(objects))

    def copy_extensions_to_source(self) -> None:
        """As setuptools does it for --inplace, but by rename, for the same reason as in link()."""
        for ext in self.extensions:
            built = Path(self.build_lib) / self.get_ext_filename(ext.name)
            inplace = Path(self.get_ext_filename(ext.name))
            if not inplace.exists() or inplace.read_bytes() != built.read_bytes():
                replace_file(built, inplace)

    def summarize(self, cc: list[str], sets: list[InstructionSet], total: int, fresh: int) -> None:
        version = subprocess.run([cc[0], "--version"], capture_output=True, text=True).stdout.splitlines()[:1]
        print(f"wanoffload._core: {total} objects, {fresh} compiled now, with {''.join(version) or cc[0]}")
        for isa in sets:
            state = f"not built: {isa.refusal}" if isa.refusal else " ".join(["built", *isa.flags])
            print(f"  {isa.name:<12} {state}", flush=True)


def core_sources() -> list[Path]:
    """All of csrc/ but its own tests."""
    return sorted(path for path in CSRC.glob("**/*.c") if path.relative_to(CSRC).parts[0] not in ("tests", "build"))


if __name__ == "__main__":
    extension = Extension("wanoffload._core", [str(path) for path in core_sources()])
    setup(ext_modules=[extension], cmdclass={"build_ext": BuildCore})
