/* One block of the WAN transformer for the items at work.
 *
 *   X [rows, d] float32  ->  LN, modulation  ->  q, k, v  ->  RMS, rope  ->  attention  ->  X += gate * to_out
 *                        ->  LN  ->  q; k, v of the text  ->  attention  -+> X += to_out
 *                                    k, v of the image    ->  attention  -'
 *                        ->  LN, modulation  ->  ffn                     ->  X += gate * out
 *
 * Source: Wan2.1 wan/modules/model.py, diffusers 0.42 transformer_wan.py.
 */
#include "model/apply.h"
#include "model/transformer.h"

#include <math.h>

/* Rows of the modulation of one block. */
enum { SHIFT_ATTN, SCALE_ATTN, GATE_ATTN, SHIFT_FFN, SCALE_FFN, GATE_FFN };
/* Queries whose attention to text and image is summed at a time. */
enum { SUM_ROWS = 1024 };
/* The most queries of the self attention in one call. What is left of a longer film goes into calls of about the same length. A function of the size
 * of the film alone: calls of another length might have other bits. */
enum { QUERY_ROWS = 16384, QUERY_ROWS_MULTIPLE = 256 };

wo_status wo_transformer_modulate(const wo_transformer_run *p, const wo_layer *layer, const wo_tensor *base, int parts,
                                  wo_tensor *out, wo_error *err) {
    int64_t held = p->held, items = p->items, width = p->m->width, item = p->first_item - p->first_held;
    const wo_tensor *params;
    WO_TRY(wo_exec_new(p->x, out, err, WO_F32, parts * items, width));
    WO_TRY(wo_exec_use(p->x, layer, &params, err));
    wo_tensor table = wo_tensor_as(&params[0], (int64_t)parts, width);
    for (int i = 0; i < parts; i++) {
        wo_add_args args = {.a = wo_tensor_rows(base, (base->shape[0] == held ? 0 : i * held) + item, items),
                            .b = wo_tensor_rows(&table, i, 1), .y = wo_tensor_rows(out, i * items, items)};
        WO_TRY(wo_add(wo_exec_stream(p->x), &args, err));
    }
    return wo_exec_done(p->x, layer, err);
}

/* Rows of the items at work: how many, and those of the residual stream. */
static int64_t rows_at_work(const wo_transformer_run *p) {
    return p->items * p->tokens;
}

static wo_tensor residual_at_work(const wo_transformer_run *p) {
    return wo_tensor_rows(&p->residual, (p->first_item - p->first_held) * p->tokens, rows_at_work(p));
}

/* Rows at work that are computed together: all of them, or some of one item's. */
typedef struct portion {
    int64_t first, rows, item, items;
} portion;

/* From {0} on, all in one, or no more than `most` at a time where that is less. */
static bool next_portion(const wo_transformer_run *p, int64_t most, portion *c) {
    int64_t all = rows_at_work(p), first = c->first + c->rows, left = p->tokens - first % p->tokens;
    if (first == all)
        return false;
    *c = (portion){.rows = all, .items = p->items};
    if (most > 0 && most < all)
        *c = (portion){.first = first, .rows = left < most ? left : most, .item = first / p->tokens, .items = 1};
    return true;
}

static wo_tensor rows_of(const wo_tensor *t, const portion *c) {
    return wo_tensor_rows(t, c->first, c->rows);
}

