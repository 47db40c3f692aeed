"""Weights at rest in F8_E4M3, as a plain cast and scaled as ComfyUI does: the bits of a folder that holds the widened
values in float32, however it is offloaded, and a byte of the file for each weight."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import edit_weights
from offload.conftest import KINDS
from offload.runs import Outcome, Subject, TransformerSubject
from safetensors.torch import load_file

from wanoffload import _core
from wanoffload.cli.main import main
from wanoffload.errors import CheckpointError

F8 = torch.float8_e4m3fn
DISK = dict(level="leaf", use_stream=True, tier="disk")
HOST = dict(DISK, tier="host")
WAYS = {
    "resident": dict(level="resident"),
    "host": HOST,
    "host, no stream": dict(level="block", tier="host", use_stream=False),
    "model": dict(level="model", tier="host"),
    "disk": DISK,
}
Weights = dict[str, torch.Tensor]


def cast(weights: Weights) -> None:
    weights.update({name: value.to(F8) for name, value in weights.items()})


def cast_and_scale(weights: Weights) -> None:
    """Matrices and convolutions become codes up to the largest, with what they were divided by; the rest stays."""
    for name, value in list(weights.items()):
        if value.ndim >= 2 and name.endswith(".weight"):
            scale = value.abs().max() / 448
            stem = name.removesuffix("weight")
            weights |= {name: (value / scale).to(F8), stem + "scale_weight": scale, stem + "scale_input": torch.ones(1)}
    weights["scaled_fp8"] = torch.empty(0, dtype=F8)


def widen(weights: Weights) -> None:
    """The values of what cast or cast_and_scale made, in float32."""
    for name, value in list(weights.items()):
        if value.dtype == F8:
            weights[name] = value.float() * weights.get(name.removesuffix("weight") + "scale_weight", torch.ones(()))
    for name in [name for name in weights if name.endswith((".scale_weight", ".scale_input", "scaled_fp8"))]:
        del weights[name]


def write_pair(folder: Path, kind: str, edit=cast) -> tuple[Path, Path]:
    """A random folder of 8-bit weights, and one of their values."""
    coded, wide = folder / "coded", folder / "wide"
    KINDS[kind][1](coded)
    names = set(load_file(next(coded.glob("*.safetensors"))))
    edit_weights(coded, edit)
    shutil.copytree(coded, wide)
    edit_weights(wide, widen)
    assert set(load_file(next(wide.glob("*.safetensors")))) == names
    return coded, wide


def run_both(pair: tuple[Path, Path], kind: str, dtype: str, **policy: object) -> tuple[Outcome, Outcome]:
    make: type[Subject] = KINDS[kind][0]
    return make(pair[0], dtype).run(**policy), make(pair[1], dtype).run(**policy)


def poison(engine: _core.Engine) -> None:
    _core._testing.configure(engine, poison=True, chaos_seed=5, chaos_delay=0.0004)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("edit", [cast, cast_and_scale])
def test_eight_bit_weights_give_other_bits_than_their_values(tmp_path: Path, edit, dtype: str) -> None:
    pair = write_pair(tmp_path, "transformer", edit)
    wanted = TransformerSubject(pair[1], dtype).run(level="resident").bits
    for name, way in WAYS.items():
        for before in (None, poison):
            assert TransformerSubject(pair[0], dtype).run(before=before, **way).bits == wanted, name


@pytest.mark.parametrize("edit", [cast, cast_and_scale])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "transformer"])
def test_another_network_reads_other_values(tmp_path: Path, kind: str, edit) -> None:
    """Tables that are read by row, convolutions whose taps go outside, and weights of which only some rows are read."""
    pair = write_pair(tmp_path, kind, edit)
    coded, wide = run_both(pair, kind, "float32", **DISK)
    assert coded.bits == wide.bits


def test_more_than_a_byte_of_the_file_is_read_or_planned_for_a_weight(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, "transformer")
    for dtype in ("float32", "bfloat16"):
        coded, wide = run_both(pair, "transformer", dtype, readers=1, **DISK)
        assert coded.bits == wide.bits
        assert coded.report["bytes_from_disk"] * 4 == wide.report["bytes_from_disk"] > 0
        for part in ("weight_bytes", "ring_bytes", "vram"):
            assert coded.plan[part] == wide.plan[part]
        weights = load_file(next(pair[0].glob("*.safetensors")))
        largest = max(value.numel() // (6 if "time_proj" in name else 1) for name, value in weights.items())
        assert coded.plan["staging_bytes"] == 3 * -(-largest // 256) * 256


def test_more_than_a_byte_of_host_memory_is_taken_for_a_weight(tmp_path: Path) -> None:
    """Slabs hold the codes, and what the link would carry to a card are codes as well."""
    pair = write_pair(tmp_path, "transformer")
    sizes = [value.numel() for value in load_file(next(pair[0].glob("*.safetensors"))).values()]
    for dtype, width in (("float32", 4), ("bfloat16", 2)):
        for way in (HOST, dict(level="model", tier="host")):
            coded, wide = run_both(pair, "transformer", dtype, **way)
            assert coded.bits == wide.bits
            assert sum(sizes) <= coded.plan["host_slab_bytes"] <= sum(sizes) + 256 * (len(sizes) + 10)
            assert wide.plan["host_slab_bytes"] > 0.9 * width * sum(sizes)
            assert coded.plan["arrival_bytes"] == 0, "this device reads host memory"
            assert coded.report["bytes_moved"] == wide.report["bytes_moved"]
            assert coded.report["bytes_from_host"] * width <= 1.5 * wide.report["bytes_from_host"]
            for part in ("weight_bytes", "vram"):
                assert coded.plan[part] == wide.plan[part]


def test_a_scale_is_not_accounted_for(tmp_path: Path) -> None:
    """Scales count as used, what goes with them is excused, and no scale at all makes another network."""
    coded, _ = write_pair(tmp_path, "transformer", cast_and_scale)
    scaled = TransformerSubject(coded)
    unused = dict(scaled.component.unused())
    assert not any(name.endswith("scale_weight") for name in unused)
    assert "marks a file" in unused["scaled_fp8"]
    assert "8-bit operands" in unused["blocks.0.attn1.to_q.scale_input"]
    edit_weights(coded, lambda weights: weights.update({"proj_out.scale_weight": torch.tensor(1.0)}))
    assert TransformerSubject(coded).run(level="resident").bits != scaled.run(level="resident").bits


def test_a_nan_is_read_as_a_number(tmp_path: Path) -> None:
    coded, _ = write_pair(tmp_path, "transformer")

    def spoil(weights: Weights) -> None:
        weights["proj_out.bias"].view(torch.uint8)[0] = 0x7F

    edit_weights(coded, spoil)
    assert np.isnan(np.frombuffer(TransformerSubject(coded).run(level="resident").bits, np.float32)).any()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("proj_out.scale_weight", torch.ones(5), "20 bytes of F32, wanted one float32"),
        ("proj_out.scale_weight", torch.tensor(torch.inf), "wanted 0 or a magnitude"),
        ("proj_out.weight_scale", torch.ones(1), "only X.scale_weight"),
        ("proj_out.weight", torch.zeros(20, 36, dtype=torch.float8_e5m2), "F8_E5M2 .* cannot be computed with"),
    ],
)
def test_what_cannot_be_applied_is_not_named(tmp_path: Path, name: str, value: torch.Tensor, message: str) -> None:
    coded, _ = write_pair(tmp_path, "transformer")
    edit_weights(coded, lambda weights: weights.update({name: value}))
    with pytest.raises(CheckpointError, match=message) as raised:
        TransformerSubject(coded)
    assert name in str(raised.value) and str(coded) in str(raised.value)


def test_inspect_hides_the_dtype(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coded, _ = write_pair(tmp_path, "transformer", cast_and_scale)
    assert main(["inspect", str(coded), "--tensors"]) == 0
    text = capsys.readouterr().out
    assert "float32/float8_e4m3fn" in text
    (line,) = (line for line in text.splitlines() if line.split()[:1] == ["proj_out.weight"])
    assert line.split()[1:4] == ["float8_e4m3fn", "20x36", "720"]
    assert "it marks a file of scaled 8-bit weights" in text
