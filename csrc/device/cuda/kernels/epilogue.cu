/* One sweep over a product: bound by memory, or by the second-level cache where the product still lies there. */
#include "device/cuda/kernels/epilogue.h"
#include "device/cuda/kernels/scalar.cuh"

template <int DTYPE>
WO_INLINE void epilogue_group(const wo_cuda_epilogue_args &a, uint32_t group) {
    const uint32_t groups = a.columns / 4, row = group / groups, column = (group - row * groups) * 4;
    const int64_t at = (int64_t)group * 4;
    float product[4], other[4];
    wo_load_many<WO_CUDA_F32, 4>(a.product, at, product);
    wo_load_many<DTYPE, 4>(a.other, at, other);
    if (a.gate != nullptr) {
        float gate[4];
        wo_load_many<WO_CUDA_F32, 4>(a.gate, (int64_t)((a.first_row + row) / a.rows_per_gate) * a.columns + column, gate);
#pragma unroll
        for (int k = 0; k < 4; k++)
            product[k] = fmaf(product[k], gate[k], other[k]);
    } else {
#pragma unroll
        for (int k = 0; k < 4; k++)
            product[k] *= other[k];
    }
    wo_store_many<DTYPE, 4>(a.y, at, product);
}

extern "C" __global__ void __launch_bounds__(WO_CUDA_EPILOGUE_BLOCK) wo_epilogue(const __grid_constant__ wo_cuda_epilogue_args a) {
    const uint32_t all = a.rows * (a.columns / 4);
#pragma unroll
    for (uint32_t k = 0; k < 4; k++) {
        const uint32_t group = (blockIdx.x * 4 + k) * WO_CUDA_EPILOGUE_BLOCK + threadIdx.x;
        if (group >= all)
            return;
        WO_BY_DTYPE(epilogue_group, a.dtype, a, group);
    }
}
