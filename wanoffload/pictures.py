"""Stills in: paths, PIL images, NumPy and torch, as the pictures and pixels that networks take."""

from __future__ import annotations

import http.client
import os
import tempfile
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from wanoffload.arrays import is_torch, to_numpy

MOST_PIXELS = 1 << 28  # a still of this many pixels takes 3 GiB as floats
ANIMATED = ("AVIF", "GIF", "PNG", "WEBP")  # formats whose frames follow in time; of others they are pages or previews
MOST_STRETCH = 50  # wider than this a still is a mistake, and its crop for the image encoder would take gigabytes


def local_file(source: Any, what: str) -> tuple[str, bool]:
    """The local file of a path or URL, and whether it is a temporary copy.

    Raises:
        ValueError: There is no such file, or it cannot be downloaded.
    """
    source = os.fspath(source)
    if source.startswith(("http://", "https://")):
        return _download(source, what), True
    if not os.path.isfile(source):
        raise ValueError(
            f"Incorrect path or URL for {what}. URLs must start with `http://` or `https://`, "
            f"and {source} is not a valid path."
        )
    return source, False


def _download(url: str, what: str) -> str:
    """A temporary file with what lies at a URL."""
    name = None
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            handle, name = tempfile.mkstemp(suffix=os.path.splitext(url.split("?", 1)[0])[1])
            with os.fdopen(handle, "wb") as file:
                while chunk := response.read(1 << 20):
                    file.write(chunk)
    except BaseException as error:
        if name is not None:
            os.remove(name)
        if not isinstance(error, (OSError, ValueError, http.client.HTTPException)):
            raise
        raise ValueError(
            f"{url} could not be downloaded for {what}: {error}. Check the address, or give a local file."
        ) from None
    return name


def load_image(image: Any, convert_method: Callable[[Any], Any] | None = None) -> Any:
    """Loads a picture from a path, URL or PIL image, turned as its EXIF says, as RGB.

    Args:
        image: Path, URL or PIL image; of an animation the first frame is taken.
        convert_method: Applied instead of the conversion to RGB.

    Returns:
        A PIL image. Grey of 16 bits (mode I;16, or I with numbers above 255) and of floats (mode F, 0 to 1 or to 255)
        is scaled to 8 bits, where Pillow's own conversion makes almost all of it white or black.

    Raises:
        ValueError: It is no picture that Pillow can read; the message names it.
    """
    import PIL.Image
    import PIL.ImageOps

    what = os.fspath(image) if is_path(image) else "The image"
    if is_path(image):
        image = _open(image)[0]
    elif isinstance(image, PIL.Image.Image):
        image = PIL.ImageOps.exif_transpose(image)
    else:
        raise ValueError(
            "Incorrect format used for the image. Should be a URL linking to an image, a local path, or a PIL image, "
            f"but is {type(image).__name__}."
        )
    return convert_method(image) if convert_method is not None else _to_rgb(image, what)


def _to_rgb(picture: Any, what: str) -> Any:
    """A PIL image in RGB: itself where it is, so that a film of pictures is not copied."""
    import PIL.Image

    try:
        if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
            picture = PIL.Image.fromarray(_grey(np.asarray(picture), picture.mode, what))
        elif picture.mode == "La":
            picture = picture.convert("LA")
        if picture.mode != "RGB":
            return picture.convert("RGB")
        picture.load()
    except RangeError:
        raise
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError(f"{what} cannot be read: {error}. Save it anew as PNG or JPEG.") from None
    return picture


class RangeError(ValueError):
    """Numbers of a grey picture that are no brightness."""


def _grey(values: np.ndarray, mode: str, what: str) -> np.ndarray:
    """Numbers of a grey picture as 8 bits. What white is follows from the mode or, where it does not say, from the
    brightest: 65535 for I;16, 255 or 65535 for I, 1 or 255 for F."""
    low, high = float(values.min()), float(values.max())
    whites = {"I": (255, 65535), "F": (1, 255)}.get(mode, (65535,))
    white = next((white for white in whites if high <= white), None)
    if white is None or not low >= 0:
        raise RangeError(
            f"{what} is a picture of mode {mode!r} with numbers from {low:g} to {high:g}; its white may be "
            f"{' or '.join(map(str, whites))}, and its black is 0. Scale it to 0..255 and give it as uint8: "
            "PIL.Image.fromarray(values.astype('uint8'))."
        )
    return np.floor(values.astype(np.float64) * (255 / white) + 0.5).astype(np.uint8)


