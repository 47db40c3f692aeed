/* The planner: tries ways to run a component from the fastest to the smallest and takes the first that the budgets hold.
 *
 *     AUTO     everything resident -> leaf level from host slabs -> leaf level from disk -> the same without a copy stream
 *     others   the way that was asked for
 *     each     with the knobs as given, then (choose_knobs) turned towards less memory, the cheapest first
 *
 * Where AUTO streams, what is left of the budgets buys residents. When nothing fits, the error carries the needs of the way that
 * came closest; given those as budgets, the planner comes to the same way and fits. */
#include "offload/plan_impl.h"

#include "offload/table.h"

#include <inttypes.h>
#include <stdio.h>

enum { RUNGS = 7, FRACTION_STEPS = 64, LONG_RECORD = 8192 };

/* The knobs in the order of what they cost in time. */
typedef struct rung {
    int64_t row_chunk; /* 0: leaves it */
    bool items_apart, passes_apart, state_on_host, forget_text;
} rung;
static const rung LADDER[RUNGS] = {{.row_chunk = 2048},   {.row_chunk = 512}, {.state_on_host = true},
                                   {.forget_text = true}, {.row_chunk = 128}, {.items_apart = true},
                                   {.passes_apart = true}};

typedef struct planner {
    const wo_component *component; /* the first of the experts */
    const wo_component *const *experts;
    int expert_count;
    const void *model;
    wo_forward_fn forward;
    int passes;
    const void *request;
    const wo_device *device;
    const wo_policy *policy;
    wo_record *records[RUNGS + 1]; /* as given, then each with less memory than the one before; made when first wanted */
    size_t record_count;
    int rung;               /* the next to try */
    bool chunks_exhausted;  /* smaller chunks save nothing more */
    int64_t least_excess, vram_needed, ram_needed; /* of the choice that came closest to the budgets */
} planner;

wo_policy wo_policy_default(void) {
    return (wo_policy){.level = WO_LEVEL_RESIDENT, .blocks_per_group = 1, .tier = WO_TIER_DEVICE, .vram = -1, .ram = -1,
                       .knobs = {.row_chunk = 0, .cache_text = true, .state_on_host = false}};
}

/* Calls with fewer rows: in chunks, or for one item after the other. */
static bool cuts_rows(const wo_knobs *knobs) {
    return knobs->row_chunk > 0 || knobs->items_apart || knobs->passes_apart;
}

static wo_status check_policy(const wo_policy *p, const wo_device *device, int passes, wo_error *err) {
    if (p->level < WO_LEVEL_RESIDENT || p->level > WO_LEVEL_AUTO || p->tier < WO_TIER_DEVICE || p->tier > WO_TIER_DISK)
        WO_FAIL(err, WO_EVALUE, "there is no offload level %d with tier %d", (int)p->level, (int)p->tier);
    if (p->level == WO_LEVEL_BLOCK && p->blocks_per_group < 1)
        WO_FAIL(err, WO_EVALUE, "block level needs at least 1 block in a group, not %d", p->blocks_per_group);
    if ((p->level == WO_LEVEL_BLOCK || p->level == WO_LEVEL_LEAF) && p->tier == WO_TIER_DEVICE)
        WO_FAIL(err, WO_EVALUE, "streamed groups rest on the host or on disk; on the device they would be resident");
    if (!(p->resident_fraction >= 0 && p->resident_fraction <= 1))
        WO_FAIL(err, WO_EVALUE, "the resident fraction must be from 0 to 1, not %g", p->resident_fraction);
    if (p->readers < 0 || p->readers > WO_MAX_READERS)
        WO_FAIL(err, WO_EVALUE, "the number of readers must be from 0 to %d, not %d", (int)WO_MAX_READERS, p->readers);
    if (p->trace_spans < 0 || p->trace_spans > WO_MAX_TRACE_SPANS)
        WO_FAIL(err, WO_EVALUE, "a trace has room for 0 to %d spans, not %" PRId64, (int)WO_MAX_TRACE_SPANS, p->trace_spans);
    if (cuts_rows(&p->knobs) && !wo_device_cuts(device, WO_OP_linear))
        WO_FAIL(err, WO_EUNSUPPORTED, "row_chunk, items_apart and passes_apart must be off on '%s': its products of few rows may have other bits than those of "
                "many", device->name);
    if (p->knobs.row_chunk < 0 || passes < 1)
        WO_FAIL(err, WO_EVALUE, "a plan needs at least 1 pass (it has %d) and a row chunk of at least 0 (it is %" PRId64 ")", passes, p->knobs.row_chunk);
    return WO_OK;
}

