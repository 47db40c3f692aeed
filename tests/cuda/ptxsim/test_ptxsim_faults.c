/* What the interpreter must find, one kernel for each: it names the fault, and the same kernel without it passes where that is worth a line. And what it
 * counts: bank passes and sectors of kernels whose conflicts are known. */
#include "check.h"

enum { THREADS = 64, WORDS = 256 };
static uint32_t *in, *out;

static bool run_on(const char *text, uint64_t seed, ptxsim_async async) {
    in = region_of(0, WORDS * 4, 0), out = region_of(1, WORDS * 4, 0xee);
    for (uint32_t k = 0; k < WORDS; k++) in[k] = k;
    return run_text((run){.text = text, .threads = THREADS, .shared = 1024, .seed = seed, .async = async});
}
/* The text fails with all of the words in its message. */
static void fails(const char *name, const char *words, const char *text) {
    checked_case = name;
    const bool ok = run_on(text, 0, PTXSIM_ASYNC_LATE);
    if (!CHECK(!ok && strstr(report.message, words))) fprintf(stderr, "  %s\n", ok ? "it passed" : report.message);
}
static void passes(const char *name, const char *text) {
    checked_case = name;
    if (!CHECK(run_on(text, 0, PTXSIM_ASYNC_LATE))) fprintf(stderr, "  %s\n", report.message);
}
#define BODY(body) KERNEL("", body)
#define STORE "st.global.u32 [%at], %r1;"
#define SHARED                                                                                                                                       \
    ".shared .align 16 .b8 s[1024]; mov.u32 %r9, s; shl.b32 %r8, %t, 2; add.s32 %r8, %r8, %r9; xor.b32 %r7, %t, 32; shl.b32 %r7, %r7, 2; add.s32 %r7, %r7, %r9;"

static void test_memory_faults(void) {
    fails("a read behind a region", "read of 4 bytes at 0x100000400: outside every region", BODY("ld.global.u32 %r1, [%in+1024];" STORE));
    fails("a read before a region", "outside every region", BODY("ld.global.u32 %r1, [%in+-4];" STORE));
    fails("one lane too far", "thread (63,0,0)", BODY("mul.wide.u32 %rd1, %t, 4; add.s64 %rd1, %rd1, %in; ld.global.u32 %r1, [%rd1+772];" STORE));
    fails("a write to nowhere", "write of 8 bytes", BODY("mov.u64 %rd1, 64; st.global.u64 [%rd1], %at;"));
    fails("alignment in global memory", "not aligned", BODY("ld.global.u32 %r1, [%in+2];" STORE));
    fails("alignment of a vector", "an access of 16 bytes", BODY("ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%in+8];" STORE));
    fails("alignment in shared memory", "not aligned", BODY(SHARED "st.shared.u32 [%r8+1], %t;"));
    fails("behind the arrays", "outside shared memory", BODY(SHARED "st.shared.u32 [%r8+2048], %t;"));
    fails("before shared memory", "outside dynamic shared memory", BODY("mov.u32 %r1, 4; st.shared.u32 [%r1+-8], %t;"));
    fails("the lane that did it", "thread (37,0,0)", BODY(SHARED "setp.eq.s32 %p1, %t, 37; @%p1 st.shared.u32 [%r8+2048], %t;"));
    fails("the lane that read it", "thread (37,0,0)", BODY(SHARED "setp.eq.s32 %p1, %t, 37; @%p1 ld.shared.u32 %r1, [%r8];"));
    fails("between two arrays", "between two arrays", BODY(".shared .b8 a[128]; .shared .b8 b[128]; mov.u32 %r9, a; st.shared.u32 [%r9+128], %t;"));
    fails("behind dynamic memory", "1024 are outside dynamic shared memory",
          KERNEL(".extern .shared .b8 dyn[];", "mov.u32 %r9, dyn; st.shared.u32 [%r9+1024], %t;"));
    fails("behind the parameters", "outside the parameters", BODY("ld.param.u64 %rd1, [more+8];"));
    fails("behind constant memory", "outside constant memory", KERNEL(".const .u32 c[2] = {1, 2};", "mov.u64 %rd1, c; ld.const.u32 %r1, [%rd1+8];"));
    fails("a write to a variable of the module", "a write to", KERNEL(".global .u32 g = 1;", "mov.u64 %rd1, g; st.global.u32 [%rd1], %t;"));
    fails("behind local memory", "outside local memory", BODY(".local .b8 depot[16]; mov.u64 %rd1, depot; st.local.u32 [%rd1+16], %t;"));
    fails("no window of addresses", "is no address", BODY("mov.u64 %rd2, 0xF000000000000000; ld.u32 %r1, [%rd2];"));
    regions[0].read_only = false;
    checked_case = "a write to memory that is read only";
    in = region_of(0, 64, 0);
    regions[0].read_only = true;
    CHECK(!run_text((run){.text = BODY("st.global.u32 [%in], %t;")}) && strstr(report.message, "read only"));
}

