/* The format: [ n : u64, little endian ][ n bytes of JSON ][ data ], where the JSON maps each tensor's name to
 * {"dtype": "BF16", "shape": [5120, 5120], "data_offsets": [begin, end]} with offsets into data.
 *
 * Nothing of it is believed: n against the file, the offsets against the data, the shape times the dtype against the
 * offsets, and the spans against one another. Holes between spans and bytes behind the last are allowed: writers pad.
 * Tensors of a kind that cannot be computed with are kept with the reason, so that they can be listed; they are checked
 * just the same. */
#include "store/safetensors.h"
#include "base/memory.h"
#include "store/json.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PREFIX = 8, BRIEF = 160 };
static const uint64_t LARGEST_HEADER = 100000000;

typedef struct kind {
    const char *at_rest, *skipped;
    wo_dtype dtype;
    unsigned bits; /* of one element; 0: not known */
} kind;

static const char NOT_KNOWN[] = "its dtype is not known to this version";

static const kind KINDS[] = {
    {"F32", NULL, WO_F32, 32},
    {"BF16", NULL, WO_BF16, 16},
    {"F16", NULL, WO_F16, 16},
    {"F64", NULL, WO_F64, 64},
    {"F8_E4M3", NULL, WO_F8_E4M3, 8},
    {"I64", "dtype int64 is not a weight", WO_I64, 64},
    {"I32", "dtype int32 is not a weight", WO_I32, 32},
    {"I16", "dtype int16 is not a weight", WO_I16, 16},
    {"I8", "dtype int8 is not a weight", WO_I8, 8},
    {"U8", "dtype uint8 is not a weight", WO_U8, 8},
    {"BOOL", "dtype bool is not a weight", WO_BOOL, 8},
    {"U64", "dtype uint64 is not a weight", WO_DTYPE_COUNT, 64},
    {"U32", "dtype uint32 is not a weight", WO_DTYPE_COUNT, 32},
    {"U16", "dtype uint16 is not a weight", WO_DTYPE_COUNT, 16},
    {"C64", "dtype complex64 is not a weight", WO_DTYPE_COUNT, 64},
    {"F8_E5M2", "dtype F8_E5M2 (8-bit float) cannot be computed with yet", WO_DTYPE_COUNT, 8},
    {"F8_E8M0", "dtype F8_E8M0 (8-bit exponent) cannot be computed with yet", WO_DTYPE_COUNT, 8},
    {"F6_E2M3", "dtype F6_E2M3 (6-bit float) cannot be computed with yet", WO_DTYPE_COUNT, 6},
    {"F6_E3M2", "dtype F6_E3M2 (6-bit float) cannot be computed with yet", WO_DTYPE_COUNT, 6},
    {"F4", "dtype F4 (4-bit float) cannot be computed with yet", WO_DTYPE_COUNT, 4},
};

/* What one tensor's object says, before it is believed. */
typedef struct claim {
    const char *name, *dtype;
    uint64_t shape[WO_MAX_RANK];
    uint64_t rank, elements; /* elements: the product of all sizes, also those beyond WO_MAX_RANK */
    uint64_t begin, end;
    bool has_dtype, has_shape, has_offsets;
} claim;

