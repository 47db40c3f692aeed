/* The activations, in the order of operations that loses least. NaN stays NaN. Where a product meets a sum it is fused by name or exact, so that no
 * compiler's choice makes one kernel's bits differ from another's. */
#ifndef WO_DEVICE_CUDA_KERNELS_ACTIVATION_CUH
#define WO_DEVICE_CUDA_KERNELS_ACTIVATION_CUH

#include "device/cuda/kernels/tile.cuh"

/* e^v within a few units in the last place, for -87 <= v <= 88, and the value at the nearer end outside. The argument is reduced by multiples of ln 2
 * before it is scaled, so that the error does not grow with |v|. The first part of ln 2 has 10 bits, and its product with a whole number below
 * 2^14 is exact. */
TILE_INLINE float activation_exp(float v) {
    v = fminf(88.0f, fmaxf(-87.0f, v));
    float n = rintf(v * 1.44269504f);
    float r = fmaf(n, -0.693359375f, v);
    r = fmaf(n, 2.12194440e-4f, r);
    return tile_exp2(r * 1.44269504f) * __int_as_float(((int)n + 127) << 23);
}

/* x / (1 + e^-x) */
TILE_INLINE float activation_silu(float x) {
    return x / (1.0f + activation_exp(-x));
}

/* x (1 + tanh u) / 2 with u = sqrt(2 / pi) (x + 0.044715 x^3), which is x / (1 + e^(-2 u)): no difference of near numbers. */
TILE_INLINE float activation_gelu_tanh(float x) {
    float cubic = fmaf(x * x, -0.0713548162726f, -1.59576912161f);
    return x / (1.0f + activation_exp(x * cubic));
}

/* x Phi(x). With z = |x| / sqrt 2 the tail Phi(-|x|) = erfc(z) / 2 is t P(t) e^(-z^2), t = 1 / (1 + z / 2): erfc(z) e^(z^2) is so smooth in
 * t that a polynomial fitted to it over 0 <= z <= 10 has a relative error of 4e-8; the cpu device has the same one. */
TILE_INLINE float activation_gelu_erf(float x) {
    float t = 1.0f / fmaf(fabsf(x), 0.35355339059f, 1.0f);
    float p = -0.0295966865f;
    p = fmaf(p, t, 0.142591514f);
    p = fmaf(p, t, -0.244230641f);
    p = fmaf(p, t, 0.139756519f);
    p = fmaf(p, t, -0.0138118629f);
    p = fmaf(p, t, 0.10155502f);
    p = fmaf(p, t, 0.121498293f);
    p = fmaf(p, t, 0.141195035f);
    p = fmaf(p, t, 0.141042787f);
    float e = activation_exp(x * x * -0.5f);
    p *= t;
    return x * (x < 0.0f ? p * e : fmaf(-p, e, 1.0f));
}

#endif
