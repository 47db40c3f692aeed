"""The fake card for Python: a libcuda.so.1 that runs the kernels' PTX on the CPU, made by `make -C csrc fakecuda`.

A card is looked for once in a process, so whoever wants this one runs in a process of its own that finds it.
WANOFFLOAD_FAKECUDA names the OUT of that build where it is not csrc/build/none.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from expected import missing

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class FakeCard:
    """Where the build is, and how to run something on it."""

    out: Path

    def make(self, *targets: str) -> None:
        command = ["make", "-s", "-C", str(ROOT / "csrc"), f"-j{os.cpu_count() or 1}", f"OUT={self.out}", *targets]
        self.out.mkdir(parents=True, exist_ok=True)
        with open(self.out / "lock", "w") as lock:  # test processes may share the folder
            fcntl.flock(lock, fcntl.LOCK_EX)
            done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]

    def run(self, *command: object, **environment: object) -> subprocess.CompletedProcess[str]:
        """Runs a command that finds the fake card; environment: further variables, such as FAKECUDA_SEED."""
        import wanoffload

        paths = {
            "LD_LIBRARY_PATH": str(self.out / "fakecuda"),
            "PYTHONPATH": os.pathsep.join([str(Path(wanoffload.__file__).parents[1]), str(ROOT / "tests")]),
        }
        extra = {name: str(value) for name, value in environment.items()}
        return subprocess.run(
            list(map(str, command)), capture_output=True, text=True, env={**os.environ, **paths, **extra}
        )

    def work(self, task: dict[str, Any], **environment: object) -> dict[str, Any]:
        """Gives a task to tests/cuda/worker.py and returns what it prints."""
        done = self.run(sys.executable, ROOT / "tests/cuda/worker.py", json.dumps(task), **environment)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return json.loads(done.stdout.splitlines()[-1])

    def python(self, code: str, **environment: object) -> str:
        """Runs code, which must not misuse the card, and returns what it prints."""
        done = self.run(sys.executable, "-c", textwrap.dedent(code), **environment)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        assert "fakecuda:" not in done.stderr, f"the card was misused: {done.stderr}"
        return done.stdout


def find_nvcc() -> str | None:
    home = os.environ.get("CUDA_HOME", "")
    places = [os.environ.get("NVCC", ""), f"{home}/bin/nvcc" if home else "", "nvcc", "/usr/local/cuda/bin/nvcc"]
    return next((found for place in places if place and (found := shutil.which(place))), None)


@pytest.fixture(scope="session")
def card() -> FakeCard:
    """The fake card with the kernels of this checkout."""
    for tool in ("make", "gcc"):
        if shutil.which(tool) is None:
            missing("fake-card", f"{tool} is not installed")
    if find_nvcc() is None:
        missing("fake-card", "nvcc is not installed, and the fake card runs what it makes of the kernels")
    card = FakeCard(Path(os.environ.get("WANOFFLOAD_FAKECUDA") or ROOT / "csrc/build/none").resolve())
    card.make("fakecuda")
    return card


@pytest.fixture(scope="session")
def built_card(card: FakeCard) -> FakeCard:
    """The same where the installed module carries kernels, without which no card can be opened."""
    done = card.run(sys.executable, "-c", "from wanoffload import _core; _core.Engine('cuda')")
    if "has no CUDA kernels" in done.stderr:
        missing("fake-card", "this build of wanoffload has no CUDA kernels, for it was made without nvcc")
    assert done.returncode == 0, done.stderr[-4000:]
    return card
