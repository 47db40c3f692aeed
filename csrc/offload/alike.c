/* Two components are alike when one schedule, one ring and one set of views serve both: the same layers in the same order, of the same
 * bytes. What their files hold may differ in dtype, as each is converted to the same one. */
#include "offload/component_impl.h"

#include <string.h>

static wo_status check_param(const wo_component *a, const wo_component *b, const wo_layer *layer, int32_t i, wo_error *err) {
    const wo_param *p = &layer->param[i], *q = &wo_component_layer(b, (size_t)layer->index)->param[i];
    const wo_tensor *wanted = &p->shape_of_use, *found = &q->shape_of_use;
    bool same = p->slab_offset == q->slab_offset && wanted->dtype == found->dtype && wanted->rank == found->rank &&
                memcmp(wanted->shape, found->shape, sizeof wanted->shape) == 0;
    if (same)
        return WO_OK;
    char one[96], other[96];
    WO_FAIL(err, WO_ECHECKPOINT, "'%s' is %s in %s and %s in %s: experts of one model have equal shapes", layer->name,
            wo_tensor_describe(wanted, one, sizeof one), wo_component_name(a), wo_tensor_describe(found, other, sizeof other),
            wo_component_name(b));
}

wo_status wo_component_check_alike(const wo_component *a, const wo_component *b, wo_error *err) {
    if (wo_component_layers(a) != wo_component_layers(b))
        WO_FAIL(err, WO_ECHECKPOINT, "%s has %zu layers and %s has %zu: experts of one model have equal ones", wo_component_name(a),
                wo_component_layers(a), wo_component_name(b), wo_component_layers(b));
    for (size_t i = 0; i < wo_component_layers(a); i++) {
        const wo_layer *p = wo_component_layer(a, i), *q = wo_component_layer(b, i);
        if (strcmp(p->name, q->name) != 0 || p->block != q->block || p->params != q->params || p->read_by_row != q->read_by_row)
            WO_FAIL(err, WO_ECHECKPOINT, "layer %zu is '%s' in %s and '%s' in %s: experts of one model have equal layers", i, p->name,
                    wo_component_name(a), q->name, wo_component_name(b));
        for (int32_t k = 0; k < p->params; k++)
            WO_TRY(check_param(a, b, p, k, err));
    }
    return WO_OK;
}
