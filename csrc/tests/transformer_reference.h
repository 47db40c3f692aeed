/* One forward of the WAN transformer in float64, written from the formulas: no folded text, no kept keys, one item at a time. */
#ifndef WO_TESTS_TRANSFORMER_REFERENCE_H
#define WO_TESTS_TRANSFORMER_REFERENCE_H

#include "tests/model_reference.h"
#include "tests/transformer_case.h"

/* One item of a request. */
typedef struct reference_item {
    const wo_transformer_config *config;
    const wo_transformer_request *request;
    int64_t index;
    matrix text, image; /* contexts; image has no rows where there is none */
} reference_item;

static inline matrix reference_text(const reference_item *item) {
    const wo_text *text = &item->request->text[item->index];
    matrix x = matrix_new(text->rows, item->config->text_dim);
    memcpy(x.at, matrix_from(text->embeds, text->real, x.width).at, (size_t)(text->real * x.width) * sizeof(double));
    return linear(mapped(linear(x, "condition_embedder.text_embedder.linear_1"), gelu_tanh), "condition_embedder.text_embedder.linear_2");
}

static inline matrix reference_image(const reference_item *item) {
    const wo_images *images = &item->request->images;
    if (images->count == 0)
        return (matrix){0};
    const char *positions = "condition_embedder.image_embedder.pos_embed";
    int64_t width = item->config->image_dim;
    matrix x = matrix_from(images->embeds + images->of[item->index] * images->rows * width, images->rows, width);
    if (item->config->pos_embed_seq_len > 0)
        add_to(x, matrix_from(values_of(positions), images->rows, width));
    x = linear(layer_norm(x, 1e-5, "condition_embedder.image_embedder.norm1"), "condition_embedder.image_embedder.ff.net.0.proj");
    x = linear(mapped(x, gelu_erf), "condition_embedder.image_embedder.ff.net.2");
    return layer_norm(x, 1e-5, "condition_embedder.image_embedder.norm2");
}

/* Row s of the tokens: x[c, f, 2i + ph, 2j + pw] at column c * 4 + ph * 2 + pw. The inverse has the channel in the last place. */
static inline int64_t pixel_of(const wo_transformer_request *r, int64_t c, int64_t s, int ph, int pw) {
    int64_t h = r->height / 2, w = r->width / 2;
    return ((c * r->frames + s / (h * w)) * r->height + 2 * (s / w % h) + ph) * r->width + 2 * (s % w) + pw;
}

static inline matrix reference_patches(const reference_item *item) {
    const wo_transformer_request *r = item->request;
    int64_t channels = item->config->in_channels, pixels = r->frames * r->height * r->width;
    const float *latents = r->latents + item->index * channels * pixels;
    matrix x = matrix_new(pixels / 4, channels * 4);
    for (int64_t s = 0; s < x.rows; s++)
        for (int64_t c = 0; c < channels; c++)
            for (int p = 0; p < 4; p++)
                x.at[s * x.width + c * 4 + p] = (double)latents[pixel_of(r, c, s, p / 2, p % 2)];
    return linear(x, "patch_embedding");
}

/* e of the timestep; cosine first. */
static inline matrix reference_time(const reference_item *item, double t) {
    int64_t half = item->config->freq_dim / 2;
    matrix x = matrix_new(1, 2 * half);
    for (int64_t j = 0; j < half; j++) {
        double angle = t * pow(10000.0, -(double)j / (double)half);
        x.at[j] = cos(angle);
        x.at[half + j] = sin(angle);
    }
    return linear(mapped(linear(x, "condition_embedder.time_embedder.linear_1"), silu), "condition_embedder.time_embedder.linear_2");
}

/* Rotates the pairs of every head by the token's place in time, height and width. */
static inline void rotate(const reference_item *item, matrix x) {
    const wo_transformer_request *r = item->request;
    int64_t dim = item->config->head_dim, side = 2 * (dim / 6), axis[] = {dim - 2 * side, side, side};
    for (int64_t s = 0; s < x.rows; s++) {
        int64_t h = r->height / 2, w = r->width / 2, place[] = {s / (h * w), s / w % h, s % w};
        for (int64_t c = 0; c < x.width; c += 2) {
            int64_t a = 0, within = c % dim;
            for (; within >= axis[a]; a++)
                within -= axis[a];
            double angle = (double)place[a] * pow(10000.0, -(double)within / (double)axis[a]), *at = x.at + s * x.width + c;
            double real = at[0], imaginary = at[1];
            at[0] = real * cos(angle) - imaginary * sin(angle);
            at[1] = real * sin(angle) + imaginary * cos(angle);
        }
    }
}

/* x * (1 + scale) + shift. */
static inline matrix modulated(matrix x, matrix shift, matrix scale) {
    matrix y = matrix_new(x.rows, x.width);
    for (int64_t i = 0; i < x.rows * x.width; i++)
        y.at[i] = x.at[i] * (1.0 + scale.at[i % x.width]) + shift.at[i % x.width];
    return y;
}

