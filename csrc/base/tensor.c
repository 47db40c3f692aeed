/* Dtypes, and views over contiguous tensors. Shapes reach this file already checked: whoever reads sizes from a file multiplies
 * them with wo_mul_size first, so the products here cannot overflow. */
#include "base/tensor.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef struct dtype_row {
    size_t bytes;
    const char *at_rest, *name;
} dtype_row;

static const dtype_row DTYPES[WO_DTYPE_COUNT] = {
#define WO_DTYPE_ROW(name, bytes, rest, text) {bytes, rest, text},
    WO_DTYPE_LIST(WO_DTYPE_ROW)
#undef WO_DTYPE_ROW
};

size_t wo_dtype_size(wo_dtype dtype) {
    return (unsigned)dtype < WO_DTYPE_COUNT ? DTYPES[dtype].bytes : 0;
}

const char *wo_dtype_name(wo_dtype dtype) {
    return (unsigned)dtype < WO_DTYPE_COUNT ? DTYPES[dtype].name : "unknown dtype";
}

bool wo_dtype_from_name(const char *name, wo_dtype *out) {
    for (int i = 0; i < WO_DTYPE_COUNT; i++) {
        if (strcmp(name, DTYPES[i].name) == 0 || strcmp(name, DTYPES[i].at_rest) == 0) {
            *out = (wo_dtype)i;
            return true;
        }
    }
    return false;
}

wo_tensor wo_tensor_make(void *data, wo_dtype dtype, int rank, const int64_t *shape) {
    assert(rank >= 0 && rank <= WO_MAX_RANK);
    wo_tensor t = {.data = data, .dtype = dtype, .rank = rank, .shape = {1, 1, 1, 1, 1}};
    for (int i = 0; i < rank; i++) {
        assert(shape[i] >= 0);
        t.shape[i] = shape[i];
    }
    return t;
}

int64_t wo_tensor_count(const wo_tensor *t) {
    int64_t count = 1;
    for (int i = 0; i < t->rank; i++)
        count *= t->shape[i];
    return count;
}

size_t wo_tensor_bytes(const wo_tensor *t) {
    return (size_t)wo_tensor_count(t) * wo_dtype_size(t->dtype);
}

wo_tensor wo_tensor_rows(const wo_tensor *t, int64_t first, int64_t rows) {
    assert(t->rank >= 1 && first >= 0 && rows >= 0 && first + rows <= t->shape[0]);
    wo_tensor view = *t;
    int64_t per_row = 1;
    for (int i = 1; i < t->rank; i++)
        per_row *= t->shape[i];
    view.shape[0] = rows;
    if (t->data != NULL)
        view.data = (char *)t->data + (size_t)(first * per_row) * wo_dtype_size(t->dtype);
    return view;
}

wo_tensor wo_tensor_reshape(const wo_tensor *t, int rank, const int64_t *shape) {
    wo_tensor view = wo_tensor_make(t->data, t->dtype, rank, shape);
    assert(wo_tensor_count(&view) == wo_tensor_count(t));
    return view;
}

const char *wo_tensor_describe(const wo_tensor *t, char *buffer, size_t bytes) {
    size_t used = 0;
    for (int i = 0; i < t->rank && used < bytes; i++)
        used += (size_t)snprintf(buffer + used, bytes - used, "%s%" PRId64, i == 0 ? "[" : ", ", t->shape[i]);
    if (used < bytes)
        snprintf(buffer + used, bytes - used, "%s] %s", t->rank == 0 ? "[" : "", wo_dtype_name(t->dtype));
    return buffer;
}

bool wo_mul_size(uint64_t a, uint64_t b, uint64_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}

bool wo_add_size(uint64_t a, uint64_t b, uint64_t *out) {
    return !__builtin_add_overflow(a, b, out);
}
