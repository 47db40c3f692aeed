"""Films in and out: H.264 through PyAV, GIF through Pillow."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from wanoffload.messages import warn
from wanoffload.pictures import local_file

_CRF_WORST, _CRF_BEST = 41, 6  # of x264 at quality 0 and 10; quality 5 gives its default of 23


def to_uint8(frame: Any, rounded: bool = False) -> np.ndarray:
    """One frame as uint8 [H, W, 3].

    Args:
        frame: A float array [H, W, 3] in 0..1, a uint8 array [H, W, 3], or a PIL image.
        rounded: Round to nearest (as diffusers makes PIL images); else cut off (as its export does).
    """
    if not hasattr(frame, "__array_interface__") and hasattr(frame, "convert"):
        frame = frame.convert("RGB")
    array = np.asarray(frame)
    if array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"A video frame has to have shape [height, width, 3], but has {list(array.shape)}.")
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"A video frame has to be float in 0..1 or uint8, but is {array.dtype}.")
    scaled = np.clip(np.nan_to_num(array, nan=0.0), 0, 1) * 255
    return (np.rint(scaled) if rounded else scaled).astype(np.uint8)


def frames_to_pil(frames: Iterable[Any]) -> list[Any]:
    """PIL images of float frames in 0..1, rounded as diffusers' ``numpy_to_pil`` does it."""
    import PIL.Image

    return [PIL.Image.fromarray(to_uint8(frame, rounded=True)) for frame in frames]


def _check_frames(frames: Any) -> list[Any]:
    if isinstance(frames, np.ndarray) and frames.ndim == 5:
        raise ValueError("This is a batch of videos [B, F, H, W, 3]; export one at a time, e.g. `frames[0]`.")
    frames = list(frames)
    if not frames:
        raise ValueError("There are no frames to export.")
    return frames


def _output_path(path: str | os.PathLike | None, suffix: str) -> str:
    if path is not None:
        return os.fspath(path)
    handle, name = tempfile.mkstemp(suffix=suffix)
    os.close(handle)
    return name


def export_to_video(
    video_frames: Sequence[Any],
    output_video_path: str | os.PathLike | None = None,
    fps: float = 10,
    quality: float | None = 5.0,
    bitrate: int | None = None,
    macro_block_size: int | None = 16,
) -> str:
    """Writes frames as a video file: H.264, yuv420p, which every player shows.

    Args:
        video_frames: Frames as an array [F, H, W, 3] (float in 0..1, or uint8), or a list of arrays or PIL images.
        output_video_path: The file; a temporary .mp4 when None. A name that ends in .gif is written as GIF.
        fps: Frames a second.
        quality: 0 (small) to 10 (best), variable bit rate.
        bitrate: Bits a second; replaces ``quality``.
        macro_block_size: Width and height are enlarged to a multiple of this (None or 1: to an even number, which the
            format needs).

    Returns:
        The file's path.
    """
    frames = _check_frames(video_frames)
    path = _output_path(output_video_path, ".mp4")
    if path.lower().endswith(".gif"):
        return export_to_gif(frames, path, fps)
    if fps <= 0:
        raise ValueError(f"`fps` has to be positive but is {fps}.")
    if quality is not None and not 0 <= quality <= 10:
        raise ValueError(f"`quality` has to be between 0 and 10 but is {quality}.")
    import av

    first = to_uint8(frames[0])
    block = max(2, macro_block_size or 2)
    height, width = (-(-size // block) * block for size in first.shape[:2])
    rate = Fraction(fps).limit_denominator(10000)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        if bitrate is not None:
            stream.bit_rate = bitrate
        elif quality is not None:
            stream.options = {"crf": f"{_CRF_WORST + (_CRF_BEST - _CRF_WORST) * quality / 10:.1f}"}
        for frame in frames:
            pixels = to_uint8(frame)
            if pixels.shape != first.shape:
                raise ValueError(f"Frames differ in size: {list(first.shape)} and {list(pixels.shape)}.")
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            container.mux(stream.encode(picture.reformat(width, height, format="yuv420p")))
        container.mux(stream.encode())
    return path


def export_to_gif(image: Sequence[Any], output_gif_path: str | os.PathLike | None = None, fps: float = 10) -> str:
    """Writes frames (as for ``export_to_video``) as an endlessly repeated GIF; returns the path."""
    if fps <= 0:
        raise ValueError(f"`fps` has to be positive but is {fps}.")
    import PIL.Image

    path = _output_path(output_gif_path, ".gif")
    pictures = [PIL.Image.fromarray(to_uint8(frame)) for frame in _check_frames(image)]
    pictures[0].save(
        path,
        format="GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=round(1000 / fps),
        loop=0,
        optimize=False,
    )
    return path


def _upright(frame: Any) -> Any:
    """A decoded frame as a PIL image, turned as players show it: phones note how they were held."""
    import PIL.Image

    image, turns = frame.to_image(), round(frame.rotation / 90) % 4
    if turns == 0:
        return image
    turn = PIL.Image.Transpose
    return image.transpose((turn.ROTATE_90, turn.ROTATE_180, turn.ROTATE_270)[turns - 1])


def _warn_if_cut(container: Any, stream: Any, first: Any, last: Any, frames: int, what: str) -> None:
    """Warns where the last frame ends clearly before the file's header says."""
    if first is None or first.time is None or last.time is None:
        return
    if stream.duration is not None:
        seconds = float(stream.duration * stream.time_base)
    else:
        seconds = (container.duration or 0) / 1e6
    rate = float(stream.average_rate or 1)
    end = last.time - first.time + max(1 / rate, float((last.duration or 0) * (last.time_base or 0)))
    if end < 0.95 * seconds - 2 / rate:
        warn(
            f"{what} ends after {end:.3g} of {seconds:.3g} seconds: it is cut short or damaged, and only the "
            f"{frames} frames that are there are used."
        )


def load_video(
    video: str | os.PathLike, convert_method: Callable[[list], list] | None = None, return_fps: bool = False
) -> Any:
    """Loads a video or GIF, turned as its metadata says; a film that ends before its header says gives a warning.

    Args:
        video: Path or URL.
        convert_method: Applied to the list of frames.
        return_fps: Also return the frame rate.

    Returns:
        A list of PIL images in RGB; with ``return_fps`` a tuple of that and frames a second.

    Raises:
        ValueError: It is no video that can be read; the message names it.
    """
    import av

    name, temporary = local_file(video, "a video")
    what = os.fspath(video)
    try:
        with av.open(name) as container:
            if not container.streams.video:
                raise ValueError(f"{what} has no video stream.")
            stream = container.streams.video[0]
            rate = stream.average_rate
            frames, first, last = [], None, None
            for frame in container.decode(stream):
                frames.append(_upright(frame))
                first, last = first or frame, frame
            _warn_if_cut(container, stream, first, last, len(frames), what)
    except av.FFmpegError as error:
        raise ValueError(
            f"{what} is not a video that can be read: {error}. Save it anew as .mp4 or .gif, or give another file."
        ) from None
    finally:
        if temporary:
            os.remove(name)
    if convert_method is not None:
        frames = convert_method(frames)
    if not return_fps:
        return frames
    if not rate:
        raise ValueError(f"Could not read a frame rate from {what}, so `return_fps=True` cannot be honoured.")
    return frames, float(rate)
