#include "ops/check.h"

#define OP "conv"

/* A frame as a tensor, so that messages and the overlap check can speak of it. */
static wo_tensor frame_tensor(const wo_conv_args *args, int32_t i) {
    return wo_tensor_of((void *)(uintptr_t)args->frames[i], args->x_dtype, args->height, args->width, args->channels);
}

static wo_status check_sizes(const wo_stream *s, const wo_conv_args *args, wo_error *err) {
    if (args->height < 1 || args->width < 1 || args->channels < 1 || args->out_frames < 1)
        WO_FAIL(err, WO_EINTERNAL, OP ": the input must not be empty, but is %lld x %lld with %lld channels and %d frames out",
                (long long)args->height, (long long)args->width, (long long)args->channels, (int)args->out_frames);
    if (args->kt < 1 || args->kh < 1 || args->kw < 1 || args->kh % 2 == 0 || args->kw % 2 == 0)
        WO_FAIL(err, WO_EINTERNAL, OP ": a kernel must be odd in height and width, but is %d x %d x %d", (int)args->kt, (int)args->kh,
                (int)args->kw);
    if (args->downsample && args->upsample)
        WO_FAIL(err, WO_EINTERNAL, OP ": upsample and downsample must not both be set");
    if (args->downsample && (args->kh != 3 || args->kw != 3 || args->height < 2 || args->width < 2))
        WO_FAIL(err, WO_EINTERNAL, OP ": downsample is for a kernel of 3 x 3 and frames of 2 x 2 or more, but the kernel is %d x %d and a "
                "frame %lld x %lld", (int)args->kh, (int)args->kw, (long long)args->height, (long long)args->width);
    if (args->out_frames > WO_CONV_MAX_FRAMES || args->kt > WO_CONV_MAX_FRAMES ||
        args->out_frames + args->kt - 1 > WO_CONV_MAX_FRAMES)
        WO_FAIL(err, WO_EINTERNAL, OP ": %d frames out with %d taps in time need more than %d frames in", (int)args->out_frames,
                (int)args->kt, (int)WO_CONV_MAX_FRAMES);
    return wo_check_dtype(err, OP, "frames", args->x_dtype, WO_IS_COMPUTE);
}

static wo_status check_frames(const wo_stream *s, const wo_conv_args *args, wo_error *err) {
    for (int32_t i = 0; i < args->out_frames + args->kt - 1; i++) {
        if (args->frames[i] == NULL)
            continue;
        wo_tensor frame = frame_tensor(args, i);
        WO_TRY(wo_check_tensor(err, OP, "a frame", &frame, 3, WO_IS_COMPUTE));
        if (wo_check_overlap(&frame, &args->y))
            return wo_check_refuse(err, OP, "y must not overlap the frames read", "a frame", &frame, "y", &args->y);
        if (wo_check_overlap(&frame, &args->workspace))
            return wo_check_refuse(err, OP, "workspace must not overlap the frames read", "a frame", &frame, "workspace",
                                   &args->workspace);
    }
    return WO_OK;
}

wo_status wo_conv(wo_stream *s, const wo_conv_args *args, wo_error *err) {
    const wo_tensor *w = &args->w, *y = &args->y;
    int64_t up = args->upsample ? 2 : 1, down = args->downsample ? 2 : 1;
    WO_TRY(check_sizes(s, args, err));
    WO_CHECK_TENSOR(w, 5, WO_IS_WEIGHT);
    WO_CHECK_TENSOR(y, 4, WO_IS_COMPUTE);
    WO_CHECK_OPTIONAL(bias, 1, WO_IS_F32);
    WO_CHECK_OPTIONAL(residual, 4, WO_IS_COMPUTE);
    WO_CHECK_RULE(w->shape[1] == args->kt && w->shape[2] == args->kh && w->shape[3] == args->kw && w->shape[4] == args->channels,
                  "w must be [N, kt, kh, kw, channels] of the call", w, y);
    WO_CHECK_RULE(!wo_check_mixed(args->x_dtype, w->dtype), "there is no product of bfloat16 frames with float16, nor of float16 ones with bfloat16", w, y);
    WO_CHECK_RULE(!wo_check_mixed(args->x_dtype, y->dtype), "frames and y must not be bfloat16 and float16", y, w);
    WO_CHECK_RULE(y->shape[0] == args->out_frames && y->shape[1] == args->height * up / down &&
                      y->shape[2] == args->width * up / down && y->shape[3] == w->shape[0],
                  "y must be [out_frames, height, width, N], doubled in space where upsample is set, halved where downsample is", y, w);
    if (wo_check_given(&args->bias))
        WO_CHECK_RULE(args->bias.shape[0] == w->shape[0], "bias must have an element for each row of w", bias, w);
    if (wo_check_given(&args->residual)) {
        WO_CHECK_RULE(wo_check_same_shape(&args->residual, y) && args->residual.dtype == y->dtype,
                      "residual must have the shape and dtype of y", residual, y);
        WO_CHECK_RULE(wo_check_apart_or_same(&args->residual, y), "y must be residual itself or apart from it", y, residual);
    }
    WO_CHECK_APART(y, w);
    WO_CHECK_APART(y, bias);
    WO_TRY(wo_check_workspace(err, OP, &args->workspace, wo_conv_workspace(s->device, args)));
    WO_CHECK_APART(workspace, y);
    WO_CHECK_APART(workspace, w);
    WO_CHECK_APART(workspace, residual);
    WO_TRY(check_frames(s, args, err));
    WO_CHECK_DISPATCH(conv);
}

size_t wo_conv_workspace(const wo_device *d, const wo_conv_args *args) {
    return WO_CHECK_HAS(d, conv_workspace) ? d->ops->conv_workspace(d, args) : 0;
}
