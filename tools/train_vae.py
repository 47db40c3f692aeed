"""Trains the demo checkpoint's VAE on windows of rendered clips.

    python tools/train_vae.py --out vae --minutes 25
    torchrun --standalone --nproc-per-node 2 tools/train_vae.py --threads 1 --out vae --muon 1.5e-3
    python tools/train_vae.py --out vae --resume vae --decoder-only

The loss is L1 + 2 MSE + a little KL. Latents keep the statistics that they have at the end: their mean and deviation go
into the VAE's configuration.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from shapes import FRAMES, SIZE, Crop, render, sample
from training import loop, schedule
from training.average import WeightAverage
from training.muon import Muon
from training.processes import Team
from training.vae import WholeClips, new_vae

SMALL = 48  # pixels of a window that is not a whole frame
FEW = 9  # frames of a window that is not a whole clip
VALIDATION_SEED = 99


def windows(rng: random.Random, count: int, size: int, frames: int) -> torch.Tensor:
    """Windows [count, 3, frames, size, size] of new clips, most of them near the shape."""
    clips = [sample(rng) for _ in range(count)]
    first = rng.randrange(FRAMES - frames + 1)
    crops = []
    for clip in clips:
        if size == SIZE:
            crops.append(Crop())
            continue
        middle, spread = first + frames // 2, size * 0.45
        centre = (clip.x[middle], clip.y[middle])
        if rng.random() < 0.12:
            centre = (rng.uniform(0, SIZE), rng.uniform(0, SIZE))
        corner = [round(value + rng.uniform(-spread, spread) - size / 2) for value in centre]
        left, top = (min(max(value, 0), SIZE - size) for value in corner)
        crops.append(Crop(top, left, size))
    return torch.from_numpy(render(clips, first, frames, crops))


def psnr(difference: torch.Tensor) -> torch.Tensor:
    """Peak signal to noise ratio in decibels of pixels in -1..1."""
    return 10 * torch.log10(4 / difference.pow(2).mean())


class Training:
    """A VAE under training.

    Args:
        options: Of the command line.
        team: The processes.
    """

    def __init__(self, options: argparse.Namespace, team: Team) -> None:
        self.options = options
        torch.manual_seed(0)
        self.vae = (
            AutoencoderKLWan.from_pretrained(options.resume, dtype=torch.float32)
            if options.resume
            else new_vae(options.base_dim, options.blocks)
        )
        if options.decoder_only:
            self.vae.encoder.requires_grad_(False)
            self.vae.quant_conv.requires_grad_(False)
        self.clips = WholeClips(self.vae)
        self.average = WeightAverage(self.vae.parameters(), 0.995)
        self.optimisers = self._optimisers(team)
        # Each process has clips of its own, but all have windows of one size at a time, to be ready together.
        self._clips_rng, self._sizes_rng = random.Random(1 + team.rank), random.Random(5)
        torch.manual_seed(10 + team.rank)

    def _optimisers(self, team: Team) -> list[torch.optim.Optimizer]:
        """AdamW with step sizes by fan-in; with --muon all but the smallest convolutions get Muon instead."""
        rate, muon = self.options.lr, self.options.muon
        groups: dict[float, list[torch.nn.Parameter]] = {}
        matrices = []
        for parameter in (p for p in self.vae.parameters() if p.requires_grad):
            fan_in = parameter[0].numel() if parameter.dim() >= 4 else 1
            if muon and parameter.dim() >= 4 and min(parameter.shape[0], fan_in) >= 16:
                matrices.append(parameter)
            else:
                peak = min(2e-3, max(2e-4, 0.4 / fan_in)) if fan_in > 1 else 1.5e-3
                groups.setdefault(peak * rate, []).append(parameter)
        adam_groups = [{"params": parameters, "peak": peak} for peak, parameters in groups.items()]
        optimisers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(adam_groups, betas=(0.9, 0.99), weight_decay=0, fused=True)
        ]
        if matrices:
            optimisers.append(Muon([{"params": matrices, "peak": muon}], lr=muon, team=team))
        return optimisers

    def figures(self, step: int, progress: float) -> dict[str, torch.Tensor]:
        """The loss of new windows and what it consists of."""
        pixels = windows(self._clips_rng, *self._draw_size(progress))
        with torch.set_grad_enabled(not self.options.decoder_only):
            mean, log_variance = self.clips.encode(pixels).chunk(2, 1)
            log_variance = log_variance.clamp(-30, 20)
        # A decoder that is trained alone is meant for latents as they are, so it sees half the noise.
        noise = 0.5 if self.options.decoder_only else 1.0
        latents = mean + noise * torch.exp(0.5 * log_variance) * torch.randn(mean.shape)
        difference = self.clips.decode(latents) - pixels
        divergence = 0.5 * (mean * mean + log_variance.exp() - 1 - log_variance).mean()
        weight = self.options.kl * min(1, 0.03 + progress / 0.5)
        absolute = difference.abs().mean()
        loss = absolute + 2 * difference.pow(2).mean() + weight * divergence
        return {"loss": loss, "l1": absolute, "psnr": psnr(difference), "kl": divergence}

    def _draw_size(self, progress: float) -> tuple[int, int, int]:
        """How many windows of how many pixels and frames: long ones now and then, whole clips towards the end."""
        batch, draw = self.options.batch, self._sizes_rng.random()
        if progress > 0.6 and draw < 0.5:
            return max(1, batch // 6), SIZE, FRAMES
        if draw < (0.5 if self.options.decoder_only else 0.2):
            return max(1, batch // 2), SMALL, FRAMES
        return batch, SMALL, FEW

    def save(self, step: int) -> None:
        """Writes the VAE with averaged weights and the statistics of its latents."""
        with self.average.applied():
            quality, means = self._validate()
            mean_quality, worst = sum(quality) / len(quality), min(quality)
            print(f"saved at step {step}: {mean_quality:.2f} dB on whole clips, worst {worst:.2f}", flush=True)
            if not self.options.decoder_only:
                mean, deviation = means.mean((0, 2, 3, 4)), means.std((0, 2, 3, 4))
                self.vae.register_to_config(latents_mean=mean.tolist(), latents_std=deviation.tolist())
            self.vae.save_pretrained(self.options.out)

    @torch.no_grad()
    def _validate(self) -> tuple[list[float], torch.Tensor]:
        """PSNR of every validation clip, and the means of their latents."""
        rng = random.Random(VALIDATION_SEED)
        quality, means = [], []
        for pixels in windows(rng, self.options.validation, SIZE, FRAMES).split(1):
            means.append(self.clips.encode(pixels).chunk(2, 1)[0])
            quality.append(psnr(self.clips.decode(means[-1]).clamp(-1, 1) - pixels).item())
        return quality, torch.cat(means)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the VAE is written")
    parser.add_argument("--resume", type=Path, metavar="FOLDER", help="a VAE to go on with")
    parser.add_argument("--decoder-only", action="store_true", help="leave the latents as they are; needs --resume")
    parser.add_argument("--base-dim", type=int, default=16, help="channels of the first level (default: %(default)s)")
    parser.add_argument("--blocks", type=int, default=1, help="residual blocks of a level (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="small windows in a step (default: %(default)s)")
    parser.add_argument("--validation", type=int, default=24, help="whole clips to score (default: %(default)s)")
    parser.add_argument(
        "--lr", type=float, default=1.0, help="multiplies the step sizes of AdamW (default: %(default)s)"
    )
    parser.add_argument("--muon", type=float, default=0.0, help="step size of Muon; 0: AdamW for all (default: 0)")
    parser.add_argument("--kl", type=float, default=3e-4, help="weight of the KL term (default: %(default)s)")
    schedule.add_arguments(parser, minutes=20)
    loop.add_arguments(parser)
    options = parser.parse_args(arguments)
    if options.decoder_only and not options.resume:
        parser.error("--decoder-only needs a VAE to go on with: give --resume too")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains and saves."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    team = Team.join()
    training = Training(options, team)
    plan = schedule.from_options(options, floor=0.02)
    loop.train(training.figures, training.optimisers, training.average, plan, team, training.save, options.save_every)
    team.leave()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