static void test_unwritten(void) {
    fails("shared memory never written", "was never written", BODY(SHARED "ld.shared.u32 %r1, [%r8];" STORE));
    fails("half a word never written", "was never written", BODY(SHARED "mov.u16 %h1, 1; st.shared.u16 [%r8], %h1; ld.shared.u32 %r1, [%r8];" STORE));
    fails("a register that is stored", "what is stored", BODY("add.s32 %r1, %r2, 1;" STORE));
    fails("a register in an address", "an address", BODY("ld.global.u32 %r1, [%rd9];" STORE));
    fails("a predicate", "the guard", BODY("@%p3 mov.u32 %r1, 1;"));
    fails("a branch", "the guard", BODY("setp.lt.s32 %p1, %r5, 1; @%p1 bra END;\nEND: "));
    fails("only some lanes have it", "thread (8,0,0)", BODY("setp.lt.u32 %p1, %t, 8; @%p1 mov.u32 %r1, 1;" STORE));
    fails("what is shuffled", "what is stored", BODY("setp.ge.u32 %p1, %l, 1; @%p1 mov.u32 %r2, 1; shfl.sync.idx.b32 %r1, %r2, 0, 31, -1;" STORE));
    fails("a matrix", "a matrix",
          BODY("mov.u32 %r1, 0; mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%f1, %f2, %f3, %f4}, {%r1, %r2}, {%r1}, {%f1, %f2, %f3, %f4};"));
    fails("local memory", "was never written", BODY(".local .b8 depot[16]; mov.u64 %rd1, depot; ld.local.u32 %r1, [%rd1];"));
    passes("what is chosen away", BODY("setp.eq.s32 %p1, %t, %t; mov.u32 %r1, 1; and.b32 %r3, %r5, %r6; @!%p1 mov.u32 %r1, %r3;" STORE));
}

