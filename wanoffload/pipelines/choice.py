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
    """The pixels of a frame that a model was made for: 720p for first and last frame, and where its name says so.

    The name is the nearest part of the path that says either: snapshots on the Hub lie in folders below it.
    """
    if pipe.main_transformer.config.pos_embed_seq_len is not None:
        return AREA_720P
    path = Path(str(pipe.name_or_path))
    for name in reversed((path.resolve() if path.exists() else path).parts):
        for word, area in (("720p", AREA_720P), ("480p", AREA_480P)):
            if word in name.lower():
                return area
    return AREA_480P


def size_beside(
    pipe: SamplingPipeline, picture: tuple[int, int], height: int | None, width: int | None
) -> tuple[int, int]:
    """Height and width of a film with the aspect of a picture, of which one may be settled.

    Args:
        pipe: The pipeline.
        picture: Height and width of the picture.
        height: Of the film; None for what follows from the rest.
        width: The same.
    """
    if height is None and width is None:
        return size_for(pipe, *picture)
    step, aspect = _step(pipe), picture[0] / picture[1]
    if height is None:
        height = max(step, round(width * aspect / step) * step)
    elif width is None:
        width = max(step, round(height / aspect / step) * step)
    return height, width


def _step(pipe: SamplingPipeline) -> int:
    return pipe.vae_scale_factor_spatial * pipe.main_transformer.config.patch_size[1]


def size_for(pipe: SamplingPipeline, height: int, width: int) -> tuple[int, int]:
    """Height and width of a film with the aspect of a picture and about the model's area, as diffusers' documentation
    computes them.

    Args:
        pipe: The pipeline.
        height: Of the picture.
        width: Of the picture.
    """
    area, aspect = model_area(pipe), height / width
    step = _step(pipe)
    return (
        max(step, round(sqrt(area * aspect)) // step * step),
        max(step, round(sqrt(area / aspect)) // step * step),
    )
