"""Makes cuDNN's plans by the device's own code, for cards that are not there; and writes the table of those that are
accepted, with the packages of NEEDED installed (look at what changed):

    cd tests && python -m cuda.vendor.planning
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

from cuda.vendor.cards import CARDS, Card, problems

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[2] / "csrc"
ACCEPTED = HERE / "accepted_plans.json"
# Choices differ from version to version, so the table is of one, which CI installs.
NEEDED = ("nvidia-cudnn-cu13==9.28.1.4", "nvidia-cuda-nvrtc==13.5.37", "nvidia-cublas==13.10.0.20")
_DEVICE = ("libraries", "environment", "plan_cache", "cudnn", "cudnn_attention", "cudnn_conv")
_BASE = ("status", "tensor")


def build(folder: Path) -> Path:
    """Compiles the planner, and beside it the stub of the driver that cuDNN is linked with."""
    cc = os.environ.get("CC", "gcc").split()
    stub, program = folder / "libcuda.so.1", folder / "plans"
    sources = [CSRC / "device" / "cuda" / f"{name}.c" for name in _DEVICE]
    sources += [CSRC / "base" / f"{name}.c" for name in _BASE]
    flags = ["-std=c11", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{CSRC}"]
    link = ["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1"]
    subprocess.run([*cc, *flags, *link, "-o", stub, HERE / "driver_stub.c"], check=True)
    subprocess.run([*cc, *flags, "-o", program, HERE / "plans.c", *sources, "-ldl", "-lpthread", "-lm"], check=True)
    return program


def ask(
    program: Path, folders: list[str], card: Card, wanted: list[str], sm: int | None = None, disk: Path | None = None
) -> tuple[str, dict[str, str]]:
    """The libraries' versions, and for each problem what was chosen. sm: of another card than the one described. disk:
    the cache folder, where plans are to be kept."""
    arguments = [program, ":".join(folders), str(card.sm if sm is None else sm), card.description()]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(program.parent)}
    if disk is not None:
        arguments.append("disk")
        environment["XDG_CACHE_HOME"] = str(disk)
    done = subprocess.run(
        arguments, input="\n".join(wanted) + "\n", env=environment, capture_output=True, text=True, timeout=500
    )
    if done.returncode != 0:
        raise RuntimeError(f"plans: status {done.returncode}: {done.stderr[-2000:]}")
    versions, *lines = done.stdout.splitlines()
    return versions, dict(line.split("\t") for line in lines)


def main() -> None:
    from wanoffload.cuda_libraries import library_folders

    accepted: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        program = build(Path(folder))
        for name, card in CARDS.items():
            accepted["libraries"], accepted[name] = ask(program, library_folders(), card, problems())
            print(f"{name}: done", flush=True)
    ACCEPTED.write_text(json.dumps(accepted, indent=1) + "\n")


if __name__ == "__main__":
    main()
