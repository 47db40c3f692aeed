/* Known answers beyond one lane: memory of each space, cp.async, what lanes do together, matrices, and control flow; each under several schedules of the
 * warps, which may change nothing. */
#include "check.h"

#include <math.h>

enum { THREADS = 96, WORDS = 1024 };
static uint32_t *in, *out;

/* Runs the text in several schedules on fresh memory: region 0 holds 3 i + 1, region 1 poison. */
static bool run_all(const char *name, const char *text, bool (*right)(void)) {
    bool ok = true;
    checked_case = name;
    for (uint64_t seed = 0; seed < 4; seed++) {
        in = region_of(0, WORDS * 4, 0), out = region_of(1, WORDS * 4, 0xee);
        for (uint32_t k = 0; k < WORDS; k++) in[k] = 3 * k + 1;
        ok = CHECK(run_text((run){.text = text, .threads = THREADS, .shared = 4096, .seed = seed, .async = (ptxsim_async)(seed % 3)})) && ok;
        if (!ok) fprintf(stderr, "  %s\n", report.message);
        ok = CHECK(!ok || right()) && ok;
    }
    return ok;
}
/* out[t] == f(t) for all threads and poison behind them. */
static uint32_t (*wanted)(uint32_t t);
static bool as_wanted(void) {
    for (uint32_t t = 0; t < THREADS; t++)
        if (out[t] != wanted(t)) return fprintf(stderr, "  thread %u: 0x%x, wanted 0x%x\n", t, out[t], wanted(t)), false;
    return out[THREADS] == 0xeeeeeeeeu;
}
static void expect(const char *name, uint32_t (*f)(uint32_t t), const char *text) {
    wanted = f;
    run_all(name, text, as_wanted);
}
#define BODY(body) KERNEL("", body)
#define STORE "st.global.u32 [%at], %r1;"

