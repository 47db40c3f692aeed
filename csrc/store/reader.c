/* The queue is a ring of requests between the submitting threads and the readers:
 *
 *     taken            submitted
 *       v                  v
 *   ... [ 7 ][ 8 ][ 9 ][ 10 ] ...       request n stands at n % depth; `now` of a reader is the number it works on
 *
 * The numbers never wrap (64 bits), and from them follows what has ended: everything below the smallest of `taken` and
 * all `now`. */
#include "store/reader.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/thread.h"

#include <assert.h>
#include <stdio.h>

/* What is read between two looks at the cancel token; a few milliseconds from a disk. */
static const size_t CHUNK = (size_t)4 << 20;

typedef struct reader_thread {
    wo_reader *reader;
    pthread_t thread;
    uint64_t now; /* UINT64_MAX while it has none */
} reader_thread;

struct wo_reader {
    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t filled, taken_one, ended_one;
    wo_cancel *cancel;
    wo_read_request *queue;
    uint64_t depth, taken, submitted;
    double seconds;
    uint64_t bytes;
    bool quit;
    int threads;
    reader_thread *thread;
};

/* The token is looked at under the lock, so that after set_cancel(NULL) nobody touches the old one any more. */
static bool cancelled(wo_reader *r) {
    pthread_mutex_lock(&r->lock);
    bool requested = wo_cancel_requested(r->cancel);
    pthread_mutex_unlock(&r->lock);
    return requested;
}

static void account(wo_reader *r, double seconds, size_t bytes) {
    pthread_mutex_lock(&r->lock);
    r->seconds += seconds;
    r->bytes += bytes;
    pthread_mutex_unlock(&r->lock);
}

static wo_status read_chunks(wo_reader *r, const wo_read_request *q, int thread, wo_error *err) {
    for (size_t done = 0, bytes; done < q->bytes; done += bytes) {
        if (cancelled(r))
            return WO_ECANCELLED;
        bytes = q->bytes - done < CHUNK ? q->bytes - done : CHUNK;
        double begin = wo_clock_seconds();
        wo_status status = wo_store_read(q->store, q->file, q->offset + done, bytes, (char *)q->dst + done, err);
        double seconds = wo_clock_seconds() - begin;
        account(r, seconds, status == WO_OK ? bytes : 0);
        if (q->timed != NULL)
            q->timed(q->ctx, thread, status == WO_OK ? bytes : 0, begin, seconds);
        WO_TRY(status);
    }
    return WO_OK;
}

static void serve(wo_reader *r, const wo_read_request *q, int thread) {
    wo_error err = {.code = WO_OK};
    wo_status status = cancelled(r) ? WO_ECANCELLED : WO_OK;
    if (status == WO_OK && q->before != NULL)
        status = q->before(q->ctx, &err);
    if (status == WO_OK)
        status = read_chunks(r, q, thread, &err);
    if (status == WO_ECANCELLED)
        wo_error_set(&err, WO_ECANCELLED, "cancelled");
    q->after(q->ctx, status, &err);
}

