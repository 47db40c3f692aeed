/* The kernel table that each instruction set fills. Files in kernels/ are compiled once per variant with WO_ISA_<ID> defined as 1,
 * WO_ISA_TAG set to its name (avx2), and the variant's compiler flags; every external name in them goes through WO_KERNEL(). */
#ifndef WO_DEVICE_CPU_KERNELS_H
#define WO_DEVICE_CPU_KERNELS_H

#include "base/pool.h"
#include "device/op_args.h"

/* Scratch that each pool thread owns; kernels size their blocks to stay inside. */
enum { WO_CPU_SCRATCH_BYTES = 6 << 20 };

/* A kernel runs on the compute stream's thread and spreads its tiles over the pool; it returns WO_OK or WO_ECANCELLED. */
typedef struct wo_cpu_kernels {
#define WO_KERNEL_ENTRY(op) wo_status (*op)(wo_pool * pool, wo_cancel * cancel, const wo_##op##_args *args);
    WO_OP_LIST(WO_KERNEL_ENTRY)
#undef WO_KERNEL_ENTRY
    size_t (*attention_workspace)(const wo_attention_args *args);
    size_t (*conv_workspace)(const wo_conv_args *args);
    size_t (*linear_workspace)(const wo_linear_args *args);
    /* Multiplications and additions per second of all pool threads between registers, float32 or bfloat16 operands; takes 0.03 s. */
    double (*probe_peak)(wo_pool *pool, bool bf16);
} wo_cpu_kernels;

#ifdef WO_ISA_TAG
#define WO_KERNEL_PASTE2(tag, name) wo_cpu_##tag##_##name
#define WO_KERNEL_PASTE(tag, name) WO_KERNEL_PASTE2(tag, name)
#define WO_KERNEL(name) WO_KERNEL_PASTE(WO_ISA_TAG, name)
/* kernels/table.c defines this from the functions WO_KERNEL(linear), WO_KERNEL(conv), ... that the other files define. */
extern const wo_cpu_kernels WO_KERNEL(table);
#define WO_KERNEL_PROTOTYPE(op) wo_status WO_KERNEL(op)(wo_pool * pool, wo_cancel * cancel, const wo_##op##_args *args);
WO_OP_LIST(WO_KERNEL_PROTOTYPE)
#undef WO_KERNEL_PROTOTYPE
size_t WO_KERNEL(attention_workspace)(const wo_attention_args *args);
size_t WO_KERNEL(conv_workspace)(const wo_conv_args *args);
size_t WO_KERNEL(linear_workspace)(const wo_linear_args *args);
double WO_KERNEL(probe_peak)(wo_pool *pool, bool bf16);
#endif

#endif
