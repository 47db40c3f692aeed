"""From pictures to the pixels that CLIP takes, with the numbers of transformers' CLIPImageProcessor (its PIL backend):
RGB, shortest edge to 224 by Pillow's bicubic, centre crop, 0..1, mean and deviation of each channel."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wanoffload import loading
from wanoffload.configuration import FrozenDict
from wanoffload.devices import as_device
from wanoffload.dtypes import as_dtype
from wanoffload.errors import CheckpointError
from wanoffload.models.component import parse_to
from wanoffload.models.pixels import flat_list, to_pixels

FILE = "preprocessor_config.json"
_MOST = 1 << 14  # pixels of an edge that is asked for
_DEFAULTS: dict[str, Any] = {
    "do_resize": True,
    "size": {"shortest_edge": 224},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "do_convert_rgb": True,
}
_TYPES = ("CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPImageProcessorPil", "CLIPFeatureExtractor")


class BatchFeature(dict):
    """What the processor gives: entries are attributes too, and ``model(**features)`` hands them on."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"There is no '{name}' here. There is: {', '.join(self)}.") from None

    def to(self, *args: Any, **kwargs: Any) -> BatchFeature:
        """The same on a device or of a dtype, as torch tensors have it; NumPy arrays stay on the CPU."""
        device, dtype = parse_to(args, dict(kwargs))
        if device is not None:
            as_device(device)
        for name, value in self.items():
            if not isinstance(value, np.ndarray):
                self[name] = value.to(*args, **kwargs)
            elif dtype is not None:
                self[name] = value.astype(as_dtype(dtype).name)
        return self


class Steps(NamedTuple):
    """What is done to a picture; sizes are (height, width), and edge is the wanted length of the shorter side."""

    convert: bool
    edge: int | None
    size: tuple[int, int] | None
    resample: int
    crop: tuple[int, int] | None
    factor: float | None
    mean: np.ndarray | None
    std: np.ndarray | None


