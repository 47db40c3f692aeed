/* Events of the cuda device. The tickets of one event are either recorded by streams or signalled by host threads, whichever was asked for first.
 *
 * Recorded: a ring of the driver's events, ticket v at v % WO_CUDA_TICKETS. Before a place is recorded anew, the host waits for the ticket that had it,
 * so whoever asks for a ticket whose place was taken knows that it was reached. A stream that records where another one did before waits for the other's
 * ticket first: tickets are reached in order.
 *
 * Signalled: a counter with a condition variable, which a stream waits for in a host function. Tickets may be signalled out of order (two readers
 * finish in the other order than they began), but the counter only moves over an unbroken run:
 *
 *     reached = 4    early: 6 7 . 9        signal(5) moves the counter to 7
 */
#include "device/cuda/device_impl.h"

#include "base/memory.h"

#include <assert.h>
#include <string.h>
#include <time.h>

typedef enum event_use { UNUSED, RECORDED, SIGNALLED } event_use;

struct wo_event {
    wo_cuda_device *device;
    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t moved;
    event_use use;
    uint64_t issued, reached;                     /* reached: known to be */
    const wo_cuda_stream *recorder;               /* of the ticket issued last; compared only */
    wo_cu_event place[WO_CUDA_TICKETS];           /* made with the first ticket that is recorded */
    uint16_t waiters[WO_CUDA_TICKETS];            /* host threads that wait for what is recorded in a place now */
    uint64_t early[WO_CUDA_EVENT_WINDOW / 64];    /* bit v % window: ticket v > reached has been signalled ahead of its turn */
};

size_t wo_cuda_event_bytes(void) {
    return sizeof(wo_event);
}

wo_status wo_cuda_event_create(wo_device *d, wo_event **out, wo_error *err) {
    void *memory = NULL;
    WO_TRY(wo_memory_acquire(sizeof(wo_event), "an event", &memory, err));
    wo_event *e = memory;
    memset(e, 0, sizeof *e);
    e->device = (wo_cuda_device *)d;
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->moved, NULL);
    *out = e;
    return WO_OK;
}

void wo_cuda_event_destroy(wo_event *e) {
    if (e == NULL)
        return;
    if (e->place[0] != NULL && wo_cuda_enter(e->device, NULL) == WO_OK)
        for (int i = 0; i < WO_CUDA_TICKETS && e->place[i] != NULL; i++)
            e->device->driver->event_destroy(e->place[i]);
    pthread_cond_destroy(&e->moved);
    pthread_mutex_destroy(&e->lock);
    wo_memory_release(e);
}

/* With the event locked. */
static bool use_as(wo_event *e, event_use use) {
    if (e->use == UNUSED)
        e->use = use;
    return e->use == use;
}

static void post_misuse(wo_cuda_device *d) {
    wo_error err;
    wo_error_set(&err, WO_EINTERNAL, "tickets of one event were both recorded by a stream and signalled by a host thread");
    wo_cuda_post_error(&d->head, &err);
}

/* ---- recorded tickets ---- */

/* With the event locked. */
static bool is_known(const wo_event *e, uint64_t value) {
    return value <= e->reached || e->issued - value >= WO_CUDA_TICKETS;
}

static void note_reached(wo_event *e, uint64_t value) {
    if (value > e->reached)
        e->reached = value;
}

wo_status wo_cuda_event_may_record(wo_event *e, wo_error *err) {
    pthread_mutex_lock(&e->lock);
    const bool may = use_as(e, RECORDED);
    pthread_mutex_unlock(&e->lock);
    if (!may)
        WO_FAIL(err, WO_EINTERNAL, "an event whose tickets host threads signal cannot be recorded");
    return WO_OK;
}

/* All at once, so that nothing is made during a step but the first. */
static wo_status make_places(wo_event *e, wo_error *err) {
    wo_cuda_device *d = e->device;
    for (int i = 0; i < WO_CUDA_TICKETS && e->place[WO_CUDA_TICKETS - 1] == NULL; i++) {
        const wo_cu_result r = e->place[i] != NULL ? WO_CU_SUCCESS : d->driver->event_create(&e->place[i], WO_CU_EVENT_BLOCKING_SYNC | WO_CU_EVENT_DISABLE_TIMING);
        if (r != WO_CU_SUCCESS) {
            e->place[i] = NULL;
            return wo_cuda_fail(d, r, "making an event", err);
        }
    }
    return WO_OK;
}