static void test_races(void) {
    static const char missing[] = BODY(SHARED "st.shared.u32 [%r8], %t; ld.shared.u32 %r1, [%r7];" STORE);
    fails("a missing barrier between write and read", "was never written",
          missing); /* in order, the first warp reads what the second has yet to write */
    for (uint64_t seed = 1; seed < 12; seed++) {
        checked_case = "a missing barrier under any schedule";
        CHECK(!run_on(missing, seed, PTXSIM_ASYNC_LATE));
    }
    fails("read after another warp's write", "after warp 0 wrote it, with no barrier",
          BODY(SHARED "setp.ge.u32 %p1, %t, 32; @!%p1 st.shared.u32 [%r8], %t; @%p1 ld.shared.u32 %r1, [%r7];"));
    fails("write after another warp's read", "after warp 0 read it, with no barrier",
          BODY(SHARED "setp.ge.u32 %p1, %t, 32; st.shared.u32 [%r8], %t; bar.sync 0; @!%p1 ld.shared.u32 %r1, [%r7]; @%p1 st.shared.u32 [%r8], %t;"));
    fails("write after several warps' reads", "after several warps read it",
          BODY(SHARED "setp.eq.s32 %p1, %t, 0; @%p1 st.shared.u32 [%r9], %t; bar.sync 0; ld.shared.u32 %r1, [%r9]; setp.eq.s32 %p2, %t, 63;"
                      "@%p2 st.shared.u32 [%r9], %r1;" STORE));
    fails("two warps write one place", "with no barrier", BODY(SHARED "st.shared.u32 [%r9], %t;"));
    passes(
        "a place that all read",
        BODY(
            SHARED
            "setp.eq.s32 %p1, %t, 0; @%p1 st.shared.u32 [%r9], %t; bar.sync 0; ld.shared.u32 %r1, [%r9]; bar.sync 0; @%p1 st.shared.u32 [%r9], %r1;" STORE));
    passes(
        "halves of a word of two warps",
        BODY(
            ".shared .align 4 .b8 s[256]; mov.u32 %r9, s; shl.b32 %r8, %l, 2; add.s32 %r8, %r8, %r9; shl.b32 %r7, %w, 1; add.s32 %r8, %r8, %r7; cvt.u16.u32 %h1, %t;"
            "st.shared.u16 [%r8], %h1; bar.sync 0; ld.shared.u16 %h2, [%r8];"));
    /* A module with barriers for some warps has no tags: there the schedules must show it. */
    static const char untagged[] = BODY(
        SHARED "mov.u32 %r1, 7; st.shared.u32 [%r8], %r1; bar.sync 1, 64; st.shared.u32 [%r8], %t; ld.shared.u32 %r1, [%r7];" STORE);
    static const char no_syncwarp[] = BODY(
        SHARED
        "mov.u32 %r1, 7; xor.b32 %r6, %t, 1; shl.b32 %r6, %r6, 2; add.s32 %r6, %r6, %r9; st.shared.u32 [%r8], %r1; bar.warp.sync -1; st.shared.u32 [%r8], %t; ld.shared.u32 %r1, [%r6];" STORE);
    static const char syncwarp[] = BODY(
        SHARED
        "xor.b32 %r6, %t, 1; shl.b32 %r6, %r6, 2; add.s32 %r6, %r6, %r9; st.shared.u32 [%r8], %t; bar.warp.sync -1; ld.shared.u32 %r1, [%r6];" STORE);
    int wrong[3] = {0, 0, 0};
    for (uint64_t seed = 1; seed <= 64; seed++)
        for (int which = 0; which < 3; which++) {
            const char *const texts[] = {untagged, no_syncwarp, syncwarp};
            bool ok = run_on(texts[which], seed, PTXSIM_ASYNC_LATE);
            for (uint32_t t = 0; ok && t < THREADS; t++) ok = out[t] == (t ^ (which ? 1u : 32u));
            wrong[which] += !ok;
        }
    checked_case = "schedules show what tags do not";
    CHECK(wrong[0] > 0 && wrong[1] > 0 && wrong[2] == 0);
}

