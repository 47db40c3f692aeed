/* The activations, lane by lane, in the order of operations that loses least: for the elementwise kernels and for the
 * epilogues of products alike, so that a fused and a separate activation give the same bits. NaN stays NaN. */
#ifndef WO_KERNELS_ACTIVATION_H
#define WO_KERNELS_ACTIVATION_H

#include "device/cpu/kernels/vec.h"

/* e^v within 2 ulp. The argument is reduced by multiples of ln 2 before it is scaled, so that the error does not grow with |v| as
 * it does for 2^(v * log2 e). The first part of ln 2 has 10 bits, and its product with a whole number below 2^14 is exact. */
VEC_INLINE vec vec_exp(vec v) {
    v = vec_min(vec_splat(89.0f), vec_max(vec_splat(-104.0f), v));
    vec n = vec_round(vec_mul(v, vec_splat(1.44269504f)));
    vec r = vec_fnma(n, vec_splat(0.693359375f), v);
    r = vec_fnma(n, vec_splat(-2.12194440e-4f), r);
    return vec_scale2(vec_exp2_fraction(vec_mul(r, vec_splat(1.44269504f))), n);
}

/* x / (1 + e^-x) */
VEC_INLINE vec vec_silu(vec x) {
    return vec_div(x, vec_add(vec_splat(1.0f), vec_exp(vec_sub(vec_zero(), x))));
}

/* x (1 + tanh u) / 2 with u = sqrt(2 / pi) (x + 0.044715 x^3), which is x / (1 + e^(-2 u)): no difference of near numbers. */
VEC_INLINE vec vec_gelu_tanh(vec x) {
    vec cubic = vec_fma(vec_mul(x, x), vec_splat(-0.0713548162726f), vec_splat(-1.59576912161f));
    return vec_div(x, vec_add(vec_splat(1.0f), vec_exp(vec_mul(x, cubic))));
}

/* x Phi(x). With z = |x| / sqrt 2 the tail Phi(-|x|) = erfc(z) / 2 is t P(t) e^(-z^2), t = 1 / (1 + z / 2): erfc(z) e^(z^2) is so smooth in
 * t that a polynomial fitted to it over 0 <= z <= 10 has a relative error of 4e-8. */
VEC_INLINE vec vec_gelu_erf(vec x) {
    vec magnitude = vec_max(vec_sub(vec_zero(), x), x);
    vec t = vec_div(vec_splat(1.0f), vec_fma(magnitude, vec_splat(0.35355339059f), vec_splat(1.0f)));
    vec p = vec_splat(-0.0295966865f);
    p = vec_fma(p, t, vec_splat(0.142591514f));
    p = vec_fma(p, t, vec_splat(-0.244230641f));
    p = vec_fma(p, t, vec_splat(0.139756519f));
    p = vec_fma(p, t, vec_splat(-0.0138118629f));
    p = vec_fma(p, t, vec_splat(0.10155502f));
    p = vec_fma(p, t, vec_splat(0.121498293f));
    p = vec_fma(p, t, vec_splat(0.141195035f));
    p = vec_fma(p, t, vec_splat(0.141042787f));
    vec tail = vec_mul(vec_mul(p, t), vec_exp(vec_mul(vec_mul(x, x), vec_splat(-0.5f))));
    return vec_mul(x, vec_if_less(x, vec_zero(), tail, vec_sub(vec_splat(1.0f), tail)));
}

#endif
