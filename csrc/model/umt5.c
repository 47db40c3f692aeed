/* The UMT5 text encoder: configuration, layers and forward.
 *
 * Only real tokens are computed; the relative position bias depends on the distance alone, so leaving the padding out changes nothing.
 * All prompts are rows of the same products, one pass over the weights; attention looks at one prompt at a time. Of the embedding
 * table, 2 GB in the published model, only the rows of the prompts' ids are read.
 *
 *   X [tokens, d_model] float32  ->  RMS  ->  q, k, v  ->  softmax(q k^T + bias[bucket(j - i)]) v  ->  X += o
 *                                ->  RMS  ->  gelu(wi_0) * wi_1 (chunks of rows)                   ->  X += wo
 *
 * Source: transformers 5 modeling_umt5.py; the attention has no scale, and every layer a bias table of its own.
 */
#include "model/apply.h"
#include "model/declare.h"
#include "model/model.h"

#include <stdlib.h>
#include <string.h>

typedef struct umt5_block {
    const wo_layer *norm1, *q, *k, *v, *relative, *o;
    const wo_layer *norm2, *wi_0, *wi_1, *wo;
} umt5_block;

struct wo_umt5 {
    wo_umt5_config config;
    wo_dtype dtype, compute; /* of weights held; of operands */
    wo_component *component;
    const wo_layer *embedding; /* a table: read row by row */
    umt5_block *blocks;        /* [num_layers] */
    const wo_layer *final_norm;
};

/* Host memory of a forward: the distinct rows of the table, and for each token the index of its row. */
enum { KEEP_ROWS, KEEP_INDICES };
/* Up to so many tokens (of the longest prompt) the products run in the dot form. */
enum { DOT_ROWS = 32 };

static wo_status check_config(const wo_umt5_config *c, wo_error *err) {
    const wo_config_entry entries[] = {
        {"vocab_size", c->vocab_size, 1}, {"d_model", c->d_model, 1},
        {"d_kv", c->d_kv, 1},             {"d_ff", c->d_ff, 1},
        {"num_layers", c->num_layers, 1}, {"num_heads", c->num_heads, 1},
        {"relative_attention_num_buckets", c->num_buckets, 2}, {"relative_attention_max_distance", c->max_distance, 1},
        {"num_heads * d_kv", c->num_heads > 0 && c->d_kv > WO_CONFIG_LIMIT / c->num_heads ? WO_CONFIG_LIMIT + 1
                                                                                         : c->num_heads * c->d_kv, 1},
    };
    WO_TRY(wo_config_check("text encoder", entries, sizeof entries / sizeof entries[0], err));
    if (c->num_buckets < 4)
        WO_FAIL(err, WO_EVALUE, "text encoder: relative_attention_num_buckets of the configuration must be at least 4, but is %lld",
                (long long)c->num_buckets);
    if (c->max_distance <= c->num_buckets / 4)
        WO_FAIL(err, WO_EVALUE, "text encoder: relative_attention_max_distance of the configuration must exceed a quarter of the %lld "
                "buckets, but is %lld", (long long)c->num_buckets, (long long)c->max_distance);
    if (!(c->eps > 0.0f && c->eps < 1.0f))
        WO_FAIL(err, WO_EVALUE, "text encoder: layer_norm_epsilon of the configuration must be between 0 and 1, but is %g",
                (double)c->eps);
    return WO_OK;
}

/* Files hold the table under either of two names, or the same table under both. */
static wo_status declare_embedding(wo_umt5 *m, wo_error *err) {
    const char *names[] = {"shared.weight", "encoder.embed_tokens.weight"};
    int chosen = wo_store_find(wo_component_store(m->component), names[0]) == NULL &&
                 wo_store_find(wo_component_store(m->component), names[1]) != NULL;
    wo_param_spec spec = {.tensor = names[chosen], .rank = 2, .shape = {m->config.vocab_size, m->config.d_model}, .dtype = WO_F32};
    WO_TRY(wo_component_add_table(m->component, chosen ? "encoder.embed_tokens" : "shared", &spec, &m->embedding, err));
    return wo_component_excuse(m->component, names[!chosen], NULL, "a copy of the table of shared.weight", err);
}

