#include "ops/check.h"

#define OP "unary"

wo_status wo_unary(wo_stream *s, const wo_unary_args *args, wo_error *err) {
    WO_CHECK_TENSOR(x, args->x.rank, WO_IS_COMPUTE);
    WO_CHECK_TENSOR(y, args->y.rank, WO_IS_COMPUTE);
    WO_CHECK_NOT_MIXED(y, x);
    WO_CHECK_RULE(wo_tensor_count(&args->x) == wo_tensor_count(&args->y), "x and y must have the same number of elements", x, y);
    WO_CHECK_RULE(wo_check_apart_or_same(&args->y, &args->x), "y must be x itself, in the same dtype, or apart from it", y, x);
    if ((unsigned)args->kind > WO_UNARY_GELU_ERF)
        WO_FAIL(err, WO_EINTERNAL, OP ": there is no kind %d", (int)args->kind);
    WO_CHECK_DISPATCH(unary);
}
