/* What the two kinds of product kernels share: where the operands' rows lie, in which order the blocks take the tiles of y, and the last step.
 *
 * An operand is read in chunks of neighbours along k. `row` finds a row once, `start` a place along k, `advance` moves it, and `at` gives
 * the address of one chunk, or NULL where zeros stand: past the last row, past the last k, in the padding and in a frame of zeros. */
#ifndef WO_DEVICE_CUDA_KERNELS_PRODUCT_CUH
#define WO_DEVICE_CUDA_KERNELS_PRODUCT_CUH

#include "device/cuda/kernels/activation.cuh"
#include "device/cuda/kernels/conv.h"
#include "device/cuda/kernels/linear.h"
#include "device/cuda/kernels/product.h"

/* --- operands ----------------------------------------------------------------------------------------------------------------- */

/* A matrix [rows, k] in memory: every product's weights, and the left side of a linear. */
struct product_matrix {
    typedef const char *row_type;
    typedef int cursor_type;
    const char *base;
    int rows, k, bytes; /* of an element */

    __device__ __forceinline__ row_type row(int r) const {
        return r < rows ? base + (int64_t)r * k * bytes : NULL;
    }
    __device__ __forceinline__ cursor_type start(int at) const {
        return at;
    }
    __device__ __forceinline__ void advance(cursor_type &c, int n) const {
        c += n;
    }
    __device__ __forceinline__ const char *at(cursor_type c, row_type r) const {
        return r != NULL && c < k ? r + (int64_t)c * bytes : NULL;
    }
};

/* The taps of every pixel of y: the left side of a convolution. */
struct product_taps {
    struct row_type {
        int t, y, x; /* the first tap's frame and pixel */
    };
    struct cursor_type {
        int dt, dy, dx, channel;
    };
    const wo_cuda_conv_args &a;
    int bytes;

    /* A row that is not there has its taps far above the frame. */
    __device__ __forceinline__ row_type row(int r) const {
        if (r >= a.out.rows)
            return {0, -(1 << 30), 0};
        int line = r / a.out_width, t = line / a.out_height;
        return {t, (line - t * a.out_height) * a.step - a.above, (r - line * a.out_width) * a.step - a.left};
    }
    __device__ __forceinline__ cursor_type start(int k) const {
        int tap = k / a.channels, line = tap / a.kw, dt = line / a.kh;
        return {dt, line - dt * a.kh, tap - line * a.kw, k - tap * a.channels};
    }
    __device__ __forceinline__ void advance(cursor_type &c, int n) const {
        c.channel += n;
        while (c.channel >= a.channels) {
            c.channel -= a.channels;
            if (++c.dx == a.kw) {
                c.dx = 0;
                if (++c.dy == a.kh) {
                    c.dy = 0;
                    c.dt++;
                }
            }
        }
    }
    __device__ __forceinline__ const char *at(const cursor_type &c, const row_type &r) const {
        int y = r.y + c.dy, x = r.x + c.dx;
        if (c.dt >= a.kt || (unsigned)y >= (unsigned)a.height << a.up || (unsigned)x >= (unsigned)a.width << a.up)
            return NULL;
        const char *frame = (const char *)a.frames[r.t + c.dt];
        if (frame == NULL)
            return NULL;
        return frame + ((int64_t)((y >> a.up) * a.width + (x >> a.up)) * a.channels + c.channel) * bytes;
    }
    /* Where the sum of rows up to `last` may begin: taps in frames of zeros that no row has anything else in are skipped. To begin with
     * sums of zeros gives the same bits. */
    __device__ __forceinline__ int first_k(int last) const {
        int t = min(last, a.out.rows - 1) / (a.out_height * a.out_width);
        return min(max(a.zeros - t, 0), a.kt) * a.kh * a.kw * a.channels;
    }
};

/* --- tiles -------------------------------------------------------------------------------------------------------------------- */

struct product_place {
    int row, column; /* of the tile's first element */
};

/* Blocks run roughly in order of their number: bands of eight tiles' rows, and in a band down before across, so that what runs at the same time
 * reads few rows of both operands. */
template <int ROWS, int COLUMNS>
TILE_INLINE product_place product_place_of_block(const wo_cuda_output &out) {
    enum { BAND = 8 };
    unsigned down = (out.rows - 1) / ROWS + 1, across = (out.columns - 1) / COLUMNS + 1;
    unsigned band = blockIdx.x / (BAND * across), within = blockIdx.x - band * (BAND * across);
    unsigned high = min(down - band * BAND, (unsigned)BAND);
    return {(int)((band * BAND + within % high) * ROWS), (int)(within / high * COLUMNS)};
}

/* Where chunk `chunk` of row `row` lies in a tile of rows of CHUNKS chunks. Rows of four chunks lie in pairs. */
template <int CHUNKS>
TILE_INLINE uint32_t product_offset(uint32_t row, uint32_t chunk) {
    static_assert(CHUNKS == 4 || CHUNKS % 8 == 0, "rows of 64 bytes, or of whole 128");
    if (CHUNKS == 4)
        return tile_offset<128>(row >> 1, (row & 1) * 4 + chunk);
    return tile_offset<CHUNKS == 4 ? 128 : CHUNKS * TILE_CHUNK>(row, chunk);
}

/* --- the last step ------------------------------------------------------------------------------------------------------------ */

