"""What a call's own arrays take beside the core's memory and the output, phase by phase.

Only what grows with the film, the texts or the stills is counted here; the allowance is for the rest. Counts are of
arrays that are alive at once where most are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from wanoffload.models.vae import ENCODER
from wanoffload.pipelines.request import Request

_ITEM = 4  # bytes of a float32
_SAMPLING = 13
"""Arrays of the latents' size during a step: latents before and after, the prediction, two that the solver keeps, the
sample it keeps and the corrected one, and the temporaries of its sums."""
_DECODING = 3
"""The same before decoding: latents, scaled and shifted."""
_RESIZING = 7
"""Bytes a pixel of a picture on its way to the image encoder: as an array of RGB, and as Pillow's four bytes again."""
_CHUNKS = 3
"""Chunks of frames on their way in or out: the core's, and what they are turned into."""


def array_bytes(pipe: Any, request: Request) -> dict[str, int]:
    """Bytes of a call's arrays while each component runs, by the component's name."""
    latents = _ITEM * int(np.prod(request.latent_shape))
    texts, images, source = _text_bytes(pipe, request), _image_bytes(pipe, request), _source_bytes(request)
    found = {"text_encoder": 2 * texts, "image_encoder": texts + images + _pixel_bytes(pipe, request)}
    found[ENCODER] = texts + images + source + _encoding_bytes(pipe, request)
    guided = 2 if request.uncond is not None else 1
    inputs = guided * latents * request.input_channels // request.latent_shape[1]
    sampling = 2 * texts + images + 2 * source + inputs + (_SAMPLING + guided) * latents
    for name in request.experts:
        found[name] = sampling
    found["vae"] = texts + images + source + _DECODING * latents + _decoding_bytes(pipe, request)
    held = request.condition.held if request.condition is not None else 0
    return {name: size + held for name, size in found.items()}


def _text_bytes(pipe: Any, request: Request) -> int:
    """Embeddings of all texts, padding included."""
    width = pipe.main_transformer.config.text_dim
    return _ITEM * width * sum(rows for rows, _ in request.sizes())


def _image_bytes(pipe: Any, request: Request) -> int:
    """Embeddings of all stills."""
    condition = request.condition
    if condition is None or condition.rows == 0:
        return 0
    return _ITEM * len(condition.chunks) * condition.rows * pipe.main_transformer.config.image_dim


def _pixel_bytes(pipe: Any, request: Request) -> int:
    """Stills as the image encoder takes them, as pixels and as patches, and the largest of them while it is brought to
    size."""
    condition = request.condition
    if condition is None or not condition.pictures:
        return 0
    config = pipe.image_encoder.config
    pictures = [picture for pair in condition.pictures for picture in pair]
    largest = max(picture.height * picture.width for picture in pictures)
    return 2 * _ITEM * len(pictures) * config.num_channels * config.image_size**2 + _RESIZING * largest


def _source_bytes(request: Request) -> int:
    """Encoded frames of all sources."""
    if request.condition is None:
        return 0
    return _ITEM * len(request.condition.chunks) * int(np.prod(request.latent_shape[1:]))


def _chunk_bytes(pipe: Any, height: int, width: int) -> int:
    return _ITEM * 3 * pipe.vae_scale_factor_temporal * height * width


def _encoding_bytes(pipe: Any, request: Request) -> int:
    """Chunks of frames to encode, and the moments of one source: the mean and the variance of every latent."""
    if request.condition is None:
        return 0
    moments = 2 * _ITEM * int(np.prod(request.latent_shape[1:]))
    copies = 2 if pipe.vae.pixel_tiles(request.height, request.width) is None else 4
    return _CHUNKS * _chunk_bytes(pipe, request.height, request.width) + copies * moments


def _decoding_bytes(pipe: Any, request: Request) -> int:
    """Chunks of decoded frames; with tiling a whole film, beside the output, and two films of a tile."""
    if not request.decodes:
        return 0
    grid = pipe.vae.tiles(*request.latent_shape[3:])
    chunks = _CHUNKS * _chunk_bytes(pipe, request.height, request.width)
    if grid is None:
        return chunks
    pixel = _ITEM * 3 * request.frames
    tile = pixel * grid.largest()[0] * grid.largest()[1] * pipe.vae.spatial_compression_ratio**2
    seams = 2 * pixel * grid.blend.height * request.width
    return chunks + pixel * request.height * request.width + 2 * tile + seams
