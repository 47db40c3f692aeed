#include "ops/check.h"

#define OP "channels_last"

wo_status wo_channels_last(wo_stream *s, const wo_channels_last_args *args, wo_error *err) {
    const int64_t *x = args->x.shape, *y = args->y.shape;
    WO_CHECK_TENSOR(x, 4, WO_IS_F32);
    WO_CHECK_TENSOR(y, 4, WO_IS_COMPUTE);
    WO_CHECK_RULE(y[0] == x[1] && y[1] == x[2] && y[2] == x[3] && y[3] == x[0], "y must be x with its first axis moved to the end", y, x);
    WO_CHECK_APART(y, x);
    WO_CHECK_DISPATCH(channels_last);
}
