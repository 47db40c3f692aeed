"""The WAN transformer: noisy latents, a timestep, embeddings of text and perhaps of images to a velocity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wanoffload.arrays import like, real_rows, to_float32, to_numpy
from wanoffload.configuration import FrozenDict
from wanoffload.errors import CheckpointError
from wanoffload.loading import check_counts
from wanoffload.models.component import Component
from wanoffload.outputs import Transformer2DModelOutput
from wanoffload.report import ComponentReport


class WanTransformer3DModel(Component):
    """The denoising network of WAN 2.1 (text to video, image to video, first and last frame to video) and of each
    expert of WAN 2.2 A14B."""

    class_name = "WanTransformer3DModel"
    component_name = "transformer"
    core_class = "Transformer"
    blocks_in = ("blocks",)
    config_defaults = {
        "patch_size": [1, 2, 2],
        "num_attention_heads": 40,
        "attention_head_dim": 128,
        "in_channels": 16,
        "out_channels": 16,
        "text_dim": 4096,
        "freq_dim": 256,
        "ffn_dim": 13824,
        "num_layers": 40,
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
        "eps": 1e-6,
        "image_dim": None,
        "added_kv_proj_dim": None,
        "rope_max_seq_len": 1024,
        "pos_embed_seq_len": None,
    }

    @classmethod
    def check_config(cls, config: FrozenDict, file: Path) -> None:
        check_counts(config, file, ("in_channels", "out_channels", "text_dim", "rope_max_seq_len"))
        if config.get("vace_layers") is not None:
            raise CheckpointError(
                f"{file} sets vace_layers={config.vace_layers!r}: a VACE model, which this version does not run."
            )
        check_image_config(config, file)
        if list(config.patch_size) != [1, 2, 2]:
            raise CheckpointError(f"{file} sets patch_size={list(config.patch_size)}; every WAN model has [1, 2, 2].")
        if config.qk_norm != "rms_norm_across_heads":
            raise CheckpointError(
                f"{file} sets qk_norm={config.qk_norm!r}; every WAN model has 'rms_norm_across_heads'."
            )

    def plan_video(
        self,
        engine: Any,
        frames: int,
        height: int,
        width: int,
        text: Sequence[tuple[int, int]],
        policy: dict[str, Any],
        images: tuple[int, Sequence[int]] | None = None,
        second: WanTransformer3DModel | None = None,
    ) -> Any:
        """The core's plan.

        Args:
            engine: The engine to run on.
            frames: Frames of the latents.
            height: Height of the latents.
            width: Width of the latents.
            text: Of each batch item, (text rows, of which real).
            policy: The planner's policy.
            images: Rows of an image embedding, and of each batch item the index of its embedding; or None.
            second: Another expert of the same shape, for an execution in which both take turns.
        """
        core = second.core if second is not None else None
        return self.core.plan(engine, frames, height, width, list(text), policy, images=images, second=core)

    def __call__(
        self,
        hidden_states: Any,
        timestep: Any,
        encoder_hidden_states: Any,
        encoder_hidden_states_image: Any = None,
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
    ) -> Transformer2DModelOutput | tuple:
        """Computes the velocity.

        Args:
            hidden_states: Latents [batch, in_channels, frames, height, width]; height and width even.
            timestep: [batch], or one number for all.
            encoder_hidden_states: Text embeddings [batch, rows, text_dim]. Rows after the last that is not all zero are
                padding; the result is that of attention over all rows.
            encoder_hidden_states_image: Image embeddings [batch, rows, image_dim], any number of rows; in a model for
                first and last frame [2 * batch, rows, image_dim], where each item's two follow one another. Needed by
                models that have an ``image_dim``, refused by others.
            return_dict: Whether to return an output object or a tuple.
            attention_kwargs: Not supported.

        Returns:
            ``sample``, float32 [batch, out_channels, frames, height, width].
        """
        refuse_attention_kwargs(attention_kwargs)
        latents, timesteps, text = self._check(hidden_states, timestep, encoder_hidden_states)
        batch, _, frames, height, width = latents.shape
        embeds = self.check_images(encoder_hidden_states_image, batch)
        images = None if embeds is None else (embeds.shape[1], range(batch))
        report = ComponentReport(self.component_name)
        with self.runtime.call(self.class_name) as engine:
            sizes = [(rows, len(embeds)) for rows, embeds in text]
            policy = self.policy_alone(engine, latents.nbytes)
            plan = self.plan_video(engine, frames, height, width, sizes, policy, images)
            with self.running(engine, plan, report) as execution:
                execution.prepare(text, frames, height, width, images=embeds)
                velocity = execution.step(latents, timesteps)
            self.after_call(engine)
        self.report = report
        result = like(velocity, hidden_states)
        return Transformer2DModelOutput(result) if return_dict else (result,)

    def _check(self, hidden_states: Any, timestep: Any, embeds: Any) -> tuple[np.ndarray, np.ndarray, list]:
        axes = "batch, channels, frames, height, width"
        latents = to_float32(hidden_states, "hidden_states", (None, self.config.in_channels, None, None, None), axes)
        batch = len(latents)
        self.check_size(*latents.shape[2:])
        if batch == 0:
            raise ValueError("`hidden_states` is an empty batch.")
        times = self._timesteps(timestep, batch)
        text = to_float32(embeds, "encoder_hidden_states", (batch, None, self.config.text_dim), "batch, rows, text_dim")
        if text.shape[1] == 0:
            raise ValueError("`encoder_hidden_states` has no rows.")
        return latents, times, text_rows(text)

    def check_images(self, embeds: Any, batch: int) -> np.ndarray | None:
        """Image embeddings as the core takes them, one of [rows, image_dim] for each batch item, or None for a model
        that takes none.

        Raises:
            TypeError, ValueError: They are missing, superfluous, or of another shape.
        """
        name, width, table = "encoder_hidden_states_image", self.config.image_dim, self.config.pos_embed_seq_len
        if width is None:
            if embeds is not None:
                raise ValueError(
                    f"`{name}` cannot take effect: this transformer takes no image embeddings (its config has no "
                    "image_dim). Leave it out, or load a checkpoint for image to video."
                )
            return None
        if embeds is None:
            raise ValueError(
                f"`{name}` is missing: this transformer attends to an image (its image_dim is {width}). Pass the "
                "image encoder's hidden states [batch, rows, image_dim]."
            )
        count = batch if table is None else 2 * batch
        rows = None if table is None else table // 2
        array = to_float32(embeds, name, (count, rows, width), "batch, rows, image_dim")
        if array.shape[1] == 0:
            raise ValueError(f"`{name}` has no rows.")
        return array.reshape(batch, -1, width)

    @staticmethod
    def _timesteps(timestep: Any, batch: int) -> np.ndarray:
        times = to_numpy(timestep, "timestep").astype(np.float32)
        if times.ndim > 1:
            raise ValueError(
                f"`timestep` is of shape {list(times.shape)}: one number per token is WAN 2.2 TI2V's way, which this "
                "version does not run. Pass one number per batch item."
            )
        if times.ndim == 1 and len(times) not in (1, batch):
            raise ValueError(f"`timestep` has to hold one number per batch item, {batch}, but holds {len(times)}.")
        return np.ascontiguousarray(np.broadcast_to(times, (batch,)))

    def check_size(self, frames: int, height: int, width: int) -> None:
        """Raises ValueError for latents that cannot be cut in patches, or that the model's positions do not reach."""
        if min(frames, height, width) < 1 or height % 2 or width % 2:
            raise ValueError(
                f"Latents have to have an even height and width and no empty axis, but would be {frames} frames of "
                f"{height}x{width}."
            )
        reach = self.config.rope_max_seq_len
        if max(frames, height // 2, width // 2) > reach:
            raise ValueError(
                f"Latents of {frames} frames of {height}x{width} are more than the model has positions for: {reach} "
                f"frames of {2 * reach}x{2 * reach}. Ask for a smaller video."
            )


def check_image_config(config: FrozenDict, file: Path) -> None:
    """Raises CheckpointError for entries on image embeddings that do not go together."""
    if config.image_dim is None:
        if config.added_kv_proj_dim is not None:
            raise CheckpointError(
                f"{file} sets added_kv_proj_dim={config.added_kv_proj_dim!r} but no image_dim: there is no image to "
                "project."
            )
        return
    check_counts(config, file, ("image_dim", "num_attention_heads", "attention_head_dim"))
    width = config.num_attention_heads * config.attention_head_dim
    if config.added_kv_proj_dim != width:
        raise CheckpointError(
            f"{file} sets image_dim={config.image_dim} and added_kv_proj_dim={config.added_kv_proj_dim!r}; image keys "
            f"are projected from the width of the model, {width}."
        )
    if config.pos_embed_seq_len is not None:
        check_counts(config, file, ("pos_embed_seq_len",))
        if config.pos_embed_seq_len % 2:
            raise CheckpointError(
                f"{file} sets pos_embed_seq_len={config.pos_embed_seq_len}; it has to be even: two images of as many "
                "rows."
            )


def text_rows(embeds: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Embeddings [batch, rows, text_dim] as the core takes them: of each item the rows in all, and those that are not
    padding."""
    return [(len(item), np.ascontiguousarray(item[: real_rows(item)])) for item in embeds]


def refuse_attention_kwargs(attention_kwargs: Any) -> None:
    """Raises ValueError for attention_kwargs that ask for something."""
    if attention_kwargs is not None and not (isinstance(attention_kwargs, dict) and not attention_kwargs):
        raise ValueError(
            f"`attention_kwargs`={attention_kwargs!r} cannot take effect: attention is computed by the core, which has "
            "no processors to hand them to. Leave it out."
        )
