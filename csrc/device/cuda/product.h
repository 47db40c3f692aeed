/* What linear.c and conv.c share: the limits of own product kernels, where rows may be read in whole chunks, and the grid. Own products need
 * no workspace. */
#ifndef WO_DEVICE_CUDA_PRODUCT_H
#define WO_DEVICE_CUDA_PRODUCT_H

#include "device/cuda/internal.h"

/* Rows, columns and k are counted in 32 bits, with room for the tile that reaches past the end. */
enum { WO_CUDA_PRODUCT_LIMIT = INT32_MAX / 2 };

/* A kernel with its tile and threads. */
typedef struct wo_cuda_product_tile {
    wo_cuda_kernel kernel;
    int32_t rows, columns;
    unsigned threads;
} wo_cuda_product_tile;

/* Tensor cores multiply operands of one 16-bit dtype; all other pairs are widened and summed in float32. */
static inline bool wo_cuda_on_tensor_cores(wo_dtype x, wo_dtype w) {
    return x == w && x != WO_F32;
}

/* Whether rows of `length` elements can be read in pieces of `count` neighbours that are aligned as a whole. */
static inline bool wo_cuda_reads_in(int count, const void *data, wo_dtype dtype, int64_t length) {
    return length % count == 0 && (uintptr_t)data % ((size_t)count * wo_dtype_size(dtype)) == 0;
}

static inline int64_t wo_cuda_product_blocks(const wo_cuda_product_tile *tile, int64_t rows, int64_t columns) {
    return ((rows - 1) / tile->rows + 1) * ((columns - 1) / tile->columns + 1);
}

/* The output that all own products have; bias and other may have no data. The caller adds a gate by wo_cuda_gate. */
static inline wo_cuda_output wo_cuda_output_of(const wo_tensor *y, const wo_tensor *bias, const wo_tensor *other, wo_epilogue epilogue) {
    const int64_t columns = y->shape[y->rank - 1];
    const bool in_fours = wo_cuda_reads_in(4, y->data, y->dtype, columns) && wo_cuda_reads_in(4, other->data, y->dtype, columns);
    return (wo_cuda_output){.y = y->data,
                            .bias = bias->data,
                            .other = other->data,
                            .rows = (int32_t)(wo_tensor_count(y) / columns),
                            .columns = (int32_t)columns,
                            .rows_per_gate = 1,
                            .dtype = (int32_t)y->dtype,
                            .epilogue = (int32_t)epilogue,
                            .in_fours = in_fours,
                            .factors_in_fours = wo_cuda_reads_in(4, bias->data, WO_F32, columns)};
}

static inline void wo_cuda_gate(wo_cuda_output *out, const wo_tensor *gate, int64_t rows_per_gate) {
    out->gate = gate->data;
    out->rows_per_gate = (int32_t)(rows_per_gate < INT32_MAX ? rows_per_gate : INT32_MAX);
    out->factors_in_fours = out->factors_in_fours && wo_cuda_reads_in(4, gate->data, WO_F32, out->columns);
}

static inline wo_status wo_cuda_check_product(const char *op, int64_t rows, int64_t columns, int64_t k, wo_error *err) {
    if (rows > WO_CUDA_PRODUCT_LIMIT || columns > WO_CUDA_PRODUCT_LIMIT || k > WO_CUDA_PRODUCT_LIMIT)
        WO_FAIL(err, WO_EUNSUPPORTED, "%s: %lld rows, %lld columns and sums over %lld are more than the cuda device takes in one call (%d each); cut the "
                "call, or use the cpu device", op, (long long)rows, (long long)columns, (long long)k, (int)WO_CUDA_PRODUCT_LIMIT);
    return WO_OK;
}

/* One block for each tile of y. */
static inline wo_status wo_cuda_launch_product(wo_stream *s, const wo_cuda_product_tile *tile, const wo_cuda_output *out, const void *args,
                                               const char *op, wo_error *err) {
    const int64_t blocks = wo_cuda_product_blocks(tile, out->rows, out->columns);
    if (blocks > INT32_MAX)
        WO_FAIL(err, WO_EUNSUPPORTED, "%s: %d rows and %d columns are more than the cuda device takes in one call; cut the call", op, (int)out->rows,
                (int)out->columns);
    return wo_cuda_launch(s, tile->kernel, (wo_cuda_grid){(unsigned)blocks, 1, 1}, tile->threads, 0, args, op, err);
}

#endif
