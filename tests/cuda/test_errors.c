/* What the cuda device does when something fails, is cancelled or runs far ahead: on the fake card. */
#include "base/clock.h"
#include "base/memory.h"
#include "device/cuda/device_impl.h"
#include "fakecuda/fakecuda.h"
#include "tests/check.h"

#include <pthread.h>
#include <sched.h>

static const fakecuda_api *card;
static wo_device *device;
static const wo_stream_api *api;
static wo_stream *s;
static void *slot; /* 64 KiB of the card */
static wo_error err;

enum { SLOT = 65536 };

static void open_all(void) {
    CHECK_OK(wo_cuda_open("cuda", &device, &err), &err);
    api = device->stream;
    CHECK_OK(api->create(device, "compute", &s, &err), &err);
    CHECK_OK(device->memory->alloc(device, SLOT, "a test", &slot, &err), &err);
}

static void close_all(void) {
    api->destroy(s);
    device->memory->release(device, slot);
    wo_cuda_close(device);
    for (int i = 0; i < FAKECUDA_KINDS; i++)
        CHECK(card->live((fakecuda_kind)i) == 0);
    CHECK(wo_memory_current() == 0 && wo_cuda_pinned_bytes() == 0);
}

static wo_status add(void) {
    wo_add_args args = {0};
    args.a = args.b = args.y = wo_tensor_of(slot, WO_F32, 16, 64);
    return device->ops->add(s, &args, &err);
}

static void set_flag(void *ctx) {
    *(int *)ctx = 1;
}

static void post(wo_status code, const char *text) {
    wo_error e;
    wo_error_set(&e, code, "%s", text);
    api->post_error(device, &e);
}

/* ---- the sticky error ---- */

static void the_first_error_sticks_work_is_skipped_and_tickets_are_still_reached(void) {
    int early = 0, late = 0;
    wo_event *e = NULL;
    wo_ticket t;
    CHECK_OK(api->event_create(device, &e, &err), &err);
    CHECK_OK(api->host_call(s, set_flag, &early, &err), &err);
    CHECK_OK(api->sync(s, &err), &err);
    post(WO_ECHECKPOINT, "the reader failed");
    post(WO_EOS, "a later failure");
    const uint64_t launches = card->calls("cuLaunchKernel");
    CHECK_OK(api->host_call(s, set_flag, &late, &err), &err);
    CHECK_OK(api->zero(s, slot, SLOT, &err), &err);
    CHECK_OK(add(), &err);
    CHECK_OK(api->event_record(s, e, &t, &err), &err);
    CHECK_STATUS(api->host_wait(device, t, &err), WO_ECHECKPOINT);
    CHECK(strcmp(err.message, "the reader failed") == 0);
    CHECK(api->reached(t) && early == 1 && late == 0);
    CHECK_STATUS(api->sync(s, NULL), WO_ECHECKPOINT);
    CHECK(card->calls("cuLaunchKernel") == launches);
    api->clear_error(device);
    CHECK_OK(api->host_call(s, set_flag, &late, &err), &err);
    CHECK_OK(add(), &err);
    CHECK_OK(api->sync(s, &err), &err);
    CHECK(late == 1 && card->calls("cuLaunchKernel") > launches);
    api->event_destroy(e);
}

static void waits_are_kept_after_an_error_so_that_order_between_streams_holds(void) {
    wo_event *gate = NULL, *e = NULL;
    wo_ticket after;
    CHECK_OK(api->event_create(device, &gate, &err), &err);
    CHECK_OK(api->event_create(device, &e, &err), &err);
    const wo_ticket go = api->event_expect(gate);
    post(WO_EDEVICE, "broken");
    CHECK_OK(api->wait(s, go, &err), &err);
    CHECK_OK(api->event_record(s, e, &after, &err), &err);
    wo_clock_sleep(0.005);
    CHECK(!api->reached(after));
    api->event_signal(go);
    CHECK_STATUS(api->host_wait(device, after, &err), WO_EDEVICE);
    api->clear_error(device);
    api->event_destroy(gate);
    api->event_destroy(e);
}

