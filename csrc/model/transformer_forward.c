/* The two passes of the WAN transformer. A STEP: latents and timesteps -> velocity. The items of the batch (prompts, both sides of
 * guidance) are rows of the same products, so one pass over the weights serves all of them; only attention looks at one item at a time.
 *
 *   X [B*S, d] float32  ->  LN, modulation  ->  q, k, v  ->  RMS, rope  ->  attention  ->  X += gate * to_out
 *                       ->  LN  ->  q; k, v of the text  ->  attention  -+> X += to_out
 *                                   k, v of the image    ->  attention  -'
 *                       ->  LN, modulation  ->  ffn (chunks of rows)    ->  X += gate * out
 *
 * Source: Wan2.1 wan/modules/model.py, diffusers 0.42 transformer_wan.py.
 */
#include "model/apply.h"
#include "model/transformer.h"

#include <math.h>

/* Rows of the modulation of one block. */
enum { SHIFT_ATTN, SCALE_ATTN, GATE_ATTN, SHIFT_FFN, SCALE_FFN, GATE_FFN, MODULATIONS };
/* Queries whose attention to text and image is summed at a time. */
enum { SUM_ROWS = 1024 };

/* e = L2(silu(L1(sinusoid t))) and e0 = Lp(silu(e)), all in float32. Each of the six parts of e0 is a product of its own, so that
 * the batch lies inside: a gate for all items is then one matrix. */
static wo_status embed_time(wo_transformer_run *p, wo_error *err) {
    const wo_transformer *m = p->m;
    int64_t batch = p->r->batch, freq = m->config.freq_dim;
    const wo_tensor *params;
    wo_tensor waves, hidden;
    WO_TRY(wo_exec_new(p->x, &waves, err, WO_F32, batch, freq));
    for (int64_t b = 0; b < batch; b++) {
        wo_tensor row = wo_tensor_rows(&waves, b, 1);
        wo_sinusoid_args args = {.y = wo_tensor_as(&row, freq), .t = p->r->timesteps != NULL ? p->r->timesteps[b] : 0.0f};
        if (!isfinite(args.t))
            WO_FAIL(err, WO_EVALUE, "transformer: the timestep of item %lld must be finite, but is %g", (long long)b, (double)args.t);
        WO_TRY(wo_sinusoid(wo_exec_stream(p->x), &args, err));
    }
    WO_TRY(wo_exec_new(p->x, &hidden, err, WO_F32, batch, m->width));
    wo_linear_args in = {.x = waves, .y = hidden, .form = WO_FORM_DOT, .epilogue = WO_EPILOGUE_SILU};
    WO_TRY(wo_apply_linear_layer(p->x, m->time_in, &in, err));
    wo_exec_free(p->x, &waves);
    WO_TRY(wo_exec_new(p->x, &p->time, err, WO_F32, batch, m->width));
    wo_linear_args out = {.x = hidden, .y = p->time, .form = WO_FORM_DOT};
    WO_TRY(wo_apply_linear_layer(p->x, m->time_out, &out, err));
    WO_TRY(wo_apply_unary(p->x, WO_UNARY_SILU, &p->time, &hidden, err));
    WO_TRY(wo_exec_new(p->x, &p->modulation_base, err, WO_F32, MODULATIONS * batch, m->width));
    WO_TRY(wo_exec_use(p->x, m->time_proj, &params, err));
    for (int i = 0; i < MODULATIONS; i++) {
        wo_linear_args part = {.x = hidden, .y = wo_tensor_rows(&p->modulation_base, i * batch, batch), .form = WO_FORM_DOT,
                               .w = wo_tensor_rows(&params[0], i * m->width, m->width),
                               .bias = wo_tensor_rows(&params[1], i * m->width, m->width)};
        WO_TRY(wo_apply_linear(p->x, &part, err));
    }
    WO_TRY(wo_exec_done(p->x, m->time_proj, err));
    wo_exec_free(p->x, &hidden);
    return WO_OK;
}

