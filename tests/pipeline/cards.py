"""Python in a process of its own on the fake card: a libcuda.so.1 that runs the kernels' PTX on the CPU.

`make -C csrc fakecuda` builds it; WANOFFLOAD_FAKECUDA names its folder where that is not csrc/build/none/fakecuda. A
card is looked for once in a process, so whoever wants one starts a process that has it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from functools import cache
from pathlib import Path

import pytest

import wanoffload

ROOT = Path(__file__).resolve().parents[2]
_PLACES = (os.environ.get("WANOFFLOAD_FAKECUDA", ""), str(ROOT / "csrc/build/none/fakecuda"))


@cache
def folder() -> Path | None:
    """Where the fake card's library lies."""
    found = [Path(place).resolve() for place in _PLACES if place and Path(place, "libcuda.so.1").exists()]
    return found[0] if found else None


@cache
def has_kernels() -> bool:
    """Whether this build carries the kernels."""
    from wanoffload import _core

    return any("kernels: in this build" in line for line in _core.describe_device("cuda").splitlines())


def require() -> None:
    """Skips the test where there is no fake card, or no kernels to run on it; where both are expected
    (WANOFFLOAD_EXPECT=fakecuda, as in CI) it fails."""
    expected = "fakecuda" in os.environ.get("WANOFFLOAD_EXPECT", "").split(",")
    give_up = pytest.fail if expected else pytest.skip
    if folder() is None:
        give_up("no fake card: make -C csrc fakecuda, and WANOFFLOAD_FAKECUDA=FOLDER where it is built elsewhere")
    if not has_kernels():
        give_up("this build has no kernels, for it was made without nvcc")


def environment(**more: str) -> dict[str, str]:
    """That of a process with the fake card."""
    paths = [str(Path(wanoffload.__file__).parents[1]), str(ROOT / "tests")]
    return {**os.environ, "LD_LIBRARY_PATH": str(folder()), "PYTHONPATH": os.pathsep.join(paths), **more}


def run(code: str, timeout: float = 500, code_of_exit: int = 0, **more: str) -> str:
    """Runs code with the fake card; gives what it printed."""
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment(**more))
    assert done.returncode == code_of_exit, done.stdout + done.stderr
    assert "fakecuda:" not in done.stderr, f"the card was misused: {done.stderr}"
    return done.stdout
