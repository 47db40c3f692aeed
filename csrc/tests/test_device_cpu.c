/* What is special about the cpu device: memory, threads, instruction sets; and the registry. */
#include "base/memory.h"
#include "device/cpu/internal.h"
#include "tests/check.h"

#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static wo_error err;

/* Runs fn in a child with one environment variable set, and returns how it ended (as of waitpid). */
static int in_child(void (*fn)(void), const char *variable, const char *value) {
    fflush(NULL);
    const pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        if (variable != NULL)
            setenv(variable, value, 1);
        fn();
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid);
    return status;
}

static wo_device *open_cpu(void) {
    wo_device *d = NULL;
    CHECK_OK(wo_device_open("cpu", &d, &err), &err);
    return d;
}

static void open_with_bad_threads(void) {
    wo_device *d = NULL;
    CHECK_STATUS(wo_device_open("cpu", &d, &err), WO_EVALUE);
    CHECK_CONTAINS(err.message, "WANOFFLOAD_NUM_THREADS");
    CHECK_CONTAINS(err.message, getenv("WANOFFLOAD_NUM_THREADS"));
    CHECK(wo_cpu_threads() >= 1);
    CHECK(wo_memory_current() == 0);
}

static void open_with_three_threads(void) {
    CHECK(wo_cpu_threads() == 3);
    wo_device *d = open_cpu();
    CHECK(wo_cpu_threads() == 3);
    wo_device_close(d);
}

static void the_environment_sets_the_threads_and_a_bad_value_is_named(void) {
    CHECK(in_child(open_with_three_threads, "WANOFFLOAD_NUM_THREADS", "3") == 0);
    const char *bad[] = {"0", "-2", "two", "3x", "99999999999999999999", "1025", " "};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(in_child(open_with_bad_threads, "WANOFFLOAD_NUM_THREADS", bad[i]) == 0);
}

static void open_with_unknown_isa(void) {
    wo_device *d = NULL;
    CHECK_STATUS(wo_device_open("cpu", &d, &err), WO_EVALUE);
    CHECK_CONTAINS(err.message, "WANOFFLOAD_TEST_ISA is 'avx9'");
    CHECK_CONTAINS(err.message, "generic, avx2, avx512, avx512_bf16, amx");
}

static void open_with_generic_isa(void) {
    char text[2000];
    wo_device *d = open_cpu();
    CHECK(wo_cpu_isa() == WO_ISA_GENERIC);
    wo_cpu_describe(text, sizeof text);
    CHECK_CONTAINS(text, "generic (plain C): in use: chosen by a test switch");
    wo_device_close(d);
}

static void the_environment_forces_an_instruction_set_and_a_bad_value_is_named(void) {
    CHECK(in_child(open_with_unknown_isa, "WANOFFLOAD_TEST_ISA", "avx9") == 0);
    CHECK(in_child(open_with_generic_isa, "WANOFFLOAD_TEST_ISA", "generic") == 0);
}

static void each_instruction_set_can_be_forced_or_says_why_not(void) {
    char text[2000];
    wo_device *d = open_cpu();
    const wo_isa best = wo_cpu_isa();
    for (int i = 0; i < WO_ISA_COUNT; i++) {
        const wo_isa isa = (wo_isa)i;
        if (wo_isa_supported(isa)) {
            CHECK(wo_isa_built(isa) && isa <= best);
            CHECK_OK(wo_cpu_force_isa(isa, &err), &err);
            CHECK(wo_cpu_isa() == isa);
            wo_cpu_describe(text, sizeof text);
            CHECK_CONTAINS(text, ": in use: chosen by a test switch\n");
            CHECK_CONTAINS(text, wo_isa_name(isa));
        } else {
            CHECK_STATUS(wo_cpu_force_isa(isa, &err), WO_EVALUE);
            CHECK_CONTAINS(err.message, wo_isa_name(isa));
        }
    }
    CHECK(wo_isa_supported(WO_ISA_GENERIC));
    CHECK_OK(wo_cpu_force_isa(WO_ISA_COUNT, &err), &err);
    CHECK(wo_cpu_isa() == best);
    wo_cpu_describe(text, sizeof text);
    CHECK_CONTAINS(text, "in use: the best");
    for (int i = best + 1; i < WO_ISA_COUNT; i++)
        CHECK_CONTAINS(text, wo_isa_name((wo_isa)i));
    char small[40];
    memset(small, 'x', sizeof small);
    wo_cpu_describe(small, sizeof small);
    CHECK(memchr(small, 0, sizeof small) != NULL);
    wo_device_close(d);
}

