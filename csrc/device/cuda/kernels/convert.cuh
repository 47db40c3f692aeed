/* The formulas of conversion, bit for bit those of base/convert.c, NaN and subnormals included: on integers wherever the card's own conversion
 * has a NaN of its own. An element at rest is one or two 32-bit pieces, as they lie in memory; a result is the bits of `to`. */
#ifndef WO_DEVICE_CUDA_KERNELS_CONVERT_CUH
#define WO_DEVICE_CUDA_KERNELS_CONVERT_CUH

#include "device/cuda/kernels/scalar.cuh"

template <int DTYPE>
struct wo_bytes_of {
    enum { VALUE = DTYPE == WO_CUDA_F64 ? 8 : DTYPE == WO_CUDA_F32 ? 4 : DTYPE == WO_CUDA_F8_E4M3 ? 1 : 2 };
};

/* UNIT elements fill 16 bytes of the wider side; WORDS 32-bit words of source hold them. */
template <int FROM, int TO>
struct wo_conversion_of {
    enum {
        WIDER = (int)wo_bytes_of<FROM>::VALUE > (int)wo_bytes_of<TO>::VALUE ? (int)wo_bytes_of<FROM>::VALUE : (int)wo_bytes_of<TO>::VALUE,
        UNIT = 16 / WIDER,
        WORDS = UNIT * wo_bytes_of<FROM>::VALUE / 4
    };
};

/* --- one element ---------------------------------------------------------------------------------------------------------------- */

/* The bits in float32's place are the number times 2^-112, subnormals too; what was inf or NaN needs float32's exponent for that. */
WO_INLINE uint32_t wo_widen_f16_bits(uint32_t half) {
    uint32_t magnitude = half & 0x7fffu;
    uint32_t bits = __float_as_uint(__uint_as_float(magnitude << 13) * 0x1p112f);
    bits = magnitude >= 0x7c00u ? (magnitude << 13) + (224u << 23) : bits;
    return bits | (half & 0x8000u) << 16;
}

/* As in float16, the bits in float32's place are the number times 2^-120; of each sign one code is NaN, and it has no product. */
WO_INLINE uint32_t wo_widen_f8(uint32_t code, float scale) {
    uint32_t magnitude = code & 0x7fu, sign = (code & 0x80u) << 24;
    float value = __uint_as_float(sign | magnitude << 20) * 0x1p120f;
    return magnitude == 0x7fu ? sign | 0x7fc00000u : __float_as_uint(value * scale);
}

/* A NaN keeps its sign and the upper bits of its payload. */
WO_INLINE uint32_t wo_narrow_f64_nan(uint32_t low, uint32_t high) {
    return (high & 0x80000000u) | 0x7fc00000u | (high & 0xfffffu) << 3 | low >> 29;
}

/* To float32, to nearest even; or to odd, for a second rounding: cut towards zero, and the last bit says whether anything was cut. */
WO_INLINE uint32_t wo_narrow_f64(uint32_t low, uint32_t high, bool to_odd) {
    double x = __hiloint2double((int)high, (int)low);
    float nearest = (float)x;
    double back = (double)nearest;
    uint32_t bits = __float_as_uint(nearest);
    if (to_odd)
        bits = (bits - (fabs(back) > fabs(x) ? 1u : 0u)) | (back != x ? 1u : 0u);
    return x != x ? wo_narrow_f64_nan(low, high) : bits;
}

WO_INLINE uint32_t wo_round_bf16(uint32_t bits) {
    uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    return (bits & 0x7fffffffu) > 0x7f800000u ? bits >> 16 | 0x40u : rounded;
}

