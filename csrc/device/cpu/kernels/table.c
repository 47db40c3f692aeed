/* The kernel table of one instruction set, from the functions that the other files of this folder define. */
#include "device/cpu/kernels.h"

const wo_cpu_kernels WO_KERNEL(table) = {
#define ENTRY(op) .op = WO_KERNEL(op),
    WO_OP_LIST(ENTRY)
#undef ENTRY
    .attention_workspace = WO_KERNEL(attention_workspace),
    .conv_workspace = WO_KERNEL(conv_workspace),
    .linear_workspace = WO_KERNEL(linear_workspace),
    .probe_peak = WO_KERNEL(probe_peak),
};
