"""Every shape of every published model has a plan on every card that is promised, and each is the plan that was
accepted. No card is needed: cuDNN makes plans for cards that it is told of."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from cuda.vendor.cards import CARDS, convolutions, problems
from cuda.vendor.planning import ACCEPTED, NEEDED, ask, build
from expected import missing

from wanoffload.cuda_libraries import library_folders

# What a call has for cuDNN: WO_DNN_WORKSPACE of csrc/device/cuda/cudnn.h.
WORKSPACE = 1 << 16
CHOICE = re.compile(r"engine \d+, knobs( \d+=-?\d+)*, workspace (\d+)")
SHORT = "attention 1560 1560 12 128"


@pytest.fixture(scope="module")
def folders() -> list[str]:
    found = library_folders()
    for name in ("libcudnn_graph.so.9", "libnvrtc.so.13"):
        if not any((Path(folder) / name).is_file() for folder in found):
            missing("cuda-libraries", f"{name} is not installed; pip install {' '.join(NEEDED)}")
    return found


@pytest.fixture(scope="module")
def program(folders: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        missing("cuda-libraries", "gcc is not installed")
    return build(tmp_path_factory.mktemp("plans"))


@pytest.fixture(scope="module")
def accepted() -> dict[str, object]:
    return json.loads(ACCEPTED.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", CARDS)
def test_every_plan_is_the_accepted_one(
    name: str, program: Path, folders: list[str], accepted: dict[str, object]
) -> None:
    versions, choices = ask(program, folders, CARDS[name], problems())
    if versions != accepted["libraries"]:
        reason = f"the accepted plans are of {accepted['libraries']}, but here is {versions}; pip install {NEEDED}"
        missing("cuda-libraries", reason)
    assert choices == accepted[name]


def test_accepted_plans_exist_and_stay_within_their_workspace(accepted: dict[str, object]) -> None:
    for name in CARDS:
        choices = accepted[name]
        assert isinstance(choices, dict)
        assert list(choices) == problems()
        for problem, choice in choices.items():
            found = CHOICE.fullmatch(choice)
            assert choice == "own" or (found is not None and int(found[2]) <= WORKSPACE), f"{name}, {problem}: {choice}"
            assert problem.startswith("conv") or found is not None, f"{name}: {problem} is left to own kernels"


def test_only_wide_convolutions_of_cards_with_instructions_of_their_own_are_taken(accepted: dict[str, object]) -> None:
    taken = {name: {p for p in convolutions() if accepted[name][p] != "own"} for name in CARDS}  # type: ignore[index]
    wide = {p for p in convolutions() if re.search(r"(192|384) 384 3 3 3$", p)}
    assert taken == {name: wide if card.sm == 90 else set() for name, card in CARDS.items()}


def test_a_library_that_lacks_its_parts_ends_nothing(program: Path, folders: list[str], tmp_path: Path) -> None:
    whole = next(Path(folder) for folder in folders if (Path(folder) / "libcudnn_graph.so.9").is_file())
    shutil.copy(whole / "libcudnn_graph.so.9", tmp_path)
    with pytest.raises(RuntimeError, match=r"status 1: (?s:.*)SUBLIBRARY_LOADING_FAILED"):
        ask(program, [str(tmp_path)], CARDS["rtx4090"], [SHORT])


def test_a_card_without_the_wanted_engine_has_no_plan(program: Path, folders: list[str]) -> None:
    _, choices = ask(program, folders, CARDS["rtx4090"], [SHORT], sm=90)
    assert choices[SHORT].startswith("none: the heuristic does not have the wanted engine")


def test_an_unknown_card_is_left_to_own_kernels(program: Path, folders: list[str]) -> None:
    _, choices = ask(program, folders, CARDS["rtx4090"], [SHORT], sm=75)
    assert choices == {SHORT: "own"}


def test_queries_in_portions_get_the_engine_and_knobs_of_all(program: Path, folders: list[str]) -> None:
    wanted = [f"attention {queries} 4096 12 128" for queries in (4096, 1024, 77)]
    for name in ("rtx4090", "h200", "rtx5090"):
        _, choices = ask(program, folders, CARDS[name], wanted)
        assert set(choices) == set(wanted)
        assert CHOICE.fullmatch(choices[wanted[0]])
        assert len(set(choices.values())) == 1


def test_a_kept_plan_is_taken_as_it_is_and_a_broken_one_is_made_anew(
    program: Path, folders: list[str], tmp_path: Path
) -> None:
    def plans() -> dict[Path, tuple[int, bytes]]:
        return {path: (path.stat().st_ino, path.read_bytes()) for path in (tmp_path / "wanoffload" / "cudnn").iterdir()}

    wide = "conv 3 60 104 384 384 3 3 3"
    _, made = ask(program, folders, CARDS["h200"], [SHORT, wide], disk=tmp_path)
    assert all(CHOICE.fullmatch(choice) for choice in made.values())
    kept = plans()
    assert len(kept) == 2
    assert ask(program, folders, CARDS["h200"], [SHORT, wide], disk=tmp_path)[1] == made
    assert plans() == kept
    for path, (_, text) in kept.items():
        path.write_bytes(text[:-1] + b"x")
    assert ask(program, folders, CARDS["h200"], [SHORT, wide], disk=tmp_path)[1] == made
    assert plans().keys() == kept.keys()
    assert not any(text.endswith(b"x") for _, text in plans().values())
