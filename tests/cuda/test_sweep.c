/* The n-th call of the driver fails, for every n: while two streams pass pieces through a slot, as the streamer does, with a reader on a thread of its own.
 * Whatever fails, it is an error, nobody hangs, nothing is left, and the next device works. On the fake card. */
#include "base/memory.h"
#include "device/cuda/device_impl.h"
#include "fakecuda/fakecuda.h"
#include "tests/check.h"

#include <pthread.h>

enum { PIECES = 4, BYTES = 4096 };

typedef struct scene {
    wo_device *device;
    const wo_stream_api *api;
    wo_stream *compute, *copy;
    wo_event *filled, *ready, *freed;
    unsigned char *staging, *back; /* host, [PIECES * BYTES] */
    void *slot;                    /* card, [2 * BYTES] */
    wo_ticket piece[PIECES];       /* signalled by the reader when its bytes are in staging */
    wo_ticket taken;
    int calls;
} scene;

static char first[sizeof((wo_error *)0)->message];

static wo_status set_up(scene *x, wo_error *err) {
    void *p = NULL;
    WO_TRY(wo_cuda_open("cuda", &x->device, err));
    x->api = x->device->stream;
    WO_TRY(x->api->create(x->device, "compute", &x->compute, err));
    WO_TRY(x->api->create(x->device, "copy", &x->copy, err));
    WO_TRY(x->api->event_create(x->device, &x->filled, err));
    WO_TRY(x->api->event_create(x->device, &x->ready, err));
    WO_TRY(x->api->event_create(x->device, &x->freed, err));
    WO_TRY(x->device->memory->alloc(x->device, 2 * BYTES, "the slots", &x->slot, err));
    WO_TRY(x->device->memory->host_alloc(x->device, PIECES * BYTES, "staging", &p, err));
    x->staging = p;
    WO_TRY(x->device->memory->host_alloc(x->device, PIECES * BYTES, "results", &p, err));
    x->back = p;
    for (int i = 0; i < PIECES; i++)
        x->piece[i] = x->api->event_expect(x->filled);
    return WO_OK;
}

static void tear_down(scene *x) {
    if (x->device == NULL)
        return;
    x->api->destroy(x->compute);
    x->api->destroy(x->copy);
    x->api->event_destroy(x->filled);
    x->api->event_destroy(x->ready);
    x->api->event_destroy(x->freed);
    x->device->memory->release(x->device, x->slot);
    x->device->memory->host_release(x->device, x->staging);
    x->device->memory->host_release(x->device, x->back);
    wo_cuda_close(x->device);
}

static void count_call(void *ctx) {
    ((scene *)ctx)->calls++;
}

/* Signals whatever happens, as a reader does. */
static void *read_pieces(void *ctx) {
    scene *x = ctx;
    for (int i = 0; i < PIECES; i++) {
        memset(x->staging + i * BYTES, i + 1, BYTES);
        x->api->event_signal(x->piece[i]);
    }
    return NULL;
}

static wo_status pass_pieces(scene *x, wo_error *err) {
    const wo_conversion swap = {.from = WO_BF16, .to = WO_BF16, .layout = WO_LAYOUT_TAPS_OUTSIDE, .channels = 2, .taps = 2};
    wo_ticket free_slot[2] = {{0}, {0}}, ready;
    for (int i = 0; i < PIECES; i++) {
        char *slot = (char *)x->slot + i % 2 * BYTES;
        WO_TRY(x->api->wait(x->copy, free_slot[i % 2], err));
        WO_TRY(x->api->wait(x->copy, x->piece[i], err));
        WO_TRY(x->api->convert(x->copy, &swap, slot, x->staging + i * BYTES, BYTES / 2, err));
        WO_TRY(x->api->event_record(x->copy, x->ready, &ready, err));
        WO_TRY(x->api->wait(x->compute, ready, err));
        WO_TRY(x->api->copy(x->compute, x->back + i * BYTES, slot, BYTES, err));
        WO_TRY(x->api->host_call(x->compute, count_call, x, err));
        WO_TRY(x->api->poison(x->compute, slot, BYTES, err));
        WO_TRY(x->api->event_record(x->compute, x->freed, &free_slot[i % 2], err));
        WO_TRY(x->api->host_wait(x->device, ready, err));
    }
    return x->api->sync(x->compute, err);
}

static bool is_right(const scene *x) {
    for (int i = 0; i < PIECES * BYTES; i++)
        if (x->back[i] != i / BYTES + 1)
            return false;
    return x->calls == PIECES;
}

/* One run; *met says whether the fault was met. Returns what the run came to, with the first error in `first`. */
static wo_status run(const fakecuda_api *card, int n, int result, bool sticky, bool *met) {
    scene x = {0};
    wo_error err = {0};
    pthread_t reader;
    first[0] = 0;
    card->fail(NULL, n, result, sticky);
    wo_status status = set_up(&x, &err);
    if (status == WO_OK) {
        CHECK(pthread_create(&reader, NULL, read_pieces, &x) == 0);
        status = pass_pieces(&x, &err);
        pthread_join(reader, NULL);
        x.api->sync(x.copy, NULL);
        x.api->sync(x.compute, NULL);
        snprintf(first, sizeof first, "%s", err.message);
        CHECK(status != WO_OK || is_right(&x));
        /* What was not the context's end can be cleared away, and the same streams work again. */
        x.api->clear_error(x.device);
        if (status != WO_OK && !sticky) {
            x.calls = 0;
            CHECK_OK(pass_pieces(&x, &err), &err);
            CHECK(is_right(&x));
        }
    }
    if (status != WO_OK)
        CHECK(strlen(err.message) > 40);
    *met = card->fired();
    card->fail(NULL, 0, 0, false); /* what fails to be given back stays with the driver, and that is nobody's error */
    tear_down(&x);
    wo_cuda_forget_lost_cards();
    for (int i = 0; i < FAKECUDA_KINDS; i++)
        CHECK(card->live((fakecuda_kind)i) == 0);
    CHECK(wo_memory_current() == 0 && wo_cuda_pinned_bytes() == 0);
    return status;
}

static int sweep(const fakecuda_api *card, int result, bool sticky) {
    int failures = 0;
    bool met = true;
    for (int n = 1; met; n++) {
        const wo_status status = run(card, n, result, sticky, &met);
        CHECK(status == WO_OK || status == WO_EDEVICE || status == WO_ENOMEMORY || status == WO_EUNSUPPORTED);
        failures += status != WO_OK;
        if (status != WO_OK && strstr(first, "making an event") != NULL)
            n += 200; /* the places of tickets are made a thousand at a time, and all alike */
    }
    return failures;
}

int main(void) {
    const fakecuda_api *card = fakecuda();
    bool met;
    CHECK(run(card, 0, 0, false, &met) == WO_OK && !met);
    CHECK(card->misuses() == 0);
    if (!UNDER_ADDRESS_SANITIZER) /* it takes the ways of the next one */
        CHECK(sweep(card, WO_CU_INVALID_VALUE, false) > 150);
    CHECK(sweep(card, WO_CU_OUT_OF_MEMORY, false) > 150);
    CHECK(sweep(card, WO_CU_LAUNCH_FAILED, true) > 150);
    return 0;
}
