/* What is left to do with a product that a library made in float32. What the host hands to the kernel; C and CUDA C++. */
#ifndef WO_DEVICE_CUDA_KERNELS_EPILOGUE_H
#define WO_DEVICE_CUDA_KERNELS_EPILOGUE_H

#include "device/cuda/kernels/scalar.h"

/* A thread has 4 groups of 4 neighbours. */
enum { WO_CUDA_EPILOGUE_BLOCK = 256, WO_CUDA_EPILOGUE_CHUNK = WO_CUDA_EPILOGUE_BLOCK * 16 };

/* y = product * other, or with a gate y = other + product * gate. All in device memory, at multiples of 16 bytes (8 for those of 16 bits). */
typedef struct wo_cuda_epilogue_args {
    const float *product; /* [rows, columns] */
    const void *other;    /* [rows, columns] of dtype; may be y */
    const float *gate;    /* [batch, columns]: row r has gate row (first_row + r) / rows_per_gate; or NULL */
    void *y;              /* [rows, columns] of dtype */
    uint32_t rows, columns; /* columns: a multiple of 4; rows * columns is less than 2^32 */
    uint32_t first_row, rows_per_gate;
    int32_t dtype;          /* WO_CUDA_F32, WO_CUDA_BF16 or WO_CUDA_F16 */
} wo_cuda_epilogue_args;

#define WO_CUDA_EPILOGUE_LIST(X) X(epilogue, epilogue)

#endif
