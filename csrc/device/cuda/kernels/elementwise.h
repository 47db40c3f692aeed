/* Sweeps over flat memory: add, unary, and the conversion from the dtype and layout at rest to those of use. What the host hands to the
 * kernels; C and CUDA C++. */
#ifndef WO_DEVICE_CUDA_KERNELS_ELEMENTWISE_H
#define WO_DEVICE_CUDA_KERNELS_ELEMENTWISE_H

#include "device/cuda/kernels/scalar.h"

/* A thread of add and unary has 16 elements. */
enum { WO_CUDA_FLAT_BLOCK = 256, WO_CUDA_FLAT_CHUNK = WO_CUDA_FLAT_BLOCK * 16 };

typedef struct wo_cuda_add_args {
    const float *a, *b; /* F32 [count], F32 [period] */
    float *y;           /* F32 [count]; y[i] = a[i] + b[i % period] */
    int64_t count, period;
    int64_t step;       /* (WO_CUDA_FLAT_BLOCK * 4) % period: from one group of 4 elements of a thread to the next */
    int32_t vectors;
} wo_cuda_add_args;

typedef struct wo_cuda_unary_args {
    const void *x; /* F32, BF16 or F16 [count] */
    void *y;       /* F32, BF16 or F16 [count] */
    int64_t count;
    int32_t x_dtype, y_dtype;
    int32_t kind;  /* of wo_unary_kind */
    int32_t vectors;
} wo_cuda_unary_args;

/* Source and target are cut into units of `U` elements, so many that neither has more than 16 bytes. Unit u is the elements from u * U - lead on; lead is
 * chosen by the host so that units are aligned in the target and that a warp's reads begin at a line of the source. Where the source is not aligned
 * like the target, a unit is put together from two words. [first_unit, end_unit) are the units whose words lie wholly in the source; what is left in
 * front and behind, less than three units each, goes element by element. */
enum { WO_CUDA_CONVERT_BLOCK = 256, WO_CUDA_CONVERT_UNROLL = 4 };

typedef struct wo_cuda_convert_rows_args {
    const void *src; /* any alignment; device memory or pinned host memory */
    void *dst;
    int64_t count, lead, first_unit, end_unit;
    int32_t from, to;
    float scale;
} wo_cuda_convert_rows_args;

/* [outputs, channels, taps] to [outputs, taps, channels]. A block brings WO_CUDA_TAPS_BYTES of source into shared memory: whole channels, or, where one
 * has more than that, a part of one. */
enum { WO_CUDA_TAPS_BYTES = 16384 };

typedef struct wo_cuda_convert_taps_args {
    const void *src;
    void *dst;
    int64_t count, channels, taps;
    int64_t tile_channels, tile_taps; /* of a block */
    int64_t channel_tiles, tap_tiles; /* of one output */
    int64_t tiles;                    /* of all */
    int32_t from, to;
    float scale;
} wo_cuda_convert_taps_args;

#define WO_CUDA_ELEMENTWISE_LIST(X) \
    X(elementwise, add)             \
    X(elementwise, unary)           \
    X(elementwise, convert_rows)    \
    X(elementwise, convert_taps)

#endif
