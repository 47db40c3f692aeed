/* Writes the card's clock to host memory, so that stalls are measured without timing events. */
#ifndef WO_DEVICE_CUDA_KERNELS_STAMP_H
#define WO_DEVICE_CUDA_KERNELS_STAMP_H

#include <stdint.h>

typedef struct wo_cuda_stamp_args {
    uint64_t *nanoseconds; /* pinned host memory */
} wo_cuda_stamp_args;

#define WO_CUDA_STAMP_LIST(X) X(stamp, stamp)

#endif