/* Below 2^-14 the result counts units of 2^-24, which is the unit in the last place of 0.5: the addition rounds. */
WO_INLINE uint32_t wo_round_f16(uint32_t bits) {
    uint32_t magnitude = bits & 0x7fffffffu, sign = bits >> 16 & 0x8000u;
    uint32_t half = (magnitude - (112u << 23) + 0x0fffu + (magnitude >> 13 & 1u)) >> 13;
    uint32_t subnormal = __float_as_uint(__uint_as_float(magnitude) + 0.5f) - 0x3f000000u;
    half = magnitude < 0x38800000u ? subnormal : half;
    half = magnitude >= 0x47800000u ? 0x7c00u : half;
    half = magnitude > 0x7f800000u ? 0x7e00u | (magnitude >> 13 & 0x3ffu) : half;
    return sign | half;
}

/* The piece's, or both pieces', element as the bits of TO. Equal dtypes move. */
template <int FROM, int TO>
WO_INLINE uint32_t wo_convert_one(uint32_t low, uint32_t high, float scale) {
    if (FROM == TO)
        return low;
    uint32_t wide = low; /* the bits of a float32 */
    if (FROM == WO_CUDA_BF16)
        wide = low << 16;
    else if (FROM == WO_CUDA_F16)
        wide = wo_widen_f16_bits(low);
    else if (FROM == WO_CUDA_F64)
        wide = wo_narrow_f64(low, high, TO != WO_CUDA_F32);
    else if (FROM == WO_CUDA_F8_E4M3)
        wide = wo_widen_f8(low, scale);
    return TO == WO_CUDA_F32 ? wide : TO == WO_CUDA_BF16 ? wo_round_bf16(wide) : wo_round_f16(wide);
}

template <int TO>
WO_INLINE void wo_put_one(void *dst, int64_t i, uint32_t bits) {
    if (TO == WO_CUDA_F32)
        ((uint32_t *)dst)[i] = bits;
    else
        ((uint16_t *)dst)[i] = (uint16_t)bits;
}

/* --- bytes ---------------------------------------------------------------------------------------------------------------------- */

/* An element of BYTES at any address. */
template <int BYTES>
WO_INLINE void wo_gather_bytes(const unsigned char *at, uint32_t (&piece)[2]) {
    piece[0] = piece[1] = 0;
#pragma unroll
    for (int k = 0; k < BYTES; k++)
        piece[k / 4] |= (uint32_t)at[k] << k % 4 * 8;
}

/* An element of BYTES at byte `at` of an array of words, which has a word behind it. */
template <int BYTES>
WO_INLINE void wo_take_bytes(const uint32_t *words, unsigned at, uint32_t (&piece)[2]) {
    const uint32_t *w = words + at / 4;
    unsigned shift = at % 4 * 8;
    piece[1] = 0;
    if (BYTES == 1) {
        piece[0] = w[0] >> shift & 0xffu;
        return;
    }
    piece[0] = __funnelshift_r(w[0], w[1], shift);
    if (BYTES == 2)
        piece[0] &= 0xffffu;
    if (BYTES == 8)
        piece[1] = __funnelshift_r(w[1], w[2], shift);
}

/* The 16 bytes at `at`, those outside [begin, end) being 0 and not read. */
WO_INLINE uint4 wo_word_within(const unsigned char *at, const unsigned char *begin, const unsigned char *end) {
    uint32_t piece[4] = {0, 0, 0, 0};
#pragma unroll
    for (int k = 0; k < 16; k++)
        if (at + k >= begin && at + k < end)
            piece[k / 4] |= (uint32_t)at[k] << k % 4 * 8;
    return make_uint4(piece[0], piece[1], piece[2], piece[3]);
}

/* W = 1, 2 or 4 words from an address that is a multiple of their bytes; 0 where there is nothing to read. */
template <int W>
WO_INLINE void wo_get_words(const unsigned char *at, bool wanted, uint32_t *out) {
    if (W == 4) {
        uint4 four = wanted ? *(const uint4 *)at : make_uint4(0, 0, 0, 0);
        out[0] = four.x;
        out[1] = four.y;
        out[2] = four.z;
        out[3] = four.w;
    } else if (W == 2) {
        uint2 two = wanted ? *(const uint2 *)at : make_uint2(0, 0);
        out[0] = two.x;
        out[1] = two.y;
    } else {
        out[0] = wanted ? *(const uint32_t *)at : 0;
    }
}