#define COPY SHARED "mul.wide.u32 %rd1, %t, 4; add.s64 %rd1, %rd1, %in; cp.async.ca.shared.global [%r8], [%rd1], 4; cp.async.commit_group;"
static void test_copy_faults(void) {
    static const char unwaited[] = BODY(COPY "bar.sync 0; ld.shared.u32 %r1, [%r8];" STORE);
    static const char wrong_count[] = BODY(COPY "cp.async.wait_group 1; bar.sync 0; ld.shared.u32 %r1, [%r8];" STORE);
    static const char uncommitted[] = BODY(
        SHARED
        "mul.wide.u32 %rd1, %t, 4; add.s64 %rd1, %rd1, %in; cp.async.ca.shared.global [%r8], [%rd1], 4; cp.async.wait_group 0; ld.shared.u32 %r1, [%r8];");
    static const char no_barrier[] = BODY(COPY "cp.async.wait_group 0; ld.shared.u32 %r1, [%r7];" STORE);
    static const char too_early[] = BODY(
        SHARED "st.shared.u32 [%r8], %t; bar.sync 0; ld.shared.u32 %r1, [%r7]; mul.wide.u32 %rd1, %t, 4; add.s64 %rd1, %rd1, %in;"
               "cp.async.ca.shared.global [%r8], [%rd1], 4; cp.async.wait_all;" STORE);
    static const char source_changes[] = BODY(
        COPY "setp.eq.s32 %p1, %t, %t; st.global.u32 [%rd1], %r9; cp.async.wait_all; ld.shared.u32 %r1, [%r8];" STORE);
    const struct {
        const char *text, *words;
    } rows[] = {{unwaited, "read before the cp.async to it has been waited for"},
                {wrong_count, "before the cp.async"},
                {uncommitted, "before the cp.async"},
                {no_barrier, ""},
                {too_early, "with no barrier between"}};
    for (size_t k = 0; k < sizeof(rows) / sizeof(*rows); k++)
        for (int mode = PTXSIM_ASYNC_LATE; mode <= PTXSIM_ASYNC_RANDOM; mode++)
            for (uint64_t seed = 0; seed < 3; seed++) {
                checked_case = rows[k].words;
                const bool ok = run_on(rows[k].text, seed, (ptxsim_async)mode);
                if (!CHECK(!ok && (seed || strstr(report.message, rows[k].words))))
                    fprintf(stderr, "  row %zu: %s\n", k, ok ? "it passed" : report.message);
            }
    checked_case = "late and early see different sources";
    CHECK(run_on(source_changes, 0, PTXSIM_ASYNC_LATE) && out[5] != 5);
    CHECK(run_on(source_changes, 0, PTXSIM_ASYNC_EARLY) && out[5] == 5);
    fails("a source out of bounds", "outside every region", BODY(SHARED "cp.async.ca.shared.global [%r8], [%in+1024], 4;"));
    passes("a source out of bounds that is not read",
           BODY(SHARED "mov.u32 %r1, 0; cp.async.ca.shared.global [%r8], [%in+8192], 4, %r1; cp.async.wait_all; ld.shared.u32 %r1, [%r8];" STORE));
    passes(
        "the last bytes of a region",
        BODY(SHARED
             "mov.u32 %r1, 8; shl.b32 %r2, %t, 4; add.s32 %r2, %r2, %r9; cp.async.cg.shared.global [%r2], [%in+1008], 16, %r1; cp.async.wait_all;"));
    fails(
        "bytes of a region and behind it", "outside every region",
        BODY(
            SHARED
            "mov.u32 %r1, 8; add.s64 %rd1, %in, 1024; shl.b32 %r2, %t, 4; add.s32 %r2, %r2, %r9; cp.async.cg.shared.global [%r2], [%rd1], 16, %r1; cp.async.wait_all;"));
    fails("a source not aligned", "not aligned", BODY(SHARED "cp.async.ca.shared.global [%r8], [%in+2], 4;"));
    fails("more than the size", "5 of 4 bytes", BODY(SHARED "mov.u32 %r1, 5; cp.async.ca.shared.global [%r8], [%in], 4, %r1;"));
}

