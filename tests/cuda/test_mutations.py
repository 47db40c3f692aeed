"""A kernel that is broken on purpose fails its tests on the fake card: a check that cannot fail proves nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cuda.mutations import EDITS, NEEDLESS, TESTS, Cut, Edit, apply, cuts
from fake_card import ROOT, FakeCard, find_nvcc

KERNELS = ROOT / "csrc/device/cuda/kernels"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def programs(card: FakeCard) -> FakeCard:
    """The fake card with the tests that must fail."""
    names = {test[0] for tests in TESTS.values() for test in tests} | {edit.test[0] for edit in EDITS}
    card.make("cuda-ptx", *(f"{card.out}/cuda_tests/{name}" for name in sorted(names)))
    return card


def survives(card: FakeCard, folder: Path, tests: Sequence[Sequence[str]]) -> bool:
    """Whether all of the tests pass on the kernels that the folder has instead."""
    for test in tests:
        done = card.run(card.out / "cuda_tests" / test[0], *test[1:], FAKECUDA_PTX=folder)
        assert done.returncode != 2, f"{' '.join(test)} tries nothing"
        if done.returncode != 0:
            return False
    return True


def survivors(mutations: Sequence[Cut] | Sequence[Edit], try_one: Callable[[Cut | Edit], bool]) -> list[str]:
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        alive = list(pool.map(try_one, mutations))
    return [mutation.name for mutation, survived in zip(mutations, alive, strict=True) if survived]


def test_every_barrier_and_every_wait_is_missed(programs: FakeCard, tmp_path: Path) -> None:
    ptx = {path.stem: path.read_text() for path in (programs.out / "cuda/compute_80").glob("*.ptx")}
    mutations = [cut for module in sorted(ptx) for cut in cuts(module, ptx[module])]
    assert len(mutations) > 40

    def try_one(cut: Cut) -> bool:
        folder = tmp_path / str(mutations.index(cut))
        folder.mkdir()
        (folder / f"{cut.module}.ptx").write_text(apply(cut, ptx[cut.module]))
        survived = survives(programs, folder, cut.tests)
        shutil.rmtree(folder)
        return survived

    left = survivors(mutations, try_one)
    assert [name for name in left if not name.startswith(tuple(NEEDLESS))] == []
    assert len(left) == len(NEEDLESS)


def mutated_ptx(edit: Edit, folder: Path) -> Path:
    """PTX of the edit's module with the edit in it; other modules stay as they are."""
    sources = folder / "device/cuda/kernels"
    shutil.copytree(KERNELS, sources)
    text = (sources / edit.file).read_text()
    assert text.count(edit.before) == 1, f"'{edit.before}' is there {text.count(edit.before)} times: {edit.name}"
    (sources / edit.file).write_text(text.replace(edit.before, edit.after))
    target = folder / "ptx" / f"{edit.module}.ptx"
    target.parent.mkdir()
    flags = ["-std=c++17", "-O3", "-arch=compute_80", "-ptx", f"-I{folder}", f"-I{ROOT / 'csrc'}"]
    command = [find_nvcc(), *flags, str(sources / f"{edit.module}.cu"), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{edit.name}\n{done.stderr}"
    return target.parent


def test_every_edit_of_an_index_or_a_bound_is_noticed(programs: FakeCard, tmp_path: Path) -> None:
    def try_one(edit: Edit) -> bool:
        folder = tmp_path / str(EDITS.index(edit))
        survived = survives(programs, mutated_ptx(edit, folder), edit.tests)
        shutil.rmtree(folder)
        return survived

    assert survivors(EDITS, try_one) == []


def test_the_table_names_every_kernel() -> None:
    """A new kernel gets its rows here: every module but that of one line has edits."""
    assert {path.stem for path in KERNELS.glob("*.cu")} - {edit.module for edit in EDITS} == {"stamp"}
