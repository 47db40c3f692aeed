/* A store is a list of open files and one list of their tensors in order of name. Opening reads headers only; afterwards
 * a store never changes, so any thread may ask it anything without a lock. */
#include "store/store.h"
#include "base/clock.h"
#include "base/memory.h"
#include "store/file.h"
#include "store/index.h"
#include "store/json.h"
#include "store/safetensors.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { BRIEF = 120 };

typedef struct source {
    wo_file file;
    char *header; /* the names of its tensors point into this text */
} source;

struct wo_store {
    atomic_int references;
    source *sources;
    size_t files, sources_capacity;
    wo_entries entries;
};

static _Atomic int64_t failing;
static _Atomic double delay;

static int by_name(const void *pa, const void *pb) {
    const wo_entry *a = pa, *b = pb;
    int order = strcmp(a->name, b->name);
    return order != 0 ? order : (a->file > b->file) - (a->file < b->file);
}

static wo_status add_file(wo_store *store, const char *path, wo_error *err) {
    void *sources = store->sources;
    WO_TRY(wo_grow(&sources, store->files, &store->sources_capacity, sizeof *store->sources, "the list of files", err));
    store->sources = sources;
    source *s = &store->sources[store->files];
    WO_TRY(wo_file_open(path, &s->file, err));
    s->header = NULL;
    store->files++;
    return wo_safetensors_read(&s->file, (int32_t)store->files - 1, &store->entries, &s->header, err);
}

static wo_status sort_entries(wo_store *store, wo_error *err) {
    char shown[BRIEF];
    const wo_entry *items = store->entries.items;
    if (store->entries.count > 0)
        qsort(store->entries.items, store->entries.count, sizeof *items, by_name);
    for (size_t i = 1; i < store->entries.count; i++) {
        const wo_entry *a = &items[i - 1], *b = &items[i];
        if (strcmp(a->name, b->name) != 0)
            continue;
        const char *first = wo_store_file_path(store, a->file), *second = wo_store_file_path(store, b->file);
        if (a->file == b->file)
            WO_BAD_FILE(err, first, "%s: tensor \"%s\" stands twice in the header. The file is damaged; copy or download it "
                        "again.", wo_path_tail(first), wo_json_brief(a->name, shown, sizeof shown));
        WO_BAD_FILE(err, second, "tensor \"%s\" is in two shards, %s and %s. Remove the shard that does not belong to this "
                    "checkpoint, or download it again.", wo_json_brief(a->name, shown, sizeof shown), wo_path_tail(first),
                    wo_path_tail(second));
    }
    return WO_OK;
}

static wo_status open_shard(wo_store *store, const char *path, const char *name, wo_error *err) {
    char *shard, shown[BRIEF];
    wo_error inner;
    WO_TRY(wo_path_beside(path, name, &shard, err));
    wo_status status = add_file(store, shard, &inner);
    if (status == WO_EOS && inner.os_errno == ENOENT)
        status = wo_error_set_os(err, WO_EOS, ENOENT, shard, "%s lists the shard %s, which is not in its folder. Download the "
                                 "missing file.", wo_path_tail(path), wo_json_brief(name, shown, sizeof shown));
    else if (status != WO_OK && err != NULL)
        *err = inner;
    wo_memory_release(shard);
    return status;
}

/* The index is in order of shard, so each run of equal names is one file. */
static wo_status open_shards(wo_store *store, const char *path, const wo_index *index, wo_error *err) {
    for (size_t i = 0; i < index->count; i++)
        if (i == 0 || strcmp(index->items[i].shard, index->items[i - 1].shard) != 0)
            WO_TRY(open_shard(store, path, index->items[i].shard, err));
    return sort_entries(store, err);
}

/* What the index promises is in the shard that it names. Extra tensors of a shard are no fault. */
static wo_status check_index(const wo_store *store, const char *path, const wo_index *index, wo_error *err) {
    int32_t file = 0;
    for (size_t i = 0; i < index->count; i++) {
        const wo_placement *p = &index->items[i];
        file += i > 0 && strcmp(p->shard, index->items[i - 1].shard) != 0 ? 1 : 0;
        const wo_entry *entry = wo_store_find(store, p->tensor);
        if (entry != NULL && entry->file == file)
            continue;
        char tensor[BRIEF], shard[BRIEF];
        const char *elsewhere = entry != NULL ? wo_path_tail(wo_store_file_path(store, entry->file)) : NULL;
        WO_BAD_FILE(err, path, "%s says that tensor \"%s\" is in the shard %s, but it is %s%s. Index and shards do not belong "
                    "together; download the checkpoint again.", wo_path_tail(path),
                    wo_json_brief(p->tensor, tensor, sizeof tensor), wo_json_brief(p->shard, shard, sizeof shard),
                    elsewhere != NULL ? "in " : "in none of them", elsewhere != NULL ? elsewhere : "");
    }
    return WO_OK;
}

