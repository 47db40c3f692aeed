/* A group on its way from the file:
 *
 *     to convert        file --reader--> staging slot --stream: convert--> dst
 *     as it is          file --reader--> dst                     (where host threads can write to dst)
 *     to host slabs     file --reader--> staging slot --the same reader: convert--> dst     (8-bit weights rest there as they are)
 *
 * A piece is known by its number. Its place in the table of pieces is number % PIECES, its staging slot (if it takes one) the next
 * one round. The host thread runs ahead of all this: it waits only when the piece that had the place before is still being read.
 *
 *     reader   waits for the slot's `drained` (STAGING_REUSE) or for the room in dst (FREE, WRAP_AROUND), reads, signals `filled`
 *     stream   waits for `filled` (READER_COPY), converts, records `drained`                                                     */
#include "offload/loader.h"

#include "base/clock.h"
#include "offload/engine_impl.h"
#include "offload/slab.h"
#include "offload/table.h"

#include <string.h>

enum { PIECES = WO_READER_QUEUE };

typedef struct piece {
    wo_device *device;
    wo_ticket before; /* the reader waits for this */
    wo_ticket filled;
    double delay;
    wo_conversion conversion; /* by the reader, where convert_to is given */
    void *convert_to;
    const void *convert_from;
    int64_t count;
    wo_trace *trace;
    int32_t group;
    uint64_t pass;
} piece;

typedef struct staging_slot {
    wo_ticket drained;
    char *memory;
    size_t bytes;
} staging_slot;

struct wo_loader {
    wo_engine *engine;
    wo_device *device;
    const wo_plan *plan;
    wo_event *filled;  /* expected of readers */
    wo_event *drained; /* recorded on the stream that converts */
    piece pieces[PIECES];
    uint64_t next_piece, next_slot;
    char *staging;
    staging_slot *slot;
    size_t slots, slot_bytes, piece_bytes;
};

size_t wo_loader_fixed_bytes(void) {
    return sizeof(wo_loader) + WO_READER_QUEUE * sizeof(wo_read_request);
}

size_t wo_loader_staging_bytes(const wo_loader *l) {
    return l != NULL ? l->slots * l->slot_bytes : 0;
}

wo_status wo_loader_open(wo_engine *e, const wo_plan *plan, wo_loader **out, wo_error *err) {
    *out = NULL;
    wo_loader *l = wo_table_create(1, sizeof *l, "the loader", err);
    if (l == NULL)
        return WO_ENOMEMORY;
    l->engine = e;
    l->device = e->device;
    l->plan = plan;
    l->slots = plan->staging_slots;
    l->slot_bytes = plan->staging_slot_bytes;
    l->piece_bytes = plan->piece_bytes;
    void *staging = NULL;
    wo_status status = WO_OK;
    WO_GO(e->device->stream->event_create(e->device, &l->filled, err));
    WO_GO(e->device->stream->event_create(e->device, &l->drained, err));
    l->slot = wo_table_create(l->slots, sizeof *l->slot, "staging", err);
    WO_GO(l->slot != NULL ? WO_OK : WO_ENOMEMORY);
    if (l->slot_bytes > 0)
        WO_GO(e->device->memory->host_alloc(e->device, l->slots * l->slot_bytes, "staging", &staging, err));
    l->staging = staging;
    for (size_t i = 0; i < l->slots; i++)
        l->slot[i] = (staging_slot){.memory = l->staging + i * l->slot_bytes, .bytes = l->slot_bytes};
done:
    if (status != WO_OK)
        wo_loader_close(l);
    else
        *out = l;
    return status;
}

void wo_loader_close(wo_loader *l) {
    if (l == NULL)
        return;
    if (l->engine->reader != NULL)
        wo_reader_drain(l->engine->reader);
    if (l->staging != NULL)
        l->device->memory->host_release(l->device, l->staging);
    if (l->filled != NULL)
        l->device->stream->event_destroy(l->filled);
    if (l->drained != NULL)
        l->device->stream->event_destroy(l->drained);
    wo_memory_release(l->slot);
    wo_memory_release(l);
}

static wo_status before_read(void *ctx, wo_error *err) {
    piece *p = ctx;
    if (p->before.event != NULL)
        WO_TRY(p->device->stream->host_wait(p->device, p->before, err));
    if (p->delay > 0)
        wo_clock_sleep(p->delay);
    return WO_OK;
}

/* The first failure becomes the device's, so that everything queued behind the missing piece is skipped. */
static void after_read(void *ctx, wo_status status, const wo_error *err) {
    piece *p = ctx;
    if (status == WO_OK && p->convert_to != NULL)
        wo_convert(&p->conversion, p->convert_to, p->convert_from, p->count);
    if (status != WO_OK) {
        wo_error own;
        if (err == NULL || err->code == WO_OK) {
            wo_error_set(&own, status, "reading weights: %s", wo_status_text(status));
            err = &own;
        }
        p->device->stream->post_error(p->device, err);
    }
    p->device->stream->event_signal(p->filled);
}

static void note_read(void *ctx, int thread, size_t bytes, double begin, double seconds) {
    const piece *p = ctx;
    wo_trace_note_read(p->trace, thread, p->group, p->pass, bytes, begin, seconds);
}

