/* A case of the table as a call: its tensors, filled and each in front of a guard page, its arguments, and the call through ops/ on a
 * stream: of the cpu device, or where op_run_elsewhere takes it. */
#ifndef WO_TESTS_OP_CALL_H
#define WO_TESTS_OP_CALL_H

#include "base/memory.h"
#include "device/cpu/cpu.h"
#include "ops/ops.h"
#include "tests/check.h"
#include "tests/op_cases.h"

#include <math.h>

typedef struct op_call {
    const op_case *c;
    union {
#define OP_ARGS(op) wo_##op##_args op;
        WO_OP_LIST(OP_ARGS)
#undef OP_ARGS
    } a;
    wo_tensor out[2]; /* rope_table has two */
    int outs;
    wo_tensor pristine; /* IN_PLACE: what `out` held before the call */
} op_call;

static wo_device *op_device;
static wo_stream *op_stream;
static wo_error op_err;

/* --- tensors ------------------------------------------------------------------------------------------------------------------ */

enum { OP_MAX_BLOCKS = 64 };
static void *op_blocks[OP_MAX_BLOCKS];
static wo_tensor op_tensors[OP_MAX_BLOCKS]; /* as they were made */
static int op_block_count;

/* A tensor whose last byte is the last one before a guard page; all bytes 0xff. */
static inline wo_tensor op_make(wo_dtype dtype, int rank, const int64_t *shape) {
    wo_tensor t = wo_tensor_make(NULL, dtype, rank, shape);
    size_t bytes = wo_tensor_bytes(&t), pages = (bytes + 4095) / 4096 * 4096;
    CHECK(op_block_count < OP_MAX_BLOCKS);
    CHECK_OK(wo_memory_acquire_guarded(pages, "a tensor of a test", &op_blocks[op_block_count], &op_err), &op_err);
    t.data = (char *)op_blocks[op_block_count] + pages - bytes;
    op_tensors[op_block_count++] = t;
    memset(t.data, 0xff, bytes);
    return t;
}
#define OP_MAKE(dtype, ...) \
    op_make((dtype), (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]){__VA_ARGS__})

static inline void op_release_to(int kept) {
    while (op_block_count > kept)
        wo_memory_release_guarded(op_blocks[--op_block_count]);
}

static inline void op_release_all(void) {
    op_release_to(0);
}

static inline float op_get(const wo_tensor *t, int64_t i) {
    if (t->dtype == WO_F32)
        return ((const float *)t->data)[i];
    uint16_t half = ((const uint16_t *)t->data)[i];
    return t->dtype == WO_BF16 ? wo_bf16_to_f32(half) : wo_f16_to_f32(half);
}

static inline void op_set(const wo_tensor *t, int64_t i, float value) {
    if (t->dtype == WO_F32)
        ((float *)t->data)[i] = value;
    else
        ((uint16_t *)t->data)[i] = t->dtype == WO_BF16 ? wo_f32_to_bf16(value) : wo_f32_to_f16(value);
}

static uint64_t op_seed = 1;

/* Roughly normal, mean 0, variance 1. */
static inline float op_noise(void) {
    float sum = 0;
    for (int i = 0; i < 4; i++) {
        op_seed = op_seed * 6364136223846793005u + 1442695040888963407u;
        sum += (float)(op_seed >> 40) / 16777216.0f - 0.5f;
    }
    return sum * 1.7320508f;
}

static inline wo_tensor op_fill(wo_tensor t, float scale, float mean) {
    for (int64_t i = 0; i < wo_tensor_count(&t); i++)
        op_set(&t, i, mean + scale * op_noise());
    return t;
}

static inline wo_tensor op_copy(const wo_tensor *t) {
    wo_tensor copy = op_make(t->dtype, t->rank, t->shape);
    memcpy(copy.data, t->data, wo_tensor_bytes(t));
    return copy;
}

/* --- one builder for each kind of op ------------------------------------------------------------------------------------------ */

