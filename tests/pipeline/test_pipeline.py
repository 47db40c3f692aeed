"""The pipeline's call: arguments, outputs, callbacks, and what goes wrong on the way."""

import inspect
import logging
import signal
import threading
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import PIL.Image
import pytest
import torch
from pipeline.helpers import CALL, frames_of, open_pipeline

import wanoffload
from wanoffload import BusyError, WanPipeline


@pytest.mark.parametrize("name", ["__call__", "encode_prompt", "check_inputs", "__init__"])
def test_a_method_has_the_arguments_and_defaults_of_diffusers(name: str) -> None:
    ours, theirs = (inspect.signature(getattr(cls, name)).parameters for cls in (WanPipeline, diffusers.WanPipeline))
    assert list(ours) == list(theirs)
    for parameter, one in ours.items():
        missing = inspect.Parameter.empty
        if (one.default is missing) != (theirs[parameter].default is missing) or one.default != theirs[
            parameter
        ].default:
            assert name == "__init__", parameter


def test_the_default_output_is_float32_frames_in_an_output_object(pipe: WanPipeline, film: np.ndarray) -> None:
    out = pipe("a red star", **CALL)
    assert out.frames is out[0] is out["frames"]
    assert out.frames.shape == (1, 5, 32, 48, 3) and out.frames.dtype == np.float32
    assert np.array_equal(out.frames, film)


def test_output_types_are_the_same_film(pipe: WanPipeline, film: np.ndarray) -> None:
    images = frames_of(pipe, "a red star", output_type="pil", **CALL)
    assert len(images) == 1 and len(images[0]) == 5 and isinstance(images[0][0], PIL.Image.Image)
    assert np.array_equal(np.stack([np.asarray(one) for one in images[0]]), (film[0] * 255).round().astype(np.uint8))
    tensor = frames_of(pipe, "a red star", output_type="pt", **CALL)
    assert isinstance(tensor, torch.Tensor) and np.array_equal(tensor.numpy(), film.transpose(0, 1, 4, 2, 3))
    latents = frames_of(pipe, "a red star", output_type="latent", **CALL)
    assert latents.shape == (1, 16, 2, 4, 6) and latents.dtype == np.float32
    assert "vae" not in pipe.report.components


def test_a_list_of_seeds_makes_each_video_that_its_seed_makes_alone(pipe: WanPipeline) -> None:
    arguments = {**CALL, "generator": [5, 8]}
    both = frames_of(pipe, ["a red star", "a blue ball"], **arguments)
    assert np.array_equal(both[:1], frames_of(pipe, "a red star", **{**CALL, "generator": 5}))
    assert np.array_equal(both[1:], frames_of(pipe, "a blue ball", **{**CALL, "generator": 8}))


def test_generators_of_numpy_and_torch_work(pipe: WanPipeline, film: np.ndarray) -> None:
    torch_generator = torch.Generator("cpu").manual_seed(5)
    assert np.abs(frames_of(pipe, "a red star", **{**CALL, "generator": torch_generator}) - film).max() <= 5e-5
    again = [
        frames_of(pipe, "a red star", **{**CALL, "generator": np.random.default_rng(1)}).tobytes() for _ in range(2)
    ]
    assert again[0] == again[1]


def test_num_frames_is_rounded_with_the_warning_of_diffusers(
    pipe: WanPipeline, film: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "wanoffload"):
        frames = frames_of(pipe, "a red star", **{**CALL, "num_frames": 7})
    assert np.array_equal(frames, film)
    assert "`num_frames - 1` has to be divisible by 4" in caplog.text


