/* Groups of layers, and the schedule in which each pass visits them. Private to offload. */
#ifndef WO_OFFLOAD_GROUPS_H
#define WO_OFFLOAD_GROUPS_H

#include "offload/plan.h"
#include "offload/record.h"

/* A group is visited from the first use of one of its layers until the last of them is let go. A visit goes on while other groups
 * come between, as long as it brings layers that were not used yet; a layer that comes again after other groups begins a new one. */
typedef struct wo_visit {
    int32_t group;
    int32_t streamed; /* its number among the streamed visits of the pass, -1 when the group is resident */
    size_t first_event, last_event; /* in the record's uses: the use that begins it, the done that ends it */
} wo_visit;

typedef struct wo_schedule {
    wo_visit *visits;
    int32_t *groups;         /* by visit */
    int32_t *streamed;       /* by streamed visit: the visit */
    size_t *ring_offset;     /* by streamed visit: its slot, where the ring's plan places slots itself */
    int32_t *visit_of_event; /* by event of the record's uses */
    size_t visit_count, streamed_count, event_count;
    size_t streamed_bytes;   /* moved by one pass */
} wo_schedule;

typedef struct wo_groups {
    const wo_component *component;
    wo_plan_group *groups;
    size_t *offsets;          /* by group: of residents, among them */
    char **names;             /* by group: what groups[i].name points to */
    int32_t *group_of_layer;  /* -1 for tables */
    size_t *layer_offset;     /* by layer: in its group's slab */
    size_t count;
    wo_schedule *schedules;   /* by pass */
    int passes;
    size_t resident_bytes, streamed_bytes;
} wo_groups;

/* Cuts the component into groups for the level and finds the visits of each pass. Every group is streamed (`tier`) or resident
 * (WO_TIER_DEVICE) to begin with. */
wo_status wo_groups_make(wo_groups *g, const wo_component *c, const wo_record *record, wo_level level, int32_t blocks_per_group,
                         wo_tier tier, wo_error *err);
/* Makes the fraction of the bytes resident, spread evenly over the schedule, the group that comes first being the first choice. */
wo_status wo_groups_make_resident(wo_groups *g, double fraction, wo_error *err);
/* Numbers the streamed visits, sums up, and gives each group its offset. After the last change of residency. */
void wo_groups_seal(wo_groups *g);
void wo_groups_fini(wo_groups *g);

#endif
