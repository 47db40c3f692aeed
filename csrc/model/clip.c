/* The CLIP vision encoder (ViT) as WAN uses it: configuration, layers and forward, up to the input of the last block.
 *
 * The patches come from the host as rows, so that the patch convolution is a matrix product. All images are rows of the same products,
 * one pass over the weights; attention looks at one image at a time. The last block, the norm behind it and the projection are left out:
 * WAN reads the hidden state before them (hidden_states[-2]).
 *
 *   X [images * tokens, hidden] float32 = LN([class; patches W] + positions)
 *   per block:  X  ->  LN  ->  q, k, v  ->  softmax(q k^T / sqrt(head_dim)) v  ->  X += out
 *                  ->  LN  ->  gelu(fc1) (chunks of rows)                      ->  X += fc2
 *
 * Source: transformers 5 modeling_clip.py, Wan2.1 wan/modules/clip.py; the gelu is the exact one, eps that of the configuration.
 */
#include "model/apply.h"
#include "model/declare.h"
#include "model/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct clip_block {
    const wo_layer *norm1, *q, *k, *v, *out;
    const wo_layer *norm2, *fc1, *fc2;
} clip_block;

struct wo_clip {
    wo_clip_config config;
    wo_dtype dtype;          /* of weights held */
    int64_t patches, patch;  /* patches of an image; elements of a patch */
    const char *prefix;      /* of all names in the file */
    wo_component *component;
    const wo_layer *class_embedding, *patch_embedding, *position_embedding, *pre_norm;
    clip_block *blocks;      /* [num_layers - 1] */
};

static int64_t square(int64_t side) {
    return side * side;
}

int64_t wo_clip_tokens(const wo_clip_config *config) {
    return square(config->image_size / config->patch_size) + 1;
}

static wo_status check_config(const wo_clip_config *c, wo_error *err) {
    const wo_config_entry entries[] = {
        {"num_hidden_layers", c->num_layers, 1},   {"num_attention_heads", c->num_heads, 1},
        {"hidden_size", c->hidden_size, c->num_heads}, {"intermediate_size", c->intermediate_size, 1},
        {"image_size", c->image_size, 1},          {"patch_size", c->patch_size, 1},
        {"num_channels", c->num_channels, 1},
    };
    WO_TRY(wo_config_check("image encoder", entries, sizeof entries / sizeof entries[0], err));
    if (c->patch_size > c->image_size)
        WO_FAIL(err, WO_EVALUE, "image encoder: patch_size of the configuration must be at most image_size, which is %lld, but is %lld",
                (long long)c->image_size, (long long)c->patch_size);
    const wo_config_entry products[] = {
        {"(image_size / patch_size)^2 + 1", wo_clip_tokens(c), 1},
        {"num_channels * patch_size^2", c->num_channels * square(c->patch_size), 1},
    };
    WO_TRY(wo_config_check("image encoder", products, sizeof products / sizeof products[0], err));
    if (!(c->eps > 0.0f && c->eps < 1.0f))
        WO_FAIL(err, WO_EVALUE, "image encoder: layer_norm_eps of the configuration must be between 0 and 1, but is %g", (double)c->eps);
    return WO_OK;
}

/* transformers 5 writes the names without the prefix that files have had before. */
static const char *find_prefix(const wo_store *store) {
    return wo_store_find(store, "embeddings.class_embedding") != NULL ? "" : "vision_model.";
}

static wo_status declare_embeddings(wo_clip *m, wo_declare d, wo_error *err) {
    const wo_clip_config *c = &m->config;
    wo_tensor class_row = wo_tensor_of(NULL, WO_F32, c->hidden_size);
    wo_tensor positions = wo_tensor_of(NULL, WO_F32, m->patches + 1, c->hidden_size);
    wo_tensor patch = wo_tensor_of(NULL, WO_F32, c->hidden_size, c->num_channels, c->patch_size, c->patch_size);
    d.dtype = WO_F32;
    wo_declare_enter(&d, "%sembeddings.", m->prefix);
    WO_TRY(wo_declare_param(&d, "class_embedding", "", &class_row, &m->class_embedding, err));
    d.bias = false;
    WO_TRY(wo_declare_kernel(&d, "patch_embedding", &patch, WO_LAYOUT_ROWS, &m->patch_embedding, err));
    WO_TRY(wo_declare_param(&d, "position_embedding", ".weight", &positions, &m->position_embedding, err));
    d.bias = true;
    wo_declare_enter(&d, "%s", m->prefix);
    return wo_declare_norm(&d, "pre_layrnorm", c->hidden_size, &m->pre_norm, err);
}

