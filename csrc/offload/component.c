/* Layers, blocks, and the account of every tensor in the checkpoint.
 *
 *     checkpoint      claims                         layer "blocks.0.ffn"
 *     +--------+      +----------------------+       slab: | weight .... | bias . |
 *     | tensor |<-----| rows [first, + rows) |              ^ 0           ^ at a 256-byte boundary
 *     +--------+      +----------------------+
 *
 * A tensor, or a slice of its rows, has one claim at most (a scale has one for each slice of its weight). What no layer claims is
 * listed as unused with the reason when the component is sealed, so that nothing in a file is passed over in silence. */
#include "offload/component_impl.h"

#include "base/arena.h"
#include "offload/scale.h"
#include "offload/table.h"

#include <assert.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

typedef struct claim {
    const wo_entry *entry;
    int64_t first_row, rows;
    const wo_layer *layer;
} claim;

typedef struct excuse {
    char *prefix, *suffix, *reason;
} excuse;

struct wo_component {
    uint64_t serial;
    char *name;
    wo_store *store;
    wo_layer **layers;
    size_t layer_count, layer_capacity;
    char **blocks;
    size_t block_count, block_capacity;
    claim *claims;
    size_t claim_count, claim_capacity;
    excuse *excuses;
    size_t excuse_count, excuse_capacity;
    wo_unused *unused; /* the names and reasons that were made here are in `texts` */
    size_t unused_count, unused_capacity;
    char **texts;
    size_t text_count, text_capacity;
    size_t bytes;
    bool sealed;
};

