"""Checkpoints that somebody made up: whatever the bytes say, a store opens inside the file or says what is wrong.

The rules of the format are written here a second time, in Python and as plainly as possible (`complaint`), and for
random headers the core must take exactly those that these rules take.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from wanoffload._core import Store
from wanoffload.errors import CheckpointError

BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8}
BITS |= {"U64": 64, "U32": 32, "U16": 16, "C64": 64, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F6_E2M3": 6, "F4": 4}
USABLE = {"F64", "F32", "F16", "BF16", "F8_E4M3"}
DATA_BYTES = 64
FUZZ = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder. Examples of one test share it and overwrite its files."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def write(path: Path, header: bytes, data: int = DATA_BYTES) -> Path:
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(range(data)))
    return path


def opened(path: Path) -> Store | None:
    """The store, or None where it was refused with a message that names the file."""
    try:
        return Store(path)
    except CheckpointError as error:
        assert str(path) in str(error) and len(str(error)) > len(str(path)) + 10
        return None


def assert_inside(store: Store) -> None:
    """No entry points outside its file, and shape, dtype and bytes of each usable one agree."""
    names = [entry["name"] for entry in store.entries()]
    assert names == sorted(set(names), key=lambda name: name.encode())
    for entry in store.entries():
        size = os.stat(entry["file"]).st_size
        assert 8 <= entry["offset"] <= entry["offset"] + entry["bytes"] <= size
        if entry["skipped"] is None:
            width = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1}[entry["dtype"]]
            assert math.prod(entry["shape"]) * width == entry["bytes"]


def is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64


def complaint(header: Any, room: int) -> str | None:
    """What is wrong with a parsed header by the rules of the format, or None."""
    spans = []
    for name, value in header.items():
        if name == "__metadata__":
            continue
        if not isinstance(value, dict) or not {"dtype", "shape", "data_offsets"} <= value.keys():
            return "fields"
        dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
        if not isinstance(dtype, str) or not isinstance(shape, list) or not all(map(is_count, shape)):
            return "dtype or shape"
        if math.prod(size for size in shape if size) > (2**63 - 1) // 8:
            return "too large"
        if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(is_count, offsets)):
            return "offsets"
        begin, end = offsets
        if not begin <= end <= room:
            return "range"
        if dtype in BITS and math.prod(shape) * BITS[dtype] != (end - begin) * 8:
            return "span"
        spans.append((begin, end))
    spans = sorted(span for span in spans if span[0] < span[1])
    return "overlap" if any(a[1] > b[0] for a, b in zip(spans, spans[1:], strict=False)) else None


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
dtypes = st.sampled_from(sorted(BITS)) | st.sampled_from(["F8", "f32", "", "Q4_K"])


@st.composite
def good_headers(draw: st.DrawFn) -> dict[str, Any]:
    """Tensors side by side, perhaps with holes between them."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}} if draw(st.booleans()) else {}
    at = 0
    for name in draw(st.lists(names.filter(lambda name: name != "__metadata__"), max_size=6, unique=True)):
        dtype = draw(st.sampled_from(sorted(BITS)))
        shape = draw(st.lists(st.integers(0, 3), max_size=6))
        bits = math.prod(shape) * BITS[dtype]
        begin, end = at, at + bits // 8
        if bits % 8 or end > DATA_BYTES:
            continue
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
        at = min(end + draw(st.integers(0, 3)), DATA_BYTES)
    return header