static wo_status declare_block(wo_clip *m, wo_declare *d, int64_t index, wo_error *err) {
    int64_t width = m->config.hidden_size, inner = m->config.intermediate_size;
    clip_block *b = &m->blocks[index];
    long long i = (long long)index;
    wo_declare_enter(d, "%sencoder.layers.%lld", m->prefix, i);
    WO_TRY(wo_component_add_block(m->component, d->prefix, &d->block, err));
    wo_declare_enter(d, "%sencoder.layers.%lld.", m->prefix, i);
    WO_TRY(wo_declare_norm(d, "layer_norm1", width, &b->norm1, err));
    wo_declare_enter(d, "%sencoder.layers.%lld.self_attn.", m->prefix, i);
    WO_TRY(wo_declare_linear(d, "q_proj", width, width, &b->q, err));
    WO_TRY(wo_declare_linear(d, "k_proj", width, width, &b->k, err));
    WO_TRY(wo_declare_linear(d, "v_proj", width, width, &b->v, err));
    WO_TRY(wo_declare_linear(d, "out_proj", width, width, &b->out, err));
    wo_declare_enter(d, "%sencoder.layers.%lld.", m->prefix, i);
    WO_TRY(wo_declare_norm(d, "layer_norm2", width, &b->norm2, err));
    WO_TRY(wo_declare_linear(d, "mlp.fc1", inner, width, &b->fc1, err));
    return wo_declare_linear(d, "mlp.fc2", width, inner, &b->fc2, err);
}

/* What a file holds beside the layers that are used; names as they stand behind the prefix, or at the top of the file. */
static wo_status excuse_rest(const wo_clip *m, wo_error *err) {
    static const char *const text_tower = "prompts are encoded by the text encoder";
    static const char *const before_last = "the hidden state before the last block is the result";
    const char *const reasons[][2] = {
        {"text_model.", text_tower},           {"text_projection.", text_tower},
        {"logit_scale", "images and texts are not compared"}, {"visual_projection.", before_last},
    };
    char name[96];
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        WO_TRY(wo_component_excuse(m->component, reasons[i][0], NULL, reasons[i][1], err));
    snprintf(name, sizeof name, "%sencoder.layers.%lld.", m->prefix, (long long)(m->config.num_layers - 1));
    WO_TRY(wo_component_excuse(m->component, name, NULL, before_last, err));
    snprintf(name, sizeof name, "%spost_layernorm.", m->prefix);
    WO_TRY(wo_component_excuse(m->component, name, NULL, before_last, err));
    return wo_component_excuse(m->component, NULL, "embeddings.position_ids", "positions are counted, not looked up", err);
}

static wo_status declare_all(wo_clip *m, wo_store *store, wo_error *err) {
    WO_TRY(wo_component_create("image_encoder", store, &m->component, err));
    wo_declare d = {.component = m->component, .block = -1, .dtype = m->dtype, .bias = true};
    WO_TRY(declare_embeddings(m, d, err));
    for (int64_t i = 0; i + 1 < m->config.num_layers; i++)
        WO_TRY(declare_block(m, &d, i, err));
    WO_TRY(excuse_rest(m, err));
    return wo_component_seal(m->component, err);
}

wo_status wo_clip_create(wo_store *store, const wo_clip_config *config, wo_dtype dtype, wo_clip **out, wo_error *err) {
    *out = NULL;
    WO_TRY(check_config(config, err));
    WO_TRY(wo_config_check_dtype("image encoder", dtype, err));
    wo_clip *m = calloc(1, sizeof *m);
    clip_block *blocks = calloc((size_t)config->num_layers, sizeof *blocks);
    if (m == NULL || blocks == NULL) {
        free(m);
        free(blocks);
        WO_FAIL(err, WO_ENOMEMORY, "image encoder: no memory for %lld blocks", (long long)config->num_layers);
    }
    *m = (wo_clip){.config = *config, .dtype = dtype, .patches = wo_clip_tokens(config) - 1,
                   .patch = config->num_channels * square(config->patch_size), .prefix = find_prefix(store), .blocks = blocks};
    wo_status status = declare_all(m, store, err);
    if (status != WO_OK) {
        wo_clip_destroy(m);
        return status;
    }
    *out = m;
    return WO_OK;
}

void wo_clip_destroy(wo_clip *m) {
    if (m == NULL)
        return;
    wo_component_destroy(m->component);
    free(m->blocks);
    free(m);
}

wo_component *wo_clip_component(const wo_clip *m) {
    return m->component;
}

