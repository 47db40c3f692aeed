"""Whole pipelines as folders of diffusers' layout, in the same files as the demo checkpoint has."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from torch import nn
from transformers import T5TokenizerFast, UMT5EncoderModel

FLOW_SHIFT = 3.0


def save_pipeline(
    folder: Path,
    tokenizer: Path,
    text_encoder: UMT5EncoderModel,
    transformer: WanTransformer3DModel,
    vae: AutoencoderKLWan,
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    """Writes a pipeline; a pipeline that is there already is replaced once the new one is complete.

    Args:
        folder: Where to.
        tokenizer: Folder with the tokenizer's files, which are copied as they are.
        text_encoder: Stays as it is, as do the others; copies are converted.
        transformer: Of the pipeline.
        vae: Of the pipeline.
        dtype: Of the weights in the files.

    Raises:
        FileExistsError: Something else is in the folder.
    """
    check_replaceable(folder)
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    pipe = WanPipeline(
        tokenizer=T5TokenizerFast.from_pretrained(tokenizer),
        text_encoder=_converted(text_encoder, dtype),
        transformer=_converted(transformer, dtype),
        vae=_converted(vae, dtype),
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=FLOW_SHIFT, num_train_timesteps=1000
        ),
    )
    pipe.save_pretrained(new)
    shutil.rmtree(new / "tokenizer")
    shutil.copytree(tokenizer, new / "tokenizer")
    _name_tokenizer_class(new / "model_index.json")
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


def _name_tokenizer_class(file: Path) -> None:
    """Names the class as published WAN checkpoints do; transformers 5 has another name for the same thing."""
    index = json.loads(file.read_text())
    index["tokenizer"] = ["transformers", "T5TokenizerFast"]
    file.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
