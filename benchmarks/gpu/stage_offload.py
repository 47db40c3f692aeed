"""Every way of offloading the demo's pipeline on the card: the same film, bit for bit."""

from __future__ import annotations

import hashlib
from typing import Any

from rows import Row, Stage
from stage_demo import PROMPT_NEEDS
from surroundings import DEVICE

_CALL = {"prompt": "a red star moves right on a dark background.", "guidance_scale": 5.0, "generator": 7}
_LEVELS = {
    "block": dict(offload_type="block_level", num_blocks_per_group=1),
    "two blocks": dict(offload_type="block_level", num_blocks_per_group=2),
    "leaf": dict(offload_type="leaf_level"),
}


def ways(tiny: bool) -> dict[str, Any]:
    """What is done to a pipeline, by name; the first is what the others are compared with. tiny: some of them."""
    found: dict[str, Any] = {"resident": lambda pipe: None}
    for name, level in _LEVELS.items():
        for stream in (True, False):
            for tier in ("cpu", "disk"):
                if tiny and (name == "two blocks" or stream != (tier == "cpu")):
                    continue
                label = f"{name}, {'stream' if stream else 'no stream'}, {'host' if tier == 'cpu' else 'disk'}"
                arguments = dict(onload_device=DEVICE, offload_device=tier, use_stream=stream, **level)
                found[label] = lambda pipe, arguments=arguments: pipe.enable_group_offload(**arguments)
    found["whole networks"] = lambda pipe: pipe.enable_model_cpu_offload(device=DEVICE)
    found["sequential"] = lambda pipe: pipe.enable_sequential_cpu_offload(device=DEVICE)
    for vram in ("48MiB", "36MiB"):
        found[f"planned for {vram}"] = lambda pipe, vram=vram: pipe.enable_auto_offload(vram=vram)
    return found


def run_all(options: Any, dtype: str, chaos: bool) -> dict[str, Any]:
    """Makes the film in every way; the figures are of all of them."""
    import wanoffload
    from wanoffload import _core
    from wanoffload.cli.demo import MODEL, SIZE
    from wanoffload.errors import PlanError

    size = {"height": 16, "width": 16, "num_frames": 1} if options.tiny else SIZE
    steps = 1 if options.tiny else 6
    digests: dict[str, str] = {}
    over = 0
    for name, set_up in ways(options.tiny).items():
        pipe = wanoffload.WanPipeline.from_pretrained(MODEL, dtype=dtype, device=DEVICE)
        pipe.set_progress_bar_config(disable=True)
        set_up(pipe)
        if chaos:
            _core._testing.configure(pipe.runtime.engine, poison=True, chaos_seed=11, chaos_delay=0.0003)
        try:
            plan = pipe.plan(_CALL["prompt"], **size)
        except PlanError as refused:
            pipe.enable_auto_offload(vram=refused.needed["vram"])
            plan = pipe.plan(_CALL["prompt"], **size)
        frames = pipe(**_CALL, **size, num_inference_steps=steps).frames
        digests[name] = hashlib.sha256(frames.tobytes()).hexdigest()
        over = max(over, pipe.report.vram_peak - plan.vram)
    wanted = digests["resident"]
    other = [name for name, digest in digests.items() if digest != wanted]
    if other:
        raise SystemExit(f"other bits than resident: {', '.join(other)}")
    if over > 0:
        raise SystemExit(f"{over} bytes more of the card's memory were held than planned")
    return {"ways": len(digests), "sha256": wanted[:16], "beyond the plan": over}


def stage(tiny: bool) -> Stage:
    """The matrix in both dtypes, plain and under chaos."""
    rows = [
        Row(
            f"{dtype}{', chaos' if chaos else ''}",
            lambda options, d=dtype, c=chaos: run_all(options, d, c),
            ("card", *PROMPT_NEEDS),
        )
        for chaos in (False, True)
        for dtype in ("float32", "bfloat16")
    ]
    columns = [
        ("ways, all equal", "ways", "d"),
        ("SHA-256", "sha256", ""),
        ("bytes beyond the plan", "beyond the plan", "d"),
    ]
    return Stage("offload", "Every way of offloading on the card: the same bits", rows, columns,
                 ["one digest for all ways; chaos: random delays, and what is freed turns to NaN"])  # fmt: skip
