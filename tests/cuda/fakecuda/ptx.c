/* The PTX of all kernels for each target, copied in by the assembler. The build names the folder and the list. */
#include "fakecuda/internal.h"

#define EMBED(target, module)                                                                          \
    __asm__(".pushsection .rodata\n"                                                                   \
            "fake_ptx_" #target "_" #module ":\n"                                                      \
            ".incbin \"" FAKE_PTX_FOLDER "/compute_" #target "/" #module ".ptx\"\n"                    \
            ".byte 0\n"                                                                                \
            ".popsection\n");                                                                          \
    extern const char fake_ptx_##target##_##module[];
FAKE_PTX_LIST(EMBED)

#define ROW(target, module) {target, #module, fake_ptx_##target##_##module},
const fake_ptx fake_ptx_table[] = {FAKE_PTX_LIST(ROW){0, NULL, NULL}};
const size_t fake_ptx_count = sizeof fake_ptx_table / sizeof *fake_ptx_table - 1;
