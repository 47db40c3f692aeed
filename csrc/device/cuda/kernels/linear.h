/* y = epilogue(x w^T + bias). One order of sums for the products of bfloat16 and of float16, and one for all others, whatever the tile. */
#ifndef WO_DEVICE_CUDA_KERNELS_LINEAR_H
#define WO_DEVICE_CUDA_KERNELS_LINEAR_H

#include "device/cuda/kernels/product.h"

typedef struct wo_cuda_linear_args {
    const void *x;   /* [out.rows, k] of x_dtype */
    const void *w;   /* [out.columns, k] of w_dtype */
    int32_t k, x_dtype, w_dtype;
    int32_t x_in_fours, w_in_fours; /* k is a multiple of 4, and four neighbours can be read at once; for the float32 kernels */
    wo_cuda_output out;
} wo_cuda_linear_args;

/* Rows and columns of the tile that a block makes, and its threads. `bf16` and `f16` entries take x and w in that dtype; all but the ragged ones want
 * rows of whole 16-byte chunks, 16-byte aligned. `f32` entries take every dtype and sum in float32 without tensor cores. */
enum {
    WO_CUDA_LINEAR_HALF_ROWS = 128, WO_CUDA_LINEAR_HALF_COLUMNS = 128, WO_CUDA_LINEAR_HALF_THREADS = 128,
    WO_CUDA_LINEAR_HALF_FEW_ROWS = 32, WO_CUDA_LINEAR_HALF_FEW_COLUMNS = 32, WO_CUDA_LINEAR_HALF_FEW_THREADS = 128,
    WO_CUDA_LINEAR_F32_ROWS = 128, WO_CUDA_LINEAR_F32_COLUMNS = 128, WO_CUDA_LINEAR_F32_THREADS = 256,
    WO_CUDA_LINEAR_F32_FEW_ROWS = 16, WO_CUDA_LINEAR_F32_FEW_COLUMNS = 32, WO_CUDA_LINEAR_F32_FEW_THREADS = 128
};

#define WO_CUDA_LINEAR_LIST(X)    \
    X(linear, linear_bf16)        \
    X(linear, linear_bf16_few)    \
    X(linear, linear_bf16_ragged) \
    X(linear, linear_f16)         \
    X(linear, linear_f16_few)     \
    X(linear, linear_f16_ragged)  \
    X(linear, linear_f32)         \
    X(linear, linear_f32_few)

#endif
