"""The demo's networks bound by hand, and calls of them, for the tests of the C module."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

import wanoffload._core as core
from wanoffload.errors import BusyError

STREAMED = {"level": "leaf", "tier": "disk", "use_stream": True}
SIZES = {"frames": 1, "height": 4, "width": 6}
TEXT = [(8, 3), (8, 0)]


def config_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())


class Models:
    """The demo's three networks, freshly bound."""

    def __init__(self, root: Path, dtype: str = "float32") -> None:
        def bind(kind: type, name: str) -> Any:
            return kind(core.Store(root / name), config_of(root / name), dtype)

        self.text_encoder = bind(core.TextEncoder, "text_encoder")
        self.transformer = bind(core.Transformer, "transformer")
        self.vae = bind(core.VaeDecoder, "vae")

    def plan(self, engine: core.Engine, policy: dict[str, Any]) -> core.Plan:
        return self.transformer.plan(engine, text=TEXT, policy=policy, **SIZES)


def embeds() -> list[tuple[int, np.ndarray]]:
    values = np.random.default_rng(1).standard_normal((3, 64), dtype=np.float32)
    return [(8, values), (8, values[:0])]


def latents() -> np.ndarray:
    return np.random.default_rng(2).standard_normal((2, 16, 1, 4, 6), dtype=np.float32)


TIMES = np.float32([900.0, 900.0])


def velocity(engine: core.Engine, models: Models, policy: dict[str, Any]) -> np.ndarray:
    """One step under a policy."""
    with core.Exec(engine, models.transformer, models.plan(engine, policy)) as execution:
        execution.prepare(embeds(), **SIZES)
        return execution.step(latents(), TIMES)


def everything(engine: core.Engine, models: Models) -> None:
    """Each kind of object and each call once."""
    velocity(engine, models, STREAMED)
    with core.Exec(engine, models.vae, models.vae.plan(engine, 2, 3, {})) as execution:
        frame = np.zeros((16, 2, 3), np.float32)
        execution.decode(frame, True, follow=True)
        execution.decode(frame, first=False, clamp=False)
    with core.Exec(engine, models.text_encoder, models.text_encoder.plan(engine, [2, 1], {})) as execution:
        execution.encode([np.int32([5, 1]), np.int32([1])])
    for component in (models.text_encoder, models.transformer, models.vae):
        component.layers(), component.blocks(), component.unused()
    plan = models.plan(engine, {})
    plan.summary(), plan.groups(), plan.passes(), plan.visits(0)
    engine.held(), engine.drop(), engine.release_arena()


class Slow:
    """A step in another thread that reads its weights slowly, so that it is still running when looked at."""

    def __init__(self, engine: core.Engine, models: Models) -> None:
        self.engine = engine
        self.outcome: Any = None
        plan = models.plan(engine, STREAMED)
        self.execution = core.Exec(engine, models.transformer, plan)
        self.execution.prepare(embeds(), **SIZES, follow=False)
        self.plan = plan
        core._testing.delay_reads(0.05)
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        try:
            self.outcome = self.execution.step(latents(), TIMES)
        except BaseException as exception:
            self.outcome = exception

    def __enter__(self) -> "Slow":
        self.thread.start()
        while self.thread.is_alive():
            # A call with bad arguments: it tells whether the engine is busy without keeping it busy.
            try:
                self.execution.step(None, None)  # type: ignore[arg-type]
            except BusyError:
                break
            except TypeError:
                time.sleep(0.001)
        return self

    def __exit__(self, *args: object) -> None:
        core._testing.delay_reads(0.0)
        self.thread.join()
        self.execution.close()
