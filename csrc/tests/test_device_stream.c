/* Streams of the cpu device: what every device's must keep, and the queue. */
#include "device/cpu/internal.h"
#include "tests/stream_cases.h"

#include <sched.h>

static void enqueueing_blocks_while_the_queue_is_full_and_nothing_is_lost(void) {
    enqueuer w = {.stream = new_stream("full"), .count = 3 * WO_CPU_QUEUE_COMMANDS};
    wo_event *gate = new_event();
    const wo_ticket go = api->event_expect(gate);
    pthread_t thread;
    CHECK_OK(api->wait(w.stream, go, &err), &err);
    CHECK(pthread_create(&thread, NULL, enqueue_counts, &w) == 0);
    while (atomic_load(&w.enqueued) < WO_CPU_QUEUE_COMMANDS - 1)
        sched_yield();
    wo_clock_sleep(0.02); /* time for an unbounded queue to betray itself */
    CHECK(atomic_load(&w.enqueued) == WO_CPU_QUEUE_COMMANDS - 1);
    api->event_signal(go);
    pthread_join(thread, NULL);
    CHECK_OK(api->sync(w.stream, &err), &err);
    CHECK(w.counter == w.count);
    api->destroy(w.stream);
    api->event_destroy(gate);
}

int main(void) {
    CHECK_OK(wo_device_open("cpu", &device, &err), &err);
    run_stream_cases();
    enqueueing_blocks_while_the_queue_is_full_and_nothing_is_lost();
    wo_device_close(device);
    CHECK(wo_memory_current() == 0);
    return 0;
}
