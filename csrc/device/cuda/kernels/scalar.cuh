/* Single numbers and short vectors of them: widening and narrowing, loads and stores by dtype, and sums over the threads of a row in a fixed
 * order. */
#ifndef WO_DEVICE_CUDA_KERNELS_SCALAR_CUH
#define WO_DEVICE_CUDA_KERNELS_SCALAR_CUH

#include "device/cuda/kernels/scalar.h"

#define WO_INLINE static __device__ __forceinline__

/* --- one number --------------------------------------------------------------------------------------------------------------- */

WO_INLINE float wo_widen_bf16(uint32_t half) {
    return __uint_as_float(half << 16);
}

WO_INLINE float wo_widen_f16(uint32_t half) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"((uint16_t)half));
    return x;
}

/* Two numbers rounded to nearest even, as WO_CUDA_BF16 or as WO_CUDA_F16, in which what is too large becomes infinite; `low` comes first in memory. */
template <int DTYPE>
WO_INLINE uint32_t wo_narrow_pair(float low, float high) {
    uint32_t pair;
    if (DTYPE == WO_CUDA_BF16)
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    else
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

/* --- elements in memory ------------------------------------------------------------------------------------------------------- */

template <int DTYPE>
WO_INLINE float wo_load_one(const void *base, int64_t i) {
    if (DTYPE == WO_CUDA_F32)
        return ((const float *)base)[i];
    uint32_t half = ((const uint16_t *)base)[i];
    return DTYPE == WO_CUDA_BF16 ? wo_widen_bf16(half) : wo_widen_f16(half);
}

template <int DTYPE>
WO_INLINE void wo_store_one(void *base, int64_t i, float value) {
    if (DTYPE == WO_CUDA_F32)
        ((float *)base)[i] = value;
    else
        ((uint16_t *)base)[i] = (uint16_t)wo_narrow_pair<DTYPE>(value, 0.0f);
}

template <int DTYPE>
WO_INLINE void wo_widen_pair(uint32_t pair, float *v) {
    v[0] = DTYPE == WO_CUDA_BF16 ? wo_widen_bf16(pair & 0xffffu) : wo_widen_f16(pair & 0xffffu);
    v[1] = DTYPE == WO_CUDA_BF16 ? __uint_as_float(pair & 0xffff0000u) : wo_widen_f16(pair >> 16);
}

/* COUNT = 4 or 8 elements from element i on, which lies at a multiple of their bytes, or of 16 where they are more. */
template <int DTYPE, int COUNT>
WO_INLINE void wo_load_many(const void *base, int64_t i, float *v) {
    if (DTYPE == WO_CUDA_F32) {
#pragma unroll
        for (int k = 0; k < COUNT; k += 4) {
            float4 four = *(const float4 *)((const float *)base + i + k);
            v[k] = four.x;
            v[k + 1] = four.y;
            v[k + 2] = four.z;
            v[k + 3] = four.w;
        }
    } else if (COUNT == 8) {
        uint4 four = *(const uint4 *)((const uint16_t *)base + i);
        wo_widen_pair<DTYPE>(four.x, v);
        wo_widen_pair<DTYPE>(four.y, v + 2);
        wo_widen_pair<DTYPE>(four.z, v + 4);
        wo_widen_pair<DTYPE>(four.w, v + 6);
    } else {
        uint2 two = *(const uint2 *)((const uint16_t *)base + i);
        wo_widen_pair<DTYPE>(two.x, v);
        wo_widen_pair<DTYPE>(two.y, v + 2);
    }
}

template <int DTYPE, int COUNT>
WO_INLINE void wo_store_many(void *base, int64_t i, const float *v) {
    if (DTYPE == WO_CUDA_F32) {
#pragma unroll
        for (int k = 0; k < COUNT; k += 4)
            *(float4 *)((float *)base + i + k) = make_float4(v[k], v[k + 1], v[k + 2], v[k + 3]);
    } else if (COUNT == 8) {
        uint4 four = make_uint4(wo_narrow_pair<DTYPE>(v[0], v[1]), wo_narrow_pair<DTYPE>(v[2], v[3]), wo_narrow_pair<DTYPE>(v[4], v[5]),
                                wo_narrow_pair<DTYPE>(v[6], v[7]));
        *(uint4 *)((uint16_t *)base + i) = four;
    } else {
        *(uint2 *)((uint16_t *)base + i) = make_uint2(wo_narrow_pair<DTYPE>(v[0], v[1]), wo_narrow_pair<DTYPE>(v[2], v[3]));
    }
}

/* The same in as few steps as alignment (`vectors`) and the end of the array allow; elements from `end` on are 0 and not written. */
template <int DTYPE, int COUNT>
WO_INLINE void wo_load_some(const void *base, int64_t i, int64_t end, bool vectors, float *v) {
    if (vectors && i + COUNT <= end) {
        wo_load_many<DTYPE, COUNT>(base, i, v);
        return;
    }
#pragma unroll
    for (int k = 0; k < COUNT; k++)
        v[k] = i + k < end ? wo_load_one<DTYPE>(base, i + k) : 0.0f;
}

template <int DTYPE, int COUNT>
WO_INLINE void wo_store_some(void *base, int64_t i, int64_t end, bool vectors, const float *v) {
    if (vectors && i + COUNT <= end) {
        wo_store_many<DTYPE, COUNT>(base, i, v);
        return;
    }
#pragma unroll
    for (int k = 0; k < COUNT; k++)
        if (i + k < end)
            wo_store_one<DTYPE>(base, i + k, v[k]);
}

/* Calls body<dtype>(...) for F32, BF16 and F16. */
#define WO_BY_DTYPE(body, dtype, ...)              \
    do {                                           \
        if ((dtype) == WO_CUDA_F32)                \
            body<WO_CUDA_F32>(__VA_ARGS__);        \
        else if ((dtype) == WO_CUDA_BF16)          \
            body<WO_CUDA_BF16>(__VA_ARGS__);       \
        else                                       \
            body<WO_CUDA_F16>(__VA_ARGS__);        \
    } while (0)

/* Calls body<x dtype, y dtype>(...) for F32 and `half`, BF16 or F16: the two meet in no call. */
#define WO_BY_DTYPES(body, half, x_dtype, y_dtype, ...)                \
    do {                                                               \
        if ((x_dtype) == WO_CUDA_F32 && (y_dtype) == WO_CUDA_F32)      \
            body<WO_CUDA_F32, WO_CUDA_F32>(__VA_ARGS__);               \
        else if ((x_dtype) == WO_CUDA_F32)                             \
            body<WO_CUDA_F32, half>(__VA_ARGS__);                      \
        else if ((y_dtype) == WO_CUDA_F32)                             \
            body<half, WO_CUDA_F32>(__VA_ARGS__);                      \
        else                                                           \
            body<half, half>(__VA_ARGS__);                             \
    } while (0)

/* --- sums over threads -------------------------------------------------------------------------------------------------------- */

/* The sum of each v[k] over aligned groups of `lanes` = 1, 2, 4, ... 32 lanes, in every lane: a butterfly, in which both partners add the same two
 * numbers. All lanes of the warp take part. */
template <int COUNT>
WO_INLINE void wo_sum_lanes(float (&v)[COUNT], int lanes) {
    for (int step = lanes / 2; step > 0; step /= 2)
#pragma unroll
        for (int k = 0; k < COUNT; k++)
            v[k] += __shfl_xor_sync(0xffffffffu, v[k], step);
}

/* The same over a row's `lanes` threads: lanes of a warp, or, above 32, the whole block of that many threads, whose warps meet in `meeting`. That
 * is shared memory of this call alone, so that one barrier is enough. */
template <int COUNT>
WO_INLINE void wo_sum_row(float (&v)[COUNT], int lanes, float (*meeting)[32]) {
    wo_sum_lanes<COUNT>(v, lanes < 32 ? lanes : 32);
    if (lanes <= 32)
        return;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = lanes / 32;
#pragma unroll
    for (int k = 0; k < COUNT; k++) {
        if (lane == 0)
            meeting[k][warp] = v[k];
        else if (warp == 0 && lane >= warps)
            meeting[k][lane] = 0.0f; /* of the warps that are not there */
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < COUNT; k++)
        v[k] = meeting[k][lane];
    wo_sum_lanes<COUNT>(v, 32);
}

#endif
