/* Arithmetic of one lane: the functions that opcodes.h names, written without branches where they are hot, so that the loops around them become
 * vector code. */
#ifndef PTXSIM_SCALAR_H
#define PTXSIM_SCALAR_H

#include "internal.h"

#include <math.h>

#define INLINE static inline __attribute__((always_inline))

INLINE u32 as_u32(f32 x) {
    u32 u;
    memcpy(&u, &x, 4);
    return u;
}
INLINE f32 as_f32(u32 u) {
    f32 x;
    memcpy(&x, &u, 4);
    return x;
}
INLINE f32 from_bf16(u16 h) {
    return as_f32((u32)h << 16);
}
/* NaN becomes the card's canonical one. */
INLINE u16 to_bf16(f32 x) {
    u32 u = as_u32(x);
    return (u16)((u & 0x7fffffffu) > 0x7f800000u ? 0x7fffu : (u + 0x7fffu + (u >> 16 & 1)) >> 16);
}
INLINE f32 from_f16(u16 h) {
    u32 u = (h & 0x7fffu) << 13, exponent = u & 0x0f800000u;
    u32 normal = u + (112u << 23), special = u + (224u << 23);
    f32 tiny = as_f32(u + (113u << 23)) - as_f32(113u << 23);
    u32 r = exponent == 0x0f800000u ? special : exponent == 0 ? as_u32(tiny) : normal;
    return as_f32(r | (h & 0x8000u) << 16);
}
INLINE u16 to_f16(f32 x) {
    u32 u = as_u32(x), sign = u >> 16 & 0x8000u;
    u &= 0x7fffffffu;
    u32 tiny = as_u32(as_f32(u) + 0.5f) - as_u32(0.5f);
    u32 normal = (u - (112u << 23) + 0xfffu + (u >> 13 & 1)) >> 13;
    u32 r = u > 0x7f800000u ? 0x7fffu : u >= 143u << 23 ? 0x7c00u | sign : (u < 113u << 23 ? tiny : normal) | sign;
    return (u16)r;
}
/* Rounds to float such that rounding on to a half is as if from x: an inexact result gets an odd last bit. */
INLINE f32 odd(f64 x) {
    f32 r = (f32)x;
    u32 u = as_u32(r);
    u32 step = fabs((f64)r) < fabs(x) ? 1u : ~0u;
    return as_f32((f64)r != x && x == x && !(u & 1) && fabs(x) < 3.4e38 ? u + step : u);
}
INLINE f32 flush(f32 x) {
    return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x;
}
INLINE f32 least(f32 a, f32 b) {
    return a != a ? b : b != b ? a : a < b ? a : b < a ? b : signbit(a) ? a : b;
}
INLINE f32 most(f32 a, f32 b) {
    return a != a ? b : b != b ? a : a > b ? a : b > a ? b : signbit(a) ? b : a;
}
INLINE f64 least_64(f64 a, f64 b) {
    return a != a ? b : b != b ? a : a < b ? a : b < a ? b : signbit(a) ? a : b;
}
INLINE f64 most_64(f64 a, f64 b) {
    return a != a ? b : b != b ? a : a > b ? a : b > a ? b : signbit(a) ? b : a;
}
/* 2^x within 1e-7: the nearest integer goes into the exponent, in two factors so that the end of the range is right, the rest through a polynomial. */
INLINE f32 power_of_two(f32 x) {
    f32 y = x < -160 ? -160 : x > 130 ? 130 : x;
    f32 shifted = y + 12582912.0f;
    u32 n = as_u32(shifted) - 0x4b400000u;
    f32 f = y - (shifted - 12582912.0f);
    f32 p = 1.52527338e-5f;
    p = p * f + 1.54035304e-4f;
    p = p * f + 1.33335581e-3f;
    p = p * f + 9.61812911e-3f;
    p = p * f + 5.55041087e-2f;
    p = p * f + 2.40226507e-1f;
    p = p * f + 6.93147181e-1f;
    p = p * f + 1.0f;
    u32 half = (u32)((s32)n >> 1);
    f32 r = p * as_f32((half + 127) << 23) * as_f32((n - half + 127) << 23);
    return x != x ? x : r;
}
INLINE u64 high_u64(u64 a, u64 b) {
    return (u64)((unsigned __int128)a * b >> 64);
}
INLINE s64 high_s64(s64 a, s64 b) {
    return (s64)((__int128)a * b >> 64);
}
INLINE u32 find_s32(u32 a) {
    u32 x = (s32)a < 0 ? ~a : a;
    return x ? 31u - (u32)__builtin_clz(x) : ~0u;
}
INLINE u32 reverse(u32 a) {
    a = (a >> 1 & 0x55555555u) | (a & 0x55555555u) << 1;
    a = (a >> 2 & 0x33333333u) | (a & 0x33333333u) << 2;
    a = (a >> 4 & 0x0f0f0f0fu) | (a & 0x0f0f0f0fu) << 4;
    return __builtin_bswap32(a);
}
INLINE u64 extract(u64 a, u32 at, u32 length, u32 bits, bool is_signed) {
    at &= 255, length &= 255;
    if (!length) return 0;
    u32 last = at + length - 1 < bits ? at + length - 1 : bits - 1;
    u64 fill = is_signed && (a >> last & 1) ? ~(u64)0 : 0;
    if (at >= bits) return fill;
    u32 kept = last - at + 1;
    u64 mask = kept > 63 ? ~(u64)0 : ((u64)1 << kept) - 1;
    return (a >> at & mask) | (fill & ~mask);
}
INLINE u64 insert(u64 a, u64 b, u32 at, u32 length, u32 bits) {
    at &= 255, length &= 255;
    if (!length || at >= bits) return b;
    u64 mask = (length > 63 ? ~(u64)0 : ((u64)1 << length) - 1) << at;
    return (b & ~mask) | (a << at & mask);
}
INLINE u32 look_up(u32 a, u32 b, u32 c, u32 table) {
    u32 r = 0;
    for (u32 k = 0; k < 8; k++) r |= (0u - (table >> k & 1)) & (k & 4 ? a : ~a) & (k & 2 ? b : ~b) & (k & 1 ? c : ~c);
    return r;
}
INLINE u32 permute(u32 a, u32 b, u32 selectors) {
    u64 both = (u64)b << 32 | a;
    u32 r = 0;
    for (u32 k = 0; k < 4; k++) {
        u32 s = selectors >> k * 4, byte = (u32)(both >> (s & 7) * 8) & 255;
        if (s & 8) byte = byte & 128 ? 255 : 0;
        r |= byte << k * 8;
    }
    return r;
}
INLINE u32 pack_bits(const u8 flags[LANES]) {
    u32 r = 0;
    for (int k = 0; k < 4; k++) {
        u64 eight;
        memcpy(&eight, flags + k * 8, 8);
        r |= (u32)(eight * 0x0102040810204080u >> 56) << k * 8;
    }
    return r;
}

#define HALF1(from, to, r) ({                                               \
    const f32 x = from((u16)a), y = from((u16)b), z = from((u16)c);         \
    (void)y, (void)z;                                                       \
    to(r);                                                                  \
})
#define HALF2(from, to, r) ({                                                           \
    u32 half_low, half_high;                                                            \
    {                                                                                   \
        const f32 x = from((u16)a), y = from((u16)b), z = from((u16)c);                 \
        (void)y, (void)z;                                                               \
        half_low = to(r);                                                               \
    }                                                                                   \
    {                                                                                   \
        const f32 x = from((u16)(a >> 16)), y = from((u16)(b >> 16)), z = from((u16)(c >> 16)); \
        (void)y, (void)z;                                                               \
        half_high = to(r);                                                              \
    }                                                                                   \
    half_high << 16 | half_low;                                                         \
})

#endif
