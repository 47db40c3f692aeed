"""WAN 2.2's two experts in one execution: each gives the bits that it gives alone, in every way of offloading."""

import checkpoints
import numpy as np
import pytest
from offload.runs import RNG_SEED, TransformerSubject

from wanoffload import _core
from wanoffload.errors import CheckpointError, PlanError
from wanoffload.report import ComponentReport
from wanoffload.timeline import chrome_trace

STEPS = (2, 3)  # of each expert
POLICIES = [
    dict(level="block", blocks_per_group=1, use_stream=True, tier="host"),
    dict(level="block", blocks_per_group=2, use_stream=False, tier="disk"),
    dict(level="leaf", use_stream=True, tier="disk", resident_fraction=0.4),
    dict(level="leaf", use_stream=True, tier="host"),
    dict(level="resident"),
]
IDS = ["block-host", "blocks-disk-no-stream", "leaf-disk-residents", "leaf-host", "resident"]


@pytest.fixture(scope="module")
def experts(tmp_path_factory) -> list[TransformerSubject]:
    """Two transformers of one shape with other weights."""
    found = []
    for seed in (3, 4):
        folder = tmp_path_factory.mktemp("expert")
        checkpoints.write_transformer(folder, seed)
        found.append(TransformerSubject(folder))
    return found


class Call:
    """A film: the first expert's steps, then the second's; each result is the next one's input."""

    def __init__(self, experts: list[TransformerSubject]) -> None:
        self.experts = experts
        one = experts[0]
        rng, dim = np.random.default_rng(RNG_SEED), one.config["text_dim"]
        self.text = [(rows, rng.standard_normal((real, dim), dtype=np.float32)) for rows, real in one.texts]
        shape = (len(one.texts), one.config["in_channels"], one.frames, one.height, one.width)
        self.noise = rng.standard_normal(shape, dtype=np.float32)
        self.order = [0] * STEPS[0] + [1] * STEPS[1]

    def plan(self, engine: _core.Engine, policy: dict) -> _core.Plan:
        one, two = self.experts
        sizes = (one.frames, one.height, one.width, one.texts)
        return one.component.plan(engine, *sizes, policy, second=two.component)

    def together(self, policy: dict, engine: _core.Engine | None = None, trace: int = 0, **testing):
        """Both in one execution: bits, plan, report."""
        engine = engine or _core.Engine("cpu")
        engine.record_trace(trace)
        if testing:
            _core._testing.configure(engine, **testing)
        plan, one, latents, bits = self.plan(engine, policy), self.experts[0], self.noise, b""
        with _core.Exec(engine, one.component, plan) as run:
            run.prepare(self.text, one.frames, one.height, one.width)
            for i, expert in enumerate(self.order):
                following = self.order[i + 1 : i + 2]
                velocity = run.step(
                    latents, self.times(i), bool(following), expert, following[0] if following else None
                )
                latents, bits = latents - 0.1 * velocity, bits + velocity.tobytes()
        report = ComponentReport("transformer")
        report.add(run.close(), plan.summary(), run.trace())
        return bits, plan, report

    def apart(self) -> bytes:
        """Each alone and resident, one after the other."""
        latents, bits, engine = self.noise, b"", _core.Engine("cpu")
        for expert, subject in enumerate(self.experts):
            plan = subject.plan(engine, {"level": "resident"})
            with _core.Exec(engine, subject.component, plan) as run:
                run.prepare(self.text, subject.frames, subject.height, subject.width)
                for i, one in enumerate(self.order):
                    if one == expert:
                        velocity = run.step(latents, self.times(i))
                        latents, bits = latents - 0.1 * velocity, bits + velocity.tobytes()
        return bits

    @staticmethod
    def times(step: int) -> np.ndarray:
        return np.float32([900 - 100 * step, 850 - 100 * step])


@pytest.fixture(scope="module")
def call(experts) -> Call:
    return Call(experts)


@pytest.fixture(scope="module")
def wanted(call) -> bytes:
    return call.apart()


