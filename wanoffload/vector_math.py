"""Logarithm, sine and cosine in float32, rounded as PyTorch's AVX2 kernel for normal noise rounds them.

The kernel uses the polynomials of Cephes (logf.c, sinf.c) on eight lanes, with the products and sums that a compiler
contracts into fused multiply-adds on every CPU with AVX2. NumPy's own functions differ in the last bit for one value in
seven, and two denoising steps with guidance turn that bit into an error of 4e-5 in a film.
"""

from __future__ import annotations

import numpy as np

_LOG = (
    7.0376836292e-2,
    -1.1514610310e-1,
    1.1676998740e-1,
    -1.2420140846e-1,
    1.4249322787e-1,
    -1.6668057665e-1,
    2.0000714765e-1,
    -2.4999993993e-1,
    3.3333331174e-1,
)
_SIN = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
_COS = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
# ln 2 and pi/4 as sums of parts whose products with small integers are exact.
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_QUARTER_PI = (0.78515625, 2.4187564849853515625e-4, 3.77489497744594108e-8)
_HALF, _ONE = np.float32(0.5), np.float32(1)


def _fused(a: np.ndarray, b: np.ndarray | np.float32, c: np.ndarray | np.float32) -> np.ndarray:
    """a * b + c, rounded once: the product of two float32 is exact in float64."""
    return (np.multiply(a, b, dtype=np.float64) + c).astype(np.float32)


def _polynomial(coefficients: tuple[float, ...], x: np.ndarray) -> np.ndarray:
    value = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = _fused(value, x, np.float32(coefficient))
    return value


def log(x: np.ndarray) -> np.ndarray:
    """The natural logarithm of positive, normal float32 numbers, of any shape."""
    mantissa, exponent = np.frexp(x)
    low = mantissa < np.float32(0.707106781186547524)
    exponent = (exponent - low).astype(np.float32)
    x = np.where(low, mantissa + mantissa, mantissa) - _ONE
    square = x * x
    correction = _fused(_polynomial(_LOG, x) * x, square, exponent * _LN2_LOW) - square * _HALF
    return (x + correction) + exponent * _LN2_HIGH


def sin_cos(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sine and cosine of float32 angles from 0 to some thousands, of any shape."""
    octant = ((x * np.float32(1.27323954473516)).astype(np.int32) + 1) & ~1
    turns = octant.astype(np.float32)
    for part in _QUARTER_PI:
        x = _fused(turns, np.float32(-part), x)
    square = x * x
    cos = _fused(_polynomial(_COS, square) * square, square, -(square * _HALF)) + _ONE
    sin = _fused(_polynomial(_SIN, square) * square, x, x)
    swapped = (octant & 2) != 0
    sin, cos = np.where(swapped, cos, sin), np.where(swapped, sin, cos)
    return np.where(octant & 4, -sin, sin), np.where((octant + 2) & 4, -cos, cos)
