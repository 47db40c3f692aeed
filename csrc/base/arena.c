/* Offline placement of blocks with known lifetimes. The largest block is placed first, at the bottom of the smallest gap that
 * it fits into among the blocks that live beside it:
 *
 *      bytes ^   +-----+
 *            |   |  3  |        1 was largest, then 2; 3 lives with both and lies above them,
 *            | +-+-+---+-+      4 lives with 2 only and fits beside 1
 *            | | 2     +-+--+
 *            | +-----+ | 4  |
 *            | |  1  | +----+
 *            +---------------> events
 *
 * No order is best for every record, so the placement is tried in several, all of them fixed, and the lowest peak is kept; it stops
 * as soon as a peak equals the lower bound. */
#include "base/arena.h"
#include "base/memory.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

typedef struct item {
    size_t bytes;
    int64_t born, dies;
    size_t index; /* in the caller's array */
    size_t offset;
} item;

static bool live_together(const item *a, const item *b) {
    return a->born < b->dies && b->born < a->dies;
}

static int by_index(const item *a, const item *b) {
    return a->index < b->index ? -1 : 1;
}

static int by_size(const void *pa, const void *pb) {
    const item *a = pa, *b = pb;
    if (a->bytes != b->bytes)
        return a->bytes > b->bytes ? -1 : 1;
    return by_index(a, b);
}

static int by_birth(const void *pa, const void *pb) {
    const item *a = pa, *b = pb;
    if (a->born != b->born)
        return a->born < b->born ? -1 : 1;
    return by_size(a, b);
}

/* Long-lived blocks first: they lie at the bottom and leave one unbroken space above them. */
static int by_length(const void *pa, const void *pb) {
    const item *a = pa, *b = pb;
    int64_t x = a->dies - a->born, y = b->dies - b->born;
    if (x != y)
        return x > y ? -1 : 1;
    return by_size(a, b);
}

static int by_area(const void *pa, const void *pb) {
    const item *a = pa, *b = pb;
    double x = (double)(a->dies - a->born) * (double)a->bytes, y = (double)(b->dies - b->born) * (double)b->bytes;
    if (x != y)
        return x > y ? -1 : 1;
    return by_size(a, b);
}

/* Finds the smallest gap for `next` among the placed items, which are in order of offset. */
static size_t best_gap(const item *placed, size_t count, const item *next) {
    size_t end = 0, best = SIZE_MAX, best_room = SIZE_MAX;
    for (size_t i = 0; i < count; i++) {
        if (!live_together(&placed[i], next))
            continue;
        size_t room = placed[i].offset > end ? placed[i].offset - end : 0;
        if (room >= next->bytes && room < best_room) {
            best = end;
            best_room = room;
        }
        size_t top = placed[i].offset + placed[i].bytes;
        end = top > end ? top : end;
    }
    return best != SIZE_MAX ? best : end;
}

/* Places items in the order they stand in; `placed` is working space for as many. Returns the peak. */
static size_t place(item *items, size_t count, item *placed) {
    size_t peak = 0;
    for (size_t i = 0; i < count; i++) {
        items[i].offset = best_gap(placed, i, &items[i]);
        size_t at = i;
        while (at > 0 && placed[at - 1].offset > items[i].offset)
            at--;
        memmove(placed + at + 1, placed + at, (i - at) * sizeof *placed);
        placed[at] = items[i];
        size_t top = items[i].offset + items[i].bytes;
        peak = top > peak ? top : peak;
    }
    return peak;
}

/* Takes over the blocks that need room; the others (no bytes, or never live) keep offset 0. */
static wo_status gather(wo_lifetime *blocks, size_t count, item *items, size_t *used, wo_error *err) {
    uint64_t total = 0;
    *used = 0;
    for (size_t i = 0; i < count; i++) {
        wo_lifetime *b = &blocks[i];
        b->offset = 0;
        if (b->dies < b->born)
            WO_FAIL(err, WO_EINTERNAL, "block %zu of the arena dies at event %" PRId64 ", before its birth at %" PRId64, i, b->dies, b->born);
        if (b->bytes > SIZE_MAX - WO_ARENA_ALIGN || __builtin_add_overflow(total, (uint64_t)wo_arena_round(b->bytes), &total))
            WO_FAIL(err, WO_EPLAN, "block %zu of the arena has %zu bytes, more than can be addressed", i, b->bytes);
        if (b->bytes > 0 && b->born < b->dies)
            items[(*used)++] = (item){wo_arena_round(b->bytes), b->born, b->dies, i, 0};
    }
    return WO_OK;
}

wo_status wo_arena_place(wo_lifetime *blocks, size_t count, size_t *peak, wo_error *err) {
    static int (*const ORDERS[])(const void *, const void *) = {by_size, by_area, by_length, by_birth};
    *peak = 0;
    if (count == 0)
        return WO_OK;
    void *space;
    if (count > SIZE_MAX / (2 * sizeof(item)))
        WO_FAIL(err, WO_EPLAN, "an arena of %zu blocks is too large", count);
    WO_TRY(wo_memory_acquire(2 * count * sizeof(item), "the placement of the arena", &space, err));
    item *items = space, *placed = items + count;
    size_t used, best = SIZE_MAX;
    wo_status status = gather(blocks, count, items, &used, err);
    size_t bound = status == WO_OK ? wo_arena_lower_bound(blocks, count) : 0;
    for (size_t order = 0; status == WO_OK && order < sizeof ORDERS / sizeof *ORDERS && best > bound; order++) {
        qsort(items, used, sizeof *items, ORDERS[order]);
        size_t found = place(items, used, placed);
        if (found >= best)
            continue;
        best = found;
        for (size_t i = 0; i < used; i++)
            blocks[items[i].index].offset = items[i].offset;
    }
    if (status == WO_OK)
        *peak = best;
    wo_memory_release(space);
    return status;
}

/* What lives together is largest at some birth. */
size_t wo_arena_lower_bound(const wo_lifetime *blocks, size_t count) {
    size_t bound = 0;
    for (size_t i = 0; i < count; i++) {
        int64_t when = blocks[i].born;
        size_t live = 0;
        for (size_t j = 0; j < count; j++)
            live += blocks[j].born <= when && when < blocks[j].dies ? wo_arena_round(blocks[j].bytes) : 0;
        bound = live > bound ? live : bound;
    }
    return bound;
}