static void *reader_main(void *arg) {
    reader_thread *t = arg;
    wo_reader *r = t->reader;
    pthread_mutex_lock(&r->lock);
    for (;;) {
        while (r->taken == r->submitted && !r->quit)
            pthread_cond_wait(&r->filled, &r->lock);
        if (r->taken == r->submitted)
            break;
        wo_read_request request = r->queue[r->taken % r->depth];
        t->now = r->taken++;
        pthread_cond_signal(&r->taken_one);
        pthread_mutex_unlock(&r->lock);
        serve(r, &request, (int)(t - r->thread));
        pthread_mutex_lock(&r->lock);
        t->now = UINT64_MAX;
        pthread_cond_broadcast(&r->ended_one);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

static wo_status allocate(wo_reader *r, int threads, size_t depth, wo_error *err) {
    void *queue, *list;
    uint64_t bytes;
    if (!wo_mul_size(depth, sizeof *r->queue, &bytes))
        WO_FAIL(err, WO_ENOMEMORY, "a queue of %zu reads is too long", depth);
    WO_TRY(wo_memory_acquire(bytes, "the queue of the readers", &queue, err));
    r->queue = queue;
    WO_TRY(wo_memory_acquire((size_t)threads * sizeof *r->thread, "the list of the readers", &list, err));
    r->thread = list;
    return WO_OK;
}

static wo_status start(wo_reader *r, int threads, wo_error *err) {
    for (; r->threads < threads; r->threads++) {
        char name[32];
        reader_thread *t = &r->thread[r->threads];
        snprintf(name, sizeof name, "wo-reader-%d", r->threads);
        pthread_mutex_lock(&r->lock);
        *t = (reader_thread){.reader = r, .now = UINT64_MAX};
        pthread_mutex_unlock(&r->lock);
        WO_TRY(wo_thread_start(&t->thread, reader_main, t, name, err));
    }
    return WO_OK;
}

wo_status wo_reader_create(int threads, size_t depth, wo_reader **out, wo_error *err) {
    void *block;
    *out = NULL;
    if (threads < 1 || threads > 1024 || depth < 1)
        WO_FAIL(err, WO_EVALUE, "readers: 1 to 1024 threads and a depth of at least 1 are possible, not %d and %zu",
                threads, depth);
    WO_TRY(wo_memory_acquire(sizeof(wo_reader), "the readers", &block, err));
    wo_reader *r = block;
    *r = (wo_reader){.depth = depth};
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->filled, NULL);
    pthread_cond_init(&r->taken_one, NULL);
    pthread_cond_init(&r->ended_one, NULL);
    wo_status status = allocate(r, threads, depth, err);
    if (status == WO_OK)
        status = start(r, threads, err);
    if (status != WO_OK) {
        wo_reader_destroy(r);
        return status;
    }
    *out = r;
    return WO_OK;
}

void wo_reader_destroy(wo_reader *r) {
    if (r == NULL)
        return;
    pthread_mutex_lock(&r->lock);
    r->quit = true;
    pthread_cond_broadcast(&r->filled);
    pthread_mutex_unlock(&r->lock);
    for (int i = 0; i < r->threads; i++)
        pthread_join(r->thread[i].thread, NULL);
    pthread_cond_destroy(&r->ended_one);
    pthread_cond_destroy(&r->taken_one);
    pthread_cond_destroy(&r->filled);
    pthread_mutex_destroy(&r->lock);
    wo_memory_release(r->thread);
    wo_memory_release(r->queue);
    wo_memory_release(r);
}

wo_status wo_reader_submit(wo_reader *r, const wo_read_request *request, wo_error *err) {
    if (request->store == NULL || request->after == NULL || (request->dst == NULL && request->bytes > 0))
        WO_FAIL(err, WO_EINTERNAL, "a read of %zu bytes was submitted without a store, a destination or an `after`",
                request->bytes);
    pthread_mutex_lock(&r->lock);
    while (r->submitted - r->taken == r->depth)
        pthread_cond_wait(&r->taken_one, &r->lock);
    r->queue[r->submitted++ % r->depth] = *request;
    pthread_cond_signal(&r->filled);
    pthread_mutex_unlock(&r->lock);
    return WO_OK;
}

static bool all_ended(const wo_reader *r, uint64_t end) {
    if (r->taken < end)
        return false;
    for (int i = 0; i < r->threads; i++)
        if (r->thread[i].now < end)
            return false;
    return true;
}

void wo_reader_drain(wo_reader *r) {
    pthread_mutex_lock(&r->lock);
    uint64_t end = r->submitted;
    while (!all_ended(r, end))
        pthread_cond_wait(&r->ended_one, &r->lock);
    pthread_mutex_unlock(&r->lock);
}

void wo_reader_set_cancel(wo_reader *r, wo_cancel *cancel) {
    pthread_mutex_lock(&r->lock);
    r->cancel = cancel;
    pthread_mutex_unlock(&r->lock);
}

double wo_reader_seconds(const wo_reader *reader) {
    wo_reader *r = (wo_reader *)reader;
    pthread_mutex_lock(&r->lock);
    double seconds = r->seconds;
    pthread_mutex_unlock(&r->lock);
    return seconds;
}

uint64_t wo_reader_bytes(const wo_reader *reader) {
    wo_reader *r = (wo_reader *)reader;
    pthread_mutex_lock(&r->lock);
    uint64_t bytes = r->bytes;
    pthread_mutex_unlock(&r->lock);
    return bytes;
}
