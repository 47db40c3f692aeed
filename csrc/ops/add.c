#include "ops/check.h"

#define OP "add"

wo_status wo_add(wo_stream *s, const wo_add_args *args, wo_error *err) {
    WO_CHECK_TENSOR(a, 2, WO_IS_F32);
    WO_CHECK_TENSOR(b, 2, WO_IS_F32);
    WO_CHECK_TENSOR(y, 2, WO_IS_F32);
    WO_CHECK_RULE(wo_check_same_shape(&args->y, &args->a), "y must have the shape of a", y, a);
    WO_CHECK_RULE(args->b.shape[1] == args->a.shape[1], "b must have the width of a", b, a);
    WO_CHECK_RULE(args->a.shape[0] % args->b.shape[0] == 0, "the rows of b must divide those of a", b, a);
    WO_CHECK_RULE(wo_check_apart_or_same(&args->y, &args->a), "y must be a itself or apart from it", y, a);
    WO_CHECK_APART(y, b);
    WO_CHECK_DISPATCH(add);
}
