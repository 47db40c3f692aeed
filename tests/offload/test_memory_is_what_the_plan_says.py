"""The high-water mark that a run touches equals the plan's, and the plan is close to what none can go below."""

import pytest

from wanoffload import _core
from wanoffload.errors import PlanError


def poison(engine):
    _core._testing.configure(engine, poison=True)


POLICIES = [
    dict(level="resident"),
    dict(level="block", blocks_per_group=1, tier="host", use_stream=True),
    dict(level="leaf", tier="disk", use_stream=True),
    dict(level="leaf", tier="host"),
]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: "-".join(map(str, p.values())))
def test_a_run_touches_more_or_less_than_planned(others, subject, policy):
    run = subject.run(before=poison, **policy)
    assert run.report["arena_bytes"] == run.plan["work_bytes"]
    # The last tensor of the arena may end up to one alignment unit before its rounded end.
    assert run.plan["work_bytes"] - 256 < run.report["arena_touched"] <= run.plan["work_bytes"]
    # Tables of names, schedules and plans belong to the stated allowance; so do those of an exec, which are small.
    tables = run.held_before - run.plan["fixed_bytes"] + (64 << 10) + 1024 * sum(map(len, run.visits))
    assert run.report["ram_peak"] <= run.plan["ram"] + tables
    assert tables - others < 1 << 20


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: "-".join(map(str, p.values())))
def test_a_plan_wastes_memory(subject, policy):
    plan = subject.run(**policy).plan
    assert plan["live_bytes"] <= plan["vram"] <= 1.1 * plan["live_bytes"]


@pytest.mark.parametrize("budget", ["vram", "ram"])
def test_a_budget_is_overrun_or_refused_without_help(subject, budget):
    engine = _core.Engine("cpu")
    with pytest.raises(PlanError) as refused:
        subject.plan(engine, {"level": "auto", budget: 4096, "choose_knobs": True})
    assert refused.value.budget[budget] == 4096
    needed = {name: value for name, value in refused.value.needed.items() if refused.value.budget[name] is not None}
    assert needed[budget] > 4096 and str(needed[budget]) in str(refused.value).replace(",", "").replace("_", "")
    assert engine.held()["arena_bytes"] == 0, "work was done before the refusal"
    run = subject.run(engine, level="auto", choose_knobs=True, **needed)
    assert run.plan[budget] <= needed[budget]
    with pytest.raises(PlanError):
        subject.plan(engine, {"level": "auto", "choose_knobs": True, **needed, budget: needed[budget] - 1})
