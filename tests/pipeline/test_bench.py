"""The comparison: every row runs as its name says, a different film is told, figures are the report's."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pipeline.helpers import (
    copy_checkpoint,
    draw_picture,
    edit_json,
    open_pipeline,
    write_expert_pipeline,
    write_image_pipeline,
)

import wanoffload
from wanoffload import _core, comparison
from wanoffload.comparison import OFFLOADS, Row

CALL = dict(height=32, width=48, num_frames=5, num_inference_steps=3, seed=5)


@pytest.fixture(scope="module")
def found(demo_model: Path) -> wanoffload.Comparison:
    """All rows, on the demo's model."""
    before = _core.host_memory()["current"]
    said: list[str] = []
    result = wanoffload.bench(
        demo_model, "a red star", **CALL, vram="12MiB", flow_shifts=(5.0,), progress=lambda row: said.append(row.name)
    )
    assert said == [row.name for row in result.rows]
    assert _core.host_memory()["current"] - before < 1 << 20, "a row's memory was not given back"
    return result


def test_a_way_of_offloading_is_left_out_or_makes_another_film(found) -> None:
    rows = [row for row in found.rows if row.kind == "offload"]
    assert [row.name for row in rows] == list(OFFLOADS) and found.ok
    assert all(row.equal and row.error is None for row in rows)
    assert len({row.sha256 for row in rows}) == 1 and len(rows[0].sha256) == 64


def test_a_row_does_not_run_as_it_is_called(found, demo_model) -> None:
    moved = {name: found.row(name).bytes_moved for name in OFFLOADS}
    assert moved["resident"] == 0
    assert moved["block"] == moved["block+stream"] > 0
    assert moved["leaf"] == moved["leaf+stream"] == moved["disk"] > 0
    peak = {name: found.row(name).vram_peak for name in OFFLOADS}
    assert peak["leaf"] < peak["block"] < peak["resident"]
    assert found.row("disk").ram_peak < found.row("leaf+stream").ram_peak
    assert 0 < found.row("auto").vram_plan <= 12 << 20
    for row in found.rows:
        assert 0 < row.seconds_per_step < row.seconds and row.stall_per_step >= 0
        assert 0 < row.vram_peak <= row.vram_plan
        assert 0.9 * row.ram_plan < row.ram_peak <= row.ram_plan


def test_a_rows_memory_counts_what_another_pipeline_holds(found, demo_model) -> None:
    """The peak is that of the process; the row's is what its own call took."""
    other = open_pipeline(demo_model)
    other("a red star", height=32, width=48, num_frames=5, num_inference_steps=1)
    held = _core.host_memory()["current"]
    rows = dict(offloads=["disk", "resident"], dtypes=(), flow_shifts=())
    alone = wanoffload.bench(demo_model, "a red star", **CALL, **rows)
    assert held > found.row("resident").vram_peak, "the other pipeline keeps its weights"
    for row in alone.rows:
        assert abs(row.ram_peak - found.row(row.name).ram_peak) < 1 << 16 and row.ram_peak <= row.ram_plan


def test_the_films_of_other_dtypes_and_shifts_are_not_what_a_pipeline_makes(found, demo_model) -> None:
    arguments = {k: v for k, v in CALL.items() if k != "seed"} | {"generator": CALL["seed"]}

    def film(dtype: str = "float32", shift: float | None = None) -> np.ndarray:
        pipe = wanoffload.WanPipeline.from_pretrained(demo_model, dtype=dtype)
        pipe.set_progress_bar_config(disable=True)
        if shift is not None:
            pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, flow_shift=shift)
        return pipe("a red star", **arguments).frames

    reference, half = film(), film("bfloat16")
    assert [row.name for row in found.rows if row.kind == "dtype"] == ["float32", "bfloat16"]
    exact, rough = found.row("float32"), found.row("bfloat16")
    assert math.isinf(exact.psnr) and exact.max_error == 0 and rough.dtype == "bfloat16"
    difference = half.astype(float) - reference
    assert rough.psnr == pytest.approx(10 * math.log10(1 / np.mean(difference**2)))
    assert rough.max_error == pytest.approx(np.abs(difference).max())
    assert rough.sha256 == comparison.hashlib.sha256(half.tobytes()).hexdigest()
    own, other = found.row("flow_shift 3 (the model's)"), found.row("flow_shift 5")
    assert own.sha256 == found.rows[0].sha256
    assert other.sha256 == comparison.hashlib.sha256(film(shift=5.0).tobytes()).hexdigest() != own.sha256
    assert own.strip.shape == other.strip.shape == (32, 5 * 48, 3)
    assert np.array_equal(own.strip[:, :48], np.rint(reference[0, 0] * 255).astype(np.uint8))


