/* What the tests of own products share: tensors of which the host has a copy and the card the original, and the device that they lie on. */
#ifndef WO_TESTS_CUDA_PRODUCTS_H
#define WO_TESTS_CUDA_PRODUCTS_H

#include "device/cuda/product.h"
#include "fakecuda/fakecuda.h"
#include "ops/ops.h"
#include "tests/check.h"
#include "tests/rounding.h"

#include <math.h>

static wo_device *device;
static wo_stream *stream;
static wo_error err;

/* `host` is filled and read; `card` is what the ops see. */
typedef struct pair {
    wo_tensor host, card;
} pair;

enum { MAX_PAIRS = 32, PAGE = 4096 };
static void *hosts[MAX_PAIRS], *cards[MAX_PAIRS];
static int pairs;

/* The tensor begins `shift` elements behind a multiple of 16 bytes and ends with its allocation, as far as that allows; all bytes 0xff. */
static inline pair make_at(int shift, wo_dtype dtype, int rank, const int64_t *shape) {
    pair p = {wo_tensor_make(NULL, dtype, rank, shape), wo_tensor_make(NULL, dtype, rank, shape)};
    const size_t bytes = wo_tensor_bytes(&p.host), room = (bytes + 16 + PAGE - 1) / PAGE * PAGE;
    CHECK(pairs < MAX_PAIRS);
    CHECK_OK(device->memory->alloc(device, room, "a tensor of a test", &cards[pairs], &err), &err);
    CHECK((p.host.data = hosts[pairs] = malloc(bytes)) != NULL);
    p.card.data = (char *)cards[pairs++] + (room - bytes - (shift != 0 ? 16 : 0)) / 16 * 16 + (size_t)shift * wo_dtype_size(dtype);
    memset(p.host.data, 0xff, bytes);
    CHECK_OK(device->stream->poison(stream, p.card.data, bytes, &err), &err);
    return p;
}
#define MAKE_AT(shift, dtype, ...) \
    make_at((shift), (dtype), (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]){__VA_ARGS__})
#define MAKE(dtype, ...) MAKE_AT(0, dtype, __VA_ARGS__)

static inline void release_to(int kept) {
    CHECK_OK(device->stream->sync(stream, &err), &err);
    while (pairs > kept) {
        free(hosts[--pairs]);
        device->memory->release(device, cards[pairs]);
    }
}

static inline void upload(const pair *p) {
    CHECK_OK(device->stream->copy(stream, p->card.data, p->host.data, wo_tensor_bytes(&p->host), &err), &err);
    CHECK_OK(device->stream->sync(stream, &err), &err);
}

static inline void download(const pair *p) {
    CHECK_OK(device->stream->copy(stream, p->host.data, p->card.data, wo_tensor_bytes(&p->host), &err), &err);
    CHECK_OK(device->stream->sync(stream, &err), &err);
}

static inline float get(const wo_tensor *t, int64_t i) {
    if (t->dtype == WO_F32)
        return ((const float *)t->data)[i];
    uint16_t half = ((const uint16_t *)t->data)[i];
    return t->dtype == WO_BF16 ? wo_bf16_to_f32(half) : wo_f16_to_f32(half);
}

static uint64_t seed = 1;

static inline pair fill(pair p, float scale) {
    for (int64_t i = 0; i < wo_tensor_count(&p.host); i++) {
        float sum = 0;
        for (int n = 0; n < 4; n++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            sum += (float)(seed >> 40) / 16777216.0f - 0.5f;
        }
        sum *= 1.7320508f * scale;
        if (p.host.dtype == WO_F32)
            ((float *)p.host.data)[i] = sum;
        else
            ((uint16_t *)p.host.data)[i] = p.host.dtype == WO_BF16 ? wo_f32_to_bf16(sum) : wo_f32_to_f16(sum);
    }
    upload(&p);
    return p;
}

static inline pair copy_at(int shift, const pair *p) {
    pair copy = make_at(shift, p->host.dtype, p->host.rank, p->host.shape);
    memcpy(copy.host.data, p->host.data, wo_tensor_bytes(&p->host));
    upload(&copy);
    return copy;
}

static inline bool same_bits(const wo_tensor *a, const wo_tensor *b) {
    return memcmp(a->data, b->data, wo_tensor_bytes(a)) == 0;
}

static const wo_dtype dtypes[][3] = {{WO_F32, WO_F32, WO_F32},   {WO_BF16, WO_BF16, WO_BF16}, {WO_BF16, WO_BF16, WO_F32},
                                     {WO_F32, WO_BF16, WO_BF16}, {WO_F32, WO_F16, WO_F32},    {WO_BF16, WO_F32, WO_F32},
                                     {WO_F16, WO_F16, WO_F16}};
enum { DTYPES = sizeof dtypes / sizeof dtypes[0] };

/* Runs every test of a program on own kernels alone and on the PTX of both targets: once with warps that take turns at barriers only, and once with warps
 * and copies in random order. */
static inline void run_on_both_targets(void (*run_all)(void), const char *what) {
    static const int targets[] = {80, 120};
    for (int i = 0; i < 2; i++) {
        fakecuda()->set_target(targets[i]);
        fakecuda()->reset();
        fakecuda()->set_seed((uint64_t)i, 0);
        CHECK_OK(wo_device_open("cuda", &device, &err), &err);
        CHECK_OK(device->stream->create(device, "compute", &stream, &err), &err);
        wo_cuda_vendor *vendor = ((wo_cuda_device *)device)->vendor;
        ((wo_cuda_device *)device)->vendor = NULL;
        run_all();
        ((wo_cuda_device *)device)->vendor = vendor;
        device->stream->destroy(stream);
        wo_device_close(device);
        printf("%s for compute_%d: ok\n", what, targets[i]);
    }
}

/* ldmatrix reads eight rows in one pass, unless the swizzle of the tile is broken. */
static inline void check_fragments_are_read_without_bank_conflicts(const char *kernel) {
    fakecuda_counts counts = fakecuda()->kernel(kernel);
    CHECK(counts.ldmatrix_phases > 0 && counts.ldmatrix_passes == counts.ldmatrix_phases);
}

#endif