static wo_status declare_block(wo_umt5 *m, wo_declare *d, int64_t index, wo_error *err) {
    const wo_umt5_config *c = &m->config;
    umt5_block *b = &m->blocks[index];
    long long i = (long long)index;
    int64_t inner = c->num_heads * c->d_kv;
    wo_tensor norm = wo_tensor_of(NULL, WO_F32, c->d_model), table = wo_tensor_of(NULL, WO_F32, c->num_buckets, c->num_heads);
    wo_declare_enter(d, "encoder.block.%lld", i);
    WO_TRY(wo_component_add_block(m->component, d->prefix, &d->block, err));
    wo_declare_enter(d, "encoder.block.%lld.layer.0.", i);
    WO_TRY(wo_declare_param(d, "layer_norm", ".weight", &norm, &b->norm1, err));
    wo_declare_enter(d, "encoder.block.%lld.layer.0.SelfAttention.", i);
    WO_TRY(wo_declare_linear(d, "q", inner, c->d_model, &b->q, err));
    WO_TRY(wo_declare_linear(d, "k", inner, c->d_model, &b->k, err));
    WO_TRY(wo_declare_linear(d, "v", inner, c->d_model, &b->v, err));
    WO_TRY(wo_declare_param(d, "relative_attention_bias", ".weight", &table, &b->relative, err));
    WO_TRY(wo_declare_linear(d, "o", c->d_model, inner, &b->o, err));
    wo_declare_enter(d, "encoder.block.%lld.layer.1.", i);
    WO_TRY(wo_declare_param(d, "layer_norm", ".weight", &norm, &b->norm2, err));
    wo_declare_enter(d, "encoder.block.%lld.layer.1.DenseReluDense.", i);
    WO_TRY(wo_declare_linear(d, "wi_0", c->d_ff, c->d_model, &b->wi_0, err));
    WO_TRY(wo_declare_linear(d, "wi_1", c->d_ff, c->d_model, &b->wi_1, err));
    return wo_declare_linear(d, "wo", c->d_model, c->d_ff, &b->wo, err);
}

static wo_status declare_all(wo_umt5 *m, wo_store *store, wo_error *err) {
    wo_tensor norm = wo_tensor_of(NULL, WO_F32, m->config.d_model);
    WO_TRY(wo_component_create("text_encoder", store, &m->component, err));
    wo_declare d = {.component = m->component, .block = -1, .dtype = m->dtype};
    WO_TRY(declare_embedding(m, err));
    for (int64_t i = 0; i < m->config.num_layers; i++)
        WO_TRY(declare_block(m, &d, i, err));
    d.block = -1;
    wo_declare_enter(&d, "encoder.");
    WO_TRY(wo_declare_param(&d, "final_layer_norm", ".weight", &norm, &m->final_norm, err));
    WO_TRY(wo_component_excuse(m->component, "decoder.", NULL, "the decoder is not used for embeddings", err));
    WO_TRY(wo_component_excuse(m->component, "lm_head.", NULL, "the decoder is not used for embeddings", err));
    return wo_component_seal(m->component, err);
}

wo_status wo_umt5_create(wo_store *store, const wo_umt5_config *config, wo_dtype dtype, wo_umt5 **out, wo_error *err) {
    *out = NULL;
    WO_TRY(check_config(config, err));
    WO_TRY(wo_config_check_dtype("text encoder", dtype, err));
    wo_umt5 *m = calloc(1, sizeof *m);
    umt5_block *blocks = calloc((size_t)config->num_layers, sizeof *blocks);
    if (m == NULL || blocks == NULL) {
        free(m);
        free(blocks);
        WO_FAIL(err, WO_ENOMEMORY, "text encoder: no memory for %lld blocks", (long long)config->num_layers);
    }
    /* Beside float16 weights operands are float32 on every device: what the feed-forward multiplies out of its gate and its other half is larger than
     * float16 holds. */
    *m = (wo_umt5){.config = *config, .dtype = dtype, .compute = dtype == WO_BF16 ? WO_BF16 : WO_F32, .blocks = blocks};
    wo_status status = declare_all(m, store, err);
    if (status != WO_OK) {
        wo_umt5_destroy(m);
        return status;
    }
    *out = m;
    return WO_OK;
}

