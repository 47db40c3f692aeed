"""The small VAE, and a forward of it that takes whole clips.

diffusers' AutoencoderKLWan goes through a clip in pieces and keeps the last frames of every convolution, which is right
for long films and slow to train. Here a clip of 1 + 4n frames goes through in one piece: causal convolutions see zero
frames before the first, and where time is halved or doubled the first frame is left out and put back. That is the same
function; tests/tools compares the two.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from torch import nn

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
LATENT_CHANNELS = 16
EPSILON = 1e-12


def new_vae(base_dim: int, blocks: int) -> AutoencoderKLWan:
    """A VAE with fresh weights.

    Args:
        base_dim: Channels of the first level.
        blocks: Residual blocks of each level.
    """
    vae = AutoencoderKLWan(
        base_dim=base_dim,
        z_dim=LATENT_CHANNELS,
        dim_mult=[1, 2, 4, 4],
        num_res_blocks=blocks,
        temperal_downsample=[False, True, True],
    )
    with torch.no_grad():
        for name, parameter in vae.named_parameters():
            # torch's default shrinks the signal from layer to layer; residual branches begin at half its size.
            if parameter.dim() >= 4:
                parameter.mul_(3**0.5 * (0.5 if "conv2" in name else 1))
        # Latents begin nearly free of noise: otherwise they grow without bound to drown it.
        vae.quant_conv.weight[LATENT_CHANNELS:] *= 0.1
        vae.quant_conv.bias[LATENT_CHANNELS:] = -5.0
    return vae


class WholeClips:
    """The forward of an AutoencoderKLWan over whole clips; gradients go to the parameters of that VAE.

    Args:
        vae: Where the weights are.
        dtype: What products are computed in.
    """

    def __init__(self, vae: AutoencoderKLWan, dtype: torch.dtype = torch.bfloat16) -> None:
        self.vae, self.dtype = vae, dtype

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Means and log variances of latents, [batch, 32, 1 + n, h/8, w/8] float32, of [batch, 3, 1 + 4n, h, w]."""
        encoder = self.vae.encoder
        x = self._conv3d(encoder.conv_in, _pad(self._enter(pixels)))
        for layer in encoder.down_blocks:
            x = self._residual(layer, x) if hasattr(layer, "conv1") else self._downsample(layer, x)
        x = self._head(encoder, self._middle(encoder.mid_block, x))
        return self._conv3d(self.vae.quant_conv, x).float()

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pixels, float32 and not clamped, of latents [batch, 16, 1 + n, h, w]."""
        decoder = self.vae.decoder
        x = self._conv3d(self.vae.post_quant_conv, self._enter(latents))
        x = self._middle(decoder.mid_block, self._conv3d(decoder.conv_in, _pad(x)))
        for block in decoder.up_blocks:
            for resnet in block.resnets:
                x = self._residual(resnet, x)
            if block.upsamplers is not None:
                x = self._upsample(block.upsamplers[0], x)
        return self._head(decoder, x).float()

    def _enter(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(self.dtype).contiguous(memory_format=torch.channels_last_3d)

    def _weights(self, layer: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
        weight = layer.weight.to(self.dtype)
        return weight.contiguous(memory_format=CHANNELS_LAST[weight.dim()]), layer.bias.to(self.dtype)

    def _conv3d(self, layer: nn.Module, x: torch.Tensor, stride: int | tuple[int, int, int] = 1) -> torch.Tensor:
        return F.conv3d(x, *self._weights(layer), stride)

    def _conv2d(self, layer: nn.Module, x: torch.Tensor, stride: int = 1, padding: int = 0) -> torch.Tensor:
        """Every frame for itself."""
        frames = x.permute(0, 2, 1, 3, 4).flatten(0, 1)
        frames = F.conv2d(frames, *self._weights(layer), stride, padding)
        return frames.unflatten(0, (x.shape[0], x.shape[2])).permute(0, 2, 1, 3, 4)

    def _head(self, network: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return self._conv3d(network.conv_out, _pad(_norm_silu(x, network.norm_out.gamma)))

    def _residual(self, block: nn.Module, x: torch.Tensor) -> torch.Tensor:
        straight = x if isinstance(block.conv_shortcut, nn.Identity) else self._conv3d(block.conv_shortcut, x)
        x = self._conv3d(block.conv1, _pad(_norm_silu(x, block.norm1.gamma)))
        x = self._conv3d(block.conv2, _pad(_norm_silu(x, block.norm2.gamma)))
        return x + straight

    def _middle(self, block: nn.Module, x: torch.Tensor) -> torch.Tensor:
        x = self._residual(block.resnets[0], x)
        return self._residual(block.resnets[1], self._attention(block.attentions[0], x))

    def _attention(self, block: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """Attention of one head within each frame."""
        batch, _, frames, height, width = x.shape
        rows = x.permute(0, 2, 3, 4, 1).flatten(2, 3).flatten(0, 1)
        normed = F.normalize(rows.float(), dim=-1) * block.norm.scale * block.norm.gamma.view(-1)
        weight, bias = self._weights(block.to_qkv)
        query, key, value = F.linear(normed.to(x.dtype), weight[:, :, 0, 0], bias)[:, None].chunk(3, -1)
        mixed = F.scaled_dot_product_attention(query, key, value)[:, 0]
        weight, bias = self._weights(block.proj)
        mixed = F.linear(mixed, weight[:, :, 0, 0], bias)
        return x + mixed.view(batch, frames, height, width, -1).permute(0, 4, 1, 2, 3)

    def _downsample(self, block: nn.Module, x: torch.Tensor) -> torch.Tensor:
        x = self._conv2d(block.resample[1], F.pad(x, (0, 1, 0, 1)), stride=2)
        if block.mode == "downsample3d" and x.shape[2] > 1:
            x = torch.cat([x[:, :, :1], self._conv3d(block.time_conv, x, (2, 1, 1))], 2)
        return x

    def _upsample(self, block: nn.Module, x: torch.Tensor) -> torch.Tensor:
        if block.mode == "upsample3d" and x.shape[2] > 1:
            # The first frame is not doubled, and the convolution over time does not see it.
            pairs = self._conv3d(block.time_conv, F.pad(x[:, :, 1:], (0, 0, 0, 0, 2, 0)))
            pairs = pairs.unflatten(1, (2, -1)).permute(0, 2, 3, 1, 4, 5).flatten(2, 3)
            x = torch.cat([x[:, :, :1], pairs], 2)
        batch, channels, frames, height, width = x.shape
        nearest = x.permute(0, 2, 3, 4, 1)[:, :, :, None, :, None]
        nearest = nearest.expand(batch, frames, height, 2, width, 2, channels)
        nearest = nearest.reshape(batch, frames, 2 * height, 2 * width, channels).permute(0, 4, 1, 2, 3)
        return self._conv2d(block.resample[1], nearest, padding=1)


def _norm_silu(x: torch.Tensor, gamma: torch.Tensor) -> torch.Tensor:
    """RMS norm over channels and SiLU, in float32 inside."""
    wide = x.float()
    normed = wide * torch.rsqrt(wide.pow(2).mean(1, keepdim=True) + EPSILON) * gamma.view(1, -1, 1, 1, 1)
    return F.silu(normed).to(x.dtype)


def _pad(x: torch.Tensor) -> torch.Tensor:
    """Zeros around a frame, and two zero frames before the first: what a causal 3x3x3 convolution reads."""
    return F.pad(x, (1, 1, 1, 1, 2, 0))
