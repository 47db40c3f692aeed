/* Attention on tensor cores, with a running maximum and sum for each query (online softmax): neither scores nor weights leave the registers.
 * This file has the tuned kernels, for a head_dim of 64 and of 128; attention_any.cuh
 * and attention_float.cuh have those for any.
 *
 * A block makes 128 queries of one head, 16 by each of its 8 warps, whose queries stay in registers as fragments. Keys and values come in
 * blocks of 64 and in two stages, and each is waited for by itself:
 *
 *     copies    K1 ........ V1 ........ K2 ........ V2
 *     work      | q k0      | o += p v0 | q k1      | o += p v1        | = wait and barrier
 *
 * A query's sums go over the keys in the order of their blocks, whatever other queries the call has. */
#include "device/cuda/kernels/attention_any.cuh"
#include "device/cuda/kernels/attention_float.cuh"

/* What a warp of the tuned kernels works on. */
template <int D>
struct tuned_tile {
    static const int ROW = 2 * D, QUERIES = WO_CUDA_ATTENTION_TUNED_QUERIES, KEYS = WO_CUDA_ATTENTION_KEYS, THREADS = WO_CUDA_ATTENTION_TUNED_THREADS;
    static const int STAGE = KEYS * ROW; /* bytes of 64 rows */
    uint32_t q[D / 16][4];
    float o[D / 8][4];
    attention_softmax softmax;
};

/* Starts copying rows [first, first + ROWS) of a head; zeros where there are none. */
template <int D, int ROWS>
TILE_INLINE void tuned_copy(uint32_t to, const void *head, int64_t stride, int first, int end) {
    const int chunks = D / 8, step = tuned_tile<D>::THREADS / chunks;
    int chunk = threadIdx.x % chunks, row = threadIdx.x / chunks;
    const uint16_t *from = (const uint16_t *)head + (int64_t)(first + row) * stride + chunk * 8;
    uint32_t at = to + tile_offset<tuned_tile<D>::ROW>(row, chunk);
#pragma unroll
    for (int i = 0; i < ROWS / step; i++) {
        bool valid = first + row + i * step < end;
        tile_copy16(at + i * step * tuned_tile<D>::ROW, valid ? from + i * step * stride : head, valid);
    }
}

/* The warp's 16 queries. */
template <int D>
TILE_INLINE void tuned_load_queries(tuned_tile<D> &t, uint32_t tile) {
    int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane % 16;
    uint32_t at = tile + tile_offset<tuned_tile<D>::ROW>(row, lane / 16);
#pragma unroll
    for (int k = 0; k < D / 16; k++)
        tile_load4(t.q[k], at ^ (k * 2 * TILE_CHUNK));
}

/* s = q k^T. */
template <int HALF, int D>
TILE_INLINE void tuned_scores(attention_scores &s, const tuned_tile<D> &t, uint32_t stage) {
    int lane = threadIdx.x % 32, row = lane % 8 + lane / 16 * 8;
    uint32_t at = stage + tile_offset<tuned_tile<D>::ROW>(row, lane / 8 % 2);
#pragma unroll
    for (int n = 0; n < tuned_tile<D>::KEYS / 8; n++)
        s[n][0] = s[n][1] = s[n][2] = s[n][3] = 0.0f;
#pragma unroll
    for (int k = 0; k < D / 16; k++)
#pragma unroll
        for (int n = 0; n < tuned_tile<D>::KEYS / 16; n++) {
            uint32_t b[4];
            tile_load4(b, (at ^ (k * 2 * TILE_CHUNK)) + n * 16 * tuned_tile<D>::ROW);
            tile_mma<HALF>(s[2 * n], t.q[k], b[0], b[1]);
            tile_mma<HALF>(s[2 * n + 1], t.q[k], b[2], b[3]);
        }
}

