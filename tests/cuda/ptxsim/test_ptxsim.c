/* Known answers of the lane operations: each row is an instruction, its operands' widths and values, and the value it must give. Every row runs on a
 * block of 45 threads, so that whole warps and parts of warps take part, and the threads that do not exist must leave memory alone. */
#include "check.h"

#include <math.h>

typedef struct row {
    const char *widths; /* bytes of d, a, b, c as digits */
    const char *text;   /* uses %d, %a, %b, %c, %p, %q */
    uint64_t a, b, c, d;
} row;
#define F bits_of
#define D bits_of_double
#define ONES 0xffffffffffffffffu

static void run_row(const row *r) {
    static const char *const types[] = {"", "", "b16", "", "b32", "", "", "", "b64"};
    enum { THREADS = 45, PLACES = 64 };
    char text[4096];
    const int wd = r->widths[0] - '0', wa = r->widths[1] - '0', wb = r->widths[2] - '0', wc = r->widths[3] - '0';
    snprintf(
        text, sizeof(text),
        HEAD
        ".visible .entry k(.param .u64 in, .param .u64 out) {\n.reg .%s %%d; .reg .%s %%a; .reg .%s %%b; .reg .%s %%c; .reg .pred %%p, %%q; .reg .b64 %%x<3>; .reg .b32 %%t;\n"
        "ld.param.u64 %%x0, [in]; ld.param.u64 %%x1, [out]; mov.u32 %%t, %%tid.x; mad.wide.u32 %%x1, %%t, 8, %%x1;\n"
        "ld.global.%s %%a, [%%x0]; ld.global.%s %%b, [%%x0+8]; ld.global.%s %%c, [%%x0+16];\n%s\nst.global.%s [%%x1], %%d;\nret;\n}\n",
        types[wd], types[wa], types[wb], types[wc], types[wa], types[wb], types[wc], r->text, types[wd]);
    checked_case = r->text;
    uint64_t *in = region_of(0, 24, 0), *out = region_of(1, PLACES * 8, 0xaa);
    in[0] = r->a, in[1] = r->b, in[2] = r->c;
    if (!CHECK(run_text((run){.text = text, .threads = THREADS}))) fprintf(stderr, "  %s\n", report.message);
    int wrong = 0;
    for (int t = 0; t < PLACES; t++) {
        uint64_t want = 0xaaaaaaaaaaaaaaaau;
        if (t < THREADS) memcpy(&want, &r->d, (size_t)wd);
        if (out[t] != want && !wrong++)
            fprintf(stderr, "  thread %d: 0x%llx, wanted 0x%llx\n", t, (unsigned long long)out[t], (unsigned long long)want);
    }
    CHECK(wrong == 0);
}
#define RUN(rows)                                                                                                                                    \
    for (size_t k = 0; k < sizeof(rows) / sizeof(*rows); k++) run_row(&rows[k])

