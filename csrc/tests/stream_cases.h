/* What streams of every device must keep: order, tickets, several host threads, chaos. Included once by the test of a device, which opens it, calls
 * run_stream_cases and closes it. */
#ifndef WO_TESTS_STREAM_CASES_H
#define WO_TESTS_STREAM_CASES_H

#include "base/clock.h"
#include "base/memory.h"
#include "device/device.h"
#include "tests/check.h"

#include <pthread.h>
#include <stdatomic.h>

enum { SIGNAL_WINDOW = 4096 }; /* tickets of one event that may be signalled ahead of an earlier one */

static wo_device *device;
static const wo_stream_api *api;
static wo_error err;

static wo_stream *new_stream(const char *name) {
    wo_stream *s = NULL;
    CHECK_OK(api->create(device, name, &s, &err), &err);
    return s;
}

/* Memory that streams of every device can read and write, and the test as well. */
static void *new_memory(size_t bytes) {
    void *p = NULL;
    CHECK_OK(device->memory->host_alloc(device, bytes, "a test", &p, &err), &err);
    return p;
}

static void free_memory(void *p) {
    device->memory->host_release(device, p);
}

static wo_event *new_event(void) {
    wo_event *e = NULL;
    CHECK_OK(api->event_create(device, &e, &err), &err);
    return e;
}

typedef struct log_entry {
    int *log, *length, value;
} log_entry;

static void append(void *ctx) {
    const log_entry *e = ctx;
    e->log[(*e->length)++] = e->value;
}

static void work_of_one_stream_runs_in_order_and_sync_waits_for_all_of_it(void) {
    enum { COUNT = 3000 }; /* the queue wraps around */
    static int log[COUNT];
    static log_entry entries[COUNT];
    int length = 0;
    wo_stream *s = new_stream("order");
    for (int i = 0; i < COUNT; i++) {
        entries[i] = (log_entry){log, &length, i};
        CHECK_OK(api->host_call(s, append, &entries[i], &err), &err);
    }
    CHECK_OK(api->sync(s, &err), &err);
    CHECK(length == COUNT);
    for (int i = 0; i < COUNT; i++)
        CHECK(log[i] == i);
    api->destroy(s);
}

static void destroy_runs_what_is_queued_first(void) {
    static int log[64];
    static log_entry entries[64];
    int length = 0;
    wo_stream *s = new_stream("destroy");
    CHECK_OK(api->delay(s, 0.005, &err), &err);
    for (int i = 0; i < 64; i++) {
        entries[i] = (log_entry){log, &length, i};
        CHECK_OK(api->host_call(s, append, &entries[i], &err), &err);
    }
    api->destroy(s);
    CHECK(length == 64);
    api->destroy(NULL);
}

static void copies_fills_and_conversions_longer_than_a_chunk_are_complete(void) {
    const size_t bytes = ((size_t)2 << 20) + 4093;
    unsigned char *src = new_memory(bytes + 1), *dst = new_memory(bytes);
    wo_stream *s = new_stream("long");
    for (size_t i = 0; i <= bytes; i++)
        src[i] = (unsigned char)(i * 37 + i / 4096);
    CHECK_OK(api->copy(s, dst, src + 1, bytes, &err), &err);
    CHECK_OK(api->sync(s, &err), &err);
    CHECK(memcmp(dst, src + 1, bytes) == 0);
    CHECK_OK(api->poison(s, dst, bytes, &err), &err);
    CHECK_OK(api->sync(s, &err), &err);
    for (size_t i = 0; i < bytes; i++)
        CHECK(dst[i] == 0xff);
    CHECK_OK(api->zero(s, dst, bytes, &err), &err);
    CHECK_OK(api->copy(s, NULL, NULL, 0, &err), &err);
    CHECK_OK(api->sync(s, &err), &err);
    for (size_t i = 0; i < bytes; i++)
        CHECK(dst[i] == 0);
    api->destroy(s);
    free_memory(dst);
    free_memory(src);
}

static void check_conversion(wo_stream *s, const wo_conversion *c, int64_t count) {
    const size_t from = wo_dtype_size(c->from) * (size_t)count, to = wo_dtype_size(c->to) * (size_t)count;
    unsigned char *src = new_memory(from + 1), *dst = new_memory(to), *wanted = malloc(to);
    for (size_t i = 0; i < from; i++)
        src[i + 1] = (unsigned char)(i * 91 + i / 256) & 0x3f; /* small numbers in every float dtype */
    wo_convert(c, wanted, src + 1, count);
    CHECK_OK(api->convert(s, c, dst, src + 1, count, &err), &err);
    CHECK_OK(api->sync(s, &err), &err);
    CHECK(memcmp(dst, wanted, to) == 0);
    free(wanted);
    free_memory(dst);
    free_memory(src);
}

