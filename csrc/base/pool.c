/* The compute threads. A job is published in one atomic word, and so is who works on it:
 *
 *     state:   [ generation : 32 ][ open : 1 ][ workers inside : 31 ]
 *
 * The caller writes the job, then opens the next generation. A worker enters by adding one to an open word and leaves by
 * taking it off; between the two it takes tiles from a counter. When the counter has run out the caller closes the word,
 * so that no late worker can enter, and waits until nobody is inside. A worker that was slow to wake is therefore never
 * waited for, and a job is complete even if no worker comes at all.
 *
 * Both sides spin for a moment before they sleep: ops follow one another within microseconds, and waking a thread costs
 * more. */
#include "base/pool.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/thread.h"

#include <pthread.h>
#include <stdio.h>

enum { MAX_THREADS = 1024, SPIN_ROUNDS = 64 };
static const double SPIN_SECONDS = 30e-6;
static const uint64_t OPEN = (uint64_t)1 << 31, INSIDE = ((uint64_t)1 << 31) - 1, GENERATION = (uint64_t)1 << 32;

typedef struct worker {
    wo_pool *pool;
    int index;
    atomic_bool quit;
    pthread_t thread;
    void *scratch; /* 64-byte aligned, behind this struct in the same block */
} worker;

struct wo_pool {
    pthread_mutex_t turn; /* held by the caller whose job runs, and by resize */
    pthread_mutex_t lock; /* guards the two conditions */
    pthread_cond_t opened, emptied;
    atomic_int sleeping; /* workers that wait on `opened` */
    atomic_int threads;
    atomic_bool spins; /* false when there are more threads than CPUs: then a spinning one stands in the way */
    size_t scratch_bytes;
    worker *workers[MAX_THREADS]; /* 0 is the caller's place and has no thread */

    _Alignas(64) _Atomic uint64_t state;
    int64_t tiles; /* the job; written only while the word is closed and nobody is inside */
    wo_tile_fn fn;
    void *ctx;
    wo_cancel *cancel;
    _Alignas(64) atomic_llong next; /* the first tile that nobody has taken */
};

static void work(wo_pool *pool, const worker *w) {
    wo_cancel *cancel = pool->cancel;
    while (!wo_cancel_requested(cancel)) {
        int64_t tile = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
        if (tile >= pool->tiles)
            return;
        if (cancel != NULL) {
            atomic_fetch_add_explicit(&cancel->tiles, 1, memory_order_relaxed);
            if (wo_cancel_requested(cancel))
                atomic_fetch_add_explicit(&cancel->tiles_after, 1, memory_order_relaxed);
        }
        pool->fn(pool->ctx, tile, w->index, w->scratch);
    }
}

/* Spins until the word is no longer `seen` (workers) or nobody is inside (the caller); false when the time is up. */
static bool spin(wo_pool *pool, uint64_t mask, uint64_t unwanted, bool until_equal) {
    if (!atomic_load_explicit(&pool->spins, memory_order_relaxed))
        return false;
    double end = wo_clock_seconds() + SPIN_SECONDS;
    do {
        for (int i = 0; i < SPIN_ROUNDS; i++) {
            uint64_t part = atomic_load_explicit(&pool->state, memory_order_acquire) & mask;
            if ((part == unwanted) == until_equal)
                return true;
            wo_thread_pause();
        }
    } while (wo_clock_seconds() < end);
    return false;
}

static bool enter(wo_pool *pool, uint64_t *generation) {
    uint64_t state = atomic_load(&pool->state);
    do {
        *generation = state & ~(OPEN | INSIDE);
        if ((state & OPEN) == 0)
            return false;
    } while (!atomic_compare_exchange_weak(&pool->state, &state, state + 1));
    return true;
}

static void leave(wo_pool *pool) {
    uint64_t after = atomic_fetch_sub(&pool->state, 1) - 1;
    if ((after & (OPEN | INSIDE)) == 0) {
        pthread_mutex_lock(&pool->lock);
        pthread_cond_signal(&pool->emptied);
        pthread_mutex_unlock(&pool->lock);
    }
}

/* Sleeps until a generation other than `seen` was opened, or this worker is to quit. Announcing the sleeper before
 * looking at the word, and opening the word before looking for sleepers, makes it impossible that both sides miss each
 * other. */
static void sleep_until_opened(wo_pool *pool, worker *w, uint64_t seen) {
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->sleeping, 1);
    while ((atomic_load(&pool->state) & ~(OPEN | INSIDE)) == seen && !atomic_load(&w->quit))
        pthread_cond_wait(&pool->opened, &pool->lock);
    atomic_fetch_sub(&pool->sleeping, 1);
    pthread_mutex_unlock(&pool->lock);
}

static void *worker_main(void *arg) {
    worker *w = arg;
    wo_pool *pool = w->pool;
    uint64_t seen = 0;
    while (!atomic_load(&w->quit)) {
        if (enter(pool, &seen)) {
            work(pool, w);
            leave(pool);
        }
        if (!spin(pool, ~(OPEN | INSIDE), seen, false))
            sleep_until_opened(pool, w, seen);
    }
    return NULL;
}

/* Opens the next generation and wakes as many sleepers as there are tiles for. */
static void open_job(wo_pool *pool) {
    uint64_t state = atomic_load_explicit(&pool->state, memory_order_relaxed);
    atomic_store(&pool->state, (state & ~(OPEN | INSIDE)) + GENERATION + OPEN);
    int64_t wanted = atomic_load(&pool->sleeping);
    if (wanted == 0)
        return;
    wanted = wanted < pool->tiles - 1 ? wanted : pool->tiles - 1;
    pthread_mutex_lock(&pool->lock);
    for (int64_t i = 0; i < wanted; i++)
        pthread_cond_signal(&pool->opened);
    pthread_mutex_unlock(&pool->lock);
}

