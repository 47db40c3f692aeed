/* The vector layer: one kernel body, compiled once per instruction set.
 *
 * `vec` is VEC_LANES float32 lanes: 16 with AVX-512, 8 with AVX2, 4 in plain C. The same register also carries 32-bit words
 * (a float32, or a pair of bfloat16 with the earlier element in the low half), which is the unit of packing and of dot steps.
 * Each of vec_avx512.h, vec_avx2.h and vec_generic.h defines the same functions:
 *
 *   vec_zero() vec_splat(f)                        all lanes 0, all lanes f
 *   vec_load(p) vec_store(p, v)                    float32; no alignment is needed anywhere
 *   vec_load_bf16(p) vec_load_f16(p)               widened, exact
 *   vec_store_bf16(p, v)                           nearest even, NaN stays NaN; with VDPBF16PS float32 denormals become 0
 *   vec_load_words(p) vec_splat_word(p)            32-bit words as they are; one word in every lane
 *   vec_load_bytes(p, n)                           the first n bytes, the rest 0; touches nothing behind p + n
 *   vec_store_part(p, v, n) vec_store_bf16_part    the first n lanes only
 *   vec_add vec_sub vec_mul vec_div vec_sqrt       lane by lane
 *   vec_max(a, b) vec_min(a, b)                    b where either is NaN
 *   vec_fma(a, b, c) vec_fnma(a, b, c)             a * b + c, c - a * b; one rounding, except in plain C
 *   vec_if_less(a, b, x, y)                        a < b ? x : y, lane by lane
 *   vec_sum(v) vec_max_across(v)                   over the lanes, in a fixed order
 *   vec_round(v) vec_fraction(v)                   to nearest even, for |v| < 2^22; v - vec_round(v), 0 for +-inf
 *   vec_exp2(v)                                    2^v within 2 ulp; 0 for -inf, inf from 128 on, NaN stays NaN
 *   vec_exp2_weight(v)                             the same for v <= 1 in fewer steps; at most 2^-125 for everything below
 *   vec_scale2(p, n)                               p * 2^n for whole n, p in [0.5, 2]
 *   vec_swap_pairs(v)                              lanes (1, 0, 3, 2, ...)
 *   vec_load_twice(p)                              p[0] p[0] p[1] p[1] ...: VEC_LANES / 2 floats are read
 *   vec_even_bf16(w) vec_odd_bf16(w)               the low and the high bfloat16 of each word, widened
 *   vec_dot_bf16(c, a, b)                          c + a.even * b.even + a.odd * b.odd on words
 *   vec_transpose(rows)                            VEC_LANES x VEC_LANES words in place
 *   vec_prefetch(p)                                into the second-level cache; any address is allowed
 */
#ifndef WO_KERNELS_VEC_H
#define WO_KERNELS_VEC_H

#include "base/tensor.h"

#include <stdint.h>
#include <string.h>

#define VEC_INLINE static inline __attribute__((always_inline, unused))
/* Register tiles are arrays that must stay in registers: loops over them are unrolled in full. */
#define VEC_UNROLL _Pragma("GCC unroll 16")

#if defined(WO_ISA_AVX512) || defined(WO_ISA_AVX512_BF16) || defined(WO_ISA_AMX)
#include "device/cpu/kernels/vec_avx512.h"
#elif defined(WO_ISA_AVX2)
#include "device/cpu/kernels/vec_avx2.h"
#else
#include "device/cpu/kernels/vec_generic.h"
#endif

/* One instruction multiplies bfloat16 pairs; elsewhere a bf16 product widens its operands when it packs them. */
#if defined(WO_ISA_AVX512_BF16) || defined(WO_ISA_AMX)
enum { VEC_HAS_BF16_DOT = 1 };
#else
enum { VEC_HAS_BF16_DOT = 0 };
#endif

VEC_INLINE vec vec_load_part(const float *p, int64_t n) { return vec_load_bytes(p, (size_t)n * 4); }

VEC_INLINE vec vec_load_bf16_part(const uint16_t *p, int64_t n) {
    uint16_t lanes[VEC_LANES] = {0};
    memcpy(lanes, p, (size_t)n * 2);
    return vec_load_bf16(lanes);
}

