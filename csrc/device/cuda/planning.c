/* A device whose card is not there. Engines and plans can be made on it: workspaces and the budget are the card's. Streams and tickets do nothing and are
 * always in order; what would have to run or to hold memory fails and says why. */
#include "device/cuda/device_impl.h"

#include <stdlib.h>

struct wo_event {
    char unused;
};

static wo_event the_event;

static wo_status not_here(const wo_device *d, const char *what, wo_error *err) {
    const wo_cuda_device *device = (const wo_cuda_device *)d;
    WO_FAIL(err, WO_EDEVICE, "%s: the device '%s' (%s) can be planned for only, nothing runs on it. A card that is here is opened by its number: "
            "device=\"cuda\" or \"cuda:1\"", what, device->text, device->properties.name);
}

static wo_status alloc(wo_device *d, size_t bytes, const char *what, void **out, wo_error *err) {
    (void)bytes;
    *out = NULL;
    return not_here(d, what, err);
}

static void release(wo_device *d, void *p) {
    (void)d, (void)p;
}

static wo_status budget(wo_device *d, uint64_t *free_bytes, uint64_t *total_bytes, wo_error *err) {
    (void)err;
    *free_bytes = *total_bytes = ((const wo_cuda_device *)d)->properties.memory_bytes;
    return WO_OK;
}

static wo_status create(wo_device *d, const char *name, wo_stream **out, wo_error *err) {
    (void)name;
    *out = calloc(1, sizeof **out);
    if (*out == NULL)
        WO_FAIL(err, WO_ENOMEMORY, "no memory for a stream");
    (*out)->device = d;
    wo_cuda_retain((wo_cuda_device *)d);
    return WO_OK;
}

static void destroy(wo_stream *s) {
    if (s == NULL)
        return;
    wo_cuda_close(s->device);
    free(s);
}

static wo_status copy(wo_stream *s, void *dst, const void *src, size_t bytes, wo_error *err) {
    (void)dst, (void)src, (void)bytes;
    return not_here(s->device, "a copy", err);
}

static wo_status convert(wo_stream *s, const wo_conversion *c, void *dst, const void *src, int64_t count, wo_error *err) {
    (void)c, (void)dst, (void)src, (void)count;
    return not_here(s->device, "a conversion", err);
}

static wo_status fill(wo_stream *s, void *dst, size_t bytes, wo_error *err) {
    (void)dst, (void)bytes;
    return not_here(s->device, "filling memory", err);
}

static wo_status host_call(wo_stream *s, void (*fn)(void *ctx), void *ctx, wo_error *err) {
    (void)fn, (void)ctx;
    return not_here(s->device, "a host call", err);
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
    (void)t;
    return wo_cuda_sticky((wo_cuda_device *)d, err);
}

static wo_status sync(wo_stream *s, wo_error *err) {
    return wo_cuda_sticky(wo_cuda_of(s), err);
}

static void set_cancel(wo_device *d, wo_cancel *cancel) {
    atomic_store_explicit(&((wo_cuda_device *)d)->cancel, cancel, memory_order_release);
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

#define REFUSE(op)                                                                      \
    static wo_status op(wo_stream *s, const wo_##op##_args *args, wo_error *err) {      \
        (void)args;                                                                     \
        return not_here(s->device, #op, err);                                           \
    }
WO_OP_LIST(REFUSE)
#undef REFUSE

const wo_memory_api wo_cuda_planning_memory_api = {
    .version = WO_DEVICE_ABI,
    .size = sizeof(wo_memory_api),
    .host_addressable = false,
    .alloc = alloc,
    .release = release,
    .host_alloc = alloc,
    .host_release = release,
    .budget = budget,
};

const wo_stream_api wo_cuda_planning_stream_api = {
    .version = WO_DEVICE_ABI,
    .size = sizeof(wo_stream_api),
    .create = create,
    .destroy = destroy,
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
    .post_error = wo_cuda_post_error,
    .clear_error = wo_cuda_clear_error,
    .times = times,
    .reset_times = reset_times,
    .chaos = chaos,
    .delay = delay,
};

const wo_ops_api wo_cuda_planning_ops_api = {
    .version = WO_DEVICE_ABI,
    .size = sizeof(wo_ops_api),
    .computes = WO_CUDA_COMPUTES,
    .rows_apart = WO_CUDA_ROWS_APART,
#define ENTRY(op) .op = op,
    WO_OP_LIST(ENTRY)
#undef ENTRY
    .attention_workspace = wo_cuda_attention_workspace,
    .conv_workspace = wo_cuda_conv_workspace,
    .linear_workspace = wo_cuda_linear_workspace,
};
