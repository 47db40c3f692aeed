"""Small random checkpoints in the layouts of diffusers and transformers, and the reference models that go with them.

Every function writes one folder (config.json and safetensors) and returns the reference in float32. Weights are drawn
so that a test can see a difference: norms and modulation differ from the identity, gates are not small, and the VAE has
strong biases, because without them its L2 norms blow rounding errors up until any two correct decoders disagree.
"""

import copy
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from transformers import UMT5Config, UMT5EncoderModel

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
            elif value.ndim == 1 or name.endswith("gamma"):
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


def write_transformer(
    folder: Path, seed: int = 0, dtype: torch.dtype = torch.float32, **config: Any
) -> WanTransformer3DModel:
    """A WanTransformer3DModel folder; config entries replace those of TRANSFORMER. dtype: of the weights at rest."""
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


def write_vae(folder: Path, seed: int = 0, dtype: torch.dtype = torch.float32, **config: Any) -> AutoencoderKLWan:
    """An AutoencoderKLWan folder; config entries replace those of VAE. dtype: of the weights at rest.

    Few pixels of a decode of standard normal latents reach the clamp at -1 and 1.
    """
    model = AutoencoderKLWan(**{**VAE, **config}).eval()
    _fill(model, seed, gain=1.0, bias=0.4)
    with torch.no_grad():
        model.decoder.conv_out.weight.mul_(0.3)
        model.decoder.conv_out.bias.mul_(0.1)
    _save(model, folder, dtype)
    return model
