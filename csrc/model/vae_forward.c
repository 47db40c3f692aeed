/* The two passes of the VAE decoder: one latent frame in, its video frames out, with the state of vae_past.c in between.
 *
 * Every causal convolution over the whole film equals the same convolution frame by frame with its last two inputs remembered, so the
 * number of frames costs no memory. Behind the first frame there is nothing: those taps are skipped. The temporal upsampler lets the
 * first latent pass as it is, starts its own past from nothing at the second, and makes two frames of each.
 *
 *   z -> post_quant_conv -> conv_in -> res, attention, res -> stage 0 -> up -> stage 1 -> up -> ... -> norm, silu, conv_out -> frames
 *
 * Stages of large weights and small frames run all frames of the latent through one residual block at a time (little weight in use); the
 * tail, stages of small weights and large frames, runs one frame at a time through all its layers (few frames alive). Both are the same
 * calls in another order, so they give the same bits. Residuals are float32, inputs of convolutions are in the dtype of operands.
 *
 * Source: Wan2.1 wan/modules/vae.py, diffusers 0.42 autoencoder_kl_wan.py; closed form in the specification, section 2.6.
 */
#include "model/apply.h"
#include "model/vae.h"

#include <math.h>

/* Of the latents; with it no size in bytes of the largest configuration overflows. */
enum { MAX_SIDE = 8192 };

/* Frame tensors are [height, width, channels]; ops look at them as rows of channels or as one of several frames. */
static wo_tensor rows_of(const wo_tensor *t) {
    return wo_tensor_as(t, t->shape[0] * t->shape[1], t->shape[2]);
}

static wo_tensor frames_of(const wo_tensor *t) {
    return wo_tensor_as(t, (int64_t)1, t->shape[0], t->shape[1], t->shape[2]);
}

/* ---- layers in use ---- */

static wo_status hold(wo_vae_pass *p, const wo_layer *first, const wo_layer *last, wo_error *err) {
    for (int32_t i = first->index; i <= last->index; i++)
        WO_TRY(wo_exec_use(p->x, wo_component_layer(p->m->component, (size_t)i), &p->params[i], err));
    return WO_OK;
}

static wo_status let_go(wo_vae_pass *p, const wo_layer *first, const wo_layer *last, wo_error *err) {
    for (int32_t i = first->index; i <= last->index; i++)
        WO_TRY(wo_exec_done(p->x, wo_component_layer(p->m->component, (size_t)i), err));
    return WO_OK;
}

static const wo_layer *resblock_last(const wo_vae_resblock *b) {
    return b->conv2.layer;
}

/* The first layer of a stage's upsampler that this pass runs. */
static const wo_layer *upsampler_first(const wo_vae_pass *p, const wo_vae_stage *s) {
    return s->time_conv.layer != NULL && !p->first ? s->time_conv.layer : s->resample;
}

/* ---- one frame ---- */

/* y = conv of the window with rows [first, first + rows of y) of the weight, plus what y holds where add is set. */
static wo_status convolve(wo_vae_pass *p, const wo_layer *layer, const wo_vae_window *window, int kernel, int64_t first,
                          const wo_tensor *y, bool add, wo_error *err) {
    const wo_tensor *params = p->params[layer->index], *in = &window->newest;
    int64_t rows = y->shape[2];
    wo_tensor w = wo_tensor_rows(&params[0], first, rows);
    wo_conv_args args = {.frames = {window->frames[0], window->frames[1], window->frames[2]}, .x_dtype = in->dtype,
                         .height = in->shape[0], .width = in->shape[1], .channels = in->shape[2], .out_frames = 1, .kt = 3,
                         .kh = kernel, .kw = kernel, .w = wo_tensor_as(&w, rows, (int64_t)3, kernel, kernel, in->shape[2]),
                         .bias = wo_tensor_rows(&params[1], first, rows), .y = frames_of(y)};
    if (add)
        args.residual = args.y;
    return wo_apply_conv(p->x, &args, err);
}

