#include "offload/ring.h"

#include <assert.h>

void wo_ring_init(wo_ring *r, const wo_ring_size *size, wo_ring_slot *slots, size_t slot_capacity, wo_ticket space) {
    *r = (wo_ring){.capacity = size->capacity, .way = size->way, .slots = slots, .slot_capacity = slot_capacity, .space = space};
}

wo_ring_slot *wo_ring_slot_at(wo_ring *r, uint64_t serial) {
    assert(serial >= r->oldest && serial < r->next);
    return &r->slots[serial % r->slot_capacity];
}

/* Hands a released slot's bytes over to whoever waits for its ticket. Slots are let go in the order of their uses' ends, which is not
 * that of their beginnings, so the ticket may be an earlier one than `space`. */
static void hand_over(wo_ring *r, wo_ring_slot *slot) {
    if (slot->freed.value >= r->space.value) {
        r->space = slot->freed;
        r->space_pass = slot->pass;
    }
    slot->gone = true;
}

static bool overlaps(const wo_ring_slot *slot, size_t from, size_t to) {
    return !slot->gone && slot->offset < to && from < slot->offset + slot->bytes;
}

static bool is_free(wo_ring *r, size_t from, size_t to) {
    for (uint64_t serial = r->oldest; serial < r->next; serial++) {
        const wo_ring_slot *slot = wo_ring_slot_at(r, serial);
        if (overlaps(slot, from, to) && !slot->released)
            return false;
    }
    const wo_ring_slot *oldest = &r->slots[r->oldest % r->slot_capacity];
    return r->next - r->oldest < r->slot_capacity || oldest->gone || oldest->released;
}

static size_t place(const wo_ring *r, size_t bytes, size_t planned, uint64_t pass) {
    if (r->way == WO_RING_PLACED)
        return planned;
    if (r->way == WO_RING_ENDS)
        return r->top ? r->capacity - bytes : 0;
    bool from_bottom = bytes > r->capacity - r->head || (r->way == WO_RING_RESTART && pass != r->last_pass);
    return from_bottom ? 0 : r->head;
}

wo_ring_slot *wo_ring_acquire(wo_ring *r, size_t bytes, size_t planned, uint64_t pass) {
    assert(bytes > 0);
    if (bytes > r->capacity)
        return NULL;
    size_t offset = place(r, bytes, planned, pass);
    if (!is_free(r, offset, offset + bytes))
        return NULL;
    for (uint64_t serial = r->oldest; serial < r->next; serial++) {
        wo_ring_slot *slot = wo_ring_slot_at(r, serial);
        bool crowded = serial == r->oldest && r->next - r->oldest == r->slot_capacity;
        if (overlaps(slot, offset, offset + bytes) || (crowded && !slot->gone))
            hand_over(r, slot);
    }
    while (r->oldest < r->next && wo_ring_slot_at(r, r->oldest)->gone)
        r->oldest++;
    r->wraps += offset == 0 && r->head != 0;
    r->head = offset + bytes;
    r->last_pass = pass;
    r->top = !r->top;
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
    r->top = false;
}
