"""Flow matching, the same for text and image to video.

Noise and clip are mixed at a random time, and the network learns the velocity from the one to the other. One prompt in
ten is left empty, which is what guidance needs.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from pathlib import Path

import torch
from prompts import describe
from shapes import Label
from transformers import T5TokenizerFast

from training import loop, schedule
from training.average import WeightAverage
from training.checkpoint import FLOW_SHIFT, check_replaceable
from training.clips import Clips, TrainingSet
from training.muon import Muon
from training.processes import Team
from training.transformer import Text, TextToVelocity

LONGEST_PROMPT = 26  # tokens, the end included
EMPTY_PROMPTS = 0.1
VALIDATION_SEED = 5


def shifted(times: torch.Tensor, shift: float = FLOW_SHIFT) -> torch.Tensor:
    """Times in 0..1 as the scheduler of the pipeline shifts them, towards noise."""
    return shift * times / (1 + (shift - 1) * times)


class FlowTraining:
    """A network under training.

    Args:
        options: Of the command line, with those of add_arguments.
        net: Its parameters are trained, but for those that need no gradient.
        clips: What it is trained on.
        tokenizer: Folder with the tokenizer's files.
        team: The processes.
        write: Writes the pipeline; called while the network has averaged weights.
        say: Makes a prompt of a label.
        anneal: Steps until padding has its full weight.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        net: TextToVelocity,
        clips: Clips,
        tokenizer: Path,
        team: Team,
        write: Callable[[], None],
        say: Callable[[Label, random.Random], str] = describe,
        anneal: int = 0,
    ) -> None:
        self.options, self.net, self._write, self._say, self._anneal = options, net, write, say, anneal
        self._tokenizer = T5TokenizerFast.from_pretrained(tokenizer)
        self.set = TrainingSet(clips, options.validation, options.batch, team)
        self.average = WeightAverage((p for p in net.parameters() if p.requires_grad), options.ema)
        self.optimisers = self._optimisers(team)
        seed = options.seed + 100 * team.rank
        self._rng = random.Random(seed)
        torch.manual_seed(seed)

    def _optimisers(self, team: Team) -> list[torch.optim.Optimizer]:
        """AdamW; with --muon the matrices of the blocks get Muon instead."""
        rate, muon = self.options.lr, self.options.muon
        inside = [p for p in self.net.transformer.blocks.parameters() if p.dim() == 2] if muon else []
        theirs = {id(p) for p in inside}
        others = [p for p in self.average.parameters if id(p) not in theirs]
        optimisers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW([{"params": others, "peak": rate}], betas=(0.9, 0.98), weight_decay=0, fused=True)
        ]
        if inside:
            optimisers.append(Muon([{"params": inside, "peak": muon}], lr=muon, team=team))
        return optimisers

    def figures(self, step: int, progress: float) -> dict[str, torch.Tensor]:
        """The loss of the next clips at random times, one from each part of the schedule."""
        batch = self.options.batch
        clips = self.set.draw(batch)
        prompts = ["" if self._rng.random() < EMPTY_PROMPTS else self._say(one, self._rng) for one in clips.labels]
        fold = min(1.0, step / self._anneal) if self._anneal else 1.0
        times = shifted((torch.randperm(batch) + torch.rand(batch)) / batch, self.options.shift)
        text = self._encode(prompts, fold)
        return {"loss": self._errors(clips, torch.randn(clips.latents.shape), times, text).mean()}

    def _encode(self, prompts: list[str], fold: float = 1.0) -> Text:
        tokens = self._tokenizer(
            prompts, padding="max_length", max_length=LONGEST_PROMPT, truncation=True, return_tensors="pt"
        )
        return self.net.encode(tokens.input_ids, tokens.attention_mask, fold)

    def _errors(self, clips: Clips, noise: torch.Tensor, times: torch.Tensor, text: Text) -> torch.Tensor:
        """Mean squared error of the velocity of every clip, [batch]."""
        share = times.view(-1, 1, 1, 1, 1)
        latents = (1 - share) * clips.latents + share * noise
        if clips.conditions is not None:
            latents = torch.cat([latents, clips.conditions], 1)
        image = None if clips.pixels is None else self.net.encode_image(clips.pixels)
        velocity = self.net(latents, times * 1000, text, image)
        return (velocity - (noise - clips.latents)).pow(2).mean((1, 2, 3, 4))

    def save(self, step: int) -> None:
        """Writes the pipeline with averaged weights."""
        with self.average.applied():
            losses = self._validate()
            print(f"saved at step {step}: validation loss {losses.mean():.4f}, by quarters of the times", end=" ")
            print(*(f"{quarter.mean():.4f}" for quarter in losses.chunk(4)), flush=True)
            self._write()

    @torch.no_grad()
    def _validate(self) -> torch.Tensor:
        """Errors of the validation clips, which always have the same prompts, noise and times; times rise."""
        rng, generator = random.Random(VALIDATION_SEED), torch.Generator().manual_seed(VALIDATION_SEED)
        clips = self.set.validation
        prompts = [describe(label, rng, complete=True) for label in clips.labels]
        noise = torch.randn(clips.latents.shape, generator=generator)
        times = shifted((torch.arange(len(prompts)) + 0.5) / len(prompts))
        errors = []
        for first in range(0, len(prompts), self.options.batch):
            part = slice(first, first + self.options.batch)
            errors.append(self._errors(clips.take(part), noise[part], times[part], self._encode(prompts[part])))
        return torch.cat(errors)

    def run(self, team: Team) -> None:
        """Trains as the options say, and saves."""
        plan = schedule.from_options(self.options, floor=0.01)
        loop.train(self.figures, self.optimisers, self.average, plan, team, self.save, self.options.save_every)


def add_arguments(parser: argparse.ArgumentParser, minutes: float) -> None:
    """Adds the options of a flow training."""
    parser.add_argument("--latents", type=Path, required=True, nargs="+", metavar="FILE", help="files made by encode")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the pipeline is written")
    parser.add_argument("--batch", type=int, default=32, help="clips in a step of a process (default: %(default)s)")
    parser.add_argument(
        "--validation", type=int, default=64, help="clips that are not trained on (default: %(default)s)"
    )
    parser.add_argument("--lr", type=float, default=1e-3, help="step size of AdamW (default: %(default)s)")
    parser.add_argument("--muon", type=float, default=0.0, help="step size of Muon; 0: AdamW for all (default: 0)")
    parser.add_argument(
        "--shift", type=float, default=FLOW_SHIFT, help="of times, towards noise; validation has %(default)s (default)"
    )
    parser.add_argument("--ema", type=float, default=0.999, help="of the averaged weights (default: %(default)s)")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="of the written weights")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, default=True, help="compile the blocks (default: yes)"
    )
    schedule.add_arguments(parser, minutes=minutes)
    loop.add_arguments(parser)


def check_arguments(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuses options that cannot work, as argparse refuses a wrong one."""
    if options.validation < 4 or options.validation % options.batch:
        parser.error(f"--validation has to be a multiple of --batch, {options.batch}, and 4 at least")
    try:
        check_replaceable(options.out)
    except FileExistsError as error:
        parser.error(str(error))
