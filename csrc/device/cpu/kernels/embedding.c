/* Rows of a table, converted on the way. */
#include "device/cpu/kernels/rows.h"

VEC_INLINE void convert_row(wo_dtype from, wo_dtype to, const void *x, void *y, int64_t width) {
    int64_t i = 0;
    for (; i + VEC_LANES <= width; i += VEC_LANES)
        vec_store_as(to, y, i, vec_load_as(from, x, i));
    if (i < width)
        vec_store_as_part(to, y, i, vec_load_as_part(from, x, i, width - i), width - i);
}

VEC_INLINE void embed_rows(wo_dtype from, wo_dtype to, const wo_embedding_args *args, int64_t first, int64_t end) {
    const int32_t *ids = args->ids.data;
    int64_t width = args->table.shape[1];
    for (int64_t r = first; r < end; r++) {
        const char *row = (const char *)args->table.data + ids[r] * width * (from == WO_F32 ? 4 : 2);
        if (from == to)
            memcpy(rows_at_out(to, args->y.data, r * width), row, (size_t)width * (to == WO_F32 ? 4 : 2));
        else
            convert_row(from, to, row, rows_at_out(to, args->y.data, r * width), width);
    }
}

static void embedding_tile(void *ctx, int64_t tile, int worker, void *scratch) {
    const wo_embedding_args *args = ctx;
    int64_t first, end;
    (void)worker;
    (void)scratch;
    row_tile_range(args->y.shape[0], args->y.shape[1], tile, &first, &end);
    if (args->table.dtype == WO_F16 && args->y.dtype == WO_F32)
        embed_rows(WO_F16, WO_F32, args, first, end);
    else if (args->table.dtype == WO_F16)
        embed_rows(WO_F16, WO_BF16, args, first, end);
    else
        ROWS_BY_DTYPE(embed_rows, args->table.dtype, args->y.dtype, args, first, end);
}

wo_status WO_KERNEL(embedding)(wo_pool *pool, wo_cancel *cancel, const wo_embedding_args *args) {
    wo_embedding_args copy = *args;
    return wo_pool_run(pool, row_tiles(args->y.shape[0], args->y.shape[1]), embedding_tile, &copy, cancel);
}
