/* A stream of the cuda device is one of the driver's. Enqueueing takes the stream's lock, so that several host threads may use one, and keeps a pace:
 *
 *     batches of 16 commands   | done | done | running |  .  |  .  |  .  | being enqueued
 *                                            ^ the host waits for the end of this one: at most `depth` behind the newest
 *
 * A cancelled call skips what was not enqueued yet; what was, the card finishes. The host therefore keeps only so many batches in front of the card as
 * take about AHEAD_SECONDS, by how long the last ones took: 2 to 15. The card never runs dry for it: when the host wakes up, one batch at least is
 * left, of commands that are long; where they are short, there are about 200 of them.
 *
 * After an error or a cancellation work is skipped, waits are kept and tickets recorded, so that the order between streams holds and nobody hangs. */
#include "device/cuda/device_impl.h"

#include "base/clock.h"
#include "base/memory.h"

#include <stdio.h>
#include <string.h>

#define AHEAD_SECONDS 0.25

static wo_cuda_stream *of(wo_stream *s) {
    return (wo_cuda_stream *)s;
}

size_t wo_cuda_stream_bytes(void) {
    return sizeof(wo_cuda_stream) + wo_cuda_nodes_bytes() + WO_CUDA_STAMPS * sizeof(uint64_t);
}

wo_cu_stream wo_cuda_raw_stream(wo_stream *s) {
    return of(s)->raw;
}

/* --- keeping the pace, and being held back by chaos --- */

/* Called when the batch `behind` has been waited for: how far ahead to be from here on. */
static void set_depth(wo_cuda_stream *s, uint64_t behind) {
    const double now = wo_clock_seconds();
    if (s->paced_at > 0 && behind > s->paced_batch) {
        const double batches = AHEAD_SECONDS * (double)(behind - s->paced_batch) / (now - s->paced_at + 1e-9);
        s->depth = batches < 2 ? 2 : batches > WO_CUDA_BATCHES - 1 ? WO_CUDA_BATCHES - 1 : (uint64_t)batches;
    }
    s->paced_at = now;
    s->paced_batch = behind;
}

static wo_status keep_pace(wo_cuda_stream *s, wo_error *err) {
    wo_cuda_device *d = wo_cuda_of(&s->head);
    if (++s->commands % WO_CUDA_BATCH != 0)
        return WO_OK;
    const uint64_t batch = s->batches++;
    wo_cu_result r = d->driver->event_record(s->pace[batch % WO_CUDA_BATCHES], s->raw);
    if (r == WO_CU_SUCCESS && batch >= s->depth) {
        const wo_cu_event behind = s->pace[(batch - s->depth) % WO_CUDA_BATCHES];
        r = d->driver->event_query(behind);
        if (r == WO_CU_SUCCESS) {
            s->depth = WO_CUDA_BATCHES - 1;
            s->paced_at = 0;
        } else if (r == WO_CU_NOT_READY) {
            r = d->driver->event_synchronize(behind);
            set_depth(s, batch - s->depth);
        }
    }
    return r == WO_CU_SUCCESS ? WO_OK : wo_cuda_fail(d, r, "work enqueued before", err);
}

/* The delays of a stream depend on the seed and its name only, so that a run can be repeated. */
static void seed_chaos(wo_cuda_stream *s) {
    wo_cuda_device *d = wo_cuda_of(&s->head);
    pthread_mutex_lock(&d->lock);
    uint64_t state = d->chaos_seed;
    s->chaos_turn = atomic_load(&d->chaos_turn);
    s->chaos_delay = d->chaos_delay;
    pthread_mutex_unlock(&d->lock);
    s->chaos_state = 0;
    if (state == 0)
        return;
    for (const char *c = s->name; *c != 0; c++)
        state = (state ^ (unsigned char)*c) * 0x100000001b3u;
    s->chaos_state = state | 1;
}

/* Half of the commands are held back, by a random part of the longest delay (xorshift64*). */
static double draw_delay(wo_cuda_stream *s) {
    if (s->chaos_turn != atomic_load(&wo_cuda_of(&s->head)->chaos_turn))
        seed_chaos(s);
    if (s->chaos_state == 0)
        return 0;
    uint64_t x = s->chaos_state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    s->chaos_state = x;
    const double u = (double)(x * 0x2545f4914f6cdd1du >> 11) / 9007199254740992.0;
    return u < 0.5 ? 0 : (2 * u - 1) * s->chaos_delay;
}