WRONG = {
    "height no multiple": ({"height": 100}, ValueError, "divisible by 16 but are 100 and 48"),
    "height no int": ({"height": 32.5}, TypeError, "`height`"),
    "width zero": ({"width": 0}, ValueError, "`width` has to be at least 1"),
    "width negative": ({"width": -16}, ValueError, "`width`"),
    "no frames": ({"num_frames": 0}, ValueError, "`num_frames`"),
    "frames no int": ({"num_frames": "5"}, TypeError, "`num_frames`"),
    "no steps": ({"num_inference_steps": 0}, ValueError, "`num_inference_steps` has to be at least 1 but is 0"),
    "negative steps": ({"num_inference_steps": -1}, ValueError, "`num_inference_steps`"),
    "steps no int": ({"num_inference_steps": 2.5}, TypeError, "`num_inference_steps`"),
    "guidance no number": ({"guidance_scale": "5"}, TypeError, "`guidance_scale`"),
    "guidance nan": ({"guidance_scale": float("nan")}, ValueError, "`guidance_scale`"),
    "guidance 2": ({"guidance_scale_2": 3.0}, ValueError, "`guidance_scale_2` is only supported"),
    "height an array": ({"height": np.ones(3, int)}, TypeError, "`height` has to be an int"),
    "absurdly many steps": ({"num_inference_steps": 2**70}, ValueError, "`num_inference_steps` has to be at most"),
    "absurdly many videos": ({"num_videos_per_prompt": 2**70}, ValueError, "`num_videos_per_prompt` has to be at most"),
    "output type an array": ({"output_type": np.ones(3)}, ValueError, "does not exist"),
    "attention kwargs an array": ({"attention_kwargs": np.ones(3)}, ValueError, "`attention_kwargs`"),
    "no videos": ({"num_videos_per_prompt": 0}, ValueError, "`num_videos_per_prompt`"),
    "no rows": ({"max_sequence_length": 0}, ValueError, "`max_sequence_length`"),
    "output type": ({"output_type": "gif"}, ValueError, "gif does not exist.*'np', 'pil', 'latent', 'pt'"),
    "attention kwargs": ({"attention_kwargs": {"scale": 1}}, ValueError, "`attention_kwargs`.*cannot take effect"),
    "prompt of another type": ({"prompt": 3}, ValueError, "`prompt` has to be of type `str` or `list`"),
    "prompt of bytes": ({"prompt": b"a star"}, ValueError, "`prompt` has to be of type `str` or `list`"),
    "empty list": ({"prompt": []}, ValueError, "`prompt` is an empty list"),
    "no string in the list": ({"prompt": ["a", None]}, ValueError, "entry 1 is None"),
    "no prompt": ({"prompt": None}, ValueError, "Provide either `prompt` or `prompt_embeds`"),
    "both prompts": ({"prompt_embeds": np.ones((1, 4, 64), "f")}, ValueError, "Cannot forward both `prompt`"),
    "both negatives": (
        {"negative_prompt": "x", "negative_prompt_embeds": np.ones((1, 4, 64), "f")},
        ValueError,
        "Cannot forward both `negative_prompt`",
    ),
    "negative of another type": ({"negative_prompt": 1.5}, ValueError, "`negative_prompt` has to be of type"),
    "negatives do not match": ({"negative_prompt": ["a", "b"]}, ValueError, "has batch size 2.*has batch size 1"),
    "embeddings of another width": (
        {"prompt": None, "prompt_embeds": np.ones((1, 4, 65), "f")},
        ValueError,
        "`prompt_embeds`.*text_dim=64",
    ),
    "embeddings of another batch": (
        {"negative_prompt_embeds": np.ones((3, 4, 64), "f")},
        ValueError,
        "`negative_prompt_embeds` has batch size 3, but there are 1 prompts",
    ),
    "latents of another shape": (
        {"latents": np.ones((1, 16, 2, 4, 5), "f")},
        ValueError,
        r"`latents`.*\[1, 16, 2, 4, 6\]",
    ),
    "latents of another rank": ({"latents": np.ones((16, 2, 4, 6), "f")}, ValueError, "`latents`"),
    "latents of ints": ({"latents": np.ones((1, 16, 2, 4, 6), int)}, TypeError, "`latents`.*int64"),
    "complex latents": ({"latents": np.ones((1, 16, 2, 4, 6), complex)}, TypeError, "`latents`.*complex"),
    "generator of another type": ({"generator": "5"}, TypeError, "`generator`"),
    "seed too large": ({"generator": 2**64}, ValueError, "`generator` as a seed has to fit 64 bits"),
    "seed too small": ({"generator": [-(2**63) - 1]}, ValueError, "`generator` as a seed"),
    "too few generators": ({"generator": [1, 2]}, ValueError, "list of generators of length 2.*batch size of 1"),
    "callback": ({"callback_on_step_end": 3}, TypeError, "`callback_on_step_end`"),
    "callback inputs": (
        {"callback_on_step_end_tensor_inputs": ["noise"]},
        ValueError,
        r"`callback_on_step_end_tensor_inputs` has to be in .*found \['noise'\]",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_is_named_before_any_work(name: str, pipe: WanPipeline) -> None:
    changes, error, message = WRONG[name]
    with pytest.raises(error, match=message):
        pipe(**{"prompt": "a red star", **CALL, **changes})
    assert pipe.report is None


def test_an_unknown_argument_is_named(pipe: WanPipeline) -> None:
    with pytest.raises(TypeError, match="'seed'"):
        pipe("a red star", seed=3)


def test_missing_parts_are_asked_for_only_when_needed(demo_model: Path, film: np.ndarray) -> None:
    whole = open_pipeline(demo_model)
    cond, uncond = whole.encode_prompt("a red star", max_sequence_length=512)
    embeds = {"prompt_embeds": cond, "negative_prompt_embeds": uncond}
    pipe = open_pipeline(demo_model, text_encoder=None, tokenizer=None)
    assert np.array_equal(frames_of(pipe, **embeds, **CALL), film)
    with pytest.raises(ValueError, match="no tokenizer. Pass `prompt_embeds`"):
        pipe("a red star", **CALL)
    pipe = open_pipeline(demo_model, vae=None)
    assert frames_of(pipe, "a red star", output_type="latent", **CALL).shape == (1, 16, 2, 4, 6)
    with pytest.raises(ValueError, match="no vae.*output_type='latent'"):
        pipe("a red star", **CALL)
    pipe = open_pipeline(demo_model, transformer=None, vae=None)
    assert np.array_equal(pipe.encode_prompt("a red star", max_sequence_length=512)[0], cond)
    with pytest.raises(ValueError, match="no transformer"):
        pipe("a red star", output_type="latent", **CALL)
    pipe = open_pipeline(demo_model)
    pipe.scheduler = None
    with pytest.raises(ValueError, match="no scheduler"):
        pipe("a red star", **CALL)


@pytest.mark.parametrize("shift", [-1.0, float("nan"), "x"])
def test_a_scheduler_that_makes_no_schedule_is_refused_before_any_work(shift: Any, pipe: WanPipeline) -> None:
    pipe.scheduler = wanoffload.UniPCMultistepScheduler.from_config(pipe.scheduler.config, flow_shift=shift)
    with pytest.raises(ValueError, match="UniPCMultistepScheduler.*schedule"):
        pipe("a red star", **CALL)
    assert pipe.report is None


def test_parts_of_different_models_are_refused(pipe: WanPipeline, demo_model: Path, tmp_path: Path) -> None:
    from checkpoints import write_vae

    write_vae(tmp_path)
    pipe.vae = wanoffload.AutoencoderKLWan.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="latents of 4 channels, but the transformer takes 16"):
        pipe("a red star", **CALL)
    pipe.vae = torch.nn.Identity()
    with pytest.raises(TypeError, match="`vae` has to be a wanoffload.AutoencoderKLWan"):
        pipe("a red star", **CALL)


def test_encode_prompt_repeats_for_videos_and_leaves_the_negative_out_without_guidance(pipe: WanPipeline) -> None:
    cond, uncond = pipe.encode_prompt(["a", "b"], num_videos_per_prompt=2, do_classifier_free_guidance=False)
    assert cond.shape == (4, 226, 64) and uncond is None
    assert (
        np.array_equal(cond[0], cond[1]) and np.array_equal(cond[2], cond[3]) and not np.array_equal(cond[1], cond[2])
    )


def test_a_callback_sees_every_step_and_its_latents_count(pipe: WanPipeline) -> None:
    seen = []

    def replace(p: WanPipeline, step: int, timestep: Any, tensors: dict) -> dict:
        seen.append((step, int(timestep), p.num_timesteps, p.guidance_scale, p.current_timestep == timestep))
        return {"latents": np.zeros_like(tensors["latents"])} if step == 1 else {}

    latents = frames_of(pipe, "a red star", callback_on_step_end=replace, output_type="latent", **CALL)
    assert seen == [(0, 999, 2, 5.0, True), (1, int(pipe.scheduler.timesteps[1]), 2, 5.0, True)]
    assert not latents.any() and pipe.current_timestep is None


def test_a_callback_may_change_latents_in_place_or_return_a_torch_tensor(pipe: WanPipeline) -> None:
    def in_place(p: WanPipeline, step: int, timestep: Any, tensors: dict) -> None:
        tensors["latents"] *= 0.5

    def returned(p: WanPipeline, step: int, timestep: Any, tensors: dict) -> dict:
        return {"latents": torch.from_numpy(tensors["latents"]) * 0.5}

    films = [frames_of(pipe, "a red star", callback_on_step_end=one, **CALL) for one in (in_place, returned)]
    assert np.array_equal(*films)
    assert not np.array_equal(films[0], frames_of(pipe, "a red star", **CALL))


def three_steps(pipe: Any, callback: Any, **arguments: Any) -> np.ndarray:
    call = {**CALL, "num_inference_steps": 3, "generator": None, **arguments}
    latents = torch.randn((1, 16, 2, 4, 6), generator=torch.Generator().manual_seed(0))
    call |= {"latents": latents, "callback_on_step_end": callback}
    call["callback_on_step_end_tensor_inputs"] = ["latents", "prompt_embeds", "negative_prompt_embeds"]
    return frames_of(pipe, "a red star", **call)


def test_new_embeddings_from_a_callback_take_effect_from_the_next_step_as_in_diffusers(
    pipe: WanPipeline, reference: diffusers.WanPipeline
) -> None:
    def swap(p: Any, step: int, timestep: Any, tensors: dict) -> dict:
        other, negative = p.encode_prompt_before
        return {"prompt_embeds": other, "negative_prompt_embeds": negative} if step == 0 else {}

    pipe.encode_prompt_before = pipe.encode_prompt(
        "a much longer text about a blue ball", "red", max_sequence_length=512
    )
    reference.encode_prompt_before = reference.encode_prompt(
        "a much longer text about a blue ball", "red", max_sequence_length=512
    )
    ours = three_steps(pipe, swap)
    assert np.abs(ours - three_steps(reference, swap)).max() < 5e-5
    assert np.abs(ours - three_steps(pipe, None)).max() > 1e-3
    assert pipe.report.components["transformer"].executions == 1  # of the last call: nothing was planned anew


def test_embeddings_changed_in_place_count_and_unchanged_ones_cost_nothing(pipe: WanPipeline) -> None:
    def zero(p: WanPipeline, step: int, timestep: Any, tensors: dict) -> None:
        if step == 0:
            tensors["prompt_embeds"][:] = 0

    def returned(p: WanPipeline, step: int, timestep: Any, tensors: dict) -> dict:
        return {"prompt_embeds": np.zeros_like(tensors["prompt_embeds"])} if step == 0 else tensors

    films = [three_steps(pipe, one) for one in (zero, returned)]
    assert np.array_equal(*films)
    three_steps(pipe, lambda p, step, timestep, tensors: tensors)
    assert pipe.report.components["transformer"].passes == 1 + 3


def test_guidance_set_by_a_callback_takes_effect_from_the_next_step(pipe: WanPipeline) -> None:
    def set_guidance(value: float) -> Any:
        def callback(p: WanPipeline, step: int, timestep: Any, tensors: dict) -> dict:
            if step == 0:
                p._guidance_scale = value
            return {}

        return callback

    constant = three_steps(pipe, None)
    assert np.array_equal(three_steps(pipe, set_guidance(5.0)), constant)
    assert not np.array_equal(three_steps(pipe, set_guidance(2.0)), constant)
    off = three_steps(pipe, set_guidance(0.0))
    assert not np.array_equal(off, constant) and pipe.report.components["transformer"].executions == 2
    with pytest.raises(ValueError, match="Guidance was switched on before step 1"):
        three_steps(pipe, set_guidance(4.0), guidance_scale=1.0)
    assert np.array_equal(three_steps(pipe, None), constant)


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (3, TypeError, "has to return a dict or None but returned a int"),
        ({"noise": 1}, ValueError, "noise"),
        ({"latents": np.zeros((1, 16, 2, 4, 5), "f")}, ValueError, "`latents`"),
        ({"prompt_embeds": np.zeros((2, 16, 64), "f")}, ValueError, "`prompt_embeds`"),
    ],
)
def test_what_a_callback_must_not_return_is_named_and_the_pipeline_stays_usable(
    returned: Any, error: type, message: str, pipe: WanPipeline, film: np.ndarray
) -> None:
    with pytest.raises(error, match=message):
        pipe("a red star", callback_on_step_end=lambda *_: returned, **CALL)
    assert np.array_equal(frames_of(pipe, "a red star", **CALL), film)


@pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt()])
def test_an_error_in_a_callback_comes_out_as_it_is_and_the_pipeline_stays_usable(
    error: BaseException, pipe: WanPipeline, film: np.ndarray
) -> None:
    def fail(*_: Any) -> None:
        raise error

    pipe.enable_group_offload("cpu", "disk", "leaf_level", use_stream=True)
    with pytest.raises(type(error)):
        pipe("a red star", callback_on_step_end=fail, **CALL)
    assert pipe.current_timestep is None
    assert np.array_equal(frames_of(pipe, "a red star", **CALL), film)


def test_ctrl_c_in_the_middle_of_a_step_is_keyboard_interrupt_and_the_pipeline_stays_usable(
    pipe: WanPipeline, film: np.ndarray
) -> None:
    started = threading.Event()

    def send() -> None:
        assert started.wait(60)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=send)
    thread.start()
    pipe.enable_group_offload("cpu", "disk", "leaf_level", use_stream=True)
    with pytest.raises(KeyboardInterrupt):
        pipe(
            "a red star",
            callback_on_step_end=lambda *_: started.set(),
            **{**CALL, "height": 128, "width": 128, "num_inference_steps": 1000},
        )
    thread.join()
    assert 1 <= pipe.report.steps < 1000
    assert np.array_equal(frames_of(pipe, "a red star", **CALL), film)


