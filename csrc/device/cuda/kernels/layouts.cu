/* Changes of layout, look-ups and tables. */
#include "device/cuda/kernels/layouts.h"
#include "device/cuda/kernels/scalar.cuh"

WO_INLINE int64_t thread_number(void) {
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

/* --- patches -------------------------------------------------------------------------------------------------------------------- */
/* Neighbouring threads have neighbouring patches of one channel, so that what the planes see is contiguous; the rows' side is scattered, and
 * small enough to stay in the second cache until its sectors are whole. */

template <int DTYPE>
WO_INLINE void patchify_one(const wo_cuda_patch_args &a, int64_t c, int64_t patch) {
    const float *upper = (const float *)a.from + (c * a.lines + patch / a.patches) * 4 * a.patches + patch % a.patches * 2;
    const float *lower = upper + 2 * a.patches;
    float v[4];
    if (a.vectors) {
        float2 two = *(const float2 *)upper, next = *(const float2 *)lower;
        v[0] = two.x;
        v[1] = two.y;
        v[2] = next.x;
        v[3] = next.y;
    } else {
        v[0] = upper[0];
        v[1] = upper[1];
        v[2] = lower[0];
        v[3] = lower[1];
    }
    int64_t to = (patch * a.channels + c) * 4;
    wo_store_some<DTYPE, 4>(a.to, to, to + 4, a.vectors, v);
}

extern "C" __global__ void __launch_bounds__(WO_CUDA_LAYOUT_BLOCK) wo_patchify(const __grid_constant__ wo_cuda_patch_args a) {
    int64_t n = thread_number(), patches = a.lines * a.patches;
    if (n >= a.channels * patches)
        return;
    WO_BY_DTYPE(patchify_one, a.dtype, a, n / patches, n % patches);
}

template <int DTYPE>
WO_INLINE void unpatchify_one(const wo_cuda_patch_args &a, int64_t pixel_line, int64_t j) {
    int64_t c = pixel_line / 2 / a.lines, line = pixel_line / 2 % a.lines, ph = pixel_line % 2;
    int64_t from = ((line * a.patches + j) * 4 + ph * 2) * a.channels + c;
    float *pixels = (float *)a.to + (pixel_line * a.patches + j) * 2;
    float left = wo_load_one<DTYPE>(a.from, from), right = wo_load_one<DTYPE>(a.from, from + a.channels);
    if (a.vectors) {
        *(float2 *)pixels = make_float2(left, right);
    } else {
        pixels[0] = left;
        pixels[1] = right;
    }
}

extern "C" __global__ void __launch_bounds__(WO_CUDA_LAYOUT_BLOCK) wo_unpatchify(const __grid_constant__ wo_cuda_patch_args a) {
    int64_t n = thread_number();
    if (n >= a.channels * a.lines * 2 * a.patches)
        return;
    WO_BY_DTYPE(unpatchify_one, a.dtype, a, n / a.patches, n % a.patches);
}

/* --- channels_last -------------------------------------------------------------------------------------------------------------- */

/* The pixels of a tile lie an odd number of words apart, so that neither side of the transposition meets a bank 32 times. */
template <int DTYPE>
WO_INLINE void write_tile(const wo_cuda_channels_last_args &a, const float *tile, int64_t first_pixel, int64_t first_channel, int channels) {
    int64_t left = a.pixels - first_pixel;
    int pixels = left < WO_CUDA_TILE_PIXELS ? (int)left : WO_CUDA_TILE_PIXELS;
    for (int i = threadIdx.x; i < pixels * channels; i += WO_CUDA_LAYOUT_BLOCK) {
        int p = i / channels, c = i % channels;
        wo_store_one<DTYPE>(a.y, (first_pixel + p) * a.channels + first_channel + c, tile[p * (channels | 1) + c]);
    }
}

extern "C" __global__ void __launch_bounds__(WO_CUDA_LAYOUT_BLOCK) wo_channels_last(const __grid_constant__ wo_cuda_channels_last_args a) {
    __shared__ float tile[WO_CUDA_TILE_PIXELS * (WO_CUDA_TILE_CHANNELS | 1)];
    int64_t across = (a.channels + WO_CUDA_TILE_CHANNELS - 1) / WO_CUDA_TILE_CHANNELS;
    int64_t first_pixel = blockIdx.x / across * WO_CUDA_TILE_PIXELS, first_channel = blockIdx.x % across * WO_CUDA_TILE_CHANNELS;
    int64_t left = a.channels - first_channel;
    int channels = left < WO_CUDA_TILE_CHANNELS ? (int)left : WO_CUDA_TILE_CHANNELS;
    int p = threadIdx.x % WO_CUDA_TILE_PIXELS;
    if (first_pixel + p < a.pixels)
        for (int c = threadIdx.x / WO_CUDA_TILE_PIXELS; c < channels; c += WO_CUDA_LAYOUT_BLOCK / WO_CUDA_TILE_PIXELS)
            tile[p * (channels | 1) + c] = a.x[(first_channel + c) * a.pixels + first_pixel + p];
    __syncthreads();
    WO_BY_DTYPE(write_tile, a.y_dtype, a, tile, first_pixel, first_channel, channels);
}

/* --- embedding ------------------------------------------------------------------------------------------------------------------ */

template <int TABLE, int Y>
WO_INLINE void embed_as(const wo_cuda_embedding_args &a) {
    int64_t row = blockIdx.x / a.chunks, column = blockIdx.x % a.chunks * WO_CUDA_EMBEDDING_CHUNK + threadIdx.x * 8;
    float v[8];
    if (column >= a.width)
        return;
    wo_load_some<TABLE, 8>((const char *)a.table + a.ids[row] * a.width * (TABLE == WO_CUDA_F32 ? 4 : 2), column, a.width, a.vectors, v);
    wo_store_some<Y, 8>((char *)a.y + row * a.width * (Y == WO_CUDA_F32 ? 4 : 2), column, a.width, a.vectors, v);
}

template <int TABLE>
WO_INLINE void embed(const wo_cuda_embedding_args &a) {
    if (a.y_dtype == WO_CUDA_F32)
        embed_as<TABLE, WO_CUDA_F32>(a);
    else if (a.y_dtype == WO_CUDA_BF16)
        embed_as<TABLE, WO_CUDA_BF16>(a);
    else
        embed_as<TABLE, WO_CUDA_F16>(a);
}

extern "C" __global__ void __launch_bounds__(WO_CUDA_LAYOUT_BLOCK) wo_embedding(const __grid_constant__ wo_cuda_embedding_args a) {
    WO_BY_DTYPE(embed, a.table_dtype, a);
}

/* --- tables of angles ----------------------------------------------------------------------------------------------------------- */

/* Sine and cosine of x, |x| < 2^30, within 1e-12. x is brought to |r| <= pi / 4 by multiples of pi / 2 in two parts, and adding 1.5 * 2^52
 * leaves the nearest whole number in the low bits; then the Taylor series, whose next terms are below 1e-13. */
WO_INLINE void sine_and_cosine(double x, double &sine, double &cosine) {
    double raised = fma(x, 0.63661977236758134308, 0x1.8p52), turns = raised - 0x1.8p52;
    int quadrant = __double2loint(raised);
    double r = fma(turns, -0x1.921fb54442d18p+0, x);
    r = fma(turns, -0x1.1a62633145c07p-54, r);
    double z = r * r;
    double s = fma(z, 1.0 / 6227020800.0, -1.0 / 39916800.0);
    s = fma(z, s, 1.0 / 362880.0);
    s = fma(z, s, -1.0 / 5040.0);
    s = fma(z, s, 1.0 / 120.0);
    s = fma(z, s, -1.0 / 6.0);
    s = fma(r * z, s, r);
    double c = fma(z, -1.0 / 87178291200.0, 1.0 / 479001600.0);
    c = fma(z, c, -1.0 / 3628800.0);
    c = fma(z, c, 1.0 / 40320.0);
    c = fma(z, c, -1.0 / 720.0);
    c = fma(z, c, 1.0 / 24.0);
    c = fma(z, c, -0.5);
    c = fma(z, c, 1.0);
    sine = quadrant & 1 ? c : s;
    cosine = quadrant & 1 ? s : c;
    sine = quadrant & 2 ? -sine : sine;
    cosine = (quadrant + 1) & 2 ? -cosine : cosine;
}

extern "C" __global__ void __launch_bounds__(WO_CUDA_LAYOUT_BLOCK) wo_rope_table(const __grid_constant__ wo_cuda_rope_table_args a) {
    int64_t n = thread_number(), token = n / a.count;
    int i = (int)(n % a.count), pair = a.first + i;
    double sine, cosine;
    if (token >= a.tokens)
        return;
    int64_t position = token / a.width / a.height;
    if (pair >= a.width_pairs)
        position = token % a.width;
    else if (pair >= a.height_pairs)
        position = token / a.width % a.height;
    sine_and_cosine((double)position * a.frequency[i], sine, cosine);
    a.cos[token * a.pairs + pair] = (float)cosine;
    a.sin[token * a.pairs + pair] = (float)sine;
}

extern "C" __global__ void __launch_bounds__(WO_CUDA_LAYOUT_BLOCK) wo_sinusoid(const __grid_constant__ wo_cuda_sinusoid_args a) {
    for (int i = threadIdx.x; i < a.count; i += WO_CUDA_LAYOUT_BLOCK)
        WO_BY_DTYPE(wo_store_one, a.dtype, a.y, a.first + i, a.value[i]);
}
