"""``wanoffload demo``: a film in seconds, from the small checkpoints that come with the package."""

from __future__ import annotations

import argparse
import resource
import sys
from pathlib import Path
from typing import Any

from wanoffload.cli import options as shared
from wanoffload.cli.generate import check_output, frames_digest, write_video
from wanoffload.cli.still import draw_still, open_still
from wanoffload.sizes import format_size

PACKAGE = Path(__file__).resolve().parent.parent
MODEL = PACKAGE / "demo_model"
IMAGE_MODEL = PACKAGE / "demo_model_i2v"
PROMPT = "a red triangle gets bigger on a light blue background."
SEED = 51
IMAGE_PROMPT = "a blue heart slides to the right, light blue background"
IMAGE_SEED = 2
PIXELS = 96
SIZE = {"height": PIXELS, "width": PIXELS, "num_frames": 17}
COMPARED_VRAM = "16MiB"  # of the row that is planned: less than the weights take
DRAWN = ""  # --image without a file

_DEMO = f"""\
Makes demo.mp4 with a trained WAN of 13 MB that knows coloured shapes doing one thing, and prints what it did: the
plan, the SHA-256 of the frames' bits, times and memory.

It knows: red, orange, yellow, green, cyan, blue, purple, pink · circle, square, triangle, star, heart ·
moves right / left / up / down, grows, shrinks, spins, bounces · on a dark, white, gray or sky-blue background.

  wanoffload demo
  wanoffload demo "a purple triangle moves up against a white background." --seed 49
  wanoffload demo --offload leaf --stream --disk       the same bits, from weights on disk
  wanoffload demo --compare                            every way of offloading, side by side
  wanoffload demo --image                              image to video: a drawn heart that slides to the right
  wanoffload demo "it falls" --image still.png         another one; of what it knows, please

Without a prompt: "{PROMPT}" with seed {SEED}; with --image: "{IMAGE_PROMPT}" with seed {IMAGE_SEED}.
"""


def add_commands(commands: Any) -> None:
    """Adds the command to the parser."""
    demo = commands.add_parser("demo", help="make a film with the model in the package", description=_DEMO)
    demo.add_argument("prompt", metavar="PROMPT", nargs="?", help="what to show")
    demo.add_argument(
        "--image",
        metavar="FILE",
        nargs="?",
        const=DRAWN,
        help="animate a picture, or a drawn one without FILE; it is cut to a square",
    )
    demo.add_argument("--seed", type=int, help=f"default: {SEED}, with --image {IMAGE_SEED}")
    demo.add_argument("--steps", type=int, default=20, help="denoising steps (default: %(default)s)")
    demo.add_argument("--guidance", type=float, default=5.0, help="default: %(default)s")
    demo.add_argument("--dtype", default="float32", help="float32, bfloat16 or float16 (default: %(default)s)")
    shared.add_device(demo)
    demo.add_argument("--threads", type=int, metavar="N", help="threads that compute; any number gives the same bits")
    demo.add_argument(
        "-o", "--output", default="demo.mp4", metavar="FILE", help=".mp4, .gif or .npy (default: %(default)s)"
    )
    demo.add_argument(
        "--compare",
        metavar="PICTURE",
        nargs="?",
        const="",
        help="instead of writing the film make it in every way of offloading, in bfloat16 and with another flow shift, "
        "and compare, as wanoffload bench does; with a file name draw that too (needs matplotlib)",
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
    if options.compare is not None:
        return compare(options)
    film, pipe = film_of(options), open_pipeline(options)
    shared.apply_offload(pipe, options)
    pipe.set_progress_bar_config(disable=not sys.stderr.isatty(), unit="step")
    seed = seed_of(options)
    print(f'"{film["prompt"]}", seed {seed}, {options.steps} steps, {wanoffload.get_num_threads()} threads\n')
    print(pipe.plan(**film), end="\n\n", flush=True)
    frames = pipe(**film, num_inference_steps=options.steps, generator=seed).frames
    write_video(frames[0], options.output, fps=8, quality=9)
    print(pipe.report)
    print(f"peak memory of this process: {format_size(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)}")
    print(f"SHA-256 of the frames: {frames_digest(frames)}")
    print(f"wrote {options.output}")
    return 0


def compare(options: argparse.Namespace) -> int:
    """Compares the ways of offloading on the film that the options ask for."""
    import wanoffload
    from wanoffload.cli import bench

    if options.offload != "none":
        options.parser.error("--compare runs every way of offloading; leave --offload, --vram and --ram out")
    bench.check_files(options.parser, compare=options.compare or None)
    found = wanoffload.bench(
        MODEL if options.image is None else IMAGE_MODEL,
        **film_of(options),
        num_inference_steps=options.steps,
        seed=seed_of(options),
        dtype=options.dtype,
        vram=COMPARED_VRAM,
        flow_shifts=(5.0,),
        device=options.device,
        progress=bench.say_row,
    )
    return bench.finish(found, None, options.compare or None)


def seed_of(options: argparse.Namespace) -> int:
    """The seed that was given, or the film's own."""
    if options.seed is not None:
        return options.seed
    return SEED if options.image is None else IMAGE_SEED


def open_pipeline(options: argparse.Namespace) -> Any:
    """The pipeline for what the options ask for."""
    import wanoffload

    if options.image is None:
        return wanoffload.WanPipeline.from_pretrained(MODEL, dtype=options.dtype, device=options.device)
    return wanoffload.WanImageToVideoPipeline.from_pretrained(IMAGE_MODEL, dtype=options.dtype, device=options.device)


def film_of(options: argparse.Namespace) -> dict[str, Any]:
    """Those arguments of the pipeline's call that its plan takes too."""
    film = {"prompt": options.prompt or PROMPT, "guidance_scale": options.guidance, **SIZE}
    if options.image is None:
        return film
    still = draw_still(PIXELS) if options.image == DRAWN else open_still(options.image, PIXELS)
    return {**film, "image": still, "prompt": options.prompt or IMAGE_PROMPT}
