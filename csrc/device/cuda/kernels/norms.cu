/* Norms of rows. Bound by memory: a row is read once, stays in registers between the passes, and is written once. Which threads own which elements
 * of a row depends on its width alone, and so does the order of every sum.
 *
 * The lanes of a row take turns: in group g of segment s, lane t has the V elements from ((s * GROUPS + g) * lanes + t) * V on, V elements of x
 * being 16 bytes. */
#include "device/cuda/kernels/norms.h"
#include "device/cuda/kernels/activation.cuh"
#include "device/cuda/kernels/scalar.cuh"

enum { HELD = WO_CUDA_NORM_HELD };

/* What one body is compiled for. Without VECTORS every element is accessed alone, in the same order. */
template <int X_DTYPE, int Y_DTYPE, bool ALIGNED>
struct kind {
    enum {
        X = X_DTYPE,
        Y = Y_DTYPE,
        VECTORS = ALIGNED,
        X_BYTES = X_DTYPE == WO_CUDA_F32 ? 4 : 2,
        Y_BYTES = Y_DTYPE == WO_CUDA_F32 ? 4 : 2,
        V = 16 / X_BYTES,
        GROUPS = HELD / V
    };
};

/* The part of a thread in its row. Threads of a last block that have no row follow the last one, because sums need every lane, and write
 * nothing. */
struct place {
    int64_t row;
    int lane;
    bool live;
};

WO_INLINE place place_of(const wo_cuda_norm_rows &a) {
    place p;
    int per_block = a.lanes <= 32 ? WO_CUDA_NORM_BLOCK / a.lanes : 1;
    p.row = (int64_t)blockIdx.x * per_block + threadIdx.x / (unsigned)a.lanes;
    p.lane = threadIdx.x % (unsigned)a.lanes;
    p.live = p.row < a.rows;
    p.row = p.live ? p.row : a.rows - 1;
    return p;
}

template <class K>
WO_INLINE int column_of(const wo_cuda_norm_rows &a, const place &p, int segment, int group) {
    return ((segment * K::GROUPS + group) * a.lanes + p.lane) * K::V;
}

/* V elements of a row from `column` on; those behind the row become 0. With VECTORS a row is a whole number of groups. */
template <class K, int DTYPE>
WO_INLINE void load_group(const wo_cuda_norm_rows &a, const void *row, int column, float *v) {
    if (!K::VECTORS) {
        wo_load_some<DTYPE, K::V>(row, column, a.width, false, v);
    } else if (column < a.width) {
        wo_load_many<DTYPE, K::V>(row, column, v);
    } else {
#pragma unroll
        for (int k = 0; k < K::V; k++)
            v[k] = 0.0f;
    }
}

template <class K>
WO_INLINE void load_segment(const wo_cuda_norm_rows &a, const place &p, int segment, float (&v)[HELD]) {
    const char *x = (const char *)a.x + p.row * a.width * K::X_BYTES;
#pragma unroll
    for (int g = 0; g < K::GROUPS; g++)
        load_group<K, K::X>(a, x, column_of<K>(a, p, segment, g), v + g * K::V);
}

template <class K>
WO_INLINE void store_group(const wo_cuda_norm_rows &a, const place &p, int column, const float *v) {
    char *y = (char *)a.y + p.row * a.width * K::Y_BYTES;
    if (p.live && column < a.width)
        wo_store_some<K::Y, K::V>(y, column, K::VECTORS ? column + K::V : a.width, K::VECTORS, v);
}

/* Calls body<kind>(...) with the kind of the rows. */
#define BY_KIND(body, rows, ...)                                                          \
    do {                                                                                  \
        if ((rows).x_dtype == WO_CUDA_F32 && (rows).y_dtype == WO_CUDA_F32)               \
            BY_ALIGNMENT(body, WO_CUDA_F32, WO_CUDA_F32, rows, __VA_ARGS__);              \
        else if ((rows).x_dtype == WO_CUDA_F32)                                           \
            BY_ALIGNMENT(body, WO_CUDA_F32, WO_CUDA_BF16, rows, __VA_ARGS__);             \
        else if ((rows).y_dtype == WO_CUDA_F32)                                           \
            BY_ALIGNMENT(body, WO_CUDA_BF16, WO_CUDA_F32, rows, __VA_ARGS__);             \
        else                                                                              \
            BY_ALIGNMENT(body, WO_CUDA_BF16, WO_CUDA_BF16, rows, __VA_ARGS__);            \
    } while (0)
