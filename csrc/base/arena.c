/* Offline placement of blocks with known lifetimes. The largest block is placed first, at the bottom of the smallest gap
 * that it fits into among the blocks that live beside it:
 *
 *      bytes ^   +-----+
 *            |   |  3  |        1 was largest, then 2; 3 lives with both and lies above them,
 *            | +-+-+---+-+      4 lives with 2 only and fits beside 1
 *            | | 2     +-+--+
 *            | +-----+ | 4  |
 *            | |  1  | +----+
 *            +---------------> events
 *
 * No order is best for every record. Several fixed ones are tried, and then from each of them on the block that makes
 * the peak is moved forward in the order, again and again; the lowest peak seen is kept. All of it stops as soon as a
 * peak equals the lower bound, which the first placement usually reaches when lifetimes are nested. */
#include "base/arena.h"
#include "base/memory.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* A climb places all blocks again in each step; these bound its steps, and its work in pairs of blocks that are compared
 * (less than 0.1 s). They are counts and not times, so that the result is always the same. */
enum { CLIMB_STEPS = 300, CLIMB_WORK = 10000000 };

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
            WO_FAIL(err, WO_EINTERNAL, "block %zu of the arena dies at event %" PRId64 ", before its birth at %" PRId64,
                    i, b->dies, b->born);
        if (b->bytes > SIZE_MAX - WO_ARENA_ALIGN || __builtin_add_overflow(total, (uint64_t)wo_arena_round(b->bytes), &total))
            WO_FAIL(err, WO_EPLAN, "block %zu of the arena has %zu bytes, more than can be addressed", i, b->bytes);
        if (b->bytes > 0 && b->born < b->dies)
            items[(*used)++] = (item){wo_arena_round(b->bytes), b->born, b->dies, i, 0};
    }
    return WO_OK;
}

typedef struct search {
    wo_lifetime *blocks; /* their offsets are those of the best placement so far */
    item *items, *placed;
    size_t used, best, bound;
} search;

/* Places the items as they stand, and keeps the result if it is the best. Returns its peak. */
static size_t try_order(search *s) {
    size_t peak = place(s->items, s->used, s->placed);
    if (peak < s->best) {
        s->best = peak;
        for (size_t i = 0; i < s->used; i++)
            s->blocks[s->items[i].index].offset = s->items[i].offset;
    }
    return peak;
}

typedef int (*item_order)(const void *, const void *);

static void try_sorted(search *s, item_order order) {
    qsort(s->items, s->used, sizeof *s->items, order);
    try_order(s);
}

/* The items stand in a placed order with this peak. Moves the one that makes it to just before one of those that lie in
 * its way, the `which`-th of them, counted around. Some do: the first of the order lies at 0, and its size is at most
 * the bound. */
static void raise_highest(search *s, size_t peak, uint32_t which) {
    size_t at = 0, to = 0;
    uint32_t in_the_way = 0;
    while (s->items[at].offset + s->items[at].bytes != peak)
        at++;
    item highest = s->items[at];
    for (size_t i = 0; i < at; i++)
        in_the_way += live_together(&s->items[i], &highest) ? 1 : 0;
    for (uint32_t left = in_the_way > 0 ? which % in_the_way : 0; !live_together(&s->items[to], &highest) || left-- > 0; to++)
        continue;
    memmove(s->items + to + 1, s->items + to, (at - to) * sizeof highest);
    s->items[to] = highest;
}

/* Which one it is varies with the step in a fixed sequence: always the same would soon run in a circle. */
static void climb(search *s, item_order start, size_t steps) {
    uint32_t varying = 1;
    qsort(s->items, s->used, sizeof *s->items, start);
    size_t peak = place(s->items, s->used, s->placed);
    for (size_t i = 0; i < steps && s->best > s->bound; i++) {
        varying = varying * 1103515245u + 12345u;
        raise_highest(s, peak, varying >> 16);
        peak = try_order(s);
    }
}

static void find_best(search *s) {
    static const item_order ORDERS[] = {by_size, by_area, by_length, by_birth};
    enum { COUNT = sizeof ORDERS / sizeof *ORDERS };
    for (size_t i = 0; i < COUNT && s->best > s->bound; i++)
        try_sorted(s, ORDERS[i]);
    size_t steps = CLIMB_WORK / (s->used * s->used);
    for (size_t i = 0; i < COUNT && s->best > s->bound; i++)
        climb(s, ORDERS[i], steps < CLIMB_STEPS ? steps : CLIMB_STEPS);
}

wo_status wo_arena_place(wo_lifetime *blocks, size_t count, size_t *peak, wo_error *err) {
    *peak = 0;
    if (count == 0)
        return WO_OK;
    void *space;
    if (count > UINT32_MAX)
        WO_FAIL(err, WO_EPLAN, "an arena of %zu blocks is too large", count);
    WO_TRY(wo_memory_acquire(2 * count * sizeof(item), "the placement of the arena", &space, err));
    search s = {.blocks = blocks, .items = space, .placed = (item *)space + count, .best = SIZE_MAX};
    wo_status status = gather(blocks, count, s.items, &s.used, err);
    if (status == WO_OK && s.used > 0) {
        s.bound = wo_arena_lower_bound(blocks, count);
        find_best(&s);
        *peak = s.best;
    }
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
