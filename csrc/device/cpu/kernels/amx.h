/* What the files that use AMX tiles share. A tile has 16 rows of 64 bytes: 16 words of K, or 16 float32 sums. */
#ifndef WO_KERNELS_AMX_H
#define WO_KERNELS_AMX_H

#include "device/cpu/kernels/vec.h"

enum {
    AMX_STEP = 16,                  /* words of K in a tile */
    AMX_SIDE = 16,                  /* rows of a tile, and columns of its sums */
    AMX_TILE = AMX_SIDE * AMX_STEP, /* words of a tile */
    AMX_PAIR = 2 * AMX_SIDE
};

/* The tile intrinsics of GCC do not tell the compiler which memory they read. */
#define AMX_MEMORY_IS_WRITTEN() __asm__ volatile("" : : : "memory")

typedef struct amx_shapes {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} amx_shapes;

/* All eight tiles in full size; the state belongs to the thread, and _tile_release() gives it back. */
VEC_INLINE void amx_configure(void) {
    amx_shapes shapes = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        shapes.row_bytes[i] = 4 * AMX_STEP;
        shapes.rows[i] = AMX_SIDE;
    }
    AMX_MEMORY_IS_WRITTEN();
    __asm__ volatile("" : : "r"(&shapes) : "memory");
    _tile_loadconfig(&shapes);
}

#endif
