/* Memory of the card, and memory of the host that the card can read.
 *
 * Host memory is ordinary counted memory whose pages the driver pins, piece by piece, each touched before. What it refuses to pin stays pageable:
 * copies from there are slower and right all the same. Small blocks are pinned whole or not given out, because staging is among them, which kernels read.
 *
 *     | header, a page | piece of 256 MiB | piece | pageable rest |
 *     ^ acquired       ^ returned, at a page boundary
 *
 * How much is pinned in all is bounded below what the machine or the control group has: nothing pinned can be paged out. */
#include "device/cuda/device_impl.h"

#include "base/cgroup.h"
#include "base/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    DEVICE_ALIGNMENT = 4096,
    PIECE_BYTES = 256 << 20,
    WHOLE_BYTES = 64 << 20 /* blocks of up to so many bytes are pinned whole */
};

/* ---- the card's ---- */

typedef struct wo_cuda_block {
    struct wo_cuda_block *next;
    wo_cu_ptr base;
    void *p; /* base, at DEVICE_ALIGNMENT */
} wo_cuda_block;

static wo_status out_of_memory(wo_cuda_device *d, wo_cu_result r, size_t bytes, const char *what, wo_error *err) {
    size_t free_bytes = 0, total_bytes = 0;
    if (r != WO_CU_OUT_OF_MEMORY)
        return wo_cuda_fail(d, r, "allocating memory of the card", err);
    d->driver->memory_info(&free_bytes, &total_bytes);
    WO_FAIL(err, WO_ENOMEMORY, "%s (%s) cannot allocate %.1f MiB for %s: %.1f of its %.1f MiB are free. Give a smaller vram budget, choose leaf-level offload, "
            "or close other programs that use the card", d->text, d->properties.name, (double)bytes / 1048576, what, (double)free_bytes / 1048576,
            (double)total_bytes / 1048576);
}

/* The driver promises 256 bytes of alignment and mostly gives much more. */
static wo_cu_result alloc_aligned(wo_cuda_device *d, size_t bytes, wo_cuda_block *block) {
    wo_cu_result r = d->driver->memory_alloc(&block->base, bytes);
    if (r == WO_CU_SUCCESS && block->base % DEVICE_ALIGNMENT != 0) {
        d->driver->memory_free(block->base);
        r = d->driver->memory_alloc(&block->base, bytes + DEVICE_ALIGNMENT);
    }
    block->p = (void *)(uintptr_t)((block->base + DEVICE_ALIGNMENT - 1) / DEVICE_ALIGNMENT * DEVICE_ALIGNMENT);
    return r;
}

static wo_status alloc(wo_device *device, size_t bytes, const char *what, void **out, wo_error *err) {
    wo_cuda_device *d = (wo_cuda_device *)device;
    *out = NULL;
    WO_TRY(wo_cuda_refuse_on_stream("allocating", err));
    if (atomic_load(&d->lost))
        return wo_cuda_sticky(d, err);
    WO_TRY(wo_cuda_enter(d, err));
    if (bytes > SIZE_MAX / 2)
        return out_of_memory(d, WO_CU_OUT_OF_MEMORY, bytes, what, err);
    wo_cuda_block *block = calloc(1, sizeof *block);
    if (block == NULL)
        WO_FAIL(err, WO_ENOMEMORY, "no memory for a list of %s", what);
    const size_t rounded = (bytes > 0 ? bytes + DEVICE_ALIGNMENT - 1 : DEVICE_ALIGNMENT) / DEVICE_ALIGNMENT * DEVICE_ALIGNMENT;
    const wo_cu_result r = alloc_aligned(d, rounded, block);
    if (r != WO_CU_SUCCESS) {
        free(block);
        return out_of_memory(d, r, bytes, what, err);
    }
    pthread_mutex_lock(&d->lock);
    block->next = d->blocks;
    d->blocks = block;
    pthread_mutex_unlock(&d->lock);
    *out = block->p;
    return WO_OK;
}

static void release(wo_device *device, void *p) {
    wo_cuda_device *d = (wo_cuda_device *)device;
    if (p == NULL)
        return;
    pthread_mutex_lock(&d->lock);
    wo_cuda_block **link = &d->blocks;
    while (*link != NULL && (*link)->p != p)
        link = &(*link)->next;
    wo_cuda_block *block = *link;
    if (block != NULL)
        *link = block->next;
    pthread_mutex_unlock(&d->lock);
    if (block != NULL && wo_cuda_enter(d, NULL) == WO_OK)
        d->driver->memory_free(block->base);
    free(block);
}

static wo_status budget(wo_device *device, uint64_t *free_bytes, uint64_t *total_bytes, wo_error *err) {
    wo_cuda_device *d = (wo_cuda_device *)device;
    size_t free_now = 0, total = 0;
    WO_TRY(wo_cuda_enter(d, err));
    const wo_cu_result r = d->driver->memory_info(&free_now, &total);
    if (r != WO_CU_SUCCESS)
        return wo_cuda_fail(d, r, "asking for free memory", err);
    *free_bytes = free_now;
    *total_bytes = total;
    return WO_OK;
}