static wo_status record(planner *pl, const wo_knobs *knobs, wo_record **out, wo_error *err) {
    return wo_record_make(pl->component, pl->model, pl->forward, pl->passes, pl->request, pl->device, knobs, out, err);
}

static size_t record_bytes(const wo_record *r) {
    return r->activation_bytes + r->keep_bytes;
}

static size_t record_length(const wo_record *r) {
    size_t most = 0;
    for (int i = 0; i < r->passes; i++)
        most = r->pass[i].block_count > most ? r->pass[i].block_count : most;
    return most;
}

/* Climbs one rung from the last record. It becomes a record of its own where it saves memory and else is left out again, as
 * are all smaller chunks once one has cut and saved nothing, or once a pass has become a very long list of chunks. */
static wo_status climb(planner *pl, wo_error *err) {
    const rung *r = &LADDER[pl->rung++];
    wo_record *last = pl->records[pl->record_count - 1], *next;
    wo_knobs knobs = last->knobs;
    bool smaller_chunk = r->row_chunk > 0 && (knobs.row_chunk == 0 || knobs.row_chunk > r->row_chunk);
    if (smaller_chunk)
        knobs.row_chunk = r->row_chunk;
    bool changes = smaller_chunk || (r->items_apart && !knobs.items_apart) || (r->passes_apart && !knobs.passes_apart) || (r->state_on_host && !knobs.state_on_host) ||
                   (r->forget_text && knobs.cache_text);
    knobs.items_apart = knobs.items_apart || r->items_apart;
    knobs.passes_apart = knobs.passes_apart || r->passes_apart;
    knobs.state_on_host = knobs.state_on_host || r->state_on_host;
    knobs.cache_text = knobs.cache_text && !r->forget_text;
    changes = changes && (!cuts_rows(&knobs) || wo_device_cuts(pl->device, WO_OP_linear));
    if (!changes || (smaller_chunk && (pl->chunks_exhausted || record_length(last) > LONG_RECORD)))
        return WO_OK;
    WO_TRY(record(pl, &knobs, &next, err));
    if (record_bytes(next) < record_bytes(last)) {
        pl->records[pl->record_count++] = next;
        return WO_OK;
    }
    pl->chunks_exhausted = pl->chunks_exhausted || (smaller_chunk && record_length(next) > record_length(last));
    wo_record_release(next);
    return WO_OK;
}

/* The n-th record, NULL when there are fewer. */
static wo_status record_at(planner *pl, size_t n, wo_record **out, wo_error *err) {
    *out = NULL;
    if (pl->record_count == 0) {
        WO_TRY(record(pl, &pl->policy->knobs, &pl->records[0], err));
        pl->record_count = 1;
    }
    bool climbs = pl->policy->choose_knobs && (pl->policy->vram >= 0 || pl->policy->ram >= 0);
    while (climbs && pl->record_count <= n && pl->rung < RUNGS)
        WO_TRY(climb(pl, err));
    *out = n < pl->record_count ? pl->records[n] : NULL;
    return WO_OK;
}

static int64_t over(int64_t needed, int64_t budget) {
    return budget >= 0 && needed > budget ? needed - budget : 0;
}

