/* A device whose memory the host cannot touch: the cpu device behind addresses that are no addresses. Whoever reads or writes its
 * memory without a stream ends the process with a fault, as on an accelerator. It has the operations that the toy model uses. */
#ifndef WO_TESTS_FAR_DEVICE_H
#define WO_TESTS_FAR_DEVICE_H

#include "device/device.h"
#include "tests/check.h"

#define FAR ((uintptr_t)1 << 56)

typedef struct far_stream {
    wo_stream head;
    wo_stream *near;
} far_stream;

static wo_device *far_near; /* the cpu device behind it */

static inline void *far_to_near(const void *p) {
    return (void *)((uintptr_t)p >= FAR ? (uintptr_t)p - FAR : (uintptr_t)p);
}

static inline wo_stream *far_inner(wo_stream *s) {
    return ((far_stream *)s)->near;
}

static inline wo_status far_alloc(wo_device *d, size_t bytes, const char *what, void **out, wo_error *err) {
    (void)d;
    WO_TRY(far_near->memory->alloc(far_near, bytes, what, out, err));
    *out = (void *)((uintptr_t)*out + FAR);
    return WO_OK;
}

static inline void far_release(wo_device *d, void *p) {
    (void)d;
    far_near->memory->release(far_near, far_to_near(p));
}

static inline wo_status far_host_alloc(wo_device *d, size_t bytes, const char *what, void **out, wo_error *err) {
    (void)d;
    return far_near->memory->host_alloc(far_near, bytes, what, out, err);
}

static inline void far_host_release(wo_device *d, void *p) {
    (void)d;
    far_near->memory->host_release(far_near, p);
}

static inline wo_status far_create(wo_device *d, const char *name, wo_stream **out, wo_error *err) {
    far_stream *s = calloc(1, sizeof *s);
    CHECK(s != NULL);
    s->head.device = d;
    *out = &s->head;
    return far_near->stream->create(far_near, name, &s->near, err);
}

static inline void far_destroy(wo_stream *s) {
    if (s != NULL)
        far_near->stream->destroy(far_inner(s));
    free(s);
}

static inline wo_status far_copy(wo_stream *s, void *dst, const void *src, size_t bytes, wo_error *err) {
    return far_near->stream->copy(far_inner(s), far_to_near(dst), far_to_near(src), bytes, err);
}

static inline wo_status far_convert(wo_stream *s, const wo_conversion *c, void *dst, const void *src, int64_t count, wo_error *err) {
    return far_near->stream->convert(far_inner(s), c, far_to_near(dst), far_to_near(src), count, err);
}

static inline wo_status far_poison(wo_stream *s, void *dst, size_t bytes, wo_error *err) {
    return far_near->stream->poison(far_inner(s), far_to_near(dst), bytes, err);
}

static inline wo_status far_zero(wo_stream *s, void *dst, size_t bytes, wo_error *err) {
    return far_near->stream->zero(far_inner(s), far_to_near(dst), bytes, err);
}

static inline wo_status far_host_call(wo_stream *s, void (*fn)(void *ctx), void *ctx, wo_error *err) {
    return far_near->stream->host_call(far_inner(s), fn, ctx, err);
}

static inline wo_status far_event_create(wo_device *d, wo_event **out, wo_error *err) {
    (void)d;
    return far_near->stream->event_create(far_near, out, err);
}

static inline wo_status far_event_record(wo_stream *s, wo_event *e, wo_ticket *out, wo_error *err) {
    return far_near->stream->event_record(far_inner(s), e, out, err);
}

static inline wo_status far_wait(wo_stream *s, wo_ticket t, wo_error *err) {
    return far_near->stream->wait(far_inner(s), t, err);
}

static inline wo_status far_host_wait(wo_device *d, wo_ticket t, wo_error *err) {
    (void)d;
    return far_near->stream->host_wait(far_near, t, err);
}