/* out[i * items + b] = base[i * batch + first_item + b] + table[i], for the `parts` rows of a scale_shift_table and the items at work. base
 * may have one part, which then serves every row of the table (the head adds e to both). */
static wo_status modulate(const wo_transformer_run *p, const wo_layer *layer, const wo_tensor *base, int parts, wo_tensor *out,
                          wo_error *err) {
    int64_t batch = p->r->batch, items = p->items, width = p->m->width;
    const wo_tensor *params;
    WO_TRY(wo_exec_new(p->x, out, err, WO_F32, parts * items, width));
    WO_TRY(wo_exec_use(p->x, layer, &params, err));
    wo_tensor table = wo_tensor_as(&params[0], (int64_t)parts, width);
    for (int i = 0; i < parts; i++) {
        wo_add_args args = {.a = wo_tensor_rows(base, (base->shape[0] == batch ? 0 : i * batch) + p->first_item, items),
                            .b = wo_tensor_rows(&table, i, 1), .y = wo_tensor_rows(out, i * items, items)};
        WO_TRY(wo_add(wo_exec_stream(p->x), &args, err));
    }
    return wo_exec_done(p->x, layer, err);
}

/* A part of a modulation, [items, width]. */
static wo_tensor part_of(const wo_transformer_run *p, const wo_tensor *modulation, int part) {
    return wo_tensor_rows(modulation, part * p->items, p->items);
}

/* Rows of the items at work: how many, and those of the residual stream. */
static int64_t rows_at_work(const wo_transformer_run *p) {
    return p->items * p->tokens;
}

static wo_tensor residual_at_work(const wo_transformer_run *p) {
    return wo_tensor_rows(&p->residual, p->first_item * p->tokens, rows_at_work(p));
}

static wo_status embed_patches(wo_transformer_run *p, wo_error *err) {
    const wo_transformer_request *r = p->r;
    int64_t channels = p->m->config.in_channels;
    wo_tensor latents, patches;
    WO_TRY(wo_exec_new(p->x, &latents, err, WO_F32, r->batch * channels, r->frames, r->height, r->width));
    WO_TRY(wo_exec_upload(p->x, &latents, r->latents, err));
    WO_TRY(wo_exec_new(p->x, &patches, err, WO_F32, p->rows, 4 * channels));
    for (int64_t b = 0; b < r->batch; b++) {
        wo_patchify_args args = {.latents = wo_tensor_rows(&latents, b * channels, channels),
                                 .rows = wo_tensor_rows(&patches, b * p->tokens, p->tokens)};
        WO_TRY(wo_patchify(wo_exec_stream(p->x), &args, err));
    }
    wo_exec_free(p->x, &latents);
    WO_TRY(wo_exec_new(p->x, &p->residual, err, WO_F32, p->rows, p->m->width));
    wo_linear_args args = {.x = patches, .y = p->residual};
    WO_TRY(wo_apply_linear_layer(p->x, p->m->patch_embedding, &args, err));
    wo_exec_free(p->x, &patches);
    return WO_OK;
}

/* Rows [first, first + rows) of an item's tensor [all, width] as heads. */
static wo_tensor heads_of(const wo_transformer_run *p, const wo_tensor *t, int64_t first, int64_t rows) {
    wo_tensor part = wo_tensor_rows(t, first, rows);
    return wo_tensor_as(&part, rows, p->m->config.num_heads, p->m->config.head_dim);
}

static wo_status attend(const wo_transformer_run *p, const wo_tensor *q, const wo_tensor *k, const wo_tensor *v, const wo_tensor *o,
                        float bias, wo_error *err) {
    wo_attention_args args = {.q = *q, .k = *k, .v = *v, .o = *o, .scale = 1.0f / sqrtf((float)p->m->config.head_dim),
                              .last_key_bias = bias};
    return wo_apply_attention(p->x, &args, err);
}

