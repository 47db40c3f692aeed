/* float32 attention for any head_dim, by fused multiply-adds: for runs that are compared with a reference. A block makes 64 queries and up
 * to 128 columns of o; thread (ty, tx) of 16 x 16 has queries 4 ty .. 4 ty + 3, keys tx + 16 j, and columns 4 tx .. 4 tx + 3 of each 64.
 * Sums of a score begin anew every 4 columns and those of o every 32 keys, and are added once, so that long ones stay exact. */
#ifndef WO_DEVICE_CUDA_KERNELS_ATTENTION_FLOAT_CUH
#define WO_DEVICE_CUDA_KERNELS_ATTENTION_FLOAT_CUH

#include "device/cuda/kernels/attention_parts.cuh"

struct float_tile {
    static const int ROWS = 64, COLUMNS = WO_CUDA_ATTENTION_COLUMNS, THREADS = WO_CUDA_ATTENTION_F32_THREADS;
    static const int PIECE = 32;         /* columns of queries and keys, and rows of values, that are in shared memory at a time */
    static const int STRIDE = PIECE + 4; /* floats of a row of them: eight rows, four floats of each, are in different banks */
    static const int WEIGHTS = ROWS + 4; /* floats of a row of the weights, which is all queries of one key */
    float top[4], sum[4], o[2][4][4];    /* sum: of this thread's keys */
};
static_assert(float_tile::ROWS == WO_CUDA_ATTENTION_F32_QUERIES && float_tile::ROWS == WO_CUDA_ATTENTION_KEYS, "queries and keys share a load");

/* Queries and keys, and later weights in their place; values; biases. */
struct float_space {
    union {
        float rows[2][float_tile::ROWS][float_tile::STRIDE];
        float weights[float_tile::ROWS][float_tile::WEIGHTS];
    };
    float values[float_tile::PIECE][float_tile::COLUMNS];
    float bias[2 * float_tile::ROWS];
};

/* to[ROWS][STRIDE] = rows from `first`, COLUMNS columns from `column`, of this block's head; zeros where there are none. */
template <int ROWS, int COLUMNS, int STRIDE>
TILE_INLINE void float_load(float *to, const wo_cuda_attention_args &a, const void *tensor, int first, int end, int column) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int64_t row_elements = (int64_t)a.heads * a.head_dim;
    const float *from = (const float *)tensor + (first + warp) * row_elements + (int64_t)blockIdx.y * a.head_dim + column + lane;
    to += warp * STRIDE + lane;
#pragma unroll 2
    for (int row = warp; row < ROWS; row += 8, from += 8 * row_elements, to += 8 * STRIDE)
#pragma unroll
        for (int c = 0; c < COLUMNS; c += 32)
            to[c] = first + row < end && column + lane + c < a.head_dim ? from[c] : 0.0f;
}

TILE_INLINE float4 float_load4(const float *from) {
    return *(const float4 *)from;
}

TILE_INLINE float float_dot(float4 a, float4 b) {
    return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, a.x * b.x)));
}

/* s += q k^T over one piece. */
TILE_INLINE void float_scores(float (&s)[4][4], const float_space &space) {
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
#pragma unroll 1
    for (int d = 0; d < float_tile::PIECE; d += 4) {
        float4 q[4];
#pragma unroll
        for (int i = 0; i < 4; i++)
            q[i] = float_load4(&space.rows[0][4 * ty + i][d]);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            float4 k = float_load4(&space.rows[1][tx + 16 * j][d]);
#pragma unroll
            for (int i = 0; i < 4; i++)
                s[i][j] += float_dot(q[i], k);
        }
    }
}

/* Scores from the products of a block that is biased. */
TILE_INLINE void float_bias(float (&s)[4][4], const wo_cuda_attention_args &a, const float_space &space, int first_key) {
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            float of_difference = a.relative != nullptr ? space.bias[float_tile::ROWS - 1 + tx + 16 * j - (4 * ty + i)] : 0.0f;
            s[i][j] = fmaf(s[i][j], a.factor, of_difference);
            if (attention_is_last(a, first_key))
                s[i][j] = attention_bias_last(a, s[i][j], first_key + tx + 16 * j);
        }
}

/* Turns scores into weights 2^(score * factor - maximum), and shrinks the earlier sum and o. */
TILE_INLINE void float_weigh(float_tile &t, float (&s)[4][4], float factor) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float top = fmaxf(fmaxf(s[i][0], s[i][1]), fmaxf(s[i][2], s[i][3]));
#pragma unroll
        for (int lanes = 8; lanes > 0; lanes /= 2)
            top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, lanes));
        top = fmaxf(t.top[i], top * factor);
        float decay = tile_exp2(t.top[i] - top), sum = 0.0f;
        t.top[i] = top;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            s[i][j] = tile_exp2(fmaf(s[i][j], factor, -top));
            sum += s[i][j];
        }
        t.sum[i] = fmaf(t.sum[i], decay, sum);
