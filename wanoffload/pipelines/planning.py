"""Planning a call over all its components: who stays, who makes room, and what the smallest budget would be.

Components run one after the other. Each is planned by the core for its own phase; what the others hold meanwhile is
told to it as bytes outside. With budgets, two arrangements are tried: all resident together, or each with the budget
to itself, its residents dropped when the next takes over.

Two experts with budgets are planned for one execution and for one after the other; `plan_turns` says which is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from wanoffload.errors import PlanError
from wanoffload.offload import ALLOWANCE, OffloadSettings
from wanoffload.plan import ComponentPlan, PipelinePlan
from wanoffload.sizes import format_size

_TRIES = 4
_WORTH = 1.25
"""How many times the bytes of one after the other experts in one execution may move, for a change without a gap. It is
little: where copying bounds the speed every step takes as much longer, and the change comes once in a film."""


class Phase:
    """One component's turn in a call.

    Args:
        name: text_encoder, image_encoder, vae encoder, transformer, transformer_2 or vae.
        settings: Its offload settings.
        make: Makes the core's plan under a policy.
        weight_bytes: What it takes when it is resident.
        output_bytes: Arrays that are handed out while it runs.
        array_bytes: Arrays beyond the allowance that the call holds while it runs.
    """

    def __init__(
        self,
        name: str,
        settings: OffloadSettings,
        make: Callable[[dict[str, Any]], Any],
        weight_bytes: int,
        output_bytes: int = 0,
        array_bytes: int = 0,
    ) -> None:
        self.name = name
        self.settings = settings
        self.make = make
        self.weight_bytes = weight_bytes
        self.output_bytes = output_bytes
        self.array_bytes = array_bytes

    @property
    def budgeted(self) -> bool:
        """Whether it has a budget to be planned for, rather than a fixed way of offloading."""
        return self.settings.kind == "auto"

    @property
    def stays(self) -> bool:
        """Whether it is resident whatever the others need."""
        return self.settings.kind == "none"

    def plan(self, vram_outside: int, ram_others: int, together: bool) -> ComponentPlan:
        """Plans it beside so many bytes of others; together: as a resident, if it has a budget."""
        extra = ALLOWANCE + self.output_bytes + self.array_bytes
        level = {"level": "resident"} if together and self.budgeted else {}
        policy = self.settings.policy(vram_outside=vram_outside, ram_outside=ram_others + extra, **level)
        keep = self.stays or (together and self.budgeted)
        return ComponentPlan(self.name, self.settings, self.make(policy), policy, vram_outside, ram_others, extra, keep)

    def under(self, budget: dict[str, int | None]) -> Phase:
        """The same phase with another budget, if it has one."""
        settings = replace(self.settings, **budget) if self.budgeted else self.settings
        return Phase(self.name, settings, self.make, self.weight_bytes, self.output_bytes, self.array_bytes)


class Planner:
    """Plans the phases of one call.

    Args:
        phases: In the order they run.
        others: Weight bytes of resident components that do not run in this call.
        host_addressable: Whether device memory is host memory, so that it counts in ``ram`` too.
        what: The call in words.
    """

    def __init__(self, phases: list[Phase], others: int, host_addressable: bool, what: str) -> None:
        self.phases = phases
        self.others = others
        self.host_addressable = host_addressable
        self.what = what

    def plan(self) -> PipelinePlan:
        """Finds a plan.

        Raises:
            PlanError: The budgets cannot hold; ``needed`` are the smallest that would.
        """
        try:
            return self.find()
        except PlanError as first:
            raise self._refusal(first) from None

    def find(self) -> PipelinePlan:
        """The same without a search for smallest budgets: the error is that of the first component that lacks room."""
        budgeted = any(phase.budgeted for phase in self.phases)
        plans, errors = self._arrange(together=budgeted)
        if errors:
            plans, errors = self._arrange(together=False)
        if errors:
            raise errors[0]
        output = max((phase.output_bytes for phase in self.phases), default=0)
        arrays = max((phase.array_bytes for phase in self.phases), default=0)
        components = {plan.name: plan for plan in plans}
        return PipelinePlan(components, self.what, self._budget(), output, ALLOWANCE, arrays)

    def _arrange(self, together: bool) -> tuple[list[ComponentPlan], list[PlanError]]:
        """Plans every phase: those without a budget first, since what they keep on the host is outside the others'
        budgets.

        Returns:
            The plans in the order of the phases, and what was lacking; one of the two is empty.
        """
        found: dict[str, ComponentPlan] = {}
        errors: list[PlanError] = []
        slabs = 0
        for phase in sorted(self.phases, key=lambda phase: phase.budgeted):
            vram = self.others + sum(
                other.weight_bytes
                for other in self.phases
                if other is not phase and (other.stays or (together and other.budgeted))
            )
            ram = (vram if self.host_addressable else 0) + (slabs if phase.budgeted else 0)
            try:
                plan = found[phase.name] = phase.plan(vram, ram, together)
            except PlanError as error:
                errors.append(error.with_traceback(None))  # whose frames have this list, and through it the pipeline
                continue
            slabs += 0 if phase.budgeted else plan.summary["host_slab_bytes"]
        if errors:
            return [], errors
        plans = [found[phase.name] for phase in self.phases]
        self._settle_slabs(plans)
        return plans, []

    def _settle_slabs(self, plans: list[ComponentPlan]) -> None:
        """Host slabs stay between calls where every budget allows it; what stays is memory of the other phases."""
        budgeted = [plan for plan in plans if plan.settings.kind == "auto"]

        def beside(plan: ComponentPlan, candidates: list[ComponentPlan]) -> int:
            return sum(other.summary["host_slab_bytes"] for other in candidates if other is not plan)

        if any(
            plan.settings.ram is not None and plan.ram + beside(plan, budgeted) > plan.settings.ram for plan in budgeted
        ):
            for plan in budgeted:
                plan.keep_slabs = False
        staying = [plan for plan in budgeted if plan.keep_slabs]
        fixed = [plan for plan in plans if plan not in budgeted]
        for plan in plans:
            plan.ram_others += beside(plan, staying) + (beside(plan, fixed) if plan in fixed else 0)

    def _budget(self) -> dict[str, int | None]:
        found = {"vram": [p.settings.vram for p in self.phases], "ram": [p.settings.ram for p in self.phases]}
        return {name: min((v for v in values if v is not None), default=None) for name, values in found.items()}

    def _refusal(self, first: PlanError) -> PlanError:
        """The error for the whole call: the smallest budgets that hold every phase, tried before they are named."""
        budget = self._budget()
        needed = {name: (None if value is None else 0) for name, value in budget.items()}
        for _ in range(_TRIES):
            trial = Planner(
                [phase.under(needed) for phase in self.phases], self.others, self.host_addressable, self.what
            )
            _, errors = trial._arrange(together=False)
            if not errors:
                break
            for error in errors:
                for name in needed:
                    if needed[name] is not None:
                        needed[name] = max(needed[name], error.needed[name] or 0)
        return PlanError(
            f"No plan for {self.what} fits the budget of {_words(budget)}. The smallest that would do is "
            f"{_words(needed)}: give it to enable_auto_offload, or ask for a smaller video. ({first})",
            budget=budget,
            needed=needed,
        )


def plan_turns(joint: Planner, apart: Planner, names: Sequence[str], steps: Mapping[str, int]) -> PipelinePlan:
    """Plans two experts with budgets; a note in the plan says how they run.

    In one execution both are prepared before the first step, and there is no gap at the change; but residents, slabs
    and what is kept between steps are then there for both at once. They run so where the budgets hold it, unless one
    after the other is plainly better: they stay between calls, every step has less to do, or far fewer bytes move in
    the whole call. A budget that holds either expert alone is better spent on one at a time.

    Args:
        joint: Plans both in one execution.
        apart: Plans one after the other.
        names: The experts, in the order they run.
        steps: How many steps each takes; one each where that is not known.

    Raises:
        PlanError: The budgets hold neither; ``needed`` are the smallest that hold one after the other.
    """
    steps = {name: steps.get(name, 1) for name in names}
    try:
        together = joint.find()
    except PlanError:
        plan = apart.plan()
        plan.notes.append("the experts run one after the other: the budget does not hold both in one execution")
        return plan
    together.turns = dict.fromkeys(names[1:], names[0])
    together.notes.append("both experts run in one execution: the change to the second takes no longer than any step")
    try:
        plan = apart.find()
    except PlanError:
        return together
    moved, less = bytes_moved(together, steps), bytes_moved(plan, steps)
    if plan.part(names[0]).keep_residents and not together.part(names[0]).keep_residents:
        plan.notes.append("the experts run one after the other: so they stay between calls, in one execution not")
    elif _works_more(together.part(names[0]).summary, plan.part(names[0]).summary):
        plan.notes.append(
            "the experts run one after the other: in one execution each step had to save memory by more work"
        )
    elif moved > _WORTH * less:
        plan.notes.append(
            f"the experts run one after the other: that moves {format_size(less)} in all, one execution of both "
            f"{format_size(moved)}"
        )
    else:
        return together
    return plan


def _works_more(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether one plan's steps compute in smaller chunks or one video after the other, fetch their state or repeat the
    texts' keys and values, and the other's do not."""
    chunk, whole = one["knobs_row_chunk"], other["knobs_row_chunk"]
    return (
        0 < chunk < (whole or chunk + 1)
        or one["knobs_items_apart"] > other["knobs_items_apart"]
        or one["knobs_passes_apart"] > other["knobs_passes_apart"]
        or one["knobs_state_on_host"] > other["knobs_state_on_host"]
        or one["knobs_cache_text"] < other["knobs_cache_text"]
    )


def bytes_moved(plan: PipelinePlan, steps: Mapping[str, int]) -> int:
    """Bytes of weights that the experts of a plan move in a call that begins with nothing in place.

    A byte counts when it is read from its file, and again when it is carried to where it is used.
    """
    total = 0
    for name, count in steps.items():
        part = plan.part(name)
        experts = part.summary["experts"]
        resident, slab = (part.summary[key] // experts for key in ("resident_bytes", "host_slab_bytes"))
        prepare, step = (one["streamed_bytes"] for one in part.core.passes())
        streamed = prepare + count * step
        total += 2 * resident + streamed + (slab or streamed)
    return total


def _words(budget: dict[str, int | None]) -> str:
    return ", ".join(f"{name}={size} bytes ({format_size(size)})" for name, size in budget.items() if size is not None)
