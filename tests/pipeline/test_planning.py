"""Planning over components, on made-up networks: who stays, who makes room, and which budget is asked for."""

from typing import Any

import pytest

from wanoffload import offload
from wanoffload.errors import PlanError
from wanoffload.offload import ALLOWANCE
from wanoffload.pipelines.planning import Phase, Planner
from wanoffload.plan import PipelinePlan

WORK, STAGING = 100, 7


class FakePlan:
    """A core's plan: resident, or half resident, or streamed from the host, or from disk; the first that the budget
    holds."""

    def __init__(self, weights: int, policy: dict[str, Any]) -> None:
        ways = {
            "resident": [(weights, 0)],
            "model": [(weights, weights)],
            "block": [(0, weights)],
            "auto": [(weights, 0), (weights // 2, weights - weights // 2), (0, weights), (0, 0)],
        }[policy["level"]]
        closest: tuple[int, int, int] | None = None
        for resident, slab in ways:
            own = {"vram": resident + WORK, "ram": resident + WORK + slab + STAGING}
            whole = {name: own[name] + policy[f"{name}_outside"] for name in own}
            bounds = {name: policy.get(name) for name in own}
            excess = sum(max(0, whole[n] - bound) for n, bound in bounds.items() if bound is not None)
            if excess == 0:
                self.figures = {**own, "resident_bytes": resident, "host_slab_bytes": slab, "work_bytes": WORK}
                return
            if closest is None or excess < closest[0]:
                closest = (excess, whole["vram"], whole["ram"])
        needed = {"vram": closest[1], "ram": closest[2]}
        raise PlanError("does not fit", budget=bounds, needed=needed)

    def summary(self) -> dict[str, Any]:
        return dict(self.figures)


def plan(settings: dict[str, offload.OffloadSettings], weights: dict[str, int], others: int = 0) -> PipelinePlan:
    phases = [
        Phase(name, one, lambda policy, name=name: FakePlan(weights[name], policy), weights[name], 50 * (name == "vae"))
        for name, one in settings.items()
    ]
    return Planner(phases, others, host_addressable=True, what="a test").plan()


WEIGHTS = {"text_encoder": 5000, "transformer": 2000, "vae": 300}


def auto(vram: int | None = None, ram: int | None = None) -> dict[str, offload.OffloadSettings]:
    return dict.fromkeys(WEIGHTS, offload.auto_offload_settings(vram, ram))


def test_without_budgets_every_component_counts_the_others_as_staying() -> None:
    found = plan(dict.fromkeys(WEIGHTS, offload.RESIDENT), WEIGHTS)
    assert found.vram == 7300 + WORK and found.ram == 7300 + WORK + STAGING + ALLOWANCE + 50
    assert [one.vram_outside for one in found.components.values()] == [2300, 5300, 7000]
    assert all(one.keep_residents for one in found.components.values())


def test_a_budget_for_all_keeps_all_resident() -> None:
    found = plan(auto(vram=7300 + WORK), WEIGHTS)
    assert all(one.keep_residents and one.summary["host_slab_bytes"] == 0 for one in found.components.values())
    assert found.vram == 7300 + WORK


def test_one_byte_less_makes_each_component_leave_when_the_next_takes_over() -> None:
    found = plan(auto(vram=7300 + WORK - 1), WEIGHTS)
    assert not any(one.keep_residents for one in found.components.values())
    assert all(one.vram_outside == 0 for one in found.components.values())
    assert found.vram == 5000 + WORK


def test_slabs_stay_where_the_budget_allows_it_and_count_in_the_other_phases() -> None:
    found = plan(auto(vram=2500 + WORK), WEIGHTS)
    encoder = found.components["text_encoder"]
    assert encoder.summary["host_slab_bytes"] == 2500 and encoder.keep_slabs
    assert found.components["transformer"].ram_outside == ALLOWANCE + 2500
    assert found.components["vae"].ram_outside == ALLOWANCE + 50 + 2500


def test_slabs_go_at_hand_over_where_they_do_not_fit_beside_the_others() -> None:
    ram = ALLOWANCE + 5000 + WORK + STAGING
    found = plan(auto(vram=1000 + WORK, ram=ram), WEIGHTS)
    assert found.components["text_encoder"].summary["host_slab_bytes"] == 5000
    assert found.components["transformer"].summary["host_slab_bytes"] == 1000
    assert not any(one.keep_slabs for one in found.components.values())
    assert found.ram <= ram


@pytest.mark.parametrize("budget", [{"vram": 3}, {"ram": 9}, {"vram": 1, "ram": 1}, {"vram": 10**9, "ram": ALLOWANCE}])
def test_a_refusal_names_the_smallest_budget_and_that_budget_works(budget: dict[str, int]) -> None:
    with pytest.raises(PlanError) as caught:
        plan(auto(**budget), WEIGHTS)
    error = caught.value
    assert error.budget == {"vram": None, "ram": None, **budget}
    assert set(error.needed) == {"vram", "ram"}
    for name, value in error.needed.items():
        assert (value is None) == (name not in budget)
        assert value is None or f"{name}={value} bytes" in str(error)
    found = plan(auto(**error.needed), WEIGHTS)
    assert all(bound is None or getattr(found, name) <= bound for name, bound in error.needed.items())
    for name, value in error.needed.items():
        if value is not None and value > budget[name]:
            with pytest.raises(PlanError):
                plan(auto(**{**error.needed, name: value - 1}), WEIGHTS)


def test_components_without_a_budget_are_planned_first_and_their_slabs_count() -> None:
    settings = auto(ram=ALLOWANCE + 5000 + 3000)
    settings["text_encoder"] = offload.group_offload_settings("cpu", offload_type="block_level", num_blocks_per_group=1)
    found = plan(settings, WEIGHTS)
    assert found.components["text_encoder"].summary["host_slab_bytes"] == 5000
    assert found.components["transformer"].ram_outside == ALLOWANCE + 5000 + 300
    assert found.components["transformer"].keep_residents
    with pytest.raises(PlanError) as caught:
        plan({**settings, "transformer": offload.auto_offload_settings(ram=ALLOWANCE + 5000)}, WEIGHTS)
    assert caught.value.needed["ram"] > ALLOWANCE + 5000


def test_model_offload_keeps_slabs_and_lets_residents_go() -> None:
    found = plan(dict.fromkeys(WEIGHTS, offload.model_offload_settings()), WEIGHTS)
    assert all(one.keep_slabs and not one.keep_residents for one in found.components.values())
    assert found.vram == 5000 + WORK


def test_resident_components_that_do_not_run_count_as_outside() -> None:
    found = plan({"transformer": offload.auto_offload_settings(vram=2000 + WORK + 5000)}, WEIGHTS, others=5000)
    assert found.components["transformer"].vram_outside == 5000
    assert found.components["transformer"].keep_residents


def test_a_plan_says_every_figure_as_text_html_and_dict() -> None:
    class Whole(FakePlan):
        def summary(self) -> dict[str, Any]:
            names = "weight_bytes groups streamed_bytes ring_bytes arrival_bytes activation_bytes keep_bytes"
            rest = dict.fromkeys([*names.split(), "staging_bytes", "host_keep_bytes", "fixed_bytes"], 1234)
            return {**rest, **self.figures}

    phase = Phase("vae", offload.auto_offload_settings(vram="1MiB"), lambda policy: Whole(300, policy), 300, 50)
    found = Planner([phase], 0, True, "a test").plan()
    text = str(found)
    for word in (
        "vae",
        "weights",
        "ring",
        "8-bit weights on arrival",
        "activations",
        "host slabs",
        "1.21 KiB",
        "of 1.00 MiB allowed",
        "allowance 64.0 MiB",
    ):
        assert word in text
    assert "<table>" in found._repr_html_() and "1.21 KiB" in found._repr_html_()
    assert found.as_dict()["components"]["vae"]["vram"] == 400
    assert found.as_dict()["budget"] == {"vram": 1 << 20, "ram": None}