/* One projection of y into fresh memory, normalised and rotated where asked. */
static wo_status project(const wo_transformer_run *p, const wo_layer *layer, const wo_layer *norm, bool rotate, const wo_tensor *y,
                         wo_tensor *out, wo_error *err) {
    WO_TRY(wo_exec_new(p->x, out, err, p->m->compute, rows_at_work(p), p->m->width));
    wo_linear_args args = {.x = *y, .y = *out};
    WO_TRY(wo_apply_linear_layer(p->x, layer, &args, err));
    if (norm == NULL)
        return WO_OK;
    wo_rms_norm_args rms = {.x = *out, .y = *out, .eps = p->m->config.eps};
    if (rotate) {
        rms.cos = p->cos;
        rms.sin = p->sin;
        rms.head_dim = p->m->config.head_dim;
    }
    return wo_apply_rms_norm_layer(p->x, norm, &rms, err);
}

static wo_status self_attention(wo_transformer_run *p, const wo_transformer_block *block, const wo_tensor *modulation, wo_error *err) {
    wo_tensor residual = residual_at_work(p), y, q, k, v, o;
    WO_TRY(wo_exec_new(p->x, &y, err, p->m->compute, rows_at_work(p), p->m->width));
    wo_layer_norm_args norm = {.x = residual, .y = y, .scale = part_of(p, modulation, SCALE_ATTN),
                               .shift = part_of(p, modulation, SHIFT_ATTN), .rows_per_batch = p->tokens, .eps = p->m->config.eps};
    WO_TRY(wo_layer_norm(wo_exec_stream(p->x), &norm, err));
    WO_TRY(project(p, block->attn1.to_q, block->attn1.norm_q, true, &y, &q, err));
    WO_TRY(project(p, block->attn1.keys.to_k, block->attn1.keys.norm_k, true, &y, &k, err));
    WO_TRY(project(p, block->attn1.keys.to_v, NULL, false, &y, &v, err));
    wo_exec_free(p->x, &y);
    WO_TRY(wo_exec_new(p->x, &o, err, p->m->compute, rows_at_work(p), p->m->width));
    for (int64_t b = 0; b < p->items; b++) {
        wo_tensor qb = heads_of(p, &q, b * p->tokens, p->tokens), kb = heads_of(p, &k, b * p->tokens, p->tokens);
        wo_tensor vb = heads_of(p, &v, b * p->tokens, p->tokens), ob = heads_of(p, &o, b * p->tokens, p->tokens);
        WO_TRY(attend(p, &qb, &kb, &vb, &ob, 0.0f, err));
    }
    wo_exec_free(p->x, &q);
    wo_exec_free(p->x, &k);
    wo_exec_free(p->x, &v);
    wo_linear_args out = {.x = o, .y = residual, .other = residual, .epilogue = WO_EPILOGUE_GATE,
                          .gate = part_of(p, modulation, GATE_ATTN), .rows_per_gate = p->tokens};
    WO_TRY(wo_apply_linear_layer(p->x, block->attn1.to_out, &out, err));
    wo_exec_free(p->x, &o);
    return WO_OK;
}

/* Queries of the cross attention: q = RMS(to_q LN(X)). Without cross_attn_norm X itself is projected. */
static wo_status cross_queries(wo_transformer_run *p, const wo_transformer_block *block, wo_tensor *q, wo_error *err) {
    wo_tensor residual = residual_at_work(p), y;
    WO_TRY(wo_exec_new(p->x, &y, err, p->m->compute, rows_at_work(p), p->m->width));
    if (block->norm2 != NULL) {
        wo_layer_norm_args norm = {.x = residual, .y = y, .eps = p->m->config.eps};
        WO_TRY(wo_apply_layer_norm_layer(p->x, block->norm2, &norm, err));
    } else {
        WO_TRY(wo_apply_unary(p->x, WO_UNARY_COPY, &residual, &y, err));
    }
    WO_TRY(project(p, block->attn2.to_q, block->attn2.norm_q, false, &y, q, err));
    wo_exec_free(p->x, &y);
    return WO_OK;
}

/* Queries of one item, as heads, on their way through the cross attention. */
typedef struct cross_rows {
    int64_t item, first_text; /* the item's first row among the keys of the text */
    wo_tensor q, o;
} cross_rows;

