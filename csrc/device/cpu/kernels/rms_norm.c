/* RMSNorm over the whole width, and the rotation of queries and keys in the same sweep: the row is read from memory once and written
 * once. A pair is rotated as x * (c, c) + swapped x * (-s, s), so both members stay in their lanes. */
#include "device/cpu/kernels/rows.h"

#include <math.h>

VEC_INLINE void scale_row(wo_dtype x_dtype, wo_dtype y_dtype, const void *x, void *y, const float *weight, vec factor, int64_t width) {
    int64_t i = 0;
    for (; i + VEC_LANES <= width; i += VEC_LANES)
        vec_store_as(y_dtype, y, i, vec_mul(vec_mul(vec_load_as(x_dtype, x, i), factor), vec_load(weight + i)));
    if (i < width) {
        int64_t n = width - i;
        vec v = vec_mul(vec_mul(vec_load_as_part(x_dtype, x, i, n), factor), vec_load_part(weight + i, n));
        vec_store_as_part(y_dtype, y, i, v, n);
    }
}

VEC_INLINE vec rotate(vec v, const float *cos_pairs, const float *sin_pairs, vec sign) {
    vec s = vec_mul(vec_load_twice(sin_pairs), sign);
    return vec_fma(v, vec_load_twice(cos_pairs), vec_mul(vec_swap_pairs(v), s));
}

/* One head; cos_row and sin_row are the token's. */
VEC_INLINE void scale_and_rotate_head(wo_dtype x_dtype, wo_dtype y_dtype, const void *x, void *y, const float *weight, vec factor,
                                      const float *cos_row, const float *sin_row, vec sign, int64_t head_dim) {
    int64_t i = 0;
    for (; i + VEC_LANES <= head_dim; i += VEC_LANES) {
        vec v = vec_mul(vec_mul(vec_load_as(x_dtype, x, i), factor), vec_load(weight + i));
        vec_store_as(y_dtype, y, i, rotate(v, cos_row + i / 2, sin_row + i / 2, sign));
    }
    if (i < head_dim) {
        int64_t n = head_dim - i;
        float cos_pairs[VEC_LANES / 2] = {0}, sin_pairs[VEC_LANES / 2] = {0};
        memcpy(cos_pairs, cos_row + i / 2, (size_t)n / 2 * sizeof(float));
        memcpy(sin_pairs, sin_row + i / 2, (size_t)n / 2 * sizeof(float));
        vec v = vec_mul(vec_mul(vec_load_as_part(x_dtype, x, i, n), factor), vec_load_part(weight + i, n));
        vec_store_as_part(y_dtype, y, i, rotate(v, cos_pairs, sin_pairs, sign), n);
    }
}

VEC_INLINE void norm_rows(wo_dtype x_dtype, wo_dtype y_dtype, const wo_rms_norm_args *args, int64_t first, int64_t end) {
    int64_t width = args->x.shape[1], head_dim = args->head_dim;
    const float *weight = args->weight.data, *cos_table = args->cos.data, *sin_table = args->sin.data;
    float alternating[VEC_LANES];
    for (int lane = 0; lane < VEC_LANES; lane++)
        alternating[lane] = lane % 2 == 0 ? -1.0f : 1.0f;
    vec sign = vec_load(alternating);
    for (int64_t r = first; r < end; r++) {
        const void *x = rows_at(x_dtype, args->x.data, r * width);
        void *y = rows_at_out(y_dtype, args->y.data, r * width);
        float mean_square = rows_sum_of_squares(x_dtype, x, width) / (float)width;
        vec factor = vec_splat(1.0f / sqrtf(mean_square + args->eps));
        if (cos_table == NULL) {
            scale_row(x_dtype, y_dtype, x, y, weight, factor, width);
            continue;
        }
        int64_t token = r % args->cos.shape[0];
        const float *cos_row = cos_table + token * (head_dim / 2), *sin_row = sin_table + token * (head_dim / 2);
        for (int64_t h = 0; h < width; h += head_dim)
            scale_and_rotate_head(x_dtype, y_dtype, rows_at(x_dtype, x, h), rows_at_out(y_dtype, y, h), weight + h, factor, cos_row,
                                  sin_row, sign, head_dim);
    }
}

static void norm_tile(void *ctx, int64_t tile, int worker, void *scratch) {
    const wo_rms_norm_args *args = ctx;
    int64_t first, end;
    (void)worker;
    (void)scratch;
    row_tile_range(args->x.shape[0], args->x.shape[1], tile, &first, &end);
    ROWS_BY_DTYPE(norm_rows, args->x.dtype, args->y.dtype, args, first, end);
}

wo_status WO_KERNEL(rms_norm)(wo_pool *pool, wo_cancel *cancel, const wo_rms_norm_args *args) {
    wo_rms_norm_args copy = *args;
    return wo_pool_run(pool, row_tiles(args->x.shape[0], args->x.shape[1]), norm_tile, &copy, cancel);
}
