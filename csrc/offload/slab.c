#include "offload/slab.h"

bool wo_slab_is_coded(const wo_param *p) {
    return p->conversion.from == WO_F8_E4M3;
}

wo_slab_walk wo_slab_begin(const wo_plan *plan, int expert, size_t group) {
    return (wo_slab_walk){.component = plan->expert[expert], .groups = &plan->groups, .group = &plan->groups.groups[group]};
}

bool wo_slab_next(wo_slab_walk *w, wo_slab_param *out) {
    for (; w->layer < w->group->layers; w->layer++, w->index = 0) {
        const wo_layer *layer = wo_component_layer(w->component, (size_t)(w->group->first_layer + w->layer));
        if (layer->read_by_row || w->index == layer->params)
            continue;
        const wo_param *p = &layer->param[w->index++];
        const bool coded = wo_slab_is_coded(p);
        const size_t bytes = wo_arena_round((size_t)wo_tensor_count(&p->shape_of_use) * wo_dtype_size(coded ? p->conversion.from : p->conversion.to));
        *out = (wo_slab_param){.param = p, .coded = coded, .offset = w->offset, .bytes = bytes,
                               .offset_in_slot = w->groups->layer_offset[layer->index] + p->slab_offset};
        w->offset += bytes;
        return true;
    }
    return false;
}

size_t wo_slab_bytes(const wo_plan *plan, int expert, size_t group) {
    wo_slab_walk w = wo_slab_begin(plan, expert, group);
    for (wo_slab_param p; wo_slab_next(&w, &p);)
        continue;
    return w.offset;
}

/* Piece by piece through `arrival`: copies fill the link, and a kernel that read the host's memory would need all of it to be pinned. The stream's order
 * is all that keeps the pieces apart. */
static wo_status widen(wo_engine *e, wo_stream *s, const wo_plan *plan, const wo_slab_param *p, char *dst, const char *from, char *arrival, wo_error *err) {
    const wo_conversion *c = &p->param->conversion;
    const int64_t count = wo_tensor_count(&p->param->shape_of_use), step = wo_param_piece(p->param, plan->piece_bytes);
    if (e->device->memory->host_addressable)
        return wo_engine_convert(e, s, c, dst, from, count, err);
    for (int64_t at = 0; at < count; at += step) {
        const int64_t n = step < count - at ? step : count - at;
        WO_TRY(wo_engine_copy(e, s, arrival, from + (size_t)at * wo_dtype_size(c->from), (size_t)n * wo_dtype_size(c->from), err));
        WO_TRY(wo_engine_convert(e, s, c, dst + (size_t)at * wo_dtype_size(c->to), arrival, n, err));
    }
    return WO_OK;
}

/* What is not coded and lies together in both places goes in one copy: the whole group, where nothing is coded. */
typedef struct run {
    size_t from, to, bytes;
} run;

static wo_status copy_run(wo_engine *e, wo_stream *s, run *r, char *dst, const char *slab, wo_error *err) {
    if (r->bytes > 0)
        WO_TRY(wo_engine_copy(e, s, dst + r->to, slab + r->from, r->bytes, err));
    r->bytes = 0;
    return WO_OK;
}

wo_status wo_slab_fetch(wo_engine *e, wo_stream *s, const wo_plan *plan, int expert, size_t group, char *dst, const char *slabs, char *arrival,
                        wo_error *err) {
    const char *slab = slabs + plan->slab_offset[(size_t)expert * plan->groups.count + group];
    wo_slab_walk w = wo_slab_begin(plan, expert, group);
    run r = {0};
    for (wo_slab_param p; wo_slab_next(&w, &p);) {
        if (p.coded) {
            WO_TRY(copy_run(e, s, &r, dst, slab, err));
            WO_TRY(widen(e, s, plan, &p, dst + p.offset_in_slot, slab + p.offset, arrival, err));
            continue;
        }
        if (r.bytes > 0 && (r.from + r.bytes != p.offset || r.to + r.bytes != p.offset_in_slot))
            WO_TRY(copy_run(e, s, &r, dst, slab, err));
        if (r.bytes == 0)
            r = (run){.from = p.offset, .to = p.offset_in_slot};
        r.bytes += p.bytes;
    }
    return copy_run(e, s, &r, dst, slab, err);
}