void wo_umt5_destroy(wo_umt5 *m) {
    if (m == NULL)
        return;
    wo_component_destroy(m->component);
    free(m->blocks);
    free(m);
}

wo_component *wo_umt5_component(const wo_umt5 *m) {
    return m->component;
}

/* ---- forward ---- */

typedef struct run {
    const wo_umt5 *m;
    wo_exec *x;
    const wo_umt5_request *r;
    int64_t rows; /* tokens of all prompts */
    wo_form form;
    wo_tensor residual; /* X, F32 [rows, d_model] */
} run;

static wo_status run_init(run *p, const wo_umt5 *m, wo_exec *x, const wo_umt5_request *r, wo_error *err) {
    int64_t longest = 0;
    *p = (run){.m = m, .x = x, .r = r};
    if (r->prompts < 1)
        WO_FAIL(err, WO_EVALUE, "text encoder: there must be at least one prompt, but there are %d", (int)r->prompts);
    for (int32_t i = 0; i < r->prompts; i++) {
        if (r->tokens[i] < 1 || r->tokens[i] > WO_CONFIG_LIMIT)
            WO_FAIL(err, WO_EVALUE, "text encoder: prompt %d must have between 1 and %d tokens, but has %d", (int)i,
                    (int)WO_CONFIG_LIMIT, (int)r->tokens[i]);
        p->rows += r->tokens[i];
        longest = r->tokens[i] > longest ? r->tokens[i] : longest;
    }
    for (int64_t i = 0; r->ids != NULL && i < p->rows; i++)
        if (r->ids[i] < 0 || r->ids[i] >= m->config.vocab_size)
            WO_FAIL(err, WO_EVALUE, "text encoder: token id %d is outside the vocabulary of %lld", (int)r->ids[i],
                    (long long)m->config.vocab_size);
    p->form = longest <= DOT_ROWS ? WO_FORM_DOT : WO_FORM_TILE;
    return WO_OK;
}

/* The distinct ids of the prompts, in order of first appearance, into unique; for each token the index of its id into indices. */
static int64_t find_unique(const int32_t *ids, int64_t count, int32_t *unique, int32_t *indices) {
    int64_t found = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t at = 0;
        while (at < found && unique[at] != ids[i])
            at++;
        if (at == found)
            unique[found++] = ids[i];
        indices[i] = (int32_t)at;
    }
    return found;
}

/* X = table[ids]. The distinct rows are read into host memory that the exec keeps, so that they stay until the copy has passed. */
static wo_status embed(run *p, wo_error *err) {
    int64_t width = p->m->config.d_model, shape[] = {p->rows, width}, twice[] = {2, p->rows};
    wo_tensor host_rows, host_ids, rows, ids;
    bool fresh;
    WO_TRY(wo_exec_keep(p->x, KEEP_ROWS, true, WO_F32, 2, shape, &host_rows, &fresh, err));
    WO_TRY(wo_exec_keep(p->x, KEEP_INDICES, true, WO_I32, 2, twice, &host_ids, &fresh, err));
    if (!wo_exec_is_dry(p->x)) {
        int32_t *indices = host_ids.data, *unique = indices + p->rows;
        size_t count = (size_t)find_unique(p->r->ids, p->rows, unique, indices);
        WO_TRY(wo_component_read_rows(p->m->component, p->m->embedding, unique, count, host_rows.data, err));
    }
    WO_TRY(wo_exec_new(p->x, &rows, err, WO_F32, p->rows, width));
    WO_TRY(wo_exec_copy(p->x, &rows, &host_rows, err));
    WO_TRY(wo_exec_new(p->x, &ids, err, WO_I32, p->rows));
    WO_TRY(wo_exec_upload(p->x, &ids, host_ids.data, err));
    WO_TRY(wo_exec_new(p->x, &p->residual, err, WO_F32, p->rows, width));
    wo_embedding_args args = {.table = rows, .ids = ids, .y = p->residual};
    WO_TRY(wo_embedding(wo_exec_stream(p->x), &args, err));
    wo_exec_free(p->x, &rows);
    wo_exec_free(p->x, &ids);
    return WO_OK;
}

