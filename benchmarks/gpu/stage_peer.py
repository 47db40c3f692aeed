"""The same step with diffusers on the same card, checkpoint and sizes: leaf level with a stream, as a ratio."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import shapes
from card_memory import CardMemory, host_peak
from rows import Row, Stage
from stage_sizes import FRAMES, LATENTS_480P, TEXTS, TINY_LATENTS, inputs, measure, warm
from surroundings import DEVICE


def theirs(folder: Any, frames: int, size: tuple[int, int], steps: int) -> dict[str, Any]:
    """diffusers: WanTransformer3DModel with group offloading by leaves on a stream, one branch after the other."""
    import torch
    from diffusers import WanTransformer3DModel

    torch.backends.cuda.matmul.allow_tf32 = False
    with CardMemory() as watch, torch.inference_mode():
        model = WanTransformer3DModel.from_pretrained(folder, torch_dtype=torch.bfloat16)
        torch.zeros(1, device="cuda")
        watch.baseline, watch.peak = watch.used(), 0
        model.enable_group_offload(
            onload_device=torch.device("cuda"),
            offload_device=torch.device("cpu"),
            offload_type="leaf_level",
            use_stream=True,
            record_stream=True,
        )
        latents, texts = inputs(model, frames, size)
        rows = [torch.zeros(1, row, model.config.text_dim, dtype=torch.bfloat16, device="cuda") for row, _ in texts]
        for row, (_, real) in zip(rows, texts, strict=True):
            row[0, : len(real)] = torch.from_numpy(real)
        seconds = []
        for step in range(steps + 1):
            torch.cuda.synchronize()
            began = time.perf_counter()
            for branch, row in zip(latents, rows, strict=True):
                values = torch.from_numpy(branch[None]).to("cuda", torch.bfloat16)
                timestep = torch.tensor([500 - step], device="cuda")
                velocity = model(values, timestep, row, return_dict=False)[0]
            torch.cuda.synchronize()
            seconds.append(time.perf_counter() - began)
        found = velocity.float().cpu().numpy()
    return {
        "seconds": statistics.median(seconds[1:]),
        "driver": watch.peak,
        "resident set": host_peak(),
        "velocity": found,
    }


def ours(folder: Any, frames: int, size: tuple[int, int], steps: int) -> dict[str, Any]:
    """The same here."""
    import wanoffload

    with CardMemory() as watch:
        model = wanoffload.WanTransformer3DModel.from_pretrained(folder, dtype="bfloat16", device=DEVICE)
        engine = model.runtime.engine
        watch.baseline, watch.peak = watch.used(), 0
        return measure(model, engine, watch, "leaf + stream", frames, size, steps)


def compare(options: Any, film: int) -> dict[str, Any]:
    """Both, one after the other, in one process: theirs first, for it takes what it can get."""
    folder = shapes.ensure(options.work, "transformer-14b", options.tiny)
    warm(folder)
    frames, size = (1, TINY_LATENTS) if options.tiny else (FRAMES[film], LATENTS_480P)
    other = theirs(folder, frames, size, 2)
    velocity = other.pop("velocity")
    _let_go()
    mine = ours(folder, frames, size, 2)
    return {
        "ours": mine["seconds"],
        "theirs": other["seconds"],
        "ratio": other["seconds"] / mine["seconds"],
        "driver": mine["driver"],
        "their driver": other["driver"],
        "finite": bool(np.isfinite(velocity).all()),
    }


def _let_go() -> None:
    """Gives the card's memory back that torch keeps."""
    import gc

    import torch

    gc.collect()
    torch.cuda.empty_cache()


def stage(tiny: bool) -> Stage:
    """Lengths of a film at 480p."""
    needs = ("card", "torch", "torch.cuda", "diffusers", *(() if tiny else ("disk 32", "memory 96")))
    rows = [
        Row(f"leaf + stream, {film} frames", lambda options, film=film: compare(options, film), needs)
        for film in ((17,) if tiny else (17, 81))
    ]
    columns = [
        ("wanoffload s/step", "ours", ".3f"), ("diffusers s/step", "theirs", ".3f"), ("ratio", "ratio", ".2f"),
        ("driver GB", "driver", "GB"), ("diffusers driver GB", "their driver", "GB"),
    ]  # fmt: skip
    assert len(TEXTS) == 2
    return Stage("peer", "WAN 14B at 832x480 beside diffusers, both branches of guidance, bfloat16", rows, columns,
                 ["1.5 times as fast as diffusers at 81 frames, or more"])  # fmt: skip
