"""Trains the demo checkpoint's transformer together with its text encoder, and writes the whole pipeline.

    python tools/train_transformer.py encode --vae vae --clips 3200 --latents clips.safetensors
    python tools/train_transformer.py train --vae vae --latents clips.safetensors --out wan-shapes --minutes 40

Flow matching: noise and clip are mixed at a random time, and the network learns the velocity from the one to the other.
One prompt in ten is left empty, which is what guidance needs. Clips with held-out combinations are never encoded.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from prompts import describe
from shapes import ACTIONS, Label, held_out, render, sample
from training import loop, schedule
from training.average import WeightAverage
from training.checkpoint import FLOW_SHIFT, check_replaceable, save_pipeline
from training.latents import load_latents, save_latents
from training.muon import Muon
from training.processes import Team
from training.tokenizer import write_tokenizer
from training.transformer import HEAD_DIM, Text, TextToVelocity, new_text_encoder, new_transformer
from training.vae import WholeClips
from transformers import T5TokenizerFast, UMT5EncoderModel

LONGEST_PROMPT = 26  # tokens, the end included
EMPTY_PROMPTS = 0.1
VALIDATION_SEED = 5
CLIPS_AT_ONCE = 4


def shifted(times: torch.Tensor) -> torch.Tensor:
    """Times in 0..1 as the scheduler of the pipeline shifts them, towards noise."""
    return FLOW_SHIFT * times / (1 + (FLOW_SHIFT - 1) * times)


def encode(options: argparse.Namespace) -> None:
    """Renders clips and stores their latents; every action comes equally often."""
    clips = WholeClips(AutoencoderKLWan.from_pretrained(options.vae, dtype=torch.float32))
    rng, reserved = random.Random(options.seed), set(held_out())
    latents, labels = [], []
    with torch.no_grad():
        while len(labels) < options.clips:
            first = len(labels)
            batch = [
                sample(rng, ACTIONS[(first + i) % len(ACTIONS)], exclude=reserved)
                for i in range(min(CLIPS_AT_ONCE, options.clips - first))
            ]
            latents.append(clips.encode(torch.from_numpy(render(batch))).chunk(2, 1)[0])
            labels += [clip.label for clip in batch]
            if len(labels) % 400 < CLIPS_AT_ONCE:
                print(f"{len(labels)} clips", flush=True)
    save_latents(options.latents, torch.cat(latents), labels)


class Clips:
    """Normalised latents, of which this process trains on its share, and a fixed set for validation.

    Args:
        options: Of the command line.
        vae: Gets the statistics of the latents into its configuration.
        team: The processes.
    """

    def __init__(self, options: argparse.Namespace, vae: AutoencoderKLWan, team: Team) -> None:
        latents, labels = load_latents(options.latents)
        mean, deviation = latents.mean((0, 2, 3, 4)), latents.std((0, 2, 3, 4))
        vae.register_to_config(
            latents_mean=[round(value, 5) for value in mean.tolist()],
            latents_std=[round(value, 5) for value in deviation.tolist()],
        )
        latents = (latents - mean.view(1, -1, 1, 1, 1)) / deviation.view(1, -1, 1, 1, 1)
        kept = options.validation
        share = slice(kept + team.rank, None, team.size)
        self.latents, self.labels = latents[share], labels[share]
        self.validation_latents, self.validation_labels = latents[:kept], labels[:kept]
        if len(self.labels) < options.batch:
            raise ValueError(
                f"{len(labels)} clips leave {len(self.labels)} to a process, and a step needs {options.batch}: "
                "encode more, or lower --batch or --validation."
            )
        self._order: list[int] = []

    def draw(self, count: int) -> tuple[torch.Tensor, list[Label]]:
        """The next clips in a random order that is drawn anew when too few are left."""
        if len(self._order) < count:
            self._order = torch.randperm(len(self.labels)).tolist()
        chosen, self._order = self._order[:count], self._order[count:]
        return self.latents[chosen], [self.labels[i] for i in chosen]


class Training:
    """A transformer and a text encoder under training.

    Args:
        options: Of the command line.
        team: The processes.
        tokenizer: Folder with the tokenizer's files.
        pieces: How many pieces the tokenizer has.
    """

    def __init__(self, options: argparse.Namespace, team: Team, tokenizer: Path, pieces: int) -> None:
        self.options, self._tokenizer_folder = options, tokenizer
        self._tokenizer = T5TokenizerFast.from_pretrained(tokenizer)
        self.vae = AutoencoderKLWan.from_pretrained(options.vae, dtype=torch.float32)
        self.clips = Clips(options, self.vae, team)
        torch.manual_seed(0)
        if options.resume:
            text_encoder = UMT5EncoderModel.from_pretrained(options.resume / "text_encoder", dtype=torch.float32)
            transformer = WanTransformer3DModel.from_pretrained(options.resume / "transformer", dtype=torch.float32)
        else:
            text_encoder, transformer = new_text_encoder(pieces), new_transformer(options.dim, options.layers)
        self.net = TextToVelocity(text_encoder, transformer, compiled=options.compile)
        self.average = WeightAverage(self.net.parameters(), options.ema)
        self.optimisers = self._optimisers(team)
        seed = options.seed + 100 * team.rank
        self._rng = random.Random(seed)
        torch.manual_seed(seed)

    def _optimisers(self, team: Team) -> list[torch.optim.Optimizer]:
        """AdamW; with --muon the matrices of the blocks get Muon instead."""
        rate, muon = self.options.lr, self.options.muon
        inside = [p for p in self.net.transformer.blocks.parameters() if p.dim() == 2] if muon else []
        theirs = {id(p) for p in inside}
        others = [p for p in self.net.parameters() if id(p) not in theirs]
        optimisers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW([{"params": others, "peak": rate}], betas=(0.9, 0.98), weight_decay=0, fused=True)
        ]
        if inside:
            optimisers.append(Muon([{"params": inside, "peak": muon}], lr=muon, team=team))
        return optimisers

    def figures(self, step: int, progress: float) -> dict[str, torch.Tensor]:
        """The loss of the next clips at random times, one from each part of the schedule."""
        batch = self.options.batch
        clips, labels = self.clips.draw(batch)
        prompts = ["" if self._rng.random() < EMPTY_PROMPTS else describe(label, self._rng) for label in labels]
        fold = 1.0 if self.options.resume else min(1.0, step / self.options.anneal)
        times = shifted((torch.randperm(batch) + torch.rand(batch)) / batch)
        text = self._encode(prompts, fold)
        return {"loss": self._errors(clips, torch.randn(clips.shape), times, text).mean()}

    def _encode(self, prompts: list[str], fold: float = 1.0) -> Text:
        tokens = self._tokenizer(
            prompts, padding="max_length", max_length=LONGEST_PROMPT, truncation=True, return_tensors="pt"
        )
        return self.net.encode(tokens.input_ids, tokens.attention_mask, fold)

    def _errors(self, clips: torch.Tensor, noise: torch.Tensor, times: torch.Tensor, text: Text) -> torch.Tensor:
        """Mean squared error of the velocity of every clip, [batch]."""
        share = times.view(-1, 1, 1, 1, 1)
        velocity = self.net((1 - share) * clips + share * noise, times * 1000, text)
        return (velocity - (noise - clips)).pow(2).mean((1, 2, 3, 4))

    def save(self, step: int) -> None:
        """Writes the pipeline with averaged weights."""
        with self.average.applied():
            losses = self._validate()
            print(f"saved at step {step}: validation loss {losses.mean():.4f}, by quarters of the times", end=" ")
            print(*(f"{quarter.mean():.4f}" for quarter in losses.chunk(4)), flush=True)
            parts = (self.net.text_encoder, self.net.transformer, self.vae)
            save_pipeline(self.options.out, self._tokenizer_folder, *parts, dtype=getattr(torch, self.options.dtype))

    @torch.no_grad()
    def _validate(self) -> torch.Tensor:
        """Errors of the validation clips, which always have the same prompts, noise and times; times rise."""
        rng, generator = random.Random(VALIDATION_SEED), torch.Generator().manual_seed(VALIDATION_SEED)
        clips, labels = self.clips.validation_latents, self.clips.validation_labels
        prompts = [describe(label, rng, complete=True) for label in labels]
        noise = torch.randn(clips.shape, generator=generator)
        times = shifted((torch.arange(len(labels)) + 0.5) / len(labels))
        errors = []
        for first in range(0, len(labels), self.options.batch):
            part = slice(first, first + self.options.batch)
            errors.append(self._errors(clips[part], noise[part], times[part], self._encode(prompts[part])))
        return torch.cat(errors)


def train(options: argparse.Namespace) -> None:
    """Trains and saves."""
    team = Team.join()
    with tempfile.TemporaryDirectory() as folder:
        pieces = write_tokenizer(Path(folder))
        training = Training(options, team, Path(folder), pieces)
        plan = schedule.from_options(options, floor=0.01)
        loop.train(
            training.figures, training.optimisers, training.average, plan, team, training.save, options.save_every
        )
    team.leave()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, with the command's function as `run`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    coder = commands.add_parser("encode", help="render clips and store their latents")
    coder.add_argument("--vae", type=Path, required=True, metavar="FOLDER", help="a trained VAE")
    coder.add_argument("--latents", type=Path, required=True, metavar="FILE", help="where to, .safetensors")
    coder.add_argument("--clips", type=int, default=3200, help="default: %(default)s")
    coder.add_argument("--seed", type=int, default=1, help="another one gives other clips (default: %(default)s)")
    coder.add_argument("--threads", type=int, default=2, help="default: %(default)s")
    coder.set_defaults(run=encode)
    trainer = commands.add_parser("train", help="train on stored latents and write the pipeline")
    _add_train(trainer)
    options = parser.parse_args(arguments)
    if options.run is train:
        _check_train(trainer, options)
    return options


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--vae", type=Path, required=True, metavar="FOLDER", help="the VAE that made the latents")
    parser.add_argument("--latents", type=Path, required=True, nargs="+", metavar="FILE", help="files made by encode")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the pipeline is written")
    parser.add_argument("--resume", type=Path, metavar="FOLDER", help="a pipeline to go on with")
    parser.add_argument("--dim", type=int, default=192, help=f"width, {HEAD_DIM} per head (default: %(default)s)")
    parser.add_argument("--layers", type=int, default=6, help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=32, help="clips in a step of a process (default: %(default)s)")
    parser.add_argument(
        "--validation", type=int, default=64, help="clips that are not trained on (default: %(default)s)"
    )
    parser.add_argument("--lr", type=float, default=1e-3, help="step size of AdamW (default: %(default)s)")
    parser.add_argument("--muon", type=float, default=0.0, help="step size of Muon; 0: AdamW for all (default: 0)")
    parser.add_argument("--ema", type=float, default=0.999, help="of the averaged weights (default: %(default)s)")
    parser.add_argument(
        "--anneal", type=int, default=600, help="steps until padding has its full weight (default: %(default)s)"
    )
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="of the written weights")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, default=True, help="compile the blocks (default: yes)"
    )
    schedule.add_arguments(parser, minutes=40)
    loop.add_arguments(parser)
    parser.set_defaults(run=train)


def _check_train(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.validation < 4 or options.validation % options.batch:
        parser.error(f"--validation has to be a multiple of --batch, {options.batch}, and 4 at least")
    if options.dim % HEAD_DIM:
        parser.error(f"--dim has to be a multiple of {HEAD_DIM}")
    try:
        check_replaceable(options.out)
    except FileExistsError as error:
        parser.error(str(error))


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what the command line asks for."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    options.run(options)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
