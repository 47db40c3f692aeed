/* What the engine holds of components between execs: residents in device memory, slabs in host memory. Private to offload. */
#ifndef WO_OFFLOAD_HOLDING_H
#define WO_OFFLOAD_HOLDING_H

#include "offload/loader.h"

typedef struct wo_held_group {
    int32_t first_layer, layers;
    wo_tier tier;
} wo_held_group;

/* Of one component: laid out as the groups of the plan that it was filled for say. Either part may be absent. */
typedef struct wo_holding {
    struct wo_holding *next;
    uint64_t component; /* serial number */
    wo_held_group *groups;
    size_t group_count;
    char *residents, *slabs;
    size_t resident_bytes, slab_bytes;
    bool in_use; /* by an exec: drop leaves it alone */
} wo_holding;

/* Finds the holding of the plan's expert and takes it into use; what is held of it under another residency is dropped first. */
wo_status wo_holding_find(wo_engine *e, const wo_plan *plan, int expert, wo_holding **out, wo_error *err);
/* True when nothing of what the plan wants is missing. */
bool wo_holding_is_full(const wo_holding *h, const wo_plan *plan, int expert);
/* Fills what is missing: streaming, never holding a tensor twice. Afterwards each part is whole or absent. */
wo_status wo_holding_fill(wo_engine *e, wo_holding *h, const wo_plan *plan, int expert, wo_loader *loader, uint64_t *bytes_loaded, wo_error *err);
/* Lets go of the component's holdings (all components' when serial is 0), except those in use. */
void wo_holding_drop(wo_engine *e, uint64_t serial, bool residents_only);

#endif
