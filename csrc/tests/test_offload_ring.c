/* The ring's bookkeeping, and the promise of its plan: whatever the schedule and in whatever order passes come, no use finds the ring
 * too small, nothing that is held is ever overwritten, and every writer is told to wait for all who were there before. */
#include "check.h"
#include "offload/ring.h"

enum { MAX_VISITS = 40, MAX_GROUPS = 12, PASSES = 2, RUN_PASSES = 12 };

static wo_error err;

static wo_ticket ticket(uint64_t value) {
    return (wo_ticket){.event = NULL, .value = value};
}

static void test_slots_wrap_and_hand_their_tickets_on(void) {
    wo_ring ring;
    wo_ring_slot slots[8];
    const wo_ring_size size = {.capacity = 1024, .way = WO_RING_RUNNING};
    wo_ring_init(&ring, &size, slots, 8, ticket(1));
    CHECK(wo_ring_acquire(&ring, 512, 0, 1)->offset == 0);
    CHECK(wo_ring_acquire(&ring, 256, 0, 1)->offset == 512);
    CHECK(wo_ring_acquire(&ring, 512, 0, 1) == NULL); /* would begin at 0 again, where the first slot is */
    CHECK(wo_ring_acquire(&ring, 2048, 0, 1) == NULL);
    wo_ring_give_back(&ring, 1, ticket(5));
    CHECK(wo_ring_acquire(&ring, 512, 0, 1) == NULL);
    wo_ring_give_back(&ring, 0, ticket(7));
    CHECK(wo_ring_acquire(&ring, 512, 0, 2)->offset == 0 && ring.wraps == 1);
    CHECK(ring.space.value == 7 && ring.space_pass == 1);
    CHECK(wo_ring_acquire(&ring, 256, 0, 2)->offset == 512);
    CHECK(ring.space.value == 7); /* the ticket of the second slot is older: the wait does not go back */
}

static void test_ends_are_taken_in_turn(void) {
    wo_ring ring;
    wo_ring_slot slots[8];
    const wo_ring_size size = {.capacity = 1024, .way = WO_RING_ENDS};
    wo_ring_init(&ring, &size, slots, 8, ticket(1));
    CHECK(wo_ring_acquire(&ring, 768, 0, 1)->offset == 0);
    CHECK(wo_ring_acquire(&ring, 256, 0, 1)->offset == 768);
    CHECK(wo_ring_acquire(&ring, 512, 0, 1) == NULL);
    wo_ring_give_back(&ring, 0, ticket(2));
    CHECK(wo_ring_acquire(&ring, 512, 0, 1)->offset == 0);
}

/* ---- random schedules ---- */

typedef struct drawn {
    wo_groups groups;
    wo_plan_group group[MAX_GROUPS];
    wo_schedule schedule[PASSES];
    wo_visit visits[PASSES][MAX_VISITS];
    int32_t group_of[PASSES][MAX_VISITS], streamed[PASSES][MAX_VISITS], visit_of_event[PASSES][2 * MAX_VISITS];
    size_t ring_offset[PASSES][MAX_VISITS];
} drawn;

static uint64_t state;
static uint64_t draw(uint64_t below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % below;
}

/* A pass of up to MAX_VISITS visits, of which up to `depth` are held at one time, let go in any order. */
static void draw_pass(drawn *d, int pass, size_t groups, uint64_t depth) {
    wo_schedule *s = &d->schedule[pass];
    int32_t held[8];
    size_t holding = 0, count = draw(MAX_VISITS + 1);
    *s = (wo_schedule){.visits = d->visits[pass], .groups = d->group_of[pass], .streamed = d->streamed[pass],
                       .ring_offset = d->ring_offset[pass], .visit_of_event = d->visit_of_event[pass]};
    while (s->visit_count < count || holding > 0) {
        bool begin = holding == 0 || (s->visit_count < count && holding < depth && draw(2) == 0);
        if (begin && s->visit_count < count) {
            int32_t v = (int32_t)s->visit_count++;
            s->groups[v] = (int32_t)draw(groups);
            bool resident = draw(8) == 0;
            s->visits[v] = (wo_visit){.group = s->groups[v], .streamed = resident ? -1 : (int32_t)s->streamed_count, .first_event = s->event_count};
            if (!resident)
                s->streamed[s->streamed_count++] = v;
            s->visit_of_event[s->event_count++] = v;
            held[holding++] = v;
        } else {
            size_t i = draw(holding);
            s->visits[held[i]].last_event = s->event_count;
            s->visit_of_event[s->event_count++] = held[i];
            held[i] = held[--holding];
        }
    }
}

static void draw_schedules(drawn *d) {
    size_t groups = 1 + draw(MAX_GROUPS);
    uint64_t depth = 1 + draw(4), equal = draw(2);
    for (size_t i = 0; i < groups; i++)
        d->group[i] = (wo_plan_group){.bytes = 256 * (equal ? 10 : 1 + draw(40))};
    d->groups = (wo_groups){.groups = d->group, .count = groups, .schedules = d->schedule, .passes = PASSES};
    for (int pass = 0; pass < PASSES; pass++)
        draw_pass(d, pass, groups, depth);
}

