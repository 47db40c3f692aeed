"""Random checkpoints of the real sizes: WAN 1.3B transformer, VAE 2.1, UMT5-XXL, in diffusers' folder layout.

There are no published weights on a build machine; speed and memory do not depend on what the weights are, only on
their shapes and dtypes. Values are small normals so that activations stay finite in bfloat16. Tensors are written one
after the other: making an 11 GB file needs a few MB of memory.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

TRANSFORMER = {
    "_class_name": "WanTransformer3DModel",
    "added_kv_proj_dim": None,
    "attention_head_dim": 128,
    "cross_attn_norm": True,
    "eps": 1e-6,
    "ffn_dim": 8960,
    "freq_dim": 256,
    "image_dim": None,
    "in_channels": 16,
    "num_attention_heads": 12,
    "num_layers": 30,
    "out_channels": 16,
    "patch_size": [1, 2, 2],
    "pos_embed_seq_len": None,
    "qk_norm": "rms_norm_across_heads",
    "rope_max_seq_len": 1024,
    "text_dim": 4096,
}
VAE = {
    "_class_name": "AutoencoderKLWan",
    "attn_scales": [],
    "base_dim": 96,
    "dim_mult": [1, 2, 4, 4],
    "dropout": 0.0,
    "num_res_blocks": 2,
    "temperal_downsample": [False, True, True],
    "z_dim": 16,
}
UMT5 = {
    "architectures": ["UMT5EncoderModel"],
    "model_type": "umt5",
    "d_ff": 10240,
    "d_kv": 64,
    "d_model": 4096,
    "decoder_start_token_id": 0,
    "dense_act_fn": "gelu_new",
    "dropout_rate": 0.1,
    "eos_token_id": 1,
    "feed_forward_proj": "gated-gelu",
    "is_encoder_decoder": True,
    "is_gated_act": True,
    "layer_norm_epsilon": 1e-6,
    "num_heads": 64,
    "num_layers": 24,
    "pad_token_id": 0,
    "relative_attention_max_distance": 128,
    "relative_attention_num_buckets": 32,
    "tie_word_embeddings": False,
    "vocab_size": 256384,
}

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def transformer_shapes(config: dict) -> Shapes:
    """Names and shapes of WanTransformer3DModel (specification of the layout: diffusers 0.42)."""
    d = config["num_attention_heads"] * config["attention_head_dim"]
    ffn, text = config["ffn_dim"], config["text_dim"]

    def linear(name: str, rows: int, columns: int) -> Shapes:
        yield f"{name}.weight", (rows, columns)
        yield f"{name}.bias", (rows,)

    yield "patch_embedding.weight", (d, config["in_channels"], 1, 2, 2)
    yield "patch_embedding.bias", (d,)
    embedder = "condition_embedder"
    yield from linear(f"{embedder}.text_embedder.linear_1", d, text)
    yield from linear(f"{embedder}.text_embedder.linear_2", d, d)
    yield from linear(f"{embedder}.time_embedder.linear_1", d, config["freq_dim"])
    yield from linear(f"{embedder}.time_embedder.linear_2", d, d)
    yield from linear(f"{embedder}.time_proj", 6 * d, d)
    for i in range(config["num_layers"]):
        block = f"blocks.{i}"
        yield f"{block}.scale_shift_table", (1, 6, d)
        yield f"{block}.norm2.weight", (d,)
        yield f"{block}.norm2.bias", (d,)
        for attention in ("attn1", "attn2"):
            for part in ("to_q", "to_k", "to_v", "to_out.0"):
                yield from linear(f"{block}.{attention}.{part}", d, d)
            yield f"{block}.{attention}.norm_q.weight", (d,)
            yield f"{block}.{attention}.norm_k.weight", (d,)
        yield from linear(f"{block}.ffn.net.0.proj", ffn, d)
        yield from linear(f"{block}.ffn.net.2", d, ffn)
    yield "scale_shift_table", (1, 2, d)
    yield from linear("proj_out", 4 * config["out_channels"], d)


def umt5_shapes(config: dict) -> Shapes:
    """Names and shapes of transformers' UMT5EncoderModel."""
    d, ff, inner = config["d_model"], config["d_ff"], config["num_heads"] * config["d_kv"]
    yield "shared.weight", (config["vocab_size"], d)
    for i in range(config["num_layers"]):
        attention = f"encoder.block.{i}.layer.0"
        for part in "qkv":
            yield f"{attention}.SelfAttention.{part}.weight", (inner, d)
        yield f"{attention}.SelfAttention.o.weight", (d, inner)
        bias = (config["relative_attention_num_buckets"], config["num_heads"])
        yield f"{attention}.SelfAttention.relative_attention_bias.weight", bias
        yield f"{attention}.layer_norm.weight", (d,)
        dense = f"encoder.block.{i}.layer.1"
        yield f"{dense}.DenseReluDense.wi_0.weight", (ff, d)
        yield f"{dense}.DenseReluDense.wi_1.weight", (ff, d)
        yield f"{dense}.DenseReluDense.wo.weight", (d, ff)
        yield f"{dense}.layer_norm.weight", (d,)
    yield "encoder.final_layer_norm.weight", (d,)