/* The normed (and silued) frame x as the newest of the convolution's window. */
static wo_status enter_normed(wo_vae_pass *p, const wo_layer *norm, const wo_tensor *x, int32_t past, wo_vae_window *window,
                              wo_error *err) {
    WO_TRY(wo_vae_past_enter(p, past, window, err));
    const wo_tensor *gamma = p->params[norm->index];
    wo_l2_norm_args args = {.x = rows_of(x), .gamma = wo_tensor_as(gamma, x->shape[2]), .y = rows_of(&window->newest), .silu = true};
    return wo_l2_norm(wo_exec_stream(p->x), &args, err);
}

/* x in the dtype of operands: x itself, or a copy that replaces it. */
static wo_status as_operand(wo_vae_pass *p, wo_tensor *x, wo_error *err) {
    wo_tensor copy;
    if (x->dtype == p->m->compute)
        return WO_OK;
    WO_TRY(wo_exec_alloc(p->x, p->m->compute, x->rank, x->shape, &copy, err));
    WO_TRY(wo_apply_unary(p->x, WO_UNARY_COPY, x, &copy, err));
    wo_exec_free(p->x, x);
    *x = copy;
    return WO_OK;
}

/* x becomes the 1x1x1 convolution of x, of the width of the block's output. */
static wo_status apply_shortcut(wo_vae_pass *p, const wo_vae_resblock *b, wo_tensor *x, wo_error *err) {
    wo_tensor out;
    WO_TRY(as_operand(p, x, err));
    WO_TRY(wo_exec_new(p->x, &out, err, WO_F32, x->shape[0], x->shape[1], b->out));
    wo_linear_args args = {.x = rows_of(x), .y = rows_of(&out)};
    wo_apply_params(&args, p->params[b->shortcut->index], b->shortcut->params);
    WO_TRY(wo_apply_linear(p->x, &args, err));
    wo_exec_free(p->x, x);
    *x = out;
    return WO_OK;
}

/* x = shortcut(x) + conv2(silu(norm2(conv1(silu(norm1 x))))), the sum in place. */
static wo_status run_resblock(wo_vae_pass *p, const wo_vae_resblock *b, wo_tensor *x, wo_error *err) {
    wo_vae_window window;
    wo_tensor h;
    WO_TRY(enter_normed(p, b->norm1, x, b->conv1.past, &window, err));
    if (b->shortcut != NULL)
        WO_TRY(apply_shortcut(p, b, x, err));
    WO_TRY(wo_exec_new(p->x, &h, err, WO_F32, x->shape[0], x->shape[1], b->out));
    WO_TRY(convolve(p, b->conv1.layer, &window, 3, 0, &h, false, err));
    WO_TRY(wo_vae_past_leave(p, &window, err));
    WO_TRY(enter_normed(p, b->norm2, &h, b->conv2.past, &window, err));
    wo_exec_free(p->x, &h);
    WO_TRY(convolve(p, b->conv2.layer, &window, 3, 0, x, true, err));
    return wo_vae_past_leave(p, &window, err);
}

