"""Films in: a path, PIL images, NumPy or torch, as lists of stills."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from wanoffload.arrays import is_torch, to_numpy
from wanoffload.messages import warn
from wanoffload.pictures import Still, is_path, parse_frames, parse_picture, settle_range


def parse_films(video: Any, name: str = "video") -> list[list[Still]]:
    """The films of an argument, each as its frames; all have the same number of them.

    Args:
        video: A path; frames as a list of PIL images or arrays; an array [F, H, W, 3] (NumPy) or [F, 3, H, W] (torch);
            or several films: a list of any of these, or an array with one more axis in front.
        name: The argument's name, for errors.

    Raises:
        ValueError, TypeError: A film cannot be used; the argument or the file is named.
    """
    several = _several(video)
    parts = [(one, f"{name}[{index}]") for index, one in enumerate(video)] if several else [(video, name)]
    if not parts:
        raise ValueError(f"`{name}` has no frames. Give a film of at least one.")
    films = [_film(*part) for part in parts]
    lengths = sorted({len(film) for film in films})
    if len(lengths) > 1:
        raise ValueError(f"`{name}` holds films of {lengths[0]} and of {lengths[-1]} frames. Cut them to one length.")
    return films


def whole_chunks(films: list[list[Still]], per_latent: int, name: str = "video") -> int:
    """How many frames of the films are used: 4k + 1; those after are left out with a warning, as diffusers does it
    silently.

    Raises:
        ValueError: All but the first would be left out.
    """
    frames = len(films[0])
    if 1 < frames <= per_latent:
        raise ValueError(
            f"`{name}` has {frames} frames, of which the VAE could take only the first. Give {per_latent + 1} or more, "
            "or exactly 1."
        )
    used = (frames - 1) // per_latent * per_latent + 1
    if used != frames:
        warn(
            f"`{name}` has {frames} frames, but the VAE takes {per_latent}k + 1: the last {frames - used} are left "
            f"out and {used} used."
        )
    return used


def _several(video: Any) -> bool:
    """Whether an argument holds several films rather than the frames of one."""
    if is_torch(video) or isinstance(video, np.ndarray):
        return video.ndim == 5
    if not isinstance(video, (list, tuple)) or not video:
        return False
    first = video[0]
    if is_torch(first) or isinstance(first, np.ndarray):
        return first.ndim > 3
    return is_path(first) or isinstance(first, (list, tuple))


def _film(video: Any, name: str) -> list[Still]:
    if is_path(video):
        from wanoffload.video import load_video

        frames, what = load_video(video), f"{os.fspath(video)} (`{name}`)"
    else:
        frames, what = video, f"`{name}`"
    if is_torch(frames) or isinstance(frames, np.ndarray):
        array = to_numpy(frames, name)
        if array.ndim != 4:
            order = "[frames, channels, height, width]" if is_torch(frames) else "[frames, height, width, channels]"
            raise ValueError(f"`{name}` has to be a film {order} but is of shape {list(array.shape)}.")
        film = parse_frames(array, name, is_torch(frames)) if len(array) else []
    elif isinstance(frames, (list, tuple)):
        film = [_frame(frame, f"{name}[{index}]") for index, frame in enumerate(frames)]
    else:
        raise TypeError(
            f"`{name}` has to be a path, a list of images, a NumPy array or a torch tensor but is of type "
            f"{type(frames).__name__}."
        )
    if not film:
        raise ValueError(f"{what} has no frames. Give a film of at least one.")
    settle_range(film)
    return film


def _frame(frame: Any, name: str) -> Still:
    if hasattr(frame, "convert") and hasattr(frame, "getbands"):
        return parse_picture(frame, f"`{name}`")
    if not is_torch(frame) and not isinstance(frame, np.ndarray):
        raise TypeError(
            f"`{name}` has to be a PIL image, a NumPy array or a torch tensor but is of type {type(frame).__name__}."
        )
    array = to_numpy(frame, name)
    if array.ndim not in (2, 3):
        raise ValueError(f"`{name}` has to be one frame but is of shape {list(array.shape)}.")
    return parse_frames(array, name, is_torch(frame))[0]
