/* The kernels by module; a module is one .cu file and one fatbin. Each entry X(module, entry) is a kernel extern "C" wo_ENTRY in MODULE.cu with one
 * parameter, `const __grid_constant__ wo_cuda_ENTRYs_args a` or the struct that its header names. Seen by C and by nvcc. */
#ifndef WO_DEVICE_CUDA_KERNELS_LIST_H
#define WO_DEVICE_CUDA_KERNELS_LIST_H

#include "device/cuda/kernels/attention.h"
#include "device/cuda/kernels/conv.h"
#include "device/cuda/kernels/elementwise.h"
#include "device/cuda/kernels/epilogue.h"
#include "device/cuda/kernels/layouts.h"
#include "device/cuda/kernels/linear.h"
#include "device/cuda/kernels/norms.h"
#include "device/cuda/kernels/stamp.h"

#define WO_CUDA_MODULE_LIST(X) X(attention) X(conv) X(elementwise) X(epilogue) X(layouts) X(linear) X(norms) X(stamp)

#define WO_CUDA_KERNEL_LIST(X)   \
    WO_CUDA_ATTENTION_LIST(X)    \
    WO_CUDA_CONV_LIST(X)         \
    WO_CUDA_ELEMENTWISE_LIST(X)  \
    WO_CUDA_EPILOGUE_LIST(X)     \
    WO_CUDA_LAYOUTS_LIST(X)      \
    WO_CUDA_LINEAR_LIST(X)       \
    WO_CUDA_NORMS_LIST(X)        \
    WO_CUDA_STAMP_LIST(X)

typedef enum wo_cuda_module {
#define WO_CUDA_MODULE_ENUM(module) WO_CUDA_MODULE_##module,
    WO_CUDA_MODULE_LIST(WO_CUDA_MODULE_ENUM)
#undef WO_CUDA_MODULE_ENUM
        WO_CUDA_MODULES
} wo_cuda_module;

#endif