/* x += proj(attention(norm x)): one head over all positions of the frame. The three parts of to_qkv are products of their own. */
static wo_status run_attention(wo_vae_pass *p, const wo_tensor *x, wo_error *err) {
    const wo_vae_decoder *m = p->m;
    int64_t positions = x->shape[0] * x->shape[1], width = x->shape[2];
    wo_tensor y, part[3], o;
    WO_TRY(wo_exec_new(p->x, &y, err, m->compute, positions, width));
    wo_l2_norm_args norm = {.x = rows_of(x), .gamma = wo_tensor_as(p->params[m->attention_norm->index], width), .y = y};
    WO_TRY(wo_l2_norm(wo_exec_stream(p->x), &norm, err));
    for (int i = 0; i < 3; i++) {
        wo_linear_args args = {.x = y};
        wo_apply_params(&args, p->params[m->to_qkv->index], m->to_qkv->params);
        args.w = wo_tensor_rows(&args.w, i * width, width);
        args.bias = wo_tensor_rows(&args.bias, i * width, width);
        WO_TRY(wo_exec_new(p->x, &part[i], err, m->compute, positions, width));
        args.y = part[i];
        WO_TRY(wo_apply_linear(p->x, &args, err));
    }
    wo_exec_free(p->x, &y);
    WO_TRY(wo_exec_new(p->x, &o, err, m->compute, positions, width));
    wo_attention_args attention = {.q = wo_tensor_as(&part[0], positions, (int64_t)1, width),
                                   .k = wo_tensor_as(&part[1], positions, (int64_t)1, width),
                                   .v = wo_tensor_as(&part[2], positions, (int64_t)1, width),
                                   .o = wo_tensor_as(&o, positions, (int64_t)1, width), .scale = 1.0f / sqrtf((float)width)};
    WO_TRY(wo_apply_attention(p->x, &attention, err));
    for (int i = 0; i < 3; i++)
        wo_exec_free(p->x, &part[i]);
    wo_linear_args out = {.x = o, .y = rows_of(x), .other = rows_of(x), .epilogue = WO_EPILOGUE_ADD};
    wo_apply_params(&out, p->params[m->proj->index], m->proj->params);
    WO_TRY(wo_apply_linear(p->x, &out, err));
    wo_exec_free(p->x, &o);
    return WO_OK;
}

/* The temporal half of an upsampler: x gives way to one or two frames in the dtype of operands. The first half of the weight's rows
 * makes the earlier frame, the second the later one. */
static wo_status split_in_time(wo_vae_pass *p, const wo_vae_stage *s, wo_tensor *x, wo_tensor *out, int *count, wo_error *err) {
    wo_vae_window window;
    if (s->time_conv.layer == NULL || p->first) {
        WO_TRY(as_operand(p, x, err));
        out[0] = *x;
        *count = 1;
        return WO_OK;
    }
    WO_TRY(wo_vae_past_enter(p, s->time_conv.past, &window, err));
    WO_TRY(wo_apply_unary(p->x, WO_UNARY_COPY, x, &window.newest, err));
    wo_exec_free(p->x, x);
    for (int i = 0; i < 2; i++) {
        WO_TRY(wo_exec_alloc(p->x, p->m->compute, 3, window.newest.shape, &out[i], err));
        WO_TRY(convolve(p, s->time_conv.layer, &window, 1, i * s->width, &out[i], false, err));
    }
    *count = 2;
    return wo_vae_past_leave(p, &window, err);
}

/* The spatial half of an upsampler: doubled by nearest neighbour, 3x3 convolution to half the channels. */
static wo_status enlarge(wo_vae_pass *p, const wo_vae_stage *s, wo_tensor *x, wo_tensor *out, wo_error *err) {
    const wo_tensor *params = p->params[s->resample->index];
    int64_t rows = s->width / 2;
    WO_TRY(wo_exec_new(p->x, out, err, WO_F32, 2 * x->shape[0], 2 * x->shape[1], rows));
    wo_conv_args args = {.frames = {x->data}, .x_dtype = x->dtype, .height = x->shape[0], .width = x->shape[1],
                         .channels = x->shape[2], .out_frames = 1, .kt = 1, .kh = 3, .kw = 3, .upsample = true,
                         .w = wo_tensor_as(&params[0], rows, (int64_t)1, (int64_t)3, (int64_t)3, s->width), .bias = params[1],
                         .y = frames_of(out)};
    WO_TRY(wo_apply_conv(p->x, &args, err));
    wo_exec_free(p->x, x);
    return WO_OK;
}

