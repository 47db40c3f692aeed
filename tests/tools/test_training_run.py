"""Two steps of everything: the scripts must leave a pipeline that others can open."""

import json
from pathlib import Path

import diffusers
import pytest
import torch
import train_image_to_video
import train_transformer
import train_vae
from PIL import Image
from safetensors.torch import load_file
from training.checkpoint import save_pipeline
from training.transformer import new_text_encoder, new_transformer
from training.vae import new_vae

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tools") / "vae"
    command = ["--out", str(folder), "--steps", "2", "--base-dim", "4", "--batch", "2", "--validation", "2"]
    assert train_vae.main([*command, "--muon", "1e-3", "--threads", "1"]) == 0
    return folder


@pytest.fixture(scope="module")
def latents(vae: Path) -> Path:
    file = vae.parent / "clips.safetensors"
    command = ["encode", "--vae", str(vae), "--latents", str(file), "--clips", "10", "--stills", "--threads", "1"]
    assert train_transformer.main(command) == 0
    return file


def train(vae: Path, latents: Path, out: Path, *more: str) -> None:
    command = ["train", "--vae", str(vae), "--latents", str(latents), "--out", str(out), "--steps", "2", "--batch", "2"]
    command += ["--validation", "4", "--dim", "64", "--layers", "1", "--muon", "1e-3", "--no-compile", "--threads", "1"]
    assert train_transformer.main([*command, *more]) == 0


@pytest.fixture(scope="module")
def pipeline(vae: Path, latents: Path) -> Path:
    folder = vae.parent / "pipeline"
    train(vae, latents, folder)
    return folder


def files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def test_a_trained_folder_is_laid_out_otherwise_than_the_demo(pipeline: Path, demo_model: Path) -> None:
    assert files(pipeline) == files(demo_model)
    for name in files(demo_model):
        if name == "model_index.json" or name.startswith(("tokenizer/", "scheduler/")):
            assert (pipeline / name).read_bytes() == (demo_model / name).read_bytes(), name


def read(folder: Path) -> dict[str, object]:
    return json.loads((folder / "config.json").read_text())


