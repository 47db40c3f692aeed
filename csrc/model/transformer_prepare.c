/* The PREPARE pass of the WAN transformer: what depends on the texts, the images and the size of the film alone, and not on the step.
 * Text and image embeddings -> contexts -> (with the cache) keys and values of every block; rope tables. A STEP finds them again by key.
 *
 * The rows of zeros that follow a prompt are real keys of the cross attention. They are equal, so one of them stands for all, its score
 * raised by the logarithm of their number. Image embeddings that several items share are rows once.
 */
#include "model/apply.h"
#include "model/transformer.h"

/* What is kept; of the last three there is one for each source, and of keys and values one for each block. */
enum { KEEP_ROPE_COS, KEEP_ROPE_SIN, KEEP_CONTEXT, KEEP_K, KEEP_V };
/* Of the two norms of the image embedder, which has its own. */
static const float IMAGE_EPS = 1e-5f;

bool wo_transformer_is_folded(const wo_transformer_run *p, const wo_text *text) {
    return !p->r->unfolded && text->rows - text->real >= 2;
}

int64_t wo_transformer_text_rows(const wo_transformer_run *p, const wo_text *text) {
    return wo_transformer_is_folded(p, text) ? text->real + 1 : text->rows;
}

/* The key has the block's index in its low half. */
static wo_status keep(const wo_transformer_run *p, int what, int source, int64_t block, const wo_tensor *like, wo_tensor *out,
                      wo_error *err) {
    bool fresh;
    uint64_t key = (uint64_t)(what * WO_SOURCES + source) << 32 | (uint64_t)block;
    return wo_exec_keep(p->x, key, false, like->dtype, like->rank, like->shape, out, &fresh, err);
}

/* The shape and dtype of a context, and of its keys and its values in a block. */
static wo_tensor like_context(const wo_transformer_run *p, int source) {
    return wo_tensor_of(NULL, p->compute, p->source_rows[source], p->m->width);
}

/* A context lives as long as keys and values are made from it: to the end of PREPARE with the cache, else to the last step. */
static wo_status context_new(const wo_transformer_run *p, int source, wo_tensor *out, wo_error *err) {
    wo_tensor like = like_context(p, source);
    if (wo_exec_knobs(p->x)->cache_text)
        return wo_exec_alloc(p->x, like.dtype, like.rank, like.shape, out, err);
    return keep(p, KEEP_CONTEXT, source, 0, &like, out, err);
}

wo_status wo_transformer_find_rope(wo_transformer_run *p, wo_error *err) {
    wo_tensor table = wo_tensor_of(NULL, WO_F32, p->tokens, p->m->config.head_dim / 2);
    WO_TRY(keep(p, KEEP_ROPE_COS, 0, 0, &table, &p->cos, err));
    return keep(p, KEEP_ROPE_SIN, 0, 0, &table, &p->sin, err);
}

/* The text of all items, one after the other, in the dtype of operands; rows beyond the real ones are zero. */
static wo_status load_text(const wo_transformer_run *p, wo_tensor *text, wo_error *err) {
    int64_t dim = p->m->config.text_dim, rows_of_all = p->source_rows[WO_SOURCE_TEXT], first = 0;
    wo_tensor wide;
    WO_TRY(wo_exec_new(p->x, &wide, err, WO_F32, rows_of_all, dim));
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
    if (p->compute == WO_F32) {
        *text = wide;
        return WO_OK;
    }
    WO_TRY(wo_exec_new(p->x, text, err, p->compute, rows_of_all, dim));
    WO_TRY(wo_apply_unary(p->x, WO_UNARY_COPY, &wide, text, err));
    wo_exec_free(p->x, &wide);
    return WO_OK;
}

