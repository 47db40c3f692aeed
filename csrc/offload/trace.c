/* A stream's time is cut into spans where the host says that something else begins. The cut is a host call in the stream's own
 * order that reads the clock and the two counters behind the report's seconds, so what the spans add up to is what the report says:
 *
 *     compute   cut(g0) wait ready | ops of g0 | cut(g1) wait ready | ops of g1 | cut(none)
 *     span g0   [stalled...........  busy.....]
 *
 * A span is taken by the host when the cut is enqueued and filled in by the stream's thread when it gets there; a cut that is skipped
 * after a failure leaves spans that never began or ended, and those are no events. Readers fill spans of their own, one for
 * all pieces of a group that follow each other on a thread. */
#include "offload/trace.h"

#include "base/clock.h"
#include "base/memory.h"
#include "offload/plan_impl.h"

#include <stdatomic.h>
#include <string.h>

enum { STREAMS = 2 };

struct wo_span {
    wo_trace_event event;
    wo_stream *stream;
    wo_span *before;        /* the span of the same stream that ends where this one begins */
    double busy, stalled;   /* spent; while open, less what the counters said at its begin */
};

typedef struct stream_trace {
    wo_stream *stream;
    wo_span *latest;
    wo_span last; /* ends the latest span when there is no room for another */
} stream_trace;

struct wo_trace {
    stream_trace streams[STREAMS]; /* compute, copy */
    wo_span *reading[WO_MAX_READERS]; /* by reader; touched by that reader only */
    size_t capacity;
    atomic_size_t taken;
    atomic_uint_fast64_t dropped;
    wo_span spans[];
};

const char *wo_lane_name(wo_lane lane) {
    static const char *const NAMES[WO_LANE_COUNT] = {
#define WO_LANE_NAME(id, name, text) name,
        WO_LANE_LIST(WO_LANE_NAME)
#undef WO_LANE_NAME
    };
    return lane >= 0 && lane < WO_LANE_COUNT ? NAMES[lane] : "none";
}

size_t wo_trace_bytes(int64_t spans) {
    return spans > 0 ? sizeof(wo_trace) + (size_t)spans * sizeof(wo_span) : 0;
}

wo_status wo_trace_create(wo_stream *compute, wo_stream *copy, int64_t spans, wo_trace **out, wo_error *err) {
    void *memory;
    *out = NULL;
    if (spans <= 0)
        return WO_OK;
    WO_TRY(wo_memory_acquire(wo_trace_bytes(spans), "the trace", &memory, err));
    memset(memory, 0, wo_trace_bytes(spans));
    wo_trace *t = memory;
    t->capacity = (size_t)spans;
    t->streams[0].stream = compute;
    t->streams[1].stream = copy;
    *out = t;
    return WO_OK;
}

void wo_trace_destroy(wo_trace *t) {
    wo_memory_release(t);
}

static wo_span *take_span(wo_trace *t) {
    size_t index = atomic_load(&t->taken);
    while (index < t->capacity)
        if (atomic_compare_exchange_weak(&t->taken, &index, index + 1))
            return &t->spans[index];
    return NULL;
}

static stream_trace *of_stream(wo_trace *t, const wo_stream *s) {
    return &t->streams[s == t->streams[0].stream ? 0 : 1];
}

/* ---- streams ---- */

static void end_span(wo_span *span, double now, double busy, double stalled) {
    span->event.end = now;
    span->busy += busy;
    span->stalled += stalled;
}

static void cut_here(void *ctx) {
    wo_span *span = ctx;
    double busy, stalled, now = wo_clock_seconds();
    span->stream->device->stream->times(span->stream, &busy, &stalled);
    if (span->before != NULL)
        end_span(span->before, now, busy, stalled);
    span->event.begin = now;
    span->busy = -busy;
    span->stalled = -stalled;
}

