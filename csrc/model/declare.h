/* How the models declare their layers: one call for each kind, named as the checkpoint names its tensors. */
#ifndef WO_MODEL_DECLARE_H
#define WO_MODEL_DECLARE_H

#include "offload/component.h"

/* Where the next layers go. name arguments below are relative to prefix. */
typedef struct wo_declare {
    wo_component *component;
    int32_t block;   /* of the layers that follow; -1 outside blocks */
    char prefix[96]; /* "blocks.7.attn1." */
    wo_dtype dtype;  /* of the matrices that follow */
    bool bias;       /* whether linears and convolutions that follow have one */
} wo_declare;

/* The largest value of a configuration entry that is a size: with it no product of three sizes overflows. */
enum { WO_CONFIG_LIMIT = 1 << 20 };

/* One entry of a configuration: its key in config.json, its value, and a number that it must be a multiple of (0 and 1: any). */
typedef struct wo_config_entry {
    const char *key;
    int64_t value, multiple_of;
} wo_config_entry;

/* Every entry is in 1 .. WO_CONFIG_LIMIT and a multiple of what it must be; WO_EVALUE names the network and the key. */
wo_status wo_config_check(const char *network, const wo_config_entry *entries, size_t count, wo_error *err);
/* Weights can be held in the dtype. */
wo_status wo_config_check_dtype(const char *network, wo_dtype dtype, wo_error *err);

/* Sets the prefix. */
void wo_declare_enter(wo_declare *d, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* <name>.weight [out, in] in d->dtype and, where d->bias, <name>.bias [out] in float32: params 0 and 1. */
wo_status wo_declare_linear(const wo_declare *d, const char *name, int64_t out, int64_t in, const wo_layer **layer, wo_error *err);
/* As linear for a matrix whose rows are `parts` matrices [out, in]: a layer "<name>[i]" for each. */
wo_status wo_declare_linear_parts(const wo_declare *d, const char *name, int parts, int64_t out, int64_t in, const wo_layer **layers, wo_error *err);
/* As linear for a weight of more than two axes (the dtype of `shape` is not looked at): WO_LAYOUT_TAPS_OUTSIDE for a convolution, used
 * as [O, taps..., I]; WO_LAYOUT_ROWS for one that is a plain matrix product, such as a patch embedding. */
wo_status wo_declare_kernel(const wo_declare *d, const char *name, const wo_tensor *shape, wo_layout layout, const wo_layer **layer,
                            wo_error *err);
/* One float32 param: the tensor <name><suffix> of the shape of `shape` (".weight" of a norm, "" for a table). */
wo_status wo_declare_param(const wo_declare *d, const char *name, const char *suffix, const wo_tensor *shape, const wo_layer **layer,
                           wo_error *err);
/* <name>.weight [n] in float32, and <name>.bias [n] where d->bias: an affine norm. */
wo_status wo_declare_norm(const wo_declare *d, const char *name, int64_t n, const wo_layer **layer, wo_error *err);

#endif
