/* The vector layer on AVX-512 F/BW/VL/DQ; see vec.h for what each function means. */
#ifndef WO_KERNELS_VEC_AVX512_H
#define WO_KERNELS_VEC_AVX512_H

#include <immintrin.h>

typedef __m512 vec;
enum { VEC_LANES = 16 };

VEC_INLINE vec vec_zero(void) { return _mm512_setzero_ps(); }
VEC_INLINE vec vec_splat(float f) { return _mm512_set1_ps(f); }
VEC_INLINE vec vec_load(const float *p) { return _mm512_loadu_ps(p); }
VEC_INLINE void vec_store(float *p, vec v) { _mm512_storeu_ps(p, v); }
VEC_INLINE vec vec_load_words(const void *p) { return _mm512_loadu_ps(p); }

VEC_INLINE vec vec_splat_word(const void *p) {
    int32_t word;
    memcpy(&word, p, sizeof word);
    return _mm512_castsi512_ps(_mm512_set1_epi32(word));
}

VEC_INLINE vec vec_load_bytes(const void *p, size_t n) {
    __mmask64 mask = n >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << n) - 1;
    return _mm512_castsi512_ps(_mm512_maskz_loadu_epi8(mask, p));
}

VEC_INLINE vec vec_load_bf16(const uint16_t *p) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

VEC_INLINE vec vec_load_f16(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }

VEC_INLINE __mmask16 vec_lane_mask(int64_t n) { return (__mmask16)((1u << n) - 1); }

VEC_INLINE void vec_store_part(float *p, vec v, int64_t n) { _mm512_mask_storeu_ps(p, vec_lane_mask(n), v); }

VEC_INLINE __m256i vec_to_bf16(vec v) {
#if defined(WO_ISA_AVX512_BF16) || defined(WO_ISA_AMX)
    return (__m256i)_mm512_cvtneps_pbh(v);
#else
    __m512i bits = _mm512_castps_si512(v);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    rounded = _mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), quiet);
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
#endif
}

VEC_INLINE void vec_store_bf16(uint16_t *p, vec v) { _mm256_storeu_si256((__m256i *)p, vec_to_bf16(v)); }

VEC_INLINE void vec_store_bf16_part(uint16_t *p, vec v, int64_t n) {
    _mm256_mask_storeu_epi16(p, vec_lane_mask(n), vec_to_bf16(v));
}

VEC_INLINE vec vec_add(vec a, vec b) { return _mm512_add_ps(a, b); }
VEC_INLINE vec vec_sub(vec a, vec b) { return _mm512_sub_ps(a, b); }
VEC_INLINE vec vec_mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
VEC_INLINE vec vec_div(vec a, vec b) { return _mm512_div_ps(a, b); }
VEC_INLINE vec vec_sqrt(vec a) { return _mm512_sqrt_ps(a); }
VEC_INLINE vec vec_max(vec a, vec b) { return _mm512_max_ps(a, b); }
VEC_INLINE vec vec_min(vec a, vec b) { return _mm512_min_ps(a, b); }
VEC_INLINE vec vec_fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
VEC_INLINE vec vec_fnma(vec a, vec b, vec c) { return _mm512_fnmadd_ps(a, b, c); }

VEC_INLINE vec vec_if_less(vec a, vec b, vec x, vec y) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}

VEC_INLINE float vec_sum(vec v) {
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

VEC_INLINE float vec_max_across(vec v) {
    __m256 a = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}

VEC_INLINE vec vec_round(vec v) { return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT); }
VEC_INLINE vec vec_scale2(vec p, vec n) { return _mm512_scalef_ps(p, n); }
/* v - round(v), and 0 for an infinity, which the instruction gives for free. */
VEC_INLINE vec vec_fraction(vec v) { return _mm512_reduce_ps(v, _MM_FROUND_TO_NEAREST_INT); }

VEC_INLINE vec vec_floor_fraction(vec v) { return _mm512_reduce_ps(v, _MM_FROUND_TO_NEG_INF); }

VEC_INLINE vec vec_swap_pairs(vec v) { return _mm512_permute_ps(v, 0xb1); }

VEC_INLINE vec vec_load_twice(const float *p) {
    const __m512i index = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    return _mm512_permutexvar_ps(index, _mm512_castps256_ps512(_mm256_loadu_ps(p)));
}

VEC_INLINE vec vec_even_bf16(vec w) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(w), 16));
}

VEC_INLINE vec vec_odd_bf16(vec w) {
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(w), _mm512_set1_epi32((int)0xffff0000u)));
}

VEC_INLINE vec vec_dot_bf16(vec c, vec a, vec b) {
#if defined(WO_ISA_AVX512_BF16) || defined(WO_ISA_AMX)
    return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
#else
    return vec_fma(vec_odd_bf16(a), vec_odd_bf16(b), vec_fma(vec_even_bf16(a), vec_even_bf16(b), c));
#endif
}

VEC_INLINE __m512 vec_unpack_lo64(__m512 a, __m512 b) {
    return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
}

VEC_INLINE __m512 vec_unpack_hi64(__m512 a, __m512 b) {
    return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
}

/* Four rounds: pairs of rows, pairs of pairs, then the 128-bit quarters twice. */
VEC_INLINE void vec_transpose(vec r[VEC_LANES]) {
    vec t[VEC_LANES];
    VEC_UNROLL for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    VEC_UNROLL for (int i = 0; i < 4; i++) {
        r[4 * i] = vec_unpack_lo64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 1] = vec_unpack_hi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 2] = vec_unpack_lo64(t[4 * i + 1], t[4 * i + 3]);
        r[4 * i + 3] = vec_unpack_hi64(t[4 * i + 1], t[4 * i + 3]);
    }
    VEC_UNROLL for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_f32x4(r[i], r[4 + i], 0x88);
        t[4 + i] = _mm512_shuffle_f32x4(r[i], r[4 + i], 0xdd);
        t[8 + i] = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0x88);
        t[12 + i] = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0xdd);
    }
    VEC_UNROLL for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_f32x4(t[i], t[8 + i], 0x88);
        r[8 + i] = _mm512_shuffle_f32x4(t[i], t[8 + i], 0xdd);
        r[4 + i] = _mm512_shuffle_f32x4(t[4 + i], t[12 + i], 0x88);
        r[12 + i] = _mm512_shuffle_f32x4(t[4 + i], t[12 + i], 0xdd);
    }
}

VEC_INLINE void vec_prefetch(const void *p) { _mm_prefetch((const char *)p, _MM_HINT_T1); }

#endif
