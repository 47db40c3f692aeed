/* Norms of rows: how many threads a row gets, and whether its bytes may be accessed in vectors. The threads follow from the width alone,
 * so that a row's sums have one order, wherever the row lies and whatever is beside it. */
#include "device/cuda/grid.h"

#include <math.h>

enum { WIDEST = 1 << 29, MOST_LANES = 1024 };

static int32_t lanes_of(int64_t width) {
    int64_t wanted = (width + WO_CUDA_NORM_HELD - 1) / WO_CUDA_NORM_HELD;
    int32_t lanes = 1;
    while (lanes < 32 && lanes < wanted)
        lanes *= 2;
    if (wanted <= 32)
        return lanes;
    return wanted >= MOST_LANES ? MOST_LANES : (int32_t)((wanted + 31) / 32 * 32);
}

/* Fills the part that the three norms share, and the launch that goes with it. */
static wo_status prepare(const char *op, const wo_tensor *x, const wo_tensor *y, wo_cuda_norm_rows *rows, wo_cuda_grid *grid, wo_error *err) {
    int64_t width = x->shape[1], group = x->dtype == WO_F32 ? 4 : 8;
    if (width > WIDEST || x->shape[0] > WO_CUDA_MAX_BLOCKS)
        WO_FAIL(err, WO_EUNSUPPORTED, "%s: the cuda device takes at most %lld rows of %d elements, but x is [%lld, %lld]; cut the call", op,
                (long long)WO_CUDA_MAX_BLOCKS, (int)WIDEST, (long long)x->shape[0], (long long)width);
    int32_t lanes = lanes_of(width);
    int64_t held = (int64_t)lanes * WO_CUDA_NORM_HELD;
    *rows = (wo_cuda_norm_rows){.x = x->data,
                                .y = y->data,
                                .rows = (uint32_t)x->shape[0],
                                .width = (int32_t)width,
                                .lanes = lanes,
                                .segments = (int32_t)((width + held - 1) / held),
                                .x_dtype = (int32_t)x->dtype,
                                .y_dtype = (int32_t)y->dtype};
    rows->lane_bits = lanes > 32 ? 10 : 0;
    while (lanes <= 32 && 1 << rows->lane_bits < lanes)
        rows->lane_bits++;
    rows->vectors = width % group == 0 && wo_cuda_aligned(x->data) && wo_cuda_aligned(y->data);
    return wo_cuda_blocks(op, x->shape[0], lanes <= 32 ? WO_CUDA_NORM_BLOCK / lanes : 1, grid, err);
}

static bool in_float16(const wo_cuda_norm_rows *rows) {
    return rows->x_dtype == WO_CUDA_F16 || rows->y_dtype == WO_CUDA_F16;
}

static unsigned threads_of(const wo_cuda_norm_rows *rows) {
    return rows->lanes <= 32 ? WO_CUDA_NORM_BLOCK : (unsigned)rows->lanes;
}

wo_status wo_cuda_layer_norm(wo_stream *s, const wo_layer_norm_args *args, wo_error *err) {
    bool modulated = args->scale.data != NULL;
    wo_cuda_layer_norm_args a = {.gain = modulated ? args->scale.data : args->weight.data,
                                 .offset = modulated ? args->shift.data : args->bias.data,
                                 .one = modulated ? 1.0f : 0.0f,
                                 .eps = args->eps};
    wo_cuda_grid grid;
    WO_TRY(prepare("layer_norm", &args->x, &args->y, &a.rows, &grid, err));
    a.rows_per_batch = modulated && args->rows_per_batch < (int64_t)a.rows.rows ? (uint32_t)args->rows_per_batch : a.rows.rows;
    a.rows.vectors = a.rows.vectors && wo_cuda_aligned(a.gain) && wo_cuda_aligned(a.offset);
    const wo_cuda_kernel kernel = in_float16(&a.rows) ? WO_CUDA_layer_norm_f16 : WO_CUDA_layer_norm;
    return wo_cuda_launch(s, kernel, grid, threads_of(&a.rows), 0, &a, "layer_norm", err);
}

wo_status wo_cuda_rms_norm(wo_stream *s, const wo_rms_norm_args *args, wo_error *err) {
    bool rotated = args->cos.data != NULL;
    wo_cuda_rms_norm_args a = {.weight = args->weight.data,
                               .cos = args->cos.data,
                               .sin = args->sin.data,
                               .tokens = 1,
                               .head_dim = 2,
                               .eps = args->eps};
    wo_cuda_grid grid;
    WO_TRY(prepare("rms_norm", &args->x, &args->y, &a.rows, &grid, err));
    a.rows.vectors = a.rows.vectors && wo_cuda_aligned(a.weight);
    if (rotated) {
        int64_t tokens = args->cos.shape[0], group = args->x.dtype == WO_F32 ? 4 : 8;
        a.tokens = tokens < (int64_t)a.rows.rows ? (uint32_t)tokens : a.rows.rows; /* the rows behind are not used, and fit no uint32 perhaps */
        a.head_dim = (int32_t)args->head_dim;
        a.head_step = (int32_t)(a.rows.lanes * group % args->head_dim);
        a.rows.vectors = a.rows.vectors && args->head_dim % group == 0 && wo_cuda_aligned(a.cos) && wo_cuda_aligned(a.sin);
    }
    const wo_cuda_kernel kernel = in_float16(&a.rows) ? WO_CUDA_rms_norm_f16 : WO_CUDA_rms_norm;
    return wo_cuda_launch(s, kernel, grid, threads_of(&a.rows), 0, &a, "rms_norm", err);
}

wo_status wo_cuda_l2_norm(wo_stream *s, const wo_l2_norm_args *args, wo_error *err) {
    wo_cuda_l2_norm_args a = {.gamma = args->gamma.data, .root = sqrtf((float)args->x.shape[1]), .silu = args->silu};
    wo_cuda_grid grid;
    WO_TRY(prepare("l2_norm", &args->x, &args->y, &a.rows, &grid, err));
    a.rows.vectors = a.rows.vectors && wo_cuda_aligned(a.gamma);
    const wo_cuda_kernel kernel = in_float16(&a.rows) ? WO_CUDA_l2_norm_f16 : WO_CUDA_l2_norm;
    return wo_cuda_launch(s, kernel, grid, threads_of(&a.rows), 0, &a, "l2_norm", err);
}
