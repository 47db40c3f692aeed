/* Products by register tiles: what linear.c and conv.c ask for, and what the files tile*.c share.
 *
 * Everything is one shape of product: a convolution over channels-last frames. A linear is one with a 1 x 1 x 1 kernel over a single
 * frame of M x 1 pixels. The unit along K is a 32-bit word: a float32, or a pair of bfloat16 where the instruction set multiplies
 * pairs; otherwise both operands are widened when they are packed. So both kinds share blocking, packing and output.
 *
 *     task  = one frame of the output x a chunk of its pixels x TILE_COLUMNS output channels
 *     block = a run of K (some taps, or a part of one tap's channels) of at most TILE_WORDS words
 *     tile  = TILE_ROWS pixels x a panel of TILE_VECTORS vectors: sums that stay in registers through a block
 *
 *     for each block:   pack the weights of the block into panels, in scratch (second-level cache)
 *         for each TILE_ROWS pixels of the chunk:   find their inputs for each tap
 *             for each panel:   sums of the block from 0, then added to the chunk's sums in scratch
 *             after the last block:   bias, epilogue, conversion, store
 *
 * An output's bits depend on the order of its sum over K alone: blocks are cut by (K, kind), each is one chain that starts from 0, and
 * no other output of the tile takes part. Pixels of the zero padding are read from a row of zeros, so the chain has one length.
 */
#ifndef WO_KERNELS_TILE_H
#define WO_KERNELS_TILE_H

#include "device/cpu/kernels.h"
#include "device/cpu/kernels/vec.h"

enum {
    TILE_WORDS = 576,  /* three taps of 192 words or one of 384 fit well: the widths of the VAE */
    TILE_COLUMNS = 96, /* a multiple of every panel's width */
    TILE_TAPS = 32     /* in one block */
};

typedef enum tile_kind { TILE_F32, TILE_BF16 } tile_kind;

/* What happens to acc = sums + bias, and where it goes; as in wo_linear_args. */
typedef struct tile_output {
    int64_t columns; /* N, the row stride of y and other */
    wo_dtype dtype;  /* of y and other */
    void *y;
    const float *bias; /* NULL = none */
    wo_epilogue epilogue;
    const void *other;
    const float *gate;
    int64_t rows_per_gate;
} tile_output;

typedef struct tile_product {
    const void *const *frames; /* images + kt - 1 pointers to [height, width, channels]; NULL = zeros, skipped */
    wo_dtype x_dtype, w_dtype;
    int64_t height, width, channels; /* of the input */
    int32_t images;                  /* output frames */
    int32_t kt, kh, kw;
    bool upsample, downsample; /* as in wo_conv_args */
    const void *w; /* [out.columns, kt, kh, kw, channels] */
    tile_output out;
} tile_product;

/* tile.c: the product by register tiles, with epilogue and store. */
wo_status WO_KERNEL(tile_run)(wo_pool *pool, wo_cancel *cancel, const tile_product *p);

#if defined(WO_ISA_AMX)
/* tile_amx.c: the same for products of bfloat16, by AMX tiles. */
wo_status WO_KERNEL(tile_amx_run)(wo_pool *pool, wo_cancel *cancel, const tile_product *p);
#endif

/* tile_store.c: stores columns [column, column + columns) of output rows [row, row + rows) from sums [rows, stride]. Sums are read
 * in whole vectors, so up to VEC_LANES - 1 floats behind the columns must be readable. */
void WO_KERNEL(tile_store)(const tile_output *out, int64_t row, int64_t rows, int64_t column, int64_t columns, const float *sums,
                           int64_t stride);

/* The kind of product that two dtypes make on this instruction set. */
VEC_INLINE tile_kind tile_kind_of(wo_dtype x, wo_dtype w) {
    return VEC_HAS_BF16_DOT && x == WO_BF16 && w == WO_BF16 ? TILE_BF16 : TILE_F32;
}

VEC_INLINE int64_t tile_words_of(tile_kind kind, int64_t elements) {
    return kind == TILE_BF16 ? (elements + 1) / 2 : elements;
}

VEC_INLINE int64_t tile_min(int64_t a, int64_t b) { return a < b ? a : b; }
VEC_INLINE int64_t tile_ceil(int64_t a, int64_t b) { return (a + b - 1) / b; }
VEC_INLINE int64_t tile_round_up(int64_t a, int64_t b) { return tile_ceil(a, b) * b; }
VEC_INLINE size_t tile_bytes(wo_dtype dtype) { return dtype == WO_F32 ? 4 : 2; }

/* Words [k, k + VEC_LANES) of `elements` elements at `row`, as operands of this kind; 0 behind the end. */
VEC_INLINE vec tile_load_words(tile_kind kind, wo_dtype dtype, const void *row, int64_t k, int64_t elements) {
    if (kind == TILE_BF16) {
        const uint16_t *pairs = (const uint16_t *)row + 2 * k;
        int64_t left = elements - 2 * k;
        return left >= 2 * VEC_LANES ? vec_load_words(pairs) : vec_load_bytes(pairs, (size_t)left * 2);
    }
    int64_t left = elements - k;
    return left >= VEC_LANES ? vec_load_as(dtype, row, k) : vec_load_as_part(dtype, row, k, left);
}

#endif
