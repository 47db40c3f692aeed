/* The last step of every product: sums + bias, the epilogue, conversion and the store. One loop for each epilogue and dtype of
 * the output, so that nothing is asked per vector. */
#include "device/cpu/kernels/activation.h"
#include "device/cpu/kernels/tile.h"

/* `count` lanes of element i; all of them when count is VEC_LANES, which is a constant in the loop over whole vectors. */
VEC_INLINE vec load_lanes(wo_dtype dtype, const void *base, int64_t i, int64_t count) {
    return count == VEC_LANES ? vec_load_as(dtype, base, i) : vec_load_as_part(dtype, base, i, count);
}

VEC_INLINE vec finish(wo_epilogue epilogue, wo_dtype dtype, vec acc, const void *other, const float *gate, int64_t i, int64_t count) {
    switch (epilogue) {
    case WO_EPILOGUE_SILU:
        return vec_silu(acc);
    case WO_EPILOGUE_GELU_TANH:
        return vec_gelu_tanh(acc);
    case WO_EPILOGUE_GELU_ERF:
        return vec_gelu_erf(acc);
    case WO_EPILOGUE_MUL:
        return vec_mul(acc, load_lanes(dtype, other, i, count));
    case WO_EPILOGUE_ADD:
        return vec_add(load_lanes(dtype, other, i, count), acc);
    case WO_EPILOGUE_GATE:
        return vec_fma(acc, load_lanes(WO_F32, gate, i, count), load_lanes(dtype, other, i, count));
    default:
        return acc;
    }
}

/* One row: y, other, bias and gate point at its first column. */
VEC_INLINE void store_row(wo_epilogue epilogue, wo_dtype dtype, void *y, const float *bias, const void *other, const float *gate,
                          int64_t columns, const float *sums) {
    int64_t i = 0;
    for (; i + VEC_LANES <= columns; i += VEC_LANES) {
        vec acc = vec_load(sums + i);
        if (bias != NULL)
            acc = vec_add(acc, vec_load(bias + i));
        vec_store_as(dtype, y, i, finish(epilogue, dtype, acc, other, gate, i, VEC_LANES));
    }
    if (i < columns) {
        vec acc = vec_load(sums + i);
        if (bias != NULL)
            acc = vec_add(acc, vec_load_part(bias + i, columns - i));
        vec_store_as_part(dtype, y, i, finish(epilogue, dtype, acc, other, gate, i, columns - i), columns - i);
    }
}

VEC_INLINE void store_rows(wo_epilogue epilogue, wo_dtype dtype, const tile_output *out, int64_t row, int64_t rows, int64_t column,
                           int64_t columns, const float *sums, int64_t stride) {
    const size_t bytes = tile_bytes(dtype);
    const float *bias = out->bias == NULL ? NULL : out->bias + column;
    for (int64_t r = row; r < row + rows; r++, sums += stride) {
        size_t at = (size_t)(r * out->columns + column) * bytes;
        const void *other = out->other == NULL ? NULL : (const char *)out->other + at;
        const float *gate = out->gate == NULL ? NULL : out->gate + r / out->rows_per_gate * out->columns + column;
        store_row(epilogue, dtype, (char *)out->y + at, bias, other, gate, columns, sums);
    }
}

void WO_KERNEL(tile_store)(const tile_output *out, int64_t row, int64_t rows, int64_t column, int64_t columns, const float *sums,
                           int64_t stride) {
#define STORE(name)                                                                               \
    case WO_EPILOGUE_##name:                                                                      \
        if (out->dtype == WO_F32)                                                                 \
            store_rows(WO_EPILOGUE_##name, WO_F32, out, row, rows, column, columns, sums, stride);  \
        else                                                                                      \
            store_rows(WO_EPILOGUE_##name, WO_BF16, out, row, rows, column, columns, sums, stride); \
        break;
    switch (out->epilogue) {
        STORE(NONE)
        STORE(SILU)
        STORE(GELU_TANH)
        STORE(GELU_ERF)
        STORE(MUL)
        STORE(ADD)
        STORE(GATE)
    }
#undef STORE
}
