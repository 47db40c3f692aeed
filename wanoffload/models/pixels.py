"""Pictures of every kind to arrays [height, width, channels] as transformers' processors make them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from wanoffload.arrays import is_torch, to_numpy
from wanoffload.pictures import check_extent, is_path, load_image


def is_pil(image: Any) -> bool:
    """Whether a value is a PIL image."""
    import PIL.Image

    return isinstance(image, PIL.Image.Image)


def flat_list(images: Any, name: str = "`images`") -> list[tuple[str, Any]]:
    """The pictures of a picture, a list (of lists) of them or a batch [N, H, W, C]: (what errors call it, PIL image or
    array [H, W, C], [C, H, W] or [H, W]).

    Raises:
        TypeError, ValueError: There is something else, or nothing.
    """
    found = list(_walk(images, name))
    if not found:
        raise ValueError(f"{name} is an empty list.")
    return found


def _walk(images: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(images, (list, tuple)):
        for index, one in enumerate(images):
            yield from _walk(one, f"{name}[{index}]")
    elif is_path(images):
        yield f"{name} ({os.fspath(images)})", load_image(images)
    elif is_pil(images):
        yield name, images
    elif isinstance(images, np.ndarray) or is_torch(images):
        array = to_numpy(images, name.strip("`"))
        if array.ndim == 4:
            for index, one in enumerate(array):
                yield f"{name}[{index}]", one
        elif array.ndim in (2, 3):
            yield name, array
        else:
            raise ValueError(f"{name} is an array of shape {list(array.shape)}; a picture is [H, W, 3] or [3, H, W].")
    else:
        raise TypeError(
            f"{name} has to be a PIL image, a path, a NumPy array, a torch tensor or a list of them but is of type "
            f"{type(images).__name__}."
        )


def to_pixels(image: Any, rgb: bool, name: str) -> tuple[np.ndarray, bool]:
    """A picture's pixels.

    Args:
        image: PIL image, or array [H, W, C], [C, H, W] or [H, W].
        rgb: Whether to turn it into RGB; what is transparent becomes white.
        name: What errors call it.

    Returns:
        [H, W, C], and whether they are floats in 0..1 (else they are uint8).
    """
    if is_pil(image):
        check_extent(image.height, image.width, name)
        try:
            pixels = np.asarray(_pil_to_rgb(image) if rgb else image)
        except (OSError, SyntaxError) as error:
            raise ValueError(f"{name} is a PIL image that cannot be read: {error}") from None
        if pixels.dtype != np.uint8:
            raise ValueError(f"{name} is a PIL image of mode {image.mode!r}; pass `do_convert_rgb=True`.")
        return pixels.reshape(*pixels.shape[:2], -1), False
    array = _channels_last(image, name)
    pixels, scaled = _bytes_or_unit(array, name)
    return (_array_to_rgb(pixels, scaled) if rgb else pixels), scaled


def _pil_to_rgb(image: Any) -> Any:
    import PIL.Image

    if "A" not in image.getbands() and image.info.get("transparency") is None:
        return image if image.mode == "RGB" else image.convert("RGB")
    image = image.convert("RGBA")
    white = PIL.Image.new("RGBA", image.size, (255, 255, 255, 255))
    return PIL.Image.alpha_composite(white, image).convert("RGB")


def _channels_last(array: np.ndarray, name: str) -> np.ndarray:
    if array.ndim == 2:
        array = array[:, :, None]
    elif array.shape[0] in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.shape[2] in (1, 3, 4):
        check_extent(*array.shape[:2], name)
        return array
    raise ValueError(f"{name} is of shape {list(array.shape)}; a picture has 1, 3 or 4 channels, first or last.")


def _bytes_or_unit(array: np.ndarray, name: str) -> tuple[np.ndarray, bool]:
    """Bytes as uint8 and False, or floats in 0..1 and True."""
    if array.dtype == np.uint8:
        return array, False
    if array.dtype.kind == "b":
        raise TypeError(f"{name} holds True and False; a picture holds bytes, or floats in 0..1.")
    array = array if array.dtype.kind in "iu" else array.astype(np.float32)
    low, high = array.min(), array.max()
    if array.dtype.kind == "f" and low >= 0 and high <= 1:
        return array, True
    if low >= 0 and high <= 255 and (array.dtype.kind in "iu" or np.array_equal(array, np.rint(array))):
        return array.astype(np.uint8), False
    raise ValueError(
        f"{name} holds values from {low} to {high}; a picture holds whole numbers in 0..255, or floats in 0..1. Scale "
        "it: (x + 1) / 2 if it is in -1..1."
    )


def _array_to_rgb(pixels: np.ndarray, scaled: bool) -> np.ndarray:
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    if pixels.shape[2] == 3:
        return pixels
    white = 1.0 if scaled else 255
    alpha = pixels[:, :, 3:] / white
    mixed = alpha * pixels[:, :, :3] + (1 - alpha) * white
    return mixed.astype(pixels.dtype) if scaled else np.round(mixed).astype(np.uint8)
