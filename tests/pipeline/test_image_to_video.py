"""Image to video: what is taken, what is refused and how, and that no way of offloading changes a bit."""

import gc
import inspect
import logging
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import PIL.Image
import pytest
import torch
from pipeline.helpers import (
    CALL,
    draw_picture,
    edit_json,
    frames_of,
    open_pipeline,
    write_image_pipeline,
    write_pipeline,
)

import wanoffload
from wanoffload import CheckpointError, PlanError, WanImageToVideoPipeline, WanPipeline, WanVideoToVideoPipeline, _core
from wanoffload import pictures as pictures_module

KIND = "WanImageToVideoPipeline"
STILL = draw_picture(37, 53, 1)
RUN: dict[str, Any] = {**CALL, "prompt": "a red star", "image": STILL}


@pytest.fixture(scope="module")
def folders(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("stills")
    return {
        "text": write_pipeline(base / "text", demo_model, 1),
        "first": write_image_pipeline(base / "first", demo_model, 1),
        "both": write_image_pipeline(base / "both", demo_model, 2, "both", num_layers=1),
        "experts": write_image_pipeline(base / "experts", demo_model, 3, "experts", 0.9, num_layers=1),
    }


@pytest.fixture
def pipe(folders: dict[str, Path]) -> WanImageToVideoPipeline:
    return open_pipeline(folders["first"], KIND)


@pytest.mark.parametrize("cls", [WanImageToVideoPipeline, WanVideoToVideoPipeline])
@pytest.mark.parametrize("name", ["__call__", "encode_prompt", "check_inputs", "__init__"])
def test_a_method_has_the_arguments_and_defaults_of_diffusers(name: str, cls: type) -> None:
    theirs = getattr(diffusers, cls.__name__)
    ours, others = (inspect.signature(getattr(one, name)).parameters for one in (cls, theirs))
    assert list(ours) == list(others)
    for parameter, one in ours.items():
        empty = inspect.Parameter.empty
        needed = (one.default is empty, others[parameter].default is empty)
        if needed[0] != needed[1] or one.default != others[parameter].default:
            assert name in ("__init__", "encode_prompt"), parameter


def test_components_are_there_under_the_names_of_diffusers(pipe: WanImageToVideoPipeline, folders: dict) -> None:
    theirs = diffusers.WanImageToVideoPipeline.from_pretrained(folders["first"])
    assert set(pipe.components) == set(theirs.components)
    assert pipe.model_cpu_offload_seq == theirs.model_cpu_offload_seq
    twin = WanImageToVideoPipeline(**pipe.components)
    twin.set_progress_bar_config(disable=True)
    assert np.array_equal(frames_of(twin, **RUN), frames_of(pipe, **RUN))
    assert set(pipe.report.components) == {"text_encoder", "image_encoder", "vae encoder", "transformer", "vae"}


def test_dtype_is_that_of_text_encoder_and_transformers(folders: dict) -> None:
    pipe = open_pipeline(folders["first"], KIND, torch_dtype=torch.bfloat16)
    kinds = [getattr(pipe, name).dtype for name in ("text_encoder", "transformer", "image_encoder", "vae")]
    assert kinds == ["bfloat16", "bfloat16", "float32", "float32"]
    pipe = open_pipeline(folders["experts"], KIND, dtype={"transformer": "bfloat16", "vae": "float32"})
    assert pipe.transformer.dtype == pipe.transformer_2.dtype == "bfloat16" and pipe.text_encoder.dtype == "float32"


def cmyk_without_pixels() -> PIL.Image.Image:
    return PIL.Image.new("CMYK", (0, 5))


WRONG_STILLS = {
    "none": (None, ValueError, "Provide `image`"),
    "no picture": (3, TypeError, "`image` has to be a path, a PIL image, a NumPy array or a torch tensor"),
    "empty list": ([], ValueError, "`image` is an empty list"),
    "no picture in the list": ([STILL, "nowhere.png"], ValueError, "nowhere.png is not a valid path"),
    "no pixels": (cmyk_without_pixels(), ValueError, "`image` is 0x5: it has no pixels"),
    "no pixels in an array": (np.ones((0, 4, 3), "f"), ValueError, "`image` is 4x0: it has no pixels"),
    "no image in an array": (np.ones((0, 4, 4, 3), "f"), ValueError, "`image` holds no image"),
    "stretched": (PIL.Image.new("L", (2, 900)), ValueError, "`image` is 2x900: one side is more than 50 times"),
    "two channels": (np.ones((8, 8, 2), "f"), ValueError, r"`image` has to be an image \[height, width, channels\]"),
    "torch with channels last": (torch.ones(8, 8, 3), ValueError, r"`image`.*\[channels, height, width\]"),
    "rank": (np.ones((8,), "f"), ValueError, "`image` has to be an image"),
    "0..255 as floats": (np.full((8, 8, 3), 200.0, "f"), ValueError, "`image` has values from 200 to 200.*uint8"),
    "nan": (np.full((8, 8, 3), np.nan, "f"), ValueError, "`image` has values from nan"),
    "ints": (np.ones((8, 8, 3), "i8"), TypeError, "`image` has to hold uint8"),
    "complex": (np.ones((8, 8, 3), "c8"), TypeError, "`image`.*complex"),
    "too many": ([STILL] * 3, ValueError, "`image` holds 3, but there are 2 prompts"),
}


@pytest.mark.parametrize("name", WRONG_STILLS)
def test_a_still_that_will_not_do_is_named_before_any_work(name: str, pipe: WanImageToVideoPipeline) -> None:
    given, error, message = WRONG_STILLS[name]
    prompt = ["a", "b"] if name == "too many" else "a"
    with pytest.raises(error, match=message):
        pipe(**{**RUN, "image": given, "prompt": prompt})
    assert pipe.report is None
    if given is not None and name != "too many":
        with pytest.raises(error, match=message.replace("`image`", "`last_image`")):
            open_like = {**RUN, "last_image": given}
            pipe(**open_like)


def test_a_file_that_is_no_still_is_named(pipe: WanImageToVideoPipeline, tmp_path: Path) -> None:
    draw_picture(90, 90).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:2000])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("cut.png", "text.png", "empty.png"):
        with pytest.raises(ValueError, match=f"{name} is not a picture that can be read.*another file"):
            pipe(**{**RUN, "image": tmp_path / name})
    with pytest.raises(ValueError, match="missing.png is not a valid path"):
        pipe(**{**RUN, "image": str(tmp_path / "missing.png")})
    with pytest.raises(ValueError, match=f"{tmp_path}"):
        pipe(**{**RUN, "image": tmp_path})


