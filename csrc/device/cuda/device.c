/* Opening a cuda device. Each open yields a device of its own, with its own sticky error and cancel token, on the card's primary context, which it shares
 * with whatever else of the process uses the card. Kernels are loaded once for each. */
#include "device/cuda/device_impl.h"

#include "device/cuda/images.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OLDEST_SM = 80 };

/* The head of every device: tables, locks, what it holds on the host. */
static wo_status create(const char *text, bool planning, wo_cuda_device **out, wo_error *err) {
    wo_cuda_device *d = calloc(1, sizeof *d);
    if (d == NULL)
        WO_FAIL(err, WO_ENOMEMORY, "no memory for a cuda device");
    snprintf(d->text, sizeof d->text, "%s", text);
    d->head.name = d->text;
    d->head.memory = planning ? &wo_cuda_planning_memory_api : &wo_cuda_memory_api;
    d->head.stream = planning ? &wo_cuda_planning_stream_api : &wo_cuda_stream_api;
    d->head.ops = planning ? &wo_cuda_planning_ops_api : &wo_cuda_ops_api;
    d->head.fixed_bytes = WO_CUDA_PLANNED_STREAMS * wo_cuda_stream_bytes() + WO_CUDA_PLANNED_EVENTS * wo_cuda_event_bytes();
    d->planning_only = planning;
    atomic_store(&d->holders, 1);
    pthread_mutex_init(&d->lock, NULL);
    *out = d;
    return WO_OK;
}

static void destroy(wo_cuda_device *d) {
    if (d->context != NULL) {
        wo_cuda_enter(d, NULL);
        wo_cuda_memory_fini(d);
        if (d->vendor != NULL)
            wo_cuda_vendor_close(d->vendor);
        wo_cuda_unload_kernels(d);
        d->driver->context_set_current(NULL); /* nobody finds a context that is gone */
        d->driver->context_release(d->ordinal);
        wo_cuda_memory_bury(d);
    }
    pthread_mutex_destroy(&d->lock);
    free(d);
}

static wo_status describe_failure(wo_cuda_device *d, wo_cu_result r, const char *doing, wo_error *err) {
    char text[128];
    snprintf(text, sizeof text, "%s: %s", d->text, doing);
    return wo_cuda_driver_error(d->driver, r, text, err);
}

static wo_status check_fit(const wo_cuda_device *d, wo_error *err) {
    const wo_cuda_properties *p = &d->properties;
    int same_address = 0;
    if (p->sm < OLDEST_SM)
        WO_FAIL(err, WO_EUNSUPPORTED, "%s is an %s of compute capability %d.%d, and %d.%d is needed at least, for its matrix units know no bfloat16. Cards "
                "that work: RTX 30, 40 and 50, A100, H100 and newer. Use device=\"cpu\" here", d->text, p->name, p->sm / 10, p->sm % 10, OLDEST_SM / 10,
                OLDEST_SM % 10);
    if (d->driver->device_attribute(&same_address, WO_CU_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM, d->ordinal) != WO_CU_SUCCESS || !same_address)
        WO_FAIL(err, WO_EUNSUPPORTED, "%s (%s) sees pinned host memory under other addresses than the host, which is not supported. Use device=\"cpu\"", d->text,
                p->name);
    if (d->driver->version < wo_cuda_built_with)
        WO_FAIL(err, WO_EDEVICE, "NVIDIA's driver here is for CUDA %d.%d, and the kernels of this build need one for %d.%d. Install a newer driver, build "
                "wanoffload with nvcc of CUDA %d, or use device=\"cpu\"", d->driver->version / 1000, d->driver->version % 1000 / 10, wo_cuda_built_with / 1000,
                wo_cuda_built_with % 1000 / 10, d->driver->version / 1000);
    if (wo_cuda_image_count == 0)
        WO_FAIL(err, WO_EUNSUPPORTED, "this build of wanoffload has no CUDA kernels, for it was made without nvcc. Install the CUDA toolkit (12.4 or newer) and "
                "build again with WANOFFLOAD_CUDA=on, or use device=\"cpu\"");
    return WO_OK;
}

/* Which card it is, and whether it can be used. Asks the driver for numbers only. */
static wo_status find(wo_cuda_device *d, wo_error *err) {
    int cards = 0;
    const int number = d->ordinal;
    WO_TRY(wo_cuda_driver_get(&d->driver, err));
    wo_cu_result r = d->driver->device_count(&cards);
    if (r != WO_CU_SUCCESS)
        return describe_failure(d, r, "counting cards", err);
    if (number >= cards || number >= WO_CUDA_MAX_CARDS)
        WO_FAIL(err, WO_EDEVICE, "there is no card %d for device '%s': the driver shows %d, which %s numbered from 0. CUDA_VISIBLE_DEVICES says which are shown",
                number, d->text, cards, cards == 1 ? "is" : "are");
    WO_TRY(wo_cuda_check_card(number, err));
    if ((r = d->driver->device_get(&d->ordinal, number)) != WO_CU_SUCCESS)
        return describe_failure(d, r, "finding the card", err);
    if ((r = wo_cuda_read_properties(d->driver, d->ordinal, &d->properties)) != WO_CU_SUCCESS)
        return describe_failure(d, r, "reading the card's properties", err);
    return check_fit(d, err);
}

