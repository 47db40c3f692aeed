/* The order of things, for slot s of the ring, visit n, and the visit m that uses the same bytes later:
 *
 *     copy      fetch n | ready(n)                          wait freed(n) | fetch m | ready(m)
 *     compute             wait ready(n) | ops of n | freed(n)                         wait ready(m) | ops of m
 *     host      acquire n, ..., give back n, fetch m, ...   runs ahead
 *
 * The host runs ahead of both streams, and waits for nothing but readers that are more than 64 pieces behind (loader.c). Room is
 * free for it as soon as give_back was called for whoever had it; that the device is through with the bytes is what `freed` says,
 * and only the copy stream (or the reader that writes there) waits for it. */
#include "offload/streamer.h"

#include "offload/slab.h"

void wo_streamer_init(wo_streamer *s, wo_engine *e, const wo_plan *plan, wo_loader *loader, const char *const *slabs, char *base,
                      wo_ring_slot *slots, wo_ticket space) {
    bool ahead = plan->summary.policy.use_stream;
    *s = (wo_streamer){.engine = e, .plan = plan, .loader = loader, .base = base, .stream = ahead ? e->copy : e->compute,
                       .ahead = ahead, .turn.pass = -1, .next.pass = -1};
    for (int i = 0; i < plan->experts; i++)
        s->slabs[i] = slabs[i];
    wo_ring_init(&s->ring, &plan->ring, slots, wo_ring_slot_count(&plan->groups), space);
}

static size_t streamed_count(const wo_streamer *s, int pass) {
    return pass >= 0 ? s->plan->groups.schedules[pass].streamed_count : 0;
}

/* Which edge stands behind the ring's `space` for a slot of this pass. */
static wo_edge space_edge(const wo_streamer *s, uint64_t pass_number) {
    if (s->ring.space_pass == 0)
        return WO_EDGE_HAND_OVER;
    return s->ring.space_pass == pass_number ? WO_EDGE_FREE : WO_EDGE_WRAP_AROUND;
}

static wo_status fill_slot(wo_streamer *s, int expert, size_t group, wo_ring_slot *slot, wo_ticket space, wo_error *err) {
    const wo_plan_group *g = &s->plan->groups.groups[group];
    char *dst = s->base + slot->offset;
    s->bytes_moved += g->bytes;
    int32_t number = wo_plan_group_number(s->plan, expert, group);
    WO_TRY(wo_trace_cut(s->engine->trace, s->stream, WO_LANE_COPY, number, slot->pass, g->bytes, err));
    slot->span = wo_trace_latest(s->engine->trace, s->stream);
    if (g->tier == WO_TIER_HOST) {
        s->bytes_from_host += wo_slab_bytes(s->plan, expert, group);
        return wo_slab_fetch(s->engine, s->stream, s->plan, expert, group, dst, s->slabs[expert], s->base + s->plan->arrival_offset, err);
    }
    wo_load load = {.expert = expert, .number = group, .index = number, .pass = slot->pass, .dst = dst, .stream = s->stream, .space = space};
    wo_status status = wo_loader_enqueue(s->loader, &load, err);
    s->bytes_from_disk += load.bytes_at_rest;
    return status;
}

/* Fetches on the compute stream are timed apart, for they are no computing. */
static void begin_copying(void *ctx) {
    wo_streamer *s = ctx;
    double stalled;
    s->engine->device->stream->times(s->stream, &s->copy_began, &stalled);
}

static void end_copying(void *ctx) {
    wo_streamer *s = ctx;
    double busy, stalled;
    s->engine->device->stream->times(s->stream, &busy, &stalled);
    s->copy_seconds += busy - s->copy_began;
}

/* Fetches the next visit of the running or the announced pass. *fetched is false when the ring has no room for it yet. */
static wo_status fetch(wo_streamer *s, bool *fetched, wo_error *err) {
    wo_engine *e = s->engine;
    uint64_t visit = s->ring.next - s->first;
    bool announced = visit >= streamed_count(s, s->turn.pass);
    wo_turn turn = announced ? s->next : s->turn;
    const wo_schedule *schedule = &s->plan->groups.schedules[turn.pass];
    visit -= announced ? streamed_count(s, s->turn.pass) : 0;
    size_t group = (size_t)schedule->groups[schedule->streamed[visit]];
    uint64_t pass_number = s->pass_number + announced;
    wo_ring_slot *slot = wo_ring_acquire(&s->ring, s->plan->groups.groups[group].bytes, schedule->ring_offset[visit], pass_number);
    *fetched = slot != NULL;
    if (slot == NULL)
        return WO_OK;
    wo_edge edge = space_edge(s, pass_number);
    if (s->ahead) { /* on the compute stream itself the room is free by then anyway */
        WO_TRY(wo_engine_edge_wait(e, edge, s->stream, s->ring.space, err));
        WO_TRY(wo_engine_edge_delay(e, WO_EDGE_READY, s->stream, err));
        if (announced)
            WO_TRY(wo_engine_edge_delay(e, WO_EDGE_HAND_OVER, s->stream, err));
    }
    if (!s->ahead) {
        WO_TRY(wo_trace_cut(e->trace, s->stream, WO_LANE_NONE, -1, 0, 0, err)); /* no span of computing overlaps what is timed */
        WO_TRY(e->device->stream->host_call(s->stream, begin_copying, s, err));
    }
    WO_TRY(fill_slot(s, turn.expert, group, slot, wo_engine_edge_ticket(e, edge, s->ring.space), err));
    WO_TRY(wo_trace_cut(e->trace, s->stream, WO_LANE_NONE, -1, 0, 0, err));
    if (!s->ahead)
        return e->device->stream->host_call(s->stream, end_copying, s, err);
    return e->device->stream->event_record(s->stream, e->ready, &slot->ready, err);
}

