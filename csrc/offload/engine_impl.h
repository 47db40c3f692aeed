/* The inside of the engine, and the one place where the streamer's edges are waited for, delayed and cut. Private to offload. */
#ifndef WO_OFFLOAD_ENGINE_IMPL_H
#define WO_OFFLOAD_ENGINE_IMPL_H

#include "offload/engine.h"
#include "offload/holding.h"
#include "offload/trace.h"
#include "store/reader.h"

#include <stdatomic.h>

enum { WO_DELAYS_PER_PASS = 4 }; /* a delayed edge is delayed so often in each pass: enough to show a cut, few enough to be quick */

struct wo_engine {
    wo_device *device;
    wo_stream *compute, *copy;
    wo_event *ready; /* recorded on copy: a slot is filled */
    wo_event *freed; /* recorded on compute: a slot is let go */
    wo_event *left;  /* recorded on copy when an exec is closed: nothing of it still writes into the arena */
    wo_ticket left_at;
    wo_cancel cancel;
    char *arena;
    size_t arena_bytes;
    wo_holding *holdings;
    wo_reader *reader;
    int readers;
    wo_exec *open;
    wo_trace *trace; /* of the exec that is open or being opened; NULL when it records none */
    atomic_flag busy; /* an exec is open, or being opened */
    wo_testing testing;
    int64_t copies;   /* since set_testing */
    int delays[WO_EDGE_COUNT]; /* in this pass */
};

static inline bool wo_engine_cuts(const wo_engine *e, wo_edge edge) {
    return (e->testing.cut_edges >> edge & 1) != 0;
}
/* The wait that an edge consists of. */
wo_status wo_engine_edge_wait(wo_engine *e, wo_edge edge, wo_stream *s, wo_ticket t, wo_error *err);
/* The same for a reader: what it has to wait for. */
wo_ticket wo_engine_edge_ticket(const wo_engine *e, wo_edge edge, wo_ticket t);
/* Seconds that this occurrence of the edge is to be delayed by; 0 mostly. */
double wo_engine_take_delay(wo_engine *e, wo_edge edge);
/* The same, on a stream. */
wo_status wo_engine_edge_delay(wo_engine *e, wo_edge edge, wo_stream *s, wo_error *err);

/* Copies and conversions of the engine and of models: counted, so that a test can let the n-th fail. */
wo_status wo_engine_copy(wo_engine *e, wo_stream *s, void *dst, const void *src, size_t bytes, wo_error *err);
wo_status wo_engine_convert(wo_engine *e, wo_stream *s, const wo_conversion *c, void *dst, const void *src, int64_t count, wo_error *err);

/* The readers, of which there are now so many. */
wo_status wo_engine_set_readers(wo_engine *e, int readers, wo_error *err);
/* Waits for readers and streams, whatever their outcome. */
void wo_engine_quiesce(wo_engine *e);

#endif