static wo_status bring_up(wo_cuda_device *d, wo_error *err) {
    wo_cu_result r;
    if ((r = d->driver->context_retain(&d->context, d->ordinal)) != WO_CU_SUCCESS) {
        d->context = NULL;
        return describe_failure(d, r, "making a context on the card", err);
    }
    WO_TRY(wo_cuda_enter(d, err));
    WO_TRY(wo_cuda_load_kernels(d, err));
    return wo_cuda_vendor_open(d, &d->vendor, err);
}

static wo_status open_card(int number, const char *name, bool to_work, wo_device **out, wo_error *err) {
    wo_cuda_device *d = NULL;
    WO_TRY(create(name, false, &d, err));
    d->ordinal = number;
    wo_status status = find(d, err);
    if (status == WO_OK && to_work)
        status = bring_up(d, err);
    if (status != WO_OK)
        destroy(d);
    else
        *out = &d->head;
    return status;
}

static wo_status open_known(const char *card, wo_device **out, wo_error *err) {
    wo_cuda_properties properties;
    wo_cuda_device *d = NULL;
    char text[sizeof d->text], names[256] = "";
    const char *key = wo_cuda_find_card(card, &properties);
    if (key == NULL) {
        for (int i = 0; wo_cuda_card_name(i) != NULL; i++)
            snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", i > 0 ? ", " : "", wo_cuda_card_name(i));
        WO_FAIL(err, WO_EVALUE, "there is no device 'cuda:%.40s'. Behind cuda: goes the number of a card that is here, or for a plan the name of one of these: "
                "%s", card, names);
    }
    snprintf(text, sizeof text, "cuda:%.20s", key);
    WO_TRY(create(text, true, &d, err));
    d->properties = properties;
    *out = &d->head;
    return WO_OK;
}

/* A number is a card's of this machine, unless it is so high that it can only be a model's, as in "cuda:4090". */
static wo_status open_named(const char *name, bool to_work, wo_device **out, wo_error *err) {
    *out = NULL;
    if (strcmp(name, "cuda") == 0)
        return open_card(0, name, to_work, out, err);
    if (strncmp(name, "cuda:", 5) != 0)
        WO_FAIL(err, WO_EVALUE, "'%.40s' is no cuda device", name);
    char *end = NULL;
    errno = 0;
    const long number = name[5] >= '0' && name[5] <= '9' ? strtol(name + 5, &end, 10) : -1;
    const bool whole = number >= 0 && errno == 0 && *end == 0;
    if (whole && number < WO_CUDA_MAX_CARDS) {
        char text[32];
        snprintf(text, sizeof text, "cuda:%ld", number);
        return open_card((int)number, text, to_work, out, err);
    }
    return open_known(name + 5, out, err);
}

wo_status wo_cuda_open(const char *name, wo_device **out, wo_error *err) {
    return open_named(name, true, out, err);
}

wo_status wo_cuda_look(const char *name, wo_cuda_properties *out, bool *planning_only, wo_error *err) {
    wo_device *d;
    WO_TRY(open_named(name, false, &d, err));
    *out = *wo_cuda_get_properties(d);
    *planning_only = wo_cuda_is_planning_only(d);
    wo_cuda_close(d);
    return WO_OK;
}

void wo_cuda_retain(wo_cuda_device *d) {
    const int before = atomic_fetch_add(&d->holders, 1);
    assert(before > 0);
    (void)before;
}

void wo_cuda_close(wo_device *d) {
    if (d != NULL && atomic_fetch_sub(&((wo_cuda_device *)d)->holders, 1) == 1)
        destroy((wo_cuda_device *)d);
}

const wo_cuda_properties *wo_cuda_get_properties(const wo_device *d) {
    return &((const wo_cuda_device *)d)->properties;
}

bool wo_cuda_is_planning_only(const wo_device *d) {
    return ((const wo_cuda_device *)d)->planning_only;
}

/* Set anew each time: another library of the process may have made another context current on this thread since. */
wo_status wo_cuda_enter(wo_cuda_device *d, wo_error *err) {
    const wo_cu_result r = d->driver->context_set_current(d->context);
    return r == WO_CU_SUCCESS ? WO_OK : wo_cuda_fail(d, r, "entering the card's context", err);
}
