"""The build: what is compiled for which instruction set, what a rebuild compiles, and what the package declares."""

import importlib.util
import os
import re
import stat
from importlib.resources import files
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """setup.py as a module; like a build it works from the project's folder."""
    monkeypatch.chdir(ROOT)
    pytest.importorskip("setuptools")
    spec = importlib.util.spec_from_file_location("wanoffload_setup", ROOT / "setup.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def fake_compiler(path: Path, machine: str, refuses: str) -> list[str]:
    """A compiler that knows its target and refuses one flag."""
    path.write_text(
        f'#!/bin/sh\n[ "$1" = -dumpmachine ] && echo {machine} && exit\n'
        f'for flag; do [ "$flag" = {refuses} ] && echo "unrecognized option {refuses}" >&2 && exit 1; done\nexit 0\n'
    )
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return [str(path)]


def test_a_set_that_the_compiler_refuses_is_skipped_with_the_reason(build: ModuleType, tmp_path: Path) -> None:
    sets = build.probe_isas(fake_compiler(tmp_path / "cc", "x86_64-linux-gnu", "-mamx-tile"))
    assert {isa.name for isa in sets if not isa.refusal} == {"generic", "avx2", "avx512", "avx512_bf16"}
    assert "unrecognized option -mamx-tile" in sets[-1].refusal


def test_another_architecture_gets_the_plain_kernels_alone(build: ModuleType, tmp_path: Path) -> None:
    sets = build.probe_isas(fake_compiler(tmp_path / "cc", "aarch64-linux-gnu", "-mnothing"))
    assert [isa.name for isa in sets if not isa.refusal] == ["generic"]
    assert all("aarch64" in isa.refusal for isa in sets[1:])


def test_kernels_are_compiled_once_per_set_and_nothing_else_is(build: ModuleType, tmp_path: Path) -> None:
    sets = build.read_isas(Path("csrc/isas.mk"))
    units = build.plan_units(["cc"], sets, tmp_path)
    kernels = list(Path("csrc/device/cpu/kernels").glob("*.c"))
    others = [path for path in build.core_sources() if path not in kernels]
    assert len(units) == len(others) + len(sets) * len(kernels)
    assert len({unit.target for unit in units}) == len(units)
    for unit in units:
        tags = [flag for flag in unit.command if flag.startswith("-DWO_ISA_TAG=")]
        assert len(tags) == (unit.source in kernels)
        vectors = [flag for flag in unit.command if re.match(r"-m(avx|amx|fma|f16c)", flag)]
        assert not vectors or unit.source in kernels
        assert "-ffp-contract=off" in unit.command and "-Werror" not in unit.command


def test_the_makefile_builds_with_the_same_warnings(build: ModuleType) -> None:
    line = re.search(r"^WARN := (.*)$", (ROOT / "csrc/Makefile").read_text(), re.MULTILINE)
    assert line is not None
    assert line[1].split() == [*build.WARNINGS, "-Werror"]


@pytest.fixture
def unit(build: ModuleType, tmp_path: Path) -> object:
    (tmp_path / "a.h").write_text("enum { A = 1 };\n")
    (tmp_path / "a.c").write_text('#include "a.h"\nint a(void);\nint a(void) { return A; }\n')
    target = tmp_path / "out/a.o"
    command = ("cc", "-MMD", "-MF", str(target.with_suffix(".d")), "-c", str(tmp_path / "a.c"), "-o")
    return build.Unit(tmp_path / "a.c", target, command)


def test_a_rebuild_compiles_only_what_changed(build: ModuleType, unit, tmp_path: Path) -> None:
    assert not build.is_current(unit)
    assert build.compile_unit(unit) == ""
    assert build.is_current(unit)
    later = unit.target.stat().st_mtime + 10
    os.utime(tmp_path / "a.h", (later, later))
    assert not build.is_current(unit)
    build.compile_unit(unit)
    os.utime(unit.target, (later + 10, later + 10))
    assert build.is_current(unit)
    assert not build.is_current(build.Unit(unit.source, unit.target, (*unit.command[:-1], "-O2", "-o")))
    (tmp_path / "a.h").unlink()
    assert not build.is_current(unit)


def test_a_failed_compilation_says_what_and_is_tried_again(build: ModuleType, unit, tmp_path: Path) -> None:
    build.compile_unit(unit)
    (tmp_path / "a.c").write_text("int a(void) { return B; }\n")
    with pytest.raises(build.CompileError, match="a.c.*(?s:.*)B"):
        build.compile_unit(unit)
    assert not build.is_current(unit)


def fake_nvcc(folder: Path, version: str, codes: str, works: bool = True) -> dict[str, str]:
    """An environment with a compiler of kernels that knows its version and targets, and no other."""
    path = folder / "nvcc"
    path.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo "release {version}, V{version}.1" && exit\n'
        f'[ "$1" = --list-gpu-code ] && echo "{codes}" && exit\n'
        + ("exit 0\n" if works else 'echo "unsupported host compiler" >&2; exit 1\n')
    )
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return {"NVCC": str(path), "PATH": os.environ["PATH"]}


