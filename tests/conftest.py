"""Fixtures of the whole suite, and which wanoffload it tests.

`python -m pytest` puts the working folder on the path, and in a checkout that folder has a wanoffload of its own. Where
its C module was built in place (`python setup.py build_ext --inplace`), that one is tested, else the installed one.
"""

import gc
import importlib.util
import os
import signal
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytest_plugins = ["fake_card"]


def prefer_installed() -> None:
    """Takes the checkout off the path when its C module is not built and another wanoffload is installed."""
    everything = list(sys.path)
    if not list((ROOT / "wanoffload").glob("_core.*.so")):
        sys.path[:] = [entry for entry in everything if Path(entry or ".").resolve() != ROOT]
        if importlib.util.find_spec("wanoffload") is None:
            sys.path[:] = everything
        else:  # the same for the interpreters that tests start in this folder
            os.environ["PYTHONSAFEPATH"] = "1"


def take_interrupts() -> None:
    """Gives Ctrl-C its meaning back where the suite runs in the background, which begins with it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


prefer_installed()
take_interrupts()


def pytest_collection_finish() -> None:
    """What is imported by now stays: the garbage collector need not go through it each time that a test asks."""
    gc.collect()
    gc.freeze()


def pytest_report_header() -> str:
    import wanoffload

    return f"wanoffload: {Path(wanoffload.__file__).parent}"


@pytest.fixture(scope="session")
def demo_model() -> Path:
    """The trained checkpoint that comes with the package."""
    import wanoffload

    return Path(wanoffload.__file__).parent / "demo_model"
