"""Which pipeline a checkpoint and what is given to it ask for, and which size a still asks for."""

from __future__ import annotations

from math import sqrt
from pathlib import Path
from typing import Any

from wanoffload import loading
from wanoffload.pipelines.pipeline_wan import WanPipeline
from wanoffload.pipelines.pipeline_wan_i2v import WanImageToVideoPipeline
from wanoffload.pipelines.pipeline_wan_video2video import WanVideoToVideoPipeline
from wanoffload.pipelines.published import AREA_480P, AREA_720P
from wanoffload.pipelines.sampling import SamplingPipeline


def pipeline_class(
    model: Any, image: bool = False, video: bool = False, planning: bool = False
) -> type[SamplingPipeline]:
    """The pipeline for a checkpoint.

    Args:
        model: A folder, or ``"owner/name"`` on the Hub.
        image: Whether there is a still to begin with.
        video: Whether there is a film to start from.
        planning: Whether no more than a plan is wanted, for which a still need not be there.

    Raises:
        ValueError: The checkpoint is not made for what is given, or needs what is not.
        OSError, CheckpointError: It is no WAN checkpoint.
    """
    root = loading.locate(model, {}, ())
    name = str(loading.read_model_index(root)["_class_name"])
    if name == "WanImageToVideoPipeline":
        if not image and not planning:
            raise ValueError(f"{root} is an image-to-video checkpoint. Give the still that the film begins with.")
        if video:
            raise ValueError(f"{root} is an image-to-video checkpoint and takes no film. Use a text-to-video one.")
        return WanImageToVideoPipeline
    if image:
        raise ValueError(
            f"{root} is a text-to-video checkpoint and takes no still. Use an image-to-video one (I2V), or leave the "
            "still out."
        )
    return WanVideoToVideoPipeline if video else WanPipeline


def model_area(pipe: SamplingPipeline) -> int:
    """The pixels of a frame that a model was made for: 720p where its name says so, and for first and last frame."""
    name = Path(str(pipe.name_or_path)).name.lower()
    if "720p" in name or pipe.main_transformer.config.pos_embed_seq_len is not None:
        return AREA_720P
    return AREA_480P


def size_for(pipe: SamplingPipeline, height: int, width: int) -> tuple[int, int]:
    """Height and width of a film with the aspect of a picture and about the model's area, as diffusers' documentation
    computes them.

    Args:
        pipe: The pipeline.
        height: Of the picture.
        width: Of the picture.
    """
    area, aspect = model_area(pipe), height / width
    step = pipe.vae_scale_factor_spatial * pipe.main_transformer.config.patch_size[1]
    return (
        max(step, round(sqrt(area * aspect)) // step * step),
        max(step, round(sqrt(area / aspect)) // step * step),
    )
