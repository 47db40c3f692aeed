"""Folder = layer: includes point only downwards."""

import re
from pathlib import Path

import pytest

# What each layer may include besides itself. device/ and ops/ know nothing of files, base/ of nothing at all.
MAY_INCLUDE = {
    "base": set(),
    "store": {"base"},
    "device": {"base"},
    "ops": {"base", "device"},
    "offload": {"base", "store", "device", "ops"},
    "model": {"base", "store", "device", "ops", "offload"},
    "python": {"base", "store", "device", "ops", "offload", "model"},
}
# The face of a device towards the layers above it; every other header in its folder is its own.
DEVICE_FACES = {"device/cpu/cpu.h", "device/cuda/cuda.h", "device/dry/dry.h"}


def includes(path: Path) -> list[tuple[str, str]]:
    """(delimiter, name) of every #include of a file."""
    return re.findall(r'^\s*#\s*include\s*(["<])([^">]+)[">]', path.read_text(), re.MULTILINE)


def sources(root: Path) -> dict[str, Path]:
    """Path below csrc/ -> file, for every C file of a layer."""
    found = [path for path in (root / "csrc").glob("**/*.[ch]")]
    names = {path.relative_to(root / "csrc").as_posix(): path for path in found}
    return {name: path for name, path in names.items() if name.split("/")[0] in MAY_INCLUDE}


def test_the_graph_is_looked_at(root: Path) -> None:
    files = sources(root)
    assert {name.split("/")[0] for name in files} == set(MAY_INCLUDE)
    assert sum(len(includes(path)) for path in files.values()) > 200


def test_includes_point_only_downwards(root: Path) -> None:
    wrong = []
    for name, path in sources(root).items():
        layer = name.split("/")[0]
        for delimiter, target in includes(path):
            if delimiter == '"' and target.split("/")[0] not in MAY_INCLUDE[layer] | {layer}:
                wrong.append(f"{name} includes {target}")
    assert wrong == []


def test_quoted_includes_name_files_from_csrc(root: Path) -> None:
    wrong = []
    for name, path in sources(root).items():
        for delimiter, target in includes(path):
            if delimiter == '"' and not (root / "csrc" / target).is_file():
                wrong.append(f"{name} includes {target}")
    assert wrong == []


def test_only_the_registry_and_a_device_itself_see_its_insides(root: Path) -> None:
    wrong = []
    for name, path in sources(root).items():
        for delimiter, target in includes(path):
            inside = re.match(r"device/\w+/", target)
            if delimiter == '"' and inside and target not in DEVICE_FACES and not name.startswith(inside[0]):
                if name != "device/registry.c":
                    wrong.append(f"{name} includes {target}")
    assert wrong == []


def test_kernels_see_no_streams_and_no_engine(root: Path) -> None:
    allowed = ("device/cpu/kernels/", "device/cpu/kernels.h", "device/op_args.h", "base/")
    wrong = []
    for name, path in sources(root).items():
        if name.startswith("device/cpu/kernels/"):
            wrong += [f"{name} includes {t}" for d, t in includes(path) if d == '"' and not t.startswith(allowed)]
    assert wrong == []


@pytest.mark.parametrize(
    ("pattern", "place"), [("Python.h", re.compile(r"^python/")), ("numpy/", re.compile(r"^python/arrays\.c$"))]
)
def test_python_and_numpy_stay_in_their_place(root: Path, pattern: str, place: re.Pattern[str]) -> None:
    users = [name for name, path in sources(root).items() for _, target in includes(path) if target.startswith(pattern)]
    assert users, f"nobody includes {pattern}"
    assert [name for name in users if not place.match(name)] == []
