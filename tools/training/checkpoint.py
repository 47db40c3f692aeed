"""Whole pipelines as folders of diffusers' layout, in the same files as the demo checkpoint has."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLWan,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from torch import nn
from transformers import CLIPVisionModel, T5TokenizerFast, UMT5EncoderModel

from training.image import new_processor, write_processor

FLOW_SHIFT = 3.0


def save_pipeline(
    folder: Path,
    tokenizer: Path,
    text_encoder: UMT5EncoderModel,
    transformer: WanTransformer3DModel,
    vae: AutoencoderKLWan,
    image_encoder: CLIPVisionModel | None = None,
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    """Writes a pipeline; a pipeline that is there already is replaced once the new one is complete.

    Args:
        folder: Where to.
        tokenizer: Folder with the tokenizer's files, which are copied as they are.
        text_encoder: Stays as it is, as do the others; copies are converted.
        transformer: Of the pipeline.
        vae: Of the pipeline.
        image_encoder: Makes it a pipeline for image to video.
        dtype: Of the weights in the files.

    Raises:
        FileExistsError: Something else is in the folder.
    """
    check_replaceable(folder)
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    parts = {
        "tokenizer": T5TokenizerFast.from_pretrained(tokenizer),
        "text_encoder": _converted(text_encoder, dtype),
        "transformer": _converted(transformer, dtype),
        "vae": _converted(vae, dtype),
        "scheduler": UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=FLOW_SHIFT, num_train_timesteps=1000
        ),
    }
    if image_encoder is None:
        WanPipeline(**parts).save_pretrained(new)
    else:
        parts |= {"image_encoder": _converted(image_encoder, dtype), "image_processor": new_processor()}
        WanImageToVideoPipeline(**parts).save_pretrained(new)
        shutil.rmtree(new / "image_processor")
        write_processor(new / "image_processor")
    shutil.rmtree(new / "tokenizer")
    shutil.copytree(tokenizer, new / "tokenizer")
    _name_classes(new / "model_index.json")
    for config in new.glob("*/config.json"):
        _forget_origin(config)
    if folder.exists():
        shutil.rmtree(folder)
    new.rename(folder)


def _converted(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy in another dtype, without the warnings of diffusers' own `to`: it is written, not computed with."""
    return nn.Module.to(copy.deepcopy(network), dtype)


def check_replaceable(folder: Path) -> None:
    """Raises FileExistsError when a folder has something in it that is not a pipeline."""
    if folder.exists() and not (folder / "model_index.json").exists():
        raise FileExistsError(f"{folder} is there and is no pipeline; give --out a new name.")


def _forget_origin(file: Path) -> None:
    """Takes out of a configuration where on this machine its network was read from; diffusers notes that there."""
    config = json.loads(file.read_text())
    if config.pop("_name_or_path", None):
        file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def _name_classes(file: Path) -> None:
    """Names classes as published WAN checkpoints do; transformers 5 has other names for the same things."""
    index = json.loads(file.read_text())
    for part, name in (("tokenizer", "T5TokenizerFast"), ("image_processor", "CLIPImageProcessor")):
        if part in index:
            index[part] = ["transformers", name]
    file.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
