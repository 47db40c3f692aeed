/* What `wanoffload doctor` says of CUDA. Asks the driver for facts only: no context is made, and what is missing is a line, not a failure. */
#include "device/cuda/device_impl.h"

#include "device/cuda/images.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { OLDEST_SM = 80 };

typedef struct lines {
    char *text;
    size_t bytes, used;
} lines;

static void add(lines *l, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(lines *l, const char *format, ...) {
    va_list arguments;
    if (l->used + 1 >= l->bytes)
        return;
    va_start(arguments, format);
    const int length = vsnprintf(l->text + l->used, l->bytes - l->used, format, arguments);
    va_end(arguments);
    l->used += length > 0 ? (size_t)length : 0;
    l->used = l->used < l->bytes ? l->used : l->bytes - 1;
}

int wo_cuda_count(void) {
    const wo_cuda_driver *driver = NULL;
    int cards = 0;
    return wo_cuda_driver_get(&driver, NULL) == WO_OK && driver->device_count(&cards) == WO_CU_SUCCESS ? cards : 0;
}

static void add_card(lines *l, const wo_cuda_driver *driver, int number) {
    wo_cuda_properties p;
    wo_cu_device card = 0;
    wo_error err;
    wo_cu_result r = driver->device_get(&card, number);
    if (r == WO_CU_SUCCESS)
        r = wo_cuda_read_properties(driver, card, &p);
    if (r != WO_CU_SUCCESS) {
        wo_cuda_driver_error(driver, r, "not readable", &err);
        add(l, "card %d: %s\n", number, err.message);
        return;
    }
    add(l, "card %d: %s, compute capability %d.%d%s, %d multiprocessors, %.1f GiB\n", number, p.name, p.sm / 10, p.sm % 10,
        p.sm < OLDEST_SM ? " (too old: 8.0 is needed at least)" : "", p.multiprocessors, (double)p.memory_bytes / 1073741824);
    if (number < WO_CUDA_MAX_CARDS && wo_cuda_check_card(number, &err) != WO_OK)
        add(l, "card %d lost: %s\n", number, err.message);
}

static void add_driver(lines *l) {
    const wo_cuda_driver *driver = NULL;
    wo_error err;
    int cards = 0;
    if (wo_cuda_driver_get(&driver, &err) != WO_OK) {
        add(l, "driver: none that works. %s\n", err.message);
        return;
    }
    add(l, "driver: libcuda.so.1, for CUDA %d.%d\n", driver->version / 1000, driver->version % 1000 / 10);
    if (driver->device_count(&cards) == WO_CU_SUCCESS)
        for (int i = 0; i < cards; i++)
            add_card(l, driver, i);
}

static void add_kernels(lines *l) {
    size_t bytes = 0;
    for (size_t i = 0; i < wo_cuda_image_count; i++)
        bytes += (size_t)(wo_cuda_images[i].end - wo_cuda_images[i].data);
    if (wo_cuda_image_count > 0)
        add(l, "kernels: in this build, %zu modules, %.1f MiB\n", wo_cuda_image_count, (double)bytes / 1048576);
    else
        add(l, "kernels: none in this build, which was made without nvcc. Install the CUDA toolkit (12.4 or newer) and build again with WANOFFLOAD_CUDA=on\n");
}

static void add_pinned(lines *l) {
    char reason[256];
    const uint64_t bytes = wo_cuda_pinned_bytes();
    wo_cuda_pinning_refusal(reason, sizeof reason);
    if (bytes > 0 || reason[0] != 0)
        add(l, "pinned host memory: %.1f MiB%s%s\n", (double)bytes / 1048576, reason[0] != 0 ? "; some stays pageable, and copies from there are slower: " : "",
            reason);
}

void wo_cuda_describe(char *text, size_t bytes) {
    lines l = {.text = text, .bytes = bytes};
    if (bytes == 0)
        return;
    text[0] = 0;
    add_driver(&l);
    add_kernels(&l);
    add_pinned(&l);
    if (wo_cuda_allows_tf32())
        add(&l, "float32 products: TF32 where cuBLASLt computes them, as was asked for\n");
    wo_cuda_vendor_describe(text + l.used, bytes - l.used);
}
