"""WAN 2.2's two transformers: which of them takes which step, that an idle one costs nothing, and what is refused."""

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import write_transformer
from pipeline.helpers import (
    CALL,
    assert_same_film,
    draw_picture,
    edit_json,
    frames_of,
    open_pipeline,
    open_reference,
    write_expert_pipeline,
    write_image_pipeline,
)

from wanoffload import CheckpointError, PlanError, UniPCMultistepScheduler, _core
from wanoffload.pipelines.planning import bytes_moved

EXPERTS = ("transformer", "transformer_2")
RUN: dict[str, Any] = {**CALL, "prompt": "a red star", "num_inference_steps": 5}


@pytest.fixture(scope="module")
def folder(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_expert_pipeline(tmp_path_factory.mktemp("experts"), demo_model, 11, 0.875, num_layers=1)


def steps_by_expert(pipe: Any) -> tuple[int, int]:
    """Passes over the weights of each expert, without the one that computes the texts' keys and values."""
    components = pipe.report.components
    return tuple(components[name].passes - 1 if name in components else 0 for name in EXPERTS)


@pytest.mark.parametrize(
    ("boundary", "steps"), [(0.875, (2, 3)), (0.0, (5, 0)), (1.0, (0, 5)), (0.999, (1, 4)), (0.6, (4, 1))]
)
def test_the_boundary_falls_where_diffusers_has_it(boundary: float, steps: tuple[int, int], folder: Path) -> None:
    ours, theirs = open_pipeline(folder, boundary_ratio=boundary), open_reference(folder, boundary_ratio=boundary)
    arguments = {**RUN, "guidance_scale": 4.0, "guidance_scale_2": 2.0}
    frames = frames_of(ours, **arguments)
    generator = torch.Generator("cpu").manual_seed(5)
    assert_same_film(frames, frames_of(theirs, **{**arguments, "generator": generator}))
    assert steps_by_expert(ours) == steps and ours.report.steps == 5


def test_num_train_timesteps_moves_the_boundary_with_the_schedule(folder: Path) -> None:
    pipe = open_pipeline(folder)
    pipe.scheduler = UniPCMultistepScheduler.from_config(pipe.scheduler.config, num_train_timesteps=500)
    frames_of(pipe, **RUN)
    assert max(pipe.scheduler.timesteps) < 500 and steps_by_expert(pipe) == (2, 3)


def test_the_second_guidance_is_that_of_the_low_noise_expert_s_steps(folder: Path) -> None:
    pipe = open_pipeline(folder)
    film = frames_of(pipe, **RUN, guidance_scale=4.0)
    assert np.array_equal(frames_of(pipe, **RUN, guidance_scale=4.0, guidance_scale_2=4.0), film)
    assert np.abs(frames_of(pipe, **RUN, guidance_scale=4.0, guidance_scale_2=1.5) - film).max() > 1e-3
    only_high = open_pipeline(folder, boundary_ratio=0.0)
    film = frames_of(only_high, **RUN, guidance_scale=4.0)
    assert np.array_equal(frames_of(only_high, **RUN, guidance_scale=4.0, guidance_scale_2=1.5), film)


@pytest.mark.parametrize("idle", EXPERTS)
def test_an_expert_without_a_step_is_not_read(idle: str, folder: Path, demo_model: Path, tmp_path: Path) -> None:
    """Its weights are made NaN after the headers were read: a single byte of them would show."""
    copy = write_expert_pipeline(tmp_path, demo_model, 11, 0.875, num_layers=1)
    boundary = 1.0 if idle == "transformer" else 0.0
    expected = frames_of(open_pipeline(folder, boundary_ratio=boundary), **RUN)
    for offload in ({}, {"offload_type": "leaf_level", "offload_device": "disk", "use_stream": True}):
        pipe = open_pipeline(copy, boundary_ratio=boundary)
        if offload:
            pipe.enable_group_offload("cpu", **offload)
        weights = copy / idle / "diffusion_pytorch_model.safetensors"
        content = weights.read_bytes()
        header = 8 + int.from_bytes(content[:8], "little")
        weights.write_bytes(content[:header] + b"\xff" * (len(content) - header))
        assert np.array_equal(frames_of(pipe, **RUN), expected)
        assert idle not in pipe.report.components and idle not in pipe.plan(**PLAN).components
        weights.write_bytes(content)


PLAN = {"height": 32, "width": 48, "num_frames": 5, "num_inference_steps": 5}


@pytest.mark.parametrize(("missing", "boundary"), [("transformer", 1.0), ("transformer_2", 0.0)])
def test_either_expert_may_be_left_out_where_the_boundary_allows_it(
    missing: str, boundary: float, folder: Path
) -> None:
    whole = frames_of(open_pipeline(folder, boundary_ratio=boundary), **RUN)
    pipe = open_pipeline(folder, **{missing: None}, boundary_ratio=boundary)
    assert np.array_equal(frames_of(pipe, **RUN), whole)
    theirs = open_reference(folder, **{missing: None}, boundary_ratio=boundary)
    assert_same_film(whole, frames_of(theirs, **{**RUN, "generator": torch.Generator("cpu").manual_seed(5)}))


@pytest.mark.parametrize("missing", EXPERTS)
def test_a_missing_expert_that_has_steps_is_asked_for_before_any_work(missing: str, folder: Path) -> None:
    pipe = open_pipeline(folder, **{missing: None})
    with pytest.raises(ValueError, match=f"no {missing}, which takes the steps.*boundary_ratio=0.875.*Load it"):
        pipe(**RUN)
    assert pipe.report is None


def test_a_model_index_may_name_one_expert_only(folder: Path, demo_model: Path, tmp_path: Path) -> None:
    copy = write_expert_pipeline(tmp_path, demo_model, 11, 1.0, num_layers=1)
    edit_json(copy / "model_index.json", transformer=[None, None])
    pipe = open_pipeline(copy)
    assert pipe.transformer is None and pipe.dtype == "float32"
    assert np.array_equal(frames_of(pipe, **RUN), frames_of(open_pipeline(folder, boundary_ratio=1.0), **RUN))


@pytest.mark.parametrize("seed", [0, 1])
def test_experts_share_one_arena_and_every_way_of_offloading_gives_the_same_film(seed: int, folder: Path) -> None:
    pipe = open_pipeline(folder)
    film = frames_of(pipe, **RUN, guidance_scale_2=2.0)
    settings = [
        {"offload_type": "leaf_level", "use_stream": True},
        {"offload_type": "block_level", "num_blocks_per_group": 1, "offload_device": "disk", "use_stream": True},
    ]
    for one in settings:
        pipe.enable_group_offload("cpu", **one)
        assert np.array_equal(frames_of(pipe, **RUN, guidance_scale_2=2.0), film)
        plan = pipe.plan(**PLAN)
        planned = max(plan.part(name).summary["work_bytes"] for name in EXPERTS)
        held = pipe.runtime.engine.held()["arena_bytes"]
        assert held <= max(planned, plan.components["vae"].summary["work_bytes"])
    pipe.enable_model_cpu_offload()
    assert np.array_equal(frames_of(pipe, **RUN, guidance_scale_2=2.0), film)


@pytest.mark.parametrize("tier", ["cpu", "disk"])
def test_the_change_of_expert_is_a_bubble_or_a_byte_moves_twice(tier: str, folder: Path) -> None:
    """Streamed alike, both run in one execution: the second's first groups come during the first's last step."""
    pipe = open_pipeline(folder)
    gc.collect()
    tables = _core.host_memory()["current"]  # of every pipeline that is open in this process
    film = frames_of(pipe, **RUN, guidance_scale=4.0, guidance_scale_2=2.0)
    pipe.enable_group_offload("cpu", tier, "leaf_level", use_stream=True)
    pipe.enable_trace()
    assert np.array_equal(frames_of(pipe, **RUN, guidance_scale=4.0, guidance_scale_2=2.0), film)
    plan, report = pipe.plan(**PLAN), pipe.report.components["transformer"]
    assert plan.part("transformer_2") is plan.part("transformer") and "transformer + transformer_2" in str(plan)
    assert "transformer + transformer_2" in str(pipe.report) and "transformer_2" not in pipe.report.components
    assert report.executions == 1 and report.plan["experts"] == 2
    prepare, step = (one["streamed_bytes"] for one in plan.part("transformer").core.passes())
    assert report.bytes_moved == 2 * prepare + 5 * step
    by_pass = {event["pass"]: event["expert"] for event in report.timeline[0].lane("copy") if event["pass"]}
    assert [by_pass[number] for number in sorted(by_pass)] == [0, 1, 0, 0, 1, 1, 1]
    assert report.ram_peak <= plan.part("transformer").core_ram + tables + (1 << 20)


def test_experts_that_are_streamed_in_different_ways_run_one_after_the_other(folder: Path) -> None:
    pipe = open_pipeline(folder)
    film = frames_of(pipe, **RUN)
    pipe.transformer.enable_group_offload("cpu", offload_type="leaf_level", use_stream=True)
    assert np.array_equal(frames_of(pipe, **RUN), film) and steps_by_expert(pipe) == (2, 3)
    pipe.transformer_2.enable_group_offload("cpu", offload_type="block_level", num_blocks_per_group=1)
    assert np.array_equal(frames_of(pipe, **RUN), film) and steps_by_expert(pipe) == (2, 3)


def test_texts_of_another_length_change_the_film_of_experts_that_take_turns(folder: Path) -> None:
    def longer(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        return {"prompt_embeds": np.repeat(tensors["prompt_embeds"], 2, axis=1)} if step == 2 else {}

    call = {**RUN, "callback_on_step_end": longer, "callback_on_step_end_tensor_inputs": ["prompt_embeds"]}
    pipe = open_pipeline(folder)
    film = frames_of(pipe, **call)
    pipe.enable_group_offload("cpu", offload_type="leaf_level", use_stream=True)
    assert np.array_equal(frames_of(pipe, **call), film)
    assert pipe.report.components["transformer"].executions == 2


@pytest.fixture(scope="module")
def deep_folder(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Experts of so many layers that a budget between nothing and both is met in every way."""
    return write_expert_pipeline(tmp_path_factory.mktemp("deep"), demo_model, 11, 0.875, num_layers=8)


LONG: dict[str, Any] = {"prompt": "a red star " * 200, "guidance_scale": 4.0, "max_sequence_length": 512}
"""A text whose keys and values take more than the weights."""
TOGETHER = "both experts run in one execution: the change to the second takes no longer"
APART = "the experts run one after the other: "


@pytest.mark.parametrize(
    ("eighths", "experts", "words"),
    [
        (0, 1, APART + "the budget does not hold both"),
        (1, 2, TOGETHER),
        (2, 1, APART + "that moves 2.33 MiB in all, one execution of both "),
        (3, 1, APART + "so they stay between calls"),
        (4, 2, TOGETHER),
        (6, 1, APART + "in one execution each step had to save memory"),
        (8, 2, TOGETHER),
    ],
    ids=["least", "streams", "holds one", "keeps both apart", "keeps both", "saves work apart", "ample"],
)
def test_budgets_run_experts_in_the_worse_way_or_change_the_film(
    eighths: int, experts: int, words: str, deep_folder: Path
) -> None:
    """Budgets from the least that is enough to what holds both; the planner says how they run and why."""

    def give(vram: int) -> None:
        for network in (pipe.transformer, pipe.transformer_2):
            network.enable_auto_offload(vram=vram)

    pipe = open_pipeline(deep_folder)
    gc.collect()
    tables = _core.host_memory()["current"]
    film = frames_of(pipe, **{**RUN, **LONG})
    give(1)
    with pytest.raises(PlanError) as refused:
        pipe.plan(**PLAN, **LONG)
    give(1 << 30)
    least, ample = refused.value.needed["vram"], pipe.plan(**PLAN, **LONG).part("transformer").vram
    budget = least + (ample - least) * eighths // 8
    give(budget)
    plan = pipe.plan(**PLAN, **LONG)
    assert words in str(plan) and plan.turns == ({"transformer_2": "transformer"} if experts == 2 else {})
    assert all(plan.part(name).summary["experts"] == experts and plan.part(name).vram <= budget for name in EXPERTS)
    assert np.array_equal(frames_of(pipe, **{**RUN, **LONG}), film)
    ran = {name: one for name, one in pipe.report.components.items() if name in EXPERTS}
    assert [one.executions for one in ran.values()] == [1] * (3 - experts)
    for name, one in ran.items():
        assert one.ram_peak <= plan.part(name).core_ram + tables + (1 << 20)
    assert np.array_equal(frames_of(pipe, **{**RUN, **LONG}), film), "with what stays from the call before"


def test_a_budget_that_streams_both_experts_has_a_gap_at_their_change(deep_folder: Path) -> None:
    """The groups of the second follow those of the first in one timeline of copies, and each byte moves once a step."""
    pipe = open_pipeline(deep_folder)
    for network in (pipe.transformer, pipe.transformer_2):
        network.enable_auto_offload(vram=1_700_000)  # two thirds of each have to stream
    pipe.enable_trace()
    plan = pipe.plan(**PLAN, **LONG)
    part = plan.part("transformer_2")
    assert part is plan.part("transformer") and part.summary["policy_use_stream"] and part.summary["streamed_bytes"] > 0
    frames_of(pipe, **{**RUN, **LONG})
    report = pipe.report.components["transformer"]
    prepare, step = (one["streamed_bytes"] for one in part.core.passes())
    assert report.bytes_moved == 2 * prepare + 5 * step
    by_pass = {event["pass"]: event["expert"] for event in report.timeline[0].lane("copy") if event["pass"]}
    assert [by_pass[number] for number in sorted(by_pass)][-5:] == [0, 0, 1, 1, 1]
    moved = bytes_moved(plan, {"transformer": 2, "transformer_2": 3})
    assert moved == report.bytes_moved + report.bytes_loaded + part.summary["resident_bytes"]


def test_a_budget_for_one_expert_is_enough_for_two(folder: Path) -> None:
    """Each has the budget to itself while it runs."""
    pipe = open_pipeline(folder)
    film = frames_of(pipe, **RUN)
    resident = pipe.plan(**PLAN)
    one = open_pipeline(folder, boundary_ratio=0.0)
    one.enable_auto_offload(vram="1GiB")
    pipe.enable_auto_offload(vram=1)
    with pytest.raises(Exception, match="smallest that would do is vram=") as caught:
        pipe.plan(**PLAN)
    needed = caught.value.needed["vram"]
    one.enable_auto_offload(vram=needed)
    assert one.plan(**PLAN).vram <= needed < resident.vram
    pipe.enable_auto_offload(vram=needed)
    assert pipe.plan(**PLAN).vram <= needed
    assert np.array_equal(frames_of(pipe, **RUN), film)


def test_a_callback_s_new_texts_reach_the_expert_that_comes_next(folder: Path) -> None:
    def swap(p: Any, step: int, timestep: Any, tensors: dict) -> dict:
        return {"prompt_embeds": p.other} if step == 2 else {}

    films = []
    for pipe in (open_pipeline(folder), open_reference(folder)):
        pipe.other = pipe.encode_prompt("a much longer text about a blue ball", max_sequence_length=512)[0]
        latents = torch.randn(1, 4, 2, 4, 6, generator=torch.Generator().manual_seed(0))
        films.append(frames_of(pipe, **{**RUN, "generator": None}, latents=latents, callback_on_step_end=swap))
    assert_same_film(*films)


def test_the_progress_bar_and_the_step_numbers_run_over_both(folder: Path) -> None:
    pipe, seen = open_pipeline(folder), []
    frames_of(pipe, **RUN, callback_on_step_end=lambda p, i, t, tensors: seen.append((i, int(t))))
    assert [i for i, _ in seen] == [0, 1, 2, 3, 4] and pipe.num_timesteps == 5
    assert [t for _, t in seen] == [int(t) for t in pipe.scheduler.timesteps]


def test_interrupting_before_the_change_leaves_the_second_expert_unread(folder: Path) -> None:
    def stop(p: Any, step: int, timestep: Any, tensors: dict) -> None:
        p.interrupt = step == 1

    pipe = open_pipeline(folder)
    frames_of(pipe, **RUN, callback_on_step_end=stop)
    assert steps_by_expert(pipe) == (2, 0) and pipe.report.interrupted


def test_experts_of_different_shape_are_refused_by_name(demo_model: Path, tmp_path: Path) -> None:
    copy = write_expert_pipeline(tmp_path, demo_model, 11, 0.875, num_layers=1)
    config = {"in_channels": 4, "out_channels": 4, "text_dim": 36}
    write_transformer(copy / "transformer_2", 3, **config, num_layers=2)
    with pytest.raises(CheckpointError, match="different shape: num_layers is 1 in transformer and 2 in transformer_2"):
        open_pipeline(copy)
    write_transformer(copy / "transformer_2", 3, **config, num_layers=1, num_attention_heads=2)
    with pytest.raises(CheckpointError, match="num_attention_heads is 3 in transformer and 2.*same checkpoint"):
        open_pipeline(copy)


@pytest.mark.parametrize("boundary", [-0.1, 1.5, "0.9", True, float("nan")])
def test_a_boundary_that_is_none_is_refused(boundary: Any, folder: Path) -> None:
    with pytest.raises(ValueError, match="`boundary_ratio` has to be a number from 0 to 1"):
        open_pipeline(folder, boundary_ratio=boundary)


def test_a_second_guidance_needs_a_boundary(demo_model: Path, folder: Path) -> None:
    with pytest.raises(ValueError, match="`guidance_scale_2` is only supported"):
        open_pipeline(demo_model)("a", **CALL, guidance_scale_2=3.0)
    with pytest.raises(TypeError, match="`guidance_scale_2` has to be a number"):
        open_pipeline(folder)(**RUN, guidance_scale_2="3")


def test_two_experts_animate_a_still_without_an_image_encoder(demo_model: Path, tmp_path: Path) -> None:
    copy = write_image_pipeline(tmp_path, demo_model, 5, "experts", 0.9, num_layers=1)
    pipe = open_pipeline(copy, "WanImageToVideoPipeline")
    assert pipe.image_encoder is None and pipe.config.boundary_ratio == 0.9
    frames_of(pipe, image=draw_picture(20, 30), **RUN)
    assert set(pipe.report.components) == {"text_encoder", "vae encoder", *EXPERTS, "vae"}
    with pytest.raises(ValueError, match="`image_embeds` cannot take effect"):
        pipe(image=draw_picture(20, 30), image_embeds=np.ones((1, 17, 36), "f"), **RUN)
