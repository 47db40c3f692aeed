"""The whole text-to-video pipeline on the fake card: the film of the cpu device, the same bits under every way of
offloading, and clean errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_card import FakeCard
from pipeline.helpers import draw_picture, write_image_pipeline, write_pipeline

CALL = {"height": 16, "width": 16, "num_frames": 5, "num_inference_steps": 2, "generator": 5}
WAYS: list[dict[str, Any] | None] = [None]
for level in ({"offload_type": "block_level", "num_blocks_per_group": 1}, {"offload_type": "leaf_level"}):
    for rest in ("cpu", "disk"):
        WAYS += [{**level, "offload_device": rest, "use_stream": stream} for stream in (False, True)]
WAYS.append({"budget": {"vram": "8MiB"}})

# Of the device's float32 against the cpu's: both sum in float32, in other orders. A bfloat16 film is no further from
# the float32 one than the cpu's, to a factor for chance.
WORST = 1e-4


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, demo_model: Path) -> Path:
    return write_pipeline(tmp_path_factory.mktemp("film") / "random", demo_model, seed=3)


def films(card: FakeCard, folder: Path, task: dict[str, Any], **environment: object) -> np.ndarray:
    """The films of one process, which must have left nothing on the card."""
    frames = folder / "films.npy"
    result = card.work({"call": CALL, "frames": str(frames), **task}, **environment)
    assert "error" not in result, result
    seen = result.get("card")
    assert seen is None or (seen["misuses"] == 0 and seen["live"] == {} and seen["launches"] > 100), seen
    return np.load(frames)


@pytest.fixture(scope="module")
def resident(built_card: FakeCard, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """The film by dtype, everything on the fake card."""
    folder = tmp_path_factory.mktemp("resident")
    task = {"checkpoint": str(checkpoint), "device": "cuda", "runs": [None]}
    return {dtype: films(built_card, folder, {**task, "dtype": dtype})[0] for dtype in ("float32", "bfloat16")}


@pytest.fixture(scope="module")
def on_cpu(built_card: FakeCard, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    folder = tmp_path_factory.mktemp("cpu")
    task = {"checkpoint": str(checkpoint), "device": "cpu", "runs": [None]}
    return {dtype: films(built_card, folder, {**task, "dtype": dtype})[0] for dtype in ("float32", "bfloat16")}


def test_the_film_is_that_of_the_cpu_device(resident: dict[str, np.ndarray], on_cpu: dict[str, np.ndarray]) -> None:
    film, expected = resident["float32"], on_cpu["float32"]
    assert film.shape == expected.shape and film.std() > 0.01
    assert np.abs(film - expected).max() <= WORST


def test_bfloat16_is_as_near_to_float32_as_on_the_cpu(
    resident: dict[str, np.ndarray], on_cpu: dict[str, np.ndarray]
) -> None:
    def distance(film: np.ndarray) -> float:
        return float(np.sqrt(np.mean((film - on_cpu["float32"]) ** 2)))

    assert 0 < distance(resident["bfloat16"]) <= 2 * distance(on_cpu["bfloat16"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_way_of_offloading_gives_the_same_bits(
    built_card: FakeCard, checkpoint: Path, resident: dict[str, np.ndarray], tmp_path: Path, dtype: str
) -> None:
    task = {"checkpoint": str(checkpoint), "device": "cuda", "dtype": dtype, "runs": WAYS}
    for number, film in enumerate(films(built_card, tmp_path, task)):
        assert np.array_equal(film, resident[dtype]), WAYS[number]


def test_float16_throughout_is_nearer_to_float32_than_bfloat16_and_the_same_when_offloaded(
    built_card: FakeCard, demo_model: Path, tmp_path: Path
) -> None:
    """Transformer, image encoder and both halves of the VAE. What float16 operands lose is the distance from the film
    of the same weights on the cpu, where operands are float32."""
    write_image_pipeline(tmp_path / "model", demo_model, seed=4)
    draw_picture(20, 30).save(tmp_path / "still.png")
    call = {**CALL, "num_inference_steps": 1}
    task = {"checkpoint": str(tmp_path / "model"), "image": str(tmp_path / "still.png"), "call": call, "runs": [None]}

    def made(device: str, dtype: str, **more: Any) -> np.ndarray:
        held = dict.fromkeys(("default", "vae", "image_encoder"), dtype)
        return films(built_card, tmp_path, {**task, "device": device, "dtype": held, **more})

    def distance(film: np.ndarray, other: np.ndarray) -> float:
        return float(np.sqrt(np.mean((film - other) ** 2)))

    resident, streamed = made("cuda", "float16", runs=[None, WAYS[-2]])
    assert np.array_equal(streamed, resident)
    (expected,), (rough,), (exact,) = made("cpu", "float16"), made("cuda", "bfloat16"), made("cpu", "float32")
    assert WORST / 10 < distance(resident, expected) <= distance(rough, exact) / 4, "less is that of float32 operands"


def test_delays_and_schedules_change_no_bit(
    built_card: FakeCard, checkpoint: Path, resident: dict[str, np.ndarray], tmp_path: Path
) -> None:
    task = {"checkpoint": str(checkpoint), "device": "cuda", "dtype": "bfloat16", "runs": WAYS[3:6]}
    found = films(built_card, tmp_path, task, FAKECUDA_SEED=7, FAKECUDA_DELAY=2e-4, FAKECUDA_PAGEABLE="async")
    for number, film in enumerate(found):
        assert np.array_equal(film, resident["bfloat16"]), WAYS[3 + number]


def test_offloading_changes_a_film_whose_matrices_a_library_multiplies(
    built_card: FakeCard, demo_model: Path, tmp_path: Path
) -> None:
    """In chunks of rows and in full, with workspace from the plan; on the demo, whose sizes a library takes."""
    frames = tmp_path / "films.npy"
    ways = [None, WAYS[-2], WAYS[2], {"budget": {"vram": "12MiB"}}]
    call = {**CALL, "num_frames": 1, "num_inference_steps": 1}
    task = {"checkpoint": str(demo_model), "device": "cuda", "dtype": "bfloat16", "runs": ways, "call": call}
    libraries = str(built_card.out / "fakecuda")
    result = built_card.work({**task, "frames": str(frames), "libraries": libraries})
    assert "error" not in result and result["products"] > 100, result
    assert result["card"]["misuses"] == 0 and result["card"]["live"] == {}
    resident, *others = np.load(frames)
    for way, film in zip(ways[1:], others, strict=True):
        assert np.array_equal(film, resident), way
    own = built_card.work({**task, "runs": [None], "frames": str(frames)})
    assert "error" not in own and 0 < np.abs(np.load(frames)[0] - resident).max() < 0.1


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        ({"symbol": "cuMemAlloc_v2", "n": 1, "result": 2, "sticky": False}, "OutOfMemoryError", "vram"),
        ({"symbol": "cuLaunchKernel", "n": 150, "result": 719, "sticky": True}, "DeviceError", "start a new"),
        ({"symbol": "cuMemHostRegister_v2", "n": 1, "result": 2, "sticky": False}, "OutOfMemoryError", "pin"),
    ],
    ids=["no memory", "a launch fails", "nothing can be pinned"],
)
def test_a_fault_is_an_error_that_says_what_to_do(
    built_card: FakeCard, checkpoint: Path, tmp_path: Path, fault: dict[str, Any], error: str, says: str
) -> None:
    task = {"checkpoint": str(checkpoint), "device": "cuda", "runs": WAYS[-2:-1], "fault": fault, "call": CALL}
    result = built_card.work({**task, "frames": str(tmp_path / "films.npy")})
    assert result["error"][0] == error and says in result["error"][1], result
    assert result["card"]["live"] == {}


def test_the_ptx_for_the_newest_cards_makes_the_same_film(
    built_card: FakeCard, checkpoint: Path, resident: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """Nearly: where a compiler fuses a product and a sum is its choice."""
    task = {"checkpoint": str(checkpoint), "device": "cuda", "runs": [None]}
    (film,) = films(built_card, tmp_path, task, FAKECUDA_TARGET=120)
    assert np.abs(film - resident["float32"]).max() <= WORST
