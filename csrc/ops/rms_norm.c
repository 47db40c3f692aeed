#include "ops/check.h"

#define OP "rms_norm"

static wo_status check_rotation(const wo_rms_norm_args *args, wo_error *err) {
    WO_CHECK_TENSOR(cos, 2, WO_IS_F32);
    WO_CHECK_TENSOR(sin, 2, WO_IS_F32);
    WO_CHECK_RULE(wo_check_same_shape(&args->cos, &args->sin), "sin must have the shape of cos", sin, cos);
    if (args->head_dim < 2 || args->head_dim % 2 != 0)
        WO_FAIL(err, WO_EINTERNAL, OP ": head_dim must be even, but is %lld", (long long)args->head_dim);
    WO_CHECK_RULE(args->cos.shape[1] == args->head_dim / 2, "cos must have half of head_dim columns", cos, x);
    WO_CHECK_RULE(args->x.shape[1] % args->head_dim == 0, "x must be a whole number of heads wide", x, cos);
    WO_CHECK_APART(y, cos);
    WO_CHECK_APART(y, sin);
    return WO_OK;
}

wo_status wo_rms_norm(wo_stream *s, const wo_rms_norm_args *args, wo_error *err) {
    WO_CHECK_TENSOR(x, 2, WO_IS_COMPUTE);
    WO_CHECK_TENSOR(weight, 1, WO_IS_F32);
    WO_CHECK_TENSOR(y, 2, WO_IS_COMPUTE);
    WO_CHECK_RULE(args->weight.shape[0] == args->x.shape[1], "weight must have the width of x", weight, x);
    WO_CHECK_NOT_MIXED(y, x);
    WO_CHECK_RULE(wo_check_same_shape(&args->y, &args->x), "y must have the shape of x", y, x);
    WO_CHECK_RULE(wo_check_apart_or_same(&args->y, &args->x), "y must be x itself, in the same dtype, or apart from it", y, x);
    WO_CHECK_APART(y, weight);
    if (wo_check_given(&args->cos) || wo_check_given(&args->sin))
        WO_TRY(check_rotation(args, err));
    if (!(args->eps >= 0.0f))
        WO_FAIL(err, WO_EINTERNAL, OP ": eps must not be negative, but is %g", (double)args->eps);
    WO_CHECK_DISPATCH(rms_norm);
}
