"""bfloat16 of each stage over 16 seeded inputs: the relative RMS error against the float32 reference, on the same
weights, is at most that of diffusers' own bfloat16 in the mean, and at most 1.1 times its worst in the worst.

The reference holds the weights that both bfloat16 runs read. At rest in bfloat16 (as published text encoders are) they
are its own; at rest in float32 (as published transformers are) rounding them is part of the error of both.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import IMAGE_TRANSFORMER, write_image_encoder, write_text_encoder, write_transformer, write_vae
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from parity.components import decode, encode, encode_video, relative_l2, velocity
from transformers import CLIPVisionModel, UMT5EncoderModel

import wanoffload

SEEDS = 16
AT_REST = pytest.mark.parametrize("rest", [torch.bfloat16, torch.float32], ids=["bfloat16 at rest", "float32 at rest"])
Errors = tuple[float, float]


def check(errors_of: Callable[[torch.Generator], Errors]) -> None:
    """errors_of draws one input and returns our error and theirs."""
    with torch.no_grad():
        ours, theirs = np.array([errors_of(torch.Generator().manual_seed(seed)) for seed in range(SEEDS)]).T
    assert ours.min() > 1e-4, "nothing was rounded: this is not bfloat16"
    assert ours.mean() <= theirs.mean()
    assert ours.max() <= 1.1 * theirs.max()


def text_encoder_errors(
    folder: Path, exact: UMT5EncoderModel, rounded: UMT5EncoderModel, generator: torch.Generator
) -> Errors:
    length = int(torch.randint(1, 60, (1,), generator=generator))
    ids = torch.randint(2, exact.config.vocab_size, (1, length), generator=generator)
    reference = exact(ids).last_hidden_state[0].numpy()
    theirs = rounded(ids).last_hidden_state[0].float().numpy()
    (ours,) = encode(folder, [ids[0].numpy()], dtype="bfloat16")
    return relative_l2(ours, reference), relative_l2(theirs, reference)


def transformer_errors(
    folder: Path, exact: WanTransformer3DModel, rounded: WanTransformer3DModel, size: Any, generator: torch.Generator
) -> Errors:
    latents = torch.randn(2, exact.config.in_channels, *size, generator=generator)
    timesteps = torch.randint(1, 1000, (2,), generator=generator)
    rows = 128 if exact.config.image_dim is None else 512  # diffusers splits text from image at 512
    embeds = torch.zeros(2, rows, exact.config.text_dim)
    real = torch.randint(0, 129, (2,), generator=generator).tolist()
    for item in range(2):
        embeds[item, : real[item]] = torch.randn(real[item], exact.config.text_dim, generator=generator)
    inputs = [latents, embeds]
    if exact.config.image_dim is not None:
        inputs.append(torch.randn(2, 17, exact.config.image_dim, generator=generator))
    reference = exact(inputs[0], timesteps, *inputs[1:], return_dict=False)[0].numpy()
    halves = [one.bfloat16() for one in inputs]
    theirs = rounded(halves[0], timesteps, *halves[1:], return_dict=False)[0].float().numpy()
    texts = [(rows, embeds[item, : real[item]].numpy()) for item in range(2)]
    images = inputs[2].numpy() if len(inputs) > 2 else None
    ours = velocity(folder, latents.numpy(), timesteps.numpy(), texts, dtype="bfloat16", images=images)
    return relative_l2(ours, reference), relative_l2(theirs, reference)


def vae_errors(
    folder: Path, exact: AutoencoderKLWan, rounded: AutoencoderKLWan, size: Any, generator: torch.Generator
) -> Errors:
    latents = torch.randn(1, exact.config.z_dim, *size, generator=generator)
    reference = exact.decode(latents).sample[0].permute(1, 2, 3, 0).numpy()
    theirs = rounded.decode(latents.bfloat16()).sample[0].permute(1, 2, 3, 0).float().numpy()
    ours = decode(folder, latents[0].numpy(), dtype="bfloat16")
    return relative_l2(ours, reference), relative_l2(theirs, reference)


def vae_encoder_errors(
    folder: Path, exact: AutoencoderKLWan, rounded: AutoencoderKLWan, generator: torch.Generator
) -> Errors:
    video = torch.rand(1, 3, 5, 24, 40, generator=generator) * 2 - 1
    reference = exact.encode(video).latent_dist.mode()[0].numpy()
    theirs = rounded.encode(video.bfloat16()).latent_dist.mode()[0].float().numpy()
    ours = np.split(encode_video(folder, video[0].numpy(), dtype="bfloat16"), 2)[0]
    return relative_l2(ours, reference), relative_l2(theirs, reference)


def image_encoder_errors(
    ours: wanoffload.CLIPVisionModel, exact: CLIPVisionModel, rounded: CLIPVisionModel, generator: torch.Generator
) -> Errors:
    size = exact.config.image_size
    pixels = torch.randn(1, 3, size, size, generator=generator)
    reference, theirs = (
        model(pixels, output_hidden_states=True).hidden_states[-2].float().numpy() for model in (exact, rounded)
    )
    found = ours(pixels.numpy()).hidden_states[-2]
    return relative_l2(found, reference), relative_l2(theirs, reference)


@AT_REST
def test_text_encoder_rounds_more_than_transformers(tmp_path: Path, rest: torch.dtype) -> None:
    exact = write_text_encoder(tmp_path, seed=1, dtype=rest, num_layers=3, d_model=64)
    rounded = UMT5EncoderModel.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    check(lambda generator: text_encoder_errors(tmp_path, exact, rounded, generator))


@AT_REST
def test_transformer_rounds_more_than_diffusers(tmp_path: Path, rest: torch.dtype) -> None:
    exact = write_transformer(tmp_path, seed=2, dtype=rest, num_layers=3)
    rounded = WanTransformer3DModel.from_pretrained(tmp_path, torch_dtype=torch.bfloat16).eval()
    check(lambda generator: transformer_errors(tmp_path, exact, rounded, (2, 6, 8), generator))


@AT_REST
def test_transformer_with_images_rounds_more_than_diffusers(tmp_path: Path, rest: torch.dtype) -> None:
    exact = write_transformer(tmp_path, seed=4, dtype=rest, num_layers=3, **IMAGE_TRANSFORMER)
    rounded = WanTransformer3DModel.from_pretrained(tmp_path, torch_dtype=torch.bfloat16).eval()
    check(lambda generator: transformer_errors(tmp_path, exact, rounded, (2, 6, 8), generator))


@AT_REST
def test_image_encoder_rounds_more_than_transformers(tmp_path: Path, rest: torch.dtype) -> None:
    exact = write_image_encoder(tmp_path, seed=5, dtype=rest, hidden_size=64, num_attention_heads=4)
    rounded = CLIPVisionModel.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    ours = wanoffload.CLIPVisionModel.from_pretrained(tmp_path, dtype="bfloat16")
    check(lambda generator: image_encoder_errors(ours, exact, rounded, generator))


@AT_REST
def test_vae_encoder_rounds_more_than_diffusers(tmp_path: Path, rest: torch.dtype) -> None:
    exact = write_vae(tmp_path, seed=6, dtype=rest)
    rounded = AutoencoderKLWan.from_pretrained(tmp_path, torch_dtype=torch.bfloat16).eval()
    check(lambda generator: vae_encoder_errors(tmp_path, exact, rounded, generator))


@AT_REST
def test_vae_rounds_more_than_diffusers(tmp_path: Path, rest: torch.dtype) -> None:
    exact = write_vae(tmp_path, seed=3, dtype=rest)
    rounded = AutoencoderKLWan.from_pretrained(tmp_path, torch_dtype=torch.bfloat16).eval()
    check(lambda generator: vae_errors(tmp_path, exact, rounded, (2, 4, 5), generator))


@pytest.mark.parametrize("stage", ["text_encoder", "transformer", "vae"])
def test_stage_rounds_more_than_diffusers_on_the_trained_checkpoint(demo_model: Path, stage: str) -> None:
    folder = demo_model / stage
    kind = {"text_encoder": UMT5EncoderModel, "transformer": WanTransformer3DModel, "vae": AutoencoderKLWan}[stage]
    exact, rounded = (
        kind.from_pretrained(folder, torch_dtype=dtype).eval() for dtype in (torch.float32, torch.bfloat16)
    )
    if stage == "text_encoder":
        check(lambda generator: text_encoder_errors(folder, exact, rounded, generator))
    elif stage == "transformer":
        check(lambda generator: transformer_errors(folder, exact, rounded, (2, 8, 8), generator))
    else:
        check(lambda generator: vae_errors(folder, exact, rounded, (2, 4, 5), generator))