static wo_status embed_text(const wo_transformer_run *p, wo_tensor *context, wo_error *err) {
    const wo_transformer *m = p->m;
    wo_form form = p->source_form[WO_SOURCE_TEXT];
    wo_tensor text, hidden;
    WO_TRY(load_text(p, &text, err));
    WO_TRY(wo_exec_new(p->x, &hidden, err, p->compute, p->source_rows[WO_SOURCE_TEXT], m->width));
    wo_linear_args in = {.x = text, .y = hidden, .form = form, .epilogue = WO_EPILOGUE_GELU_TANH};
    WO_TRY(wo_apply_linear_layer(p->x, m->text_in, &in, err));
    wo_exec_free(p->x, &text);
    WO_TRY(context_new(p, WO_SOURCE_TEXT, context, err));
    wo_linear_args out = {.x = hidden, .y = *context, .form = form};
    WO_TRY(wo_apply_linear_layer(p->x, m->text_out, &out, err));
    wo_exec_free(p->x, &hidden);
    return WO_OK;
}

/* The image embeddings, float32, with their positions added where the network has a table of them. */
static wo_status load_images(const wo_transformer_run *p, wo_tensor *images, wo_error *err) {
    const wo_layer *positions = p->m->image_embedder.pos_embed;
    const wo_tensor *params;
    WO_TRY(wo_exec_new(p->x, images, err, WO_F32, p->source_rows[WO_SOURCE_IMAGE], p->m->config.image_dim));
    WO_TRY(wo_exec_upload(p->x, images, p->r->images.embeds, err));
    if (positions == NULL)
        return WO_OK;
    WO_TRY(wo_exec_use(p->x, positions, &params, err));
    wo_add_args add = {.a = *images, .b = wo_tensor_as(&params[0], p->r->images.rows, p->m->config.image_dim), .y = *images};
    WO_TRY(wo_add(wo_exec_stream(p->x), &add, err));
    return wo_exec_done(p->x, positions, err);
}

/* LN(W2 gelu(W1 LN(image))): the norms in float32, and what the second one reads as well. */
static wo_status embed_images(const wo_transformer_run *p, wo_tensor *context, wo_error *err) {
    const wo_transformer_image_embedder *e = &p->m->image_embedder;
    int64_t rows = p->source_rows[WO_SOURCE_IMAGE], dim = p->m->config.image_dim;
    wo_tensor images, y, hidden, wide;
    WO_TRY(load_images(p, &images, err));
    WO_TRY(wo_exec_new(p->x, &y, err, p->compute, rows, dim));
    wo_layer_norm_args norm1 = {.x = images, .y = y, .eps = IMAGE_EPS};
    WO_TRY(wo_apply_layer_norm_layer(p->x, e->norm1, &norm1, err));
    wo_exec_free(p->x, &images);
    WO_TRY(wo_exec_new(p->x, &hidden, err, p->compute, rows, dim));
    wo_linear_args in = {.x = y, .y = hidden, .form = p->source_form[WO_SOURCE_IMAGE], .epilogue = WO_EPILOGUE_GELU_ERF};
    WO_TRY(wo_apply_linear_layer(p->x, e->ff_in, &in, err));
    wo_exec_free(p->x, &y);
    WO_TRY(wo_exec_new(p->x, &wide, err, WO_F32, rows, p->m->width));
    wo_linear_args out = {.x = hidden, .y = wide, .form = p->source_form[WO_SOURCE_IMAGE]};
    WO_TRY(wo_apply_linear_layer(p->x, e->ff_out, &out, err));
    wo_exec_free(p->x, &hidden);
    WO_TRY(context_new(p, WO_SOURCE_IMAGE, context, err));
    wo_layer_norm_args norm2 = {.x = wide, .y = *context, .eps = IMAGE_EPS};
    WO_TRY(wo_apply_layer_norm_layer(p->x, e->norm2, &norm2, err));
    wo_exec_free(p->x, &wide);
    return WO_OK;
}

