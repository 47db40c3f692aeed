/* What the files of the fake card share.
 *
 *   api.c      the entry points, in the order of driver.h      memory.c   device memory, pinned host memory, what an address means
 *   stream.c   streams: threads with queues                    event.c    objects, events
 *   launch.c   modules, functions, launches                    ptx.c      the kernels' PTX
 *   control.c  fakecuda.h, the environment, faults             cublaslt.c a library of its own
 *
 * One lock guards everything; commands are carried out without it. One condition says that something has changed.
 */
#ifndef FAKECUDA_INTERNAL_H
#define FAKECUDA_INTERNAL_H

#include "device/cuda/driver.h"
#include "fakecuda/fakecuda.h"
#include "ptxsim/ptxsim.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define FAKE_EXPORT __attribute__((visibility("default")))

enum { FAKE_INVALID_HANDLE = 400, FAKE_HOST_MEMORY_NOT_REGISTERED = 713, FAKE_NOT_PERMITTED = 800, FAKE_MAX_DEVICES = 4 };

typedef enum fake_entry {
#define FAKE_ENTRY_ENUM(name, symbol, params) FAKE_##name,
    WO_CU_ENTRY_LIST(FAKE_ENTRY_ENUM)
#undef FAKE_ENTRY_ENUM
        FAKE_ENTRIES
} fake_entry;

/* The entry points are defined as fake_NAME and exported under the driver's names. */
#define FAKE_DECLARE(name, symbol, params) wo_cu_result fake_##name params __asm__(symbol) FAKE_EXPORT;
WO_CU_ENTRY_LIST(FAKE_DECLARE)
#undef FAKE_DECLARE

/* The head of everything that has a handle. */
typedef struct fake_object {
    fakecuda_kind kind;
    wo_cu_context context;
    struct fake_object *next;
} fake_object;

struct CUctx_st {
    fake_object head;
    int device, retained;
    wo_cu_result error; /* sticky */
};

/* A point of a stream that an event stands for since it was recorded. */
typedef struct fake_point {
    int holders;
    bool reached;
} fake_point;

struct CUevent_st {
    fake_object head;
    fake_point *latest; /* NULL: never recorded */
};

/* Keeps what it needs of its function, which may be unloaded before it runs. */
typedef struct fake_grid {
    char name[64];
    const ptxsim_module *module;
    int entry;
    unsigned grid[3], block[3], shared_bytes;
    void *params;
} fake_grid;

typedef struct fake_command {
    struct fake_command *next;
    enum { FAKE_COPY, FAKE_FILL, FAKE_LAUNCH, FAKE_CALL, FAKE_HOST, FAKE_RECORD, FAKE_WAIT } kind;
    uint64_t dst, src;
    size_t bytes;
    unsigned char value;
    void (*fn)(void *ctx);
    void *ctx;
    int (*call)(void *ctx); /* of another fake library; ctx is then the command's own */
    fake_point *point;
    fake_grid *launch;
} fake_command;

struct CUstream_st {
    fake_object head;
    pthread_t thread;
    fake_command *first, *last, *now; /* now: taken from the queue, being carried out */
    uint64_t pushed, finished, random, launches;
    bool closing;
};

struct CUfunc_st {
    struct CUfunc_st *next;
    char name[64];
    const ptxsim_module *module;
    int entry;
    unsigned shared_fixed, shared_most; /* static; dynamic, as allowed by cuFuncSetAttribute */
    bool launched;
};

struct CUmod_st {
    fake_object head;
    struct CUfunc_st *functions;
};

typedef struct fake_fault {
    int entry;     /* -1: any */
    int64_t left;  /* 0: none */
    wo_cu_result result;
    bool sticky;
} fake_fault;

typedef struct fake_state {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool initialised;
    struct CUctx_st contexts[FAKE_MAX_DEVICES]; /* the primary ones */
    fake_object *objects;                       /* streams, events, modules */
    /* The card's properties. */
    int count, sm, target, driver, threads;
    uint64_t memory;
    char name[64], ptx[512];
    /* What a test asked for. */
    fake_fault fault;
    int64_t kernel_left;
    wo_cu_result kernel_result;
    bool fired, trace, lazy, rehearsal;
    atomic_bool pageable_async;
    uint64_t seed;
    double delay;
    /* Counts. */
    uint64_t calls[FAKE_ENTRIES], live[FAKECUDA_KINDS], misuses, pageable_copies, implicit_waits, late_loads, streams_made;
    char message[1024];
} fake_state;