static void test_integers(void) {
    const row rows[] = {
        {"4444", "add.s32 %d, %a, %b;", 0x7fffffff, 1, 0, 0x80000000},
        {"2222", "add.s16 %d, %a, %b;", 0xffff, 2, 0, 1},
        {"8888", "add.u64 %d, %a, %b;", ONES, 2, 0, 1},
        {"4444", "sub.u32 %d, %a, %b;", 1, 2, 0, 0xffffffff},
        {"4444", "mul.lo.s32 %d, %a, %b;", 0x10001, 0x10001, 0, 0x20001},
        {"8888", "mul.lo.s64 %d, %a, %b;", 1ull << 40, 1 << 20, 0, 1ull << 60},
        {"2222", "mul.lo.u16 %d, %a, %b;", 0xffff, 0xffff, 0, 1},
        {"4444", "mul.hi.u32 %d, %a, %b;", 0xffffffff, 0xffffffff, 0, 0xfffffffe},
        {"4444", "mul.hi.s32 %d, %a, %b;", 0xffffffff, 5, 0, 0xffffffff},
        {"8888", "mul.hi.u64 %d, %a, %b;", ONES, ONES, 0, ONES - 1},
        {"8888", "mul.hi.s64 %d, %a, %b;", ONES, 3, 0, ONES},
        {"8444", "mul.wide.s32 %d, %a, %b;", 0xffffffff, 7, 0, (uint64_t)-7},
        {"8444", "mul.wide.u32 %d, %a, %b;", 0xffffffff, 7, 0, 0x6fffffff9},
        {"4222", "mul.wide.s16 %d, %a, %b;", 0xffff, 3, 0, 0xfffffffd},
        {"4222", "mul.wide.u16 %d, %a, %b;", 0xffff, 3, 0, 0x2fffd},
        {"8448", "mad.wide.s32 %d, %a, %b, %c;", 0xffffffff, 7, 10, 3},
        {"8448", "mad.wide.u32 %d, %a, %b, %c;", 0xffffffff, 2, 3, 0x200000001},
        {"4444", "mad.lo.s32 %d, %a, %b, %c;", 3, 5, 0xffffffff, 14},
        {"4444", "mad.hi.u32 %d, %a, %b, %c;", 0x80000000, 4, 5, 7},
        {"8888", "mad.lo.s64 %d, %a, %b, %c;", 3, 5, 7, 22},
        {"4444", "div.s32 %d, %a, %b;", (uint32_t)-7, 2, 0, (uint32_t)-3},
        {"4444", "rem.s32 %d, %a, %b;", (uint32_t)-7, 2, 0, (uint32_t)-1},
        {"4444", "div.u32 %d, %a, %b;", 0xfffffff9, 2, 0, 0x7ffffffc},
        {"8888", "rem.u64 %d, %a, %b;", ONES, 10, 0, 5},
        {"8888", "div.s64 %d, %a, %b;", (uint64_t)-100, 7, 0, (uint64_t)-14},
        {"4444", "div.s32 %d, %a, %b;", 0x80000000, 0xffffffff, 0, 0x80000000},
        {"4444", "min.s32 %d, %a, %b;", 0xffffffff, 1, 0, 0xffffffff},
        {"4444", "min.u32 %d, %a, %b;", 0xffffffff, 1, 0, 1},
        {"8888", "max.s64 %d, %a, %b;", ONES, 1, 0, 1},
        {"2222", "max.u16 %d, %a, %b;", 0xffff, 1, 0, 0xffff},
        {"4444", "abs.s32 %d, %a;", (uint32_t)-5, 0, 0, 5},
        {"8888", "neg.s64 %d, %a;", 5, 0, 0, (uint64_t)-5},
        {"4444", "not.b32 %d, %a;", 0xf0f0f0f0, 0, 0, 0x0f0f0f0f},
        {"4444", "cnot.b32 %d, %a;", 0, 0, 0, 1},
        {"4444", "sad.u32 %d, %a, %b, %c;", 3, 10, 100, 107},
        {"4444", "sad.s32 %d, %a, %b, %c;", (uint32_t)-3, 10, 100, 113},
        {"4444", "and.b32 %d, %a, %b;", 0xff00ff00, 0x0ff00ff0, 0, 0x0f000f00},
        {"8888", "or.b64 %d, %a, %b;", 1, 1ull << 63, 0, (1ull << 63) | 1},
        {"2222", "xor.b16 %d, %a, %b;", 0xff, 0xf0f, 0, 0xff0},
        {"4444", "shl.b32 %d, %a, %b;", 3, 31, 0, 0x80000000},
        {"4444", "shl.b32 %d, %a, %b;", 3, 32, 0, 0},
        {"8844", "shl.b64 %d, %a, %b;", 1, 63, 0, 1ull << 63},
        {"4444", "shr.s32 %d, %a, %b;", 0x80000000, 40, 0, 0xffffffff},
        {"4444", "shr.u32 %d, %a, %b;", 0x80000000, 31, 0, 1},
        {"4444", "shr.u32 %d, %a, %b;", 0x80000000, 32, 0, 0},
        {"8844", "shr.s64 %d, %a, %b;", 1ull << 63, 62, 0, ONES - 1},
        {"2244", "shr.u16 %d, %a, %b;", 0x8000, 15, 0, 1},
        {"2244", "shr.s16 %d, %a, %b;", 0x8000, 15, 0, 0xffff},
        {"4444", "shf.l.wrap.b32 %d, %a, %b, %c;", 0x80000000, 1, 33, 3},
        {"4444", "shf.l.clamp.b32 %d, %a, %b, %c;", 0x12345678, 1, 40, 0x12345678},
        {"4444", "shf.r.wrap.b32 %d, %a, %b, %c;", 0x80000000, 1, 31, 3},
        {"4444", "shf.r.clamp.b32 %d, %a, %b, %c;", 1, 0x12345678, 32, 0x12345678},
        {"4444", "popc.b32 %d, %a;", 0xf0f00001, 0, 0, 9},
        {"4888", "popc.b64 %d, %a;", ONES, 0, 0, 64},
        {"4444", "clz.b32 %d, %a;", 0, 0, 0, 32},
        {"4888", "clz.b64 %d, %a;", 1, 0, 0, 63},
        {"4444", "bfind.u32 %d, %a;", 0x100, 0, 0, 8},
        {"4444", "bfind.s32 %d, %a;", 0xffffff00, 0, 0, 7},
        {"4444", "bfind.u32 %d, %a;", 0, 0, 0, 0xffffffff},
        {"4888", "bfind.u64 %d, %a;", 1ull << 40, 0, 0, 40},
        {"4444", "brev.b32 %d, %a;", 0x00000013, 0, 0, 0xc8000000},
        {"8888", "brev.b64 %d, %a;", 1, 0, 0, 1ull << 63},
        {"4444", "bfe.u32 %d, %a, %b, %c;", 0x12345678, 8, 12, 0x456},
        {"4444", "bfe.s32 %d, %a, %b, %c;", 0x00000f00, 8, 4, 0xffffffff},
        {"4444", "bfe.s32 %d, %a, %b, %c;", 0x80000000, 28, 10, 0xfffffff8},
        {"8844", "bfe.u64 %d, %a, %b, %c;", 0x123456789abcdef0, 60, 4, 1},
        {"8844", "bfe.s64 %d, %a, %b, %c;", 1ull << 63, 60, 4, (uint64_t)-8},
        {"8844", "bfe.u64 %d, %a, %b, %c;", ONES, 0, 63, ONES >> 1},
        {"8844", "bfe.u64 %d, %a, %b, %c;", ONES, 0, 64, ONES},
        {"4444", "bfe.u32 %d, %a, %b, %c;", 5, 0, 0, 0},
        {"4444", "bfi.b32 %d, %a, %b, %c, 8;", 0xff, 0x11111111, 8, 0x1111ff11},
        {"8884", "bfi.b64 %d, %a, %b, %c, 32;", 0xabcd, 5, 32, 0xabcd00000005},
        {"4444", "lop3.b32 %d, %a, %b, %c, 0x96;", 0xff00ff00, 0xf0f0f0f0, 0xcccccccc, 0xff00ff00 ^ 0xf0f0f0f0u ^ 0xccccccccu},
        {"4444", "lop3.b32 %d, %a, %b, %c, 0xea;", 0xff00ff00, 0xf0f0f0f0, 0xcccccccc, (0xff00ff00 & 0xf0f0f0f0u) | 0xccccccccu},
        {"4444", "prmt.b32 %d, %a, %b, %c;", 0x33221100, 0x77665584, 0x7604, 0x77660084},
        {"4444", "prmt.b32 %d, %a, %b, 0xc480;", 0x33221180, 0x776655f4, 0, 0xfff4ff80},
        {"4444", "slct.u32.s32 %d, %a, %b, %c;", 1, 2, 0xffffffff, 2},
        {"4444", "slct.b32.f32 %d, %a, %b, %c;", 1, 2, F(0.5f), 1},
        {"4444", "selp.b32 %d, %a, %b, 1;", 1, 2, 0, 1},
        {"4444", "setp.lt.s32 %p, %a, %b; selp.b32 %d, %a, %b, !%p;", (uint32_t)-1, 2, 0, 2},
        {"8888", "setp.hi.u64 %p, %a, %b; selp.b64 %d, %a, %b, %p;", ONES, 2, 0, ONES},
        {"2222", "setp.ne.s16 %p, %a, %b; selp.b16 %d, %a, %b, %p;", 7, 8, 0, 7},
    };
    RUN(rows);
}