def vae_shapes(config: dict) -> Shapes:
    """Names and shapes of AutoencoderKLWan, read off diffusers' own module on the meta device."""
    import torch
    from diffusers import AutoencoderKLWan

    with torch.device("meta"):
        model = AutoencoderKLWan(**{k: v for k, v in config.items() if not k.startswith("_")})
    for name, tensor in model.state_dict().items():
        yield name, tuple(tensor.shape)


def _values(name: str, shape: tuple[int, ...], rng: np.random.Generator, bits: str) -> Iterator[bytes]:
    """The tensor's bytes, in pieces of at most 4 million elements drawn from one repeated pool."""
    fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 1
    is_gain = name.endswith(("norm.weight", "norm2.weight", "norm_q.weight", "norm_k.weight", "gamma"))
    scale, offset = (0.1, 1.0) if is_gain else (0.05, 0.0) if len(shape) == 1 else (fan_in**-0.5, 0.0)
    if name.endswith("SelfAttention.q.weight"):
        scale /= UMT5["d_kv"] ** 0.5  # UMT5 does not scale its scores: softmax would saturate, bfloat16 be chaos
    pool = (rng.standard_normal(1 << 20, dtype=np.float32) * scale + offset).astype(np.float32)
    if bits == "BF16":
        pool = ((pool.view(np.uint32) + 0x8000) >> 16).astype(np.uint16)
    left = int(np.prod(shape))
    while left:
        start = int(rng.integers(0, 1 << 10))
        piece = pool[start : start + min(left, len(pool) - start)]
        left -= len(piece)
        yield piece.tobytes()


def write(folder: Path, file: str, config: dict, shapes: Shapes, dtype: str) -> Path:
    """Writes ``folder/config.json`` and ``folder/file`` unless both are there.

    Args:
        dtype: "float32" or "bfloat16", of all tensors.
    """
    target = folder / file
    if target.exists() and (folder / "config.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    bits, size = ("F32", 4) if dtype == "float32" else ("BF16", 2)
    tensors, offset = {}, 0
    shapes = list(shapes)
    for name, shape in shapes:
        end = offset + int(np.prod(shape)) * size
        tensors[name] = {"dtype": bits, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    header = json.dumps({"__metadata__": {"format": "pt"}, **tensors}).encode()
    header += b" " * (-len(header) % 8)
    rng = np.random.default_rng(0)
    partial = target.with_suffix(".partial")
    with open(partial, "wb") as out:
        out.write(struct.pack("<Q", len(header)) + header)
        for name, shape in shapes:
            for piece in _values(name, shape, rng, bits):
                out.write(piece)
    partial.rename(target)
    (folder / "config.json").write_text(json.dumps({**config, "_diffusers_version": "0.42.1"}, indent=2) + "\n")
    return folder


def transformer(root: Path, dtype: str) -> Path:
    """The 1.3B transformer: 2.8 GB in bfloat16, 5.7 GB in float32."""
    folder = root / f"transformer-1.3b-{dtype}"
    return write(folder, "diffusion_pytorch_model.safetensors", TRANSFORMER, transformer_shapes(TRANSFORMER), dtype)


def vae(root: Path) -> Path:
    """The VAE 2.1 in float32, as published: 0.5 GB."""
    return write(root / "vae-2.1", "diffusion_pytorch_model.safetensors", VAE, vae_shapes(VAE), "float32")


def umt5(root: Path, dtype: str, layers: int = 24) -> Path:
    """UMT5-XXL, or its first layers: 11.4 GB in bfloat16; with 6 layers 8.8 GB in float32."""
    config = {**UMT5, "num_layers": layers}
    return write(root / f"umt5-xxl-{layers}-{dtype}", "model.safetensors", config, umt5_shapes(config), dtype)
