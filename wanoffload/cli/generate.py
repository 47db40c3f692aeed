"""``wanoffload generate`` and ``wanoffload plan``: make a film, or say what it would need."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from wanoffload.cli import options as shared
from wanoffload.cli.sources import Sources, add_sources, check_sources

_GENERATE = """\
Makes a film (or several) from a prompt, a still or another film.

  wanoffload generate MODEL --prompt "a cat baking a cake" --seed 1 -o cat.mp4
  wanoffload generate MODEL --prompt "..." --dtype bfloat16 --vram 6GiB --ram 12GiB
  wanoffload generate MODEL --prompt "..." --offload leaf --stream --disk
  wanoffload generate I2V-MODEL --image still.png --prompt "the cat turns its head" --flow-shift auto
  wanoffload generate FLF2V-MODEL --image first.png --last-image last.png --prompt "..."
  wanoffload generate MODEL --video in.mp4 --strength 0.7 --prompt "the same in snow"

Which pipeline runs follows from the checkpoint's model_index.json and from what is given.
-o takes .mp4 (H.264), .gif, or .npy (the frames as float32 in 0..1). With several films a number is put before the
suffix. At the end it prints the SHA-256 of the frames, the seconds and the bytes moved.
"""
_PLAN = """\
Says what a film would need, in bytes, component by component, before anything runs.

  wanoffload plan MODEL --height 480 --width 832 --frames 81 --vram 8GiB

Without --prompt, one of --max-sequence-length tokens is assumed. A budget that cannot hold is an error that names the
smallest one that would. Options are those of generate.
"""


def add_commands(commands: Any) -> None:
    """Adds both commands to the parser."""
    generate = commands.add_parser("generate", help="make a film", description=_GENERATE)
    shared.add_model(generate)
    shared.add_video(generate, prompt_needed=True)
    add_sources(generate)
    shared.add_scheduler(generate)
    shared.add_offload(generate)
    group = generate.add_argument_group("output")
    group.add_argument("-o", "--output", default="out.mp4", metavar="FILE", help="default: %(default)s")
    group.add_argument("--fps", type=float, default=16, help="frames a second (default: %(default)s)")
    group.add_argument(
        "--quality", type=float, default=8, help="of .mp4: 0 (small) to 10 (best) (default: %(default)s)"
    )
    group.add_argument("--report", metavar="FILE", help="write plan and report as JSON")
    group.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")
    generate.set_defaults(run=run_generate, parser=generate, planning=False)

    plan = commands.add_parser("plan", help="say what a film would need", description=_PLAN)
    shared.add_model(plan)
    shared.add_video(plan, prompt_needed=False)
    add_sources(plan)
    shared.add_scheduler(plan)
    shared.add_offload(plan)
    plan.add_argument("--json", action="store_true", help="print JSON instead of a table")
    plan.set_defaults(run=run_plan, parser=plan, planning=True)


def run_plan(options: argparse.Namespace) -> int:
    """Prints the plan of a call."""
    pipe, arguments = open_film(options)
    plan = pipe.plan(**arguments, **steps_of(pipe, options))
    print(json.dumps(plan.as_dict(), indent=2) if options.json else plan)
    return 0


def open_film(options: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """The pipeline that the options ask for, and the arguments that its plan and its call share."""
    shared.check_offload(options, options.parser)
    check_sources(options, options.parser)
    sources = Sources(options)
    pipe = shared.load_pipeline(options)
    shared.apply_scheduler(pipe, options)
    arguments = {
        "prompt": options.prompt,
        "negative_prompt": options.negative_prompt,
        "guidance_scale": options.guidance,
        "max_sequence_length": options.max_sequence_length,
    }
    return pipe, arguments | sources.arguments(pipe)


def steps_of(pipe: Any, options: argparse.Namespace) -> dict[str, Any]:
    """The number of steps, for plans that depend on it: those of pipelines that may have two experts."""
    return {} if pipe.made_from == "video" else {"num_inference_steps": options.steps}


def run_generate(options: argparse.Namespace) -> int:
    """Makes the films and writes them."""
    check_output(options.output, options.parser)
    check_writing(options, options.parser)
    say = (lambda text: None) if options.quiet else (lambda text: print(text, flush=True))
    pipe, arguments = open_film(options)
    pipe.set_progress_bar_config(disable=options.quiet or not sys.stderr.isatty(), unit="step")
    plan = pipe.plan(**arguments, **steps_of(pipe, options))
    say(plan)
    only_call = {"num_inference_steps": options.steps, "generator": options.seed}
    if options.strength is not None:
        only_call["strength"] = options.strength
    if options.guidance_2 is not None:
        only_call["guidance_scale_2"] = options.guidance_2
    frames = pipe(**arguments, **only_call).frames
    for video, path in zip(frames, output_paths(options.output, len(frames)), strict=True):
        write_video(video, path, options.fps, options.quality)
        say(f"wrote {path}")
    say(f"SHA-256 of the frames {frames_digest(frames)}")
    say(pipe.report)
    if options.report:
        Path(options.report).write_text(
            json.dumps({"plan": plan.as_dict(), "report": pipe.report.as_dict()}, indent=2) + "\n", "utf-8"
        )
    return 0


def check_output(path: str, parser: argparse.ArgumentParser) -> None:
    """Refuses, before any work, a file that could not be written at its end."""
    target = Path(path)
    if target.suffix.lower() not in (".mp4", ".gif", ".npy"):
        parser.error(f"--output {path}: the name has to end in .mp4, .gif or .npy")
    if not target.absolute().parent.is_dir():
        parser.error(f"--output {path}: there is no folder {target.absolute().parent}")


def check_writing(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Refuses, before any work, what could not be written after it: a rate, a quality, a report's place."""
    if not 0 < options.fps < float("inf"):
        parser.error(f"--fps {options.fps:g}: it has to be positive")
    if not 0 <= options.quality <= 10:
        parser.error(f"--quality {options.quality:g}: it has to be from 0 to 10")
    if options.report and not Path(options.report).absolute().parent.is_dir():
        parser.error(f"--report {options.report}: there is no folder {Path(options.report).absolute().parent}")


def output_paths(path: str, count: int) -> list[str]:
    """One file per film: ``cat.mp4``, or ``cat-1.mp4``, ``cat-2.mp4`` ..."""
    target = Path(path)
    if count == 1:
        return [path]
    return [str(target.with_name(f"{target.stem}-{number}{target.suffix}")) for number in range(1, count + 1)]


def write_video(video: Any, path: str, fps: float, quality: float) -> None:
    """Writes frames [F, H, W, 3] in the format that the name says."""
    import numpy as np

    from wanoffload.utils import export_to_video

    if path.lower().endswith(".npy"):
        np.save(path, video)
    else:
        export_to_video(video, path, fps=fps, quality=quality)


def frames_digest(frames: Any) -> str:
    """SHA-256 of the bytes of frames, float32."""
    return hashlib.sha256(frames.tobytes()).hexdigest()
