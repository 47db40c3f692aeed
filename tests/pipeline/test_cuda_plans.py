"""Cards by name: what can be planned and predicted without one, and what is said where there is none."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pipeline.helpers import open_pipeline

from wanoffload import _core, devices, offload, prediction
from wanoffload.errors import DeviceError, OutOfMemoryError
from wanoffload.pipelines import WanPipeline, room

FILM: dict[str, Any] = {"height": 96, "width": 96, "num_frames": 17}
CARDS = ("rtx3060", "rtx3090", "rtx4090", "rtx5090", "a100", "h200")
nobody = pytest.mark.skipif(_core.cuda_count() > 0, reason="there is a card")


@pytest.fixture
def planned(demo_model: Path) -> WanPipeline:
    """A pipeline on a card that need not be there."""
    return open_pipeline(demo_model, dtype="bfloat16", device="cuda:rtx4090")


# ---- names ----


def test_a_card_is_named_by_its_number_or_its_model() -> None:
    assert str(devices.parse_device("cuda:1")) == "cuda:1" and devices.parse_device("cuda:1").index == 1
    assert devices.parse_device("cuda:rtx4090").index == "rtx4090"
    assert devices.parse_device(torch.device("cuda:1")) == torch.device("cuda", 1)
    assert devices.parse_device("cuda") == "cuda:0" and devices.parse_device("cuda") != "cuda:1"
    for wrong in ("cuda:", "cuda:-1", "cuda:a b", "cpu:fast", ":1"):
        with pytest.raises(ValueError, match="not the name of a device"):
            devices.parse_device(wrong)


def test_every_card_that_the_readme_names_can_be_planned_for() -> None:
    assert set(CARDS) <= set(_core.cuda_cards())
    for name in CARDS:
        found = devices.card(devices.as_device(f"cuda:{name}"))
        assert found["planning_only"] and found["memory_bytes"] > 10 << 30 and found["bf16_tflops"] > 10


def test_an_unknown_card_is_named_with_those_that_are_known() -> None:
    with pytest.raises(DeviceError, match="rtx9999.*rtx4090"):
        devices.as_device("cuda:rtx9999")


@nobody
def test_where_there_is_no_card_the_error_says_what_to_do(demo_model: Path) -> None:
    for call in (
        lambda: devices.as_device("cuda"),
        lambda: devices.as_device(torch.device("cuda", 1)),
        lambda: WanPipeline.from_pretrained(demo_model, device="cuda"),
        lambda: open_pipeline(demo_model).enable_group_offload("cuda", offload_type="leaf_level"),
    ):
        with pytest.raises(DeviceError, match="(?i)driver.*(install|nvidia-smi)"):
            call()


# ---- plans ----


def test_a_card_that_is_not_there_is_planned_for_and_not_run(planned: WanPipeline) -> None:
    assert planned.device == "cuda:rtx4090"
    plan = planned.plan("a red star", **FILM)
    weights = sum(one.bytes for one in planned.networks().values())
    assert plan.vram > weights and plan.ram < plan.vram + offload.ALLOWANCE
    for one in plan.components.values():
        own = ("host_slab_bytes", "staging_bytes", "host_keep_bytes", "fixed_bytes")
        assert one.summary["ram"] == sum(one.summary[name] for name in own), "the card's memory is not the host's"
    for call in (
        lambda: planned("a red star", **FILM),
        lambda: planned.encode_prompt("a red star"),
        lambda: planned.vae.decode(torch.zeros(1, 16, 1, 2, 2)),
    ):
        with pytest.raises(DeviceError, match="RTX 4090 that need not be here: it can be planned for"):
            call()


def test_the_ways_of_offloading_are_planned_on_a_card(planned: WanPipeline) -> None:
    whole = planned.plan("a red star", **FILM)
    planned.enable_group_offload("cuda:rtx4090", offload_type="leaf_level", use_stream=True)
    streamed = planned.plan("a red star", **FILM)
    assert streamed.vram < whole.vram and streamed.ram > whole.ram
    planned.enable_group_offload("cuda:rtx4090", "disk", offload_type="leaf_level", use_stream=True)
    from_disk = planned.plan("a red star", **FILM)
    assert from_disk.ram < streamed.ram and "reading is counted as fast as the link" in str(from_disk)
    part = from_disk.components["transformer"].summary
    assert 0 < part["staging_bytes"] <= 9 * (4 << 20), "a ring of pieces, however large the weights are"


def test_a_plan_that_the_card_cannot_hold_says_so(planned: WanPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "plans it to fit" not in str(planned.plan("a red star", **FILM))
    monkeypatch.setitem(devices._found["cuda:rtx4090"], "memory_bytes", 1 << 20)
    assert "more than the 1.00 MiB of the card: pipe.enable_auto_offload() plans it" in str(
        planned.plan("a red star", **FILM)
    )


# ---- predictions ----


def test_nothing_is_predicted_on_the_cpu(demo_model: Path) -> None:
    plan = open_pipeline(demo_model).plan("a red star", **FILM)
    assert plan.prediction is None and "predict" not in str(plan) and "prediction" not in plan.as_dict()


def test_the_work_of_a_step_is_what_its_shapes_say(planned: WanPipeline) -> None:
    """Counted from the dry run, and here by hand: both branches, one with folded padding."""
    config, texts = planned.transformer.config, [(512, 40), (512, 512)]
    engine = planned.runtime.engine
    plan = planned.transformer.core.plan(engine, 5, 12, 12, texts, {})
    work, tokens = plan.passes()[1]["work"], 5 * 6 * 6
    d, ffn = config.num_attention_heads * config.attention_head_dim, config.ffn_dim
    layers, branches = config.num_layers, len(texts)
    # q, k, v, out, and q and out of cross attention, then the feed-forward; embedding and head outside the blocks
    products = layers * tokens * (6 * d * d + 2 * d * ffn) + tokens * d * 64 * 2
    self_attention = layers * 2 * tokens * tokens * d
    cross = sum(layers * 2 * tokens * keys * d for keys in (41, 512))
    counted = {name: sum(work[name]) for name in prediction.KINDS}
    assert counted["attention"] == 2 * (branches * self_attention + cross)
    assert counted["products"] == pytest.approx(2 * branches * products, rel=0.02)  # time embedding is the rest
    assert counted["convolutions"] == 0 and work["products"][1] > 0.9 * counted["products"]
    assert work["operations"] > 10 * layers * branches


def test_a_prediction_is_the_work_over_the_rates_or_the_copies_over_the_link(planned: WanPipeline) -> None:
    rates = planned.runtime.rates
    resident = planned.plan("a red star", **FILM).prediction
    step = resident.components["transformer"]
    work = planned.plan("a red star", **FILM).components["transformer"].core.passes()[1]["work"]
    by_hand = work["other_bytes"] / rates.memory + work["operations"] * 5e-6
    by_hand += sum(n / r for kind in prediction.KINDS for n, r in zip(work[kind], rates.flops[kind], strict=True))
    assert step.pass_seconds == step.computing == pytest.approx(by_hand) and step.copying == 0
    assert step.passes == 51 and resident.seconds > 50 * step.pass_seconds
    rates.link = 1e6  # a link so slow that it decides
    planned.enable_group_offload("cuda:rtx4090", offload_type="leaf_level", use_stream=True)
    beside = planned.plan("a red star", **FILM).prediction.components["transformer"]
    planned.enable_group_offload("cuda:rtx4090", offload_type="leaf_level")
    between = planned.plan("a red star", **FILM).prediction.components["transformer"]
    streamed = planned.plan("a red star", **FILM).components["transformer"].core.passes()[1]["streamed_bytes"]
    assert beside.pass_seconds == beside.copying == pytest.approx(streamed / 1e6)
    assert between.pass_seconds == between.copying + between.computing > beside.pass_seconds


def test_a_faster_card_is_predicted_to_take_less(demo_model: Path) -> None:
    seconds = []
    for name in ("rtx3060", "rtx3090", "rtx4090", "h200"):
        plan = open_pipeline(demo_model, dtype="bfloat16", device=f"cuda:{name}").plan("a red star", **FILM)
        work = plan.components["transformer"].core.passes()[1]["work"]
        rates = prediction.tabled_rates(devices.card(devices.as_device(f"cuda:{name}")))
        seconds.append(sum(sum(work[kind]) / rates.flops[kind][1] for kind in prediction.KINDS))
        text = str(plan)
        assert f"predicted on an {rates.card}" in text and "none of it measured here" in text
        assert plan.as_dict()["prediction"]["card"] == rates.card
    assert seconds == sorted(seconds, reverse=True) and seconds[0] > 5 * seconds[-1]


def test_a_call_that_ran_takes_the_place_of_the_table(planned: WanPipeline) -> None:
    before = planned.plan("a red star", **FILM).prediction
    rates, part = planned.runtime.rates, planned.plan("a red star", **FILM).components["transformer"]
    counts = prediction.pass_counts(part.summary, 1 + 50)
    assert counts == [1, 50] and prediction.pass_counts({"passes": 1, "experts": 1}, 3) == [3]
    works = [(one["work"], count) for one, count in zip(part.core.passes(), counts, strict=True)]
    rates.note(("transformer", "bfloat16"), works, 102.0)
    after = planned.plan("a red star", **FILM).prediction
    assert after.components["transformer"].seconds == pytest.approx(102.0)
    assert after.components["vae"].seconds == before.components["vae"].seconds
    assert "transformer from calls before" in str(planned.plan("a red star", **FILM))
    rates.note(("vae", "float32"), [], 0.0)  # nothing ran: nothing is known
    assert ("vae", "float32") not in rates.measured


def test_a_card_without_rates_is_not_predicted() -> None:
    unknown = {**devices.card(devices.as_device("cuda:a100")), "bf16_tflops": 0.0}
    assert prediction.tabled_rates(unknown) is None


# ---- moving and budgets ----


def test_moving_takes_the_pipeline_to_one_other_engine(demo_model: Path) -> None:
    pipe = open_pipeline(demo_model)
    before = pipe.runtime
    pipe.to("cuda:rtx4090")
    assert pipe.runtime is not before and not before.members
    assert {str(one.device) for one in pipe.networks().values()} == {"cuda:rtx4090"}
    assert len({id(one.runtime) for one in pipe.networks().values()}) == 1
    pipe.transformer.to("cpu")
    with pytest.raises(ValueError, match="text_encoder on cuda:rtx4090, transformer on cpu"):
        pipe.plan("a red star", **FILM)
    assert pipe.to("cpu").plan("a red star", **FILM).prediction is None


def test_onload_devices_move_and_excluded_networks_come_along(demo_model: Path) -> None:
    pipe = open_pipeline(demo_model)
    pipe.enable_group_offload("cuda:a100", offload_type="leaf_level", exclude_modules="vae")
    assert {str(one.device) for one in pipe.networks().values()} == {"cuda:a100"}
    assert pipe.vae.offload.kind == "none" and pipe.transformer.offload.level == "leaf"
    pipe.enable_model_cpu_offload(device="cpu")
    assert pipe.device == "cpu" and pipe.transformer.offload.level == "model"
    pipe.transformer.enable_group_offload("cuda:a100", offload_type="leaf_level")
    assert pipe.transformer.device == "cuda:a100" and pipe.vae.device == "cpu"


def test_budgets_that_are_not_given_come_from_the_card_and_the_host(planned: WanPipeline) -> None:
    total = devices.card(planned.device)["memory_bytes"]
    free = _core.device_memory("cpu")[0]
    planned.enable_auto_offload()
    found = planned.transformer.offload
    assert found.vram == total - offload.RESERVE - total // offload.RESERVE_SHARE
    assert 0.5 * free < found.ram <= _core.device_memory("cpu")[1]
    planned.enable_auto_offload(vram="40MiB")
    assert planned.vae.offload.vram == 40 << 20 and planned.vae.offload.ram == pytest.approx(0.9 * free, rel=0.3)
    planned.enable_auto_offload(ram="1GiB")
    assert planned.vae.offload.vram == found.vram and planned.vae.offload.ram == 1 << 30
    planned.transformer.enable_auto_offload()
    assert planned.transformer.offload.vram == found.vram
    assert planned.plan("a red star", **FILM).ram <= 1 << 30


def test_moving_with_budgets_finds_those_anew_that_were_not_given(demo_model: Path) -> None:
    pipe = open_pipeline(demo_model)
    pipe.enable_auto_offload(vram="40MiB")
    assert pipe.transformer.offload.ram is None
    pipe.to("cuda:rtx3060")
    assert pipe.transformer.offload.vram == 40 << 20 and pipe.transformer.offload.ram > 0
    pipe.enable_auto_offload()
    pipe.to("cuda:h200")
    assert pipe.transformer.offload.vram > 100 << 30
    assert pipe.to("cpu").transformer.offload.vram is None


def test_what_is_held_already_counts_as_free(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"cpu": (10 << 30, 16 << 30), "cuda": (4 << 30, 8 << 30)}
    monkeypatch.setattr(_core, "device_memory", lambda name: sizes[name])
    reserve = offload.RESERVE + (8 << 30) // offload.RESERVE_SHARE
    card = devices.Device("cuda")
    assert offload.default_budgets(card, 0) == ((4 << 30) - reserve, 9 << 30)
    assert offload.default_budgets(card, 1 << 30) == ((5 << 30) - reserve, 9 << 30)
    assert offload.default_budgets(card, 0, ram=5) == ((4 << 30) - reserve, 5)
    assert offload.default_budgets(devices.Device("cpu"), 0) == (None, 9 << 30)
    assert offload.default_budgets(devices.Device("cpu"), 0, vram=3) == (3, None)
    sizes["cuda"] = (1 << 20, 8 << 30)
    assert offload.default_budgets(card, 0)[0] == 0


def test_offload_without_arguments_goes_to_a_card_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, found = devices.Device("cpu"), devices.Device("cuda")
    monkeypatch.setattr(_core, "cuda_count", lambda: 2)
    monkeypatch.setattr(offload, "as_device", lambda name: devices.parse_device(name or "cpu"))
    assert offload.offload_target(None, None, cpu) == found
    assert offload.offload_target(1, None, cpu) == "cuda:1"
    assert offload.offload_target(None, None, devices.Device("cuda", 1)) == "cuda:1"
    assert offload.offload_target(1, "cuda") == "cuda:1"
    assert offload.offload_target(None, "cpu", found) == "cpu"
    with pytest.raises(ValueError, match="both `gpu_id`=1 and an index"):
        offload.offload_target(1, "cuda:0")


def test_a_card_that_cannot_be_used_leaves_the_cpu_computing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(name: Any) -> devices.Device:
        raise DeviceError("this build has no kernels")

    monkeypatch.setattr(_core, "cuda_count", lambda: 1)
    monkeypatch.setattr(offload, "as_device", refuse)
    assert offload.offload_target(None, None, devices.Device("cpu")) == "cpu"
    assert "this build has no kernels" in caplog.text
    with pytest.raises(DeviceError, match="no kernels"):
        offload.offload_target(0, None, devices.Device("cpu"))


# ---- room ----


class FakeEngine:
    """An engine on a card, as far as asking for room goes."""

    device, host_addressable = "cuda", False


class FakePlanner:
    """Plans what needs so many bytes."""

    def __init__(self, vram: int) -> None:
        self.vram = vram

    def plan(self) -> "FakePlanner":
        return self


@pytest.mark.parametrize(
    ("needed", "least", "words"),
    [(90, 0, None), (100, 0, None), (101, 40, "enable_auto_offload"), (500, 300, "Close what else uses the card")],
)
def test_a_plan_without_room_on_the_card_is_refused_with_the_least_that_would_do(
    monkeypatch: pytest.MonkeyPatch, needed: int, least: int, words: str | None
) -> None:
    class Runtime:
        def held(self) -> int:
            return 30 << 20

    monkeypatch.setattr(_core, "device_memory", lambda name: (70 << 20, 1 << 30))
    call = lambda: room.check_room(  # noqa: E731
        Runtime(), FakeEngine(), FakePlanner(needed << 20), lambda: FakePlanner(least << 20)
    )
    if words is None:
        call()
        return
    with pytest.raises(OutOfMemoryError, match=words) as refused:
        call()
    for size in (f"{needed} MiB", "100 MiB", "1.00 GiB", f"{least}"):
        assert size in str(refused.value)


# ---- the command line ----


def test_a_shell_plans_for_a_card_and_refuses_to_run_on_it(run, demo_model: Path, tmp_path: Path) -> None:
    text = run("plan", demo_model, "--device", "cuda:rtx3060", "--height", 96, "--width", 96, "--frames", 17)
    assert "predicted on an NVIDIA GeForce RTX 3060" in text
    found = json.loads(run("plan", demo_model, "--device", "cuda:4090", "--json", "--frames", 5, "--vram", "2GiB"))
    assert found["prediction"]["seconds_per_step"] > 0 and found["budget"]["ram"] > 0
    message = run("generate", demo_model, "--device", "cuda:a100", "--prompt", "x", "--height", 16, "--width", 16,
                  "--frames", 1, "-q", "-o", tmp_path / "x.npy", code=1)  # fmt: skip
    assert "can be planned for" in message and len(message.splitlines()) == 1


def test_doctor_says_what_there_is_of_nvidias(run) -> None:
    text = run("doctor")
    for word in ("device cuda", "driver:", "kernels:", "cublaslt:", "cudnn:", "nvrtc:"):
        assert word in text
    assert any(line.startswith("driver:") for line in json.loads(run("doctor", "--json"))["cuda"])
