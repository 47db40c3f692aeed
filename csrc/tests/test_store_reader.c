/* The readers: order, `before` and `after`, failures, cancelling, draining. Nothing here is decided by a clock. */
#include "base/clock.h"
#include "base/memory.h"
#include "store/reader.h"
#include "tests/store_files.h"

#include <errno.h>
#include <pthread.h>

enum { LARGE = 9 << 20 };

static wo_error err;
static wo_store *store;
static uint64_t data_begin;

static wo_reader *create(int threads, size_t depth) {
    wo_reader *reader;
    CHECK_OK(wo_reader_create(threads, depth, &reader, &err), &err);
    return reader;
}

/* What happened to one request. */
typedef struct outcome {
    unsigned char data[64];
    wo_status refusal;  /* what `before` answers */
    atomic_bool *gate;  /* `before` waits until it is open; may be NULL */
    atomic_int before, after;
    wo_status status;
    wo_error error;
    atomic_int *clock;  /* counts events over all requests */
    int began;
} outcome;

static wo_status note_before(void *ctx, wo_error *e) {
    outcome *o = ctx;
    o->began = atomic_fetch_add(o->clock, 1);
    atomic_fetch_add(&o->before, 1);
    while (o->gate != NULL && !atomic_load(o->gate))
        wo_clock_sleep(1e-4);
    return o->refusal == WO_OK ? WO_OK : wo_error_set(e, o->refusal, "before said no");
}

static void note_after(void *ctx, wo_status status, const wo_error *e) {
    outcome *o = ctx;
    o->status = status;
    o->error = *e;
    atomic_fetch_add(&o->after, 1);
}

static wo_read_request request_for(outcome *o, uint64_t offset, size_t bytes) {
    return (wo_read_request){.store = store, .file = 0, .offset = data_begin + offset, .bytes = bytes, .dst = o->data,
                             .before = note_before, .after = note_after, .ctx = o};
}

static void submit(wo_reader *reader, const wo_read_request *q) {
    CHECK_OK(wo_reader_submit(reader, q, &err), &err);
}

static void every_request_is_read_once_and_begins_in_order(void) {
    enum { COUNT = 200 };
    static outcome outcomes[COUNT];
    for (int threads = 1; threads <= 3; threads++) {
        atomic_int clock = 0;
        wo_reader *reader = create(threads, 4);
        for (int i = 0; i < COUNT; i++) {
            outcomes[i] = (outcome){.clock = &clock};
            wo_read_request q = request_for(&outcomes[i], (uint64_t)(i * 7), 1 + (size_t)i % 64);
            q.before = i % 5 == 4 ? NULL : q.before;
            submit(reader, &q);
            memset(&q, 0x55, sizeof q); /* it was copied */
        }
        wo_reader_drain(reader);
        uint64_t bytes = 0;
        for (int i = 0; i < COUNT; i++) {
            outcome *o = &outcomes[i];
            CHECK(o->after == 1 && o->status == WO_OK && o->before == (i % 5 != 4));
            CHECK(threads > 1 || i % 5 == 4 || o->began == i - i / 5);
            for (int k = 0; k <= i % 64; k++)
                CHECK(o->data[k] == (unsigned char)(i * 7 + k));
            bytes += 1 + (uint64_t)i % 64;
        }
        CHECK(wo_reader_bytes(reader) == bytes && wo_reader_seconds(reader) > 0);
        wo_reader_destroy(reader);
    }
    wo_reader_destroy(NULL);
}

/* While `before` of the first blocks, the second must not be overtaken by the third; all are let go by one gate. */
static void requests_are_taken_in_order_also_by_several_threads(void) {
    enum { COUNT = 6 };
    static outcome outcomes[COUNT];
    atomic_int clock = 0;
    atomic_bool gate = false;
    wo_reader *reader = create(2, COUNT);
    for (int i = 0; i < COUNT; i++) {
        outcomes[i] = (outcome){.clock = &clock, .gate = &gate};
        wo_read_request q = request_for(&outcomes[i], 0, 8);
        submit(reader, &q);
    }
    while (atomic_load(&clock) < 2)
        wo_clock_sleep(1e-4);
    for (int i = 0; i < COUNT; i++)
        CHECK(atomic_load(&outcomes[i].before) == (i < 2) && atomic_load(&outcomes[i].after) == 0);
    atomic_store(&gate, true);
    wo_reader_drain(reader);
    for (int i = 0; i < COUNT; i++)
        CHECK(outcomes[i].after == 1 && outcomes[i].status == WO_OK);
    wo_reader_destroy(reader);
}