static void a_conversion_cut_into_chunks_equals_one_in_a_single_call(void) {
    wo_stream *s = new_stream("convert");
    check_conversion(s, &(wo_conversion){.from = WO_BF16, .to = WO_F32, .layout = WO_LAYOUT_ROWS}, 700001);
    check_conversion(s, &(wo_conversion){.from = WO_F32, .to = WO_BF16, .layout = WO_LAYOUT_ROWS}, 700001);
    check_conversion(s, &(wo_conversion){.from = WO_F8_E4M3, .to = WO_BF16, .layout = WO_LAYOUT_ROWS, .scaled = true, .scale = 0.37f}, 700001);
    /* Rows of 1001 elements do not divide a chunk; rows of 300000 elements are longer than one. */
    check_conversion(s, &(wo_conversion){.from = WO_F32, .to = WO_F32, .layout = WO_LAYOUT_TAPS_OUTSIDE, .channels = 143, .taps = 7}, 700 * 1001);
    check_conversion(s, &(wo_conversion){.from = WO_F32, .to = WO_BF16, .layout = WO_LAYOUT_TAPS_OUTSIDE, .channels = 100000, .taps = 3}, 3 * 300000);
    api->destroy(s);
}

static void a_stream_waits_for_the_ticket_of_another(void) {
    int64_t *source = new_memory(sizeof *source), *seen = new_memory(8 * sizeof *seen), *values = new_memory(8 * sizeof *values);
    wo_stream *producer = new_stream("producer"), *consumer = new_stream("consumer");
    wo_event *written = new_event(), *taken = new_event();
    wo_ticket t = {0};
    for (int i = 0; i < 8; i++) {
        values[i] = 100 + i;
        CHECK_OK(api->wait(producer, t, &err), &err); /* the first waits for a ticket that is always reached */
        CHECK_OK(api->delay(producer, 0.002, &err), &err);
        CHECK_OK(api->copy(producer, source, &values[i], sizeof *source, &err), &err);
        CHECK_OK(api->event_record(producer, written, &t, &err), &err);
        CHECK_OK(api->wait(consumer, t, &err), &err);
        CHECK_OK(api->copy(consumer, &seen[i], source, sizeof *source, &err), &err);
        CHECK_OK(api->event_record(consumer, taken, &t, &err), &err);
    }
    CHECK_OK(api->host_wait(device, t, &err), &err);
    CHECK(api->reached(t));
    for (int i = 0; i < 8; i++)
        CHECK(seen[i] == values[i]);
    double busy, stalled;
    api->times(consumer, &busy, &stalled);
    CHECK(stalled > 0);
    api->times(producer, &busy, &stalled);
    CHECK(busy >= 8 * 0.002);
    api->reset_times(producer);
    api->times(producer, &busy, &stalled);
    CHECK(busy == 0 && stalled == 0);
    api->destroy(producer);
    api->destroy(consumer);
    api->event_destroy(written);
    api->event_destroy(taken);
    free_memory(values);
    free_memory(seen);
    free_memory(source);
}

static void a_ticket_is_not_reached_before_the_stream_has_passed_it(void) {
    wo_stream *s = new_stream("record");
    wo_event *gate = new_event(), *e = new_event();
    const wo_ticket go = api->event_expect(gate);
    wo_ticket first, second;
    CHECK_OK(api->event_record(s, e, &first, &err), &err);
    CHECK_OK(api->wait(s, go, &err), &err);
    CHECK_OK(api->event_record(s, e, &second, &err), &err);
    CHECK_OK(api->host_wait(device, first, &err), &err);
    CHECK(!api->reached(second) && !api->reached(go));
    api->event_signal(go);
    CHECK_OK(api->host_wait(device, second, &err), &err);
    api->destroy(s);
    api->event_destroy(gate);
    api->event_destroy(e);
}

static void tickets_signalled_out_of_order_are_reached_in_order(void) {
    wo_event *e = new_event();
    wo_ticket t[200];
    for (int i = 0; i < 200; i++)
        t[i] = api->event_expect(e);
    for (int i = 199; i > 0; i--)
        api->event_signal(t[i]);
    CHECK(!api->reached(t[0]) && !api->reached(t[1]) && !api->reached(t[199]));
    api->event_signal(t[0]);
    api->event_signal(t[0]);
    CHECK(api->reached(t[199]));
    const wo_ticket next = api->event_expect(e);
    CHECK(!api->reached(next));
    api->event_signal(next);
    CHECK(api->reached(next));
    api->event_destroy(e);
}

