"""The flow shifts that WAN was published with, and a word where a checkpoint's configuration has another.

Values: generate.py of Wan 2.1 and the configurations of Wan 2.2. The converter of diffusers writes 3.0 into nearly
every scheduler configuration, whatever the model.
"""

from __future__ import annotations

from typing import Any

AREA_480P, AREA_720P = 480 * 832, 720 * 1280
WIDTHS = (1536, 5120)
"""Widths of the published transformers (1.3B and 14B); nothing was published about others."""


def published_shift(kind: str, two_experts: bool, height: int, width: int) -> float:
    """The flow shift for a kind of film at a size.

    Args:
        kind: ``"text"``, ``"image"`` or ``"first and last frame"``.
        two_experts: Whether the model is WAN 2.2's with two transformers.
        height: Of the video, in pixels.
        width: Of the video, in pixels.
    """
    if two_experts:
        return 12.0 if kind == "text" else 5.0
    if kind == "first and last frame":
        return 16.0
    if kind == "image":
        return 3.0 if height * width < (AREA_480P * AREA_720P) ** 0.5 else 5.0
    return 5.0


def film_kind(transformer: Any, given_as: str) -> str:
    """What kind of film a model was published for: its configuration tells first-and-last-frame from image to video."""
    return "first and last frame" if transformer.config.pos_embed_seq_len is not None else given_as


def shift_note(scheduler: Any, transformer: Any, shift: float, height: int, width: int) -> str | None:
    """A line where the scheduler has another shift than the published one; None where there is nothing to say."""
    if scheduler is None or scheduler.config.get("use_dynamic_shifting"):
        return None
    name, config = scheduler.SHIFT, transformer.config
    if scheduler.shift_is_auto:
        return f"{name}='auto' is {shift:g}, published for such a model at {width}x{height}."
    if scheduler.shift == shift or config.num_attention_heads * config.attention_head_dim not in WIDTHS:
        return None
    return (
        f"{name} is {scheduler.shift!r}, as the scheduler's configuration says; this model was published with "
        f"{shift:g} for {width}x{height}. To use that: pipe.scheduler = {type(scheduler).__name__}.from_config("
        f"pipe.scheduler.config, {name}='auto')."
    )
