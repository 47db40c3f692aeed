/* How the models call operations: memory for workspaces, the layer taken into use and let go, the stream of the exec. */
#ifndef WO_MODEL_APPLY_H
#define WO_MODEL_APPLY_H

#include "offload/exec.h"
#include "ops/ops.h"

/* The dtype of operands beside weights held in `dtype`: the same where the device of the exec computes in it, float32 elsewhere. Asked in every pass, dry
 * ones too, because a model is planned and run for one device after the other. */
wo_dtype wo_apply_compute(const wo_exec *x, wo_dtype dtype);

/* Calls the op with a workspace from the exec where the device wants one. args->workspace is left empty. */
wo_status wo_apply_linear(wo_exec *x, wo_linear_args *args, wo_error *err);
wo_status wo_apply_attention(wo_exec *x, wo_attention_args *args, wo_error *err);
wo_status wo_apply_conv(wo_exec *x, wo_conv_args *args, wo_error *err);
wo_status wo_apply_unary(wo_exec *x, wo_unary_kind kind, const wo_tensor *from, const wo_tensor *to, wo_error *err);

/* args->w and args->bias from the params of a layer in use; the weight is seen as [rows, the rest]. */
void wo_apply_params(wo_linear_args *args, const wo_tensor *params, int32_t count);
/* Uses the layer for this one linear and lets it go. */
wo_status wo_apply_linear_layer(wo_exec *x, const wo_layer *layer, wo_linear_args *args, wo_error *err);
/* The same for a layer that may be in use already: params are then its own, else NULL. */
wo_status wo_apply_linear_held(wo_exec *x, const wo_layer *layer, const wo_tensor *params, wo_linear_args *args, wo_error *err);
/* As linear_layer for a norm: weight (and bias, where the layer has one) from the layer. */
wo_status wo_apply_rms_norm_layer(wo_exec *x, const wo_layer *layer, wo_rms_norm_args *args, wo_error *err);
wo_status wo_apply_rms_norm_held(wo_exec *x, const wo_layer *layer, const wo_tensor *params, wo_rms_norm_args *args, wo_error *err);
wo_status wo_apply_layer_norm_layer(wo_exec *x, const wo_layer *layer, wo_layer_norm_args *args, wo_error *err);

#endif
