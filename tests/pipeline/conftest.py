"""Pipelines that several tests share."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from pipeline.helpers import CALL, frames_of, open_pipeline, open_reference

import wanoffload

# Networks this small gain nothing from a second thread, and on a busy machine lose a factor of ten by waiting for it.
torch.set_num_threads(1)


@pytest.fixture
def pipe(demo_model: Path) -> wanoffload.WanPipeline:
    """A fresh pipeline on the demo's checkpoint."""
    return open_pipeline(demo_model)


@pytest.fixture(scope="session")
def reference(demo_model: Path) -> diffusers.WanPipeline:
    """diffusers' pipeline on the demo's checkpoint."""
    return open_reference(demo_model)


@pytest.fixture(scope="session")
def film(demo_model: Path) -> np.ndarray:
    """The frames of CALL with everything resident."""
    return frames_of(open_pipeline(demo_model), "a red star", **CALL)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., str]:
    """Runs a command in a process of its own; gives what it printed, to the error stream where it has to fail."""

    def call(*arguments: object, code: int = 0) -> str:
        environment = {**os.environ, "PYTHONPATH": str(Path(wanoffload.__file__).parents[1]), "COLUMNS": "100"}
        words = [sys.executable, "-m", "wanoffload", *map(str, arguments)]
        done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr or "--debug" in arguments
        return done.stderr if code else done.stdout

    return call
