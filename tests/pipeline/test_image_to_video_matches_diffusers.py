"""Whole image-to-video runs against diffusers, live, on small random checkpoints, in float32."""

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import PIL.Image
import pytest
import torch
from pipeline.helpers import (
    assert_same_film,
    draw_picture,
    frames_of,
    open_pipeline,
    open_reference,
    write_image_pipeline,
)

import wanoffload

KIND = "WanImageToVideoPipeline"
SMALL: dict[str, Any] = {"prompt": "a red star", "height": 32, "width": 48, "num_frames": 5, "num_inference_steps": 3}


@pytest.fixture(scope="module")
def folders(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("i2v")
    return {
        "first": write_image_pipeline(base / "first", demo_model, 1),
        "both": write_image_pipeline(base / "both", demo_model, 2, "both", num_layers=1),
        "experts": write_image_pipeline(base / "experts", demo_model, 3, "experts", 0.9),
    }


@pytest.fixture(scope="module")
def pipes(folders: dict[str, Path]) -> dict[str, tuple[Any, Any]]:
    return {name: (open_pipeline(one, KIND), open_reference(one, KIND)) for name, one in folders.items()}


def compare(pair: tuple[Any, Any], image: Any, theirs: Any = None, **arguments: Any) -> np.ndarray:
    """Ours of an image against diffusers' of the same, or of what diffusers has to be given instead."""
    arguments = {**SMALL, **arguments}
    frames = frames_of(pair[0], image=image, generator=17, **arguments)
    generator = torch.Generator("cpu").manual_seed(17)
    expected = frames_of(pair[1], image=image if theirs is None else theirs, generator=generator, **arguments)
    assert_same_film(frames, expected)
    return frames


CASES = {
    "odd size, 3 steps": ("first", (37, 53), {}),
    "taller than wide, 9 frames": ("first", (91, 30), dict(num_frames=9, height=48, width=32, num_inference_steps=2)),
    "one frame, no guidance": ("first", (20, 20), dict(num_frames=1, guidance_scale=1.0, num_inference_steps=2)),
    "smaller than the film": ("first", (9, 11), dict(num_inference_steps=2)),
    "two prompts": ("first", (40, 60), dict(prompt=["a red star", "ein Kreis"], num_inference_steps=2)),
    "negative prompt, euler": ("first", (33, 47), dict(negative_prompt="blue", scheduler="euler")),
    "two experts, boundary within": ("experts", (50, 50), dict(num_inference_steps=4, guidance_scale_2=2.5)),
    "two experts, two prompts": ("experts", (31, 77), dict(prompt=["a", "b"], num_inference_steps=2)),
}


@pytest.mark.parametrize("name", CASES)
def test_films_from_a_still_match_diffusers(name: str, pipes: dict[str, tuple[Any, Any]]) -> None:
    kind, size, arguments = CASES[name]
    arguments = dict(arguments)
    scheduler, before = arguments.pop("scheduler", None), [pipe.scheduler for pipe in pipes[kind]]
    try:
        if scheduler == "euler":
            for pipe, library in zip(pipes[kind], (wanoffload, diffusers), strict=True):
                pipe.scheduler = library.FlowMatchEulerDiscreteScheduler(shift=3.0)
        compare(pipes[kind], draw_picture(*size), **arguments)
    finally:
        for pipe, one in zip(pipes[kind], before, strict=True):
            pipe.scheduler = one


@pytest.mark.parametrize("arguments", [{}, {"num_frames": 9, "num_inference_steps": 2, "prompt": ["a", "b"]}], ids=str)
def test_films_between_two_stills_match_diffusers(arguments: dict, pipes: dict[str, tuple[Any, Any]]) -> None:
    first, last = draw_picture(37, 53, 1), draw_picture(64, 30, 2)
    with_last = compare(pipes["both"], first, last_image=last, **arguments)
    other = frames_of(pipes["both"][0], image=first, last_image=first, generator=17, **{**SMALL, **arguments})
    assert np.abs(other - with_last).max() > 1e-3


def test_the_last_frame_counts_with_two_experts_and_no_image_encoder(pipes: dict[str, tuple[Any, Any]]) -> None:
    first, last = draw_picture(37, 53, 1), draw_picture(64, 30, 2)
    film = compare(pipes["experts"], first, last_image=last)
    assert np.abs(film - compare(pipes["experts"], first)).max() > 1e-3


@pytest.mark.parametrize("mode", ["RGBA", "L", "LA", "P", "1", "CMYK"])
def test_a_picture_of_any_mode_is_what_load_image_of_diffusers_makes_of_it(
    mode: str, pipes: dict[str, tuple[Any, Any]]
) -> None:
    picture = draw_picture(41, 29, 3, mode)
    compare(pipes["first"], picture, diffusers.utils.load_image(picture.copy()), num_inference_steps=1)


def test_16_bit_grey_is_the_picture_that_diffusers_makes_of_its_8_bits(pipes: dict[str, tuple[Any, Any]]) -> None:
    """Of the 16 bits themselves diffusers makes white wherever they are above 255."""
    grey = draw_picture(41, 29, 3, "L")
    deep = PIL.Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    assert deep.mode == "I;16"
    compare(pipes["first"], deep, diffusers.utils.load_image(grey), num_inference_steps=1)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_path_s_picture_is_turned_as_diffusers_load_image_turns_it(
    orientation: int, pipes: dict[str, tuple[Any, Any]], tmp_path: Path
) -> None:
    file = tmp_path / "turned.jpg"
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    draw_picture(30, 70, 4).save(file, exif=exif)
    theirs = diffusers.utils.load_image(str(file))
    assert theirs.size == ((30, 70) if orientation in (6, 8) else (70, 30))
    for given in (str(file), file):
        compare(pipes["first"], given, theirs, num_inference_steps=1)


def test_arrays_are_taken_as_the_pictures_they_are(pipes: dict[str, tuple[Any, Any]]) -> None:
    picture = draw_picture(32, 48, 5)
    pixels = np.asarray(picture)
    film = compare(pipes["first"], pixels, picture, num_inference_steps=1)
    arguments = {**SMALL, "num_inference_steps": 1, "generator": 17}
    for given in (
        torch.from_numpy(pixels.copy()).permute(2, 0, 1),
        pixels[None],
        [picture],
        (pixels / np.float32(255)).astype(np.float32),
        torch.from_numpy(pixels / np.float32(255)).permute(2, 0, 1)[None],
        pixels / np.float32(127.5) - np.float32(1),
    ):
        assert np.abs(frames_of(pipes["first"][0], image=given, **arguments) - film).max() < 1e-5


@pytest.mark.parametrize("size", [(32, 48), (51, 37)])
@pytest.mark.parametrize("signed", [False, True])
def test_a_tensor_of_floats_is_brought_to_size_as_diffusers_does_it(
    size: tuple[int, int], signed: bool, pipes: dict[str, tuple[Any, Any]]
) -> None:
    values = torch.from_numpy(np.asarray(draw_picture(*size, 6)) / np.float32(255)).permute(2, 0, 1)[None]
    compare(pipes["experts"], 2 * values - 1 if signed else values, num_inference_steps=1)


def test_embeddings_of_the_still_may_be_given_with_it(pipes: dict[str, tuple[Any, Any]], folders: dict) -> None:
    """In diffusers they exclude each other, although the frames are needed in any case."""
    first, last, arguments = draw_picture(37, 53, 1), draw_picture(64, 30, 2), {**SMALL, "generator": 17}
    for kind, stills in (("first", {"image": first}), ("both", {"image": first, "last_image": last})):
        ours, theirs = pipes[kind]
        film = frames_of(ours, **stills, **arguments)
        embeds = ours.encode_image(list(stills.values()))
        reference = theirs.encode_image(list(stills.values())).detach()
        assert embeds.shape == reference.shape == (len(stills), 17, 36)
        assert np.abs(embeds - reference.numpy()).max() < 1e-4
        bare = open_pipeline(folders[kind], KIND, image_encoder=None, image_processor=None)
        for given in (embeds, torch.from_numpy(embeds)):
            assert np.array_equal(frames_of(bare, **stills, image_embeds=given, **arguments), film)
        assert np.abs(frames_of(bare, **stills, image_embeds=-embeds, **arguments) - film).max() > 1e-4
        assert "image_encoder" not in bare.report.components


def test_each_video_of_a_batch_is_the_one_that_it_is_alone(pipes: dict[str, tuple[Any, Any]]) -> None:
    """diffusers fails for several videos of a prompt, and takes one image only."""
    stills, seeds = [draw_picture(37, 53, 1), draw_picture(64, 30, 2)], [3, 4, 5, 6]
    arguments = {**SMALL, "num_inference_steps": 2}
    pipe = pipes["first"][0]
    whole = frames_of(
        pipe, image=stills, **{**arguments, "prompt": ["a", "b"]}, num_videos_per_prompt=2, generator=seeds
    )
    said_of_each = frames_of(
        pipe, image=stills, **{**arguments, "prompt": "a"}, num_videos_per_prompt=2, generator=seeds
    )
    cond, uncond = pipe.encode_prompt("a", max_sequence_length=512)
    embeds = {"prompt": None, "prompt_embeds": cond, "negative_prompt_embeds": uncond}
    embedded = frames_of(pipe, image=stills, **{**arguments, **embeds}, num_videos_per_prompt=2, generator=seeds)
    assert np.array_equal(embedded, said_of_each)
    for index, (still, prompt) in enumerate(zip([0, 0, 1, 1], "aabb", strict=True)):
        alone = {**arguments, "image": stills[still], "generator": seeds[index]}
        assert np.array_equal(whole[index], frames_of(pipe, **{**alone, "prompt": prompt})[0])
        assert np.array_equal(said_of_each[index], frames_of(pipe, **{**alone, "prompt": "a"})[0])


def test_another_sequence_length_gives_the_film_of_embeddings_of_that_length(
    pipes: dict[str, tuple[Any, Any]],
) -> None:
    """diffusers splits text from image at 512 rows, whatever the length."""
    pipe, still = pipes["first"][0], draw_picture(37, 53, 1)
    cond, uncond = pipe.encode_prompt("a red star", max_sequence_length=19)
    arguments = {**SMALL, "image": still, "generator": 17}
    short = frames_of(pipe, **arguments, max_sequence_length=19)
    embeds = {"prompt_embeds": cond, "negative_prompt_embeds": uncond}
    assert np.array_equal(frames_of(pipe, **{**arguments, "prompt": None}, **embeds), short)
    images = pipe.encode_image(still)
    velocity = pipe.transformer(np.ones((1, 12, 2, 4, 6), np.float32), 500.0, cond, images).sample
    reference = pipes["first"][1].transformer
    padded = torch.zeros(1, 512, 36)
    padded[:, :19] = torch.from_numpy(cond)
    with torch.no_grad():
        wrong = reference(torch.ones(1, 12, 2, 4, 6), torch.tensor([500.0]), padded, torch.from_numpy(images)).sample
    assert np.abs(velocity - wrong.numpy()).max() > 1e-4, "19 rows are not 512: padding takes its share of attention"


def test_latents_handed_in_are_the_noise(pipes: dict[str, tuple[Any, Any]]) -> None:
    latents = torch.randn(1, 4, 2, 4, 6, generator=torch.Generator().manual_seed(1))
    film = compare(pipes["first"], draw_picture(37, 53, 1), latents=latents, num_inference_steps=2)
    other = frames_of(pipes["first"][0], image=draw_picture(37, 53, 1), generator=17, **SMALL)
    assert np.abs(film - other).max() > 1e-3
