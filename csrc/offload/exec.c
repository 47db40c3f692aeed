/* What the model's code calls. On a real exec nothing is decided here: the n-th allocation of a pass lies where the plan has put the n-th
 * allocation, a layer lies where the streamer or the residents have it, and a sequence of calls that differs from the recorded one is an
 * error before it can do harm. On a dry exec the calls go to the recorder. */
#include "offload/exec_impl.h"

#include <assert.h>
#include <inttypes.h>

const wo_knobs *wo_exec_knobs(const wo_exec *x) {
    return &x->knobs;
}

wo_device *wo_exec_device(const wo_exec *x) {
    return x->device;
}

wo_stream *wo_exec_stream(const wo_exec *x) {
    return x->compute;
}

bool wo_exec_is_dry(const wo_exec *x) {
    return x->recorder != NULL;
}

static const wo_record_pass *recorded(const wo_exec *x) {
    return &x->plan->record->pass[x->pass];
}

/* A free cannot fail where it is called; the next call that can does so in its place. */
static wo_status earlier_failure(const wo_exec *x, wo_error *err) {
    wo_status status = x->failure.code;
    if (status != WO_OK && err != NULL)
        *err = x->failure;
    return status;
}

/* ---- activations ---- */

wo_status wo_exec_alloc(wo_exec *x, wo_dtype dtype, int rank, const int64_t *shape, wo_tensor *out, wo_error *err) {
    wo_tensor t = wo_tensor_make(NULL, dtype, rank, shape);
    *out = (wo_tensor){0};
    if (x->recorder != NULL) {
        WO_TRY(wo_recorder_alloc(x->recorder, &t, err));
        *out = t;
        return WO_OK;
    }
    WO_TRY(earlier_failure(x, err));
    const wo_record_pass *pass = recorded(x);
    size_t bytes = wo_tensor_bytes(&t), index = x->block_cursor;
    const wo_lifetime *block = index < pass->block_count ? &pass->blocks[index] : NULL;
    if (block == NULL || block->bytes != (bytes > 0 ? bytes : 1) || block->born != x->events)
        WO_FAIL(err, WO_EINTERNAL, "%s, pass %d: allocation %zu of %zu bytes at event %" PRId64 " is not the planned one (%zu bytes at event %" PRId64 ")",
                wo_component_name(x->component), x->pass, index, bytes, x->events, block != NULL ? block->bytes : 0, block != NULL ? block->born : -1);
    t.data = x->arena + x->plan->activation_offset + block->offset;
    x->live[x->live_count++] = (wo_live_tensor){t.data, index};
    x->block_cursor++;
    x->events++;
    x->live_bytes += wo_arena_round(block->bytes);
    wo_trace_note_alive(x->engine->trace, x->live_bytes);
    size_t end = block->offset + wo_arena_round(block->bytes);
    x->activation_peak = end > x->activation_peak ? end : x->activation_peak;
    *out = t;
    return WO_OK;
}

static void free_real(wo_exec *x, const wo_tensor *t) {
    const wo_record_pass *pass = recorded(x);
    wo_error *err = &x->failure;
    if (err->code != WO_OK)
        return;
    size_t i = x->live_count;
    while (i > 0 && x->live[i - 1].data != t->data)
        i--;
    if (i == 0 || pass->blocks[x->live[i - 1].index].dies != x->events) {
        char text[96];
        wo_error_set(err, WO_EINTERNAL, "%s, pass %d: tensor %s is freed at event %" PRId64 ", where the plan has no such free",
                     wo_component_name(x->component), x->pass, wo_tensor_describe(t, text, sizeof text), x->events);
        return;
    }
    const wo_lifetime *block = &pass->blocks[x->live[i - 1].index];
    x->live[i - 1] = x->live[--x->live_count];
    x->live_bytes -= wo_arena_round(block->bytes);
    x->events++;
    if (x->engine->testing.poison)
        wo_exec_poison(x, t->data, wo_arena_round(block->bytes), err);
}

void wo_exec_free(wo_exec *x, wo_tensor *t) {
    if (t->data != NULL && x->recorder != NULL)
        wo_recorder_free(x->recorder, t);
    else if (t->data != NULL)
        free_real(x, t);
    *t = (wo_tensor){0};
}

/* ---- memory kept between passes ---- */