#define BY_ALIGNMENT(body, x_dtype, y_dtype, rows, ...)                                   \
    do {                                                                                  \
        if ((rows).vectors)                                                               \
            body<kind<x_dtype, y_dtype, true>>(__VA_ARGS__);                              \
        else                                                                              \
            body<kind<x_dtype, y_dtype, false>>(__VA_ARGS__);                             \
    } while (0)

/* --- LayerNorm ---------------------------------------------------------------------------------------------------------------- */

/* The mean, and 1 / sqrt(variance + eps). The variance is that of the differences from the mean, never E[x^2] - mean^2, which loses everything
 * when the mean is large. The sum of the differences is what rounding left in the mean, and is taken out. */
template <class K>
WO_INLINE void mean_and_factor(const wo_cuda_layer_norm_args &a, const place &p, float (&v)[HELD], float &mean,
                               float &factor, float (*meeting)[32]) {
    float total[1] = {0.0f}, rest[2] = {0.0f, 0.0f}, width = (float)a.rows.width;
    for (int s = 0; s < a.rows.segments; s++) {
        load_segment<K>(a.rows, p, s, v);
#pragma unroll
        for (int k = 0; k < HELD; k++)
            total[0] += v[k];
    }
    wo_sum_row<1>(total, a.rows.lanes, meeting);
    mean = total[0] / width;
    for (int s = 0; s < a.rows.segments; s++) {
        if (a.rows.segments > 1)
            load_segment<K>(a.rows, p, s, v);
#pragma unroll
        for (int k = 0; k < HELD; k++) {
            bool inside = column_of<K>(a.rows, p, s, k / K::V) + k % K::V < a.rows.width;
            float difference = inside ? v[k] - mean : 0.0f;
            rest[0] += difference;
            rest[1] = fmaf(difference, difference, rest[1]);
        }
    }
    wo_sum_row<2>(rest, a.rows.lanes, meeting + 1);
    rest[0] /= width;
    mean += rest[0];
    factor = 1.0f / sqrtf(fmaxf(rest[1] / width - rest[0] * rest[0], 0.0f) + a.eps);
}

template <class K>
WO_INLINE void layer_norm_row(const wo_cuda_layer_norm_args &a, float (*meeting)[32]) {
    place p = place_of(a.rows);
    float v[HELD], mean, factor;
    mean_and_factor<K>(a, p, v, mean, factor, meeting);
    int64_t batch = (uint32_t)p.row / a.rows_per_batch * (int64_t)a.rows.width;
    for (int s = 0; s < a.rows.segments; s++) {
        if (a.rows.segments > 1)
            load_segment<K>(a.rows, p, s, v);
#pragma unroll
        for (int g = 0; g < K::GROUPS; g++) {
            int column = column_of<K>(a.rows, p, s, g);
            float *y = v + g * K::V, gain[K::V], offset[K::V];
            if (a.gain != nullptr) {
                load_group<K, WO_CUDA_F32>(a.rows, a.gain + batch, column, gain);
                load_group<K, WO_CUDA_F32>(a.rows, a.offset + batch, column, offset);
            }
#pragma unroll
            for (int k = 0; k < K::V; k++) {
                y[k] = (y[k] - mean) * factor;
                y[k] = a.gain != nullptr ? fmaf(y[k], gain[k] + a.one, offset[k]) : y[k];
            }
            store_group<K>(a.rows, p, column, y);
        }
    }
}

extern "C" __global__ void __launch_bounds__(1024) wo_layer_norm(const __grid_constant__ wo_cuda_layer_norm_args a) {
    __shared__ float meeting[3][32];
    BY_KIND(layer_norm_row, a.rows, a, meeting);
}

/* --- RMSNorm, and the rotation of queries and keys ------------------------------------------------------------------------------ */

template <class K>
WO_INLINE float sum_of_squares(const wo_cuda_norm_rows &a, const place &p, float (&v)[HELD], float (*meeting)[32]) {
    float sum[1] = {0.0f};
    for (int s = 0; s < a.segments; s++) {
        load_segment<K>(a, p, s, v);
#pragma unroll
        for (int k = 0; k < HELD; k++)
            sum[0] = fmaf(v[k], v[k], sum[0]);
    }
    wo_sum_row<1>(sum, a.lanes, meeting);
    return sum[0];
}

