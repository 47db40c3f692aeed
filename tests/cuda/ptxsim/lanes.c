/* lanes.h for each instruction set that is worth having here, and the choice among them when the program runs: no flag of the build decides.
 * Under the sanitizers only the plain one is built, which they already take long for. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(__SANITIZE_UNDEFINED__)
#define PTXSIM_SANITIZED 1
#else
#pragma GCC optimize("O3")
#endif

#include "scalar.h"
#include "opcodes.h"

static const u32 lane_bit[LANES] = {
    1u << 0,  1u << 1,  1u << 2,  1u << 3,  1u << 4,  1u << 5,  1u << 6,  1u << 7,  1u << 8,  1u << 9,  1u << 10,
    1u << 11, 1u << 12, 1u << 13, 1u << 14, 1u << 15, 1u << 16, 1u << 17, 1u << 18, 1u << 19, 1u << 20, 1u << 21,
    1u << 22, 1u << 23, 1u << 24, 1u << 25, 1u << 26, 1u << 27, 1u << 28, 1u << 29, 1u << 30, 1u << 31,
};

/* Sixteen floats; a shuffle takes its i-th from place mask[i] of x and y in a row. */
typedef f32 vector __attribute__((vector_size(64)));
typedef s32 places __attribute__((vector_size(64)));
#define SHUFFLE(x, y, mask) __builtin_shuffle(x, y, mask)
#define EVERY_FOURTH(t) {t, 4 + t, 8 + t, 12 + t, 16 + t, 20 + t, 24 + t, 28 + t, t, 4 + t, 8 + t, 12 + t, 16 + t, 20 + t, 24 + t, 28 + t}
#define PAIRS(q) {4 * q, 16 + 4 * q, 4 * q, 16 + 4 * q, 4 * q + 1, 17 + 4 * q, 4 * q + 1, 17 + 4 * q, 4 * q + 2, 18 + 4 * q, 4 * q + 2, 18 + 4 * q, 4 * q + 3, 19 + 4 * q, 4 * q + 3, 19 + 4 * q}
static const places every_fourth[4] = {EVERY_FOURTH(0), EVERY_FOURTH(1), EVERY_FOURTH(2), EVERY_FOURTH(3)};
static const places pairs_of[4] = {PAIRS(0), PAIRS(1), PAIRS(2), PAIRS(3)};
static const places fours = {0, 1, 18, 19, 4, 5, 22, 23, 8, 9, 26, 27, 12, 13, 30, 31}, eights = {0, 1, 2, 3, 4, 5, 6, 7, 24, 25, 26, 27, 28, 29, 30, 31};
/* out = lanes 4 g + t of x, then those of y. */
#define COLUMN(out, x, y, t)                                                                                          \
    do {                                                                                                              \
        vector column_x[2], column_y[2];                                                                              \
        memcpy(column_x, x, sizeof(column_x)), memcpy(column_y, y, sizeof(column_y));                                 \
        const vector column_a = SHUFFLE(column_x[0], column_x[1], every_fourth[t]);                                   \
        const vector column_b = SHUFFLE(column_y[0], column_y[1], every_fourth[t]);                                   \
        out = SHUFFLE(column_a, column_b, eights);                                                                    \
    } while (0)

#define TAG(name) plain_##name
#include "lanes.h"
#undef TAG

#if defined(__x86_64__) && !defined(PTXSIM_SANITIZED)
#define PTXSIM_WIDER 1
#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi,bmi2,popcnt,lzcnt")
#define TAG(name) avx2_##name
#include "lanes.h"
#undef TAG
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi,bmi2,popcnt,lzcnt,prefer-vector-width=512")
#define TAG(name) avx512_##name
#include "lanes.h"
#undef TAG
#pragma GCC pop_options
#endif

lane_table ptxsim_lane_table(void) {
#ifdef PTXSIM_WIDER
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) return avx512_table;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2_table;
#endif
    return plain_table;
}