/* Takes the stream for one command, whether work is to be skipped or not. */
static wo_status take(wo_cuda_stream *s, wo_error *err) {
    wo_cuda_device *d = wo_cuda_of(&s->head);
    WO_TRY(wo_cuda_enter(d, err));
    pthread_mutex_lock(&s->lock);
    wo_status status = keep_pace(s, err);
    const double pause = status == WO_OK ? draw_delay(s) : 0;
    if (pause > 0 && atomic_load(&d->failed) == WO_OK)
        status = wo_cuda_push_node(s, &(wo_cuda_node){.kind = WO_CUDA_DELAY, .seconds = pause}, "a delay of chaos mode", err);
    if (status != WO_OK)
        pthread_mutex_unlock(&s->lock);
    return status;
}

static wo_status give_back(wo_cuda_stream *s, wo_status status) {
    pthread_mutex_unlock(&s->lock);
    return status;
}

/* --- work: skipped once an error sticks --- */

static wo_status begin(wo_cuda_stream *s, bool host_call, bool *skip, wo_error *err) {
    WO_TRY(wo_cuda_refuse_on_stream("enqueueing", err));
    *skip = wo_cuda_interrupted(wo_cuda_of(&s->head));
    if (*skip)
        return WO_OK;
    WO_TRY(take(s, err));
    const wo_status status = host_call ? wo_cuda_stamp_host_call(s, err) : wo_cuda_stamp_work(s, err);
    return status == WO_OK ? WO_OK : give_back(s, status);
}

wo_status wo_cuda_begin(wo_stream *s, const char *op, bool *skip, wo_error *err) {
    (void)op;
    return begin(of(s), false, skip, err);
}

void wo_cuda_end(wo_stream *s) {
    pthread_mutex_unlock(&of(s)->lock);
}

static wo_status copy(wo_stream *stream, void *dst, const void *src, size_t bytes, wo_error *err) {
    wo_cuda_device *d = wo_cuda_of(stream);
    bool skip;
    if (bytes == 0)
        return WO_OK;
    WO_TRY(begin(of(stream), false, &skip, err));
    if (skip)
        return WO_OK;
    wo_cu_result r = WO_CU_SUCCESS;
    for (size_t at = 0, run; at < bytes && r == WO_CU_SUCCESS; at += run) {
        run = wo_cuda_copy_run((char *)dst + at, wo_cuda_copy_run((const char *)src + at, bytes - at));
        r = d->driver->copy_async((wo_cu_ptr)(uintptr_t)dst + at, (wo_cu_ptr)(uintptr_t)src + at, run, of(stream)->raw);
    }
    wo_cuda_end(stream);
    return r == WO_CU_SUCCESS ? WO_OK : wo_cuda_fail(d, r, "a copy", err);
}

/* The kernel reads host memory in place, and a card that meets memory there which is not pinned loses its context. */
static wo_status convert(wo_stream *stream, const wo_conversion *c, void *dst, const void *src, int64_t count, wo_error *err) {
    if (!wo_cuda_kernel_may_read(src, wo_dtype_size(c->from) * (size_t)count))
        WO_FAIL(err, WO_ENOMEMORY, "%s cannot convert weights from host memory that the driver did not pin. Lower the ram budget, so that less is to be pinned",
                wo_cuda_of(stream)->text);
    return wo_cuda_convert(stream, c, dst, src, count, err);
}

static wo_status fill(wo_stream *stream, void *dst, unsigned char byte, size_t bytes, wo_error *err) {
    wo_cuda_device *d = wo_cuda_of(stream);
    bool skip;
    if (bytes == 0)
        return WO_OK;
    WO_TRY(begin(of(stream), false, &skip, err));
    if (skip)
        return WO_OK;
    const wo_cu_result r = d->driver->fill_async((wo_cu_ptr)(uintptr_t)dst, byte, bytes, of(stream)->raw);
    wo_cuda_end(stream);
    return r == WO_CU_SUCCESS ? WO_OK : wo_cuda_fail(d, r, "filling memory", err);
}

static wo_status poison(wo_stream *s, void *dst, size_t bytes, wo_error *err) {
    return fill(s, dst, 0xff, bytes, err);
}

static wo_status zero(wo_stream *s, void *dst, size_t bytes, wo_error *err) {
    return fill(s, dst, 0, bytes, err);
}

static wo_status host_call(wo_stream *stream, void (*fn)(void *ctx), void *ctx, wo_error *err) {
    wo_cuda_stream *s = of(stream);
    bool skip;
    WO_TRY(begin(s, true, &skip, err));
    if (skip)
        return WO_OK;
    return give_back(s, wo_cuda_push_node(s, &(wo_cuda_node){.kind = WO_CUDA_CALL, .fn = fn, .ctx = ctx}, "a host call", err));
}

