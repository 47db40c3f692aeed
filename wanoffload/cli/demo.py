"""``wanoffload demo``: a film in seconds, from the small checkpoint that comes with the package."""

from __future__ import annotations

import argparse
import resource
import sys
from pathlib import Path
from typing import Any

from wanoffload.cli import options as shared
from wanoffload.cli.generate import check_output, frames_digest, write_video
from wanoffload.sizes import format_size

MODEL = Path(__file__).resolve().parent.parent / "demo_model"
PROMPT = "a red triangle gets bigger on a light blue background."
SEED = 51
SIZE = {"height": 96, "width": 96, "num_frames": 17}

_DEMO = f"""\
Makes demo.mp4 with a trained WAN of 13 MB that knows coloured shapes doing one thing, and prints what it did: the
plan, the SHA-256 of the frames' bits, times and memory.

It knows: red, orange, yellow, green, cyan, blue, purple, pink · circle, square, triangle, star, heart ·
moves right / left / up / down, grows, shrinks, spins, bounces · on a dark, white, gray or sky-blue background.

  wanoffload demo
  wanoffload demo "a purple triangle moves up against a white background." --seed 49
  wanoffload demo --offload leaf --stream --disk       the same bits, from weights on disk

Without a prompt: "{PROMPT}" with seed {SEED}.
"""


def add_commands(commands: Any) -> None:
    """Adds the command to the parser."""
    demo = commands.add_parser("demo", help="make a film with the model in the package", description=_DEMO)
    demo.add_argument("prompt", metavar="PROMPT", nargs="?", default=PROMPT, help="what to show")
    demo.add_argument("--seed", type=int, default=SEED, help="default: %(default)s")
    demo.add_argument("--steps", type=int, default=20, help="denoising steps (default: %(default)s)")
    demo.add_argument("--guidance", type=float, default=5.0, help="default: %(default)s")
    demo.add_argument("--dtype", default="float32", help="float32, bfloat16 or float16 (default: %(default)s)")
    demo.add_argument("--threads", type=int, metavar="N", help="threads that compute; any number gives the same bits")
    demo.add_argument(
        "-o", "--output", default="demo.mp4", metavar="FILE", help=".mp4, .gif or .npy (default: %(default)s)"
    )
    shared.add_offload(demo)
    demo.set_defaults(run=run, parser=demo)


def run(options: argparse.Namespace) -> int:
    """Makes the film and prints what was done."""
    import wanoffload

    shared.check_offload(options, options.parser)
    check_output(options.output, options.parser)
    if options.threads is not None:
        wanoffload.set_num_threads(options.threads)
    pipe = wanoffload.WanPipeline.from_pretrained(MODEL, dtype=options.dtype)
    shared.apply_offload(pipe, options)
    pipe.set_progress_bar_config(disable=not sys.stderr.isatty(), unit="step")
    print(f'"{options.prompt}", seed {options.seed}, {options.steps} steps, {wanoffload.get_num_threads()} threads\n')
    print(pipe.plan(prompt=options.prompt, guidance_scale=options.guidance, **SIZE), end="\n\n", flush=True)
    frames = pipe(
        options.prompt,
        guidance_scale=options.guidance,
        num_inference_steps=options.steps,
        generator=options.seed,
        **SIZE,
    ).frames
    write_video(frames[0], options.output, fps=8, quality=9)
    print(pipe.report)
    print(f"peak memory of this process: {format_size(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)}")
    print(f"SHA-256 of the frames: {frames_digest(frames)}")
    print(f"wrote {options.output}")
    return 0
