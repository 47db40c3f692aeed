"""How long a planned call will take: which passes of each component it runs, and how often."""

from __future__ import annotations

from typing import Any

from wanoffload.models.vae import ENCODER
from wanoffload.pipelines.request import Request
from wanoffload.plan import PipelinePlan
from wanoffload.prediction import Prediction, Rates, is_transformer, predict


def predict_call(pipe: Any, request: Request, plan: PipelinePlan, rates: Rates) -> Prediction:
    """Predicts every component of a plan.

    Args:
        pipe: The pipeline.
        request: The call.
        plan: Its plan.
        rates: Of the device.
    """
    found, keys = {}, []
    for name, part in plan.components.items():
        dtype = pipe.part(name)[0].dtype.name
        title = plan.title(name)
        counts = _counts(pipe, request, plan, name)[: len(part.core.passes())]
        found[title] = predict(rates, title, dtype, part.core, counts)
        keys.append((title, dtype))
    disk = any(one.policy.get("tier") == "disk" or _rests_on_disk(one) for one in plan.components.values())
    return Prediction(rates.card, rates.words(keys), found, disk)


def _rests_on_disk(part: Any) -> bool:
    summary = part.summary
    return summary["policy_tier"] == "disk" and summary["streamed_bytes"] > 0


def _counts(pipe: Any, request: Request, plan: PipelinePlan, name: str) -> list[int | None]:
    """How often each pass of a component runs: the first, and the others."""
    later = request.latent_shape[2] - 1
    if is_transformer(name):
        experts = [name, *(other for other, first in plan.turns.items() if first == name)]
        steps = [request.steps.get(one) for one in experts]
        return [len(experts), None if None in steps else sum(steps)]
    if name == ENCODER:
        videos, grid = len(request.condition.chunks), pipe.vae.pixel_tiles(request.height, request.width)
    elif name == "vae":
        videos, grid = request.batch, pipe.vae.tiles(*request.latent_shape[3:])
    else:
        return [1]  # all texts, or all pictures, in one pass
    tiles = 1 if grid is None else len(grid.rows()) * len(grid.columns())
    return [videos * tiles, videos * tiles * later]
