/* Attention in a 16-bit dtype for any head_dim, on tensor cores. A block makes 64 queries, 16 by each of 4 warps, and up to 128 columns of o; where
 * head_dim is longer, each block of columns makes the scores anew, and the queries and keys pass through shared memory in pieces of 128
 * columns, filled up with zeros to whole steps of 16:
 *
 *     for each block of keys:   for each piece:  s += q k^T of the piece   (two stages, queries and keys together)
 *                               o += weights v                            (one stage of values)
 */
#ifndef WO_DEVICE_CUDA_KERNELS_ATTENTION_ANY_CUH
#define WO_DEVICE_CUDA_KERNELS_ATTENTION_ANY_CUH

#include "device/cuda/kernels/attention_parts.cuh"

struct any_tile {
    static const int COLUMNS = WO_CUDA_ATTENTION_COLUMNS, ROW = 2 * COLUMNS, ROWS = 64, BYTES = ROWS * ROW;
    static const int THREADS = WO_CUDA_ATTENTION_HALF_THREADS, WARPS = THREADS / 32;
    static const int OUT_ROW = COLUMNS + 8; /* floats, so that eight rows meet different banks */
    attention_softmax softmax;
    float o[COLUMNS / 8][4];
};
static_assert(any_tile::ROWS == WO_CUDA_ATTENTION_HALF_QUERIES && any_tile::ROWS == WO_CUDA_ATTENTION_KEYS, "queries and keys share a copy");
static_assert(any_tile::WARPS * 16 == any_tile::ROWS, "a warp makes 16 queries");

/* Steps of 16 columns of the piece that begins at `column`. */
TILE_INLINE int any_steps(const wo_cuda_attention_args &a, int column) {
    return (min(a.head_dim - column, any_tile::COLUMNS) + 15) / 16;
}

/* Starts copying 64 rows from `first`, columns from `column`, of this block's head; zeros where there are none. */
TILE_INLINE void any_copy(char *tile, const wo_cuda_attention_args &a, const void *tensor, int first, int end, int column) {
    const int64_t stride = (int64_t)a.heads * a.head_dim;
    const uint16_t *head = (const uint16_t *)tensor + (int64_t)blockIdx.y * a.head_dim + column;
    const int width = a.head_dim - column, padded = any_steps(a, column) * 16;
    if (a.aligned) {
        int chunk = threadIdx.x % 16;
        for (int row = threadIdx.x / 16; chunk * 8 < padded && row < any_tile::ROWS; row += any_tile::THREADS / 16) {
            bool valid = first + row < end && chunk * 8 < width;
            tile_copy16(tile_address(tile) + tile_offset<any_tile::ROW>(row, chunk), valid ? head + (first + row) * stride + chunk * 8 : tensor, valid);
        }
        return;
    }
    for (int row = threadIdx.x / 32; row < any_tile::ROWS; row += any_tile::WARPS)
        for (int c = threadIdx.x % 32; c < padded; c += 32) {
            bool valid = first + row < end && c < width;
            *(uint16_t *)(tile + tile_offset<any_tile::ROW>(row, c / 8) + c % 8 * 2) = valid ? head[(first + row) * stride + c] : 0;
        }
}

/* s += q k^T over the steps of one piece. */
template <int HALF>
TILE_INLINE void any_scores(attention_scores &s, uint32_t queries, uint32_t keys, int steps) {
    int lane = threadIdx.x % 32;
    uint32_t q_at = queries + tile_offset<any_tile::ROW>(threadIdx.x / 32 * 16 + lane % 16, lane / 16);
    uint32_t k_at = keys + tile_offset<any_tile::ROW>(lane % 8 + lane / 16 * 8, lane / 8 % 2);
    for (int k = 0; k < steps; k++) {
        uint32_t q[4];
        tile_load4(q, q_at ^ (k * 2 * TILE_CHUNK));
#pragma unroll
        for (int n = 0; n < any_tile::ROWS / 16; n++) {
            uint32_t b[4];
            tile_load4(b, (k_at ^ (k * 2 * TILE_CHUNK)) + n * 16 * any_tile::ROW);
            tile_mma<HALF>(s[2 * n], q, b[0], b[1]);
            tile_mma<HALF>(s[2 * n + 1], q, b[2], b[3]);
        }
    }
}