/* Each variant's own table must be the one in use: a table of another would run other instructions under this name. */
static void forcing_an_instruction_set_changes_the_table(void) {
    const wo_cpu_kernels *tables[WO_ISA_COUNT];
    for (int i = 0, n = 0; i < WO_ISA_COUNT; i++) {
        if (!wo_isa_supported((wo_isa)i))
            continue;
        CHECK_OK(wo_cpu_force_isa((wo_isa)i, &err), &err);
        tables[n++] = wo_cpu_table();
        for (int j = 0; j + 1 < n; j++)
            CHECK(tables[j] != tables[n - 1]);
    }
    CHECK_OK(wo_cpu_force_isa(WO_ISA_COUNT, &err), &err);
}

#if defined(__x86_64__)
static void pretend_without_avx512_state(void) {
    wo_cpu_facts facts;
    char text[2000];
    wo_cpu_read_facts(&facts);
    facts.xcr0 = 0x7; /* x87, SSE and AVX: an operating system that does not know of AVX-512 */
    facts.one_c |= 1u << 28 | 1u << 12 | 1u << 29;
    facts.seven_b |= 1u << 5 | 1u << 16 | 1u << 30 | 1u << 31 | 1u << 17;
    wo_cpu_pretend(&facts);
    CHECK(wo_cpu_isa() == WO_ISA_AVX2);
    for (int isa = WO_ISA_AVX512; isa < WO_ISA_COUNT; isa++) {
        CHECK(!wo_isa_supported((wo_isa)isa));
        CHECK_STATUS(wo_cpu_force_isa((wo_isa)isa, &err), WO_EVALUE);
        CHECK_CONTAINS(err.message, "does not save AVX-512 registers");
    }
    wo_cpu_describe(text, sizeof text);
    CHECK_CONTAINS(text, "avx512 (AVX-512 F/BW/VL/DQ): not used: the operating system does not save AVX-512 registers\n");
    CHECK_CONTAINS(text, "avx2 (AVX2 + FMA + F16C): in use: the best");
}

static void pretend_to_lack_each_flag_in_turn(void) {
    const wo_cpu_facts all = {.one_c = 1u << 28 | 1u << 12 | 1u << 29,
                              .seven_b = 1u << 5 | 1u << 16 | 1u << 30 | 1u << 31 | 1u << 17,
                              .seven_d = 1u << 24 | 1u << 22, .seven_one_a = 1u << 5, .xcr0 = 0x600e7};
    const struct {
        wo_cpu_facts off;
        wo_isa best;
    } cases[] = {
        {{.one_c = 1u << 28}, WO_ISA_GENERIC},     {{.one_c = 1u << 12}, WO_ISA_GENERIC},
        {{.one_c = 1u << 29}, WO_ISA_GENERIC},     {{.seven_b = 1u << 5}, WO_ISA_GENERIC},
        {{.xcr0 = 0x4}, WO_ISA_GENERIC},           {{.seven_b = 1u << 16}, WO_ISA_AVX2},
        {{.seven_b = 1u << 30}, WO_ISA_AVX2},      {{.seven_b = 1u << 31}, WO_ISA_AVX2},
        {{.seven_b = 1u << 17}, WO_ISA_AVX2},      {{.xcr0 = 0x20}, WO_ISA_AVX2},
        {{.seven_one_a = 1u << 5}, WO_ISA_AVX512}, {{.seven_d = 1u << 24}, WO_ISA_AVX512_BF16},
        {{.seven_d = 1u << 22}, WO_ISA_AVX512_BF16}, {{.xcr0 = 0x40000}, WO_ISA_AVX512_BF16},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const wo_cpu_facts *off = &cases[i].off;
        const wo_cpu_facts facts = {.one_c = all.one_c & ~off->one_c, .seven_b = all.seven_b & ~off->seven_b,
                                    .seven_d = all.seven_d & ~off->seven_d, .seven_one_a = all.seven_one_a & ~off->seven_one_a,
                                    .xcr0 = all.xcr0 & ~off->xcr0};
        wo_cpu_pretend(&facts);
        wo_isa wanted = cases[i].best; /* or the next lesser one that this compiler could build */
        while (!wo_isa_built(wanted))
            wanted = (wo_isa)(wanted - 1);
        CHECK(wo_cpu_isa() == wanted);
    }
}

