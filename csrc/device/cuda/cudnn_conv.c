/* Convolution by cuDNN, for wide layers on cards whose matrix instructions own kernels do not use.
 *
 * cuDNN wants the frames of a call in one piece, and the model has them in a ring of slots, so they are gathered into the workspace first (unless they
 * happen to lie in order): 4 bytes moved for each 16-bit element of each frame. With kt frames in, one out and N channels out that is
 * N * kh * kw / 2 flops a byte. An H200 computes 206 flops in the time that it moves a byte, an H100 295, a B200 281. At N = 384, 3x3x3: 1,728, so gathering
 * costs an eighth (H200) to a sixth (H100) of the ideal time of the products; at N = 96 it would be half, and take 230 MB at 832x480. Own kernels read
 * frames where they are. They lack the instructions of sm_90 and sm_100 and take up to 1.6 times as long there, which pays for the gathering of wide
 * layers only: a call is taken from 1,000 flops a byte on. On sm_80, 86, 89 and 120 cuDNN's fused kernels use the same instructions as ours, and in float32
 * so they do on every card, so that gathering would be lost. A frame doubled before the product would have four times the bytes, and one
 * halved behind it has a quarter of the flops: both are left to own kernels.
 *
 * y = conv + bias + residual in float32, in one kernel; where there is no residual y is zeroed and added, a few percent, so that both calls of a residual
 * block run the same plan.
 */
#include "device/cuda/cudnn.h"

#include <inttypes.h>
#include <stdio.h>

#define OP "conv"

enum { X = 1, W, B, R, Y, PRODUCT, BIASED };
enum { LEAST_FLOPS_PER_BYTE = 1000, LEAST_CHANNELS = 64 };

/* Engines of conv + bias + residual that use the card's own instructions. Some versions' heuristics do not have the one for sm_90; then own kernels
 * run. -1: none. */
static int64_t engine_of(int sm) {
    return sm == 90 ? 4 : sm == 100 ? 9 : -1;
}

/* ---- the graph: tensors are [1, C, D, H, W] in cuDNN's order of axes, with channels innermost in memory ---- */

static wo_dnn_tensor tensor_of(int64_t id, int type, int64_t n, int64_t c, const int64_t space[3]) {
    return (wo_dnn_tensor){.id = id, .type = type, .rank = 5, .dims = {n, c, space[0], space[1], space[2]},
                           .strides = {c * space[0] * space[1] * space[2], 1, c * space[1] * space[2], c * space[2], c}};
}