/* Blocks until the ticket is reached. With the event locked, which is open meanwhile; the context is current. */
static wo_cu_result await_recorded(wo_event *e, uint64_t value) {
    const wo_cuda_driver *driver = e->device->driver;
    const uint64_t i = value % WO_CUDA_TICKETS;
    if (is_known(e, value))
        return WO_CU_SUCCESS;
    wo_cu_result r = driver->event_query(e->place[i]);
    if (r == WO_CU_NOT_READY) {
        e->waiters[i]++;
        pthread_mutex_unlock(&e->lock);
        r = driver->event_synchronize(e->place[i]);
        pthread_mutex_lock(&e->lock);
        e->waiters[i]--;
        pthread_cond_broadcast(&e->moved);
    }
    if (r == WO_CU_SUCCESS)
        note_reached(e, value);
    return r;
}

/* Makes the place of the next ticket free: the one that has it was reached, and nobody is still waking up from it. */
static wo_cu_result free_next_place(wo_event *e) {
    for (;;) {
        const uint64_t next = e->issued + 1;
        if (e->waiters[next % WO_CUDA_TICKETS] > 0) {
            pthread_cond_wait(&e->moved, &e->lock);
            continue;
        }
        if (next <= WO_CUDA_TICKETS || next - WO_CUDA_TICKETS <= e->reached)
            return WO_CU_SUCCESS;
        const wo_cu_result r = await_recorded(e, next - WO_CUDA_TICKETS);
        if (r != WO_CU_SUCCESS)
            return r;
    }
}

static wo_cu_result record_next(wo_cuda_stream *s, wo_event *e) {
    const wo_cuda_driver *driver = e->device->driver;
    wo_cu_result r = free_next_place(e);
    if (r == WO_CU_SUCCESS && e->recorder != s && e->issued > e->reached)
        r = driver->stream_wait_event(s->raw, e->place[e->issued % WO_CUDA_TICKETS], 0);
    if (r == WO_CU_SUCCESS)
        r = driver->event_record(e->place[(e->issued + 1) % WO_CUDA_TICKETS], s->raw);
    return r;
}

wo_status wo_cuda_event_record(wo_cuda_stream *s, wo_event *e, wo_ticket *out, wo_error *err) {
    pthread_mutex_lock(&e->lock);
    wo_status status = make_places(e, err);
    wo_cu_result r = WO_CU_SUCCESS;
    if (status == WO_OK)
        r = record_next(s, e);
    if (status == WO_OK && r == WO_CU_SUCCESS) {
        e->recorder = s;
        *out = (wo_ticket){.event = e, .value = ++e->issued};
    }
    pthread_mutex_unlock(&e->lock);
    return r == WO_CU_SUCCESS ? status : wo_cuda_fail(e->device, r, "recording an event", err);
}

wo_status wo_cuda_event_await(wo_cuda_stream *s, wo_ticket t, wo_error *err) {
    wo_event *e = t.event;
    wo_cu_result r = WO_CU_SUCCESS;
    pthread_mutex_lock(&e->lock);
    assert(t.value <= e->issued);
    if (!is_known(e, t.value))
        r = e->device->driver->stream_wait_event(s->raw, e->place[t.value % WO_CUDA_TICKETS], 0);
    pthread_mutex_unlock(&e->lock);
    return r == WO_CU_SUCCESS ? WO_OK : wo_cuda_fail(e->device, r, "waiting for an event", err);
}

/* ---- signalled tickets ---- */

static bool take_early(wo_event *e, uint64_t value) {
    uint64_t *word = &e->early[value % WO_CUDA_EVENT_WINDOW / 64];
    const uint64_t bit = (uint64_t)1 << (value % 64);
    const bool was = (*word & bit) != 0;
    *word &= ~bit;
    return was;
}

wo_ticket wo_cuda_event_expect(wo_event *e) {
    wo_ticket t = {0};
    pthread_mutex_lock(&e->lock);
    const bool may = use_as(e, SIGNALLED);
    if (may)
        t = (wo_ticket){.event = e, .value = ++e->issued};
    pthread_mutex_unlock(&e->lock);
    if (!may)
        post_misuse(e->device);
    return t;
}

/* Signalling a ticket twice does nothing the second time. With the event locked; false when the ticket is too far ahead of its turn, and then all before
 * it count as reached. */
