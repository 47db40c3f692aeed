#include "ops/check.h"

#define OP "rope_table"

wo_status wo_rope_table(wo_stream *s, const wo_rope_table_args *args, wo_error *err) {
    WO_CHECK_TENSOR(cos, 2, WO_IS_F32);
    WO_CHECK_TENSOR(sin, 2, WO_IS_F32);
    WO_CHECK_RULE(wo_check_same_shape(&args->cos, &args->sin), "sin must have the shape of cos", sin, cos);
    if (args->frames < 1 || args->height < 1 || args->width < 1)
        WO_FAIL(err, WO_EINTERNAL, OP ": the grid must not be empty, but is %lld x %lld x %lld", (long long)args->frames,
                (long long)args->height, (long long)args->width);
    if (args->head_dim < 2 || args->head_dim % 2 != 0)
        WO_FAIL(err, WO_EINTERNAL, OP ": head_dim must be even, but is %lld", (long long)args->head_dim);
    WO_CHECK_RULE(args->cos.shape[0] == args->frames * args->height * args->width, "cos must have a row for each token of the grid",
                  cos, sin);
    WO_CHECK_RULE(args->cos.shape[1] == args->head_dim / 2, "cos must have half of head_dim columns", cos, sin);
    WO_CHECK_APART(cos, sin);
    WO_CHECK_DISPATCH(rope_table);
}