static wo_status fault(const wo_file *file, const char *name, wo_error *err, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static wo_status fault(const wo_file *file, const char *name, wo_error *err, const char *format, ...) {
    char what[400], shown[BRIEF];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    WO_BAD_FILE(err, file->path, "%s: tensor \"%s\" %s. The file is damaged; copy or download it again.",
                wo_path_tail(file->path), wo_json_brief(name, shown, sizeof shown), what);
}

/* Sizes must fit int64_t together, zero or not, so that nobody downstream can overflow by multiplying them in some
 * order. */
static wo_status read_shape(wo_json *j, const wo_file *file, claim *c, wo_error *err) {
    uint64_t nonzero = 1;
    c->elements = 1;
    WO_TRY(wo_json_begin_array(j, err));
    for (bool more;; c->rank++) {
        uint64_t size;
        WO_TRY(wo_json_next(j, c->rank == 0, &more, NULL, err));
        if (!more)
            return WO_OK;
        WO_TRY(wo_json_uint(j, &size, err));
        if (!wo_mul_size(nonzero, size == 0 ? 1 : size, &nonzero) || nonzero > INT64_MAX / 8)
            return fault(file, c->name, err, "has a shape whose sizes multiply to more than can be addressed (axis %" PRIu64
                         " is %" PRIu64 ")", c->rank, size);
        c->elements = size == 0 || c->elements == 0 ? 0 : nonzero;
        if (c->rank < WO_MAX_RANK)
            c->shape[c->rank] = size;
    }
}

static wo_status read_offsets(wo_json *j, const wo_file *file, claim *c, wo_error *err) {
    uint64_t n[2] = {0, 0}, count = 0;
    WO_TRY(wo_json_begin_array(j, err));
    for (bool more;; count++) {
        WO_TRY(wo_json_next(j, count == 0, &more, NULL, err));
        if (!more)
            break;
        if (count == 2)
            return fault(file, c->name, err, "has more than two data_offsets");
        WO_TRY(wo_json_uint(j, &n[count], err));
    }
    if (count != 2)
        return fault(file, c->name, err, "has %" PRIu64 " data_offsets, not two", count);
    c->begin = n[0];
    c->end = n[1];
    return WO_OK;
}

static wo_status read_claim(wo_json *j, const wo_file *file, claim *c, wo_error *err) {
    WO_TRY(wo_json_begin_object(j, err));
    bool more;
    for (bool first = true;; first = false) {
        const char *key;
        WO_TRY(wo_json_next(j, first, &more, &key, err));
        if (!more)
            break;
        bool *seen = strcmp(key, "dtype") == 0 ? &c->has_dtype : strcmp(key, "shape") == 0 ? &c->has_shape
                     : strcmp(key, "data_offsets") == 0 ? &c->has_offsets : NULL;
        if (seen == NULL) {
            WO_TRY(wo_json_skip(j, err));
            continue;
        }
        if (*seen)
            return fault(file, c->name, err, "has the field %s twice", key);
        *seen = true;
        if (seen == &c->has_dtype)
            WO_TRY(wo_json_string(j, &c->dtype, err));
        else
            WO_TRY(seen == &c->has_shape ? read_shape(j, file, c, err) : read_offsets(j, file, c, err));
    }
    if (!c->has_dtype || !c->has_shape || !c->has_offsets)
        return fault(file, c->name, err, "lacks the field %s",
                     !c->has_dtype ? "dtype" : !c->has_shape ? "shape" : "data_offsets");
    return WO_OK;
}

static const kind *find_kind(const char *at_rest) {
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++)
        if (strcmp(KINDS[i].at_rest, at_rest) == 0)
            return &KINDS[i];
    return NULL;
}

/* Believes a claim, or says what is wrong with it. data: where the file's data begins. */
static wo_status accept(const claim *c, const wo_file *file, int32_t index, uint64_t data, wo_entry *out, wo_error *err) {
    static const kind UNKNOWN = {.skipped = NOT_KNOWN, .dtype = WO_DTYPE_COUNT};
    const kind *k = find_kind(c->dtype);
    uint64_t room = file->size - data, bits = 0;
    if (k == NULL)
        k = &UNKNOWN;
    if (c->begin > c->end)
        return fault(file, c->name, err, "has data_offsets [%" PRIu64 ", %" PRIu64 "], which run backwards", c->begin, c->end);
    if (c->end > room)
        return fault(file, c->name, err, "has data_offsets [%" PRIu64 ", %" PRIu64 "], but only %" PRIu64
                     " bytes follow the header", c->begin, c->end, room);
    uint64_t span = c->end - c->begin;
    bool fits = wo_mul_size(c->elements, k->bits, &bits) && bits % 8 == 0 && bits / 8 == span;
    if (k->bits > 0 && !fits)
        return fault(file, c->name, err, "has %" PRIu64 " bytes, but its shape has %" PRIu64
                     " elements of dtype %s (%u bits each)", span, c->elements, k->at_rest, k->bits);
    *out = (wo_entry){.name = c->name, .dtype = k->dtype, .dtype_at_rest = c->dtype, .file = index, .offset = data + c->begin,
                      .bytes = span, .skipped = k->skipped, .shape = {1, 1, 1, 1, 1}};
    out->rank = c->rank < WO_MAX_RANK ? (int32_t)c->rank : WO_MAX_RANK;
    for (int i = 0; i < out->rank; i++)
        out->shape[i] = (int64_t)c->shape[i];
    if (c->rank > WO_MAX_RANK)
        out->skipped = "it has more than 5 axes (the first 5 sizes are listed)";
    return WO_OK;
}