/* ---- memory ---- */
static uint32_t f_vector(uint32_t t) {
    return 3 * (t * 4) + 1 + 3 * (t * 4 + 3) + 1;
}
static uint32_t f_bytes(uint32_t t) {
    return (t & 1 ? 0xffffff80u : 0x7fu) + ((3 * t + 1) & 0xff);
}
static uint32_t f_turned(uint32_t t) {
    return 3 * (THREADS - 1 - t) + 1;
}
static uint32_t f_table(uint32_t t) {
    return "\1\2\3\4"[t & 3] + 100 * (t & 3) + 7;
}
static uint32_t f_local(uint32_t t) {
    return t * t + (t & 3) + 1;
}
static uint32_t f_space(uint32_t t) {
    (void)t;
    return 0x1e;
}
static void test_memory(void) {
    expect("vectors through global and shared memory", f_vector,
           BODY("mul.wide.u32 %rd1, %t, 16; add.s64 %rd1, %in, %rd1; .shared .align 16 .b8 s[1536]; mov.u32 %r9, s; mad.lo.s32 %r9, %t, 16, %r9;"
                "ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%r1, %r2, %r3, %r4}, [%rd1]; st.shared.v4.b32 [%r9], {%r1, %r2, %r3, %r4};"
                "ld.shared.v2.u32 {%r5, _}, [%r9]; ld.shared.u32 %r6, [%r9+12]; add.s32 %r1, %r5, %r6;" STORE));
    expect(
        "bytes and signs", f_bytes,
        BODY(
            ".shared .b8 s[96]; and.b32 %r2, %t, 1; add.s32 %r2, %r2, 127; mov.u32 %r3, s; add.s32 %r3, %r3, %t; st.shared.u8 [%r3], %r2; ld.shared.s8 %r1, [%r3];"
            "mul.wide.u32 %rd1, %t, 4; add.s64 %rd1, %rd1, %in; ld.global.u8 %h1, [%rd1]; cvt.u32.u16 %r2, %h1; add.s32 %r1, %r1, %r2;" STORE));
    expect(
        "dynamic shared memory behind a barrier, by generic addresses", f_turned,
        KERNEL(
            ".extern .shared .align 128 .b8 dyn[];",
            "mul.wide.u32 %rd1, %t, 4; add.s64 %rd2, %in, %rd1; ld.global.u32 %r1, [%rd2]; mov.u64 %rd3, dyn; cvta.shared.u64 %rd4, %rd3; add.s64 %rd4, %rd4, %rd1; st.u32 [%rd4], %r1;"
            "bar.sync 0; sub.s32 %r2, 95, %t; mul.wide.u32 %rd5, %r2, 4; add.s64 %rd5, %rd3, %rd5; ld.shared.u32 %r1, [%rd5];" STORE));
    expect("constants and their initial values", f_table,
           KERNEL(".const .align 4 .u32 c[4] = {7, 107, 207, 307}; .global .align 1 .b8 g[5] = {1, 2, 3, 4};",
                  "and.b32 %r2, %t, 3; mul.wide.u32 %rd1, %r2, 4; mov.u64 %rd2, c; add.s64 %rd2, %rd2, %rd1; ld.const.u32 %r1, [%rd2];"
                  "cvt.u64.u32 %rd3, %r2; mov.u64 %rd4, g; add.s64 %rd4, %rd4, %rd3; ld.global.u8 %r3, [%rd4]; add.s32 %r1, %r1, %r3;" STORE));
    expect(
        "local memory is each thread's own", f_local,
        BODY(
            ".local .align 4 .b8 depot[16]; mov.u64 %rd1, depot; cvta.local.u64 %rd2, %rd1; mul.lo.s32 %r2, %t, %t; and.b32 %r3, %t, 3; mul.wide.u32 %rd3, %r3, 4;"
            "mov.u32 %r4, 1; st.local.v4.u32 [%rd1], {%r4, %r4, %r4, %r4}; add.s64 %rd4, %rd2, %rd3; add.s32 %r2, %r2, %r3; st.u32 [%rd4], %r2; add.s64 %rd5, %rd1, %rd3;"
            "ld.local.u32 %r5, [%rd5]; add.s32 %r1, %r5, %r4;" STORE));
    expect(
        "windows of generic addresses", f_space,
        KERNEL(
            ".extern .shared .align 16 .b8 dyn[]; .const .u32 c = 4;",
            ".local .b8 depot[4]; mov.u64 %rd1, dyn; cvta.shared.u64 %rd1, %rd1; mov.u64 %rd2, depot; cvta.local.u64 %rd2, %rd2; mov.u64 %rd3, in; cvta.param.u64 %rd3, %rd3;"
            "isspacep.global %p1, %rd1; selp.b32 %r1, 1, 0, %p1; isspacep.shared %p1, %rd1; selp.b32 %r2, 2, 0, %p1; isspacep.local %p1, %rd2; selp.b32 %r3, 4, 0, %p1;"
            "isspacep.global %p1, %in; selp.b32 %r4, 8, 0, %p1; ld.u64 %rd4, [%rd3]; setp.eq.s64 %p1, %rd4, %in; selp.b32 %r5, 16, 0, %p1;"
            "or.b32 %r1, %r1, %r2; or.b32 %r1, %r1, %r3; or.b32 %r1, %r1, %r4; or.b32 %r1, %r1, %r5;" STORE));
}

/* ---- cp.async ---- */
static uint32_t f_copied(uint32_t t) {
    return t % 4 == 3 ? 0 : 3 * t + 1;
}
static uint32_t f_ignored(uint32_t t) {
    return t & 1 ? 0 : 3 * t + 1;
}
static uint32_t f_stages(uint32_t t) {
    uint32_t sum = 0;
    for (uint32_t k = 0; k < 4; k++) sum += 3 * (k * THREADS + (t ^ 1)) + 1;
    return sum;
}
#define COPY_HEAD ".shared .align 16 .b8 s[1536]; mov.u32 %r9, s; mul.wide.u32 %rd1, %t, 4; add.s64 %rd1, %in, %rd1; mad.lo.s32 %r8, %t, 4, %r9;"
static void test_copies(void) {
    expect(
        "cp.async of 16 bytes, of which the last 4 are zeros", f_copied,
        BODY(
            COPY_HEAD
            "setp.lt.u32 %p1, %t, 24; mad.lo.s32 %r7, %t, 16, %r9; mul.wide.u32 %rd2, %t, 16; add.s64 %rd2, %in, %rd2; mov.u32 %r6, 12;"
            "@%p1 cp.async.cg.shared.global.L2::128B [%r7], [%rd2], 16, %r6; cp.async.commit_group; cp.async.wait_group 0; bar.sync 0; ld.shared.u32 %r1, [%r8];" STORE));
    expect(
        "cp.async of 4 bytes that some ignore", f_ignored,
        BODY(
            COPY_HEAD
            "and.b32 %r2, %t, 1; setp.ne.s32 %p1, %r2, 0; cp.async.ca.shared.global [%r8+0], [%rd1+0], 4, %p1; cp.async.wait_all; ld.shared.u32 %r1, [%r8];" STORE));
    expect(
        "stages: a group on its way while another is read", f_stages,
        BODY(
            ".shared .align 16 .b8 s[768]; mul.wide.u32 %rd1, %t, 4; add.s64 %rd1, %in, %rd1; mov.u32 %r9, s; mad.lo.s32 %r9, %t, 4, %r9; xor.b32 %r8, %t, 1; mov.u32 %r7, s; mad.lo.s32 %r7, %r8, 4, %r7;"
            "mov.u32 %r1, 0; mov.u32 %r2, 0; cp.async.ca.shared.global [%r9], [%rd1], 4; cp.async.commit_group;\n"
            "LOOP: setp.lt.u32 %p1, %r2, 3; not.b32 %r3, %r2; and.b32 %r3, %r3, 1; mul.lo.s32 %r3, %r3, 384; add.s32 %r4, %r9, %r3; add.s64 %rd1, %rd1, 384;"
            "@%p1 cp.async.ca.shared.global [%r4], [%rd1], 4; cp.async.commit_group; cp.async.wait_group 1; bar.sync 0;"
            "and.b32 %r5, %r2, 1; mad.lo.s32 %r5, %r5, 384, %r7; ld.shared.u32 %r6, [%r5]; add.s32 %r1, %r1, %r6; bar.sync 0; add.s32 %r2, %r2, 1; setp.lt.u32 %p2, %r2, 4; @%p2 bra LOOP;" STORE));
}

