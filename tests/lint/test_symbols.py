"""What the built module shows to the process that loads it."""

import re
import subprocess

import wanoffload._core as core


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_only_the_init_function_is_exported() -> None:
    lines = run("nm", "-D", "--defined-only", core.__file__).splitlines()
    assert {line.split()[-1] for line in lines} == {"PyInit__core"}


def test_nothing_beyond_the_c_library_is_linked() -> None:
    """CUDA, OpenMP or BLAS among the needed libraries would make the wheel depend on the machine."""
    needed = re.findall(r"\(NEEDED\).*\[(.+?)\]", run("readelf", "-d", core.__file__))
    assert needed
    assert {name.split(".")[0] for name in needed} <= {"libc", "libm", "libpthread", "libdl", "ld-linux-x86-64"}


def test_no_global_of_the_core_flushes_denormals() -> None:
    """-ffast-math links crtfastmath.o, whose constructor changes the floating-point mode of the user's process."""
    assert "set_fast_math" not in run("nm", core.__file__)