/* Row stride in floats of sums that wait in shared memory: eight banks, or 24, from row to row. */
template <int COLUMNS>
struct product_stride {
    enum { VALUE = COLUMNS + (COLUMNS % 16 == 0 ? 8 : 0) };
    static_assert(COLUMNS % 16 == 0 || COLUMNS % 32 == 8, "four rows must start in different banks");
};

/* Four neighbours of bias or gate, of which `count` are there. */
TILE_INLINE void product_load_factors(const wo_cuda_output &out, const float *from, int count, float (&v)[4]) {
    if (out.factors_in_fours) {
        float4 four = *(const float4 *)from;
        v[0] = four.x, v[1] = four.y, v[2] = four.z, v[3] = four.w;
    } else {
        for (int e = 0; e < 4; e++)
            v[e] = e < count ? from[e] : 0.0f;
    }
}

TILE_INLINE void product_load_other(const wo_cuda_output &out, int half, int64_t at, int count, float (&v)[4]) {
    if (out.in_fours && out.dtype == WO_CUDA_F32) {
        float4 four = *(const float4 *)((const float *)out.other + at);
        v[0] = four.x, v[1] = four.y, v[2] = four.z, v[3] = four.w;
    } else if (out.in_fours) {
        uint2 four = *(const uint2 *)((const uint16_t *)out.other + at);
        v[0] = tile_widen(half, (uint16_t)four.x), v[1] = tile_widen(half, (uint16_t)(four.x >> 16));
        v[2] = tile_widen(half, (uint16_t)four.y), v[3] = tile_widen(half, (uint16_t)(four.y >> 16));
    } else {
        for (int e = 0; e < 4; e++)
            v[e] = e < count ? tile_element(out.other, out.dtype, half, at + e) : 0.0f;
    }
}

TILE_INLINE void product_store_four(const wo_cuda_output &out, int half, int64_t at, int count, const float (&v)[4]) {
    if (out.in_fours && out.dtype == WO_CUDA_F32) {
        *(float4 *)((float *)out.y + at) = make_float4(v[0], v[1], v[2], v[3]);
    } else if (out.in_fours) {
        *(uint2 *)((uint16_t *)out.y + at) = make_uint2(tile_pack(half, v[0], v[1]), tile_pack(half, v[2], v[3]));
    } else {
        for (int e = 0; e < 4; e++)
            if (e < count)
                tile_store(out.y, out.dtype, half, at + e, v[e]);
    }
}

/* Bias, epilogue and store of v, the sums of row `row` from column `column`; those past the last column are dropped. half: what out.dtype is if it is
 * not float32; products of 16-bit operands have no other result of 16 bits than theirs. */
TILE_INLINE void product_finish(const wo_cuda_output &out, int half, int row, int column, float (&v)[4]) {
    const int count = min(out.columns - column, 4);
    const int64_t at = (int64_t)row * out.columns + column;
    float factors[4], other[4];
    if (out.bias != NULL) {
        product_load_factors(out, out.bias + column, count, factors);
        for (int e = 0; e < 4; e++)
            v[e] += factors[e];
    }
    if (out.epilogue >= WO_CUDA_EPILOGUE_MUL)
        product_load_other(out, half, at, count, other);
    switch (out.epilogue) {
    case WO_CUDA_EPILOGUE_SILU:
        for (int e = 0; e < 4; e++)
            v[e] = activation_silu(v[e]);
        break;
    case WO_CUDA_EPILOGUE_GELU_TANH:
        for (int e = 0; e < 4; e++)
            v[e] = activation_gelu_tanh(v[e]);
        break;
    case WO_CUDA_EPILOGUE_GELU_ERF:
        for (int e = 0; e < 4; e++)
            v[e] = activation_gelu_erf(v[e]);
        break;
    case WO_CUDA_EPILOGUE_MUL:
        for (int e = 0; e < 4; e++)
            v[e] *= other[e];
        break;
    case WO_CUDA_EPILOGUE_ADD:
        for (int e = 0; e < 4; e++)
            v[e] = other[e] + v[e];
        break;
    case WO_CUDA_EPILOGUE_GATE:
        product_load_factors(out, out.gate + (int64_t)(row / out.rows_per_gate) * out.columns + column, count, factors);
        for (int e = 0; e < 4; e++)
            v[e] = fmaf(v[e], factors[e], other[e]);
        break;
    }
    product_store_four(out, half, at, count, v);
}

/* Finishes ROWS x COLUMNS sums that lie in shared memory, of which the first belongs to row `row` and column `column` of y. THREADS threads take
 * part, of which this one is `thread`; four neighbouring columns at a time, so that memory is written in whole sectors. */
template <int ROWS, int COLUMNS, int THREADS>
TILE_INLINE void product_finish_all(const wo_cuda_output &out, int half, const float *sums, int row, int column, int thread) {
    enum { FOURS = COLUMNS / 4 };
#pragma unroll 1
    for (int i = thread; i < ROWS * FOURS; i += THREADS) {
        int r = i / FOURS, c = i % FOURS * 4;
        if (row + r >= out.rows || column + c >= out.columns)
            continue;
        float4 four = *(const float4 *)(sums + r * product_stride<COLUMNS>::VALUE + c);
        float v[4] = {four.x, four.y, four.z, four.w};
        product_finish(out, half, row + r, column + c, v);
    }
}

#endif
