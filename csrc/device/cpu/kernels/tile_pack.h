/* Packing: weights into panels [word of K][column], where the kernel reads whole vectors in order, and inputs into rows of words
 * where they cannot be read as they lie. Both happen in scratch, block by block, and cost about one percent of the product. */
#ifndef WO_KERNELS_TILE_PACK_H
#define WO_KERNELS_TILE_PACK_H

#include "device/cpu/kernels/tile.h"

/* VEC_LANES rows of weights, one run of K: a transpose of VEC_LANES x VEC_LANES words at a time. Rows from `rows` on are 0. */
VEC_INLINE void tile_pack_columns(tile_kind kind, wo_dtype dtype, const char *w, size_t row_bytes, int64_t rows, int64_t elements,
                                  uint32_t *panel, int64_t width) {
    const int64_t words = tile_words_of(kind, elements);
    const int64_t word_bytes = kind == TILE_BF16 ? 4 : (int64_t)tile_bytes(dtype);
    vec t[VEC_LANES];
    int64_t k = 0;
    if (rows >= VEC_LANES) {
        const int64_t whole = kind == TILE_BF16 ? elements / 2 : elements;
        for (; k + VEC_LANES <= whole; k += VEC_LANES) {
            const char *at = w + k * word_bytes;
            VEC_UNROLL for (int i = 0; i < VEC_LANES; i++)
                t[i] = kind == TILE_BF16 ? vec_load_words(at + (size_t)i * row_bytes)
                                         : vec_load_as(dtype, at + (size_t)i * row_bytes, 0);
            vec_transpose(t);
            VEC_UNROLL for (int i = 0; i < VEC_LANES; i++)
                vec_store((float *)(panel + (k + i) * width), t[i]);
        }
    }
    for (; k < words; k += VEC_LANES) {
        for (int i = 0; i < VEC_LANES; i++)
            t[i] = i < rows ? tile_load_words(kind, dtype, w + (size_t)i * row_bytes, k, elements) : vec_zero();
        vec_transpose(t);
        for (int64_t i = 0; i < tile_min(VEC_LANES, words - k); i++)
            vec_store((float *)(panel + (k + i) * width), t[i]);
    }
}

/* The same for a panel of several vectors; rows counts the weights' rows that there are, the rest of the panel is 0. */
VEC_INLINE void tile_pack_run(tile_kind kind, wo_dtype dtype, const void *w, int64_t row_elements, int64_t rows, int64_t elements,
                              uint32_t *panel, int vectors) {
    const size_t row_bytes = (size_t)row_elements * tile_bytes(dtype);
    for (int j = 0; j < vectors; j++) {
        int64_t first = j * VEC_LANES;
        const char *from = (const char *)w + (first < rows ? (size_t)first * row_bytes : 0);
        tile_pack_columns(kind, dtype, from, row_bytes, rows - first, elements, panel + first, vectors * VEC_LANES);
    }
}

/* One row of one tap as words. */
VEC_INLINE void tile_pack_row(tile_kind kind, wo_dtype dtype, const void *from, int64_t elements, uint32_t *to) {
    const int64_t words = tile_words_of(kind, elements);
    const int64_t whole = kind == TILE_BF16 ? elements / 2 : elements;
    int64_t k = 0;
    for (; k + VEC_LANES <= whole; k += VEC_LANES) {
        vec v = kind == TILE_BF16 ? vec_load_words((const uint16_t *)from + 2 * k) : vec_load_as(dtype, from, k);
        vec_store((float *)(to + k), v);
    }
    if (k < words)
        vec_store_part((float *)(to + k), tile_load_words(kind, dtype, from, k, elements), words - k);
}

#endif
