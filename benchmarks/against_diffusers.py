"""wanoffload beside diffusers: the same checkpoint, the same inputs, fresh processes, runs in turn.

    python benchmarks/against_diffusers.py --work /some/disk                 all rows
    python benchmarks/against_diffusers.py --work /some/disk --rows dit-512-bfloat16 vae-bfloat16
    python benchmarks/against_diffusers.py --work /some/disk --isa avx2      both sides held to AVX2

Needs the package with the extra `test`, 30 GB of disk in --work for all rows, and a machine that does nothing else. A
row's figures are medians over --pairs pairs of processes; each process makes one call to warm up and then times
--calls calls. Memory is the peak resident set of the process, and its growth over the moment before the model was
loaded.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import checkpoints
import numpy as np

TEXT_ROWS, TEXT_DIM = 512, 4096


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    network: str  # transformer, vae, umt5
    dtype: str
    latents: tuple[int, int, int] = (0, 0, 0)  # frames, height, width
    tokens: int = 0
    layers: int = 24
    padded: bool = False  # umt5: the peer gets the tokens padded to 512
    note: str = ""


ROWS = [
    Row("dit-512-bfloat16", "transformer", "bfloat16", (2, 32, 32), note="256x256x5"),
    Row("dit-512-float32", "transformer", "float32", (2, 32, 32), note="256x256x5"),
    Row("dit-4096-bfloat16", "transformer", "bfloat16", (4, 64, 64), note="512x512x13"),
    Row("dit-4096-float32", "transformer", "float32", (4, 64, 64), note="512x512x13"),
    Row("vae-bfloat16", "vae", "bfloat16", (2, 32, 32), note="256x256x5"),
    Row("vae-float32", "vae", "float32", (2, 32, 32), note="256x256x5"),
    Row("umt5-20-bfloat16", "umt5", "bfloat16", tokens=20),
    Row("umt5-20-bfloat16-padded", "umt5", "bfloat16", tokens=20, padded=True, note="peer padded to 512"),
    Row("umt5-512-bfloat16", "umt5", "bfloat16", tokens=512),
    Row("umt5-20-float32", "umt5", "float32", tokens=20, layers=6, note="6 of 24 layers"),
    Row("umt5-512-float32", "umt5", "float32", tokens=512, layers=6, note="6 of 24 layers"),
]


def checkpoint(row: Row, work: Path) -> Path:
    if row.network == "transformer":
        return checkpoints.transformer(work, row.dtype)
    if row.network == "vae":
        return checkpoints.vae(work)
    return checkpoints.umt5(work, row.dtype, row.layers)


def inputs(row: Row) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    if row.network == "umt5":
        return {"ids": np.append(rng.integers(300, 200000, row.tokens - 1), 1)[None].astype(np.int64)}
    latents = rng.standard_normal((1, 16, *row.latents)).astype(np.float32)
    text = np.zeros((1, TEXT_ROWS, TEXT_DIM), np.float32)
    text[:, :20] = rng.standard_normal((20, TEXT_DIM)) * 0.1
    return {"latents": latents, "text": text}


def load_ours(row: Row, folder: Path, threads: int) -> Callable[[], np.ndarray]:
    import wanoffload

    wanoffload.set_num_threads(threads)
    given = inputs(row)
    if row.network == "transformer":
        model = wanoffload.WanTransformer3DModel.from_pretrained(folder, dtype=row.dtype)
        timestep = np.array([500.0], np.float32)
        return lambda: model(given["latents"], timestep, given["text"], return_dict=False)[0]
    if row.network == "vae":
        model = wanoffload.AutoencoderKLWan.from_pretrained(folder, dtype=row.dtype)
        return lambda: model.decode(given["latents"], return_dict=False)[0]
    model = wanoffload.UMT5EncoderModel.from_pretrained(folder, dtype=row.dtype)
    mask = np.ones_like(given["ids"])
    return lambda: model(given["ids"], mask)[0]


def load_theirs(row: Row, folder: Path, threads: int) -> Callable[[], np.ndarray]:
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    dtype = getattr(torch, row.dtype)
    given = {name: torch.from_numpy(value) for name, value in inputs(row).items()}
    if row.network == "umt5":
        from transformers import UMT5EncoderModel

        model = UMT5EncoderModel.from_pretrained(folder, dtype=dtype)
        ids, mask = given["ids"], torch.ones_like(given["ids"])
        if row.padded:
            pad = torch.zeros(1, TEXT_ROWS - row.tokens, dtype=torch.int64)
            ids, mask = torch.cat([ids, pad], 1), torch.cat([mask, pad], 1)
        return lambda: model(ids, mask).last_hidden_state[:, : row.tokens].float().numpy()
    import diffusers

    latents = given["latents"].to(dtype)
    if row.network == "vae":
        model = diffusers.AutoencoderKLWan.from_pretrained(folder, torch_dtype=dtype)
        return lambda: model.decode(latents, return_dict=False)[0].float().numpy()
    model = diffusers.WanTransformer3DModel.from_pretrained(folder, torch_dtype=dtype)
    text, timestep = given["text"].to(dtype), torch.tensor([500])
    return lambda: model(latents, timestep, text, return_dict=False)[0].float().numpy()


def resident_peak() -> int:
    """Peak resident bytes of this process alone; ru_maxrss would begin with the peak of the process that forked it."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) * 1024


