/* Norms of rows: LayerNorm, RMSNorm with rotation, the VAE's L2 norm. What the host hands to the kernels; C and CUDA C++. */
#ifndef WO_DEVICE_CUDA_KERNELS_NORMS_H
#define WO_DEVICE_CUDA_KERNELS_NORMS_H

#include "device/cuda/kernels/scalar.h"

/* A thread keeps WO_CUDA_NORM_HELD elements of its row in registers. `lanes` threads share a row: a power of two up to 32, and then a block of
 * WO_CUDA_NORM_BLOCK threads has WO_CUDA_NORM_BLOCK / lanes rows; or the whole block, some warps, and it has one. A row that is wider than what the
 * threads hold is taken in `segments` and read again in every pass. All of it follows from the width alone. */
enum { WO_CUDA_NORM_HELD = 16, WO_CUDA_NORM_BLOCK = 128 };

typedef struct wo_cuda_norm_rows {
    const void *x;   /* F32, BF16 or F16 [rows, width] */
    void *y;         /* F32, BF16 or F16 [rows, width] */
    uint32_t rows;
    int32_t width, lanes, segments;
    int32_t lane_bits; /* lanes = 2^lane_bits; 10 where they are a block */
    int32_t x_dtype, y_dtype;
    int32_t vectors; /* 1: rows and everything beside them may be read and written 16 bytes of x at a time */
} wo_cuda_norm_rows;

typedef struct wo_cuda_layer_norm_args {
    wo_cuda_norm_rows rows;
    const float *gain, *offset; /* F32 [batches, width]; both NULL: the plain norm. Of row r the batch r / rows_per_batch */
    uint32_t rows_per_batch;
    float one;                  /* added to gain: 1 for a modulation's scale, 0 for a weight */
    float eps;
} wo_cuda_layer_norm_args;

typedef struct wo_cuda_rms_norm_args {
    wo_cuda_norm_rows rows;
    const float *weight;    /* F32 [width] */
    const float *cos, *sin; /* F32 [tokens, head_dim / 2], or NULL: no rotation */
    uint32_t tokens;
    int32_t head_dim;
    int32_t head_step; /* from one group of a thread to the next, within a head */
    float eps;
} wo_cuda_rms_norm_args;

typedef struct wo_cuda_l2_norm_args {
    wo_cuda_norm_rows rows;
    const float *gamma; /* F32 [width] */
    float root;         /* sqrt(width) */
    int32_t silu;
} wo_cuda_l2_norm_args;

/* Those of float16 are kernels of their own, so that those of bfloat16 need no more registers for them. */
#define WO_CUDA_NORMS_LIST(X) \
    X(norms, layer_norm)      \
    X(norms, layer_norm_f16)  \
    X(norms, rms_norm)        \
    X(norms, rms_norm_f16)    \
    X(norms, l2_norm)         \
    X(norms, l2_norm_f16)

#endif
