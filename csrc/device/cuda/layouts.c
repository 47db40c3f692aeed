/* Changes of layout, look-ups and tables. The frequencies of rotation tables and the sinusoid of a timestep are computed here, by the libm that
 * the cpu device uses as well, and travel inside the kernel's parameter. */
#include "device/cuda/grid.h"

#include <math.h>

static wo_cuda_patch_args patches_of(const wo_tensor *latents, const wo_tensor *rows, const void *from, void *to) {
    const int64_t *shape = latents->shape;
    return (wo_cuda_patch_args){.from = from,
                                .to = to,
                                .channels = shape[0],
                                .lines = shape[1] * (shape[2] / 2),
                                .patches = shape[3] / 2,
                                .dtype = (int32_t)rows->dtype,
                                .vectors = wo_cuda_aligned(from) && wo_cuda_aligned(to)};
}

wo_status wo_cuda_patchify(wo_stream *s, const wo_patchify_args *args, wo_error *err) {
    wo_cuda_patch_args a = patches_of(&args->latents, &args->rows, args->latents.data, args->rows.data);
    wo_cuda_grid grid;
    WO_TRY(wo_cuda_blocks("patchify", a.channels * a.lines * a.patches, WO_CUDA_LAYOUT_BLOCK, &grid, err));
    return wo_cuda_launch(s, WO_CUDA_patchify, grid, WO_CUDA_LAYOUT_BLOCK, 0, &a, "patchify", err);
}

wo_status wo_cuda_unpatchify(wo_stream *s, const wo_unpatchify_args *args, wo_error *err) {
    wo_cuda_patch_args a = patches_of(&args->latents, &args->rows, args->rows.data, args->latents.data);
    wo_cuda_grid grid;
    WO_TRY(wo_cuda_blocks("unpatchify", a.channels * a.lines * 2 * a.patches, WO_CUDA_LAYOUT_BLOCK, &grid, err));
    return wo_cuda_launch(s, WO_CUDA_unpatchify, grid, WO_CUDA_LAYOUT_BLOCK, 0, &a, "unpatchify", err);
}

wo_status wo_cuda_channels_last(wo_stream *s, const wo_channels_last_args *args, wo_error *err) {
    const int64_t *shape = args->x.shape;
    wo_cuda_channels_last_args a = {.x = args->x.data,
                                    .y = args->y.data,
                                    .channels = shape[0],
                                    .pixels = shape[1] * shape[2] * shape[3],
                                    .y_dtype = (int32_t)args->y.dtype};
    int64_t across = (a.channels + WO_CUDA_TILE_CHANNELS - 1) / WO_CUDA_TILE_CHANNELS;
    int64_t down = (a.pixels + WO_CUDA_TILE_PIXELS - 1) / WO_CUDA_TILE_PIXELS;
    wo_cuda_grid grid;
    WO_TRY(wo_cuda_blocks("channels_last", across * down, 1, &grid, err));
    return wo_cuda_launch(s, WO_CUDA_channels_last, grid, WO_CUDA_LAYOUT_BLOCK, 0, &a, "channels_last", err);
}

wo_status wo_cuda_embedding(wo_stream *s, const wo_embedding_args *args, wo_error *err) {
    wo_cuda_embedding_args a = {.table = args->table.data,
                                .ids = args->ids.data,
                                .y = args->y.data,
                                .width = args->table.shape[1],
                                .table_dtype = (int32_t)args->table.dtype,
                                .y_dtype = (int32_t)args->y.dtype};
    a.chunks = (a.width + WO_CUDA_EMBEDDING_CHUNK - 1) / WO_CUDA_EMBEDDING_CHUNK;
    a.vectors = a.width % 8 == 0 && wo_cuda_aligned(a.table) && wo_cuda_aligned(a.y);
    wo_cuda_grid grid;
    WO_TRY(wo_cuda_blocks("embedding", args->y.shape[0] * a.chunks, 1, &grid, err));
    return wo_cuda_launch(s, WO_CUDA_embedding, grid, WO_CUDA_LAYOUT_BLOCK, 0, &a, "embedding", err);
}

/* The pairs of a row belong to the frame, then to the height, then to the width; pair p of an axis of n pairs turns by 10000^(-p / n) a step. */
static double frequency_of(const wo_cuda_rope_table_args *a, int32_t pair) {
    int32_t first = pair >= a->width_pairs ? a->width_pairs : pair >= a->height_pairs ? a->height_pairs : 0;
    int32_t end = pair >= a->width_pairs ? a->pairs : pair >= a->height_pairs ? a->width_pairs : a->height_pairs;
    return 1.0 / pow(10000.0, (double)(2 * (pair - first)) / (double)(2 * (end - first)));
}

/* One launch for as many pairs as a parameter has frequencies: heads have 64, so there is one. */
wo_status wo_cuda_rope_table(wo_stream *s, const wo_rope_table_args *args, wo_error *err) {
    wo_cuda_rope_table_args a = {.cos = args->cos.data,
                                 .sin = args->sin.data,
                                 .tokens = args->frames * args->height * args->width,
                                 .height = args->height,
                                 .width = args->width,
                                 .pairs = (int32_t)(args->head_dim / 2)};
    int32_t side = (int32_t)(args->head_dim / 6);
    a.height_pairs = a.pairs - 2 * side;
    a.width_pairs = a.pairs - side;
    for (a.first = 0; a.first < a.pairs; a.first += a.count) {
        wo_cuda_grid grid;
        a.count = a.pairs - a.first < WO_CUDA_ROPE_PAIRS ? a.pairs - a.first : WO_CUDA_ROPE_PAIRS;
        for (int32_t i = 0; i < a.count; i++)
            a.frequency[i] = frequency_of(&a, a.first + i);
        WO_TRY(wo_cuda_blocks("rope_table", a.tokens * a.count, WO_CUDA_LAYOUT_BLOCK, &grid, err));
        WO_TRY(wo_cuda_launch(s, WO_CUDA_rope_table, grid, WO_CUDA_LAYOUT_BLOCK, 0, &a, "rope_table", err));
    }
    return WO_OK;
}

/* Element i of [cos(t w_0) ..., sin(t w_0) ...]. Frequencies and angles are rounded to float32 step by step where diffusers rounds them, because an
 * angle near 1000 magnifies the rounding of its frequency. */
static float sinusoid_of(float t, int64_t i, int64_t half) {
    const float minus_log = (float)-9.210340371976184; /* -ln 10000 */
    float exponent = minus_log * (float)(i % half) / (float)half;
    float frequency = (float)exp((double)exponent);
    float angle = t * frequency;
    return (float)(i < half ? cos((double)angle) : sin((double)angle));
}

wo_status wo_cuda_sinusoid(wo_stream *s, const wo_sinusoid_args *args, wo_error *err) {
    int64_t count = args->y.shape[0];
    wo_cuda_sinusoid_args a = {.y = args->y.data, .dtype = (int32_t)args->y.dtype};
    for (a.first = 0; a.first < count; a.first += a.count) {
        a.count = count - a.first < WO_CUDA_SINUSOID_VALUES ? (int32_t)(count - a.first) : WO_CUDA_SINUSOID_VALUES;
        for (int32_t i = 0; i < a.count; i++)
            a.value[i] = sinusoid_of(args->t, a.first + i, count / 2);
        WO_TRY(wo_cuda_launch(s, WO_CUDA_sinusoid, (wo_cuda_grid){1, 1, 1}, WO_CUDA_LAYOUT_BLOCK, 0, &a, "sinusoid", err));
    }
    return WO_OK;
}
