/* Opening and closing an exec: everything that is allocated, loaded or started is so here, and nothing of it during passes.
 *
 * Hand-over. A closed exec may leave work behind on both streams: copies for a pass that was announced and did not come, and in chaos
 * mode the poison over everything it had. Nobody waits for that on the host. The next exec's compute stream waits until
 * the copies have ended, and its copies (and readers) wait until the compute stream has come to where the exec was opened. */
#include "offload/exec_impl.h"

#include "base/clock.h"
#include "offload/table.h"

#include <string.h>

static wo_status allocate_tables(wo_exec *x, wo_error *err) {
    const wo_record *record = x->plan->record;
    size_t live = 0, touches = 0;
    for (int i = 0; i < record->passes; i++) {
        const wo_record_pass *pass = &record->pass[i];
        live = pass->live_most > live ? pass->live_most : live;
        touches = pass->block_count > touches ? pass->block_count : touches;
    }
    x->slots = wo_table_create(wo_ring_slot_count(&x->plan->groups), sizeof *x->slots, "the ring's slots", err);
    x->params = wo_table_create(wo_component_layers(x->component), sizeof *x->params, "views of weights", err);
    x->kept = wo_table_create((size_t)x->plan->experts * record->keep_count, sizeof *x->kept, "the list of kept memory", err);
    x->live = wo_table_create(live, sizeof *x->live, "the list of activations", err);
    x->touches = wo_table_create(x->engine->testing.poison ? touches : 0, sizeof *x->touches, "the list of activations", err);
    x->touch_count = x->engine->testing.poison ? touches : 0;
    return x->slots != NULL && x->params != NULL && x->kept != NULL && x->live != NULL && x->touches != NULL ? WO_OK : WO_ENOMEMORY;
}

static bool rests_on_disk(const wo_plan *plan) {
    for (size_t i = 0; i < plan->groups.count; i++)
        if (plan->groups.groups[i].tier == WO_TIER_DISK)
            return true;
    return false;
}

/* Fills residents and slabs where they are missing. The loader stays only when passes read from disk as well. */
static wo_status load_weights(wo_exec *x, wo_error *err) {
    wo_engine *e = x->engine;
    const wo_plan *plan = x->plan;
    bool full = true, disk = rests_on_disk(plan);
    for (int i = 0; i < plan->experts; i++) {
        WO_TRY(wo_holding_find(e, plan, i, &x->holding[i], err));
        full = full && wo_holding_is_full(x->holding[i], plan, i);
    }
    if (full && !disk)
        return WO_OK;
    WO_TRY(wo_engine_set_readers(e, plan->readers, err));
    wo_reader_set_cancel(e->reader, &e->cancel);
    x->read_seconds_before = wo_reader_seconds(e->reader);
    WO_TRY(wo_loader_open(e, plan, &x->loader, err));
    for (int i = 0; i < plan->experts; i++)
        if (!wo_holding_is_full(x->holding[i], plan, i))
            WO_TRY(wo_holding_fill(e, x->holding[i], plan, i, x->loader, &x->bytes_loaded, err));
    if (!disk) {
        wo_loader_close(x->loader);
        x->loader = NULL;
    }
    return WO_OK;
}

static wo_status take_host_keep(wo_exec *x, wo_error *err) {
    size_t bytes = x->plan->summary.host_keep_bytes;
    if (bytes == 0)
        return WO_OK;
    void *memory;
    WO_TRY(x->device->memory->host_alloc(x->device, bytes, "memory kept on the host", &memory, err));
    x->host_keep = memory;
    if (x->engine->testing.poison)
        memset(memory, 0xff, bytes);
    return WO_OK;
}

