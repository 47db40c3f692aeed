"""``wanoffload doctor``: what this machine and this installation can do, and why."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
from typing import Any

from wanoffload.sizes import format_size

_DOCTOR = """\
Says which instruction set the kernels run on and why, how many threads compute and why, how much memory there is, what
there is of NVIDIA's (driver, cards, kernels of this build, libraries) with the command that mends what is missing, and
which optional packages are there. Nothing is changed.
"""
_PACKAGES = {
    "numpy": "needed",
    "tokenizers": "needed to encode prompts",
    "ftfy": "needed to clean prompts as diffusers does",
    "huggingface_hub": "needed to fetch checkpoints by name",
    "tqdm": "needed for the progress bar",
    "Pillow": "needed for pictures and GIF",
    "av": "needed for video files",
    "sentencepiece": "optional, with protobuf: tokenizers without tokenizer.json",
    "protobuf": "optional, with sentencepiece: tokenizers without tokenizer.json",
    "torch": "optional: output_type='pt', tensors as inputs",
    "matplotlib": "optional: plots",
}


def add_commands(commands: Any) -> None:
    """Adds the command to the parser."""
    doctor = commands.add_parser("doctor", help="what this machine can do, and why", description=_DOCTOR)
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints what was found. The exit code is 1 when something that is needed is missing."""
    try:
        found = examine()
    except ImportError as error:
        print(f"The C core cannot be loaded: {error}\nInstall the package with a C compiler at hand: pip install .")
        return 1
    print(json.dumps(found, indent=2) if options.json else describe(found))
    return 0 if all(version or not use.startswith("needed") for version, use in found["packages"].values()) else 1


def examine() -> dict[str, Any]:
    """Everything doctor says, by name."""
    import wanoffload
    from wanoffload import _core, devices

    devices.prepare()
    free, total = _core.device_memory("cpu")
    default, why = _core.default_num_threads()
    return {
        "wanoffload": wanoffload.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "instruction_sets": _core.cpu_features(),
        "device": _core.describe_device("cpu").splitlines(),
        "cuda": _core.describe_device("cuda").splitlines(),
        "threads": {
            "now": wanoffload.get_num_threads(),
            "default": default,
            "why": why,
            "WANOFFLOAD_NUM_THREADS": os.environ.get("WANOFFLOAD_NUM_THREADS"),
        },
        "memory": {"free": free, "total": total},
        "packages": {name: (package_version(name), use) for name, use in _PACKAGES.items()},
    }


def package_version(name: str) -> str | None:
    """A package's version, None where it is not installed; it is not imported."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def describe(found: dict[str, Any]) -> str:
    """The same as text."""
    lines = [f"wanoffload {found['wanoffload']}, Python {found['python']}, {found['machine']}", "", "device cpu"]
    lines += [f"  {line}" for line in found["device"]]
    lines += ["", "instruction sets, plain to best"]
    for isa in found["instruction_sets"]:
        state = (
            "not built into this package"
            if not isa["built"]
            else "not on this CPU"
            if not isa["supported"]
            else "available"
        )
        lines.append(f"  {isa['name']:<16} {state}{'  <- chosen' if isa['chosen'] else ''}")
    threads = found["threads"]
    lines += ["", f"threads  {threads['now']} (default {threads['default']}: {threads['why']})"]
    memory = found["memory"]
    lines += [f"memory   {format_size(memory['free'])} free of {format_size(memory['total'])}", "", "device cuda"]
    lines += [f"  {line}" for line in found["cuda"]]
    lines += ["", "packages"]
    for name, (version, use) in found["packages"].items():
        lines.append(f"  {name:<16} {version or 'not installed':<14} {use}")
    return "\n".join(lines)
