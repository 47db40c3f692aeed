/* Convolution: the choice between cuDNN and own kernels, and among own kernels. */
#include "device/cuda/product.h"

#include <assert.h>

#define OP "conv"

static_assert((int)WO_CUDA_CONV_FRAMES == (int)WO_CONV_MAX_FRAMES, "kernels take as many frames as a call may have");

/* Who computes a call. The library answers from the device, shapes and dtypes alone; own kernels take all the rest. */
static bool vendor_computes(const wo_device *d, const wo_conv_args *args) {
    return wo_cudnn_takes_conv((const wo_cuda_device *)d, args);
}

size_t wo_cuda_conv_workspace(const wo_device *d, const wo_conv_args *args) {
    return vendor_computes(d, args) ? wo_cudnn_conv_workspace((const wo_cuda_device *)d, args) : 0;
}

static bool frames_read_in(int count, const wo_conv_args *args) {
    for (int32_t i = 0; i < args->out_frames + args->kt - 1; i++)
        if (!wo_cuda_reads_in(count, args->frames[i], args->x_dtype, args->channels))
            return false;
    return true;
}

/* As for a linear: the kernels of a pair of dtypes sum every element in the same order, so that the choice changes no bit. */
static wo_cuda_product_tile choose_tile(const wo_conv_args *args) {
#define HALF_TILES(dtype)                                                                                                          \
    {WO_CUDA_conv_##dtype, WO_CUDA_CONV_ROWS, WO_CUDA_CONV_COLUMNS, WO_CUDA_CONV_HALF_THREADS},                                     \
    {WO_CUDA_conv_##dtype##_narrow, WO_CUDA_CONV_ROWS, WO_CUDA_CONV_NARROW_COLUMNS, WO_CUDA_CONV_HALF_THREADS},                     \
    {WO_CUDA_conv_##dtype##_ragged, WO_CUDA_CONV_ROWS, WO_CUDA_CONV_COLUMNS, WO_CUDA_CONV_HALF_THREADS}
    enum { WIDE, NARROW, RAGGED };
    static const wo_cuda_product_tile bf16[] = {HALF_TILES(bf16)}, f16[] = {HALF_TILES(f16)};
#undef HALF_TILES
    static const wo_cuda_product_tile
        f32 = {WO_CUDA_conv_f32, WO_CUDA_CONV_ROWS, WO_CUDA_CONV_COLUMNS, WO_CUDA_CONV_F32_THREADS},
        f32_narrow = {WO_CUDA_conv_f32_narrow, WO_CUDA_CONV_ROWS, WO_CUDA_CONV_NARROW_COLUMNS, WO_CUDA_CONV_F32_NARROW_THREADS};
    const bool narrow = args->w.shape[0] <= WO_CUDA_CONV_NARROW_COLUMNS;
    if (!wo_cuda_on_tensor_cores(args->x_dtype, args->w.dtype))
        return narrow ? f32_narrow : f32;
    const wo_cuda_product_tile *half = args->x_dtype == WO_BF16 ? bf16 : f16;
    if (!frames_read_in(8, args) || !wo_cuda_reads_in(8, args->w.data, args->w.dtype, args->channels))
        return half[RAGGED];
    return half[narrow ? NARROW : WIDE];
}

static int32_t count_zeros(const wo_conv_args *args) {
    int32_t zeros = 0;
    while (zeros < args->out_frames + args->kt - 1 && args->frames[zeros] == NULL)
        zeros++;
    return zeros;
}

wo_status wo_cuda_conv(wo_stream *s, const wo_conv_args *args, wo_error *err) {
    const int64_t columns = args->w.shape[0], k = (int64_t)args->kt * args->kh * args->kw * args->channels;
    const int64_t pixels = args->height * args->width, rows = args->out_frames * args->y.shape[1] * args->y.shape[2];
    if (vendor_computes(s->device, args))
        return wo_cudnn_conv(s, args, err);
    WO_TRY(wo_cuda_check_product(OP, rows > pixels ? rows : pixels, columns, k, err));
    wo_cuda_conv_args a = {.w = args->w.data,
                           .x_dtype = (int32_t)args->x_dtype,
                           .w_dtype = (int32_t)args->w.dtype,
                           .height = (int32_t)args->height,
                           .width = (int32_t)args->width,
                           .channels = (int32_t)args->channels,
                           .kt = args->kt,
                           .kh = args->kh,
                           .kw = args->kw,
                           .above = args->downsample ? 0 : (args->kh - 1) / 2,
                           .left = args->downsample ? 0 : (args->kw - 1) / 2,
                           .up = args->upsample,
                           .step = args->downsample ? 2 : 1,
                           .out_height = (int32_t)args->y.shape[1],
                           .out_width = (int32_t)args->y.shape[2],
                           .zeros = count_zeros(args),
                           .x_in_fours = frames_read_in(4, args),
                           .w_in_fours = wo_cuda_reads_in(4, args->w.data, args->w.dtype, args->channels),
                           .out = wo_cuda_output_of(&args->y, &args->bias, &args->residual,
                                                    args->residual.data != NULL ? WO_EPILOGUE_ADD : WO_EPILOGUE_NONE)};
    for (int32_t i = 0; i < args->out_frames + args->kt - 1; i++)
        a.frames[i] = args->frames[i];
    const wo_cuda_product_tile tile = choose_tile(args);
    return wo_cuda_launch_product(s, &tile, &a.out, &a, OP, err);
}
