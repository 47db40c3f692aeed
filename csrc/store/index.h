/* Finding a checkpoint's files: which file a path means, and what an index.json says. Private to store. */
#ifndef WO_STORE_INDEX_H
#define WO_STORE_INDEX_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

/* Turns a path as wo_store_open takes it into that of one safetensors file or one index. *found: wo_memory_release frees
 * it. */
wo_status wo_checkpoint_find(const char *path, char **found, bool *is_index, wo_error *err);

typedef struct wo_placement {
    const char *tensor, *shard; /* in the index's text; shard is a plain file name */
} wo_placement;

/* The weight_map of an index. */
typedef struct wo_index {
    char *text;
    wo_placement *items; /* in order of shard, then tensor; no tensor stands twice */
    size_t count, capacity;
} wo_index;

/* wo_index_fini is to be called also after a failure. */
wo_status wo_index_read(const char *path, wo_index *out, wo_error *err);
void wo_index_fini(wo_index *index);

/* folder of `path` + "/" + name; wo_memory_release frees it. */
wo_status wo_path_beside(const char *path, const char *name, char **out, wo_error *err);

#endif
