"""Opening checkpoints: the layout, the keywords, and an error by name for everything that is missing or of another
model."""

import json
import logging
import shutil
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from pipeline.helpers import SMALL, copy_checkpoint, edit_json, frames_of, open_pipeline
from safetensors.torch import load_file, save_file

import wanoffload
from wanoffload import AutoencoderKLWan, CheckpointError, UMT5EncoderModel, WanPipeline, WanTransformer3DModel
from wanoffload.errors import DeviceError


@pytest.fixture
def checkpoint(demo_model: Path, tmp_path: Path) -> Path:
    return copy_checkpoint(demo_model, tmp_path / "model")


def test_components_are_there_under_the_names_of_diffusers(pipe: WanPipeline, reference: diffusers.WanPipeline) -> None:
    assert set(pipe.components) == set(reference.components)
    assert pipe.components["transformer_2"] is None
    assert (pipe.vae_scale_factor_spatial, pipe.vae_scale_factor_temporal) == (8, 4)
    assert pipe.config.boundary_ratio is None and pipe.config["expand_timesteps"] is False
    assert pipe.device == "cpu" and pipe.dtype == torch.float32
    for name in ("transformer", "vae"):
        ours, theirs = getattr(pipe, name).config, getattr(reference, name).config
        for key, value in theirs.items():
            if not key.startswith("_"):
                assert ours[key] == (list(value) if isinstance(value, tuple) else value), key


def test_a_pipeline_made_of_another_s_components_shares_its_engine_and_bits(pipe: WanPipeline) -> None:
    twin = WanPipeline(**pipe.components)
    twin.set_progress_bar_config(disable=True)
    assert twin.runtime is pipe.runtime
    arguments = {**SMALL, "num_inference_steps": 1, "generator": 1}
    assert np.array_equal(frames_of(twin, "a red star", **arguments), frames_of(pipe, "a red star", **arguments))


def test_dtype_is_that_of_text_encoder_and_transformer_and_the_vae_is_float32(demo_model: Path) -> None:
    pipe = WanPipeline.from_pretrained(demo_model, torch_dtype=torch.bfloat16)
    assert (pipe.text_encoder.dtype, pipe.transformer.dtype, pipe.vae.dtype) == ("bfloat16", "bfloat16", "float32")
    pipe = WanPipeline.from_pretrained(demo_model, dtype={"transformer": "bf16", "default": np.float16})
    assert (pipe.text_encoder.dtype, pipe.transformer.dtype, pipe.vae.dtype) == ("float16", "bfloat16", "float16")
    assert WanPipeline.from_pretrained(demo_model, dtype="auto").transformer.dtype == "bfloat16"
    with pytest.raises(ValueError, match="'unet'"):
        WanPipeline.from_pretrained(demo_model, dtype={"unet": "float32"})
    with pytest.raises(ValueError, match="Pass one of the two"):
        WanPipeline.from_pretrained(demo_model, dtype="float32", torch_dtype=torch.bfloat16)


def test_to_changes_the_dtype_and_keeps_the_device(pipe: WanPipeline) -> None:
    assert pipe.to("cpu") is pipe and pipe.dtype == "float32"
    assert pipe.to(torch.device("cpu"), torch.bfloat16).dtype == "bfloat16"
    assert pipe.vae.to("float16").dtype == "float16"
    with pytest.raises(ValueError, match="first corresponds to `device`"):
        pipe.to(torch.bfloat16, "cpu")
    with pytest.raises(DeviceError, match="cuda"):
        pipe.to("cuda")
    with pytest.raises(TypeError, match="'memory_format'"):
        pipe.to("cpu", memory_format=1)


