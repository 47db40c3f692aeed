/* The dry record: what one request makes of the model, found out before anything runs. Private to offload. */
#ifndef WO_OFFLOAD_RECORD_H
#define WO_OFFLOAD_RECORD_H

#include "base/arena.h"
#include "device/dry/dry.h"
#include "offload/exec.h"

/* A layer taken into use, or let go, in the order of the pass. */
typedef struct wo_use_event {
    int32_t layer;
    bool done;
} wo_use_event;

typedef struct wo_record_pass {
    wo_use_event *uses;
    size_t use_count, use_capacity;
    wo_lifetime *blocks; /* one per allocation, in order; born and dies count allocations and frees; placed */
    size_t block_count, block_capacity;
    size_t live_most;    /* tensors alive at one time */
    size_t bytes, live_bytes; /* the placed peak, and what lives together at most */
    wo_work work;
} wo_record_pass;

typedef struct wo_record_keep {
    uint64_t key;
    bool host;
    size_t bytes, offset; /* in the device's or the host's part; bytes as asked for, offsets at 256-byte boundaries */
} wo_record_keep;

typedef struct wo_record {
    int references; /* plans of one wo_plan_make share it */
    wo_knobs knobs;
    int passes;
    wo_record_pass *pass;
    wo_record_keep *keeps;
    size_t keep_count, keep_capacity;
    size_t keep_bytes, host_keep_bytes, activation_bytes; /* activation_bytes: of the widest pass */
} wo_record;

/* Runs every pass of the model on a dry exec with these knobs. device is the one that will run: workspaces are asked of it. */
wo_status wo_record_make(const wo_component *c, const void *model, wo_forward_fn forward, int passes, const void *request,
                         const wo_device *device, const wo_knobs *knobs, wo_record **out, wo_error *err);
wo_record *wo_record_retain(wo_record *record);
void wo_record_release(wo_record *record);
/* The index of a keep, -1 when there is none. Looks at `hint` first. */
int64_t wo_record_find_keep(const wo_record *record, uint64_t key, size_t hint);

/* The dry side of the exec: exec.c forwards here. */
typedef struct wo_recorder wo_recorder;
wo_status wo_recorder_alloc(wo_recorder *r, wo_tensor *t, wo_error *err);
void wo_recorder_free(wo_recorder *r, const wo_tensor *t);
wo_status wo_recorder_keep(wo_recorder *r, uint64_t key, bool host, wo_tensor *t, bool *fresh, wo_error *err);
wo_status wo_recorder_use(wo_recorder *r, const wo_layer *layer, const wo_tensor **params, wo_error *err);
wo_status wo_recorder_done(wo_recorder *r, const wo_layer *layer, wo_error *err);

#endif
