/* A stream of the cpu device is a worker thread with a ring of commands.
 *
 *     commands   [ . . 3 4 5 6 . . ]     done = 3: being carried out, its place is not free yet
 *                      ^       ^         issued = 7: where the next command goes; issued - done <= WO_CPU_QUEUE_COMMANDS
 *
 * The ring and everything else a stream needs is one block taken at creation, so enqueueing never allocates. After an error or a
 * cancellation the worker goes on through the queue: work is skipped, waits are kept and tickets are reached, so that the order between
 * streams holds and nobody hangs.
 */
#include "device/cpu/internal.h"

#include "base/clock.h"
#include "base/memory.h"
#include "base/thread.h"

#include <stdio.h>
#include <string.h>

typedef struct wo_cpu_stream {
    wo_stream head;
    struct wo_cpu_stream *next; /* guarded by the device's lock */
    pthread_t thread;
    char name[16];
    pthread_mutex_t lock; /* guards everything below but the commands between done and issued */
    pthread_cond_t queued, progressed;
    uint64_t issued, done;
    bool closing;
    double busy, stalled;
    uint64_t chaos_state; /* 0: off */
    double chaos_delay;
    wo_cpu_command commands[WO_CPU_QUEUE_COMMANDS];
} cpu_stream;

static _Thread_local bool on_stream;

bool wo_cpu_on_stream(void) {
    return on_stream;
}

size_t wo_cpu_stream_bytes(void) {
    return sizeof(cpu_stream);
}

static cpu_stream *of(wo_stream *s) {
    return (cpu_stream *)s;
}

static wo_cpu_device *device_of(wo_stream *s) {
    return (wo_cpu_device *)s->device;
}

/* The delays of a stream depend on the seed and its name only, so that a run can be repeated. Called under the stream's lock. */
static void seed_chaos(cpu_stream *s, uint64_t seed, double delay) {
    uint64_t state = seed;
    for (const char *c = s->name; *c != 0; c++)
        state = (state ^ (unsigned char)*c) * 0x100000001b3u;
    s->chaos_state = seed == 0 ? 0 : state | 1;
    s->chaos_delay = delay;
}