static void an_instruction_set_is_used_only_where_cpu_and_system_have_all_of_it(void) {
    if (wo_isa_built(WO_ISA_AVX512_BF16)) /* names what each variant is said to lack */
        CHECK(in_child(pretend_without_avx512_state, NULL, NULL) == 0);
    CHECK(in_child(pretend_to_lack_each_flag_in_turn, NULL, NULL) == 0);
}
#else
static void an_instruction_set_is_used_only_where_cpu_and_system_have_all_of_it(void) {
    CHECK(wo_cpu_isa() == WO_ISA_GENERIC);
}
#endif

static void the_peak_of_each_instruction_set_can_be_probed(void) {
    for (int i = 0; i < WO_ISA_COUNT; i++) {
        if (!wo_isa_supported((wo_isa)i))
            continue;
        CHECK_OK(wo_cpu_force_isa((wo_isa)i, &err), &err);
        CHECK(wo_cpu_probe_peak(false) > 1e6 && wo_cpu_probe_peak(true) > 1e6);
    }
    CHECK_OK(wo_cpu_force_isa(WO_ISA_COUNT, &err), &err);
}

static void write_past_the_end(void) {
    wo_device *d = open_cpu();
    void *p = NULL;
    signal(SIGSEGV, SIG_DFL);
    CHECK_OK(d->memory->alloc(d, 8192, "a slot", &p, &err), &err);
    memset(p, 1, 8192);
    *((volatile char *)p + 8192) = 1;
}

static void device_memory_is_aligned_counted_and_guarded(void) {
    const int status = in_child(write_past_the_end, NULL, NULL);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    wo_device *d = open_cpu();
    const uint64_t before = wo_memory_current();
    void *p = NULL, *q = NULL;
    CHECK(d->memory->version == WO_DEVICE_ABI && d->memory->size == sizeof *d->memory);
    CHECK(d->memory->host_addressable);
    CHECK_OK(d->memory->alloc(d, 5000, "an arena", &p, &err), &err);
    CHECK_OK(d->memory->host_alloc(d, 3000, "a slab", &q, &err), &err);
    CHECK((uintptr_t)p % 4096 == 0 && (uintptr_t)q % 64 == 0);
    CHECK(wo_memory_current() == before + 8000);
    d->memory->release(d, p);
    d->memory->host_release(d, q);
    CHECK(wo_memory_current() == before);
    wo_memory_fail_at(1);
    CHECK_STATUS(d->memory->alloc(d, 100, "the ring of the transformer", &p, &err), WO_ENOMEMORY);
    CHECK_CONTAINS(err.message, "the ring of the transformer");
    wo_device_close(d);
}

static void write_file(const char *root, const char *path, const char *text) {
    char full[512];
    snprintf(full, sizeof full, "%s/%s", root, path);
    for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')) != NULL; *slash++ = '/') {
        *slash = 0;
        mkdir(full, 0700);
    }
    FILE *f = fopen(full, "w");
    CHECK(f != NULL);
    fputs(text, f);
    fclose(f);
}

static void check_budget(const char *root, uint64_t free_mib, uint64_t total_mib) {
    uint64_t free_bytes = 0, total_bytes = 0;
    CHECK_OK(wo_cpu_read_budget(root, &free_bytes, &total_bytes, &err), &err);
    CHECK(free_bytes == free_mib << 20);
    CHECK(total_bytes == total_mib << 20);
}

