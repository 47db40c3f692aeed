"""From Python to a card and back, on the fake one: films, bits, memory, and what is said when it fails."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_card import ROOT, FakeCard
from pipeline.helpers import write_expert_pipeline, write_image_pipeline

PRELUDE = """
import json, sys, warnings
from pathlib import Path
import numpy as np
import wanoffload
from wanoffload import _core, devices
DEMO = Path(wanoffload.__file__).parent / "demo_model"
CALL = {"height": 16, "width": 16, "num_frames": 5, "num_inference_steps": 2, "generator": 5}

def open_pipeline(folder, kind="WanPipeline", **options):
    pipe = getattr(wanoffload, kind).from_pretrained(folder, **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe

def refused(call):
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"
"""


OnCard = Callable[..., str]


@pytest.fixture
def on_card(built_card: FakeCard) -> OnCard:
    """Runs code behind the prelude on the fake card and gives what it printed."""
    return lambda code, **environment: built_card.python(PRELUDE + "\n" + code, **environment)


def test_a_film_on_the_card_is_the_film_of_the_cpu_and_its_report_tells_memory_apart(on_card: OnCard) -> None:
    found = json.loads(
        on_card(
            """
ours = open_pipeline(DEMO).to("cuda")
assert ours.device == "cuda" == ours.vae.device and ours.plan(**{k: CALL[k] for k in ("height", "width", "num_frames")})
film = ours("a red star", **CALL).frames
expected = open_pipeline(DEMO)("a red star", **CALL).frames
again = ours("a red star", **CALL).frames
report, plan = ours.report, ours.plan("a red star", height=16, width=16, num_frames=5)
parts = report.components.values()
print(json.dumps({
    "worst": float(np.abs(film - expected).max()), "deviation": float(film.std()),
    "same": film.tobytes() == again.tobytes(),
    "vram": report.vram_peak, "planned": plan.vram, "ram": report.ram_peak, "text": str(report), "on cpu": str(plan),
    "arenas": [one.arena_bytes for one in parts], "loaded": sum(one.bytes_loaded for one in parts)}))
"""
        )
    )
    assert found["worst"] <= 1e-4 and found["deviation"] > 0.01 and found["same"]
    assert found["vram"] == found["planned"] > max(found["arenas"]) > 0
    assert found["loaded"] == 0, "residents stay between calls"
    assert "device memory held" in found["text"] and "pinned host memory" in found["text"]


def test_ways_of_offloading_on_the_card_give_one_film_within_the_plan_and_the_driver_agrees(on_card: OnCard) -> None:
    found = json.loads(
        on_card(
            """
import ctypes, hashlib
driver = ctypes.CDLL("libcuda.so.1")
for name in ("device_bytes", "device_peak", "misuses"):
    getattr(driver, f"fakecuda_{name}").restype = ctypes.c_uint64
found, size = {}, {name: CALL[name] for name in ("height", "width", "num_frames")}
ways = {
    "resident": lambda pipe: None,
    "leaf": lambda pipe: pipe.enable_group_offload("cuda", offload_type="leaf_level", use_stream=True),
    "disk": lambda pipe: pipe.enable_group_offload("cuda", "disk", offload_type="leaf_level", use_stream=True),
    "block": lambda pipe: pipe.enable_group_offload("cuda", offload_type="block_level", num_blocks_per_group=1),
    "model": lambda pipe: pipe.enable_model_cpu_offload(gpu_id=0),
    "auto": lambda pipe: pipe.enable_auto_offload(vram=least),
}
pipe = open_pipeline(DEMO, dtype="bfloat16", device="cuda")
pipe.enable_auto_offload(vram=1)
try:
    pipe.plan("a red star", **size)
except wanoffload.PlanError as error:
    least = error.needed["vram"]
for name, offload in ways.items():
    pipe = open_pipeline(DEMO, dtype="bfloat16", device="cuda")
    offload(pipe)
    engine = pipe.runtime.engine
    if name in ("leaf", "disk"):
        _core._testing.configure(engine, poison=True, chaos_seed=3, chaos_delay=0.0003)
    plan = pipe.plan("a red star", **size)
    driver.fakecuda_reset()
    before = driver.fakecuda_device_bytes()
    frames = pipe("a red star", **CALL).frames
    report = pipe.report
    found[name] = {
        "bits": hashlib.sha256(frames.tobytes()).hexdigest(), "plan": plan.vram, "held": report.vram_peak,
        "driver": driver.fakecuda_device_peak() - before, "moved": report.bytes_moved,
        "touched": [(one.arena_touched, one.plan["work_bytes"]) for one in report.components.values()],
        "pinned": [one.pinned_bytes for one in report.components.values()],
        "slabs": [one.plan["host_slab_bytes"] for one in report.components.values()]}
    del pipe, engine
print(json.dumps(found))
assert driver.fakecuda_misuses() == 0
"""
        )
    )
    assert len({one["bits"] for one in found.values()}) == 1
    for name, one in found.items():
        assert one["held"] <= one["plan"], name
        # What the driver gives out is pages of 2 MiB at most; nothing else is allocated on the card.
        assert one["held"] <= one["driver"] <= one["plan"] + (1 << 20), name
        assert (one["moved"] > 0) == (name in ("leaf", "disk", "block", "auto")), name
    for name in ("leaf", "disk"):
        assert all(planned - 256 < touched <= planned for touched, planned in found[name]["touched"])
    assert all(pinned >= slab for pinned, slab in zip(found["leaf"]["pinned"], found["leaf"]["slabs"], strict=True))
    assert sum(found["leaf"]["slabs"]) > 0 and sum(found["disk"]["slabs"]) == 0
    assert found["leaf"]["plan"] < found["resident"]["plan"]


@pytest.mark.slow
def test_every_component_under_chaos_has_the_bits_of_its_resident_run_and_touches_what_is_planned(
    on_card: OnCard,
) -> None:
    """Including image encoder, image and first-and-last-frame transformers and the VAE's encoder."""
    text = on_card(
        """
import tempfile
from offload.conftest import KINDS
policies = [dict(level="leaf", tier="disk", use_stream=True), dict(level="block", tier="host", use_stream=True),
            dict(level="leaf", tier="disk", resident_fraction=0.5)]
for kind, (make, write, _) in KINDS.items():
    folder = Path(tempfile.mkdtemp()) / kind
    write(folder)
    subject = make(folder)
    near = np.frombuffer(subject.run(_core.Engine("cpu"), level="resident").bits, np.float32)
    engine = _core.Engine("cuda")
    wanted = subject.run(engine, level="resident")
    ours = np.frombuffer(wanted.bits, np.float32)
    error = float(np.abs(ours - near).max() / np.abs(near).max())
    assert error < 1e-4, (kind, error)
    for number, policy in enumerate(policies):
        def chaos(engine, number=number):
            _core._testing.configure(engine, poison=True, chaos_seed=number + 1, chaos_delay=0.0003)
        cell = subject.run(_core.Engine("cuda"), before=chaos, **policy)
        assert cell.bits == wanted.bits, (kind, policy)
        assert cell.plan["work_bytes"] - 256 < cell.report["arena_touched"] <= cell.plan["work_bytes"], (kind, policy)
        if number < 2:  # without chaos, whose look at what was written takes memory of its own
            plain = subject.run(_core.Engine("cuda"), **policy)
            own = plain.report["ram_peak"] - plain.held_before + plain.plan["fixed_bytes"]
            assert own <= plain.plan["ram"] + (64 << 10), (kind, policy, own, plain.plan["ram"])
    print(kind, error)
"""
    )
    assert len(text.splitlines()) == 7


@pytest.mark.slow
def test_the_streamer_s_waits_are_needed_on_the_card_too(on_card: OnCard) -> None:
    text = on_card(
        """
import tempfile
from offload.conftest import KINDS
make, write, _ = KINDS["transformer"]
folder = Path(tempfile.mkdtemp()) / "transformer"
write(folder)
subject = make(folder)
wanted = subject.run(_core.Engine("cuda"), level="resident").bits
host, disk = dict(level="block", use_stream=True, tier="host"), dict(level="leaf", use_stream=True, tier="disk")
for edge, policy in {"ready": host, "free": host, "reader_copy": disk, "staging_reuse": disk}.items():
    def bits(cut, edge=edge, policy=policy):
        engine = _core.Engine("cuda")
        _core._testing.configure(engine, cut_edges=[edge] if cut else [], delay_edges=[edge], delay_seconds=0.05)
        return subject.run(engine, **policy).bits
    assert bits(False) == wanted, edge
    print(edge, sum(bits(True) != wanted for _ in range(3)))
"""
    )
    assert text.split() == [word for edge in ("ready", "free", "reader_copy", "staging_reuse") for word in (edge, "3")]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["first", "both", "experts"])
