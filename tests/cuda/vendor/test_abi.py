"""What is declared of the driver and the vendor's libraries, without their headers, is what their headers declare."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from cuda.vendor.planning import CSRC, HERE, NEEDED
from expected import missing
from fake_card import find_nvcc

from wanoffload.cuda_libraries import library_folders

# The table of entry points, the header that declares it here, and the headers that declare them there.
TABLES = {
    "wo_cuda_driver": ("WO_CU_ENTRY_LIST", "driver.h", ("cuda.h",)),
    "wo_lt_api": ("WO_LT_ENTRY_LIST", "vendor_abi.h", ("cublasLt.h",)),
    "wo_dnn_api": ("WO_DNN_ENTRY_LIST", "vendor_abi.h", ("cudnn.h",)),
    "wo_nvrtc_api": ("WO_NVRTC_ENTRY_LIST", "vendor_abi.h", ("nvrtc.h",)),
}


@pytest.fixture(scope="module")
def flags() -> list[str]:
    """Where the headers are, for a compiler."""
    folders = [Path(folder).parent / "include" for folder in library_folders()]
    toolkits = [Path(nvcc).resolve().parents[1] for nvcc in [find_nvcc()] if nvcc] + [Path("/usr/local/cuda")]
    folders += [toolkit / "include" for toolkit in toolkits]
    for name in ("cuda.h", "cublasLt.h", "cudnn.h", "nvrtc.h", "crt/host_defines.h"):
        if not any((folder / name).is_file() for folder in folders):
            reason = f"{name} is not installed; it comes with the CUDA toolkit and pip install {' '.join(NEEDED)}"
            missing("cuda-libraries", reason)
    if shutil.which("g++") is None:
        missing("cuda-libraries", "g++ is not installed")
    return ["-fsyntax-only", "-Wall", f"-I{CSRC}", *(f"-isystem{folder}" for folder in folders if folder.is_dir())]


@pytest.mark.parametrize("source", ["driver_abi.c", "vendor_abi.c"])
def test_a_constant_or_a_layout_is_another(flags: list[str], source: str) -> None:
    done = subprocess.run(["gcc", "-std=c11", *flags, str(HERE / source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def entries(table: str) -> list[tuple[str, str]]:
    """Name and symbol of each row of a table of entry points."""
    list_name, header, _ = TABLES[table]
    text = (CSRC / "device/cuda" / header).read_text()
    rows = re.search(rf"#define {list_name}\(X\)(.*?[^\\])\n", text, re.DOTALL)
    assert rows is not None
    return re.findall(r'X\((\w+),\s*"(\w+)"', rows[1])


def compare(flags: list[str], table: str, rows: list[tuple[str, str]]) -> subprocess.CompletedProcess[str]:
    _, header, theirs = TABLES[table]
    source = ['#include "same_abi.hpp"', f'extern "C" {{\n#include "device/cuda/{header}"\n}}']
    source += [f"#include <{name}>" for name in theirs]
    source += [f"SAME_CALL({table}::{name}, {symbol});" for name, symbol in rows]
    command = ["g++", "-std=c++17", *flags, f"-I{HERE}", "-x", "c++", "-"]
    return subprocess.run(command, input="\n".join(source) + "\n", capture_output=True, text=True)


@pytest.mark.parametrize("table", TABLES)
def test_an_entry_point_is_declared_otherwise(flags: list[str], table: str) -> None:
    rows = entries(table)
    assert len(rows) > (30 if table == "wo_cuda_driver" else 0)
    done = compare(flags, table, rows)
    assert done.returncode == 0, done.stderr


def test_a_difference_would_be_seen(flags: list[str]) -> None:
    for name, symbol in (("memory_alloc", "cuMemFree_v2"), ("copy_async", "cuMemsetD8Async"), ("launch", "cuInit")):
        done = compare(flags, "wo_cuda_driver", [(name, symbol)])
        assert done.returncode != 0 and f"{symbol} is declared otherwise" in done.stderr
