"""The transformer's part of a call: an execution that lives over all steps, and changes with the texts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

from wanoffload.models.transformer import WanTransformer3DModel, text_rows
from wanoffload.report import ComponentReport

Sizes = list[tuple[int, int]]


class Denoiser:
    """Computes the guided velocity, step after step: ``with Denoiser(...) as d: d.velocity(latents, t, guidance,
    follow)``.

    Both branches and all videos go through one pass over the weights. The text's keys and values are computed when the
    texts are set, and again only when they change. A plan holds for the sizes of the texts; other sizes get another
    plan.

    Args:
        engine: The engine to run on.
        transformer: The network.
        plan: Makes a plan for (rows, real rows) of each item of the batch.
        report: What happens is added to it.
    """

    def __init__(
        self,
        engine: Any,
        transformer: WanTransformer3DModel,
        plan: Callable[[Sizes], Any],
        report: ComponentReport,
    ) -> None:
        self._engine = engine
        self._transformer = transformer
        self._plan = plan
        self._report = report
        self._open = ExitStack()
        self._execution: Any = None
        self._sizes: Sizes = []
        self._texts: tuple[np.ndarray, np.ndarray | None] | None = None
        self._input: np.ndarray | None = None

    def __enter__(self) -> Denoiser:
        return self

    def __exit__(self, *error: Any) -> None:
        self._close()

    def _close(self) -> None:
        self._execution = None
        self._open.close()

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
                self._transformer.running(self._engine, self._plan(sizes), self._report)
            )
            self._sizes = sizes
        self._execution.prepare(text, *latents.shape[2:])
        self._texts = (cond, uncond)

    def velocity(self, latents: np.ndarray, timestep: float, guidance: float, follow: bool) -> np.ndarray:
        """The velocity of every video.

        Args:
            latents: float32 [batch, channels, frames, height, width].
            timestep: The same for all.
            guidance: Used where an unconditional branch is set: uncond + guidance * (cond - uncond), in float32.
            follow: Whether another step comes next.

        Returns:
            float32 of the shape of the latents.
        """
        batch, items = len(latents), len(self._sizes)
        if items != batch:
            latents = self._twice(latents)
        timesteps = np.full(items, timestep, np.float32)
        velocity = self._execution.step(latents, timesteps, follow=follow)
        if items == batch:
            return velocity
        cond, uncond = velocity[:batch], velocity[batch:]
        cond -= uncond
        cond *= np.float32(guidance)
        cond += uncond
        return cond

    def _twice(self, latents: np.ndarray) -> np.ndarray:
        shape = (2 * len(latents), *latents.shape[1:])
        if self._input is None or self._input.shape != shape:
            self._input = np.empty(shape, np.float32)
        self._input[: len(latents)] = latents
        self._input[len(latents) :] = latents
        return self._input