static inline wo_status far_sync(wo_stream *s, wo_error *err) {
    return far_near->stream->sync(far_inner(s), err);
}

static inline void far_set_cancel(wo_device *d, wo_cancel *cancel) {
    (void)d;
    far_near->stream->set_cancel(far_near, cancel);
}

static inline void far_post_error(wo_device *d, const wo_error *err) {
    (void)d;
    far_near->stream->post_error(far_near, err);
}

static inline void far_clear_error(wo_device *d) {
    (void)d;
    far_near->stream->clear_error(far_near);
}

static inline void far_times(wo_stream *s, double *busy, double *stalled) {
    far_near->stream->times(far_inner(s), busy, stalled);
}

static inline void far_reset_times(wo_stream *s) {
    far_near->stream->reset_times(far_inner(s));
}

static inline void far_chaos(wo_device *d, uint64_t seed, double seconds) {
    (void)d;
    far_near->stream->chaos(far_near, seed, seconds);
}

static inline wo_status far_delay(wo_stream *s, double seconds, wo_error *err) {
    return far_near->stream->delay(far_inner(s), seconds, err);
}

static inline wo_status far_linear(wo_stream *s, const wo_linear_args *args, wo_error *err) {
    wo_linear_args a = *args;
    wo_tensor *all[] = {&a.x, &a.w, &a.bias, &a.y, &a.other, &a.gate, &a.workspace};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        all[i]->data = far_to_near(all[i]->data);
    return far_near->ops->linear(far_inner(s), &a, err);
}

static inline wo_status far_rms_norm(wo_stream *s, const wo_rms_norm_args *args, wo_error *err) {
    wo_rms_norm_args a = *args;
    wo_tensor *all[] = {&a.x, &a.weight, &a.y, &a.cos, &a.sin};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        all[i]->data = far_to_near(all[i]->data);
    return far_near->ops->rms_norm(far_inner(s), &a, err);
}

static inline wo_status far_add(wo_stream *s, const wo_add_args *args, wo_error *err) {
    wo_add_args a = *args;
    a.a.data = far_to_near(a.a.data);
    a.b.data = far_to_near(a.b.data);
    a.y.data = far_to_near(a.y.data);
    return far_near->ops->add(far_inner(s), &a, err);
}

/* near: an open cpu device, which is the caller's. */
static inline wo_device *far_open(wo_device *near) {
    static wo_memory_api memory;
    static wo_stream_api stream;
    static wo_ops_api ops;
    static wo_device device;
    far_near = near;
    memory = *near->memory;
    memory.host_addressable = false;
    memory.alloc = far_alloc, memory.release = far_release;
    memory.host_alloc = far_host_alloc, memory.host_release = far_host_release;
    stream = (wo_stream_api){.version = WO_DEVICE_ABI, .size = sizeof stream, .create = far_create, .destroy = far_destroy, .copy = far_copy,
                             .convert = far_convert, .poison = far_poison, .zero = far_zero, .host_call = far_host_call,
                             .event_create = far_event_create, .event_destroy = near->stream->event_destroy, .event_record = far_event_record,
                             .event_expect = near->stream->event_expect, .event_signal = near->stream->event_signal, .wait = far_wait,
                             .reached = near->stream->reached, .host_wait = far_host_wait, .sync = far_sync, .set_cancel = far_set_cancel,
                             .post_error = far_post_error, .clear_error = far_clear_error, .times = far_times, .reset_times = far_reset_times,
                             .chaos = far_chaos, .delay = far_delay};
    ops = (wo_ops_api){.version = WO_DEVICE_ABI, .size = sizeof ops, .computes = far_near->ops->computes,
                       .rows_apart = far_near->ops->rows_apart, .linear = far_linear, .rms_norm = far_rms_norm, .add = far_add};
    device = (wo_device){.name = "far", .memory = &memory, .stream = &stream, .ops = &ops, .fixed_bytes = near->fixed_bytes};
    return &device;
}

#endif