static void a_call_that_the_driver_refuses_names_the_operation_and_can_be_cleared(void) {
    CHECK_OK(add(), &err); /* the stream's stamps are behind it */
    card->fail("cuLaunchKernel", 1, WO_CU_LAUNCH_OUT_OF_RESOURCES, false);
    CHECK_STATUS(add(), WO_EDEVICE);
    CHECK_CONTAINS(err.message, "cuda (Fake card), add");
    CHECK_CONTAINS(err.message, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES (701)");
    CHECK_STATUS(api->sync(s, &err), WO_EDEVICE);
    api->clear_error(device);
    CHECK_OK(add(), &err);
    CHECK_OK(api->sync(s, &err), &err);
}

static void launches_that_no_card_takes_are_refused_before_the_driver_sees_them(void) {
    const wo_cuda_stamp_args args = {0};
    CHECK_STATUS(wo_cuda_launch(s, WO_CUDA_stamp, (wo_cuda_grid){1, 65536, 1}, 32, 0, &args, "this op", &err), WO_EUNSUPPORTED);
    CHECK_CONTAINS(err.message, "this op");
    CHECK_STATUS(wo_cuda_launch(s, WO_CUDA_stamp, (wo_cuda_grid){1, 1, 1}, 1025, 0, &args, "this op", &err), WO_EUNSUPPORTED);
    CHECK_STATUS(wo_cuda_launch(s, WO_CUDA_stamp, (wo_cuda_grid){1, 1, 1}, 32, 200000, &args, "this op", &err), WO_EUNSUPPORTED);
    CHECK_CONTAINS(err.message, "200000 bytes of shared memory");
    CHECK_OK(wo_cuda_launch(s, WO_CUDA_stamp, (wo_cuda_grid){0, 1, 1}, 32, 0, &args, "nothing to do", &err), &err);
    CHECK_OK(api->sync(s, &err), &err);
}

/* A kernel's access to memory that is not there: every later call of the process fails, and nobody hangs for it. */
static void a_lost_context_is_named_skips_everything_and_is_not_cleared_away(void) {
    wo_event *e = NULL, *gate = NULL;
    wo_ticket before, after;
    int late = 0;
    open_all();
    CHECK_OK(api->event_create(device, &e, &err), &err);
    CHECK_OK(api->event_create(device, &gate, &err), &err);
    CHECK_OK(add(), &err);
    CHECK_OK(api->sync(s, &err), &err);
    const wo_ticket never = api->event_expect(gate);
    CHECK_OK(api->event_record(s, e, &before, &err), &err);
    CHECK_OK(api->sync(s, &err), &err);
    card->fail_kernel(2, WO_CU_ILLEGAL_ADDRESS); /* the first is a stamp */
    CHECK_OK(add(), &err);
    CHECK_STATUS(api->sync(s, &err), WO_EDEVICE);
    CHECK_CONTAINS(err.message, "CUDA_ERROR_ILLEGAL_ADDRESS (700)");
    CHECK_CONTAINS(err.message, "start a new one");
    CHECK(api->reached(before));
    CHECK_OK(api->host_call(s, set_flag, &late, &err), &err);
    CHECK_OK(api->wait(s, never, &err), &err);
    CHECK_OK(api->event_record(s, e, &after, &err), &err);
    CHECK(api->reached(after));
    CHECK_STATUS(api->host_wait(device, after, &err), WO_EDEVICE);
    api->clear_error(device);
    CHECK_STATUS(api->sync(s, &err), WO_EDEVICE);
    CHECK_CONTAINS(err.message, "start a new process");
    CHECK_CONTAINS(err.message, "CUDA_ERROR_ILLEGAL_ADDRESS");
    wo_device *other = NULL;
    CHECK_STATUS(wo_cuda_open("cuda", &other, &err), WO_EDEVICE);
    CHECK_CONTAINS(err.message, "lost its context");
    void *p = NULL;
    CHECK_STATUS(device->memory->alloc(device, 4096, "more", &p, &err), WO_EDEVICE);
    CHECK_STATUS(device->memory->host_alloc(device, 4096, "more", &p, &err), WO_EDEVICE);
    char text[4096];
    wo_cuda_describe(text, sizeof text);
    CHECK_CONTAINS(text, "card 0 lost: ");
    CHECK(late == 0);
    api->event_destroy(e);
    api->event_destroy(gate);
    close_all();
    wo_cuda_forget_lost_cards();
}

/* A host function that waits for a reader while the context is lost comes back when the reader signals; those behind it never run. */
static void host_functions_of_a_lost_context_touch_nothing_that_is_gone(void) {
    wo_event *gate = NULL;
    wo_stream *other = NULL;
    int late = 0;
    open_all();
    CHECK_OK(api->event_create(device, &gate, &err), &err);
    CHECK_OK(api->create(device, "copy", &other, &err), &err);
    const wo_ticket go = api->event_expect(gate);
    CHECK_OK(api->wait(other, go, &err), &err);
    CHECK_OK(api->host_call(other, set_flag, &late, &err), &err);
    wo_clock_sleep(0.01); /* the function has begun */
    card->fail_kernel(2, WO_CU_LAUNCH_FAILED);
    CHECK_OK(add(), &err);
    CHECK_STATUS(api->sync(s, &err), WO_EDEVICE);
    api->event_signal(go);
    api->destroy(other);
    api->event_destroy(gate);
    close_all();
    CHECK(late == 0);
    wo_cuda_forget_lost_cards();
}

/* ---- cancelling ---- */

static void a_cancelled_call_skips_the_rest_sleeps_no_longer_and_ends_as_cancelled(void) {
    wo_cancel cancel;
    int late = 0;
    wo_cancel_reset(&cancel);
    api->set_cancel(device, &cancel);
    CHECK_OK(api->delay(s, 3600, &err), &err);
    CHECK_OK(api->host_call(s, set_flag, &late, &err), &err); /* enqueued before, to be run after */
    wo_clock_sleep(0.01);                                     /* so that the request meets the sleeper */
    wo_cancel_request(&cancel);
    const uint64_t launches = card->calls("cuLaunchKernel");
    CHECK_OK(add(), &err);
    CHECK_STATUS(api->sync(s, &err), WO_ECANCELLED);
    CHECK(late == 0 && card->calls("cuLaunchKernel") == launches);
    wo_cancel_reset(&cancel);
    api->clear_error(device);
    CHECK_OK(api->host_call(s, set_flag, &late, &err), &err);
    CHECK_OK(api->sync(s, &err), &err);
    CHECK(late == 1);
    api->set_cancel(device, NULL);
}

static void a_request_during_the_last_commands_is_noticed_by_sync(void) {
    wo_cancel cancel;
    wo_cancel_reset(&cancel);
    api->set_cancel(device, &cancel);
    CHECK_OK(add(), &err);
    wo_cancel_request(&cancel);
    CHECK_STATUS(api->sync(s, &err), WO_ECANCELLED);
    api->set_cancel(device, NULL);
    api->clear_error(device);
}

typedef struct enqueuer {
    atomic_int enqueued;
    int count;
} enqueuer;

static void *enqueue_fills(void *arg) {
    enqueuer *w = arg;
    for (int i = 0; i < w->count; i++) {
        wo_error mine;
        CHECK_OK(api->zero(s, slot, 64, &mine), &mine);
        atomic_fetch_add(&w->enqueued, 1);
    }
    return NULL;
}

static void the_host_runs_about_256_commands_ahead_and_no_further(void) {
    enqueuer w = {.count = 2000};
    wo_event *gate = NULL;
    pthread_t thread;
    CHECK_OK(api->event_create(device, &gate, &err), &err);
    const wo_ticket go = api->event_expect(gate);
    CHECK_OK(api->sync(s, &err), &err);
    CHECK_OK(api->wait(s, go, &err), &err);
    CHECK(pthread_create(&thread, NULL, enqueue_fills, &w) == 0);
    while (atomic_load(&w.enqueued) < 200)
        sched_yield();
    wo_clock_sleep(0.05); /* time for an unbounded queue to betray itself */
    CHECK(atomic_load(&w.enqueued) <= WO_CUDA_BATCH * WO_CUDA_BATCHES);
    api->event_signal(go);
    pthread_join(thread, NULL);
    CHECK_OK(api->sync(s, &err), &err);
    CHECK(atomic_load(&w.enqueued) == w.count);
    api->event_destroy(gate);
}

static void commands_that_take_long_are_kept_few(void) {
    wo_cuda_stream *stream = (wo_cuda_stream *)s;
    uint64_t least = WO_CUDA_BATCHES, most = 0;
    for (int i = 0; i < 20 * WO_CUDA_BATCH; i++) {
        CHECK_OK(api->delay(s, 0.004, &err), &err); /* a batch takes 64 ms, so 3 of them a quarter of a second */
        least = stream->depth < least ? stream->depth : least;
    }
    CHECK_OK(api->sync(s, &err), &err);
    CHECK(least == 2 || least == 3);
    for (int i = 0; i < 20 * WO_CUDA_BATCH; i++) {
        CHECK_OK(api->zero(s, slot, 64, &err), &err);
        most = stream->depth > most ? stream->depth : most;
    }
    CHECK_OK(api->sync(s, &err), &err);
    CHECK(most == WO_CUDA_BATCHES - 1);
}

/* ---- tickets ---- */

static void tickets_outlive_their_place_in_the_ring_of_events(void) {
    enum { COUNT = 3 * WO_CUDA_TICKETS + 5 };
    static wo_ticket t[COUNT];
    wo_event *e = NULL;
    CHECK_OK(api->event_create(device, &e, &err), &err);
    for (int i = 0; i < COUNT; i++) {
        CHECK_OK(api->event_record(s, e, &t[i], &err), &err);
        CHECK(t[i].value == (uint64_t)i + 1);
    }
    const uint64_t waits = card->calls("cuStreamWaitEvent");
    CHECK(api->reached(t[0]) && api->reached(t[COUNT - 1 - WO_CUDA_TICKETS]));
    CHECK_OK(api->wait(s, t[7], &err), &err);
    CHECK_OK(api->host_wait(device, t[8], &err), &err);
    CHECK(card->calls("cuStreamWaitEvent") == waits);
    CHECK_OK(api->host_wait(device, t[COUNT - 1], &err), &err);
    for (int i = 0; i < COUNT; i++)
        CHECK(api->reached(t[i]));
    CHECK(card->live(FAKECUDA_EVENTS) == WO_CUDA_TICKETS + 1 + WO_CUDA_BATCHES);
    api->event_destroy(e);
}

/* Six streams, so that none of them is too far ahead by itself. */
typedef struct recorder {
    wo_stream *streams[6];
    wo_event *event;
    wo_ticket first;
    atomic_int recorded;
} recorder;

static void *record_1200(void *arg) {
    recorder *r = arg;
    for (int i = 0; i < 1200; i++) {
        wo_error mine;
        wo_ticket t;
        CHECK_OK(api->event_record(r->streams[i / 200], r->event, &t, &mine), &mine);
        if (i == 0)
            r->first = t;
        atomic_fetch_add(&r->recorded, 1);
    }
    return NULL;
}

static void a_place_in_the_ring_of_events_is_not_taken_before_its_ticket_is_reached(void) {
    recorder r = {.recorded = 0};
    wo_event *gate = NULL;
    pthread_t thread;
    CHECK_OK(api->event_create(device, &gate, &err), &err);
    CHECK_OK(api->event_create(device, &r.event, &err), &err);
    for (int i = 0; i < 6; i++)
        CHECK_OK(api->create(device, "recorder", &r.streams[i], &err), &err);
    const wo_ticket go = api->event_expect(gate);
    CHECK_OK(api->wait(r.streams[0], go, &err), &err);
    CHECK(pthread_create(&thread, NULL, record_1200, &r) == 0);
    while (atomic_load(&r.recorded) < WO_CUDA_TICKETS)
        sched_yield();
    wo_clock_sleep(0.05);
    CHECK(atomic_load(&r.recorded) == WO_CUDA_TICKETS && !api->reached(r.first));
    api->event_signal(go);
    pthread_join(thread, NULL);
    for (int i = 0; i < 6; i++) {
        CHECK_OK(api->sync(r.streams[i], &err), &err);
        api->destroy(r.streams[i]);
    }
    CHECK(api->reached(r.first));
    api->event_destroy(r.event);
    api->event_destroy(gate);
}

static void tickets_recorded_by_two_streams_are_reached_in_order(void) {
    wo_stream *other = NULL;
    wo_event *e = NULL, *gate = NULL;
    wo_ticket first, second;
    CHECK_OK(api->create(device, "copy", &other, &err), &err);
    CHECK_OK(api->event_create(device, &e, &err), &err);
    CHECK_OK(api->event_create(device, &gate, &err), &err);
    const wo_ticket go = api->event_expect(gate);
    CHECK_OK(api->wait(s, go, &err), &err);
    CHECK_OK(api->event_record(s, e, &first, &err), &err);
    CHECK_OK(api->event_record(other, e, &second, &err), &err);
    wo_clock_sleep(0.01);
    CHECK(!api->reached(second) && !api->reached(first));
    api->event_signal(go);
    CHECK_OK(api->host_wait(device, second, &err), &err);
    CHECK(api->reached(first));
    api->destroy(other);
    api->event_destroy(e);
    api->event_destroy(gate);
}

static void an_event_used_in_both_ways_is_an_error(void) {
    wo_event *e = NULL, *other = NULL;
    wo_ticket t;
    CHECK_OK(api->event_create(device, &e, &err), &err);
    CHECK_OK(api->event_create(device, &other, &err), &err);
    api->event_signal(api->event_expect(e));
    CHECK_STATUS(api->event_record(s, e, &t, &err), WO_EINTERNAL);
    CHECK_OK(api->event_record(s, other, &t, &err), &err);
    CHECK(api->reached(api->event_expect(other)));
    CHECK_STATUS(api->sync(s, &err), WO_EINTERNAL);
    api->clear_error(device);
    api->event_destroy(e);
    api->event_destroy(other);
}

/* ---- times ---- */

typedef struct reading {
    wo_stream *stream;
    double busy, stalled;
} reading;

static void read_times(void *ctx) {
    reading *r = ctx;
    api->times(r->stream, &r->busy, &r->stalled);
}

/* Work of 20 ms, a wait, a pause of the host of 40 ms, work of 10 ms: on the stream whose stamps are kernels and on the one whose are host functions. */
static void times_tell_work_from_waiting_and_from_nothing_to_do_also_inside_a_host_call(void) {
    static const char *const names[] = {"compute", "copy"};
    for (int i = 0; i < 2; i++) {
        wo_stream *stream = NULL;
        wo_event *gate = NULL, *e = NULL;
        wo_ticket done;
        double busy, stalled;
        CHECK_OK(api->create(device, names[i], &stream, &err), &err);
        CHECK_OK(api->event_create(device, &gate, &err), &err);
        CHECK_OK(api->event_create(device, &e, &err), &err);
        reading inside = {.stream = stream};
        const wo_ticket go = api->event_expect(gate);
        CHECK_OK(api->delay(stream, 0.005, &err), &err); /* from before the reset */
        api->reset_times(stream);
        CHECK_OK(api->delay(stream, 0.02, &err), &err);
        CHECK_OK(api->wait(stream, go, &err), &err);
        CHECK_OK(api->host_call(stream, read_times, &inside, &err), &err);
        CHECK_OK(api->event_record(stream, e, &done, &err), &err);
        wo_clock_sleep(0.2); /* long enough for the stream to be at the wait for a good part of it */
        const double begin = wo_clock_seconds();
        api->event_signal(go);
        CHECK_OK(api->host_wait(device, done, &err), &err);
        wo_clock_sleep(0.04);
        CHECK_OK(api->delay(stream, 0.01, &err), &err);
        CHECK_OK(api->sync(stream, &err), &err);
        api->times(stream, &busy, &stalled);
        CHECK(inside.busy >= 0.02 && inside.stalled >= 0.02); /* the machine may be slow, but not fast */
        CHECK(busy >= 0.03 && busy >= inside.busy + 0.01 && stalled >= inside.stalled);
        CHECK(busy - inside.busy <= wo_clock_seconds() - begin - 0.04);
        api->destroy(stream);
        api->event_destroy(gate);
        api->event_destroy(e);
    }
}

int main(void) {
    card = fakecuda();
    open_all();
    the_first_error_sticks_work_is_skipped_and_tickets_are_still_reached();
    waits_are_kept_after_an_error_so_that_order_between_streams_holds();
    a_call_that_the_driver_refuses_names_the_operation_and_can_be_cleared();
    launches_that_no_card_takes_are_refused_before_the_driver_sees_them();
    a_cancelled_call_skips_the_rest_sleeps_no_longer_and_ends_as_cancelled();
    a_request_during_the_last_commands_is_noticed_by_sync();
    the_host_runs_about_256_commands_ahead_and_no_further();
    commands_that_take_long_are_kept_few();
    tickets_outlive_their_place_in_the_ring_of_events();
    a_place_in_the_ring_of_events_is_not_taken_before_its_ticket_is_reached();
    tickets_recorded_by_two_streams_are_reached_in_order();
    an_event_used_in_both_ways_is_an_error();
    times_tell_work_from_waiting_and_from_nothing_to_do_also_inside_a_host_call();
    close_all();
    CHECK(card->misuses() == 0);
    a_lost_context_is_named_skips_everything_and_is_not_cleared_away();
    host_functions_of_a_lost_context_touch_nothing_that_is_gone();
    return 0;
}
