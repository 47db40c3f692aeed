/* The VAE decoder: one latent frame in, its video frames out, with the state of vae_past.c in between.
 *
 * The temporal upsampler lets the first latent pass as it is, starts its own past from nothing at the second, and makes two frames of each.
 *
 *   z -> post_quant_conv -> conv_in -> res, attention, res -> stage 0 -> up -> stage 1 -> up -> ... -> norm, silu, conv_out -> frames
 *
 * Stages of large weights and small frames run all frames of the latent through one residual block at a time (little weight in use); the
 * tail, stages of small weights and large frames, runs one frame at a time through all its layers (few frames alive). Both are the same
 * calls in another order, so they give the same bits. Stage i goes from the width of the last level but i (halved by the upsampler before
 * it, i > 0) to that of the next.
 */
#include "model/apply.h"
#include "model/vae.h"

#include <stdlib.h>

/* ---- layers, in the order of a decode ---- */

static wo_status declare_stage(wo_vae_network *m, wo_declare *d, int32_t index, int64_t in, wo_error *err) {
    wo_vae_stage *s = &m->stage[index];
    int64_t width = s->width;
    wo_declare_enter(d, "decoder.up_blocks.%d", index);
    WO_TRY(wo_component_add_block(m->component, d->prefix, &d->block, err));
    for (int32_t i = 0; i < m->resblocks; i++) {
        s->resblock[i] = (wo_vae_resblock){.in = i == 0 ? in : width, .out = width};
        wo_declare_enter(d, "decoder.up_blocks.%d.resnets.%d.", index, i);
        WO_TRY(wo_vae_declare_resblock(m, d, s->scale, &s->resblock[i], err));
    }
    if (index == m->stages - 1)
        return WO_OK;
    wo_declare_enter(d, "decoder.up_blocks.%d.upsamplers.0.", index);
    wo_tensor time = wo_tensor_of(NULL, m->dtype, 2 * width, width, 3, 1, 1);
    wo_tensor space = wo_tensor_of(NULL, m->dtype, width / 2, width, 3, 3);
    if (m->config.temporal_upsample[index])
        WO_TRY(wo_vae_declare_causal(m, d, "time_conv", &time, s->scale, &s->time_conv, err));
    return wo_declare_kernel(d, "resample.1", &space, WO_LAYOUT_TAPS_OUTSIDE, &s->resample, err);
}

static wo_status declare_stages(wo_vae_network *m, wo_declare *d, wo_error *err) {
    const wo_vae_config *c = &m->config;
    int64_t scale = 1, frames = 1;
    for (int32_t i = 0; i < m->stages; i++) {
        int64_t from = i == 0 ? m->middle.resblock[0].in : m->stage[i - 1].width / 2;
        m->stage[i].width = c->base_dim * c->dim_mult[c->levels - 1 - i];
        m->stage[i].scale = scale;
        m->stage[i].frames = frames;
        WO_TRY(declare_stage(m, d, i, from, err));
        scale *= 2;
        frames *= c->temporal_upsample[i] ? 2 : 1;
    }
    return WO_OK;
}

