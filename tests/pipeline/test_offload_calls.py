"""Offload calls on a pipeline: the same bits, within the budget, planned and reported."""

import gc
import inspect
import logging
import weakref
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from pipeline.helpers import CALL, SMALL, copy_checkpoint, frames_of, open_pipeline

import wanoffload
from wanoffload import BusyError, PlanError, WanPipeline
from wanoffload.errors import DeviceError

OFFLOADS: dict[str, Any] = {
    "block": lambda p: p.enable_group_offload("cpu", num_blocks_per_group=2),
    "block, stream": lambda p: p.enable_group_offload("cpu", num_blocks_per_group=2, use_stream=True),
    "leaf": lambda p: p.enable_group_offload("cpu", offload_type="leaf_level"),
    "leaf, disk, stream": lambda p: p.enable_group_offload("cpu", "disk", "leaf_level", use_stream=True),
    "model": lambda p: p.enable_model_cpu_offload(),
    "sequential": lambda p: p.enable_sequential_cpu_offload(),
    "mixed": lambda p: (
        p.enable_auto_offload(vram="6MiB"),
        p.text_encoder.enable_group_offload("cpu", offload_type="leaf_level"),
    ),
    "auto, free memory": lambda p: p.enable_auto_offload(),
}


@pytest.mark.parametrize("name", OFFLOADS)
def test_every_offload_call_gives_the_same_bits_twice(name: str, pipe: WanPipeline, film: np.ndarray) -> None:
    OFFLOADS[name](pipe)
    for _ in range(2):
        plan = pipe.plan("a red star", **SMALL)
        assert np.array_equal(frames_of(pipe, "a red star", **CALL), film)
        for part, report in pipe.report.components.items():
            assert report.plan == plan.components[part].summary
            assert report.activation_peak <= report.plan["activation_bytes"]
            assert report.arena_bytes >= report.plan["work_bytes"]
    moved = pipe.report.components["transformer"].bytes_moved
    assert (moved > 0) == (name not in ("model", "auto, free memory"))
    pipe.disable_offload()
    assert np.array_equal(frames_of(pipe, "a red star", **CALL), film)
    assert pipe.report.bytes_moved == 0


def test_a_planned_pipeline_outlives_its_last_name(demo_model: Path) -> None:
    """Its memory is that of a card, which waits for no garbage collector."""
    gc.collect()
    gc.disable()
    try:
        pipe = open_pipeline(demo_model)
        pipe.enable_auto_offload(vram="12MiB")  # less than all networks together, so a second arrangement is tried
        pipe("a red star", **CALL)
        last = weakref.ref(pipe)
        del pipe
        assert last() is None
    finally:
        gc.enable()


def test_budgets_from_all_to_the_least_give_the_same_bits_and_are_held(pipe: WanPipeline, film: np.ndarray) -> None:
    pipe.enable_auto_offload(vram=1, ram=1)
    with pytest.raises(PlanError) as caught:
        pipe("a red star", **CALL)
    assert pipe.report is None and caught.value.budget == {"vram": 1, "ram": 1}
    least = caught.value.needed
    pipe.disable_offload()
    most = pipe.plan("a red star", **SMALL)
    moved = []
    for share in (0.0, 0.1, 0.5, 1.0):
        budget = {name: int(least[name] + share * (getattr(most, name) - least[name])) for name in least}
        pipe.enable_auto_offload(**budget)
        plan = pipe.plan("a red star", **SMALL)
        assert plan.vram <= budget["vram"] and plan.ram <= budget["ram"]
        assert np.array_equal(frames_of(pipe, "a red star", **CALL), film)
        assert pipe.report.ram_peak <= budget["ram"]
        held = pipe.runtime.engine.held()
        assert held["resident_bytes"] + held["arena_bytes"] <= budget["vram"]
        moved.append(pipe.report.bytes_moved)
    assert moved[0] > moved[2] > moved[3] == 0


def test_what_stays_is_loaded_once(pipe: WanPipeline) -> None:
    loaded = []
    for _ in range(2):
        pipe("a red star", **CALL)
        loaded.append(sum(one.bytes_loaded for one in pipe.report.components.values()))
    assert loaded == [sum(one.core.bytes for one in (pipe.text_encoder, pipe.transformer, pipe.vae)), 0]
    pipe.enable_group_offload("cpu", offload_type="leaf_level")
    for expected in (loaded[0], 0):
        pipe("a red star", **CALL)
        assert sum(one.bytes_loaded for one in pipe.report.components.values()) == expected
    assert pipe.runtime.engine.held()["resident_bytes"] == 0


def test_model_offload_holds_one_network_at_a_time(pipe: WanPipeline) -> None:
    pipe.enable_model_cpu_offload()
    plan = pipe.plan("a red star", **SMALL)
    assert plan.vram == max(one.summary["vram"] for one in plan.components.values())
    seen = []
    pipe("a red star", callback_on_step_end=lambda p, *_: seen.append(p.runtime.engine.held()), **CALL)
    assert seen[0]["resident_bytes"] == pipe.transformer.core.bytes
    assert pipe.runtime.engine.held()["resident_bytes"] == 0


