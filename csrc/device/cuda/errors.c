/* The sticky error of a device, and contexts that are lost.
 *
 * Most failures leave the context whole: they stick to the device until clear_error. Some, such as a kernel's access to memory that is not there, make the
 * driver answer every later call of the process with the same error. Such a device never recovers, and no other opens on that card. */
#include "device/cuda/device_impl.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static pthread_mutex_t losing = PTHREAD_MUTEX_INITIALIZER;
static char lost_by[WO_CUDA_MAX_CARDS][320]; /* the error that lost the card's context in this process; "": it is whole */

bool wo_cuda_loses_context(wo_cu_result result) {
    switch (result) {
    case WO_CU_DEINITIALIZED:
    case WO_CU_ECC_UNCORRECTABLE:
    case WO_CU_NVLINK_UNCORRECTABLE:
    case WO_CU_ILLEGAL_ADDRESS:
    case WO_CU_LAUNCH_TIMEOUT:
    case WO_CU_CONTEXT_IS_DESTROYED:
    case WO_CU_ASSERT:
    case WO_CU_HARDWARE_STACK_ERROR:
    case WO_CU_ILLEGAL_INSTRUCTION:
    case WO_CU_MISALIGNED_ADDRESS:
    case WO_CU_INVALID_ADDRESS_SPACE:
    case WO_CU_INVALID_PC:
    case WO_CU_LAUNCH_FAILED:
    case WO_CU_UNKNOWN:
        return true;
    default:
        return false;
    }
}

static void lose(wo_cuda_device *d, const char *message) {
    pthread_mutex_lock(&losing);
    char *text = lost_by[d->ordinal];
    if (text[0] == 0)
        snprintf(text, sizeof lost_by[0], "%.300s", message);
    pthread_mutex_unlock(&losing);
    atomic_store(&d->lost, true);
}

void wo_cuda_forget_lost_cards(void) {
    pthread_mutex_lock(&losing);
    memset(lost_by, 0, sizeof lost_by);
    pthread_mutex_unlock(&losing);
}

wo_status wo_cuda_check_card(wo_cu_device card, wo_error *err) {
    wo_status status = WO_OK;
    pthread_mutex_lock(&losing);
    if (lost_by[card][0] != 0)
        status = wo_error_set(err, WO_EDEVICE, "this process has lost its context on card %d and cannot use that card again: start a new process. It was lost "
                              "by: %s", card, lost_by[card]);
    pthread_mutex_unlock(&losing);
    return status;
}

/* The error is posted before the context counts as lost, so that whoever sees the one also sees the other. */
wo_status wo_cuda_fail(wo_cuda_device *d, wo_cu_result result, const char *op, wo_error *err) {
    wo_error own;
    char doing[160];
    if (err == NULL)
        err = &own;
    assert(result != WO_CU_SUCCESS);
    snprintf(doing, sizeof doing, "%s (%.50s), %.50s", d->text, d->properties.name, op);
    const wo_status status = wo_cuda_driver_error(d->driver, result, doing, err);
    wo_cuda_post_error(&d->head, err);
    if (wo_cuda_loses_context(result))
        lose(d, err->message);
    return status;
}

void wo_cuda_post_error(wo_device *device, const wo_error *err) {
    wo_cuda_device *d = (wo_cuda_device *)device;
    assert(err->code != WO_OK);
    pthread_mutex_lock(&d->lock);
    if (atomic_load(&d->failed) == WO_OK) {
        d->error = *err;
        atomic_store(&d->failed, (int)err->code);
    }
    pthread_mutex_unlock(&d->lock);
}

/* A lost context is not cleared away; if another error had stuck when it was lost, the loss now takes its place. */
void wo_cuda_clear_error(wo_device *device) {
    wo_cuda_device *d = (wo_cuda_device *)device;
    wo_error err;
    pthread_mutex_lock(&d->lock);
    if (!atomic_load(&d->lost)) {
        atomic_store(&d->failed, WO_OK);
    } else if (wo_cuda_check_card(d->ordinal, &err) != WO_OK) {
        d->error = err;
        atomic_store(&d->failed, (int)err.code);
    }
    pthread_mutex_unlock(&d->lock);
}

wo_status wo_cuda_sticky(wo_cuda_device *d, wo_error *err) {
    if (atomic_load(&d->failed) == WO_OK)
        return WO_OK;
    pthread_mutex_lock(&d->lock);
    const wo_status status = (wo_status)atomic_load(&d->failed);
    if (status != WO_OK && err != NULL)
        *err = d->error;
    pthread_mutex_unlock(&d->lock);
    return status;
}

bool wo_cuda_interrupted(wo_cuda_device *d) {
    if (atomic_load(&d->failed) != WO_OK)
        return true;
    if (!wo_cancel_requested(atomic_load_explicit(&d->cancel, memory_order_acquire)))
        return false;
    wo_error err;
    wo_error_set(&err, WO_ECANCELLED, "cancelled");
    wo_cuda_post_error(&d->head, &err);
    return true;
}