wo_status wo_exec_keep(wo_exec *x, uint64_t key, bool host, wo_dtype dtype, int rank, const int64_t *shape, wo_tensor *out, bool *fresh, wo_error *err) {
    wo_tensor t = wo_tensor_make(NULL, dtype, rank, shape);
    *out = (wo_tensor){0};
    if (x->recorder != NULL) {
        WO_TRY(wo_recorder_keep(x->recorder, key, host, &t, fresh, err));
        *out = t;
        return WO_OK;
    }
    const wo_record *record = x->plan->record;
    int64_t at = wo_record_find_keep(record, key, x->keep_cursor);
    if (at < 0 || record->keeps[at].bytes != wo_tensor_bytes(&t) || record->keeps[at].host != host)
        WO_FAIL(err, WO_EINTERNAL, "%s, pass %d: kept memory %" PRIu64 " of %zu bytes is not planned", wo_component_name(x->component), x->pass, key,
                wo_tensor_bytes(&t));
    size_t expert = (size_t)x->expert, own = expert * (host ? record->host_keep_bytes : record->keep_bytes);
    bool *kept = &x->kept[expert * record->keep_count + (size_t)at];
    t.data = (host ? x->host_keep : x->arena + x->plan->keep_offset) + own + record->keeps[at].offset;
    *fresh = !*kept;
    *kept = true;
    x->keep_cursor = (size_t)at + 1;
    *out = t;
    return WO_OK;
}

/* ---- weights ---- */

static const char *group_name(const wo_exec *x, int32_t layer) {
    int32_t group = x->plan->groups.group_of_layer[layer];
    return group >= 0 ? x->plan->groups.groups[group].name : "a table";
}

/* Compares the call with the record and steps over it. *visit: the visit that it belongs to. */
static wo_status step(wo_exec *x, const wo_layer *layer, bool done, size_t *event, const wo_visit **visit, wo_error *err) {
    const wo_record_pass *pass = recorded(x);
    const char *verb = done ? "let go" : "taken into use";
    WO_TRY(earlier_failure(x, err));
    if (wo_cancel_requested(&x->engine->cancel)) /* what is queued is skipped anyway: spare the rest of the pass */
        WO_FAIL(err, WO_ECANCELLED, "cancelled");
    if (x->use_cursor >= pass->use_count)
        WO_FAIL(err, WO_EINTERNAL, "%s, pass %d: layer '%s' of group '%s' is %s after the end of the schedule", wo_component_name(x->component),
                x->pass, layer->name, group_name(x, layer->index), verb);
    const wo_use_event *planned = &pass->uses[x->use_cursor];
    if (planned->layer != layer->index || planned->done != done)
        WO_FAIL(err, WO_EINTERNAL, "%s, pass %d: layer '%s' of group '%s' is %s where the schedule has layer '%s' of group '%s' %s",
                wo_component_name(x->component), x->pass, layer->name, group_name(x, layer->index), verb,
                wo_component_layer(x->component, (size_t)planned->layer)->name, group_name(x, planned->layer),
                planned->done ? "let go" : "taken into use");
    const wo_schedule *schedule = &x->plan->groups.schedules[x->pass];
    *event = x->use_cursor++;
    *visit = &schedule->visits[schedule->visit_of_event[*event]];
    return WO_OK;
}

/* From here on the compute stream works with this group, or before the first. */
static wo_status trace_compute(wo_exec *x, int32_t group, wo_error *err) {
    return wo_trace_cut(x->engine->trace, x->compute, WO_LANE_COMPUTE, group < 0 ? -1 : wo_plan_group_number(x->plan, x->expert, (size_t)group), x->passes + 1, 0, err);
}

wo_status wo_exec_use(wo_exec *x, const wo_layer *layer, const wo_tensor **params, wo_error *err) {
    if (x->recorder != NULL)
        return wo_recorder_use(x->recorder, layer, params, err);
    const wo_visit *visit = NULL;
    size_t event = 0;
    WO_TRY(step(x, layer, false, &event, &visit, err));
    if (visit->first_event == event) {
        WO_TRY(visit->streamed >= 0 ? wo_streamer_acquire(&x->streamer, visit->streamed, err) : trace_compute(x, visit->group, err));
        wo_trace_note_alive(x->engine->trace, x->live_bytes);
    }
    char *slab = visit->streamed >= 0 ? wo_streamer_slab(&x->streamer, visit->streamed) : x->holding[x->expert]->residents + x->plan->groups.offsets[visit->group];
    wo_tensor *views = x->params[layer->index];
    for (int32_t i = 0; i < layer->params; i++) {
        views[i] = layer->param[i].shape_of_use;
        views[i].data = slab + x->plan->groups.layer_offset[layer->index] + layer->param[i].slab_offset;
    }
    *params = views;
    return WO_OK;
}

wo_status wo_exec_done(wo_exec *x, const wo_layer *layer, wo_error *err) {
    if (x->recorder != NULL)
        return wo_recorder_done(x->recorder, layer, err);
    const wo_visit *visit = NULL;
    size_t event = 0;
    WO_TRY(step(x, layer, true, &event, &visit, err));
    if (visit->streamed >= 0 && visit->last_event == event)
        WO_TRY(wo_streamer_give_back(&x->streamer, visit->streamed, err));
    return WO_OK;
}

/* ---- copies ---- */

static wo_status copy(wo_exec *x, void *dst, const void *src, size_t bytes, wo_error *err) {
    return x->recorder != NULL || bytes == 0 ? WO_OK : wo_engine_copy(x->engine, x->compute, dst, src, bytes, err);
}

