/* A stream is a thread with a queue; a recorded event stands for a point of a queue. When a context is lost, what is still queued is skipped, host
 * functions too, and its points are reached, so that nobody waits for ever: as with the driver, the calls say what happened. */
#include "fakecuda/internal.h"

#include <time.h>

static _Thread_local wo_cu_context running; /* of the stream that the calling thread is */
static wo_cu_stream ended; /* destroyed streams whose threads have to be joined, by head.next */

/* --- the thread of a stream ------------------------------------------------------------------------------------------------------- */

static void pause_for(double seconds) {
    struct timespec t = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&t, NULL);
}

static void trace(const char *what, wo_cu_stream s, const fake_command *c) {
    if (fake.trace)
        fprintf(stderr, "fakecuda: stream %p: %s %s dst %#llx src %#llx bytes %zu\n", (void *)s, what, c->launch != NULL ? c->launch->name : "",
                (unsigned long long)c->dst, (unsigned long long)c->src, c->bytes);
}

static bool copy(wo_cu_context context, const fake_command *c) {
    const char *reason = "";
    void *dst = fake_resolve(context, c->dst, c->bytes, true, &reason);
    const void *src = c->kind == FAKE_COPY ? fake_resolve(context, c->src, c->bytes, true, &reason) : "";
    if (dst != NULL && src != NULL) {
        if (c->kind == FAKE_COPY)
            memcpy(dst, src, c->bytes);
        else
            memset(dst, c->value, c->bytes);
        return true;
    }
    pthread_mutex_lock(&fake.lock);
    fake_say("a copy or fill: %s", reason);
    pthread_mutex_unlock(&fake.lock);
    return false;
}

/* Without the lock. Returns what the context is lost with, or success. */
static wo_cu_result carry_out(wo_cu_stream s, const fake_command *c) {
    switch (c->kind) {
    case FAKE_COPY:
    case FAKE_FILL:
        trace(c->kind == FAKE_COPY ? "copy" : "fill", s, c);
        return copy(s->head.context, c) ? WO_CU_SUCCESS : WO_CU_ILLEGAL_ADDRESS;
    case FAKE_LAUNCH:
        trace("launch", s, c);
        return fake_run(s, c->launch) ? WO_CU_SUCCESS : WO_CU_ILLEGAL_ADDRESS;
    case FAKE_CALL:
        trace("library call", s, c);
        return c->call(c->ctx);
    case FAKE_HOST:
        trace("host function", s, c);
        fake_set_in_host_function(true);
        c->fn(c->ctx);
        fake_set_in_host_function(false);
        return WO_CU_SUCCESS;
    case FAKE_RECORD:
    case FAKE_WAIT:
        break;
    }
    return WO_CU_SUCCESS;
}

/* With the lock: the commands that are about points, and everything else when the context is lost. */
static bool is_done_under_lock(wo_cu_stream s, const fake_command *c) {
    wo_cu_context context = s->head.context;
    if (c->kind == FAKE_RECORD)
        c->point->reached = true;
    while (c->kind == FAKE_WAIT && !c->point->reached && context->error == WO_CU_SUCCESS)
        pthread_cond_wait(&fake.changed, &fake.lock);
    return c->kind == FAKE_RECORD || c->kind == FAKE_WAIT || context->error != WO_CU_SUCCESS;
}

/* A launch that was to fail: takes the result, so that it happens once. */
static wo_cu_result planned_failure(const fake_command *c) {
    if ((c->kind != FAKE_LAUNCH && c->kind != FAKE_CALL) || fake.kernel_left == 0 || --fake.kernel_left > 0)
        return WO_CU_SUCCESS;
    fake.fired = true;
    fake_say("%s: the launch that was to fail", c->launch != NULL ? c->launch->name : "a library's call");
    return fake.kernel_result;
}

