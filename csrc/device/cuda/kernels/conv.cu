/* Convolution: the product kernels with the taps of every pixel on the left. */
#include "device/cuda/kernels/product_fma.cuh"
#include "device/cuda/kernels/product_mma.cuh"

typedef product_mma_shape<2, 2, 64, 48, 32, 3> half_shape;
typedef product_mma_shape<4, 1, 32, 32, 32, 4> half_narrow_shape;
typedef product_fma_shape<4, 2, 8, 6, 16> f32_shape;
typedef product_fma_shape<4, 1, 8, 4, 16> f32_narrow_shape;

static_assert((int)half_shape::ROWS == WO_CUDA_CONV_ROWS && (int)half_narrow_shape::ROWS == WO_CUDA_CONV_ROWS, "conv.h");
static_assert((int)f32_shape::ROWS == WO_CUDA_CONV_ROWS && (int)f32_narrow_shape::ROWS == WO_CUDA_CONV_ROWS, "conv.h");
static_assert((int)half_shape::COLUMNS == WO_CUDA_CONV_COLUMNS && (int)f32_shape::COLUMNS == WO_CUDA_CONV_COLUMNS, "conv.h");
static_assert((int)half_narrow_shape::COLUMNS == WO_CUDA_CONV_NARROW_COLUMNS && (int)f32_narrow_shape::COLUMNS == WO_CUDA_CONV_NARROW_COLUMNS, "conv.h");
static_assert((int)half_shape::THREADS == WO_CUDA_CONV_HALF_THREADS && (int)half_narrow_shape::THREADS == WO_CUDA_CONV_HALF_THREADS, "conv.h");
static_assert((int)f32_shape::THREADS == WO_CUDA_CONV_F32_THREADS && (int)f32_narrow_shape::THREADS == WO_CUDA_CONV_F32_NARROW_THREADS, "conv.h");

/* The first k of a tile of rows, at a whole number of steps along k. */
template <class Shape>
TILE_INLINE int first_k(const product_taps &x, const product_place &place) {
    return x.first_k(place.row + Shape::ROWS - 1) / Shape::DEPTH * Shape::DEPTH;
}

template <int HALF, class Shape, bool ALIGNED>
TILE_INLINE void conv_half(const wo_cuda_conv_args &a) {
    const product_taps x = {a, 2};
    const product_matrix w = {(const char *)a.w, a.out.columns, a.kt * a.kh * a.kw * a.channels, 2};
    const product_place place = product_place_of_block<Shape::ROWS, Shape::COLUMNS>(a.out);
    product_mma<HALF, Shape, ALIGNED>(x, w, place, first_k<Shape>(x, place), a.out);
}

template <class Shape>
TILE_INLINE void conv_f32(const wo_cuda_conv_args &a) {
    const product_taps x = {a, a.x_dtype == WO_CUDA_F32 ? 4 : 2};
    const product_matrix w = {(const char *)a.w, a.out.columns, a.kt * a.kh * a.kw * a.channels, a.w_dtype == WO_CUDA_F32 ? 4 : 2};
    const product_fma_dtypes dtypes = {a.x_dtype, a.w_dtype, a.x_in_fours != 0, a.w_in_fours != 0};
    const product_place place = product_place_of_block<Shape::ROWS, Shape::COLUMNS>(a.out);
    product_fma<Shape>(x, w, dtypes, place, first_k<Shape>(x, place), a.out);
}

extern "C" __global__ void __launch_bounds__(half_shape::THREADS, 2) wo_conv_bf16(const __grid_constant__ wo_cuda_conv_args a) {
    conv_half<WO_CUDA_BF16, half_shape, true>(a);
}

extern "C" __global__ void __launch_bounds__(half_narrow_shape::THREADS) wo_conv_bf16_narrow(const __grid_constant__ wo_cuda_conv_args a) {
    conv_half<WO_CUDA_BF16, half_narrow_shape, true>(a);
}

extern "C" __global__ void __launch_bounds__(half_shape::THREADS) wo_conv_bf16_ragged(const __grid_constant__ wo_cuda_conv_args a) {
    conv_half<WO_CUDA_BF16, half_shape, false>(a);
}

extern "C" __global__ void __launch_bounds__(half_shape::THREADS, 2) wo_conv_f16(const __grid_constant__ wo_cuda_conv_args a) {
    conv_half<WO_CUDA_F16, half_shape, true>(a);
}

extern "C" __global__ void __launch_bounds__(half_narrow_shape::THREADS) wo_conv_f16_narrow(const __grid_constant__ wo_cuda_conv_args a) {
    conv_half<WO_CUDA_F16, half_narrow_shape, true>(a);
}

extern "C" __global__ void __launch_bounds__(half_shape::THREADS) wo_conv_f16_ragged(const __grid_constant__ wo_cuda_conv_args a) {
    conv_half<WO_CUDA_F16, half_shape, false>(a);
}

extern "C" __global__ void __launch_bounds__(f32_shape::THREADS) wo_conv_f32(const __grid_constant__ wo_cuda_conv_args a) {
    conv_f32<f32_shape>(a);
}

extern "C" __global__ void __launch_bounds__(f32_narrow_shape::THREADS) wo_conv_f32_narrow(const __grid_constant__ wo_cuda_conv_args a) {
    conv_f32<f32_narrow_shape>(a);
}
