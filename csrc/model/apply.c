#include "model/apply.h"

/* A workspace of `bytes` (none for 0) on the compute stream. */
static wo_status workspace_new(wo_exec *x, size_t bytes, wo_tensor *out, wo_error *err) {
    *out = (wo_tensor){0};
    return bytes == 0 ? WO_OK : wo_exec_new(x, out, err, WO_U8, (int64_t)bytes);
}

wo_dtype wo_apply_compute(const wo_exec *x, wo_dtype dtype) {
    return wo_device_computes(wo_exec_device(x), dtype) ? dtype : WO_F32;
}

wo_status wo_apply_linear(wo_exec *x, wo_linear_args *args, wo_error *err) {
    WO_TRY(workspace_new(x, wo_linear_workspace(wo_exec_device(x), args), &args->workspace, err));
    WO_TRY(wo_linear(wo_exec_stream(x), args, err));
    wo_exec_free(x, &args->workspace);
    return WO_OK;
}

wo_status wo_apply_attention(wo_exec *x, wo_attention_args *args, wo_error *err) {
    WO_TRY(workspace_new(x, wo_attention_workspace(wo_exec_device(x), args), &args->workspace, err));
    WO_TRY(wo_attention(wo_exec_stream(x), args, err));
    wo_exec_free(x, &args->workspace);
    return WO_OK;
}

wo_status wo_apply_conv(wo_exec *x, wo_conv_args *args, wo_error *err) {
    WO_TRY(workspace_new(x, wo_conv_workspace(wo_exec_device(x), args), &args->workspace, err));
    WO_TRY(wo_conv(wo_exec_stream(x), args, err));
    wo_exec_free(x, &args->workspace);
    return WO_OK;
}

wo_status wo_apply_unary(wo_exec *x, wo_unary_kind kind, const wo_tensor *from, const wo_tensor *to, wo_error *err) {
    wo_unary_args args = {.x = *from, .y = *to, .kind = kind};
    return wo_unary(wo_exec_stream(x), &args, err);
}

void wo_apply_params(wo_linear_args *args, const wo_tensor *params, int32_t count) {
    int64_t rows = params[0].shape[0];
    args->w = wo_tensor_as(&params[0], rows, wo_tensor_count(&params[0]) / rows);
    args->bias = count > 1 ? params[1] : (wo_tensor){0};
}

wo_status wo_apply_linear_layer(wo_exec *x, const wo_layer *layer, wo_linear_args *args, wo_error *err) {
    const wo_tensor *params;
    WO_TRY(wo_exec_use(x, layer, &params, err));
    wo_apply_params(args, params, layer->params);
    WO_TRY(wo_apply_linear(x, args, err));
    return wo_exec_done(x, layer, err);
}

wo_status wo_apply_linear_held(wo_exec *x, const wo_layer *layer, const wo_tensor *params, wo_linear_args *args, wo_error *err) {
    if (params == NULL)
        return wo_apply_linear_layer(x, layer, args, err);
    wo_apply_params(args, params, layer->params);
    return wo_apply_linear(x, args, err);
}

wo_status wo_apply_rms_norm_layer(wo_exec *x, const wo_layer *layer, wo_rms_norm_args *args, wo_error *err) {
    const wo_tensor *params;
    WO_TRY(wo_exec_use(x, layer, &params, err));
    WO_TRY(wo_apply_rms_norm_held(x, layer, params, args, err));
    return wo_exec_done(x, layer, err);
}

wo_status wo_apply_rms_norm_held(wo_exec *x, const wo_layer *layer, const wo_tensor *params, wo_rms_norm_args *args, wo_error *err) {
    if (params == NULL)
        return wo_apply_rms_norm_layer(x, layer, args, err);
    args->weight = params[0];
    return wo_rms_norm(wo_exec_stream(x), args, err);
}

wo_status wo_apply_layer_norm_layer(wo_exec *x, const wo_layer *layer, wo_layer_norm_args *args, wo_error *err) {
    const wo_tensor *params;
    WO_TRY(wo_exec_use(x, layer, &params, err));
    args->weight = params[0];
    args->bias = params[1];
    WO_TRY(wo_layer_norm(wo_exec_stream(x), args, err));
    return wo_exec_done(x, layer, err);
}
