"""What the calls of the C module return, and who owns what for how long."""

import gc
import sys
from pathlib import Path

import numpy as np
import pytest
from core.models import SIZES, STREAMED, TIMES, Models, embeds, everything, latents, velocity

import wanoffload._core as core
from wanoffload.errors import OutOfMemoryError

FRAME = np.zeros((16, 2, 3), np.float32)


def test_what_the_calls_return(engine: core.Engine, models: Models) -> None:
    assert velocity(engine, models, {}).shape == (2, 16, 1, 4, 6)
    with core.Exec(engine, models.vae, models.vae.plan(engine, 2, 3, {})) as execution:
        first = execution.decode(np.zeros((16, 2, 3), np.float32), True, follow=True)
        later = execution.decode(np.zeros((16, 2, 3), np.float32), False)
    assert first.shape == (1, 16, 24, 3) and later.shape == (4, 16, 24, 3)
    assert (models.vae.frames_per_latent, models.vae.spatial_scale) == (4, 8)
    with core.Exec(engine, models.text_encoder, models.text_encoder.plan(engine, [2, 1], {})) as execution:
        rows = execution.encode([np.int32([5, 1]), np.int32([1])])
    assert [array.shape for array in rows] == [(2, 64), (1, 64)]
    assert all(array.dtype == np.float32 and array.flags.owndata for array in [first, later, *rows])
    report = execution.close()
    assert report == execution.close() and report["passes"] == 1


def test_inputs_of_any_stride_and_byte_order_are_read_right(engine: core.Engine, models: Models) -> None:
    expected = velocity(engine, models, {})
    with core.Exec(engine, models.transformer, models.plan(engine, {})) as execution:
        (rows, values), zeros = embeds()
        execution.prepare([(rows, np.asfortranarray(values)), zeros], **SIZES)
        wide = np.repeat(latents(), 2, axis=-1)[..., ::2]
        assert not wide.flags.c_contiguous
        assert np.array_equal(execution.step(wide, TIMES), expected)
        assert np.array_equal(execution.step(latents().astype(">f4"), TIMES.astype(">f4")), expected)


def test_nothing_is_left_when_all_objects_are_gone(demo_model: Path) -> None:
    everything(core.Engine(), Models(demo_model))
    gc.collect()
    start = core.host_memory()["current"]
    for _ in range(5):
        everything(core.Engine(), Models(demo_model))
    assert core.host_memory()["current"] == start


def test_calls_do_not_leak_python_objects(engine: core.Engine, models: Models) -> None:
    arguments = [latents(), embeds()]
    for _ in range(5):
        everything(engine, models)
    gc.collect()
    blocks, counts = sys.getallocatedblocks(), [sys.getrefcount(argument) for argument in arguments]
    for _ in range(60):
        everything(engine, models)
    gc.collect()
    assert [sys.getrefcount(argument) for argument in arguments] == counts
    assert sys.getallocatedblocks() - blocks < 60


def test_a_collected_component_takes_its_weights_along(engine: core.Engine, demo_model: Path) -> None:
    models = Models(demo_model)
    velocity(engine, models, {"level": "resident"})
    assert engine.held()["resident_bytes"] > 0
    del models
    assert engine.held()["resident_bytes"] == 0


def test_a_forgotten_exec_is_closed(engine: core.Engine, models: Models) -> None:
    execution = core.Exec(engine, models.transformer, models.plan(engine, STREAMED))
    execution.prepare(embeds(), **SIZES)
    del execution
    assert np.array_equal(velocity(engine, models, STREAMED), velocity(engine, models, {}))


def test_children_keep_their_parents(demo_model: Path) -> None:
    engine = core.Engine()
    models = Models(demo_model)
    execution = core.Exec(engine, models.vae, models.vae.plan(engine, 2, 3, STREAMED))
    del engine, models
    gc.collect()
    assert execution.decode(FRAME, True).shape == (1, 16, 24, 3)


def test_an_engine_may_go_before_what_it_held(models: Models) -> None:
    for _ in range(3):
        velocity(core.Engine(), models, {"level": "resident"})


def test_components_cannot_be_subclassed_or_changed() -> None:
    with pytest.raises(TypeError):
        type("Mine", (core.Transformer,), {})
    with pytest.raises(TypeError):
        core.Engine.extra = 1
    with pytest.raises(TypeError):
        type("Base", (core.Component,), {})()


def test_every_failed_allocation_is_a_clean_error(engine: core.Engine, models: Models) -> None:
    expected = velocity(engine, models, {})
    engine.drop()
    engine.release_arena()
    start = core.host_memory()["current"]
    for n in range(1, 200):
        core._testing.fail_allocation(n)
        try:
            outcome = velocity(engine, models, STREAMED)
        except OutOfMemoryError:
            engine.drop()
            engine.release_arena()
            assert core.host_memory()["current"] == start
        else:
            break
    core._testing.fail_allocation(0)
    assert 1 < n < 199
    assert np.array_equal(outcome, expected)
