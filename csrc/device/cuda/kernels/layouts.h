/* Changes of layout, look-ups and tables. What the host hands to the kernels; C and CUDA C++. */
#ifndef WO_DEVICE_CUDA_KERNELS_LAYOUTS_H
#define WO_DEVICE_CUDA_KERNELS_LAYOUTS_H

#include "device/cuda/kernels/scalar.h"

enum { WO_CUDA_LAYOUT_BLOCK = 256 };

/* Latents F32 [channels, 2 * lines, 2 * patches] (a line of patches is two of pixels; the lines are those of all frames) and rows F32, BF16 or F16
 * [lines * patches, 4 * channels]. A thread of patchify has one channel of a patch, 2 x 2 pixels; one of unpatchify the two pixels of one line
 * of it. */
typedef struct wo_cuda_patch_args {
    const void *from;
    void *to;
    int64_t channels, lines, patches;
    int32_t dtype;   /* of the rows */
    int32_t vectors; /* 1: pairs of pixels, and the four elements of a row that patchify writes, may be accessed at once */
} wo_cuda_patch_args;

/* y[p, c] = x[c, p]. A block has WO_CUDA_TILE_PIXELS of p and up to WO_CUDA_TILE_CHANNELS of c. */
enum { WO_CUDA_TILE_PIXELS = 128, WO_CUDA_TILE_CHANNELS = 32 };

typedef struct wo_cuda_channels_last_args {
    const float *x; /* F32 [channels, pixels] */
    void *y;        /* F32, BF16 or F16 [pixels, channels] */
    int64_t channels, pixels;
    int32_t y_dtype;
} wo_cuda_channels_last_args;

/* y[i] = table[ids[i]]. A block has WO_CUDA_EMBEDDING_CHUNK elements of one row. */
enum { WO_CUDA_EMBEDDING_CHUNK = WO_CUDA_LAYOUT_BLOCK * 8 };

typedef struct wo_cuda_embedding_args {
    const void *table; /* F32, BF16 or F16 [any, width] */
    const int32_t *ids;
    void *y;           /* F32, BF16 or F16 [rows, width] */
    int64_t width, chunks; /* chunks of a row */
    int32_t table_dtype, y_dtype;
    int32_t vectors;
} wo_cuda_embedding_args;

/* A thread has the pair first + i of one token; the frequencies of those pairs come along, and stay within what a kernel's parameter may be. */
enum { WO_CUDA_ROPE_PAIRS = 256 };

typedef struct wo_cuda_rope_table_args {
    float *cos, *sin; /* F32 [frames * height * width, pairs] */
    int64_t tokens, height, width;
    int32_t pairs, first, count;         /* of a row; of this launch */
    int32_t height_pairs, width_pairs;   /* the pair with which the part of the height begins, and that of the width */
    double frequency[WO_CUDA_ROPE_PAIRS]; /* of pair first + i */
} wo_cuda_rope_table_args;

/* y[first + i] = value[i]: so few numbers that the host computes them. */
enum { WO_CUDA_SINUSOID_VALUES = 512 };

typedef struct wo_cuda_sinusoid_args {
    void *y; /* F32, BF16 or F16 */
    int64_t first;
    int32_t count, dtype;
    float value[WO_CUDA_SINUSOID_VALUES];
} wo_cuda_sinusoid_args;

#define WO_CUDA_LAYOUTS_LIST(X) \
    X(layouts, patchify)        \
    X(layouts, unpatchify)      \
    X(layouts, channels_last)   \
    X(layouts, embedding)       \
    X(layouts, rope_table)      \
    X(layouts, sinusoid)

#endif