static bool move_on(wo_event *e, uint64_t value) {
    assert(value <= e->issued);
    if (value <= e->reached)
        return true;
    const uint64_t before = e->reached;
    const bool overrun = value - e->reached > WO_CUDA_EVENT_WINDOW;
    if (overrun) {
        e->reached = value;
        memset(e->early, 0, sizeof e->early);
    } else {
        e->early[value % WO_CUDA_EVENT_WINDOW / 64] |= (uint64_t)1 << (value % 64);
    }
    while (e->reached < e->issued && take_early(e, e->reached + 1))
        e->reached++;
    if (e->reached != before)
        pthread_cond_broadcast(&e->moved);
    return !overrun;
}

/* Whoever has seen a ticket reached may destroy the event: by then this thread is out of it. */
void wo_cuda_event_signal(wo_ticket t) {
    wo_event *e = t.event;
    if (e == NULL)
        return;
    wo_cuda_device *d = e->device;
    pthread_mutex_lock(&e->lock);
    const bool signalled = e->use == SIGNALLED;
    const bool in_turn = !signalled || move_on(e, t.value);
    pthread_mutex_unlock(&e->lock);
    if (!signalled)
        post_misuse(d);
    if (!in_turn) {
        wo_error err;
        wo_error_set(&err, WO_EINTERNAL, "ticket %llu of an event was reached more than %d tickets ahead of its turn", (unsigned long long)t.value,
                     WO_CUDA_EVENT_WINDOW);
        wo_cuda_post_error(&d->head, &err);
    }
}

bool wo_cuda_is_signalled(wo_ticket t) {
    pthread_mutex_lock(&t.event->lock);
    const bool signalled = t.event->use == SIGNALLED;
    pthread_mutex_unlock(&t.event->lock);
    return signalled;
}

/* Looks up every few milliseconds, for nothing signals that a context was lost. */
void wo_cuda_await_signal(wo_ticket t, const atomic_bool *given_up) {
    pthread_mutex_lock(&t.event->lock);
    while (t.event->reached < t.value && (given_up == NULL || !atomic_load(given_up))) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 5000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&t.event->moved, &t.event->lock, &until);
    }
    pthread_mutex_unlock(&t.event->lock);
}

/* ---- both ---- */

/* A lost context reaches nothing any more, so all of its tickets count as reached. Inside a host function, where the driver cannot be asked, a recorded
 * ticket is reached when that was found out before. */
bool wo_cuda_reached(wo_ticket t) {
    wo_event *e = t.event;
    if (e == NULL)
        return true;
    wo_cuda_device *d = e->device;
    const bool ask = !wo_cuda_on_stream() && !atomic_load(&d->lost);
    wo_cu_result r = WO_CU_SUCCESS;
    pthread_mutex_lock(&e->lock);
    const bool recorded = e->use == RECORDED;
    bool reached = recorded ? is_known(e, t.value) : e->reached >= t.value;
    if (!reached && recorded && ask && wo_cuda_enter(d, NULL) == WO_OK) {
        r = d->driver->event_query(e->place[t.value % WO_CUDA_TICKETS]);
        reached = r == WO_CU_SUCCESS;
        if (reached)
            note_reached(e, t.value);
    }
    pthread_mutex_unlock(&e->lock);
    if (r != WO_CU_SUCCESS && r != WO_CU_NOT_READY)
        wo_cuda_fail(d, r, "work enqueued before", NULL);
    return reached || (recorded && atomic_load(&d->lost));
}

static wo_status wait_recorded(wo_ticket t, wo_error *err) {
    wo_event *e = t.event;
    wo_cuda_device *d = e->device;
    if (atomic_load(&d->lost))
        return WO_OK;
    WO_TRY(wo_cuda_enter(d, err));
    pthread_mutex_lock(&e->lock);
    const wo_cu_result r = await_recorded(e, t.value);
    pthread_mutex_unlock(&e->lock);
    return r == WO_CU_SUCCESS ? WO_OK : wo_cuda_fail(d, r, "work enqueued before", err);
}

wo_status wo_cuda_host_wait(wo_device *device, wo_ticket t, wo_error *err) {
    wo_cuda_device *d = (wo_cuda_device *)device;
    wo_status status = WO_OK;
    WO_TRY(wo_cuda_refuse_on_stream("waiting", err));
    if (t.event != NULL && wo_cuda_is_signalled(t))
        wo_cuda_await_signal(t, NULL);
    else if (t.event != NULL)
        status = wait_recorded(t, err);
    const wo_status sticky = wo_cuda_sticky(d, err);
    return sticky != WO_OK ? sticky : status;
}