def test_an_animation_is_refused_with_what_to_do(pipe: WanImageToVideoPipeline, tmp_path: Path) -> None:
    file = tmp_path / "moving.gif"
    draw_picture(20, 20, 1).save(file, save_all=True, append_images=[draw_picture(20, 20, 2)])
    with pytest.raises(ValueError, match=r"moving.gif \(`image`\) is animated, with 2 frames.*load_image"):
        pipe(**{**RUN, "image": file})
    with PIL.Image.open(file) as opened, pytest.raises(ValueError, match="`image` is animated, with 2 frames"):
        pipe(**{**RUN, "image": opened})
    frames_of(pipe, **{**RUN, "image": wanoffload.load_image(file)})


def test_an_enormous_still_is_refused_before_it_is_unpacked(
    pipe: WanImageToVideoPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    PIL.Image.new("L", (200, 100)).save(tmp_path / "huge.png")
    with monkeypatch.context() as patched:
        patched.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 9999)
        with pytest.raises(ValueError, match="huge.png is too large to be unpacked.*20000 pixels.*Make it smaller"):
            pipe(**{**RUN, "image": tmp_path / "huge.png"})
    monkeypatch.setattr(pictures_module, "MOST_PIXELS", 1000)
    with pytest.raises(ValueError, match="`image` is 53x37, 1961 pixels; 1000 is the most. Make it smaller first"):
        pipe(**RUN)


