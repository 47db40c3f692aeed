#include "offload/holding.h"

#include "offload/slab.h"
#include "offload/table.h"

static void release_residents(wo_engine *e, wo_holding *h) {
    if (h->residents != NULL)
        e->device->memory->release(e->device, h->residents);
    h->residents = NULL;
    h->resident_bytes = 0;
}

static void release_slabs(wo_engine *e, wo_holding *h) {
    if (h->slabs != NULL)
        e->device->memory->host_release(e->device, h->slabs);
    h->slabs = NULL;
    h->slab_bytes = 0;
}

void wo_holding_drop(wo_engine *e, uint64_t serial, bool residents_only) {
    wo_engine_quiesce(e);
    for (wo_holding **link = &e->holdings; *link != NULL;) {
        wo_holding *h = *link;
        if (h->in_use || (serial != 0 && h->component != serial)) {
            link = &h->next;
            continue;
        }
        release_residents(e, h);
        if (residents_only && h->slabs != NULL) {
            link = &h->next;
            continue;
        }
        release_slabs(e, h);
        *link = h->next;
        wo_memory_release(h->groups);
        wo_memory_release(h);
    }
}

static bool same_residency(const wo_holding *h, const wo_plan *plan, int expert) {
    if (h->component != plan->serial[expert] || h->group_count != plan->groups.count)
        return false;
    for (size_t i = 0; i < h->group_count; i++) {
        const wo_held_group *a = &h->groups[i];
        const wo_plan_group *b = &plan->groups.groups[i];
        if (a->first_layer != b->first_layer || a->layers != b->layers || a->tier != b->tier)
            return false;
    }
    return true;
}

static wo_status add_holding(wo_engine *e, const wo_plan *plan, int expert, wo_holding **out, wo_error *err) {
    wo_holding *h = wo_table_create(1, sizeof *h, "a holding", err);
    wo_held_group *groups = h != NULL ? wo_table_create(plan->groups.count, sizeof *groups, "a holding", err) : NULL;
    if (groups == NULL) {
        wo_memory_release(h);
        return WO_ENOMEMORY;
    }
    for (size_t i = 0; i < plan->groups.count; i++)
        groups[i] = (wo_held_group){plan->groups.groups[i].first_layer, plan->groups.groups[i].layers, plan->groups.groups[i].tier};
    *h = (wo_holding){.next = e->holdings, .component = plan->serial[expert], .groups = groups, .group_count = plan->groups.count, .in_use = true};
    e->holdings = h;
    *out = h;
    return WO_OK;
}

wo_status wo_holding_find(wo_engine *e, const wo_plan *plan, int expert, wo_holding **out, wo_error *err) {
    *out = NULL;
    bool others = false;
    for (wo_holding *h = e->holdings; h != NULL; h = h->next) {
        if (same_residency(h, plan, expert))
            *out = h;
        else
            others = others || h->component == plan->serial[expert];
    }
    if (*out != NULL)
        (*out)->in_use = true;
    if (others)
        wo_holding_drop(e, plan->serial[expert], false);
    return *out != NULL ? WO_OK : add_holding(e, plan, expert, out, err);
}

bool wo_holding_is_full(const wo_holding *h, const wo_plan *plan, int expert) {
    return h->resident_bytes == plan->groups.resident_bytes && h->slab_bytes >= plan->slab_bytes[expert];
}

/* stream NULL: into the slabs. */
static wo_status load_group(wo_loader *loader, const wo_plan *plan, int expert, size_t i, char *dst, wo_stream *stream, uint64_t *bytes, wo_error *err) {
    wo_load load = {.expert = expert, .number = i, .dst = dst, .index = wo_plan_group_number(plan, expert, i), .stream = stream};
    *bytes += stream == NULL ? wo_slab_bytes(plan, expert, i) : plan->groups.groups[i].bytes;
    return wo_loader_enqueue(loader, &load, err);
}

static wo_status fill_slabs(wo_engine *e, const wo_plan *plan, int expert, wo_loader *loader, char *slabs, uint64_t *bytes, wo_error *err) {
    for (size_t i = 0; i < plan->groups.count; i++)
        if (plan->groups.groups[i].tier == WO_TIER_HOST || plan->resident_slabs)
            WO_TRY(load_group(loader, plan, expert, i, slabs + plan->slab_offset[(size_t)expert * plan->groups.count + i], NULL, bytes, err));
    wo_reader_drain(e->reader);
    return e->device->stream->sync(e->copy, err);
}

/* From the slabs, where they are given. What the exec before left behind on the compute stream may still write to the arena, which codes arrive in. */
static wo_status fill_residents(wo_engine *e, const wo_plan *plan, int expert, wo_loader *loader, const char *slabs, char *residents,
                                uint64_t *bytes, wo_error *err) {
    if (slabs != NULL && plan->summary.arrival_bytes > 0)
        WO_TRY(e->device->stream->sync(e->compute, err));
    for (size_t i = 0; i < plan->groups.count; i++) {
        const wo_plan_group *group = &plan->groups.groups[i];
        if (group->tier != WO_TIER_DEVICE)
            continue;
        char *dst = residents + plan->groups.offsets[i];
        WO_TRY(wo_trace_cut(e->trace, e->copy, WO_LANE_COPY, wo_plan_group_number(plan, expert, i), 0, group->bytes, err));
        if (slabs == NULL)
            WO_TRY(load_group(loader, plan, expert, i, dst, e->copy, bytes, err));
        else
            WO_TRY(wo_slab_fetch(e, e->copy, plan, expert, i, dst, slabs, e->arena + plan->arrival_offset, err));
    }
    WO_TRY(wo_trace_cut(e->trace, e->copy, WO_LANE_NONE, -1, 0, 0, err));
    return e->device->stream->sync(e->copy, err);
}

static wo_status fill_missing_slabs(wo_engine *e, wo_holding *h, const wo_plan *plan, int expert, wo_loader *loader, uint64_t *bytes, wo_error *err) {
    void *memory;
    WO_TRY(e->device->memory->host_alloc(e->device, plan->slab_bytes[expert], "host slabs of weights", &memory, err));
    wo_status status = fill_slabs(e, plan, expert, loader, memory, bytes, err);
    h->slabs = memory;
    h->slab_bytes = plan->slab_bytes[expert];
    if (status != WO_OK) {
        wo_engine_quiesce(e);
        release_slabs(e, h);
    }
    return status;
}

static wo_status fill_missing_residents(wo_engine *e, wo_holding *h, const wo_plan *plan, int expert, wo_loader *loader, uint64_t *bytes,
                                        wo_error *err) {
    void *memory;
    WO_TRY(e->device->memory->alloc(e->device, plan->groups.resident_bytes, "resident weights", &memory, err));
    wo_status status = fill_residents(e, plan, expert, loader, plan->resident_slabs ? h->slabs : NULL, memory, bytes, err);
    h->residents = memory;
    h->resident_bytes = plan->groups.resident_bytes;
    if (status != WO_OK) {
        wo_engine_quiesce(e);
        release_residents(e, h);
    }
    return status;
}

wo_status wo_holding_fill(wo_engine *e, wo_holding *h, const wo_plan *plan, int expert, wo_loader *loader, uint64_t *bytes_loaded, wo_error *err) {
    if (h->slab_bytes < plan->slab_bytes[expert])
        WO_TRY(fill_missing_slabs(e, h, plan, expert, loader, bytes_loaded, err));
    if (h->resident_bytes < plan->groups.resident_bytes)
        WO_TRY(fill_missing_residents(e, h, plan, expert, loader, bytes_loaded, err));
    return WO_OK;
}
