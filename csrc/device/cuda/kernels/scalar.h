/* What host and device code of the kernels share: dtypes as numbers. */
#ifndef WO_DEVICE_CUDA_KERNELS_SCALAR_H
#define WO_DEVICE_CUDA_KERNELS_SCALAR_H

#include <stdint.h>

/* Equal to wo_dtype's numbers (asserted in launch.c; the last two, which only rest in files, in elementwise.c). */
enum { WO_CUDA_F32 = 0, WO_CUDA_BF16 = 1, WO_CUDA_F16 = 2, WO_CUDA_F64 = 3, WO_CUDA_F8_E4M3 = 4 };

#endif
