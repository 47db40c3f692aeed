/* The PREPARE pass of the WAN transformer: what depends on the texts and the size of the film alone, and not on the step. Text -> context
 * -> (with the cache) keys and values of every block; rope tables. A STEP finds them again by key.
 *
 * The rows of zeros that follow a prompt are real keys of the cross attention. They are equal, so one of them stands for all, its score
 * raised by the logarithm of their number.
 */
#include "model/apply.h"
#include "model/transformer.h"

/* Keys and values have the block's index in the low half of the key. */
enum { KEEP_CONTEXT, KEEP_ROPE_COS, KEEP_ROPE_SIN, KEEP_TEXT_K, KEEP_TEXT_V };

bool wo_transformer_is_folded(const wo_transformer_run *p, const wo_text *text) {
    return !p->r->unfolded && text->rows - text->real >= 2;
}

int64_t wo_transformer_text_rows(const wo_transformer_run *p, const wo_text *text) {
    return wo_transformer_is_folded(p, text) ? text->real + 1 : text->rows;
}

static wo_status keep(const wo_transformer_run *p, int what, int64_t block, const wo_tensor *like, wo_tensor *out, wo_error *err) {
    bool fresh;
    uint64_t key = (uint64_t)what << 32 | (uint64_t)block;
    return wo_exec_keep(p->x, key, false, like->dtype, like->rank, like->shape, out, &fresh, err);
}

wo_status wo_transformer_find_rope(wo_transformer_run *p, wo_error *err) {
    wo_tensor table = wo_tensor_of(NULL, WO_F32, p->tokens, p->m->config.head_dim / 2);
    WO_TRY(keep(p, KEEP_ROPE_COS, 0, &table, &p->cos, err));
    return keep(p, KEEP_ROPE_SIN, 0, &table, &p->sin, err);
}

/* The text of all items, one after the other, in the dtype of operands; rows beyond the real ones are zero. */
static wo_status load_text(const wo_transformer_run *p, wo_tensor *text, wo_error *err) {
    int64_t dim = p->m->config.text_dim, first = 0;
    wo_tensor wide;
    WO_TRY(wo_exec_new(p->x, &wide, err, WO_F32, p->text_rows, dim));
    for (int64_t b = 0; b < p->r->batch; b++) {
        const wo_text *item = &p->r->text[b];
        int64_t rows = wo_transformer_text_rows(p, item);
        if (item->real > 0) {
            wo_tensor real = wo_tensor_rows(&wide, first, item->real);
            WO_TRY(wo_exec_upload(p->x, &real, item->embeds, err));
        }
        if (rows > item->real) {
            wo_tensor zero = wo_tensor_rows(&wide, first + item->real, rows - item->real);
            wo_stream *s = wo_exec_stream(p->x);
            WO_TRY(s->device->stream->zero(s, zero.data, wo_tensor_bytes(&zero), err));
        }
        first += rows;
    }
    if (p->m->compute == WO_F32) {
        *text = wide;
        return WO_OK;
    }
    WO_TRY(wo_exec_new(p->x, text, err, p->m->compute, p->text_rows, dim));
    WO_TRY(wo_apply_unary(p->x, WO_UNARY_COPY, &wide, text, err));
    wo_exec_free(p->x, &wide);
    return WO_OK;
}

/* k = RMS(context to_k), v = context to_v of one block. */
static wo_status project_text(const wo_transformer_run *p, int64_t block, const wo_tensor *context, wo_tensor *k, wo_tensor *v,
                              wo_error *err) {
    const wo_transformer_attention *a = &p->m->blocks[block].attn2;
    wo_linear_args to_k = {.x = *context, .y = *k, .form = p->text_form}, to_v = {.x = *context, .y = *v, .form = p->text_form};
    wo_rms_norm_args norm = {.x = *k, .y = *k, .eps = p->m->config.eps};
    WO_TRY(wo_apply_linear_layer(p->x, a->to_k, &to_k, err));
    WO_TRY(wo_apply_rms_norm_layer(p->x, a->norm_k, &norm, err));
    return wo_apply_linear_layer(p->x, a->to_v, &to_v, err);
}

wo_status wo_transformer_prepare(wo_transformer_run *p, wo_error *err) {
    const wo_transformer *m = p->m;
    bool cache = wo_exec_knobs(p->x)->cache_text;
    wo_tensor text, hidden, context;
    wo_tensor shape = wo_tensor_of(NULL, m->compute, p->text_rows, m->width);
    WO_TRY(load_text(p, &text, err));
    WO_TRY(wo_exec_new(p->x, &hidden, err, m->compute, p->text_rows, m->width));
    wo_linear_args in = {.x = text, .y = hidden, .form = p->text_form, .epilogue = WO_EPILOGUE_GELU_TANH};
    WO_TRY(wo_apply_linear_layer(p->x, m->text_in, &in, err));
    wo_exec_free(p->x, &text);
    if (cache)
        WO_TRY(wo_exec_new(p->x, &context, err, m->compute, p->text_rows, m->width));
    else
        WO_TRY(keep(p, KEEP_CONTEXT, 0, &shape, &context, err));
    wo_linear_args out = {.x = hidden, .y = context, .form = p->text_form};
    WO_TRY(wo_apply_linear_layer(p->x, m->text_out, &out, err));
    wo_exec_free(p->x, &hidden);
    for (int64_t i = 0; cache && i < m->config.num_layers; i++) {
        wo_tensor k, v;
        WO_TRY(keep(p, KEEP_TEXT_K, i, &shape, &k, err));
        WO_TRY(keep(p, KEEP_TEXT_V, i, &shape, &v, err));
        WO_TRY(project_text(p, i, &context, &k, &v, err));
    }
    if (cache)
        wo_exec_free(p->x, &context);
    WO_TRY(wo_transformer_find_rope(p, err));
    wo_rope_table_args rope = {.cos = p->cos, .sin = p->sin, .frames = p->r->frames, .height = p->r->height / 2,
                               .width = p->r->width / 2, .head_dim = m->config.head_dim};
    return wo_rope_table(wo_exec_stream(p->x), &rope, err);
}

wo_status wo_transformer_text_keys(const wo_transformer_run *p, int64_t index, wo_tensor *k, wo_tensor *v, wo_error *err) {
    wo_tensor shape = wo_tensor_of(NULL, p->m->compute, p->text_rows, p->m->width), context;
    if (wo_exec_knobs(p->x)->cache_text) {
        WO_TRY(keep(p, KEEP_TEXT_K, index, &shape, k, err));
        return keep(p, KEEP_TEXT_V, index, &shape, v, err);
    }
    WO_TRY(keep(p, KEEP_CONTEXT, 0, &shape, &context, err));
    WO_TRY(wo_exec_new(p->x, k, err, p->m->compute, p->text_rows, p->m->width));
    WO_TRY(wo_exec_new(p->x, v, err, p->m->compute, p->text_rows, p->m->width));
    return project_text(p, index, &context, k, v, err);
}
