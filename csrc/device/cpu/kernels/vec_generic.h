/* The vector layer in plain C on the compiler's vector extension, four lanes: every 64-bit machine has that much. See vec.h for
 * what each function means. There is no fused multiply-add here: it would be a library call where the machine lacks it. */
#ifndef WO_KERNELS_VEC_GENERIC_H
#define WO_KERNELS_VEC_GENERIC_H

#include "base/convert.h"

#include <math.h>

typedef float vec __attribute__((vector_size(16)));
typedef uint32_t vec_bits __attribute__((vector_size(16)));
typedef int32_t vec_int __attribute__((vector_size(16)));
enum { VEC_LANES = 4 };

VEC_INLINE vec vec_zero(void) { return (vec){0}; }
VEC_INLINE vec vec_splat(float f) { return (vec){f, f, f, f}; }

VEC_INLINE vec vec_load_words(const void *p) {
    vec v;
    memcpy(&v, p, sizeof v);
    return v;
}

VEC_INLINE vec vec_load(const float *p) { return vec_load_words(p); }
VEC_INLINE void vec_store(float *p, vec v) { memcpy(p, &v, sizeof v); }

VEC_INLINE vec vec_splat_word(const void *p) {
    float word;
    memcpy(&word, p, sizeof word);
    return vec_splat(word);
}

VEC_INLINE vec vec_load_bytes(const void *p, size_t n) {
    vec v = {0};
    memcpy(&v, p, n < sizeof v ? n : sizeof v);
    return v;
}

VEC_INLINE vec vec_load_bf16(const uint16_t *p) {
    uint16_t h[4];
    memcpy(h, p, sizeof h);
    return (vec)((vec_bits){h[0], h[1], h[2], h[3]} << 16);
}

VEC_INLINE vec vec_load_f16(const uint16_t *p) {
    uint16_t h[4];
    memcpy(h, p, sizeof h);
    return (vec){wo_f16_to_f32(h[0]), wo_f16_to_f32(h[1]), wo_f16_to_f32(h[2]), wo_f16_to_f32(h[3])};
}

VEC_INLINE void vec_store_part(float *p, vec v, int64_t n) { memcpy(p, &v, (size_t)n * 4); }

VEC_INLINE void vec_store_bf16_part(uint16_t *p, vec v, int64_t n) {
    vec_bits bits = (vec_bits)v;
    vec_bits ordered = (vec_bits)(v == v);
    bits = (ordered & (bits + ((bits >> 16) & 1) + 0x7fff)) | (~ordered & (bits | 0x400000));
    for (int64_t i = 0; i < n; i++)
        p[i] = (uint16_t)(bits[i] >> 16);
}

VEC_INLINE void vec_store_bf16(uint16_t *p, vec v) { vec_store_bf16_part(p, v, VEC_LANES); }

VEC_INLINE vec vec_blend(vec_int mask, vec x, vec y) { return (vec)((mask & (vec_int)x) | (~mask & (vec_int)y)); }

VEC_INLINE vec vec_add(vec a, vec b) { return a + b; }
VEC_INLINE vec vec_sub(vec a, vec b) { return a - b; }
VEC_INLINE vec vec_mul(vec a, vec b) { return a * b; }
VEC_INLINE vec vec_div(vec a, vec b) { return a / b; }
VEC_INLINE vec vec_sqrt(vec a) { return (vec){sqrtf(a[0]), sqrtf(a[1]), sqrtf(a[2]), sqrtf(a[3])}; }
VEC_INLINE vec vec_max(vec a, vec b) { return vec_blend(a > b, a, b); }
VEC_INLINE vec vec_min(vec a, vec b) { return vec_blend(a < b, a, b); }
VEC_INLINE vec vec_fma(vec a, vec b, vec c) { return a * b + c; }
VEC_INLINE vec vec_fnma(vec a, vec b, vec c) { return c - a * b; }
VEC_INLINE vec vec_if_less(vec a, vec b, vec x, vec y) { return vec_blend(a < b, x, y); }
VEC_INLINE float vec_sum(vec v) { return (v[0] + v[2]) + (v[1] + v[3]); }

VEC_INLINE float vec_max_across(vec v) {
    float a = v[0] > v[2] ? v[0] : v[2];
    float b = v[1] > v[3] ? v[1] : v[3];
    return a > b ? a : b;
}

/* Adding and taking away 1.5 * 2^23 leaves the nearest whole number; right for |v| < 2^22. */
VEC_INLINE vec vec_round(vec v) {
    vec magic = vec_splat(12582912.0f);
    return (v + magic) - magic;
}

VEC_INLINE vec vec_hold(vec v, float low, float high) {
    return vec_min(vec_splat(high), vec_max(vec_splat(low), v));
}

/* In two halves, so that results down to the denormals and up to the largest float are right. A NaN in n meets a NaN in p. */
VEC_INLINE vec vec_scale2(vec p, vec n) {
    vec held = vec_hold(n, -252.0f, 254.0f);
    vec_int whole = __builtin_convertvector(vec_blend(held == held, held, vec_zero()), vec_int);
    vec_int half = whole >> 1;
    vec_int rest = whole - half;
    p = p * (vec)((vec_bits)(half + 127) << 23);
    return p * (vec)((vec_bits)(rest + 127) << 23);
}

/* p * 2^n by adding to the exponent; n stands in the low bits of a float of at least 2^23. */
VEC_INLINE vec vec_raise(vec p, vec n) { return (vec)((vec_bits)p + ((vec_bits)n << 23)); }

/* v - round(v), and 0 for an infinity. */
VEC_INLINE vec vec_fraction(vec v) {
    vec held = vec_hold(v, -300.0f, 300.0f);
    return held - vec_round(held);
}

VEC_INLINE vec vec_swap_pairs(vec v) { return (vec){v[1], v[0], v[3], v[2]}; }
VEC_INLINE vec vec_load_twice(const float *p) { return (vec){p[0], p[0], p[1], p[1]}; }
VEC_INLINE vec vec_even_bf16(vec w) { return (vec)((vec_bits)w << 16); }
VEC_INLINE vec vec_odd_bf16(vec w) { return (vec)((vec_bits)w & 0xffff0000u); }

VEC_INLINE vec vec_dot_bf16(vec c, vec a, vec b) {
    return vec_fma(vec_odd_bf16(a), vec_odd_bf16(b), vec_fma(vec_even_bf16(a), vec_even_bf16(b), c));
}

VEC_INLINE void vec_transpose(vec r[VEC_LANES]) {
    vec a = r[0], b = r[1], c = r[2], d = r[3];
    r[0] = (vec){a[0], b[0], c[0], d[0]};
    r[1] = (vec){a[1], b[1], c[1], d[1]};
    r[2] = (vec){a[2], b[2], c[2], d[2]};
    r[3] = (vec){a[3], b[3], c[3], d[3]};
}

VEC_INLINE void vec_prefetch(const void *p) { __builtin_prefetch(p, 0, 2); }

#endif
