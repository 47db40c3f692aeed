"""Normal noise: the numbers that ``torch.Generator("cpu").manual_seed(seed)`` gives, without torch.

PyTorch's CPU generator is a Mersenne Twister. ``torch.randn`` in float32 has two ways: below 16 elements it draws
Box-Muller pairs in double precision one after the other; from 16 on it fills the whole array with 24-bit uniforms and
turns blocks of 16 into normals, the last block redrawn when the size is no multiple of 16
(ATen/native/cpu/DistributionTemplates.h).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from wanoffload.vector_math import log, sin_cos

_BLOCK = 16
_LEAST_SEED, _MOST_SEED = -(2**63), 2**64 - 1


class TorchGenerator:
    """A generator with the stream of ``torch.Generator("cpu").manual_seed(seed)``.

    Args:
        seed: Any integer of 64 bits; as in PyTorch, the Mersenne Twister takes its low 32 bits.
    """

    def __init__(self, seed: int) -> None:
        if not _LEAST_SEED <= seed <= _MOST_SEED:
            raise ValueError(f"A seed has to fit 64 bits (-2**63 to 2**64 - 1), but is {seed}.")
        self.seed = seed
        self._bits = np.random.MT19937()
        self._bits._legacy_seeding(seed & 0xFFFFFFFF)
        self._spare: float | None = None

    def randn(self, shape: Sequence[int]) -> np.ndarray:
        """Normal numbers, float32, with the bits of ``torch.randn`` on a CPU with AVX2 (elsewhere to 3e-6)."""
        count = int(np.prod(shape, dtype=np.int64))
        values = self._pairs(count) if count < _BLOCK else self._blocks(count)
        return values.reshape(shape)

    def _uniform24(self, count: int) -> np.ndarray:
        return (self._bits.random_raw(count) & 0xFFFFFF).astype(np.float32) * np.float32(2**-24)

    def _uniform53(self) -> float:
        high, low = self._bits.random_raw(2)
        return (((int(high) << 32) | int(low)) & ((1 << 53) - 1)) * 2.0**-53

    def _pairs(self, count: int) -> np.ndarray:
        values = np.empty(count, np.float32)
        for i in range(count):
            if self._spare is not None:
                values[i], self._spare = self._spare, None
                continue
            angle, radius = 2 * np.pi * self._uniform53(), np.sqrt(-2 * np.log1p(-self._uniform53()))
            values[i], self._spare = radius * np.cos(angle), float(radius * np.sin(angle))
        return values

    def _blocks(self, count: int) -> np.ndarray:
        uniforms = self._uniform24(count)
        whole = count - count % _BLOCK
        values = np.empty(count, np.float32)
        values[:whole] = _box_muller(uniforms[:whole])
        if whole != count:
            values[-_BLOCK:] = _box_muller(self._uniform24(_BLOCK))
        return values


def _box_muller(uniforms: np.ndarray) -> np.ndarray:
    """Blocks of 16 uniforms in [0, 1) to 16 normals: the first eight give radii, the last eight angles."""
    pairs = uniforms.reshape(-1, 2, _BLOCK // 2)
    radius = np.sqrt(np.float32(-2) * log(np.float32(1) - pairs[:, 0]))
    sin, cos = sin_cos(np.float32(2 * np.pi) * pairs[:, 1])
    return np.stack([radius * cos, radius * sin], axis=1).reshape(-1)


def randn(shape: Sequence[int], generator: Any = None) -> np.ndarray:
    """Normal noise with the batch semantics of diffusers' ``randn_tensor``.

    Args:
        shape: Shape of the noise; axis 0 is the batch.
        generator: None (fresh entropy), an int seed (the noise of ``torch.Generator("cpu").manual_seed(seed)``), a
            ``TorchGenerator``, ``np.random.Generator`` or ``torch.Generator``, or a list of any of them, one per item.

    Returns:
        float32 array of that shape.

    Raises:
        TypeError: The generator is of another kind.
        ValueError: A list's length is not the batch size.
    """
    shape = tuple(int(n) for n in shape)
    if isinstance(generator, (list, tuple)):
        if len(generator) != 1 and len(generator) != shape[0]:
            raise ValueError(
                f"You have passed a list of generators of length {len(generator)}, but requested an effective batch "
                f"size of {shape[0]}. Make sure the batch size matches the length of the generators."
            )
        if len(generator) > 1:
            return np.concatenate([_draw((1, *shape[1:]), one) for one in generator])
        generator = generator[0]
    return _draw(shape, generator)


def check_generator(generator: Any) -> None:
    """Raises unless ``randn`` can draw from it (a list: from each): TypeError for what is no generator, ValueError for
    a number that is no seed."""
    for one in generator if isinstance(generator, (list, tuple)) else [generator]:
        if one is not None and _kind(one) is None:
            raise TypeError(
                f"`generator` has to be an int, a numpy.random.Generator, a torch.Generator or a list of them, "
                f"but is {type(one).__name__}."
            )
        if _kind(one) == "seed" and not _LEAST_SEED <= int(one) <= _MOST_SEED:
            raise ValueError(f"`generator` as a seed has to fit 64 bits (-2**63 to 2**64 - 1), but is {one}.")


def _kind(generator: Any) -> str | None:
    if isinstance(generator, TorchGenerator):
        return "ours"
    if isinstance(generator, (int, np.integer)) and not isinstance(generator, bool):
        return "seed"
    if isinstance(generator, np.random.Generator):
        return "numpy"
    torch = sys.modules.get("torch")
    return "torch" if torch is not None and isinstance(generator, torch.Generator) else None


def _draw(shape: tuple[int, ...], generator: Any) -> np.ndarray:
    check_generator(generator)
    if generator is None:
        generator = np.random.default_rng()
    kind = _kind(generator)
    if kind == "seed":
        return TorchGenerator(int(generator)).randn(shape)
    if kind == "ours":
        return generator.randn(shape)
    if kind == "numpy":
        return generator.standard_normal(shape, dtype=np.float32)
    torch = sys.modules["torch"]
    return torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float32).cpu().numpy()
