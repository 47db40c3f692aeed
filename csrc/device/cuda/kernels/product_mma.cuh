/* Products of bfloat16 or float16 on tensor cores, with float32 sums.
 *
 *     global --cp.async, STAGES - 1 tiles ahead--> shared [tile of rows | tile of weights] x STAGES --ldmatrix--> fragments --mma--> sums
 *     sums --shared, 16 rows of a warp at a time--> bias, epilogue, y
 *
 * An element of y is summed by one lane's accumulator over k in steps of 16 from the first to the last: the same for every shape of tile and for both
 * ways of filling it, so that tiles may be chosen by what is quick and no bit depends on the choice. */
#ifndef WO_DEVICE_CUDA_KERNELS_PRODUCT_MMA_CUH
#define WO_DEVICE_CUDA_KERNELS_PRODUCT_MMA_CUH

#include "device/cuda/kernels/product.cuh"

/* WARPS_M x WARPS_N warps, each with WARP_M x WARP_N elements of y; DEPTH elements of k at a time. */
template <int WARPS_M_, int WARPS_N_, int WARP_M_, int WARP_N_, int DEPTH_, int STAGES_>
struct product_mma_shape {
    enum {
        WARPS_M = WARPS_M_, WARPS_N = WARPS_N_, WARP_M = WARP_M_, WARP_N = WARP_N_, DEPTH = DEPTH_, STAGES = STAGES_,
        THREADS = 32 * WARPS_M * WARPS_N,
        ROWS = WARPS_M * WARP_M, COLUMNS = WARPS_N * WARP_N,
        CHUNKS = DEPTH / 8,          /* of a row */
        STEP = THREADS / CHUNKS,     /* rows that are filled at once */
        X_BYTES = ROWS * DEPTH * 2, STAGE_BYTES = (ROWS + COLUMNS) * DEPTH * 2,
        WAITING_BYTES = WARPS_M * WARPS_N * 16 * product_stride<WARP_N>::VALUE * 4,
        BYTES = STAGES * STAGE_BYTES
    };
    static_assert(WARP_M % 16 == 0 && WARP_N % 16 == 0 && DEPTH % 16 == 0, "fragments are whole");
    static_assert(ROWS % STEP == 0 && COLUMNS % STEP == 0, "every thread fills as many chunks");
    static_assert(WAITING_BYTES <= BYTES && BYTES <= 48 * 1024, "sums wait where tiles lay");
};

/* One chunk of a tile. ALIGNED: chunks begin at multiples of 16 bytes and are wholly within their row. Otherwise every element is looked for. */
template <bool ALIGNED, class Operand>
TILE_INLINE void product_mma_copy(const Operand &operand, typename Operand::cursor_type cursor, const typename Operand::row_type &row,
                                  unsigned char *to, const void *anywhere) {
    if (ALIGNED) {
        const char *from = operand.at(cursor, row);
        tile_copy16(tile_address(to), from != NULL ? from : anywhere, from != NULL);
        return;
    }
    uint32_t pairs[4] = {0, 0, 0, 0};
#pragma unroll
    for (int e = 0; e < 8; e++) {
        const char *from = operand.at(cursor, row);
        uint32_t half = from != NULL ? *(const uint16_t *)from : 0;
        pairs[e / 2] |= half << (e % 2 * 16);
        operand.advance(cursor, 1);
    }
    *(uint4 *)to = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
}

/* What one thread fills: the same chunk of every STEP-th row of both tiles. */
template <class Shape, bool ALIGNED, class Left>
struct product_mma_filler {
    enum { X_ROWS = Shape::ROWS / Shape::STEP, W_ROWS = Shape::COLUMNS / Shape::STEP };
    const Left &x;
    const product_matrix &w;
    typename Left::row_type x_rows[X_ROWS];
    product_matrix::row_type w_rows[W_ROWS];
    typename Left::cursor_type x_cursor;
    product_matrix::cursor_type w_cursor;

    __device__ __forceinline__ product_mma_filler(const Left &x_, const product_matrix &w_, const product_place &place, int first)
        : x(x_), w(w_) {
        const int row = threadIdx.x / Shape::CHUNKS, k = first + threadIdx.x % Shape::CHUNKS * 8;
#pragma unroll
        for (int i = 0; i < X_ROWS; i++)
            x_rows[i] = x.row(place.row + row + i * Shape::STEP);
#pragma unroll
        for (int i = 0; i < W_ROWS; i++)
            w_rows[i] = w.row(place.column + row + i * Shape::STEP);
        x_cursor = x.start(k);
        w_cursor = w.start(k);
    }