/* A part of the modulation of a portion's items. */
static wo_tensor part_for(const wo_transformer_run *p, const wo_tensor *modulation, int part, const portion *c) {
    return wo_tensor_rows(modulation, part * p->items + c->item, c->items);
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

/* A projection, with the norm behind it where there is one (norm not NULL). Params: where they are held over several portions, else NULL. */
typedef struct projection {
    const wo_layer *linear, *norm;
    const wo_tensor *linear_params, *norm_params;
} projection;

static wo_status hold(const wo_transformer_run *p, projection *projections, int count, wo_error *err) {
    for (int i = 0; i < count; i++) {
        WO_TRY(wo_exec_use(p->x, projections[i].linear, &projections[i].linear_params, err));
        if (projections[i].norm != NULL)
            WO_TRY(wo_exec_use(p->x, projections[i].norm, &projections[i].norm_params, err));
    }
    return WO_OK;
}

static wo_status let_go(const wo_transformer_run *p, const projection *projections, int count, wo_error *err) {
    for (int i = 0; i < count; i++) {
        WO_TRY(wo_exec_done(p->x, projections[i].linear, err));
        if (projections[i].norm != NULL)
            WO_TRY(wo_exec_done(p->x, projections[i].norm, err));
    }
    return WO_OK;
}

/* out = projection of y, rotated where cos and sin are given. */
static wo_status project(const wo_transformer_run *p, const projection *to, const wo_tensor *y, const wo_tensor *out, const wo_tensor *cos,
                         const wo_tensor *sin, wo_error *err) {
    wo_linear_args args = {.x = *y, .y = *out};
    WO_TRY(wo_apply_linear_held(p->x, to->linear, to->linear_params, &args, err));
    if (to->norm == NULL)
        return WO_OK;
    wo_rms_norm_args rms = {.x = *out, .y = *out, .eps = p->m->config.eps};
    if (cos != NULL) {
        rms.cos = *cos;
        rms.sin = *sin;
        rms.head_dim = p->m->config.head_dim;
    }
    return wo_apply_rms_norm_held(p->x, to->norm, to->norm_params, &rms, err);
}

/* Rows of q, k and v, the first two rotated. */
static wo_status project_rows(wo_transformer_run *p, const projection projections[3], const wo_tensor *modulation, const portion *c,
                              const wo_tensor outs[3], wo_error *err) {
    wo_tensor stream = residual_at_work(p), y;
    WO_TRY(wo_exec_new(p->x, &y, err, p->compute, c->rows, p->m->width));
    wo_layer_norm_args norm = {.x = rows_of(&stream, c), .y = y, .scale = part_for(p, modulation, SCALE_ATTN, c),
                               .shift = part_for(p, modulation, SHIFT_ATTN, c), .rows_per_batch = c->rows / c->items,
                               .eps = p->m->config.eps};
    WO_TRY(wo_layer_norm(wo_exec_stream(p->x), &norm, err));
    const int64_t tokens = c->rows / c->items, token = c->first % p->tokens;
    const wo_tensor cos = wo_tensor_rows(&p->cos, token, tokens), sin = wo_tensor_rows(&p->sin, token, tokens);
    for (int i = 0; i < 3; i++) {
        wo_tensor out = rows_of(&outs[i], c);
        WO_TRY(project(p, &projections[i], &y, &out, &cos, &sin, err));
    }
    wo_exec_free(p->x, &y);
    return WO_OK;
}

/* All rows at once, one layer after the other; or in chunks of the plan's choice, with the layers in use together. */
static wo_status project_self(wo_transformer_run *p, const wo_transformer_attention *a, const wo_tensor *modulation, wo_tensor outs[3],
                              wo_error *err) {
    projection projections[3] = {{.linear = a->to_q, .norm = a->norm_q}, {.linear = a->keys.to_k, .norm = a->keys.norm_k},
                                 {.linear = a->keys.to_v}};
    const int64_t chunk = wo_exec_knobs(p->x)->row_chunk;
    const bool several = chunk > 0 && chunk < rows_at_work(p);
    for (int i = 0; i < 3; i++)
        WO_TRY(wo_exec_new(p->x, &outs[i], err, p->compute, rows_at_work(p), p->m->width));
    if (several)
        WO_TRY(hold(p, projections, 3, err));
    for (portion c = {0}; next_portion(p, chunk, &c);)
        WO_TRY(project_rows(p, projections, modulation, &c, outs, err));
    return several ? let_go(p, projections, 3, err) : WO_OK;
}

/* Queries in one call: all of an item, or of several calls of about the same length as many as the first ones have. */
static int64_t query_rows(const wo_transformer_run *p) {
    const wo_device *d = wo_exec_device(p->x);
    if (!wo_device_cuts(d, WO_OP_attention) || !wo_device_cuts(d, WO_OP_linear))
        return 0;
    const int64_t calls = (p->tokens + QUERY_ROWS - 1) / QUERY_ROWS, rows = (p->tokens + calls - 1) / calls;
    return calls == 1 ? 0 : (rows + QUERY_ROWS_MULTIPLE - 1) / QUERY_ROWS_MULTIPLE * QUERY_ROWS_MULTIPLE;
}

/* The portion's part of X += gate * to_out(attention). */
static wo_status attend_rows(wo_transformer_run *p, const projection *to_out, const wo_tensor *modulation, const portion *c,
                             const wo_tensor qkv[3], wo_error *err) {
    wo_tensor stream = residual_at_work(p), residual = rows_of(&stream, c), o;
    const int64_t rows = c->rows / c->items;
    WO_TRY(wo_exec_new(p->x, &o, err, p->compute, c->rows, p->m->width));
    for (int64_t b = 0; b < c->items; b++) {
        const int64_t item = (c->item + b) * p->tokens;
        wo_tensor qb = heads_of(p, &qkv[0], c->first + b * rows, rows), kb = heads_of(p, &qkv[1], item, p->tokens);
        wo_tensor vb = heads_of(p, &qkv[2], item, p->tokens), ob = heads_of(p, &o, b * rows, rows);
        WO_TRY(attend(p, &qb, &kb, &vb, &ob, 0.0f, err));
    }
    wo_linear_args out = {.x = o, .y = residual, .other = residual, .epilogue = WO_EPILOGUE_GATE,
                          .gate = part_for(p, modulation, GATE_ATTN, c), .rows_per_gate = rows};
    WO_TRY(wo_apply_linear_held(p->x, to_out->linear, to_out->linear_params, &out, err));
    wo_exec_free(p->x, &o);
    return WO_OK;
}

static wo_status self_attention(wo_transformer_run *p, const wo_transformer_block *block, const wo_tensor *modulation, wo_error *err) {
    wo_tensor qkv[3];
    WO_TRY(project_self(p, &block->attn1, modulation, qkv, err));
    projection to_out = {.linear = block->attn1.to_out};
    const int64_t most = query_rows(p);
    if (most > 0)
        WO_TRY(hold(p, &to_out, 1, err));
    for (portion c = {0}; next_portion(p, most, &c);)
        WO_TRY(attend_rows(p, &to_out, modulation, &c, qkv, err));
    if (most > 0)
        WO_TRY(let_go(p, &to_out, 1, err));
    for (int i = 0; i < 3; i++)
        wo_exec_free(p->x, &qkv[i]);
    return WO_OK;
}

/* Queries of the cross attention: q = RMS(to_q LN(X)). Without cross_attn_norm X itself is projected. */
static wo_status cross_queries(wo_transformer_run *p, const wo_transformer_block *block, wo_tensor *q, wo_error *err) {
    wo_tensor residual = residual_at_work(p), y;
    WO_TRY(wo_exec_new(p->x, &y, err, p->compute, rows_at_work(p), p->m->width));
    if (block->norm2 != NULL) {
        wo_layer_norm_args norm = {.x = residual, .y = y, .eps = p->m->config.eps};
        WO_TRY(wo_apply_layer_norm_layer(p->x, block->norm2, &norm, err));
    } else {
        WO_TRY(wo_apply_unary(p->x, WO_UNARY_COPY, &residual, &y, err));
    }
    const projection to_q = {.linear = block->attn2.to_q, .norm = block->attn2.norm_q};
    WO_TRY(wo_exec_new(p->x, q, err, p->compute, rows_at_work(p), p->m->width));
    WO_TRY(project(p, &to_q, &y, q, NULL, NULL, err));
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
    WO_TRY(wo_exec_new(p->x, &o, err, p->compute, rows_at_work(p), p->m->width));
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

/* The feed-forward of a portion. */
static wo_status feed_forward_rows(wo_transformer_run *p, const projection layers[2], const wo_tensor *modulation, const portion *c,
                                   wo_error *err) {
    wo_tensor stream = residual_at_work(p), residual = rows_of(&stream, c), y, hidden;
    WO_TRY(wo_exec_new(p->x, &y, err, p->compute, c->rows, p->m->width));
    wo_layer_norm_args norm = {.x = residual, .y = y, .scale = part_for(p, modulation, SCALE_FFN, c),
                               .shift = part_for(p, modulation, SHIFT_FFN, c), .rows_per_batch = c->rows / c->items,
                               .eps = p->m->config.eps};
    WO_TRY(wo_layer_norm(wo_exec_stream(p->x), &norm, err));
    WO_TRY(wo_exec_new(p->x, &hidden, err, p->compute, c->rows, p->m->config.ffn_dim));
    wo_linear_args in = {.x = y, .y = hidden, .epilogue = WO_EPILOGUE_GELU_TANH};
    WO_TRY(wo_apply_linear_held(p->x, layers[0].linear, layers[0].linear_params, &in, err));
    wo_exec_free(p->x, &y);
    wo_linear_args out = {.x = hidden, .y = residual, .other = residual, .epilogue = WO_EPILOGUE_GATE,
                          .gate = part_for(p, modulation, GATE_FFN, c), .rows_per_gate = c->rows / c->items};
    WO_TRY(wo_apply_linear_held(p->x, layers[1].linear, layers[1].linear_params, &out, err));
    wo_exec_free(p->x, &hidden);
    return WO_OK;
}

/* As project_self: all rows at once, or in chunks with both layers in use together. */
static wo_status feed_forward(wo_transformer_run *p, const wo_transformer_block *block, const wo_tensor *modulation, wo_error *err) {
    projection layers[2] = {{.linear = block->ffn_in}, {.linear = block->ffn_out}};
    const int64_t chunk = wo_exec_knobs(p->x)->row_chunk;
    const bool several = chunk > 0 && chunk < rows_at_work(p);
    if (several)
        WO_TRY(hold(p, layers, 2, err));
    for (portion c = {0}; next_portion(p, chunk, &c);)
        WO_TRY(feed_forward_rows(p, layers, modulation, &c, err));
    return several ? let_go(p, layers, 2, err) : WO_OK;
}

wo_status wo_transformer_run_block(wo_transformer_run *p, int64_t index, wo_error *err) {
    const wo_transformer_block *block = &p->m->blocks[index];
    wo_tensor modulation;
    WO_TRY(wo_transformer_modulate(p, block->scale_shift_table, &p->modulation_base, WO_MODULATIONS, &modulation, err));
    WO_TRY(self_attention(p, block, &modulation, err));
    WO_TRY(cross_attention(p, index, err));
    WO_TRY(feed_forward(p, block, &modulation, err));
    wo_exec_free(p->x, &modulation);
    return WO_OK;
}
