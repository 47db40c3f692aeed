"""Ways to break the kernels, each of which the tests on the fake card must notice.

Barriers and waits are found in the PTX: every one of every kernel is taken away, or waits for one group less; but not
of the kernels for float16, which are those for bfloat16 with other instructions. Indices, bounds and roundings are
edits of the sources, in the table below.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# What runs a kernel: tests of tests/cuda with their arguments, one of which must fail. The first name that a kernel
# begins with decides.
TESTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "wo_attention": (("test_ops", "attention"),),
    "wo_conv_": (("test_ops", "conv"), ("test_conv",)),
    "wo_convert": (("test_convert",),),
    "wo_linear": (("test_ops", "linear"), ("test_linear",)),
    "wo_layer_norm": (("test_ops", "layer_norm"),),
    "wo_rms_norm": (("test_ops", "rms_norm"),),
    "wo_l2_norm": (("test_ops", "l2_norm"),),
    "wo_channels_last": (("test_ops", "channels_last"),),
}

# Barriers and waits that may go, by the beginning of their names: why nothing can show it.
NEEDLESS = {
    "wo_linear_bf16_ragged: wait 1": "fills its stages by ordinary stores, and has no copy to wait for",
    "wo_conv_bf16_ragged: wait 1": "fills its stages by ordinary stores, and has no copy to wait for",
}


@dataclass(frozen=True)
class Edit:
    """One edit of a source in kernels/; `before` occurs once there."""

    module: str
    test: tuple[str, ...]
    file: str
    before: str
    after: str

    @property
    def tests(self) -> tuple[tuple[str, ...], ...]:
        return (self.test,)

    @property
    def name(self) -> str:
        return f"{self.file}: {self.before} -> {self.after}"


@dataclass(frozen=True)
class Cut:
    """A kernel's PTX without a barrier, all that became of one line of the source, or with a wait that is too short."""

    module: str
    kernel: str
    file: str
    source_line: int
    wait: int  # 0: a barrier
    changes: tuple[tuple[int, str], ...]  # number and new text of lines of the PTX

    @property
    def tests(self) -> tuple[tuple[str, ...], ...]:
        """Of a table's cases those that launch the kernel."""
        tests = next(tests for start, tests in TESTS.items() if self.kernel.startswith(start))
        return tuple((*test, self.kernel) if test[0] == "test_ops" else test for test in tests)

    @property
    def name(self) -> str:
        place = f"{self.file}:{self.source_line}"
        return f"{self.kernel}: wait {self.wait}, {place}" if self.wait else f"{self.kernel}: barrier at {place}"


def change(line: str) -> str | None:
    """A barrier's line taken away, a wait's for one group less; None for all other lines."""
    if re.match(r"\s*(bar|barrier)\.sync", line):
        return ""
    if found := re.match(r"(\s*cp\.async\.wait_group )(\d+)(.*)", line):
        return f"{found[1]}{int(found[2]) + 1}{found[3]}"
    return None


def cuts(module: str, ptx: str) -> list[Cut]:
    """Every barrier and every wait of every kernel. One barrier may stand there many times, for each dtype."""
    files = {found[1]: Path(found[2]).name for found in re.finditer(r'^\s*\.file\s+(\d+) "([^"]+)"', ptx, re.MULTILINE)}
    kernel, place = "", ("", 0)
    found: dict[tuple[str, str, int, int], list[tuple[int, str]]] = {}
    for number, line in enumerate(ptx.splitlines()):
        if entry := re.search(r"\.entry (\w+)\(", line):
            kernel = entry[1]
        elif "_f16" in kernel:
            continue
        elif loc := re.match(r"\s*\.loc\s+(\d+) (\d+)", line):
            place = (loc[1], int(loc[2]))
        elif (text := change(line)) is not None:
            waits = sum(key[0] == kernel and key[3] > 0 for key in found)
            found.setdefault((kernel, *place, waits + 1 if text else 0), []).append((number, text))
    return [Cut(module, key[0], files[key[1]], *key[2:], tuple(changes)) for key, changes in found.items()]


def apply(cut: Cut, ptx: str) -> str:
    lines = ptx.splitlines()
    for number, text in cut.changes:
        lines[number] = text
    return "\n".join(lines) + "\n"


def edits(module: str, test: str, file: str, *pairs: tuple[str, str]) -> list[Edit]:
    return [Edit(module, tuple(test.split()), file, before, after) for before, after in pairs]