static void close_job(wo_pool *pool) {
    uint64_t before = atomic_fetch_and(&pool->state, ~OPEN);
    if ((before & INSIDE) == 0 || spin(pool, INSIDE, 0, true))
        return;
    pthread_mutex_lock(&pool->lock);
    while ((atomic_load(&pool->state) & INSIDE) != 0)
        pthread_cond_wait(&pool->emptied, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

wo_status wo_pool_run(wo_pool *pool, int64_t tiles, wo_tile_fn fn, void *ctx, wo_cancel *cancel) {
    if (tiles <= 0)
        return WO_OK;
    pthread_mutex_lock(&pool->turn);
    pool->tiles = tiles;
    pool->fn = fn;
    pool->ctx = ctx;
    pool->cancel = cancel;
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    bool alone = tiles == 1 || atomic_load_explicit(&pool->threads, memory_order_relaxed) == 1;
    if (!alone)
        open_job(pool);
    work(pool, pool->workers[0]);
    if (!alone)
        close_job(pool);
    bool complete = atomic_load_explicit(&pool->next, memory_order_relaxed) >= tiles;
    pthread_mutex_unlock(&pool->turn);
    return complete ? WO_OK : WO_ECANCELLED;
}

static wo_status add_worker(wo_pool *pool, int index, wo_error *err) {
    size_t head = (sizeof(worker) + 63) / 64 * 64;
    void *block;
    if (pool->scratch_bytes > SIZE_MAX - head)
        WO_FAIL(err, WO_ENOMEMORY, "a scratch of %zu bytes for each compute thread is too large", pool->scratch_bytes);
    WO_TRY(wo_memory_acquire(head + pool->scratch_bytes, "the scratch of a compute thread", &block, err));
    worker *w = block;
    *w = (worker){.pool = pool, .index = index, .scratch = (char *)block + head};
    if (index > 0) {
        char name[32]; /* at most 15 characters are written; the compiler cannot know */
        snprintf(name, sizeof name, "wo-compute-%d", index);
        wo_status status = wo_thread_start(&w->thread, worker_main, w, name, err);
        if (status != WO_OK) {
            wo_memory_release(block);
            return status;
        }
    }
    pool->workers[index] = w;
    return WO_OK;
}

/* Ends the workers from index `first` on. Called with no job running. */
static void remove_workers(wo_pool *pool, int first, int end) {
    pthread_mutex_lock(&pool->lock);
    for (int i = first; i < end; i++)
        atomic_store(&pool->workers[i]->quit, true);
    pthread_cond_broadcast(&pool->opened);
    pthread_mutex_unlock(&pool->lock);
    for (int i = first; i < end; i++) {
        if (i > 0)
            pthread_join(pool->workers[i]->thread, NULL);
        wo_memory_release(pool->workers[i]);
        pool->workers[i] = NULL;
    }
}

static wo_status set_threads(wo_pool *pool, int threads, wo_error *err) {
    int before = atomic_load(&pool->threads);
    for (int i = before; i < threads; i++) {
        wo_status status = add_worker(pool, i, err);
        if (status != WO_OK) {
            remove_workers(pool, before, i);
            return status;
        }
    }
    if (threads < before)
        remove_workers(pool, threads, before);
    char reason[256];
    atomic_store(&pool->spins, threads <= wo_pool_default_threads(reason, sizeof reason));
    atomic_store(&pool->threads, threads);
    return WO_OK;
}

static wo_status check_threads(int threads, wo_error *err) {
    if (threads < 1 || threads > MAX_THREADS)
        WO_FAIL(err, WO_EVALUE, "the number of threads must be between 1 and %d, not %d", MAX_THREADS, threads);
    return WO_OK;
}

wo_status wo_pool_create(int threads, size_t scratch_bytes, wo_pool **out, wo_error *err) {
    void *block;
    *out = NULL;
    WO_TRY(check_threads(threads, err));
    WO_TRY(wo_memory_acquire(sizeof(wo_pool), "the compute thread pool", &block, err));
    wo_pool *pool = block;
    *pool = (wo_pool){.scratch_bytes = scratch_bytes};
    pthread_mutex_init(&pool->turn, NULL);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->opened, NULL);
    pthread_cond_init(&pool->emptied, NULL);
    wo_status status = set_threads(pool, threads, err);
    if (status != WO_OK) {
        wo_pool_destroy(pool);
        return status;
    }
    *out = pool;
    return WO_OK;
}

void wo_pool_destroy(wo_pool *pool) {
    if (pool == NULL)
        return;
    remove_workers(pool, 0, atomic_load(&pool->threads));
    pthread_cond_destroy(&pool->emptied);
    pthread_cond_destroy(&pool->opened);
    pthread_mutex_destroy(&pool->lock);
    pthread_mutex_destroy(&pool->turn);
    wo_memory_release(pool);
}

int wo_pool_threads(const wo_pool *pool) {
    return atomic_load(&pool->threads);
}

size_t wo_pool_scratch_bytes(const wo_pool *pool) {
    return pool->scratch_bytes;
}

wo_status wo_pool_resize(wo_pool *pool, int threads, wo_error *err) {
    WO_TRY(check_threads(threads, err));
    pthread_mutex_lock(&pool->turn);
    wo_status status = set_threads(pool, threads, err);
    pthread_mutex_unlock(&pool->turn);
    return status;
}