static void run_one(wo_cu_stream s, fake_command *c) {
    double most = fake.delay;
    s->random = fake_mix(s->random + 1);
    if (most > 0) {
        pthread_mutex_unlock(&fake.lock);
        pause_for(most * (double)(s->random >> 40) / (double)(1 << 24));
        pthread_mutex_lock(&fake.lock);
    }
    if (!is_done_under_lock(s, c)) {
        wo_cu_result r = planned_failure(c);
        pthread_mutex_unlock(&fake.lock);
        if (r == WO_CU_SUCCESS)
            r = carry_out(s, c);
        pthread_mutex_lock(&fake.lock);
        if (r != WO_CU_SUCCESS)
            fake_lose(s->head.context, r);
    }
    fake_release_point(c->point);
    if (c->launch != NULL)
        free(c->launch->params);
    if (c->kind == FAKE_CALL)
        free(c->ctx);
    free(c->launch);
    free(c);
    s->now = NULL;
    s->finished++;
    pthread_cond_broadcast(&fake.changed);
}

static void *run_stream(void *arg) {
    wo_cu_stream s = arg;
    pthread_mutex_lock(&fake.lock);
    running = s->head.context;
    for (;;) {
        while (s->first == NULL && !s->closing)
            pthread_cond_wait(&fake.changed, &fake.lock);
        fake_command *c = s->first;
        if (c == NULL)
            break;
        s->first = c->next;
        s->now = c;
        run_one(s, c);
    }
    fake_remove_object(&s->head);
    s->head.next = ended == NULL ? NULL : &ended->head;
    ended = s;
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.lock);
    return NULL;
}

void fake_reap(void) {
    while (ended != NULL) {
        wo_cu_stream s = ended;
        ended = (wo_cu_stream)s->head.next;
        pthread_t thread = s->thread;
        pthread_mutex_unlock(&fake.lock);
        pthread_join(thread, NULL);
        pthread_mutex_lock(&fake.lock);
        free(s);
    }
}

/* --- queues ----------------------------------------------------------------------------------------------------------------------- */

wo_cu_result fake_push(wo_cu_stream s, const fake_command *command) {
    fake_command *c = malloc(sizeof *c);
    if (c == NULL)
        return WO_CU_OUT_OF_MEMORY;
    *c = *command;
    c->next = NULL;
    if (s->first == NULL)
        s->first = c;
    else
        s->last->next = c;
    s->last = c;
    s->pushed++;
    pthread_cond_broadcast(&fake.changed);
    return WO_CU_SUCCESS;
}

void fake_drain(wo_cu_stream s) {
    uint64_t goal = s->pushed;
    while (s->finished < goal)
        pthread_cond_wait(&fake.changed, &fake.lock);
}

static bool is_busy(wo_cu_context context) {
    for (fake_object *o = fake.objects; o != NULL; o = o->next)
        if (o->kind == FAKECUDA_STREAMS && o->context == context && ((wo_cu_stream)o)->finished < ((wo_cu_stream)o)->pushed)
            return true;
    return false;
}

bool fake_drain_context(wo_cu_context context) {
    bool waited = false;
    while (is_busy(context)) {
        waited = true;
        pthread_cond_wait(&fake.changed, &fake.lock);
    }
    return waited;
}

void fake_load_lazily(wo_cu_context context) {
    if (fake.lazy && fake_drain_context(context))
        fake.late_loads++;
}

static bool touches(const fake_command *c, uint64_t address, size_t bytes) {
    const bool copies = c->kind == FAKE_COPY, fills = c->kind == FAKE_FILL;
    return ((copies || fills) && c->dst < address + bytes && address < c->dst + c->bytes) || (copies && c->src < address + bytes && address < c->src + c->bytes);
}

bool fake_is_queued(wo_cu_context context, uint64_t address, size_t bytes) {
    for (fake_object *o = fake.objects; o != NULL; o = o->next) {
        if (o->kind != FAKECUDA_STREAMS || o->context != context)
            continue;
        const fake_command *now = ((wo_cu_stream)o)->now;
        if (now != NULL && touches(now, address, bytes))
            return true;
        for (const fake_command *c = ((wo_cu_stream)o)->first; c != NULL; c = c->next)
            if (touches(c, address, bytes))
                return true;
    }
    return false;
}

void fake_close_stream(wo_cu_stream s) {
    fake.live[FAKECUDA_STREAMS]--;
    s->closing = true;
    pthread_cond_broadcast(&fake.changed);
}

/* --- entry points of streams ------------------------------------------------------------------------------------------------------ */

