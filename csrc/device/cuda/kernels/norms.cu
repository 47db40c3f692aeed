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
    const char *x;
    char *y;
    uint32_t row;
    int first, stride; /* the column of group 0, and from one group to the next */
    int width, end;    /* columns that are there, and those that this thread may write: all or none */
};

/* Left to itself, the compiler computes an address anew in each branch that uses it. */
template <class T>
WO_INLINE void keep(T *&address) {
    asm volatile("" : "+l"(address));
    __builtin_assume(__isGlobal(address));
}

template <class K>
WO_INLINE place place_of(const wo_cuda_norm_rows &a) {
    place p;
    uint32_t per_block = max(WO_CUDA_NORM_BLOCK >> a.lane_bits, 1), row = blockIdx.x * per_block + (threadIdx.x >> a.lane_bits);
    p.width = a.width;
    p.end = row < a.rows ? a.width : 0;
    p.row = min(row, a.rows - 1);
    p.first = (threadIdx.x & ((1u << a.lane_bits) - 1u)) * K::V;
    p.stride = a.lanes * K::V;
    p.x = (const char *)a.x + (uint64_t)p.row * (uint32_t)(a.width * K::X_BYTES);
    p.y = (char *)a.y + (uint64_t)p.row * (uint32_t)(a.width * K::Y_BYTES);
    keep(p.x);
    keep(p.y);
    return p;
}

/* V elements of a row from `column` on; those behind the row become 0. With VECTORS a row is a whole number of groups. */
template <class K, int DTYPE>
WO_INLINE void load_group(const void *row, int column, int width, float *v) {
    if (!K::VECTORS) {
        wo_load_some<DTYPE, K::V>(row, column, width, false, v);
    } else if (column < width) {
        wo_load_many<DTYPE, K::V>(row, column, v);
    } else {
#pragma unroll
        for (int k = 0; k < K::V; k++)
            v[k] = 0.0f;
    }
}

template <class K>
WO_INLINE void load_segment(const place &p, int segment, float (&v)[HELD]) {
#pragma unroll
    for (int g = 0; g < K::GROUPS; g++)
        load_group<K, K::X>(p.x, p.first + (segment * K::GROUPS + g) * p.stride, p.width, v + g * K::V);
}

template <class K>
WO_INLINE void store_group(const place &p, int column, const float *v) {
    if (K::VECTORS)
        wo_store_many<K::Y, K::V>(p.y, column, v);
    else
        wo_store_some<K::Y, K::V>(p.y, column, p.end, false, v);
}

/* Calls body<kind>(...) with the kind of the rows, which are of F32 and `half`. */
#define BY_KIND(body, half, rows, ...)                                                    \
    do {                                                                                  \
        if ((rows).x_dtype == WO_CUDA_F32 && (rows).y_dtype == WO_CUDA_F32)               \
            BY_ALIGNMENT(body, WO_CUDA_F32, WO_CUDA_F32, rows, __VA_ARGS__);              \
        else if ((rows).x_dtype == WO_CUDA_F32)                                           \
            BY_ALIGNMENT(body, WO_CUDA_F32, half, rows, __VA_ARGS__);                     \
        else if ((rows).y_dtype == WO_CUDA_F32)                                           \
            BY_ALIGNMENT(body, half, WO_CUDA_F32, rows, __VA_ARGS__);                     \
        else                                                                              \
            BY_ALIGNMENT(body, half, half, rows, __VA_ARGS__);                            \
    } while (0)
#define BY_ALIGNMENT(body, x_dtype, y_dtype, rows, ...)                                   \
    do {                                                                                  \
        if ((rows).vectors)                                                               \
            body<kind<x_dtype, y_dtype, true>>(__VA_ARGS__);                              \
        else                                                                              \
            body<kind<x_dtype, y_dtype, false>>(__VA_ARGS__);                             \
    } while (0)

/* --- LayerNorm ---------------------------------------------------------------------------------------------------------------- */

/* The mean is mean + rest: a float32 near 30 cannot be nearer than 1e-6, and differences of 0.1 would show that. */
struct moments {
    float mean, rest, factor; /* factor = 1 / sqrt(variance + eps) */
};

/* Adds the differences from the mean and their squares; not those of the zeros behind the row. */
template <class K>
WO_INLINE void add_differences(int width, int column, const float *v, float mean, float (&sums)[2]) {
    if (column >= width)
        return;
#pragma unroll
    for (int k = 0; k < K::V; k++) {
        float difference = K::VECTORS || column + k < width ? v[k] - mean : 0.0f;
        sums[0] += difference;
        sums[1] = fmaf(difference, difference, sums[1]);
    }
}

/* The variance is that of the differences from the mean, never E[x^2] - mean^2, which loses everything when the mean is large. The sum of the
 * differences is what rounding left in the mean. */
