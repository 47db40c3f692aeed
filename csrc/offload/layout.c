/* One choice laid out in bytes:
 *
 *     device   residents | work arena: [ ring | arrival of 8-bit weights | keeps | activations of the widest pass ]
 *     host     slabs of groups that rest there | staging slots | keeps that rest there | what threads and queues hold */
#include "offload/plan_impl.h"

#include "offload/loader.h"
#include "offload/slab.h"
#include "offload/table.h"
#include "offload/trace.h"

int64_t wo_param_piece(const wo_param *p, size_t piece_bytes) {
    int64_t granule = wo_param_granule(p);
    int64_t granules = (int64_t)piece_bytes / (granule * (int64_t)wo_dtype_size(p->conversion.from));
    int64_t count = wo_tensor_count(&p->shape_of_use), piece = granule * (granules > 0 ? granules : 1);
    return piece < count ? piece : count;
}

static bool rests_on_host(const wo_plan *plan, const wo_plan_group *group) {
    return group->tier == WO_TIER_HOST || plan->resident_slabs;
}

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

/* Slabs and, of the pieces that pass through them, the widest of staging and of the room for arriving codes. */
static void lay_out_group(wo_plan *plan, int expert, size_t group, bool near) {
    const bool on_host = rests_on_host(plan, &plan->groups.groups[group]);
    wo_slab_walk w = wo_slab_begin(plan, expert, group);
    for (wo_slab_param p; wo_slab_next(&w, &p);) {
        const size_t bytes = wo_arena_round((size_t)wo_param_piece(p.param, plan->piece_bytes) * wo_dtype_size(p.param->conversion.from));
        const bool direct = wo_param_reads_directly(p.param, on_host || near) || (on_host && p.coded);
        if (!direct)
            plan->staging_slot_bytes = larger(plan->staging_slot_bytes, bytes);
        if (on_host && p.coded && !near)
            plan->summary.arrival_bytes = larger(plan->summary.arrival_bytes, bytes);
    }
    plan->slab_offset[(size_t)expert * plan->groups.count + group] = plan->slab_bytes[expert];
    plan->slab_bytes[expert] += on_host ? w.offset : 0;
}

/* What decides how much room the device needs for arrivals, and what of the host is not known before the device is laid out. */
static void lay_out_groups(wo_plan *plan, const wo_device *device, const wo_plan_choice *choice) {
    const bool near = device->memory->host_addressable;
    plan->resident_slabs = choice->level == WO_LEVEL_MODEL && choice->tier == WO_TIER_HOST;
    plan->piece_bytes = near ? WO_PIECE_BYTES : WO_FAR_PIECE_BYTES;
    for (int expert = 0; expert < plan->experts; expert++) {
        for (size_t i = 0; i < plan->groups.count; i++)
            lay_out_group(plan, expert, i, near);
        plan->summary.host_slab_bytes += plan->slab_bytes[expert];
    }
}

static void lay_out_host(wo_plan *plan, const wo_device *device, const wo_policy *policy) {
    wo_plan_summary *s = &plan->summary;
    bool near = device->memory->host_addressable;
    plan->readers = policy->readers > 0 ? policy->readers : near ? WO_DEFAULT_READERS : WO_FAR_READERS;
    plan->staging_slots = (size_t)plan->readers * (near ? 1 : 2) + (near ? 2 : 0);
    s->staging_bytes = plan->staging_slots * plan->staging_slot_bytes;
    s->staging_bytes += near ? 0 : (2 + s->experts) * WO_FAR_BLOCK_BYTES; /* of staging, of what is kept, and of each expert's slabs */
    s->host_keep_bytes = s->experts * plan->record->host_keep_bytes;
    s->fixed_bytes = (size_t)device->fixed_bytes + wo_loader_fixed_bytes() + wo_trace_bytes(policy->trace_spans);
    s->ram = s->host_slab_bytes + s->staging_bytes + s->host_keep_bytes + s->fixed_bytes + (near ? s->vram : 0);
}

