#include "model/declare.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = 192 };

wo_status wo_config_check(const char *network, const wo_config_entry *entries, size_t count, wo_error *err) {
    for (size_t i = 0; i < count; i++) {
        const wo_config_entry *e = &entries[i];
        if (e->value < 1 || e->value > WO_CONFIG_LIMIT)
            WO_FAIL(err, WO_EVALUE, "%s: %s of the configuration must be between 1 and %d, but is %lld", network, e->key,
                    (int)WO_CONFIG_LIMIT, (long long)e->value);
        if (e->multiple_of > 1 && e->value % e->multiple_of != 0)
            WO_FAIL(err, WO_EVALUE, "%s: %s of the configuration must be a multiple of %lld, but is %lld", network, e->key,
                    (long long)e->multiple_of, (long long)e->value);
    }
    return WO_OK;
}

wo_status wo_config_check_dtype(const char *network, wo_dtype dtype, wo_error *err) {
    if (dtype != WO_F32 && dtype != WO_BF16 && dtype != WO_F16)
        WO_FAIL(err, WO_EVALUE, "%s: dtype must be float32, bfloat16 or float16, but is %s", network, wo_dtype_name(dtype));
    return WO_OK;
}

void wo_declare_enter(wo_declare *d, const char *format, ...) {
    va_list list;
    va_start(list, format);
    vsnprintf(d->prefix, sizeof d->prefix, format, list);
    va_end(list);
}

/* A spec for the tensor `name` of the shape of `shape`; name must live until the layer was added. */
static wo_param_spec spec_of(const char *name, const wo_tensor *shape, wo_dtype dtype, wo_layout layout) {
    wo_param_spec spec = {.tensor = name, .rank = shape->rank, .dtype = dtype, .layout = layout};
    memcpy(spec.shape, shape->shape, sizeof spec.shape);
    return spec;
}

/* A layer of a weight and, where asked, a float32 bias with one element for each row of the weight: all rows under the tensors' name, or (parts > 1)
 * one of so many parts. */
static wo_status add_weighted_part(const wo_declare *d, const char *name, const wo_tensor *shape, wo_layout layout, int part, int parts,
                                   const wo_layer **layer, wo_error *err) {
    char full[NAME_BYTES], weight[NAME_BYTES + 8], bias[NAME_BYTES + 8], layer_name[NAME_BYTES + 16];
    snprintf(full, sizeof full, "%s%s", d->prefix, name);
    snprintf(weight, sizeof weight, "%s.weight", full);
    snprintf(bias, sizeof bias, "%s.bias", full);
    wo_tensor row = wo_tensor_of(NULL, WO_F32, shape->shape[0]);
    wo_param_spec specs[2] = {spec_of(weight, shape, shape->dtype, layout), spec_of(bias, &row, WO_F32, WO_LAYOUT_ROWS)};
    if (parts == 1)
        return wo_component_add_layer(d->component, full, d->block, specs, d->bias ? 2 : 1, layer, err);
    for (int i = 0; i < 2; i++) {
        specs[i].rows = shape->shape[0] / parts;
        specs[i].first_row = part * specs[i].rows;
    }
    snprintf(layer_name, sizeof layer_name, "%s[%d]", full, part);
    return wo_component_add_layer(d->component, layer_name, d->block, specs, d->bias ? 2 : 1, layer, err);
}

static wo_status add_weighted(const wo_declare *d, const char *name, const wo_tensor *shape, wo_layout layout, const wo_layer **layer,
                              wo_error *err) {
    return add_weighted_part(d, name, shape, layout, 0, 1, layer, err);
}

wo_status wo_declare_linear(const wo_declare *d, const char *name, int64_t out, int64_t in, const wo_layer **layer, wo_error *err) {
    wo_tensor shape = wo_tensor_of(NULL, d->dtype, out, in);
    return add_weighted(d, name, &shape, WO_LAYOUT_ROWS, layer, err);
}

wo_status wo_declare_linear_parts(const wo_declare *d, const char *name, int parts, int64_t out, int64_t in, const wo_layer **layers, wo_error *err) {
    wo_tensor shape = wo_tensor_of(NULL, d->dtype, parts * out, in);
    for (int i = 0; i < parts; i++)
        WO_TRY(add_weighted_part(d, name, &shape, WO_LAYOUT_ROWS, i, parts, &layers[i], err));
    return WO_OK;
}

wo_status wo_declare_kernel(const wo_declare *d, const char *name, const wo_tensor *shape, wo_layout layout, const wo_layer **layer,
                            wo_error *err) {
    wo_tensor typed = wo_tensor_make(NULL, d->dtype, shape->rank, shape->shape);
    return add_weighted(d, name, &typed, layout, layer, err);
}

wo_status wo_declare_norm(const wo_declare *d, const char *name, int64_t n, const wo_layer **layer, wo_error *err) {
    wo_tensor shape = wo_tensor_of(NULL, WO_F32, n);
    return add_weighted(d, name, &shape, WO_LAYOUT_ROWS, layer, err);
}

wo_status wo_declare_param(const wo_declare *d, const char *name, const char *suffix, const wo_tensor *shape, const wo_layer **layer,
                           wo_error *err) {
    char full[NAME_BYTES], tensor[NAME_BYTES + 16];
    snprintf(full, sizeof full, "%s%s", d->prefix, name);
    snprintf(tensor, sizeof tensor, "%s%s", full, suffix);
    wo_param_spec spec = spec_of(tensor, shape, WO_F32, WO_LAYOUT_ROWS);
    return wo_component_add_layer(d->component, full, d->block, &spec, 1, layer, err);
}