/* e: what a NaN gives. */
static void test_comparisons(void) {
    static const struct {
        const char *name;
        bool lt, eq, gt, nan;
    } rows[] = {{"eq", 0, 1, 0, 0},  {"ne", 1, 0, 1, 0},  {"lt", 1, 0, 0, 0},  {"le", 1, 1, 0, 0},  {"gt", 0, 0, 1, 0},
                {"ge", 0, 1, 1, 0},  {"equ", 0, 1, 0, 1}, {"neu", 1, 0, 1, 1}, {"ltu", 1, 0, 0, 1}, {"leu", 1, 1, 0, 1},
                {"gtu", 0, 0, 1, 1}, {"geu", 0, 1, 1, 1}, {"num", 1, 1, 1, 0}, {"nan", 0, 0, 0, 1}};
    for (size_t k = 0; k < sizeof(rows) / sizeof(*rows); k++)
        for (int wide = 0; wide < 2; wide++)
            for (int c = 0; c < 4; c++) {
                char text[160];
                const double a = c == 0 ? -1 : c == 1 ? 2 : c == 2 ? 3 : NAN, b = 2;
                const bool want = c == 0 ? rows[k].lt : c == 1 ? rows[k].eq : c == 2 ? rows[k].gt : rows[k].nan;
                snprintf(text, sizeof(text), "setp.%s.f%d %%p|%%q, %%a, %%b; selp.b32 %%d, 1, 0, %%p; @%%q add.s32 %%d, %%d, 2;", rows[k].name,
                         wide ? 64 : 32);
                run_row(&(row){wide ? "4888" : "4444", text, wide ? D(a) : F((float)a), wide ? D(b) : F((float)b), 0, want ? 1 : 2});
            }
    const row more[] = {
        {"4444", "setp.ne.s32 %q, %c, 0; setp.lt.and.s32 %p, %a, %b, %q; selp.b32 %d, 1, 0, %p;", 1, 2, 1, 1},
        {"4444", "setp.ne.s32 %q, %c, 0; setp.lt.and.s32 %p, %a, %b, !%q; selp.b32 %d, 1, 0, %p;", 1, 2, 1, 0},
        {"4444", "setp.ne.s32 %q, %c, 0; setp.gt.or.u32 %p, %a, %b, %q; selp.b32 %d, 1, 0, %p;", 1, 2, 1, 1},
        {"4444", "setp.ne.s32 %q, %c, 0; setp.lt.xor.s32 %p, %a, %b, %q; selp.b32 %d, 1, 0, %p;", 1, 2, 1, 0},
        {"4444", "set.lt.u32.s32 %d, %a, %b;", (uint32_t)-1, 2, 0, 0xffffffff},
        {"4444", "set.gt.f32.f32 %d, %a, %b;", F(3), F(2), 0, F(1)},
        {"4444", "setp.lt.ftz.f32 %p, %a, %b; selp.b32 %d, 1, 0, %p;", 1, 2, 0, 0},
        {"4444", "setp.lt.f32 %p, %a, %b; selp.b32 %d, 1, 0, %p;", 1, 2, 0, 1},
        {"4222", "setp.lt.f16 %p, %a, %b; selp.b32 %d, 1, 0, %p;", 0xbc00, 0x3c00, 0, 1},
        {"4222", "setp.ge.bf16 %p, %a, %b; selp.b32 %d, 1, 0, %p;", 0xbf80, 0x3f80, 0, 0},
        {"4444",
         "setp.ne.s32 %p, %a, 0; setp.ne.s32 %q, %b, 0; and.pred %p, %p, %q; not.pred %q, %p; xor.pred %p, %p, %q; or.pred %p, %p, %q; selp.b32 %d, 1, 0, %p;",
         1, 0, 0, 1},
        {"4444", "setp.ne.s32 %p, %a, 0; mov.pred %q, %p; mov.u32 %d, 5; @!%q mov.u32 %d, 6;", 1, 0, 0, 5},
    };
    RUN(more);
}

