"""Operations alone: against the cpu device at sizes that fit badly, rows by themselves against rows among others, under
compute-sanitizer, and the speed of the large ones."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import surroundings
from cases import ADD, GATE, Case, large_cases, small_cases
from rows import Row, Stage
from surroundings import DEVICE, needs

_SECONDS = 0.4  # of repeats that a speed is taken from
_MOST = 200
_PEAK = {"float32": "f32_tflops", "bfloat16": "bf16_tflops", "float16": "bf16_tflops"}


def open_engine(own: bool) -> Any:
    """An engine on the card, with the vendor's libraries or without."""
    from wanoffload import _core, devices

    devices.prepare()
    _core._testing.own_kernels_only(own)
    return _core.Engine(DEVICE)


def run(engine: Any, case: Case, repeats: int = 0) -> tuple[dict[str, np.ndarray], float]:
    """Runs a case; the same values each time."""
    from wanoffload import _core

    return _core._testing.run_op(engine, case.op, case.arguments(np.random.default_rng(5)), repeats)


def compare(dtype: str, own: bool, tiny: bool) -> dict[str, Any]:
    """Every operation against the cpu device, which has no float16 and computes in float32 instead."""
    from wanoffload import _core

    card, cpu = open_engine(own), _core.Engine("cpu")
    worst, worst_case, bad, cases = 0.0, "", [], small_cases(dtype, tiny)
    on_cpu = small_cases(dtype, tiny, "float32" if dtype == "float16" else dtype)
    for case, its_twin in zip(cases, on_cpu, strict=True):
        ours, theirs = run(card, case)[0], run(cpu, its_twin)[0]
        for name, wanted in theirs.items():
            error = float(np.abs(ours[name] - wanted).max() / max(np.abs(wanted).max(), 1e-6))
            if not error <= case.bound:
                bad.append(f"{case.name} ({error:.3g}, bound {case.bound:g})")
            if error > worst:
                worst, worst_case = error, case.name
    if bad:
        raise SystemExit(f"beyond their bounds: {'; '.join(bad)}")
    return {"cases": len(cases), "worst": worst, "worst case": worst_case}


