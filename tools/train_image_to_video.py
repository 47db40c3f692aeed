"""Makes an image-to-video checkpoint of a text-to-video one.

    python tools/train_transformer.py encode --vae wan-shapes/vae --stills --latents stills.safetensors
    python tools/train_image_to_video.py --base wan-shapes --latents stills.safetensors --out wan-shapes-i2v

The transformer begins as that of the base, to which a still is a first frame with less noise; an image encoder is
trained along. VAE, text encoder and tokenizer stay what they are, so that their files are those of the base. Some
prompts name the shape and its colour, others only say "it" or "the shape": the picture shows what it is.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from prompts import animate
from training import flow
from training.checkpoint import save_pipeline
from training.image import MASK_CHANNELS, new_image_encoder, still_clips, widened
from training.latents import load_latents
from training.processes import Team
from training.transformer import TextToVelocity
from transformers import CLIPVisionModel, UMT5EncoderModel


def train(options: argparse.Namespace) -> None:
    """Trains and saves."""
    team, base = Team.join(), options.base
    vae = AutoencoderKLWan.from_pretrained(base / "vae", dtype=torch.float32)
    text_encoder = UMT5EncoderModel.from_pretrained(base / "text_encoder", dtype=torch.float32).requires_grad_(False)
    clips = still_clips(load_latents(options.latents), vae)
    torch.manual_seed(0)
    image_encoder = new_image_encoder()
    transformer = WanTransformer3DModel.from_pretrained((options.resume or base) / "transformer", dtype=torch.float32)
    if options.resume:
        known = CLIPVisionModel.from_pretrained(options.resume / "image_encoder", dtype=torch.float32)
        image_encoder.load_state_dict(known.state_dict())
    else:
        transformer = widened(transformer, clips.conditions[:, MASK_CHANNELS:, 1:].mean((0, 2, 3, 4)))

    def write() -> None:
        parts = (text_encoder, transformer, vae, image_encoder)
        save_pipeline(options.out, base / "tokenizer", *parts, dtype=getattr(torch, options.dtype))

    net = TextToVelocity(text_encoder, transformer, image_encoder, compiled=options.compile)
    flow.FlowTraining(options, net, clips, base / "tokenizer", team, write, animate).run(team)
    team.leave()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, metavar="FOLDER", help="a text-to-video pipeline")
    parser.add_argument("--resume", type=Path, metavar="FOLDER", help="an image-to-video pipeline to go on with")
    flow.add_arguments(parser, minutes=20)
    options = parser.parse_args(arguments)
    flow.check_arguments(parser, options)
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    train(options)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