def test_last_image_goes_with_checkpoints_that_were_made_for_it(folders: dict) -> None:
    with pytest.raises(ValueError, match="`last_image` cannot take effect.*pos_embed_seq_len.*FLF2V"):
        open_pipeline(folders["first"], KIND)(**RUN, last_image=STILL)
    both = open_pipeline(folders["both"], KIND)
    with pytest.raises(ValueError, match="between a first and a last frame.*Give `last_image`"):
        both(**RUN)
    for pipe in (both, open_pipeline(folders["experts"], KIND)):
        with pytest.raises(ValueError, match="`last_image` needs a video of at least two frames"):
            pipe(**{**RUN, "num_frames": 1}, last_image=STILL)
    with pytest.raises(ValueError, match="`last_image` holds 3 images, but `image` 2"):
        both(**{**RUN, "image": [STILL] * 2, "prompt": ["a", "b"]}, last_image=[STILL] * 3)


@pytest.mark.parametrize(
    ("embeds", "error", "message"),
    [
        (np.ones((1, 17, 35), "f"), ValueError, "`image_embeds` has to be of shape .*image_dim=36"),
        (np.ones((17, 36), "f"), ValueError, "`image_embeds` has to be of shape"),
        (np.ones((1, 0, 36), "f"), ValueError, "`image_embeds` has to be of shape"),
        (np.ones((3, 17, 36), "f"), ValueError, "`image_embeds` are of 3 images, but `image` holds 1"),
        (np.full((1, 17, 36), np.nan, "f"), ValueError, "`image_embeds` holds values that are not finite"),
        ("embeds", TypeError, "`image_embeds` has to be a NumPy array"),
    ],
)
def test_image_embeddings_that_do_not_fit_are_named(
    embeds: Any, error: type, message: str, pipe: WanImageToVideoPipeline, folders: dict
) -> None:
    with pytest.raises(error, match=message):
        pipe(**RUN, image_embeds=embeds)
    with pytest.raises(ValueError, match="do not make 34 tokens per video"):
        open_pipeline(folders["both"], KIND)(**RUN, last_image=STILL, image_embeds=np.ones((1, 17, 36), "f"))


@pytest.mark.parametrize("name", ["last_image", "image_embeds"])
def test_a_plan_leaves_nothing_out_that_it_was_given(name: str, pipe: WanImageToVideoPipeline) -> None:
    given = {"last_image": STILL, "image_embeds": np.ones((1, 17, 36), "f")}[name]
    with pytest.raises(ValueError, match=f"`{name}` takes effect with `image` only"):
        pipe.plan(**{name: given}, height=32, width=48, num_frames=5)


@pytest.mark.parametrize("missing", ["image_encoder", "image_processor"])
def test_a_missing_image_encoder_is_asked_for_only_when_needed(missing: str, folders: dict) -> None:
    pipe = open_pipeline(folders["first"], KIND, **{missing: None})
    with pytest.raises(ValueError, match=f"no {missing}.*pass `image_embeds`"):
        pipe(**RUN)
    with pytest.raises(ValueError, match=f"no {missing}"):
        pipe.encode_image(STILL)
    assert frames_of(pipe, **RUN, image_embeds=np.ones((1, 17, 36), "f")).shape == (1, 5, 32, 48, 3)


def test_checkpoints_of_another_kind_are_refused_with_the_class_that_opens_them(folders: dict, tmp_path: Path) -> None:
    for cls in (WanPipeline, WanVideoToVideoPipeline):
        with pytest.raises(CheckpointError, match="image to video.*Open it with WanImageToVideoPipeline"):
            cls.from_pretrained(folders["first"])
    with pytest.raises(CheckpointError, match="text to video.*Open it with WanPipeline or WanVideoToVideoPipeline"):
        WanImageToVideoPipeline.from_pretrained(folders["text"])