static void the_budget_respects_the_limits_of_every_control_group_above(void) {
    char root[] = "/tmp/wo_test_budget_XXXXXX", command[100];
    uint64_t a, b;
    CHECK(mkdtemp(root) != NULL);
    CHECK_STATUS(wo_cpu_read_budget(root, &a, &b, &err), WO_EOS);
    CHECK_CONTAINS(err.path, "proc/meminfo");
    write_file(root, "proc/meminfo", "MemTotal:       16777216 kB\nMemFree:  1024 kB\nMemAvailable:   12582912 kB\n");
    check_budget(root, 12288, 16384);

    write_file(root, "proc/self/cgroup", "0::/outer/inner\n"); /* version 2 */
    write_file(root, "sys/fs/cgroup/outer/inner/memory.max", "max\n");
    write_file(root, "sys/fs/cgroup/outer/inner/memory.current", "1048576\n");
    check_budget(root, 12288, 16384);
    write_file(root, "sys/fs/cgroup/outer/inner/memory.max", "8589934592\n");
    write_file(root, "sys/fs/cgroup/outer/inner/memory.current", "3221225472\n"); /* 3 GiB, of which 2 are page cache */
    write_file(root, "sys/fs/cgroup/outer/inner/memory.stat", "anon 1073741824\ninactive_file 1073741824\nactive_file 1073741824\n");
    check_budget(root, 7168, 8192);
    write_file(root, "sys/fs/cgroup/outer/memory.max", "10737418240\n"); /* 10 GiB: more than inner has, but 9 are used */
    write_file(root, "sys/fs/cgroup/outer/memory.current", "9663676416\n");
    check_budget(root, 1024, 8192);
    write_file(root, "sys/fs/cgroup/outer/memory.current", "19663676416\n");
    check_budget(root, 0, 8192);
    write_file(root, "sys/fs/cgroup/outer/memory.current", "0\n");
    write_file(root, "sys/fs/cgroup/outer/memory.high", "2147483648\n");
    check_budget(root, 2048, 2048);

    write_file(root, "proc/self/cgroup", "5:cpu,cpuacct:/\n4:memory:/job\n"); /* version 1 */
    check_budget(root, 12288, 16384);
    write_file(root, "sys/fs/cgroup/memory/job/memory.limit_in_bytes", "9223372036854771712\n");
    write_file(root, "sys/fs/cgroup/memory/job/memory.usage_in_bytes", "17179869184\n");
    check_budget(root, 12288, 16384);
    write_file(root, "sys/fs/cgroup/memory/job/memory.limit_in_bytes", "4294967296\n");
    write_file(root, "sys/fs/cgroup/memory/job/memory.usage_in_bytes", "2147483648\n");
    write_file(root, "sys/fs/cgroup/memory/job/memory.stat", "cache 1\ntotal_inactive_file 1073741824\ntotal_active_file 0\n");
    check_budget(root, 3072, 4096);
    snprintf(command, sizeof command, "rm -r %s", root);
    CHECK(system(command) == 0);

    wo_device *d = open_cpu();
    CHECK_OK(d->memory->budget(d, &a, &b, &err), &err);
    CHECK(a > 0 && a <= b);
    wo_device_close(d);
}

static void every_open_yields_its_own_device_and_streams_keep_it_open(void) {
    wo_device *a = open_cpu(), *b = open_cpu();
    wo_stream *s = NULL;
    int64_t x = 1, y = 2;
    CHECK(a != b && strcmp(a->name, "cpu") == 0 && strcmp(b->name, "cpu") == 0);
    CHECK_OK(a->stream->create(a, "last", &s, &err), &err);
    wo_device_close(a);
    wo_device_close(b);
    CHECK_OK(a->stream->copy(s, &y, &x, sizeof x, &err), &err);
    CHECK_OK(a->stream->sync(s, &err), &err);
    CHECK(y == 1);
    a->stream->destroy(s);
    CHECK(wo_memory_current() == 0);
    wo_device_close(NULL);
}

static void what_stops_one_device_does_not_touch_another(void) {
    wo_device *a = open_cpu(), *b = open_cpu();
    wo_stream *s[2] = {NULL};
    wo_cancel cancel = {0};
    wo_error failure;
    int64_t x = 1, y = 2, z = 3;
    CHECK_OK(a->stream->create(a, "stopped", &s[0], &err), &err);
    CHECK_OK(b->stream->create(b, "going on", &s[1], &err), &err);
    a->stream->set_cancel(a, &cancel);
    wo_cancel_request(&cancel);
    CHECK_OK(a->stream->copy(s[0], &y, &x, sizeof x, &err), &err);
    CHECK_STATUS(a->stream->sync(s[0], &err), WO_ECANCELLED);
    wo_error_set(&failure, WO_EDEVICE, "made up");
    a->stream->post_error(a, &failure);
    CHECK_OK(b->stream->copy(s[1], &z, &x, sizeof x, &err), &err);
    CHECK_OK(b->stream->sync(s[1], &err), &err);
    CHECK(y == 2 && z == 1);
    b->stream->post_error(b, &failure);
    a->stream->clear_error(a);
    CHECK_STATUS(b->stream->sync(s[1], &err), WO_EDEVICE);
    a->stream->destroy(s[0]);
    b->stream->destroy(s[1]);
    wo_device_close(a);
    wo_device_close(b);
}

static void opening_without_memory_is_a_clean_error(void) {
    wo_device *d = NULL;
    int failures = 0;
    for (int64_t n = 1;; n++, failures++) {
        wo_memory_fail_at(n);
        if (wo_device_open("cpu", &d, &err) == WO_OK)
            break;
        CHECK(err.code == WO_ENOMEMORY);
        CHECK(wo_memory_current() == 0);
    }
    wo_memory_fail_at(0);
    CHECK(failures >= 1);
    wo_device_close(d);
}