static void test_floats(void) {
    const row rows[] = {
        {"4444", "add.f32 %d, %a, %b;", F(1), F(0x1p-24f), 0, F(1)},
        {"4444", "add.rp.f32 %d, %a, %b;", F(1), F(0x1p-24f), 0, F(1 + 0x1p-23f)},
        {"4444", "add.rz.f32 %d, %a, %b;", F(-1), F(-0x1.8p-24f), 0, F(-1)},
        {"4444", "sub.f32 %d, %a, %b;", F(1), F(3), 0, F(-2)},
        {"4444", "mul.rn.f32 %d, %a, %b;", F(3), F(0.5f), 0, F(1.5f)},
        {"4444", "mul.ftz.f32 %d, %a, %b;", 1, F(4), 0, 0},
        {"4444", "mul.f32 %d, %a, %b;", 1, F(4), 0, 4},
        {"4444", "fma.rn.f32 %d, %a, %b, %c;", F(1 + 0x1p-12f), F(1 + 0x1p-12f), F(-1), F(0x1.0008p-11f)},
        {"4444", "fma.rm.f32 %d, %a, %b, %c;", F(1), F(1), F(-0x1p-30f), F(1 - 0x1p-24f)},
        {"4444", "fma.rn.sat.f32 %d, %a, %b, %c;", F(2), F(2), F(1), F(1)},
        {"4444", "mad.rn.f32 %d, %a, %b, %c;", F(2), F(3), F(1), F(7)},
        {"4444", "add.sat.f32 %d, %a, %b;", F(-2), F(1), 0, 0},
        {"4444", "div.rn.f32 %d, %a, %b;", F(1), F(3), 0, F(1.0f / 3)},
        {"4444", "div.full.f32 %d, %a, %b;", F(6), F(3), 0, F(2)},
        {"4444", "div.approx.f32 %d, %a, %b;", F(6), F(4), 0, F(1.5f)},
        {"4444", "sqrt.rn.f32 %d, %a;", F(2), 0, 0, F(1.41421356f)},
        {"4444", "sqrt.approx.f32 %d, %a;", F(9), 0, 0, F(3)},
        {"4444", "rsqrt.approx.f32 %d, %a;", F(4), 0, 0, F(0.5f)},
        {"4444", "rcp.rn.f32 %d, %a;", F(8), 0, 0, F(0.125f)},
        {"4444", "rcp.approx.ftz.f32 %d, %a;", F(0x1p127f), 0, 0, 0},
        {"4444", "ex2.approx.f32 %d, %a;", F(-3), 0, 0, F(0.125f)},
        {"4444", "ex2.approx.ftz.f32 %d, %a;", F(10), 0, 0, F(1024)},
        {"4444", "ex2.approx.ftz.f32 %d, %a;", F(-INFINITY), 0, 0, 0},
        {"4444", "ex2.approx.f32 %d, %a;", F(-149), 0, 0, 1},
        {"4444", "ex2.approx.f32 %d, %a;", F(129), 0, 0, F(INFINITY)},
        {"4444", "ex2.approx.ftz.f32 %d, %a;", F(-140), 0, 0, 0},
        {"4444", "lg2.approx.f32 %d, %a;", F(32), 0, 0, F(5)},
        {"4444", "sin.approx.f32 %d, %a;", 0, 0, 0, 0},
        {"4444", "cos.approx.f32 %d, %a;", 0, 0, 0, F(1)},
        {"4444", "tanh.approx.f32 %d, %a;", F(40), 0, 0, F(1)},
        {"4444", "abs.f32 %d, %a;", F(-2), 0, 0, F(2)},
        {"4444", "neg.f32 %d, %a;", F(-2), 0, 0, F(2)},
        {"4444", "copysign.f32 %d, %a, %b;", F(-1), F(3), 0, F(-3)},
        {"4444", "max.f32 %d, %a, %b;", F(NAN), F(3), 0, F(3)},
        {"4444", "min.f32 %d, %a, %b;", F(0), F(-0.0f), 0, F(-0.0f)},
        {"4444", "max.f32 %d, %a, %b;", F(-0.0f), F(0), 0, F(0)},
        {"4444", "max.NaN.f32 %d, %a, %b; setp.nan.f32 %p, %d, %d; selp.b32 %d, 1, 0, %p;", F(NAN), F(3), 0, 1},
        {"8888", "add.rn.f64 %d, %a, %b;", D(1), D(2), 0, D(3)},
        {"8888", "fma.rn.f64 %d, %a, %b, %c;", D(3), D(4), D(5), D(17)},
        {"8888", "div.rn.f64 %d, %a, %b;", D(1), D(3), 0, D(1.0 / 3)},
        {"8888", "sqrt.rn.f64 %d, %a;", D(9), 0, 0, D(3)},
        {"8888", "add.rm.f64 %d, %a, %b;", D(1), D(-0x1p-60), 0, D(1 - 0x1p-53)},
        {"8888", "max.f64 %d, %a, %b;", D(1), D(-3), 0, D(1)},
        {"8888", "neg.f64 %d, %a;", D(1), 0, 0, D(-1)},
        {"8888", "rcp.rn.f64 %d, %a;", D(4), 0, 0, D(0.25)},
        {"2222", "add.f16 %d, %a, %b;", 0x3c00, 0x4000, 0, 0x4200},
        {"2222", "mul.bf16 %d, %a, %b;", 0x4040, 0x4000, 0, 0x40c0},
        {"4444", "add.bf16x2 %d, %a, %b;", 0x3f804000, 0x3f803f80, 0, 0x40004040},
        {"4444", "fma.rn.bf16x2 %d, %a, %b, %c;", 0x40003f80, 0x40404000, 0x3f803f80, 0x40e04040},
        {"4444", "fma.rn.f16x2 %d, %a, %b, %c;", 0x40003c00, 0x42004000, 0x3c003c00, 0x47004200},
        {"4444", "mul.f16x2 %d, %a, %b;", 0x7bff0001, 0x40003800, 0, 0x7c000000},
        {"4444", "max.bf16x2 %d, %a, %b;", 0xbf803f80, 0x00004000, 0, 0x00004000},
        {"4444", "neg.f16x2 %d, %a;", 0x3c00bc00, 0, 0, 0xbc003c00},
        {"2222", "abs.bf16 %d, %a;", 0xbf80, 0, 0, 0x3f80},
        {"4444", "sub.f16x2 %d, %a, %b;", 0x40004200, 0x3c003c00, 0, 0x3c004000},
        {"4444", "ex2.approx.ftz.bf16x2 %d, %a;", 0x3f80bf80, 0, 0, 0x40003f00},
        {"2222", "tanh.approx.f16 %d, %a;", 0x5000, 0, 0, 0x3c00},
        /* 1 + 2^-8 is halfway between two bfloat16 values and the addend decides: one rounding, not two */
        {"2222", "fma.rn.bf16 %d, %a, %b, %c;", 0x3f80, 0x3f81, 0x2f80, 0x3f81},
        {"2222", "fma.rn.bf16 %d, %a, %b, %c;", 0x3b80, 0x3f80, 0x3f80, 0x3f80},
    };
    RUN(rows);
    static const char kernel[] = KERNEL(
        "", "mov.u32 %r1, %ctaid.x; mad.lo.s32 %r1, %r1, 128, %t; mul.wide.u32 %rd1, %r1, 4; add.s64 %rd2, %in, %rd1; add.s64 %rd3, %out, %rd1;"
            "ld.global.f32 %f1, [%rd2]; ex2.approx.f32 %f1, %f1; st.global.f32 [%rd3], %f1;");
    enum { COUNT = 4096 };
    uint32_t *in = region_of(0, COUNT * 4, 0), *out = region_of(1, COUNT * 4, 0);
    for (int k = 0; k < COUNT; k++) in[k] = F((float)(k - COUNT / 2) * 0.0731f);
    checked_case = "ex2 against libm";
    CHECK(run_text((run){.text = kernel, .threads = 128, .blocks = COUNT / 128}));
    for (int k = 0; k < COUNT; k++) {
        const float want = exp2f(float_of(in[k]));
        CHECK(isinf(want) ? float_of(out[k]) == want : fabsf(float_of(out[k]) - want) <= 2e-7f * want + 0x1p-149f);
    }
}

