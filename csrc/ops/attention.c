#include "ops/check.h"

#include <math.h>

#define OP "attention"

/* A device may hold a few rows of this length in scratch of its own. */
enum { MAX_HEAD_DIM = 65536 };

static wo_status check_relative(const wo_attention_args *args, wo_error *err) {
    WO_CHECK_TENSOR(relative, 2, WO_IS_F32);
    WO_CHECK_RULE(args->relative.shape[1] == args->q.shape[1], "relative must have a column for each head", relative, q);
    int64_t buckets = args->relative.shape[0];
    /* Half of the buckets are for each direction, and half of those count single steps; the rest spread up to max_distance. */
    WO_CHECK_RULE(buckets >= 4 && buckets % 2 == 0, "relative must have an even number of buckets, at least 4", relative, q);
    if (args->max_distance <= buckets / 4)
        WO_FAIL(err, WO_EINTERNAL, OP ": max_distance must exceed %lld, a quarter of the buckets, but is %d",
                (long long)(buckets / 4), (int)args->max_distance);
    WO_CHECK_APART(o, relative);
    return WO_OK;
}

wo_status wo_attention(wo_stream *s, const wo_attention_args *args, wo_error *err) {
    WO_CHECK_TENSOR(q, 3, WO_IS_COMPUTE);
    WO_CHECK_TENSOR(k, 3, WO_IS_COMPUTE);
    WO_CHECK_TENSOR(v, 3, WO_IS_COMPUTE);
    WO_CHECK_TENSOR(o, 3, WO_IS_COMPUTE);
    WO_CHECK_RULE(args->k.dtype == args->q.dtype, "q and k must have one dtype", k, q);
    WO_CHECK_RULE(args->v.dtype == args->q.dtype, "q and v must have one dtype", v, q);
    WO_CHECK_RULE(args->o.dtype == args->q.dtype || args->o.dtype == WO_F32, "o must be float32 or have the dtype of q", o, q);
    WO_CHECK_RULE(wo_check_same_shape(&args->o, &args->q), "o must have the shape of q", o, q);
    WO_CHECK_RULE(wo_check_same_shape(&args->k, &args->v), "k and v must have one shape", k, v);
    WO_CHECK_RULE(args->k.shape[1] == args->q.shape[1] && args->k.shape[2] == args->q.shape[2],
                  "k must have the heads and the head_dim of q", k, q);
    WO_CHECK_APART(o, q);
    WO_CHECK_APART(o, k);
    WO_CHECK_APART(o, v);
    WO_CHECK_RULE(args->q.shape[2] <= MAX_HEAD_DIM, "head_dim must be at most 65536", q, o);
    if (!isfinite(args->scale) || !isfinite(args->last_key_bias))
        WO_FAIL(err, WO_EINTERNAL, OP ": scale and last_key_bias must be finite, but are %g and %g", (double)args->scale,
                (double)args->last_key_bias);
    if (wo_check_given(&args->relative))
        WO_TRY(check_relative(args, err));
    WO_TRY(wo_check_workspace(err, OP, &args->workspace, wo_attention_workspace(s->device, args)));
    WO_CHECK_APART(workspace, o);
    WO_CHECK_APART(workspace, q);
    WO_CHECK_APART(workspace, k);
    WO_CHECK_APART(workspace, v);
    WO_CHECK_DISPATCH(attention);
}

size_t wo_attention_workspace(const wo_device *d, const wo_attention_args *args) {
    return WO_CHECK_HAS(d, attention_workspace) ? d->ops->attention_workspace(d, args) : 0;
}