def test_tiling_is_used_by_the_pipeline_and_planned(
    pipe: WanPipeline, reference: diffusers.WanPipeline, film: np.ndarray
) -> None:
    tiles = dict(zip(inspect.signature(pipe.vae.enable_tiling).parameters, (16, 32, 8, 16), strict=True))
    whole = pipe.plan("a red star", **SMALL).components["vae"]
    for one in (pipe, reference):
        one.vae.enable_tiling(**tiles)
    try:
        latents = torch.randn((1, 16, 2, 4, 6), generator=torch.Generator().manual_seed(5))
        expected = frames_of(reference, "a red star", **{**CALL, "generator": None, "latents": latents})
    finally:
        reference.vae.disable_tiling()
    tiled = frames_of(pipe, "a red star", **{**CALL, "latents": latents})
    assert np.abs(tiled - expected).max() <= 5e-5 and np.abs(tiled - film).max() > 1e-3
    assert pipe.plan("a red star", **SMALL).components["vae"].vram < whole.vram
    pipe.enable_group_offload("cpu", "disk", "leaf_level", use_stream=True)
    assert np.array_equal(frames_of(pipe, "a red star", **{**CALL, "latents": latents}), tiled)


def test_plan_without_a_prompt_assumes_the_longest(pipe: WanPipeline) -> None:
    longest, short = pipe.plan(**SMALL), pipe.plan("a red star", **SMALL)
    assert longest.ram > short.ram and "512+1 tokens" in longest.what
    same = pipe.plan("word " * 600, **SMALL)
    assert same.as_dict() == {**longest.as_dict(), "what": same.what}
    assert pipe.plan(**{**SMALL, "height": 320, "width": 320}).vram > longest.vram
    assert pipe.plan(output_type="latent", **SMALL).components.keys() == {"text_encoder", "transformer"}


def test_the_last_offload_call_wins_and_excluded_modules_are_resident(
    pipe: WanPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    pipe.enable_model_cpu_offload()
    with caplog.at_level(logging.WARNING, "wanoffload"):
        pipe.enable_group_offload("cpu", offload_type="leaf_level", exclude_modules=["vae", "image_encoder"])
    assert "image_encoder" in caplog.text
    assert [one.offload.level for one in (pipe.text_encoder, pipe.transformer, pipe.vae)] == [
        "leaf",
        "leaf",
        "resident",
    ]
    wanoffload.hooks.apply_group_offloading(pipe.vae, onload_device="cpu", num_blocks_per_group=1)
    assert pipe.vae.offload.level == "block" and pipe.transformer.offload.level == "leaf"
    with pytest.raises(DeviceError):
        pipe.enable_group_offload("cuda", offload_type="leaf_level")
    assert pipe.transformer.offload.level == "leaf"


def test_a_budget_that_is_no_size_is_named(pipe: WanPipeline) -> None:
    with pytest.raises(ValueError, match="`vram`"):
        pipe.enable_auto_offload(vram="lots")
    with pytest.raises(TypeError, match="`ram`"):
        pipe.enable_auto_offload(ram=1.5)


def test_settings_cannot_change_while_a_call_runs(pipe: WanPipeline, film: np.ndarray) -> None:
    def change(p: WanPipeline, *_: Any) -> None:
        with pytest.raises(BusyError):
            p.enable_model_cpu_offload()

    assert np.array_equal(frames_of(pipe, "a red star", callback_on_step_end=change, **CALL), film)


def test_a_file_cut_short_in_the_middle_of_a_run_is_an_error_and_not_a_crash(demo_model: Path, tmp_path: Path) -> None:
    folder = copy_checkpoint(demo_model, tmp_path / "model")
    pipe = open_pipeline(folder)
    pipe.enable_group_offload("cpu", "disk", "leaf_level")
    file = folder / "transformer/diffusion_pytorch_model.safetensors"

    def cut(p: WanPipeline, *_: Any) -> None:
        with file.open("r+b") as opened:
            opened.truncate(file.stat().st_size // 2)

    whole = file.read_bytes()
    with pytest.raises((wanoffload.CheckpointError, OSError), match="diffusion_pytorch_model.safetensors"):
        pipe("a red star", callback_on_step_end=cut, **CALL)
    with pytest.raises((wanoffload.CheckpointError, OSError), match="diffusion_pytorch_model.safetensors"):
        pipe("a red star", **CALL)
    file.write_bytes(whole)
    assert frames_of(open_pipeline(folder), "a red star", **CALL).shape == (1, 5, 32, 48, 3)


def test_the_report_says_what_happened_as_text_html_and_dict(pipe: WanPipeline) -> None:
    pipe.enable_group_offload("cpu", offload_type="leaf_level", use_stream=True)
    pipe("a red star", **CALL)
    report = pipe.report
    transformer = report.components["transformer"]
    assert list(report.components) == ["text_encoder", "transformer", "vae"] and report.steps == 2
    assert transformer.passes == 1 + 2 and report.components["vae"].passes == 2
    assert transformer.bytes_moved == transformer.bytes_from_host > 0 and transformer.bytes_from_disk == 0
    assert transformer.compute_seconds > 0 and report.seconds >= transformer.seconds
    for word in ("text_encoder", "stalled", "moved in passes", "planned", "2 steps"):
        assert word in str(report)
    assert "<table>" in report._repr_html_()
    assert report.as_dict()["components"]["transformer"]["bytes_moved"] == transformer.bytes_moved