/* Half of the commands are held back, by a random part of the longest delay (xorshift64*). Called under the stream's lock. */
static double draw_delay(cpu_stream *s) {
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

static void run_command(cpu_stream *s, const wo_cpu_command *command, double *busy, double *stalled) {
    switch (command->kind) {
    case WO_CPU_RECORD:
        wo_cpu_event_signal(command->u.ticket);
        return;
    case WO_CPU_WAIT:
        if (!wo_cpu_reached(command->u.ticket)) {
            const double begin = wo_clock_seconds();
            wo_cpu_event_wait(command->u.ticket);
            *stalled = wo_clock_seconds() - begin;
        }
        return;
    default: {
        const double begin = wo_clock_seconds();
        wo_cpu_command_execute(device_of(&s->head), command);
        *busy = wo_clock_seconds() - begin;
        return;
    }
    }
}

static void *stream_main(void *arg) {
    cpu_stream *s = arg;
    on_stream = true;
    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (s->done == s->issued && !s->closing)
            pthread_cond_wait(&s->queued, &s->lock);
        if (s->done == s->issued)
            break;
        const wo_cpu_command *command = &s->commands[s->done % WO_CPU_QUEUE_COMMANDS];
        const double pause = draw_delay(s);
        double busy = 0, stalled = 0;
        pthread_mutex_unlock(&s->lock);
        if (pause > 0 && !wo_cpu_interrupted(device_of(&s->head)))
            wo_clock_sleep(pause);
        run_command(s, command, &busy, &stalled);
        pthread_mutex_lock(&s->lock);
        s->busy += busy;
        s->stalled += stalled;
        s->done++;
        pthread_cond_broadcast(&s->progressed);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static void release_stream(cpu_stream *s) {
    pthread_cond_destroy(&s->progressed);
    pthread_cond_destroy(&s->queued);
    pthread_mutex_destroy(&s->lock);
    wo_memory_release(s);
}

static wo_status stream_create(wo_device *d, const char *name, wo_stream **out, wo_error *err) {
    wo_cpu_device *device = (wo_cpu_device *)d;
    void *memory = NULL;
    WO_TRY(wo_memory_acquire(sizeof(cpu_stream), "stream queue", &memory, err));
    cpu_stream *s = memory;
    memset(s, 0, offsetof(cpu_stream, commands));
    s->head.device = d;
    snprintf(s->name, sizeof s->name, "wo-%s", name);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->queued, NULL);
    pthread_cond_init(&s->progressed, NULL);
    pthread_mutex_lock(&device->lock);
    seed_chaos(s, device->chaos_seed, device->chaos_delay);
    const wo_status status = wo_thread_start(&s->thread, stream_main, s, s->name, err);
    if (status == WO_OK) {
        s->next = device->streams;
        device->streams = s;
    }
    pthread_mutex_unlock(&device->lock);
    if (status != WO_OK) {
        release_stream(s);
        return status;
    }
    wo_cpu_retain(device);
    *out = &s->head;
    return WO_OK;
}

static void stream_destroy(wo_stream *stream) {
    if (stream == NULL)
        return;
    cpu_stream *s = of(stream);
    wo_cpu_device *device = device_of(stream);
    pthread_mutex_lock(&s->lock);
    s->closing = true;
    pthread_cond_signal(&s->queued);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    pthread_mutex_lock(&device->lock);
    cpu_stream **link = &device->streams;
    while (*link != s)
        link = &(*link)->next;
    *link = s->next;
    pthread_mutex_unlock(&device->lock);
    release_stream(s);
    wo_cpu_close(&device->head);
}

static wo_status refuse_on_stream(const char *what, wo_error *err) {
    if (on_stream)
        WO_FAIL(err, WO_EINTERNAL, "%s from inside a host_call would hang the stream", what);
    return WO_OK;
}

wo_status wo_cpu_enqueue(wo_stream *stream, const wo_cpu_command *command, wo_error *err) {
    cpu_stream *s = of(stream);
    WO_TRY(refuse_on_stream("enqueueing", err));
    pthread_mutex_lock(&s->lock);
    while (s->issued - s->done == WO_CPU_QUEUE_COMMANDS)
        pthread_cond_wait(&s->progressed, &s->lock);
    s->commands[s->issued % WO_CPU_QUEUE_COMMANDS] = *command;
    s->issued++;
    pthread_cond_signal(&s->queued);
    pthread_mutex_unlock(&s->lock);
    return WO_OK;
}

static wo_status copy(wo_stream *s, void *dst, const void *src, size_t bytes, wo_error *err) {
    const wo_cpu_command c = {.kind = WO_CPU_COPY, .u.copy = {.dst = dst, .src = src, .bytes = bytes}};
    return wo_cpu_enqueue(s, &c, err);
}

static wo_status convert(wo_stream *s, const wo_conversion *conversion, void *dst, const void *src, int64_t count, wo_error *err) {
    const wo_cpu_command c = {.kind = WO_CPU_CONVERT,
                              .u.convert = {.conversion = *conversion, .dst = dst, .src = src, .count = count}};
    return wo_cpu_enqueue(s, &c, err);
}

static wo_status poison(wo_stream *s, void *dst, size_t bytes, wo_error *err) {
    const wo_cpu_command c = {.kind = WO_CPU_FILL, .u.fill = {.dst = dst, .bytes = bytes, .byte = 0xff}};
    return wo_cpu_enqueue(s, &c, err);
}

static wo_status zero(wo_stream *s, void *dst, size_t bytes, wo_error *err) {
    const wo_cpu_command c = {.kind = WO_CPU_FILL, .u.fill = {.dst = dst, .bytes = bytes, .byte = 0}};
    return wo_cpu_enqueue(s, &c, err);
}

static wo_status host_call(wo_stream *s, void (*fn)(void *ctx), void *ctx, wo_error *err) {
    const wo_cpu_command c = {.kind = WO_CPU_HOST_CALL, .u.host_call = {.fn = fn, .ctx = ctx}};
    return wo_cpu_enqueue(s, &c, err);
}

static wo_status delay(wo_stream *s, double seconds, wo_error *err) {
    const wo_cpu_command c = {.kind = WO_CPU_DELAY, .u.delay = {.seconds = seconds}};
    return wo_cpu_enqueue(s, &c, err);
}

/* The refusal comes first: a ticket that was issued and never enqueued would hold up all later ones of its event. */
static wo_status event_record(wo_stream *s, wo_event *e, wo_ticket *out, wo_error *err) {
    WO_TRY(refuse_on_stream("recording an event", err));
    *out = wo_cpu_event_expect(e);
    const wo_cpu_command c = {.kind = WO_CPU_RECORD, .u.ticket = *out};
    return wo_cpu_enqueue(s, &c, err);
}

static wo_status wait(wo_stream *s, wo_ticket t, wo_error *err) {
    const wo_cpu_command c = {.kind = WO_CPU_WAIT, .u.ticket = t};
    return wo_cpu_enqueue(s, &c, err);
}

static wo_status host_wait(wo_device *d, wo_ticket t, wo_error *err) {
    WO_TRY(refuse_on_stream("waiting", err));
    wo_cpu_event_wait(t);
    return wo_cpu_sticky((wo_cpu_device *)d, err);
}

static wo_status sync(wo_stream *stream, wo_error *err) {
    cpu_stream *s = of(stream);
    WO_TRY(refuse_on_stream("waiting", err));
    pthread_mutex_lock(&s->lock);
    const uint64_t target = s->issued;
    while (s->done < target)
        pthread_cond_wait(&s->progressed, &s->lock);
    pthread_mutex_unlock(&s->lock);
    return wo_cpu_sticky(device_of(stream), err);
}

static void set_cancel(wo_device *d, wo_cancel *cancel) {
    atomic_store_explicit(&((wo_cpu_device *)d)->cancel, cancel, memory_order_release);
}

static void times(wo_stream *stream, double *busy, double *stalled) {
    cpu_stream *s = of(stream);
    pthread_mutex_lock(&s->lock);
    *busy = s->busy;
    *stalled = s->stalled;
    pthread_mutex_unlock(&s->lock);
}

static void reset_times(wo_stream *stream) {
    cpu_stream *s = of(stream);
    pthread_mutex_lock(&s->lock);
    s->busy = s->stalled = 0;
    pthread_mutex_unlock(&s->lock);
}

static void chaos(wo_device *d, uint64_t seed, double max_delay_seconds) {
    wo_cpu_device *device = (wo_cpu_device *)d;
    pthread_mutex_lock(&device->lock);
    device->chaos_seed = seed;
    device->chaos_delay = max_delay_seconds;
    for (cpu_stream *s = device->streams; s != NULL; s = s->next) {
        pthread_mutex_lock(&s->lock);
        seed_chaos(s, seed, max_delay_seconds);
        pthread_mutex_unlock(&s->lock);
    }
    pthread_mutex_unlock(&device->lock);
}

const wo_stream_api wo_cpu_stream_api = {
    .version = WO_DEVICE_ABI,
    .size = sizeof(wo_stream_api),
    .create = stream_create,
    .destroy = stream_destroy,
    .copy = copy,
    .convert = convert,
    .poison = poison,
    .zero = zero,
    .host_call = host_call,
    .event_create = wo_cpu_event_create,
    .event_destroy = wo_cpu_event_destroy,
    .event_record = event_record,
    .event_expect = wo_cpu_event_expect,
    .event_signal = wo_cpu_event_signal,
    .wait = wait,
    .reached = wo_cpu_reached,
    .host_wait = host_wait,
    .sync = sync,
    .set_cancel = set_cancel,
    .post_error = wo_cpu_post_error,
    .clear_error = wo_cpu_clear_error,
    .times = times,
    .reset_times = reset_times,
    .chaos = chaos,
    .delay = delay,
};
