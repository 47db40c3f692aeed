/* When each group was read, copied, waited for and computed with, on one clock. Off unless the plan has room for it; then of fixed
 * size: what finds no room any more is counted and left out. Every function takes NULL for a trace that is off. */
#ifndef WO_OFFLOAD_TRACE_H
#define WO_OFFLOAD_TRACE_H

#include "device/device.h"

#define WO_LANE_LIST(X)                                                     \
    X(READ, "read", "a reader inside pread")                                \
    X(COPY, "copy", "a stream copying or converting weights")               \
    X(COMPUTE, "compute", "the compute stream at work")                     \
    X(STALL, "stall", "the compute stream waiting for weights")
typedef enum wo_lane {
    WO_LANE_NONE = -1, /* nothing that belongs to the exec's work */
#define WO_LANE_ENUM(id, name, text) WO_LANE_##id,
    WO_LANE_LIST(WO_LANE_ENUM)
#undef WO_LANE_ENUM
        WO_LANE_COUNT
} wo_lane;
const char *wo_lane_name(wo_lane lane);

/* end - begin is what was spent in this lane alone, so the durations of a lane add up to the report's seconds. A stream that paused in
 * between (for the host, for a reader) paused before `begin`. */
typedef struct wo_trace_event {
    wo_lane lane;
    int32_t group;     /* of the plan; -1: before the first group of a pass */
    int32_t thread;    /* READ: which reader; else 0 */
    uint64_t pass;     /* counted from 1; 0: filling residents and slabs */
    size_t bytes;      /* READ: at rest. COPY: of the group. COMPUTE: of the activations alive at most meanwhile */
    double begin, end; /* wo_clock_seconds */
    double held_from, held_to; /* COPY: when the group had a place in the ring; held_to 0: to the end, both 0: no such place */
} wo_trace_event;

typedef struct wo_trace wo_trace;
typedef struct wo_span wo_span;

/* Host memory of a trace with room for so many spans; each becomes one event, or two where the compute stream was held up in it. */
size_t wo_trace_bytes(int64_t spans);
wo_status wo_trace_create(wo_stream *compute, wo_stream *copy, int64_t spans, wo_trace **out, wo_error *err);
void wo_trace_destroy(wo_trace *t);

/* From here on, and to its next cut, the stream works on this. The host thread calls it, in the order of what it enqueues. */
wo_status wo_trace_cut(wo_trace *t, wo_stream *s, wo_lane lane, int32_t group, uint64_t pass, size_t bytes, wo_error *err);
/* What the stream's latest cut began; NULL when that was not recorded. */
wo_span *wo_trace_latest(wo_trace *t, const wo_stream *s);
/* The place in the ring that the copy of this span filled is let go here on the stream. A span of NULL is fine. */
wo_status wo_trace_release(wo_span *span, wo_stream *s, wo_error *err);
/* So many bytes of activations are alive in what the compute stream works on. */
void wo_trace_note_alive(wo_trace *t, size_t bytes);
/* A reader was inside pread; on the reader's thread. */
void wo_trace_note_read(wo_trace *t, int thread, int32_t group, uint64_t pass, size_t bytes, double begin, double seconds);

/* Closes what is open; streams and readers have been waited for, and nothing is recorded any more. */
void wo_trace_finish(wo_trace *t);
/* The next event, false at the end; *cursor begins at 0. Events of one lane and thread come in the order of time, READ apart. */
bool wo_trace_next(const wo_trace *t, size_t *cursor, wo_trace_event *out);
uint64_t wo_trace_dropped(const wo_trace *t);

#endif
