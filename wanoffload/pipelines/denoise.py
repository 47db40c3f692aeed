"""The transformers' part of a call: an execution that lives over the steps of an expert, and changes with the texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from wanoffload.models.transformer import text_rows
from wanoffload.pipelines.sources import Condition
from wanoffload.report import ComponentReport

Sizes = list[tuple[int, int]]


@dataclass
class Expert:
    """A transformer with its turn in a call, or two that take turns in one execution.

    Attributes:
        names: What they are called, in the core's order.
        network: The transformer, or the first of them.
        plan: Makes a plan for (rows, real rows) of each item of the batch.
        enter: Begins its turn; returns the report that what happens is added to.
        leave: Ends its turn: what it does not keep is let go.
    """

    names: tuple[str, ...]
    network: Any
    plan: Callable[[Sizes], Any]
    enter: Callable[[], ComponentReport]
    leave: Callable[[], None]


class Denoiser:
    """Computes the guided velocity, step after step: ``with Denoiser(...) as d: d.begin(...); d.set_text(...);
    d.velocity(latents, t, guidance, following)``.

    Both branches and all videos go through one pass over the weights. The keys and values of texts and images are
    computed when they are set, and again only when they change. A plan holds for the sizes of the texts; other sizes
    get another plan.

    Args:
        engine: The engine to run on.
        experts: The transformers by name.
        condition: What the videos are conditioned on; None in text to video.
    """

    def __init__(self, engine: Any, experts: Mapping[str, Expert], condition: Condition | None = None) -> None:
        self._engine = engine
        self._experts = experts
        self._images = condition if condition is not None and condition.embeds is not None else None
        self._source_of = condition.source_of if condition is not None else []
        self._channels = condition.channels() if condition is not None else None
        self._open = ExitStack()
        self._expert: Expert | None = None
        self._turn = 0
        self._report: ComponentReport | None = None
        self._execution: Any = None
        self._sizes: Sizes = []
        self._texts: tuple[np.ndarray, np.ndarray | None] | None = None
        self._input: np.ndarray | None = None

    def __enter__(self) -> Denoiser:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        self._close()
        if kind is None and self._expert is not None:
            self._expert.leave()

    def _close(self) -> None:
        self._execution = self._texts = None
        self._open.close()

    def begin(self, name: str) -> None:
        """Says whose steps come next. Experts that take turns in one execution leave it open; others open their own."""
        expert = self._experts[name]
        self._turn = expert.names.index(name)
        if expert is self._expert:
            return
        self._close()
        if self._expert is not None:
            self._expert.leave()
        self._expert = expert
        self._report = expert.enter()

    def set_text(self, cond: np.ndarray, uncond: np.ndarray | None, latents: np.ndarray) -> None:
        """Puts the embeddings of the branches in force, [batch, rows, text_dim] each; uncond None is no guidance.

        Does nothing where they are the arrays in force. The arrays must not be changed afterwards.
        """
        if self._texts is not None and self._texts[0] is cond and self._texts[1] is uncond:
            return
        text = text_rows(cond) + ([] if uncond is None else text_rows(uncond))
        sizes = [(rows, len(embeds)) for rows, embeds in text]
        if self._execution is None or sizes != self._sizes:
            self._close()
            self._execution = self._open.enter_context(
                self._expert.network.running(self._engine, self._expert.plan(sizes), self._report)
            )
            self._sizes = sizes
        images = {}
        if self._images is not None:
            images = {"images": self._images.embeds, "image_of": self._source_of * (len(sizes) // len(latents))}
        self._execution.prepare(text, *latents.shape[2:], **images)
        self._texts = (cond, uncond)

    def velocity(self, latents: np.ndarray, timestep: float, guidance: float, following: str | None) -> np.ndarray:
        """The velocity of every video.

        Args:
            latents: float32 [batch, channels, frames, height, width].
            timestep: The same for all.
            guidance: Used where an unconditional branch is set: uncond + guidance * (cond - uncond), in float32.
            following: Whose step comes next; None where none does.

        Returns:
            float32 of the shape of the latents.
        """
        batch, items = len(latents), len(self._sizes)
        if items != batch or self._channels is not None:
            latents = self._model_input(latents, items)
        timesteps = np.full(items, timestep, np.float32)
        velocity = self._execution.step(latents, timesteps, *self._announce(following))
        if items == batch:
            return velocity
        cond, uncond = velocity[:batch], velocity[batch:]
        cond -= uncond
        cond *= np.float32(guidance)
        cond += uncond
        return cond

    def _announce(self, following: str | None) -> tuple[bool, int, int]:
        """Whether a step of this execution follows, whose step this is, and whose follows."""
        if following is None or self._experts[following] is not self._expert:
            return False, self._turn, self._turn
        return True, self._turn, self._expert.names.index(following)

    def _model_input(self, latents: np.ndarray, items: int) -> np.ndarray:
        """[items, input channels, ...]: the latents once for each branch, and behind them what they are conditioned on,
        which is written when the array is made."""
        batch, own = latents.shape[:2]
        channels = own + (self._channels.shape[1] if self._channels is not None else 0)
        shape = (items, channels, *latents.shape[2:])
        if self._input is None or self._input.shape != shape:
            self._input = np.empty(shape, np.float32)
            if self._channels is not None:
                for item in range(items):
                    self._input[item, own:] = self._channels[self._source_of[item % batch]]
        for start in range(0, items, batch):
            self._input[start : start + batch, :own] = latents
        return self._input
