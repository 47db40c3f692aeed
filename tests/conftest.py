"""Fixtures of the whole suite."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def demo_model() -> Path:
    """The trained checkpoint that comes with the package."""
    import wanoffload

    return Path(wanoffload.__file__).parent / "demo_model"
