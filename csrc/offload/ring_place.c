/* Placing the slots of a ring one by one: the largest first, each at the lowest place that is free of all that it must lie beside.
 *
 * Two visits must lie beside each other when both are held at some time; a visit counts as held from the beginning of the
 * visit before it, because it is fetched then. And the first visit of a pass is fetched during the last one of the pass before:
 *
 *     pass p    | v0 |  v1  | ... | v(n-1)        |
 *     pass q                       v0 fetched here | v0 | v1 ...
 */
#include "offload/ring.h"

#include "offload/table.h"

#include <stdlib.h>

typedef struct place {
    int pass;
    size_t visit;        /* streamed */
    size_t bytes, offset;
    size_t from, to;     /* events of its pass, both included */
    bool first, last;    /* fetched before its pass begins; held when the pass after it may be fetched */
} place;

static int by_size(const void *pa, const void *pb) {
    const place *a = pa, *b = pb;
    if (a->bytes != b->bytes)
        return a->bytes > b->bytes ? -1 : 1;
    if (a->pass != b->pass)
        return a->pass < b->pass ? -1 : 1;
    return a->visit < b->visit ? -1 : 1;
}

static int by_offset(const void *pa, const void *pb) {
    const place *const *a = pa, *const *b = pb;
    return (*a)->offset < (*b)->offset ? -1 : (*a)->offset > (*b)->offset;
}

/* A pass follows itself or the one before it. */
static bool meets_across(const place *ended, const place *begun) {
    return ended->last && begun->first && (begun->pass == ended->pass || begun->pass == ended->pass + 1);
}

static bool lie_beside(const place *a, const place *b, bool ahead) {
    if (a->pass == b->pass && a->from <= b->to && b->from <= a->to)
        return true;
    return ahead && (meets_across(a, b) || meets_across(b, a));
}

static size_t lowest(place *const *beside, size_t count, size_t bytes) {
    size_t end = 0;
    for (size_t i = 0; i < count; i++) {
        if (beside[i]->offset >= end && beside[i]->offset - end >= bytes)
            break;
        size_t top = beside[i]->offset + beside[i]->bytes;
        end = top > end ? top : end;
    }
    return end;
}

static void list_visits(const wo_groups *g, bool ahead, place *places) {
    for (int pass = 0; pass < g->passes; pass++) {
        const wo_schedule *s = &g->schedules[pass];
        const wo_visit *last = s->streamed_count > 0 ? &s->visits[s->streamed[s->streamed_count - 1]] : NULL;
        for (size_t i = 0; i < s->streamed_count; i++) {
            const wo_visit *visit = &s->visits[s->streamed[i]];
            size_t fetched = i == 0 ? 0 : s->visits[s->streamed[i - 1]].first_event;
            *places++ = (place){.pass = pass, .visit = i, .bytes = g->groups[visit->group].bytes, .from = ahead ? fetched : visit->first_event,
                                .to = visit->last_event, .first = i == 0, .last = visit->last_event >= last->first_event};
        }
    }
}

wo_status wo_ring_place(wo_groups *g, bool ahead, size_t *capacity, wo_error *err) {
    size_t count = 0, placed = 0;
    for (int pass = 0; pass < g->passes; pass++)
        count += g->schedules[pass].streamed_count;
    place *places = wo_table_create(count, sizeof *places, "the ring's plan", err);
    place **beside = wo_table_create(count, sizeof *beside, "the ring's plan", err);
    wo_status status = places != NULL && beside != NULL ? WO_OK : WO_ENOMEMORY;
    *capacity = 0;
    if (status == WO_OK) {
        list_visits(g, ahead, places);
        qsort(places, count, sizeof *places, by_size);
    }
    for (; status == WO_OK && placed < count; placed++) {
        place *next = &places[placed];
        size_t neighbours = 0;
        for (size_t i = 0; i < placed; i++)
            if (lie_beside(&places[i], next, ahead))
                beside[neighbours++] = &places[i];
        qsort(beside, neighbours, sizeof *beside, by_offset);
        next->offset = lowest(beside, neighbours, next->bytes);
        g->schedules[next->pass].ring_offset[next->visit] = next->offset;
        *capacity = next->offset + next->bytes > *capacity ? next->offset + next->bytes : *capacity;
    }
    wo_memory_release(places);
    wo_memory_release(beside);
    return status;
}
