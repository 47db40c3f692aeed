/* How groups rest in host memory: their params one behind the other, each at a 256-byte boundary. 8-bit weights are the codes of the file, a byte for
 * each, and are widened on their way to the device; all others are as they are used. A group without codes lies as in its slot. Private to offload. */
#ifndef WO_OFFLOAD_SLAB_H
#define WO_OFFLOAD_SLAB_H

#include "offload/engine_impl.h"
#include "offload/plan_impl.h"

typedef struct wo_slab_param {
    const wo_param *param;
    bool coded;
    size_t offset, offset_in_slot; /* in the group's part of the slabs; in the slot or among the residents */
    size_t bytes;                  /* in the slabs, rounded up to 256 */
} wo_slab_param;

typedef struct wo_slab_walk {
    const wo_component *component;
    const wo_groups *groups;
    const wo_plan_group *group;
    int32_t layer, index; /* where the next one is looked for */
    size_t offset;
} wo_slab_walk;

wo_slab_walk wo_slab_begin(const wo_plan *plan, int expert, size_t group);
bool wo_slab_next(wo_slab_walk *w, wo_slab_param *out);

bool wo_slab_is_coded(const wo_param *p);
/* Of one group of one expert, in host memory. */
size_t wo_slab_bytes(const wo_plan *plan, int expert, size_t group);
/* Enqueues the group's way from the slabs to `dst`. arrival: the plan's room on the device for codes, not used where the device reads host memory. */
wo_status wo_slab_fetch(wo_engine *e, wo_stream *s, const wo_plan *plan, int expert, size_t group, char *dst, const char *slabs, char *arrival,
                        wo_error *err);

#endif
