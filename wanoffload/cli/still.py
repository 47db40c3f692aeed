"""The still that ``wanoffload demo --image`` animates: a file, or one that is drawn here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

HEART = (45, 85, 225)
TOP, BOTTOM = (150, 195, 240), (214, 231, 246)  # of the background's shading
LEFT, MIDDLE, HEIGHT = 1 / 4, 1 / 2, 1 / 3  # where the heart is and how large, of the picture's size
FINER = 8  # drawn so many times larger and then reduced, for soft edges


def draw_still(size: int) -> Image:
    """A blue heart at the left of a sky-blue square of so many pixels."""
    from PIL import Image, ImageDraw

    large = size * FINER
    picture = Image.new("RGB", (1, large))
    for row in range(large):
        depth = row / (large - 1)
        shade = tuple(round(t + (b - t) * depth) for t, b in zip(TOP, BOTTOM, strict=True))
        picture.putpixel((0, row), shade)
    picture = picture.resize((large, large))

    def place(right: float, up: float) -> tuple[float, float]:
        return large * (LEFT + HEIGHT * right), large * (MIDDLE + HEIGHT * (0.55 - up))

    # A heart one unit high is a square that stands on its corner, with a circle around each of its upper edges.
    draw = ImageDraw.Draw(picture)
    draw.polygon([place(0, 0), place(0.5, 0.5), place(0, 1), place(-0.5, 0.5)], fill=HEART)
    radius = 0.125**0.5
    for side in (-0.25, 0.25):
        draw.ellipse([place(side - radius, 0.75 + radius), place(side + radius, 0.75 - radius)], fill=HEART)
    return picture.resize((size, size), Image.Resampling.BOX)


def open_still(file: str, size: int) -> Image:
    """A picture from a file, the right way up, cut to a square around its middle.

    Args:
        file: Its name.
        size: Of the square, in pixels.

    Raises:
        OSError: There is no such file, or it is no picture.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(file) as picture:
            upright = ImageOps.exif_transpose(picture).convert("RGB")
    except UnidentifiedImageError:
        raise OSError(f"--image {Path(file)}: this is no picture that Pillow can read") from None
    return ImageOps.fit(upright, (size, size))