/* Poison mode on a device whose memory the host cannot read: somewhere to look at its activations. */
static wo_status take_mirror(wo_exec *x, wo_error *err) {
    const wo_record *record = x->plan->record;
    void *memory;
    if (!x->engine->testing.poison || x->device->memory->host_addressable)
        return WO_OK;
    x->mirror_bytes = 1;
    for (int i = 0; i < record->passes; i++)
        for (size_t k = 0; k < record->pass[i].block_count; k++) {
            size_t bytes = wo_arena_round(record->pass[i].blocks[k].bytes);
            x->mirror_bytes = bytes > x->mirror_bytes ? bytes : x->mirror_bytes;
        }
    WO_TRY(x->device->memory->host_alloc(x->device, x->mirror_bytes, "a look at activations", &memory, err));
    x->mirror = memory;
    return WO_OK;
}

/* Takes the arena over from the exec before. */
static wo_status take_over(wo_exec *x, wo_error *err) {
    wo_engine *e = x->engine;
    const wo_stream_api *api = x->device->stream;
    wo_ticket space;
    const char *slabs[WO_MAX_EXPERTS] = {NULL};
    WO_TRY(wo_engine_edge_wait(e, WO_EDGE_HAND_OVER, e->compute, e->left_at, err));
    if (e->testing.poison && e->arena_bytes > 0)
        WO_TRY(api->poison(e->compute, e->arena, e->arena_bytes, err));
    WO_TRY(api->event_record(e->compute, e->freed, &space, err));
    x->arena = e->arena;
    for (int i = 0; i < x->plan->experts; i++)
        slabs[i] = x->holding[i]->slabs;
    wo_streamer_init(&x->streamer, e, x->plan, x->loader, slabs, e->arena, x->slots, space);
    return WO_OK;
}

/* An arena that another exec needed more of would break a budget. */
static void shrink_arena(wo_engine *e, const wo_plan_summary *s) {
    if (s->policy.vram >= 0 && e->arena_bytes > s->work_bytes)
        wo_engine_release_arena(e);
}

static wo_status open_session(wo_exec *x, wo_error *err) {
    wo_engine *e = x->engine;
    for (int i = 0; i < x->plan->experts; i++)
        WO_TRY(wo_store_check_unchanged(wo_component_store(x->plan->expert[i]), err));
    WO_TRY(allocate_tables(x, err));
    WO_TRY(wo_trace_create(e->compute, e->copy, x->plan->summary.policy.trace_spans, &e->trace, err));
    if (e->reader != NULL)
        x->read_seconds_before = wo_reader_seconds(e->reader);
    WO_TRY(wo_engine_reserve(e, x->plan->summary.work_bytes, err));
    WO_TRY(load_weights(x, err));
    WO_TRY(take_host_keep(x, err));
    WO_TRY(take_mirror(x, err));
    return take_over(x, err);
}

/* Returns memory; nothing uses it any more. */
static void release(wo_exec *x) {
    for (int i = 0; i < x->plan->experts; i++)
        if (x->holding[i] != NULL)
            x->holding[i]->in_use = false;
    wo_trace_destroy(x->engine->trace);
    x->engine->trace = NULL;
    wo_loader_close(x->loader);
    if (x->host_keep != NULL)
        x->device->memory->host_release(x->device, x->host_keep);
    if (x->mirror != NULL)
        x->device->memory->host_release(x->device, x->mirror);
    wo_memory_release(x->slots);
    wo_memory_release(x->params);
    wo_memory_release(x->kept);
    wo_memory_release(x->live);
    wo_memory_release(x->touches);
    wo_plan_release(x->plan);
    wo_memory_release(x);
}

/* After a failure: waits for everything, then the device's error and the cancel token have done their work. */
static void clear_failure(wo_engine *e) {
    wo_engine_quiesce(e);
    e->device->stream->clear_error(e->device);
}

static void detach_cancel(wo_engine *e) {
    e->device->stream->set_cancel(e->device, NULL);
    if (e->reader != NULL)
        wo_reader_set_cancel(e->reader, NULL);
}

