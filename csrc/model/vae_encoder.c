/* The VAE encoder: the first frame in, then the frames of one latent at a time; one latent's moments out, with the state of vae_past.c in
 * between.
 *
 * The temporal downsampler lets the first frame pass as it is; later each pair of frames becomes one, by a kernel over the pair and the frame
 * before it. Of both its convolutions, in space and in time, only every second result is ever computed.
 *
 *   frames -> conv_in -> stage 0 -> down -> stage 1 -> down -> ... -> res, attention, res -> norm, silu, conv_out -> quant_conv -> moments
 *
 * It is the decoder backwards, in the order of frames too: the head, stages of small weights and large frames, is run one frame at a time
 * (few frames alive); after it all frames of the latent go through one residual block at a time (little weight in use). Both are the same
 * calls in another order, so they give the same bits.
 */
#include "model/apply.h"
#include "model/vae.h"

#include <stdlib.h>

/* ---- layers, in the order of an encode ---- */

/* The checkpoint numbers residual blocks and downsamplers of all stages in one row. */
static wo_status enter_block(wo_vae_network *m, wo_declare *d, int32_t number, wo_error *err) {
    wo_declare_enter(d, "encoder.down_blocks.%d", number);
    WO_TRY(wo_component_add_block(m->component, d->prefix, &d->block, err));
    wo_declare_enter(d, "encoder.down_blocks.%d.", number);
    return WO_OK;
}

static wo_status declare_stage(wo_vae_network *m, wo_declare *d, int32_t index, int64_t in, wo_error *err) {
    wo_vae_stage *s = &m->stage[index];
    int64_t width = s->width;
    int32_t number = index * (m->resblocks + 1);
    for (int32_t i = 0; i < m->resblocks; i++) {
        s->resblock[i] = (wo_vae_resblock){.in = i == 0 ? in : width, .out = width};
        WO_TRY(enter_block(m, d, number++, err));
        WO_TRY(wo_vae_declare_resblock(m, d, s->scale, &s->resblock[i], err));
    }
    if (index == m->stages - 1)
        return WO_OK;
    wo_tensor time = wo_tensor_of(NULL, m->dtype, width, width, 3, 1, 1), space = wo_tensor_of(NULL, m->dtype, width, width, 3, 3);
    WO_TRY(enter_block(m, d, number, err));
    WO_TRY(wo_declare_kernel(d, "resample.1", &space, WO_LAYOUT_TAPS_OUTSIDE, &s->resample, err));
    if (s->frames == m->stage[index + 1].frames)
        return WO_OK;
    wo_vae_reserve_past(m, width, s->scale / 2, 1, &s->time_conv);
    return wo_declare_kernel(d, "time_conv", &time, WO_LAYOUT_TAPS_OUTSIDE, &s->time_conv.layer, err);
}

/* The configuration lists the resamplers of time in the decoder's order. */
static wo_status declare_stages(wo_vae_network *m, wo_declare *d, wo_error *err) {
    const wo_vae_config *c = &m->config;
    int64_t scale = 1, frames = 1;
    for (int32_t i = m->stages - 1; i >= 0; i--) {
        m->stage[i].width = c->base_dim * c->dim_mult[i];
        m->stage[i].scale = scale;
        m->stage[i].frames = frames;
        scale *= 2;
        frames *= c->temporal_upsample[m->stages - 1 - i] ? 2 : 1;
    }
    for (int32_t i = 0; i < m->stages; i++)
        WO_TRY(declare_stage(m, d, i, i == 0 ? c->base_dim : m->stage[i - 1].width, err));
    return WO_OK;
}

