/* Products in float32 without tensor cores: for operands of any dtype, which are widened when a tile is filled.
 *
 *     global --registers, one tile ahead, widened--> shared [tile of rows | tile of weights] x 2 --fma--> sums of a block of k --> totals
 *     totals --shared--> bias, epilogue, y
 *
 * An element of y is summed by one thread, along k from the first to the last, anew in every block of PRODUCT_BLOCK and each block added once: the
 * error is that of a short chain. The order is the same for every shape of tile. */
#ifndef WO_DEVICE_CUDA_KERNELS_PRODUCT_FMA_CUH
#define WO_DEVICE_CUDA_KERNELS_PRODUCT_FMA_CUH

#include "device/cuda/kernels/product.cuh"

enum { PRODUCT_BLOCK = 256 };

/* WARPS_M x WARPS_N warps of 4 x 8 lanes, each lane with M x N elements of y. Neighbouring lanes have neighbouring rows and columns, and a lane's next
 * row or column is the block's 4 WARPS_M or 8 WARPS_N further on. DEPTH elements of k at a time. */
template <int WARPS_M_, int WARPS_N_, int M_, int N_, int DEPTH_>
struct product_fma_shape {
    enum {
        WARPS_M = WARPS_M_, WARPS_N = WARPS_N_, M = M_, N = N_, DEPTH = DEPTH_,
        THREADS = 32 * WARPS_M * WARPS_N,
        ROW_STEP = 4 * WARPS_M, COLUMN_STEP = 8 * WARPS_N,
        ROWS = ROW_STEP * M, COLUMNS = COLUMN_STEP * N,
        CHUNKS = DEPTH / 4,      /* four floats each */
        STEP = THREADS / CHUNKS, /* rows that are filled at once */
        X_BYTES = ROWS * DEPTH * 4, TILE_BYTES = (ROWS + COLUMNS) * DEPTH * 4,
        AT_ONCE = M < 4 ? M : 4, /* of a lane's rows that wait together */
        WAITING_ROWS = AT_ONCE * ROW_STEP, WAITING_BYTES = WAITING_ROWS * product_stride<COLUMNS>::VALUE * 4,
        BYTES = 2 * TILE_BYTES > WAITING_BYTES ? 2 * TILE_BYTES : WAITING_BYTES
    };
    static_assert(PRODUCT_BLOCK % DEPTH == 0, "a block of k is whole tiles");
    static_assert(M % AT_ONCE == 0 && BYTES <= 48 * 1024, "sums wait where tiles lay");
};

/* Four neighbours along k as floats. in_fours: they lie together, within their row, aligned as a whole. */
template <class Operand>
TILE_INLINE float4 product_fma_read(const Operand &operand, typename Operand::cursor_type cursor, const typename Operand::row_type &row,
                                    int dtype, bool in_fours) {
    float v[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (in_fours) {
        const char *from = operand.at(cursor, row);
        if (from != NULL && dtype == WO_CUDA_F32)
            return *(const float4 *)from;
        if (from != NULL) {
            uint2 four = *(const uint2 *)from;
            uint16_t halves[4] = {(uint16_t)four.x, (uint16_t)(four.x >> 16), (uint16_t)four.y, (uint16_t)(four.y >> 16)};
#pragma unroll
            for (int e = 0; e < 4; e++)
                v[e] = tile_widen(dtype, halves[e]);
        }
    } else {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const char *from = operand.at(cursor, row);
            if (from != NULL)
                v[e] = tile_element(from, dtype, dtype, 0);
            operand.advance(cursor, 1);
        }
    }
    return make_float4(v[0], v[1], v[2], v[3]);
}

/* One operand's share of a thread: the same chunk of every STEP-th row of its tile, read into registers and later written to shared memory. */
template <class Shape, int TILE_ROWS, class Operand>
struct product_fma_filler {
    enum { EACH = (TILE_ROWS + Shape::STEP - 1) / Shape::STEP, EVEN = TILE_ROWS % Shape::STEP == 0 };
    const Operand &operand;
    typename Operand::row_type rows[EACH];
    typename Operand::cursor_type cursor;
    float4 held[EACH];
    int dtype;
    bool in_fours;

    __device__ __forceinline__ product_fma_filler(const Operand &operand_, int dtype_, bool in_fours_, int row, int first)
        : operand(operand_), dtype(dtype_), in_fours(in_fours_) {
#pragma unroll
        for (int i = 0; i < EACH; i++)
            rows[i] = operand.row(row + threadIdx.x / Shape::CHUNKS + i * Shape::STEP);
        cursor = operand.start(first + threadIdx.x % Shape::CHUNKS * 4);
    }
    __device__ __forceinline__ bool mine(int i) const {
        return EVEN || threadIdx.x / Shape::CHUNKS + i * Shape::STEP < TILE_ROWS;
    }
    __device__ __forceinline__ void read(void) {
#pragma unroll
        for (int i = 0; i < EACH; i++)
            if (mine(i))
                held[i] = product_fma_read(operand, cursor, rows[i], dtype, in_fours);
        operand.advance(cursor, Shape::DEPTH);
    }
    __device__ __forceinline__ void write(unsigned char *tile) const {
#pragma unroll
        for (int i = 0; i < EACH; i++)
            if (mine(i))
                *(float4 *)(tile + product_offset<Shape::CHUNKS>(threadIdx.x / Shape::CHUNKS + i * Shape::STEP,
                                                                 threadIdx.x % Shape::CHUNKS)) = held[i];
    }
};