static wo_status delay(wo_stream *stream, double seconds, wo_error *err) {
    wo_cuda_stream *s = of(stream);
    bool skip;
    WO_TRY(begin(s, false, &skip, err));
    if (skip)
        return WO_OK;
    return give_back(s, wo_cuda_push_node(s, &(wo_cuda_node){.kind = WO_CUDA_DELAY, .seconds = seconds}, "a delay", err));
}

/* --- tickets: kept whatever has failed, until the context is lost --- */

static wo_status event_record(wo_stream *stream, wo_event *e, wo_ticket *out, wo_error *err) {
    wo_cuda_stream *s = of(stream);
    *out = (wo_ticket){0};
    WO_TRY(wo_cuda_refuse_on_stream("recording an event", err));
    WO_TRY(wo_cuda_event_may_record(e, err));
    if (atomic_load(&wo_cuda_of(stream)->lost))
        return WO_OK;
    WO_TRY(take(s, err));
    wo_status status = wo_cuda_stamp_end(s, err);
    if (status == WO_OK)
        status = wo_cuda_event_record(s, e, out, err);
    return give_back(s, status);
}

static wo_status enqueue_wait(wo_cuda_stream *s, wo_ticket t, wo_error *err) {
    WO_TRY(wo_cuda_stamp_wait(s, err));
    if (wo_cuda_is_signalled(t))
        WO_TRY(wo_cuda_push_node(s, &(wo_cuda_node){.kind = WO_CUDA_WAIT, .ticket = t}, "waiting for a host thread", err));
    else
        WO_TRY(wo_cuda_event_await(s, t, err));
    return wo_cuda_stamp_waited(s, err);
}

static wo_status wait(wo_stream *stream, wo_ticket t, wo_error *err) {
    wo_cuda_stream *s = of(stream);
    WO_TRY(wo_cuda_refuse_on_stream("enqueueing", err));
    if (atomic_load(&wo_cuda_of(stream)->lost) || wo_cuda_reached(t))
        return WO_OK;
    WO_TRY(take(s, err));
    return give_back(s, enqueue_wait(s, t, err));
}

/* The thread sleeps until the stream has got there; host functions look at the cancel token meanwhile. */
static wo_status await_all(wo_cuda_stream *s, wo_error *err) {
    wo_cuda_device *d = wo_cuda_of(&s->head);
    if (atomic_load(&d->lost))
        return WO_OK;
    WO_TRY(wo_cuda_enter(d, err));
    pthread_mutex_lock(&s->lock);
    WO_TRY(give_back(s, wo_cuda_stamp_end(s, err)));
    wo_cu_result r = d->driver->event_record(s->passed, s->raw);
    if (r == WO_CU_SUCCESS)
        r = d->driver->event_synchronize(s->passed);
    return r == WO_CU_SUCCESS ? WO_OK : wo_cuda_fail(d, r, "waiting for a stream", err);
}

/* Of a lost context nothing comes any more, but a host function may be in the middle of something. */
static wo_status drain(wo_cuda_stream *s, wo_error *err) {
    const wo_status status = await_all(s, err);
    if (atomic_load(&wo_cuda_of(&s->head)->lost))
        wo_cuda_nodes_rest(s->nodes);
    return status;
}

static wo_status sync(wo_stream *stream, wo_error *err) {
    wo_cuda_device *d = wo_cuda_of(stream);
    WO_TRY(wo_cuda_refuse_on_stream("waiting", err));
    const wo_status status = drain(of(stream), err);
    wo_cuda_interrupted(d);
    const wo_status sticky = wo_cuda_sticky(d, err);
    return sticky != WO_OK ? sticky : status;
}

/* --- the rest --- */

static void set_cancel(wo_device *d, wo_cancel *cancel) {
    atomic_store_explicit(&((wo_cuda_device *)d)->cancel, cancel, memory_order_release);
}

static void reset_times(wo_stream *stream) {
    wo_cuda_stream *s = of(stream);
    wo_cuda_device *d = wo_cuda_of(stream);
    if (atomic_load(&d->lost) || wo_cuda_enter(d, NULL) != WO_OK)
        return;
    pthread_mutex_lock(&s->lock);
    wo_cuda_stamp_reset(s, NULL);
    pthread_mutex_unlock(&s->lock);
}

static void chaos(wo_device *device, uint64_t seed, double max_delay_seconds) {
    wo_cuda_device *d = (wo_cuda_device *)device;
    pthread_mutex_lock(&d->lock);
    d->chaos_seed = seed;
    d->chaos_delay = max_delay_seconds;
    atomic_fetch_add(&d->chaos_turn, 1);
    pthread_mutex_unlock(&d->lock);
}

/* --- coming and going --- */