/* ---- the host's ---- */

typedef struct wo_cuda_host_block {
    struct wo_cuda_host_block *next;
    void *acquired;
    char *p;
    size_t bytes, pinned; /* of p; pinned in pieces of PIECE_BYTES from its beginning */
} host_block;

static pthread_mutex_t listing = PTHREAD_MUTEX_INITIALIZER; /* guards what follows */
static host_block *host_blocks; /* of the process */
static uint64_t pinned_bytes;
static char refusal[256];

uint64_t wo_cuda_pinned_bytes(void) {
    pthread_mutex_lock(&listing);
    const uint64_t bytes = pinned_bytes;
    pthread_mutex_unlock(&listing);
    return bytes;
}

void wo_cuda_pinning_refusal(char *text, size_t bytes) {
    pthread_mutex_lock(&listing);
    snprintf(text, bytes, "%s", refusal);
    pthread_mutex_unlock(&listing);
}

static void lower_to_group(void *ctx, const char *folder, int version) {
    uint64_t *limit = ctx, value;
    char path[4096 + 64];
    snprintf(path, sizeof path, "%.4096s/%s", folder, version == 2 ? "memory.max" : "memory.limit_in_bytes");
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return;
    if (fscanf(f, "%" SCNu64, &value) == 1 && value < *limit)
        *limit = value;
    fclose(f);
}

/* Seven eighths of what the process may have. */
static uint64_t most_pinned(void) {
    uint64_t limit = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    wo_cgroup_visit("", "memory", lower_to_group, &limit);
    return limit - limit / 8;
}

/* Counts a piece as pinned if that is within the bound. */
static bool reserve(size_t bytes, uint64_t most) {
    pthread_mutex_lock(&listing);
    const bool fits = pinned_bytes + bytes <= most;
    if (fits)
        pinned_bytes += bytes;
    else
        snprintf(refusal, sizeof refusal, "the rest would be more than seven eighths of the memory that this process may have");
    pthread_mutex_unlock(&listing);
    return fits;
}

static void unreserve(size_t bytes, const char *reason) {
    pthread_mutex_lock(&listing);
    pinned_bytes -= bytes;
    if (reason != NULL)
        snprintf(refusal, sizeof refusal, "%.250s", reason);
    pthread_mutex_unlock(&listing);
}

static void touch(char *p, size_t bytes) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t at = 0; at < bytes; at += page)
        ((volatile char *)p)[at] = 0;
}

static size_t piece_at(const host_block *b, size_t at) {
    return b->bytes - at < PIECE_BYTES ? b->bytes - at : PIECE_BYTES;
}

/* Pins piece after piece until one is refused. The driver's refusal is an answer, not a state: nothing is to be cleared. Pages that are pinned come whole. */
static wo_status pin(wo_cuda_device *d, host_block *b, wo_error *err) {
    const uint64_t most = most_pinned();
    while (b->pinned < b->bytes) {
        const size_t bytes = piece_at(b, b->pinned);
        if (wo_cuda_interrupted(d))
            return wo_cuda_sticky(d, err);
        if (!reserve(bytes, most))
            return WO_OK;
        touch(b->p + b->pinned, bytes);
        const wo_cu_result r = d->driver->host_register(b->p + b->pinned, bytes, WO_CU_MEMHOSTREGISTER_PORTABLE | WO_CU_MEMHOSTREGISTER_DEVICEMAP);
        if (r != WO_CU_SUCCESS) {
            wo_error reason;
            wo_cuda_driver_error(d->driver, r, "the driver refused", &reason);
            unreserve(bytes, reason.message);
            return wo_cuda_loses_context(r) ? wo_cuda_fail(d, r, "pinning host memory", err) : WO_OK;
        }
        b->pinned += bytes;
    }
    return WO_OK;
}

/* From the last piece on, until the driver refuses one. */
static void unpin(wo_cuda_device *d, host_block *b) {
    if (b->pinned > 0)
        wo_cuda_enter(d, NULL);
    while (b->pinned > 0) {
        const size_t at = (b->pinned - 1) / PIECE_BYTES * PIECE_BYTES;
        if (d->driver->host_unregister(b->p + at) != WO_CU_SUCCESS)
            return;
        unreserve(b->pinned - at, NULL);
        b->pinned = at;
    }
}

/* What stays until the context has gone: memory that a copy may still write to, which was running when the context was lost, and memory that the driver
 * did not unpin, whose addresses it would not pin a second time. */
static void give_back(wo_cuda_device *d, host_block *b) {
    unpin(d, b);
    if (b->pinned == 0 && !atomic_load(&d->lost)) {
        wo_memory_release(b->acquired);
        return;
    }
    pthread_mutex_lock(&d->lock);
    b->next = d->condemned;
    d->condemned = b;
    pthread_mutex_unlock(&d->lock);
}