def test_to_on_an_offloaded_component_warns_and_does_nothing(
    pipe: WanPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    pipe.transformer.enable_group_offload("cpu", offload_type="leaf_level")
    with caplog.at_level(logging.WARNING, "wanoffload"):
        pipe.to("cpu")
    assert [r.message for r in caplog.records] == [
        "The module 'WanTransformer3DModel' is group offloaded and moving it using `.to()` is not supported."
    ]
    assert pipe.transformer.offload.level == "leaf"


@pytest.mark.parametrize("cls", [WanPipeline, WanTransformer3DModel])
def test_an_unknown_keyword_is_named(cls: type, demo_model: Path) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'torch_dtyp'"):
        cls.from_pretrained(demo_model, torch_dtyp="float32")


@pytest.mark.parametrize(
    "option", [{"use_safetensors": False}, {"device_map": "balanced"}, {"low_cpu_mem_usage": False}]
)
def test_a_keyword_that_cannot_take_effect_is_refused_with_the_reason(option: dict, demo_model: Path) -> None:
    with pytest.raises(ValueError, match="cannot take effect"):
        WanPipeline.from_pretrained(demo_model, **option)
    WanPipeline.from_pretrained(demo_model, use_safetensors=True, low_cpu_mem_usage=True, local_files_only=True)


def test_a_component_is_loaded_alone(demo_model: Path) -> None:
    vae = AutoencoderKLWan.from_pretrained(demo_model, subfolder="vae", dtype="bfloat16")
    assert vae.config.z_dim == vae.config["z_dim"] == 16 and vae.dtype == torch.bfloat16 and vae.device == "cpu"
    assert WanTransformer3DModel.from_pretrained(demo_model / "transformer").config.num_layers == 6
    assert UMT5EncoderModel.from_pretrained(str(demo_model), subfolder="text_encoder").config.d_model == 64
    with pytest.raises(AttributeError, match="'foo'"):
        _ = vae.config.foo


def test_a_component_given_to_the_pipeline_keeps_its_dtype_and_settings(demo_model: Path) -> None:
    vae = AutoencoderKLWan.from_pretrained(demo_model, subfolder="vae", dtype="bfloat16")
    vae.enable_group_offload("cpu", offload_type="leaf_level")
    pipe = WanPipeline.from_pretrained(demo_model, vae=vae, text_encoder=None, tokenizer=None)
    assert pipe.vae is vae and vae.offload.level == "leaf" and vae.runtime is pipe.runtime
    assert pipe.text_encoder is None


@pytest.mark.parametrize("name", ["vae", "transformer", "scheduler", "tokenizer", "transformer_2"])
def test_a_foreign_component_is_refused_by_name(name: str, demo_model: Path) -> None:
    with pytest.raises(TypeError, match=f"`{name}`"):
        WanPipeline.from_pretrained(demo_model, **{name: torch.nn.Identity()})


def test_a_missing_folder_says_what_is_there(checkpoint: Path) -> None:
    with pytest.raises(FileNotFoundError, match="check the path") as caught:
        WanPipeline.from_pretrained("/nowhere/at/all")
    assert caught.value.filename == "/nowhere/at/all" and caught.value.errno == 2
    shutil.rmtree(checkpoint / "vae")
    with pytest.raises(OSError, match="no folder 'vae'.*text_encoder.*transformer"):
        WanPipeline.from_pretrained(checkpoint)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("model_index.json", "no file named model_index.json"),
        ("transformer/config.json", "no file named config.json"),
        ("transformer/diffusion_pytorch_model.safetensors", "no file named diffusion_pytorch_model.safetensors"),
        ("scheduler/scheduler_config.json", "scheduler_config.json"),
        ("tokenizer/tokenizer.json", "tokenizer.json"),
    ],
)
def test_a_missing_file_is_named(gone: str, message: str, checkpoint: Path) -> None:
    (checkpoint / gone).unlink()
    with pytest.raises(OSError, match=message) as caught:
        WanPipeline.from_pretrained(checkpoint)
    assert str(checkpoint) in str(caught.value)


def test_a_missing_tokenizer_folder_is_named(checkpoint: Path) -> None:
    shutil.rmtree(checkpoint / "tokenizer")
    with pytest.raises(OSError, match="no folder 'tokenizer'"):
        WanPipeline.from_pretrained(checkpoint)


def test_weights_in_another_format_are_spoken_of(checkpoint: Path) -> None:
    weights = checkpoint / "vae/diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(OSError, match="diffusion_pytorch_model.bin, but only safetensors are read"):
        WanPipeline.from_pretrained(checkpoint)


