"""Clips of one moving shape and prompts that say what they show: the data of the demo checkpoint.

A clip is 17 frames of 96x96 pixels. `sample` draws its parameters, `render` turns parameters into pixels, `describe`
puts them into one of many phrasings. All of it is a function of the `random.Random` that is handed in: one seed gives
the same pixels and the same words everywhere, which is what makes scores of different days comparable. So the order in
which numbers are drawn is part of the data; tests/tools holds it to stored hashes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

SIZE, FRAMES = 96, 17

COLOURS = {
    "red": (225, 40, 40),
    "orange": (250, 140, 20),
    "yellow": (246, 222, 50),
    "green": (45, 170, 70),
    "cyan": (30, 200, 212),
    "blue": (45, 85, 225),
    "purple": (140, 60, 200),
    "pink": (250, 130, 190),
}
SHAPES = ("circle", "square", "triangle", "star", "heart")
ACTIONS = ("right", "left", "up", "down", "grows", "shrinks", "spins", "bounces")
# Colour at the upper and at the lower edge of a soft vertical shading.
BACKGROUNDS = {
    "dark": ((32, 34, 44), (16, 17, 24)),
    "white": ((244, 244, 242), (230, 230, 228)),
    "grey": ((138, 140, 144), (118, 120, 124)),
    "sky": ((150, 195, 240), (214, 231, 246)),
}

Combination = tuple[str, str, str]  # colour, shape, action


@dataclass(frozen=True)
class Label:
    """What a clip shows, in the words that a prompt has to name."""

    colour: str
    shape: str
    action: str
    background: str


@dataclass(frozen=True)
class Clip:
    """A label and everything that the pixels need; the tracks have one entry per frame, in pixels and radians."""

    label: Label
    rgb: tuple[float, float, float]
    shade: float
    x: Sequence[float]
    y: Sequence[float]
    radius: Sequence[float]
    angle: Sequence[float]


def is_possible(shape: str, action: str) -> bool:
    """False for the one thing that nobody could see: a circle that spins."""
    return not (shape == "circle" and action == "spins")


def combinations() -> list[Combination]:
    """All (colour, shape, action) that a clip can have."""
    return [(c, s, a) for c in COLOURS for s in SHAPES for a in ACTIONS if is_possible(s, a)]


def held_out() -> list[Combination]:
    """The 16 combinations that the transformer is never trained on: two of each action, two of each colour."""
    rng = random.Random(7)
    chosen: list[Combination] = []
    uses = dict.fromkeys(COLOURS, 0)
    for turn in range(2):
        for action in ACTIONS:
            open_pairs = [
                (c, s)
                for c in COLOURS
                for s in SHAPES
                if uses[c] <= turn and is_possible(s, action) and (c, s, action) not in chosen
            ]
            colour, shape = rng.choice(open_pairs)
            uses[colour] += 1
            chosen.append((colour, shape, action))
    return chosen


def sample(rng: random.Random, action: str | None = None, exclude: Collection[Combination] = ()) -> Clip:
    """Draws a clip.

    Args:
        rng: Where all numbers come from.
        action: The action, or None to draw one.
        exclude: Combinations to draw again.
    """
    while True:
        colour, shape, act = rng.choice(list(COLOURS)), rng.choice(SHAPES), action or rng.choice(ACTIONS)
        if is_possible(shape, act) and (colour, shape, act) not in exclude:
            break
    label = Label(colour, shape, act, rng.choice(list(BACKGROUNDS)))
    r, g, b = (min(255, max(0, value + rng.uniform(-6, 6))) for value in COLOURS[colour])
    shade = rng.uniform(-4, 4)
    x, y, radius, angle = _tracks(rng, act)
    return Clip(label, (r, g, b), shade, x, y, radius, angle)


def sample_like(rng: random.Random, label: Label) -> Clip:
    """Draws clips until one shows what a label says."""
    while (clip := sample(rng, label.action)).label != label:
        pass
    return clip


def _tracks(rng: random.Random, action: str) -> tuple[list[float], list[float], list[float], list[float]]:
    """Centre, radius and angle of every frame. A resting place is drawn first, then what the action changes of it."""
    radius, x, y, angle = ([value] * FRAMES for value in (*_uniform(rng, (14, 18), (34, 62), (34, 62)), 0.0))
    if action in ("right", "left", "up", "down"):
        track = _line(*_uniform(rng, (20, 28), (68, 76)))
        if action in ("left", "up"):
            track.reverse()
        if action in ("right", "left"):
            x = track
        else:
            y = track
    elif action in ("grows", "shrinks"):
        radius = _line(*_uniform(rng, (7.5, 9.5), (24, 28)))
        if action == "shrinks":
            radius.reverse()
        x, y = ([value] * FRAMES for value in _uniform(rng, (42, 54), (42, 54)))
    elif action == "spins":
        speed = math.radians(rng.uniform(9.5, 11.5))
        angle = [speed * i for i in range(FRAMES)]
        radius, x, y = ([value] * FRAMES for value in _uniform(rng, (19, 24), (40, 56), (40, 56)))
    elif action == "bounces":
        floor, height = _uniform(rng, (68, 74), (38, 44))
        y = [floor - height * abs(math.cos(math.pi * i / 8)) for i in range(FRAMES)]
    return x, y, radius, angle


def _uniform(rng: random.Random, *ranges: tuple[float, float]) -> list[float]:
    return [rng.uniform(low, high) for low, high in ranges]


def _line(first: float, last: float) -> list[float]:
    return [first + (last - first) * (i / (FRAMES - 1)) for i in range(FRAMES)]


def signed_distance(shape: str, x: np.ndarray, y: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Distance to the outline in pixels, negative inside.

    Args:
        shape: One of SHAPES.
        x: Coordinate to the right of the centre, in the shape's own frame.
        y: Coordinate upwards from the centre, in the shape's own frame.
        radius: Size of the shape. All three broadcast against each other.
    """
    if shape == "circle":
        return np.sqrt(x * x + y * y) - radius
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) - 0.88 * radius
    if shape == "triangle":
        cos30 = 0.8660254
        return np.maximum(np.maximum(cos30 * x + 0.5 * y, -cos30 * x + 0.5 * y), -y) - 0.64 * radius
    if shape == "star":
        return _star_distance(x, y, 1.3 * radius)
    if shape == "heart":
        return _heart_distance(x, y, 2.0 * radius)
    raise ValueError(f"A shape has to be one of {', '.join(SHAPES)}, but is {shape!r}.")