def worker(arguments: argparse.Namespace) -> None:
    """Runs one side of one row and prints a JSON line."""
    row = next(row for row in ROWS if row.name == arguments.worker_row)
    if arguments.worker == "theirs":
        import diffusers  # noqa: F401  (imports belong to the moment before the load)
        import torch  # noqa: F401
        import transformers  # noqa: F401
    before = resident_peak()
    load = load_ours if arguments.worker == "ours" else load_theirs
    start = time.perf_counter()
    call = load(row, checkpoint(row, arguments.work), arguments.threads)
    loaded = time.perf_counter() - start
    first = call()
    seconds = []
    for _ in range(arguments.calls):
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
    assert np.array_equal(first, result) or arguments.worker == "theirs"
    if arguments.save:
        np.save(arguments.save, result)
    peak = resident_peak()
    print(json.dumps({"seconds": statistics.median(seconds), "load": loaded, "peak": peak, "growth": peak - before}))


def run_side(side: str, row: Row, arguments: argparse.Namespace) -> dict:
    environment = dict(os.environ)
    if arguments.isa == "avx2":
        environment.update(ATEN_CPU_CAPABILITY="avx2", ONEDNN_MAX_CPU_ISA="AVX2", WANOFFLOAD_TEST_ISA="avx2")
        environment.update(MKL_ENABLE_INSTRUCTIONS="AVX2")  # float32 products of torch on Intel
    elif arguments.isa:
        environment.update(WANOFFLOAD_TEST_ISA=arguments.isa)
        if arguments.isa == "avx512_bf16":
            environment.update(ONEDNN_MAX_CPU_ISA="AVX512_CORE_BF16")
    command = [sys.executable, __file__, "--worker", side, "--worker-row", row.name, "--work", str(arguments.work)]
    command += ["--threads", str(arguments.threads), "--calls", str(arguments.calls)]
    command += ["--save", str(arguments.work / f"out-{side}.npy")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{side} failed on {row.name}:\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def distance(work: Path) -> float:
    """Relative L2 distance between the two sides' last results: they did compute the same thing."""
    ours, theirs = (np.load(work / f"out-{side}.npy").astype(np.float64) for side in ("ours", "theirs"))
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def machine(arguments: argparse.Namespace) -> str:
    import wanoffload

    name = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            name = line.split(":", 1)[1].strip()
            break
    probe = json.loads(
        subprocess.run(
            [sys.executable, str(Path(__file__).with_name("peak.py")), "--threads", str(arguments.threads), "--json"]
            + (["--isa", arguments.isa] if arguments.isa else []),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    peaks = ", ".join(f"{kind} {value:.0f} GFLOP/s" for kind, value in probe["peaks"].items())
    where = f"{name}, {arguments.threads} threads, {probe['isa']}"
    return f"{where}; probed peak: {peaks}; wanoffload {wanoffload.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the checkpoints, kept between runs")
    parser.add_argument(
        "--rows", nargs="*", default=[row.name for row in ROWS], choices=[row.name for row in ROWS], metavar="ROW"
    )
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--calls", type=int, default=1, help="timed calls in each process")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--isa",
        choices=["avx2", "avx512", "avx512_bf16", "amx"],
        help="hold our side (for avx2 and avx512_bf16 both) to it",
    )
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--worker", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    parser.add_argument("--worker-row", help=argparse.SUPPRESS)
    parser.add_argument("--save", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments)
        return
    print(f"# {machine(arguments)}; {arguments.pairs} pairs, {arguments.calls} timed calls each", flush=True)
    print(f"{'row':26} {'ours s':>8} {'peer s':>8} {'ratio':>6} ", end="")
    print(f"{'ours peak':>10} {'peer peak':>10} {'ratio':>6} {'distance':>9}", flush=True)
    table = []
    for row in [row for row in ROWS if row.name in arguments.rows]:
        checkpoint(row, arguments.work)
        ours, theirs = [], []
        for _ in range(arguments.pairs):
            ours.append(run_side("ours", row, arguments))
            theirs.append(run_side("theirs", row, arguments))
        pick = lambda side, key: statistics.median(run[key] for run in side)  # noqa: E731
        ratio = statistics.median(a["seconds"] / b["seconds"] for a, b in zip(ours, theirs, strict=True))
        memory = pick(ours, "peak") / pick(theirs, "peak")
        far = distance(arguments.work)
        print(
            f"{row.name:26} {pick(ours, 'seconds'):8.3f} {pick(theirs, 'seconds'):8.3f} {ratio:6.2f} "
            f"{pick(ours, 'peak') / 1e9:8.2f}GB {pick(theirs, 'peak') / 1e9:8.2f}GB {memory:6.2f} "
            f"{far:9.1e}  {row.note}",
            flush=True,
        )
        table.append({"row": row.name, "ratio": ratio, "distance": far, "ours": ours, "theirs": theirs})
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(arguments), "rows": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
