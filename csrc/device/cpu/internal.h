/* What the files of the cpu device share. Nothing above device/ includes this; tests may. */
#ifndef WO_DEVICE_CPU_INTERNAL_H
#define WO_DEVICE_CPU_INTERNAL_H

#include "base/pool.h"
#include "device/cpu/cpu.h"
#include "device/cpu/kernels.h"
#include "device/device.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
    WO_CPU_QUEUE_COMMANDS = 1024,     /* per stream; enqueueing blocks while so many wait */
    WO_CPU_CHUNK_BYTES = 1 << 20,     /* copies look at the cancel token this often */
    WO_CPU_PLANNED_STREAMS = 2,       /* compute and copy: what fixed_bytes counts queues for */
    WO_CPU_MAX_THREADS = 1024,
    WO_CPU_EVENT_WINDOW = 4096        /* tickets of one event that may be reached ahead of an earlier one */
};

struct wo_cpu_stream;

typedef struct wo_cpu_device {
    wo_device head;
    wo_pool *pool; /* shared by all devices of the process */
    int holders;   /* whoever opened it, and its streams; guarded by device.c's own lock, as is next */
    struct wo_cpu_device *next;
    _Atomic(wo_cancel *) cancel;
    atomic_int failed; /* the code of `error`, readable without the lock */
    pthread_mutex_t lock; /* guards everything below */
    wo_error error;       /* the sticky one; meaningful while failed is not WO_OK */
    struct wo_cpu_stream *streams; /* list of the open ones, for chaos */
    uint64_t chaos_seed;
    double chaos_delay;
} wo_cpu_device;

/* device.c. Every open yields a device of its own over one pool. Counted: streams hold a device too. */
wo_status wo_cpu_open(wo_device **out, wo_error *err);
void wo_cpu_close(wo_device *d);
void wo_cpu_retain(wo_cpu_device *d);
void wo_cpu_post_error(wo_device *d, const wo_error *err);
void wo_cpu_clear_error(wo_device *d);
/* WO_OK, or the sticky error with its text. */
wo_status wo_cpu_sticky(wo_cpu_device *d, wo_error *err);
/* True when work is to be skipped: an error sticks, or the cancel token is requested (which then becomes the sticky error). */
bool wo_cpu_interrupted(wo_cpu_device *d);

/* event.c */
wo_status wo_cpu_event_create(wo_device *d, wo_event **out, wo_error *err);
void wo_cpu_event_destroy(wo_event *e);
wo_ticket wo_cpu_event_expect(wo_event *e);
void wo_cpu_event_signal(wo_ticket t);
bool wo_cpu_reached(wo_ticket t);
void wo_cpu_event_wait(wo_ticket t); /* blocks the calling thread */

/* stream.c */
extern const wo_stream_api wo_cpu_stream_api;
size_t wo_cpu_stream_bytes(void);
/* True on a stream's own thread, where enqueueing and waiting would hang. */
bool wo_cpu_on_stream(void);

/* command.c: what a stream's queue holds and how it is carried out. */
typedef enum wo_cpu_command_kind {
    WO_CPU_COPY,
    WO_CPU_CONVERT,
    WO_CPU_FILL,
    WO_CPU_HOST_CALL,
    WO_CPU_DELAY,
    WO_CPU_RECORD,
    WO_CPU_WAIT,
#define WO_CPU_COMMAND_KIND(op) WO_CPU_OP_##op,
    WO_OP_LIST(WO_CPU_COMMAND_KIND)
#undef WO_CPU_COMMAND_KIND
} wo_cpu_command_kind;

typedef struct wo_cpu_command {
    wo_cpu_command_kind kind;
    union {
        struct { void *dst; const void *src; size_t bytes; } copy;
        struct { wo_conversion conversion; void *dst; const void *src; int64_t count; } convert;
        struct { void *dst; size_t bytes; int byte; } fill;
        struct { void (*fn)(void *ctx); void *ctx; } host_call;
        struct { double seconds; } delay;
        wo_ticket ticket; /* RECORD, WAIT */
#define WO_CPU_COMMAND_ARGS(op) wo_##op##_args op;
        WO_OP_LIST(WO_CPU_COMMAND_ARGS)
#undef WO_CPU_COMMAND_ARGS
    } u;
} wo_cpu_command;

/* Carries out one command other than RECORD and WAIT on the calling thread; failures go to the device. */
void wo_cpu_command_execute(wo_cpu_device *d, const wo_cpu_command *command);
/* Copies the command into the stream's queue; blocks while it is full. */
wo_status wo_cpu_enqueue(wo_stream *s, const wo_cpu_command *command, wo_error *err);

/* ops.c */
extern const wo_ops_api wo_cpu_ops_api;
wo_status wo_cpu_op_execute(wo_cpu_device *d, const wo_cpu_command *command);

/* isa.c. The reading of WANOFFLOAD_TEST_ISA can fail; opening the device reports it. */
wo_status wo_cpu_isa_init(wo_error *err);
const wo_cpu_kernels *wo_cpu_table(void); /* of the instruction set in use */
/* Tests: kernels run from this table; NULL returns to the real ones. Call it while no stream runs. */
void wo_cpu_set_test_table(const wo_cpu_kernels *table);

#if defined(__x86_64__)
/* What CPUID and XGETBV say; leaf 7 has sub-leaves 0 and 1. */
typedef struct wo_cpu_facts {
    uint32_t one_c, seven_b, seven_d, seven_one_a;
    uint64_t xcr0; /* register state that the operating system saves; 0 without OSXSAVE */
} wo_cpu_facts;
void wo_cpu_read_facts(wo_cpu_facts *out);
/* Tests: from here on the process believes to run on such a machine. Call it while no stream runs. */
void wo_cpu_pretend(const wo_cpu_facts *facts);
#endif

/* budget.c. root is "" or, in tests, a folder that holds proc/ and sys/. */
wo_status wo_cpu_read_budget(const char *root, uint64_t *free_bytes, uint64_t *total_bytes, wo_error *err);

#endif
