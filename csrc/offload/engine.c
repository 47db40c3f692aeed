/* One engine: two streams, the events between them, the readers, and the memory that outlives an exec.
 *
 *     device memory   residents of each component (holdings) | the work arena, which all execs use one after the other
 *     host memory     slabs of each component (holdings)                                                                */
#include "offload/engine_impl.h"

#include "offload/exec_impl.h"
#include "offload/table.h"

wo_status wo_engine_create(wo_device *device, wo_engine **out, wo_error *err) {
    const wo_stream_api *api = device->stream;
    *out = NULL;
    wo_engine *e = wo_table_create(1, sizeof *e, "the engine", err);
    if (e == NULL)
        return WO_ENOMEMORY;
    e->device = device;
    atomic_flag_clear(&e->busy);
    wo_cancel_reset(&e->cancel);
    wo_status status = WO_OK;
    WO_GO(api->create(device, "compute", &e->compute, err));
    WO_GO(api->create(device, "copy", &e->copy, err));
    WO_GO(api->event_create(device, &e->ready, err));
    WO_GO(api->event_create(device, &e->freed, err));
    WO_GO(api->event_create(device, &e->left, err));
done:
    if (status != WO_OK)
        wo_engine_destroy(e);
    else
        *out = e;
    return status;
}

void wo_engine_destroy(wo_engine *e) {
    if (e == NULL)
        return;
    const wo_stream_api *api = e->device->stream;
    if (e->open != NULL)
        wo_exec_close(e->open, NULL);
    if (e->compute != NULL && e->copy != NULL) {
        wo_holding_drop(e, 0, false);
        wo_engine_release_arena(e);
    }
    wo_reader_destroy(e->reader);
    if (e->compute != NULL)
        api->destroy(e->compute);
    if (e->copy != NULL)
        api->destroy(e->copy);
    if (e->ready != NULL)
        api->event_destroy(e->ready);
    if (e->freed != NULL)
        api->event_destroy(e->freed);
    if (e->left != NULL)
        api->event_destroy(e->left);
    wo_memory_release(e);
}

wo_device *wo_engine_device(wo_engine *e) {
    return e->device;
}

wo_cancel *wo_engine_cancel(wo_engine *e) {
    return &e->cancel;
}

void wo_engine_quiesce(wo_engine *e) {
    if (e->reader != NULL)
        wo_reader_drain(e->reader);
    e->device->stream->sync(e->copy, NULL);
    e->device->stream->sync(e->compute, NULL);
}

void wo_engine_release_arena(wo_engine *e) {
    if (e->arena == NULL || e->open != NULL)
        return;
    wo_engine_quiesce(e);
    e->device->memory->release(e->device, e->arena);
    e->arena = NULL;
    e->arena_bytes = 0;
}

wo_status wo_engine_reserve(wo_engine *e, size_t bytes, wo_error *err) {
    if (bytes <= e->arena_bytes)
        return WO_OK;
    if (e->open != NULL)
        WO_FAIL(err, WO_EBUSY, "the work arena cannot grow while an exec is open");
    void *arena;
    wo_engine_release_arena(e);
    WO_TRY(e->device->memory->alloc(e->device, bytes, "the work arena", &arena, err));
    e->arena = arena;
    e->arena_bytes = bytes;
    return WO_OK;
}

void wo_engine_drop(wo_engine *e, const wo_component *c) {
    wo_holding_drop(e, c != NULL ? wo_component_serial(c) : 0, false);
}

void wo_engine_drop_residents(wo_engine *e, const wo_component *c) {
    wo_holding_drop(e, c != NULL ? wo_component_serial(c) : 0, true);
}

void wo_engine_get_held(const wo_engine *e, wo_engine_held *out) {
    *out = (wo_engine_held){.arena_bytes = e->arena_bytes};
    for (const wo_holding *h = e->holdings; h != NULL; h = h->next) {
        out->resident_bytes += h->resident_bytes;
        out->slab_bytes += h->slab_bytes;
    }
    if (e->open != NULL)
        out->other_host_bytes = wo_loader_staging_bytes(e->open->loader) + e->open->plan->summary.host_keep_bytes;
}

wo_status wo_engine_set_readers(wo_engine *e, int readers, wo_error *err) {
    if (e->reader != NULL && e->readers == readers)
        return WO_OK;
    wo_reader_destroy(e->reader);
    e->reader = NULL;
    WO_TRY(wo_reader_create(readers, WO_READER_QUEUE, &e->reader, err));
    e->readers = readers;
    return WO_OK;
}

/* ---- edges, delays, faults ---- */

void wo_engine_set_testing(wo_engine *e, const wo_testing *t) {
    e->testing = *t;
    e->copies = 0;
    e->device->stream->chaos(e->device, t->chaos_seed, t->chaos_delay);
}

const char *wo_edge_name(wo_edge edge) {
    static const char *const NAMES[WO_EDGE_COUNT] = {
#define WO_EDGE_NAME(id, name, text) name,
        WO_EDGE_LIST(WO_EDGE_NAME)
#undef WO_EDGE_NAME
    };
    return (unsigned)edge < WO_EDGE_COUNT ? NAMES[edge] : NULL;
}

wo_ticket wo_engine_edge_ticket(const wo_engine *e, wo_edge edge, wo_ticket t) {
    return wo_engine_cuts(e, edge) ? (wo_ticket){0} : t;
}

wo_status wo_engine_edge_wait(wo_engine *e, wo_edge edge, wo_stream *s, wo_ticket t, wo_error *err) {
    t = wo_engine_edge_ticket(e, edge, t);
    return t.event != NULL ? e->device->stream->wait(s, t, err) : WO_OK;
}

double wo_engine_take_delay(wo_engine *e, wo_edge edge) {
    if ((e->testing.delay_edges >> edge & 1) == 0 || e->delays[edge] >= WO_DELAYS_PER_PASS)
        return 0;
    e->delays[edge]++;
    return e->testing.delay_seconds;
}

wo_status wo_engine_edge_delay(wo_engine *e, wo_edge edge, wo_stream *s, wo_error *err) {
    double seconds = wo_engine_take_delay(e, edge);
    return seconds > 0 ? e->device->stream->delay(s, seconds, err) : WO_OK;
}

/* The n-th copy fails as a device fails it: not at the call, but as the sticky error that skips what comes behind. */
static void count_copy(wo_engine *e) {
    if (++e->copies != e->testing.fail_copy_at)
        return;
    wo_error err;
    wo_error_set(&err, WO_EDEVICE, "copy %lld failed (a test asked for it)", (long long)e->copies);
    e->device->stream->post_error(e->device, &err);
}

wo_status wo_engine_copy(wo_engine *e, wo_stream *s, void *dst, const void *src, size_t bytes, wo_error *err) {
    count_copy(e);
    return e->device->stream->copy(s, dst, src, bytes, err);
}

wo_status wo_engine_convert(wo_engine *e, wo_stream *s, const wo_conversion *c, void *dst, const void *src, int64_t count, wo_error *err) {
    count_copy(e);
    return e->device->stream->convert(s, c, dst, src, count, err);
}
