/* The ring: device memory that streamed groups pass through. Slots are taken in the order of the schedule; the bytes of a slot are
 * handed out again when the host has let it go, together with the ticket that says when the device has. Pure bookkeeping over
 * offsets; the planner plays it through with no memory behind it, the streamer with the bottom of the work arena. Private to offload.
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
    bool gone;       /* its bytes were handed out again */
    wo_ticket freed; /* once released: reached when the device has let it go */
    wo_ticket ready; /* set by the streamer: reached when the slot is filled */
    struct wo_span *span; /* set by the streamer: of the fetch, when a trace is recorded */
} wo_ring_slot;

/* Where the next slot goes. RUNNING: behind the one before, from the bottom again where it does not fit. RESTART: the same, and each
 * pass begins at the bottom. ENDS: at the bottom and at the top in turn, so that any two neighbours of the schedule fit beside each
 * other whatever their sizes. PLACED: where the plan says, visit by visit. */
typedef enum wo_ring_way { WO_RING_RUNNING, WO_RING_RESTART, WO_RING_ENDS, WO_RING_PLACED } wo_ring_way;

typedef struct wo_ring_size {
    size_t capacity;
    wo_ring_way way;
    size_t held; /* the least that must be held at one time, without what is lost at the ring's end */
} wo_ring_size;

typedef struct wo_ring {
    size_t capacity, head;
    wo_ring_way way;
    bool top;             /* ENDS: the next slot goes to the top */
    uint64_t last_pass;   /* of the slot handed out last */
    wo_ring_slot *slots;  /* slot of serial number n at n % slot_capacity, for n in [oldest, next) */
    size_t slot_capacity;
    uint64_t oldest, next;
    /* Whoever writes into the slot handed out last, or any later one, first waits for this. All tickets are of one event, and it only
     * moves forward. */
    wo_ticket space;
    uint64_t space_pass;  /* the pass of the slot that `space` comes from; 0: from before the first pass */
    uint64_t wraps;       /* times the head went back to 0 */
} wo_ring;

/* The caller owns the slots. space: what the first bytes must wait for. */
void wo_ring_init(wo_ring *r, const wo_ring_size *size, wo_ring_slot *slots, size_t slot_capacity, wo_ticket space);
/* Takes bytes (> 0, a multiple of 256) where the ring's way puts them; planned: where the plan puts them, for PLACED. NULL when that
 * place is not released yet. pass counts from 1. The new slot's serial is r->next - 1. */
wo_ring_slot *wo_ring_acquire(wo_ring *r, size_t bytes, size_t planned, uint64_t pass);
wo_ring_slot *wo_ring_slot_at(wo_ring *r, uint64_t serial);
void wo_ring_give_back(wo_ring *r, uint64_t serial, wo_ticket freed);
/* Between passes, with nothing held: begins at 0 again, so that a pass lies where the plan played it through. */
void wo_ring_rewind(wo_ring *r);

/* The smallest ring for these schedules, which receive the offsets of their slots. ahead: the group after the one that is taken into use has room too, across the end
 * of a pass as well. */
wo_status wo_ring_plan(wo_groups *g, bool ahead, wo_ring_size *out, wo_error *err);
/* Places every streamed visit so that it lies beside whatever is held while it is held, or (ahead) while it is fetched during the visit
 * before it; across the end of a pass too. Fills the schedules' offsets. *capacity: the end of the highest. */
wo_status wo_ring_place(wo_groups *g, bool ahead, size_t *capacity, wo_error *err);
/* Slots that a ring needs for these schedules. */
size_t wo_ring_slot_count(const wo_groups *g);

#endif