def _star_distance(x: np.ndarray, y: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Five points: fold the plane along the symmetry axes until one edge is left, then the distance to that edge."""
    axis_x, axis_y, inner = 0.809016994375, -0.587785252292, 0.48
    x = np.abs(x)
    fold = 2 * np.maximum(axis_x * x + axis_y * y, 0)
    x, y = x - fold * axis_x, y - fold * axis_y
    fold = 2 * np.maximum(-axis_x * x + axis_y * y, 0)
    x, y = x + fold * axis_x, y - fold * axis_y
    x, y = np.abs(x), y - radius
    edge_x, edge_y = inner * -axis_y, inner * axis_x - 1
    along = np.maximum((x * edge_x + y * edge_y) / (edge_x * edge_x + edge_y * edge_y), 0)
    along = np.minimum(along, radius)
    off_x, off_y = x - edge_x * along, y - edge_y * along
    return np.sqrt(off_x * off_x + off_y * off_y) * np.sign(y * edge_x - x * edge_y)


def _heart_distance(x: np.ndarray, y: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """A heart one unit high: above the diagonal the distance to the lobe's arc, below it to the straight flank."""
    x, y = np.abs(x) / scale, y / scale + 0.55
    lobe = np.sqrt((x - 0.25) ** 2 + (y - 0.75) ** 2) - 0.35355339
    foot = 0.5 * np.maximum(x + y, 0)
    flank = np.sqrt(np.minimum(x**2 + (y - 1) ** 2, (x - foot) ** 2 + (y - foot) ** 2)) * np.sign(x - y)
    return np.where(x + y > 1, lobe, flank) * scale


@dataclass(frozen=True)
class Crop:
    """A square window of a frame."""

    top: int = 0
    left: int = 0
    size: int = SIZE


def render(
    clips: Sequence[Clip], first: int = 0, frames: int = FRAMES, crops: Sequence[Crop] | None = None
) -> np.ndarray:
    """Pixels of clips, or of windows of them in space and time.

    Args:
        clips: What to show.
        first: The first frame.
        frames: How many frames.
        crops: One window per clip, all of one size; None: whole frames.

    Returns:
        float32 array [clips, 3, frames, size, size] in -1..1.
    """
    windows = crops if crops is not None else [Crop()] * len(clips)
    return np.stack([_render_one(c, slice(first, first + frames), w) for c, w in zip(clips, windows, strict=True)])


def _render_one(clip: Clip, frames: slice, crop: Crop) -> np.ndarray:
    inside = _coverage(clip, frames, crop)[None]
    top, bottom = (_channels(colour) for colour in BACKGROUNDS[clip.label.background])
    depth = ((_pixels(crop.top, crop.size) + 0.5) / SIZE).reshape(1, 1, -1, 1)
    behind = top * (1 - depth) + bottom * depth + clip.shade
    return np.clip((behind * (1 - inside) + _channels(clip.rgb) * inside) / 127.5 - 1, -1, 1)


def _coverage(clip: Clip, frames: slice, crop: Crop) -> np.ndarray:
    """How much of each pixel the shape covers, [frames, size, size] in 0..1; edges are one pixel soft."""
    x, y, radius, angle = (
        np.asarray(track[frames], np.float32).reshape(-1, 1, 1) for track in (clip.x, clip.y, clip.radius, clip.angle)
    )
    right = _pixels(crop.left, crop.size).reshape(1, 1, -1) + 0.5 - x
    up = -(_pixels(crop.top, crop.size).reshape(1, -1, 1) + 0.5 - y)
    # Libraries differ in the last bit of a float32 cosine, and hardly ever in a float64 one that is then rounded.
    cos, sin = (f(angle, dtype=np.float64).astype(np.float32) for f in (np.cos, np.sin))
    distance = signed_distance(clip.label.shape, right * cos - up * sin, right * sin + up * cos, radius)
    return np.clip(0.5 - distance, 0, 1)


def _pixels(first: int, count: int) -> np.ndarray:
    return np.arange(first, first + count).astype(np.float32)


def _channels(colour: Sequence[float]) -> np.ndarray:
    return np.asarray(colour, np.float32).reshape(3, 1, 1, 1)
