/* The sticky error, cancelling, and recovery from both; the way of an operation from the table to its kernel. */
#include "base/clock.h"
#include "base/memory.h"
#include "device/cpu/internal.h"
#include "tests/check.h"

#include <pthread.h>
#include <sched.h>

static wo_device *device;
static const wo_stream_api *api;
static wo_stream *s;
static wo_event *event;
static wo_error err;

/* Kernels that only note who was called with what. add runs tiles on the pool; unary fails. */
static int calls[64];
static union {
#define COPY_OF(op) wo_##op##_args op;
    WO_OP_LIST(COPY_OF)
#undef COPY_OF
} seen;
static wo_pool *seen_pool;
static wo_cancel *seen_cancel;

#define NOTE(op)                                                                                        \
    static wo_status note_##op(wo_pool *pool, wo_cancel *cancel, const wo_##op##_args *args) {          \
        calls[WO_CPU_OP_##op]++;                                                                        \
        seen_pool = pool;                                                                               \
        seen_cancel = cancel;                                                                           \
        memcpy(&seen, args, sizeof *args);                                                              \
        return WO_OK;                                                                                   \
    }
WO_OP_LIST(NOTE)
#undef NOTE

static size_t attention_workspace(const wo_attention_args *args) {
    return (size_t)args->max_distance + 1;
}
static size_t conv_workspace(const wo_conv_args *args) {
    return (size_t)args->height + 2;
}
static size_t linear_workspace(const wo_linear_args *args) {
    return (size_t)args->rows_per_gate + 3;
}

static wo_cpu_kernels noting = {
#define ENTRY(op) .op = note_##op,
    WO_OP_LIST(ENTRY)
#undef ENTRY
    .attention_workspace = attention_workspace,
    .conv_workspace = conv_workspace,
    .linear_workspace = linear_workspace,
};

