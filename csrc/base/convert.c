/* Conversion between storage dtypes on the host. Each element is a branch-free formula on bits, so the loops below
 * vectorise; on x86-64 they are compiled a second time for AVX2 and chosen at run time. The formulas are integer
 * arithmetic wherever a subnormal could appear, because a process may have flush-to-zero switched on and the bits must
 * not depend on it.
 *
 * Float64 to a 16-bit dtype is rounded once: it passes through float32 rounded to odd, which keeps the sticky bit that
 * the second rounding needs. */
#include "base/convert.h"

#include <assert.h>
#include <string.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

ALWAYS_INLINE uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

ALWAYS_INLINE float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* A choice by mask: for the conditional operator the compiler may branch for each element, and then nothing vectorises. */
ALWAYS_INLINE uint32_t choose(bool condition, uint32_t yes, uint32_t no) {
    uint32_t mask = 0u - (uint32_t)condition;
    return (yes & mask) | (no & ~mask);
}

ALWAYS_INLINE float widen_bf16(uint16_t x) {
    return float_of((uint32_t)x << 16);
}

/* For anything but a NaN whose low bits would carry into its sign. */
ALWAYS_INLINE uint32_t round_bf16(float x) {
    uint32_t bits = bits_of(x);
    return (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
}

ALWAYS_INLINE uint16_t narrow_bf16(float x) {
    uint32_t bits = bits_of(x), quiet = (bits >> 16) | 0x40u;
    return (uint16_t)choose((bits & 0x7FFFFFFFu) > 0x7F800000u, quiet, round_bf16(x));
}

/* Four bits of exponent with bias 7, three of mantissa; no infinity, and one NaN of each sign, all ones. A subnormal lacks
 * the leading one of 2^-6: it is widened with it, and loses it again by an exact subtraction. */
ALWAYS_INLINE float widen_f8(uint8_t x) {
    uint32_t magnitude = x & 0x7Fu, sign = (uint32_t)(x & 0x80u) << 24;
    bool subnormal = magnitude < 0x08u;
    uint32_t with_one = (magnitude << 20) + (120u << 23) + choose(subnormal, 1u << 23, 0);
    uint32_t bits = bits_of(float_of(with_one) - float_of(choose(subnormal, 121u << 23, 0)));
    return float_of(sign | choose(magnitude == 0x7Fu, 0x7FC00000u, bits));
}

/* A normal half needs its exponent moved from bias 15 to 127, inf and NaN twice as far; a subnormal is its mantissa
 * times 2^-24. */
ALWAYS_INLINE float widen_f16(uint16_t x) {
    uint32_t magnitude = x & 0x7FFFu, sign = (uint32_t)(x & 0x8000u) << 16;
    uint32_t normal = (magnitude << 13) + (112u << 23);
    uint32_t special = (magnitude << 13) + (224u << 23);
    uint32_t subnormal = bits_of((float)(int32_t)magnitude * 0x1p-24f);
    uint32_t bits = choose(magnitude < 0x0400u, subnormal, normal);
    return float_of(sign | choose(magnitude >= 0x7C00u, special, bits));
}

/* Below 2^-14 the result counts units of 2^-24, which is the unit in the last place of 0.5: the addition rounds. */
ALWAYS_INLINE uint16_t narrow_f16(float x) {
    uint32_t bits = bits_of(x), magnitude = bits & 0x7FFFFFFFu, sign = (bits >> 16) & 0x8000u;
    uint32_t normal = (magnitude - (112u << 23) + 0x0FFFu + ((magnitude >> 13) & 1u)) >> 13;
    uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - 0x3F000000u;
    uint32_t nan = 0x7E00u | ((magnitude >> 13) & 0x03FFu);
    uint32_t half = choose(magnitude < 0x38800000u, subnormal, normal);
    half = choose(magnitude >= 0x47800000u, 0x7C00u, half);
    return (uint16_t)(sign | choose(magnitude > 0x7F800000u, nan, half));
}

/* float64 to float32 rounded to odd: cut towards zero, and the last bit says whether anything was cut. */
ALWAYS_INLINE float round_to_odd(double x) {
    float nearest = (float)x;
    double back = (double)nearest, size = x < 0 ? -x : x, back_size = back < 0 ? -back : back;
    uint32_t bits = bits_of(nearest) - (back_size > size ? 1u : 0u);
    return float_of(bits | (back != x ? 1u : 0u));
}

float wo_f8_e4m3_to_f32(uint8_t x) { return widen_f8(x); }
float wo_bf16_to_f32(uint16_t x) { return widen_bf16(x); }
uint16_t wo_f32_to_bf16(float x) { return narrow_bf16(x); }
float wo_f16_to_f32(uint16_t x) { return widen_f16(x); }
uint16_t wo_f32_to_f16(float x) { return narrow_f16(x); }

/* One loop per pair of dtypes: X(from, to, storage type of from, storage type of to, the element's formula of v and
 * scale). */
#define CONVERSIONS(X)                                          \
    X(F32, BF16, float, uint16_t, narrow_bf16(v))               \
    X(F32, F16, float, uint16_t, narrow_f16(v))                 \
    X(BF16, F32, uint16_t, float, widen_bf16(v))                \
    X(BF16, F16, uint16_t, uint16_t, narrow_f16(widen_bf16(v))) \
    X(F16, F32, uint16_t, float, widen_f16(v))                  \
    X(F16, BF16, uint16_t, uint16_t, narrow_bf16(widen_f16(v))) \
    X(F64, F32, double, float, (float)v)                        \
    X(F64, BF16, double, uint16_t, narrow_bf16(round_to_odd(v))) \
    X(F64, F16, double, uint16_t, narrow_f16(round_to_odd(v))) \
    X(F8_E4M3, F32, uint8_t, float, widen_f8(v) * scale)        \
    X(F8_E4M3, BF16, uint8_t, uint16_t, (uint16_t)round_bf16(widen_f8(v) * scale)) \
    X(F8_E4M3, F16, uint8_t, uint16_t, narrow_f16(widen_f8(v) * scale))

#define LOOP_BODY(from, to, value, result, formula)                                                    \
    ALWAYS_INLINE void loop_##from##_##to(void *restrict dst, const void *restrict src, int64_t count, float scale) { \
        result *restrict out = dst;                                                                     \
        (void)scale;                                                                                    \
        for (int64_t i = 0; i < count; i++) {                                                           \
            value v;                                                                                   \
            memcpy(&v, (const char *)src + (size_t)i * sizeof v, sizeof v);                             \
            out[i] = formula;                                                                           \
        }                                                                                               \
    }
