/* The blocks that both halves of the VAE are made of, one frame at a time. Residuals are float32, inputs of convolutions are in the dtype of
 * operands. Every causal convolution over the whole film equals the same convolution frame by frame with its last inputs remembered
 * (vae_past.c), so the number of frames costs no memory. Behind the first frame there is nothing: those taps are skipped.
 *
 * Source: Wan2.1 wan/modules/vae.py, diffusers 0.42 autoencoder_kl_wan.py; closed form in the specification, section 2.6.
 */
#include "model/apply.h"
#include "model/vae.h"

#include <math.h>

/* ---- layers in use ---- */

wo_status wo_vae_hold(wo_vae_pass *p, const wo_layer *first, const wo_layer *last, wo_error *err) {
    for (int32_t i = first->index; i <= last->index; i++)
        WO_TRY(wo_exec_use(p->x, wo_component_layer(p->m->component, (size_t)i), &p->params[i], err));
    return WO_OK;
}

wo_status wo_vae_let_go(wo_vae_pass *p, const wo_layer *first, const wo_layer *last, wo_error *err) {
    for (int32_t i = first->index; i <= last->index; i++)
        WO_TRY(wo_exec_done(p->x, wo_component_layer(p->m->component, (size_t)i), err));
    return WO_OK;
}

uint64_t wo_vae_weights(const wo_vae_network *m, const wo_layer *first, const wo_layer *last) {
    uint64_t bytes = 0;
    for (int32_t i = first->index; i <= last->index; i++)
        bytes += wo_component_layer(m->component, (size_t)i)->bytes;
    return bytes;
}

uint64_t wo_vae_other_frames(const wo_vae_pass *p, const wo_vae_stage *s) {
    return (uint64_t)(s->frames - 1) * (uint64_t)(p->height * s->scale * p->width * s->scale * s->width) * sizeof(float);
}

/* ---- convolutions ---- */

wo_status wo_vae_convolve(wo_vae_pass *p, const wo_layer *layer, const wo_vae_window *window, int kernel, int64_t first,
                          const wo_tensor *y, bool add, wo_error *err) {
    const wo_tensor *params = p->params[layer->index], *in = &window->newest;
    int64_t rows = y->shape[2];
    wo_tensor w = wo_tensor_rows(&params[0], first, rows);
    wo_conv_args args = {.frames = {window->frames[0], window->frames[1], window->frames[2]}, .x_dtype = in->dtype,
                         .height = in->shape[0], .width = in->shape[1], .channels = in->shape[2], .out_frames = 1, .kt = 3,
                         .kh = kernel, .kw = kernel, .w = wo_tensor_as(&w, rows, (int64_t)3, kernel, kernel, in->shape[2]),
                         .bias = wo_tensor_rows(&params[1], first, rows), .y = wo_vae_frames_of(y)};
    if (add)
        args.residual = args.y;
    return wo_apply_conv(p->x, &args, err);
}

wo_status wo_vae_resample(wo_vae_pass *p, const wo_layer *layer, wo_tensor *x, const wo_tensor *y, wo_error *err) {
    const wo_tensor *params = p->params[layer->index];
    wo_conv_args args = {.frames = {x->data}, .x_dtype = x->dtype, .height = x->shape[0], .width = x->shape[1],
                         .channels = x->shape[2], .out_frames = 1, .kt = 1, .kh = 3, .kw = 3,
                         .upsample = y->shape[0] > x->shape[0], .downsample = y->shape[0] < x->shape[0],
                         .w = wo_tensor_as(&params[0], y->shape[2], (int64_t)1, (int64_t)3, (int64_t)3, x->shape[2]), .bias = params[1],
                         .y = wo_vae_frames_of(y)};
    WO_TRY(wo_apply_conv(p->x, &args, err));
    wo_exec_free(p->x, x);
    return WO_OK;
}

wo_status wo_vae_enter_normed(wo_vae_pass *p, const wo_layer *norm, const wo_tensor *x, int32_t past, wo_vae_window *window, wo_error *err) {
    WO_TRY(wo_vae_past_enter(p, past, window, err));
    const wo_tensor *gamma = p->params[norm->index];
    wo_l2_norm_args args = {.x = wo_vae_rows_of(x), .gamma = wo_tensor_as(gamma, x->shape[2]), .y = wo_vae_rows_of(&window->newest),
                            .silu = true};
    return wo_l2_norm(wo_exec_stream(p->x), &args, err);
}

wo_status wo_vae_as_operand(wo_vae_pass *p, wo_tensor *x, wo_error *err) {
    wo_tensor copy;
    if (x->dtype == p->compute)
        return WO_OK;
    WO_TRY(wo_exec_alloc(p->x, p->compute, x->rank, x->shape, &copy, err));
    WO_TRY(wo_apply_unary(p->x, WO_UNARY_COPY, x, &copy, err));
    wo_exec_free(p->x, x);
    *x = copy;
    return WO_OK;
}

/* ---- blocks ---- */

/* x becomes the 1x1x1 convolution of x, of the width of the block's output. */
static wo_status apply_shortcut(wo_vae_pass *p, const wo_vae_resblock *b, wo_tensor *x, wo_error *err) {
    wo_tensor out;
    WO_TRY(wo_vae_as_operand(p, x, err));
    WO_TRY(wo_exec_new(p->x, &out, err, WO_F32, x->shape[0], x->shape[1], b->out));
    wo_linear_args args = {.x = wo_vae_rows_of(x), .y = wo_vae_rows_of(&out)};
    wo_apply_params(&args, p->params[b->shortcut->index], b->shortcut->params);
    WO_TRY(wo_apply_linear(p->x, &args, err));
    wo_exec_free(p->x, x);
    *x = out;
    return WO_OK;
}

