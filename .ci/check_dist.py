"""Looks into the sdist and the wheel: complete, licensed, and free of what does not belong there.

Usage: python .ci/check_dist.py FOLDER
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def tracked(*folders: str) -> set[str]:
    """Files under version control below the given folders."""
    done = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines())


def check_sdist(path: Path) -> list[str]:
    with tarfile.open(path) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    wanted = tracked("csrc", "wanoffload", "tests", "build_tools")
    wanted |= {"setup.py", "pyproject.toml", "LICENSE", "README.md"}
    problems = [f"{path.name} lacks {name}" for name in sorted(wanted - names)]
    return problems + [f"{path.name} has {name}" for name in sorted(names) if name.endswith((".so", ".o", ".pyc"))]


def check_wheel(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        metadata = [archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA")]
    wanted = tracked("wanoffload")
    problems = [f"{path.name} lacks {name}" for name in sorted(wanted - names)]
    if not any(name.startswith("wanoffload/_core.") and name.endswith(".so") for name in names):
        problems.append(f"{path.name} lacks the C module")
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in names):
        problems.append(f"{path.name} lacks the licence")
    if len(metadata) != 1 or "License-Expression: Apache-2.0" not in metadata[0]:
        problems.append(f"{path.name} does not declare Apache-2.0")
    if path.name.endswith("-any.whl"):
        problems.append(f"{path.name} claims to be free of compiled code")
    strays = [name for name in sorted(names) if name.split("/")[0] not in ("wanoffload", names_of_info(names))]
    return problems + [f"{path.name} has {name}" for name in strays]


def names_of_info(names: set[str]) -> str:
    return next(name.split("/")[0] for name in names if ".dist-info/" in name)


def main() -> int:
    folder = Path(sys.argv[1])
    sdists, wheels = sorted(folder.glob("*.tar.gz")), sorted(folder.glob("*.whl"))
    problems = [] if len(sdists) == len(wheels) == 1 else [f"wanted one sdist and one wheel, got {sdists + wheels}"]
    for path in sdists:
        problems += check_sdist(path)
    for path in wheels:
        problems += check_wheel(path)
    print("\n".join(problems) or "sdist and wheel are complete")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