void wo_cuda_memory_fini(wo_cuda_device *d) {
    while (d->blocks != NULL)
        release(&d->head, d->blocks->p);
    for (host_block *b = atomic_load(&d->lost) ? NULL : d->condemned; b != NULL; b = b->next)
        unpin(d, b); /* others may keep the context */
}

void wo_cuda_memory_bury(wo_cuda_device *d) {
    while (d->condemned != NULL) {
        host_block *b = d->condemned;
        d->condemned = b->next;
        unreserve(b->pinned, NULL);
        wo_memory_release(b->acquired);
    }
}

static wo_status pin_block(wo_cuda_device *d, host_block *b, const char *what, wo_error *err) {
    WO_TRY(wo_cuda_enter(d, err));
    WO_TRY(pin(d, b, err));
    if (b->pinned < b->bytes && b->bytes <= WHOLE_BYTES) {
        char reason[sizeof refusal];
        wo_cuda_pinning_refusal(reason, sizeof reason);
        WO_FAIL(err, WO_ENOMEMORY, "%s cannot pin %.1f MiB of host memory for %s beside the %.1f MiB that are pinned now (%.200s). Lower the ram budget, or free "
                "memory", d->text, (double)b->bytes / 1048576, what, (double)wo_cuda_pinned_bytes() / 1048576, reason);
    }
    return WO_OK;
}

/* The first page is the header, so that what is pinned begins and ends at a page that has nothing else in it. */
static wo_status host_alloc(wo_device *device, size_t bytes, const char *what, void **out, wo_error *err) {
    wo_cuda_device *d = (wo_cuda_device *)device;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *acquired = NULL;
    *out = NULL;
    WO_TRY(wo_cuda_refuse_on_stream("allocating", err));
    if (atomic_load(&d->lost))
        return wo_cuda_sticky(d, err);
    const size_t rounded = bytes < SIZE_MAX - 2 * page ? (bytes + page - 1) / page * page : bytes;
    WO_TRY(wo_memory_acquire(rounded < SIZE_MAX - 2 * page ? rounded + 2 * page : rounded, what, &acquired, err));
    char *p = (char *)(((uintptr_t)acquired + page - 1) / page * page) + page;
    host_block *b = (host_block *)(void *)(p - page);
    *b = (host_block){.acquired = acquired, .p = p, .bytes = rounded};
#ifdef MADV_HUGEPAGE
    madvise(p, rounded, MADV_HUGEPAGE); /* fewer pages to touch and to pin; advice only */
#endif
    const wo_status status = pin_block(d, b, what, err);
    if (status != WO_OK) {
        give_back(d, b);
        return status;
    }
    pthread_mutex_lock(&listing);
    b->next = host_blocks;
    host_blocks = b;
    pthread_mutex_unlock(&listing);
    *out = p;
    return WO_OK;
}

static void host_release(wo_device *device, void *p) {
    wo_cuda_device *d = (wo_cuda_device *)device;
    if (p == NULL)
        return;
    pthread_mutex_lock(&listing);
    host_block **link = &host_blocks;
    while (*link != NULL && (*link)->p != p)
        link = &(*link)->next;
    host_block *b = *link;
    if (b != NULL)
        *link = b->next;
    pthread_mutex_unlock(&listing);
    if (b != NULL)
        give_back(d, b);
}

/* The block that p lies in. With the list locked. */
static const host_block *find_block(const char *p) {
    const host_block *b = host_blocks;
    while (b != NULL && !((uintptr_t)p >= (uintptr_t)b->p && (uintptr_t)p < (uintptr_t)b->p + b->bytes))
        b = b->next;
    return b;
}

size_t wo_cuda_copy_run(const void *p, size_t bytes) {
    size_t run = bytes;
    pthread_mutex_lock(&listing);
    const host_block *b = find_block(p);
    if (b != NULL) {
        const size_t at = (size_t)((const char *)p - b->p);
        const size_t end = at >= b->pinned ? b->bytes : at / PIECE_BYTES * PIECE_BYTES + PIECE_BYTES;
        const size_t stop = at < b->pinned && end > b->pinned ? b->pinned : end;
        run = stop - at < bytes ? stop - at : bytes;
    }
    pthread_mutex_unlock(&listing);
    return run;
}

bool wo_cuda_kernel_may_read(const void *p, size_t bytes) {
    pthread_mutex_lock(&listing);
    const host_block *b = find_block(p);
    const bool may = b == NULL || (size_t)((const char *)p - b->p) + bytes <= b->pinned;
    pthread_mutex_unlock(&listing);
    return may;
}

const wo_memory_api wo_cuda_memory_api = {
    .version = WO_DEVICE_ABI,
    .size = sizeof(wo_memory_api),
    .host_addressable = false,
    .alloc = alloc,
    .release = release,
    .host_alloc = host_alloc,
    .host_release = host_release,
    .budget = budget,
};