/* With the room for arrivals known. */
static void lay_out_device(wo_plan *plan) {
    wo_plan_summary *s = &plan->summary;
    s->resident_bytes = s->experts * plan->groups.resident_bytes;
    s->streamed_bytes = s->experts * plan->groups.streamed_bytes;
    s->ring_bytes = plan->ring.capacity;
    s->keep_bytes = s->experts * plan->record->keep_bytes;
    s->activation_bytes = plan->record->activation_bytes;
    plan->arrival_offset = s->ring_bytes;
    plan->keep_offset = plan->arrival_offset + s->arrival_bytes;
    plan->activation_offset = plan->keep_offset + s->keep_bytes;
    s->work_bytes = plan->activation_offset + s->activation_bytes;
    s->vram = s->resident_bytes + s->work_bytes;
    size_t live = 0;
    for (int i = 0; i < plan->record->passes; i++) {
        const wo_record_pass *recorded = &plan->record->pass[i];
        const wo_schedule *schedule = &plan->groups.schedules[i];
        size_t from_host = 0;
        for (size_t v = 0; v < schedule->streamed_count; v++) {
            const int32_t group = schedule->groups[schedule->streamed[v]];
            from_host += rests_on_host(plan, &plan->groups.groups[group]) ? wo_slab_bytes(plan, 0, (size_t)group) : 0;
        }
        plan->pass[i] = (wo_plan_pass){.visits = schedule->visit_count, .streamed_bytes = schedule->streamed_bytes, .host_bytes = from_host,
                                       .activation_bytes = recorded->bytes, .activation_live_bytes = recorded->live_bytes,
                                       .work = recorded->work};
        live = recorded->live_bytes > live ? recorded->live_bytes : live;
    }
    s->live_bytes = s->resident_bytes + plan->ring.held + s->arrival_bytes + live + s->keep_bytes;
}

static wo_status lay_out(wo_plan *plan, const wo_device *device, const wo_policy *policy, const wo_plan_choice *choice, wo_error *err) {
    const wo_component *c = plan->expert[0];
    bool whole = choice->level == WO_LEVEL_RESIDENT || choice->level == WO_LEVEL_MODEL;
    wo_tier tier = whole ? WO_TIER_DEVICE : choice->tier;
    WO_TRY(wo_groups_make(&plan->groups, c, plan->record, choice->level, policy->blocks_per_group, tier, err));
    if (!whole)
        WO_TRY(wo_groups_make_resident(&plan->groups, choice->resident_fraction, err));
    wo_groups_seal(&plan->groups);
    WO_TRY(wo_ring_plan(&plan->groups, choice->use_stream, &plan->ring, err));
    plan->pass = wo_table_create((size_t)plan->record->passes, sizeof *plan->pass, "a plan", err);
    plan->slab_offset = wo_table_create((size_t)plan->experts * plan->groups.count, sizeof *plan->slab_offset, "a plan", err);
    if (plan->pass == NULL || plan->slab_offset == NULL)
        return WO_ENOMEMORY;
    wo_plan_summary *s = &plan->summary;
    s->component = wo_component_name(c);
    s->policy = *policy;
    s->policy.level = choice->level;
    s->policy.tier = choice->tier;
    s->policy.use_stream = choice->use_stream;
    s->policy.resident_fraction = choice->resident_fraction;
    s->knobs = plan->record->knobs;
    s->groups = plan->groups.count;
    s->passes = (size_t)plan->record->passes;
    s->experts = (size_t)plan->experts;
    s->weight_bytes = s->experts * wo_component_bytes(c);
    lay_out_groups(plan, device, choice);
    lay_out_device(plan);
    lay_out_host(plan, device, policy);
    return WO_OK;
}

wo_status wo_plan_lay_out(const wo_component *const *experts, int count, wo_record *record, const wo_device *device, const wo_policy *policy,
                          const wo_plan_choice *choice, wo_plan **out, wo_error *err) {
    wo_plan *plan = wo_table_create(1, sizeof *plan, "a plan", err);
    *out = NULL;
    if (plan == NULL)
        return WO_ENOMEMORY;
    atomic_init(&plan->references, 1);
    plan->experts = count;
    for (int i = 0; i < count; i++) {
        plan->expert[i] = experts[i];
        plan->serial[i] = wo_component_serial(experts[i]);
    }
    plan->record = wo_record_retain(record);
    wo_status status = lay_out(plan, device, policy, choice, err);
    if (status == WO_OK)
        *out = plan;
    else
        wo_plan_release(plan);
    return status;
}