def test_the_table_hides_a_different_film(found, tmp_path) -> None:
    text = str(found)
    for word in ("leaf+stream", "equal", "32", "flow_shift 5", "dB", found.rows[0].sha256[:12]):
        assert word in text
    assert "DIFFERENT" not in text and "\033[31m" not in found.text(colour=True)
    wrong = wanoffload.Comparison(found.what, [*found.rows, Row("bad", "offload", "float32", equal=False)])
    assert not wrong.ok and "DIFFERENT" in str(wrong)
    assert [line for line in wrong.text(colour=True).split("\n") if line.startswith("\033[31mbad")]
    assert wrong._repr_html_().count("color:red") == 1 and "color:red" not in found._repr_html_()
    found.to_json(tmp_path / "found.json")
    read = json.loads((tmp_path / "found.json").read_text())
    assert read["ok"] and [row["name"] for row in read["rows"]] == [row.name for row in found.rows]
    assert not wanoffload.Comparison("nothing").ok


def test_a_row_that_changes_the_film_passes(demo_model, monkeypatch) -> None:
    measure = comparison._Runner._measure

    def wrong(self, pipe, row):
        film = measure(self, pipe, row)
        return np.nextafter(film, np.float32(2)) if row.name == "leaf" else film

    monkeypatch.setattr(comparison._Runner, "_measure", wrong)
    rows = dict(offloads=["resident", "leaf", "block"], dtypes=(), flow_shifts=())
    found = wanoffload.bench(demo_model, "a red star", **{**CALL, "num_inference_steps": 1}, **rows)
    assert [row.equal for row in found.rows] == [True, False, True] and not found.ok


def test_a_budget_that_cannot_hold_ends_everything(demo_model) -> None:
    rows = dict(offloads=["auto", "resident"], dtypes=(), flow_shifts=())
    found = wanoffload.bench(demo_model, "a red star", **{**CALL, "num_inference_steps": 1}, vram=1000, **rows)
    assert "smallest that would do" in found.row("auto").error and found.row("resident").equal and found.ok
    assert "smallest that would do" in str(found)
    with pytest.raises(ValueError, match="offloads"):
        wanoffload.bench(demo_model, offloads=["sideways"])


def test_a_still_is_refused_or_left_out(demo_model, tmp_path: Path) -> None:
    folder = write_image_pipeline(tmp_path, demo_model, 7)
    rows = dict(offloads=["resident", "disk"], dtypes=(), flow_shifts=(5.0,))
    call = {**CALL, "num_inference_steps": 1}
    found = [wanoffload.bench(folder, "it moves", image=draw_picture(40, 60, n), **call, **rows) for n in (0, 1)]
    assert all(one.ok for one in found)
    assert found[0].rows[0].sha256 != found[1].rows[0].sha256
    with pytest.raises(ValueError, match="image-to-video"):
        wanoffload.bench(folder, "it moves", **call, **rows)


def test_the_last_frame_is_refused_or_left_out(demo_model, tmp_path: Path) -> None:
    folder = write_image_pipeline(tmp_path, demo_model, 7, "both")
    rows = dict(offloads=["resident", "leaf+stream"], dtypes=(), flow_shifts=())
    call = {**CALL, "num_inference_steps": 1, "image": draw_picture(40, 60, 0)}
    found = [wanoffload.bench(folder, last_image=draw_picture(40, 60, n), **call, **rows) for n in (1, 2)]
    assert all(one.ok and len(one.rows) == 2 for one in found)
    assert found[0].rows[0].sha256 != found[1].rows[0].sha256
    with pytest.raises(ValueError, match="last_image"):
        wanoffload.bench(demo_model, last_image=call["image"])


def test_a_film_or_its_strength_is_refused_or_left_out(demo_model) -> None:
    rows = dict(offloads=["resident", "leaf"], dtypes=(), flow_shifts=(5.0,))
    call = {name: value for name, value in CALL.items() if name not in ("seed", "num_frames")}
    film = [draw_picture(40, 60, n) for n in range(9)]
    found = wanoffload.bench(demo_model, "a red star", video=film, strength=0.7, num_frames=5, seed=5, **call, **rows)
    pipe = open_pipeline(demo_model, "WanVideoToVideoPipeline")
    frames = pipe(film[:5], "a red star", strength=0.7, generator=5, **call).frames
    assert found.ok and found.rows[1].bytes_moved > 0 and "5 frames" in found.what
    assert found.rows[0].sha256 == comparison.hashlib.sha256(frames.tobytes()).hexdigest()
    assert found.rows[0].sha256 == found.row("flow_shift 3 (the model's)").sha256 != found.row("flow_shift 5").sha256
    wrong = {"strength": {"strength": 0.5}}
    wrong |= {n: {"video": film, n: v} for n, v in (("image", film[0]), ("num_frames", -4), ("guidance_scale_2", 2.0))}
    for name, arguments in wrong.items():
        with pytest.raises(ValueError, match=f"`{name}`"):
            wanoffload.bench(demo_model, **arguments)