/* x += y * gate. */
static inline void add_gated(matrix x, matrix y, matrix gate) {
    for (int64_t i = 0; i < x.rows * x.width; i++)
        x.at[i] += y.at[i] * gate.at[i % x.width];
}

static inline matrix named_linear(matrix x, const char *block, const char *name) {
    char full[128];
    snprintf(full, sizeof full, "%s%s", block, name);
    return linear(x, full);
}

static inline matrix named_rms(const reference_item *item, matrix x, const char *block, const char *name) {
    char full[128];
    snprintf(full, sizeof full, "%s%s", block, name);
    return rms_norm(x, (double)item->config->eps, full);
}

static inline matrix reference_self_attention(const reference_item *item, const char *block, matrix y) {
    matrix q = named_rms(item, named_linear(y, block, "attn1.to_q"), block, "attn1.norm_q");
    matrix k = named_rms(item, named_linear(y, block, "attn1.to_k"), block, "attn1.norm_k");
    rotate(item, q);
    rotate(item, k);
    matrix o = attention(q, k, named_linear(y, block, "attn1.to_v"), item->config->num_heads);
    return named_linear(o, block, "attn1.to_out.0");
}

static inline matrix reference_cross_attention(const reference_item *item, const char *block, matrix y) {
    matrix q = named_rms(item, named_linear(y, block, "attn2.to_q"), block, "attn2.norm_q");
    matrix k = named_rms(item, named_linear(item->text, block, "attn2.to_k"), block, "attn2.norm_k");
    matrix o = attention(q, k, named_linear(item->text, block, "attn2.to_v"), item->config->num_heads);
    if (item->image.rows > 0) {
        k = named_rms(item, named_linear(item->image, block, "attn2.add_k_proj"), block, "attn2.norm_added_k");
        add_to(o, attention(q, k, named_linear(item->image, block, "attn2.add_v_proj"), item->config->num_heads));
    }
    return named_linear(o, block, "attn2.to_out.0");
}

static inline void reference_block(const reference_item *item, int64_t index, matrix x, matrix time) {
    double eps = (double)item->config->eps;
    char block[32], name[64];
    snprintf(block, sizeof block, "blocks.%d.", (int)index);
    snprintf(name, sizeof name, "%sscale_shift_table", block);
    matrix m = matrix_from(values_of(name), 6, x.width);
    add_to(m, (matrix){6, x.width, time.at});
    matrix y = modulated(layer_norm(x, eps, NULL), matrix_rows(m, 0, 1), matrix_rows(m, 1, 1));
    add_gated(x, reference_self_attention(item, block, y), matrix_rows(m, 2, 1));
    snprintf(name, sizeof name, "%snorm2", block);
    add_to(x, reference_cross_attention(item, block, layer_norm(x, eps, name)));
    y = modulated(layer_norm(x, eps, NULL), matrix_rows(m, 3, 1), matrix_rows(m, 4, 1));
    y = named_linear(mapped(named_linear(y, block, "ffn.net.0.proj"), gelu_tanh), block, "ffn.net.2");
    add_gated(x, y, matrix_rows(m, 5, 1));
}

/* The velocity of every item, [batch, out_channels, frames, height, width]; good until the pool begins again. */
static inline const double *reference_velocity(const wo_transformer_config *config, const wo_transformer_request *r, const float *timesteps) {
    int64_t channels = config->out_channels, pixels = r->frames * r->height * r->width;
    reference_pool.used = 0;
    matrix velocity = matrix_new(r->batch * channels, pixels);
    for (int64_t b = 0; b < r->batch; b++) {
        reference_item item = {config, r, b, {0}, {0}};
        item.text = reference_text(&item);
        item.image = reference_image(&item);
        matrix x = reference_patches(&item), time = reference_time(&item, (double)timesteps[b]);
        matrix parts = linear(mapped(time, silu), "condition_embedder.time_proj");
        for (int64_t i = 0; i < config->num_layers; i++)
            reference_block(&item, i, x, parts);
        matrix m = matrix_from(values_of("scale_shift_table"), 2, x.width);
        add_to(m, time);
        matrix y = modulated(layer_norm(x, (double)config->eps, NULL), matrix_rows(m, 0, 1), matrix_rows(m, 1, 1));
        matrix rows = linear(y, "proj_out");
        for (int64_t s = 0; s < rows.rows; s++)
            for (int64_t i = 0; i < rows.width; i++)
                velocity.at[b * channels * pixels + pixel_of(r, i % channels, s, (int)(i / channels / 2), (int)(i / channels % 2))] =
                    rows.at[s * rows.width + i];
    }
    return velocity.at;
}

#endif
