/* The face of the cuda device towards the layers above. The device is C over the driver API, which is found at run time: nothing here
 * touches libcuda before a device is opened or asked about. */
#ifndef WO_DEVICE_CUDA_CUDA_H
#define WO_DEVICE_CUDA_CUDA_H

#include "device/device.h"

/* What the plan and the choice of kernels depend on. Of a card that is there, or of one of the cards in properties.c. */
typedef struct wo_cuda_properties {
    char name[64];               /* "NVIDIA GeForce RTX 4090" */
    int32_t sm;                  /* compute capability * 10: 89 */
    int32_t multiprocessors;
    int32_t shared_bytes;        /* largest dynamic shared memory of a block */
    uint64_t memory_bytes, l2_bytes;
    int32_t clock_mhz;
    /* Tabled rates for predictions, 0 = not known: dense bfloat16 TFLOP/s, float32 TFLOP/s, GB/s of the memory and of the link. */
    double bf16_tflops, f32_tflops, memory_gbs, link_gbs;
} wo_cuda_properties;

/* "cuda" is the card 0, "cuda:1" the card 1, "cuda:rtx4090" a card that need not be there: it can be planned for and not be run. */
wo_status wo_cuda_open(const char *name, wo_device **out, wo_error *err);
void wo_cuda_close(wo_device *d);
/* The properties of what could be opened under that name, and the errors of opening it as far as they need no context, of which none is made. */
wo_status wo_cuda_look(const char *name, wo_cuda_properties *out, bool *planning_only, wo_error *err);
const wo_cuda_properties *wo_cuda_get_properties(const wo_device *d);
bool wo_cuda_is_planning_only(const wo_device *d);
/* The known cards by their short names ("rtx4090"); NULL behind the last. */
const char *wo_cuda_card_name(int i);

/* What `wanoffload doctor` says, found without failing: driver, cards, kernels of this build, cuBLASLt, cuDNN, NVRTC with paths and
 * versions, what is missing and the command that mends it. Lines "key: value". */
void wo_cuda_describe(char *text, size_t bytes);
/* Cards that the driver shows; 0 without a driver. */
int wo_cuda_count(void);

/* Folders in which the vendor's libraries may lie (those of pip packages), separated by ':'. Set before a device is opened; the
 * Python face does. Searched first; then the system's places. */
void wo_cuda_set_library_folders(const char *folders);

/* Whether products of float32 matrices may be TF32 where cuBLASLt computes them: operands with 10 bits of mantissa, several times as fast. Off unless
 * asked for, and own kernels never do it. For all devices of the process, from the next plan on. */
void wo_cuda_allow_tf32(bool allow);
bool wo_cuda_allows_tf32(void);

/* Tests: without cuBLASLt and cuDNN, even if they are there. */
void wo_cuda_set_own_kernels_only(bool only);

/* Bytes of host memory now pinned by this process's cuda devices. */
uint64_t wo_cuda_pinned_bytes(void);

#endif
