"""One component under one plan, for tests that compare bits: what comes out, what was planned, what happened."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

    def compute(self, run: _core.Exec) -> list[np.ndarray]:
        rng, dim = np.random.default_rng(RNG_SEED), self.config["text_dim"]
        texts = [(rows, rng.standard_normal((real, dim), dtype=np.float32)) for rows, real in self.texts]
        shape = (len(self.texts), self.config["in_channels"], self.frames, self.height, self.width)
        latents = rng.standard_normal(shape, dtype=np.float32)
        run.prepare(texts, self.frames, self.height, self.width)
        results = []
        for step in range(self.STEPS):
            times = np.float32([900 - 100 * step, 850 - 100 * step])
            results.append(run.step(latents, times, follow=step + 1 < self.STEPS))
            latents = latents - 0.1 * results[-1][:, : latents.shape[1]]
        return results


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


def streamed_bytes(outcome: Outcome) -> int:
    """What the passes of a run have to move, by its plan."""
    counts = zip(outcome.passes, outcome.pass_counts, strict=True)
    return sum(one["streamed_bytes"] * count for one, count in counts)
