"""Small random checkpoints in the layouts of diffusers and transformers, and the reference models that go with them.

Every function writes one folder (config.json and safetensors) and returns the reference in float32. Weights are drawn
so that a test can see a difference: norms and modulation differ from the identity, gates are not small, and the VAE has
strong biases, because without them its L2 norms blow rounding errors up until any two correct decoders disagree.
"""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
    UMT5Config,
    UMT5EncoderModel,
)

TRANSFORMER: dict[str, Any] = {
    "num_attention_heads": 3,
    "attention_head_dim": 12,
    "in_channels": 5,
    "out_channels": 5,
    "text_dim": 20,
    "freq_dim": 24,
    "ffn_dim": 70,
    "num_layers": 2,
    "cross_attn_norm": True,
}
IMAGE_TRANSFORMER: dict[str, Any] = {"in_channels": 9, "out_channels": 4, "image_dim": 14, "added_kv_proj_dim": 36}
FIRST_AND_LAST_FRAME: dict[str, Any] = {**IMAGE_TRANSFORMER, "pos_embed_seq_len": 14}  # seven rows of each still
IMAGE_ENCODER: dict[str, Any] = {
    "hidden_size": 36,
    "intermediate_size": 52,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "image_size": 30,
    "patch_size": 7,
    "hidden_act": "gelu",
}
IMAGE_PROCESSOR: dict[str, Any] = {
    "image_processor_type": "CLIPImageProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "size": {"shortest_edge": 30},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 30, "width": 30},
    "do_rescale": True,
    "rescale_factor": 0.00392156862745098,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
TEXT_ENCODER: dict[str, Any] = {
    "vocab_size": 97,
    "d_model": 36,
    "d_kv": 12,
    "d_ff": 52,
    "num_layers": 2,
    "num_heads": 5,
}
VAE: dict[str, Any] = {
    "base_dim": 6,
    "z_dim": 4,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 1,
    "temperal_downsample": [False, True, True],
    "latents_mean": [0.1, -0.2, 0.3, -0.4],
    "latents_std": [1.1, 0.9, 1.2, 0.8],
}


def _normal(generator: torch.Generator, like: torch.Tensor, mean: float, std: float) -> torch.Tensor:
    return mean + std * torch.randn(like.shape, generator=generator)


def _fill(model: torch.nn.Module, seed: int, gain: float, bias: float) -> None:
    """Redraws all parameters: matrices with std `gain` / sqrt(fan-in), norms around 1, biases with std `bias`."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("bias"):
                value.copy_(_normal(generator, value, 0.0, bias))
            elif "class_embedding" in name or "pos_embed" in name or "position_embedding" in name:
                value.copy_(_normal(generator, value, 0.0, 0.5))
            elif value.ndim <= 1 or name.endswith("gamma"):
                value.copy_(_normal(generator, value, 1.0, 0.2))
            elif name.endswith("scale_shift_table"):
                value.copy_(_normal(generator, value, 0.0, 0.4))
            elif "relative_attention_bias" in name or "shared" in name or "embed_tokens" in name:
                value.copy_(_normal(generator, value, 0.0, 1.0))
            else:
                value.copy_(_normal(generator, value, 0.0, gain / value[0].numel() ** 0.5))


def _save(model: Any, folder: Path, dtype: torch.dtype) -> None:
    """Writes the folder with weights in dtype, and rounds the parameters (not the buffers) of the model likewise."""
    copy.deepcopy(model).to(dtype).save_pretrained(folder)
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(value.to(dtype))


def edit_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Changes the tensors of a folder's one file of weights; edit changes the dict in place."""
    (file,) = folder.glob("*.safetensors")
    weights = load_file(file)
    edit(weights)
    save_file({name: value.contiguous() for name, value in weights.items()}, file)


def rename_weights(folder: Path, rename: Callable[[str], str]) -> None:
    """Gives the tensors of a folder's one file of weights other names."""

    def edit(weights: dict[str, torch.Tensor]) -> None:
        renamed = {rename(name): value for name, value in weights.items()}
        weights.clear()
        weights.update(renamed)

    edit_weights(folder, edit)


def write_transformer(
    folder: Path, seed: int = 0, dtype: torch.dtype = torch.float32, **config: Any
) -> WanTransformer3DModel:
    """A WanTransformer3DModel folder; config entries replace those of TRANSFORMER, as those of IMAGE_TRANSFORMER do for
    one that attends to images. dtype: of the weights at rest."""
    model = WanTransformer3DModel(**{**TRANSFORMER, **config}).eval()
    _fill(model, seed, gain=1.0, bias=0.2)
    _save(model, folder, dtype)
    return model


def write_text_encoder(
    folder: Path, seed: int = 0, dtype: torch.dtype = torch.float32, **config: Any
) -> UMT5EncoderModel:
    """A UMT5EncoderModel folder; config entries replace those of TEXT_ENCODER. dtype: of the weights at rest."""
    entries = {**TEXT_ENCODER, **config}
    model = UMT5EncoderModel(UMT5Config(**entries, feed_forward_proj="gated-gelu", dropout_rate=0.0)).eval()
    _fill(model, seed, gain=0.8, bias=0.0)
    _save(model, folder, dtype)
    return model


def write_image_encoder(
    folder: Path, seed: int = 0, dtype: torch.dtype = torch.float32, kind: str = "CLIPVisionModel", **config: Any
) -> CLIPVisionModel:
    """A folder of a CLIP vision encoder; config entries replace those of IMAGE_ENCODER. dtype: of the weights at rest.

    Args:
        folder: The folder.
        seed: Of the weights.
        dtype: Of the weights at rest.
        kind: The class that is written: CLIPVisionModel, CLIPVisionModelWithProjection or CLIPModel.
        **config: Entries of the vision config.

    Returns:
        The vision model, whatever the kind.
    """
    entries = {**IMAGE_ENCODER, **config}
    if kind == "CLIPVisionModel":
        model = whole = CLIPVisionModel(CLIPVisionConfig(**entries))
    elif kind == "CLIPVisionModelWithProjection":
        whole = CLIPVisionModelWithProjection(CLIPVisionConfig(**entries, projection_dim=10))
        model = whole.vision_model
    else:
        text = {"vocab_size": 11, "hidden_size": 8, "intermediate_size": 9, "num_hidden_layers": 1}
        text |= {"num_attention_heads": 2, "max_position_embeddings": 5, "bos_token_id": 0, "eos_token_id": 1}
        whole = CLIPModel(CLIPConfig(text_config=text, vision_config=entries, projection_dim=10))
        model = whole.vision_model
    _fill(whole.eval(), seed, gain=1.0, bias=0.2)
    _save(whole, folder, dtype)
    return model


def write_image_processor(folder: Path, **config: Any) -> None:
    """A folder with a preprocessor_config.json; entries replace those of IMAGE_PROCESSOR."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "preprocessor_config.json").write_text(json.dumps({**IMAGE_PROCESSOR, **config}))


def write_vae(folder: Path, seed: int = 0, dtype: torch.dtype = torch.float32, **config: Any) -> AutoencoderKLWan:
    """An AutoencoderKLWan folder; config entries replace those of VAE. dtype: of the weights at rest.

    Few pixels of a decode of standard normal latents reach the clamp at -1 and 1. The logarithms of the variances that
    an encode gives are small, so that means and samples differ visibly.
    """
    model = AutoencoderKLWan(**{**VAE, **config}).eval()
    _fill(model, seed, gain=1.0, bias=0.4)
    with torch.no_grad():
        model.decoder.conv_out.weight.mul_(0.3)
        model.decoder.conv_out.bias.mul_(0.1)
        model.quant_conv.weight[model.config.z_dim :].mul_(0.1)
    _save(model, folder, dtype)
    return model
