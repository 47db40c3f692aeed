/* The entry points that are about the driver, the cards and their contexts. */
#include "fakecuda/internal.h"

typedef struct result_text {
    wo_cu_result result;
    const char *name, *text;
} result_text;

static const result_text texts[] = {
    {WO_CU_SUCCESS, "CUDA_SUCCESS", "no error"},
    {WO_CU_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {WO_CU_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {WO_CU_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {WO_CU_DEINITIALIZED, "CUDA_ERROR_DEINITIALIZED", "driver shutting down"},
    {WO_CU_NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {WO_CU_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {WO_CU_INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {WO_CU_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {WO_CU_NO_BINARY_FOR_GPU, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {WO_CU_ECC_UNCORRECTABLE, "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"},
    {FAKE_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {WO_CU_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {WO_CU_NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {WO_CU_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {WO_CU_LAUNCH_OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {WO_CU_LAUNCH_TIMEOUT, "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated"},
    {WO_CU_HOST_MEMORY_ALREADY_REGISTERED, "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED", "part or all of the requested memory range is already mapped"},
    {FAKE_HOST_MEMORY_NOT_REGISTERED, "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED", "pointer does not correspond to a registered memory region"},
    {WO_CU_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {FAKE_NOT_PERMITTED, "CUDA_ERROR_NOT_PERMITTED", "operation not permitted"},
    {WO_CU_UNKNOWN, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

static const result_text *find_text(wo_cu_result r) {
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (texts[i].result == r)
            return &texts[i];
    return NULL;
}

wo_cu_result fake_error_name(wo_cu_result r, const char **text) {
    const result_text *t = find_text(r);
    *text = t != NULL ? t->name : NULL;
    return t != NULL ? WO_CU_SUCCESS : WO_CU_INVALID_VALUE;
}

wo_cu_result fake_error_string(wo_cu_result r, const char **text) {
    const result_text *t = find_text(r);
    *text = t != NULL ? t->text : NULL;
    return t != NULL ? WO_CU_SUCCESS : WO_CU_INVALID_VALUE;
}

wo_cu_result fake_init(unsigned flags) {
    wo_cu_result r = fake_enter(FAKE_init, false, NULL);
    if (r != WO_CU_SUCCESS || flags != 0)
        return fake_leave(r != WO_CU_SUCCESS ? r : WO_CU_INVALID_VALUE);
    fake.initialised = fake.count > 0;
    return fake_leave(fake.count > 0 ? WO_CU_SUCCESS : WO_CU_NO_DEVICE);
}

wo_cu_result fake_driver_version(int *version) {
    wo_cu_result r = fake_enter(FAKE_driver_version, false, NULL);
    if (r == WO_CU_SUCCESS)
        *version = fake.driver;
    return fake_leave(r);
}

wo_cu_result fake_device_count(int *count) {
    wo_cu_result r = fake_enter(FAKE_device_count, false, NULL);
    if (r == WO_CU_SUCCESS)
        *count = fake.count;
    return fake_leave(r);
}

/* Begins an entry point about a card. */
static wo_cu_result enter_with_device(fake_entry entry, int device) {
    wo_cu_result r = fake_enter(entry, false, NULL);
    return r != WO_CU_SUCCESS || (device >= 0 && device < fake.count) ? r : WO_CU_INVALID_DEVICE;
}

wo_cu_result fake_device_get(wo_cu_device *device, int ordinal) {
    wo_cu_result r = enter_with_device(FAKE_device_get, ordinal);
    if (r == WO_CU_SUCCESS)
        *device = ordinal;
    return fake_leave(r);
}

wo_cu_result fake_device_name(char *name, int bytes, wo_cu_device device) {
    wo_cu_result r = enter_with_device(FAKE_device_name, device);
    if (r == WO_CU_SUCCESS)
        snprintf(name, (size_t)bytes, "%s", fake.name);
    return fake_leave(r);
}

wo_cu_result fake_device_memory(size_t *bytes, wo_cu_device device) {
    wo_cu_result r = enter_with_device(FAKE_device_memory, device);
    if (r == WO_CU_SUCCESS)
        *bytes = fake.memory;
    return fake_leave(r);
}

size_t fake_shared_limit(void) {
    return fake.sm == 80 ? 163 << 10 : fake.sm == 90 || fake.sm == 100 ? 227 << 10 : 99 << 10;
}

wo_cu_result fake_device_attribute(int *value, int attribute, wo_cu_device device) {
    wo_cu_result r = enter_with_device(FAKE_device_attribute, device);
    if (r != WO_CU_SUCCESS)
        return fake_leave(r);
    switch (attribute) {
    case WO_CU_ATTRIBUTE_CLOCK_RATE:
        *value = 1410000;
        break;
    case WO_CU_ATTRIBUTE_MULTIPROCESSOR_COUNT:
        *value = 108;
        break;
    case WO_CU_ATTRIBUTE_L2_CACHE_SIZE:
        *value = 40 << 20;
        break;
    case WO_CU_ATTRIBUTE_ASYNC_ENGINE_COUNT:
        *value = 3;
        break;
    case WO_CU_ATTRIBUTE_UNIFIED_ADDRESSING:
    case WO_CU_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM:
        *value = 1;
        break;
    case WO_CU_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
        *value = fake.sm / 10;
        break;
    case WO_CU_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
        *value = fake.sm % 10;
        break;
    case WO_CU_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
        *value = (int)fake_shared_limit();
        break;
    default:
        fake_misuse("cuDeviceGetAttribute of %d, which the fake card does not know", attribute);
        r = WO_CU_INVALID_VALUE;
    }
    return fake_leave(r);
}

/* --- contexts: one a card, the primary one ---------------------------------------------------------------------------------------- */

wo_cu_result fake_context_retain(wo_cu_context *context, wo_cu_device device) {
    wo_cu_result r = enter_with_device(FAKE_context_retain, device);
    if (r != WO_CU_SUCCESS)
        return fake_leave(r);
    wo_cu_context c = &fake.contexts[device];
    c->device = device;
    if (c->retained++ == 0)
        fake.live[FAKECUDA_CONTEXTS]++;
    *context = c;
    return fake_leave(WO_CU_SUCCESS);
}

/* Objects that were not destroyed are a leak, which the driver would not report. Streams end first. */
static void destroy_objects(wo_cu_context c) {
    size_t left = 0;
    for (fake_object *o = fake.objects; o != NULL; o = o->next)
        if (o->kind == FAKECUDA_STREAMS && o->context == c && !((wo_cu_stream)o)->closing) {
            fake_close_stream((wo_cu_stream)o);
            left++;
        }
    for (bool running = true; running;) {
        running = false;
        for (fake_object *o = fake.objects; o != NULL; o = o->next)
            running = running || (o->kind == FAKECUDA_STREAMS && o->context == c);
        if (running)
            pthread_cond_wait(&fake.changed, &fake.lock);
    }
    fake_reap();
    for (fake_object *o = fake.objects, *next; o != NULL; o = next) {
        next = o->next;
        if (o->context != c)
            continue;
        fake.live[o->kind]--;
        fake_remove_object(o);
        fake_free_object(o);
        left++;
    }
    left += fake_free_all(c);
    /* The driver refuses to destroy what a lost context has. */
    if (left > 0 && c->error == WO_CU_SUCCESS)
        fake_misuse("%zu objects were left when the context of card %d went", left, c->device);
}

/* The last release destroys the context, also one that was lost: the next retain makes a fresh one. */
wo_cu_result fake_context_release(wo_cu_device device) {
    wo_cu_result r = enter_with_device(FAKE_context_release, device);
    if (r != WO_CU_SUCCESS)
        return fake_leave(r);
    wo_cu_context c = &fake.contexts[device];
    if (c->retained == 0) {
        fake_misuse("cuDevicePrimaryCtxRelease of a context that is not retained");
        return fake_leave(WO_CU_INVALID_CONTEXT);
    }
    if (c->retained == 1) {
        destroy_objects(c);
        c->error = WO_CU_SUCCESS;
        fake.live[FAKECUDA_CONTEXTS]--;
    }
    c->retained--;
    return fake_leave(WO_CU_SUCCESS);
}

wo_cu_result fake_context_set_current(wo_cu_context context) {
    wo_cu_result r = fake_enter(FAKE_context_set_current, false, NULL);
    if (r != WO_CU_SUCCESS)
        return fake_leave(r);
    if (context != NULL && context->retained == 0) {
        fake_misuse("cuCtxSetCurrent of a context that is gone");
        return fake_leave(WO_CU_INVALID_CONTEXT);
    }
    fake_set_current(context);
    return fake_leave(WO_CU_SUCCESS);
}