template <class K>
WO_INLINE moments moments_of(const wo_cuda_layer_norm_args &a, const place &p, float (&v)[HELD], float (*meeting)[32]) {
    float total[1] = {0.0f}, rest[2] = {0.0f, 0.0f}, width = (float)a.rows.width;
#pragma unroll 1
    for (int s = 0; s < a.rows.segments; s++) {
        load_segment<K>(p, s, v);
#pragma unroll
        for (int k = 0; k < HELD; k++)
            total[0] += v[k];
    }
    wo_sum_row<1>(total, a.rows.lanes, meeting);
    float mean = total[0] / width;
#pragma unroll 1
    for (int s = 0; s < a.rows.segments; s++) {
        if (a.rows.segments > 1)
            load_segment<K>(p, s, v);
#pragma unroll
        for (int g = 0; g < K::GROUPS; g++)
            add_differences<K>(p.width, p.first + (s * K::GROUPS + g) * p.stride, v + g * K::V, mean, rest);
    }
    wo_sum_row<2>(rest, a.rows.lanes, meeting + 1);
    moments m = {mean, rest[0] / width, 0.0f};
    m.factor = 1.0f / sqrtf(fmaxf(fmaf(-m.rest, m.rest, rest[1] / width), 0.0f) + a.eps);
    return m;
}

template <class K>
WO_INLINE void layer_norm_row(const wo_cuda_layer_norm_args &a, float (*meeting)[32]) {
    place p = place_of<K>(a.rows);
    float v[HELD];
    moments m = moments_of<K>(a, p, v, meeting);
    int64_t batch = (int64_t)(p.row / a.rows_per_batch) * p.width;
    const float *gains = a.gain + batch, *offsets = a.offset + batch; /* the row's own, if any */
    keep(gains);
    keep(offsets);
#pragma unroll 1
    for (int s = 0; s < a.rows.segments; s++) {
        if (a.rows.segments > 1)
            load_segment<K>(p, s, v);
#pragma unroll
        for (int g = 0; g < K::GROUPS; g++) {
            int column = p.first + (s * K::GROUPS + g) * p.stride;
            float *y = v + g * K::V, gain[K::V], offset[K::V];
            if (column >= p.end)
                continue;
#pragma unroll
            for (int k = 0; k < K::V; k++)
                y[k] = (y[k] - m.mean - m.rest) * m.factor;
            if (a.gain != nullptr) {
                load_group<K, WO_CUDA_F32>(gains, column, p.end, gain);
                load_group<K, WO_CUDA_F32>(offsets, column, p.end, offset);
#pragma unroll
                for (int k = 0; k < K::V; k++)
                    y[k] = fmaf(y[k], gain[k] + a.one, offset[k]);
            }
            store_group<K>(p, column, y);
        }
    }
}

extern "C" __global__ void __launch_bounds__(1024) wo_layer_norm(const __grid_constant__ wo_cuda_layer_norm_args a) {
    __shared__ float meeting[3][32];
    BY_KIND(layer_norm_row, WO_CUDA_BF16, a.rows, a, meeting);
}

extern "C" __global__ void __launch_bounds__(1024) wo_layer_norm_f16(const __grid_constant__ wo_cuda_layer_norm_args a) {
    __shared__ float meeting[3][32];
    BY_KIND(layer_norm_row, WO_CUDA_F16, a.rows, a, meeting);
}

/* --- RMSNorm, and the rotation of queries and keys ------------------------------------------------------------------------------ */

template <class K>
WO_INLINE float sum_of_squares(const wo_cuda_norm_rows &a, const place &p, float (&v)[HELD], float (*meeting)[32]) {
    float sum[1] = {0.0f};
#pragma unroll 1
    for (int s = 0; s < a.segments; s++) {
        load_segment<K>(p, s, v);
#pragma unroll
        for (int k = 0; k < HELD; k++)
            sum[0] = fmaf(v[k], v[k], sum[0]);
    }
    wo_sum_row<1>(sum, a.lanes, meeting);
    return sum[0];
}

/* Where a row's angles are: the tables' rows of its token, and the column within the head of the group at hand. */
struct angles {
    const float *cos, *sin;
    int column;
};

template <class K>
WO_INLINE angles angles_of(const wo_cuda_rms_norm_args &a, const place &p) {
    int64_t token = (int64_t)(p.row % a.tokens) * (a.head_dim / 2);
    angles t = {a.cos + token, a.sin + token, (int)((unsigned)p.first % (unsigned)a.head_dim)};
    keep(t.cos);
    keep(t.sin);
    return t;
}

/* The cosines, or sines, of the V / 2 pairs of a group. With VECTORS they are of one head. */
template <class K>
WO_INLINE void load_angles(const wo_cuda_rms_norm_args &a, const float *table, int column, float *v) {
    if (K::VECTORS && K::V == 8) {
        wo_load_many<WO_CUDA_F32, 4>(table, column / 2, v);
    } else if (K::VECTORS) {
        float2 two = *(const float2 *)(table + column / 2);
        v[0] = two.x;
        v[1] = two.y;
    } else {
#pragma unroll
        for (int k = 0; k < K::V / 2; k++)
            v[k] = table[(column + 2 * k) % a.head_dim / 2];
    }
}

