/* A checkpoint at rest: one safetensors file, or a folder or index.json with shards. Every header field is hostile until
 * checked. Files are opened once and only ever read with pread; nothing is mapped. */
#ifndef WO_STORE_STORE_H
#define WO_STORE_STORE_H

#include "base/status.h"
#include "base/tensor.h"

typedef struct wo_store wo_store;

typedef struct wo_entry {
    const char *name;          /* owned by the store */
    wo_dtype dtype;            /* WO_DTYPE_COUNT for one that is not in the list; then skipped says so */
    const char *dtype_at_rest; /* as the file spells it ("F8_E5M2"); owned by the store */
    int32_t rank;
    int64_t shape[WO_MAX_RANK];
    int32_t file;              /* index for wo_store_file_path */
    uint64_t offset;           /* from the start of the file; maybe unaligned */
    uint64_t bytes;
    const char *skipped;       /* NULL, or why this tensor cannot be used ("dtype int64 is not a weight") */
} wo_entry;

/* path: X.safetensors, X.safetensors.index.json, or a folder that holds one of diffusion_pytorch_model / model
 * (.safetensors or .safetensors.index.json, also with a variant such as .fp16 where it is the only one). Errors: WO_EOS
 * with the path, WO_ECHECKPOINT with file, field and numbers. A shard outside the index's folder is refused. */
wo_status wo_store_open(const char *path, wo_store **out, wo_error *err);
wo_store *wo_store_retain(wo_store *store);
void wo_store_release(wo_store *store); /* NULL is fine */

size_t wo_store_count(const wo_store *store);
const wo_entry *wo_store_at(const wo_store *store, size_t i);              /* in order of name */
const wo_entry *wo_store_find(const wo_store *store, const char *name);    /* NULL when absent */
size_t wo_store_files(const wo_store *store);
const char *wo_store_file_path(const wo_store *store, int32_t file);
uint64_t wo_store_bytes(const wo_store *store); /* of all files */

/* Compares size and mtime of each open descriptor with those at open: WO_ECHECKPOINT "changed while open". A file that was
 * replaced by rename still reads the old one and is no error. */
wo_status wo_store_check_unchanged(const wo_store *store, wo_error *err);
/* Reads exactly `bytes` at `offset` of `file`; a short read is WO_ECHECKPOINT, an OS error WO_EOS. Blocking, any thread. */
wo_status wo_store_read(const wo_store *store, int32_t file, uint64_t offset, size_t bytes, void *dst, wo_error *err);

/* Tests: the n-th wo_store_read from now fails with EIO, once; 0 switches off. */
void wo_store_fail_at(int64_t n);
/* Tests: every read first sleeps so long. */
void wo_store_delay(double seconds);

#endif