static wo_status declare_all(wo_vae_network *m, wo_store *store, wo_error *err) {
    const wo_vae_config *c = &m->config;
    int64_t moments = 2 * c->z_dim, width = c->base_dim * c->dim_mult[c->levels - 1];
    wo_tensor in = wo_tensor_of(NULL, m->dtype, c->base_dim, c->in_channels, 3, 3, 3);
    wo_tensor gamma = wo_tensor_of(NULL, WO_F32, width, 1, 1, 1), out = wo_tensor_of(NULL, m->dtype, moments, width, 3, 3, 3);
    wo_tensor quant = wo_tensor_of(NULL, WO_F32, moments, moments, 1, 1, 1);
    m->resblocks = (int32_t)c->num_res_blocks;
    WO_TRY(wo_component_create(m->name, store, &m->component, err));
    wo_declare d = {.component = m->component, .block = -1, .prefix = "encoder.", .dtype = m->dtype, .bias = true};
    WO_TRY(wo_vae_declare_causal(m, &d, "conv_in", &in, wo_vae_spatial_scale(c), &m->conv_in, err));
    WO_TRY(declare_stages(m, &d, err));
    WO_TRY(wo_vae_declare_middle(m, &d, "encoder", width, err));
    d.block = -1;
    wo_declare_enter(&d, "encoder.");
    WO_TRY(wo_declare_param(&d, "norm_out", ".gamma", &gamma, &m->norm_out, err));
    WO_TRY(wo_vae_declare_causal(m, &d, "conv_out", &out, 1, &m->conv_out, err));
    d.dtype = WO_F32;
    wo_declare_enter(&d, "%s", "");
    WO_TRY(wo_declare_kernel(&d, "quant_conv", &quant, WO_LAYOUT_ROWS, &m->quant_conv, err));
    WO_TRY(wo_component_excuse(m->component, "decoder.", NULL, "the decoder is another component", err));
    WO_TRY(wo_component_excuse(m->component, "post_quant_conv.", NULL, "the decoder is another component", err));
    return wo_component_seal(m->component, err);
}

wo_status wo_vae_encoder_create(wo_store *store, const wo_vae_config *config, wo_dtype dtype, wo_vae_encoder **out, wo_error *err) {
    const wo_config_entry io = {"in_channels", config->in_channels, 1};
    *out = NULL;
    wo_vae_encoder *m = calloc(1, sizeof *m);
    if (m == NULL)
        WO_FAIL(err, WO_ENOMEMORY, "vae encoder: no memory for its layers");
    wo_status status = wo_vae_init(&m->net, "vae encoder", config, &io, dtype, err);
    if (status == WO_OK)
        status = declare_all(&m->net, store, err);
    if (status != WO_OK) {
        wo_vae_encoder_destroy(m);
        return status;
    }
    *out = m;
    return WO_OK;
}

void wo_vae_encoder_destroy(wo_vae_encoder *m) {
    if (m == NULL)
        return;
    wo_component_destroy(m->net.component);
    free(m);
}

wo_component *wo_vae_encoder_component(const wo_vae_encoder *m) {
    return m->net.component;
}

/* ---- one frame ---- */

/* How many frames a stage's downsampler makes one of in this pass, and the last layer that it runs. */
static int joined(const wo_vae_pass *p, const wo_vae_stage *s) {
    return s->time_conv.layer != NULL && !p->first ? 2 : 1;
}

static const wo_layer *downsampler_last(const wo_vae_pass *p, const wo_vae_stage *s) {
    return joined(p, s) == 2 ? s->time_conv.layer : s->resample;
}

/* The next frame of the film, through conv_in. */
static wo_status take(wo_vae_pass *p, wo_tensor *x, wo_error *err) {
    const wo_vae_network *m = p->m;
    int64_t h = p->height * m->stage[0].scale, w = p->width * m->stage[0].scale;
    wo_tensor frame;
    wo_vae_window window;
    WO_TRY(wo_exec_new(p->x, &frame, err, WO_F32, h, w, m->config.in_channels));
    WO_TRY(wo_exec_upload(p->x, &frame, p->input, err));
    if (p->input != NULL)
        p->input += wo_tensor_count(&frame);
    WO_TRY(wo_vae_past_enter(p, m->conv_in.past, &window, err));
    WO_TRY(wo_apply_unary(p->x, WO_UNARY_COPY, &frame, &window.newest, err));
    wo_exec_free(p->x, &frame);
    WO_TRY(wo_exec_new(p->x, x, err, WO_F32, h, w, m->config.base_dim));
    WO_TRY(wo_vae_convolve(p, m->conv_in.layer, &window, 3, 0, x, false, err));
    return wo_vae_past_leave(p, &window, err);
}

