/* The engine carries plans out: streams, readers, the work arena, the residents and host slabs of components. One engine serves one
 * call at a time. Execs of one engine run one after the other and share the work arena. */
#ifndef WO_OFFLOAD_ENGINE_H
#define WO_OFFLOAD_ENGINE_H

#include "offload/plan.h"
#include "offload/report.h"
#include "offload/trace.h"

typedef struct wo_engine wo_engine;

wo_status wo_engine_create(wo_device *device, wo_engine **out, wo_error *err);
void wo_engine_destroy(wo_engine *e);
wo_device *wo_engine_device(wo_engine *e);
wo_cancel *wo_engine_cancel(wo_engine *e); /* request stops the running call; reset at the next exec_open */

/* Grows the work arena to at least bytes (never shrinks inside a call); release frees it. exec_open reserves what its plan needs. */
wo_status wo_engine_reserve(wo_engine *e, size_t bytes, wo_error *err);
void wo_engine_release_arena(wo_engine *e);

/* Forgets the residents and host slabs of a component (all when NULL). Waits for the streams. */
void wo_engine_drop(wo_engine *e, const wo_component *c);
void wo_engine_drop_residents(wo_engine *e, const wo_component *c);
/* Bytes now held: residents, slabs, work arena. */
typedef struct wo_engine_held {
    size_t resident_bytes, slab_bytes, arena_bytes, other_host_bytes;
} wo_engine_held;
void wo_engine_get_held(const wo_engine *e, wo_engine_held *out);

/* Opens the component for running under a plan: checks that its files are unchanged, loads residents and host slabs that are not
 * there yet (reused from an earlier exec of an equal plan), for every expert of the plan, of which c is the first; creates nothing later. Fails with WO_EBUSY while another exec is open. */
wo_status wo_exec_open(wo_engine *e, const wo_component *c, wo_plan *plan, wo_exec **out, wo_error *err);
/* Runs one pass: schedule, prefetch, the model's forward, then waits for the compute stream. next: the pass that will follow, whose first
 * groups are prefetched while this one ends; -1 = none follows (nothing is prefetched). A pass other than the announced one is legal:
 * what was prefetched is let go. A failed or cancelled pass leaves the exec fit only for close. */
wo_status wo_exec_run(wo_exec *x, const void *model, wo_forward_fn forward, int pass, int next, const void *request, wo_error *err);
/* A pass of one of the plan's experts; model is that expert's. next.pass -1: none follows. */
typedef struct wo_turn {
    int pass, expert;
} wo_turn;
wo_status wo_exec_run_turn(wo_exec *x, const void *model, wo_forward_fn forward, wo_turn turn, wo_turn next, const void *request, wo_error *err);
/* The trace so far, which is the caller's from now on; the exec records no more. Waits for the streams. NULL when the plan has none. */
wo_trace *wo_exec_take_trace(wo_exec *x);
/* Waits for the streams, fills the report, gives everything back except residents and slabs. */
void wo_exec_close(wo_exec *x, wo_report *report);

/* Tests. Every edge of the streamer's synchronisation is in this list; cutting one removes exactly that wait. `delay` sleeps on the
 * side that the edge holds up against, so that a cut shows. */
#define WO_EDGE_LIST(X)                                                                          \
    X(READY, "ready", "compute waits until a group's copy has ended")                           \
    X(FREE, "free", "copy waits until compute has let a slot go")                               \
    X(READER_COPY, "reader_copy", "the copy stream waits until readers have filled a piece")    \
    X(STAGING_REUSE, "staging_reuse", "a reader waits until its staging slot was converted")    \
    X(WRAP_AROUND, "wrap_around", "the first groups of the next pass wait for the last of this one") \
    X(HAND_OVER, "hand_over", "a component waits for the one before it before reusing the arena")
typedef enum wo_edge {
#define WO_EDGE_ENUM(id, name, text) WO_EDGE_##id,
    WO_EDGE_LIST(WO_EDGE_ENUM)
#undef WO_EDGE_ENUM
        WO_EDGE_COUNT
} wo_edge;
typedef struct wo_testing {
    uint32_t cut_edges;    /* bit per edge */
    uint32_t delay_edges;  /* bit per edge: a deterministic delay exactly there */
    double delay_seconds;
    bool poison;           /* freed activations, freed slots and a fresh arena are filled with NaN; the arena's high-water mark is measured */
    uint64_t chaos_seed;   /* 0 = off */
    double chaos_delay;
    int64_t fail_copy_at;  /* the n-th copy fails */
} wo_testing;
void wo_engine_set_testing(wo_engine *e, const wo_testing *t);
const char *wo_edge_name(wo_edge edge);

#endif