/* ---- forward ---- */

typedef struct run {
    const wo_clip *m;
    wo_exec *x;
    const wo_clip_request *r;
    wo_dtype compute;     /* of operands */
    int64_t tokens, rows; /* of one image; of all images */
    wo_tensor residual;   /* X, F32 [rows, hidden_size] */
} run;

static wo_status run_init(run *p, const wo_clip *m, wo_exec *x, const wo_clip_request *r, wo_error *err) {
    *p = (run){.m = m, .x = x, .r = r, .compute = wo_apply_compute(x, m->dtype), .tokens = m->patches + 1};
    p->rows = r->images * p->tokens;
    if (r->images < 1 || p->rows > INT32_MAX)
        WO_FAIL(err, WO_EVALUE, "image encoder: there must be between 1 and %lld images, but there are %d",
                (long long)(INT32_MAX / p->tokens), (int)r->images);
    return WO_OK;
}

/* The rows of every image: the class embedding, then its patches, each projected. */
static wo_status embed_rows(run *p, const wo_tensor *rows, wo_error *err) {
    const wo_clip *m = p->m;
    const wo_tensor *params;
    wo_tensor patches;
    WO_TRY(wo_exec_use(p->x, m->class_embedding, &params, err));
    for (int64_t i = 0; i < p->r->images; i++) {
        wo_tensor first = wo_tensor_rows(rows, i * p->tokens, 1);
        WO_TRY(wo_apply_unary(p->x, WO_UNARY_COPY, &params[0], &first, err));
    }
    WO_TRY(wo_exec_done(p->x, m->class_embedding, err));
    WO_TRY(wo_exec_new(p->x, &patches, err, WO_F32, p->r->images * m->patches, m->patch));
    WO_TRY(wo_exec_upload(p->x, &patches, p->r->patches, err));
    WO_TRY(wo_exec_use(p->x, m->patch_embedding, &params, err));
    for (int64_t i = 0; i < p->r->images; i++) {
        wo_linear_args args = {.x = wo_tensor_rows(&patches, i * m->patches, m->patches),
                               .y = wo_tensor_rows(rows, i * p->tokens + 1, m->patches)};
        wo_apply_params(&args, params, m->patch_embedding->params);
        WO_TRY(wo_apply_linear(p->x, &args, err));
    }
    WO_TRY(wo_exec_done(p->x, m->patch_embedding, err));
    wo_exec_free(p->x, &patches);
    return WO_OK;
}

/* X = LN(rows + positions). */
static wo_status embed(run *p, wo_error *err) {
    const wo_clip *m = p->m;
    const wo_tensor *params;
    wo_tensor rows;
    WO_TRY(wo_exec_new(p->x, &rows, err, WO_F32, p->rows, m->config.hidden_size));
    WO_TRY(embed_rows(p, &rows, err));
    WO_TRY(wo_exec_use(p->x, m->position_embedding, &params, err));
    wo_add_args add = {.a = rows, .b = params[0], .y = rows};
    WO_TRY(wo_add(wo_exec_stream(p->x), &add, err));
    WO_TRY(wo_exec_done(p->x, m->position_embedding, err));
    WO_TRY(wo_exec_new(p->x, &p->residual, err, WO_F32, p->rows, m->config.hidden_size));
    wo_layer_norm_args norm = {.x = rows, .y = p->residual, .eps = m->config.eps};
    WO_TRY(wo_apply_layer_norm_layer(p->x, m->pre_norm, &norm, err));
    wo_exec_free(p->x, &rows);
    return WO_OK;
}

/* LN(X) in fresh memory, in the dtype of operands. */
static wo_status normalise(const run *p, const wo_layer *layer, wo_tensor *y, wo_error *err) {
    WO_TRY(wo_exec_new(p->x, y, err, p->compute, p->rows, p->m->config.hidden_size));
    wo_layer_norm_args norm = {.x = p->residual, .y = *y, .eps = p->m->config.eps};
    return wo_apply_layer_norm_layer(p->x, layer, &norm, err);
}

static wo_status project(const run *p, const wo_layer *layer, const wo_tensor *y, wo_tensor *out, wo_error *err) {
    WO_TRY(wo_exec_new(p->x, out, err, p->compute, p->rows, p->m->config.hidden_size));
    wo_linear_args args = {.x = *y, .y = *out};
    return wo_apply_linear_layer(p->x, layer, &args, err);
}