/* o = o * decay + weights v. */
template <int HALF, int D>
TILE_INLINE void tuned_add_values(tuned_tile<D> &t, const attention_scores &s, const float (&decay)[2], uint32_t stage) {
    int lane = threadIdx.x % 32;
    uint32_t at = stage + tile_offset<tuned_tile<D>::ROW>(lane % 16, lane / 16);
#pragma unroll
    for (int n = 0; n < D / 8; n++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            t.o[n][e] *= decay[e / 2];
#pragma unroll
    for (int k = 0; k < tuned_tile<D>::KEYS / 16; k++) {
        uint32_t a[4];
        attention_pack<HALF>(s, k, a);
#pragma unroll
        for (int n = 0; n < D / 16; n++) {
            uint32_t b[4];
            tile_load4_transposed(b, (at ^ (n * 2 * TILE_CHUNK)) + k * 16 * tuned_tile<D>::ROW);
            tile_mma<HALF>(t.o[2 * n], a, b[0], b[1]);
            tile_mma<HALF>(t.o[2 * n + 1], a, b[2], b[3]);
        }
    }
}

/* 16-bit numbers go through the warp's part of the queries' tile, which nobody reads any more, so that they are stored by whole sectors. */
template <int HALF, int D>
TILE_INLINE void tuned_store_half(const tuned_tile<D> &t, const float (&inverse)[2], char *tile, uint16_t *o, int64_t stride, int rows) {
    const int chunks = D / 8, step = 32 / chunks;
    int lane = threadIdx.x % 32, warp_row = threadIdx.x / 32 * 16;
#pragma unroll
    for (int n = 0; n < D / 8; n++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            uint32_t at = tile_offset<tuned_tile<D>::ROW>(warp_row + lane / 4 + half * 8, n) + lane % 4 * 4;
            *(uint32_t *)(tile + at) = tile_pack(HALF, t.o[n][2 * half] * inverse[half], t.o[n][2 * half + 1] * inverse[half]);
        }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 16 / step; i++) {
        int row = i * step + lane / chunks, chunk = lane % chunks;
        if (row < rows)
            *(uint4 *)(o + row * stride + chunk * 8) = *(const uint4 *)(tile + tile_offset<tuned_tile<D>::ROW>(warp_row + row, chunk));
    }
}

template <int D>
TILE_INLINE void tuned_store_f32(const tuned_tile<D> &t, const float (&inverse)[2], float *o, int64_t stride, int rows) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int row = lane / 4 + half * 8;
        if (row >= rows)
            continue;
#pragma unroll
        for (int n = 0; n < D / 8; n++)
            *(float2 *)(o + row * stride + n * 8 + lane % 4 * 2) = make_float2(t.o[n][2 * half] * inverse[half], t.o[n][2 * half + 1] * inverse[half]);
    }
}

template <int HALF, int D>
TILE_INLINE void tuned_store(const tuned_tile<D> &t, const wo_cuda_attention_args &a, char *tile, int first) {
    int64_t stride = (int64_t)a.heads * D, at = first * stride + (int64_t)blockIdx.y * D;
    float inverse[2];
    attention_end(t.softmax, inverse);
    if (a.o_dtype == WO_CUDA_F32)
        tuned_store_f32(t, inverse, (float *)a.o + at, stride, a.queries - first);
    else
        tuned_store_half<HALF>(t, inverse, tile, (uint16_t *)a.o + at, stride, a.queries - first);
}