static wo_status declare_all(wo_vae_network *m, wo_store *store, wo_error *err) {
    const wo_vae_config *c = &m->config;
    int64_t z = c->z_dim, width = c->base_dim * c->dim_mult[c->levels - 1];
    wo_tensor post = wo_tensor_of(NULL, WO_F32, z, z, 1, 1, 1), in = wo_tensor_of(NULL, m->dtype, width, z, 3, 3, 3);
    m->resblocks = (int32_t)c->num_res_blocks + 1;
    WO_TRY(wo_component_create(m->name, store, &m->component, err));
    wo_declare d = {.component = m->component, .block = -1, .dtype = WO_F32, .bias = true};
    WO_TRY(wo_declare_kernel(&d, "post_quant_conv", &post, WO_LAYOUT_ROWS, &m->quant_conv, err));
    d.dtype = m->dtype;
    wo_declare_enter(&d, "decoder.");
    WO_TRY(wo_vae_declare_causal(m, &d, "conv_in", &in, 1, &m->conv_in, err));
    WO_TRY(wo_vae_declare_middle(m, &d, "decoder", width, err));
    WO_TRY(declare_stages(m, &d, err));
    const wo_vae_stage *last = &m->stage[m->stages - 1];
    wo_tensor gamma = wo_tensor_of(NULL, WO_F32, last->width, 1, 1, 1);
    wo_tensor out = wo_tensor_of(NULL, m->dtype, c->out_channels, last->width, 3, 3, 3);
    d.block = -1;
    wo_declare_enter(&d, "decoder.");
    WO_TRY(wo_declare_param(&d, "norm_out", ".gamma", &gamma, &m->norm_out, err));
    WO_TRY(wo_vae_declare_causal(m, &d, "conv_out", &out, last->scale, &m->conv_out, err));
    WO_TRY(wo_component_excuse(m->component, "encoder.", NULL, "the encoder is another component", err));
    WO_TRY(wo_component_excuse(m->component, "quant_conv.", NULL, "the encoder is another component", err));
    return wo_component_seal(m->component, err);
}

wo_status wo_vae_decoder_create(wo_store *store, const wo_vae_config *config, wo_dtype dtype, wo_vae_decoder **out, wo_error *err) {
    const wo_config_entry io = {"out_channels", config->out_channels, 1};
    *out = NULL;
    wo_vae_decoder *m = calloc(1, sizeof *m);
    if (m == NULL)
        WO_FAIL(err, WO_ENOMEMORY, "vae: no memory for its layers");
    wo_status status = wo_vae_init(&m->net, "vae", config, &io, dtype, err);
    if (status == WO_OK)
        status = declare_all(&m->net, store, err);
    if (status != WO_OK) {
        wo_vae_decoder_destroy(m);
        return status;
    }
    *out = m;
    return WO_OK;
}

void wo_vae_decoder_destroy(wo_vae_decoder *m) {
    if (m == NULL)
        return;
    wo_component_destroy(m->net.component);
    free(m);
}

wo_component *wo_vae_decoder_component(const wo_vae_decoder *m) {
    return m->net.component;
}

/* ---- one frame ---- */

/* The first layer of a stage's upsampler that this pass runs. */
static const wo_layer *upsampler_first(const wo_vae_pass *p, const wo_vae_stage *s) {
    return s->time_conv.layer != NULL && !p->first ? s->time_conv.layer : s->resample;
}

/* The temporal half of an upsampler: x gives way to one or two frames in the dtype of operands. The first half of the weight's rows
 * makes the earlier frame, the second the later one. */
static wo_status split_in_time(wo_vae_pass *p, const wo_vae_stage *s, wo_tensor *x, wo_tensor *out, int *count, wo_error *err) {
    wo_vae_window window;
    if (s->time_conv.layer == NULL || p->first) {
        WO_TRY(wo_vae_as_operand(p, x, err));
        out[0] = *x;
        *count = 1;
        return WO_OK;
    }
    WO_TRY(wo_vae_past_enter(p, s->time_conv.past, &window, err));
    WO_TRY(wo_apply_unary(p->x, WO_UNARY_COPY, x, &window.newest, err));
    wo_exec_free(p->x, x);
    for (int i = 0; i < 2; i++) {
        WO_TRY(wo_exec_alloc(p->x, p->compute, 3, window.newest.shape, &out[i], err));
        WO_TRY(wo_vae_convolve(p, s->time_conv.layer, &window, 1, i * s->width, &out[i], false, err));
    }
    *count = 2;
    return wo_vae_past_leave(p, &window, err);
}

/* The spatial half of an upsampler: twice the size, half the channels. */
static wo_status enlarge(wo_vae_pass *p, const wo_vae_stage *s, wo_tensor *x, wo_tensor *out, wo_error *err) {
    WO_TRY(wo_exec_new(p->x, out, err, WO_F32, 2 * x->shape[0], 2 * x->shape[1], s->width / 2));
    return wo_vae_resample(p, s->resample, x, out, err);
}

