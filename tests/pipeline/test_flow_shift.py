"""The flow shift: the configuration's is used, a differing published one is spoken of once, and "auto" applies it."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pipeline.helpers import CALL, draw_picture, edit_json, frames_of, open_pipeline, write_image_pipeline

import wanoffload.messages
from wanoffload import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler, WanPipeline
from wanoffload.pipelines import published

PLAN = {"height": 32, "width": 48, "num_frames": 5}


@pytest.mark.parametrize(
    ("kind", "two", "height", "width", "shift"),
    [
        ("text", False, 480, 832, 5.0),
        ("text", False, 1280, 720, 5.0),
        ("text", True, 720, 1280, 12.0),
        ("image", False, 480, 832, 3.0),
        ("image", False, 832, 480, 3.0),
        ("image", False, 624, 624, 3.0),
        ("image", False, 720, 1280, 5.0),
        ("image", False, 960, 960, 5.0),
        ("image", True, 480, 832, 5.0),
        ("first and last frame", False, 720, 1280, 16.0),
    ],
)
def test_the_published_shift_is_that_of_kind_and_size(
    kind: str, two: bool, height: int, width: int, shift: float
) -> None:
    assert published.published_shift(kind, two, height, width) == shift


@pytest.mark.parametrize(
    ("cls", "option"), [(UniPCMultistepScheduler, "flow_shift"), (FlowMatchEulerDiscreteScheduler, "shift")]
)
def test_auto_is_the_published_shift(cls: type, option: str, pipe: WanPipeline) -> None:
    pipe.scheduler = cls.from_config(pipe.scheduler.config, **{option: 5.0})
    expected = frames_of(pipe, "a red star", **CALL)
    sigmas = pipe.scheduler.sigmas
    pipe.scheduler = cls.from_config(pipe.scheduler.config, **{option: "auto"})
    assert pipe.scheduler.config[option] == "auto"
    assert np.array_equal(frames_of(pipe, "a red star", **CALL), expected)
    assert np.array_equal(pipe.scheduler.sigmas, sigmas) and pipe.scheduler.shift == 5.0
    assert cls.from_config(pipe.scheduler.config).shift_is_auto


def test_auto_follows_the_size_of_each_call(demo_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "AREA_480P", 32 * 48)
    monkeypatch.setattr(published, "AREA_720P", 64 * 96)
    folder = write_image_pipeline(tmp_path, demo_model, 1, num_layers=1)
    edit_json(folder / "scheduler/scheduler_config.json", flow_shift="auto")
    pipe = open_pipeline(folder, "WanImageToVideoPipeline")
    call = {**CALL, "num_frames": 1, "prompt": "a", "image": draw_picture(20, 30)}
    for size, shift in (({"height": 32, "width": 48}, 3.0), ({"height": 64, "width": 96}, 5.0)) * 2:
        frames_of(pipe, **{**call, **size})
        assert pipe.scheduler.shift == shift
        assert f"flow_shift='auto' is {shift:g}" in str(pipe.plan(**size, num_frames=1))


@pytest.mark.parametrize("cls", [UniPCMultistepScheduler, FlowMatchEulerDiscreteScheduler])
def test_auto_outside_a_pipeline_says_who_settles_it(cls: type) -> None:
    scheduler = cls(**{cls.SHIFT: "auto"})
    with pytest.raises(ValueError, match="='auto'. is settled by a pipeline.*give a number"):
        scheduler.set_timesteps(4)
    scheduler.settle_shift(3.0)
    scheduler.set_timesteps(4)
    other = cls(**{cls.SHIFT: 3.0})
    other.set_timesteps(4)
    assert np.array_equal(scheduler.sigmas, other.sigmas)
    other.settle_shift(9.0)
    assert other.shift == 3.0


def test_a_differing_shift_is_spoken_of_in_plan_and_log_once(
    pipe: WanPipeline, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wanoffload.messages, "_said", set())
    assert pipe.plan(**PLAN).notes == [], "nothing was published about a model of this width"
    config = pipe.transformer.config
    monkeypatch.setattr(published, "WIDTHS", (config.num_attention_heads * config.attention_head_dim,))
    (note,) = pipe.plan(**PLAN).notes
    assert note.startswith("flow_shift is 3.0") and "published with 5 for 48x32" in note and "flow_shift='auto'" in note
    assert note in str(pipe.plan(**PLAN)) and note in pipe.plan(**PLAN).as_dict()["notes"]
    with caplog.at_level(logging.WARNING, "wanoffload"):
        films = [frames_of(pipe, "a red star", **CALL) for _ in range(2)]
    assert [r.message for r in caplog.records] == [note] and np.array_equal(*films)
    assert pipe.scheduler.shift == 3.0, "the configuration's value is used, as in diffusers"
    pipe.scheduler = UniPCMultistepScheduler.from_config(pipe.scheduler.config, flow_shift=5.0)
    assert pipe.plan(**PLAN).notes == []


@pytest.mark.parametrize("shift", ["automatic", None, [3.0]])
def test_a_shift_that_is_neither_number_nor_auto_is_refused(shift: Any, pipe: WanPipeline) -> None:
    pipe.scheduler = UniPCMultistepScheduler.from_config(pipe.scheduler.config, flow_shift=shift)
    with pytest.raises(ValueError, match="UniPCMultistepScheduler.*schedule"):
        pipe("a red star", **CALL)
