/* What is special about the cpu device: its threads and its instruction sets. */
#ifndef WO_DEVICE_CPU_CPU_H
#define WO_DEVICE_CPU_CPU_H

#include "device/device.h"

/* X(enumerator, name, vector description), from plain to best. A variant is compiled where the compiler and architecture can. */
#define WO_ISA_LIST(X)                                          \
    X(GENERIC, "generic", "plain C")                            \
    X(AVX2, "avx2", "AVX2 + FMA + F16C")                        \
    X(AVX512, "avx512", "AVX-512 F/BW/VL/DQ")                   \
    X(AVX512_BF16, "avx512_bf16", "AVX-512 with VDPBF16PS")     \
    X(AMX, "amx", "AMX-BF16 tiles with AVX-512-BF16")

typedef enum wo_isa {
#define WO_ISA_ENUM(id, name, text) WO_ISA_##id,
    WO_ISA_LIST(WO_ISA_ENUM)
#undef WO_ISA_ENUM
        WO_ISA_COUNT
} wo_isa;

const char *wo_isa_name(wo_isa isa);
bool wo_isa_built(wo_isa isa);      /* compiled in */
bool wo_isa_supported(wo_isa isa);  /* compiled in, and this CPU and OS can run it */
wo_isa wo_cpu_isa(void);            /* in use */
/* Why this one was chosen, and why each better one was not: lines for `wanoffload doctor`. */
void wo_cpu_describe(char *buffer, size_t bytes);
/* Tests: forces a variant for the process (WO_EVALUE when not supported); WO_ISA_COUNT returns to the best. Also read once from the
 * environment variable WANOFFLOAD_TEST_ISA. Call it while no stream runs. */
wo_status wo_cpu_force_isa(wo_isa isa, wo_error *err);

wo_status wo_cpu_set_threads(int threads, wo_error *err); /* compute threads of the process, >= 1 */
int wo_cpu_threads(void);
/* FLOP/s that the instruction set in use reaches between registers, on all compute threads (takes 0.03 s); 0 when the device cannot open. */
double wo_cpu_probe_peak(bool bf16);

#endif