/* The last norm and convolution; the frame goes to the caller's memory. */
static wo_status emit(wo_vae_pass *p, wo_tensor *x, wo_error *err) {
    const wo_vae_network *m = p->m;
    wo_vae_window window;
    wo_tensor y;
    WO_TRY(wo_vae_enter_normed(p, m->norm_out, x, m->conv_out.past, &window, err));
    WO_TRY(wo_exec_new(p->x, &y, err, WO_F32, x->shape[0], x->shape[1], m->config.out_channels));
    wo_exec_free(p->x, x);
    WO_TRY(wo_vae_convolve(p, m->conv_out.layer, &window, 3, 0, &y, false, err));
    WO_TRY(wo_vae_past_leave(p, &window, err));
    if (p->clamped)
        WO_TRY(wo_apply_unary(p->x, WO_UNARY_CLAMP_ONE, &y, &y, err));
    WO_TRY(wo_exec_download(p->x, p->output, &y, err));
    if (p->output != NULL)
        p->output += wo_tensor_count(&y);
    wo_exec_free(p->x, &y);
    return WO_OK;
}

/* ---- the order of frames ---- */

/* The first stage of the tail: from here on every stage's weights, with those of the upsampler before it, are less than the frames
 * that running one frame at a time keeps from being alive together. From shapes only. */
static int32_t find_tail(const wo_vae_pass *p) {
    const wo_vae_network *m = p->m;
    int32_t tail = m->stages;
    while (!p->first && tail > 1) {
        const wo_vae_stage *before = &m->stage[tail - 2], *s = &m->stage[tail - 1];
        const wo_layer *first = upsampler_first(p, before), *last = wo_vae_resblock_last(&s->resblock[m->resblocks - 1]);
        if (wo_vae_weights(m, first, last) > wo_vae_other_frames(p, s))
            break;
        tail--;
    }
    return tail;
}

/* The rest of the decoder for one frame that enters a stage, depth first. All layers from here on are in use. */
static wo_status descend(wo_vae_pass *p, int32_t stage, wo_tensor *x, wo_error *err) {
    const wo_vae_stage *s = &p->m->stage[stage];
    wo_tensor parts[2], next;
    int count;
    for (int32_t i = 0; i < p->m->resblocks; i++)
        WO_TRY(wo_vae_run_resblock(p, &s->resblock[i], x, err));
    if (s->resample == NULL)
        return emit(p, x, err);
    WO_TRY(split_in_time(p, s, x, parts, &count, err));
    for (int i = 0; i < count; i++) {
        WO_TRY(enlarge(p, s, &parts[i], &next, err));
        WO_TRY(descend(p, stage + 1, &next, err));
    }
    return WO_OK;
}

/* All frames through a stage's upsampler; *count grows. */
static wo_status run_upsampler(wo_vae_pass *p, const wo_vae_stage *s, wo_tensor *frames, int *count, wo_error *err) {
    wo_tensor next[WO_VAE_FRAMES], parts[2];
    int made = 0, split;
    WO_TRY(wo_vae_hold(p, upsampler_first(p, s), s->resample, err));
    for (int f = 0; f < *count; f++) {
        WO_TRY(split_in_time(p, s, &frames[f], parts, &split, err));
        for (int i = 0; i < split; i++)
            WO_TRY(enlarge(p, s, &parts[i], &next[made++], err));
    }
    WO_TRY(wo_vae_let_go(p, upsampler_first(p, s), s->resample, err));
    for (int f = 0; f < made; f++)
        frames[f] = next[f];
    *count = made;
    return WO_OK;
}

