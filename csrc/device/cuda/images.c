/* The table of compiled kernels, and nothing else, so that a test may link its own instead. Where the build has compiled them, it names the
 * folder of MODULE.fatbin in WO_CUDA_FATBINS, the drivers' first version in WO_CUDA_BUILT_WITH, and the assembler copies the files in: no generated source, no megabytes of C. */
#include "device/cuda/images.h"

#include "device/cuda/kernels/list.h"

#ifdef WO_CUDA_FATBINS

/* One byte more behind each, so that an image may be PTX as well. */
#define EMBED(module)                                               \
    __asm__(".pushsection .rodata\n"                                \
            ".balign 16\n"                                          \
            "wo_cuda_image_" #module ":\n"                          \
            ".incbin \"" WO_CUDA_FATBINS "/" #module ".fatbin\"\n"  \
            "wo_cuda_image_end_" #module ":\n"                      \
            ".byte 0\n"                                             \
            ".popsection\n");                                       \
    extern const char wo_cuda_image_##module[], wo_cuda_image_end_##module[];
WO_CUDA_MODULE_LIST(EMBED)

#define ROW(module) {#module, wo_cuda_image_##module, wo_cuda_image_end_##module},
const wo_cuda_image wo_cuda_images[] = {WO_CUDA_MODULE_LIST(ROW)};
const size_t wo_cuda_image_count = sizeof wo_cuda_images / sizeof *wo_cuda_images;
const int wo_cuda_built_with = WO_CUDA_BUILT_WITH;

#else

const wo_cuda_image wo_cuda_images[] = {{NULL, NULL, NULL}};
const size_t wo_cuda_image_count = 0;
const int wo_cuda_built_with = 0;

#endif
