/* y = epilogue(x w^T + bias), in the form that the caller chose. TILE is the product of tile.c; DOT is linear_dot.c. */
#include "device/cpu/kernels/linear.h"

size_t WO_KERNEL(linear_workspace)(const wo_linear_args *args) {
    (void)args;
    return 0;
}

wo_status WO_KERNEL(linear)(wo_pool *pool, wo_cancel *cancel, const wo_linear_args *args) {
    const void *x = args->x.data;
    const tile_product p = {.frames = &x,
                            .x_dtype = args->x.dtype,
                            .w_dtype = args->w.dtype,
                            .height = args->x.shape[0],
                            .width = 1,
                            .channels = args->x.shape[1],
                            .images = 1,
                            .kt = 1,
                            .kh = 1,
                            .kw = 1,
                            .w = args->w.data,
                            .out = {.columns = args->w.shape[0],
                                    .dtype = args->y.dtype,
                                    .y = args->y.data,
                                    .bias = args->bias.data,
                                    .epilogue = args->epilogue,
                                    .other = args->other.data,
                                    .gate = args->gate.data,
                                    .rows_per_gate = args->rows_per_gate}};
    return args->form == WO_FORM_DOT ? WO_KERNEL(dot_run)(pool, cancel, &p) : WO_KERNEL(tile_run)(pool, cancel, &p);
}
