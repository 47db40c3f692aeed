/* Which instruction sets this machine can run, and which one is in use.
 *
 * Three things must agree: the build has the variant, the CPU has the instructions, and the operating system saves the registers
 * (XCR0; for AMX also a permission that the process asks for once, which then holds for all of its threads). What a machine lacks is
 * kept as a sentence, for `wanoffload doctor`.
 */
#include "device/cpu/internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define WO_CPU_TABLE_OF(tag) extern const wo_cpu_kernels wo_cpu_##tag##_table;
WO_CPU_TABLE_OF(generic)
WO_CPU_TABLE_OF(avx2)
WO_CPU_TABLE_OF(avx512)
WO_CPU_TABLE_OF(avx512_bf16)
WO_CPU_TABLE_OF(amx)
#undef WO_CPU_TABLE_OF

/* NULL: not compiled in. */
static const wo_cpu_kernels *const tables[WO_ISA_COUNT] = {
    [WO_ISA_GENERIC] = &wo_cpu_generic_table,
#ifdef WO_HAVE_ISA_AVX2
    [WO_ISA_AVX2] = &wo_cpu_avx2_table,
#endif
#ifdef WO_HAVE_ISA_AVX512
    [WO_ISA_AVX512] = &wo_cpu_avx512_table,
#endif
#ifdef WO_HAVE_ISA_AVX512_BF16
    [WO_ISA_AVX512_BF16] = &wo_cpu_avx512_bf16_table,
#endif
#ifdef WO_HAVE_ISA_AMX
    [WO_ISA_AMX] = &wo_cpu_amx_table,
#endif
};

static const char *const names[WO_ISA_COUNT] = {
#define NAME(id, name, text) [WO_ISA_##id] = name,
    WO_ISA_LIST(NAME)
#undef NAME
};

static const char *const texts[WO_ISA_COUNT] = {
#define TEXT(id, name, text) [WO_ISA_##id] = text,
    WO_ISA_LIST(TEXT)
#undef TEXT
};

/* Written at detection; "" = the machine can run it. */
static char lacks[WO_ISA_COUNT][128];
static pthread_once_t detected = PTHREAD_ONCE_INIT;
static atomic_int in_use, forced = WO_ISA_COUNT;
static _Atomic(const wo_cpu_kernels *) test_table;
static char bad_environment[256]; /* why WANOFFLOAD_TEST_ISA could not be followed; "" = it could, or is not set */

