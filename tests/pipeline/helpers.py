"""Pipelines of both kinds on one folder, and small calls."""

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import PIL.Image
import torch
from checkpoints import write_image_encoder, write_image_processor, write_text_encoder, write_transformer, write_vae

import wanoffload

SMALL: dict[str, Any] = {"height": 32, "width": 48, "num_frames": 5}
CALL: dict[str, Any] = {**SMALL, "num_inference_steps": 2, "generator": 5}
WORST, MEAN = 5e-5, 5e-6  # of a film in 0..1, float32, against diffusers


def open_pipeline(folder: Path, kind: str = "WanPipeline", **options: Any) -> Any:
    """Ours, quiet."""
    pipe = getattr(wanoffload, kind).from_pretrained(folder, **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def open_reference(folder: Path, kind: str = "WanPipeline", **options: Any) -> Any:
    """diffusers' on the same folder, float32, quiet."""
    diffusers.utils.logging.disable_progress_bar()
    pipe = getattr(diffusers, kind).from_pretrained(folder, torch_dtype=torch.float32, **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def assert_same_film(frames: np.ndarray, expected: np.ndarray) -> None:
    """Both are one film, which has something to see."""
    assert frames.shape == expected.shape and frames.dtype == np.float32
    assert 0 <= frames.min() and frames.max() <= 1 and frames.std() > 0.01
    error = np.abs(frames - expected)
    assert error.max() <= WORST and error.mean() <= MEAN, (error.max(), error.mean())


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


def write_image_pipeline(
    folder: Path, demo: Path, seed: int, kind: str = "first", boundary: float | None = None, **transformer: Any
) -> Path:
    """A whole random image-to-video checkpoint.

    Args:
        folder: The folder.
        demo: Where tokenizer and scheduler come from.
        seed: Of the weights.
        kind: "first": WAN 2.1 with an image encoder; "both": the same for first and last frame; "experts": WAN 2.2 with
            two transformers and no image encoder.
        boundary: The boundary_ratio of "experts".
        **transformer: Entries of the transformer's config.
    """
    image = {} if kind == "experts" else {"image_dim": 36, "added_kv_proj_dim": 36}
    if kind == "both":
        image["pos_embed_seq_len"] = 2 * (1 + (30 // 7) ** 2)
    config = {"in_channels": 12, "out_channels": 4, **image, **transformer}
    write_pipeline(folder, demo, seed, **config)
    named = {"_class_name": "WanImageToVideoPipeline", "image_encoder": [None, None], "image_processor": [None, None]}
    if kind == "experts":
        write_transformer(folder / "transformer_2", seed + 5, **{"text_dim": 36, **config})
        named |= {"transformer_2": ["diffusers", "WanTransformer3DModel"], "boundary_ratio": boundary}
    else:
        write_image_encoder(folder / "image_encoder", seed + 4)
        write_image_processor(folder / "image_processor")
        named["image_encoder"] = ["transformers", "CLIPVisionModel"]
        named["image_processor"] = ["transformers", "CLIPImageProcessor"]
    edit_json(folder / "model_index.json", **named)
    return folder


def write_expert_pipeline(folder: Path, demo: Path, seed: int, boundary: float, **transformer: Any) -> Path:
    """A whole random text-to-video checkpoint with two experts, as WAN 2.2 has them."""
    write_pipeline(folder, demo, seed, **transformer)
    config = {"in_channels": 4, "out_channels": 4, "text_dim": 36, **transformer}
    write_transformer(folder / "transformer_2", seed + 5, **config)
    named = {"transformer_2": ["diffusers", "WanTransformer3DModel"], "boundary_ratio": boundary}
    edit_json(folder / "model_index.json", **named)
    return folder


def draw_picture(height: int, width: int, seed: int = 0, mode: str = "RGB") -> PIL.Image.Image:
    """A picture with large soft forms and some noise, so that stretching, cropping and turning it shows."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(rng.uniform(3, 9) * rows + rng.uniform(3, 9) * columns + rng.uniform(0, 6)) for _ in range(4)]
    values = 128 + 90 * np.stack(waves, axis=-1) + rng.normal(0, 12, (height, width, 4))
    picture = PIL.Image.fromarray(values.clip(0, 255).astype(np.uint8), "RGBA")
    return picture if mode == "RGBA" else picture.convert("RGB").convert(mode)


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
