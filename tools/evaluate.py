"""Scores a pipeline folder: films fixed prompts and measures colour, shape, action and background in the pixels.

    python tools/evaluate.py                                     the demo checkpoint, through wanoffload
    python tools/evaluate.py --model wanoffload/demo_model_i2v   the one for image to video: stills that are animated
    python tools/evaluate.py --model FOLDER --sheet sheet.png    another one, and what it filmed as a picture
    python tools/evaluate.py --peer diffusers                    the same prompts and noise through diffusers
    python tools/evaluate.py --truth 64                          no model: does measuring itself make errors?
    python tools/evaluate.py --truth 64 --vae FOLDER             the same on clips that went through a VAE

Prompts, stills and seeds are the same in every run, so scores of different checkpoints and different engines can be
compared. A checkpoint for image to video gets the first frame of a clip that shows what the prompt says; besides what
its film shows, it is scored by how much the first frame of the film is that still.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measure import Measurement, measure
from PIL import Image, ImageDraw
from prompts import Task, tasks
from shapes import ACTIONS, FRAMES, SIZE, Label, render, sample, sample_like

QUALITIES = ("colour", "shape", "action", "background")
TRUTH_SEED = 11
STILL_SEED = 7700
SHEET_FRAMES = (0, 4, 8, 12, 16)

# Films prompts with one seed each, and one still each to begin with if there are any; gives [prompts, frames, height,
# width, 3] in 0..1.
Camera = Callable[[list[str], list[int], list[Image.Image]], np.ndarray]


@dataclass(frozen=True)
class Outcome:
    """What was asked for, what was filmed, what could be seen in it, and for a still how well the film begins with it.

    Attributes:
        likeness: Of the first frame and the still, in decibels.
    """

    task: Task
    frames: np.ndarray
    seen: Measurement
    likeness: float | None = None

    def misses(self) -> list[str]:
        """The qualities that are not what the prompt says."""
        return misses(self.task.label, self.seen)


def misses(label: Label, seen: Measurement) -> list[str]:
    """The qualities in which a measurement differs from a label."""
    return [quality for quality in QUALITIES if getattr(seen, quality) != getattr(label, quality)]


def open_wanoffload(options: argparse.Namespace) -> Camera:
    """A camera of this package."""
    import wanoffload

    if options.threads:
        wanoffload.set_num_threads(options.threads)
    pipe = getattr(wanoffload, pipeline_class(options.model)).from_pretrained(options.model, dtype=options.dtype)
    return camera_of(pipe, options, int)


def open_diffusers(options: argparse.Namespace) -> Camera:
    """A camera of diffusers, with the same noise."""
    import diffusers
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    opened = getattr(diffusers, pipeline_class(options.model))
    pipe = opened.from_pretrained(options.model, dtype=getattr(torch, options.dtype))
    return camera_of(pipe, options, torch.Generator("cpu").manual_seed)


def camera_of(pipe: Any, options: argparse.Namespace, noise: Callable[[int], Any]) -> Camera:
    """A camera of a pipeline; `noise` makes a generator of a seed."""
    pipe.set_progress_bar_config(disable=True)
    call = {
        "height": SIZE,
        "width": SIZE,
        "num_frames": FRAMES,
        "num_inference_steps": options.steps,
        "guidance_scale": options.guidance,
        "output_type": "np",
    }

    def shoot(prompts: list[str], seeds: list[int], stills: list[Image.Image]) -> np.ndarray:
        if not stills:
            return pipe(prompt=prompts, generator=[noise(seed) for seed in seeds], **call).frames
        # One by one, since diffusers takes no list of images here.
        shots = zip(prompts, seeds, stills, strict=True)
        return np.concatenate([pipe(image=s, prompt=p, generator=noise(n), **call).frames for p, n, s in shots])

    return shoot


CAMERAS = {"wanoffload": open_wanoffload, "diffusers": open_diffusers}


def demo_model() -> Path:
    """The checkpoint that comes with the package."""
    import wanoffload

    return Path(wanoffload.__file__).parent / "demo_model"


def pipeline_class(model: Path) -> str:
    """The class that a pipeline's folder names."""
    return json.loads((model / "model_index.json").read_text())["_class_name"]


def still(task: Task, seed: int) -> Image.Image:
    """The first frame of a clip that shows what the prompt says."""
    clip = sample_like(random.Random(STILL_SEED + seed), task.label)
    pixels = render([clip], frames=1)[0, :, 0].transpose(1, 2, 0)
    return Image.fromarray(((pixels + 1) * 127.5).round().astype(np.uint8))


def likeness(frame: np.ndarray, picture: Image.Image) -> float:
    """Peak signal to noise ratio in decibels of a frame in 0..1 and a picture."""
    return float(-10 * np.log10(np.mean((frame - np.asarray(picture, np.float32) / 255) ** 2)))


def film(camera: Camera, wanted: Sequence[Task], batch: int, animates: bool = False) -> Iterable[Outcome]:
    """Films and measures; the seed of a prompt is its place in the list."""
    for first in range(0, len(wanted), batch):
        part = wanted[first : first + batch]
        seeds = list(range(first, first + len(part)))
        stills = [still(task, seed) for task, seed in zip(part, seeds, strict=True)] if animates else []
        shot = camera([task.prompt for task in part], seeds, stills)
        for i, (task, frames) in enumerate(zip(part, shot, strict=True)):
            alike = likeness(frames[0], stills[i]) if animates else None
            yield Outcome(task, np.asarray(frames), measure(frames), alike)


