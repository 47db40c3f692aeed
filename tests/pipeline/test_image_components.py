"""Components of image to video called alone: the same bits however they are offloaded, and one VAE in two halves."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import (
    IMAGE_TRANSFORMER,
    edit_weights,
    write_image_encoder,
    write_image_processor,
    write_transformer,
    write_vae,
)
from pipeline.helpers import edit_json, open_pipeline

import wanoffload


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("image")
    write_image_encoder(root / "image_encoder", num_hidden_layers=4)
    write_image_processor(root / "image_processor")
    write_transformer(root / "transformer", num_layers=3, **IMAGE_TRANSFORMER)
    write_vae(root / "vae")
    return root


def encode_image(model: Any) -> np.ndarray:
    return model(normal(2, 3, 30, 30), output_hidden_states=True).hidden_states[-2]


def denoise(model: Any) -> np.ndarray:
    return model(normal(2, 9, 2, 4, 6), 500, normal(2, 9, 20), normal(2, 17, 14)).sample


def encode_video(model: Any) -> np.ndarray:
    return model.encode(normal(1, 3, 9, 16, 24)).latent_dist.mode()


CALLS: dict[str, tuple[type, Callable[[Any], np.ndarray]]] = {
    "image_encoder": (wanoffload.CLIPVisionModel, encode_image),
    "transformer": (wanoffload.WanTransformer3DModel, denoise),
    "vae": (wanoffload.AutoencoderKLWan, encode_video),
}


@pytest.mark.parametrize("tier", ["cpu", "disk"])
@pytest.mark.parametrize("stream", [False, True], ids=["no-stream", "stream"])
@pytest.mark.parametrize("name", CALLS)
def test_offloading_changes_the_bits_or_moves_nothing(folder: Path, name: str, stream: bool, tier: str) -> None:
    kind, call = CALLS[name]
    model = kind.from_pretrained(folder, subfolder=name)
    resident = call(model)
    assert model.report.bytes_moved == 0
    for options in ({"num_blocks_per_group": 2}, {"offload_type": "leaf_level"}):
        model.enable_group_offload("cpu", tier, use_stream=stream, **options)
        assert np.array_equal(call(model), resident)
        report = model.report
        assert report.bytes_moved > 0 and report.plan["component"] == report.name
        assert (report.bytes_from_disk > 0) == (tier == "disk") and (report.bytes_from_host > 0) == (tier == "cpu")
    model.disable_offload()
    assert np.array_equal(call(model), resident)


@pytest.mark.parametrize("name", CALLS)
def test_a_component_does_not_keep_to_its_budget(folder: Path, name: str) -> None:
    kind, call = CALLS[name]
    model = kind.from_pretrained(folder, subfolder=name)
    resident = call(model)
    model.enable_auto_offload(vram=1)
    with pytest.raises(wanoffload.PlanError) as caught:
        call(model)
    model.enable_auto_offload(vram=caught.value.needed["vram"])
    assert np.array_equal(call(model), resident) and model.report.bytes_moved > 0
    held = model.runtime.engine.held()
    assert held["resident_bytes"] + held["arena_bytes"] <= caught.value.needed["vram"]


def test_the_image_chain_from_picture_to_velocity_does_not_fit_together(folder: Path) -> None:
    import PIL.Image

    processor = wanoffload.CLIPImageProcessor.from_pretrained(folder, subfolder="image_processor")
    encoder = wanoffload.CLIPVisionModel.from_pretrained(folder, subfolder="image_encoder")
    features = processor(images=PIL.Image.new("L", (50, 40), 90), return_tensors="pt")
    hidden = encoder(**features, output_hidden_states=True).hidden_states[-2]
    assert isinstance(hidden, torch.Tensor) and hidden.shape == (1, 17, 36)


def test_the_encoder_is_opened_before_it_is_used(folder: Path) -> None:
    vae = wanoffload.AutoencoderKLWan.from_pretrained(folder, subfolder="vae")
    vae.decode(normal(1, 4, 1, 2, 3))
    assert vae.cores == (vae.core,) and vae.bytes == vae.core.bytes and vae.report.name == "vae"
    encode_video(vae)
    assert vae.cores == (vae.core, vae.encoder) and vae.bytes == vae.core.bytes + vae.encoder.bytes
    assert vae.report.name == "vae encoder" and vae.report.passes == 3


def test_a_setting_holds_for_one_half_of_the_vae_only(folder: Path) -> None:
    vae = wanoffload.AutoencoderKLWan.from_pretrained(folder, subfolder="vae")
    held = vae.runtime.engine.held
    encode_video(vae), vae.decode(normal(1, 4, 1, 2, 3))
    assert held()["resident_bytes"] == vae.bytes
    vae.enable_group_offload("cpu", offload_type="leaf_level")
    assert held()["resident_bytes"] == 0
    encode_video(vae), vae.decode(normal(1, 4, 1, 2, 3))
    assert held()["resident_bytes"] == 0 and held()["slab_bytes"] >= vae.bytes
    vae.disable_offload()
    assert held()["slab_bytes"] == 0


def test_one_half_of_the_vae_does_not_make_room_for_the_other(folder: Path) -> None:
    vae = wanoffload.AutoencoderKLWan.from_pretrained(folder, subfolder="vae")
    vae.enable_auto_offload(vram=vae.core.bytes + (4 << 20))
    for _ in range(2):
        vae.decode(normal(1, 4, 1, 2, 3))
        assert vae.runtime.engine.held()["resident_bytes"] == vae.core.bytes
        encode_video(vae)
        assert vae.runtime.engine.held()["resident_bytes"] == vae.encoder.bytes


def test_the_encoder_keeps_its_dtype_when_the_vae_gets_another(folder: Path) -> None:
    vae = wanoffload.AutoencoderKLWan.from_pretrained(folder, subfolder="vae")
    exact = encode_video(vae)
    vae.to("bfloat16")
    rounded = encode_video(vae)
    assert vae.encoder.dtype == "bfloat16" and not np.array_equal(rounded, exact)
    vae.to("float32")
    assert np.array_equal(encode_video(vae), exact)


def test_memory_of_an_encode_grows_with_the_frames(folder: Path) -> None:
    vae = wanoffload.AutoencoderKLWan.from_pretrained(folder, subfolder="vae")
    peaks = []
    for frames in (5, 45):
        vae.encode(normal(1, 3, frames, 16, 24))
        peaks.append(vae.report.as_dict())
    for field in ("arena_bytes", "activation_peak"):
        assert peaks[0][field] == peaks[1][field]
    assert peaks[0]["ram_peak"] >= peaks[1]["ram_peak"], "the first call loads the weights, the second does not"


def test_a_vae_without_its_encoder_cannot_decode_or_is_not_named(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "vae", tmp_path / "vae")

    def leave_out(weights: dict[str, torch.Tensor]) -> None:
        for name in [name for name in weights if name.startswith(("encoder.", "quant_conv"))]:
            del weights[name]

    edit_weights(tmp_path / "vae", leave_out)
    vae = wanoffload.AutoencoderKLWan.from_pretrained(tmp_path, subfolder="vae")
    assert vae.decode(normal(1, 4, 1, 2, 3)).sample.shape == (1, 3, 1, 16, 24)
    with pytest.raises(wanoffload.CheckpointError, match=r"encoder\.conv_in\.weight"):
        encode_video(vae)


@pytest.mark.parametrize(
    ("video", "exception", "message"),
    [
        (normal(1, 3, 1, 20, 24), ValueError, "20x24; height and width have to be multiples of 8"),
        (normal(1, 4, 1, 16, 24), ValueError, "channels=3"),
        (normal(3, 1, 16, 24), ValueError, "`x` has to be of shape"),
        (normal(1, 3, 0, 16, 24), ValueError, "empty axis"),
        (np.zeros((1, 3, 1, 16, 24), np.uint8), TypeError, "`x`.*floating-point"),
        ("film.mp4", TypeError, "`x`"),
    ],
    ids=["size", "channels", "one video", "no frames", "bytes", "path"],
)
def test_vae_encode_refuses_by_name(folder: Path, video: Any, exception: type[Exception], message: str) -> None:
    vae = wanoffload.AutoencoderKLWan.from_pretrained(folder, subfolder="vae")
    with pytest.raises(exception, match=message):
        vae.encode(video)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"added_kv_proj_dim": None}, "added_kv_proj_dim=None.*36"),
        ({"added_kv_proj_dim": 35}, "added_kv_proj_dim=35.*36"),
        ({"image_dim": None}, "added_kv_proj_dim=36 but no image_dim"),
        ({"image_dim": 0}, "image_dim.*0"),
        ({"pos_embed_seq_len": 7}, "pos_embed_seq_len=7.*even"),
        ({"image_dim": 15}, "image_embedder"),
        ({"pos_embed_seq_len": 8}, "pos_embed"),
        ({"vace_layers": [0]}, "VACE"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_transformer_whose_entries_do_not_go_together_is_taken(
    folder: Path, tmp_path: Path, entries: dict[str, Any], message: str
) -> None:
    shutil.copytree(folder / "transformer", tmp_path / "transformer")
    edit_json(tmp_path / "transformer" / "config.json", **entries)
    with pytest.raises(wanoffload.CheckpointError, match=message):
        wanoffload.WanTransformer3DModel.from_pretrained(tmp_path, subfolder="transformer")


def test_a_pipeline_s_engine_forgets_the_encoder_of_its_vae(demo_model: Path) -> None:
    pipe = open_pipeline(demo_model)
    encode_video(pipe.vae)
    assert pipe.runtime.engine.held()["resident_bytes"] == pipe.vae.encoder.bytes
    pipe.enable_model_cpu_offload()
    assert pipe.runtime.engine.held()["resident_bytes"] == 0
    encode_video(pipe.vae)
    assert pipe.runtime.engine.held()["resident_bytes"] == 0
