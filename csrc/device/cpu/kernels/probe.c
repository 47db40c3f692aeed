/* What this machine can do at most: multiply-adds between registers, on every thread of the pool. Kernels are judged by their share of
 * it. Enough independent sums run side by side to hide the latency of one; nothing touches memory. */
#include "base/clock.h"
#include "device/cpu/kernels.h"
#include "device/cpu/kernels/vec.h"

enum { SUMS = 12, STEPS = 10000, TILES_PER_THREAD = 64 };
static const double PROBE_SECONDS = 0.03;

static float multiply_f32(void) {
    const vec a = vec_splat(0.999f), b = vec_splat(0.001f);
    vec sums[SUMS];
    VEC_UNROLL for (int i = 0; i < SUMS; i++)
        sums[i] = vec_splat((float)i);
    for (int step = 0; step < STEPS; step++) {
        VEC_UNROLL for (int i = 0; i < SUMS; i++)
            sums[i] = vec_fma(sums[i], a, b);
    }
    VEC_UNROLL for (int i = 1; i < SUMS; i++)
        sums[0] = vec_add(sums[0], sums[i]);
    return vec_sum(sums[0]);
}

static const double FLOPS_F32 = 2.0 * VEC_LANES * SUMS * STEPS;

#if defined(WO_ISA_AMX)
#include <immintrin.h>

/* Six sums of 16 x 16, each step adds the product of 16 x 32 by 32 x 16 bfloat16. */
enum { TILE_STEPS = 1000 };
static const double FLOPS_BF16 = 2.0 * 16 * 16 * 32 * 6 * TILE_STEPS;

typedef struct tile_shapes {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_shapes;

static float multiply_bf16(void) {
    tile_shapes shapes = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        shapes.row_bytes[i] = 64;
        shapes.rows[i] = 16;
    }
    __asm__ volatile("" : : "r"(&shapes) : "memory"); /* the intrinsic tells the compiler of eight bytes only */
    _tile_loadconfig(&shapes);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    _tile_zero(6);
    _tile_zero(7);
    for (int step = 0; step < TILE_STEPS; step++) {
        _tile_dpbf16ps(0, 6, 7);
        _tile_dpbf16ps(1, 6, 7);
        _tile_dpbf16ps(2, 6, 7);
        _tile_dpbf16ps(3, 6, 7);
        _tile_dpbf16ps(4, 6, 7);
        _tile_dpbf16ps(5, 6, 7);
    }
    _tile_release();
    return 0;
}
#elif defined(WO_ISA_AVX512_BF16)
static const double FLOPS_BF16 = 4.0 * VEC_LANES * SUMS * STEPS;

static float multiply_bf16(void) {
    const uint32_t ones = 0x3f803f80, small = 0x3a833a83; /* pairs of 1 and of about 0.001 */
    const vec a = vec_splat_word(&ones), b = vec_splat_word(&small);
    vec sums[SUMS];
    VEC_UNROLL for (int i = 0; i < SUMS; i++)
        sums[i] = vec_splat((float)i);
    for (int step = 0; step < STEPS; step++) {
        VEC_UNROLL for (int i = 0; i < SUMS; i++)
            sums[i] = vec_dot_bf16(sums[i], a, b);
    }
    VEC_UNROLL for (int i = 1; i < SUMS; i++)
        sums[0] = vec_add(sums[0], sums[i]);
    return vec_sum(sums[0]);
}
#else
/* bfloat16 operands are widened, so the float32 instruction is the limit. */
#define FLOPS_BF16 FLOPS_F32
#define multiply_bf16 multiply_f32
#endif

/* The result goes to the thread's scratch: work whose result nobody reads would be removed. */
static void probe_tile(void *ctx, int64_t tile, int worker, void *scratch) {
    (void)tile, (void)worker;
    const float result = *(const bool *)ctx ? multiply_bf16() : multiply_f32();
    memcpy(scratch, &result, sizeof result);
}

/* The best of many short rounds: wide instructions change the clock at first, and other processes come in between. */
double WO_KERNEL(probe_peak)(wo_pool *pool, bool bf16) {
    const int64_t tiles = (int64_t)TILES_PER_THREAD * wo_pool_threads(pool);
    const double end = wo_clock_seconds() + PROBE_SECONDS;
    double best = 0;
    for (double begin = wo_clock_seconds(), after; begin < end; begin = after) {
        wo_pool_run(pool, tiles, probe_tile, &bf16, NULL);
        after = wo_clock_seconds();
        const double rate = (double)tiles * (bf16 ? FLOPS_BF16 : FLOPS_F32) / (after - begin);
        best = rate > best ? rate : best;
    }
    return best;
}
