"""Configurations: read-only dictionaries whose entries are attributes too, as in diffusers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class FrozenDict(dict):
    """A dict that cannot be changed; ``config.flow_shift`` and ``config["flow_shift"]`` are the same."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"This configuration has no entry '{name}'. It has: {', '.join(self)}.") from None

    def _refuse(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError("A configuration cannot be changed in place; use from_config(config, key=value).")

    __setattr__ = __delattr__ = __setitem__ = __delitem__ = _refuse
    update = setdefault = pop = popitem = clear = _refuse

    def __reduce__(self) -> tuple[type, tuple[dict]]:
        return FrozenDict, (dict(self),)


def read_json(path: Path | str) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file holds no JSON object; the message names it.
    """
    path = Path(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} should hold a JSON object, but holds a {type(value).__name__}.")
    return value