/* The frames that leave stage tail - 1, one after the other, through the upsampler and all that follows. */
static wo_status run_tail(wo_vae_pass *p, int32_t tail, wo_tensor *frames, int count, wo_error *err) {
    const wo_vae_network *m = p->m;
    const wo_vae_stage *before = &m->stage[tail - 1];
    const wo_layer *first = tail < m->stages ? upsampler_first(p, before) : m->norm_out;
    wo_tensor parts[2], next;
    int split;
    WO_TRY(wo_vae_hold(p, first, m->conv_out.layer, err));
    for (int f = 0; f < count; f++) {
        if (tail == m->stages) {
            WO_TRY(emit(p, &frames[f], err));
            continue;
        }
        WO_TRY(split_in_time(p, before, &frames[f], parts, &split, err));
        for (int i = 0; i < split; i++) {
            WO_TRY(enlarge(p, before, &parts[i], &next, err));
            WO_TRY(descend(p, tail, &next, err));
        }
    }
    return wo_vae_let_go(p, first, m->conv_out.layer, err);
}

/* The latent through post_quant_conv (float32, it is tiny) and conv_in. */
static wo_status take(wo_vae_pass *p, wo_tensor *x, wo_error *err) {
    const wo_vae_network *m = p->m;
    int64_t h = p->height, w = p->width, z = m->config.z_dim;
    wo_tensor latent, rows;
    wo_vae_window window;
    WO_TRY(wo_exec_new(p->x, &latent, err, WO_F32, z, 1, h, w));
    WO_TRY(wo_exec_upload(p->x, &latent, p->input, err));
    WO_TRY(wo_exec_new(p->x, &rows, err, WO_F32, 1, h, w, z));
    wo_channels_last_args last = {.x = latent, .y = rows};
    WO_TRY(wo_channels_last(wo_exec_stream(p->x), &last, err));
    wo_exec_free(p->x, &latent);
    WO_TRY(wo_vae_past_enter(p, m->conv_in.past, &window, err));
    wo_linear_args post = {.x = wo_tensor_as(&rows, h * w, z), .y = wo_vae_rows_of(&window.newest)};
    WO_TRY(wo_apply_linear_layer(p->x, m->quant_conv, &post, err));
    wo_exec_free(p->x, &rows);
    WO_TRY(wo_exec_new(p->x, x, err, WO_F32, h, w, m->middle.resblock[0].in));
    WO_TRY(wo_vae_hold(p, m->conv_in.layer, m->conv_in.layer, err));
    WO_TRY(wo_vae_convolve(p, m->conv_in.layer, &window, 3, 0, x, false, err));
    WO_TRY(wo_vae_let_go(p, m->conv_in.layer, m->conv_in.layer, err));
    return wo_vae_past_leave(p, &window, err);
}

wo_status wo_vae_decoder_forward(const void *model, wo_exec *x, int pass, const void *request, wo_error *err) {
    const wo_vae_network *m = &((const wo_vae_decoder *)model)->net;
    const wo_vae_request *r = request;
    wo_vae_pass p = {.m = m, .x = x, .compute = wo_apply_compute(x, m->dtype), .first = pass == WO_VAE_FIRST,
                     .height = r->height, .width = r->width, .input = r->latent, .output = r->frames, .clamped = !r->unclamped};
    wo_tensor frames[WO_VAE_FRAMES];
    int count = 1;
    if (r->height < 1 || r->width < 1 || r->height > WO_VAE_SIDE || r->width > WO_VAE_SIDE)
        WO_FAIL(err, WO_EVALUE, "%s: height and width of the latents must be between 1 and %d, but are %lld and %lld", m->name,
                (int)WO_VAE_SIDE, (long long)r->height, (long long)r->width);
    WO_TRY(wo_vae_past_begin(&p, err));
    WO_TRY(take(&p, &frames[0], err));
    WO_TRY(wo_vae_run_middle(&p, &frames[0], err));
    int32_t tail = find_tail(&p);
    for (int32_t i = 0; i < tail; i++) {
        WO_TRY(wo_vae_run_stage(&p, &m->stage[i], frames, count, err));
        if (i + 1 < tail)
            WO_TRY(run_upsampler(&p, &m->stage[i], frames, &count, err));
    }
    WO_TRY(run_tail(&p, tail, frames, count, err));
    return wo_vae_past_end(&p, err);
}