/* Kernels of the stream of transfers (conversions) go before those of others: behind the compute stream's they would wait until a large one has run out
 * of blocks, and the copies behind them. */
static wo_cu_result create_raw(wo_cuda_stream *s) {
    const wo_cuda_driver *driver = wo_cuda_of(&s->head)->driver;
    int least = 0, greatest = 0;
    if (!s->transfers)
        return driver->stream_create(&s->raw, WO_CU_STREAM_NON_BLOCKING);
    const wo_cu_result r = driver->stream_priorities(&least, &greatest);
    return r == WO_CU_SUCCESS ? driver->stream_create_with_priority(&s->raw, WO_CU_STREAM_NON_BLOCKING, greatest) : r;
}

static wo_status create_parts(wo_cuda_stream *s, wo_error *err) {
    wo_cuda_device *d = wo_cuda_of(&s->head);
    const unsigned flags = WO_CU_EVENT_BLOCKING_SYNC | WO_CU_EVENT_DISABLE_TIMING;
    WO_TRY(wo_cuda_enter(d, err));
    wo_cu_result r = create_raw(s);
    if (r == WO_CU_SUCCESS)
        r = d->driver->event_create(&s->passed, flags);
    for (int i = 0; i < WO_CUDA_BATCHES && r == WO_CU_SUCCESS; i++)
        r = d->driver->event_create(&s->pace[i], flags);
    if (r != WO_CU_SUCCESS)
        return wo_cuda_driver_error(d->driver, r, "making a stream", err);
    WO_TRY(wo_cuda_stamps_init(s, err));
    s->nodes = wo_cuda_nodes_create(d);
    if (s->nodes == NULL)
        WO_FAIL(err, WO_ENOMEMORY, "no memory for a stream");
    return WO_OK;
}

/* The driver's part goes first, so that none of its host functions is still to come when their nodes go. */
static void release_parts(wo_cuda_stream *s) {
    const wo_cuda_driver *driver = wo_cuda_of(&s->head)->driver;
    wo_cuda_enter(wo_cuda_of(&s->head), NULL);
    for (int i = 0; i < WO_CUDA_BATCHES; i++)
        if (s->pace[i] != NULL)
            driver->event_destroy(s->pace[i]);
    if (s->passed != NULL)
        driver->event_destroy(s->passed);
    if (s->raw != NULL)
        driver->stream_destroy(s->raw);
    wo_cuda_nodes_destroy(s->nodes);
    wo_cuda_stamps_fini(s);
    pthread_mutex_destroy(&s->lock);
    wo_memory_release(s);
}

static wo_status create(wo_device *d, const char *name, wo_stream **out, wo_error *err) {
    void *memory = NULL;
    WO_TRY(wo_memory_acquire(sizeof(wo_cuda_stream), "a stream", &memory, err));
    wo_cuda_stream *s = memory;
    memset(s, 0, sizeof *s);
    s->head.device = d;
    s->transfers = strcmp(name, "copy") == 0;
    s->depth = WO_CUDA_BATCHES - 1;
    s->chaos_turn = atomic_load(&((wo_cuda_device *)d)->chaos_turn) - 1; /* so that the first command looks for a seed */
    snprintf(s->name, sizeof s->name, "wo-%s", name);
    pthread_mutex_init(&s->lock, NULL);
    const wo_status status = create_parts(s, err);
    if (status != WO_OK) {
        release_parts(s);
        return status;
    }
    wo_cuda_retain((wo_cuda_device *)d);
    *out = &s->head;
    return WO_OK;
}

static void destroy(wo_stream *s) {
    if (s == NULL)
        return;
    wo_device *d = s->device;
    drain(of(s), NULL);
    release_parts(of(s));
    wo_cuda_close(d);
}

const wo_stream_api wo_cuda_stream_api = {
    .version = WO_DEVICE_ABI,
    .size = sizeof(wo_stream_api),
    .create = create,
    .destroy = destroy,
    .copy = copy,
    .convert = convert,
    .poison = poison,
    .zero = zero,
    .host_call = host_call,
    .event_create = wo_cuda_event_create,
    .event_destroy = wo_cuda_event_destroy,
    .event_record = event_record,
    .event_expect = wo_cuda_event_expect,
    .event_signal = wo_cuda_event_signal,
    .wait = wait,
    .reached = wo_cuda_reached,
    .host_wait = wo_cuda_host_wait,
    .sync = sync,
    .set_cancel = set_cancel,
    .post_error = wo_cuda_post_error,
    .clear_error = wo_cuda_clear_error,
    .times = wo_cuda_times,
    .reset_times = reset_times,
    .chaos = chaos,
    .delay = delay,
};
