"""``wanoffload bench``: the ways of offloading one model, side by side on this machine."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import Any

from wanoffload.cli import options as shared
from wanoffload.cli.sources import check_sources
from wanoffload.comparison import OFFLOADS, Comparison, Row, bench

_BENCH = """\
Makes the same film with all weights resident, by block and by leaf, with and without a copy stream, from disk, and as
planned for --vram and --ram; then in other dtypes, with their distance from the float32 film; then with other flow
shifts. Prints seconds per step, stalls, bytes moved, and memory beside the plan.

  wanoffload bench MODEL --prompt "a cat baking a cake" --size 832x480 --frames 33 --plot bench.png
  wanoffload bench MODEL --dtype bfloat16 --vram 8GiB --offload resident leaf+stream --dtypes --flow-shifts

Every way of offloading has to make the same film, bit for bit: one that does not is a red row and exit code 1.
"""


def film_size(text: str) -> tuple[int, int]:
    """WIDTHxHEIGHT as argparse reads it."""
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"it has to be WIDTHxHEIGHT like 832x480, but is {text!r}") from None
    return width, height


def add_commands(commands: Any) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser("bench", help="compare the ways of offloading a model", description=_BENCH)
    parser.add_argument("model", metavar="MODEL", help="a checkpoint folder in diffusers' layout, or OWNER/NAME")
    film = parser.add_argument_group("film")
    film.add_argument("--prompt", default="a cat walks through high grass", help="default: %(default)s")
    film.add_argument("--negative-prompt", help="what to steer away from")
    film.add_argument("--image", metavar="FILE", help="the first frame, for an image-to-video model")
    film.add_argument("--last-image", metavar="FILE", help="the last frame, for a model made for both (FLF2V)")
    film.add_argument("--video", metavar="FILE", help="a film to make over again, with a text-to-video model")
    film.add_argument("--strength", type=float, metavar="S",
                      help="with --video: how much is made anew, up to 1 (default: 0.8)")  # fmt: skip
    film.add_argument("--size", type=film_size, default=(832, 480), metavar="WxH", help="in pixels (default: 832x480)")
    film.add_argument("--frames", type=int, default=17, help="4k + 1; of --video the first ones (default: %(default)s)")
    film.add_argument("--steps", type=int, default=4, help="denoising steps (default: %(default)s)")
    film.add_argument("--guidance", type=float, default=5.0, help="default: %(default)s")
    film.add_argument("--guidance-2", type=float, metavar="G",
                      help="the same for the second expert of WAN 2.2 (default: that of --guidance)")  # fmt: skip
    film.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    rows = parser.add_argument_group("rows")
    rows.add_argument("--dtype", default="float32", help="of offload and flow shift rows (default: %(default)s)")
    rows.add_argument("--vram", type=shared.size, metavar="SIZE", help="bound of the device arena in the auto row")
    rows.add_argument("--ram", type=shared.size, metavar="SIZE", help="bound of memory in the auto row")
    rows.add_argument("--offload", nargs="+", default=list(OFFLOADS), choices=list(OFFLOADS), metavar="ROW",
                      help=f"some of {', '.join(OFFLOADS)} (default: all)")  # fmt: skip
    rows.add_argument("--dtypes", nargs="*", default=["float32", "bfloat16"], metavar="DTYPE",
                      help="compared with the float32 film (default: float32 bfloat16)")  # fmt: skip
    rows.add_argument("--flow-shifts", nargs="*", type=shared.flow_shift, default=[3.0, 5.0], metavar="S",
                      help="numbers, or auto for the published one, beside the model's own (default: 3 5)")  # fmt: skip
    output = parser.add_argument_group("output")
    shared.add_device(output)
    output.add_argument("--threads", type=int, metavar="N", help="threads that compute")
    output.add_argument("--json", metavar="FILE", help="write every figure as JSON")
    output.add_argument("--plot", metavar="FILE", help="draw one picture of it (needs matplotlib)")
    parser.set_defaults(run=run, parser=parser)


def run(options: argparse.Namespace) -> int:
    """Runs the comparison and prints it."""
    import wanoffload

    check_sources(options, options.parser)
    check_files(options.parser, json=options.json, plot=options.plot)
    if options.threads is not None:
        wanoffload.set_num_threads(options.threads)
    image, last_image = (
        wanoffload.load_image(file) if file is not None else None for file in (options.image, options.last_image)
    )
    width, height = options.size
    found = bench(
        options.model,
        options.prompt,
        negative_prompt=options.negative_prompt,
        image=image,
        last_image=last_image,
        video=options.video,
        strength=options.strength,
        height=height,
        width=width,
        num_frames=options.frames,
        num_inference_steps=options.steps,
        guidance_scale=options.guidance,
        guidance_scale_2=options.guidance_2,
        seed=options.seed,
        dtype=options.dtype,
        vram=options.vram,
        ram=options.ram,
        offloads=options.offload,
        dtypes=options.dtypes,
        flow_shifts=options.flow_shifts,
        device=options.device,
        progress=say_row,
    )
    return finish(found, options.json, options.plot)


def check_files(parser: argparse.ArgumentParser, **files: str | None) -> None:
    """Refuses, before any work, what could not be written at its end."""
    for name, file in files.items():
        if file is not None and not Path(file).absolute().parent.is_dir():
            parser.error(f"--{name} {file}: there is no folder {Path(file).absolute().parent}")
        if file is not None and name != "json" and importlib.util.find_spec("matplotlib") is None:
            parser.error(f"--{name} {file}: a picture needs matplotlib: pip install 'wanoffload[plot]'")


def say_row(row: Row) -> None:
    """One line on stderr as soon as a row is there."""
    print(f"{row.name}: {row.error or f'{row.seconds:.1f} s'}", file=sys.stderr, flush=True)


def finish(found: Comparison, json: str | None, plot: str | None) -> int:
    """Prints and writes a comparison. The exit code is 1 when films differ that have to be equal."""
    print(found.text(colour=sys.stdout.isatty()))
    if json is not None:
        found.to_json(json)
        print(f"wrote {json}")
    if plot is not None:
        found.plot(plot)
        print(f"wrote {plot}")
    if not found.ok:
        print("The ways of offloading did not make the same film.", file=sys.stderr)
    return 0 if found.ok else 1
