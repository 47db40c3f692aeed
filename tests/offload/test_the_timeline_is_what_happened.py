"""A recorded trace, its JSON for Perfetto and its picture: all that was done, in order, once; and no bit is changed."""

import json
from collections import defaultdict

import numpy as np
import pytest
from offload.runs import Subject, TransformerSubject

import wanoffload
from wanoffload import _core
from wanoffload.report import ComponentReport, PipelineReport
from wanoffload.timeline import LANES

POLICIES = [
    dict(level="block", blocks_per_group=1, use_stream=True, tier="host"),
    dict(level="leaf", use_stream=True, tier="disk", resident_fraction=0.3),
    dict(level="leaf", use_stream=False, tier="disk"),
    dict(level="resident"),
]
IDS = ["block-host", "leaf-disk", "leaf-no-stream", "resident"]


def record(subject: Subject, policy: dict, spans: int = 20000, **testing) -> tuple[bytes, _core.Plan, ComponentReport]:
    """Runs once with a trace: the bits, the plan, the report."""
    engine = _core.Engine("cpu")
    engine.record_trace(spans)
    if testing:
        _core._testing.configure(engine, **testing)
    plan = subject.plan(engine, policy)
    with _core.Exec(engine, subject.component, plan) as execution:
        results = subject.compute(execution)
    report = ComponentReport(subject.component.name)
    report.add(execution.close(), plan.summary(), execution.trace())
    return b"".join(result.tobytes() for result in results), plan, report


def kind_of(subject: Subject, number: int) -> int:
    """Which kind of pass the number-th one was."""
    return 0 if number <= subject.passes[0] else 1


@pytest.mark.parametrize("policy", POLICIES, ids=IDS)
def test_a_trace_changes_the_film_or_misses_a_visit(subject, policy):
    bits, plan, report = record(subject, policy)
    assert bits == subject.run(**policy).bits
    execution = report.timeline[0]
    assert execution.dropped == 0
    groups, passes = plan.groups(), plan.passes()
    found = defaultdict(list)
    for event in execution.events:
        found[event["lane"], event["pass"]].append(event)
    for number in range(1, report.passes + 1):
        names = [groups[i]["name"] for i in plan.visits(kind_of(subject, number))]
        streamed = [groups[i]["name"] for i in plan.visits(kind_of(subject, number)) if groups[i]["tier"] != "device"]
        computed = [event["group"] for event in found["compute", number] if event["group"] is not None]
        assert sorted(computed) == sorted(names)
        assert sorted(event["group"] for event in found["copy", number]) == sorted(streamed)
        if plan.summary()["policy_tier"] == "disk":
            assert {event["group"] for event in found["read", number]} == set(streamed)
        alive = max(event["bytes"] for event in found["compute", number])
        assert alive == passes[kind_of(subject, number)]["activation_live_bytes"]
    moved = sum(event["bytes"] for event in execution.lane("copy") if event["pass"])
    assert moved == report.bytes_moved


@pytest.mark.parametrize("policy", POLICIES, ids=IDS)
def test_the_lanes_do_not_add_up_to_the_report(subject, policy):
    _, _, report = record(subject, policy)
    execution = report.timeline[0]
    near = pytest.approx
    assert execution.seconds("stall") == near(report.stall_seconds, abs=1e-6)
    reads = sum(event["end"] - event["begin"] for event in execution.lane("read"))
    assert reads == near(report.read_seconds, abs=1e-6)
    busy = report.compute_seconds + report.copy_seconds
    assert 0 < execution.seconds("compute") + execution.seconds("copy") <= busy + 1e-6
    if policy.get("use_stream"):
        assert execution.seconds("copy") <= report.copy_seconds + 1e-6


@pytest.mark.parametrize("policy", POLICIES, ids=IDS)
def test_the_memory_curve_leaves_the_plan(subject, policy):
    _, plan, report = record(subject, policy, poison=True, chaos_seed=5, chaos_delay=0.0003)
    curve = report.timeline[0].memory()
    times = [time for time, _ in curve]
    assert times == sorted(times) and curve[-1][1] == 0
    most = max(size for _, size in curve)
    assert plan.summary()["live_bytes"] * 0.6 <= most <= plan.summary()["vram"]


def test_a_trace_is_kept_when_nobody_asked_or_is_not_planned(transformer):
    engine = _core.Engine("cpu")
    without = transformer.plan(engine, {"level": "resident"}).summary()
    engine.record_trace(1000)
    with_trace = transformer.plan(engine, {"level": "resident"}).summary()
    taken = with_trace["fixed_bytes"] - without["fixed_bytes"]
    assert 1000 * 64 < taken < 1000 * 256
    assert with_trace["ram"] - without["ram"] == taken
    engine.record_trace(0)
    plan = transformer.plan(engine, {"level": "resident"})
    assert plan.summary() == without
    with _core.Exec(engine, transformer.component, plan) as execution:
        with pytest.raises(ValueError, match="is open"):
            execution.trace()
    assert execution.trace() is None
    with pytest.raises(ValueError, match="spans"):
        engine.record_trace(-1)