def test_a_transformer_of_another_kind_is_named_whatever_the_index_says(
    folders: dict, demo_model: Path, tmp_path: Path
) -> None:
    mixed = write_pipeline(tmp_path / "mixed", demo_model, 1)
    edit_json(mixed / "model_index.json", _class_name="WanImageToVideoPipeline")
    with pytest.raises(CheckpointError, match="transformer is for text to video.*in_channels=12.*WanPipeline"):
        WanImageToVideoPipeline.from_pretrained(mixed)
    mixed = write_image_pipeline(tmp_path / "other", demo_model, 1)
    edit_json(mixed / "model_index.json", _class_name="WanPipeline")
    for cls in (WanPipeline, WanVideoToVideoPipeline):
        with pytest.raises(CheckpointError, match="not for text to video.*WanImageToVideoPipeline") as caught:
            cls.from_pretrained(mixed)
        assert str(mixed) in str(caught.value)


def test_a_vae_or_an_image_encoder_of_another_model_is_named(folders: dict, demo_model: Path, tmp_path: Path) -> None:
    from checkpoints import write_image_encoder

    with pytest.raises(CheckpointError, match="vae has latents of 16 channels, but the transformer takes 4"):
        vae = wanoffload.AutoencoderKLWan.from_pretrained(demo_model, subfolder="vae")
        WanImageToVideoPipeline.from_pretrained(folders["first"], vae=vae)
    write_image_encoder(tmp_path, hidden_size=24)
    encoder = wanoffload.CLIPVisionModel.from_pretrained(tmp_path)
    pipe = open_pipeline(folders["first"], KIND, image_encoder=encoder)
    with pytest.raises(ValueError, match="embeddings of width 24, but the transformer takes .*width 36"):
        pipe(**RUN)
    with pytest.raises(TypeError, match="`image_encoder` has to be a wanoffload.CLIPVisionModel"):
        open_pipeline(folders["first"], KIND, image_encoder=torch.nn.Identity())
    with pytest.raises(TypeError, match="`image_processor` has to be a wanoffload.CLIPImageProcessor"):
        open_pipeline(folders["first"], KIND, image_processor=torch.nn.Identity())
    pipe = open_pipeline(folders["first"], KIND, vae=None)
    with pytest.raises(ValueError, match="no vae, so it cannot encode"):
        pipe(**RUN, output_type="latent")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expand_timesteps": True}, "expand_timesteps=True .WAN 2.2 TI2V-5B.*Use a checkpoint of WAN 2.1"),
        ({"_class_name": "WanVACEPipeline"}, "WanVACEPipeline .VACE., which this version does not run"),
        ({"_class_name": "WanAnimatePipeline"}, "WanAnimatePipeline .Animate."),
    ],
)
def test_models_that_come_later_are_refused_by_name(
    changes: dict, message: str, demo_model: Path, tmp_path: Path
) -> None:
    folder = write_image_pipeline(tmp_path, demo_model, 1, num_layers=1)
    edit_json(folder / "model_index.json", **changes)
    for cls in (WanImageToVideoPipeline, WanPipeline, WanVideoToVideoPipeline):
        with pytest.raises(CheckpointError, match=message):
            cls.from_pretrained(folder)


def test_lora_and_gguf_are_refused_by_name(pipe: WanImageToVideoPipeline, tmp_path: Path) -> None:
    with pytest.raises(NotImplementedError, match="LoRA.*fuse_lora.*save_pretrained"):
        pipe.load_lora_weights("some/lora")
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    with pytest.raises(NotADirectoryError, match="GGUF.*safetensors"):
        WanImageToVideoPipeline.from_pretrained(file)
    for cls in (wanoffload.WanTransformer3DModel, WanImageToVideoPipeline):
        with pytest.raises(NotImplementedError, match="model.gguf.*GGUF.*safetensors"):
            cls.from_single_file(file)


