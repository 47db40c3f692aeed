"""Peak memory of one component, as growth of the process over the moment before the load, output arrays aside.

    python benchmarks/memory.py --work /some/disk

Rows: VAE decode at 256x256, 13 and 49 frames, resident and streamed, float32 and bfloat16; UMT5-XXL through the disk
tier; the 1.3B transformer against its plan. Each row is a fresh process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import checkpoints
import numpy as np
from against_diffusers import resident_peak

STREAMED = dict(onload_device="cpu", offload_device="disk", offload_type="leaf_level", use_stream=True)
ROWS = {
    f"vae-{frames}-{dtype}-{how}": ("vae", dtype, frames, how)
    for dtype in ("float32", "bfloat16")
    for how in ("resident", "streamed")
    for frames in (13, 49)
} | {
    "umt5-disk-bfloat16": ("umt5", "bfloat16", 20, "streamed"),
    "dit-512-bfloat16": ("transformer", "bfloat16", 2, "resident"),
    "dit-512-float32": ("transformer", "float32", 2, "resident"),
}


def worker(arguments: argparse.Namespace) -> None:
    import wanoffload
    from wanoffload import _core

    wanoffload.set_num_threads(arguments.threads)
    network, dtype, size, how = ROWS[arguments.worker]
    rng = np.random.default_rng(1)
    before = resident_peak()
    if network == "vae":
        folder = checkpoints.vae(arguments.work)
        model = wanoffload.AutoencoderKLWan.from_pretrained(folder, dtype=dtype)
        latents = rng.standard_normal((1, 16, (size - 1) // 4 + 1, 32, 32)).astype(np.float32)
        call = lambda: model.decode(latents, return_dict=False)[0]  # noqa: E731
    elif network == "umt5":
        folder = checkpoints.umt5(arguments.work, dtype)
        model = wanoffload.UMT5EncoderModel.from_pretrained(folder, dtype=dtype)
        ids = np.append(rng.integers(300, 200000, size - 1), 1)[None]
        call = lambda: model(ids, np.ones_like(ids))[0]  # noqa: E731
    else:
        folder = checkpoints.transformer(arguments.work, dtype)
        model = wanoffload.WanTransformer3DModel.from_pretrained(folder, dtype=dtype)
        latents = rng.standard_normal((1, 16, size, 32, 32)).astype(np.float32)
        text = np.zeros((1, 512, 4096), np.float32)
        text[:, :20] = rng.standard_normal((20, 4096)) * 0.1
        call = lambda: model(latents, np.float32([500]), text, return_dict=False)[0]  # noqa: E731
    if how == "streamed":
        model.enable_group_offload(**STREAMED)
    start = time.perf_counter()
    result = call()
    seconds = time.perf_counter() - start
    growth = resident_peak() - before - result.nbytes
    report = model.report
    print(
        json.dumps(
            {
                "growth": growth,
                "core": _core.host_memory()["peak"],
                "plan": report.plan["ram"],
                "live": report.plan["live_bytes"],
                "seconds": seconds,
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS), metavar="ROW")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", choices=list(ROWS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments)
        return
    print(f"{'row':28} {'growth':>9} {'core peak':>10} {'plan':>9} {'live':>9} {'seconds':>8}")
    table = {}
    for name in arguments.rows:
        command = [
            sys.executable,
            __file__,
            "--worker",
            name,
            "--work",
            str(arguments.work),
            "--threads",
            str(arguments.threads),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{name} failed:\n{done.stderr}")
        row = table[name] = json.loads(done.stdout.strip().splitlines()[-1])
        print(
            f"{name:28} {row['growth'] / 1e9:7.3f}GB {row['core'] / 1e9:8.3f}GB {row['plan'] / 1e9:7.3f}GB "
            f"{row['live'] / 1e9:7.3f}GB {row['seconds']:8.2f}",
            flush=True,
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