static void every_operation_reaches_its_own_kernel_with_a_copy_of_its_arguments(void) {
    wo_cancel cancel;
    wo_cancel_reset(&cancel);
    wo_cpu_set_test_table(&noting);
    api->set_cancel(device, &cancel);
#define TRY_OP(op)                                                          \
    do {                                                                    \
        wo_##op##_args args, wanted;                                        \
        memset(&args, WO_CPU_OP_##op, sizeof args);                         \
        wanted = args;                                                      \
        CHECK_OK(device->ops->op(s, &args, &err), &err);                    \
        memset(&args, 0, sizeof args);                                      \
        CHECK_OK(api->sync(s, &err), &err);                                 \
        CHECK(calls[WO_CPU_OP_##op] == 1);                                  \
        CHECK(memcmp(&seen, &wanted, sizeof wanted) == 0);                  \
        CHECK(seen_pool != NULL && seen_cancel == &cancel);                 \
    } while (0);
    WO_OP_LIST(TRY_OP)
#undef TRY_OP
    CHECK(device->ops->attention_workspace(device, &(wo_attention_args){.max_distance = 10}) == 11);
    CHECK(device->ops->conv_workspace(device, &(wo_conv_args){.height = 20}) == 22);
    CHECK(device->ops->linear_workspace(device, &(wo_linear_args){.rows_per_gate = 30}) == 33);
    api->set_cancel(device, NULL);
    wo_cpu_set_test_table(NULL);
}

static void an_operation_without_a_kernel_is_refused_by_name(void) {
    wo_cpu_kernels lacking = noting;
    lacking.l2_norm = NULL;
    wo_cpu_set_test_table(&lacking);
    CHECK_STATUS(device->ops->l2_norm(s, &(wo_l2_norm_args){0}, &err), WO_EUNSUPPORTED);
    CHECK_CONTAINS(err.message, "l2_norm");
    CHECK_OK(api->sync(s, &err), &err);
    wo_cpu_set_test_table(NULL);
}

static void set_flag(void *ctx) {
    *(int *)ctx = 1;
}

static void post(wo_status code, const char *text) {
    wo_error e;
    wo_error_set(&e, code, "%s", text);
    api->post_error(device, &e);
}

static void the_first_error_sticks_work_is_skipped_and_tickets_are_still_reached(void) {
    int early = 0, late = 0, byte = 7, zero = 0;
    wo_ticket t;
    CHECK_OK(api->host_call(s, set_flag, &early, &err), &err);
    CHECK_OK(api->sync(s, &err), &err);
    post(WO_ECHECKPOINT, "the reader failed");
    post(WO_EOS, "a later failure");
    CHECK_OK(api->host_call(s, set_flag, &late, &err), &err);
    CHECK_OK(api->copy(s, &byte, &zero, sizeof byte, &err), &err);
    CHECK_OK(api->poison(s, &byte, sizeof byte, &err), &err);
    CHECK_OK(api->event_record(s, event, &t, &err), &err);
    CHECK_STATUS(api->host_wait(device, t, &err), WO_ECHECKPOINT);
    CHECK(api->reached(t));
    CHECK(strcmp(err.message, "the reader failed") == 0);
    CHECK_STATUS(api->sync(s, NULL), WO_ECHECKPOINT);
    CHECK(early == 1 && late == 0 && byte == 7);
}

static void after_clear_error_the_device_works_again(void) {
    int late = 0;
    api->clear_error(device);
    CHECK_OK(api->host_call(s, set_flag, &late, &err), &err);
    CHECK_OK(api->sync(s, &err), &err);
    CHECK(late == 1);
}

static void waits_are_kept_after_an_error_so_that_order_between_streams_holds(void) {
    wo_stream *other = NULL;
    wo_ticket after;
    const wo_ticket go = api->event_expect(event);
    wo_event *e = NULL;
    CHECK_OK(api->create(device, "other", &other, &err), &err);
    CHECK_OK(api->event_create(device, &e, &err), &err);
    post(WO_EDEVICE, "broken");
    CHECK_OK(api->wait(other, go, &err), &err);
    CHECK_OK(api->event_record(other, e, &after, &err), &err);
    wo_clock_sleep(0.005);
    CHECK(!api->reached(after));
    api->event_signal(go);
    CHECK_STATUS(api->host_wait(device, after, &err), WO_EDEVICE);
    api->clear_error(device);
    api->destroy(other);
    api->event_destroy(e);
}

static wo_status fail_unary(wo_pool *pool, wo_cancel *cancel, const wo_unary_args *args) {
    (void)pool, (void)cancel, (void)args;
    return WO_EUNSUPPORTED;
}

static void a_failing_kernel_becomes_the_sticky_error(void) {
    wo_cpu_kernels failing = noting;
    failing.unary = fail_unary;
    const int before = calls[WO_CPU_OP_add];
    wo_cpu_set_test_table(&failing);
    CHECK_OK(device->ops->unary(s, &(wo_unary_args){0}, &err), &err);
    CHECK_OK(device->ops->add(s, &(wo_add_args){0}, &err), &err);
    CHECK_STATUS(api->sync(s, &err), WO_EUNSUPPORTED);
    CHECK_CONTAINS(err.message, "kernel");
    CHECK(calls[WO_CPU_OP_add] == before);
    api->clear_error(device);
    wo_cpu_set_test_table(NULL);
}

static atomic_int tiles_run;

static void cancel_at_third(void *ctx, int64_t tile, int worker, void *scratch) {
    (void)tile, (void)worker, (void)scratch;
    if (atomic_fetch_add(&tiles_run, 1) == 2)
        wo_cancel_request(ctx);
}

static wo_status cancelled_add(wo_pool *pool, wo_cancel *cancel, const wo_add_args *args) {
    (void)args;
    return wo_pool_run(pool, 1000, cancel_at_third, cancel, cancel);
}

static void cancelling_inside_a_kernel_stops_it_and_skips_the_rest(void) {
    wo_cancel cancel;
    wo_cpu_kernels cancelling = noting;
    int late = 0;
    cancelling.add = cancelled_add;
    wo_cancel_reset(&cancel);
    api->set_cancel(device, &cancel);
    wo_cpu_set_test_table(&cancelling);
    CHECK_OK(device->ops->add(s, &(wo_add_args){0}, &err), &err);
    CHECK_OK(api->host_call(s, set_flag, &late, &err), &err);
    CHECK_STATUS(api->sync(s, &err), WO_ECANCELLED);
    CHECK_CONTAINS(err.message, "cancelled");
    CHECK(late == 0);
    CHECK(atomic_load(&tiles_run) <= 3 + wo_cpu_threads());
    CHECK(atomic_load(&cancel.tiles_after) <= wo_cpu_threads());

    wo_cancel_reset(&cancel);
    api->clear_error(device);
    CHECK_OK(api->host_call(s, set_flag, &late, &err), &err);
    CHECK_OK(api->sync(s, &err), &err);
    CHECK(late == 1);
    api->set_cancel(device, NULL);
    wo_cpu_set_test_table(NULL);
}

static void a_cancelled_device_sleeps_no_longer_and_copies_no_more(void) {
    wo_cancel cancel;
    wo_ticket begun;
    int64_t a = 1, b = 2;
    wo_cancel_reset(&cancel);
    api->set_cancel(device, &cancel);
    CHECK_OK(api->event_record(s, event, &begun, &err), &err);
    CHECK_OK(api->delay(s, 3600, &err), &err);
    CHECK_OK(api->host_wait(device, begun, &err), &err);
    wo_clock_sleep(0.01); /* so that the request meets the sleeper */
    wo_cancel_request(&cancel);
    CHECK_OK(api->copy(s, &b, &a, sizeof a, &err), &err);
    CHECK_STATUS(api->sync(s, &err), WO_ECANCELLED);
    CHECK(b == 2);
    wo_cancel_reset(&cancel);
    api->clear_error(device);
    api->set_cancel(device, NULL);
}

/* Starts a long copy, requests cancelling when its first byte has arrived, and says whether the end was left out. */
static bool copy_is_cut(unsigned char *dst, const unsigned char *src, size_t bytes) {
    wo_cancel cancel;
    wo_cancel_reset(&cancel);
    memset(dst, 0, bytes);
    api->set_cancel(device, &cancel);
    wo_ticket begun;
    CHECK_OK(api->event_record(s, event, &begun, &err), &err);
    CHECK_OK(api->copy(s, dst, src, bytes, &err), &err);
    CHECK_OK(api->host_wait(device, begun, &err), &err);
    wo_cancel_request(&cancel);
    const wo_status status = api->sync(s, &err);
    CHECK(status == WO_OK || status == WO_ECANCELLED);
    api->set_cancel(device, NULL);
    api->clear_error(device);
    return dst[bytes - 1] == 0;
}

static void a_long_copy_is_cut_in_the_middle_when_cancelled(void) {
    const size_t bytes = (size_t)48 << 20;
    unsigned char *src = malloc(bytes), *dst = malloc(bytes);
    memset(src, 1, bytes);
    bool cut = false, begun = false;
    for (int trial = 0; trial < 200 && !(cut && begun); trial++) {
        cut = copy_is_cut(dst, src, bytes);
        begun = dst[0] == 1;
    }
    CHECK(cut && begun);
    free(dst);
    free(src);
}

int main(void) {
    CHECK_OK(wo_device_open("cpu", &device, &err), &err);
    api = device->stream;
    CHECK_OK(api->create(device, "errors", &s, &err), &err);
    CHECK_OK(api->event_create(device, &event, &err), &err);
    every_operation_reaches_its_own_kernel_with_a_copy_of_its_arguments();
    an_operation_without_a_kernel_is_refused_by_name();
    the_first_error_sticks_work_is_skipped_and_tickets_are_still_reached();
    after_clear_error_the_device_works_again();
    waits_are_kept_after_an_error_so_that_order_between_streams_holds();
    a_failing_kernel_becomes_the_sticky_error();
    cancelling_inside_a_kernel_stops_it_and_skips_the_rest();
    a_cancelled_device_sleeps_no_longer_and_copies_no_more();
    a_long_copy_is_cut_in_the_middle_when_cancelled();
    api->event_destroy(event);
    api->destroy(s);
    wo_device_close(device);
    CHECK(wo_memory_current() == 0);
    return 0;
}
