/* How the ops of this folder cut their work into blocks. */
#ifndef WO_DEVICE_CUDA_GRID_H
#define WO_DEVICE_CUDA_GRID_H

#include "device/cuda/internal.h"

#define WO_CUDA_MAX_BLOCKS ((int64_t)0x7fffffff)

/* A grid of one axis with a block for each per_block of count. A count that no grid has blocks for is an error that names the op. */
static inline wo_status wo_cuda_blocks(const char *op, int64_t count, int64_t per_block, wo_cuda_grid *out, wo_error *err) {
    int64_t blocks = count / per_block + (count % per_block != 0);
    if (blocks > WO_CUDA_MAX_BLOCKS)
        WO_FAIL(err, WO_EUNSUPPORTED, "%s: %lld elements or rows are more than the cuda device takes in one call (%lld); cut the call", op,
                (long long)count, (long long)(WO_CUDA_MAX_BLOCKS * per_block));
    *out = (wo_cuda_grid){(unsigned)blocks, 1, 1};
    return WO_OK;
}

/* Whether 16 bytes may be accessed at once from p on; a tensor that is not there hinders nothing. */
static inline bool wo_cuda_aligned(const void *p) {
    return (uintptr_t)p % 16 == 0;
}

#endif
