"""The ways of offloading the 1.3B transformer, side by side: seconds a step, memory, bytes moved, stall, bits.

    python benchmarks/offload_table.py --work /some/disk [--tokens 4096] [--branches 2] [--dtype bfloat16] [--steps 3]

Each row is a process of its own; rows are run in turn --rounds times and medians shown. "over" compares a row's
seconds per step with the resident row of the same round. The file is read once beforehand so that it lies in the page
cache.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import checkpoints
import numpy as np
from against_diffusers import resident_peak

MODES = {
    "resident": None,
    "block": dict(offload_type="block_level", num_blocks_per_group=1),
    "leaf": dict(offload_type="leaf_level"),
    "block+stream": dict(offload_type="block_level", num_blocks_per_group=1, use_stream=True),
    "leaf+stream": dict(offload_type="leaf_level", use_stream=True),
    "disk leaf+stream": dict(offload_type="leaf_level", use_stream=True, offload_device="disk"),
    "disk block+stream": dict(
        offload_type="block_level", num_blocks_per_group=1, use_stream=True, offload_device="disk"
    ),
}
GRIDS = {512: (2, 32, 32), 1024: (4, 32, 32), 4096: (4, 64, 64)}


def worker(arguments: argparse.Namespace) -> None:
    import wanoffload
    from wanoffload import _core

    wanoffload.set_num_threads(arguments.threads)
    model = wanoffload.WanTransformer3DModel.from_pretrained(
        checkpoints.transformer(arguments.work, arguments.dtype), dtype=arguments.dtype
    )
    if MODES[arguments.worker] is not None:
        model.enable_group_offload(onload_device="cpu", **MODES[arguments.worker])
    rng = np.random.default_rng(1)
    frames, height, width = GRIDS[arguments.tokens]
    latents = rng.standard_normal((arguments.branches, 16, frames, height, width)).astype(np.float32)
    texts = [(512, (rng.standard_normal((20, 4096)) * 0.1).astype(np.float32)) for _ in range(arguments.branches)]
    engine, shape = _core.Engine("cpu"), (frames, height, width)
    plan = model.core.plan(engine, *shape, [(512, 20)] * arguments.branches, model.offload.policy())
    execution = _core.Exec(engine, model.core, plan)
    execution.prepare(texts, frames, height, width, follow=True)
    digest, seconds = hashlib.sha256(), []
    times = np.full(arguments.branches, 500, np.float32)
    for step in range(arguments.steps + 1):
        start = time.perf_counter()
        velocity = execution.step(latents, times - step, follow=step < arguments.steps)
        if step:  # the first step warms up
            seconds.append(time.perf_counter() - start)
        digest.update(velocity.tobytes())
    report = execution.close()
    print(
        json.dumps(
            {
                "seconds": statistics.median(seconds),
                "peak": resident_peak(),
                "core_peak": _core.host_memory()["peak"],
                "moved": report["bytes_moved"] / report["passes"],
                "disk": report["bytes_from_disk"] / report["passes"],
                "stall": report["stall_seconds"] / report["passes"],
                "bits": digest.hexdigest()[:12],
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=4096, choices=sorted(GRIDS))
    parser.add_argument("--branches", type=int, default=2)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--modes", nargs="*", default=list(MODES), choices=list(MODES), metavar="MODE")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", choices=list(MODES), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments)
        return
    folder = checkpoints.transformer(arguments.work, arguments.dtype)
    with open(folder / "diffusion_pytorch_model.safetensors", "rb", buffering=0) as file:
        while file.read(1 << 24):
            pass
    rounds: dict[str, list[dict]] = {mode: [] for mode in arguments.modes}
    for _ in range(arguments.rounds):
        for mode in arguments.modes:
            command = [
                sys.executable,
                __file__,
                "--worker",
                mode,
                "--work",
                str(arguments.work),
                "--tokens",
                str(arguments.tokens),
            ]
            command += [
                "--branches",
                str(arguments.branches),
                "--dtype",
                arguments.dtype,
                "--steps",
                str(arguments.steps),
            ]
            command += ["--threads", str(arguments.threads)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{mode} failed:\n{done.stderr}")
            rounds[mode].append(json.loads(done.stdout.strip().splitlines()[-1]))
    shape = f"{arguments.tokens} tokens, {arguments.branches} branches"
    print(f"# 1.3B, {arguments.dtype}, {shape}, {arguments.threads} threads")
    print(f"{'mode':18} {'s/step':>8} {'over':>7} {'stall s':>8} {'moved/pass':>11} ", end="")
    print(f"{'disk/pass':>10} {'RSS peak':>9} {'core peak':>9}  bits")
    for mode, runs in rounds.items():
        pick = lambda key: statistics.median(run[key] for run in runs)  # noqa: B023, E731
        base = rounds.get("resident", runs)
        over = statistics.median(run["seconds"] / other["seconds"] for run, other in zip(runs, base, strict=True)) - 1
        print(
            f"{mode:18} {pick('seconds'):8.3f} {over:+7.1%} {pick('stall'):8.3f} {pick('moved') / 1e9:9.3f}GB "
            f"{pick('disk') / 1e9:8.3f}GB {pick('peak') / 1e9:7.2f}GB "
            f"{pick('core_peak') / 1e9:7.2f}GB  {runs[0]['bits']}"
        )
    if len({run["bits"] for runs in rounds.values() for run in runs}) != 1:
        raise SystemExit("The bits differ between modes.")
    if arguments.json:
        arguments.json.write_text(json.dumps(rounds, indent=1) + "\n")


if __name__ == "__main__":
    main()