VEC_INLINE vec vec_load_f16_part(const uint16_t *p, int64_t n) {
    uint16_t lanes[VEC_LANES] = {0};
    memcpy(lanes, p, (size_t)n * 2);
    return vec_load_f16(lanes);
}

/* Elements [i, i + VEC_LANES) of an array of F32, BF16 or F16, widened. With a constant dtype the branch is gone. */
VEC_INLINE vec vec_load_as(wo_dtype dtype, const void *base, int64_t i) {
    if (dtype == WO_F32)
        return vec_load((const float *)base + i);
    if (dtype == WO_BF16)
        return vec_load_bf16((const uint16_t *)base + i);
    return vec_load_f16((const uint16_t *)base + i);
}

/* The same for the n < VEC_LANES elements of a tail; the other lanes are 0. */
VEC_INLINE vec vec_load_as_part(wo_dtype dtype, const void *base, int64_t i, int64_t n) {
    if (dtype == WO_F32)
        return vec_load_part((const float *)base + i, n);
    if (dtype == WO_BF16)
        return vec_load_bf16_part((const uint16_t *)base + i, n);
    return vec_load_f16_part((const uint16_t *)base + i, n);
}

/* Elements [i, i + VEC_LANES) of an array of F32 or BF16. */
VEC_INLINE void vec_store_as(wo_dtype dtype, void *base, int64_t i, vec v) {
    if (dtype == WO_F32)
        vec_store((float *)base + i, v);
    else
        vec_store_bf16((uint16_t *)base + i, v);
}

VEC_INLINE void vec_store_as_part(wo_dtype dtype, void *base, int64_t i, vec v, int64_t n) {
    if (dtype == WO_F32)
        vec_store_part((float *)base + i, v, n);
    else
        vec_store_bf16_part((uint16_t *)base + i, v, n);
}

/* 2^f for f in [-0.5, 0.5]: fitted for the least relative error, 2e-9 before rounding. */
VEC_INLINE vec vec_exp2_fraction(vec f) {
    vec p = vec_splat(1.53533605e-4f);
    p = vec_fma(p, f, vec_splat(1.33988750e-3f));
    p = vec_fma(p, f, vec_splat(9.61843692e-3f));
    p = vec_fma(p, f, vec_splat(5.55033237e-2f));
    p = vec_fma(p, f, vec_splat(2.40226477e-1f));
    p = vec_fma(p, f, vec_splat(6.93147182e-1f));
    return vec_fma(p, f, vec_splat(1.0f));
}

/* v - f is the whole number nearest to v, without rounding v once more; beyond what vec_fraction holds it only has to be far out. */
VEC_INLINE vec vec_exp2(vec v) {
    vec f = vec_fraction(v);
    return vec_scale2(vec_exp2_fraction(f), vec_sub(v, f));
}

/* For the weights of a softmax, beside which there is one of 1, so that what lies below 2^-125 need not be told from 0. */
VEC_INLINE vec vec_exp2_weight(vec v) {
#if defined(WO_ISA_GENERIC) || defined(WO_ISA_AVX2)
    /* Adding 1.5 * 2^23 leaves the nearest whole number in the low bits of the sum, which is all that the exponent needs. */
    const vec magic = vec_splat(12582912.0f);
    vec held = vec_max(vec_splat(-125.0f), v);
    vec whole = vec_add(held, magic);
    return vec_raise(vec_exp2_fraction(vec_sub(held, vec_sub(whole, magic))), whole);
#else
    /* One instruction takes the fraction and one scales by the floor of its argument; fitted for [0, 1], relative error 2e-9. */
    vec f = vec_floor_fraction(v), p = vec_splat(2.16129155e-4f);
    p = vec_fma(p, f, vec_splat(1.24678463e-3f));
    p = vec_fma(p, f, vec_splat(9.67545159e-3f));
    p = vec_fma(p, f, vec_splat(5.54852806e-2f));
    p = vec_fma(p, f, vec_splat(2.40229306e-1f));
    p = vec_fma(p, f, vec_splat(6.93147044e-1f));
    return vec_scale2(vec_fma(p, f, vec_splat(1.0f)), v);
#endif
}

#endif