/* o = attention to the text. */
static wo_status attend_text(const wo_transformer_run *p, const wo_transformer_keys *keys, const cross_rows *c, const wo_tensor *o,
                             wo_error *err) {
    const wo_text *text = &p->r->text[c->item];
    int64_t rows = wo_transformer_text_rows(p, text);
    wo_tensor k = heads_of(p, &keys->k[WO_SOURCE_TEXT], c->first_text, rows);
    wo_tensor v = heads_of(p, &keys->v[WO_SOURCE_TEXT], c->first_text, rows);
    float bias = wo_transformer_is_folded(p, text) ? logf((float)(text->rows - text->real)) : 0.0f;
    return attend(p, &c->q, &k, &v, o, bias, err);
}

/* o += attention to the image, with a softmax of its own. o: float32. */
static wo_status attend_image(const wo_transformer_run *p, const wo_transformer_keys *keys, const cross_rows *c, const wo_tensor *o,
                              wo_error *err) {
    const wo_images *images = &p->r->images;
    int64_t first = images->of[c->item] * images->rows, rows = o->shape[0];
    wo_tensor k = heads_of(p, &keys->k[WO_SOURCE_IMAGE], first, images->rows);
    wo_tensor v = heads_of(p, &keys->v[WO_SOURCE_IMAGE], first, images->rows), seen;
    WO_TRY(wo_exec_alloc(p->x, WO_F32, o->rank, o->shape, &seen, err));
    WO_TRY(attend(p, &c->q, &k, &v, &seen, 0.0f, err));
    wo_add_args add = {.a = wo_tensor_as(o, rows, p->m->width), .b = wo_tensor_as(&seen, rows, p->m->width),
                       .y = wo_tensor_as(o, rows, p->m->width)};
    WO_TRY(wo_add(wo_exec_stream(p->x), &add, err));
    wo_exec_free(p->x, &seen);
    return WO_OK;
}

/* o = attention to text and image. Both parts are float32 until they are summed, and only the sum is rounded. */
static wo_status attend_both(const wo_transformer_run *p, const wo_transformer_keys *keys, const cross_rows *c, wo_error *err) {
    bool rounded = c->o.dtype != WO_F32;
    wo_tensor sum = c->o;
    if (rounded)
        WO_TRY(wo_exec_alloc(p->x, WO_F32, c->o.rank, c->o.shape, &sum, err));
    WO_TRY(attend_text(p, keys, c, &sum, err));
    WO_TRY(attend_image(p, keys, c, &sum, err));
    if (rounded) {
        WO_TRY(wo_apply_unary(p->x, WO_UNARY_COPY, &sum, &c->o, err));
        wo_exec_free(p->x, &sum);
    }
    return WO_OK;
}

/* All queries of one of the items at work; with an image in runs of a fixed length, so that the float32 sums need little memory. */
static wo_status attend_item(const wo_transformer_run *p, const wo_transformer_keys *keys, int64_t item, int64_t first_text,
                             const wo_tensor *q, const wo_tensor *o, wo_error *err) {
    bool image = p->source_rows[WO_SOURCE_IMAGE] > 0;
    int64_t most = image ? SUM_ROWS : p->tokens;
    for (int64_t at = 0; at < p->tokens; at += most) {
        int64_t first = (item - p->first_item) * p->tokens + at, rows = p->tokens - at < most ? p->tokens - at : most;
        cross_rows c = {.item = item, .first_text = first_text, .q = heads_of(p, q, first, rows), .o = heads_of(p, o, first, rows)};
        WO_TRY(image ? attend_both(p, keys, &c, err) : attend_text(p, keys, &c, &c.o, err));
    }
    return WO_OK;
}