static wo_cu_result create_stream(fake_entry entry, wo_cu_stream *out, unsigned flags) {
    wo_cu_context context;
    wo_cu_result r = fake_enter(entry, true, &context);
    if (r != WO_CU_SUCCESS)
        return fake_leave(r);
    if (out == NULL || flags > WO_CU_STREAM_NON_BLOCKING)
        return fake_leave(WO_CU_INVALID_VALUE);
    fake_reap();
    wo_cu_stream s = calloc(1, sizeof *s);
    if (s == NULL)
        return fake_leave(WO_CU_OUT_OF_MEMORY);
    s->random = fake_mix(fake.seed + ++fake.streams_made);
    if (pthread_create(&s->thread, NULL, run_stream, s) != 0) {
        free(s);
        return fake_leave(WO_CU_OUT_OF_MEMORY);
    }
    fake_add_object(&s->head, FAKECUDA_STREAMS, context);
    *out = s;
    return fake_leave(WO_CU_SUCCESS);
}

wo_cu_result fake_stream_create(wo_cu_stream *out, unsigned flags) {
    return create_stream(FAKE_stream_create, out, flags);
}

/* A priority changes nothing: whatever order it would give is one that may happen without it. */
wo_cu_result fake_stream_create_with_priority(wo_cu_stream *out, unsigned flags, int priority) {
    (void)priority;
    return create_stream(FAKE_stream_create_with_priority, out, flags);
}

wo_cu_result fake_stream_priorities(int *least, int *greatest) {
    wo_cu_result r = fake_enter(FAKE_stream_priorities, true, NULL);
    *least = 0;
    *greatest = -5;
    return fake_leave(r);
}

/* What is queued still runs; the call does not wait for it. */
wo_cu_result fake_stream_destroy(wo_cu_stream stream) {
    wo_cu_context context;
    wo_cu_result r = fake_enter(FAKE_stream_destroy, true, &context);
    if (r != WO_CU_SUCCESS)
        return fake_leave(r);
    wo_cu_stream s = (wo_cu_stream)fake_find_object(stream, FAKECUDA_STREAMS, context);
    if (s == NULL)
        return fake_leave(FAKE_INVALID_HANDLE);
    fake_close_stream(s);
    return fake_leave(WO_CU_SUCCESS);
}

wo_cu_result fake_enter_with_stream(fake_entry entry, wo_cu_stream stream, wo_cu_stream *out) {
    wo_cu_context context;
    wo_cu_result r = fake_enter(entry, true, &context);
    *out = r == WO_CU_SUCCESS ? (wo_cu_stream)fake_find_object(stream, FAKECUDA_STREAMS, context) : NULL;
    return r != WO_CU_SUCCESS || *out != NULL ? r : FAKE_INVALID_HANDLE;
}

wo_cu_result fake_stream_synchronize(wo_cu_stream stream) {
    wo_cu_stream s;
    wo_cu_result r = fake_enter_with_stream(FAKE_stream_synchronize, stream, &s);
    if (s == NULL)
        return fake_leave(r);
    wo_cu_context context = s->head.context;
    fake_drain(s);
    return fake_leave(context->error);
}

/* Copies with memory that is not pinned are carried out before the call returns, or not: no caller may count on either. */
static wo_cu_result push_copy(wo_cu_stream s, const fake_command *c) {
    bool mixed[2] = {false, false};
    bool pinned = fake_is_pinned(c->dst, c->bytes, &mixed[0]) && (c->kind == FAKE_FILL || fake_is_pinned(c->src, c->bytes, &mixed[1]));
    if (mixed[0] || mixed[1]) {
        fake_misuse("a copy of %zu bytes of which a part is pinned", c->bytes);
        return WO_CU_INVALID_VALUE;
    }
    if (c->kind == FAKE_FILL && !pinned) {
        fake_misuse("cuMemsetD8Async of host memory that is not pinned");
        return WO_CU_INVALID_VALUE;
    }
    wo_cu_result r = fake_push(s, c);
    if (r != WO_CU_SUCCESS || pinned)
        return r;
    fake.pageable_copies++;
    if (!fake.pageable_async) {
        fake.implicit_waits++;
        fake_drain(s);
    }
    return WO_CU_SUCCESS;
}