extern fake_state fake;

/* --- control.c: all but enter and leave are called with the lock held ------------------------------------------------------------- */

/* Every entry point but the two of error texts begins with enter and ends with leave, which releases the lock. enter counts the call and says what
 * it must return at once: a fault, a sticky error, no cuInit, a call from a host function. context: the current one (may be NULL). */
wo_cu_result fake_enter(fake_entry entry, bool needs_context, wo_cu_context *context);
wo_cu_result fake_leave(wo_cu_result result);
void fake_misuse(const char *format, ...) __attribute__((format(printf, 1, 2)));
void fake_say(const char *format, ...) __attribute__((format(printf, 1, 2))); /* becomes the message */
/* The context is lost: every later call says so. */
void fake_lose(wo_cu_context context, wo_cu_result error);
void fake_set_current(wo_cu_context context); /* of the calling thread */
void fake_set_in_host_function(bool inside);  /* of the calling thread */
uint64_t fake_mix(uint64_t x);                /* a hash */

/* --- memory.c ----------------------------------------------------------------------------------------------------------------------- */

/* The host address of [address, address + bytes): device memory of the context, pinned host memory, or (pageable_too) any other host memory. NULL with a
 * reason. Without the lock. */
void *fake_resolve(wo_cu_context context, uint64_t address, size_t bytes, bool pageable_too, const char **reason);
bool fake_is_device(uint64_t address);
/* Whether a copy's end lies in pinned memory or on the card. A range of which only a part is pinned is an error of the caller: *mixed. */
bool fake_is_pinned(uint64_t address, size_t bytes, bool *mixed);
/* Frees what is left of a context; returns how many blocks that were. With the lock. */
size_t fake_free_all(wo_cu_context context);

typedef struct fake_memory_count {
    uint64_t device_bytes, device_peak, pinned_bytes;
} fake_memory_count;
fake_memory_count fake_count_memory(void);
void fake_reset_peak(void);

/* --- event.c: with the lock held -------------------------------------------------------------------------------------------------- */

fake_object *fake_find_object(const void *handle, fakecuda_kind kind, wo_cu_context context); /* NULL and a misuse when it is not there */
void fake_add_object(fake_object *o, fakecuda_kind kind, wo_cu_context context);
void fake_remove_object(fake_object *o);
void fake_release_point(fake_point *p);
void fake_free_object(fake_object *o);           /* whatever it is but a stream */

/* --- stream.c: with the lock held ------------------------------------------------------------------------------------------------- */

/* Begins an entry point that has a stream; *out is NULL when it must return at once. */
wo_cu_result fake_enter_with_stream(fake_entry entry, wo_cu_stream stream, wo_cu_stream *out);
wo_cu_result fake_push(wo_cu_stream s, const fake_command *command);
void fake_drain(wo_cu_stream s);                 /* waits for what is queued now; releases the lock meanwhile */
bool fake_drain_context(wo_cu_context context);  /* the same for all its streams; true when there was something to wait for */
void fake_load_lazily(wo_cu_context context);    /* waits as set_lazy says */
bool fake_is_queued(wo_cu_context context, uint64_t address, size_t bytes); /* a copy or fill that touches a range */
void fake_close_stream(wo_cu_stream s);
void fake_reap(void);                            /* joins the threads of destroyed streams that have ended */

/* --- launch.c ----------------------------------------------------------------------------------------------------------------------- */

size_t fake_shared_limit(void); /* dynamic shared memory of a block that a function may ask for */
/* Runs a launch on the calling stream's thread, without the lock; false with the message said. */
bool fake_run(wo_cu_stream s, const fake_grid *launch);
void fake_reset_kernels(void);

/* --- ptx.c -------------------------------------------------------------------------------------------------------------------------- */

typedef struct fake_ptx {
    int target;
    const char *module, *text; /* the text ends with a NUL */
} fake_ptx;
extern const fake_ptx fake_ptx_table[];
extern const size_t fake_ptx_count;

#endif
