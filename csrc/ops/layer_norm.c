#include "ops/check.h"

#define OP "layer_norm"

static wo_status check_modulation(const wo_layer_norm_args *args, wo_error *err) {
    WO_CHECK_TENSOR(scale, 2, WO_IS_F32);
    WO_CHECK_TENSOR(shift, 2, WO_IS_F32);
    WO_CHECK_RULE(args->scale.shape[1] == args->x.shape[1], "scale must have the width of x", scale, x);
    WO_CHECK_RULE(wo_check_same_shape(&args->scale, &args->shift), "shift must have the shape of scale", shift, scale);
    if (args->rows_per_batch < 1)
        WO_FAIL(err, WO_EINTERNAL, OP ": rows_per_batch must be at least 1, but is %lld", (long long)args->rows_per_batch);
    WO_CHECK_RULE((args->x.shape[0] - 1) / args->rows_per_batch < args->scale.shape[0],
                  "scale must have a row for every rows_per_batch rows of x", scale, x);
    WO_CHECK_RULE(!wo_check_given(&args->weight), "either scale or weight may be given", scale, weight);
    WO_CHECK_APART(y, scale);
    WO_CHECK_APART(y, shift);
    return WO_OK;
}

static wo_status check_affine(const wo_layer_norm_args *args, wo_error *err) {
    WO_CHECK_TENSOR(weight, 1, WO_IS_F32);
    WO_CHECK_TENSOR(bias, 1, WO_IS_F32);
    WO_CHECK_RULE(args->weight.shape[0] == args->x.shape[1], "weight must have the width of x", weight, x);
    WO_CHECK_RULE(args->bias.shape[0] == args->x.shape[1], "bias must have the width of x", bias, x);
    WO_CHECK_APART(y, weight);
    WO_CHECK_APART(y, bias);
    return WO_OK;
}

wo_status wo_layer_norm(wo_stream *s, const wo_layer_norm_args *args, wo_error *err) {
    WO_CHECK_TENSOR(x, 2, WO_IS_COMPUTE);
    WO_CHECK_TENSOR(y, 2, WO_IS_COMPUTE);
    WO_CHECK_NOT_MIXED(y, x);
    WO_CHECK_RULE(wo_check_same_shape(&args->y, &args->x), "y must have the shape of x", y, x);
    WO_CHECK_APART(y, x);
    if (wo_check_given(&args->scale) || wo_check_given(&args->shift))
        WO_TRY(check_modulation(args, err));
    if (wo_check_given(&args->weight) || wo_check_given(&args->bias))
        WO_TRY(check_affine(args, err));
    if (!(args->eps >= 0.0f))
        WO_FAIL(err, WO_EINTERNAL, OP ": eps must not be negative, but is %g", (double)args->eps);
    WO_CHECK_DISPATCH(layer_norm);
}
