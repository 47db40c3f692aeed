/* What happened in one exec. Plain numbers; presentation is Python's. */
#ifndef WO_OFFLOAD_REPORT_H
#define WO_OFFLOAD_REPORT_H

#include <stddef.h>
#include <stdint.h>

typedef struct wo_report {
    uint64_t passes;
    uint64_t visits;            /* group acquisitions of streamed groups */
    uint64_t bytes_loaded;      /* residents and slabs filled at open */
    uint64_t bytes_moved;       /* into the ring by passes */
    uint64_t bytes_from_disk;   /* of bytes_moved: read from files during passes (bytes at rest) */
    uint64_t bytes_from_host;   /* of bytes_moved: copied from host slabs */
    uint64_t wraps;             /* times the ring's head returned to its beginning */
    uint64_t activation_peak;   /* highest byte handed out */
    uint64_t arena_bytes;       /* of the engine's work arena, which an earlier exec may have left larger than this one needs */
    uint64_t arena_touched;     /* high-water mark really touched (poison mode; else 0) */
    uint64_t ram_peak;          /* of counted host memory during the exec */
    double seconds;             /* open to close */
    double load_seconds;        /* open */
    double compute_seconds;     /* compute stream executing, fetches on it left out */
    double stall_seconds;       /* compute stream waiting for `ready` */
    double copy_seconds;        /* copy stream executing; without one, fetches on the compute stream */
    double read_seconds;        /* inside pread, all readers */
} wo_report;

#endif