/* Moves the words down by 0 < shift < 4 W bytes, so that the first W hold what began there. */
template <int W>
WO_INLINE void wo_shift_words(uint32_t (&words)[2 * W], unsigned shift) {
#pragma unroll
    for (int step = W / 2; step > 0; step /= 2)
        if (shift / 4 & step)
#pragma unroll
            for (int i = 0; i < 2 * W - step; i++)
                words[i] = words[i + step];
#pragma unroll
    for (int i = 0; i < W; i++)
        words[i] = __funnelshift_r(words[i], words[i + 1], shift % 4 * 8);
}

/* One unit: source words to the unit's place in the target, which is aligned to its bytes. */
template <int FROM, int TO>
WO_INLINE void wo_convert_unit(const uint32_t *words, unsigned char *to, float scale) {
    const int U = wo_conversion_of<FROM, TO>::UNIT, FROM_BYTES = wo_bytes_of<FROM>::VALUE, OUT = U * wo_bytes_of<TO>::VALUE / 4;
    uint32_t out[OUT];
#pragma unroll
    for (int k = 0; k < U; k++) {
        uint32_t low = FROM_BYTES == 8 ? words[2 * k] : words[k * FROM_BYTES / 4];
        uint32_t high = FROM_BYTES == 8 ? words[2 * k + 1] : 0;
        if (FROM_BYTES < 4)
            low = low >> k * FROM_BYTES % 4 * 8 & (FROM_BYTES == 2 ? 0xffffu : 0xffu);
        uint32_t bits = wo_convert_one<FROM, TO>(low, high, scale);
        if (TO == WO_CUDA_F32)
            out[k] = bits;
        else if (k % 2 == 0)
            out[k / 2] = bits;
        else
            out[k / 2] |= bits << 16;
    }
    if (OUT == 4)
        *(uint4 *)to = make_uint4(out[0], out[1 % OUT], out[2 % OUT], out[3 % OUT]);
    else if (OUT == 2)
        *(uint2 *)to = make_uint2(out[0], out[1 % OUT]);
    else
        *(uint32_t *)to = out[0];
}

/* --- choosing ------------------------------------------------------------------------------------------------------------------- */

#define WO_BY_TARGET(body, FROM, to, ...)                           \
    do {                                                            \
        if ((to) == WO_CUDA_F32)                                    \
            body<FROM, WO_CUDA_F32>(__VA_ARGS__);                   \
        else if ((to) == WO_CUDA_BF16)                              \
            body<FROM, WO_CUDA_BF16>(__VA_ARGS__);                  \
        else                                                        \
            body<FROM, WO_CUDA_F16>(__VA_ARGS__);                   \
    } while (0)

/* Calls body<from, to>(...). */
#define WO_BY_CONVERSION(body, from, to, ...)                       \
    do {                                                            \
        if ((from) == WO_CUDA_F32)                                  \
            WO_BY_TARGET(body, WO_CUDA_F32, to, __VA_ARGS__);       \
        else if ((from) == WO_CUDA_BF16)                            \
            WO_BY_TARGET(body, WO_CUDA_BF16, to, __VA_ARGS__);      \
        else if ((from) == WO_CUDA_F16)                             \
            WO_BY_TARGET(body, WO_CUDA_F16, to, __VA_ARGS__);       \
        else if ((from) == WO_CUDA_F64)                             \
            WO_BY_TARGET(body, WO_CUDA_F64, to, __VA_ARGS__);       \
        else                                                        \
            WO_BY_TARGET(body, WO_CUDA_F8_E4M3, to, __VA_ARGS__);   \
    } while (0)

#endif