/* The spatial half of a downsampler: half the size, in the dtype asked for. x gives way. */
static wo_status shrink(wo_vae_pass *p, const wo_vae_stage *s, wo_dtype dtype, wo_tensor *x, wo_tensor *out, wo_error *err) {
    WO_TRY(wo_vae_as_operand(p, x, err));
    WO_TRY(wo_exec_new(p->x, out, err, dtype, x->shape[0] / 2, x->shape[1] / 2, s->width));
    return wo_vae_resample(p, s->resample, x, out, err);
}

/* The temporal half of a downsampler: `half`, the first frame of a pair, already shrunk, and x, the second, give way to one frame. */
static wo_status join_in_time(wo_vae_pass *p, const wo_vae_stage *s, wo_tensor *half, wo_tensor *x, wo_tensor *out, wo_error *err) {
    wo_vae_window window;
    WO_TRY(wo_vae_as_operand(p, x, err));
    WO_TRY(wo_vae_past_enter(p, s->time_conv.past, &window, err));
    WO_TRY(wo_vae_resample(p, s->resample, x, &window.newest, err));
    window.frames[1] = half->data;
    WO_TRY(wo_exec_new(p->x, out, err, WO_F32, window.newest.shape[0], window.newest.shape[1], s->width));
    WO_TRY(wo_vae_convolve(p, s->time_conv.layer, &window, 1, 0, out, false, err));
    wo_exec_free(p->x, half);
    return wo_vae_past_leave(p, &window, err);
}

/* x, with `half` before it where two frames become one, gives way to the frame that leaves the stage. */
static wo_status reduce(wo_vae_pass *p, const wo_vae_stage *s, wo_tensor *half, wo_tensor *x, wo_tensor *out, wo_error *err) {
    wo_vae_window window;
    if (joined(p, s) == 2)
        return join_in_time(p, s, half, x, out, err);
    WO_TRY(shrink(p, s, WO_F32, x, out, err));
    if (s->time_conv.layer == NULL)
        return WO_OK;
    WO_TRY(wo_vae_past_enter(p, s->time_conv.past, &window, err));
    WO_TRY(wo_apply_unary(p->x, WO_UNARY_COPY, out, &window.newest, err));
    return wo_vae_past_leave(p, &window, err);
}

/* The last norm and convolution and quant_conv (float32, it is tiny); the moments go to the caller's memory, channels first. */
static wo_status emit(wo_vae_pass *p, wo_tensor *x, wo_error *err) {
    const wo_vae_network *m = p->m;
    int64_t positions = p->height * p->width, moments = 2 * m->config.z_dim;
    wo_vae_window window;
    wo_tensor y, rows, out;
    WO_TRY(wo_vae_hold(p, m->norm_out, m->conv_out.layer, err));
    WO_TRY(wo_vae_enter_normed(p, m->norm_out, x, m->conv_out.past, &window, err));
    wo_exec_free(p->x, x);
    WO_TRY(wo_exec_new(p->x, &y, err, WO_F32, p->height, p->width, moments));
    WO_TRY(wo_vae_convolve(p, m->conv_out.layer, &window, 3, 0, &y, false, err));
    WO_TRY(wo_vae_past_leave(p, &window, err));
    WO_TRY(wo_vae_let_go(p, m->norm_out, m->conv_out.layer, err));
    WO_TRY(wo_exec_new(p->x, &rows, err, WO_F32, positions, 1, 1, moments));
    wo_linear_args quant = {.x = wo_vae_rows_of(&y), .y = wo_tensor_as(&rows, positions, moments)};
    WO_TRY(wo_apply_linear_layer(p->x, m->quant_conv, &quant, err));
    wo_exec_free(p->x, &y);
    WO_TRY(wo_exec_new(p->x, &out, err, WO_F32, 1, 1, moments, positions));
    wo_channels_last_args first = {.x = rows, .y = out}; /* positions to the end is channels to the front */
    WO_TRY(wo_channels_last(wo_exec_stream(p->x), &first, err));
    wo_exec_free(p->x, &rows);
    WO_TRY(wo_exec_download(p->x, p->output, &out, err));
    wo_exec_free(p->x, &out);
    return WO_OK;
}

/* ---- the order of frames ---- */

/* The first stage after the head: before it every stage's weights, with those of its downsampler, are less than the frames that running
 * one frame at a time keeps from being alive together. From shapes only. */
