/* How large the ring must be. The passes are played through on a ring with no memory behind it, exactly as the streamer will work:
 * fetch as far ahead as there is room, never further than the end of the pass that was announced. The smallest capacity wins that
 * has room for one group ahead at every point.
 *
 * A running pipeline goes on for many passes. What was played holds for all of them, in each way for its own reason:
 * - RESTART: each pass begins at the ring's bottom, so every pass lies where the played one lay;
 * - ENDS: where a slot lies depends on nothing but whether its number is odd, and the two cases are mirror images;
 * - PLACED: where a slot lies depends on nothing but the visit;
 * - RUNNING: each pass begins where the one before it ended, which may be anywhere, so the capacity also covers the worst place:
 *   what is held at one time and, once, what is lost at the ring's end. No use can then find the ring too small; at most, on
 *   rare alignments, a group is fetched a little later than one ahead.
 *
 * RESTART and RUNNING fetch further ahead where groups are small, which hides large ones among them. The other two know no more than one
 * ahead, and are taken where they save memory. */
#include "offload/ring.h"

#include "base/arena.h"
#include "offload/table.h"

enum { PLAYED_PASSES = 3, CAPACITY_STEPS = 32, SAVES = 10 /* at least one part in so many */ };

typedef struct play {
    const wo_groups *groups;
    bool ahead;
    const wo_schedule *pass[PLAYED_PASSES];
    uint64_t first[PLAYED_PASSES + 1]; /* serial number of each pass's first streamed visit */
    int passes;
} play;

static void begin_play(play *p, const wo_groups *g, bool ahead, int from, int to) {
    const int order[PLAYED_PASSES] = {from, to, to};
    *p = (play){.groups = g, .ahead = ahead, .passes = ahead ? PLAYED_PASSES : 1};
    for (int k = 0; k < p->passes; k++) {
        p->pass[k] = &g->schedules[order[k]];
        p->first[k + 1] = p->first[k] + p->pass[k]->streamed_count;
    }
}

/* The streamed visit with this serial number. */
typedef struct visit_at {
    int pass; /* of the play */
    size_t bytes, offset;
} visit_at;

static visit_at find_visit(const play *p, uint64_t serial) {
    visit_at at = {0};
    while (serial >= p->first[at.pass + 1])
        at.pass++;
    const wo_schedule *s = p->pass[at.pass];
    size_t streamed = (size_t)(serial - p->first[at.pass]);
    at.bytes = p->groups->groups[s->groups[s->streamed[streamed]]].bytes;
    at.offset = s->ring_offset[streamed];
    return at;
}

static size_t bytes_of(const play *p, uint64_t serial) {
    return find_visit(p, serial).bytes;
}

/* Everything that may be fetched while pass k runs. */
static uint64_t limit_of(const play *p, int k) {
    return p->first[k + 2 <= p->passes ? k + 2 : p->passes];
}

static bool fetch(const play *p, wo_ring *r) {
    visit_at at = find_visit(p, r->next);
    return wo_ring_acquire(r, at.bytes, at.offset, (uint64_t)at.pass + 1) != NULL;
}

static void fetch_ahead(const play *p, wo_ring *r, int k) {
    while (p->ahead && r->next < limit_of(p, k) && fetch(p, r))
        continue;
}

static bool play_pass(const play *p, wo_ring *r, int k) {
    const wo_schedule *s = p->pass[k];
    fetch_ahead(p, r, k);
    for (size_t event = 0; event < s->event_count; event++) {
        const wo_visit *visit = &s->visits[s->visit_of_event[event]];
        uint64_t serial = p->first[k] + (uint64_t)(visit->streamed < 0 ? 0 : visit->streamed);
        if (visit->streamed >= 0 && visit->first_event == event) {
            if (r->next == serial && !fetch(p, r))
                return false;
            fetch_ahead(p, r, k);
            if (p->ahead && r->next == serial + 1 && serial + 1 < limit_of(p, k))
                return false;
        } else if (visit->streamed >= 0 && visit->last_event == event) {
            wo_ring_give_back(r, serial, (wo_ticket){0});
            fetch_ahead(p, r, k);
        }
    }
    return true;
}

/* Calls `each` for every sequence of passes that is played: a pass again and again, and a pass followed by the next kind. */
static bool for_each_play(const wo_groups *g, bool ahead, bool (*each)(const play *p, void *ctx), void *ctx) {
    play p;
    for (int pass = 0; pass < g->passes; pass++) {
        begin_play(&p, g, ahead, pass, pass);
        if (!each(&p, ctx))
            return false;
        if (!ahead || pass + 1 == g->passes)
            continue;
        begin_play(&p, g, ahead, pass, pass + 1);
        if (!each(&p, ctx))
            return false;
    }
    return true;
}

typedef struct need {
    bool *released; /* by serial number */
    size_t held;    /* held at one time, with the next group where copies run ahead */
    size_t safe;    /* everything from the oldest held to the one in use, with what the ring's end may waste */
    size_t largest;
} need;