/* Appends a zeroed item to a list member; evaluates to false when there is no memory. */
#define GROW(c, list, what, err) \
    (((list##_grown = wo_list_reserve((c)->list##s, &(c)->list##_capacity, (c)->list##_count + 1, sizeof *(c)->list##s, what, err)) != NULL) && \
     (((c)->list##s = list##_grown), true))

wo_status wo_component_create(const char *name, wo_store *store, wo_component **out, wo_error *err) {
    static _Atomic uint64_t serials;
    *out = NULL;
    wo_component *c = wo_table_create(1, sizeof *c, "component", err);
    if (c == NULL)
        return WO_ENOMEMORY;
    c->name = wo_text_create(name, err);
    if (c->name == NULL) {
        wo_memory_release(c);
        return WO_ENOMEMORY;
    }
    c->serial = atomic_fetch_add(&serials, 1) + 1;
    c->store = wo_store_retain(store);
    *out = c;
    return WO_OK;
}

void wo_component_destroy(wo_component *c) {
    if (c == NULL)
        return;
    for (size_t i = 0; i < c->layer_count; i++) {
        wo_memory_release((void *)(uintptr_t)c->layers[i]->name);
        wo_memory_release(c->layers[i]);
    }
    for (size_t i = 0; i < c->block_count; i++)
        wo_memory_release(c->blocks[i]);
    for (size_t i = 0; i < c->excuse_count; i++) {
        wo_memory_release(c->excuses[i].prefix);
        wo_memory_release(c->excuses[i].suffix);
        wo_memory_release(c->excuses[i].reason);
    }
    for (size_t i = 0; i < c->text_count; i++)
        wo_memory_release(c->texts[i]);
    wo_memory_release(c->layers);
    wo_memory_release(c->blocks);
    wo_memory_release(c->claims);
    wo_memory_release(c->excuses);
    wo_memory_release(c->unused);
    wo_memory_release(c->texts);
    wo_store_release(c->store);
    wo_memory_release(c->name);
    wo_memory_release(c);
}

wo_status wo_component_add_block(wo_component *c, const char *name, int32_t *out, wo_error *err) {
    void *block_grown;
    if (!GROW(c, block, "blocks", err))
        return WO_ENOMEMORY;
    char *text = wo_text_create(name, err);
    if (text == NULL)
        return WO_ENOMEMORY;
    *out = (int32_t)c->block_count;
    c->blocks[c->block_count++] = text;
    return WO_OK;
}

static const char *describe_shape(int rank, const int64_t *shape, char *buffer, size_t bytes) {
    size_t used = (size_t)snprintf(buffer, bytes, "[");
    for (int i = 0; i < rank && used < bytes; i++)
        used += (size_t)snprintf(buffer + used, bytes - used, i == 0 ? "%" PRId64 : ", %" PRId64, shape[i]);
    if (used < bytes)
        snprintf(buffer + used, bytes - used, "]");
    return buffer;
}

static bool is_float(wo_dtype dtype) {
    return dtype == WO_F32 || dtype == WO_BF16 || dtype == WO_F16 || dtype == WO_F64 || dtype == WO_F8_E4M3;
}

/* The entry, or an error that names the tensor, the file, what was wanted and what was found. */
static wo_status find_entry(const wo_component *c, const wo_param_spec *spec, const wo_entry **out, wo_error *err) {
    char wanted[128], found[128];
    describe_shape(spec->rank, spec->shape, wanted, sizeof wanted);
    const wo_entry *entry = wo_store_find(c->store, spec->tensor);
    if (entry == NULL) {
        size_t files = wo_store_files(c->store);
        const char *path = files > 0 ? wo_store_file_path(c->store, 0) : "";
        return wo_error_set_os(err, WO_ECHECKPOINT, 0, path, "%s: tensor '%s' is missing: wanted %s, found no such name in %s%s", c->name,
                               spec->tensor, wanted, path, files > 1 ? " and the other files of its index" : "");
    }
    const char *path = wo_store_file_path(c->store, entry->file);
    if (entry->skipped != NULL)
        return wo_error_set_os(err, WO_ECHECKPOINT, 0, path, "%s: tensor '%s' in %s cannot be used: %s", c->name, spec->tensor, path, entry->skipped);
    bool same = entry->rank == spec->rank;
    for (int i = 0; same && i < spec->rank; i++)
        same = entry->shape[i] == spec->shape[i];
    if (!same)
        return wo_error_set_os(err, WO_ECHECKPOINT, 0, path, "%s: tensor '%s' in %s has another shape: wanted %s, found %s", c->name, spec->tensor,
                               path, wanted, describe_shape(entry->rank, entry->shape, found, sizeof found));
    if (!is_float(entry->dtype))
        return wo_error_set_os(err, WO_ECHECKPOINT, 0, path, "%s: tensor '%s' in %s is %s: wanted a float dtype", c->name, spec->tensor, path,
                               wo_dtype_name(entry->dtype));
    *out = entry;
    return WO_OK;
}

static wo_status fill_shape_of_use(const wo_param_spec *spec, wo_param *p, wo_error *err) {
    int64_t shape[WO_MAX_RANK] = {1, 1, 1, 1, 1};
    for (int i = 0; i < spec->rank; i++)
        shape[i] = spec->shape[i];
    shape[0] = p->rows;
    if (spec->layout == WO_LAYOUT_ROWS) {
        p->shape_of_use = wo_tensor_make(NULL, spec->dtype, spec->rank, shape);
        return WO_OK;
    }
    if (spec->rank != 4 && spec->rank != 5)
        WO_FAIL(err, WO_EINTERNAL, "tensor '%s' of rank %d has no taps to put outside", spec->tensor, spec->rank);
    int64_t depth = spec->rank == 5 ? shape[2] : 1, height = shape[spec->rank - 2], width = shape[spec->rank - 1];
    p->conversion.channels = shape[1];
    p->conversion.taps = depth * height * width;
    p->shape_of_use = wo_tensor_of(NULL, spec->dtype, p->rows, depth, height, width, shape[1]);
    /* With one tap, or one channel, both orders are the same order. */
    if (p->conversion.taps == 1 || p->conversion.channels == 1)
        p->conversion.layout = WO_LAYOUT_ROWS;
    return WO_OK;
}

static wo_status fill_param(const wo_component *c, const wo_param_spec *spec, wo_param *p, wo_error *err) {
    WO_TRY(find_entry(c, spec, &p->entry, err));
    if (spec->dtype != WO_F32 && spec->dtype != WO_BF16 && spec->dtype != WO_F16)
        WO_FAIL(err, WO_EINTERNAL, "tensor '%s' cannot be used as %s", spec->tensor, wo_dtype_name(spec->dtype));
    if (spec->rank < 1)
        WO_FAIL(err, WO_EINTERNAL, "tensor '%s' has no rows", spec->tensor);
    p->first_row = spec->first_row;
    p->rows = spec->rows > 0 ? spec->rows : spec->shape[0] - spec->first_row;
    if (p->first_row < 0 || p->rows < 1 || p->first_row > spec->shape[0] - p->rows)
        WO_FAIL(err, WO_EINTERNAL, "rows %" PRId64 " to %" PRId64 " of tensor '%s' are not there: it has %" PRId64, p->first_row,
                p->first_row + p->rows, spec->tensor, spec->shape[0]);
    p->conversion = (wo_conversion){.from = p->entry->dtype, .to = spec->dtype, .layout = spec->layout};
    WO_TRY(wo_scale_find(c->name, c->store, p, err));
    return fill_shape_of_use(spec, p, err);
}

static wo_status append_claim(wo_component *c, claim one, wo_error *err) {
    void *claim_grown;
    if (!GROW(c, claim, "claims", err))
        return WO_ENOMEMORY;
    c->claims[c->claim_count++] = one;
    return WO_OK;
}

static wo_status add_claim(wo_component *c, const wo_param *p, const wo_layer *layer, wo_error *err) {
    for (size_t i = 0; i < c->claim_count; i++) {
        const claim *other = &c->claims[i];
        if (other->entry == p->entry && p->first_row < other->first_row + other->rows && other->first_row < p->first_row + p->rows)
            WO_FAIL(err, WO_EINTERNAL, "tensor '%s' is claimed by layer '%s' and by layer '%s'", p->entry->name, other->layer->name, layer->name);
    }
    WO_TRY(append_claim(c, (claim){p->entry, p->first_row, p->rows, layer}, err));
    return p->scale != NULL ? append_claim(c, (claim){p->scale, 0, 1, layer}, err) : WO_OK;
}

static wo_status fill_layer(wo_component *c, wo_layer *layer, const wo_param_spec *specs, int count, wo_error *err) {
    for (int i = 0; i < count; i++) {
        wo_param *p = &layer->param[i];
        WO_TRY(fill_param(c, &specs[i], p, err));
        p->slab_offset = layer->bytes;
        layer->bytes += wo_arena_round(wo_tensor_bytes(&p->shape_of_use));
    }
    for (int i = 0; i < count; i++)
        WO_TRY(add_claim(c, &layer->param[i], layer, err));
    return WO_OK;
}

static wo_status add_layer(wo_component *c, const char *name, int32_t block, bool read_by_row, const wo_param_spec *specs, int count,
                           const wo_layer **out, wo_error *err) {
    void *layer_grown;
    if (c->sealed || count < 1 || count > WO_LAYER_MAX_PARAMS || block < -1 || block >= (int32_t)c->block_count)
        WO_FAIL(err, WO_EINTERNAL, "layer '%s' cannot be added: %d params, block %d of %zu%s", name, count, block, c->block_count,
                c->sealed ? ", and the component is sealed" : "");
    if (!GROW(c, layer, "layers", err))
        return WO_ENOMEMORY;
    size_t claims = c->claim_count;
    wo_layer *layer = wo_table_create(1, sizeof *layer, "a layer", err);
    char *text = layer != NULL ? wo_text_create(name, err) : NULL;
    wo_status status = text != NULL ? WO_OK : WO_ENOMEMORY;
    if (status == WO_OK) {
        layer->name = text;
        layer->index = (int32_t)c->layer_count;
        layer->block = block;
        layer->params = count;
        layer->read_by_row = read_by_row;
        status = fill_layer(c, layer, specs, count, err);
    }
    if (status != WO_OK) {
        c->claim_count = claims;
        wo_memory_release(text);
        wo_memory_release(layer);
        return status;
    }
    c->bytes += read_by_row ? 0 : layer->bytes;
    c->layers[c->layer_count++] = layer;
    *out = layer;
    return WO_OK;
}

wo_status wo_component_add_layer(wo_component *c, const char *name, int32_t block, const wo_param_spec *specs, int count,
                                 const wo_layer **out, wo_error *err) {
    return add_layer(c, name, block, false, specs, count, out, err);
}

wo_status wo_component_add_table(wo_component *c, const char *name, const wo_param_spec *spec, const wo_layer **out, wo_error *err) {
    return add_layer(c, name, -1, true, spec, 1, out, err);
}

wo_status wo_component_excuse(wo_component *c, const char *prefix, const char *suffix, const char *reason, wo_error *err) {
    void *excuse_grown;
    if (!GROW(c, excuse, "excuses", err))
        return WO_ENOMEMORY;
    excuse e = {.reason = wo_text_create(reason, err)};
    bool whole = e.reason != NULL;
    whole = whole && (prefix == NULL || (e.prefix = wo_text_create(prefix, err)) != NULL);
    whole = whole && (suffix == NULL || (e.suffix = wo_text_create(suffix, err)) != NULL);
    if (!whole) {
        wo_memory_release(e.prefix);
        wo_memory_release(e.suffix);
        wo_memory_release(e.reason);
        return WO_ENOMEMORY;
    }
    c->excuses[c->excuse_count++] = e;
    return WO_OK;
}

static bool excuses(const excuse *e, const char *name) {
    size_t length = strlen(name);
    size_t prefix = e->prefix != NULL ? strlen(e->prefix) : 0, suffix = e->suffix != NULL ? strlen(e->suffix) : 0;
    return length >= prefix && length >= suffix && (prefix == 0 || memcmp(name, e->prefix, prefix) == 0) &&
           (suffix == 0 || memcmp(name + length - suffix, e->suffix, suffix) == 0);
}

static const char *reason_for(const wo_component *c, const wo_entry *entry) {
    for (size_t i = 0; i < c->excuse_count; i++)
        if (excuses(&c->excuses[i], entry->name))
            return c->excuses[i].reason;
    const char *excuse_of_scale = wo_scale_excuse(entry->name);
    if (excuse_of_scale != NULL)
        return excuse_of_scale;
    return entry->skipped != NULL ? entry->skipped : "not part of this model";
}

static wo_status list_unused(wo_component *c, const wo_entry *entry, const char *name, wo_error *err) {
    wo_unused *grown = wo_list_reserve(c->unused, &c->unused_capacity, c->unused_count + 1, sizeof *grown, "unused tensors", err);
    if (grown == NULL)
        return WO_ENOMEMORY;
    c->unused = grown;
    c->unused[c->unused_count++] = (wo_unused){name, reason_for(c, entry)};
    return WO_OK;
}

/* Lists rows [from, to) of a tensor that is claimed in part, under a name such as "conv_out.weight[16:32]". */
static wo_status list_unused_rows(wo_component *c, const wo_entry *entry, int64_t from, int64_t to, wo_error *err) {
    void *text_grown;
    char name[512];
    snprintf(name, sizeof name, "%s[%" PRId64 ":%" PRId64 "]", entry->name, from, to);
    if (!GROW(c, text, "texts", err))
        return WO_ENOMEMORY;
    char *text = wo_text_create(name, err);
    if (text == NULL)
        return WO_ENOMEMORY;
    c->texts[c->text_count++] = text;
    return list_unused(c, entry, text, err);
}

/* Walks the rows of a tensor upwards from claim to claim and lists the gaps; claims are few, so the next one is searched. */
static wo_status account_for(wo_component *c, const wo_entry *entry, wo_error *err) {
    int64_t rows = entry->rank > 0 ? entry->shape[0] : 1, row = 0;
    bool claimed = false;
    while (row < rows) {
        const claim *next = NULL;
        for (size_t i = 0; i < c->claim_count; i++) {
            const claim *each = &c->claims[i];
            if (each->entry == entry && each->first_row >= row && (next == NULL || each->first_row < next->first_row))
                next = each;
        }
        if (next == NULL && !claimed)
            return list_unused(c, entry, entry->name, err);
        int64_t until = next != NULL ? next->first_row : rows;
        if (until > row)
            WO_TRY(list_unused_rows(c, entry, row, until, err));
        row = next != NULL ? next->first_row + next->rows : rows;
        claimed = true;
    }
    return rows == 0 ? list_unused(c, entry, entry->name, err) : WO_OK;
}

wo_status wo_component_seal(wo_component *c, wo_error *err) {
    c->unused_count = 0;
    for (size_t i = 0; i < wo_store_count(c->store); i++)
        WO_TRY(account_for(c, wo_store_at(c->store, i), err));
    c->sealed = true;
    return WO_OK;
}

const char *wo_component_name(const wo_component *c) {
    return c->name;
}

wo_store *wo_component_store(const wo_component *c) {
    return c->store;
}

size_t wo_component_layers(const wo_component *c) {
    return c->layer_count;
}

const wo_layer *wo_component_layer(const wo_component *c, size_t i) {
    assert(i < c->layer_count);
    return c->layers[i];
}

size_t wo_component_blocks(const wo_component *c) {
    return c->block_count;
}

const char *wo_component_block_name(const wo_component *c, size_t i) {
    assert(i < c->block_count);
    return c->blocks[i];
}

size_t wo_component_unused(const wo_component *c) {
    return c->unused_count;
}

const wo_unused *wo_component_unused_at(const wo_component *c, size_t i) {
    assert(i < c->unused_count);
    return &c->unused[i];
}

size_t wo_component_bytes(const wo_component *c) {
    return c->bytes;
}

uint64_t wo_component_serial(const wo_component *c) {
    return c->serial;
}
