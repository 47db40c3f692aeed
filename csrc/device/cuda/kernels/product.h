/* What the products, linear and conv, share: where a kernel leaves the rows that it made. */
#ifndef WO_DEVICE_CUDA_KERNELS_PRODUCT_H
#define WO_DEVICE_CUDA_KERNELS_PRODUCT_H

#include "device/cuda/kernels/scalar.h"

/* Equal to wo_epilogue's numbers (asserted in linear.c). */
enum {
    WO_CUDA_EPILOGUE_NONE = 0,
    WO_CUDA_EPILOGUE_SILU = 1,
    WO_CUDA_EPILOGUE_GELU_TANH = 2,
    WO_CUDA_EPILOGUE_GELU_ERF = 3,
    WO_CUDA_EPILOGUE_MUL = 4,
    WO_CUDA_EPILOGUE_ADD = 5,
    WO_CUDA_EPILOGUE_GATE = 6
};

/* y[rows, columns] = epilogue(sums + bias). All in device memory. */
typedef struct wo_cuda_output {
    void *y;           /* [rows, columns] of dtype */
    const float *bias; /* [columns] or NULL */
    const void *other; /* [rows, columns] of dtype, for MUL, ADD and GATE; ADD and GATE allow y itself */
    const float *gate; /* [(rows - 1) / rows_per_gate + 1, columns], for GATE */
    int32_t rows, columns, rows_per_gate;
    int32_t dtype;     /* WO_CUDA_F32, WO_CUDA_BF16 or WO_CUDA_F16 */
    int32_t epilogue;
    /* columns is a multiple of 4, and four neighbours can be moved at once: of y and other; of bias and gate. */
    int32_t in_fours, factors_in_fours;
} wo_cuda_output;

#endif
