/* Attention by cuDNN: one SDPA node, whose tensors have any strides, so tokens stay as the model has them, [S, H, D].
 *
 * The engine is the one made for the card's generation. Knobs are asked for as if there were as many queries as keys, as in self-attention, so
 * that a query's bits do not hang on how many come with it.
 */
#include "device/cuda/cudnn.h"

#include <inttypes.h>
#include <stdio.h>

#define OP "attention"

enum { Q = 1, K, V, O, SCALE };

/* Engines of the SDPA node by card, the same from cuDNN 9.15 to 9.28; -1: none, or none that was tried. */
static int64_t engine_of(int sm) {
    switch (sm) {
    case 80:
    case 86:
    case 89:
        return 8;
    case 90:
        return 9;
    case 100:
        return 10;
    case 120:
        return 11;
    default:
        return -1;
    }
}

/* [tokens, heads, head_dim] seen as [1, heads, tokens, head_dim]. */
static wo_dnn_desc make_operand(wo_dnn_builder *b, int64_t id, const wo_dnn_attention_shape *s, int64_t tokens) {
    const int64_t row = s->heads * s->head_dim;
    const wo_dnn_tensor t = {.id = id, .type = wo_dnn_type_of(s->dtype), .rank = 4, .dims = {1, s->heads, tokens, s->head_dim},
                             .strides = {tokens * row, s->head_dim, row, 1}};
    return wo_dnn_make_tensor(b, &t);
}

static wo_dnn_desc make_graph(wo_dnn_builder *b, const void *shape) {
    const wo_dnn_attention_shape *s = shape;
    const wo_dnn_tensor scale = {.id = SCALE, .type = WO_DNN_FLOAT, .rank = 4, .dims = {1, 1, 1, 1}, .strides = {1, 1, 1, 1}, .is_by_value = true};
    wo_dnn_desc q = make_operand(b, Q, s, s->queries), k = make_operand(b, K, s, s->keys), v = make_operand(b, V, s, s->keys);
    wo_dnn_desc o = make_operand(b, O, s, s->queries), factor = wo_dnn_make_tensor(b, &scale);
    wo_dnn_desc attention = wo_dnn_new(b, WO_DNN_OPERATION_SDPA_FWD);
    wo_dnn_set_desc(b, attention, WO_DNN_SDPA_FWD_Q, q);
    wo_dnn_set_desc(b, attention, WO_DNN_SDPA_FWD_K, k);
    wo_dnn_set_desc(b, attention, WO_DNN_SDPA_FWD_V, v);
    wo_dnn_set_desc(b, attention, WO_DNN_SDPA_FWD_O, o);
    wo_dnn_set_desc(b, attention, WO_DNN_SDPA_FWD_SCALE, factor);
    wo_dnn_finish(b, attention);
    return wo_dnn_make_graph(b, 1, &attention);
}

bool wo_dnn_attention_problem(int sm, const wo_attention_args *a, wo_dnn_problem *p, wo_dnn_attention_shape shapes[2]) {
    const int64_t head_dim = a->q.shape[2];
    if (engine_of(sm) < 0 || a->q.dtype == WO_F32 || a->o.dtype != a->q.dtype || a->relative.data != NULL || a->last_key_bias != 0.0f ||
        (head_dim != 64 && head_dim != 128))
        return false;
    shapes[0] = (wo_dnn_attention_shape){.dtype = a->q.dtype, .queries = a->q.shape[0], .keys = a->k.shape[0], .heads = a->q.shape[1],
                                         .head_dim = head_dim};
    shapes[1] = shapes[0];
    shapes[1].queries = shapes[0].keys;
    *p = (wo_dnn_problem){.engine = engine_of(sm), .graph = make_graph, .shape = &shapes[0], .canonical = &shapes[1]};
    snprintf(p->name, sizeof p->name, "attention %s queries %" PRId64 " keys %" PRId64 " heads %" PRId64 " head_dim %" PRId64,
             wo_dnn_name_of(shapes[0].dtype), shapes[0].queries, shapes[0].keys, shapes[0].heads, shapes[0].head_dim);
    return true;
}

bool wo_cudnn_takes_attention(const wo_cuda_device *d, const wo_attention_args *args) {
    wo_dnn_attention_shape shapes[2];
    wo_dnn_problem problem;
    wo_dnn *dnn = wo_cuda_dnn_of(d);
    if ((dnn == NULL && !wo_cuda_vendor_is_supposed(d)) || !wo_dnn_attention_problem(d->properties.sm, args, &problem, shapes))
        return false;
    return dnn == NULL || wo_dnn_find(dnn, &problem) != NULL;
}

size_t wo_cudnn_attention_workspace(const wo_cuda_device *d, const wo_attention_args *args) {
    (void)d, (void)args;
    return WO_DNN_WORKSPACE;
}

wo_status wo_cudnn_attention(wo_stream *s, const wo_attention_args *args, wo_error *err) {
    wo_cuda_device *d = wo_cuda_of(s);
    wo_dnn_attention_shape shapes[2];
    wo_dnn_problem problem;
    float scale = args->scale;
    wo_dnn_run run = {.op = OP, .count = 5, .ids = {Q, K, V, O, SCALE},
                      .pointers = {args->q.data, args->k.data, args->v.data, args->o.data, &scale}, .workspace = args->workspace.data};
    if (wo_dnn_attention_problem(d->properties.sm, args, &problem, shapes))
        run.plan = wo_dnn_find(wo_cuda_dnn_of(d), &problem);
    if (run.plan == NULL)
        WO_FAIL(err, WO_EINTERNAL, OP ": cuDNN was given a call that it does not take");
    for (int i = 0; i < 4; i++)
        if ((uintptr_t)run.pointers[i] % 16 != 0)
            WO_FAIL(err, WO_EINTERNAL, OP ": q, k, v and o must lie at multiples of 16 bytes, but one is at %p", run.pointers[i]);
    return wo_dnn_enqueue(s, &run, err);
}