static void test_conversions(void) {
    const row rows[] = {
        {"4444", "cvt.rn.f32.s32 %d, %a;", (uint32_t)-3, 0, 0, F(-3)},
        {"4444", "cvt.rn.f32.u32 %d, %a;", 0xffffffff, 0, 0, F(0x1p32f)},
        {"4444", "cvt.rz.f32.u32 %d, %a;", 0xffffffff, 0, 0, F(0x1.fffffep31f)},
        {"4888", "cvt.rn.f32.s64 %d, %a;", (uint64_t)-5, 0, 0, F(-5)},
        {"8888", "cvt.rn.f64.u64 %d, %a;", ONES, 0, 0, D(0x1p64)},
        {"8444", "cvt.rn.f64.s32 %d, %a;", (uint32_t)-9, 0, 0, D(-9)},
        {"4444", "cvt.rzi.s32.f32 %d, %a;", F(-2.7f), 0, 0, (uint32_t)-2},
        {"4444", "cvt.rni.s32.f32 %d, %a;", F(2.5f), 0, 0, 2},
        {"4444", "cvt.rmi.s32.f32 %d, %a;", F(-2.1f), 0, 0, (uint32_t)-3},
        {"4444", "cvt.rpi.u32.f32 %d, %a;", F(2.1f), 0, 0, 3},
        {"4444", "cvt.rzi.u32.f32 %d, %a;", F(-3), 0, 0, 0},
        {"4444", "cvt.rzi.s32.f32 %d, %a;", F(1e20f), 0, 0, 0x7fffffff},
        {"4444", "cvt.rzi.s32.f32 %d, %a;", F(NAN), 0, 0, 0},
        {"8444", "cvt.rzi.s64.f32 %d, %a;", F(-1e10f), 0, 0, (uint64_t)-10000000000},
        {"4888", "cvt.rni.s32.f64 %d, %a;", D(7.5), 0, 0, 8},
        {"2444", "cvt.rzi.u16.f32 %d, %a;", F(70000), 0, 0, 0xffff},
        {"4444", "cvt.rzi.s8.f32 %d, %a;", F(-200), 0, 0, 0xffffff80},
        {"4444", "cvt.rzi.u8.f32 %d, %a;", F(300), 0, 0, 255},
        {"4444", "cvt.rni.f32.f32 %d, %a;", F(3.5f), 0, 0, F(4)},
        {"4444", "cvt.rmi.f32.f32 %d, %a;", F(-0.5f), 0, 0, F(-1)},
        {"4444", "cvt.sat.f32.f32 %d, %a;", F(1.5f), 0, 0, F(1)},
        {"4444", "cvt.ftz.sat.f32.f32 %d, %a;", 5, 0, 0, 0},
        {"8444", "cvt.f64.f32 %d, %a;", F(1.5f), 0, 0, D(1.5)},
        {"4888", "cvt.rn.f32.f64 %d, %a;", D(1 + 0x1p-25), 0, 0, F(1)},
        {"4888", "cvt.rp.f32.f64 %d, %a;", D(1 + 0x1p-25), 0, 0, F(1 + 0x1p-23f)},
        {"4888", "cvt.rm.f32.f64 %d, %a;", D(1 + 0x1.8p-24), 0, 0, F(1)},
        {"4888", "cvt.rm.f32.f64 %d, %a;", D(-1 - 0x1p-25), 0, 0, F(-1 - 0x1p-23f)},
        {"8444", "cvt.s64.s32 %d, %a;", (uint32_t)-2, 0, 0, (uint64_t)-2},
        {"8444", "cvt.u64.u32 %d, %a;", (uint32_t)-2, 0, 0, 0xfffffffe},
        {"4888", "cvt.u32.u64 %d, %a;", 0x123456789, 0, 0, 0x23456789},
        {"2444", "cvt.u16.u32 %d, %a;", 0x12345, 0, 0, 0x2345},
        {"4222", "cvt.u32.u16 %d, %a;", 0xffff, 0, 0, 0xffff},
        {"4222", "cvt.s32.s16 %d, %a;", 0xffff, 0, 0, 0xffffffff},
        {"4444", "cvt.s32.s8 %d, %a;", 0x180, 0, 0, 0xffffff80},
        {"4444", "cvt.u32.u8 %d, %a;", 0x1ff, 0, 0, 0xff},
        {"4444", "cvt.sat.s8.s32 %d, %a;", 1000, 0, 0, 127},
        {"4444", "cvt.sat.u8.s32 %d, %a;", (uint32_t)-5, 0, 0, 0},
        {"8222", "cvt.s64.s16 %d, %a;", 0x8000, 0, 0, (uint64_t)-32768},
        {"2444", "cvt.rn.bf16.f32 %d, %a;", F(1 + 0x1p-8f), 0, 0, 0x3f80},
        {"2444", "cvt.rn.bf16.f32 %d, %a;", F(1 + 0x1.8p-7f), 0, 0, 0x3f82},
        {"2444", "cvt.rz.bf16.f32 %d, %a;", F(1 + 0x1.8p-7f), 0, 0, 0x3f81},
        {"2444", "cvt.rn.bf16.f32 %d, %a;", F(NAN), 0, 0, 0x7fff},
        {"4222", "cvt.f32.bf16 %d, %a;", 0xc040, 0, 0, F(-3)},
        {"2444", "cvt.rn.f16.f32 %d, %a;", F(65519), 0, 0, 0x7bff},
        {"2444", "cvt.rn.f16.f32 %d, %a;", F(65520), 0, 0, 0x7c00},
        {"2444", "cvt.rn.f16.f32 %d, %a;", F(0x1p-24f), 0, 0, 1},
        {"2444", "cvt.rn.f16.f32 %d, %a;", F(0x1p-25f), 0, 0, 0},
        {"2444", "cvt.rn.f16.f32 %d, %a;", F(0x1.8p-25f), 0, 0, 1},
        {"2444", "cvt.rz.f16.f32 %d, %a;", F(65535), 0, 0, 0x7bff},
        {"4222", "cvt.f32.f16 %d, %a;", 0x0001, 0, 0, F(0x1p-24f)},
        {"4222", "cvt.f32.f16 %d, %a;", 0xfc00, 0, 0, F(-INFINITY)},
        {"4222", "cvt.f32.f16 %d, %a;", 0xc200, 0, 0, F(-3)},
        {"2444", "cvt.rn.relu.bf16.f32 %d, %a;", F(-3), 0, 0, 0},
        {"4444", "cvt.rn.bf16x2.f32 %d, %a, %b;", F(1), F(2), 0, 0x3f804000},
        {"4444", "cvt.rn.f16x2.f32 %d, %a, %b;", F(1), F(2), 0, 0x3c004000},
        {"4444", "cvt.rz.bf16x2.f32 %d, %a, %b;", F(1.999f), F(2), 0, 0x3fff4000},
        {"4444", "cvt.rn.relu.f16x2.f32 %d, %a, %b;", F(-1), F(2), 0, 0x00004000},
        {"2222", "cvt.rn.f16.u16 %d, %a;", 3, 0, 0, 0x4200},
        {"2222", "cvt.rzi.s16.f16 %d, %a;", 0xc200, 0, 0, 0xfffd},
        {"4444", "cvt.rna.tf32.f32 %d, %a;", F(1 + 0x1p-11f), 0, 0, F(1 + 0x1p-10f)},
        {"2444", "cvt.rn.satfinite.e4m3x2.f32 %d, %a, %b;", F(1000), F(1.0625f), 0, 0x7e38},
        {"2444", "cvt.rn.satfinite.e4m3x2.f32 %d, %a, %b;", F(-0x1p-9f), F(0x1p-10f), 0, 0x8100},
        {"2444", "cvt.rn.satfinite.e5m2x2.f32 %d, %a, %b;", F(1), F(-1e9f), 0, 0x3cfb},
        {"4222", "cvt.rn.f16x2.e4m3x2 %d, %a;", 0x7e38, 0, 0, 0x5f003c00},
        {"4222", "cvt.rn.f16x2.e5m2x2 %d, %a;", 0x7c3c, 0, 0, 0x7c003c00},
        {"4222", "cvt.rn.f16x2.e4m3x2 %d, %a;", 0x0181, 0, 0, 0x18009800},
    };
    RUN(rows);
    static const char kernel[] = KERNEL(
        "",
        "mov.u32 %r1, %ctaid.x; mad.lo.s32 %r1, %r1, 1024, %t; mul.wide.u32 %rd1, %r1, 4; add.s64 %rd1, %out, %rd1; cvt.u16.u32 %h1, %r1;"
        "cvt.f32.f16 %f1, %h1; cvt.rn.f16.f32 %h2, %f1; cvt.f32.bf16 %f2, %h1; cvt.rn.bf16.f32 %h3, %f2; mov.b32 %r1, {%h2, %h3}; st.global.b32 [%rd1], %r1;");
    uint32_t *out = region_of(1, 65536 * 4, 0);
    checked_case = "every half there and back";
    CHECK(run_text((run){.text = kernel, .threads = 1024, .blocks = 64}));
    for (unsigned h = 0; h < 65536; h++) {
        const bool nan16 = (h & 0x7fff) > 0x7c00, nan_b = (h & 0x7fff) > 0x7f80;
        CHECK((out[h] & 0xffff) == (nan16 ? 0x7fffu : h) && out[h] >> 16 == (nan_b ? 0x7fffu : h));
    }
}