static void a_ticket_signalled_too_far_ahead_is_an_error_and_hangs_nobody(void) {
    wo_event *e = new_event();
    wo_stream *s = new_stream("overrun");
    wo_ticket last = {0};
    for (int i = 0; i <= SIGNAL_WINDOW; i++)
        last = api->event_expect(e);
    CHECK_OK(api->wait(s, last, &err), &err);
    api->event_signal(last);
    CHECK_STATUS(api->sync(s, &err), WO_EINTERNAL);
    CHECK_CONTAINS(err.message, "ahead of its turn");
    api->clear_error(device);
    api->destroy(s);
    api->event_destroy(e);
}

typedef struct signaller {
    wo_ticket *tickets;
    int first, count;
} signaller;

static void *signal_every_other(void *arg) {
    const signaller *w = arg;
    for (int i = w->first; i < w->count; i += 2)
        api->event_signal(w->tickets[i]);
    return NULL;
}

static void a_stream_follows_signals_of_two_host_threads(void) {
    enum { COUNT = 1000 };
    static wo_ticket tickets[COUNT];
    static int log[COUNT];
    static log_entry entries[COUNT];
    int length = 0;
    wo_stream *s = new_stream("readers");
    wo_event *e = new_event();
    pthread_t threads[2];
    for (int i = 0; i < COUNT; i++)
        tickets[i] = api->event_expect(e);
    signaller w[2] = {{tickets, 0, COUNT}, {tickets, 1, COUNT}};
    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&threads[i], NULL, signal_every_other, &w[i]) == 0);
    for (int i = 0; i < COUNT; i++) {
        entries[i] = (log_entry){log, &length, i};
        CHECK_OK(api->wait(s, tickets[i], &err), &err);
        CHECK_OK(api->host_call(s, append, &entries[i], &err), &err);
    }
    CHECK_OK(api->sync(s, &err), &err);
    CHECK(length == COUNT);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    api->destroy(s);
    api->event_destroy(e);
}

typedef struct enqueuer {
    wo_stream *stream;
    int64_t counter;    /* touched by the stream only */
    atomic_int enqueued;
    int count;
} enqueuer;

static void count_up(void *ctx) {
    (*(int64_t *)ctx)++;
}

static void *enqueue_counts(void *arg) {
    enqueuer *w = arg;
    for (int i = 0; i < w->count; i++) {
        wo_error mine;
        CHECK_OK(api->host_call(w->stream, count_up, &w->counter, &mine), &mine);
        atomic_fetch_add(&w->enqueued, 1);
    }
    return NULL;
}

static void two_host_threads_may_enqueue_on_two_streams_or_on_one(void) {
    for (int streams = 1; streams <= 2; streams++) {
        enqueuer w[2] = {{.stream = new_stream("a"), .count = 5000}, {.count = 5000}};
        w[1].stream = streams == 2 ? new_stream("b") : w[0].stream;
        pthread_t threads[2];
        for (int i = 0; i < 2; i++)
            CHECK(pthread_create(&threads[i], NULL, enqueue_counts, &w[i]) == 0);
        for (int i = 0; i < 2; i++)
            pthread_join(threads[i], NULL);
        for (int i = 0; i < 2; i++) {
            CHECK_OK(api->sync(w[i].stream, &err), &err);
            CHECK(w[i].counter == 5000);
        }
        api->destroy(w[0].stream);
        if (streams == 2)
            api->destroy(w[1].stream);
    }
}

static void try_to_enqueue(void *ctx) {
    wo_stream *s = ctx;
    wo_error mine;
    wo_ticket t;
    wo_event *e = new_event();
    CHECK_STATUS(api->zero(s, &t, sizeof t, &mine), WO_EINTERNAL);
    CHECK_CONTAINS(mine.message, "host_call");
    CHECK_STATUS(api->event_record(s, e, &t, &mine), WO_EINTERNAL);
    CHECK_STATUS(api->sync(s, &mine), WO_EINTERNAL);
    CHECK_STATUS(api->host_wait(s->device, (wo_ticket){0}, &mine), WO_EINTERNAL);
    api->event_destroy(e);
}

static void a_host_call_that_would_hang_its_stream_is_refused(void) {
    wo_stream *s = new_stream("misuse");
    CHECK_OK(api->host_call(s, try_to_enqueue, s, &err), &err);
    CHECK_OK(api->sync(s, &err), &err);
    api->destroy(s);
}

