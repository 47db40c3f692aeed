/* add and unary: one sweep over flat memory. */
#include "device/cpu/kernels/activation.h"
#include "device/cpu/kernels/rows.h"

static void add_tile(void *ctx, int64_t tile, int worker, void *scratch) {
    const wo_add_args *args = ctx;
    int64_t width = args->a.shape[1], first, end;
    (void)worker;
    (void)scratch;
    row_tile_range(args->a.shape[0], width, tile, &first, &end);
    for (int64_t r = first; r < end; r++) {
        const float *a = (const float *)args->a.data + r * width;
        const float *b = (const float *)args->b.data + r % args->b.shape[0] * width;
        float *y = (float *)args->y.data + r * width;
        int64_t i = 0;
        for (; i + VEC_LANES <= width; i += VEC_LANES)
            vec_store(y + i, vec_add(vec_load(a + i), vec_load(b + i)));
        for (; i < width; i++)
            y[i] = a[i] + b[i];
    }
}

wo_status WO_KERNEL(add)(wo_pool *pool, wo_cancel *cancel, const wo_add_args *args) {
    wo_add_args copy = *args;
    return wo_pool_run(pool, row_tiles(args->a.shape[0], args->a.shape[1]), add_tile, &copy, cancel);
}

VEC_INLINE vec apply(wo_unary_kind kind, vec x) {
    switch (kind) {
    case WO_UNARY_SILU:
        return vec_silu(x);
    case WO_UNARY_CLAMP_ONE:
        /* The constants come first: a NaN must stay one, for a clamped NaN would pass for a pixel. */
        return vec_max(vec_splat(-1.0f), vec_min(vec_splat(1.0f), x));
    case WO_UNARY_GELU_TANH:
        return vec_gelu_tanh(x);
    case WO_UNARY_GELU_ERF:
        return vec_gelu_erf(x);
    case WO_UNARY_COPY:
        break;
    }
    return x;
}

VEC_INLINE void apply_range(wo_dtype x_dtype, wo_dtype y_dtype, const wo_unary_args *args, wo_unary_kind kind, int64_t first, int64_t end) {
    int64_t i = first;
    for (; i + VEC_LANES <= end; i += VEC_LANES)
        vec_store_as(y_dtype, args->y.data, i, apply(kind, vec_load_as(x_dtype, args->x.data, i)));
    if (i < end)
        vec_store_as_part(y_dtype, args->y.data, i, apply(kind, vec_load_as_part(x_dtype, args->x.data, i, end - i)), end - i);
}

static void unary_tile(void *ctx, int64_t tile, int worker, void *scratch) {
    const wo_unary_args *args = ctx;
    int64_t first, end;
    (void)worker;
    (void)scratch;
    flat_tile_range(wo_tensor_count(&args->x), tile, &first, &end);
#define BY_KIND(kind)                                                                           \
    case kind:                                                                                  \
        ROWS_BY_DTYPE(apply_range, args->x.dtype, args->y.dtype, args, kind, first, end);       \
        break;
    switch (args->kind) {
        BY_KIND(WO_UNARY_COPY)
        BY_KIND(WO_UNARY_SILU)
        BY_KIND(WO_UNARY_CLAMP_ONE)
        BY_KIND(WO_UNARY_GELU_TANH)
        BY_KIND(WO_UNARY_GELU_ERF)
    }
#undef BY_KIND
}

wo_status WO_KERNEL(unary)(wo_pool *pool, wo_cancel *cancel, const wo_unary_args *args) {
    wo_unary_args copy = *args;
    return wo_pool_run(pool, flat_tiles(wo_tensor_count(&args->x)), unary_tile, &copy, cancel);
}
