/* Events of the cpu device: a counter with a condition variable.
 *
 * Each record or expect issues the next ticket. Tickets may be reached out of order (two readers finish in the other
 * order than they began), but the counter only moves over an unbroken run, so that "reached" means this ticket and all before it:
 *
 *     reached = 4    early: 6 7 . 9        reach(5) moves the counter to 7
 */
#include "device/cpu/internal.h"

#include "base/memory.h"

#include <assert.h>
#include <string.h>

struct wo_event {
    wo_cpu_device *device;
    pthread_mutex_t lock;
    pthread_cond_t moved;
    uint64_t issued, reached;
    uint64_t early[WO_CPU_EVENT_WINDOW / 64]; /* bit v % window: ticket v > reached has been reached ahead of its turn */
};

static bool take_early(wo_event *e, uint64_t value) {
    uint64_t *word = &e->early[value % WO_CPU_EVENT_WINDOW / 64];
    const uint64_t bit = (uint64_t)1 << (value % 64);
    const bool was = (*word & bit) != 0;
    *word &= ~bit;
    return was;
}

wo_status wo_cpu_event_create(wo_device *d, wo_event **out, wo_error *err) {
    void *memory = NULL;
    WO_TRY(wo_memory_acquire(sizeof(wo_event), "event", &memory, err));
    wo_event *e = memory;
    memset(e, 0, sizeof *e);
    e->device = (wo_cpu_device *)d;
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->moved, NULL);
    *out = e;
    return WO_OK;
}

void wo_cpu_event_destroy(wo_event *e) {
    if (e == NULL)
        return;
    pthread_cond_destroy(&e->moved);
    pthread_mutex_destroy(&e->lock);
    wo_memory_release(e);
}

wo_ticket wo_cpu_event_expect(wo_event *e) {
    pthread_mutex_lock(&e->lock);
    const wo_ticket t = {.event = e, .value = ++e->issued};
    pthread_mutex_unlock(&e->lock);
    return t;
}

/* Signalling a ticket twice does nothing the second time. Every access takes the lock, also where an atomic would do: whoever has seen
 * a ticket reached may destroy the event, and by then the signalling thread must be out of it. */
void wo_cpu_event_signal(wo_ticket t) {
    wo_event *e = t.event;
    if (e == NULL)
        return;
    bool overrun = false;
    wo_cpu_device *device = e->device;
    pthread_mutex_lock(&e->lock);
    assert(t.value <= e->issued);
    if (t.value > e->reached) {
        const uint64_t before = e->reached;
        overrun = t.value - e->reached > WO_CPU_EVENT_WINDOW;
        if (overrun) {
            e->reached = t.value;
            memset(e->early, 0, sizeof e->early);
        } else {
            e->early[t.value % WO_CPU_EVENT_WINDOW / 64] |= (uint64_t)1 << (t.value % 64);
        }
        while (e->reached < e->issued && take_early(e, e->reached + 1))
            e->reached++;
        if (e->reached != before)
            pthread_cond_broadcast(&e->moved);
    }
    pthread_mutex_unlock(&e->lock);
    if (overrun) {
        wo_error err;
        wo_error_set(&err, WO_EINTERNAL, "ticket %llu of an event was reached more than %d tickets ahead of its turn",
                     (unsigned long long)t.value, WO_CPU_EVENT_WINDOW);
        wo_cpu_post_error(&device->head, &err);
    }
}

bool wo_cpu_reached(wo_ticket t) {
    if (t.event == NULL)
        return true;
    pthread_mutex_lock(&t.event->lock);
    const bool reached = t.event->reached >= t.value;
    pthread_mutex_unlock(&t.event->lock);
    return reached;
}

void wo_cpu_event_wait(wo_ticket t) {
    if (t.event == NULL)
        return;
    pthread_mutex_lock(&t.event->lock);
    while (t.event->reached < t.value)
        pthread_cond_wait(&t.event->moved, &t.event->lock);
    pthread_mutex_unlock(&t.event->lock);
}
