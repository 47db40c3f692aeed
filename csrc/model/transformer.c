/* The WAN 2.1 transformer, text to video and image to video: its configuration and its layers, in the order in which a forward uses them.
 *
 * Float32 islands are those of the official implementation: patch embedding, time embedding and projection, modulation tables,
 * the image embeddings' table of positions, norms, biases and the head. Source of shapes and names: diffusers 0.42, WanTransformer3DModel.
 */
#include "model/transformer.h"

#include <stdlib.h>

static wo_status check_config(const wo_transformer_config *c, wo_error *err) {
    const wo_config_entry entries[] = {
        {"num_layers", c->num_layers, 1},     {"num_attention_heads", c->num_heads, 1},
        {"attention_head_dim", c->head_dim, 2}, {"ffn_dim", c->ffn_dim, 1},
        {"in_channels", c->in_channels, 1},   {"out_channels", c->out_channels, 1},
        {"text_dim", c->text_dim, 1},         {"freq_dim", c->freq_dim, 2},
        {"num_attention_heads * attention_head_dim", c->num_heads > 0 && c->head_dim > WO_CONFIG_LIMIT / c->num_heads
                                                         ? WO_CONFIG_LIMIT + 1
                                                         : c->num_heads * c->head_dim, 1},
        {"image_dim", c->image_dim, 1},       {"pos_embed_seq_len", c->pos_embed_seq_len, 1},
    };
    size_t count = sizeof entries / sizeof entries[0];
    if (c->image_dim == 0 && c->pos_embed_seq_len != 0)
        WO_FAIL(err, WO_EVALUE, "transformer: pos_embed_seq_len of the configuration is %lld, but there is no image_dim that it could be "
                "for", (long long)c->pos_embed_seq_len);
    /* The last two are zero where the network has no such part. */
    count -= c->image_dim == 0 ? 2 : c->pos_embed_seq_len == 0 ? 1 : 0;
    WO_TRY(wo_config_check("transformer", entries, count, err));
    if (!(c->eps > 0.0f && c->eps < 1.0f))
        WO_FAIL(err, WO_EVALUE, "transformer: eps of the configuration must be between 0 and 1, but is %g", (double)c->eps);
    return WO_OK;
}

static wo_status declare_image_embedder(wo_transformer *m, const wo_declare *d, wo_error *err) {
    const wo_transformer_config *c = &m->config;
    wo_transformer_image_embedder *e = &m->image_embedder;
    wo_declare image = *d;
    wo_tensor positions = wo_tensor_of(NULL, WO_F32, 1, c->pos_embed_seq_len, c->image_dim);
    wo_declare_enter(&image, "condition_embedder.image_embedder.");
    if (c->pos_embed_seq_len > 0)
        WO_TRY(wo_declare_param(&image, "pos_embed", "", &positions, &e->pos_embed, err));
    WO_TRY(wo_declare_norm(&image, "norm1", c->image_dim, &e->norm1, err));
    WO_TRY(wo_declare_linear(&image, "ff.net.0.proj", c->image_dim, c->image_dim, &e->ff_in, err));
    WO_TRY(wo_declare_linear(&image, "ff.net.2", m->width, c->image_dim, &e->ff_out, err));
    return wo_declare_norm(&image, "norm2", m->width, &e->norm2, err);
}

static wo_status declare_condition(wo_transformer *m, wo_declare *d, wo_error *err) {
    const wo_transformer_config *c = &m->config;
    int64_t width = m->width;
    wo_declare_enter(d, "condition_embedder.");
    WO_TRY(wo_declare_linear(d, "text_embedder.linear_1", width, c->text_dim, &m->text_in, err));
    WO_TRY(wo_declare_linear(d, "text_embedder.linear_2", width, width, &m->text_out, err));
    if (c->image_dim > 0)
        WO_TRY(declare_image_embedder(m, d, err));

    wo_declare island = *d;
    island.dtype = WO_F32;
    wo_tensor patch = wo_tensor_of(NULL, WO_F32, width, c->in_channels, 1, 2, 2);
    wo_declare_enter(&island, "%s", "");
    WO_TRY(wo_declare_kernel(&island, "patch_embedding", &patch, WO_LAYOUT_ROWS, &m->patch_embedding, err));
    wo_declare_enter(&island, "condition_embedder.");
    WO_TRY(wo_declare_linear(&island, "time_embedder.linear_1", width, c->freq_dim, &m->time_in, err));
    WO_TRY(wo_declare_linear(&island, "time_embedder.linear_2", width, width, &m->time_out, err));
    return wo_declare_linear_parts(&island, "time_proj", WO_MODULATIONS, width, width, m->time_proj, err);
}

