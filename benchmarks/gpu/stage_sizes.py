"""The 14B transformer and the VAE at real sizes: seconds per step in every mode, copies, memory by plan and driver."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import hashlib
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import shapes
import surroundings
from card_memory import CardMemory, host_peak
from rows import REAL_SECONDS, Row, Stage
from surroundings import DEVICE

LATENTS_480P, LATENTS_720P, TINY_LATENTS = (60, 104), (90, 160), (4, 6)
FRAMES = {17: 5, 49: 13, 81: 21}  # of a film: of its latents
TEXTS = [(512, 120), (512, 40)]  # rows and tokens of the two branches
MODES: dict[str, dict[str, Any]] = {
    "resident": {"level": "resident"},
    "leaf + stream": {"level": "leaf", "tier": "host", "use_stream": True},
    "block + stream": {"level": "block", "tier": "host", "use_stream": True, "blocks_per_group": 1},
    "leaf + stream, one branch at a time": {
        "level": "leaf",
        "tier": "host",
        "use_stream": True,
        "passes_apart": True,
        "row_chunk": 2048,
    },
    "leaf + stream from disk": {"level": "leaf", "tier": "disk", "use_stream": True},
    "leaf": {"level": "leaf", "tier": "host"},
    "block": {"level": "block", "tier": "host", "blocks_per_group": 1},
}
_NEEDS = ("card", "disk 32")
_COMPARED = 2  # steps that every row takes
_HOST = (*_NEEDS, "memory 40")


def warm(folder: Path) -> None:
    """Reads a checkpoint once, so that it lies in the page cache for whoever is measured."""
    for file in folder.glob("*.safetensors"):
        with open(file, "rb", buffering=0) as data:
            while data.read(1 << 24):
                pass


def inputs(model: Any, frames: int, size: tuple[int, int]) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    """Latents of both branches, and their texts."""
    rng = np.random.default_rng(1)
    latents = rng.standard_normal((len(TEXTS), model.config.in_channels, frames, *size)).astype(np.float32)
    width = model.config.text_dim
    return latents, [(rows, (rng.standard_normal((real, width)) * 0.1).astype(np.float32)) for rows, real in TEXTS]


def step_row(options: Any, mode: str, films: list[int], size: tuple[int, int], steps: int) -> dict[str, Any]:
    """Seconds per step of one mode, for several lengths of film; one step to warm up, then `steps`."""
    import wanoffload

    folder = shapes.ensure(options.work, "transformer-14b", options.tiny)
    warm(folder)
    size = TINY_LATENTS if options.tiny else size
    with CardMemory() as watch:
        model = wanoffload.WanTransformer3DModel.from_pretrained(folder, dtype="bfloat16", device=DEVICE)
        engine = model.runtime.engine
        watch.start_over()  # after initialisation: the context and its kernels are there
        found = {
            film: measure(model, engine, watch, mode, 1 + (film > 17) if options.tiny else FRAMES[film], size, steps)[0]
            for film in films
        }
    first = found[films[-1]]
    return {**first, "films": found, "table": by_film(found)}


def by_film(found: dict[int, dict[str, Any]]) -> str:
    """Seconds per step of each length."""
    return ", ".join(f"{film}: {one['seconds']:.3f}" for film, one in found.items())


def measure(
    model: Any, engine: Any, watch: CardMemory, mode: str, frames: int, size: tuple[int, int], steps: int
) -> tuple[dict[str, Any], np.ndarray]:
    """One film's steps under one policy: figures, and the last step's velocity of both branches."""
    from wanoffload import _core

    latents, texts = inputs(model, frames, size)
    plan = model.core.plan(engine, frames, *size, [(rows, len(one)) for rows, one in texts], MODES[mode])
    summary, work = plan.summary(), plan.passes()[1]["work"]
    seconds, digest = [], hashlib.sha256()
    times = np.full(len(texts), 500, np.float32)
    execution = _core.Exec(engine, model.core, plan)
    try:
        execution.prepare(texts, frames, *size, follow=True)
        for step in range(steps + 1):
            with watch.sampling() if step == 0 else contextlib.nullcontext():
                began = time.perf_counter()
                velocity = execution.step(latents, times - step, follow=step < steps)
                seconds.append(time.perf_counter() - began)
            watch.look()
            if step < _COMPARED:
                digest.update(velocity.tobytes())
        last = np.array(velocity)
        pinned, held = _core.host_memory(), engine.held()
    finally:
        report = execution.close()
    gc.collect()
    flop = sum(sum(work[kind]) for kind in ("products", "attention", "convolutions"))
    taken = statistics.median(seconds[1:])
    card = surroundings.card()[0]
    figures = {
        "seconds": taken,
        "first": seconds[0],
        "load": report["load_seconds"],
        "stall": report["stall_seconds"] / report["passes"],
        "tflops": flop / taken / 1e12,
        "of peak": flop / taken / 1e12 / card["bf16_tflops"] if card["bf16_tflops"] else None,
        "moved": report["bytes_moved"] / report["passes"],
        "copy rate": report["bytes_moved"] / report["copy_seconds"] if report["copy_seconds"] else None,
        "plan": summary["vram"],
        "arena": summary["work_bytes"],
        "held": held["resident_bytes"] + held["arena_bytes"],
        "driver": watch.peak,
        "pinned": pinned["pinned"],
        "ram": pinned["peak"],
        "ram plan": summary["ram"],
        "resident set": host_peak(),
        "bits": digest.hexdigest()[:12],
    }
    return figures, last


def overhead(options: Any, out: Path, rows: list[str]) -> dict[str, Any]:
    """Seconds per step of the modes over those of the resident one, from what was measured before; and whether the bits
    are one."""
    found = json.loads(out.read_text())["rows"]
    done = {name: found[name]["figures"] for name in rows if found.get(name, {}).get("status") == "ok"}
    if "resident" not in done:
        raise SystemExit("the resident mode was not measured")
    base = done["resident"]
    films = base["films"]
    lines, bits = [], True
    for name, one in done.items():
        for film, figures in one["films"].items():
            if film in films:
                lines.append(f"{name}, {film} frames: {figures['seconds'] / films[film]['seconds'] - 1:+.1%}")
                bits = bits and figures["bits"] == films[film]["bits"]
    if not bits:
        raise SystemExit("the bits of a mode are not those of the resident one")
    return {"table": "; ".join(lines) + "; the same bits"}


def vae_row(options: Any, state_on_host: bool, dtype: str) -> dict[str, Any]:
    """Decodes a film of 81 frames at 480p, latent by latent."""
    import wanoffload
    from wanoffload import _core

    folder = shapes.ensure(options.work, "vae-2.1", options.tiny)
    (height, width), count = (TINY_LATENTS, 3) if options.tiny else (LATENTS_480P, FRAMES[81])
    with CardMemory() as watch:
        model = wanoffload.AutoencoderKLWan.from_pretrained(folder, dtype=dtype, device=DEVICE)
        engine = model.runtime.engine
        watch.start_over()
        plan = model.core.plan(engine, height, width, {"level": "resident", "state_on_host": state_on_host})
        latent = np.random.default_rng(2).standard_normal((model.config.z_dim, height, width)).astype(np.float32)
        execution = _core.Exec(engine, model.core, plan)
        seconds = 0.0
        try:
            for index in range(count):
                began = time.perf_counter()
                frames = execution.decode(latent, first=index == 0, follow=index + 1 < count)
                seconds += time.perf_counter() - began
                watch.look()
            pinned = _core.host_memory()
        finally:
            report = execution.close()
    summary = plan.summary()
    work = [one["work"]["convolutions"] for one in plan.passes()]
    flop = sum(work[0]) + (count - 1) * sum(work[1])
    return {
        "seconds": seconds,
        "load": report["load_seconds"],
        "tflops": flop / seconds / 1e12,
        "plan": summary["vram"],
        "driver": watch.peak,
        "pinned": pinned["pinned"],
        "ram": pinned["peak"],
        "ram plan": summary["ram"],
        "resident set": host_peak(),
        "table": f"{count} latents to {1 + 4 * (count - 1)} frames of {frames.shape[1]} x {frames.shape[2]}",
    }


COLUMNS = [
    ("s/step", "seconds", ".3f"), ("stall s", "stall", ".3f"), ("TFLOP/s", "tflops", ".0f"),
    ("of peak", "of peak", ".0%"), ("moved GB", "moved", "GB"), ("copies GB/s", "copy rate", "GB"),
    ("plan GB", "plan", "GB"), ("driver GB", "driver", "GB"), ("pinned GB", "pinned", "GB"), ("host GB", "ram", "GB"),
    ("resident set GB", "resident set", "GB"), ("load s", "load", ".1f"), ("bits", "bits", ""),
    ("by film", "table", ""),
]  # fmt: skip


def _over(name: str, modes: list[str], stage: str) -> Row:
    def run(options: Any) -> dict[str, Any]:
        return overhead(options, options.out / f"{stage}.json", modes)

    return Row(name, run, ("card",), "seconds per step of the modes above over those of the resident one", derived=True)


def stage_480p(tiny: bool) -> Stage:
    """All modes and lengths at 832x480. The VAE comes last, for its checkpoint takes the place of the transformer's,
    which takes minutes to make."""
    films = [17, 49] if tiny else [17, 49, 81]
    rows = []
    for name in MODES:
        lengths, steps = (films[:2], 1) if name in ("leaf", "block") else (films, 2)
        needs = () if tiny else _NEEDS if name in ("resident", "leaf + stream from disk") else _HOST
        rows.append(
            Row(
                name,
                lambda options, name=name, lengths=lengths, steps=steps: step_row(
                    options, name, lengths, LATENTS_480P, steps
                ),
                needs,
            )
        )
    rows = [*_real(rows, tiny), _over("overhead", list(MODES), "480p")]
    vae = [
        Row(
            f"VAE {dtype}{', state on the host' if host else ''}",
            lambda options, host=host, dtype=dtype: vae_row(options, host, dtype),
        )
        for dtype in ("bfloat16", "float32")
        for host in (False, True)
    ]
    rows += _real(vae, tiny)
    return Stage("480p", "WAN 14B at 832x480, both branches, bfloat16", _with_card(rows), COLUMNS, [
        "overhead of streaming over resident at 81 frames: 1 % or less",
        "device memory of one branch at a time, leaf level: 3.2 GB or less; host memory from disk: 8 GB or less",
        "VAE within 4 GB with its state on the host",
    ])  # fmt: skip


def stage_720p(tiny: bool) -> Stage:
    """One step at 1280x720, 81 frames."""
    names = ["resident", "leaf + stream", "block + stream", "leaf + stream, one branch at a time"]
    rows = [
        Row(
            name,
            lambda options, name=name: step_row(options, name, [81], LATENTS_720P, 1),
            () if tiny else _NEEDS if name == "resident" else _HOST,
        )
        for name in names
    ]
    rows = [*_real(rows, tiny), _over("overhead", names, "720p")]
    return Stage("720p", "WAN 14B at 1280x720, 81 frames, both branches, bfloat16", _with_card(rows), COLUMNS, [
        "device memory of one branch at a time, leaf level: 4.8 GB or less",
    ])  # fmt: skip


def _with_card(rows: list[Row]) -> list[Row]:
    """Every row needs a card, whatever else."""
    return [dataclasses.replace(row, needs=("card", *(need for need in row.needs if need != "card"))) for row in rows]


def _real(rows: list[Row], tiny: bool) -> list[Row]:
    """Rows of real size are begun only while there is time for one."""
    return rows if tiny else [dataclasses.replace(row, least_seconds=REAL_SECONDS) for row in rows]