/* Rows of one image as heads. */
static wo_tensor heads_of(const run *p, const wo_tensor *t, int64_t image) {
    int64_t heads = p->m->config.num_heads;
    wo_tensor part = wo_tensor_rows(t, image * p->tokens, p->tokens);
    return wo_tensor_as(&part, p->tokens, heads, p->m->config.hidden_size / heads);
}

static wo_status self_attention(const run *p, const clip_block *block, wo_error *err) {
    const wo_clip_config *c = &p->m->config;
    wo_tensor y, q, k, v, o;
    WO_TRY(normalise(p, block->norm1, &y, err));
    WO_TRY(project(p, block->q, &y, &q, err));
    WO_TRY(project(p, block->k, &y, &k, err));
    WO_TRY(project(p, block->v, &y, &v, err));
    wo_exec_free(p->x, &y);
    WO_TRY(wo_exec_new(p->x, &o, err, p->compute, p->rows, c->hidden_size));
    for (int64_t i = 0; i < p->r->images; i++) {
        wo_attention_args args = {.q = heads_of(p, &q, i), .k = heads_of(p, &k, i), .v = heads_of(p, &v, i), .o = heads_of(p, &o, i),
                                  .scale = 1.0f / sqrtf((float)(c->hidden_size / c->num_heads))};
        WO_TRY(wo_apply_attention(p->x, &args, err));
    }
    wo_exec_free(p->x, &q);
    wo_exec_free(p->x, &k);
    wo_exec_free(p->x, &v);
    wo_linear_args out = {.x = o, .y = p->residual, .other = p->residual, .epilogue = WO_EPILOGUE_ADD};
    WO_TRY(wo_apply_linear_layer(p->x, block->out, &out, err));
    wo_exec_free(p->x, &o);
    return WO_OK;
}

/* X += fc2(gelu(fc1 y)) for rows of y = LN(X). params: of the two layers where they are in use, else NULL. */
static wo_status feed_forward_rows(const run *p, const clip_block *block, const wo_tensor *const *params, const wo_tensor *y,
                                   int64_t first, int64_t rows, wo_error *err) {
    wo_tensor residual = wo_tensor_rows(&p->residual, first, rows), hidden;
    WO_TRY(wo_exec_new(p->x, &hidden, err, p->compute, rows, p->m->config.intermediate_size));
    wo_linear_args in = {.x = wo_tensor_rows(y, first, rows), .y = hidden, .epilogue = WO_EPILOGUE_GELU_ERF};
    WO_TRY(wo_apply_linear_held(p->x, block->fc1, params[0], &in, err));
    wo_linear_args out = {.x = hidden, .y = residual, .other = residual, .epilogue = WO_EPILOGUE_ADD};
    WO_TRY(wo_apply_linear_held(p->x, block->fc2, params[1], &out, err));
    wo_exec_free(p->x, &hidden);
    return WO_OK;
}

/* All rows at once, one layer after the other; or in chunks of the plan's choice, with both layers in use together. */
static wo_status feed_forward(const run *p, const clip_block *block, wo_error *err) {
    int64_t chunk = wo_exec_knobs(p->x)->row_chunk;
    const wo_layer *layers[2] = {block->fc1, block->fc2};
    const wo_tensor *params[2] = {NULL, NULL};
    bool cut = chunk > 0 && chunk < p->rows;
    int64_t most = cut ? chunk : p->rows;
    wo_tensor y;
    WO_TRY(normalise(p, block->norm2, &y, err));
    for (int i = 0; cut && i < 2; i++)
        WO_TRY(wo_exec_use(p->x, layers[i], &params[i], err));
    for (int64_t first = 0; first < p->rows; first += most)
        WO_TRY(feed_forward_rows(p, block, params, &y, first, p->rows - first < most ? p->rows - first : most, err));
    for (int i = 0; cut && i < 2; i++)
        WO_TRY(wo_exec_done(p->x, layers[i], err));
    wo_exec_free(p->x, &y);
    return WO_OK;
}

wo_status wo_clip_forward(const void *model, wo_exec *x, int pass, const void *request, wo_error *err) {
    const wo_clip *m = model;
    run p;
    (void)pass;
    WO_TRY(run_init(&p, m, x, request, err));
    WO_TRY(embed(&p, err));
    for (int64_t i = 0; i + 1 < m->config.num_layers; i++) {
        WO_TRY(self_attention(&p, &m->blocks[i], err));
        WO_TRY(feed_forward(&p, &m->blocks[i], err));
    }
    WO_TRY(wo_exec_download(x, p.r->out, &p.residual, err));
    wo_exec_free(x, &p.residual);
    return WO_OK;
}