static void test_moves(void) {
    const row rows[] = {
        {"4444", "{ .reg .b16 %h0, %h1; mov.b32 {%h0, %h1}, %a; mov.b32 %d, {%h1, %h0}; }", 0x12345678, 0, 0, 0x56781234},
        {"8444", "mov.b64 %d, {%a, %b};", 1, 2, 0, 0x200000001},
        {"4888", "{ .reg .b32 %x9; mov.b64 {%x9, %d}, %a; }", 0x200000001, 0, 0, 2},
        {"4888", "mov.b64 {_, %d}, %a;", 0x300000001, 0, 0, 3},
        {"8222", "{ .reg .b16 %h<4>; mov.b64 %d, {%a, %b, %c, 7}; mov.b64 {%h0, %h1, %h2, %h3}, %d; mov.b64 %d, {%h3, %h2, %h1, %h0}; }", 1, 2, 3,
         0x0001000200030007},
        {"4222", "mov.b32 %d, {0, %a};", 0x3f80, 0, 0, F(1)},
        {"4444", "mov.f32 %d, 0f3F800000;", 0, 0, 0, F(1)},
        {"8888", "mov.f64 %d, 0d3FF0000000000000;", 0, 0, 0, D(1)},
        {"4444", "mov.u32 %d, -1;", 0, 0, 0, 0xffffffff},
        {"2222", "mov.u16 %d, 0x1234;", 0, 0, 0, 0x1234},
        {"4444", "mov.u32 %d, %ntid.x;", 0, 0, 0, 45},
        {"4444", "mov.u32 %d, WARP_SZ;", 0, 0, 0, 32},
        {"4444", "mov.u32 %d, %nctaid.y; add.s32 %d, %d, %ctaid.x;", 0, 0, 0, 1},
        {"8888", "mov.u64 %d, %globaltimer; setp.gt.u64 %p, %d, 1000000; selp.b64 %d, 1, 0, %p;", 0, 0, 0, 1},
    };
    RUN(rows);
}

int main(void) {
    test_integers();
    test_comparisons();
    test_floats();
    test_conversions();
    test_moves();
    regions_free();
    return check_end();
}