/* The lane's place among the rows and columns of the tile. */
template <class Shape>
TILE_INLINE uint32_t product_fma_row(void) {
    return threadIdx.x / 32 / Shape::WARPS_N * 4 + threadIdx.x % 32 / 8;
}

template <class Shape>
TILE_INLINE uint32_t product_fma_column(void) {
    return threadIdx.x / 32 % Shape::WARPS_N * 8 + threadIdx.x % 8;
}

/* Adds the products of one tile, k by k. */
template <class Shape>
TILE_INLINE void product_fma_multiply(const unsigned char *tile, float (&sums)[Shape::M][Shape::N]) {
    const uint32_t row = product_fma_row<Shape>(), column = product_fma_column<Shape>();
#pragma unroll 1
    for (int chunk = 0; chunk < Shape::CHUNKS; chunk++) {
        float4 x[Shape::M];
#pragma unroll
        for (int i = 0; i < Shape::M; i++)
            x[i] = *(const float4 *)(tile + product_offset<Shape::CHUNKS>(row + i * Shape::ROW_STEP, chunk));
#pragma unroll
        for (int j = 0; j < Shape::N; j++) {
            float4 w = *(const float4 *)(tile + Shape::X_BYTES + product_offset<Shape::CHUNKS>(column + j * Shape::COLUMN_STEP, chunk));
#pragma unroll
            for (int i = 0; i < Shape::M; i++)
                sums[i][j] = fmaf(x[i].x, w.x, sums[i][j]);
#pragma unroll
            for (int i = 0; i < Shape::M; i++)
                sums[i][j] = fmaf(x[i].y, w.y, sums[i][j]);
#pragma unroll
            for (int i = 0; i < Shape::M; i++)
                sums[i][j] = fmaf(x[i].z, w.z, sums[i][j]);
#pragma unroll
            for (int i = 0; i < Shape::M; i++)
                sums[i][j] = fmaf(x[i].w, w.w, sums[i][j]);
        }
    }
}

/* The block brings AT_ONCE rows of every lane at a time into the order of memory and finishes them. */
template <class Shape>
TILE_INLINE void product_fma_finish(const wo_cuda_output &out, const product_place &place, float *waiting,
                                    const float (&totals)[Shape::M][Shape::N]) {
    enum { STRIDE = product_stride<Shape::COLUMNS>::VALUE };
    float *to = waiting + product_fma_row<Shape>() * STRIDE + product_fma_column<Shape>();
#pragma unroll
    for (int first = 0; first < Shape::M; first += Shape::AT_ONCE) {
#pragma unroll
        for (int i = 0; i < Shape::AT_ONCE; i++)
#pragma unroll
            for (int j = 0; j < Shape::N; j++)
                to[i * Shape::ROW_STEP * STRIDE + j * Shape::COLUMN_STEP] = totals[first + i][j];
        __syncthreads();
        product_finish_all<Shape::WAITING_ROWS, Shape::COLUMNS, Shape::THREADS>(out, out.dtype, waiting, place.row + first * Shape::ROW_STEP,
                                                                               place.column, threadIdx.x);
        if (first + Shape::AT_ONCE < Shape::M)
            __syncthreads();
    }
}

struct product_fma_dtypes {
    int x, w;
    bool x_in_fours, w_in_fours;
};

/* The whole of a block's work. k goes from `first`, a multiple of DEPTH, to w.k. */
template <class Shape, class Left>
TILE_INLINE void product_fma(const Left &x, const product_matrix &w, const product_fma_dtypes &dtypes, const product_place &place, int first,
                             const wo_cuda_output &out) {
    __shared__ __align__(128) unsigned char shared[Shape::BYTES];
    product_fma_filler<Shape, Shape::ROWS, Left> x_filler(x, dtypes.x, dtypes.x_in_fours, place.row, first);
    product_fma_filler<Shape, Shape::COLUMNS, product_matrix> w_filler(w, dtypes.w, dtypes.w_in_fours, place.column, first);
    float sums[Shape::M][Shape::N] = {}, totals[Shape::M][Shape::N] = {};
    x_filler.read();
    w_filler.read();
    int turn = 0;
    for (int k = first; k < w.k; k += Shape::DEPTH, turn ^= 1) {
        unsigned char *tile = shared + turn * Shape::TILE_BYTES;
        const bool last = k + Shape::DEPTH >= w.k;
        /* The one barrier of a turn is behind the writes: whoever passes it has done reading the other tile, which is written next. */
        x_filler.write(tile);
        w_filler.write(tile + Shape::X_BYTES);
        __syncthreads();
        if (!last) {
            x_filler.read();
            w_filler.read();
        }
        product_fma_multiply<Shape>(tile, sums);
        if (!last && (k + Shape::DEPTH) % PRODUCT_BLOCK != 0)
            continue;
#pragma unroll
        for (int i = 0; i < Shape::M; i++)
#pragma unroll
            for (int j = 0; j < Shape::N; j++) {
                totals[i][j] += sums[i][j];
                sums[i][j] = 0.0f;
            }
    }
    __syncthreads();
    product_fma_finish<Shape>(out, place, (float *)shared, totals);
}

#endif