SETTINGS: dict[str, Any] = {
    "leaf, stream": lambda p: p.enable_group_offload("cpu", offload_type="leaf_level", use_stream=True),
    "leaf, stream, disk": lambda p: p.enable_group_offload("cpu", "disk", "leaf_level", use_stream=True),
    "block": lambda p: p.enable_group_offload("cpu", num_blocks_per_group=1),
    "model": lambda p: p.enable_model_cpu_offload(),
    "sequential": lambda p: p.enable_sequential_cpu_offload(),
    "auto, ample": lambda p: p.enable_auto_offload(vram="1GiB"),
}


@pytest.mark.parametrize("kind", ["first", "both", "experts"])
def test_no_way_of_offloading_changes_a_bit_of_a_film_from_stills(kind: str, folders: dict) -> None:
    pipe = open_pipeline(folders[kind], KIND)
    pipe.vae.encoder  # noqa: B018  opens it: its table of tensors belongs to what was there before
    gc.collect()
    tables = _core.host_memory()["current"] + (1 << 20)  # names, schedules and plans: small, within the allowance
    arguments = {**RUN, "num_inference_steps": 3} | ({"last_image": draw_picture(64, 30, 2)} if kind == "both" else {})
    film = frames_of(pipe, **arguments)
    for name, enable in SETTINGS.items():
        enable(pipe)
        assert np.array_equal(frames_of(pipe, **arguments), film), name
        for component, report in pipe.report.components.items():
            assert report.ram_peak <= report.core_ram + tables, (name, component)
            assert name == "auto, ample" or report.bytes_moved + report.bytes_loaded > 0, (name, component)


def test_the_smallest_budget_holds_every_phase_and_gives_the_same_film(pipe: WanImageToVideoPipeline) -> None:
    film = frames_of(pipe, **RUN)
    size = {"height": 32, "width": 48, "num_frames": 5}
    pipe.enable_auto_offload(vram=1, ram=1)
    with pytest.raises(PlanError, match="smallest that would do") as caught:
        pipe(**RUN)
    needed = caught.value.needed
    pipe.enable_auto_offload(**needed)
    assert np.array_equal(frames_of(pipe, **RUN), film)
    plan = pipe.plan(STILL, RUN["prompt"], **size)
    assert list(plan.components) == ["text_encoder", "image_encoder", "vae encoder", "transformer", "vae"]
    assert plan.vram <= needed["vram"] and plan.ram <= needed["ram"]
    assert pipe.report.ram_peak <= needed["ram"]
    pipe.disable_offload()
    assert list(pipe.plan(**size).components) == list(plan.components), "a plan needs neither still nor prompt"


def test_tiling_covers_the_still_and_changes_the_film_a_little(pipe: WanImageToVideoPipeline) -> None:
    arguments = {**RUN, "height": 64, "width": 64, "num_frames": 5}
    whole = frames_of(pipe, **arguments)
    pipe.vae.enable_tiling(32, 32, 16, 16)
    tiled = frames_of(pipe, **arguments)
    assert tiled.shape == whole.shape and np.abs(tiled - whole).max() > 1e-4
    pipe.enable_group_offload("cpu", "disk", "leaf_level", use_stream=True)
    assert np.array_equal(frames_of(pipe, **arguments), tiled)


def test_num_frames_is_rounded_with_the_warning_of_diffusers(
    pipe: WanImageToVideoPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    film = frames_of(pipe, **RUN)
    with caplog.at_level(logging.WARNING, "wanoffload"):
        assert np.array_equal(frames_of(pipe, **{**RUN, "num_frames": 7}), film)
    assert "`num_frames - 1` has to be divisible by 4" in caplog.text
