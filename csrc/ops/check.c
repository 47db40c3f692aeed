#include "ops/check.h"

#include <stdio.h>

enum { DESCRIPTION_BYTES = 128 };

/* "float32 or bfloat16" for a set of dtypes. */
static const char *describe_dtypes(unsigned dtypes, char *buffer, size_t bytes) {
    size_t used = 0;
    buffer[0] = '\0';
    for (int d = 0; d < WO_DTYPE_COUNT; d++) {
        if ((dtypes >> d & 1u) == 0)
            continue;
        int n = snprintf(buffer + used, bytes - used, "%s%s", used == 0 ? "" : " or ", wo_dtype_name((wo_dtype)d));
        if (n < 0 || (size_t)n >= bytes - used)
            break;
        used += (size_t)n;
    }
    return buffer;
}

wo_status wo_check_tensor(wo_error *err, const char *op, const char *name, const wo_tensor *t, int rank, unsigned dtypes) {
    char found[DESCRIPTION_BYTES], wanted[DESCRIPTION_BYTES];
    if (!wo_check_given(t))
        WO_FAIL(err, WO_EINTERNAL, "%s: %s is missing", op, name);
    /* The rank and dtype come first, because describing a tensor relies on them. */
    if (t->rank < 0 || t->rank > WO_MAX_RANK || (unsigned)t->dtype >= WO_DTYPE_COUNT)
        WO_FAIL(err, WO_EINTERNAL, "%s: %s has rank %d and dtype %d, which no tensor has", op, name, (int)t->rank, (int)t->dtype);
    if (t->rank != rank || (dtypes >> t->dtype & 1u) == 0)
        WO_FAIL(err, WO_EINTERNAL, "%s: %s must have rank %d and be %s, but is %s", op, name, rank,
                describe_dtypes(dtypes, wanted, sizeof wanted), wo_tensor_describe(t, found, sizeof found));
    for (int axis = 0; axis < rank; axis++)
        if (t->shape[axis] < 1)
            WO_FAIL(err, WO_EINTERNAL, "%s: %s must not be empty, but is %s", op, name, wo_tensor_describe(t, found, sizeof found));
    if ((uintptr_t)t->data % wo_dtype_size(t->dtype) != 0)
        WO_FAIL(err, WO_EINTERNAL, "%s: %s, %s, lies at %p, which is not aligned to its elements", op, name,
                wo_tensor_describe(t, found, sizeof found), t->data);
    return WO_OK;
}

wo_status wo_check_dtype(wo_error *err, const char *op, const char *name, wo_dtype dtype, unsigned dtypes) {
    char wanted[DESCRIPTION_BYTES];
    if ((unsigned)dtype >= WO_DTYPE_COUNT || (dtypes >> dtype & 1u) == 0)
        WO_FAIL(err, WO_EINTERNAL, "%s: %s must be %s, but have dtype %d", op, name, describe_dtypes(dtypes, wanted, sizeof wanted), (int)dtype);
    return WO_OK;
}

wo_status wo_check_workspace(wo_error *err, const char *op, const wo_tensor *workspace, size_t needed) {
    char found[DESCRIPTION_BYTES];
    if (needed == 0 && !wo_check_given(workspace))
        return WO_OK;
    WO_TRY(wo_check_tensor(err, op, "workspace", workspace, 1, 1u << WO_U8));
    if (wo_tensor_bytes(workspace) < needed)
        WO_FAIL(err, WO_EINTERNAL, "%s: workspace must have at least %zu bytes, but is %s", op, needed,
                wo_tensor_describe(workspace, found, sizeof found));
    return WO_OK;
}

wo_status wo_check_refuse(wo_error *err, const char *op, const char *rule, const char *name, const wo_tensor *t,
                          const char *other_name, const wo_tensor *other) {
    char found[DESCRIPTION_BYTES], other_found[DESCRIPTION_BYTES];
    wo_tensor_describe(t, found, sizeof found);
    if (other == NULL || other == t)
        WO_FAIL(err, WO_EINTERNAL, "%s: %s; %s is %s", op, rule, name, found);
    WO_FAIL(err, WO_EINTERNAL, "%s: %s; %s is %s, %s is %s", op, rule, name, found, other_name,
            wo_check_given(other) ? wo_tensor_describe(other, other_found, sizeof other_found) : "missing");
}

wo_status wo_check_unsupported(wo_error *err, const char *op, const wo_device *d) {
    WO_FAIL(err, WO_EUNSUPPORTED, "the device \"%s\" does not support the operation %s", d->name, op);
}

bool wo_check_same_shape(const wo_tensor *a, const wo_tensor *b) {
    if (a->rank != b->rank)
        return false;
    for (int axis = 0; axis < a->rank; axis++)
        if (a->shape[axis] != b->shape[axis])
            return false;
    return true;
}

bool wo_check_overlap(const wo_tensor *a, const wo_tensor *b) {
    if (!wo_check_given(a) || !wo_check_given(b))
        return false;
    uintptr_t a_begin = (uintptr_t)a->data, b_begin = (uintptr_t)b->data;
    return a_begin < b_begin + wo_tensor_bytes(b) && b_begin < a_begin + wo_tensor_bytes(a);
}

bool wo_check_apart_or_same(const wo_tensor *a, const wo_tensor *b) {
    return !wo_check_overlap(a, b) || (a->data == b->data && a->dtype == b->dtype && wo_tensor_count(a) == wo_tensor_count(b));
}
