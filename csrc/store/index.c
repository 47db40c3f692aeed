/* An index is {"metadata": ..., "weight_map": {tensor: shard, ...}}. A shard's name is taken only when it is a plain
 * file name: without a separator it cannot leave the folder of the index, nor pass through a link to another folder. The
 * shard itself may be a link, since that is how the download cache of the Hugging Face hub lays out its folders. */
#include "store/index.h"
#include "base/memory.h"
#include "store/file.h"
#include "store/json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { BRIEF = 120 };
static const uint64_t LARGEST_INDEX = 100000000;

static wo_status fault(const char *path, wo_error *err, const char *what, const char *name) {
    char shown[BRIEF];
    WO_BAD_FILE(err, path, "%s: %s%s%s", wo_path_tail(path), what, name != NULL ? ": " : "",
                name != NULL ? wo_json_brief(name, shown, sizeof shown) : "");
}

static bool is_plain(const char *name) {
    bool dots = strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
    return name[0] != '\0' && strpbrk(name, "/\\") == NULL && !dots;
}

static wo_status read_map(wo_json *j, const char *path, wo_index *out, wo_error *err) {
    bool more;
    WO_TRY(wo_json_begin_object(j, err));
    for (bool first = true;; first = false) {
        wo_placement p;
        WO_TRY(wo_json_next(j, first, &more, &p.tensor, err));
        if (!more)
            return WO_OK;
        WO_TRY(wo_json_string(j, &p.shard, err));
        if (!is_plain(p.shard))
            return fault(path, err, "a shard must be a plain file name beside the index, without a folder", p.shard);
        void *items = out->items;
        WO_TRY(wo_grow(&items, out->count, &out->capacity, sizeof p, "the index of a checkpoint", err));
        out->items = items;
        out->items[out->count++] = p;
    }
}

static wo_status read_document(wo_json *j, const char *path, wo_index *out, wo_error *err) {
    bool more, seen = false;
    WO_TRY(wo_json_begin_object(j, err));
    for (bool first = true;; first = false) {
        const char *key;
        WO_TRY(wo_json_next(j, first, &more, &key, err));
        if (!more)
            break;
        if (strcmp(key, "weight_map") != 0) {
            WO_TRY(wo_json_skip(j, err));
            continue;
        }
        if (seen)
            return fault(path, err, "the index has weight_map twice", NULL);
        seen = true;
        WO_TRY(read_map(j, path, out, err));
    }
    WO_TRY(wo_json_finish(j, err));
    if (out->count == 0)
        return fault(path, err, seen ? "the index lists no tensor" : "this is no index of a checkpoint, it has no weight_map",
                     NULL);
    return WO_OK;
}

static int by_tensor(const void *pa, const void *pb) {
    return strcmp(((const wo_placement *)pa)->tensor, ((const wo_placement *)pb)->tensor);
}

static int by_shard(const void *pa, const void *pb) {
    int order = strcmp(((const wo_placement *)pa)->shard, ((const wo_placement *)pb)->shard);
    return order != 0 ? order : by_tensor(pa, pb);
}

static wo_status read_text(const wo_file *file, wo_index *out, wo_error *err) {
    void *text;
    if (file->size > LARGEST_INDEX)
        WO_BAD_FILE(err, file->path, "%s has %" PRIu64 " bytes, and an index is refused above %" PRIu64,
                    wo_path_tail(file->path), file->size, LARGEST_INDEX);
    WO_TRY(wo_memory_acquire(file->size, "the index of a checkpoint", &text, err));
    out->text = text;
    return wo_file_read(file, 0, file->size, text, err);
}

wo_status wo_index_read(const char *path, wo_index *out, wo_error *err) {
    wo_file file;
    *out = (wo_index){.text = NULL};
    WO_TRY(wo_file_open(path, &file, err));
    uint64_t length = file.size;
    wo_status status = read_text(&file, out, err);
    wo_file_close(&file);
    WO_TRY(status);
    wo_json j = wo_json_start(out->text, length, path, "index");
    WO_TRY(read_document(&j, path, out, err));
    qsort(out->items, out->count, sizeof *out->items, by_tensor);
    for (size_t i = 1; i < out->count; i++)
        if (strcmp(out->items[i - 1].tensor, out->items[i].tensor) == 0)
            return fault(path, err, "weight_map has a tensor twice", out->items[i].tensor);
    qsort(out->items, out->count, sizeof *out->items, by_shard);
    return WO_OK;
}

void wo_index_fini(wo_index *index) {
    wo_memory_release(index->items);
    wo_memory_release(index->text);
    *index = (wo_index){.text = NULL};
}
