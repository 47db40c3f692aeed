"""Arguments of the C module: each bad one is an exception that names it, and nothing leaks."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core.models import SIZES, TEXT, TIMES, Models, config_of, embeds, latents, velocity
from core.refusals import check_refusal

import wanoffload._core as core
from wanoffload.errors import BusyError, CheckpointError, DeviceError, OutOfMemoryError, PlanError

Call = Callable[[core.Engine, Models], Any]


def plan_transformer(**changes: Any) -> Call:
    return lambda e, m: m.transformer.plan(**{"engine": e, "text": TEXT, "policy": {}, **SIZES, **changes})


def bind_transformer(**changes: Any) -> Call:
    def call(e: core.Engine, m: Models) -> Any:
        config = {**CONFIGS["transformer"], **changes}
        return core.Transformer(core.Store(DEMO / "transformer"), config, "float32")

    return call


def bind_vae(**changes: Any) -> Call:
    return lambda e, m: core.VaeDecoder(core.Store(DEMO / "vae"), {**CONFIGS["vae"], **changes}, "float32")


def transformer_call(call: Callable[[core.Exec], Any], prepare: bool = True) -> Call:
    def run(e: core.Engine, m: Models) -> Any:
        with core.Exec(e, m.transformer, m.plan(e, {})) as execution:
            if prepare:
                execution.prepare(embeds(), **SIZES)
            call(execution)

    return run


def vae_call(call: Callable[[core.Exec], Any]) -> Call:
    def run(e: core.Engine, m: Models) -> Any:
        with core.Exec(e, m.vae, m.vae.plan(e, 2, 3, {})) as execution:
            call(execution)

    return run


def text_call(call: Callable[[core.Exec], Any]) -> Call:
    def run(e: core.Engine, m: Models) -> Any:
        with core.Exec(e, m.text_encoder, m.text_encoder.plan(e, [2], {})) as execution:
            call(execution)

    return run


def after_close(e: core.Engine, m: Models) -> Any:
    execution = core.Exec(e, m.vae, m.vae.plan(e, 2, 3, {}))
    execution.close()
    execution.decode(np.zeros((16, 2, 3), np.float32), True)


def while_open(call: Callable[[core.Engine, Models], Any]) -> Call:
    def run(e: core.Engine, m: Models) -> Any:
        with core.Exec(e, m.vae, m.vae.plan(e, 2, 3, {})):
            call(e, m)

    return run


DEMO = Path(core.__file__).parent / "demo_model"
CONFIGS = {name: config_of(DEMO / name) for name in ("text_encoder", "transformer", "vae")}
FRAME = np.zeros((16, 2, 3), np.float32)
HUGE = 1 << 70

BAD: dict[str, tuple[Call, type[Exception], str]] = {
    "path-type": (lambda e, m: core.Store(3), TypeError, "int"),
    "path-nul": (lambda e, m: core.Store("a\0b"), ValueError, "null"),
    "path-missing": (lambda e, m: core.Store("no/such/folder"), OSError, "no/such/folder"),
    "device-type": (lambda e, m: core.Engine(3), TypeError, "device: wanted a str, got 3 of type int"),
    "device-unknown": (lambda e, m: core.Engine("abacus"), ValueError, "abacus.*cpu"),
    "device-dry": (lambda e, m: core.Engine("dry"), ValueError, "dry"),
    "device-cuda": (lambda e, m: core.Engine("cuda"), DeviceError, "(?i)cuda"),
    "store-type": (lambda e, m: core.VaeDecoder("x", {}, "float32"), TypeError, "store: wanted wanoffload._core.Store"),
    "config-type": (lambda e, m: core.VaeDecoder(core.Store(DEMO / "vae"), [], "float32"), TypeError, "config.*map"),
    "config-empty": (lambda e, m: core.VaeDecoder(core.Store(DEMO / "vae"), {}, "float32"), ValueError, "base_dim"),
    "config-range": (bind_transformer(num_layers=0), ValueError, "config: num_layers.*from 1 to 4096, got 0"),
    "config-word": (bind_transformer(ffn_dim="many"), ValueError, "config: ffn_dim.*'many'"),
    "config-odd": (bind_transformer(attention_head_dim=63), ValueError, "attention_head_dim.*even.*63"),
    "config-none": (bind_transformer(freq_dim=None), ValueError, "freq_dim.*missing"),
    "config-eps": (bind_transformer(eps=float("nan")), ValueError, "config: eps.*nan"),
    "config-patch": (bind_transformer(patch_size=(1, 4, 4)), ValueError, r"patch_size.*\[1, 2, 2\]"),
    "config-image": (bind_transformer(image_dim=1280), ValueError, "image_dim is 1280, but added_kv_proj.* missing"),
    "config-added": (bind_transformer(added_kv_proj_dim=9), ValueError, "added_kv_proj_dim is 9, but image.* missing"),
    "images-none": (plan_transformer(images=(5, [0, 0])), ValueError, "images: this transformer takes none"),
    "config-misfit": (bind_transformer(ffn_dim=256), CheckpointError, "ffn"),
    "config-levels": (bind_vae(dim_mult=[1] * 9), ValueError, "dim_mult.*1 to 8"),
    "config-factor": (bind_vae(dim_mult=[1, 2, 4, -4]), ValueError, "dim_mult.*-4"),
    "config-steps": (bind_vae(temperal_downsample=[True]), ValueError, "temperal_downsample.*3 booleans"),
    "config-flag": (bind_vae(temperal_downsample=[1, 2, 3]), ValueError, "temperal_downsample.*True or False"),
    "config-residual": (bind_vae(is_residual=True), ValueError, "is_residual"),
    "dtype-type": (lambda e, m: core.VaeDecoder(core.Store(DEMO / "vae"), CONFIGS["vae"], 32), TypeError, "dtype"),
    "dtype-word": (
        lambda e, m: core.VaeDecoder(core.Store(DEMO / "vae"), CONFIGS["vae"], "int8"),
        ValueError,
        'dtype: wanted one of "float32", "bfloat16", "float16", got \'int8\'',
    ),
    "engine-type": (plan_transformer(engine="cpu"), TypeError, "engine: wanted wanoffload._core.Engine, got 'cpu'"),
    "frames-type": (plan_transformer(frames=1.0), TypeError, "frames: wanted an integer, got 1.0 of type float"),
    "frames-bool": (plan_transformer(frames=True), TypeError, "frames"),
    "frames-zero": (plan_transformer(frames=0), ValueError, "frames: wanted an integer from 1"),
    "frames-huge": (plan_transformer(frames=HUGE), ValueError, "frames"),
    "height-odd": (plan_transformer(height=5), ValueError, "height: wanted an even number of latents, got 5"),
    "text-type": (plan_transformer(text=7), TypeError, "text"),
    "text-empty": (plan_transformer(text=[]), ValueError, "text.*got 0"),
    "text-flat": (plan_transformer(text=[7]), TypeError, "text"),
    "text-triple": (plan_transformer(text=[(1, 2, 3)]), ValueError, "text.*(1, 2, 3)"),
    "text-real": (plan_transformer(text=[(4, 5)]), ValueError, "text: real: wanted an integer from 0 to 4, got 5"),
    "unfolded-type": (plan_transformer(unfolded=1), TypeError, "unfolded"),
    "policy-type": (plan_transformer(policy=None), TypeError, "policy: wanted a mapping"),
    "policy-key": (plan_transformer(policy={"levels": "leaf"}), ValueError, "no key 'levels'.*level, blocks_per_group"),
    "policy-word": (plan_transformer(policy={"level": "twig"}), ValueError, "policy: level.*\"leaf\".*'twig'"),
    "policy-tier": (plan_transformer(policy={"tier": "device"}), ValueError, "policy: tier"),
    "policy-count": (plan_transformer(policy={"blocks_per_group": 0}), ValueError, "policy: blocks_per_group"),
    "policy-part": (plan_transformer(policy={"resident_fraction": 1.5}), ValueError, "policy: resident_fraction.*1.5"),
    "policy-budget": (plan_transformer(policy={"vram": -1}), ValueError, "policy: vram"),
    "policy-switch": (plan_transformer(policy={"use_stream": "yes"}), TypeError, "policy: use_stream.*'yes'"),
    "visits-range": (lambda e, m: m.plan(e, {}).visits(2), ValueError, "index: wanted an integer from 0 to 1, got 2"),
    "tokens-type": (lambda e, m: m.text_encoder.plan(e, "ab", {}), TypeError, "tokens"),
    "tokens-zero": (lambda e, m: m.text_encoder.plan(e, [0], {}), ValueError, "tokens"),
    "vae-height": (lambda e, m: m.vae.plan(e, 0, 1, {}), ValueError, "height"),
    "exec-plan": (lambda e, m: core.Exec(e, m.vae, m.plan(e, {})), ValueError, "plan.*another component"),
    "exec-type": (lambda e, m: core.Exec(e, m.vae, {}), TypeError, "plan: wanted wanoffload._core.Plan"),
    "exec-kind": (vae_call(lambda x: x.step(latents(), TIMES)), TypeError, "step.*a Transformer.*a VaeDecoder"),
    "exec-closed": (after_close, ValueError, "decode: this Exec is closed"),
    "exec-twice": (while_open(lambda e, m: core.Exec(e, m.vae, m.vae.plan(e, 2, 3, {}))), BusyError, "vae cannot"),
    "drop-open": (while_open(lambda e, m: e.drop(m.vae)), ValueError, "drop: an Exec of the .* is open"),
    "drop-all-open": (while_open(lambda e, m: e.drop_residents()), ValueError, "drop_residents: an Exec"),
    "arena-open": (while_open(lambda e, m: e.release_arena()), ValueError, "release_arena: an Exec"),
    "reserve-open": (while_open(lambda e, m: e.reserve(1)), ValueError, "reserve: an Exec"),
    "reserve-type": (lambda e, m: e.reserve("8GiB"), TypeError, "bytes: wanted an integer, got '8GiB'"),
    "reserve-range": (lambda e, m: e.reserve(-1), ValueError, "bytes"),
    "reserve-absurd": (lambda e, m: e.reserve(1 << 60), OutOfMemoryError, str(1 << 60)),
    "drop-type": (lambda e, m: e.drop("vae"), TypeError, "component: wanted wanoffload._core.Component"),
    "step-early": (transformer_call(lambda x: x.step(latents(), TIMES), False), ValueError, "prepare"),
    "step-list": (transformer_call(lambda x: x.step([], TIMES)), TypeError, "latents: wanted a NumPy array.*got list"),
    "step-dtype": (
        transformer_call(lambda x: x.step(latents().astype(np.float64), TIMES)),
        TypeError,
        r"latents: wanted an array of float32 \[2, 16, 1, 4, 6\], got float64 \[2, 16, 1, 4, 6\]",
    ),
    "step-shape": (
        transformer_call(lambda x: x.step(latents()[:, :3], TIMES)),
        ValueError,
        r"latents: wanted an array of float32 \[2, 16, 1, 4, 6\], got float32 \[2, 3, 1, 4, 6\]",
    ),
    "step-rank": (transformer_call(lambda x: x.step(latents()[0], TIMES)), ValueError, "latents"),
    "step-times": (transformer_call(lambda x: x.step(latents(), TIMES[:1])), ValueError, r"timesteps.*\[2\].*\[1\]"),
    "step-flag": (transformer_call(lambda x: x.step(latents(), TIMES, None)), TypeError, "follow"),
    "text-count": (transformer_call(lambda x: x.prepare(embeds()[:1], **SIZES)), ValueError, "text.*2 batch.*got 1"),
    "text-rows": (
        transformer_call(lambda x: x.prepare([(9, embeds()[0][1]), embeds()[1]], **SIZES)),
        ValueError,
        "text: rows",
    ),
    "text-embeds": (
        transformer_call(lambda x: x.prepare([embeds()[1], embeds()[0]], **SIZES)),
        ValueError,
        r"text: embeds.*\[3, 64\].*\[0, 64\]",
    ),
    "prepare-size": (transformer_call(lambda x: x.prepare(embeds(), 2, 4, 6)), ValueError, "frames"),
    "prepare-fold": (transformer_call(lambda x: x.prepare(embeds(), 1, 4, 6, True)), ValueError, "unfolded"),
    "decode-shape": (vae_call(lambda x: x.decode(FRAME[:, :1], True)), ValueError, r"latent.*\[16, 2, 3\].*16, 1, 3"),
    "decode-order": (vae_call(lambda x: x.decode(FRAME, False)), ValueError, "first"),
    "decode-flag": (vae_call(lambda x: x.decode(FRAME, "yes")), TypeError, "first"),
    "ids-dtype": (text_call(lambda x: x.encode([np.int64([5, 1])])), TypeError, r"ids.*int32 \[2\].*int64 \[2\]"),
    "ids-length": (text_call(lambda x: x.encode([np.int32([5])])), ValueError, r"ids.*\[2\].*\[1\]"),
    "ids-count": (text_call(lambda x: x.encode([])), ValueError, "ids: wanted the plan's 1 prompts, got 0"),
    "ids-range": (text_call(lambda x: x.encode([np.int32([5, 290])])), ValueError, "ids.*0 to 289, got 290"),
    "ids-negative": (text_call(lambda x: x.encode([np.int32([-1, 1])])), ValueError, "ids.*got -1"),
    "threads-zero": (lambda e, m: core.set_num_threads(0), ValueError, "threads: wanted an integer from 1"),
    "threads-type": (lambda e, m: core.set_num_threads("2"), TypeError, "threads"),
    "memory-name": (lambda e, m: core.device_memory("abacus"), ValueError, "abacus"),
    "describe-type": (lambda e, m: core.describe_device(None), TypeError, "name"),
    "isa-word": (lambda e, m: core._testing.force_isa("mmx"), ValueError, 'name.*"generic".*mmx'),
    "edge-word": (lambda e, m: core._testing.configure(e, cut_edges=["x"]), ValueError, "cut_edges.*ready.*'x'"),
    "field-word": (lambda e, m: core._testing.configure(e, poisons=True), TypeError, "poisons"),
    "unknown-keyword": (lambda e, m: e.reserve(3, size=3), TypeError, "reserve"),
    "missing-argument": (lambda e, m: m.vae.plan(e, 2), TypeError, "width"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_argument_is_named_and_nothing_leaks(name: str, engine: core.Engine, models: Models) -> None:
    call, exception, text = BAD[name]
    check_refusal(lambda: call(engine, models), exception, text, memory_may_stay=name.startswith("reserve"))
    assert velocity(engine, models, {}).shape == (2, 16, 1, 4, 6)


def test_errors_of_the_system_keep_errno_and_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        core.Store(tmp_path / "absent.safetensors")
    assert caught.value.errno == 2 and str(caught.value.filename).endswith("absent.safetensors")


def test_a_broken_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"\xff" * 20)
    with pytest.raises(CheckpointError, match=r"broken\.safetensors"):
        core.Store(path)
    with pytest.raises(ValueError):
        core.Store(os.fspath(path))


def test_a_budget_that_cannot_hold_says_which_would(engine: core.Engine, models: Models) -> None:
    policy = {"level": "auto", "tier": "disk", "vram": 1000, "ram": 1000, "choose_knobs": True}
    with pytest.raises(PlanError) as caught:
        models.plan(engine, policy)
    assert caught.value.budget == {"vram": 1000, "ram": 1000}
    assert str(caught.value.needed["vram"]) in str(caught.value) and "1000" in str(caught.value)
    summary = models.plan(engine, {**policy, **caught.value.needed}).summary()
    assert summary["vram"] <= caught.value.needed["vram"] and summary["ram"] <= caught.value.needed["ram"]