def test_a_callback_object_names_the_tensors_it_wants(pipe: WanPipeline) -> None:
    class Callback:
        tensor_inputs = ["latents", "prompt_embeds"]

        def __call__(self, p: WanPipeline, step: int, timestep: Any, tensors: dict) -> dict:
            self.seen = {name: value.shape for name, value in tensors.items()}
            return tensors

    callback = Callback()
    pipe("a red star", callback_on_step_end=callback, **CALL)
    assert callback.seen == {"latents": (1, 16, 2, 4, 6), "prompt_embeds": (1, 512, 64)}


def test_interrupt_skips_the_steps_that_are_left_and_decodes(pipe: WanPipeline, film: np.ndarray) -> None:
    def stop(p: WanPipeline, step: int, timestep: Any, tensors: dict) -> dict:
        p._interrupt = step == 1
        return {}

    frames = frames_of(pipe, "a red star", callback_on_step_end=stop, **{**CALL, "num_inference_steps": 9})
    assert frames.shape == film.shape and pipe.report.steps == 2 and pipe.report.interrupted
    assert np.array_equal(frames_of(pipe, "a red star", **CALL), film) and not pipe.report.interrupted


def test_a_second_thread_gets_an_error_and_the_first_its_film(pipe: WanPipeline, film: np.ndarray) -> None:
    inside, seen = threading.Event(), threading.Event()
    caught: list[BaseException] = []

    def second() -> None:
        inside.wait(60)
        for call in (lambda: pipe("a red star", **CALL), lambda: pipe.vae.decode(np.zeros((1, 16, 1, 2, 2), "f"))):
            try:
                call()
            except BusyError as error:
                caught.append(error)
        seen.set()

    def hold(*_: Any) -> None:
        inside.set()
        assert seen.wait(60)

    thread = threading.Thread(target=second)
    thread.start()
    frames = frames_of(pipe, "a red star", callback_on_step_end=hold, **CALL)
    thread.join()
    assert len(caught) == 2 and "one call at a time" in str(caught[0])
    assert np.array_equal(frames, film)
    assert np.array_equal(frames_of(pipe, "a red star", **CALL), film)


def test_the_progress_bar_counts_steps_and_can_be_switched_off(
    pipe: WanPipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe(["a red star"], **CALL)
    assert capsys.readouterr().err == ""
    pipe.set_progress_bar_config(desc="drawing")
    pipe(["a red star"], **CALL)
    assert "drawing" in (err := capsys.readouterr().err) and "2/2" in err
    with pytest.raises(ValueError, match="Either `total` or `iterable`"):
        pipe.progress_bar()
