"""The image processor against transformers' with Pillow, live: the same numbers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from checkpoints import IMAGE_PROCESSOR, write_image_processor
from diffusers.utils import load_image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import wanoffload

SIZES = [(31, 17), (17, 31), (30, 30), (5, 7), (301, 33), (64, 64)]


def draw(width: int, height: int, mode: str = "RGB", seed: int = 0) -> PIL.Image.Image:
    """A picture with an edge that a shift by one pixel would move."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 4)).astype(np.uint8)
    pixels[: height // 2, : width // 3] //= 4
    image = PIL.Image.fromarray(pixels, "RGBA")
    return image.quantize(16) if mode == "P" else image.convert(mode)


def both(folder: Path, images: Any, **config: Any) -> tuple[np.ndarray, np.ndarray]:
    """Ours and theirs from one preprocessor_config.json."""
    write_image_processor(folder, **config)
    ours = wanoffload.CLIPImageProcessor.from_pretrained(folder)
    theirs = CLIPImageProcessorPil.from_pretrained(folder)
    return ours(images, return_tensors="np").pixel_values, theirs(images, return_tensors="np")["pixel_values"]


def same(ours: np.ndarray, theirs: np.ndarray) -> bool:
    return ours.dtype == np.float32 and ours.shape == theirs.shape and np.abs(ours - theirs).max() <= 1e-6


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "1", "CMYK", "YCbCr", "I", "F"])
def test_pictures_of_a_mode_differ_from_transformers(tmp_path: Path, mode: str) -> None:
    for width, height in SIZES:
        assert same(*both(tmp_path, draw(width, height, mode)))


def test_what_is_transparent_is_not_white(tmp_path: Path) -> None:
    palette = draw(40, 33, "P")
    palette.info["transparency"] = 3
    assert same(*both(tmp_path, palette))
    clear = PIL.Image.new("RGBA", (35, 40), (200, 10, 10, 0))
    white = PIL.Image.new("RGB", (35, 40), (255, 255, 255))
    assert np.array_equal(both(tmp_path, clear)[0], both(tmp_path, white)[0])


@pytest.mark.parametrize(
    "config",
    [
        {"size": {"height": 21, "width": 37}, "crop_size": {"height": 20, "width": 36}},
        {"size": {"shortest_edge": 40}, "crop_size": {"height": 33, "width": 25}},
        {"size": {"shortest_edge": 20}, "crop_size": {"height": 27, "width": 50}},
        {"size": 25, "crop_size": 21},
        {"do_resize": False},
        {"do_center_crop": False},
        {"do_rescale": False},
        {"do_normalize": False},
        {"rescale_factor": 0.01, "image_mean": [0.1, 0.2, 0.3], "image_std": [1.5, 0.5, 2.0]},
        {"resample": 0},
        {"resample": 1},
        {"resample": 2},
    ],
    ids=lambda config: ", ".join(config) + f" {next(iter(config.values()))}",
)
def test_an_entry_of_the_configuration_is_not_followed(tmp_path: Path, config: dict[str, Any]) -> None:
    for width, height in SIZES:
        assert same(*both(tmp_path, draw(width, height), **config))


