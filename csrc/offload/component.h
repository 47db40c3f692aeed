/* What a model declares to the engine: layers, in groups of params, and the passes it can run. Knows no model. */
#ifndef WO_OFFLOAD_COMPONENT_H
#define WO_OFFLOAD_COMPONENT_H

#include "base/convert.h"
#include "store/store.h"

typedef struct wo_exec wo_exec;

/* One tensor of a checkpoint as it is used. */
typedef struct wo_param {
    const wo_entry *entry; /* at rest */
    const wo_entry *scale; /* the tensor that gave the conversion its scale, NULL: none */
    wo_conversion conversion;
    wo_tensor shape_of_use; /* dtype and shape on the device (data unused): TAPS_OUTSIDE weights are [O, T, H, W, I] */
    int64_t first_row, rows; /* the rows of axis 0 that are read (a slice skips the logvar rows, for instance) */
    size_t slab_offset;      /* inside its layer, each param at a 256-byte boundary */
} wo_param;

enum { WO_LAYER_MAX_PARAMS = 4 };

typedef struct wo_layer {
    const char *name; /* "blocks.7.attn1.to_q"; owned by the component */
    int32_t index;    /* in component order */
    int32_t block;    /* index of its block, -1 outside blocks */
    int32_t params;
    wo_param param[WO_LAYER_MAX_PARAMS];
    size_t bytes;     /* of use, params rounded up to 256 each */
    bool read_by_row; /* an embedding table: never streamed; rows are read from the file when asked */
} wo_layer;

typedef struct wo_unused {
    const char *name, *reason;
} wo_unused;

typedef struct wo_component wo_component;

/* Runs one pass of the model. Called on a dry exec when planning and on a real one when running; request is the model's own
 * struct; pass is one of the model's pass kinds, 0 .. passes-1. */
typedef wo_status (*wo_forward_fn)(const void *model, wo_exec *x, int pass, const void *request, wo_error *err);

/* name: "transformer"; blocks are numbered in order of first add. Retains the store. */
wo_status wo_component_create(const char *name, wo_store *store, wo_component **out, wo_error *err);
void wo_component_destroy(wo_component *c);

/* Adds a block and returns its index ("blocks.7"). */
wo_status wo_component_add_block(wo_component *c, const char *name, int32_t *out, wo_error *err);

typedef struct wo_param_spec {
    const char *tensor;  /* full name in the checkpoint */
    int rank;
    int64_t shape[WO_MAX_RANK]; /* wanted, as in the checkpoint */
    wo_dtype dtype;             /* of use */
    wo_layout layout;
    int64_t first_row, rows;    /* rows 0: all */
} wo_param_spec;

/* Adds a layer in execution order. A missing tensor, another shape or a dtype that cannot be used is WO_ECHECKPOINT: the tensor, the
 * file, wanted, found. A tensor claimed twice is WO_EINTERNAL unless the row ranges are disjoint. *out is stable until destroy. */
wo_status wo_component_add_layer(wo_component *c, const char *name, int32_t block, const wo_param_spec *specs, int count,
                                 const wo_layer **out, wo_error *err);
/* As add_layer with one param that is only read row by row. */
wo_status wo_component_add_table(wo_component *c, const char *name, const wo_param_spec *spec, const wo_layer **out, wo_error *err);
/* A reason for tensors whose name ends in suffix or begins with prefix (either may be NULL) and that no layer claims. */
wo_status wo_component_excuse(wo_component *c, const char *prefix, const char *suffix, const char *reason, wo_error *err);
/* After the last layer: every tensor is now claimed, or listed as unused (reason from excuse, the store's `skipped`, else "not part of this model"). */
wo_status wo_component_seal(wo_component *c, wo_error *err);

const char *wo_component_name(const wo_component *c);
wo_store *wo_component_store(const wo_component *c);
size_t wo_component_layers(const wo_component *c);
const wo_layer *wo_component_layer(const wo_component *c, size_t i);
size_t wo_component_blocks(const wo_component *c);
const char *wo_component_block_name(const wo_component *c, size_t i);
size_t wo_component_unused(const wo_component *c);
const wo_unused *wo_component_unused_at(const wo_component *c, size_t i);
size_t wo_component_bytes(const wo_component *c); /* sum of layer bytes, tables left out */

/* Reads rows ids[0..count) of a table layer into dst (host, dtype of use), with pread, in order. Blocking. */
wo_status wo_component_read_rows(const wo_component *c, const wo_layer *table, const int32_t *ids, size_t count, void *dst, wo_error *err);

#endif