/* The part of a copy that is on a card must be within one allocation: the driver says so at once. */
static bool is_legal(wo_cu_stream s, uint64_t address, size_t bytes) {
    const char *reason;
    if (!fake_is_device(address))
        return address != 0;
    pthread_mutex_unlock(&fake.lock);
    bool legal = fake_resolve(s->head.context, address, bytes, false, &reason) != NULL;
    pthread_mutex_lock(&fake.lock);
    if (!legal)
        fake_misuse("a copy or fill of %zu bytes at %#llx: %s", bytes, (unsigned long long)address, reason);
    return legal;
}

wo_cu_result fake_copy_async(wo_cu_ptr dst, wo_cu_ptr src, size_t bytes, wo_cu_stream stream) {
    wo_cu_stream s;
    wo_cu_result r = fake_enter_with_stream(FAKE_copy_async, stream, &s);
    if (s == NULL || bytes == 0)
        return fake_leave(r);
    if (!is_legal(s, dst, bytes) || !is_legal(s, src, bytes))
        return fake_leave(WO_CU_INVALID_VALUE);
    if (dst < src + bytes && src < dst + bytes) {
        fake_misuse("a copy of %zu bytes onto itself", bytes);
        return fake_leave(WO_CU_INVALID_VALUE);
    }
    return fake_leave(push_copy(s, &(fake_command){.kind = FAKE_COPY, .dst = dst, .src = src, .bytes = bytes}));
}

wo_cu_result fake_fill_async(wo_cu_ptr dst, unsigned char value, size_t bytes, wo_cu_stream stream) {
    wo_cu_stream s;
    wo_cu_result r = fake_enter_with_stream(FAKE_fill_async, stream, &s);
    if (s == NULL || bytes == 0)
        return fake_leave(r);
    if (!is_legal(s, dst, bytes))
        return fake_leave(WO_CU_INVALID_VALUE);
    return fake_leave(push_copy(s, &(fake_command){.kind = FAKE_FILL, .dst = dst, .bytes = bytes, .value = value}));
}

wo_cu_result fake_launch_host_func(wo_cu_stream stream, void (*fn)(void *ctx), void *ctx) {
    wo_cu_stream s;
    wo_cu_result r = fake_enter_with_stream(FAKE_launch_host_func, stream, &s);
    if (s == NULL)
        return fake_leave(r);
    return fake_leave(fn == NULL ? WO_CU_INVALID_VALUE : fake_push(s, &(fake_command){.kind = FAKE_HOST, .fn = fn, .ctx = ctx}));
}

/* --- for other fake libraries ------------------------------------------------------------------------------------------------------ */

FAKE_EXPORT int fakecuda_call(void *stream, int (*fn)(void *ctx), const void *ctx, size_t bytes);
FAKE_EXPORT void *fakecuda_resolve(uint64_t address, size_t bytes);

/* Counts as a launch: it meets the same faults. */
int fakecuda_call(void *stream, int (*fn)(void *ctx), const void *ctx, size_t bytes) {
    wo_cu_stream s;
    wo_cu_result r = fake_enter_with_stream(FAKE_launch, stream, &s);
    if (s == NULL)
        return fake_leave(r);
    void *copy_of_ctx = malloc(bytes + 1);
    if (copy_of_ctx == NULL)
        return fake_leave(WO_CU_OUT_OF_MEMORY);
    memcpy(copy_of_ctx, ctx, bytes);
    fake_load_lazily(s->head.context);
    r = fake_push(s, &(fake_command){.kind = FAKE_CALL, .call = fn, .ctx = copy_of_ctx});
    if (r != WO_CU_SUCCESS)
        free(copy_of_ctx);
    return fake_leave(r);
}

void *fakecuda_resolve(uint64_t address, size_t bytes) {
    const char *reason;
    void *host = running != NULL ? fake_resolve(running, address, bytes, false, &reason) : NULL;
    if (host == NULL && running != NULL) {
        pthread_mutex_lock(&fake.lock);
        fake_say("a library's call, %zu bytes at %#llx: %s", bytes, (unsigned long long)address, reason);
        pthread_mutex_unlock(&fake.lock);
    }
    return host;
}