static wo_status cross_attention(wo_transformer_run *p, int64_t index, wo_error *err) {
    const wo_transformer_block *block = &p->m->blocks[index];
    wo_transformer_keys keys;
    int64_t first = 0;
    wo_tensor residual = residual_at_work(p), q, o;
    WO_TRY(cross_queries(p, block, &q, err));
    WO_TRY(wo_transformer_find_keys(p, index, &keys, err));
    WO_TRY(wo_exec_new(p->x, &o, err, p->m->compute, rows_at_work(p), p->m->width));
    for (int64_t b = 0; b < p->first_item + p->items; b++) {
        if (b >= p->first_item)
            WO_TRY(attend_item(p, &keys, b, first, &q, &o, err));
        first += wo_transformer_text_rows(p, &p->r->text[b]);
    }
    wo_exec_free(p->x, &q);
    wo_transformer_release_keys(p, &keys);
    wo_linear_args out = {.x = o, .y = residual, .other = residual, .epilogue = WO_EPILOGUE_ADD};
    WO_TRY(wo_apply_linear_layer(p->x, block->attn2.to_out, &out, err));
    wo_exec_free(p->x, &o);
    return WO_OK;
}

/* The feed-forward of the rows [first, first + rows) at work, which are of one item, or are all rows of all items. params: of its two
 * layers where they are in use, else NULL. */
static wo_status feed_forward_rows(wo_transformer_run *p, const wo_transformer_block *block, const wo_tensor *const *params,
                                   const wo_tensor *modulation, int64_t first, int64_t rows, wo_error *err) {
    bool all = rows == rows_at_work(p);
    int64_t item = all ? 0 : first / p->tokens, items = all ? p->items : 1, per_item = all ? p->tokens : rows;
    wo_tensor scale = part_of(p, modulation, SCALE_FFN), shift = part_of(p, modulation, SHIFT_FFN);
    wo_tensor gate = part_of(p, modulation, GATE_FFN), stream = residual_at_work(p), y, hidden;
    wo_tensor residual = wo_tensor_rows(&stream, first, rows);
    WO_TRY(wo_exec_new(p->x, &y, err, p->m->compute, rows, p->m->width));
    wo_layer_norm_args norm = {.x = residual, .y = y, .scale = wo_tensor_rows(&scale, item, items),
                               .shift = wo_tensor_rows(&shift, item, items), .rows_per_batch = per_item, .eps = p->m->config.eps};
    WO_TRY(wo_layer_norm(wo_exec_stream(p->x), &norm, err));
    WO_TRY(wo_exec_new(p->x, &hidden, err, p->m->compute, rows, p->m->config.ffn_dim));
    wo_linear_args in = {.x = y, .y = hidden, .epilogue = WO_EPILOGUE_GELU_TANH};
    WO_TRY(wo_apply_linear_held(p->x, block->ffn_in, params[0], &in, err));
    wo_exec_free(p->x, &y);
    wo_linear_args out = {.x = hidden, .y = residual, .other = residual, .epilogue = WO_EPILOGUE_GATE,
                          .gate = wo_tensor_rows(&gate, item, items), .rows_per_gate = per_item};
    WO_TRY(wo_apply_linear_held(p->x, block->ffn_out, params[1], &out, err));
    wo_exec_free(p->x, &hidden);
    return WO_OK;
}

/* All rows at once, one layer after the other; or item by item in chunks of the plan's choice, with both layers in use together. */
static wo_status feed_forward(wo_transformer_run *p, const wo_transformer_block *block, const wo_tensor *modulation, wo_error *err) {
    int64_t chunk = wo_exec_knobs(p->x)->row_chunk;
    const wo_tensor *params[2] = {NULL, NULL};
    if (chunk <= 0 || chunk >= rows_at_work(p))
        return feed_forward_rows(p, block, params, modulation, 0, rows_at_work(p), err);
    WO_TRY(wo_exec_use(p->x, block->ffn_in, &params[0], err));
    WO_TRY(wo_exec_use(p->x, block->ffn_out, &params[1], err));
    for (int64_t b = 0; b < p->items; b++)
        for (int64_t first = 0; first < p->tokens; first += chunk) {
            int64_t rows = p->tokens - first < chunk ? p->tokens - first : chunk;
            WO_TRY(feed_forward_rows(p, block, params, modulation, b * p->tokens + first, rows, err));
        }
    WO_TRY(wo_exec_done(p->x, block->ffn_in, err));
    return wo_exec_done(p->x, block->ffn_out, err);
}

