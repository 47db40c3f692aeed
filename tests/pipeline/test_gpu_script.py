"""The script that measures a card, where there is none: it ends, and each row says what is missing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from wanoffload import _core

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks/gpu/run.py"
STAGES = ("ops", "demo", "offload", "480p", "720p", "peer")

pytestmark = pytest.mark.skipif(_core.cuda_count() > 0, reason="there is a card")


def run(*arguments: object, code: int = 0) -> str:
    done = subprocess.run([sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_without_a_card_says_so_in_every_row(stage: str, tmp_path: Path) -> None:
    page = run("--stage", stage, "--out", tmp_path, "--work", tmp_path / "work")
    found = json.loads((tmp_path / f"{stage}.json").read_text())
    assert found["rows"] and {row["status"] for row in found["rows"].values()} == {"not run"}
    assert all(row["why"].startswith("missing ") for row in found["rows"].values())
    assert found["header"]["card"] is None and found["header"]["no card"]
    assert page.count("not run: missing a card") >= len(found["rows"]) and "no card that can be used" in page
    assert (tmp_path / f"{stage}.md").read_text() in page
    assert not list((tmp_path / "work").rglob("*.safetensors")), "a checkpoint was made for nothing"


def test_resuming_keeps_what_was_measured_on_the_same_card_and_commit(tmp_path: Path) -> None:
    arguments = ("--stage", "demo", "--out", tmp_path, "--work", tmp_path / "work")
    run(*arguments)
    file = tmp_path / "demo.json"
    found = json.loads(file.read_text())
    first = next(iter(found["rows"]))
    figures = {"worst": 2e-6, "psnr": 110.0, "seconds": 1.5, "vram": 1, "pinned": 1}
    found["rows"][first] = {"status": "ok", "wall_seconds": 9.0, "figures": figures}
    file.write_text(json.dumps(found))
    assert f"{first}: measured before" in run(*arguments, "--resume")
    assert json.loads(file.read_text())["rows"][first]["figures"] == figures
    found["header"]["card"] = "another"
    file.write_text(json.dumps(found))
    assert "measured before" not in run(*arguments, "--resume")
    assert "measured before" not in run(*arguments)


def test_the_shapes_of_the_vae_are_those_of_diffusers() -> None:
    code = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/gpu"]
import checkpoints, shapes
for config in (checkpoints.VAE, shapes.TINY_VAE, {**checkpoints.VAE, "dim_mult": [1, 2, 2, 4], "base_dim": 8}):
    assert dict(shapes.vae_shapes(config)) == dict(checkpoints.vae_shapes(config))
"""
    done = subprocess.run([sys.executable, "-c", code, str(ROOT / "benchmarks")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