static void a_refusal_by_before_skips_the_read_and_reaches_after(void) {
    static outcome outcomes[2];
    atomic_int clock = 0;
    wo_reader *reader = create(1, 2);
    outcomes[0] = (outcome){.clock = &clock, .refusal = WO_EDEVICE};
    outcomes[1] = (outcome){.clock = &clock};
    memset(outcomes[0].data, 0xEE, 64);
    for (int i = 0; i < 2; i++) {
        wo_read_request q = request_for(&outcomes[i], 0, 64);
        submit(reader, &q);
    }
    wo_reader_drain(reader);
    CHECK(outcomes[0].after == 1 && outcomes[0].status == WO_EDEVICE && outcomes[0].data[0] == 0xEE && outcomes[0].data[63] == 0xEE);
    CHECK(strcmp(outcomes[0].error.message, "before said no") == 0);
    CHECK(outcomes[1].after == 1 && outcomes[1].status == WO_OK && wo_reader_bytes(reader) == 64);
    wo_reader_destroy(reader);
}

static void a_failed_read_is_told_once_and_the_next_goes_on(void) {
    static outcome outcomes[4];
    atomic_int clock = 0;
    wo_reader *reader = create(1, 4);
    wo_store_fail_at(2);
    for (int i = 0; i < 4; i++) {
        outcomes[i] = (outcome){.clock = &clock};
        wo_read_request q = request_for(&outcomes[i], i == 2 ? UINT32_MAX : 0, 16);
        submit(reader, &q);
    }
    wo_reader_drain(reader);
    CHECK(outcomes[0].status == WO_OK && outcomes[3].status == WO_OK);
    CHECK(outcomes[1].status == WO_EOS && outcomes[1].error.os_errno == EIO && outcomes[1].error.code == WO_EOS);
    CHECK(outcomes[2].status == WO_ECHECKPOINT && strcmp(outcomes[2].error.path, wo_store_file_path(store, 0)) == 0);
    for (int i = 0; i < 4; i++)
        CHECK(outcomes[i].after == 1);
    wo_reader_destroy(reader);
}

static void requests_that_begin_after_a_cancel_are_not_read(void) {
    static outcome outcomes[5];
    atomic_int clock = 0;
    atomic_bool gate = false;
    wo_cancel cancel;
    wo_cancel_reset(&cancel);
    wo_reader *reader = create(1, 5);
    wo_reader_set_cancel(reader, &cancel);
    for (int i = 0; i < 5; i++) {
        outcomes[i] = (outcome){.clock = &clock, .gate = i == 1 ? &gate : NULL};
        memset(outcomes[i].data, 0xEE, 64);
        wo_read_request q = request_for(&outcomes[i], 0, 64);
        submit(reader, &q);
    }
    while (atomic_load(&outcomes[1].before) == 0)
        wo_clock_sleep(1e-4);
    wo_cancel_request(&cancel); /* the first has ended, the second waits for its gate */
    atomic_store(&gate, true);
    wo_reader_drain(reader);
    CHECK(outcomes[0].status == WO_OK && outcomes[0].data[1] == 1);
    for (int i = 1; i < 5; i++) {
        CHECK(outcomes[i].after == 1 && outcomes[i].status == WO_ECANCELLED && outcomes[i].error.code == WO_ECANCELLED);
        CHECK(outcomes[i].data[0] == 0xEE && outcomes[i].before == (i == 1));
    }
    wo_reader_set_cancel(reader, NULL); /* the token, still requested, is not looked at any more */
    outcomes[0] = (outcome){.clock = &clock};
    wo_read_request q = request_for(&outcomes[0], 0, 64);
    submit(reader, &q);
    wo_reader_drain(reader);
    CHECK(outcomes[0].status == WO_OK && outcomes[0].data[2] == 2);
    wo_reader_destroy(reader);
}

typedef struct canceller {
    wo_reader *reader;
    wo_cancel cancel;
    wo_status status;
    atomic_int after;
} canceller;

static void note_cancelled(void *ctx, wo_status status, const wo_error *e) {
    canceller *c = ctx;
    (void)e;
    c->status = status;
    atomic_fetch_add(&c->after, 1);
}

static void *request_after_the_first_chunk(void *arg) {
    canceller *c = arg;
    while (wo_reader_bytes(c->reader) == 0)
        wo_clock_sleep(1e-4);
    wo_cancel_request(&c->cancel);
    return NULL;
}

/* The request may come too late when the machine is busy, so it is tried until one has cut a read in the middle; a
 * reader that never looks between chunks is never cut. */
static void a_cancel_ends_a_long_read_between_its_chunks(void) {
    unsigned char *dst = malloc(LARGE);
    CHECK(dst != NULL);
    bool cut = false;
    wo_store_delay(0.005);
    for (int attempt = 0; attempt < 100 && !cut; attempt++) {
        canceller c = {.reader = create(1, 1)};
        wo_read_request q = {.store = store, .offset = 0, .bytes = LARGE, .dst = dst, .after = note_cancelled, .ctx = &c};
        pthread_t thread;
        wo_reader_set_cancel(c.reader, &c.cancel);
        CHECK(pthread_create(&thread, NULL, request_after_the_first_chunk, &c) == 0);
        submit(c.reader, &q);
        wo_reader_drain(c.reader);
        CHECK(pthread_join(thread, NULL) == 0);
        uint64_t bytes = wo_reader_bytes(c.reader);
        CHECK(c.after == 1 && (c.status == WO_ECANCELLED || (c.status == WO_OK && bytes == LARGE)));
        cut = c.status == WO_ECANCELLED && bytes > 0 && bytes < LARGE;
        wo_reader_destroy(c.reader);
    }
    wo_store_delay(0);
    CHECK(cut);
    free(dst);
}

