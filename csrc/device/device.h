/* The device contract: three small tables of function pointers, each beginning with a version and its own size.
 *
 * Order of work: what is enqueued on one stream runs in that order; between streams and host threads only tickets order.
 * A ticket is a point in time: event_record issues one that a stream reaches, event_expect one that a host thread will
 * signal. Tickets of one event are reached in increasing order. The first error of any stream sticks to the device until
 * clear_error; later work of that device is skipped (its tickets are still reached, so nobody hangs).
 */
#ifndef WO_DEVICE_DEVICE_H
#define WO_DEVICE_DEVICE_H

#include "base/cancel.h"
#include "base/convert.h"
#include "base/status.h"
#include "base/tensor.h"
#include "device/op_args.h"

typedef struct wo_device wo_device;
typedef struct wo_stream wo_stream;
typedef struct wo_event wo_event;

typedef struct wo_ticket {
    wo_event *event; /* NULL: a ticket that is always reached */
    uint64_t value;
} wo_ticket;

enum { WO_DEVICE_ABI = 2 };

typedef struct wo_memory_api {
    uint32_t version, size;
    bool host_addressable; /* device memory may be read and written by host threads (readers write straight into slots) */
    /* 4096-aligned device memory; on cpu with a guard page behind it. */
    wo_status (*alloc)(wo_device *d, size_t bytes, const char *what, void **out, wo_error *err);
    void (*release)(wo_device *d, void *p);
    /* Host memory for slabs and staging, pinned where the device gains by it. */
    wo_status (*host_alloc)(wo_device *d, size_t bytes, const char *what, void **out, wo_error *err);
    void (*host_release)(wo_device *d, void *p);
    /* Bytes free and in all (cpu: respects the cgroup limit). */
    wo_status (*budget)(wo_device *d, uint64_t *free_bytes, uint64_t *total_bytes, wo_error *err);
} wo_memory_api;

typedef struct wo_stream_api {
    uint32_t version, size;
    /* The stream of transfers is named "copy": a device may let it go before others. */
    wo_status (*create)(wo_device *d, const char *name, wo_stream **out, wo_error *err);
    void (*destroy)(wo_stream *s); /* runs what is queued first; NULL is fine */
    /* Asynchronous; src and dst must stay valid until the stream has passed. Host or device pointers. */
    wo_status (*copy)(wo_stream *s, void *dst, const void *src, size_t bytes, wo_error *err);
    /* count elements from the dtype and layout at rest to those of use. src: host or device memory, unaligned. */
    wo_status (*convert)(wo_stream *s, const wo_conversion *c, void *dst, const void *src, int64_t count, wo_error *err);
    /* All bytes 0xff: NaN in each float dtype. Used by chaos mode and tests. */
    wo_status (*poison)(wo_stream *s, void *dst, size_t bytes, wo_error *err);
    wo_status (*zero)(wo_stream *s, void *dst, size_t bytes, wo_error *err);
    /* Runs fn in stream order on a thread of the device; fn may not enqueue. */
    wo_status (*host_call)(wo_stream *s, void (*fn)(void *ctx), void *ctx, wo_error *err);

    wo_status (*event_create)(wo_device *d, wo_event **out, wo_error *err);
    void (*event_destroy)(wo_event *e);
    wo_status (*event_record)(wo_stream *s, wo_event *e, wo_ticket *out, wo_error *err);
    wo_ticket (*event_expect)(wo_event *e);
    void (*event_signal)(wo_ticket t); /* any host thread */
    wo_status (*wait)(wo_stream *s, wo_ticket t, wo_error *err);       /* the stream waits, the caller does not */
    bool (*reached)(wo_ticket t);
    wo_status (*host_wait)(wo_device *d, wo_ticket t, wo_error *err);  /* the calling thread waits; reports a sticky error */
    wo_status (*sync)(wo_stream *s, wo_error *err);                    /* the calling thread waits for all queued work */

    void (*set_cancel)(wo_device *d, wo_cancel *cancel); /* polled per tile and command; requested = skip, WO_ECANCELLED */
    void (*post_error)(wo_device *d, const wo_error *err); /* a host thread (reader) failed: becomes the sticky error */
    void (*clear_error)(wo_device *d);
    /* Seconds a stream spent executing work, and waiting for tickets (the stall), since reset_times. */
    void (*times)(wo_stream *s, double *busy, double *stalled);
    void (*reset_times)(wo_stream *s);
    /* Seeded random delays before commands of every stream; 0 switches off. */
    void (*chaos)(wo_device *d, uint64_t seed, double max_delay_seconds);
    /* Delays one command: fn(ctx) semantics of host_call, sleeping. For edge tests. */
    wo_status (*delay)(wo_stream *s, double seconds, wo_error *err);
} wo_stream_api;

/* One entry per row of WO_OP_LIST; NULL = not supported, and then ops/ answers with a clear error. Arguments were checked by
 * ops/. Work is enqueued; the args struct is copied. */
typedef struct wo_ops_api {
    uint32_t version, size;
    uint32_t computes; /* the compute dtypes of the device, a bit each: 1u << WO_F32 | ... */
    /* Operations, 1u << WO_OP_linear | ..., of which a row (an attention's query) has the same bits in whatever call it is: alone, in a part, in full.
     * Plans make several calls of a product or an attention only where its bit is set; what is computed row by row (norms, activations) needs none.
     * benchmarks/gpu compares them on a card: one that fails there loses its bit. */
    uint32_t rows_apart;
#define WO_OP_ENTRY(op) wo_status (*op)(wo_stream * s, const wo_##op##_args *args, wo_error *err);
    WO_OP_LIST(WO_OP_ENTRY)
#undef WO_OP_ENTRY
    /* Bytes of device workspace an attention call wants in args->workspace (packed keys and values); from shapes only. */
    size_t (*attention_workspace)(const wo_device *d, const wo_attention_args *args);
    size_t (*conv_workspace)(const wo_device *d, const wo_conv_args *args);
    size_t (*linear_workspace)(const wo_device *d, const wo_linear_args *args);
} wo_ops_api;

struct wo_device { /* the public head; each device's own struct begins with it */
    const char *name; /* "cpu", "cuda:1", "dry" */
    const wo_memory_api *memory;
    const wo_stream_api *stream;
    const wo_ops_api *ops;
    uint64_t fixed_bytes; /* host memory the device itself holds (thread scratch, queues): counted by plans */
};

struct wo_stream { /* the public head of each device's stream */
    wo_device *device;
};

/* Opens "cpu" (errors and cancelling are each open's own, the threads are the process's), "cuda" or "cuda:1", a card of this machine, "cuda:rtx4090", a card
 * that can only be planned for, or "dry". WO_EDEVICE, with what to do, where there is no card or no driver that works. */
wo_status wo_device_open(const char *name, wo_device **out, wo_error *err);
void wo_device_close(wo_device *d);
const char *wo_device_names(void); /* "cpu" or "cpu, cuda": for messages */

/* Whether plans may cut a call of the operation by rows. */
static inline bool wo_device_cuts(const wo_device *d, wo_op op) {
    return (d->ops->rows_apart >> op & 1u) != 0;
}

/* Whether activations may have this dtype on the device. */
static inline bool wo_device_computes(const wo_device *d, wo_dtype dtype) {
    return (d->ops->computes >> dtype & 1u) != 0;
}

#endif