CONVERSIONS(LOOP_BODY)

typedef void (*loop_fn)(void *restrict dst, const void *restrict src, int64_t count, float scale);
typedef loop_fn loop_table[WO_DTYPE_COUNT][WO_DTYPE_COUNT];

#define LOOP_ENTRY(from, to, value, result, formula) [WO_##from][WO_##to] = plain_##from##_##to,
#define LOOP_PLAIN(from, to, value, result, formula)                                                   \
    static void plain_##from##_##to(void *restrict dst, const void *restrict src, int64_t count, float scale) { \
        loop_##from##_##to(dst, src, count, scale);                                                     \
    }
CONVERSIONS(LOOP_PLAIN)
static const loop_table PLAIN = {CONVERSIONS(LOOP_ENTRY)};

#if defined(__x86_64__) && defined(__GNUC__)
#define LOOP_ENTRY_AVX2(from, to, value, result, formula) [WO_##from][WO_##to] = avx2_##from##_##to,
#define LOOP_AVX2(from, to, value, result, formula)                                                    \
    __attribute__((target("avx2"))) static void avx2_##from##_##to(void *restrict dst, const void *restrict src, \
                                                                   int64_t count, float scale) {        \
        loop_##from##_##to(dst, src, count, scale);                                                     \
    }
CONVERSIONS(LOOP_AVX2)
static const loop_table AVX2 = {CONVERSIONS(LOOP_ENTRY_AVX2)};