static inline void op_build_products(op_call *call) {
    const op_case *c = call->c;
    const int64_t *n = c->n;
    bool residual = (c->flags & OP_RESIDUAL) != 0, bias = (c->flags & OP_BIAS) != 0;
    if (c->op == OP_linear) {
        wo_linear_args *a = &call->a.linear;
        *a = (wo_linear_args){.x = op_fill(OP_MAKE(c->x, n[0], n[2]), 1, 0),
                              .w = op_fill(OP_MAKE(c->x, n[1], n[2]), 1 / sqrtf((float)n[2]), 0),
                              .y = OP_MAKE(c->y, n[0], n[1]),
                              .form = c->flags & OP_DOT ? WO_FORM_DOT : WO_FORM_TILE,
                              .epilogue = residual ? WO_EPILOGUE_GATE : WO_EPILOGUE_NONE};
        if (bias)
            a->bias = op_fill(OP_MAKE(WO_F32, n[1]), 1, 0);
        if (residual) {
            a->other = op_fill(a->y, 1, 0);
            a->gate = op_fill(OP_MAKE(WO_F32, 2, n[1]), 1, 0);
            a->rows_per_gate = (n[0] + 1) / 2;
        }
        call->out[0] = a->y;
        return;
    }
    int64_t up = c->flags & OP_UPSAMPLE ? 2 : 1, down = c->flags & OP_DOWNSAMPLE ? 2 : 1;
    wo_conv_args *a = &call->a.conv;
    *a = (wo_conv_args){.x_dtype = c->x, .height = n[0], .width = n[1], .channels = n[2], .out_frames = 2};
    a->kt = (int32_t)n[4];
    a->kh = a->kw = (int32_t)n[5];
    a->upsample = up == 2;
    a->downsample = down == 2;
    a->w = op_fill(OP_MAKE(c->x, n[3], n[4], n[5], n[5], n[2]), 1 / sqrtf((float)(n[4] * n[5] * n[5] * n[2])), 0);
    a->y = OP_MAKE(c->y, 2, n[0] * up / down, n[1] * up / down, n[3]);
    for (int32_t i = n[4] > 1 ? 1 : 0; i < a->out_frames + a->kt - 1; i++)
        a->frames[i] = op_fill(OP_MAKE(c->x, n[0], n[1], n[2]), 1, 0).data;
    if (bias)
        a->bias = op_fill(OP_MAKE(WO_F32, n[3]), 1, 0);
    if (residual)
        a->residual = op_fill(op_make(c->y, 4, a->y.shape), 1, 0);
    call->out[0] = a->y;
}

static inline void op_build_norms(op_call *call) {
    const op_case *c = call->c;
    const int64_t *n = c->n;
    /* A mean far from 0 is what a variance computed carelessly would not survive. */
    wo_tensor x = op_fill(OP_MAKE(c->x, n[0], n[1]), 1, c->op == OP_layer_norm && c->x == WO_F32 ? 30 : 0.2f);
    wo_tensor y = c->flags & OP_IN_PLACE ? x : OP_MAKE(c->y, n[0], n[1]);
    if (c->op == OP_layer_norm) {
        call->a.layer_norm = (wo_layer_norm_args){.x = x, .y = y, .eps = 1e-6f, .rows_per_batch = (n[0] + n[2] - 1) / n[2]};
        if (c->flags & OP_MODULATED) {
            call->a.layer_norm.scale = op_fill(OP_MAKE(WO_F32, n[2], n[1]), 0.3f, 0);
            call->a.layer_norm.shift = op_fill(OP_MAKE(WO_F32, n[2], n[1]), 1, 0);
        }
        if (c->flags & OP_BIAS) {
            call->a.layer_norm.weight = op_fill(OP_MAKE(WO_F32, n[1]), 0.3f, 1);
            call->a.layer_norm.bias = op_fill(OP_MAKE(WO_F32, n[1]), 1, 0);
        }
    } else if (c->op == OP_rms_norm) {
        call->a.rms_norm = (wo_rms_norm_args){.x = x, .y = y, .weight = op_fill(OP_MAKE(WO_F32, n[1]), 0.3f, 1), .eps = 1e-6f};
        if (c->flags & OP_ROTATED) {
            call->a.rms_norm.head_dim = n[2];
            call->a.rms_norm.cos = op_fill(OP_MAKE(WO_F32, n[3], n[2] / 2), 0.5f, 0);
            call->a.rms_norm.sin = op_fill(OP_MAKE(WO_F32, n[3], n[2] / 2), 0.5f, 0);
        }
    } else {
        call->a.l2_norm = (wo_l2_norm_args){.x = x, .y = y, .gamma = op_fill(OP_MAKE(WO_F32, n[1]), 0.3f, 1)};
        call->a.l2_norm.silu = (c->flags & OP_SILU) != 0;
    }
    call->out[0] = y;
}

