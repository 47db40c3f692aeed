/* Convolution over channels-last frames: the product of tile.c, whose rows are pixels. Doubling by nearest neighbour, halving and the zero
 * padding are a matter of where a pixel finds its inputs, so none of them is ever stored. */
#include "device/cpu/kernels/tile.h"

size_t WO_KERNEL(conv_workspace)(const wo_conv_args *args) {
    (void)args;
    return 0;
}

wo_status WO_KERNEL(conv)(wo_pool *pool, wo_cancel *cancel, const wo_conv_args *args) {
    const tile_product p = {.frames = args->frames,
                            .x_dtype = args->x_dtype,
                            .w_dtype = args->w.dtype,
                            .height = args->height,
                            .width = args->width,
                            .channels = args->channels,
                            .images = args->out_frames,
                            .kt = args->kt,
                            .kh = args->kh,
                            .kw = args->kw,
                            .upsample = args->upsample,
                            .downsample = args->downsample,
                            .w = args->w.data,
                            .out = {.columns = args->w.shape[0],
                                    .dtype = args->y.dtype,
                                    .y = args->y.data,
                                    .bias = args->bias.data,
                                    .epilogue = args->residual.data == NULL ? WO_EPILOGUE_NONE : WO_EPILOGUE_ADD,
                                    .other = args->residual.data}};
    return WO_KERNEL(tile_run)(pool, cancel, &p);
}