static wo_status fetch_ahead(wo_streamer *s, wo_error *err) {
    uint64_t limit = s->first + streamed_count(s, s->turn.pass) + streamed_count(s, s->next.pass);
    bool fetched = s->ahead;
    while (fetched && s->ring.next < limit)
        WO_TRY(fetch(s, &fetched, err));
    return WO_OK;
}

/* Lets go of what was fetched for a pass that does not come. The compute stream waits for those copies, so that `freed` says of
 * these slots what it says of all others. */
static wo_status abandon(wo_streamer *s, uint64_t from, wo_error *err) {
    wo_device *d = s->engine->device;
    for (uint64_t serial = from; serial < s->ring.next; serial++) {
        wo_ticket freed;
        WO_TRY(d->stream->wait(s->engine->compute, wo_ring_slot_at(&s->ring, serial)->ready, err));
        WO_TRY(wo_trace_release(wo_ring_slot_at(&s->ring, serial)->span, s->engine->compute, err));
        WO_TRY(d->stream->event_record(s->engine->compute, s->engine->freed, &freed, err));
        wo_ring_give_back(&s->ring, serial, freed);
    }
    return WO_OK;
}

wo_status wo_streamer_begin(wo_streamer *s, wo_turn turn, wo_turn next, wo_error *err) {
    s->first += streamed_count(s, s->turn.pass);
    if (s->next.pass != turn.pass || s->next.expert != turn.expert || !s->ahead) {
        WO_TRY(abandon(s, s->first, err));
        wo_ring_rewind(&s->ring);
        s->first = s->ring.next;
    }
    s->turn = turn;
    s->next = next;
    s->pass_number++;
    return fetch_ahead(s, err);
}

static int32_t group_of(const wo_streamer *s, int32_t visit) {
    const wo_schedule *schedule = &s->plan->groups.schedules[s->turn.pass];
    return wo_plan_group_number(s->plan, s->turn.expert, (size_t)schedule->groups[schedule->streamed[visit]]);
}

wo_status wo_streamer_acquire(wo_streamer *s, int32_t visit, wo_error *err) {
    wo_engine *e = s->engine;
    uint64_t serial = s->first + (uint64_t)visit;
    for (bool fetched = true; s->ring.next <= serial;) {
        WO_TRY(fetch(s, &fetched, err));
        if (!fetched)
            WO_FAIL(err, WO_EINTERNAL, "%s: the ring of %zu bytes has no room for visit %d", s->plan->summary.component, s->ring.capacity, visit);
    }
    WO_TRY(wo_trace_cut(e->trace, e->compute, WO_LANE_COMPUTE, group_of(s, visit), s->pass_number, 0, err));
    if (s->ahead)
        WO_TRY(wo_engine_edge_wait(e, WO_EDGE_READY, e->compute, wo_ring_slot_at(&s->ring, serial)->ready, err));
    WO_TRY(wo_engine_edge_delay(e, WO_EDGE_FREE, e->compute, err));
    if (s->next.pass >= 0 && (size_t)visit + 1 == streamed_count(s, s->turn.pass))
        WO_TRY(wo_engine_edge_delay(e, WO_EDGE_WRAP_AROUND, e->compute, err));
    s->visits++;
    return fetch_ahead(s, err);
}

char *wo_streamer_slab(wo_streamer *s, int32_t visit) {
    return s->base + wo_ring_slot_at(&s->ring, s->first + (uint64_t)visit)->offset;
}

wo_status wo_streamer_give_back(wo_streamer *s, int32_t visit, wo_error *err) {
    wo_engine *e = s->engine;
    uint64_t serial = s->first + (uint64_t)visit;
    const wo_ring_slot *slot = wo_ring_slot_at(&s->ring, serial);
    wo_ticket freed;
    if (e->testing.poison)
        WO_TRY(e->device->stream->poison(e->compute, s->base + slot->offset, slot->bytes, err));
    WO_TRY(wo_trace_release(slot->span, e->compute, err));
    WO_TRY(e->device->stream->event_record(e->compute, e->freed, &freed, err));
    wo_ring_give_back(&s->ring, serial, freed);
    return fetch_ahead(s, err);
}