static void fixed_bytes_are_what_the_device_and_two_streams_hold(void) {
    wo_device *d = open_cpu();
    wo_stream *s[2];
    for (int threads = 1; threads <= 3; threads++) {
        CHECK_OK(wo_cpu_set_threads(threads, &err), &err);
        for (int i = 0; i < 2; i++)
            CHECK_OK(d->stream->create(d, "fixed", &s[i], &err), &err);
        const int64_t difference = (int64_t)d->fixed_bytes - (int64_t)wo_memory_current();
        CHECK(difference > -65536 && difference < 65536);
        for (int i = 0; i < 2; i++)
            d->stream->destroy(s[i]);
    }
    wo_device_close(d);
}

static void tile(void *ctx, int64_t index, int worker, void *scratch) {
    (void)worker, (void)scratch;
    atomic_fetch_add((atomic_llong *)ctx, index);
}

static wo_status tiled_add(wo_pool *pool, wo_cancel *cancel, const wo_add_args *args) {
    return wo_pool_run(pool, 100, tile, args->y.data, cancel);
}

static void threads_can_change_while_a_stream_computes(void) {
    static const wo_cpu_kernels table = {.add = tiled_add};
    wo_device *d = open_cpu();
    wo_stream *s = NULL;
    atomic_llong sum = 0;
    CHECK_STATUS(wo_cpu_set_threads(0, &err), WO_EVALUE);
    CHECK_STATUS(wo_cpu_set_threads(1025, &err), WO_EVALUE);
    wo_cpu_set_test_table(&table);
    CHECK_OK(d->stream->create(d, "resize", &s, &err), &err);
    const wo_add_args args = {.y = {.data = &sum}};
    for (int i = 0; i < 300; i++) {
        CHECK_OK(d->ops->add(s, &args, &err), &err);
        if (i % 30 == 0) {
            CHECK_OK(wo_cpu_set_threads(1 + i / 30 % 4, &err), &err);
            CHECK(wo_cpu_threads() == 1 + i / 30 % 4);
        }
    }
    CHECK_OK(d->stream->sync(s, &err), &err);
    CHECK(atomic_load(&sum) == 300 * 4950);
    d->stream->destroy(s);
    wo_device_close(d);
    wo_cpu_set_test_table(NULL);
    CHECK_OK(wo_cpu_set_threads(2, &err), &err); /* also while closed; the next open follows */
    CHECK(wo_cpu_threads() == 2);
    d = open_cpu();
    CHECK(wo_cpu_threads() == 2);
    wo_device_close(d);
}

static void devices_that_are_not_there_are_errors_that_name_those_that_are(void) {
    wo_device *d = NULL;
    const wo_status status = wo_device_open("cuda", &d, &err);
    if (status == WO_OK) { /* this machine has a card */
        wo_device_close(d);
    } else {
        CHECK(status == WO_EDEVICE || status == WO_EUNSUPPORTED || status == WO_ENOMEMORY);
        CHECK_CONTAINS(err.message, "cpu");
    }
    CHECK_STATUS(wo_device_open("tpu", &d, &err), WO_EVALUE);
    CHECK_CONTAINS(err.message, "'tpu'");
    CHECK_CONTAINS(err.message, "cpu");
    CHECK(strncmp(wo_device_names(), "cpu", 3) == 0);
}

int main(void) {
    the_environment_sets_the_threads_and_a_bad_value_is_named();
    the_environment_forces_an_instruction_set_and_a_bad_value_is_named();
    device_memory_is_aligned_counted_and_guarded();
    each_instruction_set_can_be_forced_or_says_why_not();
    forcing_an_instruction_set_changes_the_table();
    an_instruction_set_is_used_only_where_cpu_and_system_have_all_of_it();
    the_peak_of_each_instruction_set_can_be_probed();
    the_budget_respects_the_limits_of_every_control_group_above();
    every_open_yields_its_own_device_and_streams_keep_it_open();
    what_stops_one_device_does_not_touch_another();
    opening_without_memory_is_a_clean_error();
    fixed_bytes_are_what_the_device_and_two_streams_hold();
    threads_can_change_while_a_stream_computes();
    devices_that_are_not_there_are_errors_that_name_those_that_are();
    CHECK(wo_memory_current() == 0);
    return 0;
}