def test_a_configuration_without_entries_is_not_transformers_own(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text("{}")
    ours = wanoffload.CLIPImageProcessor.from_pretrained(tmp_path)(draw(300, 250)).pixel_values
    assert same(ours, CLIPImageProcessorPil()(draw(300, 250), return_tensors="np")["pixel_values"])


def test_a_file_that_transformers_writes_is_not_read(tmp_path: Path) -> None:
    CLIPImageProcessorPil(size={"shortest_edge": 44}, crop_size=40).save_pretrained(tmp_path / "image_processor")
    ours = wanoffload.CLIPImageProcessor.from_pretrained(tmp_path, subfolder="image_processor")
    theirs = CLIPImageProcessorPil.from_pretrained(tmp_path / "image_processor")
    image = draw(70, 50)
    assert same(ours(image).pixel_values, theirs(image, return_tensors="np")["pixel_values"])


def test_a_rotated_photo_is_turned_otherwise_than_in_diffusers(tmp_path: Path) -> None:
    """A path is turned as EXIF says, as diffusers' load_image does it; an opened image is taken as it lies, as its
    pipelines do it."""
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    file = tmp_path / "photo.jpg"
    draw(60, 40).save(file, exif=exif)
    write_image_processor(tmp_path)
    ours = wanoffload.CLIPImageProcessor.from_pretrained(tmp_path)
    theirs = CLIPImageProcessorPil.from_pretrained(tmp_path)
    turned = theirs(load_image(str(file)), return_tensors="np")["pixel_values"]
    assert same(ours(file).pixel_values, turned) and same(ours(str(file)).pixel_values, turned)
    with PIL.Image.open(file) as lying:
        assert same(ours(lying).pixel_values, theirs(lying, return_tensors="np")["pixel_values"])
        assert not same(ours(lying).pixel_values, turned)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_arrays_differ_from_transformers(tmp_path: Path, channels: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (41, 37, channels), np.uint8)
    assert same(*both(tmp_path, pixels))
    assert same(*both(tmp_path, pixels.transpose(2, 0, 1)))
    assert same(*both(tmp_path, torch.from_numpy(pixels.transpose(2, 0, 1).copy())))
    assert same(*both(tmp_path, pixels.astype(np.int64)))
    assert same(*both(tmp_path, np.stack([pixels, pixels[::-1]])))
    if channels == 3:
        assert same(*both(tmp_path, pixels.astype(np.float32)))
        assert np.array_equal(both(tmp_path, pixels)[0], both(tmp_path, PIL.Image.fromarray(pixels))[0])


def test_floats_from_0_to_1_are_divided_by_255_once_more(tmp_path: Path) -> None:
    """transformers divides them unless told not to."""
    pixels = np.random.default_rng(2).random((41, 37, 3), np.float32)
    write_image_processor(tmp_path)
    ours = wanoffload.CLIPImageProcessor.from_pretrained(tmp_path)
    theirs = CLIPImageProcessorPil.from_pretrained(tmp_path)(pixels, do_rescale=False, return_tensors="np")
    assert same(ours(pixels).pixel_values, theirs["pixel_values"])
    assert same(ours(torch.from_numpy(pixels)).pixel_values, theirs["pixel_values"])


def test_lists_and_tensors_come_out_otherwise_than_in_transformers(tmp_path: Path) -> None:
    images = [draw(50, 40), draw(33, 70, "L", seed=1), draw(31, 31, "RGBA", seed=2)]
    assert same(*both(tmp_path, images))
    features = wanoffload.CLIPImageProcessor.from_pretrained(tmp_path)(images, return_tensors="pt")
    assert isinstance(features.pixel_values, torch.Tensor) and list(features) == ["pixel_values"]
    assert features.to("cpu") is features and features.to(torch.float16)["pixel_values"].dtype == torch.float16
    assert dict(**features)["pixel_values"] is features.pixel_values


@pytest.mark.parametrize(
    ("images", "exception", "message"),
    [
        ([], ValueError, "empty list"),
        (None, TypeError, "NoneType"),
        ([draw(9, 9), 7], TypeError, r"`images`\[1\].*int"),
        (np.zeros((2, 9, 9), np.uint8), ValueError, "1, 3 or 4 channels"),
        (np.zeros(9, np.uint8), ValueError, r"shape \[9\]"),
        (np.zeros((9, 9, 3), bool), TypeError, "True and False"),
        (np.full((9, 9, 3), -1.0), ValueError, r"\(x \+ 1\) / 2"),
        (np.full((9, 9, 3), np.nan), ValueError, "nan"),
        (np.zeros((9, 0, 3), np.uint8), ValueError, "no pixels"),
        (PIL.Image.new("RGB", (0, 5)), ValueError, "no pixels"),
        (PIL.Image.new("L", (40000, 2)), ValueError, "times the other"),
        ("no/such/picture.png", ValueError, "no/such/picture.png"),
    ],
    ids=["empty", "none", "number", "two channels", "flat", "bool", "signed", "nan", "no width", "0x5", "thin", "path"],
)
def test_what_is_no_picture_is_taken(images: Any, exception: type[Exception], message: str) -> None:
    with pytest.raises(exception, match=message):
        wanoffload.CLIPImageProcessor()(images)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"image_processor_type": "ViTImageProcessor"}, "a ViTImageProcessor"),
        ({"size": {"longest_edge": 5}}, "`size`.*longest_edge"),
        ({"crop_size": {"height": 0, "width": 4}}, r"crop_size\['height'\].*0"),
        ({"do_resize": 1}, "`do_resize`"),
        ({"resample": 9}, "`resample`.*9"),
        ({"image_std": [1, 0, 1]}, "`image_std` has a zero"),
        ({"image_mean": "bright"}, "`image_mean`"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_entry_that_cannot_be_used_is_taken(tmp_path: Path, entries: dict[str, Any], message: str) -> None:
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps({**IMAGE_PROCESSOR, **entries}))
    with pytest.raises(wanoffload.CheckpointError, match=f"(?s){file.name}.*{message}"):
        wanoffload.CLIPImageProcessor.from_pretrained(tmp_path)