static inline void op_build_attention(op_call *call) {
    const op_case *c = call->c;
    const int64_t *n = c->n;
    wo_attention_args *a = &call->a.attention;
    *a = (wo_attention_args){.q = op_fill(OP_MAKE(c->x, n[0], n[2], n[3]), 2, 0),
                             .k = op_fill(OP_MAKE(c->x, n[1], n[2], n[3]), 1, 0.2f),
                             .v = op_fill(OP_MAKE(c->x, n[1], n[2], n[3]), 1, 0.2f),
                             .o = OP_MAKE(c->y, n[0], n[2], n[3]),
                             .scale = (c->flags & OP_NEGATIVE_SCALE ? -1.0f : 1.0f) * (c->flags & OP_STEEP ? 40.0f : 1.0f) / sqrtf((float)n[3]),
                             .last_key_bias = c->flags & OP_LAST_KEY ? 2.5f : 0.0f,
                             .max_distance = 128};
    if (c->flags & OP_RELATIVE)
        a->relative = op_fill(OP_MAKE(WO_F32, 32, n[2]), 1, 0);
    call->out[0] = a->o;
}

static inline void op_build_layouts(op_call *call) {
    const op_case *c = call->c;
    const int64_t *n = c->n;
    int64_t patches = n[1] * (n[2] / 2) * (n[3] / 2);
    if (c->op == OP_patchify) {
        call->a.patchify.latents = op_fill(OP_MAKE(WO_F32, n[0], n[1], n[2], n[3]), 1, 0);
        call->out[0] = call->a.patchify.rows = OP_MAKE(c->y, patches, 4 * n[0]);
    } else if (c->op == OP_unpatchify) {
        call->a.unpatchify.rows = op_fill(OP_MAKE(c->x, patches, 4 * n[0]), 1, 0);
        call->out[0] = call->a.unpatchify.latents = OP_MAKE(WO_F32, n[0], n[1], n[2], n[3]);
    } else {
        call->a.channels_last.x = op_fill(OP_MAKE(WO_F32, n[0], n[1], n[2], n[3]), 1, 0);
        call->out[0] = call->a.channels_last.y = OP_MAKE(c->y, n[1], n[2], n[3], n[0]);
    }
}

static inline void op_build_others(op_call *call) {
    const op_case *c = call->c;
    const int64_t *n = c->n;
    if (c->op == OP_embedding) {
        wo_embedding_args *a = &call->a.embedding;
        *a = (wo_embedding_args){.table = op_fill(OP_MAKE(c->x, n[1], n[2]), 1, 0), .ids = OP_MAKE(WO_I32, n[0]), .y = OP_MAKE(c->y, n[0], n[2])};
        for (int64_t i = 0; i < n[0]; i++)
            ((int32_t *)a->ids.data)[i] = (int32_t)((i * 7 + n[1] - 1) % n[1]);
        call->out[0] = a->y;
    } else if (c->op == OP_rope_table) {
        wo_rope_table_args *a = &call->a.rope_table;
        *a = (wo_rope_table_args){.frames = n[0], .height = n[1], .width = n[2], .head_dim = n[3]};
        call->out[0] = a->cos = OP_MAKE(WO_F32, n[0] * n[1] * n[2], n[3] / 2);
        call->out[1] = a->sin = OP_MAKE(WO_F32, n[0] * n[1] * n[2], n[3] / 2);
        call->outs = 2;
    } else if (c->op == OP_sinusoid) {
        call->a.sinusoid = (wo_sinusoid_args){.y = OP_MAKE(c->y, n[0]), .t = (float)n[1]};
        call->out[0] = call->a.sinusoid.y;
    } else if (c->op == OP_add) {
        call->a.add.a = op_fill(OP_MAKE(WO_F32, n[0], n[1]), 1, 0);
        call->a.add.b = op_fill(OP_MAKE(WO_F32, n[2], n[1]), 1, 0);
        call->out[0] = call->a.add.y = c->flags & OP_IN_PLACE ? call->a.add.a : OP_MAKE(WO_F32, n[0], n[1]);
    } else {
        call->a.unary.kind = (wo_unary_kind)n[1];
        call->a.unary.x = op_fill(OP_MAKE(c->x, n[0]), 2, 0);
        call->out[0] = call->a.unary.y = c->flags & OP_IN_PLACE ? call->a.unary.x : OP_MAKE(c->y, n[0]);
    }
}