/* The last norm and convolution; the frame goes to the caller's memory. */
static wo_status emit(wo_vae_pass *p, wo_tensor *x, wo_error *err) {
    const wo_vae_decoder *m = p->m;
    wo_vae_window window;
    wo_tensor y;
    WO_TRY(enter_normed(p, m->norm_out, x, m->conv_out.past, &window, err));
    WO_TRY(wo_exec_new(p->x, &y, err, WO_F32, x->shape[0], x->shape[1], m->config.out_channels));
    wo_exec_free(p->x, x);
    WO_TRY(convolve(p, m->conv_out.layer, &window, 3, 0, &y, false, err));
    WO_TRY(wo_vae_past_leave(p, &window, err));
    if (!p->r->unclamped)
        WO_TRY(wo_apply_unary(p->x, WO_UNARY_CLAMP_ONE, &y, &y, err));
    float *frame = p->r->frames == NULL ? NULL : p->r->frames + p->emitted * wo_tensor_count(&y);
    WO_TRY(wo_exec_download(p->x, frame, &y, err));
    wo_exec_free(p->x, &y);
    p->emitted++;
    return WO_OK;
}

/* ---- the order of frames ---- */

/* The first stage of the tail: from here on every stage's weights, with those of the upsampler before it, are less than the frames
 * that running one frame at a time keeps from being alive together. From shapes only. */