wo_status wo_exec_open(wo_engine *e, const wo_component *c, wo_plan *plan, wo_exec **out, wo_error *err) {
    *out = NULL;
    if (plan->expert[0] != c || plan->serial[0] != wo_component_serial(c))
        WO_FAIL(err, WO_EINTERNAL, "the plan was made for another component than this %s", wo_component_name(c));
    if (atomic_flag_test_and_set(&e->busy))
        WO_FAIL(err, WO_EBUSY, "%s cannot start: the engine is running another component", wo_component_name(c));
    wo_cancel_reset(&e->cancel);
    shrink_arena(e, &plan->summary);
    wo_memory_reset_peak();
    double begin = wo_clock_seconds();
    wo_exec *x = wo_table_create(1, sizeof *x, "an exec", err);
    if (x == NULL) {
        atomic_flag_clear(&e->busy);
        return WO_ENOMEMORY;
    }
    *x = (wo_exec){.component = c, .device = e->device, .compute = e->compute, .knobs = plan->summary.knobs, .engine = e,
                   .plan = wo_plan_retain(plan), .pass = -1, .opened = begin};
    e->device->stream->set_cancel(e->device, &e->cancel);
    wo_status status = open_session(x, err);
    if (status != WO_OK) {
        clear_failure(e);
        detach_cancel(e);
        release(x);
        atomic_flag_clear(&e->busy);
        return status;
    }
    e->device->stream->reset_times(e->compute);
    e->device->stream->reset_times(e->copy);
    x->load_seconds = wo_clock_seconds() - begin;
    e->open = x;
    *out = x;
    return WO_OK;
}

/* Leaves the arena to the next exec. In chaos mode everything in it dies here; a delayed hand-over lets that come late, but not
 * while copies for a pass that did not come are still arriving. */
static void leave(wo_exec *x) {
    wo_engine *e = x->engine;
    const wo_stream_api *api = e->device->stream;
    bool late = (e->testing.delay_edges >> WO_EDGE_HAND_OVER & 1) != 0;
    wo_error ignored; /* enqueueing does not fail on a stream that is in order; what fails later is the next exec's to report */
    e->delays[WO_EDGE_HAND_OVER] = 0;
    api->event_record(e->copy, e->left, &e->left_at, &ignored);
    if (late) {
        wo_engine_edge_delay(e, WO_EDGE_HAND_OVER, e->compute, &ignored);
        wo_engine_edge_wait(e, WO_EDGE_HAND_OVER, e->compute, e->left_at, &ignored);
    }
    if ((late || e->testing.poison) && e->arena_bytes > 0)
        api->poison(e->compute, e->arena, e->arena_bytes, &ignored);
}

/* Readers write into the ring and the staging slots and are waited for, as are conversions from staging, which goes back now. */
static void settle(wo_exec *x) {
    wo_engine *e = x->engine;
    if (x->failed)
        clear_failure(e);
    if (x->loader != NULL) {
        wo_reader_drain(e->reader);
        e->device->stream->sync(e->copy, NULL);
    }
    if (e->testing.poison || e->trace != NULL)
        wo_engine_quiesce(e);
    detach_cancel(e);
    /* A fetch for a pass that did not come may have failed: that is nobody's failure. */
    e->device->stream->clear_error(e->device);
}

wo_trace *wo_exec_take_trace(wo_exec *x) {
    wo_engine *e = x->engine;
    wo_trace *trace = e->trace;
    if (trace != NULL) {
        wo_engine_quiesce(e);
        wo_trace_finish(trace);
        e->trace = NULL;
    }
    return trace;
}

void wo_exec_close(wo_exec *x, wo_report *report) {
    if (x == NULL)
        return;
    wo_engine *e = x->engine;
    settle(x);
    if (report != NULL)
        wo_exec_fill_report(x, report);
    leave(x);
    e->open = NULL;
    release(x);
    atomic_flag_clear(&e->busy);
}
