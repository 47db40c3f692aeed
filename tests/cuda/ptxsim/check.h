/* What the interpreter's own tests share: a card's memory of a few regions with bounds, and running a text. Addresses of a region are not its host
 * addresses. Each test includes this once. */
#ifndef PTXSIM_CHECK_H
#define PTXSIM_CHECK_H

#include "ptxsim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int checks_failed, checks_done;
static const char *checked_case = "";
#define CHECK(condition) check_that(condition, #condition, __FILE__, __LINE__)
static inline bool check_that(bool ok, const char *text, const char *file, int line) {
    checks_done++;
    if (!ok && checks_failed++ < 40) fprintf(stderr, "%s:%d: not so: %s [%s]\n", file, line, text, checked_case);
    return ok;
}
static inline int check_end(void) {
    printf("%d checks, %d failed\n", checks_done, checks_failed);
    return checks_failed != 0;
}

typedef struct region {
    unsigned char *host;
    size_t bytes;
    bool read_only;
} region;
enum { REGIONS = 4 };
static region regions[REGIONS];
static uint64_t address_of(int k) {
    return (uint64_t)(k + 1) << 32;
}
static void *resolve(void *ctx, uint64_t at, size_t bytes, bool write, const char **reason) {
    uint64_t k = (at >> 32) - 1, offset = at & 0xffffffffu;
    (void)ctx;
    *reason = "outside every region";
    if (k >= REGIONS || !regions[k].host || offset + bytes > regions[k].bytes) return NULL;
    *reason = "read only";
    return write && regions[k].read_only ? NULL : regions[k].host + offset;
}
/* Region k with `bytes` bytes of value `fill`, freed by the next. */
static inline void *region_of(int k, size_t bytes, int fill) {
    free(regions[k].host);
    regions[k] = (region){malloc(bytes), bytes, false};
    return memset(regions[k].host, fill, bytes);
}
static inline void regions_free(void) {
    for (int k = 0; k < REGIONS; k++) free(regions[k].host), regions[k] = (region){NULL, 0, false};
}

typedef struct run {
    const char *text;
    unsigned threads, blocks; /* 0: 32, 1 */
    size_t shared;
    uint64_t seed;
    ptxsim_async async;
    int host_threads;
} run;
static ptxsim_report report;
/* The only entry of the text, with the addresses of regions 0 .. as its parameters. False: report.message says why (of loading, too). */
static inline bool run_text(run r) {
    uint64_t params[REGIONS];
    memset(&report, 0, sizeof(report));
    ptxsim_module *m = ptxsim_load(r.text, report.message, sizeof(report.message));
    if (!m) return false;
    for (int k = 0; k < REGIONS; k++) params[k] = address_of(k);
    ptxsim_launch l = {.module = m, .entry = 0, .grid = {r.blocks ? r.blocks : 1, 1, 1}, .block = {r.threads ? r.threads : 32, 1, 1}, .shared_bytes = r.shared,
                       .shared_limit = 65536, .params = params, .memory = {resolve, NULL}, .seed = r.seed, .async = r.async, .threads = r.host_threads};
    bool ok = ptxsim_run(&l, &report);
    ptxsim_unload(m);
    return ok;
}
#define HEAD ".version 8.0\n.target sm_80\n.address_size 64\n"
/* %t is the thread, %in and %out the regions 0 and 1, then the body. */
#define KERNEL(declarations, body)                                                                                             \
    HEAD declarations "\n.visible .entry k(.param .u64 in, .param .u64 out, .param .u64 more) {\n"                              \
    ".reg .b16 %h<8>; .reg .b32 %r<64>; .reg .b64 %rd<16>; .reg .f32 %f<16>; .reg .pred %p<8>; .reg .b32 %t, %l, %w; .reg .b64 %in, %out, %at;\n" \
    "ld.param.u64 %in, [in]; ld.param.u64 %out, [out]; mov.u32 %t, %tid.x; mov.u32 %l, %laneid; mov.u32 %w, %warpid;\n"         \
    "mul.wide.u32 %at, %t, 4; add.s64 %at, %at, %out;\n" body "\nret;\n}\n"

static inline float float_of(uint32_t u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline uint32_t bits_of(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}
static inline uint64_t bits_of_double(double f) {
    uint64_t u;
    memcpy(&u, &f, 8);
    return u;
}

#endif
