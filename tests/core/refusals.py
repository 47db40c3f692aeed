"""Checking that a bad call is refused by name, however often, and leaves nothing behind."""

import gc
import sys
from collections.abc import Callable
from typing import Any

import pytest

import wanoffload._core as core

CALLS = 50


def check_refusal(
    call: Callable[[], Any], exception: type[Exception], text: str, memory_may_stay: bool = False
) -> None:
    """The call raises the exception with a text that matches, and neither objects nor the core's memory grow."""
    with pytest.raises(exception, match=text):
        call()

    def growth() -> int:
        gc.collect()
        before = sys.getallocatedblocks()
        for _ in range(CALLS):
            try:
                call()
            except exception:
                pass
        gc.collect()
        return sys.getallocatedblocks() - before

    memory = core.host_memory()["current"]
    # A leak shows in every round. The interpreter's cache of attributes keeps names, but no more than it has room for.
    assert any(growth() < CALLS // 2 for _ in range(30))
    assert core.host_memory()["current"] <= memory or memory_may_stay
