/* The inside of an exec, dry or real. Private to offload. */
#ifndef WO_OFFLOAD_EXEC_IMPL_H
#define WO_OFFLOAD_EXEC_IMPL_H

#include "offload/record.h"
#include "offload/streamer.h"

/* An activation that is allocated, and which one of the record it is. */
typedef struct wo_live_tensor {
    char *data;
    size_t index;
} wo_live_tensor;

/* A piece of the arena that is about to be poisoned: how far it was written is looked at first, in stream order. */
typedef struct wo_touch {
    struct wo_exec *exec;
    const char *seen; /* where the host finds its bytes */
    size_t offset, bytes;
} wo_touch;

struct wo_exec {
    const wo_component *component; /* the expert whose pass runs, or ran last */
    wo_device *device;
    wo_stream *compute;
    wo_knobs knobs;
    wo_recorder *recorder; /* dry execs only; everything below is of real ones */

    wo_engine *engine;
    wo_plan *plan;
    wo_holding *holding[WO_MAX_EXPERTS];
    wo_loader *loader;
    wo_streamer streamer;
    wo_ring_slot *slots;
    wo_tensor (*params)[WO_LAYER_MAX_PARAMS]; /* by layer */
    char *arena, *host_keep;
    bool *kept;            /* by expert and keep of the record: asked for before */

    int pass, expert;      /* the running one, pass -1 between passes */
    size_t use_cursor;     /* into the record's uses */
    size_t block_cursor;   /* into the record's allocations */
    size_t keep_cursor;    /* where the next keep is likely to be found */
    int64_t events;        /* allocations and frees so far */
    wo_live_tensor *live;
    size_t live_count, live_bytes;
    wo_error failure;      /* of a free, which cannot return it */
    bool failed;           /* fit only for close */

    wo_touch *touches;     /* poison only */
    size_t touch_cursor, touch_count;
    size_t touched;        /* written on the compute stream's thread */
    char *mirror;          /* host memory that pieces of an arena which the host cannot read are copied to; NULL where it can */
    size_t mirror_bytes;   /* of the largest activation */

    uint64_t passes, bytes_loaded, activation_peak;
    double opened, load_seconds, read_seconds_before;
};

/* exec.c, for open and close in session.c. Forgets what a pass was in the middle of. */
void wo_exec_reset_pass(wo_exec *x);
/* Enqueues a look at how far [from, from + bytes) was written, and poison over it. Poison mode only. */
wo_status wo_exec_poison(wo_exec *x, char *from, size_t bytes, wo_error *err);
/* The end of what was written of a piece of the arena, rounded up to 256, as an offset in the arena; 0 when nothing was. seen: its bytes. */
size_t wo_exec_find_touched(const char *seen, size_t offset, size_t bytes);
void wo_exec_fill_report(const wo_exec *x, wo_report *report);

#endif
