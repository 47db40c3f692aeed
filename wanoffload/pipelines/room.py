"""Whether a card has room for a plan, asked before any work: an allocation that fails half-way says less."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wanoffload.errors import OutOfMemoryError, PlanError
from wanoffload.pipelines.planning import Planner
from wanoffload.plan import PipelinePlan
from wanoffload.runtime import Runtime
from wanoffload.sizes import format_size


def check_room(runtime: Runtime, engine: Any, plan: PipelinePlan, smallest: Callable[[], Planner]) -> None:
    """Refuses a plan that the card's memory cannot hold now.

    Args:
        runtime: Where it is to run.
        engine: Its engine.
        plan: The plan.
        smallest: Makes what plans the same call with as little of the card's memory as it takes.

    Raises:
        OutOfMemoryError: It cannot; the text says what is needed, what is free, and the least that would do.
    """
    if engine.host_addressable:
        return
    from wanoffload import _core

    free, total = _core.device_memory(engine.device)
    free += runtime.held()
    if plan.vram <= free:
        return
    least = _least(smallest())
    words = (
        f"This call needs {format_size(plan.vram)} of the memory of '{engine.device}', where {format_size(free)} of "
        f"{format_size(total)} are free. "
    )
    if least <= free:
        raise OutOfMemoryError(
            words + f"The least that would do is {format_size(least)}: pipe.enable_auto_offload() plans the call to "
            "fit, and the film stays the same, bit for bit."
        )
    raise OutOfMemoryError(
        words + f"The least that would do is {format_size(least)}. Close what else uses the card, ask for a smaller "
        "video, or enable VAE tiling (pipe.vae.enable_tiling()) where it is the VAE that needs the room."
    )


def _least(planner: Planner) -> int:
    """Bytes of the smallest plan: what the refusal of an empty budget asks for."""
    try:
        return planner.plan().vram
    except PlanError as refused:
        return refused.needed["vram"] or 0
