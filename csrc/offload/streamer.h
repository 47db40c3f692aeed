/* Carries a schedule out: fetches streamed groups into the ring as far ahead as there is room, and orders the two streams with one
 * ready and one freed ticket for each slot. Private to offload. */
#ifndef WO_OFFLOAD_STREAMER_H
#define WO_OFFLOAD_STREAMER_H

#include "offload/engine_impl.h"
#include "offload/plan_impl.h"

typedef struct wo_streamer {
    wo_engine *engine;
    const wo_plan *plan;
    wo_loader *loader;   /* NULL when nothing rests on disk */
    const char *slabs[WO_MAX_EXPERTS]; /* of the groups that rest on the host */
    char *base;          /* of the ring, at the beginning of the arena */
    wo_stream *stream;   /* where fetches run: the copy stream, or the compute stream */
    bool ahead;          /* fetches run ahead of use: there is a copy stream */
    wo_ring ring;
    uint64_t pass_number; /* of the running pass, from 1; the announced one is the next */
    wo_turn turn, next;   /* kinds and experts; next.pass is -1 when none is announced */
    uint64_t first;       /* serial number of the running pass's first slot */
    uint64_t visits, bytes_moved, bytes_from_disk, bytes_from_host;
    double copy_seconds, copy_began; /* of fetches on the compute stream, on its thread */
} wo_streamer;

/* slabs: by expert. slots: wo_ring_slot_count of them, owned by the caller. space: reached when the ring's memory may be written. */
void wo_streamer_init(wo_streamer *s, wo_engine *e, const wo_plan *plan, wo_loader *loader, const char *const *slabs, char *base,
                      wo_ring_slot *slots, wo_ticket space);
/* Begins a pass and fetches what there is room for. What was fetched for another pass than this is let go. */
wo_status wo_streamer_begin(wo_streamer *s, wo_turn turn, wo_turn next, wo_error *err);
/* The visit begins: from here on the compute stream sees the group. visit: its number among the streamed ones of the pass. */
wo_status wo_streamer_acquire(wo_streamer *s, int32_t visit, wo_error *err);
/* Where the group of a visit that has begun and not ended lies. */
char *wo_streamer_slab(wo_streamer *s, int32_t visit);
/* The visit ends: all work that reads the group has been enqueued on the compute stream. */
wo_status wo_streamer_give_back(wo_streamer *s, int32_t visit, wo_error *err);

#endif
