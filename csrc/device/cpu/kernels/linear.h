/* The two forms of a linear. Both take the product of tile.h with a 1 x 1 x 1 kernel: frames[0] is x, height is M. */
#ifndef WO_KERNELS_LINEAR_H
#define WO_KERNELS_LINEAR_H

#include "device/cpu/kernels/tile.h"

/* linear_dot.c */
wo_status WO_KERNEL(dot_run)(wo_pool *pool, wo_cancel *cancel, const tile_product *p);

#if defined(WO_ISA_AMX)
/* linear_amx.c: the same for products of bfloat16. */
wo_status WO_KERNEL(dot_amx_run)(wo_pool *pool, wo_cancel *cancel, const tile_product *p);
#endif

#endif