/* The cosines, or sines, of the V / 2 pairs from `column` on; table is the token's row. With VECTORS the pairs are of one
 * head. */
template <class K>
WO_INLINE void load_angles(const wo_cuda_rms_norm_args &a, const float *table, int column, float *angles) {
    if (K::VECTORS && K::V == 8) {
        wo_load_many<WO_CUDA_F32, 4>(table, column % a.head_dim / 2, angles);
    } else if (K::VECTORS) {
        float2 two = *(const float2 *)(table + column % a.head_dim / 2);
        angles[0] = two.x;
        angles[1] = two.y;
    } else {
#pragma unroll
        for (int k = 0; k < K::V / 2; k++)
            angles[k] = table[(column + 2 * k) % a.head_dim / 2];
    }
}

template <class K>
WO_INLINE void rotate(const wo_cuda_rms_norm_args &a, const place &p, int column, float *y) {
    float cos[K::V / 2], sin[K::V / 2];
    int64_t token = (uint32_t)p.row % a.tokens * (int64_t)(a.head_dim / 2);
    load_angles<K>(a, a.cos + token, column, cos);
    load_angles<K>(a, a.sin + token, column, sin);
#pragma unroll
    for (int k = 0; k < K::V / 2; k++) {
        float even = y[2 * k], odd = y[2 * k + 1];
        y[2 * k] = fmaf(even, cos[k], -(odd * sin[k]));
        y[2 * k + 1] = fmaf(odd, cos[k], even * sin[k]);
    }
}

template <class K>
WO_INLINE void rms_norm_row(const wo_cuda_rms_norm_args &a, float (*meeting)[32]) {
    place p = place_of(a.rows);
    float v[HELD];
    float factor = 1.0f / sqrtf(sum_of_squares<K>(a.rows, p, v, meeting) / (float)a.rows.width + a.eps);
    for (int s = 0; s < a.rows.segments; s++) {
        if (a.rows.segments > 1)
            load_segment<K>(a.rows, p, s, v);
#pragma unroll
        for (int g = 0; g < K::GROUPS; g++) {
            int column = column_of<K>(a.rows, p, s, g);
            float *y = v + g * K::V, weight[K::V];
            if (column >= a.rows.width)
                continue;
            load_group<K, WO_CUDA_F32>(a.rows, a.weight, column, weight);
#pragma unroll
            for (int k = 0; k < K::V; k++)
                y[k] = y[k] * factor * weight[k];
            if (a.cos != nullptr)
                rotate<K>(a, p, column, y);
            store_group<K>(a.rows, p, column, y);
        }
    }
}

extern "C" __global__ void __launch_bounds__(1024) wo_rms_norm(const __grid_constant__ wo_cuda_rms_norm_args a) {
    __shared__ float meeting[1][32];
    BY_KIND(rms_norm_row, a.rows, a, meeting);
}

/* --- the VAE's norm over the channels of a pixel, with silu ---------------------------------------------------------------------- */

template <class K>
WO_INLINE void l2_norm_row(const wo_cuda_l2_norm_args &a, float (*meeting)[32]) {
    place p = place_of(a.rows);
    float v[HELD];
    float factor = a.root / fmaxf(sqrtf(sum_of_squares<K>(a.rows, p, v, meeting)), 1e-12f);
    for (int s = 0; s < a.rows.segments; s++) {
        if (a.rows.segments > 1)
            load_segment<K>(a.rows, p, s, v);
#pragma unroll
        for (int g = 0; g < K::GROUPS; g++) {
            int column = column_of<K>(a.rows, p, s, g);
            float *y = v + g * K::V, gamma[K::V];
            if (column >= a.rows.width)
                continue;
            load_group<K, WO_CUDA_F32>(a.rows, a.gamma, column, gamma);
#pragma unroll
            for (int k = 0; k < K::V; k++) {
                y[k] = y[k] * factor * gamma[k];
                y[k] = a.silu ? activation_silu(y[k]) : y[k];
            }
            store_group<K>(a.rows, p, column, y);
        }
    }
}

extern "C" __global__ void __launch_bounds__(1024) wo_l2_norm(const __grid_constant__ wo_cuda_l2_norm_args a) {
    __shared__ float meeting[1][32];
    BY_KIND(l2_norm_row, a.rows, a, meeting);
}
