"""Incremental, parallel compiling: each object carries a depfile and the command that made it, so a rebuild makes only
what changed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from setuptools.errors import CompileError


@dataclass(frozen=True)
class Unit:
    """One object file: its source, where it goes, and the whole command that makes it."""

    source: Path
    target: Path
    command: tuple[str, ...]
    needs: tuple[Path, ...] = ()  # targets of other units that go into it

    @property
    def stamp(self) -> Path:
        return self.target.with_suffix(".cmd")


def is_current(unit: Unit) -> bool:
    """True when the object was made by the same command and is newer than all that it was made from."""
    depfile = unit.target.with_suffix(".d")
    try:
        if unit.stamp.read_text() != shlex.join(unit.command):
            return False
        names = depfile.read_text().replace("\\\n", " ").split(":", 1)[1].split()
        made = unit.target.stat().st_mtime_ns
        return all(Path(name).stat().st_mtime_ns <= made for name in [*names, *unit.needs])
    except (OSError, IndexError):
        return False


def compile_unit(unit: Unit) -> str:
    """Makes one object and returns the compiler's warnings. A half-written one never takes the place of a good one."""
    unit.target.parent.mkdir(parents=True, exist_ok=True)
    unit.stamp.unlink(missing_ok=True)
    partial = unit.target.with_suffix(".partial")
    done = subprocess.run([*unit.command, str(partial)], capture_output=True, text=True)
    if done.returncode != 0:
        raise CompileError(f"{shlex.join([*unit.command, str(partial)])}\n{done.stderr}")
    partial.replace(unit.target)
    unit.stamp.write_text(shlex.join(unit.command))
    return done.stderr


def compile_all(units: list[Unit], threads: int) -> None:
    """Compiles in parallel, passes warnings on, and stops at the first error."""
    pool = ThreadPoolExecutor(threads)
    try:
        for warnings in pool.map(compile_unit, units):
            if warnings:
                print(warnings, end="", flush=True)
    finally:
        pool.shutdown(cancel_futures=True)


def compile_stale(units: list[Unit]) -> int:
    """Makes what is not current: first what nothing else goes into, then what is made of that. Returns how many."""
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    made = 0
    for late in (False, True):
        stale = [unit for unit in units if bool(unit.needs) == late and not is_current(unit)]
        compile_all(stale, threads)
        made += len(stale)
    return made


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Builds in one folder take turns."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def replace_file(source: str | Path, target: Path) -> None:
    """Puts a copy of source in target's place in one step."""
    partial = target.with_name(target.name + ".partial")
    shutil.copy2(source, partial)
    os.replace(partial, target)
