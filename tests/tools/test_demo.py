"""The checkpoints in the package must be what the tools made, and the demo must show them what they know."""

import os
import re
import subprocess
import sys
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from measure import measure
from PIL import Image

import wanoffload
from wanoffload.cli.still import draw_still, open_still

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = {"height": 96, "width": 96, "num_frames": 17}


@pytest.fixture(scope="session")
def image_model(demo_model: Path) -> Path:
    """The checkpoint for image to video."""
    return demo_model.with_name("demo_model_i2v")


def run(folder: Path, *arguments: str, code: int = 0) -> str:
    environment = {**os.environ, "PYTHONPATH": str(Path(wanoffload.__file__).parents[1])}
    words = [sys.executable, "-m", "wanoffload", "demo", *arguments]
    done = subprocess.run(words, capture_output=True, text=True, cwd=folder, env=environment)
    assert done.returncode == code and "Traceback" not in done.stderr, done.stdout + done.stderr
    return done.stderr if code else done.stdout


def test_the_drawn_still_is_something_that_the_model_does_not_know() -> None:
    frame = np.asarray(draw_still(96), np.float32) / 255
    seen = measure(frame[None])
    assert (seen.colour, seen.shape, seen.background) == ("blue", "heart", "sky")
    assert seen.overlap > 0.9


def test_a_still_is_turned_squeezed_or_not_cut_in_its_middle(tmp_path: Path) -> None:
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, 20:60] = (200, 100, 50)
    pixels[:20, 20:60] = (50, 100, 200)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(pixels[::-1, ::-1]).save(tmp_path / "a.png", exif=exif)
    found = np.asarray(open_still(str(tmp_path / "a.png"), 40))
    assert np.array_equal(found, pixels[:, 20:60])


def test_a_file_that_is_no_picture_makes_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "letter.png").write_text("dear")
    assert "no picture" in run(tmp_path, "--image", "letter.png", code=1)
    assert "nothing.png" in run(tmp_path, "--image", "nothing.png", code=1)


def test_demo_animates_another_still_or_depends_on_offloading(tmp_path: Path) -> None:
    text = run(tmp_path, "--image", "--steps", "2", "-o", "film.npy")
    assert "image_encoder" in text
    film = np.load(tmp_path / "film.npy")
    assert film.shape == (17, 96, 96, 3)
    draw_still(96).save(tmp_path / "still.png")
    more = run(
        tmp_path, "--image", "still.png", "--steps", "2", "-o", "b.npy", "--offload", "leaf", "--stream", "--disk"
    )
    digest = re.search(r"SHA-256 of the frames: ([0-9a-f]{64})", text)[1]
    assert digest in more
    assert digest not in run(tmp_path, "it falls", "--image", "--steps", "2", "-o", "c.npy")


def test_the_film_of_a_still_differs_from_that_of_diffusers(image_model: Path) -> None:
    call = {"prompt": "the shape slides to the right", "image": draw_still(96), "num_inference_steps": 2, **SIZE}
    pipe = wanoffload.WanImageToVideoPipeline.from_pretrained(image_model)
    pipe.set_progress_bar_config(disable=True)
    found = pipe(generator=3, **call).frames
    peer = diffusers.WanImageToVideoPipeline.from_pretrained(image_model, dtype=torch.float32)
    peer.set_progress_bar_config(disable=True)
    wanted = peer(generator=torch.Generator("cpu").manual_seed(3), output_type="np", **call).frames
    assert found.shape == wanted.shape and np.abs(found - wanted).max() < 1e-3


def test_both_checkpoints_have_files_of_their_own_where_they_share(demo_model: Path, image_model: Path) -> None:
    for part in ("vae", "text_encoder", "tokenizer", "scheduler"):
        for file in (demo_model / part).iterdir():
            assert (image_model / part / file.name).read_bytes() == file.read_bytes(), file.name


def test_the_package_becomes_larger_than_promised(demo_model: Path, image_model: Path) -> None:
    weights = [file for folder in (demo_model, image_model) for file in folder.rglob("*.safetensors")]
    assert len(weights) == 7 and sum(file.stat().st_size for file in weights) <= 30e6