static void test_divergence(void) {
    fails("a barrier for some lanes", "barrier divergence", BODY("setp.lt.u32 %p1, %l, 7; @%p1 bar.sync 0;"));
    fails("a barrier on one side of a branch", "divergence", BODY("setp.lt.u32 %p1, %l, 7; @%p1 bra A; bar.sync 0; bra B;\nA: bar.sync 0;\nB: "));
    fails("different barriers of warps", "barrier divergence", BODY("setp.lt.u32 %p1, %t, 32; @%p1 bra A; bar.sync 0; bra B;\nA: bar.sync 0;\nB: "));
    fails("a warp that has returned", "barrier divergence", BODY("setp.lt.u32 %p1, %t, 32; @%p1 ret; bar.sync 0;"));
    fails("lanes that have returned", "barrier divergence", BODY("setp.lt.u32 %p1, %l, 3; @%p1 ret; bar.sync 0;"));
    passes("a barrier that the block takes or leaves", BODY("mov.u32 %r1, %ctaid.x; setp.eq.s32 %p1, %r1, 0; @!%p1 bra A; bar.sync 0;\nA: "));
#define PRODUCT "mov.u32 %r1, 0; mov.f32 %f1, 0f00000000; "
#define MMA "mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%f1, %f1, %f1, %f1}, {%r1, %r1}, {%r1}, {%f1, %f1, %f1, %f1};"
    fails("mma on one side of a branch", "lanes", BODY(PRODUCT "setp.lt.u32 %p1, %l, 7; @%p1 bra A; " MMA "bra B;\nA: " MMA "\nB: "));
    fails("mma without lanes that returned", "have returned", BODY(PRODUCT "setp.lt.u32 %p1, %l, 7; @%p1 ret; " MMA));
    fails("mma with a guard", "lanes", BODY(PRODUCT "setp.lt.u32 %p1, %l, 7; @%p1 " MMA "@%p1 " MMA));
    passes("mma behind a branch that joins", BODY(PRODUCT "setp.lt.u32 %p1, %l, 7; @%p1 bra A; mov.u32 %r2, 1;\nA: " MMA));
    passes("mma behind a far block that comes back",
           BODY(PRODUCT "setp.lt.u32 %p1, %l, 7; @%p1 bra FAR;\nBACK: " MMA "bra END;\nFAR: mov.u32 %r2, 1; bra BACK;\nEND: "));
    fails("ldmatrix of half a warp", "lanes",
          BODY(SHARED "setp.lt.u32 %p1, %l, 16; @%p1 bra A; ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r1}, [%r9];\nA: bar.sync 0;"));
    fails("a shuffle for lanes on the other side", "divergence",
          BODY("setp.lt.u32 %p1, %l, 16; @%p1 bra A; shfl.sync.bfly.b32 %r1, %t, 1, 31, -1;\nA: bar.warp.sync -1;"));
    fails("a shuffle from a lane that is not named", "does not take part",
          BODY("setp.lt.u32 %p1, %l, 16; @!%p1 bra A; shfl.sync.bfly.b32 %r1, %t, 16, 31, 0xffff;\nA: "));
    fails("a mask without the lane", "does not name the lane", BODY("shfl.sync.bfly.b32 %r1, %t, 1, 31, 0xffff;"));
    fails("division by zero", "division of an integer by zero", BODY("div.s32 %r1, 5, %t;" STORE));
    fails("trap", "trap", BODY("trap;"));
    fails("a jump behind its table", "jump 1 of a table of 1", BODY("mov.u32 %r1, 1; T: .branchtargets A; brx.idx %r1, T;\nA: "));
}

