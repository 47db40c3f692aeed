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


def test_what_follows_from_other_rows_is_made_anew_and_another_build_resumes_nothing(tmp_path: Path) -> None:
    arguments = ("--stage", "480p", "--out", tmp_path, "--work", tmp_path / "work", "--tiny")
    run(*arguments)
    file = tmp_path / "480p.json"
    found = json.loads(file.read_text())
    assert list(found["rows"]).index("overhead") > list(found["rows"]).index("block")
    for name in ("leaf", "overhead"):
        found["rows"][name] = {"status": "ok", "wall_seconds": 9.0, "figures": {}}
    file.write_text(json.dumps(found))
    page = run(*arguments, "--resume")
    assert "480p: leaf: measured before" in page and "overhead: measured before" not in page
    found["header"]["extension"] = "another"
    file.write_text(json.dumps(found))
    assert "measured before" not in run(*arguments, "--resume")


def in_the_script(code: str, *arguments: object) -> str:
    """Runs code beside the script's modules."""
    code = "import sys\nsys.path[:0] = [sys.argv[1], sys.argv[1] + '/gpu']\n" + code
    command = [sys.executable, "-c", code, str(ROOT / "benchmarks"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_row_says_how_it_ended_and_leaves_nothing_running(tmp_path: Path) -> None:
    code = """
import subprocess, time
from rows import Row, run_row

def result(code, seconds=60.0):
    return run_row("stage", Row("name", None), [sys.executable, "-c", code], seconds)

crash = result("import os, sys; print('last words', file=sys.stderr, flush=True); os.abort()")
assert (crash["status"], crash["why"], crash["stderr"]) == ("failed", "SIGABRT: last words", ["last words"]), crash
many = result("import sys; sys.stderr.write('\\\\n'.join(map(str, range(30)))); sys.exit(3)")
assert many["why"] == "exit code 3: 29" and many["stderr"] == [str(n) for n in range(20, 30)], many
assert result("pass")["why"] == "exit code 0"
good = result("import json; print('RESULT ' + json.dumps({'worst': 1}))")
assert good["status"] == "ok" and good["figures"] == {"worst": 1} and "stderr" not in good, good
child = "import sys, time; time.sleep(4); open(sys.argv[1], 'w')"
parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}, {sys.argv[2]!r}])"
assert "longer than the 2 s" in result(parent, 2.0)["why"]
time.sleep(3)
"""
    in_the_script(code, tmp_path / "outlived")
    assert not (tmp_path / "outlived").exists()


def test_a_library_that_is_there_but_not_used_counts_as_missing() -> None:
    code = """
from surroundings import usable
lines = ["cublaslt: 13.1 (/a/b.so), not used: it has no symbol. Mend with: pip", "cudnn: 9.1 (/c.so); own kernels do"]
assert not usable("cublaslt", lines) and usable("cudnn", lines)
assert not usable("cudnn", ["cudnn: not found, so own kernels compute"]) and not usable("cudnn", [])
"""
    in_the_script(code)


def test_every_case_is_a_call_that_the_cpu_device_takes() -> None:
    code = """
import numpy as np
from cases import large_cases, small_cases
from stage_ops import run
from wanoffload import _core
engine = _core.Engine("cpu")
for dtype in ("float32", "bfloat16"):
    cases = small_cases(dtype)
    for case in cases:
        assert all(np.isfinite(one).all() for one in run(engine, case)[0].values()), case.name
    every = [*cases, *large_cases(dtype)]
    assert len({case.name for case in every}) == len(every)
"""
    in_the_script(code)


def test_calls_in_place_and_over_frames_of_zeros_are_what_their_names_say() -> None:
    code = """
import numpy as np
from wanoffload import _core
engine, rng = _core.Engine("cpu"), np.random.default_rng(0)
random = lambda *shape: rng.standard_normal(shape, dtype=np.float32)
shape, wide = (1, 4, 5, 6), (3, 4, 5, 8)
before, frames, w = random(*shape), random(*wide), random(6, 3, 3, 3, 8)

def conv(frames, **more):
    made = {"frames": (frames.ravel(), "float32", wide), "w": (w.ravel(), "float32", w.shape), **more}
    return _core._testing.run_op(engine, "conv", {"y": (None, "float32", shape), **made})[0]["y"]

apart = conv(frames, residual=(before.ravel(), "float32", shape))
in_place = conv(frames, y=(before.ravel(), "float32", shape), residual="y")
assert in_place.tobytes() == apart.tobytes() != conv(frames).tobytes()
zeros = frames.copy()
zeros[:2] = 0
np.testing.assert_allclose(conv(frames, null_frames=2), conv(zeros), atol=1e-6)
for wrong in ({"residual": "w"}, {"y": "residual"}, {"residual": "z"}, {"null_frames": 11}):
    try:
        conv(frames, **wrong)
    except ValueError:
        continue
    raise AssertionError(wrong)
"""
    in_the_script(code)
