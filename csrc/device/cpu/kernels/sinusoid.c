/* The sinusoid of a timestep. Frequencies and angles are rounded to float32 step by step where diffusers rounds them, because an angle near
 * 1000 magnifies the rounding of its frequency; what has no such reason is computed in float64. */
#include "device/cpu/kernels/rows.h"

#include <math.h>

static void sinusoid_tile(void *ctx, int64_t tile, int worker, void *scratch) {
    const wo_sinusoid_args *args = ctx;
    int64_t half = args->y.shape[0] / 2, first, end;
    const float minus_log = (float)-9.210340371976184; /* -ln 10000 */
    (void)worker;
    (void)scratch;
    flat_tile_range(half, tile, &first, &end);
    for (int64_t j = first; j < end; j++) {
        float exponent = minus_log * (float)j / (float)half;
        float frequency = (float)exp((double)exponent);
        float angle = args->t * frequency;
        vec_store_as_part(args->y.dtype, args->y.data, j, vec_splat((float)cos((double)angle)), 1);
        vec_store_as_part(args->y.dtype, args->y.data, half + j, vec_splat((float)sin((double)angle)), 1);
    }
}

wo_status WO_KERNEL(sinusoid)(wo_pool *pool, wo_cancel *cancel, const wo_sinusoid_args *args) {
    wo_sinusoid_args copy = *args;
    return wo_pool_run(pool, flat_tiles(args->y.shape[0] / 2), sinusoid_tile, &copy, cancel);
}
