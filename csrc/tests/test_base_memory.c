/* Counted memory: alignment, the counts, guard pages and the fault switch. */
#include "base/memory.h"
#include "tests/check.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* The sanitizers end the program at sizes that malloc would refuse, unless they are told not to. */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__tsan_default_options(void);
const char *__asan_default_options(void) { return "allocator_may_return_null=1"; }
const char *__tsan_default_options(void) { return "allocator_may_return_null=1"; }

static wo_error err;

static void blocks_are_aligned_and_counted(void) {
    void *p[40];
    uint64_t total = 0;
    CHECK(wo_memory_current() == 0);
    wo_memory_reset_peak();
    for (size_t i = 0; i < 40; i++) {
        size_t bytes = i * i * 7;
        CHECK_OK(wo_memory_acquire(bytes, "test", &p[i], &err), &err);
        CHECK(p[i] != NULL && (uintptr_t)p[i] % 64 == 0);
        memset(p[i], (int)i, bytes);
        total += bytes;
        CHECK(wo_memory_current() == total && wo_memory_peak() == total);
    }
    for (size_t i = 0; i < 40; i++)
        for (size_t k = 0; k < i * i * 7; k++)
            CHECK(((unsigned char *)p[i])[k] == i);
    for (size_t i = 0; i < 40; i++)
        wo_memory_release(p[i]);
    CHECK(wo_memory_current() == 0 && wo_memory_peak() == total);
    wo_memory_reset_peak();
    CHECK(wo_memory_peak() == 0);
    wo_memory_release(NULL);
    wo_memory_release_guarded(NULL);
}

static void impossible_sizes_are_refused_with_the_numbers(void) {
    const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 63, (size_t)PTRDIFF_MAX, SIZE_MAX / 4};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        void *p = &err;
        char number[32];
        snprintf(number, sizeof number, "%zu", sizes[i]);
        CHECK_STATUS(wo_memory_acquire(sizes[i], "the big thing", &p, &err), WO_ENOMEMORY);
        CHECK(p == NULL);
        CHECK_CONTAINS(err.message, "the big thing");
        CHECK_CONTAINS(err.message, number);
        CHECK_STATUS(wo_memory_acquire_guarded(sizes[i], "the big thing", &p, &err), WO_ENOMEMORY);
    }
    CHECK(wo_memory_current() == 0);
}

/* Touches one byte in a child and says whether that killed it. */
static bool touching_kills(volatile char *at, bool writing) {
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        signal(SIGBUS, SIG_DFL);
        if (writing)
            *at = 1;
        else
            (void)*at;
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status);
}

static void a_guarded_block_ends_at_an_unreadable_page(void) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t sizes[] = {1, page - 1, page, page + 1, 5 * page};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        void *p;
        size_t inner = (sizes[i] + page - 1) / page * page;
        CHECK_OK(wo_memory_acquire_guarded(sizes[i], "test", &p, &err), &err);
        CHECK((uintptr_t)p % page == 0 && wo_memory_current() == sizes[i]);
        memset(p, 1, inner);
        CHECK(!touching_kills((char *)p + inner - 1, true));
        CHECK(touching_kills((char *)p + inner, false));
        CHECK(touching_kills((char *)p + inner, true));
        CHECK(touching_kills((char *)p - 1, true));
        wo_memory_release_guarded(p);
        CHECK(wo_memory_current() == 0);
    }
}

static void the_nth_acquisition_fails_and_only_that_one(void) {
    for (int64_t n = 1; n <= 4; n++) {
        wo_memory_fail_at(n);
        for (int64_t i = 1; i <= 6; i++) {
            void *p;
            wo_status status = i % 2 == 0 ? wo_memory_acquire_guarded(10, "x", &p, &err) : wo_memory_acquire(10, "x", &p, &err);
            CHECK(status == (i == n ? WO_ENOMEMORY : WO_OK));
            CHECK((p == NULL) == (i == n));
            if (i % 2 == 0)
                wo_memory_release_guarded(p);
            else
                wo_memory_release(p);
        }
    }
    void *p;
    wo_memory_fail_at(1);
    wo_memory_fail_at(0);
    CHECK_OK(wo_memory_acquire(1, "x", &p, &err), &err);
    wo_memory_release(p);
    CHECK(wo_memory_current() == 0);
}

static void *churn(void *failures) {
    for (size_t i = 0; i < 3000; i++) {
        void *p;
        wo_error inner;
        if (wo_memory_acquire(1 + i % 100, "x", &p, &inner) != WO_OK)
            ++*(int *)failures;
        wo_memory_release(p);
    }
    return NULL;
}

static void counts_hold_when_many_threads_acquire(void) {
    pthread_t threads[4];
    int failures[4] = {0};
    wo_memory_fail_at(1000);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, churn, &failures[i]) == 0);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(failures[0] + failures[1] + failures[2] + failures[3] == 1);
    CHECK(wo_memory_current() == 0 && wo_memory_peak() >= 1);
}

int main(void) {
    blocks_are_aligned_and_counted();
    impossible_sizes_are_refused_with_the_numbers();
    a_guarded_block_ends_at_an_unreadable_page();
    the_nth_acquisition_fails_and_only_that_one();
    counts_hold_when_many_threads_acquire();
    return 0;
}
