/* y = epilogue(x w^T + bias): the product kernels with a matrix on the left. */
#include "device/cuda/kernels/product_fma.cuh"
#include "device/cuda/kernels/product_mma.cuh"

typedef product_mma_shape<2, 2, 64, 64, 32, 3> half_shape;
typedef product_mma_shape<2, 2, 16, 16, 64, 6> half_few_shape;
typedef product_fma_shape<4, 2, 8, 8, 16> f32_shape;
typedef product_fma_shape<1, 4, 4, 1, 64> f32_few_shape;

static_assert((int)half_shape::ROWS == WO_CUDA_LINEAR_HALF_ROWS && (int)half_shape::COLUMNS == WO_CUDA_LINEAR_HALF_COLUMNS, "linear.h");
static_assert((int)half_few_shape::ROWS == WO_CUDA_LINEAR_HALF_FEW_ROWS && (int)half_few_shape::COLUMNS == WO_CUDA_LINEAR_HALF_FEW_COLUMNS, "linear.h");
static_assert((int)f32_shape::ROWS == WO_CUDA_LINEAR_F32_ROWS && (int)f32_shape::COLUMNS == WO_CUDA_LINEAR_F32_COLUMNS, "linear.h");
static_assert((int)f32_few_shape::ROWS == WO_CUDA_LINEAR_F32_FEW_ROWS && (int)f32_few_shape::COLUMNS == WO_CUDA_LINEAR_F32_FEW_COLUMNS, "linear.h");
static_assert((int)half_shape::THREADS == WO_CUDA_LINEAR_HALF_THREADS && (int)half_few_shape::THREADS == WO_CUDA_LINEAR_HALF_FEW_THREADS, "linear.h");
static_assert((int)f32_shape::THREADS == WO_CUDA_LINEAR_F32_THREADS && (int)f32_few_shape::THREADS == WO_CUDA_LINEAR_F32_FEW_THREADS, "linear.h");

template <int HALF, class Shape, bool ALIGNED>
TILE_INLINE void linear_half(const wo_cuda_linear_args &a) {
    const product_matrix x = {(const char *)a.x, a.out.rows, a.k, 2}, w = {(const char *)a.w, a.out.columns, a.k, 2};
    product_mma<HALF, Shape, ALIGNED>(x, w, product_place_of_block<Shape::ROWS, Shape::COLUMNS>(a.out), 0, a.out);
}

template <class Shape>
TILE_INLINE void linear_f32(const wo_cuda_linear_args &a) {
    const product_matrix x = {(const char *)a.x, a.out.rows, a.k, a.x_dtype == WO_CUDA_F32 ? 4 : 2};
    const product_matrix w = {(const char *)a.w, a.out.columns, a.k, a.w_dtype == WO_CUDA_F32 ? 4 : 2};
    const product_fma_dtypes dtypes = {a.x_dtype, a.w_dtype, a.x_in_fours != 0, a.w_in_fours != 0};
    product_fma<Shape>(x, w, dtypes, product_place_of_block<Shape::ROWS, Shape::COLUMNS>(a.out), 0, a.out);
}

extern "C" __global__ void __launch_bounds__(half_shape::THREADS, 2) wo_linear_bf16(const __grid_constant__ wo_cuda_linear_args a) {
    linear_half<WO_CUDA_BF16, half_shape, true>(a);
}

extern "C" __global__ void __launch_bounds__(half_few_shape::THREADS) wo_linear_bf16_few(const __grid_constant__ wo_cuda_linear_args a) {
    linear_half<WO_CUDA_BF16, half_few_shape, true>(a);
}

extern "C" __global__ void __launch_bounds__(half_few_shape::THREADS) wo_linear_bf16_ragged(const __grid_constant__ wo_cuda_linear_args a) {
    linear_half<WO_CUDA_BF16, half_few_shape, false>(a);
}

extern "C" __global__ void __launch_bounds__(half_shape::THREADS, 2) wo_linear_f16(const __grid_constant__ wo_cuda_linear_args a) {
    linear_half<WO_CUDA_F16, half_shape, true>(a);
}

extern "C" __global__ void __launch_bounds__(half_few_shape::THREADS) wo_linear_f16_few(const __grid_constant__ wo_cuda_linear_args a) {
    linear_half<WO_CUDA_F16, half_few_shape, true>(a);
}

extern "C" __global__ void __launch_bounds__(half_few_shape::THREADS) wo_linear_f16_ragged(const __grid_constant__ wo_cuda_linear_args a) {
    linear_half<WO_CUDA_F16, half_few_shape, false>(a);
}

extern "C" __global__ void __launch_bounds__(f32_shape::THREADS) wo_linear_f32(const __grid_constant__ wo_cuda_linear_args a) {
    linear_f32<f32_shape>(a);
}

extern "C" __global__ void __launch_bounds__(f32_few_shape::THREADS) wo_linear_f32_few(const __grid_constant__ wo_cuda_linear_args a) {
    linear_f32<f32_few_shape>(a);
}
