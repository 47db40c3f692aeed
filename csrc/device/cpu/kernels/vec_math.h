/* Functions of one variable on vectors, for epilogues, softmax and activations. Bounds are relative, against float64. */
#ifndef WO_KERNELS_VEC_MATH_H
#define WO_KERNELS_VEC_MATH_H

#include "device/cpu/kernels/vec.h"

/* The polynomials below were fitted for the least relative error over the stated interval. */

/* 2^v within 2e-7; 0 for -inf, inf from 128 on, NaN stays NaN. */
VEC_INLINE vec vec_exp2(vec v) {
    vec f = vec_fraction(v);
    vec p = vec_splat(1.53533605e-4f);
    p = vec_fma(p, f, vec_splat(1.33988750e-3f));
    p = vec_fma(p, f, vec_splat(9.61843692e-3f));
    p = vec_fma(p, f, vec_splat(5.55033237e-2f));
    p = vec_fma(p, f, vec_splat(2.40226477e-1f));
    p = vec_fma(p, f, vec_splat(6.93147182e-1f));
    p = vec_fma(p, f, vec_splat(1.0f));
    return vec_scale2(p, vec_round(vec_min(vec_splat(1000.0f), vec_max(vec_splat(-1000.0f), v))));
}

/* e^v within 2e-7: v is first held to where the result is neither 0 nor inf by far, then split as n ln 2 + r. */
VEC_INLINE vec vec_exp(vec v) {
    vec held = vec_min(vec_splat(90.0f), vec_max(vec_splat(-110.0f), v));
    vec n = vec_round(vec_mul(held, vec_splat(1.44269504f)));
    vec r = vec_fnma(n, vec_splat(-2.12194440e-4f), vec_fnma(n, vec_splat(6.93359375e-1f), held));
    vec q = vec_splat(1.38145580e-3f);
    q = vec_fma(q, r, vec_splat(8.36873613e-3f));
    q = vec_fma(q, r, vec_splat(4.16683890e-2f));
    q = vec_fma(q, r, vec_splat(1.66665211e-1f));
    q = vec_fma(q, r, vec_splat(4.99999940e-1f));
    vec p = vec_add(vec_fma(vec_mul(q, r), r, r), vec_splat(1.0f));
    return vec_scale2(p, n);
}

/* x / (1 + e^-x). */
VEC_INLINE vec vec_silu(vec x) {
    return vec_div(x, vec_add(vec_splat(1.0f), vec_exp(vec_sub(vec_zero(), x))));
}

/* x / 2 * (1 + tanh u) with u = sqrt(2 / pi) (x + 0.044715 x^3), which equals x / (1 + e^(-2u)): no cancellation for x < 0. */
VEC_INLINE vec vec_gelu_tanh(vec x) {
    vec cubic = vec_fma(vec_mul(x, x), vec_splat(0.044715f), vec_splat(1.0f));
    vec minus_2u = vec_mul(vec_mul(x, vec_splat(-1.59576912f)), cubic);
    return vec_div(x, vec_add(vec_splat(1.0f), vec_exp(minus_2u)));
}

/* x * Phi(x) by way of erfc, which keeps its relative accuracy for x < 0: with z = |x| / sqrt 2 and t = 1 / (1 + 0.4 z),
 * erfc(z) = e^(-z^2) t Q(t); Q is fitted for z in [0, 10], and behind that the result is 0 in float32 or nearly so. */
VEC_INLINE vec vec_gelu_erf(vec x) {
    vec magnitude = vec_max(x, vec_sub(vec_zero(), x));
    vec one = vec_splat(1.0f);
    vec t = vec_div(one, vec_fma(magnitude, vec_splat(0.282842712f), one));
    vec q = vec_splat(4.12531905e-2f);
    q = vec_fma(q, t, vec_splat(-1.40319958e-1f));
    q = vec_fma(q, t, vec_splat(8.39887634e-2f));
    q = vec_fma(q, t, vec_splat(8.79626945e-2f));
    q = vec_fma(q, t, vec_splat(7.97575936e-2f));
    q = vec_fma(q, t, vec_splat(1.93392754e-1f));
    q = vec_fma(q, t, vec_splat(2.01887697e-1f));
    q = vec_fma(q, t, vec_splat(2.26443097e-1f));
    q = vec_fma(q, t, vec_splat(2.25634232e-1f));
    vec tail = vec_mul(vec_mul(q, t), vec_exp(vec_mul(vec_mul(x, x), vec_splat(-0.5f))));
    tail = vec_mul(tail, vec_splat(0.5f));
    return vec_mul(x, vec_if_less(x, vec_zero(), tail, vec_sub(one, tail)));
}

#endif
