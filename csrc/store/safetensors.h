/* Reading the header of one safetensors file. Private to store. */
#ifndef WO_STORE_SAFETENSORS_H
#define WO_STORE_SAFETENSORS_H

#include "store/file.h"
#include "store/store.h"

typedef struct wo_entries {
    wo_entry *items; /* wo_memory_release frees it */
    size_t count, capacity;
} wo_entries;

/* Appends the tensors of `file` (its index in the store) to entries. *text receives the header's text, into which the names
 * point; the caller frees it with wo_memory_release, also after a failure. Duplicate names are not looked for here. */
wo_status wo_safetensors_read(const wo_file *file, int32_t index, wo_entries *entries, char **text, wo_error *err);

#endif
