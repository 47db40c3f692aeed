"""Image to video: the small image encoder, what goes in front of it, and how the transformer gets eyes.

As in WAN 2.1, the still comes in twice. The VAE's latents of it, with grey frames after it, lie beside the noisy
latents as further channels, together with a mask of four channels that says which frames are known. And rows of an
image encoder are attended to in every block. A CLIP that knows the world is no use at 96 pixels, so this one is trained
along.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from PIL import Image
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from training.clips import Clips, Normalisation
from training.latents import Encoded

if TYPE_CHECKING:
    from transformers import CLIPImageProcessor

IMAGE_SIZE = 48
PATCH_SIZE = 12
WIDTH = 64
MASK_CHANNELS = 4  # one for each frame of a latent frame
HINT = 0.5

# The file of published checkpoints but for the size.
PROCESSOR = {
    "crop_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_processor_type": "CLIPImageProcessor",
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": IMAGE_SIZE},
}


def write_processor(folder: Path) -> None:
    """Writes preprocessor_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR, indent=2) + "\n")


def new_processor() -> CLIPImageProcessor:
    """What makes pixels for the image encoder of a picture."""
    from transformers import CLIPImageProcessor  # says at once that it would rather have torchvision

    return CLIPImageProcessor(**{key: value for key, value in PROCESSOR.items() if key != "image_processor_type"})


def new_image_encoder() -> CLIPVisionModel:
    """An image encoder with fresh weights. Its last block is there because files have it; pipelines leave it out."""
    config = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
        hidden_act="gelu",
    )
    encoder = CLIPVisionModel(config)
    for unused in (encoder.encoder.layers[-1], encoder.post_layernorm):
        unused.requires_grad_(False)
    return encoder


def widened(transformer: WanTransformer3DModel, grey: torch.Tensor) -> WanTransformer3DModel:
    """A transformer for image to video that begins with what one for text to video knows.

    To that one, a first frame that is seen better than the others is nothing new. So conditions are embedded as if HINT
    times them were added to the noisy latents, but for the grey of the frames that are not known: what it amounts to is
    taken off in the bias and put back by the mask. Rows of an image have values of zero at first.

    Args:
        transformer: For text to video; stays as it is.
        grey: What latents of grey frames are in the mean, normalised, [16].
    """
    # Without diffusers' own notes in it, one of which says which entries were defaults and may be replaced by such.
    config = {name: value for name, value in transformer.config.items() if not name.startswith("_")}
    channels, dim = config["in_channels"], config["num_attention_heads"] * config["attention_head_dim"]
    config |= {"in_channels": 2 * channels + MASK_CHANNELS, "image_dim": WIDTH, "added_kv_proj_dim": dim}
    wide = WanTransformer3DModel.from_config(config)
    known = transformer.state_dict()
    weight, bias = known["patch_embedding.weight"], known["patch_embedding.bias"]
    offset = HINT * torch.einsum("ocfhw,c->o", weight, grey)
    mask = (offset / (MASK_CHANNELS * weight[0, 0].numel())).view(-1, 1, 1, 1, 1)
    mask = mask.expand(-1, MASK_CHANNELS, *weight.shape[2:])
    known["patch_embedding.weight"] = torch.cat([weight, mask, HINT * weight], 1)
    known["patch_embedding.bias"] = bias - offset
    wide.load_state_dict(known, strict=False)
    for block in wide.blocks:
        cross = block.attn2
        nn.init.xavier_uniform_(cross.add_k_proj.weight)
        for parameter in (cross.add_k_proj.bias, cross.add_v_proj.weight, cross.add_v_proj.bias):
            nn.init.zeros_(parameter)
    return wide


def first_frames(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """First frames as a picture has them and as a VAE is shown them.

    Args:
        pixels: Of clips, [clips, 3, frames, height, width] in -1..1.

    Returns:
        uint8 [clips, 3, height, width], and pixels with every later frame grey; both have the first frame in 8 bits.
    """
    stills = ((pixels[:, :, 0] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    shown = torch.zeros_like(pixels)
    shown[:, :, 0] = stills.float() / 127.5 - 1
    return stills, shown


def still_clips(encoded: Encoded, vae: AutoencoderKLWan) -> Clips:
    """Encoded clips with a VAE's normalisation and with what the transformer is told of their first frames.

    Raises:
        ValueError: They were encoded without.
    """
    if encoded.conditions is None or encoded.stills is None:
        raise ValueError("These clips were encoded without their stills: encode them with --stills.")
    normalise = Normalisation.of(vae)
    mask = torch.zeros(len(encoded.labels), MASK_CHANNELS, *encoded.latents.shape[2:])
    mask[:, :, 0] = 1
    conditions = torch.cat([mask, normalise(encoded.conditions)], 1)
    pictures = [Image.fromarray(still.permute(1, 2, 0).numpy()) for still in encoded.stills]
    pixels = new_processor()(images=pictures, return_tensors="pt").pixel_values
    return Clips(normalise(encoded.latents), encoded.labels, conditions, pixels)