def test_experts_without_a_step_are_planned_or_the_second_has_the_firsts_guidance(demo_model, tmp_path: Path) -> None:
    """One step is the high-noise expert's alone, so the other is in no plan; the last of three is the other's."""
    folder = write_expert_pipeline(tmp_path, demo_model, 11, 0.875, num_layers=1)
    rows = dict(offloads=["leaf"], dtypes=(), flow_shifts=())
    calls = [{**CALL, "num_inference_steps": steps} for steps in (1, 3)]
    one, both = (wanoffload.bench(folder, "a red star", **call, **rows).rows[0] for call in calls)
    assert one.ram_plan < both.ram_plan
    assert one.ram_peak <= one.ram_plan and both.ram_peak <= both.ram_plan
    found = [wanoffload.bench(folder, "a red star", guidance_scale_2=g, **CALL, **rows) for g in (None, 5.0, 1.0)]
    films = [one.rows[0].sha256 for one in found]
    assert films[0] == films[1] != films[2]


def test_the_own_shift_of_eulers_schedule_has_no_row_or_auto_is_refused(demo_model, tmp_path: Path) -> None:
    folder = copy_checkpoint(demo_model, tmp_path / "euler")
    edit_json(folder / "model_index.json", scheduler=["diffusers", "FlowMatchEulerDiscreteScheduler"])
    wanoffload.FlowMatchEulerDiscreteScheduler(shift=4.0).save_pretrained(folder / "scheduler")
    call = {**CALL, "num_inference_steps": 2, "offloads": ["resident"], "dtypes": ()}
    found = wanoffload.bench(folder, "a red star", flow_shifts=("auto", 4.0), **call)
    assert [row.name for row in found.rows[1:]] == ["flow_shift 4 (the model's)", "flow_shift auto (5)"]
    assert found.rows[0].sha256 == found.rows[1].sha256 != found.rows[2].sha256
    assert found.rows[2].sha256 == wanoffload.bench(folder, "a red star", flow_shifts=(5,), **call).rows[2].sha256
    with pytest.raises(ValueError, match="flow_shifts"):
        wanoffload.bench(folder, flow_shifts=("much",))


def test_the_picture_shows_other_rows(found, tmp_path) -> None:
    pytest.importorskip("matplotlib")
    figure = found.plot(tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    seconds, peaks, *strips = figure.axes
    assert [label.get_text() for label in seconds.get_yticklabels()] == [row.name for row in found.rows]
    assert [bar.get_width() for bar in seconds.patches[: len(found.rows)]] == [r.seconds_per_step for r in found.rows]
    assert len(strips) == sum(row.kind == "flow_shift" for row in found.rows) == 2
    assert np.array_equal(strips[1].images[0].get_array(), found.row("flow_shift 5").strip)


def test_the_command_prints_no_table_or_hides_a_failure(demo_model, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(wanoffload.__file__).parents[1])}

    def run(*words: object, code: int = 0) -> str:
        command = [sys.executable, "-m", "wanoffload", "bench", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stderr if code else done.stdout

    film = ["--prompt", "a red star", "--size", "48x32", "--frames", 5, "--steps", 1, "--seed", 5]
    some = ["--offload", "resident", "leaf+stream", "--dtypes", "--flow-shifts", "--json", "found.json"]
    text = run(demo_model, *film, *some)
    found = json.loads((tmp_path / "found.json").read_text())
    assert "leaf+stream" in text and "wrote found.json" in text and "48x32, 5 frames" in text
    assert [row["name"] for row in found["rows"]] == ["resident", "leaf+stream"]
    assert "WIDTHxHEIGHT" in run(demo_model, "--size", "48", code=2)
    assert "there is no folder" in run(demo_model, "--json", "no/where.json", code=2)
    text = run(demo_model, *film, "--offload", "auto", "--vram", "1000", "--dtypes", "--flow-shifts", code=1)
    assert "did not make" in text
    wanoffload.utils.export_to_video([np.full((32, 48, 3), n / 8, np.float32) for n in range(9)], tmp_path / "in.mp4")
    some = ["--offload", "leaf", "--dtypes", "--flow-shifts", "auto"]
    text = run(demo_model, *film, "--steps", 2, "--video", "in.mp4", "--strength", 0.5, *some)
    assert "48x32, 5 frames" in text and "flow_shift 3 (the model's)" in text and "flow_shift auto (5)" in text
    assert "--strength takes effect" in run(demo_model, "--strength", 0.5, code=2)
    for number in range(2):
        draw_picture(32, 48, number).save(tmp_path / f"{number}.png")
    folder = write_image_pipeline(tmp_path, demo_model, 7, "both")
    text = run(folder, *film, "--image", "0.png", "--last-image", "1.png", *some[:4])
    assert "leaf" in text and "equal" in text


def test_the_demo_compares_nothing_or_ignores_options(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(wanoffload.__file__).parents[1])}

    def run(*words: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "wanoffload", "demo", "--compare", *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stderr if code else done.stdout

    text = run("--steps", "1")
    for word in (*OFFLOADS, "bfloat16", "flow_shift 5"):
        assert word in text
    assert text.count("equal") == len(OFFLOADS) and not (tmp_path / "demo.mp4").exists()
    assert "leave --offload" in run("--offload", "leaf", code=2)
    assert "there is no folder" in run("no/where.png", code=2)
