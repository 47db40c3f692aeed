"""What need not be everywhere that tests run, but has to be in CI: WANOFFLOAD_EXPECT names it, separated by commas."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(what: str, reason: str) -> NoReturn:
    """Skips the test, or fails it where `what` is expected: `cuda` (a card), `fake-card`, `cuda-libraries`."""
    if what in os.environ.get("WANOFFLOAD_EXPECT", "").split(","):
        pytest.fail(reason)
    pytest.skip(reason)
