/* The compute threads: every tile once, on a scratch of one's own, in turns, and an end of it on request. */
#include "base/clock.h"
#include "base/memory.h"
#include "base/pool.h"
#include "tests/check.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

enum { MOST = 8 };

static wo_error err;

static wo_pool *create(int threads, size_t scratch) {
    wo_pool *pool;
    CHECK_OK(wo_pool_create(threads, scratch, &pool, &err), &err);
    CHECK(wo_pool_threads(pool) == threads && wo_pool_scratch_bytes(pool) == scratch);
    return pool;
}

typedef struct tally {
    atomic_int begun[1000];
    atomic_int busy[MOST]; /* a worker that is entered twice at a time shares its scratch */
    void *_Atomic scratch[MOST];
    int threads;
    size_t scratch_bytes;
    atomic_bool wrong;
} tally;

static void count_tile(void *ctx, int64_t tile, int worker, void *scratch) {
    tally *t = ctx;
    void *nothing = NULL;
    CHECK(worker >= 0 && worker < t->threads && worker < MOST);
    bool good = (uintptr_t)scratch % 64 == 0 && atomic_exchange(&t->busy[worker], 1) == 0;
    if (!atomic_compare_exchange_strong(&t->scratch[worker], &nothing, scratch))
        good = good && atomic_load(&t->scratch[worker]) == scratch;
    memset(scratch, worker, t->scratch_bytes);
    atomic_fetch_add(&t->begun[tile], 1);
    for (size_t i = 0; i < t->scratch_bytes; i++)
        good = good && ((unsigned char *)scratch)[i] == worker;
    atomic_store(&t->busy[worker], 0);
    if (!good)
        atomic_store(&t->wrong, true);
}

static void check_job(wo_pool *pool, int64_t tiles) {
    tally t = {.threads = wo_pool_threads(pool), .scratch_bytes = wo_pool_scratch_bytes(pool)};
    CHECK_STATUS(wo_pool_run(pool, tiles, count_tile, &t, NULL), WO_OK);
    CHECK(!atomic_load(&t.wrong));
    for (int64_t i = 0; i < 1000; i++)
        CHECK(atomic_load(&t.begun[i]) == (i < tiles));
    for (int a = 0; a < MOST; a++)
        for (int b = 0; b < a; b++)
            CHECK(atomic_load(&t.scratch[a]) == NULL || atomic_load(&t.scratch[a]) != atomic_load(&t.scratch[b]));
}

static void every_tile_runs_once_on_a_scratch_of_its_own(void) {
    const int threads[] = {1, 2, 3, 5, MOST};
    const int64_t tiles[] = {0, 1, 2, 3, 7, 8, 9, 1000};
    for (size_t n = 0; n < sizeof threads / sizeof *threads; n++) {
        wo_pool *pool = create(threads[n], n * 100 + 1);
        for (size_t k = 0; k < sizeof tiles / sizeof *tiles; k++)
            check_job(pool, tiles[k]);
        wo_pool_destroy(pool);
    }
    CHECK(wo_memory_current() == 0);
    wo_pool_destroy(NULL);
}

static void nothing_is_lost_when_workers_fall_asleep_between_jobs(void) {
    wo_pool *pool = create(3, 0);
    for (int i = 0; i < 300; i++) {
        check_job(pool, 1 + i % 6);
        if (i % 10 == 0)
            wo_clock_sleep(200e-6);
    }
    wo_pool_destroy(pool);
}

typedef struct meeting {
    atomic_int here;
    int wanted;
    void *scratch[MOST]; /* of the one who took the tile */
} meeting;

/* Ends only when `wanted` threads are inside at one time. */
static void meet(void *ctx, int64_t tile, int worker, void *scratch) {
    meeting *m = ctx;
    (void)worker;
    m->scratch[tile] = scratch;
    atomic_fetch_add(&m->here, 1);
    while (atomic_load(&m->here) < m->wanted)
        sched_yield();
}

static void all_threads_work_at_one_time_also_after_a_resize(void) {
    wo_pool *pool = create(4, 16);
    const int threads[] = {4, 2, 7, 1, 5};
    for (size_t n = 0; n < sizeof threads / sizeof *threads; n++) {
        CHECK_OK(wo_pool_resize(pool, threads[n], &err), &err);
        CHECK(wo_pool_threads(pool) == threads[n] && wo_pool_scratch_bytes(pool) == 16);
        for (int i = 0; i < 20; i++) {
            meeting m = {.wanted = threads[n]};
            CHECK_STATUS(wo_pool_run(pool, threads[n], meet, &m, NULL), WO_OK);
            for (int a = 0; a < threads[n]; a++)
                for (int b = 0; b < a; b++)
                    CHECK(m.scratch[a] != m.scratch[b]);
        }
        check_job(pool, 100);
    }
    wo_pool_destroy(pool);
    CHECK(wo_memory_current() == 0);
}

