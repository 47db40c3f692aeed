"""The command line in processes of its own: what it prints, writes and returns."""

import json
import re
from pathlib import Path

import numpy as np
from pipeline.helpers import SMALL, copy_checkpoint, edit_json, frames_of, open_pipeline

VIDEO = ["--height", "32", "--width", "48", "--frames", "5", "--steps", "2", "--seed", "5"]


def test_help_tells_what_each_command_is_for(run) -> None:
    text = run("--help")
    for word in ("generate", "plan", "inspect", "doctor", "demo", "exit codes: 0"):
        assert word in text
    for command in ("generate", "plan", "inspect", "doctor", "demo"):
        assert "wanoffload" in run(command, "--help")
    assert run("--version").startswith("wanoffload ")


def test_a_command_that_is_not_understood_returns_2(run, demo_model: Path) -> None:
    assert "COMMAND" in run(code=2)
    assert "invalid choice" in run("destroy", code=2)
    assert "--prompt" in run("generate", demo_model, code=2)
    assert "has to be a size" in run("plan", demo_model, "--vram", "lots", code=2)
    assert "--stream takes effect" in run("plan", demo_model, "--stream", code=2)
    assert "cannot take effect with --offload leaf" in run(
        "plan", demo_model, "--vram", "1GiB", "--offload", "leaf", code=2
    )
    assert "has to end in" in run("generate", demo_model, "--prompt", "x", "-o", "out.txt", code=2)
    assert "there is no folder" in run("generate", demo_model, "--prompt", "x", "-o", "no/where.mp4", code=2)
    for name, value, message in (
        ("--fps", "0", "has to be positive"),
        ("--fps", "nan", "has to be positive"),
        ("--quality", "11", "from 0 to 10"),
        ("--report", "no/where.json", "there is no folder"),
    ):
        assert message in run("generate", demo_model, "--prompt", "x", name, value, code=2)


def test_a_failure_is_one_line_and_1_and_debug_shows_the_traceback(run, demo_model: Path, tmp_path: Path) -> None:
    text = run("plan", tmp_path / "nothing", code=1)
    assert text.startswith("wanoffload: error: ") and text.count("\n") == 1 and "nothing" in text
    assert "Traceback" in run("plan", tmp_path / "nothing", "--debug", code=1)
    text = run("plan", demo_model, "--vram", "1MB", "--ram", "1MB", code=1)
    assert re.search(r"smallest that would do is vram=\d+ bytes", text) and text.count("\n") == 1
    folder = copy_checkpoint(demo_model, tmp_path / "other")
    edit_json(folder / "model_index.json", _class_name="FluxPipeline")
    assert "FluxPipeline" in run("inspect", folder, code=1)
    assert "divisible by 16" in run("generate", demo_model, "--prompt", "x", "--height", "30", code=1)


def test_plan_prints_a_table_or_json_and_the_needed_budget_works(run, demo_model: Path) -> None:
    table = run("plan", demo_model, *VIDEO[:6])
    assert "transformer" in table and "activations" in table and "48x32, 5 frames" in table
    found = json.loads(run("plan", demo_model, *VIDEO[:6], "--json", "--offload", "leaf", "--stream"))
    assert found["components"]["vae"]["settings"] == "leaf level, host, stream"
    refusal = run("plan", demo_model, *VIDEO[:6], "--vram", "1", "--ram", "1", code=1)
    vram, ram = re.search(r"smallest that would do is vram=(\d+) .*?ram=(\d+) ", refusal).groups()
    assert "allowed" in run("plan", demo_model, *VIDEO[:6], "--vram", vram, "--ram", ram)


def test_generate_writes_the_frames_of_the_pipeline(run, demo_model: Path, tmp_path: Path) -> None:
    text = run("generate", demo_model, "--prompt", "a red star", *VIDEO, "-o", "film.npy", "--report", "report.json")
    frames = np.load(tmp_path / "film.npy")
    expected = frames_of(open_pipeline(demo_model), "a red star", **SMALL, num_inference_steps=2, generator=5)
    assert np.array_equal(frames, expected[0]) and "wrote film.npy" in text
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["report"]["steps"] == 2 and report["plan"]["components"]["transformer"]["weight_bytes"] > 0
    digest = re.search(r"SHA-256 of the frames ([0-9a-f]{64})", text)[1]
    again = run(
        "generate",
        demo_model,
        "--prompt",
        "a red star",
        *VIDEO,
        "-o",
        "film.mp4",
        "--vram",
        "8MiB",
        "--scheduler",
        "unipc",
    )
    assert digest in again and (tmp_path / "film.mp4").stat().st_size > 500


def test_generate_numbers_the_films_of_several_prompts_and_can_be_quiet(run, demo_model: Path, tmp_path: Path) -> None:
    text = run(
        "generate", demo_model, "--prompt", "a red star", "--prompt", "a ball", *VIDEO, "-q", "-o", "film.gif",
        "--scheduler", "euler", "--flow-shift", "5", "--offload", "block", "--disk", "--threads", "1",
    )  # fmt: skip
    assert text == "" and {one.name for one in tmp_path.iterdir()} == {"film-1.gif", "film-2.gif"}


def test_demo_makes_a_film_and_says_what_it_did(run, tmp_path: Path) -> None:
    text = run("demo", "--steps", "2")
    assert (tmp_path / "demo.mp4").stat().st_size > 1000
    for word in (
        "a red triangle gets bigger",
        "Plan for 96x96, 17 frames",
        "peak memory",
        "wrote demo.mp4",
        "computing",
    ):
        assert word in text
    digest = re.search(r"SHA-256 of the frames: ([0-9a-f]{64})", text)[1]
    assert digest in run("demo", "--steps", "2", "--offload", "leaf", "--stream", "--disk", "--threads", "3")
    assert digest not in run("demo", "a blue ball", "--steps", "2", "-o", "other.gif")


def test_inspect_lists_layers_tensors_and_what_is_not_used(run, demo_model: Path) -> None:
    text = run("inspect", demo_model)
    for word in ("text_encoder: UMT5EncoderModel", "transformer: WanTransformer3DModel", "blocks.5", "read row by row"):
        assert word in text
    assert "never used" in text and "encoder" in text
    text = run("inspect", demo_model / "transformer", "--layers", "--dtype", "bfloat16")
    assert "blocks.0.attn1.to_q" in text and "held as bfloat16" in text
    text = run("inspect", demo_model / "vae", "--tensors")
    assert re.search(r"decoder.conv_in.weight +bfloat16 +64x16x3x3x3 +[0-9.]+ KiB\n", text)
    assert re.search(r"encoder.conv_in.weight .*never used: ", text)
    found = json.loads(run("inspect", demo_model / "vae", "--json"))["vae"]
    assert any(one["tensor"].startswith("encoder.") and one["reason"] for one in found["unused"])
    used = {name for layer in found["layers"] for name in layer["params"]}
    assert used | {one["tensor"] for one in found["unused"]} >= {one["name"] for one in found["tensors"]}
    text = run("inspect", demo_model / "transformer/diffusion_pytorch_model.safetensors")
    assert "patch_embedding.weight" in text and "192x16x1x2x2" in text


def test_doctor_says_what_was_chosen_and_why(run) -> None:
    text = run("doctor")
    for word in ("<- chosen", "threads", "memory", "numpy", "tokenizers"):
        assert word in text
    found = json.loads(run("doctor", "--json"))
    assert [isa["name"] for isa in found["instruction_sets"] if isa["chosen"]].__len__() == 1
    assert found["threads"]["why"]
