/* Files of 8-bit weights come in two kinds: a plain cast, whose codes are the weights, and ComfyUI's scaled ones:
 *
 *     X.weight        F8_E4M3 [out, in]    its values are divided by
 *     X.scale_weight  F32, one element     ... this
 *     X.scale_input   F32, one element     for products of 8-bit operands, which are not made here
 *     scaled_fp8      [0] or [2]           the mark of such a file
 *
 * Other tools write other scales (one for each row or tile), under other names. A weight with one of those would be read
 * without it as a wrong weight, so it is refused. */
#include "offload/scale.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char SCALE[] = "scale_weight", WEIGHT[] = "weight";
static const char WHAT_TO_DO[] = "Use the same weights in bfloat16, float16 or plain F8_E4M3";

static bool ends_with(const char *name, const char *suffix) {
    size_t length = strlen(name), end = strlen(suffix);
    return length >= end && strcmp(name + length - end, suffix) == 0;
}

static wo_status refuse(const char *component, const wo_store *store, const wo_entry *scale, const wo_entry *weight, const char *why, wo_error *err) {
    const char *path = wo_store_file_path(store, scale->file);
    return wo_error_set_os(err, WO_ECHECKPOINT, 0, path, "%s: tensor '%s' in %s scales '%s' in a way that cannot be applied: %s. %s",
                           component, scale->name, path, weight->name, why, WHAT_TO_DO);
}

/* X.weight -> X.scale_weight; NULL where the store has none. */
static const wo_entry *find_beside(const wo_store *store, const char *weight) {
    char name[512];
    size_t stem = strlen(weight) - (sizeof WEIGHT - 1);
    if (!ends_with(weight, ".weight") || stem + sizeof SCALE > sizeof name)
        return NULL;
    memcpy(name, weight, stem);
    memcpy(name + stem, SCALE, sizeof SCALE);
    return wo_store_find(store, name);
}

static wo_status refuse_other_kinds(const char *component, const wo_store *store, const wo_entry *weight, wo_error *err) {
    static const char *const kinds[] = {"_scale", "_scale_inv"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char name[512];
        int length = snprintf(name, sizeof name, "%s%s", weight->name, kinds[i]);
        const wo_entry *other = length < (int)sizeof name ? wo_store_find(store, name) : NULL;
        if (other != NULL)
            return refuse(component, store, other, weight, "only X.scale_weight beside X.weight is known", err);
    }
    return WO_OK;
}

wo_status wo_scale_find(const char *component, const wo_store *store, wo_param *p, wo_error *err) {
    const wo_entry *weight = p->entry, *entry = find_beside(store, weight->name);
    char why[160];
    if (weight->dtype == WO_F8_E4M3)
        WO_TRY(refuse_other_kinds(component, store, weight, err));
    if (entry == NULL)
        return WO_OK;
    if (entry->dtype != WO_F32 || entry->bytes != sizeof(float)) {
        snprintf(why, sizeof why, "it is %llu bytes of %s, wanted one float32", (unsigned long long)entry->bytes, entry->dtype_at_rest);
        return refuse(component, store, entry, weight, why, err);
    }
    float scale;
    WO_TRY(wo_store_read(store, entry->file, entry->offset, sizeof scale, &scale, err));
    if (!(scale == 0 || (fabsf(scale) >= 0x1p-100f && fabsf(scale) <= 0x1p100f))) {
        snprintf(why, sizeof why, "it is %g, wanted 0 or a magnitude of 2^-100 to 2^100", (double)scale);
        return refuse(component, store, entry, weight, why, err);
    }
    p->scale = entry;
    if (weight->dtype != WO_F8_E4M3 && scale != 1) {
        snprintf(why, sizeof why, "it is %g beside a weight in %s; only F8_E4M3 is scaled", (double)scale, weight->dtype_at_rest);
        return refuse(component, store, entry, weight, why, err);
    }
    p->conversion.scaled = weight->dtype == WO_F8_E4M3;
    p->conversion.scale = scale;
    return WO_OK;
}

const char *wo_scale_excuse(const char *tensor) {
    if (strcmp(tensor, "scaled_fp8") == 0 || ends_with(tensor, ".scaled_fp8"))
        return "it marks a file of scaled 8-bit weights";
    if (ends_with(tensor, ".scale_input"))
        return "it is for products of 8-bit operands, which are not made";
    return ends_with(tensor, ".scale_weight") ? "the scale of a weight that is not used" : NULL;
}