def compare_rows(dtype: str, own: bool, tiny: bool) -> dict[str, Any]:
    """Rows alone, in a tail and among all: the same bits, or linear loses its place in WO_CUDA_ROWS_APART."""
    from wanoffload import _core

    card, count = open_engine(own), 0
    k, n, m = (64, 72, 150) if tiny else (5120, 5120, 5000)
    for epilogue, y_dtype in itertools.product((0, 2, ADD, GATE), dict.fromkeys(("float32", dtype))):
        rng = np.random.default_rng(9)
        x = rng.standard_normal((m, k), dtype=np.float32)
        other = rng.standard_normal((m, n), dtype=np.float32)
        w = rng.standard_normal(n * k, dtype=np.float32) * np.float32(k**-0.5)
        bias, gate = rng.standard_normal((2, n), dtype=np.float32)
        fixed = {"w": (w, dtype, (n, k)), "bias": (bias, "float32", (n,)), "epilogue": epilogue}

        def rows(first: int, last: int, x=x, other=other, gate=gate, fixed=fixed, y_dtype=y_dtype) -> np.ndarray:
            count, epilogue = last - first, fixed["epilogue"]
            made: dict[str, Any] = fixed | {"x": (x[first:last].ravel(), dtype, (count, k))}
            made["y"] = (None, y_dtype, (count, n))
            if epilogue in (ADD, GATE):
                made["other"] = (other[first:last].ravel(), y_dtype, (count, n))
            if epilogue == GATE:
                made |= {"gate": (gate, "float32", (1, n)), "rows_per_gate": count}
            return _core._testing.run_op(card, "linear", made)[0]["y"]

        everything = rows(0, m)
        for first, last in ((0, m // 2), (m // 2, m), (m - 7, m), (3, 4)):
            count += 1
            if rows(first, last).tobytes() != everything[first:last].tobytes():
                raise SystemExit(
                    f"rows {first} to {last} of a linear into {y_dtype} with epilogue {epilogue} depend on the others"
                )
    return {"cases": count}


def compare_queries(dtype: str, own: bool, tiny: bool) -> dict[str, Any]:
    """The first queries of an attention alone: the bits that they have among all, or it loses its place there, too."""
    from wanoffload import _core

    card, count = open_engine(own), 0
    keys, heads, width = (64, 2, 128) if tiny else (4096, 40, 128)
    rng = np.random.default_rng(9)
    q, k, v = (rng.standard_normal((keys, heads, width), dtype=np.float32) for _ in range(3))

    def attention(queries: int) -> np.ndarray:
        shape = (queries, heads, width)
        made: dict[str, Any] = {"scale": width**-0.5, "o": (None, dtype, shape)}
        made["q"] = (q[:queries].ravel(), dtype, shape)
        made |= {name: (one.ravel(), dtype, (keys, heads, width)) for name, one in (("k", k), ("v", v))}
        return _core._testing.run_op(card, "attention", made)[0]["o"]

    everything = attention(keys)
    for queries in (keys, 32, 16, 7) if tiny else (keys, 2048, 1024, 77):
        count += 1
        if attention(queries).tobytes() != everything[:queries].tobytes():
            raise SystemExit(f"the first {queries} queries to {keys} keys depend on the others")
    return {"cases": count}


def time_large(dtype: str, own: bool, tiny: bool) -> dict[str, Any]:
    """Speed of each large case, and its share of the card's tabled peak."""
    engine, (card, _) = open_engine(own), surroundings.card()
    found = {}
    for case in small_cases(dtype)[:3] if tiny else large_cases(dtype):
        once = run(engine, case, 1)[1]
        seconds = run(engine, case, int(min(_MOST, max(2, _SECONDS / max(once, 1e-6)))))[1]
        line: dict[str, Any] = {"seconds": seconds}
        if case.flop:
            line["tflops"] = case.flop / seconds / 1e12
            line["of peak"] = line["tflops"] / card[_PEAK[dtype]] if card[_PEAK[dtype]] else None
        else:
            line["gb/s"] = case.bytes / seconds / 1e9
            line["of peak"] = line["gb/s"] / card["memory_gbs"] if card["memory_gbs"] else None
        found[case.name] = line
    words = [_describe(name, line) for name, line in found.items()]
    return {"cases": len(found), "speeds": found, "table": "<br>".join(words)}


def _describe(name: str, line: dict[str, Any]) -> str:
    rate = f"{line['tflops']:.0f} TFLOP/s" if "tflops" in line else f"{line['gb/s']:.0f} GB/s"
    share = f" ({line['of peak']:.0%} of peak)" if line["of peak"] is not None else ""
    return f"{name}: {line['seconds'] * 1e3:.3g} ms, {rate}{share}"


def sanitize(options: Any, tool: str) -> dict[str, Any]:
    """The small cases under compute-sanitizer."""
    script = [sys.executable, str(Path(__file__).with_name("run.py")), "--stage", "ops", "--work", str(options.work)]
    script += ["--tiny"] if options.tiny else []
    command = [
        surroundings.sanitizer(),
        "--tool",
        tool,
        "--error-exitcode",
        "9",
        *script,
        "--row",
        "bfloat16, own kernels",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        found = [line for line in done.stdout.splitlines() if line.startswith("=========")]
        raise SystemExit(" ".join(found[:6]) or done.stderr[-400:])
    return {"cases": len(small_cases("bfloat16", options.tiny)), "table": "no errors"}


def stage(tiny: bool) -> Stage:
    """Correctness first, then speed."""
    ways = [(dtype, own) for dtype in ("float32", "bfloat16", "float16") for own in (False, True)]
    rows = [Row(_name("", *way), lambda options, way=way: compare(*way, options.tiny), needs(way[1])) for way in ways]
    rows += [
        Row(_name("rows alone, ", *way), lambda options, way=way: compare_rows(*way, options.tiny), needs(way[1]))
        for way in ways
    ]
    rows += [
        Row(_name("queries alone, ", *way), lambda options, way=way: compare_queries(*way, options.tiny), needs(way[1]))
        for way in ways
        if way[0] != "float32"
    ]
    rows += [
        Row(_name("speed, ", *way), lambda options, way=way: time_large(*way, options.tiny), needs(way[1]))
        for way in ways[::-1]
    ]
    rows += [
        Row(
            f"compute-sanitizer {tool}",
            lambda options, tool=tool: sanitize(options, tool),
            ("card", "compute-sanitizer"),
        )
        for tool in ("memcheck", "racecheck")
    ]
    columns = [("cases", "cases", "d"), ("worst", "worst", ".2g"), ("of", "worst case", ""), ("", "table", "")]
    return Stage("ops", "Operations on the card", rows, columns, [
        "within 2e-5 of the cpu device in float32, 1e-2 in bfloat16 and 2e-3 in float16, relative to the largest value",
        "attention at 0.58 of peak or more with cuDNN, products at 0.75 or more",
    ])  # fmt: skip


def _name(what: str, dtype: str, own: bool) -> str:
    return f"{what}{dtype}{', own kernels' if own else ''}"
