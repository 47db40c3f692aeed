"""The classes that calls return; each may be read by attribute, by name and by position, as diffusers' outputs are."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


class BaseOutput:
    """A result whose fields are attributes, entries (``out["sample"]``) and positions (``out[0]``)."""

    def to_tuple(self) -> tuple[Any, ...]:
        """The fields that are not None, in order."""
        return tuple(value for _, value in self.items())

    def items(self) -> list[tuple[str, Any]]:
        """(name, value) of the fields that are not None."""
        pairs = ((field.name, getattr(self, field.name)) for field in fields(self))
        return [(name, value) for name, value in pairs if value is not None]

    def keys(self) -> list[str]:
        """Names of the fields that are not None."""
        return [name for name, _ in self.items()]

    def __getitem__(self, key: str | int | slice) -> Any:
        return dict(self.items())[key] if isinstance(key, str) else self.to_tuple()[key]

    def __iter__(self) -> Any:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.items())


@dataclass
class Transformer2DModelOutput(BaseOutput):
    """Output of the transformer.

    Attributes:
        sample: The velocity, float32 [batch, channels, frames, height, width].
    """

    sample: Any


@dataclass
class DecoderOutput(BaseOutput):
    """Output of the VAE's decoder.

    Attributes:
        sample: The video, float32 [batch, channels, frames, height, width] in [-1, 1].
    """

    sample: Any


@dataclass
class BaseModelOutput(BaseOutput):
    """Output of the text encoder.

    Attributes:
        last_hidden_state: float32 [batch, length, d_model]; zero where the mask is 0.
    """

    last_hidden_state: Any
