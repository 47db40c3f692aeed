/* The ring: a FIFO of bytes that streamed groups pass through. Pure bookkeeping over offsets; the planner plays it through with
 * no memory behind it, the streamer with the bottom of the work arena. Private to offload.
 *
 *     0                                             capacity
 *     | slot 7 | slot 8 |   free    | slot 5 | slot 6 |waste|
 *                       ^ head      ^ oldest
 */
#ifndef WO_OFFLOAD_RING_H
#define WO_OFFLOAD_RING_H

#include "device/device.h"
#include "offload/groups.h"

typedef struct wo_ring_slot {
    size_t offset, bytes;
    uint64_t pass;   /* the pass, counted over the life of the ring, that this slot is for */
    bool released;   /* the host has called done; the device may still be reading */
    wo_ticket freed; /* once released: reached when the device has let it go */
    wo_ticket ready; /* set by the streamer: reached when the slot is filled */
} wo_ring_slot;

/* How large a ring is, and whether each pass begins at its bottom. */
typedef struct wo_ring_size {
    size_t capacity;
    bool restart;
    size_t held; /* the least that must be held at one time, without what is lost at the ring's end */
} wo_ring_size;

typedef struct wo_ring {
    size_t capacity, head;
    bool restart;
    uint64_t last_pass;   /* of the slot handed out last */
    wo_ring_slot *slots;  /* slot of serial number n at n % slot_capacity, for n in [oldest, next) */
    size_t slot_capacity;
    uint64_t oldest, next;
    /* Whoever writes into the slot handed out last, or any later one, first waits for this. It only moves forward. */
    wo_ticket space;
    uint64_t space_pass;  /* the pass of the slot that `space` comes from; 0: from before the first pass */
    uint64_t wraps;       /* times the head went back to 0 */
} wo_ring;

/* The caller owns the slots. space: what the first bytes must wait for. */
void wo_ring_init(wo_ring *r, const wo_ring_size *size, wo_ring_slot *slots, size_t slot_capacity, wo_ticket space);
/* Takes bytes (> 0, a multiple of 256) behind the head, or from 0 where they do not fit at the end (or a pass begins, with restart).
 * NULL when that place is not released yet. pass counts from 1. The new slot's serial is r->next - 1. */
wo_ring_slot *wo_ring_acquire(wo_ring *r, size_t bytes, uint64_t pass);
wo_ring_slot *wo_ring_slot_at(wo_ring *r, uint64_t serial);
void wo_ring_give_back(wo_ring *r, uint64_t serial, wo_ticket freed);
/* Between passes, with nothing held: begins at 0 again, so that a pass lies where the plan played it through. */
void wo_ring_rewind(wo_ring *r);

/* The smallest ring for these schedules. ahead: the group after the one that is taken into use has room too, across the end
 * of a pass as well. */
wo_status wo_ring_plan(const wo_groups *g, bool ahead, wo_ring_size *out, wo_error *err);
/* Slots that a ring needs for these schedules. */
size_t wo_ring_slot_count(const wo_groups *g);

#endif