template <int HALF, int D>
TILE_INLINE void tuned_attention(const wo_cuda_attention_args &a) {
    typedef tuned_tile<D> tile;
    extern __shared__ __align__(1024) char shared[];
    uint32_t queries = tile_address(shared), keys = queries + tile::QUERIES * tile::ROW, values = keys + 2 * tile::STAGE;
    float *bias = (float *)(shared + tile::QUERIES * tile::ROW + 4 * tile::STAGE);
    const int first = blockIdx.x * tile::QUERIES, warp_row = threadIdx.x / 32 * 16, blocks = (a.keys + tile::KEYS - 1) / tile::KEYS;
    const bool busy = first + warp_row < a.queries; /* a warp without queries only helps to copy */
    const int64_t stride = (int64_t)a.heads * D;
    const uint16_t *k = (const uint16_t *)a.k + (int64_t)blockIdx.y * D, *v = (const uint16_t *)a.v + (int64_t)blockIdx.y * D;

    tuned_copy<D, tile::QUERIES>(queries, (const uint16_t *)a.q + (int64_t)blockIdx.y * D, stride, first, a.queries);
    tuned_copy<D, tile::KEYS>(keys, k, stride, 0, a.keys);
    tile_commit();
    tuned_copy<D, tile::KEYS>(values, v, stride, 0, a.keys);
    tile_commit();
    tile_wait<1>();
    __syncthreads();

    tile t;
    tuned_load_queries(t, queries);
    attention_begin(t.softmax);
#pragma unroll
    for (int n = 0; n < D / 8; n++)
        t.o[n][0] = t.o[n][1] = t.o[n][2] = t.o[n][3] = 0.0f;

    for (int block = 0; block < blocks; block++) {
        const int key = block * tile::KEYS, stage = block % 2 * tile::STAGE, next = tile::STAGE - stage;
        attention_scores s;
        float decay[2];
        if (a.relative != nullptr)
            attention_fill_biases<tile::QUERIES, tile::THREADS>(bias, a, blockIdx.y, key - (first + tile::QUERIES - 1));
        tile_wait<1>(); /* for these keys; their values may still be on the way */
        __syncthreads();
        if (block + 1 < blocks)
            tuned_copy<D, tile::KEYS>(keys + next, k, stride, key + tile::KEYS, a.keys);
        tile_commit();
        if (busy) {
            const bool biased = attention_is_biased(a, key);
            tuned_scores<HALF>(s, t, keys + stage);
            if (biased)
                attention_bias_tile(s, a, bias + tile::QUERIES - 1 - warp_row, key);
            attention_weigh(s, biased ? 1.0f : a.factor, t.softmax, decay);
        }
        tile_wait<1>(); /* for these values; the next keys may still be on the way */
        __syncthreads();
        if (block + 1 < blocks)
            tuned_copy<D, tile::KEYS>(values + next, v, stride, key + tile::KEYS, a.keys);
        tile_commit();
        if (busy)
            tuned_add_values<HALF>(t, s, decay, values + stage);
    }
    if (busy)
        tuned_store<HALF>(t, a, shared, first + warp_row);
}

extern "C" __global__ void __launch_bounds__(WO_CUDA_ATTENTION_TUNED_THREADS, 1) wo_attention_bf16_64(const __grid_constant__ wo_cuda_attention_args a) {
    tuned_attention<WO_CUDA_BF16, 64>(a);
}

extern "C" __global__ void __launch_bounds__(WO_CUDA_ATTENTION_TUNED_THREADS, 1) wo_attention_bf16_128(const __grid_constant__ wo_cuda_attention_args a) {
    tuned_attention<WO_CUDA_BF16, 128>(a);
}

extern "C" __global__ void __launch_bounds__(WO_CUDA_ATTENTION_HALF_THREADS) wo_attention_bf16(const __grid_constant__ wo_cuda_attention_args a) {
    any_attention<WO_CUDA_BF16>(a);
}

extern "C" __global__ void __launch_bounds__(WO_CUDA_ATTENTION_TUNED_THREADS, 1) wo_attention_f16_64(const __grid_constant__ wo_cuda_attention_args a) {
    tuned_attention<WO_CUDA_F16, 64>(a);
}

extern "C" __global__ void __launch_bounds__(WO_CUDA_ATTENTION_TUNED_THREADS, 1) wo_attention_f16_128(const __grid_constant__ wo_cuda_attention_args a) {
    tuned_attention<WO_CUDA_F16, 128>(a);
}

extern "C" __global__ void __launch_bounds__(WO_CUDA_ATTENTION_HALF_THREADS) wo_attention_f16(const __grid_constant__ wo_cuda_attention_args a) {
    any_attention<WO_CUDA_F16>(a);
}

extern "C" __global__ void __launch_bounds__(WO_CUDA_ATTENTION_F32_THREADS, 2) wo_attention_f32(const __grid_constant__ wo_cuda_attention_args a) {
    float_attention(a);
}
