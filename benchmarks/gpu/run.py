"""Measures the CUDA device on the card of this machine, stage by stage.

    python benchmarks/gpu/run.py --stage ops                   every operation against the cpu device; speeds
    python benchmarks/gpu/run.py --stage demo                  the demo's film against the CPU's
    python benchmarks/gpu/run.py --stage offload               every way of offloading: the same bits
    python benchmarks/gpu/run.py --stage 480p --work DIR       14B at 832x480: seconds per step, memory, copies
    python benchmarks/gpu/run.py --stage peer --work DIR       the same step with diffusers, as a ratio
    python benchmarks/gpu/run.py --stage 720p --work DIR       one step at 1280x720

In this order where time is short. Each stage takes 8 minutes at most; --resume goes on where one stopped. A row that
lacks something says what. Real-size checkpoints are random and made in --work, one at a time (30 GB): the 14B
weights for 480p, and again for peer and 720p, for the VAE's take their place. Nothing is downloaded and nothing is
built. Results are written to benchmarks/gpu/results/ (--out) as JSON and as a page. --tiny runs the same on small
sizes, to try the script where the card is an interpreter.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.append(str(HERE.parents[1]))

import rows  # noqa: E402
import stage_demo  # noqa: E402
import stage_offload  # noqa: E402
import stage_ops  # noqa: E402
import stage_peer  # noqa: E402
import stage_sizes  # noqa: E402
import surroundings  # noqa: E402

STAGES = {
    "ops": stage_ops.stage,
    "demo": stage_demo.stage,
    "offload": stage_offload.stage,
    "480p": stage_sizes.stage_480p,
    "720p": stage_sizes.stage_720p,
    "peer": stage_peer.stage,
}


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", choices=STAGES, required=True)
    work = Path(tempfile.gettempdir(), "wanoffload-gpu")
    parser.add_argument("--work", type=Path, default=work, help="where checkpoints are made (%(default)s)")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="where results go")
    parser.add_argument("--resume", action="store_true", help="keep the rows that were measured before")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to try the script")
    parser.add_argument("--seconds", type=float, default=rows.STAGE_SECONDS, help="time for the stage (%(default)s)")
    parser.add_argument("--row", help=argparse.SUPPRESS)  # in the process of one row
    return parser.parse_args()


def main() -> int:
    """Runs a stage, or in a process of its own one row of it."""
    options = parse()
    stage = STAGES[options.stage](options.tiny)
    if options.row is not None:
        row = next(row for row in stage.rows if row.name == options.row)
        figures = row.run(options)
        # Asked behind the calls: a library that refuses its first leaves them to own kernels, and says so only then.
        rows.print_result(figures | {"libraries": surroundings.libraries()})
        return 0
    header = surroundings.header() | {"tiny": options.tiny, "command": " ".join(["run.py", *sys.argv[1:]])}
    results = rows.Results(options.out, stage, header, options.resume)
    good = rows.run_stage(stage, results, options, lambda need: surroundings.missing(need, options.work))
    print(results.markdown())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
