"""A score must be what was filmed, counted rightly."""

import json
import random
from pathlib import Path

import evaluate
import numpy as np
import pytest
from PIL import Image
from prompts import Task, tasks
from shapes import render, sample_like


def film_truth(prompts: list[str], seeds: list[int], stills: list[Image.Image]) -> np.ndarray:
    """A camera that films what the prompts of tasks(12, 4) ask for."""
    labels = {task.prompt: task.label for task in tasks(12, 4)}
    clips = [
        sample_like(random.Random(evaluate.STILL_SEED + seed), labels[prompt])
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    return (render(clips).transpose(0, 2, 3, 4, 1) + 1) / 2


def outcomes(wanted: list[Task]) -> list[evaluate.Outcome]:
    return list(evaluate.film(film_truth, wanted, batch=5))


def rows(text: str) -> dict[str, list[str]]:
    return {line[:12].strip(): line[12:].split() for line in text.splitlines()}


def test_rendered_truth_does_not_get_the_full_score(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(evaluate.CAMERAS, "diffusers", lambda options: film_truth)
    picture = tmp_path / "sheet.png"
    command = ["--peer", "diffusers", "--prompts", "12", "--held-out", "4", "--sheet", str(picture)]
    assert evaluate.main(command) == 0
    printed = capsys.readouterr().out
    assert "miss:" not in printed
    for quality in (*evaluate.QUALITIES, "all four"):
        assert rows(printed)[quality] == ["100.0", "%", "8/8", "4/4"]
    assert Image.open(picture).size == (2 * (5 * 96 + 8), 6 * (96 + 16))


def test_a_miss_is_counted_as_right() -> None:
    wanted = tasks(12, 4)
    filmed = outcomes(wanted)
    # The first prompt, a held-out one, is filmed backwards; the last shows what the one before it asks for.
    filmed[0] = evaluate.Outcome(wanted[0], filmed[0].frames[::-1], evaluate.measure(filmed[0].frames[::-1]))
    filmed[-1] = evaluate.Outcome(wanted[-1], filmed[-2].frames, filmed[-2].seen)
    assert wanted[0].label.action in ("right", "left")
    counted = rows(evaluate.table(filmed))
    assert counted["action"][2:] == ["7/8", "3/4"] and counted["colour"][2:] == ["7/8", "4/4"]
    assert counted["background"][2:] == ["7/8", "4/4"] and counted["all four"] == ["83.3", "%", "7/8", "3/4"]


def test_seeds_depend_on_the_size_of_batches() -> None:
    used: list[int] = []

    def camera(prompts: list[str], seeds: list[int], stills: list[Image.Image]) -> np.ndarray:
        used.extend(seeds)
        assert stills == []
        return film_truth(prompts, seeds, stills)

    list(evaluate.film(camera, tasks(12, 4)[:7], batch=3))
    assert used == list(range(7))


def test_a_film_is_compared_with_another_still_than_it_was_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "WanImageToVideoPipeline"}))
    given: list[Image.Image] = []

    def camera(prompts: list[str], seeds: list[int], stills: list[Image.Image]) -> np.ndarray:
        given.extend(stills)
        return film_truth(prompts, seeds, stills)

    monkeypatch.setitem(evaluate.CAMERAS, "diffusers", lambda options: camera)
    command = ["--model", str(tmp_path), "--peer", "diffusers", "--prompts", "12", "--held-out", "4"]
    assert evaluate.main(command) == 0
    printed = capsys.readouterr().out
    assert rows(printed)["all four"] == ["100.0", "%", "8/8", "4/4"]
    # Only the rounding to 8 bits is between them: 10 log10(12 * 255 ** 2) = 59 dB.
    line = printed.split("first frame and still: ")[1].splitlines()[0]
    mean, worst = (float(word) for word in line.split() if word[0].isdigit())
    assert 55 < worst <= mean < 65
    assert [still.size for still in given] == 12 * [(96, 96)]
    filmed = film_truth([tasks(12, 4)[0].prompt], [0], [])[0]
    assert evaluate.likeness(filmed[-1], given[0]) < 30


def test_errors_of_measuring_are_not_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main(["--truth", "8"]) == 0
    assert "errors on 8 clips: colour 0, shape 0, action 0, background 0" in capsys.readouterr().out
    monkeypatch.setattr(evaluate, "measure", lambda frames: evaluate.Measurement("sky"))
    assert evaluate.main(["--truth", "8"]) == 1


@pytest.mark.parametrize("command", [["--vae", "x"], ["--prompts", "3", "--held-out", "4"], ["--peer", "other"]])
def test_options_that_mean_nothing_are_taken(command: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        evaluate.main(command)
    assert stopped.value.code == 2