/* ---- lanes together ---- */
static uint32_t f_butterfly(uint32_t t) {
    return (t / 32 * 32) * 32 + 496;
}
static uint32_t f_shuffles(uint32_t t) {
    uint32_t l = t & 31, up = l >= 3 ? l - 3 : l, down = (l & 7) + 2 <= 7 ? l + 2 : l, index = (l & 24) | 5;
    return up | down << 8 | index << 16 | (uint32_t)(l >= 3) << 24 | (uint32_t)((l & 7) + 2 <= 7) << 25;
}
static uint32_t f_votes(uint32_t t) {
    return 0x0000ffffu + ((t & 31) < 16 ? 0x10000000u : 0) + 0x40000000u;
}
static uint32_t f_match(uint32_t t) {
    return 0x11111111u << (t & 3);
}
static uint32_t f_redux(uint32_t t) {
    uint32_t w = t / 32 * 32, sum = 0;
    for (uint32_t l = 0; l < 32; l++) sum += w + l;
    return sum + (w - 16) * 3 + (w + 15) * 5 + (w | 31) * 7;
}
static uint32_t f_half_warp(uint32_t t) {
    return (t & 31) < 16 ? t ^ 8 : t;
}
static uint32_t f_red(uint32_t t) {
    return 48 + (t < 200) * 100 + 1000;
}
static void test_together(void) {
    expect(
        "a sum by butterfly", f_butterfly,
        BODY(
            "mov.u32 %r1, %t; shfl.sync.bfly.b32 %r2, %r1, 16, 31, -1; add.s32 %r1, %r1, %r2; shfl.sync.bfly.b32 %r2, %r1, 8, 31, -1; add.s32 %r1, %r1, %r2;"
            "shfl.sync.bfly.b32 %r2, %r1, 4, 31, -1; add.s32 %r1, %r1, %r2; shfl.sync.bfly.b32 %r2, %r1, 2, 31, -1; add.s32 %r1, %r1, %r2;"
            "shfl.sync.bfly.b32 %r2|%p1, %r1, 1, 31, 0xffffffff; add.s32 %r1, %r1, %r2;" STORE));
    expect(
        "shuffles up, down in eights, by index", f_shuffles,
        BODY(
            "shfl.sync.up.b32 %r1|%p1, %l, 3, 0, -1; shfl.sync.down.b32 %r2|%p2, %l, 2, 0x1807, -1; shfl.sync.idx.b32 %r3, %l, 5, 0x181f, -1; shl.b32 %r2, %r2, 8; shl.b32 %r3, %r3, 16;"
            "or.b32 %r1, %r1, %r2; or.b32 %r1, %r1, %r3; selp.b32 %r4, 0x1000000, 0, %p1; selp.b32 %r5, 0x2000000, 0, %p2; or.b32 %r1, %r1, %r4; or.b32 %r1, %r1, %r5;" STORE));
    expect(
        "votes", f_votes,
        BODY(
            "setp.lt.u32 %p1, %l, 16; vote.sync.ballot.b32 %r1, %p1, -1; vote.sync.all.pred %p2, %p1, -1; vote.sync.any.pred %p3, !%p1, -1; vote.sync.uni.pred %p4, %p1, -1;"
            "selp.b32 %r2, 0x10000000, 0, %p1; add.s32 %r1, %r1, %r2; @%p2 add.s32 %r1, %r1, 0x20000000; @%p3 add.s32 %r1, %r1, 0x40000000; @%p4 add.s32 %r1, %r1, 0x20000000;" STORE));
    expect("matches", f_match,
           BODY("and.b32 %r2, %l, 3; match.any.sync.b32 %r1, %r2, -1; match.all.sync.b32 %r3|%p1, %r2, -1; @%p1 mov.u32 %r1, 0;" STORE));
    expect(
        "integer reductions", f_redux,
        BODY(
            "redux.sync.add.s32 %r1, %t, -1; sub.s32 %r2, %t, 16; redux.sync.min.s32 %r3, %r2, -1; redux.sync.max.s32 %r4, %r2, -1; redux.sync.or.b32 %r5, %t, -1;"
            "mad.lo.s32 %r1, %r3, 3, %r1; mad.lo.s32 %r1, %r4, 5, %r1; mad.lo.s32 %r1, %r5, 7, %r1;" STORE));
    expect(
        "lanes named by a mask on one side of a branch", f_half_warp,
        BODY(
            "mov.u32 %r1, %t; setp.ge.u32 %p1, %l, 16; @%p1 bra SKIP; shfl.sync.bfly.b32 %r1, %t, 8, 31, 0xffff; bar.warp.sync 0xffff;\nSKIP: " STORE));
    expect(
        "barriers that count and ask", f_red,
        BODY(
            "and.b32 %r2, %t, 1; setp.ne.s32 %p1, %r2, 0; bar.red.popc.u32 %r1, 0, %p1; setp.lt.u32 %p2, %t, 200; bar.red.and.pred %p3, 0, %p2; setp.eq.s32 %p4, %t, 7;"
            "bar.red.or.pred %p5, 0, %p4; @%p3 add.s32 %r1, %r1, 100; @%p5 add.s32 %r1, %r1, 1000;" STORE));
}

