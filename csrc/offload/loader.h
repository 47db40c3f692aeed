/* Brings groups from the checkpoint file to where they are used, in pieces: readers fill, a stream (or the reader itself)
 * converts. Used to fill residents and host slabs once, and for the disk tier at every use. Private to offload. */
#ifndef WO_OFFLOAD_LOADER_H
#define WO_OFFLOAD_LOADER_H

#include "offload/engine.h"

typedef struct wo_loader wo_loader;

typedef struct wo_load {
    int32_t index;              /* the group's number, and the pass it is for: what a trace calls its reads */
    uint64_t pass;
    int expert;
    size_t number;              /* of the group in the plan */
    char *dst;                  /* the group's slot, place among the residents, or part of the slabs */
    wo_stream *stream;          /* what runs on it later sees the group; NULL: dst is in the host slabs and the readers convert */
    wo_ticket space;            /* reached when dst may be written: readers that write there wait for it; the stream already has */
    wo_ticket filled;           /* out: reached when the readers are through with the group */
    uint64_t bytes_at_rest;     /* out */
} wo_load;

/* Takes the staging slots that the plan has, which outlives the loader; the readers are the engine's. */
wo_status wo_loader_open(wo_engine *e, const wo_plan *plan, wo_loader **out, wo_error *err);
/* Waits for the readers. Whoever closes has waited for the streams. NULL is fine. */
void wo_loader_close(wo_loader *l);
/* Hands the group's pieces to the readers. Waits only while too many pieces are on their way. */
wo_status wo_loader_enqueue(wo_loader *l, wo_load *load, wo_error *err);
size_t wo_loader_staging_bytes(const wo_loader *l);
/* Host memory of the pieces on their way, beside the staging slots. */
size_t wo_loader_fixed_bytes(void);

#endif
