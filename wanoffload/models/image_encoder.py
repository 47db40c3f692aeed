"""The CLIP vision encoder: pixels to the hidden states that WAN's transformer attends to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from wanoffload.arrays import like, to_float32
from wanoffload.configuration import FrozenDict
from wanoffload.errors import CheckpointError
from wanoffload.loading import check_counts, read_component_config
from wanoffload.models.component import Component
from wanoffload.outputs import CLIPVisionOutput, PenultimateState
from wanoffload.report import ComponentReport


class CLIPVisionModel(Component):
    """The image encoder of WAN 2.1 image to video: a CLIP ViT up to its last block but one.

    WAN takes the hidden states before the last block, so the last block, the norm after it and the projection are never
    loaded; they are listed as unused.
    """

    class_name = "CLIPVisionModel"
    component_name = "image_encoder"
    core_class = "ImageEncoder"
    blocks_in = ("encoder", "layers")
    config_defaults = {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "num_channels": 3,
        "image_size": 224,
        "patch_size": 32,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    }

    @classmethod
    def read_config(cls, folder: Path) -> FrozenDict:
        also = {"CLIPVisionModelWithProjection": None, "CLIPModel": "vision_config"}
        return read_component_config(folder, cls.class_name, cls.config_defaults, cls.config_needed, also)

    @classmethod
    def check_config(cls, config: FrozenDict, file: Path) -> None:
        check_counts(config, file, ("hidden_size", "num_channels", "image_size", "patch_size"))
        if config.get("model_type", "clip_vision_model") not in ("clip_vision_model", "clip"):
            raise CheckpointError(f"{file} describes a model of type {config.model_type}, not a CLIP vision encoder.")
        if config.hidden_act != "gelu":
            raise CheckpointError(
                f"{file} sets hidden_act={config.hidden_act!r} (without the entry 'quick_gelu' is meant); WAN's image "
                "encoder has 'gelu'."
            )
        if config.patch_size > config.image_size:
            raise CheckpointError(
                f"{file} sets patch_size={config.patch_size}, which is more than image_size={config.image_size}."
            )

    def plan_images(self, engine: Any, images: int, policy: dict[str, Any]) -> Any:
        """The core's plan for so many images at once."""
        return self.core.plan(engine, images, policy)

    def patches(self, pixels: np.ndarray) -> np.ndarray:
        """Cuts pixels [batch, channels, size, size] into rows as the core takes them.

        Returns:
            [batch, patches, channels * patch_size**2], patches from left to right and from top to bottom; rows and
            columns of pixels that are left over are not seen.
        """
        batch, channels = pixels.shape[:2]
        edge = self.config.patch_size
        side = self.config.image_size // edge
        cut = pixels[:, :, : side * edge, : side * edge].reshape(batch, channels, side, edge, side, edge)
        return np.ascontiguousarray(cut.transpose(0, 2, 4, 1, 3, 5)).reshape(batch, side * side, -1)

    def __call__(
        self,
        pixel_values: Any,
        interpolate_pos_encoding: bool = False,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> CLIPVisionOutput | tuple:
        """Encodes images.

        Args:
            pixel_values: Normalised pixels [batch, channels, image_size, image_size], as `CLIPImageProcessor` gives
                them.
            interpolate_pos_encoding: Has to be False: images are of the size that the model was trained on.
            output_hidden_states: Accepted; there is nothing else to give.
            output_attentions: Has to be False or None.
            return_dict: Whether to return an output object (the default) or a tuple.

        Returns:
            ``hidden_states``, of which ``hidden_states[-2]`` is float32 [batch, tokens, hidden_size]. No other was
            computed: asking for one is an error that says so.
        """
        for name, value in (
            ("interpolate_pos_encoding", interpolate_pos_encoding),
            ("output_attentions", output_attentions),
        ):
            if value:
                raise ValueError(f"`{name}`={value!r} cannot take effect: the core does not do this. Leave it out.")
        encoded = self.encode(self.check_pixels(pixel_values))
        states = PenultimateState(like(encoded, pixel_values), self.config.num_hidden_layers + 1)
        output = CLIPVisionOutput(hidden_states=states)
        return output.to_tuple() if return_dict is False else output

    def check_pixels(self, pixel_values: Any) -> np.ndarray:
        """Pixels as float32. Raises TypeError or ValueError where they are none of this model's size."""
        size = self.config.image_size
        axes = "batch, channels, height, width"
        pixels = to_float32(pixel_values, "pixel_values", (None, self.config.num_channels, size, size), axes)
        if len(pixels) == 0:
            raise ValueError("`pixel_values` is an empty batch.")
        return pixels

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """Encodes checked pixels [batch, channels, size, size] to float32 [batch, tokens, hidden_size], in one pass
        over the weights."""
        report = ComponentReport(self.component_name)
        with self.runtime.call(self.class_name) as engine:
            output_bytes = 4 * len(pixels) * self.core.tokens * self.config.hidden_size
            plan = self.plan_images(engine, len(pixels), self.policy_alone(engine, output_bytes))
            with self.running(engine, plan, report) as execution:
                hidden = execution.encode_images(self.patches(pixels))
            self.after_call(engine)
        self.report = report
        return hidden
