/* The dry device: everything succeeds at once, addresses are distinct, nothing is read or written. */
#include "device/device.h"
#include "device/dry/dry.h"
#include "tests/check.h"

static wo_error err;

static void its_memory_is_aligned_and_never_overlaps(wo_device *d) {
    const size_t sizes[] = {0, 1, 4096, 5000, (size_t)1 << 40, 3};
    uintptr_t end = 0;
    void *p = NULL;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        CHECK_OK((i % 2 == 0 ? d->memory->alloc : d->memory->host_alloc)(d, sizes[i], "dry", &p, &err), &err);
        CHECK(p != NULL && (uintptr_t)p % 4096 == 0 && (uintptr_t)p >= end);
        end = (uintptr_t)p + sizes[i];
        (i % 2 == 0 ? d->memory->release : d->memory->host_release)(d, p);
    }
    CHECK_STATUS(d->memory->alloc(d, SIZE_MAX, "too much", &p, &err), WO_ENOMEMORY);
    CHECK_CONTAINS(err.message, "too much");
    uint64_t free_bytes = 0, total_bytes = 0;
    CHECK_OK(d->memory->budget(d, &free_bytes, &total_bytes, &err), &err);
    CHECK(free_bytes > (uint64_t)1 << 50);
}

static void fail(void *ctx) {
    *(int *)ctx = 1;
}

static void streams_do_nothing_and_reach_every_ticket(wo_device *d) {
    const wo_stream_api *api = d->stream;
    wo_stream *a = NULL, *b = NULL;
    wo_event *e = NULL;
    wo_ticket t;
    int touched = 0;
    void *nowhere = NULL;
    CHECK_OK(d->memory->alloc(d, 64, "nowhere", &nowhere, &err), &err);
    CHECK_OK(api->create(d, "compute", &a, &err), &err);
    CHECK_OK(api->create(d, "copy", &b, &err), &err);
    CHECK(a->device == d && b->device == d);
    CHECK_OK(api->event_create(d, &e, &err), &err);
    CHECK_OK(api->copy(a, nowhere, nowhere, 64, &err), &err);
    CHECK_OK(api->poison(a, nowhere, 64, &err), &err);
    CHECK_OK(api->host_call(a, fail, &touched, &err), &err);
    CHECK_OK(api->delay(a, 3600, &err), &err);
    CHECK_OK(api->wait(b, api->event_expect(e), &err), &err);
    CHECK_OK(api->event_record(a, e, &t, &err), &err);
    CHECK(api->reached(t));
    CHECK_OK(api->host_wait(d, t, &err), &err);
    CHECK_OK(api->sync(a, &err), &err);
    CHECK(touched == 0);
    api->event_destroy(e);
    api->destroy(a);
    api->destroy(b);
    api->destroy(NULL);
}

static void every_operation_is_there(wo_device *d) {
    wo_stream *s = NULL;
    CHECK_OK(d->stream->create(d, "compute", &s, &err), &err);
#define CALL(op)                                                        \
    CHECK(d->ops->op != NULL);                                          \
    CHECK_OK(d->ops->op(s, &(wo_##op##_args){0}, &err), &err);
    WO_OP_LIST(CALL)
#undef CALL
    CHECK(d->ops->attention_workspace(d, &(wo_attention_args){0}) == 0);
    CHECK(d->ops->conv_workspace(d, &(wo_conv_args){0}) == 0);
    CHECK(d->ops->linear_workspace(d, &(wo_linear_args){0}) == 0);
    d->stream->destroy(s);
}

/* Shapes with no two sizes alike, so that a wrong axis shows. */
static void work_is_counted_from_shapes(wo_device *d) {
    wo_stream *s = NULL, *other = NULL;
    char at;
    CHECK_OK(d->stream->create(d, "compute", &s, &err), &err);
    CHECK_OK(d->stream->create(d, "another", &other, &err), &err);
    wo_linear_args linear = {.x = wo_tensor_of(&at, WO_BF16, 3, 5), .w = wo_tensor_of(&at, WO_BF16, 7, 5), .y = wo_tensor_of(&at, WO_F32, 3, 7)};
    CHECK_OK(d->ops->linear(s, &linear, &err), &err);
    linear.x.dtype = linear.w.dtype = WO_F16;
    CHECK_OK(d->ops->linear(other, &linear, &err), &err);
    linear.x.dtype = WO_F32; /* the other is widened, and so no product of 16 bits */
    CHECK_OK(d->ops->linear(s, &linear, &err), &err);
    CHECK_OK(d->ops->linear(s, &linear, &err), &err);
    wo_attention_args attention = {.q = wo_tensor_of(&at, WO_F32, 11, 2, 4), .k = wo_tensor_of(&at, WO_F32, 13, 2, 4)};
    CHECK_OK(d->ops->attention(s, &attention, &err), &err);
    wo_conv_args conv = {.frames = {NULL, &at, &at, &at}, .x_dtype = WO_F32, .height = 6, .width = 9, .channels = 5, .out_frames = 2, .kt = 3,
                         .kh = 3, .kw = 1, .w = wo_tensor_of(&at, WO_F32, 8, 3, 3, 1, 5), .y = wo_tensor_of(&at, WO_F32, 2, 12, 18, 8)};
    CHECK_OK(d->ops->conv(s, &conv, &err), &err);
    wo_add_args add = {.a = wo_tensor_of(&at, WO_F32, 4, 10), .b = wo_tensor_of(&at, WO_F32, 1, 10), .y = wo_tensor_of(&at, WO_F32, 4, 10)};
    CHECK_OK(d->ops->add(s, &add, &err), &err);
    wo_work w = wo_dry_take_work(s);
    CHECK(w.products[WO_WORK_HALF] == 2 * 3 * 5 * 7 && w.products[WO_WORK_F32] == 2 * w.products[WO_WORK_HALF]);
    CHECK(w.attention[WO_WORK_F32] == 4 * 11 * 13 * 8 && w.attention[WO_WORK_HALF] == 0);
    CHECK(w.convolutions[WO_WORK_F32] == 5.0 * 2 * 12 * 18 * 8 * 5 * 3); /* five of six taps in time: one frame is zeros */
    CHECK(w.other_bytes == (40 + 10 + 40) * 4 && w.operations == 6);
    wo_work in_float16 = wo_dry_take_work(other);
    CHECK(wo_dry_take_work(s).other_bytes == 0 && in_float16.products[WO_WORK_F32] == 0 && in_float16.products[WO_WORK_HALF] == 2 * 3 * 5 * 7);
    d->stream->destroy(s);
    d->stream->destroy(other);
}

int main(void) {
    wo_device *d = NULL;
    CHECK_OK(wo_device_open("dry", &d, &err), &err);
    CHECK(strcmp(d->name, "dry") == 0 && d->fixed_bytes == 0);
    its_memory_is_aligned_and_never_overlaps(d);
    streams_do_nothing_and_reach_every_ticket(d);
    every_operation_is_there(d);
    work_is_counted_from_shapes(d);
    wo_device_close(d);
    return 0;
}
