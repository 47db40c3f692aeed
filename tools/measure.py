"""Sees colour, shape, action and background in the pixels of a clip. NumPy only.

Whatever differs from the background is the shape. Its colour is the median of its clearest pixels, its name that of the
template that overlaps it best when laid over it with the same area and centre, its action what centre, area and angle
do over the frames. On rendered clips this makes no error; tests/tools keeps it so.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from shapes import BACKGROUNDS, COLOURS, SHAPES, signed_distance

# Turning by 360 degrees / symmetry changes nothing. A circle has no angle to measure.
SYMMETRY = {"star": 5, "square": 4, "triangle": 3, "heart": 1}
ROTATIONS = 12

CONTRAST = 0.18  # least difference from the background, of 1
LEAST_AREA = 12  # pixels
REVERSAL = 8  # pixels that a way back must have to count as a turn
LEAST_WAY = 20  # pixels
LEAST_ANGLE = 60  # degrees
GROWTH = 2.5  # of the area


@dataclass(frozen=True)
class Measurement:
    """What a clip shows; colour, shape and action are None where nothing can be made out.

    Attributes:
        background: One of BACKGROUNDS.
        colour: One of COLOURS.
        shape: One of SHAPES.
        action: One of ACTIONS.
        overlap: Of the shape with its best template, intersection over union, 0..1.
        right: Way of the centre to the right, pixels.
        down: Way of the centre downwards, pixels.
        growth: Area at the end divided by area at the beginning.
        turns: How often the way up or down was reversed.
        rotation: Angle turned clockwise, degrees.
    """

    background: str
    colour: str | None = None
    shape: str | None = None
    action: str | None = None
    overlap: float = 0.0
    right: float = 0.0
    down: float = 0.0
    growth: float = 1.0
    turns: int = 0
    rotation: float = 0.0

    def figures(self) -> str:
        """The figures behind the names, for a message about a miss."""
        return (
            f"overlap {self.overlap:.2f}, right {self.right:.1f}, down {self.down:.1f}, growth {self.growth:.2f}, "
            f"turns {self.turns}, rotation {self.rotation:.0f}"
        )


def measure(frames: np.ndarray) -> Measurement:
    """Measures a clip.

    Args:
        frames: Pixels, [frames, height, width, 3] in 0..1.
    """
    background, row = _background(frames)
    difference = np.abs(frames - row[None, :, None]).max(-1)
    mask = difference > CONTRAST
    area = mask.sum((1, 2)).astype(float)
    if (area < LEAST_AREA).sum() > 3:
        return Measurement(background)
    area = np.maximum(area, 1)
    y, x = np.mgrid[0 : mask.shape[1], 0 : mask.shape[2]]
    centre_x, centre_y = (mask * x).sum((1, 2)) / area, (mask * y).sum((1, 2)) / area
    shape, overlap = _shape(mask, area, centre_x, centre_y)
    right, down = (track[-2:].mean() - track[:2].mean() for track in (centre_x, centre_y))
    growth = area[-2:].mean() / area[:2].mean()
    turns = _turns(centre_y)
    rotation = _rotation(mask, centre_x, centre_y, SYMMETRY[shape]) if shape in SYMMETRY else 0.0
    return Measurement(
        background=background,
        colour=_colour(frames, mask, difference),
        shape=shape,
        action=_action(right, down, growth, turns, rotation),
        overlap=overlap,
        right=float(right),
        down=float(down),
        growth=float(growth),
        turns=turns,
        rotation=rotation,
    )


def _background(frames: np.ndarray) -> tuple[str, np.ndarray]:
    """The background's name and its colour in every row, taken from four columns at either side."""
    height = frames.shape[1]
    sides = np.concatenate([frames[:, :, :4], frames[:, :, -4:]], axis=2)
    row = np.median(sides.transpose(1, 0, 2, 3).reshape(height, -1, 3), axis=1)
    shadings = {name: np.linspace(top, bottom, height) / 255 for name, (top, bottom) in BACKGROUNDS.items()}
    return min(shadings, key=lambda name: np.abs(shadings[name] - row).mean()), row


