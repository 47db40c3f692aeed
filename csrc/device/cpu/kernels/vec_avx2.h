/* The vector layer on AVX2 + FMA + F16C; see vec.h for what each function means. */
#ifndef WO_KERNELS_VEC_AVX2_H
#define WO_KERNELS_VEC_AVX2_H

#include <immintrin.h>

typedef __m256 vec;
enum { VEC_LANES = 8 };

VEC_INLINE vec vec_zero(void) { return _mm256_setzero_ps(); }
VEC_INLINE vec vec_splat(float f) { return _mm256_set1_ps(f); }
VEC_INLINE vec vec_load(const float *p) { return _mm256_loadu_ps(p); }
VEC_INLINE void vec_store(float *p, vec v) { _mm256_storeu_ps(p, v); }
VEC_INLINE vec vec_load_words(const void *p) { return _mm256_loadu_ps(p); }

VEC_INLINE vec vec_splat_word(const void *p) {
    int32_t word;
    memcpy(&word, p, sizeof word);
    return _mm256_castsi256_ps(_mm256_set1_epi32(word));
}

VEC_INLINE vec vec_load_bytes(const void *p, size_t n) {
    if (n >= 32)
        return vec_load_words(p);
    uint8_t bytes[32] = {0};
    memcpy(bytes, p, n);
    return vec_load_words(bytes);
}

VEC_INLINE vec vec_load_bf16(const uint16_t *p) {
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

VEC_INLINE vec vec_load_f16(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }

VEC_INLINE __m256i vec_lane_mask(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

VEC_INLINE void vec_store_part(float *p, vec v, int64_t n) { _mm256_maskstore_ps(p, vec_lane_mask(n), v); }

VEC_INLINE __m128i vec_to_bf16(vec v) {
    __m256i bits = _mm256_castps_si256(v);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    __m256i unordered = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    rounded = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, unordered), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
}

VEC_INLINE void vec_store_bf16(uint16_t *p, vec v) { _mm_storeu_si128((__m128i *)p, vec_to_bf16(v)); }

VEC_INLINE void vec_store_bf16_part(uint16_t *p, vec v, int64_t n) {
    uint16_t lanes[VEC_LANES];
    vec_store_bf16(lanes, v);
    memcpy(p, lanes, (size_t)n * 2);
}

VEC_INLINE vec vec_add(vec a, vec b) { return _mm256_add_ps(a, b); }
VEC_INLINE vec vec_sub(vec a, vec b) { return _mm256_sub_ps(a, b); }
VEC_INLINE vec vec_mul(vec a, vec b) { return _mm256_mul_ps(a, b); }
VEC_INLINE vec vec_div(vec a, vec b) { return _mm256_div_ps(a, b); }
VEC_INLINE vec vec_sqrt(vec a) { return _mm256_sqrt_ps(a); }
VEC_INLINE vec vec_max(vec a, vec b) { return _mm256_max_ps(a, b); }
VEC_INLINE vec vec_min(vec a, vec b) { return _mm256_min_ps(a, b); }
VEC_INLINE vec vec_fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
VEC_INLINE vec vec_fnma(vec a, vec b, vec c) { return _mm256_fnmadd_ps(a, b, c); }

VEC_INLINE vec vec_if_less(vec a, vec b, vec x, vec y) {
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}

VEC_INLINE float vec_sum(vec v) {
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

VEC_INLINE float vec_max_across(vec v) {
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}

VEC_INLINE vec vec_round(vec v) { return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

/* In two halves, so that results down to the denormals and up to the largest float are right. */
VEC_INLINE vec vec_scale2(vec p, vec n) {
    vec held = vec_min(vec_splat(254.0f), vec_max(vec_splat(-252.0f), n));
    __m256i whole = _mm256_cvtps_epi32(held);
    __m256i bias = _mm256_set1_epi32(127);
    __m256i half = _mm256_srai_epi32(whole, 1);
    __m256i rest = _mm256_sub_epi32(whole, half);
    p = vec_mul(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23)));
    return vec_mul(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23)));
}

/* p * 2^n by adding to the exponent; n stands in the low bits of a float of at least 2^23. */
VEC_INLINE vec vec_raise(vec p, vec n) {
    __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(n), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), exponent));
}

/* v - round(v), and 0 for an infinity. */
VEC_INLINE vec vec_fraction(vec v) {
    vec held = vec_min(vec_splat(300.0f), vec_max(vec_splat(-300.0f), v));
    return vec_sub(held, vec_round(held));
}

VEC_INLINE vec vec_swap_pairs(vec v) { return _mm256_permute_ps(v, 0xb1); }

VEC_INLINE vec vec_load_twice(const float *p) {
    const __m256i index = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
    return _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), index);
}

VEC_INLINE vec vec_even_bf16(vec w) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(w), 16));
}

VEC_INLINE vec vec_odd_bf16(vec w) {
    return _mm256_and_ps(w, _mm256_castsi256_ps(_mm256_set1_epi32((int)0xffff0000u)));
}

VEC_INLINE vec vec_dot_bf16(vec c, vec a, vec b) {
    return vec_fma(vec_odd_bf16(a), vec_odd_bf16(b), vec_fma(vec_even_bf16(a), vec_even_bf16(b), c));
}

VEC_INLINE __m256 vec_unpack_lo64(__m256 a, __m256 b) {
    return _mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
}

VEC_INLINE __m256 vec_unpack_hi64(__m256 a, __m256 b) {
    return _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
}

/* Three rounds: pairs of rows, pairs of pairs, then the 128-bit halves. */
VEC_INLINE void vec_transpose(vec r[VEC_LANES]) {
    vec t[VEC_LANES];
    VEC_UNROLL for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    VEC_UNROLL for (int i = 0; i < 2; i++) {
        r[4 * i] = vec_unpack_lo64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 1] = vec_unpack_hi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 2] = vec_unpack_lo64(t[4 * i + 1], t[4 * i + 3]);
        r[4 * i + 3] = vec_unpack_hi64(t[4 * i + 1], t[4 * i + 3]);
    }
    VEC_UNROLL for (int i = 0; i < 4; i++) {
        t[i] = _mm256_permute2f128_ps(r[i], r[4 + i], 0x20);
        t[4 + i] = _mm256_permute2f128_ps(r[i], r[4 + i], 0x31);
    }
    VEC_UNROLL for (int i = 0; i < VEC_LANES; i++)
        r[i] = t[i];
}

VEC_INLINE void vec_prefetch(const void *p) { _mm_prefetch((const char *)p, _MM_HINT_T1); }

#endif
