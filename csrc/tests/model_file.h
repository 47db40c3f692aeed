/* A safetensors file of random float32 tensors that a test lists itself, and whose values it can look up, and change, before it is
 * written. For the tests of the networks. */
#ifndef WO_TESTS_MODEL_FILE_H
#define WO_TESTS_MODEL_FILE_H

#include "store/store.h"
#include "tests/check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <unistd.h>

enum { FILE_MOST_TENSORS = 512, FILE_MOST_VALUES = 1 << 18, FILE_HEADER_BYTES = 1 << 16 };

typedef struct file_tensor {
    char name[128];
    int64_t first, count; /* among the values */
} file_tensor;

/* The one file in the making. */
static struct {
    char header[FILE_HEADER_BYTES];
    size_t header_bytes;
    file_tensor tensor[FILE_MOST_TENSORS];
    int tensors;
    float values[FILE_MOST_VALUES];
    int64_t count;
} model_file;

/* Between -1 and 1. */
static inline float next_random(void) {
    static uint64_t state = 88172645463325252u;
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (float)(state >> 40) / (float)(1 << 24) * 2.0f - 1.0f;
}

static inline void fill_random(float *values, size_t count) {
    for (size_t i = 0; i < count; i++)
        values[i] = next_random();
}

static inline void begin_file(void) {
    model_file.header_bytes = (size_t)snprintf(model_file.header, sizeof model_file.header, "{");
    model_file.tensors = 0;
    model_file.count = 0;
}

static inline bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), most = strlen(end);
    return length >= most && strcmp(text + length - most, end) == 0;
}

static inline void put_header(const char *format, ...) __attribute__((format(printf, 1, 2)));
static inline void put_header(const char *format, ...) {
    size_t room = sizeof model_file.header - model_file.header_bytes;
    va_list list;
    va_start(list, format);
    int bytes = vsnprintf(model_file.header + model_file.header_bytes, room, format, list);
    va_end(list);
    CHECK(bytes >= 0 && (size_t)bytes < room - 1);
    model_file.header_bytes += (size_t)bytes;
}

/* A tensor of rank 1 to 5; shape ends with 0. Weights of norms, the only ones of rank 1, lie around one. */
static inline void add_tensor(const int64_t *shape, const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline void add_tensor(const int64_t *shape, const char *format, ...) {
    CHECK(model_file.tensors < FILE_MOST_TENSORS);
    file_tensor *t = &model_file.tensor[model_file.tensors++];
    va_list list;
    va_start(list, format);
    vsnprintf(t->name, sizeof t->name, format, list);
    va_end(list);
    t->first = model_file.count;
    t->count = 1;
    put_header("%s\"%s\":{\"dtype\":\"F32\",\"shape\":[", model_file.tensors > 1 ? "," : "", t->name);
    for (int i = 0; shape[i] != 0; i++) {
        put_header(i > 0 ? ",%" PRId64 : "%" PRId64, shape[i]);
        t->count *= shape[i];
    }
    put_header("],\"data_offsets\":[%zu,%zu]}", (size_t)t->first * sizeof(float), (size_t)(t->first + t->count) * sizeof(float));
    model_file.count += t->count;
    CHECK(model_file.count <= FILE_MOST_VALUES);
    float middle = shape[1] == 0 && ends_with(t->name, ".weight") ? 1.0f : 0.0f;
    for (int64_t i = 0; i < t->count; i++)
        model_file.values[t->first + i] = middle + 0.3f * next_random();
}
#define TENSOR(name, ...) add_tensor((const int64_t[]){__VA_ARGS__, 0}, "%s", (name))
#define TENSOR_OF(number, format, ...) add_tensor((const int64_t[]){__VA_ARGS__, 0}, (format), (number))

/* <name>.weight [out, in] and <name>.bias [out]. */
static inline void add_linear(const char *name, int64_t out, int64_t in) {
    TENSOR_OF(name, "%s.weight", out, in);
    TENSOR_OF(name, "%s.bias", out);
}

/* <name>.weight [n] and <name>.bias [n]. */
static inline void add_norm(const char *name, int64_t n) {
    TENSOR_OF(name, "%s.weight", n);
    TENSOR_OF(name, "%s.bias", n);
}

/* NULL when the file has no such tensor. */
static inline const file_tensor *find_tensor(const char *name) {
    for (int i = 0; i < model_file.tensors; i++)
        if (strcmp(model_file.tensor[i].name, name) == 0)
            return &model_file.tensor[i];
    return NULL;
}

/* The values of a tensor that must be there. */
static inline float *values_of(const char *name) {
    const file_tensor *t = find_tensor(name);
    if (t == NULL)
        fprintf(stderr, "the file has no tensor '%s'\n", name);
    CHECK(t != NULL);
    return &model_file.values[t->first];
}

static inline void write_all(FILE *f, const void *p, size_t bytes) {
    CHECK(fwrite(p, 1, bytes, f) == bytes);
}

/* Writes the file and opens it; it is gone from its folder afterwards, but stays readable while it is open. May be called again after
 * values were changed. */
static inline wo_store *open_file(void) {
    char path[] = "/tmp/wanoffload-model-XXXXXX.safetensors";
    wo_store *store;
    wo_error err;
    int fd = mkstemps(path, 12);
    FILE *f = fd >= 0 ? fdopen(fd, "wb") : NULL;
    CHECK(f != NULL);
    uint64_t length = model_file.header_bytes + 1;
    write_all(f, &length, sizeof length);
    write_all(f, model_file.header, model_file.header_bytes);
    write_all(f, "}", 1);
    write_all(f, model_file.values, (size_t)model_file.count * sizeof(float));
    CHECK(fclose(f) == 0);
    CHECK_OK(wo_store_open(path, &store, &err), &err);
    CHECK(unlink(path) == 0);
    return store;
}

#endif
