/* Changes of layout between planes of pixels and rows of channels: patchify, unpatchify, channels_last. All are copies bound by memory;
 * the inner loop runs along the plane, whose reads or writes are contiguous. */
#include "device/cpu/kernels/rows.h"

VEC_INLINE void store_one(wo_dtype dtype, void *base, int64_t i, float value) {
    if (dtype == WO_F32)
        ((float *)base)[i] = value;
    else
        vec_store_bf16_part((uint16_t *)base + i, vec_splat(value), 1);
}

VEC_INLINE float load_one(wo_dtype dtype, const void *base, int64_t i) {
    if (dtype == WO_F32)
        return ((const float *)base)[i];
    uint32_t bits = (uint32_t)((const uint16_t *)base)[i] << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Where the pixels of patch row i of frame f begin in channel c: `pixels` of plane (c, f). */
static int64_t plane_row(const int64_t *latents, int64_t c, int64_t f, int64_t row) {
    return ((c * latents[1] + f) * latents[2] + row) * latents[3];
}

VEC_INLINE void patchify_line(wo_dtype dtype, const wo_patchify_args *args, int64_t line) {
    const int64_t *shape = args->latents.shape;
    int64_t channels = shape[0], patches = shape[3] / 2, f = line / (shape[2] / 2), i = line % (shape[2] / 2);
    for (int64_t c = 0; c < channels; c++)
        for (int64_t ph = 0; ph < 2; ph++) {
            const float *pixels = (const float *)args->latents.data + plane_row(shape, c, f, 2 * i + ph);
            int64_t to = line * patches * 4 * channels + c * 4 + ph * 2;
            for (int64_t j = 0; j < patches; j++, to += 4 * channels) {
                store_one(dtype, args->rows.data, to, pixels[2 * j]);
                store_one(dtype, args->rows.data, to + 1, pixels[2 * j + 1]);
            }
        }
}

/* Tile = the patches of one (frame, patch row). */
static void patchify_tile(void *ctx, int64_t tile, int worker, void *scratch) {
    const wo_patchify_args *args = ctx;
    (void)worker;
    (void)scratch;
    if (args->rows.dtype == WO_F32)
        patchify_line(WO_F32, args, tile);
    else
        patchify_line(WO_BF16, args, tile);
}

wo_status WO_KERNEL(patchify)(wo_pool *pool, wo_cancel *cancel, const wo_patchify_args *args) {
    wo_patchify_args copy = *args;
    return wo_pool_run(pool, args->latents.shape[1] * (args->latents.shape[2] / 2), patchify_tile, &copy, cancel);
}

VEC_INLINE void unpatchify_line(wo_dtype dtype, const wo_unpatchify_args *args, int64_t line) {
    const int64_t *shape = args->latents.shape;
    int64_t channels = shape[0], patches = shape[3] / 2, f = line / (shape[2] / 2), i = line % (shape[2] / 2);
    for (int64_t c = 0; c < channels; c++)
        for (int64_t ph = 0; ph < 2; ph++) {
            float *pixels = (float *)args->latents.data + plane_row(shape, c, f, 2 * i + ph);
            int64_t from = line * patches * 4 * channels + ph * 2 * channels + c;
            for (int64_t j = 0; j < patches; j++, from += 4 * channels) {
                pixels[2 * j] = load_one(dtype, args->rows.data, from);
                pixels[2 * j + 1] = load_one(dtype, args->rows.data, from + channels);
            }
        }
}

static void unpatchify_tile(void *ctx, int64_t tile, int worker, void *scratch) {
    const wo_unpatchify_args *args = ctx;
    (void)worker;
    (void)scratch;
    if (args->rows.dtype == WO_F32)
        unpatchify_line(WO_F32, args, tile);
    else
        unpatchify_line(WO_BF16, args, tile);
}

wo_status WO_KERNEL(unpatchify)(wo_pool *pool, wo_cancel *cancel, const wo_unpatchify_args *args) {
    wo_unpatchify_args copy = *args;
    return wo_pool_run(pool, args->latents.shape[1] * (args->latents.shape[2] / 2), unpatchify_tile, &copy, cancel);
}

VEC_INLINE void channels_last_line(wo_dtype dtype, const wo_channels_last_args *args, int64_t line) {
    int64_t channels = args->x.shape[0], lines = args->x.shape[1] * args->x.shape[2], width = args->x.shape[3];
    for (int64_t c = 0; c < channels; c++) {
        const float *pixels = (const float *)args->x.data + (c * lines + line) * width;
        for (int64_t j = 0; j < width; j++)
            store_one(dtype, args->y.data, (line * width + j) * channels + c, pixels[j]);
    }
}

/* Tile = one line of one frame. */
static void channels_last_tile(void *ctx, int64_t tile, int worker, void *scratch) {
    const wo_channels_last_args *args = ctx;
    (void)worker;
    (void)scratch;
    if (args->y.dtype == WO_F32)
        channels_last_line(WO_F32, args, tile);
    else
        channels_last_line(WO_BF16, args, tile);
}

wo_status WO_KERNEL(channels_last)(wo_pool *pool, wo_cancel *cancel, const wo_channels_last_args *args) {
    wo_channels_last_args copy = *args;
    return wo_pool_run(pool, args->x.shape[1] * args->x.shape[2], channels_last_tile, &copy, cancel);
}
