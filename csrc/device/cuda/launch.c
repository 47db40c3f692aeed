/* Loading and launching kernels. Every kernel may have as much dynamic shared memory as a block of the card can: how much a launch takes follows from its
 * shapes, so one that would not fit the card is refused by name. */
#include "device/cuda/device_impl.h"

#include "device/cuda/images.h"
#include "device/cuda/kernels/scalar.h"

#include <assert.h>
#include <stdio.h>

static_assert((int)WO_CUDA_F32 == (int)WO_F32 && (int)WO_CUDA_BF16 == (int)WO_BF16 && (int)WO_CUDA_F16 == (int)WO_F16,
              "kernels number the dtypes as the host does");

enum { MAX_THREADS = 1024, MAX_GRID_YZ = 65535, MAX_GRID_X = 0x7fffffff };

typedef struct kernel_row {
    wo_cuda_module module;
    const char *symbol;
} kernel_row;

static const kernel_row kernel_rows[WO_CUDA_KERNELS] = {
#define ROW(module, entry) {WO_CUDA_MODULE_##module, "wo_" #entry},
    WO_CUDA_KERNEL_LIST(ROW)
#undef ROW
};

static wo_status describe_failure(wo_cuda_device *d, wo_cu_result r, const char *doing, const char *what, wo_error *err) {
    char text[128];
    snprintf(text, sizeof text, "%s (sm_%d): %s '%s'", d->text, d->properties.sm, doing, what);
    return wo_cuda_driver_error(d->driver, r, text, err);
}

static wo_status load_module(wo_cuda_device *d, int module, wo_error *err) {
    const wo_cuda_image *image = &wo_cuda_images[module];
    const wo_cu_result r = d->driver->module_load_data(&d->modules[module], image->data);
    if (r == WO_CU_SUCCESS)
        return WO_OK;
    d->modules[module] = NULL;
    return describe_failure(d, r, "loading the kernels of module", image->module, err);
}

static wo_status find_kernel(wo_cuda_device *d, int kernel, wo_error *err) {
    const kernel_row *row = &kernel_rows[kernel];
    wo_cu_function f = NULL;
    int fixed = 0;
    wo_cu_result r = d->driver->module_function(&f, d->modules[row->module], row->symbol);
    if (r == WO_CU_SUCCESS)
        r = d->driver->function_get_attribute(&fixed, WO_CU_FUNC_SHARED_SIZE_BYTES, f);
    if (r == WO_CU_SUCCESS)
        r = d->driver->function_set_attribute(f, WO_CU_FUNC_MAX_DYNAMIC_SHARED_SIZE_BYTES, d->properties.shared_bytes - fixed);
    if (r != WO_CU_SUCCESS)
        return describe_failure(d, r, "preparing the kernel", row->symbol, err);
    d->kernels[kernel] = f;
    return WO_OK;
}

wo_status wo_cuda_load_kernels(wo_cuda_device *d, wo_error *err) {
    assert(wo_cuda_image_count == WO_CUDA_MODULES);
    for (int i = 0; i < WO_CUDA_MODULES; i++)
        WO_TRY(load_module(d, i, err));
    for (int i = 0; i < WO_CUDA_KERNELS; i++)
        WO_TRY(find_kernel(d, i, err));
    return WO_OK;
}

void wo_cuda_unload_kernels(wo_cuda_device *d) {
    for (int i = 0; i < WO_CUDA_MODULES; i++)
        if (d->modules[i] != NULL)
            d->driver->module_unload(d->modules[i]);
}

static wo_status check_limits(const wo_cuda_device *d, wo_cuda_grid grid, unsigned threads, unsigned shared_bytes, const char *op, wo_error *err) {
    if (grid.x > MAX_GRID_X || grid.y > MAX_GRID_YZ || grid.z > MAX_GRID_YZ || threads == 0 || threads > MAX_THREADS)
        WO_FAIL(err, WO_EUNSUPPORTED, "%s: a grid of %u x %u x %u blocks of %u threads is more than a card takes; lower the size of the video", op, grid.x,
                grid.y, grid.z, threads);
    if (shared_bytes > (unsigned)d->properties.shared_bytes)
        WO_FAIL(err, WO_EUNSUPPORTED, "%s: a block needs %u bytes of shared memory, and %s (%s) has %d", op, shared_bytes, d->text, d->properties.name,
                d->properties.shared_bytes);
    return WO_OK;
}

wo_status wo_cuda_launch(wo_stream *stream, wo_cuda_kernel kernel, wo_cuda_grid grid, unsigned threads, unsigned shared_bytes, const void *args,
                         const char *op, wo_error *err) {
    wo_cuda_device *d = wo_cuda_of(stream);
    bool skip;
    WO_TRY(check_limits(d, grid, threads, shared_bytes, op, err));
    if (grid.x == 0 || grid.y == 0 || grid.z == 0)
        return WO_OK;
    WO_TRY(wo_cuda_begin(stream, op, &skip, err));
    if (skip)
        return WO_OK;
    /* The driver copies what the pointers point to and writes through none of them. */
    void *params[] = {(void *)(uintptr_t)args};
    const wo_cu_result r = d->driver->launch(d->kernels[kernel], grid.x, grid.y, grid.z, threads, 1, 1, shared_bytes, wo_cuda_raw_stream(stream), params, NULL);
    wo_cuda_end(stream);
    return r == WO_CU_SUCCESS ? WO_OK : wo_cuda_fail(d, r, op, err);
}
