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


def image_encoder(folder: Path, dtype: str = "float32") -> _core.ImageEncoder:
    return _core.ImageEncoder(_core.Store(str(folder)), read_config(folder), dtype)


def transformer(folder: Path, dtype: str = "float32") -> _core.Transformer:
    return _core.Transformer(_core.Store(str(folder)), read_config(folder), dtype)


def vae_decoder(folder: Path, dtype: str = "float32") -> _core.VaeDecoder:
    return _core.VaeDecoder(_core.Store(str(folder)), read_config(folder), dtype)


def vae_encoder(folder: Path, dtype: str = "float32") -> _core.VaeEncoder:
    return _core.VaeEncoder(_core.Store(str(folder)), read_config(folder), dtype)


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
    images: Array | None = None,
    image_of: Sequence[int] | None = None,
    **policy: Any,
) -> Array:
    """One step: latents [B, C, F, h, w], a timestep and (rows, embeds [real, text_dim]) for each item -> velocity.

    images: embeddings [count, rows, image_dim], of which item i attends to image_of[i]; image_of None: each to its own.
    """
    engine, component = _core.Engine("cpu"), transformer(folder, dtype)
    sizes = latents.shape[2:]
    of = range(len(latents)) if image_of is None else image_of
    planned = None if images is None else (images.shape[1], of)
    rows = [(rows, len(embeds)) for rows, embeds in texts]
    plan = component.plan(engine, *sizes, rows, policy, unfolded=unfolded, images=planned)
    with _core.Exec(engine, component, plan) as run:
        run.prepare(texts, *sizes, unfolded=unfolded, images=images)
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


def encode_images(folder: Path, patches: Array, dtype: str = "float32", **policy: Any) -> Array:
    """patches [images, tokens - 1, columns] -> hidden states before the last block [images, tokens, hidden_size]."""
    engine, component = _core.Engine("cpu"), image_encoder(folder, dtype)
    with _core.Exec(engine, component, component.plan(engine, len(patches), policy)) as run:
        return run.encode_images(patches)


def encode_video(folder: Path, video: Array, dtype: str = "float32", **policy: Any) -> Array:
    """video [C, F, H, W], chunk after chunk -> moments [2 * z, T, h, w]; frames that are left over are dropped."""
    engine, component = _core.Engine("cpu"), vae_encoder(folder, dtype)
    plan = component.plan(engine, *video.shape[2:], policy)
    step = component.frames_per_latent
    chunks = [video[:, :1], *(video[:, i : i + step] for i in range(1, video.shape[1] - step + 1, step))]
    with _core.Exec(engine, component, plan) as run:
        moments = [
            run.encode_frames(np.ascontiguousarray(chunk.transpose(1, 2, 3, 0)), i == 0, follow=i + 1 < len(chunks))
            for i, chunk in enumerate(chunks)
        ]
    return np.stack(moments, axis=1)
