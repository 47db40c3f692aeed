/* The compute thread pool. One job at a time: `tiles` output tiles are handed out by an atomic counter to the threads,
 * and the caller works as thread 0. What a tile computes must not depend on which thread takes it. */
#ifndef WO_BASE_POOL_H
#define WO_BASE_POOL_H

#include "base/cancel.h"
#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct wo_pool wo_pool;

/* worker: 0 .. threads-1; scratch: that worker's own 64-byte aligned block of scratch_bytes, contents undefined. */
typedef void (*wo_tile_fn)(void *ctx, int64_t tile, int worker, void *scratch);

wo_status wo_pool_create(int threads, size_t scratch_bytes, wo_pool **out, wo_error *err);
void wo_pool_destroy(wo_pool *pool);
int wo_pool_threads(const wo_pool *pool);
size_t wo_pool_scratch_bytes(const wo_pool *pool);
/* Changes the number of threads; waits until the running job has ended. Fails on WO_ENOMEMORY and keeps the old number. */
wo_status wo_pool_resize(wo_pool *pool, int threads, wo_error *err);
/* Runs all tiles and returns when the last has ended. Jobs of several callers take turns. With `cancel` requested the tiles
 * not yet begun are skipped and WO_ECANCELLED is returned (no message is set). cancel may be NULL. */
wo_status wo_pool_run(wo_pool *pool, int64_t tiles, wo_tile_fn fn, void *ctx, wo_cancel *cancel);

/* Threads the process may use: affinity mask, then cgroup v2/v1 CPU quota rounded up; at least 1. Writes why into
 * reason. */
int wo_pool_default_threads(char *reason, size_t bytes);

#endif
