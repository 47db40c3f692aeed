"""Trains the demo checkpoint's transformer together with its text encoder, and writes the whole pipeline.

    python tools/train_transformer.py encode --vae vae --clips 3200 --latents clips.safetensors
    python tools/train_transformer.py train --vae vae --latents clips.safetensors --out wan-shapes --minutes 40

Clips with held-out combinations are never encoded. With --stills, `encode` stores what train_image_to_video.py needs.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from shapes import ACTIONS, held_out, render, sample
from training import flow
from training.checkpoint import save_pipeline
from training.clips import encoded_clips, measure_latents
from training.image import first_frames
from training.latents import Encoded, load_latents, save_latents
from training.processes import Team
from training.tokenizer import write_tokenizer
from training.transformer import HEAD_DIM, TextToVelocity, new_text_encoder, new_transformer
from training.vae import WholeClips
from transformers import UMT5EncoderModel

CLIPS_AT_ONCE = 4


def encode(options: argparse.Namespace) -> None:
    """Renders clips and stores their latents; every action comes equally often."""
    clips = WholeClips(AutoencoderKLWan.from_pretrained(options.vae, dtype=torch.float32))
    rng, reserved = random.Random(options.seed), set(held_out())
    latents, labels, conditions, stills = [], [], [], []
    with torch.no_grad():
        while len(labels) < options.clips:
            first = len(labels)
            batch = [
                sample(rng, ACTIONS[(first + i) % len(ACTIONS)], exclude=reserved)
                for i in range(min(CLIPS_AT_ONCE, options.clips - first))
            ]
            pixels = torch.from_numpy(render(batch))
            latents.append(clips.encode(pixels).chunk(2, 1)[0])
            labels += [clip.label for clip in batch]
            if options.stills:
                pictures, shown = first_frames(pixels)
                stills.append(pictures)
                conditions.append(clips.encode(shown).chunk(2, 1)[0])
            if len(labels) % 400 < CLIPS_AT_ONCE:
                print(f"{len(labels)} clips", flush=True)
    more = (torch.cat(conditions), torch.cat(stills)) if options.stills else ()
    save_latents(options.latents, Encoded(torch.cat(latents), labels, *more))


def train(options: argparse.Namespace) -> None:
    """Trains and saves."""
    team = Team.join()
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = Path(folder)
        pieces = write_tokenizer(tokenizer)
        encoded = load_latents(options.latents)
        vae = AutoencoderKLWan.from_pretrained(options.vae, dtype=torch.float32)
        torch.manual_seed(0)
        if options.resume:
            # A network that learned with one normalisation goes on with it, whatever the clips are now.
            known = AutoencoderKLWan.load_config(options.resume / "vae")
            vae.register_to_config(latents_mean=known["latents_mean"], latents_std=known["latents_std"])
            text_encoder = UMT5EncoderModel.from_pretrained(options.resume / "text_encoder", dtype=torch.float32)
            text_encoder.requires_grad_(not options.keep_text_encoder)
            transformer = WanTransformer3DModel.from_pretrained(options.resume / "transformer", dtype=torch.float32)
        else:
            measure_latents(vae, encoded.latents)
            text_encoder, transformer = new_text_encoder(pieces), new_transformer(options.dim, options.layers)

        def write() -> None:
            dtype = getattr(torch, options.dtype)
            save_pipeline(options.out, tokenizer, text_encoder, transformer, vae, dtype=dtype)

        net = TextToVelocity(text_encoder, transformer, compiled=options.compile)
        anneal = 0 if options.resume else options.anneal
        flow.FlowTraining(options, net, encoded_clips(encoded, vae), tokenizer, team, write, anneal=anneal).run(team)
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
    coder.add_argument(
        "--stills", action="store_true", help="store first frames too, and their latents: for image to video"
    )
    coder.add_argument("--threads", type=int, default=2, help="default: %(default)s")
    coder.set_defaults(run=encode)
    trainer = commands.add_parser("train", help="train on stored latents and write the pipeline")
    trainer.add_argument("--vae", type=Path, required=True, metavar="FOLDER", help="the VAE that made the latents")
    trainer.add_argument("--resume", type=Path, metavar="FOLDER", help="a pipeline to go on with")
    trainer.add_argument(
        "--keep-text-encoder",
        action="store_true",
        help="with --resume: leave the text encoder as it is, so that an image-to-video model may go on sharing it",
    )
    trainer.add_argument("--dim", type=int, default=192, help=f"width, {HEAD_DIM} per head (default: %(default)s)")
    trainer.add_argument("--layers", type=int, default=6, help="default: %(default)s")
    trainer.add_argument(
        "--anneal", type=int, default=600, help="steps until padding has its full weight (default: %(default)s)"
    )
    flow.add_arguments(trainer, minutes=40)
    trainer.set_defaults(run=train)
    options = parser.parse_args(arguments)
    if options.run is train:
        flow.check_arguments(trainer, options)
        if options.keep_text_encoder and not options.resume:
            trainer.error("--keep-text-encoder needs --resume: a fresh text encoder knows no words")
        if options.dim % HEAD_DIM:
            trainer.error(f"--dim has to be a multiple of {HEAD_DIM}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what the command line asks for."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    options.run(options)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
