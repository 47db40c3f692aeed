"""Random checkpoints of the published sizes, made without torch: the 14B transformer, VAE 2.1, and small ones.

Writing streams: a 28 GB file needs a few MB of memory. At most one of the real sizes is on disk at a time.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import checkpoints  # noqa: E402

TRANSFORMER_14B = {**checkpoints.TRANSFORMER, "num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40}
TINY_TRANSFORMER = {**checkpoints.TRANSFORMER, "num_attention_heads": 2, "attention_head_dim": 12, "ffn_dim": 40}
TINY_TRANSFORMER |= {"num_layers": 3, "text_dim": 36, "freq_dim": 32}
TINY_VAE = {**checkpoints.VAE, "base_dim": 4, "z_dim": 4, "dim_mult": [1, 2, 2, 2], "num_res_blocks": 1}
TINY_VAE |= {"latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}
_FILE = "diffusion_pytorch_model.safetensors"


def vae_shapes(config: dict) -> checkpoints.Shapes:
    """Names and shapes of AutoencoderKLWan in diffusers' layout."""
    z = config["z_dim"]
    widths = [config["base_dim"] * factor for factor in [1, *config["dim_mult"]]]
    yield from _conv("encoder.conv_in", widths[0], 3, (3, 3, 3))
    yield from _encoder_blocks(config, widths)
    yield from _ends("encoder", widths[-1], 2 * z)
    yield from _conv("quant_conv", 2 * z, 2 * z, (1, 1, 1))
    yield from _conv("post_quant_conv", z, z, (1, 1, 1))
    widths = [widths[-1], *widths[:0:-1]]
    yield from _conv("decoder.conv_in", widths[0], z, (3, 3, 3))
    yield from _decoder_blocks(config, widths)
    yield from _middle("decoder", widths[0])
    yield "decoder.norm_out.gamma", (widths[-1], 1, 1, 1)
    yield from _conv("decoder.conv_out", 3, widths[-1], (3, 3, 3))


def _conv(name: str, rows: int, columns: int, kernel: tuple[int, ...]) -> checkpoints.Shapes:
    yield f"{name}.weight", (rows, columns, *kernel)
    yield f"{name}.bias", (rows,)


def _resnet(name: str, into: int, out: int) -> checkpoints.Shapes:
    yield f"{name}.norm1.gamma", (into, 1, 1, 1)
    yield from _conv(f"{name}.conv1", out, into, (3, 3, 3))
    yield f"{name}.norm2.gamma", (out, 1, 1, 1)
    yield from _conv(f"{name}.conv2", out, out, (3, 3, 3))
    if into != out:
        yield from _conv(f"{name}.conv_shortcut", out, into, (1, 1, 1))


def _encoder_blocks(config: dict, widths: list[int]) -> checkpoints.Shapes:
    number = 0
    for level, (into, out) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        for _ in range(config["num_res_blocks"]):
            yield from _resnet(f"encoder.down_blocks.{number}", into, out)
            into, number = out, number + 1
        if level + 1 < len(config["dim_mult"]):
            name = f"encoder.down_blocks.{number}"
            yield from _conv(f"{name}.resample.1", out, out, (3, 3))
            if config["temperal_downsample"][level]:
                yield from _conv(f"{name}.time_conv", out, out, (3, 1, 1))
            number += 1


def _decoder_blocks(config: dict, widths: list[int]) -> checkpoints.Shapes:
    upsamples = config["temperal_downsample"][::-1]
    for level, (into, out) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        name = f"decoder.up_blocks.{level}"
        into = into // 2 if level > 0 else into
        for block in range(config["num_res_blocks"] + 1):
            yield from _resnet(f"{name}.resnets.{block}", into, out)
            into = out
        if level + 1 < len(config["dim_mult"]):
            yield from _conv(f"{name}.upsamplers.0.resample.1", out // 2, out, (3, 3))
            if upsamples[level]:
                yield from _conv(f"{name}.upsamplers.0.time_conv", 2 * out, out, (3, 1, 1))


def _middle(half: str, width: int) -> checkpoints.Shapes:
    yield f"{half}.mid_block.attentions.0.norm.gamma", (width, 1, 1)
    yield from _conv(f"{half}.mid_block.attentions.0.to_qkv", 3 * width, width, (1, 1))
    yield from _conv(f"{half}.mid_block.attentions.0.proj", width, width, (1, 1))
    for block in range(2):
        yield from _resnet(f"{half}.mid_block.resnets.{block}", width, width)


def _ends(half: str, width: int, out: int) -> checkpoints.Shapes:
    yield from _middle(half, width)
    yield f"{half}.norm_out.gamma", (width, 1, 1, 1)
    yield from _conv(f"{half}.conv_out", out, width, (3, 3, 3))


REAL: dict[str, tuple[Callable[[dict], checkpoints.Shapes], dict, str]] = {
    "transformer-14b": (checkpoints.transformer_shapes, TRANSFORMER_14B, "bfloat16"),
    "vae-2.1": (vae_shapes, checkpoints.VAE, "float32"),
}
TINY: dict[str, tuple[Callable[[dict], checkpoints.Shapes], dict, str]] = {
    "transformer-14b": (checkpoints.transformer_shapes, TINY_TRANSFORMER, "bfloat16"),
    "vae-2.1": (vae_shapes, TINY_VAE, "float32"),
}


def ensure(work: Path, name: str, tiny: bool) -> Path:
    """The folder of a random checkpoint, made unless it is there; others of the real sizes are removed first."""
    shapes, config, dtype = (TINY if tiny else REAL)[name]
    folder = work / (f"tiny-{name}" if tiny else name)
    if not tiny:
        for other in REAL:
            if other != name:
                shutil.rmtree(work / other, ignore_errors=True)
    return checkpoints.write(folder, _FILE, config, shapes(config), dtype)
