"""Pipelines that several tests share."""

from pathlib import Path

import diffusers
import numpy as np
import pytest
from pipeline.helpers import CALL, frames_of, open_pipeline, open_reference

import wanoffload


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