static void measure_use(const play *p, need *n, uint64_t oldest, uint64_t serial, uint64_t limit) {
    size_t sum = 0, live = 0, largest = 0;
    for (uint64_t i = oldest; i <= serial; i++) {
        size_t bytes = bytes_of(p, i);
        sum += bytes;
        live += n->released[i] ? 0 : bytes;
        largest = bytes > largest ? bytes : largest;
    }
    size_t next = p->ahead && serial + 1 < limit ? bytes_of(p, serial + 1) : 0;
    size_t safe = sum + (p->ahead && serial > oldest ? largest : 0);
    n->held = live + next > n->held ? live + next : n->held;
    n->safe = safe > n->safe ? safe : n->safe;
    n->largest = largest > n->largest ? largest : n->largest;
    n->largest = next > n->largest ? next : n->largest;
}

static bool measure(const play *p, void *ctx) {
    need *n = ctx;
    uint64_t oldest = 0;
    for (uint64_t i = 0; i < p->first[p->passes]; i++)
        n->released[i] = false;
    for (int k = 0; k < p->passes; k++) {
        const wo_schedule *s = p->pass[k];
        for (size_t event = 0; event < s->event_count; event++) {
            const wo_visit *visit = &s->visits[s->visit_of_event[event]];
            if (visit->streamed < 0)
                continue;
            uint64_t serial = p->first[k] + (uint64_t)visit->streamed;
            if (visit->first_event == event)
                measure_use(p, n, oldest, serial, limit_of(p, k));
            if (visit->last_event == event)
                n->released[serial] = true;
            while (oldest < p->first[p->passes] && n->released[oldest])
                oldest++;
        }
    }
    return true;
}

typedef struct trial {
    wo_ring_size size;
    wo_ring_slot *slots;
    size_t slot_count;
} trial;

static bool fits(const play *p, void *ctx) {
    const trial *t = ctx;
    wo_ring ring;
    wo_ring_init(&ring, &t->size, t->slots, t->slot_count, (wo_ticket){0});
    for (int k = 0; k < p->passes; k++)
        if (!play_pass(p, &ring, k))
            return false;
    return true;
}

static size_t most_streamed(const wo_groups *g) {
    size_t most = 0;
    for (int i = 0; i < g->passes; i++)
        most = g->schedules[i].streamed_count > most ? g->schedules[i].streamed_count : most;
    return most;
}

size_t wo_ring_slot_count(const wo_groups *g) {
    return 2 * most_streamed(g) + 2;
}

/* Grows the ring from `least` until every sequence fits; SIZE_MAX when none up to `most` does. */
static size_t smallest(const wo_groups *g, bool ahead, trial *t, size_t least, size_t most, size_t step) {
    for (t->size.capacity = least; t->size.capacity <= most; t->size.capacity += step)
        if (for_each_play(g, ahead, fits, t))
            return t->size.capacity;
    return SIZE_MAX;
}

/* Tries a way with one capacity and takes it when it saves enough. */
static void consider(const wo_groups *g, bool ahead, trial *t, wo_ring_way way, size_t capacity, wo_ring_size *best) {
    t->size = (wo_ring_size){.capacity = capacity, .way = way, .held = best->held};
    if (capacity < best->capacity && best->capacity - capacity > best->capacity / SAVES && for_each_play(g, ahead, fits, t))
        *best = t->size;
}

static wo_status choose(wo_groups *g, bool ahead, trial *t, const need *n, wo_ring_size *out, wo_error *err) {
    size_t step = wo_arena_round(n->largest / CAPACITY_STEPS + 1), most = n->safe + 2 * n->largest + step, placed;
    WO_TRY(wo_ring_place(g, ahead, &placed, err));
    t->size.way = WO_RING_RESTART;
    size_t restart = smallest(g, ahead, t, n->held, most, step);
    t->size.way = WO_RING_RUNNING;
    size_t running = smallest(g, ahead, t, n->held > n->safe ? n->held : n->safe, most, step);
    *out = (wo_ring_size){.capacity = running, .way = WO_RING_RUNNING, .held = n->held};
    if (restart < running)
        *out = (wo_ring_size){.capacity = restart, .way = WO_RING_RESTART, .held = n->held};
    consider(g, ahead, t, WO_RING_ENDS, n->held, out);
    consider(g, ahead, t, WO_RING_PLACED, placed, out);
    if (out->capacity == SIZE_MAX)
        WO_FAIL(err, WO_EINTERNAL, "%s: no ring of up to %zu bytes holds the schedule", wo_component_name(g->component), most);
    return WO_OK;
}

wo_status wo_ring_plan(wo_groups *g, bool ahead, wo_ring_size *out, wo_error *err) {
    *out = (wo_ring_size){0};
    if (most_streamed(g) == 0)
        return WO_OK;
    need n = {.released = wo_table_create(PLAYED_PASSES * most_streamed(g), sizeof(bool), "the ring's plan", err)};
    trial t = {.slot_count = wo_ring_slot_count(g)};
    t.slots = wo_table_create(t.slot_count, sizeof *t.slots, "the ring's plan", err);
    wo_status status = WO_ENOMEMORY;
    if (n.released != NULL && t.slots != NULL) {
        for_each_play(g, ahead, measure, &n);
        status = choose(g, ahead, &t, &n, out, err);
    }
    wo_memory_release(n.released);
    wo_memory_release(t.slots);
    return status;
}
