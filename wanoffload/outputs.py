"""The classes that calls return; each may be read by attribute, by name and by position, as diffusers' outputs are."""

from __future__ import annotations

import operator
from collections.abc import Sequence
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
class AutoencoderKLOutput(BaseOutput):
    """Output of the VAE's encoder.

    Attributes:
        latent_dist: The distribution of the latents, a `DiagonalGaussianDistribution`.
    """

    latent_dist: Any


@dataclass
class BaseModelOutput(BaseOutput):
    """Output of the text encoder.

    Attributes:
        last_hidden_state: float32 [batch, length, d_model]; zero where the mask is 0.
    """

    last_hidden_state: Any


@dataclass
class CLIPVisionOutput(BaseOutput):
    """Output of the image encoder.

    Attributes:
        hidden_states: A sequence as long as transformers', of which only ``hidden_states[-2]`` was computed.
    """

    hidden_states: PenultimateState

    def __getattr__(self, name: str) -> Any:
        if name in ("last_hidden_state", "pooler_output", "image_embeds"):
            raise AttributeError(
                f"`{name}` was not computed: WAN takes the hidden states before the last block (`hidden_states[-2]`), "
                "and what comes after them is never loaded."
            )
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")


class PenultimateState(Sequence):
    """The hidden states of an encoder of which only the last but one was computed.

    Args:
        state: That one.
        count: How many there would be: one before the first block and one after each.
    """

    def __init__(self, state: Any, count: int) -> None:
        self._state, self._count = state, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        wanted = operator.index(index)
        if wanted in (-2, self._count - 2):
            return self._state
        if not -self._count <= wanted < self._count:
            raise IndexError(f"There are {self._count} hidden states, so there is none at {wanted}.")
        raise ValueError(
            f"hidden_states[{wanted}] was not computed: WAN's image encoder gives the hidden states before its last "
            "block, hidden_states[-2], and nothing else."
        )