static void test_texts(void) {
    const struct {
        const char *words, *text;
    } rows[] = {
        {"PTX line 9: unknown opcode 'frob.s32'", BODY("frob.s32 %r1, %t, 1;")},
        {"unknown opcode 'add.frob.s32'", BODY("add.frob.s32 %r1, %t, 1;")},
        {"unknown opcode 'ld.global.L3.u32'", BODY("ld.global.L3.u32 %r1, [%in];")},
        {"unknown opcode 'add.rn.s32'", BODY("add.rn.s32 %r1, %t, 1;")},
        {"unknown opcode 'atom.global.add.f32'", BODY("atom.global.add.f32 %f1, [%in], %f1;")},
        {"unknown opcode 'mma.sync.aligned.m16n8k32", BODY("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%r1}, {%r1}, {%r1}, {%r1};")},
        {"unknown opcode 'cvt.rn.f32.e9m9'", BODY("cvt.rn.f32.e9m9 %f1, %h1;")},
        {"'%frob.x' is not known", BODY("mov.u32 %r1, %frob.x;")},
        {"'%r64' is not known", BODY("mov.u32 %r1, %r64;")},
        {"wrong width", BODY("add.s32 %r1, %rd1, 1;")},
        {"number of operands", BODY("add.s32 %r1, %t;")},
        {"special register", BODY("mov.u32 %tid.x, 1;")},
        {"no label 'NOWHERE'", BODY("bra NOWHERE;")},
        {"a second label", BODY("A: A: ret;")},
        {"unknown directive '.frob'", HEAD ".frob 1;"},
        {"unknown directive '.frob'", BODY(".frob 1;")},
        {"ends inside a function", HEAD ".visible .entry k() { ret;"},
        {"has no body", KERNEL(".extern .func f();", "call.uni f;")},
        {"is not known", BODY("ld.global.u32 %r1, [nothing];")},
        {"read only", BODY("st.param.u32 [more], %r1;")},
        {"the size is 16", BODY("cp.async.cg.shared.global [%r1], [%in], 8;")},
        {"wrong length", BODY("ld.global.v2.u32 {%r1}, [%in];")},
        {"no entry", HEAD},
        {"wrong number of registers",
         BODY("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f1, %f2, %f3, %f4}, {%r1, %r2}, {%r1}, {%f1, %f2, %f3, %f4};")},
    };
    for (size_t k = 0; k < sizeof(rows) / sizeof(*rows); k++) fails(rows[k].words, rows[k].words, rows[k].text);
    fails(
        "a message says where", "k, PTX line 9 `ld.global.u32 %r1, [%rd1];` (file.cu:77), block (0,0,0), thread (0,0,0)",
        ".version 8.0\n.target sm_80\n.address_size 64\n.file 1 \"dir/file.cu\"\n.visible .entry k(.param .u64 in)\n{ .reg .b32 %r<3>; .reg .b64 %rd<3>; mov.u64 %rd1, 0;\n.loc 1 77 3\n\n"
        "  ld.global.u32 %r1, [%rd1];\nret; }");
}

/* Shared memory of one warp at a stride of words; passes per access. */
static void count_stride(unsigned stride, unsigned bytes, uint64_t accesses, uint64_t want) {
    char text[1024];
    static const char *const vector[] = {"", "u32 %r1", "v2.u32 {%r1, %r1}", "", "v4.u32 {%r1, %r1, %r1, %r1}"};
    const char *space = strchr(vector[bytes / 4], ' ');
    snprintf(
        text, sizeof(text),
        HEAD
        ".extern .shared .align 16 .b8 s[]; .visible .entry k() { .reg .b32 %%r<4>; mov.u32 %%r1, %%tid.x; mul.lo.s32 %%r2, %%r1, %u; mov.u32 %%r3, s; add.s32 %%r3, %%r3, %%r2;"
        "st.shared.%.*s [%%r3], %s; ret; }",
        stride * 4, (int)(space - vector[bytes / 4]), vector[bytes / 4], space);
    checked_case = text;
    if (!CHECK(run_text((run){.text = text, .shared = 8192}))) fprintf(stderr, "  %s\n", report.message);
    CHECK(report.shared_accesses == accesses && report.shared_passes == want);
}
static void count_ldmatrix(unsigned row_bytes, uint64_t want) {
    char text[1024];
    snprintf(
        text, sizeof(text),
        HEAD
        ".extern .shared .align 16 .b8 s[]; .visible .entry k() { .reg .b32 %%r<8>; mov.u32 %%r1, %%tid.x; mul.lo.s32 %%r2, %%r1, %u; mov.u32 %%r3, s; add.s32 %%r3, %%r3, %%r2;"
        "st.shared.v4.u32 [%%r3], {%%r1, %%r1, %%r1, %%r1}; bar.warp.sync -1; ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%%r4, %%r5, %%r6, %%r7}, [%%r3]; ret; }",
        row_bytes);
    checked_case = text;
    CHECK(run_text((run){.text = text, .shared = 8192}));
    CHECK(report.ldmatrix_phases == 4 && report.ldmatrix_passes == want);
}
static void count_global(unsigned stride, uint64_t sectors, uint64_t least) {
    char text[512];
    snprintf(
        text, sizeof(text),
        HEAD
        ".visible .entry k(.param .u64 in) { .reg .b32 %%r<4>; .reg .b64 %%x; ld.param.u64 %%x, [in]; mov.u32 %%r1, %%tid.x; mad.wide.u32 %%x, %%r1, %u, %%x; ld.global.u32 %%r2, [%%x]; ret; }",
        stride);
    checked_case = text;
    region_of(0, 8192, 0);
    CHECK(run_text((run){.text = text}));
    CHECK(report.global_accesses == 1 && report.global_sectors == sectors && report.global_sectors_least == least);
}
static void test_counters(void) {
    count_stride(1, 4, 1, 1), count_stride(2, 4, 1, 2), count_stride(32, 4, 1, 32), count_stride(33, 4, 1, 1), count_stride(0, 4, 1, 1),
        count_stride(3, 4, 1, 1);
    count_stride(2, 8, 2, 2), count_stride(4, 8, 2, 4), count_stride(4, 16, 4, 4), count_stride(8, 16, 4, 8), count_stride(32, 16, 4, 32),
        count_stride(36, 16, 4, 4);
    count_ldmatrix(16, 4), count_ldmatrix(32, 8), count_ldmatrix(128, 32), count_ldmatrix(144, 4);
    count_global(4, 4, 4), count_global(8, 8, 4), count_global(32, 32, 4), count_global(128, 32, 4), count_global(0, 1, 1);
}