static int by_offset(const void *pa, const void *pb) {
    const wo_entry *a = pa, *b = pb;
    if (a->offset != b->offset)
        return a->offset < b->offset ? -1 : 1;
    return a->bytes < b->bytes ? -1 : a->bytes > b->bytes;
}

static wo_status refuse_overlaps(const wo_file *file, wo_entry *items, size_t count, wo_error *err) {
    qsort(items, count, sizeof *items, by_offset);
    const wo_entry *last = NULL;
    for (size_t i = 0; i < count; i++) {
        char other[BRIEF];
        if (items[i].bytes == 0)
            continue;
        if (last != NULL && items[i].offset < last->offset + last->bytes)
            return fault(file, items[i].name, err, "shares bytes %" PRIu64 " to %" PRIu64 " of the file with tensor \"%s\"",
                         items[i].offset, last->offset + last->bytes, wo_json_brief(last->name, other, sizeof other));
        last = &items[i];
    }
    return WO_OK;
}

static wo_status read_tensors(wo_json *j, const wo_file *file, int32_t index, uint64_t data, wo_entries *entries,
                              wo_error *err) {
    bool more, seen_metadata = false;
    WO_TRY(wo_json_begin_object(j, err));
    for (bool first = true;; first = false) {
        claim c = {.rank = 0};
        WO_TRY(wo_json_next(j, first, &more, &c.name, err));
        if (!more)
            return wo_json_finish(j, err);
        if (strcmp(c.name, "__metadata__") == 0) {
            if (seen_metadata)
                WO_BAD_FILE(err, file->path, "%s: the header has __metadata__ twice. The file is damaged; copy or "
                            "download it again.", wo_path_tail(file->path));
            seen_metadata = true;
            WO_TRY(wo_json_skip(j, err));
            continue;
        }
        WO_TRY(read_claim(j, file, &c, err));
        void *items = entries->items;
        WO_TRY(wo_grow(&items, entries->count, &entries->capacity, sizeof *entries->items, "the list of tensors", err));
        entries->items = items;
        WO_TRY(accept(&c, file, index, data, &entries->items[entries->count], err));
        entries->count++;
    }
}

/* Files that are often taken for a safetensors file begin in a way that can be told. */
static const char *guess(const unsigned char *prefix) {
    if (memcmp(prefix, "PK\3\4", 4) == 0)
        return " It looks like a PyTorch archive (.pt, .pth, .bin); convert it to safetensors first.";
    if (memcmp(prefix, "version ", 8) == 0)
        return " It looks like a Git LFS pointer; fetch the file itself (git lfs pull).";
    return prefix[0] == '<' ? " It looks like a web page; download the file again." : " Copy or download it again.";
}

static wo_status read_length(const wo_file *file, uint64_t *length, wo_error *err) {
    unsigned char prefix[PREFIX];
    if (file->size < PREFIX)
        WO_BAD_FILE(err, file->path, "%s has %" PRIu64 " bytes, too few for a safetensors file. Copy or download it again.",
                    wo_path_tail(file->path), file->size);
    WO_TRY(wo_file_read(file, 0, PREFIX, prefix, err));
    for (int i = PREFIX - 1; i >= 0; i--)
        *length = *length << 8 | prefix[i];
    if (*length > LARGEST_HEADER || *length > file->size - PREFIX || *length < 2)
        WO_BAD_FILE(err, file->path, "%s is not a safetensors file, or is cut off: its header would have %" PRIu64
                    " bytes, the file has %" PRIu64 " and the limit is %" PRIu64 ".%s", wo_path_tail(file->path), *length,
                    file->size, LARGEST_HEADER, guess(prefix));
    return WO_OK;
}

wo_status wo_safetensors_read(const wo_file *file, int32_t index, wo_entries *entries, char **text, wo_error *err) {
    uint64_t length = 0;
    void *header;
    *text = NULL;
    WO_TRY(read_length(file, &length, err));
    WO_TRY(wo_memory_acquire(length, "the header of a checkpoint", &header, err));
    *text = header;
    WO_TRY(wo_file_read(file, PREFIX, length, header, err));
    wo_json j = wo_json_start(header, length, file->path, "header");
    size_t first = entries->count;
    WO_TRY(read_tensors(&j, file, index, PREFIX + length, entries, err));
    return entries->count == first ? WO_OK : refuse_overlaps(file, entries->items + first, entries->count - first, err);
}