static wo_status project(run *p, const wo_layer *layer, const wo_tensor *y, wo_tensor *out, wo_error *err) {
    WO_TRY(wo_exec_new(p->x, out, err, p->m->compute, p->rows, p->m->config.num_heads * p->m->config.d_kv));
    wo_linear_args args = {.x = *y, .y = *out, .form = p->form};
    return wo_apply_linear_layer(p->x, layer, &args, err);
}

static wo_status attend(run *p, const umt5_block *block, const wo_tensor *q, const wo_tensor *k, const wo_tensor *v,
                        const wo_tensor *o, wo_error *err) {
    int64_t heads = p->m->config.num_heads, dim = p->m->config.d_kv, first = 0;
    const wo_tensor *params;
    WO_TRY(wo_exec_use(p->x, block->relative, &params, err));
    for (int32_t i = 0; i < p->r->prompts; i++) {
        int64_t rows = p->r->tokens[i];
        wo_tensor part[4] = {wo_tensor_rows(q, first, rows), wo_tensor_rows(k, first, rows), wo_tensor_rows(v, first, rows),
                             wo_tensor_rows(o, first, rows)};
        wo_attention_args args = {.q = wo_tensor_as(&part[0], rows, heads, dim), .k = wo_tensor_as(&part[1], rows, heads, dim),
                                  .v = wo_tensor_as(&part[2], rows, heads, dim), .o = wo_tensor_as(&part[3], rows, heads, dim),
                                  .scale = 1.0f, .relative = params[0], .max_distance = (int32_t)p->m->config.max_distance};
        WO_TRY(wo_apply_attention(p->x, &args, err));
        first += rows;
    }
    return wo_exec_done(p->x, block->relative, err);
}

static wo_status self_attention(run *p, const umt5_block *block, wo_error *err) {
    wo_tensor y, q, k, v, o;
    WO_TRY(wo_exec_new(p->x, &y, err, p->m->compute, p->rows, p->m->config.d_model));
    wo_rms_norm_args norm = {.x = p->residual, .y = y, .eps = p->m->config.eps};
    WO_TRY(wo_apply_rms_norm_layer(p->x, block->norm1, &norm, err));
    WO_TRY(project(p, block->q, &y, &q, err));
    WO_TRY(project(p, block->k, &y, &k, err));
    WO_TRY(project(p, block->v, &y, &v, err));
    wo_exec_free(p->x, &y);
    WO_TRY(wo_exec_new(p->x, &o, err, p->m->compute, p->rows, p->m->config.num_heads * p->m->config.d_kv));
    WO_TRY(attend(p, block, &q, &k, &v, &o, err));
    wo_exec_free(p->x, &q);
    wo_exec_free(p->x, &k);
    wo_exec_free(p->x, &v);
    wo_linear_args out = {.x = o, .y = p->residual, .other = p->residual, .form = p->form, .epilogue = WO_EPILOGUE_ADD};
    WO_TRY(wo_apply_linear_layer(p->x, block->o, &out, err));
    wo_exec_free(p->x, &o);
    return WO_OK;
}

/* Layers of a feed-forward that are in use together where its rows are cut. */
enum { FFN_WI_0, FFN_WI_1, FFN_WO, FFN_LAYERS };