static void lack(wo_isa isa, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void lack(wo_isa isa, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(lacks[isa], sizeof lacks[isa], format, args);
    va_end(args);
}

#if defined(__x86_64__)
enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
/* Bits of XCR0. */
enum { XCR_AVX = 0x6, XCR_AVX512 = 0xe6, XCR_AMX = 0x60000 };

typedef struct cpuid_leaf {
    unsigned a, b, c, d;
} cpuid_leaf;

static cpuid_leaf cpuid(unsigned leaf, unsigned sub) {
    cpuid_leaf r = {0};
    if (__get_cpuid_count(leaf, sub, &r.a, &r.b, &r.c, &r.d) == 0)
        r = (cpuid_leaf){0};
    return r;
}

static uint64_t read_xcr0(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

/* One requirement: a CPU flag by name. The first that is missing is the one that is told. */
static void need(wo_isa isa, bool has, const char *flag) {
    if (!has && lacks[isa][0] == 0)
        lack(isa, "the CPU lacks %s", flag);
}

static void need_state(wo_isa isa, uint64_t xcr0, uint64_t state, const char *what) {
    if (lacks[isa][0] == 0 && (xcr0 & state) != state)
        lack(isa, "the operating system does not save %s registers", what);
}

static void need_all_of(wo_isa isa, wo_isa lesser) {
    if (lacks[lesser][0] != 0)
        memcpy(lacks[isa], lacks[lesser], sizeof lacks[isa]);
}

/* Asked for only where a build could use it: the permission makes the kernel's signal frames larger. */
static void need_amx_permission(void) {
    if (lacks[WO_ISA_AMX][0] != 0 || tables[WO_ISA_AMX] == NULL)
        return;
    if (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) != 0)
        lack(WO_ISA_AMX, "the operating system refuses the tile registers (arch_prctl: %s)", strerror(errno));
}

void wo_cpu_read_facts(wo_cpu_facts *out) {
    const cpuid_leaf one = cpuid(1, 0), seven = cpuid(7, 0), seven_one = cpuid(7, 1);
    *out = (wo_cpu_facts){.one_c = one.c, .seven_b = seven.b, .seven_d = seven.d, .seven_one_a = seven_one.a};
    if ((one.c & bit_OSXSAVE) != 0)
        out->xcr0 = read_xcr0();
}

static void judge(const wo_cpu_facts *f) {
    memset(lacks, 0, sizeof lacks);
    need(WO_ISA_AVX2, (f->one_c & bit_AVX) != 0 && (f->seven_b & bit_AVX2) != 0, "AVX2");
    need(WO_ISA_AVX2, (f->one_c & bit_FMA) != 0, "FMA");
    need(WO_ISA_AVX2, (f->one_c & bit_F16C) != 0, "F16C");
    need_state(WO_ISA_AVX2, f->xcr0, XCR_AVX, "AVX");
    need_all_of(WO_ISA_AVX512, WO_ISA_AVX2);
    need(WO_ISA_AVX512, (f->seven_b & bit_AVX512F) != 0, "AVX512F");
    need(WO_ISA_AVX512, (f->seven_b & bit_AVX512BW) != 0, "AVX512BW");
    need(WO_ISA_AVX512, (f->seven_b & bit_AVX512VL) != 0, "AVX512VL");
    need(WO_ISA_AVX512, (f->seven_b & bit_AVX512DQ) != 0, "AVX512DQ");
    need_state(WO_ISA_AVX512, f->xcr0, XCR_AVX512, "AVX-512");
    need_all_of(WO_ISA_AVX512_BF16, WO_ISA_AVX512);
    need(WO_ISA_AVX512_BF16, (f->seven_one_a & 1u << 5) != 0, "AVX512_BF16");
    need_all_of(WO_ISA_AMX, WO_ISA_AVX512_BF16);
    need(WO_ISA_AMX, (f->seven_d & 1u << 24) != 0, "AMX-TILE");
    need(WO_ISA_AMX, (f->seven_d & 1u << 22) != 0, "AMX-BF16");
    need_state(WO_ISA_AMX, f->xcr0, XCR_AMX, "AMX");
    need_amx_permission();
}

static void detect_machine(void) {
    wo_cpu_facts facts;
    wo_cpu_read_facts(&facts);
    judge(&facts);
}
#else
static void detect_machine(void) {
    for (int isa = WO_ISA_GENERIC + 1; isa < WO_ISA_COUNT; isa++)
        lack((wo_isa)isa, "the CPU is not x86-64");
}
#endif

static bool runs(int isa) {
    return tables[isa] != NULL && lacks[isa][0] == 0;
}

static wo_isa best(void) {
    int isa = WO_ISA_COUNT - 1;
    while (!runs(isa))
        isa--;
    return (wo_isa)isa;
}

static const char *why_not(wo_isa isa) {
    return tables[isa] == NULL ? "not compiled into this build" : lacks[isa];
}

static void follow_environment(void) {
    const char *text = getenv("WANOFFLOAD_TEST_ISA");
    if (text == NULL || *text == 0)
        return;
    int isa = 0;
    while (isa < WO_ISA_COUNT && strcmp(names[isa], text) != 0)
        isa++;
    if (isa == WO_ISA_COUNT) {
        snprintf(bad_environment, sizeof bad_environment, "WANOFFLOAD_TEST_ISA is '%.40s', which is no instruction set; there are", text);
        for (int i = 0; i < WO_ISA_COUNT; i++) {
            const size_t used = strlen(bad_environment);
            snprintf(bad_environment + used, sizeof bad_environment - used, "%s %s", i == 0 ? "" : ",", names[i]);
        }
    } else if (!runs(isa)) {
        snprintf(bad_environment, sizeof bad_environment, "WANOFFLOAD_TEST_ISA is '%s', but: %s", text, why_not((wo_isa)isa));
    } else {
        atomic_store(&forced, isa);
        atomic_store(&in_use, isa);
    }
}

static void detect(void) {
    detect_machine();
    atomic_store(&in_use, (int)best());
    follow_environment();
}

static void detect_once(void) {
    pthread_once(&detected, detect);
}

wo_status wo_cpu_isa_init(wo_error *err) {
    detect_once();
    if (bad_environment[0] != 0)
        WO_FAIL(err, WO_EVALUE, "%s", bad_environment);
    return WO_OK;
}

const char *wo_isa_name(wo_isa isa) {
    return names[isa];
}

bool wo_isa_built(wo_isa isa) {
    return tables[isa] != NULL;
}

bool wo_isa_supported(wo_isa isa) {
    detect_once();
    return runs(isa);
}

wo_isa wo_cpu_isa(void) {
    detect_once();
    return (wo_isa)atomic_load(&in_use);
}

const wo_cpu_kernels *wo_cpu_table(void) {
    const wo_cpu_kernels *table = atomic_load_explicit(&test_table, memory_order_acquire);
    return table != NULL ? table : tables[wo_cpu_isa()];
}

void wo_cpu_set_test_table(const wo_cpu_kernels *table) {
    atomic_store_explicit(&test_table, table, memory_order_release);
}

wo_status wo_cpu_force_isa(wo_isa isa, wo_error *err) {
    detect_once();
    if (isa != WO_ISA_COUNT && !runs(isa))
        WO_FAIL(err, WO_EVALUE, "the instruction set '%s' cannot be used: %s", names[isa], why_not(isa));
    atomic_store(&forced, (int)isa);
    atomic_store(&in_use, (int)(isa == WO_ISA_COUNT ? best() : isa));
    return WO_OK;
}

#if defined(__x86_64__)
void wo_cpu_pretend(const wo_cpu_facts *facts) {
    detect_once();
    judge(facts);
    atomic_store(&forced, WO_ISA_COUNT);
    atomic_store(&in_use, (int)best());
}
#endif

void wo_cpu_describe(char *buffer, size_t bytes) {
    const wo_isa now = wo_cpu_isa();
    const bool is_forced = atomic_load(&forced) != WO_ISA_COUNT;
    size_t used = 0;
    if (bytes > 0)
        buffer[0] = 0;
    for (int isa = WO_ISA_COUNT - 1; isa >= (int)now && used < bytes; isa--) {
        const char *state = isa == (int)now ? "in use" : "not used";
        const char *why = isa != (int)now  ? (runs(isa) ? "a test switch chose another" : why_not((wo_isa)isa))
                          : is_forced      ? "chosen by a test switch"
                                           : "the best that this build has and this machine runs";
        const int n = snprintf(buffer + used, bytes - used, "%s (%s): %s: %s\n", names[isa], texts[isa], state, why);
        used += n > 0 ? (size_t)n : 0;
    }
}
