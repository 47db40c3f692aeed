/* Placing blocks of known lifetime in one arena. The dry run says when each block is born and dies; placement is done
 * once, before anything runs, so the peak is known to the byte and a run only looks offsets up. */
#ifndef WO_BASE_ARENA_H
#define WO_BASE_ARENA_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

enum { WO_ARENA_ALIGN = 256 };

typedef struct wo_lifetime {
    size_t bytes;        /* rounded up to WO_ARENA_ALIGN by the placement */
    int64_t born, dies;  /* event indices; the block is live in [born, dies) */
    size_t offset;       /* out */
} wo_lifetime;

/* Greedy with best gap, over several orders of which the lowest peak is kept; deterministic (ties by index). Sets every
 * offset and *peak (end of the highest block). A block without bytes, or with born == dies, gets offset 0 and takes no
 * room. */
wo_status wo_arena_place(wo_lifetime *blocks, size_t count, size_t *peak, wo_error *err);
/* The largest sum of bytes (rounded as above) that live at one time: no placement can be smaller. */
size_t wo_arena_lower_bound(const wo_lifetime *blocks, size_t count);
static inline size_t wo_arena_round(size_t bytes) {
    return (bytes + WO_ARENA_ALIGN - 1) / WO_ARENA_ALIGN * WO_ARENA_ALIGN;
}

#endif