/* ---- control ---- */
static uint32_t f_collatz(uint32_t t) {
    uint32_t n = t + 1, steps = 0;
    for (; n != 1; steps++) n = n & 1 ? 3 * n + 1 : n / 2;
    return steps;
}
static uint32_t f_table_jump(uint32_t t) {
    return t % 3 == 0 ? 10 : t % 3 == 1 ? 21 : 32;
}
static uint32_t f_called(uint32_t t) {
    return 2 * t + 1 + (t & 1 ? 2 * t + 101 : 7);
}
static uint32_t f_named(uint32_t t) {
    return t < 64 ? 3 * ((t + 32) % 64) + 1 : 5;
}
static void test_control(void) {
    expect(
        "lanes leave a loop at different times", f_collatz,
        BODY(
            "add.s32 %r2, %t, 1; mov.u32 %r1, 0;\nTOP: setp.eq.s32 %p1, %r2, 1; @%p1 bra DONE; and.b32 %r3, %r2, 1; setp.eq.s32 %p2, %r3, 0; @%p2 bra EVEN; mad.lo.s32 %r2, %r2, 3, 1; bra.uni NEXT;\n"
            "EVEN: shr.u32 %r2, %r2, 1;\nNEXT: add.s32 %r1, %r1, 1; bra TOP;\nDONE: bar.warp.sync -1;" STORE));
    expect(
        "a jump by table", f_table_jump,
        BODY(
            "rem.u32 %r2, %t, 3; TABLE: .branchtargets A, B, C; brx.idx %r2, TABLE;\nA: mov.u32 %r1, 10; bra END;\nB: mov.u32 %r1, 21; bra END;\nC: mov.u32 %r1, 32;\nEND: " STORE));
    expect(
        "functions", f_called,
        KERNEL(
            ".func (.param .b32 result) twice(.param .b32 x, .param .b32 y);\n.func (.param .b32 result) twice(.param .b32 x, .param .b32 y) { .reg .b32 %r<4>; ld.param.b32 %r1, [x]; ld.param.b32 %r2, [y];"
            "shl.b32 %r1, %r1, 1; add.s32 %r1, %r1, %r2; st.param.b32 [result], %r1; ret; }",
            "mov.u32 %r9, 1; { .param .b32 p0; .param .b32 p1; .param .b32 q; st.param.b32 [p0], %t; st.param.b32 [p1+0], %r9; call.uni (q), twice, (p0, p1); ld.param.b32 %r1, [q+0]; }"
            "and.b32 %r2, %t, 1; setp.eq.s32 %p1, %r2, 0; mov.u32 %r3, 7; @%p1 bra JOIN; mov.u32 %r9, 101;"
            "{ .param .b32 p0; .param .b32 p1; .param .b32 q; st.param.b32 [p0], %t; st.param.b32 [p1+0], %r9; call (q), twice, (p0, p1); ld.param.b32 %r3, [q+0]; }\nJOIN: add.s32 %r1, %r1, %r3;" STORE));
    expect(
        "a barrier of two warps of three", f_named,
        BODY(
            ".shared .b8 s[256]; mov.u32 %r1, 5; setp.ge.u32 %p1, %t, 64; @%p1 bra END; mul.wide.u32 %rd1, %t, 4; add.s64 %rd1, %in, %rd1; ld.global.u32 %r2, [%rd1]; mov.u32 %r3, s;"
            "mad.lo.s32 %r4, %t, 4, %r3; st.shared.u32 [%r4], %r2; bar.sync 1, 64; add.s32 %r5, %t, 32; and.b32 %r5, %r5, 63; mad.lo.s32 %r5, %r5, 4, %r3; ld.shared.u32 %r1, [%r5];\nEND: " STORE));
}