static wo_status head(wo_transformer_run *p, wo_error *err) {
    const wo_transformer_request *r = p->r;
    int64_t channels = p->m->config.out_channels;
    wo_tensor modulation, y, patches, velocity;
    WO_TRY(modulate(p, p->m->scale_shift_table, &p->time, 2, &modulation, err));
    wo_exec_free(p->x, &p->time);
    WO_TRY(wo_exec_new(p->x, &y, err, WO_F32, p->rows, p->m->width));
    wo_layer_norm_args norm = {.x = p->residual, .y = y, .scale = part_of(p, &modulation, 1), .shift = part_of(p, &modulation, 0),
                               .rows_per_batch = p->tokens, .eps = p->m->config.eps};
    WO_TRY(wo_layer_norm(wo_exec_stream(p->x), &norm, err));
    wo_exec_free(p->x, &modulation);
    wo_exec_free(p->x, &p->residual);
    WO_TRY(wo_exec_new(p->x, &patches, err, WO_F32, p->rows, 4 * channels));
    wo_linear_args out = {.x = y, .y = patches};
    WO_TRY(wo_apply_linear_layer(p->x, p->m->proj_out, &out, err));
    wo_exec_free(p->x, &y);
    WO_TRY(wo_exec_new(p->x, &velocity, err, WO_F32, r->batch * channels, r->frames, r->height, r->width));
    for (int64_t b = 0; b < r->batch; b++) {
        wo_unpatchify_args args = {.rows = wo_tensor_rows(&patches, b * p->tokens, p->tokens),
                                   .latents = wo_tensor_rows(&velocity, b * channels, channels)};
        WO_TRY(wo_unpatchify(wo_exec_stream(p->x), &args, err));
    }
    wo_exec_free(p->x, &patches);
    WO_TRY(wo_exec_download(p->x, r->velocity, &velocity, err));
    wo_exec_free(p->x, &velocity);
    return WO_OK;
}

static wo_status run_block_at_work(wo_transformer_run *p, int64_t index, wo_error *err) {
    const wo_transformer_block *block = &p->m->blocks[index];
    wo_tensor modulation;
    WO_TRY(modulate(p, block->scale_shift_table, &p->modulation_base, MODULATIONS, &modulation, err));
    WO_TRY(self_attention(p, block, &modulation, err));
    WO_TRY(cross_attention(p, index, err));
    WO_TRY(feed_forward(p, block, &modulation, err));
    wo_exec_free(p->x, &modulation);
    return WO_OK;
}

/* All items at once or, where the plan has them apart, one after the other: rows of different items never meet, so the bits are the same.
 * Groups of whole blocks are brought once for all items in both cases, groups of single layers once for each. */
static wo_status run_block(wo_transformer_run *p, int64_t index, wo_error *err) {
    if (!wo_exec_knobs(p->x)->items_apart)
        return run_block_at_work(p, index, err);
    p->items = 1;
    for (p->first_item = 0; p->first_item < p->r->batch; p->first_item++)
        WO_TRY(run_block_at_work(p, index, err));
    p->first_item = 0;
    p->items = p->r->batch;
    return WO_OK;
}

static wo_status step(wo_transformer_run *p, wo_error *err) {
    const wo_transformer *m = p->m;
    WO_TRY(wo_transformer_find_rope(p, err));
    WO_TRY(embed_patches(p, err));
    WO_TRY(embed_time(p, err));
    for (int64_t i = 0; i < m->config.num_layers; i++)
        WO_TRY(run_block(p, i, err));
    wo_exec_free(p->x, &p->modulation_base);
    return head(p, err);
}

wo_status wo_transformer_forward(const void *model, wo_exec *x, int pass, const void *request, wo_error *err) {
    wo_transformer_run p;
    WO_TRY(wo_transformer_run_init(&p, model, x, request, err));
    return pass == WO_TRANSFORMER_PREPARE ? wo_transformer_prepare(&p, err) : step(&p, err);
}