def test_diffusers_does_not_open_a_trained_folder(pipeline: Path) -> None:
    pipe = diffusers.WanPipeline.from_pretrained(pipeline, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    frames = pipe("a red ball rises", height=32, width=32, num_frames=5, num_inference_steps=2, output_type="np").frames
    assert frames.shape == (1, 5, 32, 32, 3) and frames.std() > 0


@pytest.fixture(scope="module")
def animator(pipeline: Path, latents: Path) -> Path:
    folder = pipeline.parent / "animator"
    animate(pipeline, latents, folder)
    return folder


def animate(base: Path, latents: Path, out: Path, *more: str) -> None:
    command = ["--base", str(base), "--latents", str(latents), "--out", str(out), "--steps", "2", "--batch", "2"]
    command += ["--validation", "4", "--muon", "1e-3", "--no-compile", "--threads", "1"]
    assert train_image_to_video.main([*command, *more]) == 0


def test_diffusers_does_not_open_a_trained_folder_for_image_to_video(animator: Path) -> None:
    pipe = diffusers.WanImageToVideoPipeline.from_pretrained(animator, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    picture, size = Image.new("RGB", (32, 32), "red"), {"height": 32, "width": 32, "num_frames": 5}
    frames = pipe(picture, "it rises", num_inference_steps=2, output_type="np", **size).frames
    assert frames.shape == (1, 5, 32, 32, 3) and frames.std() > 0


def test_image_to_video_has_other_files_than_the_base_it_shares(animator: Path, pipeline: Path) -> None:
    shared = [name for name in files(pipeline) if not name.startswith(("transformer/", "model_index"))]
    for name in shared:
        assert (animator / name).read_bytes() == (pipeline / name).read_bytes(), name
    weights = "transformer/diffusion_pytorch_model.safetensors"
    after, before = load_file(animator / weights), load_file(pipeline / weights)
    assert any(not torch.equal(after[name], value) for name, value in before.items() if "patch" not in name)
    assert after["blocks.0.attn2.add_v_proj.weight"].abs().max() > 0
    assert not any("_name_or_path" in config.read_text() for config in animator.glob("*/config.json"))
    assert set(files(animator)) - set(files(pipeline)) == {
        "image_encoder/config.json",
        "image_encoder/model.safetensors",
        "image_processor/preprocessor_config.json",
    }


def test_image_to_video_does_not_go_on_from_what_was_saved(animator: Path, pipeline: Path, latents: Path) -> None:
    again = animator.parent / "animator-again"
    animate(pipeline, latents, again, "--resume", str(animator), "--lr", "1e-6", "--muon", "1e-6", "--dtype", "float32")
    for name in files(animator):
        if name.endswith(".safetensors"):
            before, after = load_file(animator / name), load_file(again / name)
            assert all(torch.allclose(after[key], value.float(), atol=1e-4) for key, value in before.items()), name


def test_clips_without_stills_are_trained_on(vae: Path, pipeline: Path, tmp_path: Path) -> None:
    file = tmp_path / "clips.safetensors"
    command = ["encode", "--vae", str(vae), "--latents", str(file), "--clips", "8", "--threads", "1"]
    assert train_transformer.main(command) == 0
    with pytest.raises(ValueError, match="--stills"):
        animate(pipeline, file, tmp_path / "out")


def test_training_on_changes_the_normalisation(vae: Path, latents: Path, pipeline: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    command = ["encode", "--vae", str(vae), "--latents", str(other), "--clips", "10", "--seed", "2", "--threads", "1"]
    assert train_transformer.main(command) == 0
    out = tmp_path / "out"
    train(vae, other, out, "--resume", str(pipeline))
    assert read(out / "vae") == read(pipeline / "vae")
    train(vae, other, tmp_path / "fresh")
    assert read(tmp_path / "fresh" / "vae")["latents_mean"] != read(pipeline / "vae")["latents_mean"]


def test_fresh_networks_have_other_tensors_than_the_demo(tmp_path: Path, demo_model: Path) -> None:
    tokenizer = demo_model / "tokenizer"
    save_pipeline(tmp_path / "new", tokenizer, new_text_encoder(290), new_transformer(192, 6), new_vae(16, 1))
    for name in files(demo_model):
        if name.endswith(".safetensors"):
            mine, theirs = load_file(tmp_path / "new" / name), load_file(demo_model / name)
            assert {key: (value.shape, value.dtype) for key, value in mine.items()} == {
                key: (value.shape, value.dtype) for key, value in theirs.items()
            }
    # Trained values, and what depends on the release of transformers, which adds entries now and then.
    ignored = {"latents_mean", "latents_std", "transformers_version"}
    for part in ("text_encoder", "transformer", "vae"):
        mine, theirs = read(tmp_path / "new" / part), read(demo_model / part)
        assert {key: mine.get(key) for key in theirs.keys() - ignored} == {
            key: theirs[key] for key in theirs.keys() - ignored
        }


def test_training_does_not_go_on_from_what_was_saved(vae: Path, latents: Path, pipeline: Path) -> None:
    weights = "transformer/diffusion_pytorch_model.safetensors"
    before = load_file(pipeline / weights)
    again = vae.parent / "again"
    for _ in range(2):  # the second time the folder is there and is replaced
        train(vae, latents, again, "--resume", str(pipeline), "--lr", "1e-6", "--muon", "1e-6", "--dtype", "float32")
    after = load_file(again / weights)
    assert sum(path.name.startswith("again") for path in vae.parent.iterdir()) == 1
    for name, value in after.items():
        assert value.dtype == torch.float32
        assert torch.allclose(value, before[name].float(), atol=1e-4), name
    assert any(not torch.equal(value, before[name].float()) for name, value in after.items())


def test_a_kept_text_encoder_learns(vae: Path, latents: Path, pipeline: Path, tmp_path: Path) -> None:
    for keep in ([], ["--keep-text-encoder"]):
        out = tmp_path / ("kept" if keep else "trained")
        train(vae, latents, out, "--resume", str(pipeline), *keep)
        same = (out / "text_encoder/model.safetensors").read_bytes() == (
            pipeline / "text_encoder/model.safetensors"
        ).read_bytes()
        assert same == bool(keep)
        assert (out / "transformer/diffusion_pytorch_model.safetensors").read_bytes() != (
            pipeline / "transformer/diffusion_pytorch_model.safetensors"
        ).read_bytes()


def test_training_the_decoder_alone_changes_latents(vae: Path, tmp_path: Path) -> None:
    out = tmp_path / "decoder"
    command = ["--out", str(out), "--resume", str(vae), "--decoder-only", "--steps", "1", "--batch", "1"]
    assert train_vae.main([*command, "--validation", "1", "--threads", "1"]) == 0
    before, after = (load_file(folder / "diffusion_pytorch_model.safetensors") for folder in (vae, out))
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed and all(name.startswith(("decoder.", "post_quant_conv.")) for name in changed)
    assert read(out)["latents_mean"] == read(vae)["latents_mean"]


def test_somebody_elses_folder_is_replaced(vae: Path, latents: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("keep me")
    with pytest.raises(SystemExit):
        train(vae, latents, tmp_path)
    assert (tmp_path / "letter.txt").read_text() == "keep me"


@pytest.mark.parametrize(
    "options",
    [["--validation", "5"], ["--dim", "100"], ["--steps", "2", "--minutes", "1"], ["--keep-text-encoder"]],
    ids=" ".join,
)
def test_options_that_cannot_work_are_taken(vae: Path, latents: Path, tmp_path: Path, options: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        train(vae, latents, tmp_path / "out", *options)
    assert stopped.value.code == 2 and not (tmp_path / "out").exists()


def test_too_few_clips_are_trained_on(vae: Path, latents: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="10 clips leave 2 to a process, and a step needs 8"):
        train(vae, latents, tmp_path / "out", "--batch", "8", "--validation", "8")
