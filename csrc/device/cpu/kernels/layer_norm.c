/* LayerNorm with modulation or weight and bias. Three passes over a row that stays in the first cache: the mean, the variance of the
 * differences from it (never E[x^2] - mean^2, which loses everything when the mean is large), and the result. The second pass also sums the
 * differences themselves, which is what rounding left in the mean, and takes that out. */
#include "device/cpu/kernels/rows.h"

#include <math.h>

VEC_INLINE float sum_of_row(wo_dtype dtype, const void *x, int64_t width) {
    vec s0 = vec_zero(), s1 = vec_zero();
    int64_t i = 0;
    for (; i + 2 * VEC_LANES <= width; i += 2 * VEC_LANES) {
        s0 = vec_add(s0, vec_load_as(dtype, x, i));
        s1 = vec_add(s1, vec_load_as(dtype, x, i + VEC_LANES));
    }
    for (; i + VEC_LANES <= width; i += VEC_LANES)
        s0 = vec_add(s0, vec_load_as(dtype, x, i));
    if (i < width)
        s1 = vec_add(s1, vec_load_as_part(dtype, x, i, width - i));
    return vec_sum(vec_add(s0, s1));
}

/* Corrects *mean and returns the variance. */
VEC_INLINE float variance_of_row(wo_dtype dtype, const void *x, int64_t width, float *mean) {
    vec m = vec_splat(*mean), s0 = vec_zero(), s1 = vec_zero(), r0 = vec_zero(), r1 = vec_zero();
    int64_t i = 0;
    for (; i + 2 * VEC_LANES <= width; i += 2 * VEC_LANES) {
        vec a = vec_sub(vec_load_as(dtype, x, i), m), b = vec_sub(vec_load_as(dtype, x, i + VEC_LANES), m);
        r0 = vec_add(r0, a);
        r1 = vec_add(r1, b);
        s0 = vec_fma(a, a, s0);
        s1 = vec_fma(b, b, s1);
    }
    for (; i < width; i += VEC_LANES) {
        int64_t n = width - i < VEC_LANES ? width - i : VEC_LANES;
        float lanes[VEC_LANES];
        vec_store(lanes, m);
        /* In a tail the mean is 0 in the lanes behind the row as well, and their differences add nothing. */
        vec a = n == VEC_LANES ? vec_sub(vec_load_as(dtype, x, i), m)
                               : vec_sub(vec_load_as_part(dtype, x, i, n), vec_load_part(lanes, n));
        r0 = vec_add(r0, a);
        s0 = vec_fma(a, a, s0);
    }
    float rest = vec_sum(vec_add(r0, r1)) / (float)width;
    *mean += rest;
    return vec_sum(vec_add(s0, s1)) / (float)width - rest * rest;
}

/* gain and offset are the row's own, or NULL; with `one` the gain counts from 1 (a modulation's scale). */
VEC_INLINE vec finish(vec x, vec mean, vec factor, const float *gain, const float *offset, vec one, int64_t i, int64_t n) {
    vec y = vec_mul(vec_sub(x, mean), factor);
    if (gain == NULL)
        return y;
    vec g = n == VEC_LANES ? vec_load(gain + i) : vec_load_part(gain + i, n);
    vec o = n == VEC_LANES ? vec_load(offset + i) : vec_load_part(offset + i, n);
    return vec_fma(y, vec_add(g, one), o);
}

VEC_INLINE void norm_rows(wo_dtype x_dtype, wo_dtype y_dtype, const wo_layer_norm_args *args, int64_t first, int64_t end) {
    int64_t width = args->x.shape[1];
    const float *gain = args->weight.data, *offset = args->bias.data;
    vec one = vec_zero();
    for (int64_t r = first; r < end; r++) {
        const void *x = rows_at(x_dtype, args->x.data, r * width);
        void *y = rows_at_out(y_dtype, args->y.data, r * width);
        if (args->scale.data != NULL) {
            int64_t b = r / args->rows_per_batch;
            gain = (const float *)args->scale.data + b * width;
            offset = (const float *)args->shift.data + b * width;
            one = vec_splat(1.0f);
        }
        float mean = sum_of_row(x_dtype, x, width) / (float)width;
        float variance = variance_of_row(x_dtype, x, width, &mean);
        vec m = vec_splat(mean), factor = vec_splat(1.0f / sqrtf(fmaxf(variance, 0.0f) + args->eps));
        int64_t i = 0;
        for (; i + VEC_LANES <= width; i += VEC_LANES)
            vec_store_as(y_dtype, y, i, finish(vec_load_as(x_dtype, x, i), m, factor, gain, offset, one, i, VEC_LANES));
        if (i < width) {
            int64_t n = width - i;
            vec_store_as_part(y_dtype, y, i, finish(vec_load_as_part(x_dtype, x, i, n), m, factor, gain, offset, one, i, n), n);
        }
    }
}

static void norm_tile(void *ctx, int64_t tile, int worker, void *scratch) {
    const wo_layer_norm_args *args = ctx;
    int64_t first, end;
    (void)worker;
    (void)scratch;
    row_tile_range(args->x.shape[0], args->x.shape[1], tile, &first, &end);
    ROWS_BY_DTYPE(norm_rows, args->x.dtype, args->y.dtype, args, first, end);
}

wo_status WO_KERNEL(layer_norm)(wo_pool *pool, wo_cancel *cancel, const wo_layer_norm_args *args) {
    wo_layer_norm_args copy = *args;
    return wo_pool_run(pool, row_tiles(args->x.shape[0], args->x.shape[1]), norm_tile, &copy, cancel);
}