/* Where a piece goes: its bytes at rest, and the elements of the param that it brings. */
typedef struct piece_range {
    const wo_param *param;
    char *dst;
    size_t stride; /* bytes of an element there */
    int64_t first, count;
    bool direct;
    size_t slot; /* of staging, when not direct */
} piece_range;

static wo_status submit(wo_loader *l, const wo_load *load, const piece_range *r, wo_ticket *filled, wo_error *err) {
    const wo_stream_api *api = l->device->stream;
    const wo_param *param = r->param;
    const size_t element = wo_dtype_size(param->conversion.from);
    piece *p = &l->pieces[l->next_piece % PIECES];
    WO_TRY(api->host_wait(l->device, p->filled, err));
    char *staging = r->direct ? NULL : l->slot[r->slot].memory;
    *p = (piece){.device = l->device, .count = r->count, .trace = l->engine->trace, .group = load->index, .pass = load->pass};
    p->before = r->direct ? load->space : wo_engine_edge_ticket(l->engine, WO_EDGE_STAGING_REUSE, l->slot[r->slot].drained);
    p->delay = load->stream != NULL ? wo_engine_take_delay(l->engine, WO_EDGE_READER_COPY) : 0;
    if (r->direct && p->delay <= 0 && load->stream != NULL)
        p->delay = wo_engine_take_delay(l->engine, WO_EDGE_READY);
    if (!r->direct && load->stream == NULL) {
        p->conversion = param->conversion;
        p->convert_to = r->dst;
        p->convert_from = staging;
    }
    p->filled = api->event_expect(l->filled);
    *filled = p->filled;
    l->next_piece++;
    wo_read_request request = {.store = wo_component_store(l->plan->expert[load->expert]), .file = param->entry->file,
                               .offset = wo_param_file_offset(param) + (uint64_t)r->first * element, .bytes = (size_t)r->count * element,
                               .dst = r->direct ? r->dst : staging, .before = before_read, .after = after_read, .ctx = p,
                               .timed = p->trace != NULL ? note_read : NULL};
    wo_status status = wo_reader_submit(l->engine->reader, &request, err);
    if (status != WO_OK)
        api->event_signal(p->filled);
    return status;
}

static void poison_slot(void *ctx) {
    const staging_slot *slot = ctx;
    memset(slot->memory, 0xff, slot->bytes);
}

/* The stream's side of a staged piece. Poisoned staging makes a conversion that came too early visible. */
static wo_status convert_staged(wo_loader *l, const wo_load *load, const piece_range *r, wo_error *err) {
    const wo_conversion *c = &r->param->conversion;
    staging_slot *slot = &l->slot[r->slot];
    WO_TRY(wo_engine_edge_delay(l->engine, WO_EDGE_STAGING_REUSE, load->stream, err));
    if (wo_conversion_is_copy(c))
        WO_TRY(wo_engine_copy(l->engine, load->stream, r->dst, slot->memory, (size_t)r->count * wo_dtype_size(c->to), err));
    else
        WO_TRY(wo_engine_convert(l->engine, load->stream, c, r->dst, slot->memory, r->count, err));
    if (l->engine->testing.poison)
        WO_TRY(l->device->stream->host_call(load->stream, poison_slot, slot, err));
    return l->device->stream->event_record(load->stream, l->drained, &slot->drained, err);
}

static wo_status enqueue_piece(wo_loader *l, wo_load *load, piece_range *r, wo_error *err) {
    if (!r->direct)
        r->slot = l->next_slot++ % l->slots;
    WO_TRY(submit(l, load, r, &load->filled, err));
    load->bytes_at_rest += (uint64_t)r->count * wo_dtype_size(r->param->conversion.from);
    if (load->stream == NULL) {
        if (!r->direct)
            l->slot[r->slot].drained = load->filled;
        return WO_OK;
    }
    WO_TRY(wo_engine_edge_wait(l->engine, WO_EDGE_READER_COPY, load->stream, load->filled, err));
    return r->direct ? WO_OK : convert_staged(l, load, r, err);
}

static wo_status enqueue_param(wo_loader *l, wo_load *load, const wo_slab_param *p, wo_error *err) {
    const bool to_slabs = load->stream == NULL, as_it_is = to_slabs && p->coded;
    const wo_conversion *c = &p->param->conversion;
    piece_range whole = {.param = p->param, .dst = load->dst + (to_slabs ? p->offset : p->offset_in_slot), .stride = wo_dtype_size(as_it_is ? c->from : c->to),
                         .direct = as_it_is || wo_param_reads_directly(p->param, to_slabs || l->device->memory->host_addressable)};
    int64_t count = wo_tensor_count(&p->param->shape_of_use), step = wo_param_piece(p->param, l->piece_bytes);
    for (int64_t at = 0; at < count; at += step) {
        piece_range r = whole;
        r.first = at;
        r.dst += (size_t)at * r.stride;
        r.count = step < count - at ? step : count - at;
        WO_TRY(enqueue_piece(l, load, &r, err));
    }
    return WO_OK;
}

wo_status wo_loader_enqueue(wo_loader *l, wo_load *load, wo_error *err) {
    load->bytes_at_rest = 0;
    wo_slab_walk w = wo_slab_begin(l->plan, load->expert, load->number);
    for (wo_slab_param p; wo_slab_next(&w, &p);)
        WO_TRY(enqueue_param(l, load, &p, err));
    return WO_OK;
}