class CLIPImageProcessor:
    """Makes pixels for `CLIPVisionModel` of pictures.

    Numbers are those of transformers' PIL backend, whatever else is installed. One thing differs: an array of floats in
    0..1 is a picture that is scaled already, so it is not divided by 255 a second time.

    Args:
        do_resize: Whether to resize.
        size: ``{"shortest_edge": n}``, ``{"height": h, "width": w}``, or n for the former.
        resample: Pillow's number of the filter, 3 for bicubic.
        do_center_crop: Whether to cut out the middle.
        crop_size: ``{"height": h, "width": w}``, or n for a square.
        do_rescale: Whether to multiply by ``rescale_factor``.
        rescale_factor: 1/255 turns bytes into 0..1.
        do_normalize: Whether to subtract ``image_mean`` and divide by ``image_std``.
        image_mean: Of each channel.
        image_std: Of each channel.
        do_convert_rgb: Whether to turn pictures of any mode into RGB; what is transparent becomes white.
    """

    model_input_names = ("pixel_values",)

    def __init__(self, **config: Any) -> None:
        unknown = sorted(set(config) - set(_DEFAULTS))
        if unknown:
            raise TypeError(
                f"CLIPImageProcessor() got an unexpected keyword argument '{unknown[0]}'. It takes: "
                f"{', '.join(_DEFAULTS)}."
            )
        self.config = FrozenDict({**_DEFAULTS, **{name: value for name, value in config.items() if value is not None}})
        read_steps(self.config)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike, subfolder: str | None = None, **options: Any
    ) -> CLIPImageProcessor:
        """Reads ``preprocessor_config.json``.

        Args:
            pretrained_model_name_or_path: A folder, or ``"owner/name"`` on the Hub.
            subfolder: The folder inside it, ``"image_processor"``.
            **options: What the Hub takes: ``revision``, ``token``, ``cache_dir``, ``local_files_only``.

        Raises:
            OSError: The folder or file is missing.
            CheckpointError: It is another processor's, or has entries that cannot be used.
        """
        hub = loading.take_loading_options("CLIPImageProcessor.from_pretrained", options, ("subfolder",))
        root = loading.locate(pretrained_model_name_or_path, hub, (subfolder or "",))
        return cls.from_folder(loading.component_folder(root, subfolder))

    @classmethod
    def from_folder(cls, folder: Path) -> CLIPImageProcessor:
        """Reads the preprocessor_config.json of a local folder."""
        file = folder / FILE
        if not file.is_file():
            raise loading.missing(f"Error no file named {FILE} found in directory {folder}", file)
        config = loading.read_config(file)
        found = config.get("image_processor_type") or config.get("feature_extractor_type")
        if found is not None and found not in _TYPES:
            raise CheckpointError(f"{file} describes a {found}; the image processor of WAN is a CLIPImageProcessor.")
        try:
            return cls(**{name: value for name, value in config.items() if name in _DEFAULTS})
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{file} cannot be used: {error}") from None

    def __call__(self, images: Any, return_tensors: str | None = None, **changes: Any) -> BatchFeature:
        """Processes pictures.

        Args:
            images: A picture or a list of them: PIL images that Pillow can turn into RGB (taken as they are), paths or
                URLs (turned as their EXIF says, as `load_image` does it), NumPy arrays or torch tensors [H, W, C],
                [C, H, W] or [H, W], bytes or floats in 0..1; or a batch of those.
            return_tensors: ``"np"`` or None for NumPy, ``"pt"`` for torch.
            **changes: Other settings for this call, by the names of the constructor.

        Returns:
            ``pixel_values``, float32 [batch, 3, height, width].

        Raises:
            TypeError, ValueError: Something is no picture; the text says which.
        """
        if return_tensors not in (None, "np", "pt"):
            raise ValueError(f"`return_tensors` has to be 'np', 'pt' or None but is {return_tensors!r}.")
        given = {name: value for name, value in changes.items() if value is not None}
        steps = read_steps(CLIPImageProcessor(**{**self.config, **given}).config if given else self.config)
        pictures = flat_list(images)
        pixels = [process(image, steps, name) for name, image in pictures]
        sizes = sorted({one.shape for one in pixels})
        if len(sizes) > 1:
            raise ValueError(
                f"`images` come out in different sizes, {list(sizes[0])} and {list(sizes[1])}; process them one by "
                "one, or with `do_center_crop=True`."
            )
        values: Any = np.ascontiguousarray(np.stack(pixels), np.float32)
        if return_tensors == "pt":
            import torch

            values = torch.from_numpy(values)
        return BatchFeature(pixel_values=values)

    preprocess = __call__

    def __repr__(self) -> str:
        return f"CLIPImageProcessor({', '.join(f'{name}={value!r}' for name, value in self.config.items())})"


def read_steps(config: FrozenDict) -> Steps:
    """What a configuration asks for. Raises TypeError or ValueError for an entry that cannot be used."""
    for name in ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"):
        if not isinstance(config[name], bool):
            raise TypeError(f"`{name}` has to be True or False but is {config[name]!r}.")
    edge, size = _size(config.size, "size", None) if config.do_resize else (None, None)
    crop = _size(config.crop_size, "crop_size", 1)[1] if config.do_center_crop else None
    if config.resample not in range(6):
        raise ValueError(f"`resample` has to be the number of a filter of Pillow, 0 to 5, but is {config.resample!r}.")
    if isinstance(config.rescale_factor, bool) or not isinstance(config.rescale_factor, (int, float)):
        raise TypeError(f"`rescale_factor` has to be a number but is {config.rescale_factor!r}.")
    factor = float(config.rescale_factor) if config.do_rescale else None
    mean = _channels(config.image_mean, "image_mean") if config.do_normalize else None
    std = _channels(config.image_std, "image_std") if config.do_normalize else None
    if std is not None and not std.all():
        raise ValueError("`image_std` has a zero, but pixels are divided by it.")
    return Steps(config.do_convert_rgb, edge, size, int(config.resample), crop, factor, mean, std)