def test_kernels_are_built_for_each_card_that_nvcc_knows(build: ModuleType, tmp_path: Path) -> None:
    kernels = build.cuda.probe(fake_nvcc(tmp_path, "12.6", "sm_75 sm_80 sm_86 sm_89 sm_90"))
    assert kernels.codes == ("80", "86", "89", "90") and kernels.refusal == ""
    units = build.cuda.plan_units(kernels, tmp_path)
    assert {unit.source.stem for unit in units} == {path.stem for path in Path("csrc/device/cuda/kernels").glob("*.cu")}
    for unit in units:
        assert "arch=compute_80,code=[sm_80,compute_80]" in unit.command
        assert "arch=compute_86,code=sm_86" in unit.command
        assert "arch=compute_90,code=[sm_90,compute_90]" in unit.command
    assert "-DWO_CUDA_BUILT_WITH=12000" in build.cuda.embedding_flags(kernels, units)


@pytest.mark.parametrize(
    ("version", "codes", "works", "reason"),
    [
        ("12.3", "sm_80", True, "12.4 or newer"),
        ("13.0", "sm_200", True, "knows none of"),
        ("13.0", "sm_80", False, "unsupported host compiler"),
    ],
)
def test_an_nvcc_that_cannot_do_it_is_a_reason_and_with_on_an_error(
    build: ModuleType, tmp_path: Path, version: str, codes: str, works: bool, reason: str
) -> None:
    env = fake_nvcc(tmp_path, version, codes, works)
    assert reason in build.cuda.probe(env).summary
    assert build.cuda.plan_units(build.cuda.probe(env), tmp_path) == []
    with pytest.raises(build.CompileError, match=reason):
        build.cuda.probe({**env, "WANOFFLOAD_CUDA": "on"})


def test_kernels_can_be_left_out_and_a_mistyped_switch_is_an_error(build: ModuleType, tmp_path: Path) -> None:
    env = fake_nvcc(tmp_path, "13.0", "sm_80")
    assert build.cuda.probe({**env, "WANOFFLOAD_CUDA": "off"}).refusal == "WANOFFLOAD_CUDA=off"
    with pytest.raises(build.CompileError, match="none of auto, on, off"):
        build.cuda.probe({**env, "WANOFFLOAD_CUDA": "yes"})


def test_the_table_of_images_is_made_anew_when_a_kernel_was(build: ModuleType, tmp_path: Path) -> None:
    source, kernel, target = tmp_path / "a.c", tmp_path / "a.fatbin", tmp_path / "out/a.o"
    source.write_text("int a;\n")
    kernel.write_text("1")
    command = ("cc", "-MMD", "-MF", str(target.with_suffix(".d")), "-c", str(source), "-o")
    unit = build.Unit(source, target, command, (kernel,))
    build.compile_unit(unit)
    assert build.is_current(unit)
    later = target.stat().st_mtime + 10
    os.utime(kernel, (later, later))
    assert not build.is_current(unit)


def test_the_files_of_the_package_are_there() -> None:
    package = files("wanoffload")
    wanted = ["py.typed", "_core.pyi", "demo_model/model_index.json", "demo_model/tokenizer/tokenizer.json"]
    assert [name for name in wanted if not package.joinpath(name).is_file()] == []


def test_the_references_are_pinned() -> None:
    """Parity is a statement about one version of the peers."""
    text = (ROOT / "pyproject.toml").read_text()
    assert '"torch==2.13.0"' in text and '"diffusers==0.42.1"' in text