static loop_fn loop_for(wo_dtype from, wo_dtype to) {
    return __builtin_cpu_supports("avx2") ? AVX2[from][to] : PLAIN[from][to];
}
#else
static loop_fn loop_for(wo_dtype from, wo_dtype to) {
    return PLAIN[from][to];
}
#endif

static void convert_rows(const wo_conversion *c, void *dst, const void *src, int64_t count) {
    if (c->from == c->to) {
        memcpy(dst, src, (size_t)count * wo_dtype_size(c->to));
        return;
    }
    loop_fn loop = loop_for(c->from, c->to);
    assert(loop != NULL);
    loop(dst, src, count, c->scaled ? c->scale : 1.0f);
}

bool wo_conversion_is_copy(const wo_conversion *c) {
    bool same_order = c->layout == WO_LAYOUT_ROWS || c->taps == 1 || c->channels == 1;
    return c->from == c->to && same_order;
}

/* The scatter moves elements whatever their type, so it goes through words that may alias anything. */
typedef uint16_t __attribute__((may_alias)) word16;
typedef uint32_t __attribute__((may_alias)) word32;

/* Writes block [channels, taps] of elements to out, where one step of a tap is `stride` elements. */
#define TRANSPOSE(name, type)                                                                                   \
    static void name(void *restrict out, const void *restrict block, int64_t channels, int64_t taps, int64_t stride) { \
        type *restrict to = out;                                                                                \
        const type *restrict from = block;                                                                      \
        for (int64_t t = 0; t < taps; t++)                                                                      \
            for (int64_t i = 0; i < channels; i++)                                                              \
                to[t * stride + i] = from[i * taps + t];                                                        \
    }
TRANSPOSE(transpose_2, word16)
TRANSPOSE(transpose_4, word32)

enum { BLOCK = 1024 };

/* One output channel [I, taps] -> [taps, I], in blocks that are converted into a buffer on the stack and scattered from
 * there. A block is as many whole channels as fit, or, for a channel with more taps than that, a part of one. */
static void convert_taps_row(const wo_conversion *c, char *dst, const char *src) {
    uint32_t block[BLOCK];
    size_t in = wo_dtype_size(c->from), out = wo_dtype_size(c->to);
    int64_t taps = c->taps < BLOCK ? c->taps : BLOCK;
    int64_t channels = taps < c->taps ? 1 : BLOCK / taps;
    for (int64_t i = 0; i < c->channels; i += channels) {
        int64_t wide = c->channels - i < channels ? c->channels - i : channels;
        for (int64_t t = 0; t < c->taps; t += taps) {
            int64_t deep = c->taps - t < taps ? c->taps - t : taps;
            convert_rows(c, block, src + (size_t)(i * c->taps + t) * in, wide * deep);
            char *to = dst + (size_t)(t * c->channels + i) * out;
            (out == 2 ? transpose_2 : transpose_4)(to, block, wide, deep, c->channels);
        }
    }
}

void wo_convert(const wo_conversion *c, void *dst, const void *src, int64_t count) {
    assert(c->to == WO_F32 || c->to == WO_BF16 || c->to == WO_F16);
    assert(!c->scaled || c->from == WO_F8_E4M3);
    if (c->layout == WO_LAYOUT_ROWS || c->taps == 1 || c->channels == 1) {
        convert_rows(c, dst, src, count);
        return;
    }
    int64_t row = c->channels * c->taps;
    assert(row > 0 && count % row == 0);
    size_t in = (size_t)row * wo_dtype_size(c->from), out = (size_t)row * wo_dtype_size(c->to);
    for (int64_t i = 0; i < count / row; i++)
        convert_taps_row(c, (char *)dst + (size_t)i * out, (const char *)src + (size_t)i * in);
}
