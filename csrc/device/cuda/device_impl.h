/* What the files of the cuda device's own machinery share, beneath internal.h: streams, events, host functions, stamps. The files of operations and of the
 * vendor's libraries do not include this.
 *
 * Locks, in the order in which they are taken: a stream's, an event's, a device's. A host function, which the driver calls in stream order on a thread
 * of its own, may not call the driver and so takes none that is held over such a call: the stamps' and the device's only.
 */
#ifndef WO_DEVICE_CUDA_DEVICE_IMPL_H
#define WO_DEVICE_CUDA_DEVICE_IMPL_H

#include "device/cuda/internal.h"

enum {
    WO_CUDA_MAX_CARDS = 64,
    WO_CUDA_PLANNED_STREAMS = 2,  /* compute and copy; with the events of an engine and its loader, what fixed_bytes counts */
    WO_CUDA_PLANNED_EVENTS = 5,
    WO_CUDA_TICKETS = 1024,       /* recorded tickets of one event that may be on their way; recording waits for the one before */
    WO_CUDA_EVENT_WINDOW = 4096,  /* signalled tickets of one event that may be reached ahead of an earlier one */
    WO_CUDA_NODES = 1024,         /* host functions of one stream on their way */
    WO_CUDA_STAMPS = 1024,        /* of one stream on their way; when there are more, what they bound is measured together */
    WO_CUDA_BATCH = 16,           /* commands between two events that pace the host */
    WO_CUDA_BATCHES = 16          /* the host is fewer batches ahead of the card than this */
};

typedef struct wo_cuda_stream wo_cuda_stream;

/* --- errors.c ---------------------------------------------------------------------------------------------------------------------- */

void wo_cuda_post_error(wo_device *d, const wo_error *err);
void wo_cuda_clear_error(wo_device *d);
/* WO_OK, or the sticky error with its text. */
wo_status wo_cuda_sticky(wo_cuda_device *d, wo_error *err);
/* Whether every later call of the process will say the same. */
bool wo_cuda_loses_context(wo_cu_result result);
/* The card's context in this process is lost for good; says so with the error that lost it. WO_OK when it is not. */
wo_status wo_cuda_check_card(wo_cu_device card, wo_error *err);

/* --- properties.c ------------------------------------------------------------------------------------------------------------------ */

/* The known card of that name: its key, which is static, and *out; NULL when there is none. */
const char *wo_cuda_find_card(const char *name, wo_cuda_properties *out);
wo_cu_result wo_cuda_read_properties(const wo_cuda_driver *driver, wo_cu_device card, wo_cuda_properties *out);

/* --- device.c, memory.c, stream.c, planning.c, ops.c: the tables of a device -------------------------------------------------------- */

void wo_cuda_retain(wo_cuda_device *d);
extern const wo_memory_api wo_cuda_memory_api, wo_cuda_planning_memory_api;
extern const wo_stream_api wo_cuda_stream_api, wo_cuda_planning_stream_api;
extern const wo_ops_api wo_cuda_ops_api, wo_cuda_planning_ops_api;
/* What every card is able to: dtypes, and operations that plans may cut by rows (see device.h; `rows` and `queries` of benchmarks/gpu compare them). */
enum { WO_CUDA_COMPUTES = 1u << WO_F32 | 1u << WO_BF16 | 1u << WO_F16, WO_CUDA_ROWS_APART = 1u << WO_OP_linear | 1u << WO_OP_attention };
/* Frees device memory that nobody released. */
void wo_cuda_memory_fini(wo_cuda_device *d);
/* With the context gone: frees host memory that was released after it was lost. */
void wo_cuda_memory_bury(wo_cuda_device *d);
/* How many of the bytes at p one copy may have: pieces of host memory that were pinned one by one are separate for the driver. */
size_t wo_cuda_copy_run(const void *p, size_t bytes);
/* False when some of [p, p + bytes) is host memory of a device that is not pinned, which no kernel can read. */
bool wo_cuda_kernel_may_read(const void *p, size_t bytes);
/* Why the last host memory stayed pageable; "" when none did. */
void wo_cuda_pinning_refusal(char *text, size_t bytes);
/* Host memory of a stream and of an event. */
size_t wo_cuda_stream_bytes(void);
size_t wo_cuda_event_bytes(void);

/* --- launch.c ---------------------------------------------------------------------------------------------------------------------- */

wo_status wo_cuda_load_kernels(wo_cuda_device *d, wo_error *err);
void wo_cuda_unload_kernels(wo_cuda_device *d);

/* --- host.c: functions that the driver calls in stream order ------------------------------------------------------------------------- */

typedef struct wo_cuda_node {
    enum { WO_CUDA_CALL, WO_CUDA_WAIT, WO_CUDA_DELAY, WO_CUDA_STAMP } kind;
    struct wo_cuda_nodes *owner;
    void (*fn)(void *ctx);
    void *ctx;
    wo_ticket ticket; /* one that is signalled */
    double seconds;
    _Atomic uint64_t *stamp; /* takes the host's clock, in nanoseconds */
} wo_cuda_node;

typedef struct wo_cuda_nodes wo_cuda_nodes;