static int32_t find_body(const wo_vae_pass *p) {
    const wo_vae_network *m = p->m;
    int32_t body = 0;
    while (!p->first && body < m->stages - 1) {
        const wo_vae_stage *s = &m->stage[body];
        if (wo_vae_weights(m, s->resblock[0].norm1, downsampler_last(p, s)) > wo_vae_other_frames(p, s))
            break;
        body++;
    }
    return body;
}

/* The next frame that enters a stage, made of as many of the film as it takes, depth first. All layers before the stage are in use. */
static wo_status gather(wo_vae_pass *p, int32_t stage, wo_tensor *out, wo_error *err) {
    if (stage == 0)
        return take(p, out, err);
    const wo_vae_stage *s = &p->m->stage[stage - 1];
    wo_tensor half = {0}, x;
    for (int i = joined(p, s); i > 0; i--) {
        WO_TRY(gather(p, stage - 1, &x, err));
        for (int32_t r = 0; r < p->m->resblocks; r++)
            WO_TRY(wo_vae_run_resblock(p, &s->resblock[r], &x, err));
        if (i > 1)
            WO_TRY(shrink(p, s, p->compute, &x, &half, err));
    }
    return reduce(p, s, &half, &x, out, err);
}

/* The head: the frames that enter stage `body`, one after the other. */
static wo_status run_head(wo_vae_pass *p, int32_t body, wo_tensor *frames, int *count, wo_error *err) {
    const wo_vae_network *m = p->m;
    const wo_layer *first = m->conv_in.layer, *last = body == 0 ? first : downsampler_last(p, &m->stage[body - 1]);
    *count = p->first ? 1 : (int)m->stage[body].frames;
    WO_TRY(wo_vae_hold(p, first, last, err));
    for (int f = 0; f < *count; f++)
        WO_TRY(gather(p, body, &frames[f], err));
    return wo_vae_let_go(p, first, last, err);
}

/* All frames through a stage's downsampler; *count shrinks. */
static wo_status run_downsampler(wo_vae_pass *p, const wo_vae_stage *s, wo_tensor *frames, int *count, wo_error *err) {
    const int step = joined(p, s);
    WO_TRY(wo_vae_hold(p, s->resample, downsampler_last(p, s), err));
    for (int f = 0; f < *count; f += step) {
        wo_tensor half = {0}, out;
        if (step == 2)
            WO_TRY(shrink(p, s, p->compute, &frames[f], &half, err));
        WO_TRY(reduce(p, s, &half, &frames[f + step - 1], &out, err));
        frames[f / step] = out;
    }
    *count /= step;
    return wo_vae_let_go(p, s->resample, downsampler_last(p, s), err);
}

wo_status wo_vae_encoder_forward(const void *model, wo_exec *x, int pass, const void *request, wo_error *err) {
    const wo_vae_network *m = &((const wo_vae_encoder *)model)->net;
    const wo_vae_encode_request *r = request;
    const int64_t scale = wo_vae_spatial_scale(&m->config), most = scale * WO_VAE_SIDE;
    wo_vae_pass p = {.m = m, .x = x, .compute = wo_apply_compute(x, m->dtype), .first = pass == WO_VAE_ENCODE_FIRST,
                     .height = r->height / scale, .width = r->width / scale, .input = r->frames, .output = r->moments};
    wo_tensor frames[WO_VAE_FRAMES];
    int count;
    if (r->height < 1 || r->width < 1 || r->height > most || r->width > most || r->height % scale != 0 || r->width % scale != 0)
        WO_FAIL(err, WO_EVALUE, "%s: height and width of the frames must be multiples of %lld between 1 and %lld, but are %lld and %lld",
                m->name, (long long)scale, (long long)most, (long long)r->height, (long long)r->width);
    WO_TRY(wo_vae_past_begin(&p, err));
    int32_t body = find_body(&p);
    WO_TRY(run_head(&p, body, frames, &count, err));
    for (int32_t i = body; i < m->stages; i++) {
        WO_TRY(wo_vae_run_stage(&p, &m->stage[i], frames, count, err));
        if (i + 1 < m->stages)
            WO_TRY(run_downsampler(&p, &m->stage[i], frames, &count, err));
    }
    WO_TRY(wo_vae_run_middle(&p, &frames[0], err));
    WO_TRY(emit(&p, &frames[0], err));
    return wo_vae_past_end(&p, err);
}
