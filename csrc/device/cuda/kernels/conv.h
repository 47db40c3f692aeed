/* Convolution over channels-last frames as a product: a row is a pixel of y, and k runs over taps in time, height and width, then channels, as the
 * weights lie. No patch is ever stored; the taps of a row are found when a tile is filled. */
#ifndef WO_DEVICE_CUDA_KERNELS_CONV_H
#define WO_DEVICE_CUDA_KERNELS_CONV_H

#include "device/cuda/kernels/product.h"

enum { WO_CUDA_CONV_FRAMES = 10 }; /* WO_CONV_MAX_FRAMES */

typedef struct wo_cuda_conv_args {
    const void *frames[WO_CUDA_CONV_FRAMES]; /* [height, width, channels] of x_dtype; NULL is a frame of zeros */
    const void *w;                           /* [out.columns, kt, kh, kw, channels] of w_dtype */
    int32_t x_dtype, w_dtype;
    int32_t height, width, channels;
    int32_t kt, kh, kw;
    int32_t above, left;           /* rows and columns of zeros before the first pixel */
    int32_t up;                    /* 1: the input is doubled by nearest neighbour */
    int32_t step;                  /* pixels of the (doubled) input from one pixel of y to the next */
    int32_t out_height, out_width; /* out.rows = frames out * out_height * out_width */
    int32_t zeros;                 /* so many of the first frames are NULL */
    int32_t x_in_fours, w_in_fours; /* channels is a multiple of 4, and four neighbours can be read at once; for the float32 kernels */
    wo_cuda_output out;
} wo_cuda_conv_args;

/* Rows and columns of the tile that a block makes, and its threads. 96 columns, because that divides the widths of WAN's VAE; the narrow tiles
 * are for the last layers. Entries as for a linear: a 16-byte chunk is 8 channels of 16 bits. */
enum {
    WO_CUDA_CONV_ROWS = 128, WO_CUDA_CONV_COLUMNS = 96, WO_CUDA_CONV_NARROW_COLUMNS = 32,
    WO_CUDA_CONV_HALF_THREADS = 128, WO_CUDA_CONV_F32_THREADS = 256, WO_CUDA_CONV_F32_NARROW_THREADS = 128
};

#define WO_CUDA_CONV_LIST(X)    \
    X(conv, conv_bf16)          \
    X(conv, conv_bf16_narrow)   \
    X(conv, conv_bf16_ragged)   \
    X(conv, conv_f16)           \
    X(conv, conv_f16_narrow)    \
    X(conv, conv_f16_ragged)    \
    X(conv, conv_f32)           \
    X(conv, conv_f32_narrow)

#endif
