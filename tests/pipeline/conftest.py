"""Pipelines that several tests share."""

from pathlib import Path

import diffusers
import pytest
from pipeline.helpers import open_pipeline, open_reference

import wanoffload


@pytest.fixture
def pipe(demo_model: Path) -> wanoffload.WanPipeline:
    """A fresh pipeline on the demo's checkpoint."""
    return open_pipeline(demo_model)


@pytest.fixture(scope="session")
def reference(demo_model: Path) -> diffusers.WanPipeline:
    """diffusers' pipeline on the demo's checkpoint."""
    return open_reference(demo_model)
