/* What an operation would have been: a count from the shapes of its arguments. */
#include "device/dry/work.h"

static wo_work *work_of(wo_stream *s) {
    return &((wo_dry_stream *)s)->work;
}

/* For the operation that is being enqueued. */
static wo_work *count(wo_stream *s) {
    work_of(s)->operations++;
    return work_of(s);
}

static int kind_of(wo_dtype a, wo_dtype b) {
    return a == b && a != WO_F32 ? WO_WORK_HALF : WO_WORK_F32;
}

/* Bytes of a tensor that is there; an optional one may not be. */
static double bytes_of(const wo_tensor *t) {
    return t->data != NULL ? (double)wo_tensor_bytes(t) : 0;
}

static void move(wo_stream *s, const wo_tensor *a, const wo_tensor *b, const wo_tensor *c) {
    count(s)->other_bytes += bytes_of(a) + bytes_of(b) + bytes_of(c);
}

static wo_status linear(wo_stream *s, const wo_linear_args *args, wo_error *err) {
    (void)err;
    double rows = (double)args->x.shape[0], columns = (double)args->w.shape[0], depth = (double)args->x.shape[1];
    count(s)->products[kind_of(args->x.dtype, args->w.dtype)] += 2 * rows * columns * depth;
    return WO_OK;
}

static wo_status attention(wo_stream *s, const wo_attention_args *args, wo_error *err) {
    (void)err;
    double width = (double)args->q.shape[1] * (double)args->q.shape[2];
    count(s)->attention[kind_of(args->q.dtype, args->k.dtype)] += 4 * (double)args->q.shape[0] * (double)args->k.shape[0] * width;
    return WO_OK;
}

/* Taps that meet a frame of zeros are skipped. */
static wo_status conv(wo_stream *s, const wo_conv_args *args, wo_error *err) {
    (void)err;
    const wo_tensor *y = &args->y;
    double taps = 0;
    for (int32_t t = 0; t < args->out_frames; t++)
        for (int32_t dt = 0; dt < args->kt; dt++)
            taps += args->frames[t + dt] != NULL;
    double frame = (double)y->shape[1] * (double)y->shape[2] * (double)y->shape[3];
    double each = 2 * frame * (double)args->channels * args->kh * args->kw;
    count(s)->convolutions[kind_of(args->x_dtype, args->w.dtype)] += taps * each;
    return WO_OK;
}

/* X(op, three tensors that it reads or writes) */
static const wo_tensor NONE;
#define MOVING_LIST(X)                                        \
    X(embedding, &args->y, &args->y, &args->ids)              \
    X(layer_norm, &args->x, &args->y, &NONE)                  \
    X(rms_norm, &args->x, &args->y, &NONE)                    \
    X(l2_norm, &args->x, &args->y, &NONE)                     \
    X(rope_table, &args->cos, &args->sin, &NONE)              \
    X(patchify, &args->latents, &args->rows, &NONE)           \
    X(unpatchify, &args->rows, &args->latents, &NONE)         \
    X(sinusoid, &args->y, &NONE, &NONE)                       \
    X(add, &args->a, &args->b, &args->y)                      \
    X(unary, &args->x, &args->y, &NONE)                       \
    X(channels_last, &args->x, &args->y, &NONE)
#define MOVING(op, a, b, c)                                                            \
    static wo_status op(wo_stream *s, const wo_##op##_args *args, wo_error *err) {     \
        (void)err;                                                                     \
        move(s, a, b, c);                                                              \
        return WO_OK;                                                                  \
    }
MOVING_LIST(MOVING)
#undef MOVING

static size_t attention_workspace(const wo_device *d, const wo_attention_args *args) {
    (void)d, (void)args;
    return 0;
}

static size_t conv_workspace(const wo_device *d, const wo_conv_args *args) {
    (void)d, (void)args;
    return 0;
}

static size_t linear_workspace(const wo_device *d, const wo_linear_args *args) {
    (void)d, (void)args;
    return 0;
}

const wo_ops_api wo_dry_ops = {
    .version = WO_DEVICE_ABI,
    .size = sizeof(wo_ops_api),
    .computes = 1u << WO_F32 | 1u << WO_BF16 | 1u << WO_F16, /* those of any device that a model is planned for */
    .rows_apart = 1u << WO_OP_linear | 1u << WO_OP_attention,
#define ENTRY(op) .op = op,
    WO_OP_LIST(ENTRY)
#undef ENTRY
    .attention_workspace = attention_workspace,
    .conv_workspace = conv_workspace,
    .linear_workspace = linear_workspace,
};

wo_work wo_dry_take_work(wo_stream *s) {
    wo_work found = *work_of(s);
    *work_of(s) = (wo_work){.other_bytes = 0};
    return found;
}
