/* What a plan holds. Private to offload. */
#ifndef WO_OFFLOAD_PLAN_IMPL_H
#define WO_OFFLOAD_PLAN_IMPL_H

#include "offload/component_impl.h"
#include "offload/groups.h"
#include "offload/record.h"
#include "offload/ring.h"

#include <stdatomic.h>

enum {
    WO_PIECE_BYTES = 1 << 20,     /* what a reader reads at a time, at most (one channel of a convolution is never parted) */
    WO_FAR_PIECE_BYTES = 4 << 20, /* the same where each piece is a copy to a device of its own: copies of that size fill the link */
    WO_DEFAULT_READERS = 2,
    WO_FAR_READERS = 4,
    WO_FAR_BLOCK_BYTES = 3 * 4096, /* what one piece of host memory may take beyond its size, where it is pinned: whole pages, and one of its own */
    WO_MAX_READERS = 64,
    WO_MAX_TRACE_SPANS = 1 << 24,
    WO_READER_QUEUE = 64,         /* pieces that wait for a reader; the host waits when there are more */
};

struct wo_plan {
    atomic_int references;
    const wo_component *expert[WO_MAX_EXPERTS]; /* one, mostly: the component */
    uint64_t serial[WO_MAX_EXPERTS];
    int experts;
    wo_record *record;
    wo_groups groups;
    wo_ring_size ring;
    wo_plan_pass *pass;
    wo_plan_summary summary;
    /* The work arena: [ ring | arrival | keeps | activations ] */
    size_t arrival_offset, keep_offset, activation_offset;
    int readers;
    size_t piece_bytes, staging_slots, staging_slot_bytes;
    size_t slab_bytes[WO_MAX_EXPERTS]; /* on the host, by expert */
    size_t *slab_offset; /* by expert and group: among the expert's slabs */
    bool resident_slabs; /* the residents are kept in host slabs too, so that they can be dropped and come back without the disk */
};

/* One way to run the component. */
typedef struct wo_plan_choice {
    wo_level level; /* not AUTO */
    wo_tier tier;
    bool use_stream;
    double resident_fraction;
} wo_plan_choice;

/* Lays out a plan for this choice. The record, made of the first expert, is retained. Budgets are not looked at. */
wo_status wo_plan_lay_out(const wo_component *const *experts, int count, wo_record *record, const wo_device *device, const wo_policy *policy,
                          const wo_plan_choice *choice, wo_plan **out, wo_error *err);

/* What a trace calls a group: those of the second expert come behind those of the first. */
static inline int32_t wo_plan_group_number(const wo_plan *plan, int expert, size_t group) {
    return (int32_t)((size_t)expert * plan->groups.count + group);
}

/* True when readers read this param's pieces straight to where it is used. */
static inline bool wo_param_reads_directly(const wo_param *p, bool host_addressable) {
    return host_addressable && wo_conversion_is_copy(&p->conversion);
}
/* Elements in one piece of the param: whole granules of about piece_bytes at rest. */
int64_t wo_param_piece(const wo_param *p, size_t piece_bytes);

#endif
