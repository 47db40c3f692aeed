"""Video to video: whole runs against diffusers, live, and what is refused."""

import re
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
    write_pipeline,
)

import wanoffload
from wanoffload import PlanError, WanVideoToVideoPipeline
from wanoffload.pipelines.checks import check_strength

KIND = "WanVideoToVideoPipeline"
SMALL: dict[str, Any] = {"prompt": "a red star", "height": 32, "width": 48, "num_inference_steps": 4}


@pytest.fixture(scope="module")
def folder(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pipeline(tmp_path_factory.mktemp("v2v"), demo_model, 7, num_layers=1)


@pytest.fixture(scope="module")
def pipes(folder: Path) -> tuple[Any, Any]:
    return open_pipeline(folder, KIND), open_reference(folder, KIND)


def film_of(frames: int, height: int = 37, width: int = 53, seed: int = 0) -> list[PIL.Image.Image]:
    return [draw_picture(height, width, seed + index) for index in range(frames)]


def compare(pipes: tuple[Any, Any], video: Any, **arguments: Any) -> np.ndarray:
    arguments = {**SMALL, "video": video, **arguments}
    frames = frames_of(pipes[0], generator=17, **arguments)
    assert_same_film(frames, frames_of(pipes[1], generator=torch.Generator("cpu").manual_seed(17), **arguments))
    return frames


@pytest.mark.parametrize("strength", [0.26, 0.5, 0.8, 1.0])
def test_films_made_over_again_match_diffusers(strength: float, pipes: tuple[Any, Any]) -> None:
    compare(pipes, film_of(5), strength=strength)
    assert pipes[0].num_timesteps == pipes[0].report.steps == min(int(4 * strength), 4)


CASES = {
    "nine frames": (film_of(9), dict(num_inference_steps=3, negative_prompt="blue")),
    "one frame, no guidance": (film_of(1), dict(guidance_scale=1.0)),
    "frames left over": (film_of(8), dict(num_inference_steps=2)),
    "one film, two prompts": (film_of(5), dict(prompt=["a red star", "ein Kreis"], num_inference_steps=3)),
    "two films": ([film_of(5), film_of(5, seed=9)], dict(prompt=["a", "b"], num_inference_steps=3)),
    "an array": (np.stack([np.asarray(one) / np.float32(255) for one in film_of(5)]), dict(num_inference_steps=3)),
    "an array of size, -1 to 1": (
        np.stack([np.asarray(one) / np.float32(127.5) - np.float32(1) for one in film_of(5, 32, 48)])[None],
        dict(num_inference_steps=3),
    ),
    "a tensor": (
        torch.stack([torch.from_numpy(np.asarray(one) / np.float32(255)).permute(2, 0, 1) for one in film_of(5)]),
        dict(num_inference_steps=3),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_films_in_every_form_match_diffusers(name: str, pipes: tuple[Any, Any]) -> None:
    video, arguments = CASES[name]
    compare(pipes, video, **arguments)


def test_the_euler_scheduler_scales_noise_as_in_diffusers(pipes: tuple[Any, Any]) -> None:
    before = [pipe.scheduler for pipe in pipes]
    try:
        for pipe, library in zip(pipes, (wanoffload, diffusers), strict=True):
            pipe.scheduler = library.FlowMatchEulerDiscreteScheduler(shift=3.0)
        compare(pipes, film_of(5))
    finally:
        for pipe, one in zip(pipes, before, strict=True):
            pipe.scheduler = one


def test_the_demo_s_checkpoint_makes_over_a_film_as_in_diffusers(demo_model: Path) -> None:
    size = {"height": 48, "width": 48, "num_frames": 9}
    prompt = "a red triangle gets bigger on a light blue background."
    film = frames_of(open_pipeline(demo_model), prompt, num_inference_steps=4, generator=1, **size)[0]
    pair = (open_pipeline(demo_model, KIND), open_reference(demo_model, KIND))
    pictures = [PIL.Image.fromarray((frame * 255).astype(np.uint8)) for frame in film]
    made_over = compare(pair, pictures, prompt=prompt.replace("red", "blue"), height=48, width=48, strength=0.6)
    assert np.abs(made_over - film).max() > 0.05


def test_a_path_is_the_film_that_is_in_it(pipes: tuple[Any, Any], tmp_path: Path) -> None:
    from wanoffload.utils import export_to_video, load_video

    file = export_to_video([np.asarray(one) for one in film_of(5, 48, 64)], tmp_path / "in.mp4", fps=8)
    expected = frames_of(pipes[0], video=load_video(file), generator=3, **SMALL)
    for given in (file, Path(file), [file]):
        assert np.array_equal(frames_of(pipes[0], video=given, generator=3, **SMALL), expected)


def test_each_video_of_a_batch_is_the_one_that_it_is_alone(pipes: tuple[Any, Any]) -> None:
    """diffusers takes num_videos_per_prompt and makes one."""
    films = [film_of(5), film_of(5, seed=9)]
    arguments = {**SMALL, "prompt": ["a", "b"], "num_inference_steps": 2}
    whole = frames_of(pipes[0], video=films, num_videos_per_prompt=2, generator=[3, 4, 5, 6], **arguments)
    for index in range(4):
        alone = {**arguments, "video": films[index // 2], "prompt": "ab"[index // 2], "generator": index + 3}
        assert np.array_equal(whole[index], frames_of(pipes[0], **alone)[0])


def test_no_way_of_offloading_changes_a_bit_and_the_smallest_budget_holds(folder: Path) -> None:
    pipe, arguments = open_pipeline(folder, KIND), {**SMALL, "video": film_of(5), "generator": 3}
    film = frames_of(pipe, **arguments)
    for settings in (
        {"offload_type": "leaf_level", "use_stream": True},
        {"offload_type": "leaf_level", "use_stream": True, "offload_device": "disk"},
        {"offload_type": "block_level", "num_blocks_per_group": 1},
    ):
        pipe.enable_group_offload("cpu", **settings)
        assert np.array_equal(frames_of(pipe, **arguments), film), settings
        assert pipe.report.components["vae encoder"].bytes_moved > 0
    pipe.enable_auto_offload(vram=1, ram=1)
    with pytest.raises(PlanError) as caught:
        pipe(**arguments)
    pipe.enable_auto_offload(**caught.value.needed)
    plan = pipe.plan(film_of(5), "a red star", height=32, width=48)
    assert list(plan.components) == ["text_encoder", "vae encoder", "transformer", "vae"]
    assert np.array_equal(frames_of(pipe, **arguments), film)
    assert pipe.report.ram_peak <= caught.value.needed["ram"]


def test_latents_handed_in_are_where_sampling_starts(pipes: tuple[Any, Any]) -> None:
    """diffusers reads the number of latent frames from the wrong axis, but uses the latents as they are."""
    latents = torch.randn(1, 4, 2, 4, 6, generator=torch.Generator().manual_seed(1))
    film = compare(pipes, None, latents=latents, strength=0.5)
    assert film.shape == (1, 5, 32, 48, 3) and "vae encoder" not in pipes[0].report.components


WRONG = {
    "neither": ({"video": None}, ValueError, "Provide `video`"),
    "both": ({"latents": np.ones((1, 4, 2, 4, 6), "f")}, ValueError, "Only one of `video` or `latents`"),
    "timesteps": ({"timesteps": [999, 500]}, ValueError, "`timesteps` cannot take effect.*pipe.scheduler"),
    "no strength": ({"strength": 0.0}, ValueError, "`strength` has to be above 0"),
    "too much strength": ({"strength": 1.5}, ValueError, "`strength` has to be above 0 and at most 1"),
    "strength nan": ({"strength": float("nan")}, ValueError, "`strength`"),
    "strength no number": ({"strength": "0.5"}, TypeError, "`strength` has to be a number"),
    "strength too small for the steps": ({"strength": 0.2}, ValueError, "leaves none of 4 steps. Give at least 0.25"),
    "too few frames": ({"video": film_of(4)}, ValueError, "`video` has 4 frames.*Give 5 or more, or exactly 1"),
    "no frames": ({"video": []}, ValueError, "`video` has no frames"),
    "no frames in an array": ({"video": np.ones((0, 8, 8, 3), "f")}, ValueError, "`video` has no frames"),
    "one picture": ({"video": np.ones((8, 8, 3), "f")}, ValueError, r"`video` has to be a film \[frames"),
    "a picture": ({"video": draw_picture(8, 8)}, TypeError, "`video` has to be a path, a list of images"),
    "no picture in the list": ({"video": [draw_picture(8, 8), 3]}, TypeError, r"`video\[1\]` has to be a PIL image"),
    "channels": ({"video": np.ones((5, 8, 8, 2), "f")}, ValueError, "`video`.*1, 3 or 4 channels"),
    "too bright": ({"video": np.full((5, 8, 8, 3), 255.0, "f")}, ValueError, "`video` has values from 255 to 255"),
    "lengths differ": ({"video": [film_of(5), film_of(9)]}, ValueError, "films of 5 and of 9 frames"),
    "too many films": ({"video": [film_of(1)] * 3, "prompt": ["a", "b"]}, ValueError, "`video` holds 3, but there are"),
    "missing": ({"video": "nowhere.mp4"}, ValueError, "nowhere.mp4 is not a valid path"),
    "latents of another rank": ({"video": None, "latents": np.ones((4, 2, 4, 6), "f")}, ValueError, "`latents`"),
    "latents of another size": (
        {"video": None, "latents": np.ones((1, 4, 2, 4, 4), "f")},
        ValueError,
        r"`latents` has to be of shape \[1, 4, 2, 4, 6\]",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_is_named_before_any_work(name: str, folder: Path) -> None:
    changes, error, message = WRONG[name]
    pipe = open_pipeline(folder, KIND)
    with pytest.raises(error, match=message):
        pipe(**{**SMALL, "video": film_of(1), **changes})
    assert pipe.report is None


def test_the_strength_that_is_advised_leaves_a_step() -> None:
    for steps in range(1, 51):
        with pytest.raises(ValueError, match=f"none of {steps} steps") as caught:
            check_strength(0.5 / steps, steps)
        advised = float(re.search(r"at least ([0-9.]+), or", str(caught.value)).group(1))
        assert check_strength(advised, steps) == steps - 1


def test_a_damaged_film_is_named(pipes: tuple[WanVideoToVideoPipeline, Any], tmp_path: Path) -> None:
    file = tmp_path / "broken.mp4"
    file.write_bytes(b"\x00\x00\x00\x18ftypmp42" + b"\x00" * 100)
    with pytest.raises(ValueError, match="broken.mp4 is not a video that can be read.*another file"):
        pipes[0](**SMALL, video=file)