/* x = shortcut(x) + conv2(silu(norm2(conv1(silu(norm1 x))))), the sum in place. */
wo_status wo_vae_run_resblock(wo_vae_pass *p, const wo_vae_resblock *b, wo_tensor *x, wo_error *err) {
    wo_vae_window window;
    wo_tensor h;
    WO_TRY(wo_vae_enter_normed(p, b->norm1, x, b->conv1.past, &window, err));
    if (b->shortcut != NULL)
        WO_TRY(apply_shortcut(p, b, x, err));
    WO_TRY(wo_exec_new(p->x, &h, err, WO_F32, x->shape[0], x->shape[1], b->out));
    WO_TRY(wo_vae_convolve(p, b->conv1.layer, &window, 3, 0, &h, false, err));
    WO_TRY(wo_vae_past_leave(p, &window, err));
    WO_TRY(wo_vae_enter_normed(p, b->norm2, &h, b->conv2.past, &window, err));
    wo_exec_free(p->x, &h);
    WO_TRY(wo_vae_convolve(p, b->conv2.layer, &window, 3, 0, x, true, err));
    return wo_vae_past_leave(p, &window, err);
}

wo_status wo_vae_run_stage(wo_vae_pass *p, const wo_vae_stage *s, wo_tensor *frames, int count, wo_error *err) {
    for (int32_t i = 0; i < p->m->resblocks; i++) {
        const wo_vae_resblock *b = &s->resblock[i];
        WO_TRY(wo_vae_hold(p, b->norm1, wo_vae_resblock_last(b), err));
        for (int f = 0; f < count; f++)
            WO_TRY(wo_vae_run_resblock(p, b, &frames[f], err));
        WO_TRY(wo_vae_let_go(p, b->norm1, wo_vae_resblock_last(b), err));
    }
    return WO_OK;
}

/* x += proj(attention(norm x)): one head over all positions of the frame. The three parts of to_qkv are products of their own. */
static wo_status run_attention(wo_vae_pass *p, const wo_tensor *x, wo_error *err) {
    const wo_vae_middle *m = &p->m->middle;
    const wo_dtype compute = p->compute;
    int64_t positions = x->shape[0] * x->shape[1], width = x->shape[2];
    wo_tensor y, part[3], o;
    WO_TRY(wo_exec_new(p->x, &y, err, compute, positions, width));
    wo_l2_norm_args norm = {.x = wo_vae_rows_of(x), .gamma = wo_tensor_as(p->params[m->norm->index], width), .y = y};
    WO_TRY(wo_l2_norm(wo_exec_stream(p->x), &norm, err));
    for (int i = 0; i < 3; i++) {
        wo_linear_args args = {.x = y};
        wo_apply_params(&args, p->params[m->to_qkv->index], m->to_qkv->params);
        args.w = wo_tensor_rows(&args.w, i * width, width);
        args.bias = wo_tensor_rows(&args.bias, i * width, width);
        WO_TRY(wo_exec_new(p->x, &part[i], err, compute, positions, width));
        args.y = part[i];
        WO_TRY(wo_apply_linear(p->x, &args, err));
    }
    wo_exec_free(p->x, &y);
    WO_TRY(wo_exec_new(p->x, &o, err, compute, positions, width));
    wo_attention_args attention = {.q = wo_tensor_as(&part[0], positions, (int64_t)1, width),
                                   .k = wo_tensor_as(&part[1], positions, (int64_t)1, width),
                                   .v = wo_tensor_as(&part[2], positions, (int64_t)1, width),
                                   .o = wo_tensor_as(&o, positions, (int64_t)1, width), .scale = 1.0f / sqrtf((float)width)};
    WO_TRY(wo_apply_attention(p->x, &attention, err));
    for (int i = 0; i < 3; i++)
        wo_exec_free(p->x, &part[i]);
    wo_linear_args out = {.x = o, .y = wo_vae_rows_of(x), .other = wo_vae_rows_of(x), .epilogue = WO_EPILOGUE_ADD};
    wo_apply_params(&out, p->params[m->proj->index], m->proj->params);
    WO_TRY(wo_apply_linear(p->x, &out, err));
    wo_exec_free(p->x, &o);
    return WO_OK;
}

wo_status wo_vae_run_middle(wo_vae_pass *p, wo_tensor *x, wo_error *err) {
    const wo_vae_middle *m = &p->m->middle;
    for (int i = 0; i < 2; i++) {
        const wo_vae_resblock *b = &m->resblock[i];
        WO_TRY(wo_vae_hold(p, b->norm1, wo_vae_resblock_last(b), err));
        WO_TRY(wo_vae_run_resblock(p, b, x, err));
        WO_TRY(wo_vae_let_go(p, b->norm1, wo_vae_resblock_last(b), err));
        if (i == 1)
            break;
        WO_TRY(wo_vae_hold(p, m->norm, m->proj, err));
        WO_TRY(run_attention(p, x, err));
        WO_TRY(wo_vae_let_go(p, m->norm, m->proj, err));
    }
    return WO_OK;
}
