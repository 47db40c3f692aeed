/* The cpu device. Each open yields a device of its own, with its own sticky error and cancel token, so that what stops one
 * engine never touches another. The compute pool belongs to the machine: all devices share it, it goes with the last of
 * them, and the number of threads that was set outlives it. */
#include "device/cpu/internal.h"

#include "base/memory.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static wo_status alloc(wo_device *d, size_t bytes, const char *what, void **out, wo_error *err) {
    (void)d;
    return wo_memory_acquire_guarded(bytes, what, out, err);
}

static void release(wo_device *d, void *p) {
    (void)d;
    wo_memory_release_guarded(p);
}

static wo_status host_alloc(wo_device *d, size_t bytes, const char *what, void **out, wo_error *err) {
    (void)d;
    return wo_memory_acquire(bytes, what, out, err);
}

static void host_release(wo_device *d, void *p) {
    (void)d;
    wo_memory_release(p);
}

static wo_status budget(wo_device *d, uint64_t *free_bytes, uint64_t *total_bytes, wo_error *err) {
    (void)d;
    return wo_cpu_read_budget("", free_bytes, total_bytes, err);
}

static const wo_memory_api memory_api = {
    .version = WO_DEVICE_ABI,
    .size = sizeof(wo_memory_api),
    .host_addressable = true,
    .alloc = alloc,
    .release = release,
    .host_alloc = host_alloc,
    .host_release = host_release,
    .budget = budget,
};

/* `opening` guards the list of devices and their counts, the pool's coming and going, and the number of threads. */
static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;
static wo_cpu_device *devices; /* those open */
static wo_pool *the_pool;      /* there while a device is */
static int threads_set;        /* 0: nobody has asked for a number */

static wo_status initial_threads(int *out, wo_error *err) {
    const char *text = getenv("WANOFFLOAD_NUM_THREADS");
    if (threads_set > 0) {
        *out = threads_set;
    } else if (text == NULL || *text == 0) {
        char reason[128];
        *out = wo_pool_default_threads(reason, sizeof reason);
    } else {
        char *end = NULL;
        errno = 0;
        const long n = strtol(text, &end, 10);
        if (*end != 0 || errno != 0 || n < 1 || n > WO_CPU_MAX_THREADS)
            WO_FAIL(err, WO_EVALUE, "WANOFFLOAD_NUM_THREADS is '%s'; it must be a whole number from 1 to %d", text, WO_CPU_MAX_THREADS);
        *out = (int)n;
    }
    return WO_OK;
}

static void count_fixed_bytes(void) {
    for (wo_cpu_device *d = devices; d != NULL; d = d->next)
        d->head.fixed_bytes = (uint64_t)wo_pool_threads(the_pool) * WO_CPU_SCRATCH_BYTES +
                              (uint64_t)WO_CPU_PLANNED_STREAMS * wo_cpu_stream_bytes();
}

static wo_status need_pool(wo_error *err) {
    int threads = 0;
    if (the_pool != NULL)
        return WO_OK;
    WO_TRY(wo_cpu_isa_init(err));
    WO_TRY(initial_threads(&threads, err));
    return wo_pool_create(threads, WO_CPU_SCRATCH_BYTES, &the_pool, err);
}

/* With `opening` held, as the two above. */
static wo_status open_device(wo_cpu_device **out, wo_error *err) {
    wo_cpu_device *d = calloc(1, sizeof *d);
    if (d == NULL)
        WO_FAIL(err, WO_ENOMEMORY, "no memory for a cpu device");
    const wo_status status = need_pool(err);
    if (status != WO_OK) {
        free(d);
        return status;
    }
    d->head = (wo_device){.name = "cpu", .memory = &memory_api, .stream = &wo_cpu_stream_api, .ops = &wo_cpu_ops_api};
    d->pool = the_pool;
    d->holders = 1;
    pthread_mutex_init(&d->lock, NULL);
    d->next = devices;
    devices = d;
    count_fixed_bytes();
    *out = d;
    return WO_OK;
}

