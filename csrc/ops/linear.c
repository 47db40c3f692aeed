#include "ops/check.h"

#define OP "linear"

static wo_status check_epilogue(const wo_stream *s, const wo_linear_args *args, wo_error *err) {
    bool gated = args->epilogue == WO_EPILOGUE_GATE;
    bool in_place = args->epilogue == WO_EPILOGUE_ADD || gated;
    if ((unsigned)args->epilogue > WO_EPILOGUE_GATE)
        WO_FAIL(err, WO_EINTERNAL, OP ": there is no epilogue %d", (int)args->epilogue);
    if (!in_place && args->epilogue != WO_EPILOGUE_MUL)
        return WO_OK;
    WO_CHECK_TENSOR(other, 2, WO_IS_COMPUTE);
    WO_CHECK_RULE(wo_check_same_shape(&args->other, &args->y) && args->other.dtype == args->y.dtype,
                  "other must have the shape and dtype of y", other, y);
    if (in_place)
        WO_CHECK_RULE(wo_check_apart_or_same(&args->other, &args->y), "y must be other itself or apart from it", y, other);
    else
        WO_CHECK_APART(y, other);
    if (!gated)
        return WO_OK;
    WO_CHECK_TENSOR(gate, 2, WO_IS_F32);
    WO_CHECK_RULE(args->gate.shape[1] == args->y.shape[1], "gate must have the width of y", gate, y);
    if (args->rows_per_gate < 1)
        WO_FAIL(err, WO_EINTERNAL, OP ": rows_per_gate must be at least 1, but is %lld", (long long)args->rows_per_gate);
    WO_CHECK_RULE((args->y.shape[0] - 1) / args->rows_per_gate < args->gate.shape[0],
                  "gate must have a row for every rows_per_gate rows of y", gate, y);
    WO_CHECK_APART(y, gate);
    return WO_OK;
}

wo_status wo_linear(wo_stream *s, const wo_linear_args *args, wo_error *err) {
    WO_CHECK_TENSOR(x, 2, WO_IS_COMPUTE);
    WO_CHECK_TENSOR(w, 2, WO_IS_WEIGHT);
    WO_CHECK_TENSOR(y, 2, WO_IS_COMPUTE);
    WO_CHECK_OPTIONAL(bias, 1, WO_IS_F32);
    WO_CHECK_RULE(args->x.shape[1] == args->w.shape[1], "x and w must have the same number of columns", x, w);
    WO_CHECK_RULE(!wo_check_mixed(args->x.dtype, args->w.dtype), "there is no product of bfloat16 with float16", x, w);
    WO_CHECK_NOT_MIXED(y, x);
    WO_CHECK_RULE(args->y.shape[0] == args->x.shape[0], "y must have the rows of x", y, x);
    WO_CHECK_RULE(args->y.shape[1] == args->w.shape[0], "y must have a column for each row of w", y, w);
    if (wo_check_given(&args->bias))
        WO_CHECK_RULE(args->bias.shape[0] == args->w.shape[0], "bias must have an element for each row of w", bias, w);
    WO_CHECK_APART(y, x);
    WO_CHECK_APART(y, w);
    WO_CHECK_APART(y, bias);
    WO_TRY(check_epilogue(s, args, err));
    if ((unsigned)args->form > WO_FORM_DOT)
        WO_FAIL(err, WO_EINTERNAL, OP ": there is no form %d", (int)args->form);
    WO_TRY(wo_check_workspace(err, OP, &args->workspace, wo_linear_workspace(s->device, args)));
    WO_CHECK_APART(workspace, y);
    WO_CHECK_APART(workspace, x);
    WO_CHECK_APART(workspace, w);
    WO_CHECK_DISPATCH(linear);
}

size_t wo_linear_workspace(const wo_device *d, const wo_linear_args *args) {
    return WO_CHECK_HAS(d, linear_workspace) ? d->ops->linear_workspace(d, args) : 0;
}
