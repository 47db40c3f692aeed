"""The demo's film on the card against the CPU's."""

from __future__ import annotations

from typing import Any

import numpy as np
from rows import Row, Stage
from surroundings import DEVICE, needs

BOUND = 1e-4  # of values in 0..1, float32
PROMPT_NEEDS = ("ftfy", "tokenizers")  # of whoever reads a prompt
_CALL = {"prompt": "a red triangle gets bigger on a light blue background.", "guidance_scale": 5.0, "generator": 51}


def film(device: str, dtype: str, tiny: bool, own: bool = False) -> tuple[np.ndarray, Any]:
    """The demo's frames, and what happened."""
    import wanoffload
    from wanoffload import _core
    from wanoffload.cli.demo import MODEL, SIZE

    _core._testing.own_kernels_only(own)
    pipe = wanoffload.WanPipeline.from_pretrained(MODEL, dtype=dtype, device=device)
    pipe.set_progress_bar_config(disable=True)
    size = {"height": 16, "width": 16, "num_frames": 1} if tiny else SIZE
    frames = pipe(**_CALL, **size, num_inference_steps=1 if tiny else 20).frames[0]
    return frames, pipe.report


def compare(dtype: str, own: bool, tiny: bool) -> dict[str, Any]:
    """Distance of the card's film from the CPU's float32 one."""
    from wanoffload.comparison import distance

    ours, report = film(DEVICE, dtype, tiny, own)
    psnr, worst = distance(ours, film("cpu", "float32", tiny)[0])
    if dtype == "float32" and worst > BOUND:
        raise SystemExit(f"the film is {worst:.3g} off, and {BOUND:g} is the bound")
    again = film(DEVICE, dtype, tiny, own)[0]
    if again.tobytes() != ours.tobytes():
        raise SystemExit("the same call made another film")
    return {
        "worst": worst,
        "psnr": None if np.isinf(psnr) else psnr,
        "seconds": report.seconds,
        "vram": report.vram_peak,
        "pinned": max(one.pinned_bytes for one in report.components.values()),
    }


def stage(tiny: bool) -> Stage:
    """float32 within a bound, bfloat16 as it is; with the vendor's libraries where they are, and without."""
    rows = [
        Row(
            f"{dtype}{', own kernels' if own else ''}",
            lambda options, dtype=dtype, own=own: compare(dtype, own, options.tiny),
            (*needs(own), *PROMPT_NEEDS),
        )
        for dtype in ("float32", "bfloat16")
        for own in (False, True)
    ]
    columns = [
        ("largest difference", "worst", ".3g"),
        ("PSNR dB", "psnr", ".1f"),
        ("seconds", "seconds", ".2f"),
        ("device GB", "vram", "GB"),
        ("pinned GB", "pinned", "GB"),
    ]
    return Stage("demo", "The demo's film on the card, beside the float32 film of the CPU", rows, columns,
                 [f"float32 within {BOUND:g} of the CPU's; each film twice, the same bits"])  # fmt: skip