def test_a_full_trace_grows(transformer):
    policy = dict(level="leaf", use_stream=True, tier="host")
    bits, _, report = record(transformer, policy, spans=50)
    assert len(report.timeline[0].events) <= 100 and report.timeline[0].dropped > 100
    assert bits == transformer.run(**policy).bits


@pytest.fixture
def called(demo_model):
    """A pipeline that recorded a call of two steps, streamed."""
    pipe = wanoffload.WanPipeline.from_pretrained(demo_model)
    pipe.set_progress_bar_config(disable=True)
    pipe.enable_group_offload(onload_device="cpu", offload_type="leaf_level", use_stream=True, offload_device="disk")
    call = dict(prompt="a red star", height=32, width=48, num_frames=5, num_inference_steps=2, generator=5)
    plain = pipe(**call).frames
    pipe.enable_trace()
    assert np.array_equal(pipe(**call).frames, plain)
    report = pipe.report
    pipe.disable_trace()
    assert np.array_equal(pipe(**call).frames, plain)
    with pytest.raises(ValueError, match="enable_trace"):
        pipe.report.plot()
    return report


def test_perfetto_gets_events_that_overlap_or_are_missing(called, tmp_path):
    called.to_chrome_trace(tmp_path / "trace.json")
    trace = json.loads((tmp_path / "trace.json").read_text())
    events = trace["traceEvents"]
    names = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert list(names.values()) == list(called.components) == ["text_encoder", "transformer", "vae"]
    threads = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    spans = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            spans[event["pid"], event["tid"]].append(event)
            assert event["ts"] >= -1e-3 and event["dur"] >= 0
            assert event["cat"] == threads[event["pid"], event["tid"]].split()[0]
    assert set(spans) == set(threads)
    for lane in spans.values():
        for before, after in zip(lane, lane[1:], strict=False):
            assert after["ts"] >= before["ts"] + before["dur"] - 1.0, "a microsecond is lost to rounding, no more"
    for pid, name in names.items():
        report = called.components[name]
        sums = defaultdict(float)
        for (process, thread), lane in spans.items():
            if process == pid:
                work = [event for event in lane if event["args"]["pass"] != "loading"]
                sums[threads[pid, thread].split()[0]] += sum(event["dur"] for event in work) / 1e6
        assert set(sums) >= {"read", "copy", "compute"} and set(sums) <= set(LANES)
        assert sums["stall"] == pytest.approx(report.stall_seconds, abs=1e-4)
        assert sums["compute"] <= report.compute_seconds + 1e-4
        counters = [event["args"] for event in events if event["ph"] == "C" and event["pid"] == pid]
        assert max(one["in use"] for one in counters) <= report.plan["vram"] == max(one["plan"] for one in counters)
    assert trace["otherData"]["dropped"] == 0


def test_the_picture_shows_something_else_than_the_trace(called, tmp_path):
    pytest.importorskip("matplotlib")
    figure = called.plot(tmp_path / "timeline.png")
    assert (tmp_path / "timeline.png").read_bytes().startswith(b"\x89PNG")
    lanes, memory = figure.axes
    drawn = defaultdict(int)
    for collection in lanes.collections:
        drawn[collection.get_label()] += len(collection.get_paths())
    executions = [one for report in called.components.values() for one in report.timeline]
    assert drawn == {lane: n for lane in LANES if (n := sum(len(one.lane(lane)) for one in executions))}
    assert [label.get_text() for label in lanes.get_yticklabels()] == list(reversed(LANES))
    assert {text.get_text() for text in lanes.texts} == set(called.components)
    line = max(float(np.max(curve.get_ydata())) for curve in memory.lines)
    plan = max(float(path.vertices[:, 1].max()) for lines in memory.collections for path in lines.get_paths())
    assert line <= plan == pytest.approx(max(one.plan["vram"] for one in executions) / 2**20)


def test_notebooks_show_nothing_of_a_component(called):
    for report in (called, *called.components.values()):
        text = report._repr_html_()
        assert "<table>" in text and "stalled" in text and f"{report.seconds:.2f}" in text
    with pytest.raises(ValueError, match="enable_trace"):
        PipelineReport().to_chrome_trace("nowhere.json")


def test_a_component_alone_records(demo_model):
    model = wanoffload.WanTransformer3DModel.from_pretrained(demo_model / "transformer")
    model.enable_trace()
    subject = TransformerSubject(demo_model / "transformer")
    text = np.zeros((1, 8, subject.config["text_dim"]), np.float32)
    model(np.zeros((1, 16, 2, 4, 4), np.float32), np.float32([500]), text)
    assert {event["pass"] for event in model.report.timeline[0].events} >= {1, 2}
