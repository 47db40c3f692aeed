"""The command line with stills and films: which pipeline it picks, the sizes it asks for, what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from pipeline.helpers import (
    draw_picture,
    frames_of,
    open_pipeline,
    write_expert_pipeline,
    write_image_pipeline,
)

from wanoffload.pipelines import choice
from wanoffload.utils import load_video

VIDEO = ["--prompt", "a red star", "--steps", "2", "--seed", "5", "-q"]
CALL = {"prompt": "a red star", "num_inference_steps": 2, "generator": 5}
SMALL = ["--height", "32", "--width", "48"]


@pytest.fixture(scope="module")
def folder(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_pipeline(tmp_path_factory.mktemp("cli") / "i2v", demo_model, 1, num_layers=1)


def save_film(file: Path, frames: int) -> Path:
    film = [draw_picture(37, 53, seed) for seed in range(frames)]
    film[0].save(file, save_all=True, append_images=film[1:], duration=100)
    return file


def test_a_still_picks_image_to_video(run, folder: Path, tmp_path: Path) -> None:
    draw_picture(37, 53, 1).save(tmp_path / "still.png")
    run("generate", folder, "--image", "still.png", *SMALL, "--frames", "5", *VIDEO, "-o", "film.npy")
    arguments = {**CALL, "image": tmp_path / "still.png", "height": 32, "width": 48, "num_frames": 5}
    expected = frames_of(open_pipeline(folder, "WanImageToVideoPipeline"), **arguments)
    assert np.array_equal(np.load(tmp_path / "film.npy"), expected[0])
    again = ["--offload", "leaf", "--stream", "--disk", "--flow-shift", "3"]
    run("generate", folder, "--image", "still.png", *SMALL, "--frames", "5", *VIDEO, *again, "-o", "again.npy")
    assert (tmp_path / "film.npy").read_bytes() == (tmp_path / "again.npy").read_bytes()


def test_two_stills_pick_first_and_last_frame(run, demo_model: Path, tmp_path: Path) -> None:
    folder = write_image_pipeline(tmp_path / "flf2v", demo_model, 2, "both", num_layers=1)
    for index in (1, 2):
        draw_picture(37, 53, index).save(tmp_path / f"{index}.png")
    words = ["--image", "1.png", "--last-image", "2.png", *SMALL, "--frames", "5"]
    run("generate", folder, *words, *VIDEO, "-o", "film.npy")
    stills = {"image": tmp_path / "1.png", "last_image": tmp_path / "2.png"}
    arguments = {**CALL, **stills, "height": 32, "width": 48, "num_frames": 5}
    expected = frames_of(open_pipeline(folder, "WanImageToVideoPipeline"), **arguments)
    assert np.array_equal(np.load(tmp_path / "film.npy"), expected[0])


def test_a_film_picks_video_to_video_and_is_used_whole_or_as_far_as_asked(
    run, demo_model: Path, tmp_path: Path
) -> None:
    file = save_film(tmp_path / "in.gif", 9)
    pipe = open_pipeline(demo_model, "WanVideoToVideoPipeline")
    for words, count, strength in (([], 9, 0.8), (["--frames", "5", "--strength", "0.5"], 5, 0.5)):
        run("generate", demo_model, "--video", file, *SMALL, *words, *VIDEO, "-o", "film.npy")
        arguments = {**CALL, "video": load_video(file)[:count], "height": 32, "width": 48, "strength": strength}
        assert np.array_equal(np.load(tmp_path / "film.npy"), frames_of(pipe, **arguments)[0])
    plan = json.loads(run("plan", demo_model, "--video", file, *SMALL, "--json"))
    assert "48x32, 9 frames" in plan["what"] and "vae encoder" in plan["components"]
    refused = (("13", "has 9 frames, but --frames asks for 13"), ("-5", "`--frames` has to be at least 1"))
    for wanted, message in refused:
        assert message in run("generate", demo_model, "--video", file, "--frames", wanted, *VIDEO, code=1)


def test_two_experts_take_a_guidance_each(run, demo_model: Path, tmp_path: Path) -> None:
    folder = write_expert_pipeline(tmp_path / "a14b", demo_model, 3, 0.95, num_layers=1)
    words = [*SMALL, "--frames", "1", *VIDEO, "--guidance", "4", "--guidance-2", "2"]
    run("generate", folder, *words, "-o", "film.npy")
    arguments = {**CALL, "height": 32, "width": 48, "num_frames": 1, "guidance_scale": 4.0, "guidance_scale_2": 2.0}
    assert np.array_equal(np.load(tmp_path / "film.npy"), frames_of(open_pipeline(folder), **arguments)[0])
    size = [*SMALL, "--frames", "1", "--json"]
    for steps, experts in (("1", {"transformer"}), ("9", {"transformer", "transformer_2"})):
        plan = json.loads(run("plan", folder, *size, "--steps", steps))
        assert {name for name in plan["components"] if "transformer" in name} == experts
    assert "flow_shift='auto' is 12" in run("plan", folder, *SMALL, "--flow-shift", "auto")


@pytest.mark.parametrize(
    ("name", "kind", "picture", "size"),
    [
        ("i2v", "first", (480, 832), (480, 832)),
        ("i2v", "first", (1000, 1000), (624, 624)),
        ("i2v", "first", (300, 900), (352, 1088)),
        ("Wan2.1-I2V-14B-720P", "first", (720, 1280), (720, 1280)),
        ("Wan2.1-I2V-14B-720P", "first", (777, 555), (1136, 800)),
        ("flf2v", "both", (600, 800), (816, 1104)),
    ],
)
def test_sizes_are_the_still_s_aspect_at_the_model_s_area(
    name: str, kind: str, picture: tuple[int, int], size: tuple[int, int], demo_model: Path, tmp_path: Path
) -> None:
    pipe = open_pipeline(
        write_image_pipeline(tmp_path / name, demo_model, 1, kind, num_layers=1), "WanImageToVideoPipeline"
    )
    assert choice.size_for(pipe, *picture) == size


def test_a_snapshot_s_folder_gives_the_size_of_the_model_it_lies_in(
    demo_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Hub's cache keeps a model in models--owner--name/snapshots/<hash>."""
    folder = tmp_path / "models--Wan-AI--Wan2.1-I2V-14B-720P-Diffusers" / "snapshots" / "0123abcd"
    pipe = open_pipeline(write_image_pipeline(folder, demo_model, 1, num_layers=1), "WanImageToVideoPipeline")
    assert choice.size_for(pipe, 720, 1280) == (720, 1280)
    monkeypatch.chdir(folder)
    pipe = open_pipeline(Path("."), "WanImageToVideoPipeline")
    assert choice.size_for(pipe, 720, 1280) == (720, 1280)
    (tmp_path / "720p" / "480p").mkdir(parents=True)
    folder = write_image_pipeline(tmp_path / "720p" / "480p" / "i2v", demo_model, 1, num_layers=1)
    pipe = open_pipeline(folder, "WanImageToVideoPipeline")
    assert choice.size_for(pipe, 480, 832) == (480, 832), "the nearest name counts"


