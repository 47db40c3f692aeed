"""Options for what a film is made from: a still, two stills, or another film."""

from __future__ import annotations

import argparse
from typing import Any


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Stills and films; which pipeline runs follows from the checkpoint and from these."""
    group = parser.add_argument_group("made from (without any of these: from the prompt alone)")
    group.add_argument(
        "--image", metavar="FILE", help="the first frame, for image-to-video checkpoints; sizes follow its aspect"
    )
    group.add_argument("--last-image", metavar="FILE", help="the last frame, for checkpoints made for both (FLF2V)")
    group.add_argument("--video", metavar="FILE", help="a film to make over again, with text-to-video checkpoints")
    group.add_argument(
        "--strength", type=float, metavar="S", help="with --video: how much is made anew, up to 1 (default: 0.8)"
    )


def check_sources(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Refuses options that cannot take effect, as argparse refuses a wrong one."""
    if options.image and options.video:
        parser.error("--image and --video do not go together: a film is made from one of them")
    if options.last_image and not options.image:
        parser.error("--last-image takes effect with --image only")
    if options.strength is not None and not options.video:
        parser.error("--strength takes effect with --video only")
    if options.guidance_2 is not None and options.video:
        parser.error("--guidance-2 takes effect with two experts only, which --video does not have")


class Sources:
    """The stills or the film that options name, opened.

    Args:
        options: Checked options.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        from wanoffload.pictures import parse_stills

        self._options = options
        self._stills = parse_stills(options.image, "--image") if options.image else []
        self._last = parse_stills(options.last_image, "--last-image") if options.last_image else []
        self._film = self._read_film() if options.video else []

    def _read_film(self) -> list[Any]:
        """The frames that are used: all, or as many as --frames says."""
        from wanoffload.pipelines.checks import whole_number
        from wanoffload.utils import load_video

        wanted = self._options.frames
        if wanted is not None:
            whole_number(wanted, "--frames")
        film = load_video(self._options.video)
        if not film:
            raise ValueError(f"{self._options.video} has no frames. Give a film of at least one.")
        if wanted is not None and wanted > len(film):
            raise ValueError(
                f"{self._options.video} has {len(film)} frames, but --frames asks for {wanted}. Leave --frames out to "
                "use them all."
            )
        return film[:wanted]

    def size(self, pipe: Any) -> tuple[int, int]:
        """Height and width: those asked for; one that is not follows from the source's aspect, both from that and the
        model's area; without a source they are 480x832."""
        from wanoffload.pipelines.choice import size_beside

        height, width = self._options.height, self._options.width
        for source in (*self._stills[:1], *self._film[:1]):
            return size_beside(pipe, (source.height, source.width), height, width)
        return 480 if height is None else height, 832 if width is None else width

    def arguments(self, pipe: Any) -> dict[str, Any]:
        """The arguments of plan and call that the sources make: they, the size, and the number of frames."""
        height, width = self.size(pipe)
        found: dict[str, Any] = {"height": height, "width": width}
        if self._film:
            return found | {"video": self._film}
        if self._stills:
            found["image"] = [still.picture() for still in self._stills]
        if self._last:
            found["last_image"] = [still.picture() for still in self._last]
        frames = self._options.frames
        return found | {"num_frames": 81 if frames is None else frames}
