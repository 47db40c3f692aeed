"""Fixtures of the tests of the C module."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from core.models import Models

import wanoffload._core as core


@pytest.fixture(scope="module")
def models(demo_model: Path) -> Models:
    return Models(demo_model)


@pytest.fixture
def engine() -> Iterator[core.Engine]:
    yield core.Engine("cpu")
    core._testing.delay_reads(0.0)
    core._testing.fail_allocation(0)
    core._testing.fail_read(0)