@pytest.mark.parametrize("policy", POLICIES, ids=IDS)
def test_sharing_a_ring_changes_the_film_or_moves_a_byte_twice(others, call, wanted, policy):
    for threads in (1, 3):
        _core.set_num_threads(threads)
        bits, plan, report = call.together(policy)
        assert bits == wanted
        prepare, step = (one["streamed_bytes"] for one in plan.passes())
        assert report.bytes_moved == 2 * prepare + sum(STEPS) * step
        assert report.ram_peak <= plan.summary()["ram"] + others + (1 << 20)
    bits, plan, report = call.together(policy, poison=True, chaos_seed=13, chaos_delay=0.0004)
    assert bits == wanted, "under chaos"
    assert report.arena_touched == plan.summary()["work_bytes"] == report.arena_bytes


def test_the_change_of_expert_is_not_prefetched(call, wanted):
    """While the compute stream rests with the last group of the first expert, the first one of the second arrives."""
    policy = dict(level="block", blocks_per_group=1, use_stream=True, tier="host")
    bits, plan, report = call.together(policy, trace=20000, delay_edges=["wrap_around"], delay_seconds=0.05)
    assert bits == wanted
    events = report.timeline[0].events
    last, first = 2 + STEPS[0], 3 + STEPS[0]  # passes: two prepare, then the steps
    fetched = [event for event in events if event["lane"] == "copy" and event["pass"] == first]
    used = [event for event in events if event["lane"] == "copy" and event["pass"] == last]
    assert {event["expert"] for event in fetched} == {1} and {event["expert"] for event in used} == {0}
    assert min(event["held"][0] for event in fetched) < max(event["held"][1] for event in used)
    names = {
        one["args"]["pass"]: one["name"] for one in chrome_trace({"t": report.timeline})["traceEvents"] if "dur" in one
    }
    assert "(second expert)" in names[first] and "(second expert)" not in names[last]


def test_memory_is_planned_for_one_expert_only(call):
    engine = _core.Engine("cpu")
    policy = dict(level="leaf", use_stream=True, tier="host", resident_fraction=0.3)
    one, two = call.experts[0].plan(engine, policy).summary(), call.plan(engine, policy).summary()
    assert (one["experts"], two["experts"]) == (1, 2)
    for name in ("ring_bytes", "activation_bytes", "fixed_bytes"):
        assert two[name] == one[name]
    for name in ("weight_bytes", "resident_bytes", "keep_bytes", "host_slab_bytes", "streamed_bytes"):
        assert two[name] == 2 * one[name] > 0
    with pytest.raises(PlanError) as refused:
        call.plan(engine, {**policy, "vram": two["vram"] - 1})
    assert refused.value.needed["vram"] == two["vram"]


def test_experts_of_other_shape_are_taken_or_an_open_one_is_dropped(call, tmp_path):
    checkpoints.write_transformer(tmp_path, 5, ffn_dim=20)
    other, one = TransformerSubject(tmp_path), call.experts[0]
    engine = _core.Engine("cpu")
    sizes = (one.frames, one.height, one.width, one.texts)
    with pytest.raises(CheckpointError, match="experts of one model have equal shapes"):
        one.component.plan(engine, *sizes, {"level": "resident"}, second=other.component)
    with pytest.raises(TypeError, match="second"):
        one.component.plan(engine, *sizes, {"level": "resident"}, second=3)
    plan = call.plan(engine, {"level": "resident"})
    with pytest.raises(ValueError, match="another component"):
        _core.Exec(engine, call.experts[1].component, plan)
    with _core.Exec(engine, one.component, plan) as run:
        for subject in call.experts:
            with pytest.raises(ValueError, match="is open"):
                engine.drop(subject.component)
        run.prepare(call.text, one.frames, one.height, one.width)
        for wrong in (dict(expert=2), dict(expert=-1), dict(follow=True, next_expert=2)):
            with pytest.raises(ValueError, match="expert"):
                run.step(call.noise, call.times(0), **wrong)
    engine.drop(call.experts[1].component)
    assert engine.held()["resident_bytes"] == one.component.bytes
