/* The VAE's norm over the channels of each pixel, with silu in the same sweep. Frames at full resolution go through it, so a pixel's
 * channels (a few vectors) are read from the first cache the second time. */
#include "device/cpu/kernels/activation.h"
#include "device/cpu/kernels/rows.h"

#include <math.h>

VEC_INLINE void norm_pixels(wo_dtype x_dtype, wo_dtype y_dtype, const wo_l2_norm_args *args, bool silu, int64_t first, int64_t end) {
    int64_t channels = args->x.shape[1];
    const float *gamma = args->gamma.data;
    float root = sqrtf((float)channels);
    for (int64_t p = first; p < end; p++) {
        const void *x = rows_at(x_dtype, args->x.data, p * channels);
        void *y = rows_at_out(y_dtype, args->y.data, p * channels);
        float length = sqrtf(rows_sum_of_squares(x_dtype, x, channels));
        vec factor = vec_splat(root / fmaxf(length, 1e-12f));
        int64_t i = 0;
        for (; i + VEC_LANES <= channels; i += VEC_LANES) {
            vec v = vec_mul(vec_mul(vec_load_as(x_dtype, x, i), factor), vec_load(gamma + i));
            vec_store_as(y_dtype, y, i, silu ? vec_silu(v) : v);
        }
        if (i < channels) {
            int64_t n = channels - i;
            vec v = vec_mul(vec_mul(vec_load_as_part(x_dtype, x, i, n), factor), vec_load_part(gamma + i, n));
            vec_store_as_part(y_dtype, y, i, silu ? vec_silu(v) : v, n);
        }
    }
}

static void norm_tile(void *ctx, int64_t tile, int worker, void *scratch) {
    const wo_l2_norm_args *args = ctx;
    int64_t first, end;
    (void)worker;
    (void)scratch;
    row_tile_range(args->x.shape[0], args->x.shape[1], tile, &first, &end);
    if (args->silu)
        ROWS_BY_DTYPE(norm_pixels, args->x.dtype, args->y.dtype, args, true, first, end);
    else
        ROWS_BY_DTYPE(norm_pixels, args->x.dtype, args->y.dtype, args, false, first, end);
}

wo_status WO_KERNEL(l2_norm)(wo_pool *pool, wo_cancel *cancel, const wo_l2_norm_args *args) {
    wo_l2_norm_args copy = *args;
    return wo_pool_run(pool, row_tiles(args->x.shape[0], args->x.shape[1]), norm_tile, &copy, cancel);
}
