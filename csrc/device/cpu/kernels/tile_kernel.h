/* The register tile: TILE_ROWS x TILE_VECTORS vectors of sums, one block of K long. Only tile.c includes this.
 *
 * Eight rows by three vectors with 32 registers: 24 sums, three vectors of weights and one word of the input. Each step of K has 11
 * loads for 24 multiply-adds, so the loads are never what is waited for. With 16 registers it is six rows by two vectors.
 * GCC keeps the sums in registers only when the bounds of the arrays are constants, hence one function for each size.
 */
#ifndef WO_KERNELS_TILE_KERNEL_H
#define WO_KERNELS_TILE_KERNEL_H

#include "device/cpu/kernels/tile.h"

#if defined(WO_ISA_GENERIC) || defined(WO_ISA_AVX2)
enum { TILE_ROWS = 6, TILE_VECTORS = 2 };
#else
enum { TILE_ROWS = 8, TILE_VECTORS = 3 };
#endif

/* sums[r][j] = (add ? sums[r][j] : 0) + sum over taps and k < words of x[tap * TILE_ROWS + r][k] * w[tap][k][j], j < vectors * VEC_LANES */
typedef void (*tile_kernel)(int taps, int64_t words, const void *const *x, const uint32_t *w, float *sums, bool add);

VEC_INLINE vec tile_step(tile_kind kind, vec sum, vec x, vec w) {
    return kind == TILE_BF16 ? vec_dot_bf16(sum, x, w) : vec_fma(x, w, sum);
}

VEC_INLINE void tile_kernel_body(tile_kind kind, int rows, int vectors, int taps, int64_t words, const void *const *x,
                                 const uint32_t *w, float *sums, bool add) {
    vec sum[TILE_ROWS][TILE_VECTORS];
    VEC_UNROLL for (int r = 0; r < rows; r++)
        VEC_UNROLL for (int j = 0; j < vectors; j++)
            sum[r][j] = vec_zero();
    for (int tap = 0; tap < taps; tap++) {
        const char *row[TILE_ROWS];
        VEC_UNROLL for (int r = 0; r < rows; r++)
            row[r] = x[tap * TILE_ROWS + r];
        for (int64_t k = 0; k < words; k++) {
            vec b[TILE_VECTORS];
            VEC_UNROLL for (int j = 0; j < vectors; j++)
                b[j] = vec_load_words(w + j * VEC_LANES);
            w += vectors * VEC_LANES;
            VEC_UNROLL for (int r = 0; r < rows; r++) {
                vec a = vec_splat_word(row[r] + 4 * k);
                VEC_UNROLL for (int j = 0; j < vectors; j++)
                    sum[r][j] = tile_step(kind, sum[r][j], a, b[j]);
            }
        }
    }
    VEC_UNROLL for (int r = 0; r < rows; r++)
        VEC_UNROLL for (int j = 0; j < vectors; j++) {
            float *at = sums + r * TILE_COLUMNS + j * VEC_LANES;
            vec_store(at, add ? vec_add(vec_load(at), sum[r][j]) : sum[r][j]);
        }
}

#define TILE_KERNEL(kind, name, rows, vectors)                                                                             \
    static __attribute__((noinline)) void kernel_##kind##_##name##_##vectors(int taps, int64_t words, const void *const *x, \
                                                                             const uint32_t *w, float *sums, bool add) {    \
        tile_kernel_body(kind, rows, vectors, taps, words, x, w, sums, add);                                                \
    }
#define TILE_KERNELS(kind, vectors)       \
    TILE_KERNEL(kind, one, 1, vectors)    \
    TILE_KERNEL(kind, two, 2, vectors)    \
    TILE_KERNEL(kind, four, 4, vectors)   \
    TILE_KERNEL(kind, full, TILE_ROWS, vectors)
#define TILE_KERNEL_ROW(kind, vectors)                                                                        \
    [kind][vectors - 1] = {kernel_##kind##_one_##vectors, kernel_##kind##_two_##vectors,                      \
                           kernel_##kind##_four_##vectors, kernel_##kind##_full_##vectors}

TILE_KERNELS(TILE_F32, 1)
TILE_KERNELS(TILE_F32, 2)
#if defined(WO_ISA_AVX512) || defined(WO_ISA_AVX512_BF16) || defined(WO_ISA_AMX)
TILE_KERNELS(TILE_F32, 3)
#endif
#if defined(WO_ISA_AVX512_BF16) || defined(WO_ISA_AMX)
TILE_KERNELS(TILE_BF16, 1)
TILE_KERNELS(TILE_BF16, 2)
TILE_KERNELS(TILE_BF16, 3)
#endif

/* [kind][vectors - 1][1, 2, 4 or TILE_ROWS rows] */
static const tile_kernel tile_kernels[2][TILE_VECTORS][4] = {
    TILE_KERNEL_ROW(TILE_F32, 1),
    TILE_KERNEL_ROW(TILE_F32, 2),
#if defined(WO_ISA_AVX512) || defined(WO_ISA_AVX512_BF16) || defined(WO_ISA_AMX)
    TILE_KERNEL_ROW(TILE_F32, 3),
#endif
#if defined(WO_ISA_AVX512_BF16) || defined(WO_ISA_AMX)
    TILE_KERNEL_ROW(TILE_BF16, 1),
    TILE_KERNEL_ROW(TILE_BF16, 2),
    TILE_KERNEL_ROW(TILE_BF16, 3),
#endif
};

/* Runs `rows` <= TILE_ROWS rows in the fewest pieces there are functions for. */
VEC_INLINE void tile_multiply(tile_kind kind, int vectors, int rows, int taps, int64_t words, const void *const *x, const uint32_t *w,
                              float *sums, bool add) {
    const tile_kernel *kernels = tile_kernels[kind][vectors - 1];
    for (int r = 0; r < rows;) {
        int left = rows - r;
        int piece = left == TILE_ROWS ? 3 : left >= 4 ? 2 : left >= 2 ? 1 : 0;
        kernels[piece](taps, words, x + r, w, sums + r * TILE_COLUMNS, add);
        r += piece == 3 ? TILE_ROWS : 1 << piece;
    }
}

#endif
