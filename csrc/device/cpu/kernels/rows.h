/* What the kernels that work row by row share: how rows are cut into tiles, and one body for each pair of dtypes.
 *
 * A tile is a run of whole rows, about ROW_TILE_ELEMENTS elements: some tens of microseconds of work, so that a cancel is heard soon and
 * threads end together, and enough that handing it out costs nothing. The cut depends on the shape only, and no row's result
 * depends on the cut. */
#ifndef WO_KERNELS_ROWS_H
#define WO_KERNELS_ROWS_H

#include "device/cpu/kernels.h"
#include "device/cpu/kernels/vec.h"

enum { ROW_TILE_ELEMENTS = 1 << 16 };

static inline int64_t rows_per_tile(int64_t width) {
    return width >= ROW_TILE_ELEMENTS ? 1 : ROW_TILE_ELEMENTS / width;
}

static inline int64_t row_tiles(int64_t rows, int64_t width) {
    int64_t per_tile = rows_per_tile(width);
    return (rows + per_tile - 1) / per_tile;
}

/* Rows [*first, *end) of a tile. */
static inline void row_tile_range(int64_t rows, int64_t width, int64_t tile, int64_t *first, int64_t *end) {
    int64_t per_tile = rows_per_tile(width);
    *first = tile * per_tile;
    *end = *first + per_tile < rows ? *first + per_tile : rows;
}

/* The same for a flat array of `count` elements; every tile but the last is a whole number of vectors. */
static inline int64_t flat_tiles(int64_t count) {
    return row_tiles(count, 1);
}

static inline void flat_tile_range(int64_t count, int64_t tile, int64_t *first, int64_t *end) {
    row_tile_range(count, 1, tile, first, end);
}

/* Calls body(x dtype, y dtype, ...) with constants, so that the compiler makes one loop for each pair. */
#define ROWS_BY_DTYPE(body, x_dtype, y_dtype, ...)          \
    do {                                                    \
        if ((x_dtype) == WO_F32 && (y_dtype) == WO_F32)     \
            body(WO_F32, WO_F32, __VA_ARGS__);              \
        else if ((x_dtype) == WO_F32)                       \
            body(WO_F32, WO_BF16, __VA_ARGS__);             \
        else if ((y_dtype) == WO_F32)                       \
            body(WO_BF16, WO_F32, __VA_ARGS__);             \
        else                                                \
            body(WO_BF16, WO_BF16, __VA_ARGS__);            \
    } while (0)

/* Element i of an array of F32 or BF16, as an address. */
static inline const void *rows_at(wo_dtype dtype, const void *base, int64_t i) {
    return (const char *)base + i * (dtype == WO_F32 ? 4 : 2);
}

static inline void *rows_at_out(wo_dtype dtype, void *base, int64_t i) {
    return (char *)base + i * (dtype == WO_F32 ? 4 : 2);
}

/* Sum of squares of one row, in an order that depends on the width only: four running vectors, then the tail. */
VEC_INLINE float rows_sum_of_squares(wo_dtype dtype, const void *x, int64_t width) {
    vec s0 = vec_zero(), s1 = vec_zero(), s2 = vec_zero(), s3 = vec_zero();
    int64_t i = 0;
    for (; i + 4 * VEC_LANES <= width; i += 4 * VEC_LANES) {
        vec a = vec_load_as(dtype, x, i), b = vec_load_as(dtype, x, i + VEC_LANES);
        vec c = vec_load_as(dtype, x, i + 2 * VEC_LANES), d = vec_load_as(dtype, x, i + 3 * VEC_LANES);
        s0 = vec_fma(a, a, s0);
        s1 = vec_fma(b, b, s1);
        s2 = vec_fma(c, c, s2);
        s3 = vec_fma(d, d, s3);
    }
    for (; i + VEC_LANES <= width; i += VEC_LANES) {
        vec a = vec_load_as(dtype, x, i);
        s0 = vec_fma(a, a, s0);
    }
    if (i < width) {
        vec a = vec_load_as_part(dtype, x, i, width - i);
        s1 = vec_fma(a, a, s1);
    }
    return vec_sum(vec_add(vec_add(s0, s1), vec_add(s2, s3)));
}

#endif
