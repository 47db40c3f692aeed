/* Counted host memory. Each block carries its size in front, so that release needs nothing but the pointer:
 *
 *   acquired:  [ size, pad to 64 ][ bytes ... ]               guarded:  [ header page, read-only ][ bytes ... ][ guard page ]
 *              ^ aligned_alloc     ^ returned                           ^ mmap                    ^ returned    ^ no access
 */
#include "base/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ALIGNMENT = 64 };

typedef struct block_header {
    size_t bytes, mapped;
} block_header;

static _Atomic uint64_t current_bytes, peak_bytes;
static _Atomic int64_t failing;

static void count(size_t bytes) {
    uint64_t now = atomic_fetch_add(&current_bytes, bytes) + bytes;
    uint64_t peak = atomic_load(&peak_bytes);
    while (now > peak && !atomic_compare_exchange_weak(&peak_bytes, &peak, now))
        continue;
}

static void uncount(size_t bytes) {
    atomic_fetch_sub(&current_bytes, bytes);
}

/* Counts the armed switch down by one and says whether this acquisition is the one to fail. */
static bool injected_failure(void) {
    int64_t left = atomic_load(&failing);
    while (left > 0) {
        if (atomic_compare_exchange_weak(&failing, &left, left - 1))
            return left == 1;
    }
    return false;
}

static wo_status refuse(size_t bytes, const char *what, wo_error *err) {
    WO_FAIL(err, WO_ENOMEMORY, "cannot allocate %zu bytes for %s; the core already holds %" PRIu64 " bytes. "
            "Lower the budgets or the size of the video, or free memory.", bytes, what, wo_memory_current());
}

wo_status wo_memory_acquire(size_t bytes, const char *what, void **out, wo_error *err) {
    *out = NULL;
    if (injected_failure() || bytes > (size_t)PTRDIFF_MAX - 2 * ALIGNMENT)
        return refuse(bytes, what, err);
    size_t total = ALIGNMENT + (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    char *base = aligned_alloc(ALIGNMENT, total);
    if (base == NULL)
        return refuse(bytes, what, err);
    *(block_header *)(void *)base = (block_header){.bytes = bytes};
    count(bytes);
    *out = base + ALIGNMENT;
    return WO_OK;
}

void wo_memory_release(void *p) {
    if (p == NULL)
        return;
    char *base = (char *)p - ALIGNMENT;
    uncount(((block_header *)(void *)base)->bytes);
    free(base);
}

wo_status wo_memory_acquire_guarded(size_t bytes, const char *what, void **out, wo_error *err) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    *out = NULL;
    if (injected_failure() || bytes > (size_t)PTRDIFF_MAX - 3 * page)
        return refuse(bytes, what, err);
    size_t inner = (bytes + page - 1) / page * page, mapped = inner + 2 * page;
    char *base = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return refuse(bytes, what, err);
    *(block_header *)(void *)base = (block_header){.bytes = bytes, .mapped = mapped};
    if (mprotect(base, page, PROT_READ) != 0 || mprotect(base + page + inner, page, PROT_NONE) != 0) {
        munmap(base, mapped);
        return refuse(bytes, what, err);
    }
    count(bytes);
    *out = base + page;
    return WO_OK;
}

void wo_memory_release_guarded(void *p) {
    if (p == NULL)
        return;
    char *base = (char *)p - (size_t)sysconf(_SC_PAGESIZE);
    block_header header = *(block_header *)(void *)base;
    uncount(header.bytes);
    munmap(base, header.mapped);
}

uint64_t wo_memory_current(void) {
    return atomic_load(&current_bytes);
}

uint64_t wo_memory_peak(void) {
    return atomic_load(&peak_bytes);
}

void wo_memory_reset_peak(void) {
    atomic_store(&peak_bytes, atomic_load(&current_bytes));
}

void wo_memory_fail_at(int64_t n) {
    atomic_store(&failing, n);
}
