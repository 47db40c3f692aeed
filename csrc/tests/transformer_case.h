/* Small WAN transformers, text to video, image to video, and first and last frame to video, with a request that uses all they have: two
 * items with texts of different length, of which one attends to an image embedding that the other does not. */
#ifndef WO_TESTS_TRANSFORMER_CASE_H
#define WO_TESTS_TRANSFORMER_CASE_H

#include "model/model.h"
#include "tests/model_file.h"
#include "tests/model_plans.h"

enum { CASE_BATCH = 2, CASE_STEPS = 2, CASE_TEXT = 48, CASE_TEXT_DIM = 10, CASE_IMAGES = 2, CASE_IMAGE_ROWS = 9, CASE_IMAGE_DIM = 14 };
enum { CASE_FRAMES = 2, CASE_SIDE = 4, CASE_IN = 7, CASE_OUT = 5, CASE_PIXELS = CASE_FRAMES * CASE_SIDE * CASE_SIDE };
enum { CASE_VELOCITY = CASE_BATCH * CASE_OUT * CASE_PIXELS };

static const wo_transformer_config text_to_video = {.num_layers = 3, .num_heads = 2, .head_dim = 12, .ffn_dim = 34, .in_channels = CASE_IN,
                                                    .out_channels = CASE_OUT, .text_dim = CASE_TEXT_DIM, .freq_dim = 8, .eps = 1e-6f,
                                                    .cross_attn_norm = true};

static inline wo_transformer_config image_to_video(void) {
    wo_transformer_config c = text_to_video;
    c.image_dim = CASE_IMAGE_DIM;
    return c;
}

static inline wo_transformer_config first_and_last_to_video(void) {
    wo_transformer_config c = image_to_video();
    c.pos_embed_seq_len = CASE_IMAGE_ROWS;
    return c;
}

static inline void add_attention(const wo_transformer_config *c, int block, int number) {
    const char *matrices[] = {"to_q", "to_k", "to_v", "to_out.0", "add_k_proj", "add_v_proj"};
    const char *norms[] = {"norm_q", "norm_k", "norm_added_q", "norm_added_k"};
    bool image = number == 2 && c->image_dim > 0;
    int64_t width = c->num_heads * c->head_dim;
    char name[64];
    for (int i = 0; i < (image ? 6 : 4); i++) {
        snprintf(name, sizeof name, "blocks.%d.attn%d.%s", block, number, matrices[i]);
        add_linear(name, width, width);
    }
    for (int i = 0; i < (image ? 4 : 2); i++) {
        snprintf(name, sizeof name, "blocks.%d.attn%d.%s", block, number, norms[i]);
        TENSOR_OF(name, "%s.weight", width);
    }
}

static inline void add_image_embedder(const wo_transformer_config *c) {
    if (c->pos_embed_seq_len > 0)
        TENSOR("condition_embedder.image_embedder.pos_embed", 1, c->pos_embed_seq_len, c->image_dim);
    add_norm("condition_embedder.image_embedder.norm1", c->image_dim);
    add_linear("condition_embedder.image_embedder.ff.net.0.proj", c->image_dim, c->image_dim);
    add_linear("condition_embedder.image_embedder.ff.net.2", c->num_heads * c->head_dim, c->image_dim);
    add_norm("condition_embedder.image_embedder.norm2", c->num_heads * c->head_dim);
}

