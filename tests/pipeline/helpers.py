"""Pipelines of both kinds on one folder, and small calls."""

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from checkpoints import write_text_encoder, write_transformer, write_vae

import wanoffload

SMALL: dict[str, Any] = {"height": 32, "width": 48, "num_frames": 5}
CALL: dict[str, Any] = {**SMALL, "num_inference_steps": 2, "generator": 5}


def open_pipeline(folder: Path, **options: Any) -> wanoffload.WanPipeline:
    """Ours, quiet."""
    pipe = wanoffload.WanPipeline.from_pretrained(folder, **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def open_reference(folder: Path) -> diffusers.WanPipeline:
    """diffusers' on the same folder, float32, quiet."""
    diffusers.utils.logging.disable_progress_bar()
    pipe = diffusers.WanPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def write_pipeline(folder: Path, demo: Path, seed: int, **transformer: Any) -> Path:
    """A whole random checkpoint of odd sizes, with the demo's tokenizer and scheduler."""
    write_transformer(
        folder / "transformer", seed, **{"in_channels": 4, "out_channels": 4, "text_dim": 36, **transformer}
    )
    write_text_encoder(folder / "text_encoder", seed + 1, vocab_size=290)
    write_vae(folder / "vae", seed + 2)
    for name in ("tokenizer", "scheduler"):
        shutil.copytree(demo / name, folder / name)
    shutil.copy(demo / "model_index.json", folder)
    return folder


def copy_checkpoint(demo: Path, folder: Path) -> Path:
    """A writable copy of the demo's checkpoint."""
    shutil.copytree(demo, folder, copy_function=shutil.copyfile)
    for entry in folder.rglob("*"):
        entry.chmod(0o755 if entry.is_dir() else 0o644)
    folder.chmod(0o755)
    return folder


def edit_json(file: Path, **changes: Any) -> None:
    """Changes entries of a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def frames_of(pipe: Any, *args: Any, **kwargs: Any) -> np.ndarray:
    """The frames of a call as a tuple's only entry."""
    return pipe(*args, **kwargs, return_dict=False)[0]
