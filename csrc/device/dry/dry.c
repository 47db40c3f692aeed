/* Every call succeeds at once and every ticket is reached. Who records (the dry exec) does so above this device; workspaces are
 * asked of the device that will run. */
#include "device/dry/dry.h"

#include "base/memory.h"
#include "device/dry/work.h"

#include <stdatomic.h>

struct wo_event {
    char unused;
};

static wo_event the_event;
/* Addresses start where no process of ours has memory, and never repeat. */
static atomic_uintptr_t next_address = (uintptr_t)1 << 50;

enum { PAGE = 4096 };

static wo_status alloc(wo_device *d, size_t bytes, const char *what, void **out, wo_error *err) {
    (void)d;
    if (bytes > (uintptr_t)1 << 48)
        WO_FAIL(err, WO_ENOMEMORY, "%s: %zu bytes are more than an address space holds", what, bytes);
    const uintptr_t span = (bytes / PAGE + 2) * PAGE; /* an unused page between any two, as on the cpu device */
    *out = (void *)atomic_fetch_add(&next_address, span);
    return WO_OK;
}

static void release(wo_device *d, void *p) {
    (void)d, (void)p;
}

static wo_status budget(wo_device *d, uint64_t *free_bytes, uint64_t *total_bytes, wo_error *err) {
    (void)d, (void)err;
    *free_bytes = *total_bytes = INT64_MAX;
    return WO_OK;
}

static wo_status stream_create(wo_device *d, const char *name, wo_stream **out, wo_error *err) {
    (void)name;
    void *memory;
    WO_TRY(wo_memory_acquire(sizeof(wo_dry_stream), "a dry stream", &memory, err));
    wo_dry_stream *stream = memory;
    *stream = (wo_dry_stream){.head = {.device = d}};
    *out = &stream->head;
    return WO_OK;
}

static void stream_destroy(wo_stream *s) {
    wo_memory_release(s);
}

static wo_status copy(wo_stream *s, void *dst, const void *src, size_t bytes, wo_error *err) {
    (void)s, (void)dst, (void)src, (void)bytes, (void)err;
    return WO_OK;
}

static wo_status convert(wo_stream *s, const wo_conversion *c, void *dst, const void *src, int64_t count, wo_error *err) {
    (void)s, (void)c, (void)dst, (void)src, (void)count, (void)err;
    return WO_OK;
}

static wo_status fill(wo_stream *s, void *dst, size_t bytes, wo_error *err) {
    (void)s, (void)dst, (void)bytes, (void)err;
    return WO_OK;
}

static wo_status host_call(wo_stream *s, void (*fn)(void *ctx), void *ctx, wo_error *err) {
    (void)s, (void)fn, (void)ctx, (void)err;
    return WO_OK;
}

static wo_status event_create(wo_device *d, wo_event **out, wo_error *err) {
    (void)d, (void)err;
    *out = &the_event;
    return WO_OK;
}

static void event_destroy(wo_event *e) {
    (void)e;
}

static wo_status event_record(wo_stream *s, wo_event *e, wo_ticket *out, wo_error *err) {
    (void)s, (void)e, (void)err;
    *out = (wo_ticket){0};
    return WO_OK;
}

static wo_ticket event_expect(wo_event *e) {
    (void)e;
    return (wo_ticket){0};
}

static void event_signal(wo_ticket t) {
    (void)t;
}

static wo_status wait(wo_stream *s, wo_ticket t, wo_error *err) {
    (void)s, (void)t, (void)err;
    return WO_OK;
}

static bool reached(wo_ticket t) {
    (void)t;
    return true;
}

static wo_status host_wait(wo_device *d, wo_ticket t, wo_error *err) {
    (void)d, (void)t, (void)err;
    return WO_OK;
}

static wo_status sync(wo_stream *s, wo_error *err) {
    (void)s, (void)err;
    return WO_OK;
}

static void set_cancel(wo_device *d, wo_cancel *cancel) {
    (void)d, (void)cancel;
}

static void post_error(wo_device *d, const wo_error *err) {
    (void)d, (void)err;
}

static void clear_error(wo_device *d) {
    (void)d;
}

static void times(wo_stream *s, double *busy, double *stalled) {
    (void)s;
    *busy = *stalled = 0;
}

static void reset_times(wo_stream *s) {
    (void)s;
}

static void chaos(wo_device *d, uint64_t seed, double max_delay_seconds) {
    (void)d, (void)seed, (void)max_delay_seconds;
}

static wo_status delay(wo_stream *s, double seconds, wo_error *err) {
    (void)s, (void)seconds, (void)err;
    return WO_OK;
}

static const wo_memory_api memory_api = {
    .version = WO_DEVICE_ABI,
    .size = sizeof(wo_memory_api),
    .host_addressable = false,
    .alloc = alloc,
    .release = release,
    .host_alloc = alloc,
    .host_release = release,
    .budget = budget,
};

static const wo_stream_api stream_api = {
    .version = WO_DEVICE_ABI,
    .size = sizeof(wo_stream_api),
    .create = stream_create,
    .destroy = stream_destroy,
    .copy = copy,
    .convert = convert,
    .poison = fill,
    .zero = fill,
    .host_call = host_call,
    .event_create = event_create,
    .event_destroy = event_destroy,
    .event_record = event_record,
    .event_expect = event_expect,
    .event_signal = event_signal,
    .wait = wait,
    .reached = reached,
    .host_wait = host_wait,
    .sync = sync,
    .set_cancel = set_cancel,
    .post_error = post_error,
    .clear_error = clear_error,
    .times = times,
    .reset_times = reset_times,
    .chaos = chaos,
    .delay = delay,
};

static wo_device the_device = {.name = "dry", .memory = &memory_api, .stream = &stream_api, .ops = &wo_dry_ops};

wo_status wo_dry_open(wo_device **out, wo_error *err) {
    (void)err;
    *out = &the_device;
    return WO_OK;
}

void wo_dry_close(wo_device *d) {
    (void)d;
}