/* Lays the choice out. *out is NULL when a budget cannot hold it. */
static wo_status attempt(planner *pl, wo_record *recorded, const wo_plan_choice *choice, wo_plan **out, wo_error *err) {
    *out = NULL;
    wo_plan *plan;
    WO_TRY(wo_plan_lay_out(pl->experts, pl->expert_count, recorded, pl->device, pl->policy, choice, &plan, err));
    int64_t vram = (int64_t)plan->summary.vram + pl->policy->vram_outside, ram = (int64_t)plan->summary.ram + pl->policy->ram_outside;
    int64_t excess = over(vram, pl->policy->vram) + over(ram, pl->policy->ram);
    if (excess == 0) {
        *out = plan;
        return WO_OK;
    }
    if (pl->least_excess < 0 || excess < pl->least_excess) {
        pl->least_excess = excess;
        pl->vram_needed = vram;
        pl->ram_needed = ram;
    }
    wo_plan_release(plan);
    return WO_OK;
}

/* Spends what is left of the budgets on residents: the largest fraction that still fits, found by halving. */
static wo_status buy_residents(planner *pl, wo_record *recorded, wo_plan_choice choice, wo_plan **plan, wo_error *err) {
    int fits = 0, beyond = FRACTION_STEPS;
    while (beyond - fits > 1) {
        int middle = (fits + beyond) / 2;
        wo_plan *more;
        choice.resident_fraction = (double)middle / FRACTION_STEPS;
        WO_TRY(attempt(pl, recorded, &choice, &more, err));
        if (more == NULL) {
            beyond = middle;
            continue;
        }
        fits = middle;
        wo_plan_release(*plan);
        *plan = more;
    }
    return WO_OK;
}

/* True when the weights alone are more than a budget: no knob makes it fit, and AUTO goes on to the next way. The one way
 * that was asked for is tried with every knob all the same, for its least need is what the refusal names. */
static bool hopeless(const planner *pl, const wo_plan_choice *choice) {
    int64_t bytes = pl->expert_count * (int64_t)wo_component_bytes(pl->component);
    bool whole = choice->level == WO_LEVEL_RESIDENT || choice->level == WO_LEVEL_MODEL;
    bool in_ram = choice->tier == WO_TIER_HOST || (whole && pl->device->memory->host_addressable);
    return (whole && over(bytes + pl->policy->vram_outside, pl->policy->vram) > 0) ||
           (in_ram && over(bytes + pl->policy->ram_outside, pl->policy->ram) > 0);
}

static wo_status search(planner *pl, wo_plan **out, wo_error *err) {
    static const wo_plan_choice AUTO[] = {
        {WO_LEVEL_RESIDENT, WO_TIER_DEVICE, false, 0},
        {WO_LEVEL_LEAF, WO_TIER_HOST, true, 0},
        {WO_LEVEL_LEAF, WO_TIER_DISK, true, 0},
        {WO_LEVEL_LEAF, WO_TIER_DISK, false, 0},
    };
    const wo_policy *p = pl->policy;
    const wo_plan_choice asked = {p->level, p->tier, p->use_stream, p->resident_fraction};
    bool automatic = p->level == WO_LEVEL_AUTO;
    const wo_plan_choice *choices = automatic ? AUTO : &asked;
    size_t count = automatic ? sizeof AUTO / sizeof *AUTO : 1;
    for (size_t i = 0; i < count && *out == NULL; i++) {
        wo_record *recorded;
        for (size_t n = 0; *out == NULL && (n == 0 || !automatic || !hopeless(pl, &choices[i])); n++) {
            WO_TRY(record_at(pl, n, &recorded, err));
            if (recorded == NULL)
                break;
            WO_TRY(attempt(pl, recorded, &choices[i], out, err));
            if (*out != NULL && automatic && choices[i].level == WO_LEVEL_LEAF)
                WO_TRY(buy_residents(pl, recorded, choices[i], out, err));
        }
    }
    return WO_OK;
}