enum { CALLERS = 3 };

typedef struct caller {
    wo_pool *pool;
    atomic_int *inside; /* of every caller: how many of its tiles run now */
    int index;
    atomic_int collisions, done;
    pthread_barrier_t *start;
    pthread_t thread;
} caller;

/* Of two tiles that run at one time, at least one sees the other: each enters before it looks. */
static void watch_the_others(void *ctx, int64_t tile, int worker, void *scratch) {
    caller *c = ctx;
    (void)tile, (void)worker, (void)scratch;
    atomic_fetch_add(&c->inside[c->index], 1);
    sched_yield();
    for (int i = 0; i < CALLERS; i++)
        if (i != c->index && atomic_load(&c->inside[i]) != 0)
            atomic_fetch_add(&c->collisions, 1);
    atomic_fetch_sub(&c->inside[c->index], 1);
    atomic_fetch_add(&c->done, 1);
}

static void *call_often(void *arg) {
    caller *c = arg;
    pthread_barrier_wait(c->start);
    for (int i = 0; i < 200; i++)
        CHECK_STATUS(wo_pool_run(c->pool, 5, watch_the_others, c, NULL), WO_OK);
    return NULL;
}

static void *resize_often(void *arg) {
    wo_error inner;
    for (int i = 0; i < 60; i++)
        CHECK_OK(wo_pool_resize(arg, 1 + i % 4, &inner), &inner);
    return NULL;
}

static void concurrent_callers_and_a_resize_take_turns(void) {
    wo_pool *pool = create(3, 0);
    atomic_int inside[CALLERS] = {0};
    caller callers[CALLERS];
    pthread_t resizer;
    pthread_barrier_t start;
    CHECK(pthread_barrier_init(&start, NULL, CALLERS) == 0);
    for (int i = 0; i < CALLERS; i++) {
        callers[i] = (caller){.pool = pool, .inside = inside, .index = i, .start = &start};
        CHECK(pthread_create(&callers[i].thread, NULL, call_often, &callers[i]) == 0);
    }
    CHECK(pthread_create(&resizer, NULL, resize_often, pool) == 0);
    for (int i = 0; i < CALLERS; i++) {
        CHECK(pthread_join(callers[i].thread, NULL) == 0);
        CHECK(atomic_load(&callers[i].done) == 1000 && atomic_load(&callers[i].collisions) == 0);
    }
    CHECK(pthread_join(resizer, NULL) == 0);
    pthread_barrier_destroy(&start);
    wo_pool_destroy(pool);
    CHECK(wo_memory_current() == 0);
}

typedef struct cancelling {
    wo_cancel cancel;
    int64_t at; /* the tile that asks for the end */
    atomic_int begun, after;
} cancelling;

static void cancel_at(void *ctx, int64_t tile, int worker, void *scratch) {
    cancelling *c = ctx;
    (void)worker, (void)scratch;
    atomic_fetch_add(&c->begun, 1);
    if (atomic_load(&c->cancel.requested) != 0)
        atomic_fetch_add(&c->after, 1);
    if (tile == c->at)
        wo_cancel_request(&c->cancel);
}

static void a_cancel_lets_each_thread_begin_at_most_one_more_tile(void) {
    for (int threads = 1; threads <= 4; threads++) {
        wo_pool *pool = create(threads, 0);
        for (int64_t at = 0; at < 400; at += 13) {
            cancelling c = {.at = at};
            wo_cancel_reset(&c.cancel);
            CHECK_STATUS(wo_pool_run(pool, 100000, cancel_at, &c, &c.cancel), WO_ECANCELLED);
            int begun = atomic_load(&c.begun);
            CHECK(atomic_load(&c.cancel.tiles) == begun && begun > at && begun < 100000);
            CHECK(atomic_load(&c.after) <= threads && atomic_load(&c.cancel.tiles_after) <= threads);
            CHECK(atomic_load(&c.cancel.tiles_after) <= atomic_load(&c.after));
        }
        check_job(pool, 50);
        wo_pool_destroy(pool);
    }
}