wo_cuda_nodes *wo_cuda_nodes_create(wo_cuda_device *d); /* NULL: no memory */
/* Waits for the function that is running, if one is. Behind it nothing of a lost context touches what is the caller's. */
void wo_cuda_nodes_rest(const wo_cuda_nodes *n);
/* With the stream destroyed. What a lost context may still hold on to is kept. */
void wo_cuda_nodes_destroy(wo_cuda_nodes *n);
size_t wo_cuda_nodes_bytes(void);
/* With the stream locked. The node is copied; blocks while too many are on their way. */
wo_status wo_cuda_push_node(wo_cuda_stream *s, const wo_cuda_node *node, const char *op, wo_error *err);
/* True inside such a function, where the driver must not be called. */
bool wo_cuda_on_stream(void);
wo_status wo_cuda_refuse_on_stream(const char *what, wo_error *err);

/* --- times.c: stamps ----------------------------------------------------------------------------------------------------------------- */

/* What the time between a stamp and the one before it was. */
typedef enum wo_cuda_span { WO_CUDA_IDLE, WO_CUDA_BUSY, WO_CUDA_STALLED } wo_cuda_span;

typedef struct wo_cuda_stamps {
    pthread_mutex_t lock;              /* guards everything below */
    _Atomic uint64_t *slots;           /* nanoseconds, pinned; 0: not arrived */
    unsigned char span[WO_CUDA_STAMPS];
    uint64_t issued, counted, last;    /* last: nanoseconds of the stamp counted last, 0: none */
    double busy, stalled;
    bool open;                         /* work was enqueued since the last stamp; guarded by the stream's lock */
} wo_cuda_stamps;

/* All with the stream locked and the context current, but times. */
wo_status wo_cuda_stamps_init(wo_cuda_stream *s, wo_error *err);
void wo_cuda_stamps_fini(wo_cuda_stream *s);
wo_status wo_cuda_stamp_work(wo_cuda_stream *s, wo_error *err);       /* before work */
wo_status wo_cuda_stamp_host_call(wo_cuda_stream *s, wo_error *err);  /* before a host call, which may ask for times */
wo_status wo_cuda_stamp_end(wo_cuda_stream *s, wo_error *err);        /* where work may end: before a recorded ticket, at sync */
wo_status wo_cuda_stamp_wait(wo_cuda_stream *s, wo_error *err);       /* before a wait */
wo_status wo_cuda_stamp_waited(wo_cuda_stream *s, wo_error *err);     /* behind it */
wo_status wo_cuda_stamp_reset(wo_cuda_stream *s, wo_error *err);
void wo_cuda_times(wo_stream *s, double *busy, double *stalled);

/* --- stream.c ------------------------------------------------------------------------------------------------------------------------ */

struct wo_cuda_stream {
    wo_stream head;
    char name[16];
    wo_cu_stream raw;
    wo_cu_event passed;  /* sync's */
    wo_cuda_nodes *nodes;
    wo_cuda_stamps stamps;
    pthread_mutex_t lock; /* held by whoever enqueues; guards everything below */
    wo_cu_event pace[WO_CUDA_BATCHES];
    bool transfers;       /* the stream of transfers: it goes before others, and host functions write its stamps */
    uint64_t commands, batches;
    uint64_t depth;       /* batches that the host may be ahead; at least 2, less than WO_CUDA_BATCHES */
    uint64_t paced_batch; /* the one waited for last, */
    double paced_at;      /* and when it had ended; 0: it had when the host came */
    unsigned chaos_turn;
    uint64_t chaos_state; /* 0: off */
    double chaos_delay;
};

/* --- event.c ------------------------------------------------------------------------------------------------------------------------- */

wo_status wo_cuda_event_create(wo_device *d, wo_event **out, wo_error *err);
void wo_cuda_event_destroy(wo_event *e);
wo_ticket wo_cuda_event_expect(wo_event *e);
void wo_cuda_event_signal(wo_ticket t);
bool wo_cuda_reached(wo_ticket t);
wo_status wo_cuda_host_wait(wo_device *d, wo_ticket t, wo_error *err);
bool wo_cuda_is_signalled(wo_ticket t);   /* whether host threads signal the tickets of this event; t.event is not NULL */
/* Blocks the calling thread until the ticket is reached or *given_up (NULL: never) is true; no driver call. */
void wo_cuda_await_signal(wo_ticket t, const atomic_bool *given_up);
/* With the stream locked and the context current: records the next ticket, or makes the stream wait for one that was recorded. */
wo_status wo_cuda_event_record(wo_cuda_stream *s, wo_event *e, wo_ticket *out, wo_error *err);
wo_status wo_cuda_event_await(wo_cuda_stream *s, wo_ticket t, wo_error *err);
/* WO_EINTERNAL when the event's tickets are signalled by host threads. */
wo_status wo_cuda_event_may_record(wo_event *e, wo_error *err);

/* --- describe.c's neighbours in libraries.c ------------------------------------------------------------------------------------------- */

/* Lines "key: value" on cuBLASLt, cuDNN and NVRTC. */
void wo_cuda_vendor_describe(char *text, size_t bytes);

#endif
