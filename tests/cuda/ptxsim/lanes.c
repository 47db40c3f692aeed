/* lanes.h for each instruction set that is worth having here, and the choice among them when the program runs: no flag of the build decides.
 * Under the sanitizers only the plain one is built, which they already take long for. */
#if defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#pragma GCC optimize("O3")
#endif

#include "scalar.h"
#include "opcodes.h"

static const u32 lane_bit[LANES] = {
    1u << 0,  1u << 1,  1u << 2,  1u << 3,  1u << 4,  1u << 5,  1u << 6,  1u << 7,  1u << 8,  1u << 9,  1u << 10,
    1u << 11, 1u << 12, 1u << 13, 1u << 14, 1u << 15, 1u << 16, 1u << 17, 1u << 18, 1u << 19, 1u << 20, 1u << 21,
    1u << 22, 1u << 23, 1u << 24, 1u << 25, 1u << 26, 1u << 27, 1u << 28, 1u << 29, 1u << 30, 1u << 31,
};

#define TAG(name) plain_##name
#include "lanes.h"
#undef TAG

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
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