static void a_requested_cancel_skips_whole_jobs_and_a_late_one_spoils_nothing(void) {
    wo_pool *pool = create(2, 0);
    cancelling c = {.at = -1};
    wo_cancel_reset(&c.cancel);
    CHECK(!wo_cancel_requested(&c.cancel) && !wo_cancel_requested(NULL));
    wo_cancel_request(&c.cancel);
    CHECK(wo_cancel_requested(&c.cancel));
    CHECK_STATUS(wo_pool_run(pool, 10, cancel_at, &c, &c.cancel), WO_ECANCELLED);
    CHECK_STATUS(wo_pool_run(pool, 1, cancel_at, &c, &c.cancel), WO_ECANCELLED);
    CHECK(atomic_load(&c.begun) == 0 && atomic_load(&c.cancel.tiles) == 0 && atomic_load(&c.cancel.tiles_after) == 0);
    wo_cancel_reset(&c.cancel);
    CHECK_STATUS(wo_pool_run(pool, 10, cancel_at, &c, &c.cancel), WO_OK);
    CHECK(atomic_load(&c.cancel.tiles) == 10 && atomic_load(&c.cancel.tiles_after) == 0);
    c.at = 0;
    CHECK_STATUS(wo_pool_run(pool, 1, cancel_at, &c, &c.cancel), WO_OK); /* nothing was left to skip */
    wo_pool_destroy(pool);
}

static void a_failed_allocation_leaves_no_pool_or_the_old_one(void) {
    wo_status status = WO_ENOMEMORY;
    for (int64_t n = 1; status != WO_OK; n++) {
        wo_pool *pool = (wo_pool *)&err;
        wo_memory_fail_at(n);
        status = wo_pool_create(3, 1000, &pool, &err);
        wo_memory_fail_at(0);
        CHECK(n <= 10 && (status == WO_OK || (status == WO_ENOMEMORY && pool == NULL && wo_memory_current() == 0)));
        wo_pool_destroy(pool);
    }
    wo_pool *pool = create(2, 1000);
    uint64_t before = wo_memory_current();
    for (int64_t n = 1; n <= 3; n++) {
        wo_memory_fail_at(n);
        CHECK_STATUS(wo_pool_resize(pool, 5, &err), WO_ENOMEMORY);
        CHECK(wo_pool_threads(pool) == 2 && wo_memory_current() == before);
        meeting m = {.wanted = 2};
        CHECK_STATUS(wo_pool_run(pool, 2, meet, &m, NULL), WO_OK);
    }
    wo_memory_fail_at(0);
    CHECK_STATUS(wo_pool_create(2, SIZE_MAX, &(wo_pool *){NULL}, &err), WO_ENOMEMORY);
    wo_pool_destroy(pool);
    CHECK(wo_memory_current() == 0);
}

static void bad_thread_counts_are_refused(void) {
    const int bad[] = {0, -1, 1025};
    wo_pool *pool = create(2, 0), *none;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char number[16];
        snprintf(number, sizeof number, "%d", bad[i]);
        CHECK_STATUS(wo_pool_create(bad[i], 0, &none, &err), WO_EVALUE);
        CHECK(none == NULL);
        CHECK_CONTAINS(err.message, number);
        CHECK_STATUS(wo_pool_resize(pool, bad[i], &err), WO_EVALUE);
        CHECK(wo_pool_threads(pool) == 2);
    }
    wo_pool_destroy(pool);
}

static void look_at_signals(void *ctx, int64_t tile, int worker, void *scratch) {
    meeting *m = ctx;
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    if (worker > 0 && sigismember(&mask, SIGINT) != 1)
        m->wanted = 99;
    meet(ctx, tile, worker, scratch);
}

/* A signal must reach a thread of the caller's, where Python can take it. */
static void workers_take_no_signals(void) {
    wo_pool *pool = create(2, 0);
    meeting m = {.wanted = 2};
    CHECK_STATUS(wo_pool_run(pool, 2, look_at_signals, &m, NULL), WO_OK);
    CHECK(m.wanted == 2);
    wo_pool_destroy(pool);
}

int main(void) {
    every_tile_runs_once_on_a_scratch_of_its_own();
    nothing_is_lost_when_workers_fall_asleep_between_jobs();
    all_threads_work_at_one_time_also_after_a_resize();
    concurrent_callers_and_a_resize_take_turns();
    a_cancel_lets_each_thread_begin_at_most_one_more_tile();
    a_requested_cancel_skips_whole_jobs_and_a_late_one_spoils_nothing();
    a_failed_allocation_leaves_no_pool_or_the_old_one();
    bad_thread_counts_are_refused();
    workers_take_no_signals();
    return 0;
}
