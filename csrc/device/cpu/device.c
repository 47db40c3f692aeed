/* The process's one cpu device: the compute pool, the sticky error, and memory. It is counted, because the pool belongs to the machine
 * and not to whoever opened it; the number of threads that was set outlives the last close. */
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

/* `opening` guards the count, the pool's coming and going, and the number of threads. */
static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;
static int opened;
static int threads_set; /* 0: nobody has asked for a number */
static wo_cpu_device the_device = {
    .head = {.name = "cpu", .memory = &memory_api, .stream = &wo_cpu_stream_api, .ops = &wo_cpu_ops_api},
    .lock = PTHREAD_MUTEX_INITIALIZER,
};

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
    the_device.head.fixed_bytes = (uint64_t)wo_pool_threads(the_device.pool) * WO_CPU_SCRATCH_BYTES +
                                  (uint64_t)WO_CPU_PLANNED_STREAMS * wo_cpu_stream_bytes();
}

static wo_status open_first(wo_error *err) {
    int threads = 0;
    WO_TRY(wo_cpu_isa_init(err));
    WO_TRY(initial_threads(&threads, err));
    WO_TRY(wo_pool_create(threads, WO_CPU_SCRATCH_BYTES, &the_device.pool, err));
    count_fixed_bytes();
    atomic_store(&the_device.cancel, NULL);
    atomic_store(&the_device.failed, WO_OK);
    the_device.chaos_seed = 0;
    the_device.chaos_delay = 0;
    return WO_OK;
}

wo_status wo_cpu_open(wo_device **out, wo_error *err) {
    pthread_mutex_lock(&opening);
    const wo_status status = opened > 0 ? WO_OK : open_first(err);
    if (status == WO_OK) {
        opened++;
        *out = &the_device.head;
    }
    pthread_mutex_unlock(&opening);
    return status;
}

void wo_cpu_retain(wo_cpu_device *d) {
    pthread_mutex_lock(&opening);
    assert(d == &the_device && opened > 0);
    (void)d;
    opened++;
    pthread_mutex_unlock(&opening);
}

void wo_cpu_close(wo_device *d) {
    if (d == NULL)
        return;
    pthread_mutex_lock(&opening);
    assert(d == &the_device.head && opened > 0);
    if (--opened == 0) {
        wo_pool_destroy(the_device.pool);
        the_device.pool = NULL;
    }
    pthread_mutex_unlock(&opening);
}

wo_status wo_cpu_set_threads(int threads, wo_error *err) {
    if (threads < 1 || threads > WO_CPU_MAX_THREADS)
        WO_FAIL(err, WO_EVALUE, "the number of threads is %d; it must be from 1 to %d", threads, WO_CPU_MAX_THREADS);
    pthread_mutex_lock(&opening);
    const wo_status status = opened > 0 ? wo_pool_resize(the_device.pool, threads, err) : WO_OK;
    if (status == WO_OK)
        threads_set = threads;
    if (status == WO_OK && opened > 0)
        count_fixed_bytes();
    pthread_mutex_unlock(&opening);
    return status;
}

int wo_cpu_threads(void) {
    int threads = 0;
    pthread_mutex_lock(&opening);
    if (opened > 0) {
        threads = wo_pool_threads(the_device.pool);
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
