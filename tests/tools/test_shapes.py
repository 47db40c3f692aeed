"""Clips and prompts must stay what they were when the demo checkpoint was trained and scored.

The hashes were computed with the renderer that the training had, a float32 one of torch; pixels are hashed as 8 bits.
"""

import hashlib
import random

import numpy as np
import pytest
from prompts import animate, describe, tasks
from shapes import ACTIONS, COLOURS, Crop, combinations, held_out, render, sample, signed_distance

PIXELS = {
    "right": "f703d44ecdc653205fbdcb225b8408dacd10458dd91f6317d56f2fdea543acd8",
    "left": "440239104482ba4509ebcf1a7fab5c39c39cf7e3b665b764ea0e23d37dc09632",
    "up": "b5fa22364048877bf21d4e9b806d0eadcd80210dabe045c73545786735fbb05c",
    "down": "8774a2b6c4e4d396d1344cbeaf86fc3b4b8ddd8e65b9f3d32209cbb54fdd8813",
    "grows": "e33729f3a19fb066ee47dd2a87b72c49a14ce3473fb0c27116372352e87acc08",
    "shrinks": "ca603689de0e10a0a0e199bc99363944f69aa48801d27b1074c03c9963adeb47",
    "spins": "cb0e555b098927681a8c486005b91db3185205dba90e048963a0302ff7775d2e",
    "bounces": "082311467ca6e5dd3e97ec9081ee1c07ee2f135f1f0bc67c4d3f1df5a11fd22b",
}
PROMPTS = "4c3ee6a266fd420fa0d0e509b0c02b4ddb46f94bbc17b506c80add26a20b3e6c"
HELD_OUT = "5456fc21ac65063a73b121079148bf84f870290f543c95a4c9bf9083b4f5d0ef"
TASKS = "86812a02df9388a8e24e6afe795bc65334768e43bb5c01d948f7cce4600cf889"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("action", ACTIONS)
def test_a_seed_gives_other_pixels_than_in_training(action: str) -> None:
    rng = random.Random(1000 + ACTIONS.index(action))
    pixels = render([sample(rng, action) for _ in range(6)])
    assert pixels.shape == (6, 3, 17, 96, 96) and pixels.dtype == np.float32
    assert digest(np.round((pixels + 1) * 127.5).astype(np.uint8).tobytes()) == PIXELS[action]


def test_a_seed_gives_other_prompts_than_in_training() -> None:
    rng, reserved = random.Random(0), set(held_out())
    prompts = [describe(sample(rng, exclude=reserved).label, rng, complete=i % 3 == 0) for i in range(3000)]
    assert digest("\n".join(prompts).encode()) == PROMPTS


def test_other_combinations_are_held_out_than_in_training() -> None:
    assert digest(repr(held_out()).encode()) == HELD_OUT
    assert len(combinations()) == 312 and set(held_out()) < set(combinations())
    for kind, names in ((0, COLOURS), (2, ACTIONS)):
        assert sorted(one[kind] for one in held_out()) == sorted(2 * list(names))


def test_scores_are_measured_on_other_prompts_than_before() -> None:
    wanted = tasks(60, 15)
    entries = [
        (one.prompt, [one.label.colour, one.label.shape, one.label.action, one.label.background], one.held_out)
        for one in wanted
    ]
    assert digest(repr(entries).encode()) == TASKS


def test_no_prompt_for_a_still_leaves_to_it_what_it_shows() -> None:
    rng = random.Random(1)
    label = sample(rng, "spins").label
    prompts = [animate(label, rng) for _ in range(400)]
    unnamed = [prompt for prompt in prompts if label.shape not in prompt.lower()]
    assert 70 < len(unnamed) < 130
    assert all(prompt.startswith(("it ", "the shape ")) for prompt in unnamed)


def test_tasks_do_not_end_when_combinations_do() -> None:
    with pytest.raises(ValueError, match="There are only"):
        tasks(400, 0)


def test_a_window_is_not_that_part_of_the_clip() -> None:
    clip = sample(random.Random(4), "spins")
    whole = render([clip])
    window = render([clip], first=3, frames=9, crops=[Crop(top=20, left=31, size=48)])
    assert np.array_equal(window, whole[:, :, 3:12, 20:68, 31:79])


def test_an_unknown_shape_is_drawn() -> None:
    with pytest.raises(ValueError, match="hexagon"):
        signed_distance("hexagon", np.zeros(1), np.zeros(1), np.ones(1))
