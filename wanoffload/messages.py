"""What the package says to its user while it works: warnings through Python's logging, some of them once."""

from __future__ import annotations

import logging

logger = logging.getLogger("wanoffload")
_said: set[str] = set()


def warn(message: str) -> None:
    """Warns, each time."""
    logger.warning(message)


def warn_once(message: str) -> None:
    """Warns the first time in this process."""
    if message not in _said:
        _said.add(message)
        logger.warning(message)
