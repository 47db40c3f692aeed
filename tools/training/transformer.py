"""The small transformer and text encoder, and a forward of both for training, with an image encoder where there is one.

A WAN pipeline fills the text up to 512 rows with zeros, and cross-attention sees all of them. After the text embedder
those 512 - n rows are still equal, and equal keys with equal values count as one whose score has ln(512 - n) added. So
training has n + 1 rows of text instead of 512 and computes the same function; tests/tools compares the two.

Rotary positions turn neighbouring pairs of a head's entries. Queries and keys may have their entries in any order that
is the same for both, so here those of even place come first and the pairs lie half a head apart, which vectorises.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from diffusers import WanTransformer3DModel
from torch import nn
from transformers import CLIPVisionModel, UMT5Config, UMT5EncoderModel

TEXT_ROWS = 512
TEXT_DIM = 64
HEAD_DIM = 64
EPSILON = 1e-6


def new_text_encoder(vocabulary: int) -> UMT5EncoderModel:
    """A text encoder with fresh weights for a tokenizer of so many pieces."""
    config = UMT5Config(
        vocab_size=vocabulary,
        d_model=TEXT_DIM,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        relative_attention_num_buckets=32,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        use_cache=False,
    )
    return UMT5EncoderModel(config)


def new_transformer(dim: int, layers: int) -> WanTransformer3DModel:
    """A transformer with fresh weights, initialised as the original WAN code does."""
    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=dim // HEAD_DIM,
        attention_head_dim=HEAD_DIM,
        in_channels=16,
        out_channels=16,
        text_dim=TEXT_DIM,
        freq_dim=256,
        ffn_dim=4 * dim,
        num_layers=layers,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        eps=EPSILON,
    )
    for name, parameter in transformer.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.dim() == 2 and "condition_embedder" in name:
            nn.init.normal_(parameter, std=0.02)
        elif parameter.dim() == 2:
            nn.init.xavier_uniform_(parameter)
    text_embedder = transformer.condition_embedder.text_embedder
    nn.init.normal_(text_embedder.linear_1.weight, std=TEXT_DIM**-0.5)
    nn.init.xavier_uniform_(text_embedder.linear_2.weight)
    nn.init.xavier_uniform_(transformer.patch_embedding.weight.view(dim, -1))
    nn.init.zeros_(transformer.proj_out.weight)
    return transformer


class Text(NamedTuple):
    """Rows of text with one zero row at the end, and what is added to their scores in cross-attention."""

    rows: torch.Tensor  # [batch, longest + 1, TEXT_DIM]
    score: torch.Tensor  # [batch, 1, 1, longest + 1]


class BlockWeights(NamedTuple):
    """Weights of one block: matrices in the dtype of products, everything else in float32."""

    table: torch.Tensor
    self_qkv: tuple[torch.Tensor, torch.Tensor]
    self_norms: tuple[torch.Tensor, torch.Tensor]
    self_out: tuple[torch.Tensor, torch.Tensor]
    cross_norm: tuple[torch.Tensor, torch.Tensor]
    cross_q: tuple[torch.Tensor, torch.Tensor]
    cross_kv: tuple[torch.Tensor, torch.Tensor]
    cross_norms: tuple[torch.Tensor, torch.Tensor]
    cross_out: tuple[torch.Tensor, torch.Tensor]
    ffn_in: tuple[torch.Tensor, torch.Tensor]
    ffn_out: tuple[torch.Tensor, torch.Tensor]
    image_kv: tuple[torch.Tensor, torch.Tensor] | None = None
    image_norm: torch.Tensor | None = None


class TextToVelocity(nn.Module):
    """Text encoder, transformer and perhaps image encoder as one network; gradients go to the parameters of all.

    Args:
        text_encoder: Where the weights of the one are.
        transformer: Where the weights of the other are.
        image_encoder: For a transformer that attends to an image too.
        dtype: What products are computed in; the residual stream is float32.
        compiled: Compile the blocks; needs a C++ compiler and about a minute before the first step.
    """

    def __init__(
        self,
        text_encoder: UMT5EncoderModel,
        transformer: WanTransformer3DModel,
        image_encoder: CLIPVisionModel | None = None,
        dtype: torch.dtype = torch.bfloat16,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self.text_encoder, self.transformer, self.dtype = text_encoder, transformer, dtype
        self.image_encoder = image_encoder
        self._block = torch.compile(block_forward, dynamic=False) if compiled else block_forward

    def encode(self, ids: torch.Tensor, mask: torch.Tensor, fold: float = 1.0) -> Text:
        """Encodes prompts.

        Args:
            ids: Tokens, [batch, longest].
            mask: 1 where there is a token, else 0.
            fold: Share of ln(512 - n) that is added to the score of the zero row. With 1 the zero rows have nearly all
                of the attention at first, and words are hardly seen; so early training begins with 0.
        """
        rows = self.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state * mask[..., None]
        rows = torch.cat([rows, torch.zeros_like(rows[:, :1])], 1)
        zeros = TEXT_ROWS - mask.sum(1, keepdim=True).float()
        score = torch.cat([torch.where(mask > 0, 0.0, float("-inf")), fold * torch.log(zeros)], 1)
        return Text(rows, score[:, None, None, :])

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """Rows of image, [batch, patches + 1, width], of pixels as the image processor gives them: what the last block
        of the image encoder would get, as WAN pipelines take it."""
        return self.image_encoder(pixels, output_hidden_states=True).hidden_states[-2]

    def forward(
        self, latents: torch.Tensor, timestep: torch.Tensor, text: Text, image: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Velocity.

        Args:
            latents: Noisy ones and, for image to video, their conditions: [batch, 16 or 36, frames, height, width].
            timestep: [batch], of 0..1000.
            text: From encode.
            image: From encode_image, if the transformer takes images.
        """
        net = self.transformer
        batch, channels, frames, height, width = latents.shape
        grid = (frames, height // 2, width // 2)
        patches = latents.view(batch, channels, frames, grid[1], 2, grid[2], 2).permute(0, 2, 3, 5, 1, 4, 6)
        x = F.linear(
            patches.reshape(batch, -1, channels * 4), net.patch_embedding.weight.flatten(1), net.patch_embedding.bias
        )
        conditions = net.condition_embedder
        time = conditions.time_embedder(conditions.timesteps_proj(timestep))
        modulation = conditions.time_proj(F.silu(time)).unflatten(1, (6, -1))
        rows = conditions.text_embedder(text.rows).to(self.dtype)
        if image is not None:
            image = conditions.image_embedder(image).to(self.dtype)
        cos, sin = net.rope(latents)
        rope = (cos[..., 0::2].float(), sin[..., 1::2].float())
        for block in net.blocks:
            weights = self._weights(block)
            x = self._block(x, rows, text.score, modulation, rope, weights, net.config.num_attention_heads, image)
        shift, scale = (net.scale_shift_table + time[:, None]).chunk(2, 1)
        x = F.linear(_layer_norm(x) * (1 + scale) + shift, net.proj_out.weight, net.proj_out.bias)
        patches = x.view(batch, *grid, 2, 2, -1).permute(0, 6, 1, 2, 4, 3, 5)
        return patches.reshape(batch, -1, frames, height, width)

    def _weights(self, block: nn.Module) -> BlockWeights:
        own, cross = block.attn1, block.attn2
        image = cross.add_k_proj is not None
        return BlockWeights(
            table=block.scale_shift_table,
            self_qkv=self._joined(own.to_q, own.to_k, own.to_v, parted=2),
            self_norms=(self._parted(own.norm_q.weight), self._parted(own.norm_k.weight)),
            self_out=self._joined(own.to_out[0]),
            cross_norm=(block.norm2.weight, block.norm2.bias),
            cross_q=self._joined(cross.to_q),
            cross_kv=self._joined(cross.to_k, cross.to_v),
            cross_norms=(cross.norm_q.weight, cross.norm_k.weight),
            cross_out=self._joined(cross.to_out[0]),
            ffn_in=self._joined(block.ffn.net[0].proj),
            ffn_out=self._joined(block.ffn.net[2]),
            image_kv=self._joined(cross.add_k_proj, cross.add_v_proj) if image else None,
            image_norm=cross.norm_added_k.weight if image else None,
        )

    def _joined(self, *layers: nn.Linear, parted: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight and bias of layers with the same input as of one layer, of which the first `parted` are parted."""
        parts = [
            (self._parted(one.weight), self._parted(one.bias)) if i < parted else (one.weight, one.bias)
            for i, one in enumerate(layers)
        ]
        weight, bias = (torch.cat(ones) for ones in zip(*parts, strict=True))
        return weight.to(self.dtype), bias.to(self.dtype)

    def _parted(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows in another order: those of even place in a head before those of odd place."""
        heads = self.transformer.config.num_attention_heads
        return rows.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def block_forward(
    x: torch.Tensor,
    text: torch.Tensor,
    score: torch.Tensor,
    modulation: torch.Tensor,
    rope: tuple[torch.Tensor, torch.Tensor],
    weights: BlockWeights,
    heads: int,
    image: torch.Tensor | None = None,
) -> torch.Tensor:
    """One WanTransformerBlock over x [batch, tokens, dim]; rope: cosines and sines [1, tokens, 1, head_dim / 2]."""
    dtype = text.dtype
    shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = (weights.table + modulation).chunk(6, 1)
    query, key, value = F.linear((_layer_norm(x) * (1 + scale) + shift).to(dtype), *weights.self_qkv).chunk(3, -1)
    query, key = (_rms_norm(one, gain) for one, gain in zip((query, key), weights.self_norms, strict=True))
    query, key = (_rotate(_split(one, heads), *rope).to(dtype) for one in (query, key))
    x = x + F.linear(_attention(query, key, _split(value, heads)), *weights.self_out).float() * gate

    normed = _layer_norm(x, *weights.cross_norm).to(dtype)
    query = _rms_norm(F.linear(normed, *weights.cross_q), weights.cross_norms[0]).to(dtype)
    key, value = F.linear(text, *weights.cross_kv).chunk(2, -1)
    key = _rms_norm(key, weights.cross_norms[1]).to(dtype)
    mixed = _attention(*(_split(one, heads) for one in (query, key, value)), score)
    if image is not None:  # a second attention, with keys and values of its own, whose result is added
        key, value = F.linear(image, *weights.image_kv).chunk(2, -1)
        key = _rms_norm(key, weights.image_norm).to(dtype)
        mixed = mixed + _attention(*(_split(one, heads) for one in (query, key, value)))
    x = x + F.linear(mixed, *weights.cross_out).float()

    hidden = F.linear((_layer_norm(x) * (1 + ffn_scale) + ffn_shift).to(dtype), *weights.ffn_in)
    return x + F.linear(F.gelu(hidden, approximate="tanh"), *weights.ffn_out).float() * ffn_gate


def _layer_norm(x: torch.Tensor, weight: torch.Tensor | None = None, bias: torch.Tensor | None = None) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-1:], weight, bias, EPSILON)


def _rms_norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    x = x.float()
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPSILON) * weight


def _split(x: torch.Tensor, heads: int) -> torch.Tensor:
    return x.unflatten(-1, (heads, -1))


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turns pairs of a head's entries, which lie half a head apart, by the angles of their position."""
    even, odd = x.chunk(2, -1)
    return torch.cat((even * cos - odd * sin, even * sin + odd * cos), -1)


def _attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, score: torch.Tensor | None = None
) -> torch.Tensor:
    """Of [batch, rows, heads, head_dim]; written out, as the CPU's fused kernel is slower backwards at this size."""
    query, key, value = (one.transpose(1, 2) for one in (query, key, value))
    scores = (query @ key.mT).float() * query.shape[-1] ** -0.5
    if score is not None:
        scores = scores + score
    return (torch.softmax(scores, -1).to(value.dtype) @ value).transpose(1, 2).flatten(2)
