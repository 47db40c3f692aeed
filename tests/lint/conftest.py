"""Fixtures of the checks that read the sources."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout that the tests lie in."""
    return Path(__file__).resolve().parents[2]