/* ---- matrices ---- */
static bool transposed(void) {
    for (int l = 0; l < 32; l++)
        for (int m = 0; m < 4; m++) { /* matrix m, row r, column c holds 64 m + 8 r + c */
            uint32_t straight = out[(m * 32 + l)], turned = out[128 + m * 32 + l];
            uint32_t at = (uint32_t)(64 * m + (l >> 2) * 8 + (l & 3) * 2), at_turned = (uint32_t)(64 * m + (l & 3) * 16 + (l >> 2));
            if (straight != (at | (at + 1) << 16) || turned != (at_turned | (at_turned + 8) << 16)) return false;
        }
    return out[256] == out[0] && out[257] == out[1] && out[320] == out[32];
}
static const char ldmatrix_text[] = KERNEL(
    "",
    ".shared .align 16 .b8 s[512]; mov.u32 %r9, s; setp.ge.u32 %p1, %t, 32; shl.b32 %r1, %t, 4; @%p1 bra JOIN; add.s32 %r2, %r9, %r1; shl.b32 %r3, %t, 3; mad.lo.s32 %r3, %r3, 0x10001, 0x10000;"
    "add.s32 %r4, %r3, 0x20002; add.s32 %r5, %r3, 0x40004; add.s32 %r6, %r3, 0x60006; st.shared.v4.b32 [%r2], {%r3, %r4, %r5, %r6};\nJOIN: bar.sync 0; @%p1 ret;"
    "add.s32 %r2, %r9, %r1; ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r10, %r11, %r12, %r13}, [%r2]; ldmatrix.sync.aligned.m8n8.x4.trans.shared::cta.b16 {%r14, %r15, %r16, %r17}, [%r2];"
    "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r18}, [%r2]; ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r19, %r20}, [%r2];"
    "st.global.u32 [%at], %r10; st.global.u32 [%at+128], %r11; st.global.u32 [%at+256], %r12; st.global.u32 [%at+384], %r13; st.global.u32 [%at+512], %r14; st.global.u32 [%at+640], %r15;"
    "st.global.u32 [%at+768], %r16; st.global.u32 [%at+896], %r17; st.global.u32 [%at+1024], %r18; st.global.u32 [%at+1280], %r20;");