wo_status wo_exec_upload(wo_exec *x, const wo_tensor *dst, const void *src, wo_error *err) {
    return copy(x, dst->data, src, wo_tensor_bytes(dst), err);
}

wo_status wo_exec_download(wo_exec *x, void *dst, const wo_tensor *src, wo_error *err) {
    return copy(x, dst, src->data, wo_tensor_bytes(src), err);
}

wo_status wo_exec_copy(wo_exec *x, const wo_tensor *dst, const wo_tensor *src, wo_error *err) {
    if (wo_tensor_bytes(dst) != wo_tensor_bytes(src)) {
        char to[96], from[96];
        WO_FAIL(err, WO_EINTERNAL, "%s: %s cannot be copied to %s", wo_component_name(x->component), wo_tensor_describe(src, from, sizeof from),
                wo_tensor_describe(dst, to, sizeof to));
    }
    return copy(x, dst->data, src->data, wo_tensor_bytes(dst), err);
}

/* ---- a pass ---- */

void wo_exec_reset_pass(wo_exec *x) {
    x->pass = -1;
    x->use_cursor = x->block_cursor = x->keep_cursor = x->live_count = x->live_bytes = x->touch_cursor = 0;
    x->events = 0;
    x->failure = (wo_error){.code = WO_OK};
}

static wo_status begin_pass(wo_exec *x, wo_turn turn, wo_turn next, wo_error *err) {
    wo_engine *e = x->engine;
    x->component = x->plan->expert[turn.expert];
    WO_TRY(wo_store_check_unchanged(wo_component_store(x->component), err));
    if (next.pass >= 0 && next.expert != turn.expert)
        WO_TRY(wo_store_check_unchanged(wo_component_store(x->plan->expert[next.expert]), err));
    wo_exec_reset_pass(x);
    x->pass = turn.pass;
    x->expert = turn.expert;
    for (int i = 0; i < WO_EDGE_COUNT; i++)
        e->delays[i] = 0;
    e->device->stream->set_cancel(e->device, &e->cancel);
    WO_TRY(trace_compute(x, -1, err));
    return wo_streamer_begin(&x->streamer, turn, next, err);
}

/* The model has called everything that was recorded, and what it left allocated dies here. */
static wo_status end_pass(wo_exec *x, wo_error *err) {
    const wo_record_pass *pass = recorded(x);
    WO_TRY(earlier_failure(x, err));
    if (x->use_cursor != pass->use_count || x->block_cursor != pass->block_count)
        WO_FAIL(err, WO_EINTERNAL, "%s, pass %d ended after %zu of %zu uses and %zu of %zu allocations", wo_component_name(x->component), x->pass,
                x->use_cursor, pass->use_count, x->block_cursor, pass->block_count);
    for (size_t i = 0; i < x->live_count && x->engine->testing.poison; i++)
        WO_TRY(wo_exec_poison(x, x->live[i].data, wo_arena_round(pass->blocks[x->live[i].index].bytes), err));
    return wo_trace_cut(x->engine->trace, x->compute, WO_LANE_NONE, -1, 0, 0, err);
}

static bool is_turn(const wo_exec *x, wo_turn turn) {
    return turn.pass >= 0 && turn.pass < x->plan->record->passes && turn.expert >= 0 && turn.expert < x->plan->experts;
}

wo_status wo_exec_run_turn(wo_exec *x, const void *model, wo_forward_fn forward, wo_turn turn, wo_turn next, const void *request, wo_error *err) {
    wo_error own;
    wo_engine *e = x->engine;
    err = err != NULL ? err : &own;
    if (x->failed)
        WO_FAIL(err, WO_EINTERNAL, "%s: a pass failed before; this exec can only be closed", wo_component_name(x->component));
    if (!is_turn(x, turn) || (next.pass != -1 && !is_turn(x, next)))
        WO_FAIL(err, WO_EINTERNAL, "%s: there is no pass %d of expert %d followed by %d of %d; it has %d of %d", wo_component_name(x->component),
                turn.pass, turn.expert, next.pass, next.expert, x->plan->record->passes, x->plan->experts);
    wo_status status = begin_pass(x, turn, next, err);
    if (status == WO_OK)
        status = forward(model, x, turn.pass, request, err);
    if (status == WO_OK)
        status = end_pass(x, err);
    if (status == WO_OK)
        status = e->device->stream->sync(e->compute, err);
    x->failed = status != WO_OK;
    if (x->failed)
        wo_engine_quiesce(e); /* the caller's buffers are his again */
    else
        x->passes++;
    x->pass = -1;
    return status;
}

wo_status wo_exec_run(wo_exec *x, const void *model, wo_forward_fn forward, int pass, int next, const void *request, wo_error *err) {
    return wo_exec_run_turn(x, model, forward, (wo_turn){.pass = pass}, (wo_turn){.pass = next}, request, err);
}
