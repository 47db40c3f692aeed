/* Host functions: what the driver calls in stream order, on a thread of its own, while the stream waits. They carry host calls, delays, waits for
 * tickets that host threads signal, and stamps of the stream of transfers.
 *
 * The driver calls those of one stream in order, so their nodes are a ring: node i of the stream is at i % WO_CUDA_NODES and is free again when `done`
 * has passed it. It may call those of different streams one after the other: a wait for a signal then holds up the host calls of the other streams as
 * well, which costs time where a trace is recorded, but nothing can hang, for whoever signals (a reader) waits for no host function.
 * Nor does a reader wait for the thread that enqueues, which the driver may hold in a launch until all streams have run dry (it loads kernels lazily).
 *
 * After a context is lost nobody can say whether the driver will still make a call that it owes. Such a call touches nothing of the caller's, and whoever
 * waits for the stream waits for the call that is being made. When the stream goes, the nodes stay, marked dead, and a call that comes late finds the
 * mark. */
#include "device/cuda/device_impl.h"

#include "base/clock.h"

#include <stdlib.h>

struct wo_cuda_nodes {
    wo_cuda_device *device;
    atomic_bool dead;
    atomic_int running;
    _Atomic uint64_t done;
    uint64_t issued;       /* guarded by the stream's lock */
    wo_cuda_nodes *next;   /* among the dead */
    wo_cuda_node node[WO_CUDA_NODES];
};

static _Thread_local bool on_stream;

static pthread_mutex_t burying = PTHREAD_MUTEX_INITIALIZER;
static wo_cuda_nodes *dead_nodes;

bool wo_cuda_on_stream(void) {
    return on_stream;
}

wo_status wo_cuda_refuse_on_stream(const char *what, wo_error *err) {
    if (on_stream)
        WO_FAIL(err, WO_EINTERNAL, "%s from inside a host_call would hang the stream", what);
    return WO_OK;
}

size_t wo_cuda_nodes_bytes(void) {
    return sizeof(wo_cuda_nodes);
}

wo_cuda_nodes *wo_cuda_nodes_create(wo_cuda_device *d) {
    wo_cuda_nodes *n = calloc(1, sizeof *n);
    if (n != NULL)
        n->device = d;
    return n;
}

void wo_cuda_nodes_rest(const wo_cuda_nodes *n) {
    while (atomic_load(&n->running) > 0)
        wo_clock_sleep(50e-6);
}

void wo_cuda_nodes_destroy(wo_cuda_nodes *n) {
    if (n == NULL)
        return;
    atomic_store(&n->dead, true);
    wo_cuda_nodes_rest(n);
    if (atomic_load(&n->done) == n->issued) {
        free(n);
        return;
    }
    pthread_mutex_lock(&burying);
    n->next = dead_nodes;
    dead_nodes = n;
    pthread_mutex_unlock(&burying);
}

/* In slices, so that a cancelled or failed device does not sleep to the end. */
static void sleep_through(wo_cuda_device *d, double seconds) {
    const double end = wo_clock_seconds() + seconds;
    for (double left = seconds; left > 0 && !wo_cuda_interrupted(d); left = end - wo_clock_seconds())
        wo_clock_sleep(left < 1e-3 ? left : 1e-3);
}

static void carry_out(wo_cuda_device *d, const wo_cuda_node *node) {
    if (atomic_load(&d->lost))
        return;
    switch (node->kind) {
    case WO_CUDA_CALL:
        if (!wo_cuda_interrupted(d))
            node->fn(node->ctx);
        return;
    case WO_CUDA_WAIT:
        wo_cuda_await_signal(node->ticket, &d->lost);
        return;
    case WO_CUDA_DELAY:
        sleep_through(d, node->seconds);
        return;
    case WO_CUDA_STAMP:
        atomic_store(node->stamp, (uint64_t)(1e9 * wo_clock_seconds()));
        return;
    }
}

/* Counted as running before it looks whether the context was lost: whoever lost it and then sees none running knows that none will touch anything.
 * Behind the count of what is done the node belongs to the host again. */
static void run_node(void *ctx) {
    const wo_cuda_node *node = ctx;
    wo_cuda_nodes *n = node->owner;
    atomic_fetch_add(&n->running, 1);
    if (!atomic_load(&n->dead)) {
        on_stream = true;
        carry_out(n->device, node);
        on_stream = false;
        atomic_fetch_add(&n->done, 1);
    }
    atomic_fetch_sub(&n->running, 1);
}

wo_status wo_cuda_push_node(wo_cuda_stream *s, const wo_cuda_node *node, const char *op, wo_error *err) {
    wo_cuda_device *d = wo_cuda_of(&s->head);
    wo_cuda_nodes *n = s->nodes;
    while (n->issued - atomic_load(&n->done) == WO_CUDA_NODES) {
        if (atomic_load(&d->lost))
            return WO_OK;
        wo_clock_sleep(50e-6);
    }
    wo_cuda_node *place = &n->node[n->issued % WO_CUDA_NODES];
    *place = *node;
    place->owner = n;
    const wo_cu_result r = d->driver->launch_host_func(s->raw, run_node, place);
    if (r != WO_CU_SUCCESS)
        return wo_cuda_fail(d, r, op, err);
    n->issued++;
    return WO_OK;
}