static void a_read_of_several_chunks_arrives_whole(void) {
    unsigned char *dst = calloc(1, LARGE);
    CHECK(dst != NULL);
    canceller c = {.reader = create(1, 1)};
    wo_read_request q = {.store = store, .offset = data_begin, .bytes = LARGE, .dst = dst, .after = note_cancelled, .ctx = &c};
    submit(c.reader, &q);
    wo_reader_drain(c.reader);
    CHECK(c.after == 1 && c.status == WO_OK && wo_reader_bytes(c.reader) == LARGE);
    for (size_t i = 0; i < LARGE; i++)
        CHECK(dst[i] == (unsigned char)i);
    wo_reader_destroy(c.reader);
    free(dst);
}

typedef struct submitter {
    wo_reader *reader;
    outcome *outcomes;
    pthread_t thread;
} submitter;

static void *submit_often(void *arg) {
    submitter *s = arg;
    for (int i = 0; i < 50; i++) {
        wo_read_request q = request_for(&s->outcomes[i], (uint64_t)i, 32);
        submit(s->reader, &q);
    }
    wo_reader_drain(s->reader);
    for (int i = 0; i < 50; i++)
        CHECK(s->outcomes[i].after == 1 && s->outcomes[i].data[31] == (unsigned char)(i + 31));
    return NULL;
}

/* Each thread drains only what came before, and finds all of its own ended. */
static void several_threads_submit_and_drain_at_one_time(void) {
    enum { THREADS = 3 };
    static outcome outcomes[THREADS][50];
    atomic_int clock = 0;
    submitter s[THREADS];
    wo_reader *reader = create(2, 3);
    for (int t = 0; t < THREADS; t++) {
        for (int i = 0; i < 50; i++)
            outcomes[t][i] = (outcome){.clock = &clock};
        s[t] = (submitter){.reader = reader, .outcomes = outcomes[t]};
        CHECK(pthread_create(&s[t].thread, NULL, submit_often, &s[t]) == 0);
    }
    for (int t = 0; t < THREADS; t++)
        CHECK(pthread_join(s[t].thread, NULL) == 0);
    wo_reader_destroy(reader);
}

static void destroy_waits_for_what_was_submitted(void) {
    static outcome outcomes[8];
    atomic_int clock = 0;
    wo_reader *reader = create(2, 8);
    for (int i = 0; i < 8; i++) {
        outcomes[i] = (outcome){.clock = &clock};
        wo_read_request q = request_for(&outcomes[i], 0, 8);
        submit(reader, &q);
    }
    wo_reader_destroy(reader);
    for (int i = 0; i < 8; i++)
        CHECK(outcomes[i].after == 1 && outcomes[i].status == WO_OK);
}

static void no_memory_is_acquired_after_create(void) {
    static outcome o;
    atomic_int clock = 0;
    wo_reader *reader = create(2, 4);
    wo_memory_fail_at(1);
    for (int i = 0; i < 20; i++) {
        o = (outcome){.clock = &clock};
        wo_read_request q = request_for(&o, 0, 8);
        submit(reader, &q);
        wo_reader_drain(reader);
        CHECK(o.status == WO_OK);
    }
    wo_memory_fail_at(0);
    wo_read_request bad = request_for(&o, 0, 8);
    bad.after = NULL;
    CHECK_STATUS(wo_reader_submit(reader, &bad, &err), WO_EINTERNAL);
    wo_reader_destroy(reader);
}

int main(void) {
    begin_folder();
    put_safetensors("m.safetensors", "{}", LARGE);
    data_begin = 10;
    CHECK_OK(wo_store_open(in_folder("m.safetensors"), &store, &err), &err);
    every_request_is_read_once_and_begins_in_order();
    requests_are_taken_in_order_also_by_several_threads();
    a_refusal_by_before_skips_the_read_and_reaches_after();
    a_failed_read_is_told_once_and_the_next_goes_on();
    requests_that_begin_after_a_cancel_are_not_read();
    a_cancel_ends_a_long_read_between_its_chunks();
    a_read_of_several_chunks_arrives_whole();
    several_threads_submit_and_drain_at_one_time();
    destroy_waits_for_what_was_submitted();
    no_memory_is_acquired_after_create();
    wo_store_release(store);
    CHECK(wo_memory_current() == 0);
    end_folder();
    return 0;
}