/* o = o * decay + weights v, for `steps` times 16 columns. */
template <int HALF>
TILE_INLINE void any_add_values(any_tile &t, const attention_scores &s, const float (&decay)[2], uint32_t values, int steps) {
    int lane = threadIdx.x % 32;
    uint32_t at = values + tile_offset<any_tile::ROW>(lane % 16, lane / 16);
#pragma unroll
    for (int n = 0; n < any_tile::COLUMNS / 8; n++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            t.o[n][e] *= decay[e / 2];
#pragma unroll
    for (int k = 0; k < any_tile::ROWS / 16; k++) {
        uint32_t a[4];
        attention_pack<HALF>(s, k, a);
#pragma unroll
        for (int n = 0; n < any_tile::COLUMNS / 16; n++) {
            if (n >= steps)
                break;
            uint32_t b[4];
            tile_load4_transposed(b, (at ^ (n * 2 * TILE_CHUNK)) + k * 16 * any_tile::ROW);
            tile_mma<HALF>(t.o[2 * n], a, b[0], b[1]);
            tile_mma<HALF>(t.o[2 * n + 1], a, b[2], b[3]);
        }
    }
}

/* The warp's o goes through shared memory, so that neighbouring lanes store neighbouring elements whatever the rows' alignment. */
template <int HALF>
TILE_INLINE void any_store(const any_tile &t, const wo_cuda_attention_args &a, float *space, int first, int column) {
    const int lane = threadIdx.x % 32, width = min(a.head_dim - column, any_tile::COLUMNS);
    float inverse[2], *out = space + threadIdx.x / 32 * 16 * any_tile::OUT_ROW;
    attention_end(t.softmax, inverse);
#pragma unroll
    for (int n = 0; n < any_tile::COLUMNS / 8; n++)
#pragma unroll
        for (int half = 0; half < 2; half++)
            *(float2 *)(out + (lane / 4 + half * 8) * any_tile::OUT_ROW + n * 8 + lane % 4 * 2) =
                make_float2(t.o[n][2 * half] * inverse[half], t.o[n][2 * half + 1] * inverse[half]);
    __syncwarp();
    for (int row = 0; row < min(16, a.queries - first); row++) {
        int64_t at = ((int64_t)(first + row) * a.heads + blockIdx.y) * a.head_dim + column;
        for (int c = lane; c < width; c += 32)
            tile_store(a.o, a.o_dtype, HALF, at + c, out[row * any_tile::OUT_ROW + c]);
    }
}

/* Where a block of threads is. Everything follows from blockIdx and counts up in the same way in every thread. */
struct any_place {
    int first, column;  /* query, and column of o */
    int blocks, pieces; /* of the keys, and of head_dim */
    int block, piece, stage;
};

/* Starts copying the piece of queries and keys behind the one in work into the other stage; nothing behind the last. */
TILE_INLINE void any_copy_next(char *shared, const wo_cuda_attention_args &a, const any_place &at) {
    const bool last = at.piece + 1 == at.pieces;
    const int block = last ? at.block + 1 : at.block, column = last ? 0 : (at.piece + 1) * any_tile::COLUMNS;
    char *to = shared + (at.stage ^ 1) * 2 * any_tile::BYTES;
    if (block == at.blocks)
        return;
    if (at.pieces > 1 || at.block == 0) /* else both stages have the queries already */
        any_copy(to, a, a.q, at.first, a.queries, column);
    any_copy(to + any_tile::BYTES, a, a.k, block * any_tile::ROWS, a.keys, column);
}

/* s = q k^T for one block of keys; the copy of its values starts with the first piece. */
template <int HALF>
TILE_INLINE void any_score_block(attention_scores &s, char *shared, const wo_cuda_attention_args &a, any_place &at, bool busy) {
#pragma unroll
    for (int n = 0; n < any_tile::ROWS / 8; n++)
        s[n][0] = s[n][1] = s[n][2] = s[n][3] = 0.0f;
    for (at.piece = 0; at.piece < at.pieces; at.piece++, at.stage ^= 1) {
        tile_wait<0>();
        __syncthreads();
        if (at.piece == 0)
            any_copy(shared + 4 * any_tile::BYTES, a, a.v, at.block * any_tile::ROWS, a.keys, at.column);
        tile_commit();
        any_copy_next(shared, a, at);
        tile_commit();
        uint32_t queries = tile_address(shared) + at.stage * 2 * any_tile::BYTES;
        if (busy)
            any_scores<HALF>(s, queries, queries + any_tile::BYTES, any_steps(a, at.piece * any_tile::COLUMNS));
    }
}

template <int HALF>
TILE_INLINE void any_attention(const wo_cuda_attention_args &a) {
    extern __shared__ __align__(1024) char shared[]; /* two stages of queries and keys, values, biases */
    float *bias = (float *)(shared + 5 * any_tile::BYTES);
    any_place at = {};
    at.first = blockIdx.x * any_tile::ROWS;
    at.column = blockIdx.z * any_tile::COLUMNS;
    at.blocks = (a.keys + any_tile::ROWS - 1) / any_tile::ROWS;
    at.pieces = (a.head_dim + any_tile::COLUMNS - 1) / any_tile::COLUMNS;
    const int warp_row = threadIdx.x / 32 * 16;
    const bool busy = at.first + warp_row < a.queries; /* a warp without queries only helps to copy */
    any_tile t;
    attention_begin(t.softmax);
#pragma unroll
    for (int n = 0; n < any_tile::COLUMNS / 8; n++)
        t.o[n][0] = t.o[n][1] = t.o[n][2] = t.o[n][3] = 0.0f;

    any_copy(shared, a, a.q, at.first, a.queries, 0);
    any_copy(shared + any_tile::BYTES, a, a.k, 0, a.keys, 0);
    tile_commit();
    for (; at.block < at.blocks; at.block++) {
        const int key = at.block * any_tile::ROWS;
        attention_scores s;
        float decay[2];
        if (a.relative != nullptr)
            attention_fill_biases<any_tile::ROWS, any_tile::THREADS>(bias, a, blockIdx.y, key - (at.first + any_tile::ROWS - 1));
        any_score_block<HALF>(s, shared, a, at, busy);
        if (busy) {
            const bool biased = attention_is_biased(a, key);
            if (biased)
                attention_bias_tile(s, a, bias + any_tile::ROWS - 1 - warp_row, key);
            attention_weigh(s, biased ? 1.0f : a.factor, t.softmax, decay);
        }
        tile_wait<1>(); /* for the values; the next keys may still be on the way */
        __syncthreads();
        if (busy)
            any_add_values<HALF>(t, s, decay, tile_address(shared) + 4 * any_tile::BYTES, any_steps(a, at.column));
    }
    if (busy)
        any_store<HALF>(t, a, (float *)shared, at.first + warp_row, at.column);
}

#endif
