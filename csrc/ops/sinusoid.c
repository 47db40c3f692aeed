#include "ops/check.h"

#include <math.h>

#define OP "sinusoid"

wo_status wo_sinusoid(wo_stream *s, const wo_sinusoid_args *args, wo_error *err) {
    WO_CHECK_TENSOR(y, 1, WO_IS_COMPUTE);
    WO_CHECK_RULE(args->y.shape[0] % 2 == 0, "y must have an even number of elements", y, y);
    if (!isfinite(args->t))
        WO_FAIL(err, WO_EINTERNAL, OP ": t must be finite, but is %g", (double)args->t);
    WO_CHECK_DISPATCH(sinusoid);
}