/* k = RMS(context W_k), v = context W_v of one source in one block. */
static wo_status project(const wo_transformer_run *p, int source, int64_t block, const wo_tensor *context, wo_tensor *k, wo_tensor *v,
                         wo_error *err) {
    const wo_transformer_attention *a = &p->m->blocks[block].attn2;
    const wo_transformer_key_layers *layers = source == WO_SOURCE_TEXT ? &a->keys : &a->image;
    wo_linear_args to_k = {.x = *context, .y = *k, .form = p->source_form[source]};
    wo_linear_args to_v = {.x = *context, .y = *v, .form = p->source_form[source]};
    wo_rms_norm_args norm = {.x = *k, .y = *k, .eps = p->m->config.eps};
    WO_TRY(wo_apply_linear_layer(p->x, layers->to_k, &to_k, err));
    WO_TRY(wo_apply_rms_norm_layer(p->x, layers->norm_k, &norm, err));
    return wo_apply_linear_layer(p->x, layers->to_v, &to_v, err);
}

static wo_status keep_keys(const wo_transformer_run *p, int source, int64_t block, wo_tensor *k, wo_tensor *v, wo_error *err) {
    wo_tensor like = like_context(p, source);
    WO_TRY(keep(p, KEEP_K, source, block, &like, k, err));
    return keep(p, KEEP_V, source, block, &like, v, err);
}

wo_status wo_transformer_prepare(wo_transformer_run *p, wo_error *err) {
    const wo_transformer *m = p->m;
    bool cache = wo_exec_knobs(p->x)->cache_text;
    wo_tensor context[WO_SOURCES] = {{0}};
    WO_TRY(embed_text(p, &context[WO_SOURCE_TEXT], err));
    if (p->source_rows[WO_SOURCE_IMAGE] > 0)
        WO_TRY(embed_images(p, &context[WO_SOURCE_IMAGE], err));
    for (int64_t i = 0; cache && i < m->config.num_layers; i++)
        for (int source = 0; source < WO_SOURCES && p->source_rows[source] > 0; source++) {
            wo_tensor k, v;
            WO_TRY(keep_keys(p, source, i, &k, &v, err));
            WO_TRY(project(p, source, i, &context[source], &k, &v, err));
        }
    for (int source = 0; cache && source < WO_SOURCES; source++)
        wo_exec_free(p->x, &context[source]);
    WO_TRY(wo_transformer_find_rope(p, err));
    wo_rope_table_args rope = {.cos = p->cos, .sin = p->sin, .frames = p->r->frames, .height = p->r->height / 2,
                               .width = p->r->width / 2, .head_dim = m->config.head_dim};
    return wo_rope_table(wo_exec_stream(p->x), &rope, err);
}

wo_status wo_transformer_find_keys(const wo_transformer_run *p, int64_t block, wo_transformer_keys *keys, wo_error *err) {
    *keys = (wo_transformer_keys){0};
    for (int source = 0; source < WO_SOURCES && p->source_rows[source] > 0; source++) {
        wo_tensor like = like_context(p, source), context, *k = &keys->k[source], *v = &keys->v[source];
        if (wo_exec_knobs(p->x)->cache_text) {
            WO_TRY(keep_keys(p, source, block, k, v, err));
            continue;
        }
        WO_TRY(keep(p, KEEP_CONTEXT, source, 0, &like, &context, err));
        WO_TRY(wo_exec_alloc(p->x, like.dtype, like.rank, like.shape, k, err));
        WO_TRY(wo_exec_alloc(p->x, like.dtype, like.rank, like.shape, v, err));
        WO_TRY(project(p, source, block, &context, k, v, err));
    }
    return WO_OK;
}

void wo_transformer_release_keys(const wo_transformer_run *p, wo_transformer_keys *keys) {
    for (int source = 0; !wo_exec_knobs(p->x)->cache_text && source < WO_SOURCES; source++) {
        wo_exec_free(p->x, &keys->k[source]);
        wo_exec_free(p->x, &keys->v[source]);
    }
}