wo_status wo_trace_cut(wo_trace *t, wo_stream *s, wo_lane lane, int32_t group, uint64_t pass, size_t bytes, wo_error *err) {
    if (t == NULL)
        return WO_OK;
    stream_trace *stream = of_stream(t, s);
    bool full = stream->latest == &stream->last;
    wo_span *span = full ? NULL : take_span(t);
    if (span == NULL && lane != WO_LANE_NONE)
        atomic_fetch_add(&t->dropped, 1);
    if (full)
        return WO_OK;
    if (span == NULL)
        span = &stream->last;
    span->event = (wo_trace_event){.lane = span == &stream->last ? WO_LANE_NONE : lane, .group = group, .pass = pass, .bytes = bytes};
    span->stream = s;
    span->before = stream->latest;
    stream->latest = span;
    return s->device->stream->host_call(s, cut_here, span, err);
}

wo_span *wo_trace_latest(wo_trace *t, const wo_stream *s) {
    if (t == NULL)
        return NULL;
    stream_trace *stream = of_stream(t, s);
    return stream->latest != &stream->last ? stream->latest : NULL;
}

static void release_here(void *ctx) {
    wo_span *span = ctx;
    span->event.held_to = wo_clock_seconds();
}

wo_status wo_trace_release(wo_span *span, wo_stream *s, wo_error *err) {
    return span != NULL ? s->device->stream->host_call(s, release_here, span, err) : WO_OK;
}

void wo_trace_note_alive(wo_trace *t, size_t bytes) {
    wo_span *span = t != NULL ? wo_trace_latest(t, t->streams[0].stream) : NULL;
    if (span != NULL && span->event.lane == WO_LANE_COMPUTE && bytes > span->event.bytes)
        span->event.bytes = bytes;
}

/* ---- readers ---- */

void wo_trace_note_read(wo_trace *t, int thread, int32_t group, uint64_t pass, size_t bytes, double begin, double seconds) {
    if (t == NULL || thread < 0 || thread >= WO_MAX_READERS)
        return;
    wo_span *span = t->reading[thread];
    if (span == NULL || span->event.group != group || span->event.pass != pass) {
        span = take_span(t);
        if (span == NULL) {
            atomic_fetch_add(&t->dropped, 1);
            return;
        }
        span->event = (wo_trace_event){.lane = WO_LANE_READ, .group = group, .thread = thread, .pass = pass, .begin = begin};
        t->reading[thread] = span;
    }
    span->event.bytes += bytes;
    span->event.end = begin + seconds;
    span->busy += seconds;
}

/* ---- reading it ---- */

void wo_trace_finish(wo_trace *t) {
    double now = wo_clock_seconds();
    for (int i = 0; i < STREAMS; i++) {
        wo_span *span = t->streams[i].latest;
        double busy, stalled;
        if (span == NULL)
            continue;
        span->stream->device->stream->times(span->stream, &busy, &stalled);
        end_span(span, now, busy, stalled);
    }
}

/* The part of the span that was spent waiting; only the compute stream's waiting holds a pass up. */
static bool stall_of(const wo_trace *t, const wo_span *span, wo_trace_event *out) {
    *out = span->event;
    out->lane = WO_LANE_STALL;
    out->bytes = 0;
    out->held_from = out->held_to = 0;
    out->end = out->begin + span->stalled;
    return span->stream == t->streams[0].stream && span->stalled > 0;
}

/* The thread may rest between the clock and the counters, which then count a little of the next span; no span overlaps another for that. */
static bool work_of(const wo_span *span, wo_trace_event *out) {
    const double begin = span->event.end - span->busy;
    *out = span->event;
    if (span->event.lane == WO_LANE_COPY && span->event.pass > 0)
        out->held_from = span->event.begin;
    out->begin = begin > span->event.begin ? begin : span->event.begin;
    return true;
}

bool wo_trace_next(const wo_trace *t, size_t *cursor, wo_trace_event *out) {
    size_t taken = atomic_load(&t->taken);
    while (*cursor < 2 * taken) {
        const wo_span *span = &t->spans[*cursor / 2];
        bool first = (*cursor)++ % 2 == 0;
        bool whole = span->event.begin > 0 && span->event.end > 0 && span->event.lane != WO_LANE_NONE;
        if (whole && (first ? stall_of(t, span, out) : work_of(span, out)))
            return true;
    }
    return false;
}

uint64_t wo_trace_dropped(const wo_trace *t) {
    return atomic_load(&t->dropped);
}