template <class K>
WO_INLINE void rotate(const wo_cuda_rms_norm_args &a, const angles &t, float *y) {
    float cos[K::V / 2], sin[K::V / 2];
    load_angles<K>(a, t.cos, t.column, cos);
    load_angles<K>(a, t.sin, t.column, sin);
#pragma unroll
    for (int k = 0; k < K::V / 2; k++) {
        float even = y[2 * k], odd = y[2 * k + 1];
        y[2 * k] = fmaf(even, cos[k], -(odd * sin[k]));
        y[2 * k + 1] = fmaf(odd, cos[k], even * sin[k]);
    }
}

template <class K>
WO_INLINE void rms_norm_row(const wo_cuda_rms_norm_args &a, float (*meeting)[32]) {
    place p = place_of<K>(a.rows);
    float v[HELD];
    float factor = 1.0f / sqrtf(sum_of_squares<K>(a.rows, p, v, meeting) / (float)a.rows.width + a.eps);
    angles t = angles_of<K>(a, p);
#pragma unroll 1
    for (int s = 0; s < a.rows.segments; s++) {
        if (a.rows.segments > 1)
            load_segment<K>(p, s, v);
#pragma unroll
        for (int g = 0; g < K::GROUPS; g++) {
            int column = p.first + (s * K::GROUPS + g) * p.stride;
            float *y = v + g * K::V, weight[K::V];
            if (column < p.end) {
                load_group<K, WO_CUDA_F32>(a.weight, column, p.end, weight);
#pragma unroll
                for (int k = 0; k < K::V; k++)
                    y[k] = y[k] * factor * weight[k];
                if (a.cos != nullptr)
                    rotate<K>(a, t, y);
                store_group<K>(p, column, y);
            }
            t.column += a.head_step;
            t.column -= t.column >= a.head_dim ? a.head_dim : 0;
        }
    }
}

extern "C" __global__ void __launch_bounds__(1024) wo_rms_norm(const __grid_constant__ wo_cuda_rms_norm_args a) {
    __shared__ float meeting[1][32];
    BY_KIND(rms_norm_row, WO_CUDA_BF16, a.rows, a, meeting);
}

extern "C" __global__ void __launch_bounds__(1024) wo_rms_norm_f16(const __grid_constant__ wo_cuda_rms_norm_args a) {
    __shared__ float meeting[1][32];
    BY_KIND(rms_norm_row, WO_CUDA_F16, a.rows, a, meeting);
}

/* --- the VAE's norm over the channels of a pixel, with silu ---------------------------------------------------------------------- */

/* x / (1 + e^-x) in few steps, because more of them would take longer here than memory does. What e^-x loses by its argument's rounding grows
 * with |x|, while what it counts for shrinks faster: the error stays below 3e-7 of 1 + |silu(x)|. */
WO_INLINE float quick_silu(float x) {
    return __fdividef(x, 1.0f + tile_exp2(x * -1.44269504f));
}

template <class K>
WO_INLINE void l2_norm_row(const wo_cuda_l2_norm_args &a, float (*meeting)[32]) {
    place p = place_of<K>(a.rows);
    float v[HELD];
    float factor = a.root / fmaxf(sqrtf(sum_of_squares<K>(a.rows, p, v, meeting)), 1e-12f);
#pragma unroll 1
    for (int s = 0; s < a.rows.segments; s++) {
        if (a.rows.segments > 1)
            load_segment<K>(p, s, v);
#pragma unroll
        for (int g = 0; g < K::GROUPS; g++) {
            int column = p.first + (s * K::GROUPS + g) * p.stride;
            float *y = v + g * K::V, gamma[K::V];
            if (column >= p.end)
                continue;
            load_group<K, WO_CUDA_F32>(a.gamma, column, p.end, gamma);
#pragma unroll
            for (int k = 0; k < K::V; k++)
                y[k] = y[k] * factor * gamma[k];
            if (a.silu) {
#pragma unroll
                for (int k = 0; k < K::V; k++)
                    y[k] = quick_silu(y[k]);
            }
            store_group<K>(p, column, y);
        }
    }
}

extern "C" __global__ void __launch_bounds__(1024) wo_l2_norm(const __grid_constant__ wo_cuda_l2_norm_args a) {
    __shared__ float meeting[1][32];
    BY_KIND(l2_norm_row, WO_CUDA_BF16, a.rows, a, meeting);
}

extern "C" __global__ void __launch_bounds__(1024) wo_l2_norm_f16(const __grid_constant__ wo_cuda_l2_norm_args a) {
    __shared__ float meeting[1][32];
    BY_KIND(l2_norm_row, WO_CUDA_F16, a.rows, a, meeting);
}
