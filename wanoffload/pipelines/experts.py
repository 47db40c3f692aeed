"""WAN 2.2's two transformers: which of them takes which step.

A step whose timestep is at least boundary_ratio * num_train_timesteps is the high-noise expert's (``transformer``), a
later one the low-noise expert's (``transformer_2``). Without a boundary every step is ``transformer``'s. An expert that
has no step in a schedule is neither planned nor read, and need not be there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wanoffload.errors import CheckpointError

HIGH, LOW = "transformer", "transformer_2"
_SHAPE = (
    ("num_layers", "num_attention_heads", "attention_head_dim", "ffn_dim", "in_channels", "out_channels")
    + ("text_dim", "freq_dim", "image_dim", "pos_embed_seq_len")
)  # fmt: skip


def boundary_timestep(pipe: Any) -> float | None:
    """The least timestep that is the high-noise expert's; None without a boundary."""
    ratio = pipe.config.get("boundary_ratio")
    return None if ratio is None else ratio * pipe.scheduler.config.num_train_timesteps


def expert_at(pipe: Any, timestep: Any) -> str:
    """The name of the transformer that takes the step at a timestep."""
    boundary = boundary_timestep(pipe)
    return HIGH if boundary is None or timestep >= boundary else LOW


def experts_of(pipe: Any, timesteps: Sequence[Any]) -> tuple[str, ...]:
    """The names of the transformers that a schedule needs, in the order they run.

    Raises:
        ValueError: One of them is not there.
    """
    names = tuple(dict.fromkeys(expert_at(pipe, timestep) for timestep in timesteps))
    for name in names:
        if getattr(pipe, name) is None:
            raise ValueError(missing_expert(pipe, name))
    return names


def taking_turns(pipe: Any, names: Sequence[str]) -> tuple[str, ...]:
    """Those of the experts that can run in one execution: both, where they are of one dtype and are streamed in the
    same way, or have the same budgets.

    They share ring and arena, and the first groups of the second are fetched during the last step of the first. With
    budgets it is the planner that decides whether they do (`planning.plan_turns`).
    """
    networks = [getattr(pipe, name) for name in names]
    if len(networks) < 2 or networks[0].dtype != networks[1].dtype:
        return ()
    settings = networks[0].offload
    return tuple(names) if settings == networks[1].offload and settings.level in ("block", "leaf", "auto") else ()


def missing_expert(pipe: Any, name: str) -> str:
    """What to say where a transformer that a schedule needs is not there."""
    boundary = pipe.config.get("boundary_ratio")
    if boundary is None:
        return "This pipeline has no transformer, so it can only encode prompts (`encode_prompt`). Load it with one."
    side, without = ("at and above", 1.0) if name == HIGH else ("below", 0.0)
    return (
        f"This pipeline has no {name}, which takes the steps {side} boundary_ratio={boundary:g}. Load it with one, or "
        f"with boundary_ratio={without} to leave all steps to the other."
    )


def check_boundary(ratio: Any) -> None:
    """Raises ValueError for a boundary_ratio that is no number from 0 to 1."""
    if ratio is None:
        return
    if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 <= ratio <= 1:
        raise ValueError(f"`boundary_ratio` has to be a number from 0 to 1 but is {ratio!r}.")


def check_same_shape(first: Any, second: Any, what: str = "This pipeline") -> None:
    """Raises CheckpointError (a ValueError) for two experts that are not of one shape."""
    if first is None or second is None:
        return
    for name in _SHAPE:
        one, two = first.config.get(name), second.config.get(name)
        if one != two:
            raise CheckpointError(
                f"{what} has experts of different shape: {name} is {one} in transformer and {two} in transformer_2. "
                "Both have to come from the same checkpoint; load its two folders together."
            )