static void enqueueing_allocates_nothing(void) {
    wo_stream *s = new_stream("steady");
    wo_event *e = new_event();
    int64_t *a = new_memory(sizeof *a), *b = new_memory(sizeof *b);
    wo_ticket t;
    void *p;
    *a = 1;
    wo_memory_fail_at(1);
    for (int i = 0; i < 2000; i++) {
        CHECK_OK(api->copy(s, b, a, sizeof *a, &err), &err);
        CHECK_OK(api->event_record(s, e, &t, &err), &err);
        CHECK_OK(api->wait(s, t, &err), &err);
    }
    CHECK_OK(api->sync(s, &err), &err);
    CHECK_STATUS(wo_memory_acquire(1, "a probe that must meet the armed fault", &p, &err), WO_ENOMEMORY);
    CHECK(*b == 1);
    api->destroy(s);
    api->event_destroy(e);
    free_memory(b);
    free_memory(a);
}

static void creation_that_runs_out_of_memory_is_a_clean_error(void) {
    const uint64_t before = wo_memory_current();
    wo_stream *s = NULL;
    wo_event *e = NULL;
    wo_memory_fail_at(1);
    CHECK_STATUS(api->create(device, "none", &s, &err), WO_ENOMEMORY);
    wo_memory_fail_at(1);
    CHECK_STATUS(api->event_create(device, &e, &err), WO_ENOMEMORY);
    CHECK(wo_memory_current() == before);
}

/* A ring of two slots between a producer and a consumer, as the streamer has it. Returns a checksum of what the consumer saw. */
static uint64_t run_ring(void) {
    enum { PIECES = 40, WORDS = 512 };
    typedef uint64_t piece[WORDS];
    piece *source = new_memory(PIECES * sizeof *source), *slots = new_memory(2 * sizeof *slots), *sink = new_memory(PIECES * sizeof *sink);
    wo_stream *producer = new_stream("copy"), *consumer = new_stream("compute");
    wo_event *ready = new_event(), *let_go = new_event();
    wo_ticket filled, empty[2] = {{0}, {0}};
    memset(sink, 0, PIECES * sizeof *sink);
    for (int i = 0; i < PIECES; i++)
        for (int j = 0; j < WORDS; j++)
            source[i][j] = (uint64_t)(i * 1000003 + j) * 0x9e3779b97f4a7c15u;
    for (int i = 0; i < PIECES; i++) {
        CHECK_OK(api->wait(producer, empty[i % 2], &err), &err);
        CHECK_OK(api->copy(producer, slots[i % 2], source[i], sizeof source[i], &err), &err);
        CHECK_OK(api->event_record(producer, ready, &filled, &err), &err);
        CHECK_OK(api->wait(consumer, filled, &err), &err);
        CHECK_OK(api->copy(consumer, sink[i], slots[i % 2], sizeof sink[i], &err), &err);
        CHECK_OK(api->poison(consumer, slots[i % 2], sizeof slots[0], &err), &err);
        CHECK_OK(api->event_record(consumer, let_go, &empty[i % 2], &err), &err);
    }
    CHECK_OK(api->sync(consumer, &err), &err);
    uint64_t sum = 0;
    for (int i = 0; i < PIECES; i++)
        for (int j = 0; j < WORDS; j++)
            sum = sum * 31 + sink[i][j];
    api->destroy(producer);
    api->destroy(consumer);
    api->event_destroy(ready);
    api->event_destroy(let_go);
    free_memory(sink);
    free_memory(slots);
    free_memory(source);
    return sum;
}

static void chaos_delays_streams_and_changes_no_result_of_ordered_work(void) {
    const uint64_t wanted = run_ring();
    for (uint64_t seed = 1; seed <= 4; seed++) {
        api->chaos(device, seed, 1e-3);
        const double begin = wo_clock_seconds();
        CHECK(run_ring() == wanted);
        CHECK(wo_clock_seconds() - begin > 10e-3); /* 120 commands of the copy stream, 1/4 ms each in the mean */
    }
    api->chaos(device, 0, 0);
}

static void run_stream_cases(void) {
    api = device->stream;
    CHECK(api->version == WO_DEVICE_ABI && api->size == sizeof *api);
    work_of_one_stream_runs_in_order_and_sync_waits_for_all_of_it();
    destroy_runs_what_is_queued_first();
    copies_fills_and_conversions_longer_than_a_chunk_are_complete();
    a_conversion_cut_into_chunks_equals_one_in_a_single_call();
    a_stream_waits_for_the_ticket_of_another();
    a_ticket_is_not_reached_before_the_stream_has_passed_it();
    tickets_signalled_out_of_order_are_reached_in_order();
    a_ticket_signalled_too_far_ahead_is_an_error_and_hangs_nobody();
    a_stream_follows_signals_of_two_host_threads();
    two_host_threads_may_enqueue_on_two_streams_or_on_one();
    a_host_call_that_would_hang_its_stream_is_refused();
    enqueueing_allocates_nothing();
    creation_that_runs_out_of_memory_is_a_clean_error();
    chaos_delays_streams_and_changes_no_result_of_ordered_work();
}

#endif