    /* Fills a stage, and moves on along k. */
    __device__ __forceinline__ void fill(unsigned char *stage) {
        const uint32_t row = threadIdx.x / Shape::CHUNKS, chunk = threadIdx.x % Shape::CHUNKS;
#pragma unroll
        for (int i = 0; i < X_ROWS; i++)
            product_mma_copy<ALIGNED>(x, x_cursor, x_rows[i], stage + product_offset<Shape::CHUNKS>(row + i * Shape::STEP, chunk), w.base);
#pragma unroll
        for (int i = 0; i < W_ROWS; i++)
            product_mma_copy<ALIGNED>(w, w_cursor, w_rows[i],
                                      stage + Shape::X_BYTES + product_offset<Shape::CHUNKS>(row + i * Shape::STEP, chunk), w.base);
        x.advance(x_cursor, Shape::DEPTH);
        w.advance(w_cursor, Shape::DEPTH);
    }
};

/* Adds the products of one stage to the sums of this warp. */
template <int HALF, class Shape>
TILE_INLINE void product_mma_multiply(const unsigned char *stage, float (&sums)[Shape::WARP_M / 16][Shape::WARP_N / 8][4]) {
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t x_row = warp / Shape::WARPS_N * Shape::WARP_M + lane % 16;
    const uint32_t w_row = warp % Shape::WARPS_N * Shape::WARP_N + lane / 16 * 8 + lane % 8;
    const uint32_t x_tile = tile_address(stage), w_tile = x_tile + Shape::X_BYTES;
#pragma unroll
    for (int k = 0; k < Shape::DEPTH / 8; k += 2) {
        uint32_t x[Shape::WARP_M / 16][4];
#pragma unroll
        for (int i = 0; i < Shape::WARP_M / 16; i++)
            tile_load4(x[i], x_tile + product_offset<Shape::CHUNKS>(x_row + i * 16, k + lane / 16));
#pragma unroll
        for (int j = 0; j < Shape::WARP_N / 16; j++) {
            uint32_t w[4];
            tile_load4(w, w_tile + product_offset<Shape::CHUNKS>(w_row + j * 16, k + lane / 8 % 2));
#pragma unroll
            for (int i = 0; i < Shape::WARP_M / 16; i++) {
                tile_mma<HALF>(sums[i][2 * j], x[i], w[0], w[1]);
                tile_mma<HALF>(sums[i][2 * j + 1], x[i], w[2], w[3]);
            }
        }
    }
}

/* Each warp brings 16 rows of its sums at a time into the order of memory, in shared memory of its own, and finishes them. */
template <int HALF, class Shape>
TILE_INLINE void product_mma_finish(const wo_cuda_output &out, const product_place &place, float *waiting,
                                    const float (&sums)[Shape::WARP_M / 16][Shape::WARP_N / 8][4]) {
    enum { STRIDE = product_stride<Shape::WARP_N>::VALUE };
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int row = place.row + warp / Shape::WARPS_N * Shape::WARP_M, column = place.column + warp % Shape::WARPS_N * Shape::WARP_N;
    float *mine = waiting + warp * 16 * STRIDE, *to = mine + lane / 4 * STRIDE + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < Shape::WARP_M / 16; i++) {
#pragma unroll
        for (int j = 0; j < Shape::WARP_N / 8; j++) {
            *(float2 *)(to + j * 8) = make_float2(sums[i][j][0], sums[i][j][1]);
            *(float2 *)(to + j * 8 + 8 * STRIDE) = make_float2(sums[i][j][2], sums[i][j][3]);
        }
        __syncwarp();
        product_finish_all<16, Shape::WARP_N, 32>(out, HALF, mine, row + i * 16, column, lane);
        __syncwarp();
    }
}

/* The whole of a block's work, operands being of the 16-bit dtype HALF. k goes from `first`, a multiple of DEPTH, to w.k. */
template <int HALF, class Shape, bool ALIGNED, class Left>
TILE_INLINE void product_mma(const Left &x, const product_matrix &w, const product_place &place, int first, const wo_cuda_output &out) {
    __shared__ __align__(128) unsigned char shared[Shape::BYTES];
    const int tiles = (w.k - first + Shape::DEPTH - 1) / Shape::DEPTH;
    product_mma_filler<Shape, ALIGNED, Left> filler(x, w, place, first);
    float sums[Shape::WARP_M / 16][Shape::WARP_N / 8][4] = {};
#pragma unroll 1
    for (int tile = 0; tile < Shape::STAGES - 1; tile++) {
        if (tile < tiles)
            filler.fill(shared + tile * Shape::STAGE_BYTES);
        tile_commit();
    }
    int full = 0, empty = Shape::STAGES - 1;
    for (int tile = 0; tile < tiles; tile++) {
        /* The barrier says both that the copies of all threads have arrived and that nobody still reads the stage that is filled next. */
        tile_wait<Shape::STAGES - 2>();
        __syncthreads();
        if (tile + Shape::STAGES - 1 < tiles)
            filler.fill(shared + empty * Shape::STAGE_BYTES);
        tile_commit();
        product_mma_multiply<HALF, Shape>(shared + full * Shape::STAGE_BYTES, sums);
        full = full + 1 == Shape::STAGES ? 0 : full + 1;
        empty = empty + 1 == Shape::STAGES ? 0 : empty + 1;
    }
    __syncthreads();
    product_mma_finish<HALF, Shape>(out, place, (float *)shared, sums);
}

#endif
