/* The two products of attention as register tiles: scores = q k^T and o += weights v. Only attention.c includes this. With vectors a tile
 * is ATTENTION_ROWS x ATTENTION_VECS of them; GCC keeps the sums in registers only when their number is a constant, hence one function for
 * the full panel and one for a single vector. With AMX it is 32 x 32 sums in four tile registers, beside two of each operand. */
#ifndef WO_KERNELS_ATTENTION_PANEL_H
#define WO_KERNELS_ATTENTION_PANEL_H

#include "device/cpu/kernels/attention_layout.h"

enum { ROWS = ATTENTION_ROWS, VECS = ATTENTION_VECS };

VEC_INLINE vec dot_step(bool pairs, vec c, vec a, vec b) {
    return pairs ? vec_dot_bf16(c, a, b) : vec_fma(a, b, c);
}

/* c[r][j] = sum over n words of a[r][i] * b[i][j], one chain from 0 for each. a: ROWS rows, a_stride words apart; b: [n][vecs vectors]. The
 * next lines of b are called for, because they come from the second cache. */
VEC_INLINE void multiply(bool pairs, int vecs, const uint32_t *a, int64_t a_stride, const uint32_t *b, int64_t n, vec c[ROWS][VECS]) {
    VEC_UNROLL for (int r = 0; r < ROWS; r++)
        VEC_UNROLL for (int j = 0; j < vecs; j++)
            c[r][j] = vec_zero();
    for (int64_t i = 0; i < n; i++, a++, b += vecs * VEC_LANES) {
        vec right[VECS];
        VEC_UNROLL for (int j = 0; j < vecs; j++) {
            right[j] = vec_load_words(b + j * VEC_LANES);
            __builtin_prefetch(b + (16 * vecs + j) * VEC_LANES, 0, 3);
        }
        VEC_UNROLL for (int r = 0; r < ROWS; r++) {
            vec left = vec_splat_word(a + r * a_stride);
            VEC_UNROLL for (int j = 0; j < vecs; j++)
                c[r][j] = dot_step(pairs, c[r][j], left, right[j]);
        }
    }
}

/* Products of ROWS queries with one panel of keys, and the running maximum of each lane: [ROWS][VEC_LANES]. */
VEC_INLINE void score_panel(bool pairs, int vecs, const uint32_t *q, const uint32_t *k, int64_t words, float *scores, int64_t stride,
                            float *maxima) {
    vec c[ROWS][VECS];
    multiply(pairs, vecs, q, words, k, words, c);
    VEC_UNROLL for (int r = 0; r < ROWS; r++) {
        vec m = vec_load(maxima + r * VEC_LANES);
        VEC_UNROLL for (int j = 0; j < vecs; j++) {
            vec_store(scores + r * stride + j * VEC_LANES, c[r][j]);
            m = vec_max(c[r][j], m);
        }
        vec_store(maxima + r * VEC_LANES, m);
    }
}

/* o = o * decay + weights v for one panel of columns. */
VEC_INLINE void value_panel(bool pairs, int vecs, const uint32_t *weights, int64_t stride, const uint32_t *v, int64_t words,
                            const float *decay, float *o, int64_t o_stride) {
    vec c[ROWS][VECS];
    multiply(pairs, vecs, weights, stride, v, words, c);
    VEC_UNROLL for (int r = 0; r < ROWS; r++) {
        vec factor = vec_splat(decay[r]);
        VEC_UNROLL for (int j = 0; j < vecs; j++) {
            float *to = o + r * o_stride + j * VEC_LANES;
            vec_store(to, vec_fma(vec_load(to), factor, c[r][j]));
        }
    }
}

#define PANEL_FUNCTIONS(name, pairs, vecs)                                                                                            \
    static __attribute__((noinline)) void score_panel_##name(const uint32_t *q, const uint32_t *k, int64_t words, float *scores,      \
                                                             int64_t stride, float *maxima) {                                         \
        score_panel(pairs, vecs, q, k, words, scores, stride, maxima);                                                                \
    }                                                                                                                                 \
    static __attribute__((noinline)) void value_panel_##name(const uint32_t *weights, int64_t stride, const uint32_t *v,              \
                                                             int64_t words, const float *decay, float *o, int64_t o_stride) {         \
        value_panel(pairs, vecs, weights, stride, v, words, decay, o, o_stride);                                                      \
    }
PANEL_FUNCTIONS(float_full, false, VECS)
PANEL_FUNCTIONS(float_one, false, 1)
#if defined(WO_ISA_AVX512_BF16)
PANEL_FUNCTIONS(pairs_full, true, VECS)
PANEL_FUNCTIONS(pairs_one, true, 1)
#define BY_PANEL(function, pairs, full) \
    ((pairs) ? ((full) ? function##_pairs_full : function##_pairs_one) : ((full) ? function##_float_full : function##_float_one))
#else
#define BY_PANEL(function, pairs, full) ((full) ? function##_float_full : function##_float_one)
#endif

#if defined(WO_ISA_AMX)

/* Shapes all eight tile registers as 16 rows of 64 bytes. Every thread does so before it multiplies, and lets go of them afterwards,
 * for tile registers in use make each switch of threads dearer. */
static void amx_begin(void) {
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.row_bytes[i] = 64;
        config.rows[i] = 16;
    }
    /* The intrinsic tells GCC that it reads the first bytes only, and the stores to the others would be dropped. */
    __asm__ volatile("" : : "r"(&config) : "memory");
    _tile_loadconfig(&config);
}

static void amx_end(void) {
    _tile_release();
}

/* sums[32][32] = a[32][words] b[words][32] in pairs; strides in bytes; words is a multiple of 16. */
static inline void amx_multiply(const void *a, int64_t a_stride, const uint32_t *b, int64_t words, float *sums, int64_t stride) {
    const char *upper = a, *lower = upper + 16 * a_stride;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t i = 0; i < words; i += ATTENTION_AMX_WORDS, b += ATTENTION_AMX_WORDS * ATTENTION_AMX_PANEL) {
        _tile_loadd(4, upper + 4 * i, a_stride);
        _tile_loadd(6, b, 4 * ATTENTION_AMX_PANEL);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b + 16, 4 * ATTENTION_AMX_PANEL);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, lower + 4 * i, a_stride);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, sums, stride);
    _tile_stored(1, sums + 16, stride);
    _tile_stored(2, (char *)sums + 16 * stride, stride);
    _tile_stored(3, (char *)(sums + 16) + 16 * stride, stride);
}

/* o = o * decay + sums for 32 rows of 32 columns. */
static inline void amx_add(const float *sums, const float *decay, float *o, int64_t o_stride) {
    for (int64_t r = 0; r < ATTENTION_AMX_ROWS; r++, sums += ATTENTION_AMX_PANEL, o += o_stride) {
        vec factor = vec_splat(decay[r]);
        vec_store(o, vec_fma(vec_load(o), factor, vec_load(sums)));
        vec_store(o + VEC_LANES, vec_fma(vec_load(o + VEC_LANES), factor, vec_load(sums + VEC_LANES)));
    }
}

#endif
#endif
