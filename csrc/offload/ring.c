#include "offload/ring.h"

#include <assert.h>

void wo_ring_init(wo_ring *r, const wo_ring_size *size, wo_ring_slot *slots, size_t slot_capacity, wo_ticket space) {
    *r = (wo_ring){.capacity = size->capacity, .restart = size->restart, .slots = slots, .slot_capacity = slot_capacity, .space = space};
}

wo_ring_slot *wo_ring_slot_at(wo_ring *r, uint64_t serial) {
    assert(serial >= r->oldest && serial < r->next);
    return &r->slots[serial % r->slot_capacity];
}

/* Forgets the oldest slot, which must be released: its bytes may be handed out, to whoever waits for its ticket. */
static bool drop_oldest(wo_ring *r) {
    const wo_ring_slot *oldest = wo_ring_slot_at(r, r->oldest);
    if (!oldest->released)
        return false;
    r->space = oldest->freed;
    r->space_pass = oldest->pass;
    r->oldest++;
    return true;
}

/* The last slot that lies in [from, to); 0 when there is none, else serial + 1. Slots are let go in order, so everything older
 * goes with it. */
static uint64_t last_overlap(wo_ring *r, size_t from, size_t to) {
    for (uint64_t serial = r->next; serial-- > r->oldest;) {
        const wo_ring_slot *slot = wo_ring_slot_at(r, serial);
        if (slot->offset < to && from < slot->offset + slot->bytes)
            return serial + 1;
    }
    return 0;
}

wo_ring_slot *wo_ring_acquire(wo_ring *r, size_t bytes, uint64_t pass) {
    assert(bytes > 0);
    if (bytes > r->capacity)
        return NULL;
    bool from_bottom = bytes > r->capacity - r->head || (r->restart && pass != r->last_pass);
    size_t offset = from_bottom ? 0 : r->head;
    uint64_t until = last_overlap(r, offset, offset + bytes);
    if (r->next - r->oldest == r->slot_capacity && until <= r->oldest)
        until = r->oldest + 1;
    while (r->oldest < until)
        if (!drop_oldest(r))
            return NULL;
    r->wraps += offset == 0 && r->head != 0;
    r->head = offset + bytes;
    r->last_pass = pass;
    wo_ring_slot *slot = &r->slots[r->next++ % r->slot_capacity];
    *slot = (wo_ring_slot){.offset = offset, .bytes = bytes, .pass = pass};
    return slot;
}

void wo_ring_give_back(wo_ring *r, uint64_t serial, wo_ticket freed) {
    wo_ring_slot *slot = wo_ring_slot_at(r, serial);
    assert(!slot->released);
    slot->released = true;
    slot->freed = freed;
}

void wo_ring_rewind(wo_ring *r) {
    for (uint64_t serial = r->oldest; serial < r->next; serial++)
        if (!wo_ring_slot_at(r, serial)->released)
            return;
    r->wraps += r->head != 0;
    r->head = 0;
}
