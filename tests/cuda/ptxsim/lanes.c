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

/* Eight floats; a shuffle takes its i-th from place mask[i] of x and y in a row. */
typedef f32 vector __attribute__((vector_size(32)));
typedef s32 places __attribute__((vector_size(32)));
#define SHUFFLE(x, y, mask) __builtin_shuffle(x, y, mask)
#define EVERY_FOURTH(t) {t, 4 + t, 8 + t, 12 + t, t, 4 + t, 8 + t, 12 + t}
#define PAIRS(q) {2 * q, 8 + 2 * q, 2 * q, 8 + 2 * q, 2 * q + 1, 9 + 2 * q, 2 * q + 1, 9 + 2 * q}
static const places every_fourth[4] = {EVERY_FOURTH(0), EVERY_FOURTH(1), EVERY_FOURTH(2), EVERY_FOURTH(3)};
static const places pairs_of[4] = {PAIRS(0), PAIRS(1), PAIRS(2), PAIRS(3)};
static const places twos = {0, 1, 10, 11, 4, 5, 14, 15}, fours = {0, 1, 2, 3, 12, 13, 14, 15};
/* out = lanes 4 g + t of x. */
#define COLUMN(out, x, t)                                                                                             \
    do {                                                                                                              \
        vector column_of[4];                                                                                          \
        memcpy(column_of, x, sizeof(column_of));                                                                      \
        const vector column_a = SHUFFLE(column_of[0], column_of[1], every_fourth[t]);                                 \
        const vector column_b = SHUFFLE(column_of[2], column_of[3], every_fourth[t]);                                 \
        out = SHUFFLE(column_a, column_b, fours);                                                                     \
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