odd_numbers = st.sampled_from([-1, 0, 1, 7, 63, 64, 65, 2**31, 2**32, 2**61, 2**63 - 1, 2**64 - 1, 2**64, 10**30])
odd_values = st.recursive(
    st.none() | st.booleans() | odd_numbers | st.floats(allow_nan=False, allow_infinity=False) | names | dtypes,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def odd_headers(draw: st.DrawFn) -> dict[str, Any]:
    """A good header of which up to three things are replaced by something else."""
    header = draw(good_headers())
    for _ in range(draw(st.integers(1, 3))):
        if not header:
            break
        name = draw(st.sampled_from(sorted(header)))
        value = header[name]
        kind = draw(st.sampled_from(["number", "shift", "number", "shift", "field", "drop", "extra", "tensor"]))
        if kind == "tensor" or not isinstance(value, dict) or not value:
            header[name] = draw(odd_values)
            continue
        field = draw(st.sampled_from(sorted(value)))
        if kind == "shift" and isinstance(value.get("data_offsets"), list):
            by = draw(st.integers(-8, 8))
            value["data_offsets"] = [n + by if is_count(n) else n for n in value["data_offsets"]]
        elif kind == "number" and isinstance(value[field], list) and value[field]:
            place = draw(st.integers(0, len(value[field]) - 1))
            value[field][place] = draw(odd_numbers | st.integers(0, 70))
        elif kind == "drop":
            del value[field]
        elif kind == "extra":
            value[draw(names)] = draw(odd_values)
        else:
            value[field] = draw(odd_values)
    return header


def encode(header: dict[str, Any], ascii_only: bool, indent: int | None) -> bytes:
    return json.dumps(header, ensure_ascii=ascii_only, indent=indent).encode()


@FUZZ
@given(header=good_headers(), ascii_only=st.booleans(), indent=st.none() | st.integers(0, 3), padding=st.integers(0, 9))
def test_every_good_header_is_read_as_it_says(
    folder: Path, header: dict[str, Any], ascii_only: bool, indent: int | None, padding: int
) -> None:
    text = encode(header, ascii_only, indent) + b" " * padding
    store = Store(write(folder / "good.safetensors", text))
    assert_inside(store)
    tensors = {name: value for name, value in header.items() if name != "__metadata__"}
    assert {entry["name"] for entry in store.entries()} == set(tensors)
    for entry in store.entries():
        wanted = tensors[entry["name"]]
        assert list(entry["shape"]) == wanted["shape"][:5]
        assert entry["offset"] == 8 + len(text) + wanted["data_offsets"][0]
        assert entry["bytes"] == wanted["data_offsets"][1] - wanted["data_offsets"][0]
        assert (entry["skipped"] is None) == (wanted["dtype"] in USABLE and len(wanted["shape"]) <= 5)


@FUZZ
@given(header=odd_headers(), ascii_only=st.booleans())
def test_odd_headers_are_taken_exactly_when_the_rules_of_the_format_take_them(
    folder: Path, header: dict[str, Any], ascii_only: bool
) -> None:
    store = opened(write(folder / "odd.safetensors", encode(header, ascii_only, None)))
    assert (store is not None) == (complaint(header, DATA_BYTES) is None)
    if store is not None:
        assert_inside(store)


@FUZZ
@given(
    header=good_headers(),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=3), st.integers(0, 3)), max_size=4),
    cut=st.none() | st.floats(0, 1),
)
def test_edited_and_cut_files_open_inside_or_not_at_all(
    folder: Path, header: dict[str, Any], edits: list[tuple[float, bytes, int]], cut: float | None
) -> None:
    path = write(folder / "edited.safetensors", encode(header, True, None))
    content = bytearray(path.read_bytes())
    for where, new, dropped in edits:
        place = int(where * len(content))
        content[place : place + dropped] = new
    path.write_bytes(content if cut is None else content[: int(cut * len(content))])
    store = opened(path)
    if store is not None:
        assert_inside(store)


@FUZZ
@given(content=st.binary(max_size=200))
def test_random_bytes_are_no_checkpoint_and_no_crash(folder: Path, content: bytes) -> None:
    path = folder / "random.safetensors"
    path.write_bytes(content)
    store = opened(path)
    if store is not None:
        assert_inside(store)


@FUZZ
@given(
    arrays=st.dictionaries(
        st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20),
        st.tuples(st.sampled_from(["float64", "float32", "float16"]), st.lists(st.integers(0, 4), max_size=5)),
        max_size=5,
    )
)
def test_files_of_the_safetensors_library_open(folder: Path, arrays: dict[str, tuple[str, list[int]]]) -> None:
    arrays.pop("__metadata__", None)
    tensors = {name: np.zeros(shape, dtype) for name, (dtype, shape) in arrays.items()}
    save_file(tensors, folder / "saved.safetensors")
    store = Store(folder / "saved.safetensors")
    assert_inside(store)
    found = {entry["name"]: (entry["dtype"], list(entry["shape"])) for entry in store.entries()}
    assert found == {name: (dtype, shape) for name, (dtype, shape) in arrays.items()}


shards = st.sampled_from(["a.safetensors", "b.safetensors", "missing.safetensors", "broken.safetensors"])
outside = st.sampled_from(
    ["../outside.safetensors", "link/outside.safetensors", "sub/inner.safetensors", "/etc/passwd"]
)
strange = st.sampled_from(["..", ".", "", "..\\x", "sub"]) | odd_values


@FUZZ
@given(weight_map=st.dictionaries(st.sampled_from(["one", "two", "three"]), shards | outside | strange, max_size=3))
def test_an_index_opens_only_what_is_there_and_only_beside_itself(folder: Path, weight_map: dict[str, Any]) -> None:
    inner = folder / "model"
    (inner / "sub").mkdir(parents=True, exist_ok=True)
    if not (inner / "link").is_symlink():
        (inner / "link").symlink_to(folder)
    tensor = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    for path, name in [("model/a", "one"), ("model/b", "two"), ("model/sub/inner", "one"), ("outside", "one")]:
        write(folder / f"{path}.safetensors", encode({name: tensor}, True, None))
    (inner / "broken.safetensors").write_bytes(b"short")
    index = inner / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    right = {"one": "a.safetensors", "two": "b.safetensors"}
    if weight_map and all(right.get(name, 0) == shard for name, shard in weight_map.items()):
        store = Store(inner)
        assert_inside(store)
        assert {Path(file).parent for file in store.files} == {inner}
        assert {entry["name"] for entry in store.entries()} == set(weight_map)
        return
    with pytest.raises((CheckpointError, OSError)) as caught:
        Store(inner)
    if isinstance(caught.value, OSError):
        missing = Path(caught.value.filename)
        assert missing.parent == inner and not missing.exists() and missing.name in weight_map.values()
