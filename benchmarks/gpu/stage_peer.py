"""The same step with diffusers on the same card, checkpoint and sizes: leaf level with a stream, as a ratio."""

from __future__ import annotations

import contextlib
import statistics
import time
from typing import Any

import numpy as np
import shapes
from card_memory import CardMemory, host_peak
from rows import REAL_SECONDS, Row, Stage
from stage_sizes import FRAMES, LATENTS_480P, TEXTS, TINY_LATENTS, inputs, measure, warm
from surroundings import DEVICE

BOUND = 2e-2  # of |ours - theirs| / |theirs|: both round to bfloat16 behind every layer, each in an order of its own


def theirs(folder: Any, frames: int, size: tuple[int, int], steps: int) -> tuple[dict[str, Any], np.ndarray]:
    """diffusers: WanTransformer3DModel with group offloading by leaves on a stream, one branch after the other; figures
    and the last step's velocity of both."""
    import torch
    from diffusers import WanTransformer3DModel

    torch.backends.cuda.matmul.allow_tf32 = False
    with CardMemory() as watch, torch.inference_mode():
        model = WanTransformer3DModel.from_pretrained(folder, torch_dtype=torch.bfloat16)
        torch.zeros(1, device="cuda")
        watch.start_over()
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
            with watch.sampling() if step == 0 else contextlib.nullcontext():
                torch.cuda.synchronize()
                began = time.perf_counter()
                velocity = []
                for branch, row in zip(latents, rows, strict=True):
                    values = torch.from_numpy(branch[None]).to("cuda", torch.bfloat16)
                    timestep = torch.tensor([500 - step], device="cuda")
                    velocity.append(model(values, timestep, row, return_dict=False)[0])
                torch.cuda.synchronize()
                seconds.append(time.perf_counter() - began)
            watch.look()
        last = torch.cat(velocity).float().cpu().numpy()
    figures = {"seconds": statistics.median(seconds[1:]), "driver": watch.peak, "resident set": host_peak()}
    return figures, last


def ours(folder: Any, frames: int, size: tuple[int, int], steps: int) -> tuple[dict[str, Any], np.ndarray]:
    """The same here."""
    import wanoffload

    with CardMemory() as watch:
        model = wanoffload.WanTransformer3DModel.from_pretrained(folder, dtype="bfloat16", device=DEVICE)
        engine = model.runtime.engine
        watch.start_over()
        return measure(model, engine, watch, "leaf + stream", frames, size, steps)


def compare(options: Any, film: int) -> dict[str, Any]:
    """Both, one after the other, in one process: theirs first, for it takes what it can get."""
    folder = shapes.ensure(options.work, "transformer-14b", options.tiny)
    warm(folder)
    frames, size = (1, TINY_LATENTS) if options.tiny else (FRAMES[film], LATENTS_480P)
    other, wanted = theirs(folder, frames, size, 2)
    _let_go()
    mine, velocity = ours(folder, frames, size, 2)
    apart = distance(velocity, wanted)
    if not apart <= BOUND:  # NaN fails too
        speeds = f"{mine['seconds']:.3f} s a step, diffusers {other['seconds']:.3f}"
        raise SystemExit(f"the velocity is {apart:.3g} away from diffusers', and {BOUND:g} is the bound ({speeds})")
    return {
        "ours": mine["seconds"],
        "theirs": other["seconds"],
        "ratio": other["seconds"] / mine["seconds"],
        "driver": mine["driver"],
        "their driver": other["driver"],
        "distance": apart,
    }


def distance(velocity: np.ndarray, wanted: np.ndarray) -> float:
    """Relative L2 distance, of the branch that is further away."""
    if velocity.shape != wanted.shape:
        raise SystemExit(f"the velocity has shape {velocity.shape}, and diffusers' {wanted.shape}")
    return max(
        float(np.linalg.norm((one - other).ravel()) / np.linalg.norm(other.ravel()))
        for one, other in zip(velocity, wanted, strict=True)
    )


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
        Row(
            f"leaf + stream, {film} frames",
            lambda options, film=film: compare(options, film),
            needs,
            **({} if tiny else {"least_seconds": REAL_SECONDS}),
        )
        for film in ((17,) if tiny else (81, 17))
    ]
    columns = [
        ("wanoffload s/step", "ours", ".3f"), ("diffusers s/step", "theirs", ".3f"), ("ratio", "ratio", ".2f"),
        ("velocity apart", "distance", ".2g"),
        ("driver GB", "driver", "GB"), ("diffusers driver GB", "their driver", "GB"),
    ]  # fmt: skip
    assert len(TEXTS) == 2
    return Stage("peer", "WAN 14B at 832x480 beside diffusers, both branches of guidance, bfloat16", rows, columns,
                 ["1.5 times as fast as diffusers at 81 frames, or more",
                  f"velocity within {BOUND:g} of diffusers', relative L2"])  # fmt: skip
