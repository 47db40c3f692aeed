/* Sweeps over flat memory: add, unary, and the conversions, whose formulas are in convert.cuh. All are bound by memory or by the link. */
#include "device/cuda/kernels/elementwise.h"
#include "device/cuda/kernels/activation.cuh"
#include "device/cuda/kernels/convert.cuh"
#include "device/cuda/kernels/scalar.cuh"

/* Element of group g of this thread: the groups of V elements lie side by side over the block's threads. */
template <int V>
WO_INLINE int64_t flat_element(int g) {
    return (int64_t)blockIdx.x * WO_CUDA_FLAT_CHUNK + ((int64_t)g * WO_CUDA_FLAT_BLOCK + threadIdx.x) * V;
}

/* --- add and unary -------------------------------------------------------------------------------------------------------------- */

extern "C" __global__ void __launch_bounds__(WO_CUDA_FLAT_BLOCK) wo_add(const __grid_constant__ wo_cuda_add_args a) {
    int64_t at = flat_element<4>(0) % a.period; /* of group g in b */
#pragma unroll
    for (int g = 0; g < 4; g++) {
        int64_t i = flat_element<4>(g);
        float x[4], y[4];
        if (i >= a.count)
            return;
        wo_load_some<WO_CUDA_F32, 4>(a.a, i, a.count, a.vectors, x);
        if (a.vectors)
            wo_load_many<WO_CUDA_F32, 4>(a.b, at, y);
        else
            for (int k = 0; k < 4; k++)
                y[k] = a.b[(at + k) % a.period];
        for (int k = 0; k < 4; k++)
            x[k] += y[k];
        wo_store_some<WO_CUDA_F32, 4>(a.y, i, a.count, a.vectors, x);
        at += a.step;
        at -= at >= a.period ? a.period : 0;
    }
}

enum { COPY, SILU, CLAMP_ONE, GELU_TANH, GELU_ERF }; /* wo_unary_kind's numbers; asserted in elementwise.c */

/* A NaN stays one: clamped, it would pass for a pixel. */
WO_INLINE float clamp_one(float x) {
    return x > 1.0f ? 1.0f : x < -1.0f ? -1.0f : x;
}

template <int COUNT>
WO_INLINE void apply(int kind, float (&v)[COUNT]) {
#define APPLY(function)             \
    for (int k = 0; k < COUNT; k++) \
        v[k] = function(v[k])
    if (kind == SILU)
        APPLY(activation_silu);
    else if (kind == CLAMP_ONE)
        APPLY(clamp_one);
    else if (kind == GELU_TANH)
        APPLY(activation_gelu_tanh);
    else if (kind == GELU_ERF)
        APPLY(activation_gelu_erf);
#undef APPLY
}

template <int X, int Y>
WO_INLINE void unary_chunk(const wo_cuda_unary_args &a) {
    const int V = X == WO_CUDA_F32 ? 4 : 8;
    float v[16 / V][V];
#pragma unroll
    for (int g = 0; g < 16 / V; g++)
        wo_load_some<X, V>(a.x, flat_element<V>(g), a.count, a.vectors, v[g]);
#pragma unroll
    for (int g = 0; g < 16 / V; g++) {
        apply<V>(a.kind, v[g]);
        wo_store_some<Y, V>(a.y, flat_element<V>(g), a.count, a.vectors, v[g]);
    }
}

extern "C" __global__ void __launch_bounds__(WO_CUDA_FLAT_BLOCK) wo_unary(const __grid_constant__ wo_cuda_unary_args a) {
    if (a.x_dtype == WO_CUDA_F16 || a.y_dtype == WO_CUDA_F16)
        WO_BY_DTYPES(unary_chunk, WO_CUDA_F16, a.x_dtype, a.y_dtype, a);
    else
        WO_BY_DTYPES(unary_chunk, WO_CUDA_BF16, a.x_dtype, a.y_dtype, a);
}

/* --- convert rows --------------------------------------------------------------------------------------------------------------- */

/* The elements that are in no whole unit, one by one: a few in front and a few behind, for the first block. */
template <int FROM, int TO>
WO_INLINE void convert_edges(const wo_cuda_convert_rows_args &a) {
    const int U = wo_conversion_of<FROM, TO>::UNIT;
    bool whole = a.first_unit < a.end_unit;
    int64_t head = whole ? a.first_unit * U - a.lead : a.count, tail = whole ? a.end_unit * U - a.lead : a.count;
    for (int64_t i = threadIdx.x; i < head + a.count - tail; i += WO_CUDA_CONVERT_BLOCK) {
        int64_t element = i < head ? i : tail + i - head;
        uint32_t piece[2];
        wo_gather_bytes<wo_bytes_of<FROM>::VALUE>((const unsigned char *)a.src + element * wo_bytes_of<FROM>::VALUE, piece);
        wo_put_one<TO>(a.dst, element, wo_convert_one<FROM, TO>(piece[0], piece[1], a.scale));
    }
}

/* All lanes of a warp have neighbouring units, and all take part, with or without one of their own. Word `unit` begins `shift` bytes in front of the
 * unit's elements; the rest of these is the next lane's word. */