static const char *describe_bytes(int64_t bytes, char *text, size_t size) {
    if (bytes < 0)
        snprintf(text, size, "none");
    else if (bytes < (int64_t)1 << 20)
        snprintf(text, size, "%" PRId64 " bytes", bytes);
    else
        snprintf(text, size, "%" PRId64 " bytes (%.2f GiB)", bytes, (double)bytes / (double)((int64_t)1 << 30));
    return text;
}

static wo_status refuse(const planner *pl, wo_error *err) {
    char vram[64], ram[64], vram_budget[64], ram_budget[64];
    const wo_policy *p = pl->policy;
    wo_status status = wo_error_set(err, WO_EPLAN, "%s: no plan fits the budgets. Needed: vram %s, ram %s; budget: vram %s, ram %s. "
                                    "Raise the budgets to what is needed, or make the video smaller.",
                                    wo_component_name(pl->component), describe_bytes(pl->vram_needed, vram, sizeof vram),
                                    describe_bytes(pl->ram_needed, ram, sizeof ram), describe_bytes(p->vram, vram_budget, sizeof vram_budget),
                                    describe_bytes(p->ram, ram_budget, sizeof ram_budget));
    if (err != NULL)
        err->shortfall = (wo_shortfall){.vram_budget = p->vram, .ram_budget = p->ram, .vram_needed = pl->vram_needed, .ram_needed = pl->ram_needed};
    return status;
}

wo_status wo_plan_make(const wo_component *c, const void *model, wo_forward_fn forward, int passes, const void *request, const wo_device *device,
                       const wo_policy *policy, wo_plan **out, wo_error *err) {
    return wo_plan_make_experts(&c, 1, model, forward, passes, request, device, policy, out, err);
}

wo_status wo_plan_make_experts(const wo_component *const *experts, int count, const void *model, wo_forward_fn forward, int passes,
                               const void *request, const wo_device *device, const wo_policy *policy, wo_plan **out, wo_error *err) {
    *out = NULL;
    WO_TRY(check_policy(policy, device, passes, err));
    if (count < 1 || count > WO_MAX_EXPERTS)
        WO_FAIL(err, WO_EVALUE, "a plan is for 1 to %d experts, not %d", (int)WO_MAX_EXPERTS, count);
    for (int i = 1; i < count; i++)
        WO_TRY(wo_component_check_alike(experts[0], experts[i], err));
    planner pl = {.component = experts[0], .experts = experts, .expert_count = count, .model = model, .forward = forward, .passes = passes, .request = request, .device = device,
                  .policy = policy, .least_excess = -1};
    wo_plan *found = NULL;
    wo_status status = search(&pl, &found, err);
    for (size_t i = 0; i < pl.record_count; i++)
        wo_record_release(pl.records[i]);
    if (status == WO_OK && found == NULL)
        status = refuse(&pl, err);
    if (status == WO_OK)
        *out = found;
    else
        wo_plan_release(found);
    return status;
}

wo_plan *wo_plan_retain(wo_plan *plan) {
    atomic_fetch_add(&plan->references, 1);
    return plan;
}

void wo_plan_release(wo_plan *plan) {
    if (plan == NULL || atomic_fetch_sub(&plan->references, 1) > 1)
        return;
    wo_groups_fini(&plan->groups);
    wo_record_release(plan->record);
    wo_memory_release(plan->pass);
    wo_memory_release(plan->slab_offset);
    wo_memory_release(plan);
}

void wo_plan_summarize(const wo_plan *plan, wo_plan_summary *out) {
    *out = plan->summary;
}

const wo_plan_group *wo_plan_group_at(const wo_plan *plan, size_t i) {
    return i < plan->groups.count ? &plan->groups.groups[i] : NULL;
}

const wo_plan_pass *wo_plan_pass_at(const wo_plan *plan, int pass) {
    return pass >= 0 && pass < plan->record->passes ? &plan->pass[pass] : NULL;
}

size_t wo_plan_visits(const wo_plan *plan, int pass, const int32_t **groups) {
    const wo_schedule *s = &plan->groups.schedules[pass];
    *groups = s->groups;
    return s->visit_count;
}
