/* The planner: from a dry record and the user's policy to a plan that says everything, in bytes, before anything runs. */
#ifndef WO_OFFLOAD_PLAN_H
#define WO_OFFLOAD_PLAN_H

#include "device/device.h"
#include "device/dry/dry.h"
#include "offload/component.h"
#include "offload/exec.h"

typedef enum wo_tier { WO_TIER_DEVICE, WO_TIER_HOST, WO_TIER_DISK } wo_tier;
typedef enum wo_level { WO_LEVEL_RESIDENT, WO_LEVEL_MODEL, WO_LEVEL_BLOCK, WO_LEVEL_LEAF, WO_LEVEL_AUTO } wo_level;

/* What the user asks for. wo_policy_default() gives resident, device tier, no budgets. */
typedef struct wo_policy {
    wo_level level;
    int32_t blocks_per_group; /* BLOCK: >= 1 */
    wo_tier tier;             /* where streamed groups rest: HOST or DISK (AUTO chooses) */
    bool use_stream;          /* copies run on the copy stream, one group ahead or more; else on the compute stream at use */
    double resident_fraction; /* 0..1 of the streamed bytes kept resident, spread evenly, the first group first (tests and AUTO) */
    int64_t vram, ram;        /* budgets in bytes; -1 = none */
    int64_t ram_outside;      /* host bytes already promised elsewhere (other components' slabs, output arrays, allowance) */
    int64_t vram_outside;     /* device bytes of other components that stay */
    int32_t readers;          /* reader threads for the disk tier; 0 = default */
    wo_knobs knobs;           /* used as given unless choose_knobs */
    bool choose_knobs;        /* the planner may trade speed for memory (AUTO; also to fit a budget) */
    int64_t trace_spans;      /* room for so many spans of a trace, counted in fixed_bytes; 0 = none is recorded */
} wo_policy;
wo_policy wo_policy_default(void);

typedef struct wo_plan wo_plan; /* immutable, counted */

enum { WO_MAX_EXPERTS = 2 };

/* Makes the dry runs and lays everything out. Errors: WO_EPLAN with err->shortfall and both numbers in the text when a budget
 * cannot hold (vram_needed, ram_needed are then the smallest that would do, together). */
wo_status wo_plan_make(const wo_component *c, const void *model, wo_forward_fn forward, int passes, const void *request, const wo_device *device,
                       const wo_policy *policy, wo_plan **out, wo_error *err);
/* The same for components of equal layers that take turns in one exec, as the experts of a model do: one ring and one arena serve all,
 * and a pass of one may follow a pass of another with its first groups prefetched. Residents, slabs and what is kept between
 * passes are planned for each. Layers that differ are WO_ECHECKPOINT. */
wo_status wo_plan_make_experts(const wo_component *const *experts, int count, const void *model, wo_forward_fn forward, int passes,
                               const void *request, const wo_device *device, const wo_policy *policy, wo_plan **out, wo_error *err);
wo_plan *wo_plan_retain(wo_plan *plan);
void wo_plan_release(wo_plan *plan);

typedef struct wo_plan_group {
    const char *name;   /* "blocks.3", "blocks.3 .. blocks.4", "blocks.3.attn1.to_q", "transformer" */
    int32_t first_layer, layers; /* run of component layers */
    size_t bytes;
    wo_tier tier;       /* DEVICE = resident */
} wo_plan_group;

typedef struct wo_plan_pass {
    size_t visits;          /* group acquisitions in one pass */
    size_t streamed_bytes;  /* moved by one pass */
    size_t host_bytes;      /* read from host slabs for that, where 8-bit weights are a byte each */
    size_t activation_bytes, activation_live_bytes; /* placed peak, and the dry record's lower bound */
    wo_work work;           /* of the operations, for predictions */
} wo_plan_pass;

typedef struct wo_plan_summary {
    const char *component;
    wo_policy policy;
    wo_knobs knobs;
    size_t groups, passes;
    size_t experts;          /* components that take turns; all sizes below are of all of them together */
    size_t weight_bytes;     /* of use, whole component */
    size_t resident_bytes;   /* in the device arena, for the whole exec */
    size_t streamed_bytes;   /* bytes of the groups that are streamed (each counted once) */
    size_t ring_bytes, activation_bytes, keep_bytes;
    size_t arrival_bytes;    /* room for 8-bit weights that come from host slabs and are widened on the device; 0 without, or where it reads host memory */
    size_t work_bytes;       /* ring + arrival + activations + keep: the work arena */
    size_t vram;             /* resident + work */
    size_t host_slab_bytes, staging_bytes, host_keep_bytes, fixed_bytes;
    size_t ram;              /* what the core allocates for this: host parts, and on a host-addressable device vram too */
    size_t live_bytes;       /* lower bound of vram: resident + widest held groups + arrival + live activations + keep */
} wo_plan_summary;

void wo_plan_summarize(const wo_plan *plan, wo_plan_summary *out);
const wo_plan_group *wo_plan_group_at(const wo_plan *plan, size_t i);
const wo_plan_pass *wo_plan_pass_at(const wo_plan *plan, int pass);
/* The group visits of a pass in schedule order. */
size_t wo_plan_visits(const wo_plan *plan, int pass, const int32_t **groups);

#endif
