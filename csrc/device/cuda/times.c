/* How long a stream computed and how long it waited, without the timing events that slow streams down and whose reading is a driver call: times is asked
 * for from inside host calls, where those are forbidden.
 *
 *     work work |stamp BUSY| record     |stamp IDLE| work |stamp BUSY| wait |stamp STALLED| work ...
 *
 * What lies between two stamps was one thing, which the later one names. A stamp is a kernel of one thread that writes the card's clock into pinned
 * memory. In the stream of transfers it is a host function that writes the host's clock: a kernel would wait there until the kernels of the compute
 * stream leave a multiprocessor free, and hold the copies up. Stamps stand around each wait for a ticket that was not reached when the wait was enqueued, in front of each recorded ticket and each host call,
 * and in front of work that follows a ticket which the stream may have passed long before. A stream that runs dry between two stamps without a ticket
 * between them counts as busy.
 *
 * Precision: the card's clock moves in steps of up to 1 us (on some, of 1 ms), and such a stamp takes the stream a few us itself; one by a host function
 * takes some tens of us. */
#include "device/cuda/device_impl.h"

wo_status wo_cuda_stamps_init(wo_cuda_stream *s, wo_error *err) {
    wo_cuda_device *d = wo_cuda_of(&s->head);
    void *slots = NULL;
    const wo_cu_result r = d->driver->host_alloc(&slots, WO_CUDA_STAMPS * sizeof(uint64_t), WO_CU_MEMHOSTALLOC_PORTABLE | WO_CU_MEMHOSTALLOC_DEVICEMAP);
    if (r != WO_CU_SUCCESS)
        return wo_cuda_driver_error(d->driver, r, "pinning memory for a stream's stamps", err);
    s->stamps.slots = slots;
    for (int i = 0; i < WO_CUDA_STAMPS; i++)
        atomic_init(&s->stamps.slots[i], 0);
    pthread_mutex_init(&s->stamps.lock, NULL);
    return WO_OK;
}

void wo_cuda_stamps_fini(wo_cuda_stream *s) {
    if (s->stamps.slots == NULL)
        return;
    wo_cuda_of(&s->head)->driver->host_free((void *)s->stamps.slots);
    pthread_mutex_destroy(&s->stamps.lock);
}

/* Moves over the stamps that have arrived. With their lock held. */
static void count_arrived(wo_cuda_stamps *t) {
    while (t->counted < t->issued) {
        const uint64_t i = t->counted % WO_CUDA_STAMPS, now = atomic_load(&t->slots[i]);
        if (now == 0)
            return;
        const double seconds = t->last != 0 && now > t->last ? 1e-9 * (double)(now - t->last) : 0;
        if (t->span[i] == WO_CUDA_BUSY)
            t->busy += seconds;
        else if (t->span[i] == WO_CUDA_STALLED)
            t->stalled += seconds;
        t->last = now;
        atomic_store(&t->slots[i], 0);
        t->counted++;
    }
}

/* The place of a new stamp; NULL when all are on their way. */
static _Atomic uint64_t *take_slot(wo_cuda_stamps *t, wo_cuda_span span) {
    _Atomic uint64_t *slot = NULL;
    pthread_mutex_lock(&t->lock);
    count_arrived(t);
    if (t->issued - t->counted < WO_CUDA_STAMPS) {
        slot = &t->slots[t->issued % WO_CUDA_STAMPS];
        t->span[t->issued % WO_CUDA_STAMPS] = (unsigned char)span;
        t->issued++;
    }
    pthread_mutex_unlock(&t->lock);
    return slot;
}

static wo_status enqueue(wo_cuda_stream *s, _Atomic uint64_t *slot, wo_error *err) {
    wo_cuda_device *d = wo_cuda_of(&s->head);
    if (s->transfers)
        return wo_cuda_push_node(s, &(wo_cuda_node){.kind = WO_CUDA_STAMP, .stamp = slot}, "measuring time", err);
    wo_cuda_stamp_args args = {.nanoseconds = (uint64_t *)slot};
    void *params[] = {&args};
    const wo_cu_result r = d->driver->launch(d->kernels[WO_CUDA_stamp], 1, 1, 1, 1, 1, 1, 0, s->raw, params, NULL);
    return r == WO_CU_SUCCESS ? WO_OK : wo_cuda_fail(d, r, "measuring time", err);
}

static wo_status put(wo_cuda_stream *s, wo_cuda_span span, wo_error *err) {
    if (atomic_load(&wo_cuda_of(&s->head)->failed) != WO_OK)
        return WO_OK;
    _Atomic uint64_t *slot = take_slot(&s->stamps, span);
    const wo_status status = slot != NULL ? enqueue(s, slot, err) : WO_OK;
    if (status != WO_OK) {
        pthread_mutex_lock(&s->stamps.lock);
        s->stamps.issued--; /* nobody else issues while the stream is locked */
        pthread_mutex_unlock(&s->stamps.lock);
    }
    return status;
}

/* Whether the stream has passed its last stamp, and so may have been idle since. */
static bool passed_all(wo_cuda_stamps *t) {
    pthread_mutex_lock(&t->lock);
    count_arrived(t);
    const bool all = t->counted == t->issued;
    pthread_mutex_unlock(&t->lock);
    return all;
}

wo_status wo_cuda_stamp_work(wo_cuda_stream *s, wo_error *err) {
    if (s->stamps.open)
        return WO_OK;
    s->stamps.open = true;
    return passed_all(&s->stamps) ? put(s, WO_CUDA_IDLE, err) : WO_OK;
}

wo_status wo_cuda_stamp_host_call(wo_cuda_stream *s, wo_error *err) {
    return s->stamps.open ? put(s, WO_CUDA_BUSY, err) : wo_cuda_stamp_work(s, err);
}

wo_status wo_cuda_stamp_end(wo_cuda_stream *s, wo_error *err) {
    if (!s->stamps.open)
        return WO_OK;
    s->stamps.open = false;
    return put(s, WO_CUDA_BUSY, err);
}

wo_status wo_cuda_stamp_wait(wo_cuda_stream *s, wo_error *err) {
    if (s->stamps.open)
        return wo_cuda_stamp_end(s, err);
    return passed_all(&s->stamps) ? put(s, WO_CUDA_IDLE, err) : WO_OK;
}

wo_status wo_cuda_stamp_waited(wo_cuda_stream *s, wo_error *err) {
    s->stamps.open = true;
    return put(s, WO_CUDA_STALLED, err);
}

wo_status wo_cuda_stamp_reset(wo_cuda_stream *s, wo_error *err) {
    wo_cuda_stamps *t = &s->stamps;
    pthread_mutex_lock(&t->lock);
    count_arrived(t);
    for (uint64_t i = t->counted; i < t->issued; i++)
        t->span[i % WO_CUDA_STAMPS] = WO_CUDA_IDLE;
    t->busy = t->stalled = 0;
    t->open = false;
    pthread_mutex_unlock(&t->lock);
    return put(s, WO_CUDA_IDLE, err);
}

void wo_cuda_times(wo_stream *stream, double *busy, double *stalled) {
    wo_cuda_stamps *t = &((wo_cuda_stream *)stream)->stamps;
    pthread_mutex_lock(&t->lock);
    count_arrived(t);
    *busy = t->busy;
    *stalled = t->stalled;
    pthread_mutex_unlock(&t->lock);
}