/* Lists the file of such a network; with norm_added_q, as published files have it. */
static inline void list_transformer(const wo_transformer_config *c) {
    int64_t width = c->num_heads * c->head_dim;
    char name[64];
    begin_file();
    add_linear("condition_embedder.text_embedder.linear_1", width, c->text_dim);
    add_linear("condition_embedder.text_embedder.linear_2", width, width);
    if (c->image_dim > 0)
        add_image_embedder(c);
    add_linear("condition_embedder.time_embedder.linear_1", width, c->freq_dim);
    add_linear("condition_embedder.time_embedder.linear_2", width, width);
    add_linear("condition_embedder.time_proj", 6 * width, width);
    TENSOR("patch_embedding.weight", width, c->in_channels, 1, 2, 2);
    TENSOR("patch_embedding.bias", width);
    for (int i = 0; i < c->num_layers; i++) {
        TENSOR_OF(i, "blocks.%d.scale_shift_table", 1, 6, width);
        add_attention(c, i, 1);
        snprintf(name, sizeof name, "blocks.%d.norm2", i);
        add_norm(name, width);
        add_attention(c, i, 2);
        snprintf(name, sizeof name, "blocks.%d.ffn.net.0.proj", i);
        add_linear(name, c->ffn_dim, width);
        snprintf(name, sizeof name, "blocks.%d.ffn.net.2", i);
        add_linear(name, width, c->ffn_dim);
    }
    TENSOR("scale_shift_table", 1, 2, width);
    add_linear("proj_out", 4 * c->out_channels, width);
}

/* ---- the request ---- */

static float case_text[CASE_TEXT * CASE_TEXT_DIM], case_latents[CASE_BATCH * CASE_IN * CASE_PIXELS];
static float case_embeds[CASE_IMAGES * CASE_IMAGE_ROWS * CASE_IMAGE_DIM];
static const wo_text case_texts[CASE_BATCH] = {{.rows = CASE_TEXT, .real = 40, .embeds = case_text},
                                               {.rows = CASE_TEXT, .real = 3, .embeds = case_text}};
static const int32_t case_image_of[CASE_BATCH] = {1, 0};
/* Small, because the float32 sinusoid of a large one is not what float64 makes of it. */
static const float case_timesteps[CASE_STEPS][CASE_BATCH] = {{3.0f, 0.75f}, {0.5f, 2.0f}};

static inline void fill_case(void) {
    fill_random(case_text, sizeof case_text / sizeof(float));
    fill_random(case_latents, sizeof case_latents / sizeof(float));
    fill_random(case_embeds, sizeof case_embeds / sizeof(float));
}

static inline wo_transformer_request request_without_images(void) {
    return (wo_transformer_request){.batch = CASE_BATCH, .frames = CASE_FRAMES, .height = CASE_SIDE, .width = CASE_SIDE,
                                    .text = case_texts, .latents = case_latents};
}

static inline wo_transformer_request request_with_images(void) {
    wo_transformer_request r = request_without_images();
    r.images = (wo_images){.count = CASE_IMAGES, .rows = CASE_IMAGE_ROWS, .of = case_image_of, .embeds = case_embeds};
    return r;
}

/* One generation under the network's own request: the velocity of every step, one after the other. */
static inline void run_transformer(const network *n, wo_exec *x, float *out) {
    wo_transformer_request r = *(const wo_transformer_request *)n->planning;
    run_pass(n, x, WO_TRANSFORMER_PREPARE, WO_TRANSFORMER_STEP, &r);
    for (int i = 0; i < CASE_STEPS; i++) {
        r.timesteps = case_timesteps[i];
        r.velocity = out + (size_t)i * n->outputs / CASE_STEPS;
        run_pass(n, x, WO_TRANSFORMER_STEP, i + 1 < CASE_STEPS ? WO_TRANSFORMER_STEP : -1, &r);
    }
}

static inline wo_transformer *create_transformer(wo_store *store, const wo_transformer_config *config, wo_dtype dtype) {
    wo_transformer *m;
    wo_error err;
    CHECK_OK(wo_transformer_create(store, config, dtype, &m, &err), &err);
    return m;
}

static inline network transformer_network(const char *name, const wo_transformer *m, const wo_transformer_request *request) {
    return (network){name, m, wo_transformer_component(m), wo_transformer_forward, WO_TRANSFORMER_PASSES, request,
                     CASE_STEPS * (size_t)(request->batch * CASE_OUT * request->frames * request->height * request->width),
                     run_transformer};
}

#endif
