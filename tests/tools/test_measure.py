"""What is measured must be what is there."""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from measure import measure
from shapes import ACTIONS, BACKGROUNDS, Clip, Label, render, sample


def frames_of(clip: Clip) -> np.ndarray:
    """[frames, height, width, 3] in 0..1"""
    return (render([clip])[0].transpose(1, 2, 3, 0) + 1) / 2


def label_of(frames: np.ndarray) -> Label:
    seen = measure(frames)
    return Label(seen.colour, seen.shape, seen.action, seen.background)


def test_a_rendered_clip_is_measured_wrongly() -> None:
    rng = random.Random(11)
    clips = [sample(rng, ACTIONS[i % len(ACTIONS)]) for i in range(32)]
    wrong = {clip.label: label_of(frames_of(clip)) for clip in clips}
    assert {label: seen for label, seen in wrong.items() if label != seen} == {}


@pytest.mark.parametrize(
    "action, backwards", [("right", "left"), ("up", "down"), ("grows", "shrinks"), ("bounces", "bounces")]
)
def test_the_order_of_frames_is_not_seen(action: str, backwards: str) -> None:
    frames = frames_of(sample(random.Random(2), action))
    assert measure(frames).action == action and measure(frames[::-1]).action == backwards


def test_an_action_is_seen_in_a_standing_clip() -> None:
    frames = frames_of(sample(random.Random(3), "right"))
    still = measure(np.repeat(frames[:1], len(frames), axis=0))
    assert still.action is None and still.colour is not None and still.shape is not None


def test_a_shape_is_seen_where_there_is_none() -> None:
    top, bottom = BACKGROUNDS["sky"]
    empty = np.broadcast_to(np.linspace(top, bottom, 96)[None, :, None] / 255, (17, 96, 96, 3))
    seen = measure(empty)
    assert (seen.background, seen.colour, seen.shape, seen.action) == ("sky", None, None, None)


def test_measuring_needs_more_than_numpy(tools: Path) -> None:
    code = "import sys, measure; print(sorted({'torch', 'PIL', 'scipy', 'wanoffload'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tools)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