static wo_status declare_attention(const wo_declare *d, int64_t width, bool image, wo_transformer_attention *a, wo_error *err) {
    wo_tensor norm = wo_tensor_of(NULL, WO_F32, width);
    WO_TRY(wo_declare_linear(d, "to_q", width, width, &a->to_q, err));
    WO_TRY(wo_declare_param(d, "norm_q", ".weight", &norm, &a->norm_q, err));
    WO_TRY(wo_declare_linear(d, "to_k", width, width, &a->keys.to_k, err));
    WO_TRY(wo_declare_param(d, "norm_k", ".weight", &norm, &a->keys.norm_k, err));
    WO_TRY(wo_declare_linear(d, "to_v", width, width, &a->keys.to_v, err));
    if (image) {
        WO_TRY(wo_declare_linear(d, "add_k_proj", width, width, &a->image.to_k, err));
        WO_TRY(wo_declare_param(d, "norm_added_k", ".weight", &norm, &a->image.norm_k, err));
        WO_TRY(wo_declare_linear(d, "add_v_proj", width, width, &a->image.to_v, err));
    }
    return wo_declare_linear(d, "to_out.0", width, width, &a->to_out, err);
}

static wo_status declare_block(wo_transformer *m, wo_declare *d, int64_t index, wo_error *err) {
    wo_transformer_block *b = &m->blocks[index];
    long long i = (long long)index;
    int64_t width = m->width, ffn = m->config.ffn_dim;
    wo_tensor table = wo_tensor_of(NULL, WO_F32, 1, WO_MODULATIONS, width);
    wo_declare_enter(d, "blocks.%lld", i);
    WO_TRY(wo_component_add_block(m->component, d->prefix, &d->block, err));
    wo_declare_enter(d, "blocks.%lld.", i);
    WO_TRY(wo_declare_param(d, "scale_shift_table", "", &table, &b->scale_shift_table, err));
    wo_declare_enter(d, "blocks.%lld.attn1.", i);
    WO_TRY(declare_attention(d, width, false, &b->attn1, err));
    wo_declare_enter(d, "blocks.%lld.", i);
    if (m->config.cross_attn_norm)
        WO_TRY(wo_declare_norm(d, "norm2", width, &b->norm2, err));
    wo_declare_enter(d, "blocks.%lld.attn2.", i);
    WO_TRY(declare_attention(d, width, m->config.image_dim > 0, &b->attn2, err));
    wo_declare_enter(d, "blocks.%lld.ffn.net.", i);
    WO_TRY(wo_declare_linear(d, "0.proj", ffn, width, &b->ffn_in, err));
    return wo_declare_linear(d, "2", width, ffn, &b->ffn_out, err);
}

static wo_status declare_all(wo_transformer *m, wo_store *store, wo_error *err) {
    wo_tensor table = wo_tensor_of(NULL, WO_F32, 1, 2, m->width);
    WO_TRY(wo_component_create("transformer", store, &m->component, err));
    wo_declare d = {.component = m->component, .block = -1, .dtype = m->dtype, .bias = true};
    WO_TRY(declare_condition(m, &d, err));
    for (int64_t i = 0; i < m->config.num_layers; i++)
        WO_TRY(declare_block(m, &d, i, err));
    d.block = -1;
    d.dtype = WO_F32;
    wo_declare_enter(&d, "%s", "");
    WO_TRY(wo_declare_param(&d, "scale_shift_table", "", &table, &m->scale_shift_table, err));
    WO_TRY(wo_declare_linear(&d, "proj_out", 4 * m->config.out_channels, m->width, &m->proj_out, err));
    WO_TRY(wo_component_excuse(m->component, NULL, ".norm_added_q.weight", "image queries are not normalised by any WAN model", err));
    return wo_component_seal(m->component, err);
}

wo_status wo_transformer_create(wo_store *store, const wo_transformer_config *config, wo_dtype dtype, wo_transformer **out, wo_error *err) {
    *out = NULL;
    WO_TRY(check_config(config, err));
    WO_TRY(wo_config_check_dtype("transformer", dtype, err));
    wo_transformer *m = calloc(1, sizeof *m);
    wo_transformer_block *blocks = calloc((size_t)config->num_layers, sizeof *blocks);
    if (m == NULL || blocks == NULL) {
        free(m);
        free(blocks);
        WO_FAIL(err, WO_ENOMEMORY, "transformer: no memory for %lld blocks", (long long)config->num_layers);
    }
    *m = (wo_transformer){.config = *config, .dtype = dtype, .width = config->num_heads * config->head_dim, .blocks = blocks};
    wo_status status = declare_all(m, store, err);
    if (status != WO_OK) {
        wo_transformer_destroy(m);
        return status;
    }
    *out = m;
    return WO_OK;
}

void wo_transformer_destroy(wo_transformer *m) {
    if (m == NULL)
        return;
    wo_component_destroy(m->component);
    free(m->blocks);
    free(m);
}

wo_component *wo_transformer_component(const wo_transformer *m) {
    return m->component;
}