template <int FROM, int TO>
WO_INLINE void convert_units(const wo_cuda_convert_rows_args &a, int64_t block_first) {
    typedef wo_conversion_of<FROM, TO> of;
    const int UNROLL = WO_CUDA_CONVERT_UNROLL, W = of::WORDS;
    const unsigned char *elements = (const unsigned char *)a.src - a.lead * wo_bytes_of<FROM>::VALUE;
    unsigned shift = (unsigned)((uintptr_t)elements % (W * 4));
    const unsigned char *words = elements - shift;
    uint32_t own[UNROLL][2 * W];
#pragma unroll
    for (int k = 0; k < UNROLL; k++) {
        int64_t unit = block_first + k * WO_CUDA_CONVERT_BLOCK + threadIdx.x;
        bool mine = unit >= a.first_unit && unit < a.end_unit;
        wo_get_words<W>(words + unit * (W * 4), mine, own[k]);
    }
#pragma unroll
    for (int k = 0; k < UNROLL; k++) {
        int64_t unit = block_first + k * WO_CUDA_CONVERT_BLOCK + threadIdx.x;
        bool mine = unit >= a.first_unit && unit < a.end_unit;
        if (shift != 0) {
#pragma unroll
            for (int i = 0; i < W; i++)
                own[k][W + i] = __shfl_down_sync(0xffffffffu, own[k][i], 1);
            if (mine && (threadIdx.x % 32 == 31 || unit + 1 == a.end_unit))
                wo_get_words<W>(words + (unit + 1) * (W * 4), true, own[k] + W);
            wo_shift_words<W>(own[k], shift);
        }
        if (mine)
            wo_convert_unit<FROM, TO>(own[k], (unsigned char *)a.dst + (unit * of::UNIT - a.lead) * wo_bytes_of<TO>::VALUE, a.scale);
    }
}

template <int FROM, int TO>
WO_INLINE void convert_rows(const wo_cuda_convert_rows_args &a) {
    const int64_t step = WO_CUDA_CONVERT_BLOCK * WO_CUDA_CONVERT_UNROLL;
    if (blockIdx.x == 0)
        convert_edges<FROM, TO>(a);
    for (int64_t first = blockIdx.x * step; first < a.end_unit; first += gridDim.x * step)
        convert_units<FROM, TO>(a, first);
}

extern "C" __global__ void __launch_bounds__(WO_CUDA_CONVERT_BLOCK) wo_convert_rows(const __grid_constant__ wo_cuda_convert_rows_args a) {
    WO_BY_CONVERSION(convert_rows, a.from, a.to, a);
}

/* --- convert taps --------------------------------------------------------------------------------------------------------------- */

/* Where tile `number` lies: of one output, the channels [channel, channel + channels) and of each the taps [tap, tap + taps). */
struct tap_tile {
    int64_t output, channel, tap;
    int channels, taps;
};

WO_INLINE tap_tile tile_number(const wo_cuda_convert_taps_args &a, int64_t number) {
    tap_tile t;
    t.tap = number % a.tap_tiles * a.tile_taps;
    number /= a.tap_tiles;
    t.channel = number % a.channel_tiles * a.tile_channels;
    t.output = number / a.channel_tiles;
    t.channels = (int)min(a.channels - t.channel, a.tile_channels);
    t.taps = (int)min(a.taps - t.tap, a.tile_taps);
    return t;
}

/* Brings the tile's bytes, which are contiguous, into shared memory at the same place within 16 bytes, and returns that place. Aligned words may hold
 * bytes of the neighbours; what lies outside the source is not read and becomes 0, up to a word behind the tile. */
template <int FROM>
WO_INLINE unsigned bring_tile(const wo_cuda_convert_taps_args &a, const tap_tile &t, uint4 *raw) {
    const int BYTES = wo_bytes_of<FROM>::VALUE;
    const unsigned char *src = (const unsigned char *)a.src, *end = src + a.count * BYTES;
    const unsigned char *first = src + ((t.output * a.channels + t.channel) * a.taps + t.tap) * BYTES;
    unsigned shift = (unsigned)((uintptr_t)first % 16);
    int words = (int)(shift + t.channels * t.taps * BYTES + 15) / 16 + 1;
    for (int w = threadIdx.x; w < words; w += WO_CUDA_CONVERT_BLOCK) {
        const unsigned char *at = first - shift + w * 16;
        uint4 word;
        if (at >= src && at + 16 <= end)
            word = *(const uint4 *)at;
        else
            word = wo_word_within(at, src, end);
        raw[w] = word;
    }
    return shift;
}

/* A warp writes the channels of one tap side by side. */
template <int FROM, int TO>
WO_INLINE void write_taps(const wo_cuda_convert_taps_args &a, const tap_tile &t, const uint32_t *raw, unsigned shift) {
    const int BYTES = wo_bytes_of<FROM>::VALUE;
    for (int tap = threadIdx.x / 32; tap < t.taps; tap += WO_CUDA_CONVERT_BLOCK / 32)
        for (int c = threadIdx.x % 32; c < t.channels; c += 32) {
            uint32_t piece[2];
            wo_take_bytes<BYTES>(raw, shift + (c * t.taps + tap) * BYTES, piece);
            wo_put_one<TO>(a.dst, (t.output * a.taps + t.tap + tap) * a.channels + t.channel + c,
                           wo_convert_one<FROM, TO>(piece[0], piece[1], a.scale));
        }
}

template <int FROM, int TO>
WO_INLINE void convert_taps(const wo_cuda_convert_taps_args &a, uint4 *raw) {
    for (int64_t number = blockIdx.x; number < a.tiles; number += gridDim.x) {
        tap_tile t = tile_number(a, number);
        unsigned shift = bring_tile<FROM>(a, t, raw);
        __syncthreads();
        write_taps<FROM, TO>(a, t, (const uint32_t *)raw, shift);
        __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(WO_CUDA_CONVERT_BLOCK) wo_convert_taps(const __grid_constant__ wo_cuda_convert_taps_args a) {
    __shared__ uint4 raw[WO_CUDA_TAPS_BYTES / 16 + 3];
    WO_BY_CONVERSION(convert_taps, a.from, a.to, a, raw);
}
