"""Prints the machine's peak as the package's probe measures it: multiply-adds from registers alone, per operand kind.

python benchmarks/peak.py [--threads N] [--isa avx2] [--json]
"""

from __future__ import annotations

import argparse
import json

from wanoffload import _core, set_num_threads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=_core.default_num_threads()[0])
    parser.add_argument("--isa", help="force this instruction set")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    set_num_threads(arguments.threads)
    if arguments.isa:
        _core._testing.force_isa(arguments.isa)
    isa = next(row["name"] for row in _core.cpu_features() if row["chosen"])
    peaks = {kind: _core._testing.probe_peak(kind) / 1e9 for kind in ("float32", "bfloat16")}
    if arguments.json:
        print(json.dumps({"isa": isa, "peaks": peaks}))
        return
    for kind, value in peaks.items():
        print(f"{isa}, {arguments.threads} threads, {kind}: {value:.0f} GFLOP/s")


if __name__ == "__main__":
    main()