typedef enum format { HALF, BRAIN, TENSOR } format;
static float element(format f, uint32_t reg, int high) {
    if (f == TENSOR) return float_of(reg);
    const uint32_t h = high ? reg >> 16 : reg & 0xffff, e = h >> 10 & 31;
    if (f == BRAIN) return float_of(h << 16);
    return (h & 0x8000 ? -1 : 1) * (e ? ldexpf((float)(h & 1023) + 1024, (int)e - 25) : ldexpf((float)(h & 1023), -24));
}
/* Words are made such that every element is a small multiple of 1/8, so that each sum is exact and the order of it does not matter. */
static uint32_t some_word(format f, uint32_t k) {
    static const uint16_t half[] = {0x0000, 0x3c00, 0xbc00, 0x4000, 0x3800, 0xc200, 0x3000, 0xb400},
                          brain[] = {0x0000, 0x3f80, 0xbf80, 0x4000, 0x3f00, 0xc040, 0x3e00, 0xbe80};
    const uint32_t a = k * 2654435761u >> 29, b = (k + 77) * 2246822519u >> 29;
    if (f == TENSOR) return (uint32_t)brain[a] << 16;
    return f == HALF ? half[a] | (uint32_t)half[b] << 16 : brain[a] | (uint32_t)brain[b] << 16;
}
static void test_a_product(const char *opcode, format f, int depth, bool half_sums) {
    const int of_a = f == TENSOR || depth == 16 ? 4 : 2, of_b = of_a / 2, of_c = half_sums ? 2 : 4, per = f == TENSOR ? 1 : 2;
    char text[2048], *t = text;
    checked_case = opcode;
    t += sprintf(
        t, HEAD
        ".visible .entry k(.param .u64 in, .param .u64 out) { .reg .b32 %%r<12>; .reg .b32 %%d<4>; .reg .b32 %%t; .reg .b64 %%x<2>;\n"
        "ld.param.u64 %%x0, [in]; ld.param.u64 %%x1, [out]; mov.u32 %%t, %%tid.x; mad.wide.u32 %%x0, %%t, 4, %%x0; mad.wide.u32 %%x1, %%t, 4, %%x1;\n");
    for (int k = 0; k < of_a + of_b + of_c; k++) t += sprintf(t, "ld.global.u32 %%r%d, [%%x0+%d];\n", k, 128 * k);
    t += sprintf(t, "%s {%%d0, %%d1%s}, {", opcode, half_sums ? "" : ", %d2, %d3");
    for (int k = 0; k < of_a + of_b + of_c; k++)
        t += sprintf(t, "%s%%r%d%s", k && k != of_a && k != of_a + of_b ? ", " : "", k, k == of_a - 1 || k == of_a + of_b - 1 ? "}, {" : "");
    t += sprintf(t, "};\n");
    for (int k = 0; k < of_c; k++) t += sprintf(t, "st.global.u32 [%%x1+%d], %%d%d;\n", 128 * k, k);
    sprintf(t, "ret; }\n");
    in = region_of(0, 12 * 128, 0), out = region_of(1, 4 * 128, 0);
    for (int k = 0; k < (of_a + of_b) * 32; k++) in[k] = some_word(f, (uint32_t)k);
    uint32_t *c = in + (of_a + of_b) * 32;
    for (int k = 0; k < of_c * 32; k++) c[k] = half_sums ? some_word(HALF, (uint32_t)k + 1000) : bits_of((float)(k % 17) - 8);
    if (!CHECK(run_text((run){.text = text}))) fprintf(stderr, "  %s\n%s\n", report.message, text);
    int wrong = 0;
    for (int row = 0; row < 16; row++)
        for (int column = 0; column < 8; column++) {
            const int lane = (row & 7) * 4 + column / 2, r = (row >> 3) * (half_sums ? 1 : 2) + (half_sums ? 0 : column & 1);
            float sum = half_sums ? element(HALF, c[r * 32 + lane], column & 1) : float_of(c[r * 32 + lane]);
            for (int k = 0; k < depth; k++) {
                const int in_block = k % (4 * per), block = k / (4 * per), ra = (row >> 3) + 2 * block;
                sum += element(f, in[ra * 32 + (row & 7) * 4 + in_block / per], in_block % per) *
                       element(f, in[(of_a + block) * 32 + column * 4 + in_block / per], in_block % per);
            }
            const float got = half_sums ? element(HALF, out[r * 32 + lane], column & 1) : float_of(out[r * 32 + lane]);
            wrong += got != sum;
        }
    CHECK(wrong == 0);
}
static void test_matrices(void) {
    run_all("ldmatrix", ldmatrix_text, transposed);
    test_a_product("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", BRAIN, 16, false);
    test_a_product("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", HALF, 16, false);
    test_a_product("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16", HALF, 16, true);
    test_a_product("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32", BRAIN, 8, false);
    test_a_product("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32", HALF, 8, false);
    test_a_product("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", TENSOR, 8, false);
}

int main(void) {
    test_memory();
    test_copies();
    test_together();
    test_control();
    test_matrices();
    regions_free();
    return check_end();
}