def is_path(value: Any) -> bool:
    """Whether a value is a path or URL."""
    return isinstance(value, (str, os.PathLike))


def _open(path: Any) -> tuple[Any, int]:
    """A file's picture, turned as its EXIF says (of several the first), and how many it has that follow in time."""
    import PIL.Image
    import PIL.ImageOps

    what = os.fspath(path)
    name, temporary = local_file(path, "an image")
    try:
        with PIL.Image.open(name) as opened:
            opened.load()
            image = opened.copy()
            image.info = dict(opened.info)
            PIL.ImageOps.exif_transpose(image, in_place=True)
            return image, _moving_frames(opened)
    except PIL.Image.DecompressionBombError as error:
        raise ValueError(f"{what} is too large to be unpacked ({error}). Make it smaller first.") from None
    except (PIL.UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ValueError(
            f"{what} is not a picture that can be read: {error}. Save it anew as PNG or JPEG, or give another file."
        ) from None
    finally:
        if temporary:
            os.remove(name)


def _moving_frames(picture: Any) -> int:
    """Frames of an animation; 1 for a picture, whatever previews, pages or layers its file has as well."""
    return getattr(picture, "n_frames", 1) if getattr(picture, "format", None) in ANIMATED else 1


class Still:
    """One picture of a call: a PIL image in RGB, or floats that are taken as they are.

    Attributes:
        height, width: In pixels.
        signed: Whether floats are from -1 to 1, rather than from 0 to 1.
    """

    def __init__(self, picture: Any = None, floats: np.ndarray | None = None) -> None:
        self._picture = picture
        self._floats = floats
        self.height, self.width = floats.shape[:2] if floats is not None else (picture.height, picture.width)
        self.signed = floats is not None and bool(floats.min() < 0)

    @property
    def nbytes(self) -> int:
        """What it takes in memory; Pillow keeps RGB in four bytes a pixel."""
        return 4 * self.height * self.width if self._floats is None else self._floats.nbytes

    @property
    def picture_bytes(self) -> int:
        """What `picture` takes beside that."""
        return 0 if self._floats is None else 4 * self.height * self.width

    def pixels(self, height: int, width: int) -> np.ndarray:
        """float32 [height, width, 3] in [-1, 1].

        As in diffusers, pictures are stretched with Lanczos and floats take their nearest neighbour.
        """
        if self._floats is None:
            import PIL.Image

            resized = self._picture.resize((width, height), PIL.Image.Resampling.LANCZOS)
            values = np.asarray(resized).astype(np.float32) / np.float32(255)
            return np.float32(2) * values - np.float32(1)
        rows, columns = _nearest(self.height, height), _nearest(self.width, width)
        values = np.ascontiguousarray(self._floats[rows][:, columns], np.float32)
        return values if self.signed else np.float32(2) * values - np.float32(1)

    def picture(self) -> Any:
        """A PIL image in RGB of its own size."""
        if self._floats is None:
            return self._picture
        import PIL.Image

        values = self._floats * 0.5 + 0.5 if self.signed else self._floats
        return PIL.Image.fromarray(np.rint(values * 255).astype(np.uint8))


class AssumedStill(Still):
    """What plans assume where no still is given: a picture of the video's size, without its pixels."""

    def __init__(self, height: int, width: int) -> None:
        self._picture = self._floats = None
        self.height, self.width, self.signed = height, width, False

    def picture(self) -> AssumedStill:
        """Itself: of the picture no more than its size is asked."""
        return self


def _nearest(size: int, wanted: int) -> np.ndarray:
    """Where each of `wanted` samples lies among `size`, as torch's nearest-neighbour interpolation has it."""
    places = np.arange(wanted, dtype=np.float32) * (np.float32(size) / np.float32(wanted))
    return np.minimum(places.astype(np.int64), size - 1)


def parse_stills(value: Any, name: str) -> list[Still]:
    """Stills of an argument: a path, PIL image or array, a batch of arrays, or a list of these.

    Arrays are [H, W, 3] (NumPy) or [3, H, W] (torch), uint8 or floats in 0..1 or -1..1; greyscale and alpha are taken
    too.

    Raises:
        ValueError, TypeError: One cannot be used; the argument or the file is named.
    """
    if isinstance(value, (list, tuple)):
        if not value:
            raise ValueError(f"`{name}` is an empty list. Give at least one image.")
        stills = [still for index, one in enumerate(value) for still in _parse(one, f"{name}[{index}]")]
    else:
        stills = _parse(value, name)
    settle_range(stills)
    return stills


def settle_range(stills: Sequence[Still]) -> None:
    """Floats that come together are in one range: one that reaches below zero makes all of them signed."""
    if any(still.signed for still in stills):
        for still in stills:
            still.signed = True


def _parse(value: Any, name: str) -> list[Still]:
    if is_path(value):
        picture, frames = _open(value)
        if frames > 1:
            raise ValueError(
                f"{os.fspath(value)} (`{name}`) is animated, with {frames} frames. Give one picture: save one of its "
                "frames, or take the first with load_image(path)."
            )
        return [parse_picture(picture, f"{os.fspath(value)} (`{name}`)")]
    if hasattr(value, "convert") and hasattr(value, "getbands"):
        return [parse_picture(value, f"`{name}`")]
    array = to_numpy(value, name) if is_torch(value) or isinstance(value, np.ndarray) else None
    if array is None:
        raise TypeError(
            f"`{name}` has to be a path, a PIL image, a NumPy array or a torch tensor but is of type "
            f"{type(value).__name__}."
        )
    return parse_frames(array, name, is_torch(value))


def parse_picture(picture: Any, what: str) -> Still:
    """A PIL image of any mode as a still; ``what`` names it in errors."""
    if _moving_frames(picture) > 1:
        raise ValueError(f"{what} is animated, with {picture.n_frames} frames. Give one picture: image.copy() is one.")
    check_extent(picture.height, picture.width, what)
    return Still(_to_rgb(picture, what))


def parse_frames(array: np.ndarray, name: str, channels_first: bool) -> list[Still]:
    """One picture [H, W], [H, W, C] or several [n, H, W, C]; torch has its channels before height."""
    layout = "[channels, height, width]" if channels_first else "[height, width, channels]"
    given = list(array.shape)
    if array.ndim == 2:
        array = array[..., None]
    elif channels_first and array.ndim in (3, 4):
        array = np.moveaxis(array, -3, -1)
    if array.ndim not in (3, 4) or array.shape[-1] not in (1, 3, 4):
        raise ValueError(
            f"`{name}` has to be an image {layout} with 1, 3 or 4 channels, or a batch of them, but is of shape "
            f"{given}."
        )
    images = array if array.ndim == 4 else array[None]
    if len(images) == 0:
        raise ValueError(f"`{name}` holds no image: its first axis is empty.")
    check_extent(*images.shape[1:3], f"`{name}`")
    return [_still_of(image, name) for image in images]


def _still_of(image: np.ndarray, name: str) -> Still:
    image = np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image[..., :3]
    if image.dtype == np.uint8:
        import PIL.Image

        return Still(PIL.Image.fromarray(np.ascontiguousarray(image)))
    if image.dtype.kind != "f":
        raise TypeError(f"`{name}` has to hold uint8 (0..255) or floats (0..1) but has dtype {image.dtype}.")
    low, high = float(image.min()), float(image.max())
    if not (low >= -1 and high <= 1):
        raise ValueError(
            f"`{name}` has values from {low:g} to {high:g}. Floats have to lie in 0..1 or -1..1; give 0..255 as uint8."
        )
    return Still(floats=image)


def check_extent(height: int, width: int, what: str) -> None:
    """Raises ValueError for a picture without pixels, or with so many or so stretched that it must be a mistake."""
    if height < 1 or width < 1:
        raise ValueError(f"{what} is {width}x{height}: it has no pixels. Give another image.")
    if height * width > MOST_PIXELS:
        raise ValueError(
            f"{what} is {width}x{height}, {height * width} pixels; {MOST_PIXELS} is the most. Make it smaller first: "
            "image.resize((width, height))."
        )
    if max(height, width) > MOST_STRETCH * min(height, width):
        raise ValueError(
            f"{what} is {width}x{height}: one side is more than {MOST_STRETCH} times the other. Crop it first."
        )
