"""Operations to compare and to time: arguments for `_core._testing.run_op`, and what a call computes and moves."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_POOL = 1 << 20
NONE, SILU, GELU_TANH, GELU_ERF, MUL, ADD, GATE = range(7)  # wo_epilogue
TILE, DOT = range(2)  # wo_form


@dataclass(frozen=True)
class Case:
    """One call of an operation.

    Attributes:
        name: Of the case.
        op: Of the operation.
        arguments: Makes the arguments from a random generator.
        flop: Floating point operations of a call.
        bytes: Read and written by one that only moves.
        bound: Of the largest difference from the cpu device, relative to the largest value.
    """

    name: str
    op: str
    arguments: Callable[[np.random.Generator], dict[str, Any]]
    flop: float = 0.0
    bytes: float = 0.0
    bound: float = 0.0


def values(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, scale: float = 1.0) -> tuple[Any, str, tuple]:
    """A random tensor; large ones repeat a pool."""
    count = min(math.prod(shape), _POOL)
    return (rng.standard_normal(count, dtype=np.float32) * np.float32(scale)), dtype, shape


def result(shape: tuple[int, ...], dtype: str) -> tuple[None, str, tuple]:
    """A tensor that the call writes."""
    return None, dtype, shape


@dataclass
class Maker:
    """Makes the cases of one compute dtype: of sizes that fit badly, to compare, or of the models' own, to time."""

    dtype: str
    found: list[Case] = field(default_factory=list)

    @property
    def _bound(self) -> float:
        return {"float32": 2e-5, "bfloat16": 1e-2, "float16": 2e-3}[self.dtype]

    @property
    def _item(self) -> int:
        return 4 if self.dtype == "float32" else 2

    def linear(self, m: int, n: int, k: int, epilogue: int = NONE, form: int = TILE, gates: int = 1) -> None:
        """x [m, k] times w [n, k], with bias; GATE writes over a float32 residual, with so many gates for its rows."""
        gated, named = epilogue == GATE, ("none", "silu", "gelu tanh", "gelu erf", "mul", "add", "gate")[epilogue]
        out = "float32" if gated else self.dtype

        def arguments(rng: np.random.Generator) -> dict[str, Any]:
            made: dict[str, Any] = {"epilogue": epilogue, "form": form, "y": result((m, n), out)}
            made |= {"x": values(rng, (m, k), self.dtype), "w": values(rng, (n, k), self.dtype, k**-0.5)}
            made["bias"] = values(rng, (n,), "float32")
            if epilogue in (MUL, ADD):
                made["other"] = values(rng, (m, n), out)
            if gated:
                made |= {"y": values(rng, (m, n), out), "other": "y"}
                made |= {"gate": values(rng, (gates, n), "float32"), "rows_per_gate": m // gates}
            return made

        named += f" of {m // gates} rows" if gates > 1 else ""
        name = f"linear {m} x {n} x {k}, {named}{', dot' if form == DOT else ''}"
        self.found.append(Case(name, "linear", arguments, flop=2.0 * m * n * k, bound=self._bound))

    def attention(
        self, queries: int, keys: int, heads: int, width: int, last_key_bias: float = 0.0, relative: bool = False
    ) -> None:
        """Of one item.

        Args:
            queries: Rows of q.
            keys: Rows of k and v.
            heads: In each row.
            width: Of a head.
            last_key_bias: Cross-attention's, whose last key stands for all of the padding.
            relative: With the text encoder's bias by distance, and as there without a scale.
        """

        def arguments(rng: np.random.Generator) -> dict[str, Any]:
            made: dict[str, Any] = {"scale": 1.0 if relative else width**-0.5, "last_key_bias": last_key_bias}
            made["o"] = result((queries, heads, width), self.dtype)
            made["q"] = values(rng, (queries, heads, width), self.dtype, width**-0.5 if relative else 1.0)
            if relative:
                made |= {"relative": values(rng, (32, heads), "float32"), "max_distance": 128}
            return made | {name: values(rng, (keys, heads, width), self.dtype) for name in "kv"}

        name = f"attention {queries} x {keys}, {heads} heads of {width}"
        name += (", last key biased" if last_key_bias else "") + (", relative bias" if relative else "")
        flop = 4.0 * queries * keys * heads * width
        self.found.append(Case(name, "attention", arguments, flop=flop, bound=self._bound))

    def conv(
        self,
        frames: int,
        size: tuple[int, int],
        channels: int,
        out: int,
        kernel: tuple[int, int, int],
        y: str | None = None,
        residual: str = "",
        resample: str = "",
        null_frames: int = 0,
    ) -> None:
        """A convolution.

        Args:
            frames: Out.
            size: Height and width of a frame in.
            channels: In.
            out: Channels out.
            kernel: Its taps in time, height and width.
            y: dtype of the result, the operands' by default. The model's is float32.
            residual: "apart", or "in place" where y is added to.
            resample: "upsample" or "downsample".
            null_frames: Of the first frames in, how many are NULL, as before a film's first.
        """
        height, width = size
        into = (frames + kernel[0] - 1, height, width, channels)
        fan = channels * math.prod(kernel)
        times = {"": 1.0, "upsample": 2.0, "downsample": 0.5}[resample]
        shape, dtype = (frames, int(height * times), int(width * times), out), y or self.dtype

        def arguments(rng: np.random.Generator) -> dict[str, Any]:
            made: dict[str, Any] = {"y": result(shape, dtype), "bias": values(rng, (out,), "float32")}
            made["w"] = values(rng, (out, *kernel, channels), self.dtype, fan**-0.5)
            made |= {"frames": values(rng, into, self.dtype), "null_frames": null_frames}
            if residual == "apart":
                made["residual"] = values(rng, shape, dtype)
            elif residual:
                made |= {"y": values(rng, shape, dtype), "residual": "y"}
            if resample:
                made[resample] = True
            return made

        name = f"conv {'x'.join(map(str, kernel))}, {channels} to {out}, {frames} of {height} x {width}"
        name += f", {dtype} out" if dtype != self.dtype else ""
        name += f", residual {residual}" if residual else ""
        name += f", {resample}" if resample else ""
        name += f", {null_frames} of zeros" if null_frames else ""
        flop = 2.0 * math.prod(shape) * fan
        self.found.append(Case(name, "conv", arguments, flop=flop, bound=self._bound))

    def moving(self, op: str, name: str, make: Callable[[np.random.Generator], dict[str, Any]], size: float) -> None:
        """An operation that computes next to nothing; size: bytes that it reads and writes."""
        self.found.append(Case(f"{op} {name}", op, make, bytes=size, bound=self._bound))

    def norms(self, rows: int, width: int, heads: int) -> None:
        """The transformer's: layer norm with modulation, and rms norm with rotation."""
        head = width // heads

        def layer_norm(rng: np.random.Generator) -> dict[str, Any]:
            made = {"x": values(rng, (rows, width), "float32"), "y": result((rows, width), self.dtype), "eps": 1e-6}
            made |= {name: values(rng, (1, width), "float32", 0.1) for name in ("scale", "shift")}
            return made | {"rows_per_batch": rows}

        def rms_norm(rng: np.random.Generator) -> dict[str, Any]:
            made = {"x": values(rng, (rows, width), self.dtype), "y": result((rows, width), self.dtype), "eps": 1e-6}
            made |= {name: values(rng, (rows, head // 2), "float32") for name in ("cos", "sin")}
            return made | {"weight": values(rng, (width,), "float32"), "head_dim": head}

        moved = rows * width
        self.moving("layer_norm", f"{rows} x {width}, modulated", layer_norm, moved * (4 + self._item))
        self.moving("rms_norm", f"{rows} x {width}, rotated", rms_norm, 2 * moved * self._item)

    def others(self, rows: int, width: int) -> None:
        """The rest, on rows of a width."""
        count = rows * width
        tall = 2 * (rows // 2)

        def l2_norm(rng: np.random.Generator) -> dict[str, Any]:
            made = {"x": values(rng, (rows, width), self.dtype), "y": result((rows, width), self.dtype), "silu": True}
            return made | {"gamma": values(rng, (width,), "float32")}

        def add(rng: np.random.Generator) -> dict[str, Any]:
            return {name: values(rng, (rows, width), "float32") for name in "ab"} | {
                "y": result((rows, width), "float32")
            }

        def unary(rng: np.random.Generator) -> dict[str, Any]:
            return {"x": values(rng, (rows, width), self.dtype), "y": result((rows, width), self.dtype), "kind": 1}

        def patchify(rng: np.random.Generator) -> dict[str, Any]:
            shape = (16, 1, tall, 2 * width)
            return {"latents": values(rng, shape, "float32"), "rows": result((tall // 2 * width, 64), self.dtype)}

        def unpatchify(rng: np.random.Generator) -> dict[str, Any]:
            shape = (16, 1, tall, 2 * width)
            return {"rows": values(rng, (tall // 2 * width, 64), self.dtype), "latents": result(shape, "float32")}

        def channels_last(rng: np.random.Generator) -> dict[str, Any]:
            return {"x": values(rng, (3, 1, rows, width), "float32"), "y": result((1, rows, width, 3), self.dtype)}

        def embedding(rng: np.random.Generator) -> dict[str, Any]:
            ids = rng.integers(0, 50, rows).astype(np.int32)
            table = values(rng, (50, width), self.dtype)
            return {"table": table, "ids": (ids, "int32", (rows,)), "y": result((rows, width), self.dtype)}

        def rope_table(rng: np.random.Generator) -> dict[str, Any]:
            return {name: result((rows, 64), "float32") for name in ("cos", "sin")} | {
                "frames": 1, "height": 1, "width": rows, "head_dim": 128
            }  # fmt: skip

        def sinusoid(rng: np.random.Generator) -> dict[str, Any]:
            return {"y": result((256,), "float32"), "t": 517.0}

        self.moving("l2_norm", f"{rows} x {width}, silu", l2_norm, 2 * count * self._item)
        self.moving("add", f"{rows} x {width}", add, 12 * count)
        self.moving("unary", f"{rows} x {width}, silu", unary, 2 * count * self._item)
        self.moving("patchify", f"{tall} x {2 * width}", patchify, 0)
        self.moving("unpatchify", f"{tall} x {2 * width}", unpatchify, 0)
        self.moving("channels_last", f"{rows} x {width}", channels_last, 0)
        self.moving("embedding", f"{rows} x {width}", embedding, 0)
        self.moving("rope_table", f"{rows} tokens", rope_table, 0)
        self.moving("sinusoid", "256", sinusoid, 0)


def small_cases(dtype: str, tiny: bool = False, compute: str = "") -> list[Case]:
    """Every operation at sizes that fill no tile, in the forms that the model calls. tiny: without those that only size
    brings to the vendor's libraries. compute: the same calls in another dtype."""
    make = Maker(compute or dtype)
    for epilogue in range(7):
        make.linear(45, 72, 136, epilogue)
    make.linear(130, 264, 96)
    make.linear(3, 40, 64, form=DOT)
    make.linear(45, 72, 136, GATE, gates=3)
    for queries, keys, heads, width in ((70, 70, 2, 128), (33, 129, 3, 64), (20, 25, 1, 384), (19, 40, 2, 12)):
        make.attention(queries, keys, heads, width)
    make.attention(50, 21, 2, 128, last_key_bias=6.2)
    make.attention(40, 40, 3, 64, relative=True)
    make.conv(2, (9, 11), 24, 40, (3, 3, 3))
    make.conv(1, (6, 5), 16, 16, (3, 1, 1))
    make.conv(2, (7, 8), 48, 3, (1, 1, 1))
    make.conv(1, (5, 6), 24, 40, (3, 3, 3), y="float32", residual="in place")
    make.conv(1, (5, 6), 24, 40, (3, 3, 3), residual="apart", null_frames=1)
    make.conv(1, (6, 5), 24, 40, (3, 3, 3), y="float32", null_frames=2)
    make.conv(1, (5, 6), 24, 12, (1, 3, 3), y="float32", resample="upsample")
    make.conv(1, (9, 6), 24, 40, (1, 3, 3), y="float32", resample="downsample")
    make.norms(37, 256, 2)
    make.others(30, 48)
    if dtype != "float32" and not tiny:
        _vendor_cases(make)
    return make.found


def _vendor_cases(make: Maker) -> None:
    """What cuDNN is asked to compute: attention to 1024 keys or more, and convolutions from 64 channels or more with
    1000 flops or more for each byte of their frames, into float32 (csrc/device/cuda/attention.c, cudnn_conv.c). Frames
    of which one is NULL do not lie in order and are gathered."""
    for width in (128, 64):
        make.attention(130, 1100, 2, width)
    make.attention(70, 1024, 2, 128, last_key_bias=3.0)
    for residual in ("", "in place"):
        make.conv(1, (10, 13), 64, 256, (3, 3, 3), y="float32", residual=residual)
        make.conv(2, (9, 11), 96, 192, (3, 3, 3), y="float32", residual=residual)
    make.conv(1, (10, 13), 64, 256, (3, 3, 3), y="float32", residual="in place", null_frames=1)


def large_cases(dtype: str) -> list[Case]:
    """The calls that most of a 14B step and of a decoded chunk at 480p and 720p consist of."""
    make = Maker(dtype)
    for tokens in (32760, 75600):
        make.attention(tokens, tokens, 40, 128)
        make.linear(tokens, 5120, 5120)
    make.linear(32760, 13824, 5120, GELU_TANH)
    make.linear(32760, 5120, 13824, GATE)
    make.linear(32760, 5120, 5120, GATE)
    make.attention(32760, 512, 40, 128)
    for size, channels in (((480, 832), 96), ((240, 416), 192), ((120, 208), 384)):
        make.conv(1, size, channels, channels, (3, 3, 3), y="float32")
    make.norms(32760, 5120, 40)
    make.others(480 * 832, 96)
    return [case for case in make.found if case.flop or case.bytes]