#pragma unroll
        for (int h = 0; h < 2; h++)
#pragma unroll
            for (int c = 0; c < 4; c++)
                t.o[h][i][c] *= decay;
    }
}

/* o += weights v for the keys whose values are in shared memory, from `key` of the block; columns 64 h .. 64 h + 63. */
TILE_INLINE void float_add_values(float (&o)[4][4], const float_space &space, int key, int h) {
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    float part[4][4] = {};
#pragma unroll 4
    for (int k = 0; k < float_tile::PIECE; k++) {
        float4 w = float_load4(&space.weights[key + k][4 * ty]), v = float_load4(&space.values[k][64 * h + 4 * tx]);
        const float weight[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            part[i][0] = fmaf(weight[i], v.x, part[i][0]);
            part[i][1] = fmaf(weight[i], v.y, part[i][1]);
            part[i][2] = fmaf(weight[i], v.z, part[i][2]);
            part[i][3] = fmaf(weight[i], v.w, part[i][3]);
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int c = 0; c < 4; c++)
            o[i][c] += part[i][c];
}

/* s = q k^T for one block of keys. */
TILE_INLINE void float_score_block(float (&s)[4][4], const wo_cuda_attention_args &a, float_space &space, int first, int key) {
    for (int d = 0; d < a.head_dim; d += float_tile::PIECE) {
        __syncthreads(); /* nobody reads what was there */
        float_load<float_tile::ROWS, float_tile::PIECE, float_tile::STRIDE>(&space.rows[0][0][0], a, a.q, first, a.queries, d);
        float_load<float_tile::ROWS, float_tile::PIECE, float_tile::STRIDE>(&space.rows[1][0][0], a, a.k, key, a.keys, d);
        __syncthreads();
        float_scores(s, space);
    }
}

/* Stores four neighbouring columns of a query, at once where rows begin at multiples of 16 bytes. */
TILE_INLINE void float_store_row(const float (&x)[4], const wo_cuda_attention_args &a, int row, int column) {
    float *o = (float *)a.o + ((int64_t)row * a.heads + blockIdx.y) * a.head_dim + column;
    const bool in_fours = a.head_dim % 4 == 0 && (uint64_t)a.o % 16 == 0;
    if (in_fours && column < a.head_dim)
        *(float4 *)o = make_float4(x[0], x[1], x[2], x[3]);
#pragma unroll
    for (int c = 0; c < 4; c++)
        if (!in_fours && column + c < a.head_dim)
            o[c] = x[c];
}

TILE_INLINE void float_store(float_tile &t, const wo_cuda_attention_args &a, int first, int column) {
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float sum = t.sum[i];
#pragma unroll
        for (int lanes = 8; lanes > 0; lanes /= 2)
            sum += __shfl_xor_sync(0xffffffffu, sum, lanes);
        const float inverse = 1.0f / sum;
#pragma unroll
        for (int h = 0; h < 2; h++) {
#pragma unroll
            for (int c = 0; c < 4; c++)
                t.o[h][i][c] *= inverse;
            if (first + 4 * ty + i < a.queries)
                float_store_row(t.o[h][i], a, first + 4 * ty + i, column + 64 * h + 4 * tx);
        }
    }
}

TILE_INLINE void float_attention(const wo_cuda_attention_args &a) {
    __shared__ __align__(16) float_space space;
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16, first = blockIdx.x * float_tile::ROWS, column = blockIdx.z * float_tile::COLUMNS;
    float_tile t = {{-ATTENTION_INFINITY, -ATTENTION_INFINITY, -ATTENTION_INFINITY, -ATTENTION_INFINITY}};
    for (int key = 0; key < a.keys; key += float_tile::ROWS) {
        float s[4][4] = {};
        float_score_block(s, a, space, first, key);
        if (a.relative != nullptr)
            attention_fill_biases<float_tile::ROWS, float_tile::THREADS>(space.bias, a, blockIdx.y, key - (first + float_tile::ROWS - 1));
        __syncthreads();
        const bool biased = attention_is_biased(a, key);
        if (biased)
            float_bias(s, a, space, key);
        float_weigh(t, s, biased ? 1.0f : a.factor);
#pragma unroll
        for (int j = 0; j < 4; j++)
            *(float4 *)&space.weights[tx + 16 * j][4 * ty] = make_float4(s[0][j], s[1][j], s[2][j], s[3][j]);
#pragma unroll 1
        for (int half = 0; half < float_tile::ROWS; half += float_tile::PIECE) {
            if (half > 0)
                __syncthreads(); /* nobody reads the first half's values */
            float_load<float_tile::PIECE, float_tile::COLUMNS, float_tile::COLUMNS>(&space.values[0][0], a, a.v, key + half, a.keys, column);
            __syncthreads();
            float_add_values(t.o[0], space, half, 0);
            if (column + 64 < a.head_dim)
                float_add_values(t.o[1], space, half, 1);
        }
    }
    float_store(t, a, first, column);
}

#endif