static int32_t find_tail(const wo_vae_pass *p) {
    const wo_vae_decoder *m = p->m;
    int32_t tail = m->stages;
    while (!p->first && tail > 1) {
        const wo_vae_stage *before = &m->stage[tail - 2], *s = &m->stage[tail - 1];
        uint64_t frame = (uint64_t)(p->r->height * s->scale * p->r->width * s->scale * s->width) * sizeof(float), weights = 0;
        for (int32_t i = upsampler_first(p, before)->index; i <= resblock_last(&s->resblock[m->resblocks - 1])->index; i++)
            weights += wo_component_layer(m->component, (size_t)i)->bytes;
        if (weights > (uint64_t)(s->frames - 1) * frame)
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
        WO_TRY(run_resblock(p, &s->resblock[i], x, err));
    if (s->resample == NULL)
        return emit(p, x, err);
    WO_TRY(split_in_time(p, s, x, parts, &count, err));
    for (int i = 0; i < count; i++) {
        WO_TRY(enlarge(p, s, &parts[i], &next, err));
        WO_TRY(descend(p, stage + 1, &next, err));
    }
    return WO_OK;
}

/* All frames of the latent through each of a stage's residual blocks in turn. */
static wo_status run_stage(wo_vae_pass *p, const wo_vae_stage *s, wo_tensor *frames, int count, wo_error *err) {
    for (int32_t i = 0; i < p->m->resblocks; i++) {
        const wo_vae_resblock *b = &s->resblock[i];
        WO_TRY(hold(p, b->norm1, resblock_last(b), err));
        for (int f = 0; f < count; f++)
            WO_TRY(run_resblock(p, b, &frames[f], err));
        WO_TRY(let_go(p, b->norm1, resblock_last(b), err));
    }
    return WO_OK;
}

/* All frames through a stage's upsampler; *count grows. */
static wo_status run_upsampler(wo_vae_pass *p, const wo_vae_stage *s, wo_tensor *frames, int *count, wo_error *err) {
    wo_tensor next[WO_VAE_FRAMES], parts[2];
    int made = 0, split;
    WO_TRY(hold(p, upsampler_first(p, s), s->resample, err));
    for (int f = 0; f < *count; f++) {
        WO_TRY(split_in_time(p, s, &frames[f], parts, &split, err));
        for (int i = 0; i < split; i++)
            WO_TRY(enlarge(p, s, &parts[i], &next[made++], err));
    }
    WO_TRY(let_go(p, upsampler_first(p, s), s->resample, err));
    for (int f = 0; f < made; f++)
        frames[f] = next[f];
    *count = made;
    return WO_OK;
}

/* The frames that leave stage tail - 1, one after the other, through the upsampler and all that follows. */
static wo_status run_tail(wo_vae_pass *p, int32_t tail, wo_tensor *frames, int count, wo_error *err) {
    const wo_vae_decoder *m = p->m;
    const wo_vae_stage *before = &m->stage[tail - 1];
    const wo_layer *first = tail < m->stages ? upsampler_first(p, before) : m->norm_out;
    wo_tensor parts[2], next;
    int split;
    WO_TRY(hold(p, first, m->conv_out.layer, err));
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
    return let_go(p, first, m->conv_out.layer, err);
}

/* The latent through post_quant_conv (float32, it is tiny), conv_in and the middle. */
static wo_status run_middle(wo_vae_pass *p, wo_tensor *x, wo_error *err) {
    const wo_vae_decoder *m = p->m;
    int64_t h = p->r->height, w = p->r->width, z = m->config.z_dim;
    wo_tensor latent, rows;
    wo_vae_window window;
    WO_TRY(wo_exec_new(p->x, &latent, err, WO_F32, z, 1, h, w));
    WO_TRY(wo_exec_upload(p->x, &latent, p->r->latent, err));
    WO_TRY(wo_exec_new(p->x, &rows, err, WO_F32, 1, h, w, z));
    wo_channels_last_args last = {.x = latent, .y = rows};
    WO_TRY(wo_channels_last(wo_exec_stream(p->x), &last, err));
    wo_exec_free(p->x, &latent);
    WO_TRY(wo_vae_past_enter(p, m->conv_in.past, &window, err));
    wo_linear_args post = {.x = wo_tensor_as(&rows, h * w, z), .y = rows_of(&window.newest)};
    WO_TRY(wo_apply_linear_layer(p->x, m->post_quant_conv, &post, err));
    wo_exec_free(p->x, &rows);
    WO_TRY(wo_exec_new(p->x, x, err, WO_F32, h, w, m->middle[0].in));
    WO_TRY(hold(p, m->conv_in.layer, m->conv_in.layer, err));
    WO_TRY(convolve(p, m->conv_in.layer, &window, 3, 0, x, false, err));
    WO_TRY(let_go(p, m->conv_in.layer, m->conv_in.layer, err));
    WO_TRY(wo_vae_past_leave(p, &window, err));

    WO_TRY(hold(p, m->middle[0].norm1, resblock_last(&m->middle[0]), err));
    WO_TRY(run_resblock(p, &m->middle[0], x, err));
    WO_TRY(let_go(p, m->middle[0].norm1, resblock_last(&m->middle[0]), err));
    WO_TRY(hold(p, m->attention_norm, m->proj, err));
    WO_TRY(run_attention(p, x, err));
    WO_TRY(let_go(p, m->attention_norm, m->proj, err));
    WO_TRY(hold(p, m->middle[1].norm1, resblock_last(&m->middle[1]), err));
    WO_TRY(run_resblock(p, &m->middle[1], x, err));
    return let_go(p, m->middle[1].norm1, resblock_last(&m->middle[1]), err);
}

wo_status wo_vae_decoder_forward(const void *model, wo_exec *x, int pass, const void *request, wo_error *err) {
    const wo_vae_request *r = request;
    wo_vae_pass p = {.m = model, .x = x, .r = r, .first = pass == WO_VAE_FIRST};
    wo_tensor frames[WO_VAE_FRAMES];
    int count = 1;
    if (r->height < 1 || r->width < 1 || r->height > MAX_SIDE || r->width > MAX_SIDE)
        WO_FAIL(err, WO_EVALUE, "vae: height and width of the latents must be between 1 and %d, but are %lld and %lld",
                (int)MAX_SIDE, (long long)r->height, (long long)r->width);
    WO_TRY(wo_vae_past_begin(&p, err));
    WO_TRY(run_middle(&p, &frames[0], err));
    int32_t tail = find_tail(&p);
    for (int32_t i = 0; i < tail; i++) {
        WO_TRY(run_stage(&p, &p.m->stage[i], frames, count, err));
        if (i + 1 < tail)
            WO_TRY(run_upsampler(&p, &p.m->stage[i], frames, &count, err));
    }
    WO_TRY(run_tail(&p, tail, frames, count, err));
    return wo_vae_past_end(&p, err);
}