def test_plan_needs_no_still_and_says_the_size_that_one_asks_for(run, folder: Path, tmp_path: Path) -> None:
    text = run("plan", folder, "--frames", "5")
    assert "832x480, 5 frames" in text and "vae encoder" in text and "image_encoder" in text
    draw_picture(100, 100).save(tmp_path / "square.png")
    assert "624x624, 5 frames" in run("plan", folder, "--frames", "5", "--image", "square.png")
    draw_picture(100, 200).save(tmp_path / "wide.png")
    wide = ["plan", folder, "--frames", "5", "--image", "wide.png"]
    assert "832x416, 5 frames" in run(*wide, "--width", "832"), "the other side follows from the still's aspect"
    assert "624x304, 5 frames" in run(*wide, "--height", "304", "--width", "624")
    assert "608x304, 5 frames" in run(*wide, "--height", "304")
    assert "`height` has to be at least 1 but is 0" in run(*wide, "--height", "0", "--width", "32", code=1)


def test_what_does_not_go_together_returns_2(run, folder: Path, demo_model: Path) -> None:
    for words, message in (
        (["--image", "a.png", "--video", "b.mp4"], "do not go together"),
        (["--last-image", "a.png"], "--last-image takes effect with --image only"),
        (["--strength", "0.5"], "--strength takes effect with --video only"),
        (["--video", "b.mp4", "--guidance-2", "3"], "--guidance-2 takes effect with two experts"),
        (["--flow-shift", "fast"], "has to be a number or 'auto'"),
    ):
        assert message in run("generate", demo_model, *VIDEO, *words, code=2)


def test_a_checkpoint_of_another_kind_says_what_it_takes(
    run, folder: Path, demo_model: Path, tmp_path: Path
) -> None:
    draw_picture(20, 20).save(tmp_path / "still.png")
    save_film(tmp_path / "in.gif", 5)
    assert "image-to-video checkpoint. Give the still" in run("generate", folder, *VIDEO, code=1)
    assert "takes no still" in run("generate", demo_model, "--image", "still.png", *VIDEO, code=1)
    assert "image-to-video checkpoint" in run("generate", folder, "--video", "in.gif", *VIDEO, code=1)
    assert "missing.png is not a valid path" in run("generate", folder, "--image", "missing.png", *VIDEO, code=1)
    assert "in.gif (`--image`) is animated" in run("generate", folder, "--image", "in.gif", *VIDEO, code=1)


def test_inspect_lists_every_network_that_the_index_names(run, folder: Path) -> None:
    text = run("inspect", folder)
    for word in ("image_encoder: CLIPVisionModel", "transformer: WanTransformer3DModel", "vae: AutoencoderKLWan"):
        assert word in text
    assert "transformer_2" not in text
