/* What the attention kernels share: biases, and the softmax of scores that lie in the fragments of tile.cuh. */
#ifndef WO_DEVICE_CUDA_KERNELS_ATTENTION_PARTS_CUH
#define WO_DEVICE_CUDA_KERNELS_ATTENTION_PARTS_CUH

#include "device/cuda/kernels/attention.h"
#include "device/cuda/kernels/tile.cuh"

#define ATTENTION_INFINITY __int_as_float(0x7f800000)

/* The bias of difference = key - query, in units of log2. */
TILE_INLINE float attention_relative(const wo_cuda_attention_args &a, int head, int difference) {
    int distance = difference < 0 ? -difference : difference, bucket = distance;
    if (distance >= a.exact) {
        int reached = 0;
        while (reached < a.border_count && distance >= a.borders[reached])
            reached++;
        bucket = a.exact + reached;
    }
    if (difference > 0)
        bucket += a.half;
    return a.relative[(int64_t)bucket * a.heads + head] * 1.44269504f;
}

/* The biases of a tile whose first difference, its first key less its last query, is `first`: bias[i] belongs to first + i. */
template <int QUERIES, int THREADS>
TILE_INLINE void attention_fill_biases(float *bias, const wo_cuda_attention_args &a, int head, int first) {
    for (int i = threadIdx.x; i < QUERIES + WO_CUDA_ATTENTION_KEYS - 1; i += THREADS)
        bias[i] = attention_relative(a, head, first + i);
}

/* Whether the scores of a block of keys are more than products * factor. The maximum of scaled products is the scaled maximum only for a
 * positive factor; any other takes the way of a bias. */
TILE_INLINE bool attention_is_last(const wo_cuda_attention_args &a, int first_key) {
    return a.last_biased && first_key + WO_CUDA_ATTENTION_KEYS >= a.keys;
}

TILE_INLINE bool attention_is_biased(const wo_cuda_attention_args &a, int first_key) {
    return a.relative != nullptr || !(a.factor > 0.0f) || attention_is_last(a, first_key);
}

/* A score among the last keys: the last one has a bias, and what is behind it counts nothing. */
TILE_INLINE float attention_bias_last(const wo_cuda_attention_args &a, float score, int key) {
    score = __fadd_rn(score, key == a.keys - 1 ? a.last_key_bias : 0.0f);
    return key < a.keys ? score : -ATTENTION_INFINITY;
}

/* Scores of 16 queries, of a warp, against the keys of a block: tile n holds keys 8 n .. 8 n + 7. */
typedef float attention_scores[WO_CUDA_ATTENTION_KEYS / 8][4];

/* The running maximum and sum of the two queries that a lane has a part of: rows g and g + 8. The sum is of this lane's keys only. */
struct attention_softmax {
    float top[2], sum[2];
};

TILE_INLINE void attention_begin(attention_softmax &m) {
    m.top[0] = m.top[1] = -ATTENTION_INFINITY;
    m.sum[0] = m.sum[1] = 0.0f;
}

/* Scores from the products of a block that is biased. bias: the table of the warp's rows, where row 0 and key 0 meet. Roundings are spelt out,
 * so that kernels that take different ways to a tile give the same bits. */
TILE_INLINE void attention_bias_tile(attention_scores &s, const wo_cuda_attention_args &a, const float *bias, int first_key) {
    const int column = threadIdx.x % 4 * 2, row = threadIdx.x % 32 / 4;
    if (a.relative != nullptr) {
#pragma unroll
        for (int n = 0; n < WO_CUDA_ATTENTION_KEYS / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                s[n][e] = fmaf(s[n][e], a.factor, bias[n * 8 + column + e % 2 - (row + e / 2 * 8)]);
    } else {
#pragma unroll
        for (int n = 0; n < WO_CUDA_ATTENTION_KEYS / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                s[n][e] = __fmul_rn(s[n][e], a.factor);
    }
    if (attention_is_last(a, first_key))
#pragma unroll
        for (int n = 0; n < WO_CUDA_ATTENTION_KEYS / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                s[n][e] = attention_bias_last(a, s[n][e], first_key + n * 8 + column + e % 2);
}

/* Turns scores into weights 2^(score * factor - maximum), and says by what the earlier sum and o must shrink. */
TILE_INLINE void attention_weigh(attention_scores &s, float factor, attention_softmax &m, float (&decay)[2]) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float top = -ATTENTION_INFINITY, sum = 0.0f;
#pragma unroll
        for (int n = 0; n < WO_CUDA_ATTENTION_KEYS / 8; n++)
            top = fmaxf(top, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
        top = fmaxf(m.top[half], top * factor);
        decay[half] = tile_exp2(m.top[half] - top);
        m.top[half] = top;
#pragma unroll
        for (int n = 0; n < WO_CUDA_ATTENTION_KEYS / 8; n++)
#pragma unroll
            for (int e = 2 * half; e < 2 * half + 2; e++) {
                s[n][e] = tile_exp2(fmaf(s[n][e], factor, -top));
                sum += s[n][e];
            }
        m.sum[half] = fmaf(m.sum[half], decay[half], sum);
    }
}

/* 1 / the whole sum of each of the two queries. */
TILE_INLINE void attention_end(const attention_softmax &m, float (&inverse)[2]) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float sum = m.sum[half] + __shfl_xor_sync(0xffffffffu, m.sum[half], 1);
        inverse[half] = 1.0f / (sum + __shfl_xor_sync(0xffffffffu, sum, 2));
    }
}

/* The weights of keys 16 step .. 16 step + 15 as the A of a product. */
template <int HALF>
TILE_INLINE void attention_pack(const attention_scores &s, int step, uint32_t (&a)[4]) {
    a[0] = tile_pack(HALF, s[2 * step][0], s[2 * step][1]);
    a[1] = tile_pack(HALF, s[2 * step][2], s[2 * step][3]);
    a[2] = tile_pack(HALF, s[2 * step + 1][0], s[2 * step + 1][1]);
    a[3] = tile_pack(HALF, s[2 * step + 1][2], s[2 * step + 1][3]);
}

#endif