def test_a_variant_is_found_and_a_missing_one_says_which_files_there_are(checkpoint: Path) -> None:
    for file in ("transformer/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"):
        (checkpoint / f"{file}.safetensors").rename(checkpoint / f"{file}.fp16.safetensors")
    assert open_pipeline(checkpoint, variant="fp16").transformer.config.num_layers == 6
    with pytest.raises(OSError, match=r"fp16.safetensors; pass `variant=`"):
        open_pipeline(checkpoint)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("model_index.json", {"_class_name": "StableDiffusionPipeline"}, "StableDiffusionPipeline, which is not a WAN"),
        ("model_index.json", {"_class_name": "WanImageToVideoPipeline"}, "image to video.*Open it with"),
        ("model_index.json", {"_class_name": "WanVACEPipeline"}, "WanVACEPipeline .VACE"),
        ("model_index.json", {"_class_name": None}, "None, which is not a WAN checkpoint"),
        ("model_index.json", {"expand_timesteps": True}, "expand_timesteps=True"),
        ("model_index.json", {"boundary_ratio": 1.5}, "`boundary_ratio` has to be a number from 0 to 1"),
        ("model_index.json", {"scheduler": ["diffusers", []]}, "names the scheduler"),
        ("text_encoder/config.json", {"vocab_size": 289}, "tokenizer has ids up to 289.*vocab_size=289|shared.weight"),
        ("model_index.json", {"scheduler": ["diffusers", "DDIMScheduler"]}, "DDIMScheduler.*UniPCMultistepScheduler"),
        ("transformer/config.json", {"image_dim": 1280}, "image_dim|condition_embedder.image_embedder"),
        ("transformer/config.json", {"in_channels": 36}, "in_channels|patch_embedding"),
        ("transformer/config.json", {"vace_layers": [0]}, "vace_layers"),
        ("transformer/config.json", {"patch_size": [1, 4, 4]}, "patch_size"),
        ("transformer/config.json", {"_class_name": "UNet2DModel"}, "a UNet2DModel, not a WanTransformer3DModel"),
        ("vae/config.json", {"z_dim": 48}, "VAE of WAN 2.2"),
        ("vae/config.json", {"is_residual": True}, "VAE of WAN 2.2"),
        ("vae/config.json", {"latents_std": [1.0]}, "latents_std has 1 entries, but z_dim is 16"),
        ("text_encoder/config.json", {"model_type": "t5"}, "of type t5"),
        ("text_encoder/config.json", {"feed_forward_proj": "relu"}, "feed_forward_proj='relu'"),
        ("scheduler/scheduler_config.json", {"prediction_type": "epsilon"}, "scheduler"),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(file: str, changes: dict, message: str, checkpoint: Path) -> None:
    edit_json(checkpoint / file, **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        WanPipeline.from_pretrained(checkpoint)
    assert isinstance(caught.value, ValueError) and str(checkpoint) in str(caught.value)


@pytest.mark.parametrize("text", ["", "[1, 2]", "{", "\x00\xff"])
@pytest.mark.parametrize("file", ["model_index.json", "vae/config.json", "scheduler/scheduler_config.json"])
def test_a_configuration_that_is_no_json_object_is_named(file: str, text: str, checkpoint: Path) -> None:
    (checkpoint / file).write_text(text, "latin-1")
    with pytest.raises(ValueError, match=Path(file).name):
        WanPipeline.from_pretrained(checkpoint)


@pytest.mark.parametrize("value", [None, -1, "x", [], {}, [1, "a"]])
@pytest.mark.parametrize(
    ("file", "entry"),
    [
        ("model_index.json", "_class_name"),
        ("model_index.json", "scheduler"),
        ("transformer/config.json", "num_layers"),
        ("transformer/config.json", "in_channels"),
        ("transformer/config.json", "rope_max_seq_len"),
        ("text_encoder/config.json", "d_model"),
        ("text_encoder/config.json", "relative_attention_num_buckets"),
        ("vae/config.json", "dim_mult"),
        ("vae/config.json", "latents_mean"),
        ("vae/config.json", "scale_factor_spatial"),
        ("scheduler/scheduler_config.json", "num_train_timesteps"),
        ("scheduler/scheduler_config.json", "flow_shift"),
    ],
)
def test_an_entry_of_the_wrong_type_is_a_checkpoint_error(
    file: str, entry: str, value: object, checkpoint: Path
) -> None:
    edit_json(checkpoint / file, **{entry: value})
    with pytest.raises(CheckpointError, match=str(checkpoint)):
        WanPipeline.from_pretrained(checkpoint)


def test_a_configuration_that_lacks_what_has_no_default_is_named(checkpoint: Path) -> None:
    file = checkpoint / "text_encoder/config.json"
    config = json.loads(file.read_text())
    del config["d_model"]
    file.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="no entry 'd_model'"):
        WanPipeline.from_pretrained(checkpoint)