static inline op_call op_build(const op_case *c) {
    op_call call = {.c = c, .outs = 1};
    switch (c->op) {
    case OP_linear:
    case OP_conv:
        op_build_products(&call);
        break;
    case OP_layer_norm:
    case OP_rms_norm:
    case OP_l2_norm:
        op_build_norms(&call);
        break;
    case OP_attention:
        op_build_attention(&call);
        break;
    case OP_patchify:
    case OP_unpatchify:
    case OP_channels_last:
        op_build_layouts(&call);
        break;
    default:
        op_build_others(&call);
    }
    if (c->flags & OP_IN_PLACE)
        call.pristine = op_copy(&call.out[0]);
    return call;
}

/* --- running ------------------------------------------------------------------------------------------------------------------ */

static inline wo_status op_enqueue(const op_call *call, wo_error *err) {
    switch (call->c->op) {
#define OP_ENQUEUE(op) \
    case OP_##op:      \
        return wo_##op(op_stream, &call->a.op, err);
        WO_OP_LIST(OP_ENQUEUE)
#undef OP_ENQUEUE
    case OP_KINDS:
        break;
    }
    return WO_EINTERNAL;
}

/* Set by the test of a device whose memory the host cannot see: runs a call, whose tensors are here, there. */
static void (*op_run_elsewhere)(op_call *call);

/* Outputs start as NaN, or as the pristine input; returns when they are there. Workspaces depend on the instruction set. */
static inline void op_run(op_call *call) {
    for (int i = 0; i < call->outs; i++)
        memset(call->out[i].data, 0xff, wo_tensor_bytes(&call->out[i]));
    if (call->pristine.data != NULL)
        memcpy(call->out[0].data, call->pristine.data, wo_tensor_bytes(&call->out[0]));
    if (op_run_elsewhere != NULL) {
        op_run_elsewhere(call);
        return;
    }
    if (call->c->op == OP_attention) {
        size_t bytes = wo_attention_workspace(op_device, &call->a.attention);
        call->a.attention.workspace = bytes > 0 ? OP_MAKE(WO_U8, (int64_t)bytes) : (wo_tensor){0};
    }
    CHECK_OK(op_enqueue(call, &op_err), &op_err);
    CHECK_OK(op_device->stream->sync(op_stream, &op_err), &op_err);
}

static inline void op_open(void) {
    CHECK_OK(wo_device_open("cpu", &op_device, &op_err), &op_err);
    CHECK_OK(op_device->stream->create(op_device, "compute", &op_stream, &op_err), &op_err);
}

static inline void op_close(void) {
    op_release_all();
    op_device->stream->destroy(op_stream);
    wo_device_close(op_device);
}

/* A table at rest may have any dtype of weights. */
static inline bool op_device_has(const op_case *c) {
    return wo_device_computes(op_device, c->y) && (wo_device_computes(op_device, c->x) || c->op == OP_embedding);
}

static inline const char *op_name(op_kind op) {
    static const char *const names[] = {
#define OP_NAME(op) [OP_##op] = #op,
        WO_OP_LIST(OP_NAME)
#undef OP_NAME
    };
    return names[op];
}

static inline void op_describe(const op_case *c, char *buffer, size_t bytes) {
    snprintf(buffer, bytes, "%s %lld %lld %lld %lld, %s to %s, flags %u", op_name(c->op), (long long)c->n[0], (long long)c->n[1],
             (long long)c->n[2], (long long)c->n[3], wo_dtype_name(c->x), wo_dtype_name(c->y), c->flags);
}

#endif
