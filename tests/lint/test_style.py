"""The house's habits that a machine can check."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PATTERNS = ("csrc/**/*.[ch]", "wanoffload/**/*.py", "wanoffload/**/*.pyi", "tests/**/*.py", "benchmarks/**/*.py")
PATTERNS += ("tools/**/*.py", "build_tools/*.py", "setup.py", "csrc/Makefile", "csrc/*.mk", "tests/cuda/**/*.[ch]")
PATTERNS += ("csrc/**/*.cu", "csrc/**/*.cuh")
LONGEST_FILE = 500


def files(root: Path) -> list[Path]:
    found = [path for pattern in PATTERNS for path in root.glob(pattern)]
    return [path for path in found if "build" not in path.relative_to(root).parts[:2]]


def test_ruff_finds_nothing(root: Path) -> None:
    beside = Path(sys.executable).parent / "ruff"
    ruff = str(beside) if beside.exists() else shutil.which("ruff")
    if ruff is None:
        pytest.skip("ruff is not installed")
    done = subprocess.run([ruff, "check", "--no-cache", str(root)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_file_is_too_long(root: Path) -> None:
    lengths = {str(path.relative_to(root)): len(path.read_text().splitlines()) for path in files(root)}
    assert len(lengths) > 100
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


def test_setup_stays_small(root: Path) -> None:
    assert len((root / "setup.py").read_text().splitlines()) <= 250


@pytest.mark.parametrize(
    "word",
    [
        r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b",
        r"(?<![\w./])/(home|root|work|Users)/",
        r"-ffast-math|-Ofast|-march=native",
    ],
    ids=["unfinished", "path-of-one-machine", "unsafe-flag"],
)
def test_nothing_forbidden_is_left_in_the_sources(root: Path, word: str) -> None:
    found = []
    for path in files(root):
        if path == Path(__file__).resolve():
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if re.search(word, line) and not re.search(r"[nN]ever|[nN]o -march|links crtfastmath", line):
                found.append(f"{path.relative_to(root)}:{number}: {line.strip()}")
    assert found == []


def test_headers_say_what_they_are_for(root: Path) -> None:
    headers = [path for path in root.glob("csrc/**/*.h") if "build" not in path.relative_to(root).parts[:2]]
    assert [str(path.relative_to(root)) for path in headers if not path.read_text().startswith("/* ")] == []


def test_nothing_in_c_prints_or_aborts(root: Path) -> None:
    """A library that prints or ends the process takes the choice away from its user."""
    call = re.compile(r"(?<![\w.>])(printf|fprintf|puts|perror|abort|exit|_exit)\s*\(")
    found = []
    for path in root.glob("csrc/**/*.[ch]"):
        if path.relative_to(root).parts[1] in ("tests", "build"):
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if call.search(line) and not line.lstrip().startswith(("*", "/*")):
                found.append(f"{path.relative_to(root)}:{number}: {line.strip()}")
    assert found == []