static wo_status open_index(wo_store *store, const char *path, wo_error *err) {
    wo_index index;
    wo_status status;
    WO_GO(wo_index_read(path, &index, err));
    WO_GO(open_shards(store, path, &index, err));
    WO_GO(check_index(store, path, &index, err));
done:
    wo_index_fini(&index);
    return status;
}

static wo_status open_found(wo_store *store, const char *path, bool is_index, wo_error *err) {
    if (is_index)
        return open_index(store, path, err);
    WO_TRY(add_file(store, path, err));
    return sort_entries(store, err);
}

wo_status wo_store_open(const char *path, wo_store **out, wo_error *err) {
    char *found;
    bool is_index = false;
    void *block;
    *out = NULL;
    WO_TRY(wo_checkpoint_find(path, &found, &is_index, err));
    wo_status status = wo_memory_acquire(sizeof(wo_store), "a checkpoint", &block, err);
    if (status == WO_OK) {
        wo_store *store = block;
        *store = (wo_store){.references = 1};
        status = open_found(store, found, is_index, err);
        if (status == WO_OK)
            *out = store;
        else
            wo_store_release(store);
    }
    wo_memory_release(found);
    return status;
}

wo_store *wo_store_retain(wo_store *store) {
    atomic_fetch_add_explicit(&store->references, 1, memory_order_relaxed);
    return store;
}

void wo_store_release(wo_store *store) {
    if (store == NULL || atomic_fetch_sub_explicit(&store->references, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < store->files; i++) {
        wo_file_close(&store->sources[i].file);
        wo_memory_release(store->sources[i].header);
    }
    wo_memory_release(store->sources);
    wo_memory_release(store->entries.items);
    wo_memory_release(store);
}

size_t wo_store_count(const wo_store *store) {
    return store->entries.count;
}

const wo_entry *wo_store_at(const wo_store *store, size_t i) {
    assert(i < store->entries.count);
    return &store->entries.items[i];
}

const wo_entry *wo_store_find(const wo_store *store, const char *name) {
    size_t low = 0, high = store->entries.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, store->entries.items[middle].name);
        if (order == 0)
            return &store->entries.items[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

size_t wo_store_files(const wo_store *store) {
    return store->files;
}

const char *wo_store_file_path(const wo_store *store, int32_t file) {
    assert(file >= 0 && (size_t)file < store->files);
    return store->sources[file].file.path;
}

uint64_t wo_store_bytes(const wo_store *store) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < store->files; i++)
        bytes += store->sources[i].file.size;
    return bytes;
}

wo_status wo_store_check_unchanged(const wo_store *store, wo_error *err) {
    for (size_t i = 0; i < store->files; i++)
        WO_TRY(wo_file_check_unchanged(&store->sources[i].file, err));
    return WO_OK;
}

static bool injected_failure(void) {
    int64_t left = atomic_load(&failing);
    while (left > 0)
        if (atomic_compare_exchange_weak(&failing, &left, left - 1))
            return left == 1;
    return false;
}

wo_status wo_store_read(const wo_store *store, int32_t file, uint64_t offset, size_t bytes, void *dst, wo_error *err) {
    if (file < 0 || (size_t)file >= store->files)
        WO_FAIL(err, WO_EINTERNAL, "a read names file %d of a checkpoint with %zu", (int)file, store->files);
    const wo_file *f = &store->sources[file].file;
    wo_clock_sleep(atomic_load(&delay));
    if (injected_failure())
        return wo_error_set_os(err, WO_EOS, EIO, f->path, "cannot read %zu bytes of %s: %s", bytes, wo_path_tail(f->path),
                               strerror(EIO));
    return wo_file_read(f, offset, bytes, dst, err);
}

void wo_store_fail_at(int64_t n) {
    atomic_store(&failing, n);
}

void wo_store_delay(double seconds) {
    atomic_store(&delay, seconds);
}
