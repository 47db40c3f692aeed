"""One component under one plan, for tests that compare bits: what comes out, what was planned, what happened."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np

from wanoffload import _core

RNG_SEED = 11


@dataclass(frozen=True)
class Outcome:
    """One run: the result's bytes, the plan's summary and groups, and the report."""

    bits: bytes
    plan: dict[str, Any]
    groups: list[dict[str, Any]]
    passes: list[dict[str, Any]]
    visits: list[list[int]]
    report: dict[str, Any]
    pass_counts: list[int]
    held_before: int  # counted host memory when the exec was opened


class Subject:
    """A component with fixed inputs, ready to be run again and again.

    Args:
        folder: A checkpoint folder in diffusers' layout.
        dtype: Of use.
    """

    passes: list[int]

    def __init__(self, folder: Path, dtype: str = "float32") -> None:
        config = json.loads((folder / "config.json").read_text())
        self.config = config
        self.component = self.make(_core.Store(str(folder)), config, dtype)
        self.rng = np.random.default_rng(RNG_SEED)

    def make(self, store: _core.Store, config: dict[str, Any], dtype: str) -> Any:
        raise NotImplementedError

    def plan(self, engine: _core.Engine, policy: dict[str, Any]) -> _core.Plan:
        raise NotImplementedError

    def compute(self, run: _core.Exec) -> list[np.ndarray]:
        raise NotImplementedError

    def run(self, engine: _core.Engine | None = None, before: Callable | None = None, **policy: Any) -> Outcome:
        """Plans under the policy and runs once; `before` is called with the engine, ahead of the run."""
        engine = engine or _core.Engine("cpu")
        if before is not None:
            before(engine)
        plan = self.plan(engine, policy)
        held = _core.host_memory()["current"]
        with _core.Exec(engine, self.component, plan) as execution:
            results = self.compute(execution)
        visits = [plan.visits(i) for i in range(len(plan.passes()))]
        bits = b"".join(result.tobytes() for result in results)
        report = execution.close()
        return Outcome(bits, plan.summary(), plan.groups(), plan.passes(), visits, report, self.passes, held)


class TransformerSubject(Subject):
    """Two items (one with folded padding, one with more real rows), three steps."""

    STEPS = 3
    passes = [1, STEPS]
    frames, height, width = 3, 6, 10
    texts = ((20, 7), (20, 20))

    def make(self, store: _core.Store, config: dict[str, Any], dtype: str) -> Any:
        return _core.Transformer(store, config, dtype)

    def plan(self, engine: _core.Engine, policy: dict[str, Any]) -> _core.Plan:
        return self.component.plan(engine, self.frames, self.height, self.width, self.texts, policy)

    def embeds(self, rng: np.random.Generator) -> np.ndarray | None:
        """Image embeddings, for a model that takes them."""
        return None

    def compute(self, run: _core.Exec) -> list[np.ndarray]:
        rng, dim = np.random.default_rng(RNG_SEED), self.config["text_dim"]
        texts = [(rows, rng.standard_normal((real, dim), dtype=np.float32)) for rows, real in self.texts]
        shape = (len(self.texts), self.config["in_channels"], self.frames, self.height, self.width)
        latents = rng.standard_normal(shape, dtype=np.float32)
        run.prepare(texts, self.frames, self.height, self.width, images=self.embeds(rng))
        results = []
        for step in range(self.STEPS):
            times = np.float32([900 - 100 * step, 850 - 100 * step])
            results.append(run.step(latents, times, follow=step + 1 < self.STEPS))
            latents = latents.copy()
            channels = min(latents.shape[1], results[-1].shape[1])
            latents[:, :channels] -= 0.1 * results[-1][:, :channels]
        return results


class ImageTransformerSubject(TransformerSubject):
    """The same with an image embedding that both items share."""

    images = 11

    def plan(self, engine: _core.Engine, policy: dict[str, Any]) -> _core.Plan:
        sizes, images = (self.frames, self.height, self.width), (self.images, [0] * len(self.texts))
        return self.component.plan(engine, *sizes, self.texts, policy, images=images)

    def embeds(self, rng: np.random.Generator) -> np.ndarray:
        return rng.standard_normal((1, self.images, self.config["image_dim"]), dtype=np.float32)


class FirstAndLastFrameSubject(ImageTransformerSubject):
    """The same with the rows of two stills, to which the table of positions is added."""

    images = checkpoints.FIRST_AND_LAST_FRAME["pos_embed_seq_len"]


class ImageEncoderSubject(Subject):
    """Two images in one pass."""

    passes = [1]

    def make(self, store: _core.Store, config: dict[str, Any], dtype: str) -> Any:
        return _core.ImageEncoder(store, config, dtype)

    def plan(self, engine: _core.Engine, policy: dict[str, Any]) -> _core.Plan:
        return self.component.plan(engine, 2, policy)

    def compute(self, run: _core.Exec) -> list[np.ndarray]:
        columns = self.config["num_channels"] * self.config["patch_size"] ** 2
        shape = (2, self.component.tokens - 1, columns)
        return [run.encode_images(np.random.default_rng(RNG_SEED).standard_normal(shape, dtype=np.float32))]


class TextEncoderSubject(Subject):
    """Two prompts of different length in one pass."""

    passes = [1]
    tokens = (9, 3)

    def make(self, store: _core.Store, config: dict[str, Any], dtype: str) -> Any:
        return _core.TextEncoder(store, config, dtype)

    def plan(self, engine: _core.Engine, policy: dict[str, Any]) -> _core.Plan:
        return self.component.plan(engine, self.tokens, policy)

    def compute(self, run: _core.Exec) -> list[np.ndarray]:
        rng = np.random.default_rng(RNG_SEED)
        return run.encode([rng.integers(2, self.config["vocab_size"], n).astype(np.int32) for n in self.tokens])


class VaeSubject(Subject):
    """Four latent frames: the first, and three later ones with state behind them."""

    LATENTS = 4
    passes = [1, LATENTS - 1]
    height, width = 6, 5

    def make(self, store: _core.Store, config: dict[str, Any], dtype: str) -> Any:
        return _core.VaeDecoder(store, config, dtype)

    def plan(self, engine: _core.Engine, policy: dict[str, Any]) -> _core.Plan:
        return self.component.plan(engine, self.height, self.width, policy)

    def compute(self, run: _core.Exec) -> list[np.ndarray]:
        rng = np.random.default_rng(RNG_SEED)
        shape = (self.LATENTS, self.config["z_dim"], self.height, self.width)
        latents = rng.standard_normal(shape, dtype=np.float32)
        last = self.LATENTS - 1
        return [run.decode(latents[i], first=i == 0, follow=i < last) for i in range(self.LATENTS)]


class VaeEncoderSubject(Subject):
    """Four groups of frames: the first frame, and three later groups with state behind them."""

    CHUNKS = 4
    passes = [1, CHUNKS - 1]
    height, width = 48, 40

    def make(self, store: _core.Store, config: dict[str, Any], dtype: str) -> Any:
        return _core.VaeEncoder(store, config, dtype)

    def plan(self, engine: _core.Engine, policy: dict[str, Any]) -> _core.Plan:
        return self.component.plan(engine, self.height, self.width, policy)

    def compute(self, run: _core.Exec) -> list[np.ndarray]:
        rng = np.random.default_rng(RNG_SEED)
        frames = 1 + (self.CHUNKS - 1) * self.component.frames_per_latent
        video = rng.uniform(-1, 1, (frames, self.height, self.width, 3)).astype(np.float32)
        chunks = [video[:1], *np.split(video[1:], self.CHUNKS - 1)]
        last = self.CHUNKS - 1
        return [run.encode_frames(chunk, first=i == 0, follow=i < last) for i, chunk in enumerate(chunks)]


def streamed_bytes(outcome: Outcome) -> int:
    """What the passes of a run have to move, by its plan."""
    counts = zip(outcome.passes, outcome.pass_counts, strict=True)
    return sum(one["streamed_bytes"] * count for one, count in counts)