def test_missing_and_misshapen_tensors_are_named_and_extra_ones_are_not_fatal(checkpoint: Path) -> None:
    file = checkpoint / "transformer/diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    name = "blocks.3.attn1.to_q.weight"
    save_file({key: value for key, value in tensors.items() if key != name}, file)
    with pytest.raises(CheckpointError, match=name):
        WanPipeline.from_pretrained(checkpoint)
    save_file({**tensors, name: tensors[name][:, :-1].contiguous()}, file)
    with pytest.raises(CheckpointError, match=f"{name}.*192"):
        WanPipeline.from_pretrained(checkpoint)
    save_file({**tensors, "surprise": torch.ones(3)}, file)
    pipe = open_pipeline(checkpoint)
    assert "surprise" in [tensor for tensor, _ in pipe.transformer.core.unused()]


def test_a_truncated_file_is_a_checkpoint_error_that_names_it(checkpoint: Path) -> None:
    file = checkpoint / "vae/diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="diffusion_pytorch_model.safetensors"):
        WanPipeline.from_pretrained(checkpoint)


def test_a_sharded_checkpoint_is_read_and_a_missing_shard_is_named(checkpoint: Path, demo_model: Path) -> None:
    folder = checkpoint / "transformer"
    whole = folder / "diffusion_pytorch_model.safetensors"
    tensors = load_file(whole)
    names = sorted(tensors)
    parts = {"part-1.safetensors": names[::2], "part-2.safetensors": names[1::2]}
    for part, chosen in parts.items():
        save_file({name: tensors[name] for name in chosen}, folder / part)
    whole.unlink()
    index = {"metadata": {}, "weight_map": {name: part for part, chosen in parts.items() for name in chosen}}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    arguments = {**SMALL, "num_inference_steps": 1, "generator": 1}
    sharded = frames_of(open_pipeline(checkpoint), "a red star", **arguments)
    assert np.array_equal(sharded, frames_of(open_pipeline(demo_model), "a red star", **arguments))
    (folder / "part-2.safetensors").unlink()
    with pytest.raises((CheckpointError, OSError), match="part-2"):
        open_pipeline(checkpoint)


def test_a_hub_name_that_cannot_be_had_is_an_os_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def refuse(name: str, **options: object) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError(f"{name}: no network; wanted {options['allow_patterns']}")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(OSError, match="'nobody/nothing' is neither a local folder.*no network.*transformer"):
        WanPipeline.from_pretrained("nobody/nothing")


def test_a_hub_name_is_fetched_with_only_what_is_needed(monkeypatch: pytest.MonkeyPatch, demo_model: Path) -> None:
    import huggingface_hub

    asked = {}

    def fetch(name: str, **options: object) -> str:
        asked.update(options, name=name)
        return str(demo_model)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    vae = AutoencoderKLWan.from_pretrained("some/model", subfolder="vae", revision="main")
    assert vae.config.z_dim == 16 and asked["revision"] == "main" and asked["name"] == "some/model"
    assert asked["allow_patterns"] == ["model_index.json", "vae/*"]


def test_importing_the_package_loads_nothing_heavy(tmp_path: Path) -> None:
    import os
    import subprocess
    import sys

    code = (
        "import sys, wanoffload; from wanoffload import WanPipeline, UniPCMultistepScheduler; "
        "print([m for m in ('torch', 'av', 'PIL', 'tokenizers', 'huggingface_hub', 'matplotlib') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(wanoffload.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("name", ["WanVACEPipeline", "WanAnimateTransformer3DModel"])
def test_importing_what_is_not_there_yet_does_not_say_so(name: str) -> None:
    with pytest.raises(ImportError, match=f"{name}.*not there yet"):
        getattr(wanoffload, name)
    assert not hasattr(wanoffload, "WanNothing")
