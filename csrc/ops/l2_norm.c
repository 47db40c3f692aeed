#include "ops/check.h"

#define OP "l2_norm"

wo_status wo_l2_norm(wo_stream *s, const wo_l2_norm_args *args, wo_error *err) {
    WO_CHECK_TENSOR(x, 2, WO_IS_COMPUTE);
    WO_CHECK_TENSOR(gamma, 1, WO_IS_F32);
    WO_CHECK_TENSOR(y, 2, WO_IS_COMPUTE);
    WO_CHECK_RULE(args->gamma.shape[0] == args->x.shape[1], "gamma must have an element for each channel of x", gamma, x);
    WO_CHECK_NOT_MIXED(y, x);
    WO_CHECK_RULE(wo_check_same_shape(&args->y, &args->x), "y must have the shape of x", y, x);
    WO_CHECK_APART(y, x);
    WO_CHECK_APART(y, gamma);
    WO_CHECK_DISPATCH(l2_norm);
}