EDITS = [
    *edits(
        "attention",
        "test_ops attention",
        "attention_parts.cuh",
        ("distance >= a.borders[reached]", "distance > a.borders[reached]"),
        ("key == a.keys - 1 ? a.last_key_bias", "key == a.keys ? a.last_key_bias"),
        ("return key < a.keys ? score", "return key <= a.keys ? score"),
        ("m.sum[half] = fmaf(m.sum[half], decay[half], sum)", "m.sum[half] = m.sum[half] + sum"),
    ),
    *edits(
        "attention",
        "test_ops attention",
        "attention.cu",
        ("bool valid = first + row + i * step < end;", "bool valid = first + row + i * step <= end;"),
        ("tile_offset<tuned_tile<D>::ROW>(row, lane / 16)", "tile_offset<tuned_tile<D>::ROW>(row, lane / 8 % 2)"),
    ),
    *edits(
        "attention",
        "test_ops attention",
        "attention_any.cuh",
        ("for (int c = lane; c < width; c += 32)", "for (int c = lane; c <= width; c += 32)"),
        ("bool valid = first + row < end && chunk * 8 < width;", "bool valid = first + row < end;"),
    ),
    *edits(
        "attention",
        "test_ops attention",
        "attention_float.cuh",
        ("space.bias[float_tile::ROWS - 1 + tx", "space.bias[float_tile::ROWS + tx"),
        ("column + lane + c < a.head_dim ?", "column + lane + c <= a.head_dim ?"),
    ),
    *edits(
        "linear",
        "test_ops linear",
        "product.cuh",
        ("return r < rows ?", "return r <= rows ?"),
        ("r != NULL && c < k ?", "r != NULL && c <= k ?"),
        ("min(out.columns - column, 4)", "min(out.columns - column + 1, 4)"),
        ("(row / out.rows_per_gate)", "((row + 1) / out.rows_per_gate)"),
    ),
    *edits("linear", "test_ops linear", "product_mma.cuh", ("k + lane / 8 % 2", "k + lane / 16 % 2")),
    *edits("attention", "test_ops attention", "tile.cuh", ("row.col.f32.f16.f16.f32", "row.col.f32.bf16.bf16.f32")),
    *edits(
        "linear",
        "test_ops linear",
        "tile.cuh",
        ("cvt.rn.f16.f32", "cvt.rz.f16.f32"),
        ("cvt.rn.f16x2.f32", "cvt.rz.f16x2.f32"),
        ('asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(narrow));', "x *= 2.0f;"),
    ),
    *edits("linear", "test_ops linear", "product_fma.cuh", ("COLUMN_STEP, chunk)", "COLUMN_STEP + 1, chunk)")),
    *edits(
        "conv",
        "test_ops conv",
        "product.cuh",
        ("(unsigned)y >= (unsigned)a.height << a.up", "(unsigned)y > (unsigned)a.height << a.up"),
        ("while (c.channel >= a.channels)", "while (c.channel > a.channels)"),
        ("max(a.zeros - t, 0)", "max(a.zeros - t + 1, 0)"),
        ("if (++c.dx == a.kw)", "if (++c.dx > a.kw)"),
    ),
    *edits(
        "norms",
        "test_ops layer_norm",
        "norms.cu",
        ("column + k < width ? v[k] - mean", "column + k <= width ? v[k] - mean"),
        ("p.row = min(row, a.rows - 1);", "p.row = min(row, a.rows);"),
        ("p.row / a.rows_per_batch", "(p.row + 1) / a.rows_per_batch"),
    ),
    *edits(
        "norms",
        "test_ops rms_norm",
        "norms.cu",
        ("(p.row % a.tokens)", "(p.row % (a.tokens + 1))"),
        ("(column + 2 * k) % a.head_dim / 2", "(column + 2 * k) / 2"),
        ("t.column -= t.column >= a.head_dim", "t.column -= t.column > a.head_dim"),
    ),
    *edits("norms", "test_ops layer_norm", "scalar.cuh", ("lane >= warps)", "lane > warps)")),
    *edits("norms", "test_ops l2_norm", "norms.cu", ("if (a.silu)", "if (!a.silu)")),
    *edits(
        "layouts",
        "test_ops patchify",
        "layouts.cu",
        ("patch % a.patches * 2;", "patch % a.patches * 2 + 1;"),
        ("int64_t to = (patch * a.channels + c) * 4;", "int64_t to = (patch * a.channels + c) * 4 + 1;"),
    ),
    *edits("layouts", "test_ops unpatchify", "layouts.cu", ("* 4 + ph * 2)", "* 4 + ph)")),
    *edits(
        "layouts",
        "test_ops channels_last",
        "layouts.cu",
        ("if (first_pixel + p < a.pixels)", "if (first_pixel + p <= a.pixels)"),
    ),
    *edits("layouts", "test_ops embedding", "layouts.cu", ("a.ids[row] * a.width", "(a.ids[row] + 1) * a.width")),
    *edits(
        "layouts",
        "test_ops rope_table",
        "layouts.cu",
        ("if (pair >= a.width_pairs)", "if (pair > a.width_pairs)"),
        ("(quadrant + 1) & 2", "quadrant & 2"),
    ),
    *edits("layouts", "test_ops sinusoid", "layouts.cu", ("i < a.count; i +=", "i <= a.count; i +=")),
    *edits("elementwise", "test_ops add", "elementwise.cu", ("at -= at >= a.period ?", "at -= at > a.period ?")),
    *edits(
        "elementwise",
        "test_ops unary",
        "scalar.cuh",
        ("i + k < end ? wo_load_one", "i + k <= end ? wo_load_one"),
        ("if (i + k < end)", "if (i + k <= end)"),
    ),
    *edits("elementwise", "test_ops unary", "scalar.cuh", ("cvt.rn.f16x2.f32", "cvt.rz.f16x2.f32")),
    *edits("elementwise", "test_ops unary", "elementwise.cu", ("x < -1.0f ? -1.0f : x", "x < -1.0f ? x : x")),
    *edits(
        "elementwise",
        "test_convert",
        "elementwise.cu",
        ("tail + i - head;", "tail + i - head + 1;"),
        ("(threadIdx.x % 32 == 31 || unit + 1 == a.end_unit)", "threadIdx.x % 32 == 31"),
        ("(t.output * a.taps + t.tap + tap)", "(t.output * a.taps + tap)"),
    ),
    *edits("elementwise", "test_convert", "convert.cuh", ("high, TO != WO_CUDA_F32)", "high, false)")),
    *edits(
        "epilogue",
        "vendor/test_cublaslt",
        "epilogue.cu",
        ("(a.first_row + row) / a.rows_per_gate", "row / a.rows_per_gate"),
    ),
]