def table(outcomes: Sequence[Outcome]) -> str:
    """How often each quality was right, and how often all were; with the held-out combinations apart."""
    lines = [f"{'':12}{'all':>8}{'trained':>12}{'held out':>12}"]
    for quality in (*QUALITIES, "all four"):
        right = [
            (not one.misses() if quality == "all four" else quality not in one.misses(), one.task.held_out)
            for one in outcomes
        ]
        trained, held_out = ([good for good, unseen in right if unseen is kind] for kind in (False, True))
        share = 100 * sum(trained + held_out) / len(right)
        parts = (f"{sum(group)}/{len(group)}" for group in (trained, held_out))
        lines.append(f"{quality:12}{share:6.1f} %" + "".join(f"{part:>12}" for part in parts))
    return "\n".join(lines)


def sheet(outcomes: Sequence[Outcome], file: Path) -> None:
    """Writes a picture of all clips, five frames each, with their prompts; [x] marks those with a miss."""
    columns, width, height = 2, SIZE * len(SHEET_FRAMES) + 8, SIZE + 16
    picture = Image.new("RGB", (width * columns, height * -(-len(outcomes) // columns)), "white")
    draw = ImageDraw.Draw(picture)
    for i, outcome in enumerate(outcomes):
        left, top = i % columns * width, i // columns * height
        marks = ("[x] " if outcome.misses() else "") + ("(held out) " if outcome.task.held_out else "")
        draw.text((left + 2, top + 2), marks + outcome.task.prompt, fill="black")
        strip = np.concatenate([outcome.frames[frame] for frame in SHEET_FRAMES], axis=1)
        picture.paste(Image.fromarray((strip * 255).round().clip(0, 255).astype(np.uint8)), (left, top + 14))
    picture.save(file, optimize=True)


def score(options: argparse.Namespace) -> int:
    """Films all prompts and prints what was right."""
    began, outcomes = time.monotonic(), []
    camera, animates = CAMERAS[options.peer](options), pipeline_class(options.model) == "WanImageToVideoPipeline"
    for outcome in film(camera, tasks(options.prompts, options.held_out), options.batch, animates):
        outcomes.append(outcome)
        if outcome.misses():
            wrong = ", ".join(f"{quality} {getattr(outcome.seen, quality)}" for quality in outcome.misses())
            print(f"miss: {outcome.task.prompt}: {wrong} ({outcome.seen.figures()})", flush=True)
    overlap = np.mean([outcome.seen.overlap for outcome in outcomes])
    print(table(outcomes))
    if animates:
        alike = [outcome.likeness for outcome in outcomes]
        print(f"first frame and still: {np.mean(alike):.1f} dB in the mean, {min(alike):.1f} at worst")
    print(
        f"mean overlap with templates {overlap:.3f}; {options.peer}, {options.dtype}, {options.steps} steps, "
        f"guidance {options.guidance}, {time.monotonic() - began:.0f} s"
    )
    if options.sheet:
        sheet(outcomes, options.sheet)
    return 0


def truth(options: argparse.Namespace) -> int:
    """Measures rendered clips; 1 when something was measured wrongly."""
    rng, through = random.Random(TRUTH_SEED), _round_trip(options.vae) if options.vae else lambda pixels: pixels
    errors = dict.fromkeys(QUALITIES, 0)
    for i in range(options.truth):
        clip = sample(rng, ACTIONS[i % len(ACTIONS)])
        seen = measure((through(render([clip]))[0].transpose(1, 2, 3, 0) + 1) / 2)
        for quality in misses(clip.label, seen):
            errors[quality] += 1
            print(f"error: {clip.label} has {quality} {getattr(seen, quality)} ({seen.figures()})", flush=True)
    print(f"errors on {options.truth} clips: " + ", ".join(f"{quality} {n}" for quality, n in errors.items()))
    return int(any(errors.values()))


def _round_trip(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    import torch
    from diffusers import AutoencoderKLWan

    vae = AutoencoderKLWan.from_pretrained(folder, dtype=torch.float32)

    @torch.no_grad()
    def through(pixels: np.ndarray) -> np.ndarray:
        return vae.decode(vae.encode(torch.from_numpy(pixels)).latent_dist.mode()).sample.numpy()

    return through


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", type=Path, metavar="FOLDER", help="a pipeline (default: the demo's for text to video)"
    )
    parser.add_argument("--peer", choices=CAMERAS, default="wanoffload", help="what films (default: %(default)s)")
    parser.add_argument("--prompts", type=int, default=60, help="default: %(default)s")
    parser.add_argument("--held-out", type=int, default=15, help="prompts of combinations never trained (default: 15)")
    parser.add_argument("--steps", type=int, default=20, help="denoising steps (default: %(default)s)")
    parser.add_argument("--guidance", type=float, default=5.0, help="default: %(default)s")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=6, help="prompts filmed at once (default: %(default)s)")
    parser.add_argument("--threads", type=int, metavar="N", help="default: what the engine takes by itself")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="write a picture of all clips")
    parser.add_argument("--truth", type=int, metavar="N", help="measure N rendered clips instead")
    parser.add_argument(
        "--vae", type=Path, metavar="FOLDER", help="with --truth: send the clips through this VAE first"
    )
    options = parser.parse_args(arguments)
    if options.vae and not options.truth:
        parser.error("--vae goes with --truth; a pipeline is scored with its own VAE")
    if not 0 <= options.held_out <= options.prompts:
        parser.error("--held-out cannot be more than --prompts")
    if not options.truth:
        options.model = options.model or demo_model()
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what the command line asks for."""
    options = parse(arguments)
    return truth(options) if options.truth else score(options)


if __name__ == "__main__":
    raise SystemExit(main())
