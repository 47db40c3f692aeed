"""On the card of this machine, where there is one: films beside the CPU's, and the same bits in every way."""

from pathlib import Path

import numpy as np
import pytest
from expected import missing
from pipeline.helpers import open_pipeline

from wanoffload import _core, devices
from wanoffload.errors import Error

pytestmark = pytest.mark.gpu
CALL = {"height": 64, "width": 64, "num_frames": 9, "num_inference_steps": 4, "generator": 5}


@pytest.fixture(autouse=True)
def card() -> None:
    """A card that can be used; where one is expected it has to be there."""
    try:
        devices.as_device("cuda")
    except Error as error:
        missing("cuda", str(error))


@pytest.mark.parametrize("own", [False, True], ids=["libraries", "own-kernels"])
def test_a_film_on_the_card_is_another_than_the_cpu_s(demo_model: Path, own: bool) -> None:
    _core._testing.own_kernels_only(own)
    try:
        film = open_pipeline(demo_model, device="cuda")("a red star", **CALL).frames
    finally:
        _core._testing.own_kernels_only(False)
    assert np.abs(film - open_pipeline(demo_model)("a red star", **CALL).frames).max() <= 1e-4


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_way_of_offloading_changes_the_film_on_the_card(demo_model: Path, dtype: str) -> None:
    wanted = open_pipeline(demo_model, dtype=dtype, device="cuda")("a red star", **CALL).frames
    for level in ({"offload_type": "leaf_level"}, {"offload_type": "block_level", "num_blocks_per_group": 1}):
        for stream in (False, True):
            for tier in ("cpu", "disk"):
                pipe = open_pipeline(demo_model, dtype=dtype)
                pipe.enable_group_offload("cuda", tier, use_stream=stream, **level)
                engine = pipe.runtime.engine
                _core._testing.configure(engine, poison=True, chaos_seed=7, chaos_delay=0.0005)
                frames = pipe("a red star", **CALL).frames
                assert frames.tobytes() == wanted.tobytes(), (level, stream, tier)
                assert pipe.report.vram_peak <= pipe.plan("a red star", height=64, width=64, num_frames=9).vram
