/* One function per operation: checks shapes, dtypes and aliasing once (WO_EINTERNAL naming the op and the tensors, for a wrong
 * call is a bug of ours), then enqueues through the table of the stream's device. Shapes stand in device/op_args.h. */
#ifndef WO_OPS_OPS_H
#define WO_OPS_OPS_H

#include "device/device.h"

#define WO_OP_PROTOTYPE(op) wo_status wo_##op(wo_stream *s, const wo_##op##_args *args, wo_error *err);
WO_OP_LIST(WO_OP_PROTOTYPE)
#undef WO_OP_PROTOTYPE

size_t wo_attention_workspace(const wo_device *d, const wo_attention_args *args);
size_t wo_conv_workspace(const wo_device *d, const wo_conv_args *args);
size_t wo_linear_workspace(const wo_device *d, const wo_linear_args *args);

#endif