def _colour(frames: np.ndarray, mask: np.ndarray, difference: np.ndarray) -> str:
    core = mask & (difference > 0.7 * np.quantile(difference[mask], 0.9))
    rgb = np.median(frames[core], axis=0) * 255
    return min(COLOURS, key=lambda name: np.abs(np.array(COLOURS[name]) - rgb).sum())


def _shape(mask: np.ndarray, area: np.ndarray, centre_x: np.ndarray, centre_y: np.ndarray) -> tuple[str, float]:
    """The shape whose template overlaps best in the mean of four frames, and that overlap."""
    chosen = [1, 6, 11, 16] if len(mask) > 16 else [0]
    means = {
        shape: np.mean([_overlap(shape, mask[i], area[i], centre_x[i], centre_y[i]) for i in chosen])
        for shape in SHAPES
    }
    best = max(means, key=means.__getitem__)
    return best, float(means[best])


def _overlap(shape: str, mask: np.ndarray, area: float, centre_x: float, centre_y: float) -> float:
    """Intersection over union of a mask with a template of its area and centre, at the best of twelve angles."""
    unit_area, unit_x, unit_y = _unit(shape)
    radius = math.sqrt(area / unit_area)
    count = ROTATIONS if shape in SYMMETRY else 1
    angle = (2 * math.pi / SYMMETRY.get(shape, 1) / count * np.arange(count)).reshape(-1, 1, 1)
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    # Where the template's own origin comes to lie when its centre of mass lies on the mask's.
    origin_x = np.float32(centre_x) - radius * (unit_x * cos - unit_y * sin)
    origin_y = np.float32(centre_y) - radius * (unit_x * sin + unit_y * cos)
    right = np.arange(mask.shape[1], dtype=np.float32) - origin_x
    up = origin_y - np.arange(mask.shape[0], dtype=np.float32)[:, None]
    template = signed_distance(shape, right * cos - up * sin, right * sin + up * cos, np.float32(radius)) < 0
    both, either = np.count_nonzero(template & mask, axis=(1, 2)), np.count_nonzero(template | mask, axis=(1, 2))
    return float((both / np.maximum(either, 1)).max())


@functools.cache
def _unit(shape: str) -> tuple[float, float, float]:
    """Area and centre of mass (right, down) of a shape of radius 1."""
    line = (np.arange(400) - 199.5) / 100
    inside = signed_distance(shape, line[None, :], -line[:, None], np.float64(1)) < 0
    count = inside.sum()
    return count / 1e4, float((inside * line[None, :]).sum() / count), float((inside * line[:, None]).sum() / count)


def _turns(track: np.ndarray) -> int:
    """How often a track is reversed by more than REVERSAL pixels."""
    turns, extreme, direction = 0, track[0], 0.0
    for value in track:
        if direction == 0:
            if abs(value - extreme) > REVERSAL:
                direction, extreme = np.sign(value - extreme), value
        elif (value - extreme) * direction > 0:
            extreme = value
        elif (extreme - value) * direction > REVERSAL:
            turns, direction, extreme = turns + 1, -direction, value
    return turns


def _rotation(mask: np.ndarray, centre_x: np.ndarray, centre_y: np.ndarray, symmetry: int) -> float:
    """Degrees turned clockwise: the phase of the mask's angular moment of that order, followed over the frames."""
    y, x = np.mgrid[0 : mask.shape[1], 0 : mask.shape[2]]
    z = (x[None] - centre_x[:, None, None]) - 1j * (y[None] - centre_y[:, None, None])
    length = np.abs(z) + 1e-6
    moment = (mask * length**2 * (z / length) ** symmetry).sum((1, 2))
    before = np.where(np.abs(moment[:-1]) < 1e-9, 1, moment[:-1])
    return -math.degrees(np.angle(moment[1:] / before).sum() / symmetry)


def _action(right: float, down: float, growth: float, turns: int, rotation: float) -> str | None:
    if turns >= 2:
        return "bounces"
    if growth > GROWTH:
        return "grows"
    if growth < 1 / GROWTH:
        return "shrinks"
    if math.hypot(right, down) > LEAST_WAY:
        if abs(right) > abs(down):
            return "right" if right > 0 else "left"
        return "down" if down > 0 else "up"
    return "spins" if abs(rotation) > LEAST_ANGLE else None