def test_stills_and_experts_on_the_card(on_card: OnCard, kind: str, demo_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    if kind == "experts":
        write_expert_pipeline(folder, demo_model, 3, boundary=0.875)
    else:
        write_image_pipeline(folder, demo_model, 4, kind)
    stills = {"first": "[draw_picture(20, 30)]", "both": "[draw_picture(20, 30), draw_picture(16, 16)]"}
    worst = on_card(
        f"""
from pipeline.helpers import draw_picture
kind = "WanPipeline" if {kind!r} == "experts" else "WanImageToVideoPipeline"
pictures = {stills.get(kind, "[]")}
call = dict(zip(("image", "last_image"), pictures)) | CALL | {{"num_inference_steps": 3}}
films = {{}}
for device in ("cpu", "cuda"):
    pipe = open_pipeline({str(folder)!r}, kind, device=device)
    if device == "cuda":
        pipe.enable_group_offload("cuda", "disk", offload_type="leaf_level", use_stream=True)
    films[device] = pipe(prompt="a red star", **call).frames
    assert films[device].std() > 1e-3
print(float(np.abs(films["cuda"] - films["cpu"]).max()))
"""
    )
    assert float(worst) <= 1e-4


def test_moving_to_the_card_and_back_gives_its_memory_back(on_card: OnCard) -> None:
    on_card(
        """
import ctypes, gc
driver = ctypes.CDLL("libcuda.so.1")
driver.fakecuda_device_bytes.restype = driver.fakecuda_pinned_bytes.restype = ctypes.c_uint64
pipe = open_pipeline(DEMO, dtype="bfloat16")
first = pipe("a red star", **CALL).frames
pipe.to("cuda")
assert pipe("a red star", **CALL).frames.shape == first.shape and driver.fakecuda_device_bytes() > 1 << 20
pipe.enable_group_offload("cuda", offload_type="leaf_level", use_stream=True)
pipe("a red star", **CALL)
assert _core.host_memory()["pinned"] > 1 << 20
pipe.disable_offload()
pipe.to("cpu")
gc.collect()
assert driver.fakecuda_device_bytes() == 0 and driver.fakecuda_pinned_bytes() == 0 == _core.host_memory()["pinned"]
assert pipe("a red star", **CALL).frames.tobytes() == first.tobytes()
"""
    )


def test_the_second_card_computes_and_the_third_is_missed_by_name(on_card: OnCard) -> None:
    text = on_card(
        """
pipe = open_pipeline(DEMO, device="cuda:1", dtype="bfloat16")
assert pipe.device == "cuda:1" and pipe.runtime.engine.device == "cuda:1"
one = pipe("a red star", **CALL).frames
pipe.to("cuda:0")
assert pipe.device == "cuda" and pipe("a red star", **CALL).frames.tobytes() == one.tobytes()
pipe.enable_sequential_cpu_offload(gpu_id=1)
assert pipe.device == "cuda:1" and pipe("a red star", **CALL).frames.tobytes() == one.tobytes()
assert devices.available() == "cpu, cuda, cuda:1"
print(refused(lambda: pipe.disable_offload() or pipe.to("cuda:2")))
""",
        FAKECUDA_COUNT="2",
    )
    assert text.startswith("DeviceError") and "no card 2" in text and "shows 2" in text


def test_the_comparison_of_ways_runs_on_the_card(on_card: OnCard) -> None:
    text = on_card(
        """
found = wanoffload.bench(DEMO, "a red star", height=16, width=16, num_frames=5, num_inference_steps=2, dtype="bfloat16",
                         offloads=("resident", "leaf+stream"), dtypes=(), flow_shifts=(), device="cuda")
assert found.ok
assert all(row.vram_peak <= row.vram_plan and row.ram_peak <= row.ram_plan for row in found.rows), found.rows
print(found.what)
"""
    )
    assert "cuda (Fake card)" in text


def test_a_library_that_is_missing_is_spoken_of_once(on_card: OnCard) -> None:
    on_card(
        """
import logging
said = []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
logging.getLogger("wanoffload").addHandler(handler)
assert open_pipeline(DEMO).to("cpu").runtime.engine.device == "cpu" and not said
for _ in range(3):
    open_pipeline(DEMO, device="cuda").runtime.engine
lines = [line for line in _core.describe_device("cuda").splitlines() if line.startswith(("cublaslt:", "cudnn:"))]
missing = [line for line in lines if "Mend with" in line]
assert len(said) == len(missing) and all(one.startswith(line) for one, line in zip(said, missing)), said
"""
    )


def test_budgets_on_a_card_come_from_what_is_free_there(on_card: OnCard) -> None:
    on_card(
        """
from wanoffload import offload
pipe = open_pipeline(DEMO, device="cuda")
pipe.enable_auto_offload()
free, total = _core.device_memory("cuda")
assert total == 1 << 30 and pipe.vae.offload.vram == free - offload.RESERVE - total // offload.RESERVE_SHARE > 0
assert pipe.plan("x", height=16, width=16, num_frames=5).budget["vram"] == pipe.vae.offload.vram
"""
    )


def test_what_was_measured_is_said_beside_the_next_plan(on_card: OnCard) -> None:
    text = on_card(
        """
pipe = open_pipeline(DEMO, dtype="bfloat16", device="cuda")
size = {name: CALL[name] for name in ("height", "width", "num_frames")}
before = pipe.plan("a red star", **size)
assert before.prediction.seconds_per_step > 0 and "none of it measured here" in str(before)
pipe("a red star", **CALL)
after = pipe.plan("a red star", num_inference_steps=2, **size)
taken = sum(one.compute_seconds for one in pipe.report.components.values())
assert 0.5 * taken < after.prediction.seconds < 2 * taken, (after.prediction.seconds, taken)
print(after)
""",
        FAKECUDA_NAME="NVIDIA GeForce RTX 4090",
    )
    assert "predicted on an NVIDIA GeForce RTX 4090" in text and "from the speed of the calls before" in text


# ---- what is said when it cannot be ----


def test_a_card_that_is_too_old_names_those_that_work(on_card: OnCard) -> None:
    text = on_card('print(refused(lambda: open_pipeline(DEMO, device="cuda")))', FAKECUDA_SM="75")
    assert text.startswith("DeviceError") and "7.5" in text and "8.0" in text and 'device="cpu"' in text


def test_a_driver_that_is_too_old_says_what_to_install(on_card: OnCard) -> None:
    text = on_card('print(refused(lambda: open_pipeline(DEMO, device="cuda")))', FAKECUDA_DRIVER="11040")
    assert text.startswith("DeviceError") and "11.4" in text and "newer driver" in text


def test_a_card_without_room_says_what_is_free_what_is_needed_and_what_would_do(on_card: OnCard) -> None:
    whole, least = json.loads(
        on_card(
            """
size = {name: CALL[name] for name in ("height", "width", "num_frames")}
pipe = open_pipeline(DEMO, device="cuda", dtype="bfloat16")
whole = pipe.plan("a red star", **size).vram
pipe.enable_auto_offload(vram=1)
try:
    pipe.plan("a red star", **size)
except wanoffload.PlanError as error:
    print(json.dumps([whole, error.needed["vram"]]))
"""
        )
    )
    pages = (whole + least) // 2 >> 21 << 21
    assert least + (1 << 20) < pages < whole
    text = on_card(
        f"""
pipe = open_pipeline(DEMO, device="cuda", dtype="bfloat16")
print(refused(lambda: pipe("a red star", **CALL)))
assert pipe.runtime.engine.held()["arena_bytes"] == 0, "something was done before it was refused"
pipe.enable_auto_offload(vram={least})
assert pipe("a red star", **CALL).frames.shape == (1, 5, 16, 16, 3)
pipe.disable_offload()
print(refused(lambda: pipe("a red star", **CALL | {{"height": 1024, "width": 1024}})))
""",
        FAKECUDA_MEMORY=str(pages),
    )
    first, second = text.strip().splitlines()
    assert first.startswith("OutOfMemoryError") and "are free" in first and "enable_auto_offload" in first
    assert second.startswith("OutOfMemoryError") and "Close what else uses the card" in second


def test_a_card_that_is_lost_ends_in_one_clear_error(on_card: OnCard) -> None:
    text = on_card(
        """
pipe = open_pipeline(DEMO, device="cuda", dtype="bfloat16")
import ctypes
driver = ctypes.CDLL("libcuda.so.1")
pipe.runtime.engine
driver.fakecuda_fail_kernel(ctypes.c_int64(40), 719)
print(refused(lambda: pipe("a red star", **CALL)).splitlines()[0])
print(refused(lambda: pipe("a red star", **CALL)).splitlines()[0])
print(pipe.to("cpu")("a red star", **CALL).frames.shape)
"""
    )
    first, second, third = text.strip().splitlines()
    assert first.startswith("DeviceError") and "CUDA_ERROR_LAUNCH_FAILED" in first
    assert second.startswith("DeviceError") and "new process" in second
    assert third == "(1, 5, 16, 16, 3)"


# ---- the command line, and the script for a card ----


def test_a_shell_makes_the_film_on_the_card(on_card: OnCard, tmp_path: Path) -> None:
    code = f"""
import sys
from wanoffload.cli import main
out = {str(tmp_path)!r}
film = ["--height", "16", "--width", "16", "--frames", "5", "--steps", "1", "--seed", "3", "--prompt", "a red star"]
ways = {{"card": ["--device", "cuda"], "leaf": ["--device", "cuda", "--offload", "leaf", "--stream"], "cpu": []}}
for name, options in ways.items():
    assert main(["generate", str(DEMO), *film, *options, "-q", "-o", f"{{out}}/{{name}}.npy"]) == 0
assert main(["doctor"]) == 0
"""
    assert "Fake card" in on_card(code)
    card, leaf, cpu = (np.load(tmp_path / f"{name}.npy") for name in ("card", "leaf", "cpu"))
    assert card.tobytes() == leaf.tobytes() and 0 < np.abs(card - cpu).max() <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["ops", "demo", "offload", "480p", "720p", "peer"])
def test_the_script_for_a_card_runs_every_row_of_a_stage(built_card: FakeCard, stage: str, tmp_path: Path) -> None:
    script = ROOT / "benchmarks/gpu/run.py"
    words = [str(script), "--stage", stage, "--tiny", "--out", str(tmp_path), "--work", str(tmp_path / "work")]
    code = f"import runpy, sys; sys.argv = {words!r}; runpy.run_path({str(script)!r}, run_name='__main__')"
    page = built_card.python(code)
    rows = json.loads((tmp_path / f"{stage}.json").read_text())["rows"]
    absent = ("compute-sanitizer", "torch")
    for name, row in rows.items():
        lacks = row["status"] == "not run" and row["why"].startswith("missing") and any(w in row["why"] for w in absent)
        assert row["status"] == "ok" or lacks, (name, row)
    assert "Fake card" in page and "its figures say nothing of speed" in page
