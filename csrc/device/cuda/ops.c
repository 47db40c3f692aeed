/* The table of operations. What runs each is in the file of its kind. */
#include "device/cuda/device_impl.h"

const wo_ops_api wo_cuda_ops_api = {
    .version = WO_DEVICE_ABI,
    .size = sizeof(wo_ops_api),
    .computes = WO_CUDA_COMPUTES,
    .rows_apart = WO_CUDA_ROWS_APART,
#define ENTRY(op) .op = wo_cuda_##op,
    WO_OP_LIST(ENTRY)
#undef ENTRY
    .attention_workspace = wo_cuda_attention_workspace,
    .conv_workspace = wo_cuda_conv_workspace,
    .linear_workspace = wo_cuda_linear_workspace,
};