wo_status wo_cpu_open(wo_device **out, wo_error *err) {
    wo_cpu_device *d = NULL;
    pthread_mutex_lock(&opening);
    const wo_status status = open_device(&d, err);
    pthread_mutex_unlock(&opening);
    if (status == WO_OK)
        *out = &d->head;
    return status;
}

void wo_cpu_retain(wo_cpu_device *d) {
    pthread_mutex_lock(&opening);
    assert(d->holders > 0);
    d->holders++;
    pthread_mutex_unlock(&opening);
}

void wo_cpu_close(wo_device *device) {
    if (device == NULL)
        return;
    wo_cpu_device *d = (wo_cpu_device *)device;
    pthread_mutex_lock(&opening);
    assert(d->holders > 0);
    if (--d->holders == 0) {
        wo_cpu_device **link = &devices;
        while (*link != d)
            link = &(*link)->next;
        *link = d->next;
        pthread_mutex_destroy(&d->lock);
        free(d);
    }
    if (devices == NULL) {
        wo_pool_destroy(the_pool);
        the_pool = NULL;
    }
    pthread_mutex_unlock(&opening);
}

wo_status wo_cpu_set_threads(int threads, wo_error *err) {
    if (threads < 1 || threads > WO_CPU_MAX_THREADS)
        WO_FAIL(err, WO_EVALUE, "the number of threads is %d; it must be from 1 to %d", threads, WO_CPU_MAX_THREADS);
    pthread_mutex_lock(&opening);
    const wo_status status = the_pool != NULL ? wo_pool_resize(the_pool, threads, err) : WO_OK;
    if (status == WO_OK)
        threads_set = threads;
    count_fixed_bytes();
    pthread_mutex_unlock(&opening);
    return status;
}

int wo_cpu_threads(void) {
    int threads = 0;
    pthread_mutex_lock(&opening);
    if (the_pool != NULL) {
        threads = wo_pool_threads(the_pool);
    } else if (initial_threads(&threads, NULL) != WO_OK) {
        char reason[128];
        threads = wo_pool_default_threads(reason, sizeof reason);
    }
    pthread_mutex_unlock(&opening);
    return threads;
}

double wo_cpu_probe_peak(bool bf16) {
    wo_device *d = NULL;
    if (wo_cpu_open(&d, NULL) != WO_OK)
        return 0;
    const double peak = wo_cpu_table()->probe_peak(((wo_cpu_device *)d)->pool, bf16);
    wo_cpu_close(d);
    return peak;
}

void wo_cpu_post_error(wo_device *device, const wo_error *err) {
    wo_cpu_device *d = (wo_cpu_device *)device;
    assert(err->code != WO_OK);
    pthread_mutex_lock(&d->lock);
    if (atomic_load(&d->failed) == WO_OK) {
        d->error = *err;
        atomic_store(&d->failed, (int)err->code);
    }
    pthread_mutex_unlock(&d->lock);
}

void wo_cpu_clear_error(wo_device *device) {
    wo_cpu_device *d = (wo_cpu_device *)device;
    pthread_mutex_lock(&d->lock);
    atomic_store(&d->failed, WO_OK);
    pthread_mutex_unlock(&d->lock);
}

wo_status wo_cpu_sticky(wo_cpu_device *d, wo_error *err) {
    if (atomic_load(&d->failed) == WO_OK)
        return WO_OK;
    pthread_mutex_lock(&d->lock);
    const wo_status status = (wo_status)atomic_load(&d->failed);
    if (status != WO_OK && err != NULL)
        *err = d->error;
    pthread_mutex_unlock(&d->lock);
    return status;
}

bool wo_cpu_interrupted(wo_cpu_device *d) {
    if (atomic_load(&d->failed) != WO_OK)
        return true;
    if (!wo_cancel_requested(atomic_load_explicit(&d->cancel, memory_order_acquire)))
        return false;
    wo_error err;
    wo_error_set(&err, WO_ECANCELLED, "cancelled");
    wo_cpu_post_error(&d->head, &err);
    return true;
}
