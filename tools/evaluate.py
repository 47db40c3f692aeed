"""Scores a pipeline folder: films fixed prompts and measures colour, shape, action and background in the pixels.

    python tools/evaluate.py                                     the demo checkpoint, through wanoffload
    python tools/evaluate.py --model FOLDER --sheet sheet.png    another one, and what it filmed as a picture
    python tools/evaluate.py --peer diffusers                    the same prompts and noise through diffusers
    python tools/evaluate.py --truth 64                          no model: does measuring itself make errors?
    python tools/evaluate.py --truth 64 --vae FOLDER             the same on clips that went through a VAE

Prompts and seeds are the same in every run, so scores of different checkpoints and different engines can be compared.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from measure import Measurement, measure
from prompts import Task, tasks
from shapes import ACTIONS, FRAMES, SIZE, Label, render, sample

QUALITIES = ("colour", "shape", "action", "background")
TRUTH_SEED = 11
SHEET_FRAMES = (0, 4, 8, 12, 16)

# Films prompts with one seed each: [prompts, frames, height, width, 3] in 0..1.
Camera = Callable[[list[str], list[int]], np.ndarray]


@dataclass(frozen=True)
class Outcome:
    """What was asked for, what was filmed, and what could be seen in it."""

    task: Task
    frames: np.ndarray
    seen: Measurement

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
    pipe = wanoffload.WanPipeline.from_pretrained(options.model or demo_model(), dtype=options.dtype)
    pipe.set_progress_bar_config(disable=True)
    return lambda prompts, seeds: pipe(prompt=prompts, generator=seeds, **_call(options)).frames


def open_diffusers(options: argparse.Namespace) -> Camera:
    """A camera of diffusers, with the same noise."""
    import torch
    from diffusers import WanPipeline

    if options.threads:
        torch.set_num_threads(options.threads)
    model = options.model or demo_model()
    pipe = WanPipeline.from_pretrained(model, dtype=getattr(torch, options.dtype))
    pipe.set_progress_bar_config(disable=True)

    def film(prompts: list[str], seeds: list[int]) -> np.ndarray:
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        return pipe(prompt=prompts, generator=generators, output_type="np", **_call(options)).frames

    return film


CAMERAS = {"wanoffload": open_wanoffload, "diffusers": open_diffusers}


def demo_model() -> Path:
    """The checkpoint that comes with the package."""
    import wanoffload

    return Path(wanoffload.__file__).parent / "demo_model"


def _call(options: argparse.Namespace) -> dict[str, float]:
    return {
        "height": SIZE,
        "width": SIZE,
        "num_frames": FRAMES,
        "num_inference_steps": options.steps,
        "guidance_scale": options.guidance,
    }


def film(camera: Camera, wanted: Sequence[Task], batch: int) -> Iterable[Outcome]:
    """Films and measures; the seed of a prompt is its place in the list."""
    for first in range(0, len(wanted), batch):
        part = wanted[first : first + batch]
        seeds = list(range(first, first + len(part)))
        for task, frames in zip(part, camera([task.prompt for task in part], seeds), strict=True):
            yield Outcome(task, np.asarray(frames), measure(frames))


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
    from PIL import Image, ImageDraw

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
    for outcome in film(CAMERAS[options.peer](options), tasks(options.prompts, options.held_out), options.batch):
        outcomes.append(outcome)
        if outcome.misses():
            wrong = ", ".join(f"{quality} {getattr(outcome.seen, quality)}" for quality in outcome.misses())
            print(f"miss: {outcome.task.prompt}: {wrong} ({outcome.seen.figures()})", flush=True)
    overlap = np.mean([outcome.seen.overlap for outcome in outcomes])
    print(table(outcomes))
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
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="a pipeline (default: the demo checkpoint)")
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
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what the command line asks for."""
    options = parse(arguments)
    return truth(options) if options.truth else score(options)


if __name__ == "__main__":
    raise SystemExit(main())