static bool stop_at_once(void *ctx) {
    ++*(int *)ctx;
    return true;
}
static void test_launches(void) {
    static const char text[] = HEAD
        ".visible .entry k(.param .u64 in) .maxntid 64, 1, 1 { .shared .b8 s[1024]; .reg .b32 %r<4>; .reg .b64 %x<2>; ld.param.u64 %x0, [in]; mov.u32 %r1, %ctaid.x; mad.lo.s32 %r1, %r1, 64, 0;"
        "mov.u32 %r2, %tid.x; add.s32 %r1, %r1, %r2; mad.wide.u32 %x1, %r1, 4, %x0; st.global.u32 [%x1], %r1; ret; }";
    char message[256];
    int asked = 0;
    checked_case = "launches";
    ptxsim_module *m = ptxsim_load(text, message, sizeof(message));
    if (!CHECK(m && ptxsim_count(m) == 1 && ptxsim_find(m, "k") == 0 && ptxsim_find(m, "j") == -1 && !strcmp(ptxsim_name(m, 0), "k") &&
               ptxsim_param_bytes(m, 0) == 8))
        return;
    const uint64_t params = address_of(0);
    ptxsim_launch l = {
        .module = m, .grid = {40, 1, 1}, .block = {64, 1, 1}, .shared_limit = 4096, .params = &params, .memory = {resolve, NULL}, .threads = 2};
    in = region_of(0, 40 * 64 * 4, 0xee);
    ptxsim_report one, two;
    CHECK(ptxsim_run(&l, &two));
    l.threads = 0;
    CHECK(ptxsim_run(&l, &one) && !memcmp(&one, &two, sizeof(one)));
    for (uint32_t k = 0; k < 40 * 64; k++) CHECK(in[k] == k);
    l.stop = stop_at_once, l.stop_ctx = &asked;
    CHECK(ptxsim_run(&l, &one) && asked == 1 && one.instructions == 0);
    l.stop = NULL;
#define REFUSED(words) CHECK(!ptxsim_run(&l, &one) && strstr(one.message, words))
    l.block[0] = 65;
    REFUSED(".maxntid");
    l.block[0] = 64, l.shared_bytes = 3073;
    REFUSED("shared memory: 4097, at most 4096");
    l.shared_bytes = 0, l.grid[1] = 65536;
    REFUSED("65535");
    l.grid[1] = 0;
    REFUSED("empty");
    l.grid[1] = 1, l.entry = 7;
    REFUSED("no entry 7");
    ptxsim_unload(m);
    ptxsim_unload(NULL);
}

int main(void) {
    test_memory_faults();
    test_unwritten();
    test_races();
    test_copy_faults();
    test_divergence();
    test_texts();
    test_counters();
    test_launches();
    regions_free();
    return check_end();
}
