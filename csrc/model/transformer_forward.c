/* The two passes of the WAN transformer. A STEP: latents and timesteps -> velocity. The items of the batch (prompts, both sides of
 * guidance) are rows of the same products, so one pass over the weights serves all of them; only attention looks at one item at a time.
 * The blocks are in transformer_block.c.
 *
 * Source: Wan2.1 wan/modules/model.py, diffusers 0.42 transformer_wan.py.
 */
#include "model/apply.h"
#include "model/transformer.h"

#include <math.h>

/* e = L2(silu(L1(sinusoid t))) and e0 = Lp(silu(e)), all in float32. Each of the six parts of e0 is a product of its own, so that
 * the batch lies inside: a gate for all items is then one matrix. Weights of their own, too: together they would be the largest group by far. */
static wo_status embed_time(wo_transformer_run *p, wo_error *err) {
    const wo_transformer *m = p->m;
    int64_t batch = p->held, freq = m->config.freq_dim;
    wo_tensor waves, hidden;
    WO_TRY(wo_exec_new(p->x, &waves, err, WO_F32, batch, freq));
    for (int64_t b = 0; b < batch; b++) {
        wo_tensor row = wo_tensor_rows(&waves, b, 1);
        int64_t item = p->first_held + b;
        wo_sinusoid_args args = {.y = wo_tensor_as(&row, freq), .t = p->r->timesteps != NULL ? p->r->timesteps[item] : 0.0f};
        if (!isfinite(args.t))
            WO_FAIL(err, WO_EVALUE, "transformer: the timestep of item %lld must be finite, but is %g", (long long)item, (double)args.t);
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
    WO_TRY(wo_exec_new(p->x, &p->modulation_base, err, WO_F32, WO_MODULATIONS * batch, m->width));
    for (int i = 0; i < WO_MODULATIONS; i++) {
        wo_linear_args part = {.x = hidden, .y = wo_tensor_rows(&p->modulation_base, i * batch, batch), .form = WO_FORM_DOT};
        WO_TRY(wo_apply_linear_layer(p->x, m->time_proj[i], &part, err));
    }
    wo_exec_free(p->x, &hidden);
    return WO_OK;
}

/* Of the latents of one item, of the velocity of one item. */
static int64_t item_elements(const wo_transformer_request *r, int64_t channels) {
    return channels * r->frames * r->height * r->width;
}

static wo_status embed_patches(wo_transformer_run *p, wo_error *err) {
    const wo_transformer_request *r = p->r;
    int64_t channels = p->m->config.in_channels;
    wo_tensor latents, patches;
    WO_TRY(wo_exec_new(p->x, &latents, err, WO_F32, p->held * channels, r->frames, r->height, r->width));
    WO_TRY(wo_exec_upload(p->x, &latents, r->latents == NULL ? NULL : r->latents + p->first_held * item_elements(r, channels), err));
    WO_TRY(wo_exec_new(p->x, &patches, err, WO_F32, p->held * p->tokens, 4 * channels));
    for (int64_t b = 0; b < p->held; b++) {
        wo_patchify_args args = {.latents = wo_tensor_rows(&latents, b * channels, channels),
                                 .rows = wo_tensor_rows(&patches, b * p->tokens, p->tokens)};
        WO_TRY(wo_patchify(wo_exec_stream(p->x), &args, err));
    }
    wo_exec_free(p->x, &latents);
    WO_TRY(wo_exec_new(p->x, &p->residual, err, WO_F32, p->held * p->tokens, p->m->width));
    wo_linear_args args = {.x = patches, .y = p->residual};
    WO_TRY(wo_apply_linear_layer(p->x, p->m->patch_embedding, &args, err));
    wo_exec_free(p->x, &patches);
    return WO_OK;
}

static wo_status head(wo_transformer_run *p, wo_error *err) {
    const wo_transformer_request *r = p->r;
    int64_t channels = p->m->config.out_channels;
    wo_tensor modulation, y, patches, velocity;
    WO_TRY(wo_transformer_modulate(p, p->m->scale_shift_table, &p->time, 2, &modulation, err));
    wo_exec_free(p->x, &p->time);
    WO_TRY(wo_exec_new(p->x, &y, err, WO_F32, p->held * p->tokens, p->m->width));
    wo_layer_norm_args norm = {.x = p->residual, .y = y, .scale = wo_tensor_rows(&modulation, p->held, p->held),
                               .shift = wo_tensor_rows(&modulation, 0, p->held), .rows_per_batch = p->tokens, .eps = p->m->config.eps};
    WO_TRY(wo_layer_norm(wo_exec_stream(p->x), &norm, err));
    wo_exec_free(p->x, &modulation);
    wo_exec_free(p->x, &p->residual);
    WO_TRY(wo_exec_new(p->x, &patches, err, WO_F32, p->held * p->tokens, 4 * channels));
    wo_linear_args out = {.x = y, .y = patches};
    WO_TRY(wo_apply_linear_layer(p->x, p->m->proj_out, &out, err));
    wo_exec_free(p->x, &y);
    WO_TRY(wo_exec_new(p->x, &velocity, err, WO_F32, p->held * channels, r->frames, r->height, r->width));
    for (int64_t b = 0; b < p->held; b++) {
        wo_unpatchify_args args = {.rows = wo_tensor_rows(&patches, b * p->tokens, p->tokens),
                                   .latents = wo_tensor_rows(&velocity, b * channels, channels)};
        WO_TRY(wo_unpatchify(wo_exec_stream(p->x), &args, err));
    }
    wo_exec_free(p->x, &patches);
    WO_TRY(wo_exec_download(p->x, r->velocity == NULL ? NULL : r->velocity + p->first_held * item_elements(r, channels), &velocity, err));
    wo_exec_free(p->x, &velocity);
    return WO_OK;
}

/* All items at once or, where the plan has them apart, one after the other: rows of different items never meet, so the bits are the same.
 * Groups of whole blocks are brought once for all items in both cases, groups of single layers once for each. */
static wo_status run_block(wo_transformer_run *p, int64_t index, wo_error *err) {
    if (!wo_exec_knobs(p->x)->items_apart)
        return wo_transformer_run_block(p, index, err);
    p->items = 1;
    for (int64_t i = 0; i < p->held; i++) {
        p->first_item = p->first_held + i;
        WO_TRY(wo_transformer_run_block(p, index, err));
    }
    p->first_item = p->first_held;
    p->items = p->held;
    return WO_OK;
}

static wo_status step_held(wo_transformer_run *p, wo_error *err) {
    const wo_transformer *m = p->m;
    WO_TRY(embed_patches(p, err));
    WO_TRY(embed_time(p, err));
    for (int64_t i = 0; i < m->config.num_layers; i++)
        WO_TRY(run_block(p, i, err));
    wo_exec_free(p->x, &p->modulation_base);
    return head(p, err);
}

/* All items of the batch in one go over the weights, or one after the other: the same bits, and one item's memory. */
static wo_status step(wo_transformer_run *p, wo_error *err) {
    const int64_t count = wo_exec_knobs(p->x)->passes_apart ? 1 : p->r->batch;
    WO_TRY(wo_transformer_find_rope(p, err));
    for (int64_t first = 0; first < p->r->batch; first += count) {
        p->first_held = p->first_item = first;
        p->held = p->items = count;
        WO_TRY(step_held(p, err));
    }
    return WO_OK;
}

wo_status wo_transformer_forward(const void *model, wo_exec *x, int pass, const void *request, wo_error *err) {
    wo_transformer_run p;
    WO_TRY(wo_transformer_run_init(&p, model, x, request, err));
    return pass == WO_TRANSFORMER_PREPARE ? wo_transformer_prepare(&p, err) : step(&p, err);
}
