/* Dtypes and tensors. A tensor is a dtype, a shape and a pointer on some device; it owns nothing and is contiguous. */
#ifndef WO_BASE_TENSOR_H
#define WO_BASE_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(enumerator, bytes, safetensors name, public name). F32, BF16 and F16 can be computed with; the others only rest in
 * files. */
#define WO_DTYPE_LIST(X)                \
    X(F32, 4, "F32", "float32")         \
    X(BF16, 2, "BF16", "bfloat16")      \
    X(F16, 2, "F16", "float16")         \
    X(F64, 8, "F64", "float64")         \
    X(F8_E4M3, 1, "F8_E4M3", "float8_e4m3fn") \
    X(I64, 8, "I64", "int64")           \
    X(I32, 4, "I32", "int32")           \
    X(I16, 2, "I16", "int16")           \
    X(I8, 1, "I8", "int8")              \
    X(U8, 1, "U8", "uint8")             \
    X(BOOL, 1, "BOOL", "bool")

typedef enum wo_dtype {
#define WO_DTYPE_ENUM(name, bytes, rest, text) WO_##name,
    WO_DTYPE_LIST(WO_DTYPE_ENUM)
#undef WO_DTYPE_ENUM
        WO_DTYPE_COUNT
} wo_dtype;

enum { WO_MAX_RANK = 5 };

typedef struct wo_tensor {
    void *data; /* device memory */
    wo_dtype dtype;
    int32_t rank;
    int64_t shape[WO_MAX_RANK]; /* row-major, the last axis contiguous; unused axes are 1 */
} wo_tensor;

size_t wo_dtype_size(wo_dtype dtype);                       /* 0 for WO_DTYPE_COUNT, the dtype of no known kind */
const char *wo_dtype_name(wo_dtype dtype);                  /* "float32" */
bool wo_dtype_from_name(const char *name, wo_dtype *out);   /* "float32" or "F32" */

wo_tensor wo_tensor_make(void *data, wo_dtype dtype, int rank, const int64_t *shape);
/* wo_tensor_of(data, WO_F32, 3, 5) makes a tensor of shape [3, 5]; sizes must be int64_t or int. */
#define wo_tensor_of(data, dtype, ...)                                                          \
    wo_tensor_make((data), (dtype), (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), \
                   (const int64_t[]){__VA_ARGS__})
int64_t wo_tensor_count(const wo_tensor *t); /* elements */
size_t wo_tensor_bytes(const wo_tensor *t);
/* Rows [first, first + rows) along axis 0: a view that shares the data. */
wo_tensor wo_tensor_rows(const wo_tensor *t, int64_t first, int64_t rows);
/* The same elements under another shape (the count must agree; checked by assertion). */
wo_tensor wo_tensor_reshape(const wo_tensor *t, int rank, const int64_t *shape);
#define wo_tensor_as(t, ...) \
    wo_tensor_reshape((t), (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]){__VA_ARGS__})
/* "[3, 5] float32" into buffer; returns buffer, for messages. */
const char *wo_tensor_describe(const wo_tensor *t, char *buffer, size_t bytes);

/* a * b and a + b; false on overflow. Every product of sizes that come from a file goes through these. */
bool wo_mul_size(uint64_t a, uint64_t b, uint64_t *out);
bool wo_add_size(uint64_t a, uint64_t b, uint64_t *out);

#endif
