"""Level x stream x tier x resident fraction x threads x first and second run, plain and under chaos: equal bits."""

import math

import pytest
from offload.runs import streamed_bytes

from wanoffload import _core

LEVELS = [dict(level="block", blocks_per_group=1), dict(level="block", blocks_per_group=2), dict(level="leaf")]
LEVEL_IDS = ["block", "2-blocks", "leaf"]
FEW = 6  # as many groups as can all be on their way or in use at one time


def chaos(seed):
    return lambda engine: _core._testing.configure(engine, poison=True, chaos_seed=seed, chaos_delay=0.0002)


def check_cell(cell, component, level, tier, fraction):
    """The run did what its name says."""
    assert cell.report["bytes_moved"] == streamed_bytes(cell)
    source, other = ("host", "disk") if tier == "host" else ("disk", "host")
    assert cell.report[f"bytes_from_{source}"] > 0 and cell.report[f"bytes_from_{other}"] == 0
    check_groups(cell, component, level, tier, fraction)
    visited = sum(count * len(one) for count, one in zip(cell.pass_counts, cell.visits, strict=True))
    assert sum(group["tier"] == tier for group in cell.groups) <= cell.report["visits"] <= visited
    if len(cell.groups) > FEW:
        assert fraction > 0 or cell.plan["ring_bytes"] < cell.plan["weight_bytes"]
        # One pass need not fill the ring twice.
        assert cell.report["wraps"] >= 2 or sum(cell.pass_counts) < 3


def check_groups(cell, component, level, tier, fraction):
    """There are as many groups as the level says, of which the fraction is resident."""
    leaves = sum(not layer["read_by_row"] for layer in component.layers())
    streamed = sum(group["tier"] == tier for group in cell.groups)
    assert streamed + sum(group["tier"] == "device" for group in cell.groups) == len(cell.groups)
    if level["level"] == "leaf":
        assert len(cell.groups) == leaves
    else:
        assert math.ceil(len(component.blocks()) / level["blocks_per_group"]) <= len(cell.groups) < leaves
    if fraction == 0:
        assert streamed == len(cell.groups)
    else:
        assert 0 < cell.plan["resident_bytes"] < cell.plan["weight_bytes"]


@pytest.mark.parametrize("tier", ["host", "disk"])
@pytest.mark.parametrize("stream", [False, True], ids=["no-stream", "stream"])
@pytest.mark.parametrize("level", LEVELS, ids=LEVEL_IDS)
def test_a_way_of_offloading_changes_the_film(subject, level, stream, tier):
    _core.set_num_threads(1)
    wanted = subject.run(level="resident")
    assert wanted.report["bytes_moved"] == 0
    for fraction in (0.0, 0.4):
        policy = dict(level, use_stream=stream, tier=tier, resident_fraction=fraction)
        for threads in (1, 2, 3):
            _core.set_num_threads(threads)
            for before in (None, chaos(7 * threads + int(10 * fraction) + 1)):
                engine = _core.Engine("cpu")
                for run in ("first", "second"):
                    cell = subject.run(engine, before, **policy)
                    assert cell.bits == wanted.bits, (threads, run, "plain" if before is None else "under chaos")
                    check_cell(cell, subject.component, level, tier, fraction)


def test_block_and_leaf_level_are_one_thing_and_the_ring_never_wraps(transformer):
    runs = {
        name: transformer.run(use_stream=True, tier="host", **level)
        for name, level in zip(LEVEL_IDS, LEVELS, strict=True)
    }
    blocks = len(transformer.component.blocks())
    groups = {name: len(run.groups) for name, run in runs.items()}
    assert groups["leaf"] == len(transformer.component.layers()) > 10 * blocks
    assert blocks < groups["block"] < groups["leaf"] and groups["2-blocks"] < groups["block"]
    for name, run in runs.items():
        assert run.report["wraps"] >= 2, name
        assert run.plan["ring_bytes"] < run.plan["weight_bytes"], name
    assert runs["leaf"].plan["ring_bytes"] < runs["block"].plan["ring_bytes"] < runs["2-blocks"].plan["ring_bytes"]


def test_the_resident_cell_moves_weights_in_a_step(subject):
    engine = _core.Engine("cpu")
    first, second = subject.run(engine, level="resident"), subject.run(engine, level="resident")
    assert first.report["bytes_loaded"] == first.plan["weight_bytes"] > 0
    assert second.report["bytes_loaded"] == second.report["bytes_moved"] == second.report["visits"] == 0
    assert first.bits == second.bits


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_another_dtype_of_use_depends_on_the_plan(demo_model, dtype):
    from offload.runs import TransformerSubject

    subject = TransformerSubject(demo_model / "transformer", dtype)
    wanted = subject.run(level="resident")
    for tier in ("host", "disk"):
        assert subject.run(level="leaf", use_stream=True, tier=tier, before=chaos(3)).bits == wanted.bits
    assert wanted.bits != TransformerSubject(demo_model / "transformer").run(level="resident").bits


KNOBS = [
    dict(row_chunk=7),
    dict(row_chunk=64),
    dict(cache_text=True),
    dict(cache_text=False),
    dict(state_on_host=True),
    dict(items_apart=True),
    dict(passes_apart=True),
    dict(passes_apart=True, row_chunk=7, cache_text=False),
    dict(items_apart=True, row_chunk=7, cache_text=False),
]


@pytest.mark.parametrize("knobs", KNOBS, ids=str)
def test_a_knob_of_the_plan_changes_the_film(subject, knobs):
    wanted = subject.run(level="resident")
    for level in ("resident", "leaf"):
        cell = subject.run(level=level, tier="disk", use_stream=True, before=chaos(5), **knobs)
        assert cell.bits == wanted.bits
        assert all(cell.plan[f"knobs_{name}"] == value for name, value in knobs.items())


def test_items_one_after_the_other_take_as_much_memory_and_bring_blocks_again(transformer):
    """Both branches of guidance need one branch's activations then, and of blocks each is still brought once."""
    ways = {level: dict(level=level, tier="host", use_stream=True) for level in ("leaf", "block")}
    for level, way in ways.items():
        together, apart = transformer.run(**way), transformer.run(**way, items_apart=True)
        assert apart.plan["activation_bytes"] < 0.8 * together.plan["activation_bytes"]
        moved = apart.report["bytes_moved"] / together.report["bytes_moved"]
        assert moved == 1 if level == "block" else 1 < moved < len(transformer.texts)


def test_auto_changes_the_film(subject):
    wanted = subject.run(level="resident")
    whole = wanted.plan["vram"]
    for share in (0.8, 0.5, 0.3):
        try:
            cell = subject.run(level="auto", vram=int(whole * share), choose_knobs=True)
        except ValueError as refused:
            assert refused.needed["vram"] > int(whole * share)
            cell = subject.run(level="auto", vram=refused.needed["vram"], choose_knobs=True)
        assert cell.bits == wanted.bits
        assert cell.plan["vram"] < whole
