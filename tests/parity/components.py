"""One component of the C core on one checkpoint folder, under one policy: what the parity tests call."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wanoffload import _core

Array = NDArray[np.float32]


def relative_l2(value: Array, reference: Array) -> float:
    """The L2 norm of the difference over that of the reference, in float64."""
    difference = np.asarray(value, np.float64) - np.asarray(reference, np.float64)
    return float(np.linalg.norm(difference) / np.linalg.norm(np.asarray(reference, np.float64)))


def read_config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())


def text_encoder(folder: Path, dtype: str = "float32") -> _core.TextEncoder:
    return _core.TextEncoder(_core.Store(str(folder)), read_config(folder), dtype)


def transformer(folder: Path, dtype: str = "float32") -> _core.Transformer:
    return _core.Transformer(_core.Store(str(folder)), read_config(folder), dtype)


def vae_decoder(folder: Path, dtype: str = "float32") -> _core.VaeDecoder:
    return _core.VaeDecoder(_core.Store(str(folder)), read_config(folder), dtype)


def encode(folder: Path, prompts: Sequence[NDArray[np.int32]], dtype: str = "float32", **policy: Any) -> list[Array]:
    """Embeddings [tokens, d_model] of each prompt's real token ids, all in one pass."""
    engine, component = _core.Engine("cpu"), text_encoder(folder, dtype)
    plan = component.plan(engine, [len(ids) for ids in prompts], policy)
    with _core.Exec(engine, component, plan) as run:
        return run.encode([np.asarray(ids, np.int32) for ids in prompts])


def velocity(
    folder: Path,
    latents: Array,
    timesteps: Sequence[float],
    texts: Sequence[tuple[int, Array]],
    dtype: str = "float32",
    unfolded: bool = False,
    **policy: Any,
) -> Array:
    """One step: latents [B, C, F, h, w], a timestep and (rows, embeds [real, text_dim]) for each item -> velocity."""
    engine, component = _core.Engine("cpu"), transformer(folder, dtype)
    sizes = latents.shape[2:]
    plan = component.plan(engine, *sizes, [(rows, len(embeds)) for rows, embeds in texts], policy, unfolded=unfolded)
    with _core.Exec(engine, component, plan) as run:
        run.prepare(texts, *sizes, unfolded=unfolded)
        return run.step(np.asarray(latents, np.float32), np.asarray(timesteps, np.float32))


def decode(folder: Path, latents: Array, dtype: str = "float32", **policy: Any) -> Array:
    """latents [z, T, h, w], one after the other -> frames [F, H, W, channels] in [-1, 1]."""
    engine, component = _core.Engine("cpu"), vae_decoder(folder, dtype)
    plan = component.plan(engine, *latents.shape[2:], policy)
    with _core.Exec(engine, component, plan) as run:
        parts = [
            run.decode(np.ascontiguousarray(latents[:, i]), first=i == 0, follow=i + 1 < latents.shape[1])
            for i in range(latents.shape[1])
        ]
    return np.concatenate(parts)