/* X += wo(gelu(wi_0 y) * wi_1 y) for rows of y = RMS(X). params: of the layers where they are in use, else NULL. */
static wo_status feed_forward_rows(run *p, const umt5_block *block, const wo_tensor *const *params, const wo_tensor *y, int64_t first,
                                   int64_t rows, wo_error *err) {
    wo_tensor in = wo_tensor_rows(y, first, rows), residual = wo_tensor_rows(&p->residual, first, rows), gate, hidden;
    WO_TRY(wo_exec_new(p->x, &gate, err, p->m->compute, rows, p->m->config.d_ff));
    wo_linear_args activated = {.x = in, .y = gate, .form = p->form, .epilogue = WO_EPILOGUE_GELU_TANH};
    WO_TRY(wo_apply_linear_held(p->x, block->wi_0, params[FFN_WI_0], &activated, err));
    WO_TRY(wo_exec_new(p->x, &hidden, err, p->m->compute, rows, p->m->config.d_ff));
    wo_linear_args gated = {.x = in, .y = hidden, .other = gate, .form = p->form, .epilogue = WO_EPILOGUE_MUL};
    WO_TRY(wo_apply_linear_held(p->x, block->wi_1, params[FFN_WI_1], &gated, err));
    wo_exec_free(p->x, &gate);
    wo_linear_args out = {.x = hidden, .y = residual, .other = residual, .form = p->form, .epilogue = WO_EPILOGUE_ADD};
    WO_TRY(wo_apply_linear_held(p->x, block->wo, params[FFN_WO], &out, err));
    wo_exec_free(p->x, &hidden);
    return WO_OK;
}

/* All rows at once, one layer after the other; or in chunks of the plan's choice, with the three layers in use together. */
static wo_status feed_forward(run *p, const umt5_block *block, wo_error *err) {
    int64_t chunk = wo_exec_knobs(p->x)->row_chunk;
    const wo_layer *layers[FFN_LAYERS] = {block->wi_0, block->wi_1, block->wo};
    const wo_tensor *params[FFN_LAYERS] = {NULL, NULL, NULL};
    bool cut = chunk > 0 && chunk < p->rows;
    wo_tensor y;
    WO_TRY(wo_exec_new(p->x, &y, err, p->m->compute, p->rows, p->m->config.d_model));
    wo_rms_norm_args norm = {.x = p->residual, .y = y, .eps = p->m->config.eps};
    WO_TRY(wo_apply_rms_norm_layer(p->x, block->norm2, &norm, err));
    for (int i = 0; cut && i < FFN_LAYERS; i++)
        WO_TRY(wo_exec_use(p->x, layers[i], &params[i], err));
    for (int64_t first = 0; cut && first < p->rows; first += chunk)
        WO_TRY(feed_forward_rows(p, block, params, &y, first, p->rows - first < chunk ? p->rows - first : chunk, err));
    for (int i = 0; cut && i < FFN_LAYERS; i++)
        WO_TRY(wo_exec_done(p->x, layers[i], err));
    if (!cut)
        WO_TRY(feed_forward_rows(p, block, params, &y, 0, p->rows, err));
    wo_exec_free(p->x, &y);
    return WO_OK;
}

wo_status wo_umt5_forward(const void *model, wo_exec *x, int pass, const void *request, wo_error *err) {
    const wo_umt5 *m = model;
    wo_tensor out;
    run p;
    (void)pass;
    WO_TRY(run_init(&p, m, x, request, err));
    WO_TRY(embed(&p, err));
    for (int64_t i = 0; i < m->config.num_layers; i++) {
        WO_TRY(self_attention(&p, &m->blocks[i], err));
        WO_TRY(feed_forward(&p, &m->blocks[i], err));
    }
    WO_TRY(wo_exec_new(x, &out, err, WO_F32, p.rows, m->config.d_model));
    wo_rms_norm_args norm = {.x = p.residual, .y = out, .eps = m->config.eps};
    WO_TRY(wo_apply_rms_norm_layer(x, m->final_norm, &norm, err));
    wo_exec_free(x, &p.residual);
    WO_TRY(wo_exec_download(x, p.r->out, &out, err));
    wo_exec_free(x, &out);
    return WO_OK;
}
