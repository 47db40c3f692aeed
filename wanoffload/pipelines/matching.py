"""Whether the networks of a pipeline fit together, and fit the pipeline."""

from __future__ import annotations

from typing import Any

from wanoffload.errors import CheckpointError
from wanoffload.pipelines.experts import check_same_shape


def check_match(pipe: Any) -> None:
    """Raises CheckpointError (a ValueError) for networks that do not fit together, or are for another pipeline."""
    transformer, vae, encoder = pipe.main_transformer, pipe.vae, pipe.text_encoder
    _check_tokens(pipe.tokenizer, encoder)
    if transformer is None:
        return
    check_same_shape(pipe.transformer, getattr(pipe, "transformer_2", None))
    _check_inputs(pipe, transformer.config)
    if vae is not None and vae.config.z_dim != transformer.config.out_channels:
        raise CheckpointError(
            f"The vae has latents of {vae.config.z_dim} channels, but the transformer takes "
            f"{transformer.config.out_channels}: they are of different models. Load both from one checkpoint."
        )
    if vae is not None and vae.config.out_channels != 3:
        raise CheckpointError(f"The vae gives {vae.config.out_channels} channels, but videos have 3.")
    if encoder is not None and encoder.config.d_model != transformer.config.text_dim:
        raise CheckpointError(
            f"The text_encoder gives embeddings of width {encoder.config.d_model}, but the transformer takes "
            f"{transformer.config.text_dim}: they are of different models. Load both from one checkpoint."
        )


def _check_tokens(tokenizer: Any, encoder: Any) -> None:
    if tokenizer is not None and encoder is not None and tokenizer.most_id >= encoder.config.vocab_size:
        raise CheckpointError(
            f"The tokenizer has ids up to {tokenizer.most_id}, but the text_encoder embeds those below vocab_size="
            f"{encoder.config.vocab_size}: they are of different models. Load both from one checkpoint."
        )


def _check_inputs(pipe: Any, config: Any) -> None:
    """What the transformer takes tells which pipeline it is for: noisy latents, or those, a mask and encoded frames."""
    has = f"in_channels={config.in_channels}, out_channels={config.out_channels}, image_dim={config.image_dim}"
    conditioned = 2 * config.out_channels + pipe.vae_scale_factor_temporal
    if pipe.made_from == "image":
        if config.in_channels == config.out_channels:
            raise CheckpointError(
                f"The transformer is for text to video ({has}), but {type(pipe).__name__} needs one for image to video "
                f"(in_channels={conditioned}). Load an I2V checkpoint, or use WanPipeline or WanVideoToVideoPipeline."
            )
        if config.in_channels != conditioned:
            raise CheckpointError(
                f"The transformer has {has}; image to video needs in_channels={conditioned}: noisy latents, mask and "
                "encoded frames. It is of a model that is not supported."
            )
    elif config.in_channels != config.out_channels or config.image_dim is not None:
        raise CheckpointError(
            f"The transformer is not for text to video ({has}), as {type(pipe).__name__} needs it. If the checkpoint "
            "is image to video, load it with WanImageToVideoPipeline."
        )
