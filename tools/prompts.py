"""The words for clips: one of many phrasings of a label, and the fixed list of prompts that scores are measured on.

As in shapes.py, the order in which numbers are drawn is part of the data. So a list of phrasings draws a verb for each
of its members before one of them is chosen, and a choice between equal words is still a draw.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from shapes import ACTIONS, BACKGROUNDS, COLOURS, SHAPES, Label, held_out, is_possible

# (what it does, doing what) of every action.
VERBS = {
    "right": (
        ["moves right", "moves to the right", "slides to the right", "goes right", "travels from left to right"],
        ["moving right", "moving to the right", "sliding right", "going to the right"],
    ),
    "left": (
        ["moves left", "moves to the left", "slides to the left", "goes left", "travels from right to left"],
        ["moving left", "moving to the left", "sliding left", "going to the left"],
    ),
    "up": (
        ["moves up", "moves upwards", "rises", "goes up", "floats up"],
        ["moving up", "rising", "going up", "floating upwards"],
    ),
    "down": (
        ["moves down", "moves downwards", "falls", "goes down", "sinks down"],
        ["moving down", "falling", "going down", "sinking"],
    ),
    "grows": (
        ["grows", "gets bigger", "becomes larger", "expands", "grows larger"],
        ["growing", "getting bigger", "expanding", "becoming larger"],
    ),
    "shrinks": (
        ["shrinks", "gets smaller", "becomes smaller", "shrinks away"],
        ["shrinking", "getting smaller", "becoming smaller"],
    ),
    "spins": (["spins", "rotates", "turns around", "spins around"], ["spinning", "rotating", "turning around"]),
    "bounces": (
        ["bounces", "bounces up and down", "jumps up and down", "bounces like a ball"],
        ["bouncing", "bouncing up and down", "jumping up and down"],
    ),
}
# Pink has one name only, but is drawn as if it had two.
COLOUR_WORDS = {"purple": ["purple", "violet"], "cyan": ["cyan", "turquoise"], "pink": ["pink", "pink"]}
SHAPE_WORDS = {"circle": ["circle", "ball", "disc"]}
BACKGROUND_WORDS = {
    "dark": ["dark", "black"],
    "white": ["white"],
    "grey": ["gray", "grey"],
    "sky": ["sky", "light blue"],
}


def describe(label: Label, rng: random.Random, complete: bool = False) -> str:
    """One of many phrasings of a label.

    Args:
        label: What the clip shows.
        rng: Where all choices come from.
        complete: Name colour, shape, action and background; otherwise one prompt in seven leaves something out.
    """
    colour = rng.choice(COLOUR_WORDS.get(label.colour, [label.colour]))
    shape = rng.choice(SHAPE_WORDS.get(label.shape, [label.shape]))
    place, scene = _where(label.background, rng)
    article = rng.choice(["a", "a", "the", "one"])
    if article == "a" and colour[0] == "o":
        article = "an"
    share = 0.5 if complete else rng.random()
    thing = f"{colour} {shape}"
    if share < 0.04:
        text = rng.choice([f"{article} {thing} {place}", f"{thing}, {scene}"])
    elif share < 0.14:
        text = rng.choice(_without_background(label.action, thing, article, rng))
    else:
        text = rng.choice(_in_full(label.action, thing, article, place, scene, rng))
    if rng.random() < 0.4:
        text = text[0].upper() + text[1:]
    return text + "." if rng.random() < 0.3 else text


def animate(label: Label, rng: random.Random) -> str:
    """A prompt for a picture of the clip's first frame: one in four leaves to the picture what the thing is."""
    if rng.random() >= 0.25:
        return describe(label, rng)
    thing = rng.choice(["it", "the shape"])
    return f"{thing} {rng.choice(VERBS[label.action][0])}"


def _where(background: str, rng: random.Random) -> tuple[str, str]:
    """The background as the end of a sentence, and as a phrase of its own."""
    word = rng.choice(BACKGROUND_WORDS[background])
    place = rng.choice([f"on a {word} background", f"in front of a {word} background", f"against a {word} background"])
    if word == "sky":
        place = rng.choice(["in the sky", "on a sky background", "against the sky", "in front of the sky"])
    elif word != "light blue" and rng.random() < 0.3:
        place = "in the dark" if word == "dark" else f"on {word}"
    scene = "the sky" if word == "sky" and rng.random() < 0.5 else f"{word} background"
    return place, scene


def _without_background(action: str, thing: str, article: str, rng: random.Random) -> list[str]:
    does, doing = VERBS[action]
    return [
        f"{article} {thing} {rng.choice(does)}",
        f"{thing} {rng.choice(doing)}",
        f"{article} {thing} that {rng.choice(does)}",
        f"a video of {article} {thing} {rng.choice(doing)}",
    ]


def _in_full(action: str, thing: str, article: str, place: str, scene: str, rng: random.Random) -> list[str]:
    does, doing = VERBS[action]
    return [
        f"{article} {thing} {rng.choice(does)} {place}",
        f"{article} {thing} {rng.choice(does)} {place}",
        f"{article} {thing} {rng.choice(doing)} {place}",
        f"{thing} {rng.choice(doing)}, {scene}",
        f"{thing} {rng.choice(does)}, {scene}",
        f"{scene}, {article} {thing} {rng.choice(does)}",
        f"{place}, {article} {thing} {rng.choice(does)}",
        f"a video of {article} {thing} {rng.choice(doing)} {place}",
        f"there is {article} {thing} that {rng.choice(does)} {place}",
    ]


@dataclass(frozen=True)
class Task:
    """A prompt to be filmed, what has to be seen, and whether training never showed that combination."""

    prompt: str
    label: Label
    held_out: bool


def tasks(count: int, unseen: int) -> list[Task]:
    """The prompts that scores are measured on; the same for the same numbers, always.

    Args:
        count: How many prompts.
        unseen: How many of them, the first ones, have held-out combinations.

    Raises:
        ValueError: There are not so many different prompts.
    """
    rng = random.Random(2024)
    reserved = held_out()
    chosen = [reserved[i % len(reserved)] for i in range(unseen)]
    taken = set(reserved)
    for i in range(count - unseen):
        action = ACTIONS[i % len(ACTIONS)]
        colour = list(COLOURS)[(i + i // len(ACTIONS)) % len(COLOURS)]
        free = [s for s in SHAPES if is_possible(s, action) and (colour, s, action) not in taken]
        if not free:
            raise ValueError(f"There are only {i} prompts with combinations that were trained, not {count - unseen}.")
        while (shape := rng.choice(SHAPES)) not in free:
            pass
        taken.add((colour, shape, action))
        chosen.append((colour, shape, action))
    labels = [Label(*what, background=list(BACKGROUNDS)[j % len(BACKGROUNDS)]) for j, what in enumerate(chosen)]
    return [Task(describe(label, rng, complete=True), label, j < unseen) for j, label in enumerate(labels)]