static wo_dnn_desc make_convolution(wo_dnn_builder *b, const wo_dnn_conv_shape *s) {
    const int32_t precision = WO_DNN_FLOAT, mode = WO_DNN_CROSS_CORRELATION;
    const int64_t ones[3] = {1, 1, 1}, padding[3] = {0, (s->kh - 1) / 2, (s->kw - 1) / 2};
    wo_dnn_desc desc = wo_dnn_new(b, WO_DNN_CONVOLUTION);
    wo_dnn_set_int(b, desc, WO_DNN_CONVOLUTION_SPATIAL_DIMS, 3);
    wo_dnn_set(b, desc, WO_DNN_CONVOLUTION_COMP_TYPE, WO_DNN_TYPE_DATA_TYPE, 1, &precision);
    wo_dnn_set(b, desc, WO_DNN_CONVOLUTION_CONV_MODE, WO_DNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    wo_dnn_set(b, desc, WO_DNN_CONVOLUTION_DILATIONS, WO_DNN_TYPE_INT64, 3, ones);
    wo_dnn_set(b, desc, WO_DNN_CONVOLUTION_FILTER_STRIDES, WO_DNN_TYPE_INT64, 3, ones);
    wo_dnn_set(b, desc, WO_DNN_CONVOLUTION_PRE_PADDINGS, WO_DNN_TYPE_INT64, 3, padding);
    wo_dnn_set(b, desc, WO_DNN_CONVOLUTION_POST_PADDINGS, WO_DNN_TYPE_INT64, 3, padding);
    wo_dnn_finish(b, desc);
    return desc;
}

static wo_dnn_desc make_product(wo_dnn_builder *b, const wo_dnn_conv_shape *s, const wo_dnn_tensor *product) {
    const int64_t space[3] = {s->frames, s->height, s->width}, taps[3] = {s->kt, s->kh, s->kw};
    const int type = wo_dnn_type_of(s->dtype);
    const wo_dnn_tensor x = tensor_of(X, type, 1, s->channels, space), w = tensor_of(W, type, s->out_channels, s->channels, taps);
    const float one = 1.0f, zero = 0.0f;
    wo_dnn_desc operation = wo_dnn_new(b, WO_DNN_OPERATION_CONVOLUTION_FORWARD);
    wo_dnn_set(b, operation, WO_DNN_CONVOLUTION_FORWARD_ALPHA, WO_DNN_TYPE_FLOAT, 1, &one);
    wo_dnn_set(b, operation, WO_DNN_CONVOLUTION_FORWARD_BETA, WO_DNN_TYPE_FLOAT, 1, &zero);
    wo_dnn_set_desc(b, operation, WO_DNN_CONVOLUTION_FORWARD_CONV_DESC, make_convolution(b, s));
    wo_dnn_set_desc(b, operation, WO_DNN_CONVOLUTION_FORWARD_X, wo_dnn_make_tensor(b, &x));
    wo_dnn_set_desc(b, operation, WO_DNN_CONVOLUTION_FORWARD_W, wo_dnn_make_tensor(b, &w));
    wo_dnn_set_desc(b, operation, WO_DNN_CONVOLUTION_FORWARD_Y, wo_dnn_make_tensor(b, product));
    wo_dnn_finish(b, operation);
    return operation;
}

static wo_dnn_desc make_sum(wo_dnn_builder *b, const wo_dnn_tensor *x, const wo_dnn_tensor *added, const wo_dnn_tensor *y) {
    const int32_t precision = WO_DNN_FLOAT, mode = WO_DNN_POINTWISE_ADD;
    wo_dnn_desc add = wo_dnn_new(b, WO_DNN_POINTWISE), operation = wo_dnn_new(b, WO_DNN_OPERATION_POINTWISE);
    wo_dnn_set(b, add, WO_DNN_POINTWISE_MODE, WO_DNN_TYPE_POINTWISE_MODE, 1, &mode);
    wo_dnn_set(b, add, WO_DNN_POINTWISE_MATH_PREC, WO_DNN_TYPE_DATA_TYPE, 1, &precision);
    wo_dnn_finish(b, add);
    wo_dnn_set_desc(b, operation, WO_DNN_OPERATION_POINTWISE_PW, add);
    wo_dnn_set_desc(b, operation, WO_DNN_OPERATION_POINTWISE_X, wo_dnn_make_tensor(b, x));
    wo_dnn_set_desc(b, operation, WO_DNN_OPERATION_POINTWISE_B, wo_dnn_make_tensor(b, added));
    wo_dnn_set_desc(b, operation, WO_DNN_OPERATION_POINTWISE_Y, wo_dnn_make_tensor(b, y));
    wo_dnn_finish(b, operation);
    return operation;
}

static wo_dnn_desc make_graph(wo_dnn_builder *b, const void *shape) {
    const wo_dnn_conv_shape *s = shape;
    const int64_t space[3] = {s->frames - s->kt + 1, s->height, s->width}, point[3] = {1, 1, 1};
    wo_dnn_tensor product = tensor_of(PRODUCT, WO_DNN_FLOAT, 1, s->out_channels, space), biased = product, y = product, residual = product;
    const wo_dnn_tensor bias = tensor_of(B, WO_DNN_FLOAT, 1, s->out_channels, point);
    product.is_virtual = biased.is_virtual = true;
    biased.id = BIASED;
    residual.id = R;
    y.id = Y;
    const wo_dnn_desc operations[3] = {make_product(b, s, &product), make_sum(b, &product, &bias, &biased), make_sum(b, &biased, &residual, &y)};
    return wo_dnn_make_graph(b, 3, operations);
}

/* ---- which calls ---- */

bool wo_dnn_conv_problem(int sm, const wo_conv_args *a, wo_dnn_problem *p, wo_dnn_conv_shape *s) {
    const int64_t frames = a->out_frames + a->kt - 1, columns = a->w.shape[0];
    const int64_t flops = 2 * a->out_frames * columns * a->kt * a->kh * a->kw, bytes = 4 * frames; /* for each position and channel in */
    if (engine_of(sm) < 0 || a->x_dtype == WO_F32 || a->w.dtype != a->x_dtype || a->y.dtype != WO_F32 || a->upsample || a->downsample)
        return false;
    if (a->channels % 8 != 0 || columns % 8 != 0 || a->channels < LEAST_CHANNELS || flops / bytes < LEAST_FLOPS_PER_BYTE)
        return false;
    *s = (wo_dnn_conv_shape){.dtype = a->x_dtype, .frames = frames, .height = a->height, .width = a->width, .channels = a->channels,
                             .out_channels = columns, .kt = a->kt, .kh = a->kh, .kw = a->kw};
    *p = (wo_dnn_problem){.engine = engine_of(sm), .graph = make_graph, .shape = s, .canonical = s};
    snprintf(p->name, sizeof p->name, "conv %s to f32 %" PRId64 "x%" PRId64 "x%" PRId64 " channels %" PRId64 " to %" PRId64 " taps %dx%dx%d",
             wo_dnn_name_of(s->dtype), frames, s->height, s->width, s->channels, columns, (int)a->kt, (int)a->kh, (int)a->kw);
    return true;
}

bool wo_cudnn_takes_conv(const wo_cuda_device *d, const wo_conv_args *args) {
    wo_dnn_conv_shape shape;
    wo_dnn_problem problem;
    wo_dnn *dnn = wo_cuda_dnn_of(d);
    if ((dnn == NULL && !wo_cuda_vendor_is_supposed(d)) || !wo_dnn_conv_problem(d->properties.sm, args, &problem, &shape))
        return false;
    return dnn == NULL || wo_dnn_find(dnn, &problem) != NULL;
}

/* ---- running ---- */

static size_t frame_bytes(const wo_conv_args *a) {
    return (size_t)(a->height * a->width * a->channels) * wo_dtype_size(a->x_dtype);
}

static size_t gathered_bytes(const wo_conv_args *a) {
    return ((size_t)(a->out_frames + a->kt - 1) * frame_bytes(a) + 255) / 256 * 256;
}

/* cuDNN's, the frames, and a bias of zeros for calls without one. */
size_t wo_cudnn_conv_workspace(const wo_cuda_device *d, const wo_conv_args *args) {
    (void)d;
    return WO_DNN_WORKSPACE + gathered_bytes(args) + (size_t)args->w.shape[0] * sizeof(float);
}

static bool lie_in_order(const wo_conv_args *a) {
    for (int32_t i = 0; i < a->out_frames + a->kt - 1; i++)
        if (a->frames[i] == NULL || (const char *)a->frames[i] != (const char *)a->frames[0] + (size_t)i * frame_bytes(a))
            return false;
    return true;
}

/* Device memory that is only read is handed to cuDNN without its const. */
static void *unconst(const void *p) {
    return (void *)(uintptr_t)p;
}

static wo_status gather(wo_stream *s, const wo_conv_args *a, void **x, wo_error *err) {
    const wo_stream_api *stream = s->device->stream;
    *x = unconst(a->frames[0]);
    if (lie_in_order(a))
        return WO_OK;
    *x = (char *)a->workspace.data + WO_DNN_WORKSPACE;
    for (int32_t i = 0; i < a->out_frames + a->kt - 1; i++) {
        char *to = (char *)*x + (size_t)i * frame_bytes(a);
        if (a->frames[i] == NULL)
            WO_TRY(stream->zero(s, to, frame_bytes(a), err));
        else
            WO_TRY(stream->copy(s, to, a->frames[i], frame_bytes(a), err));
    }
    return WO_OK;
}

/* Zeros where there is no bias or residual. */
static wo_status find_addends(wo_stream *s, const wo_conv_args *a, void **bias, void **residual, wo_error *err) {
    *bias = a->bias.data;
    *residual = a->residual.data;
    if (*bias == NULL) {
        *bias = (char *)a->workspace.data + WO_DNN_WORKSPACE + gathered_bytes(a);
        WO_TRY(s->device->stream->zero(s, *bias, (size_t)a->w.shape[0] * sizeof(float), err));
    }
    if (*residual == NULL) {
        *residual = a->y.data;
        WO_TRY(s->device->stream->zero(s, *residual, wo_tensor_bytes(&a->y), err));
    }
    return WO_OK;
}

wo_status wo_cudnn_conv(wo_stream *s, const wo_conv_args *args, wo_error *err) {
    wo_cuda_device *d = wo_cuda_of(s);
    wo_dnn_conv_shape shape;
    wo_dnn_problem problem;
    wo_dnn_run run = {.op = OP, .count = 5, .ids = {X, W, B, R, Y}, .workspace = args->workspace.data};
    if (wo_dnn_conv_problem(d->properties.sm, args, &problem, &shape))
        run.plan = wo_dnn_find(wo_cuda_dnn_of(d), &problem);
    if (run.plan == NULL)
        WO_FAIL(err, WO_EINTERNAL, OP ": cuDNN was given a call that it does not take");
    WO_TRY(gather(s, args, &run.pointers[0], err));
    run.pointers[1] = args->w.data;
    WO_TRY(find_addends(s, args, &run.pointers[2], &run.pointers[3], err));
    run.pointers[4] = args->y.data;
    for (int i = 0; i < run.count; i++)
        if ((uintptr_t)run.pointers[i] % 16 != 0)
            WO_FAIL(err, WO_EINTERNAL, OP ": frames, w, bias, residual and y must lie at multiples of 16 bytes, but one is at %p", run.pointers[i]);
    return wo_dnn_enqueue(s, &run, err);
}