def _count(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _MOST:
        raise ValueError(f"`{name}` has to be a number of pixels from 1 to {_MOST} but is {value!r}.")
    return value


def _size(value: Any, name: str, square: int | None) -> tuple[int | None, tuple[int, int] | None]:
    """(shortest edge, None) or (None, (height, width)) of a size; square: whether one number stands for a square."""
    if isinstance(value, int):
        value = {"height": value, "width": value} if square else {"shortest_edge": value}
    elif isinstance(value, (list, tuple)) and len(value) == 2:
        value = {"height": value[0], "width": value[1]}
    if isinstance(value, dict) and set(value) == {"height", "width"}:
        return None, (_count(value["height"], f"{name}['height']"), _count(value["width"], f"{name}['width']"))
    if isinstance(value, dict) and set(value) == {"shortest_edge"} and not square:
        return _count(value["shortest_edge"], f"{name}['shortest_edge']"), None
    forms = "{'height': h, 'width': w}" + ("" if square else " or {'shortest_edge': n}")
    raise ValueError(f"`{name}` has to be {forms} but is {value!r}.")


def _channels(value: Any, name: str) -> np.ndarray:
    values = [value] if isinstance(value, (int, float)) else value
    if not isinstance(values, (list, tuple)) or not all(isinstance(one, (int, float)) for one in values) or not values:
        raise TypeError(f"`{name}` has to be a number or a list of one for each channel but is {value!r}.")
    return np.array(values, np.float32)


def process(image: Any, steps: Steps, name: str) -> np.ndarray:
    """One picture as [channels, height, width], float32 unless nothing is done to its values.

    Args:
        image: PIL image or array.
        steps: What is done.
        name: What errors call it.
    """
    pixels, scaled = to_pixels(image, steps.convert, name)
    if steps.edge is not None or steps.size is not None:
        pixels = _resize(pixels, scaled, steps)
    if steps.crop is not None:
        pixels = _crop(pixels, *steps.crop)
    if steps.factor is not None and not scaled:
        pixels = (pixels.astype(np.float64) * steps.factor).astype(np.float32)
    if steps.mean is not None and steps.std is not None:
        pixels = pixels.astype(np.float32)
        if len(steps.mean) not in (1, pixels.shape[2]) or len(steps.std) not in (1, pixels.shape[2]):
            raise ValueError(
                f"{name} has {pixels.shape[2]} channels, but `image_mean` and `image_std` have {len(steps.mean)} and "
                f"{len(steps.std)}. Pass `do_convert_rgb=True`."
            )
        pixels = (pixels - steps.mean) / steps.std
    return pixels.transpose(2, 0, 1)


def _resize(pixels: np.ndarray, scaled: bool, steps: Steps) -> np.ndarray:
    """Pillow resizes bytes, so floats in 0..1 are turned into those and back, as transformers does it."""
    import PIL.Image

    height, width = pixels.shape[:2]
    if steps.size is not None:
        height, width = steps.size
    elif steps.edge is not None:
        long = int(steps.edge * max(height, width) / min(height, width))
        height, width = (long, steps.edge) if width <= height else (steps.edge, long)
    as_bytes = (pixels.astype(np.float64) * 255).astype(np.float32) if scaled else pixels
    as_bytes = as_bytes.astype(np.uint8, copy=False)
    picture = PIL.Image.fromarray(as_bytes[:, :, 0] if as_bytes.shape[2] == 1 else as_bytes)
    resized = np.asarray(picture.resize((width, height), resample=steps.resample))
    resized = resized.reshape(height, width, -1)
    return (resized.astype(np.float64) * (1 / 255)).astype(np.float32) if scaled else resized


def _crop(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle; where the picture is smaller, it lies in the middle of zeros."""
    have = pixels.shape[:2]
    frame = [max(0, want - size) for want, size in zip((height, width), have, strict=True)]
    before = [-(-more // 2) for more in frame]
    around = [(first, more - first) for first, more in zip(before, frame, strict=True)]
    if any(frame):
        pixels = np.pad(pixels, [*around, (0, 0)])
    top = (have[0] - height) // 2 + before[0]
    left = (have[1] - width) // 2 + before[1]
    return pixels[max(0, top) : top + height, max(0, left) : left + width]