/* A streamer without a device: the same decisions, and a map of who wrote each unit of the ring last. */
typedef struct runner {
    drawn *d;
    wo_ring ring;
    wo_ring_slot slots[2 * MAX_VISITS + 2];
    uint64_t first, pass_number, clock;
    int pass, next;
    uint64_t owner[4096], freed[4096]; /* by 256 bytes: serial + 1 of the slot, and the ticket of the last that was there */
    uint64_t late;                     /* uses for which the group after was not fetched, though announced */
} runner;

static size_t streamed(const runner *r, int pass) {
    return pass >= 0 ? r->d->schedule[pass].streamed_count : 0;
}

static bool run_fetch(runner *r) {
    uint64_t visit = r->ring.next - r->first;
    bool announced = visit >= streamed(r, r->pass);
    const wo_schedule *s = &r->d->schedule[announced ? r->next : r->pass];
    visit -= announced ? streamed(r, r->pass) : 0;
    size_t bytes = r->d->group[s->groups[s->streamed[visit]]].bytes;
    const wo_ring_slot *slot = wo_ring_acquire(&r->ring, bytes, s->ring_offset[visit], r->pass_number + announced);
    if (slot == NULL)
        return false;
    CHECK(slot->offset + slot->bytes <= r->ring.capacity);
    for (size_t unit = slot->offset / 256; unit < (slot->offset + bytes) / 256; unit++) {
        CHECK(r->owner[unit] == 0);                    /* nobody holds these bytes */
        CHECK(r->freed[unit] <= r->ring.space.value);  /* and the writer waits for the last who did */
        r->owner[unit] = r->ring.next;
    }
    return true;
}

static void run_ahead(runner *r, bool ahead) {
    uint64_t limit = r->first + streamed(r, r->pass) + streamed(r, r->next);
    while (ahead && r->ring.next < limit && run_fetch(r))
        continue;
}

static void give_back(runner *r, uint64_t serial) {
    const wo_ring_slot *slot = wo_ring_slot_at(&r->ring, serial);
    r->clock++;
    for (size_t unit = slot->offset / 256; unit < (slot->offset + slot->bytes) / 256; unit++) {
        CHECK(r->owner[unit] == serial + 1);
        r->owner[unit] = 0;
        r->freed[unit] = r->clock;
    }
    wo_ring_give_back(&r->ring, serial, ticket(r->clock));
}

static void run_pass(runner *r, int pass, int next, bool ahead) {
    const wo_schedule *s = &r->d->schedule[pass];
    r->first += streamed(r, r->pass);
    if (r->next != pass || !ahead) {
        for (uint64_t serial = r->first; serial < r->ring.next; serial++)
            give_back(r, serial);
        wo_ring_rewind(&r->ring);
        r->first = r->ring.next;
    }
    r->pass = pass;
    r->next = next;
    r->pass_number++;
    run_ahead(r, ahead);
    for (size_t event = 0; event < s->event_count; event++) {
        const wo_visit *visit = &s->visits[s->visit_of_event[event]];
        if (visit->streamed < 0)
            continue;
        uint64_t serial = r->first + (uint64_t)visit->streamed;
        if (visit->first_event == event) {
            while (r->ring.next <= serial)
                CHECK(run_fetch(r));
            run_ahead(r, ahead);
            r->late += ahead && r->ring.next == serial + 1 && serial + 1 < r->first + streamed(r, pass) + streamed(r, next);
        } else {
            give_back(r, serial);
            run_ahead(r, ahead);
        }
    }
}

static void test_no_schedule_finds_its_ring_too_small(void) {
    static drawn d;
    static runner r;
    for (uint64_t seed = 1; seed <= 600; seed++) {
        bool ahead = seed % 3 != 0;
        wo_ring_size size;
        state = seed;
        draw_schedules(&d);
        CHECK_OK(wo_ring_plan(&d.groups, ahead, &size, &err), &err);
        CHECK(size.capacity >= size.held && size.capacity / 256 <= sizeof r.owner / sizeof *r.owner);
        r = (runner){.d = &d, .pass = -1, .next = -1};
        wo_ring_init(&r.ring, &size, r.slots, wo_ring_slot_count(&d.groups), ticket(0));
        for (int i = 0, pass = (int)draw(PASSES); i < RUN_PASSES; i++) {
            int next = (int)draw(PASSES + 1) - 1;
            run_pass(&r, pass, next, ahead);
            pass = draw(4) == 0 ? (int)draw(PASSES) : next < 0 ? 0 : next;
        }
        /* In the order that a pipeline has, one pass is always fetched ahead; ways that depend on the place may be late now and then. */
        r = (runner){.d = &d, .pass = -1, .next = -1};
        wo_ring_init(&r.ring, &size, r.slots, wo_ring_slot_count(&d.groups), ticket(0));
        for (int i = 0; i < RUN_PASSES; i++)
            run_pass(&r, i > 0, 1, ahead);
        CHECK(size.way == WO_RING_RUNNING || r.late == 0);
    }
}

int main(void) {
    test_slots_wrap_and_hand_their_tickets_on();
    test_ends_are_taken_in_turn();
    test_no_schedule_finds_its_ring_too_small();
    return 0;
}
