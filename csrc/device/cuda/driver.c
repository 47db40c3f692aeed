/* Finding the driver. It comes with the card's kernel module and is never shipped, so it is opened at run time, and each way in which that fails
 * has its own remedy. */
#include "device/cuda/driver.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER;
static wo_cuda_driver the_driver;
static bool ready;
static pid_t initialised_by;

static wo_status open_library(void **out, wo_error *err) {
    *out = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (*out == NULL)
        WO_FAIL(err, WO_EDEVICE, "NVIDIA's driver is not installed here: %.200s. Install it (its libcuda.so.1 must be in the loader's path; in a container, "
                "start it with the NVIDIA runtime, as docker run --gpus all does), or use device=\"cpu\"", dlerror());
    return WO_OK;
}

static wo_status too_old(int version, wo_error *err) {
    WO_FAIL(err, WO_EDEVICE, "NVIDIA's driver here is for CUDA %d.%d, and %d.%d is needed at least. Install a newer driver (525 or later), or use "
            "device=\"cpu\"", version / 1000, version % 1000 / 10, WO_CU_OLDEST_DRIVER / 1000, WO_CU_OLDEST_DRIVER % 1000 / 10);
}

/* POSIX lets dlsym's result be stored through a pointer to the field, and ISO C has no other way to get a function out of it. */
static const char *find_entries(void *library, wo_cuda_driver *driver) {
#define FIND(name, symbol, params)                              \
    *(void **)&driver->name = dlsym(library, symbol);           \
    if (driver->name == NULL)                                   \
        return symbol;
    WO_CU_ENTRY_LIST(FIND)
#undef FIND
    return NULL;
}

static wo_status no_card(wo_error *err) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (visible != NULL)
        WO_FAIL(err, WO_EDEVICE, "NVIDIA's driver shows no card, and CUDA_VISIBLE_DEVICES is '%.80s'. Unset it, or set it to a card that `nvidia-smi -L` "
                "lists, or use device=\"cpu\"", visible);
    WO_FAIL(err, WO_EDEVICE, "NVIDIA's driver shows no card. See whether `nvidia-smi -L` lists one (in a container, start it with --gpus all), or use "
            "device=\"cpu\"");
}

static wo_status initialise(const wo_cuda_driver *driver, wo_error *err) {
    int cards = 0;
    wo_cu_result r = driver->init(0);
    if (r == WO_CU_SUCCESS)
        r = driver->device_count(&cards);
    if (r == WO_CU_NO_DEVICE || (r == WO_CU_SUCCESS && cards == 0))
        return no_card(err);
    if (r != WO_CU_SUCCESS)
        return wo_cuda_driver_error(driver, r, "starting NVIDIA's driver", err);
    return WO_OK;
}

static wo_status load(wo_error *err) {
    void *library = NULL;
    wo_cuda_driver found = {0};
    WO_TRY(open_library(&library, err));
    const char *missing = find_entries(library, &found);
    /* An old driver is told from a broken one by its version, which every driver can say. */
    if (found.driver_version == NULL || found.driver_version(&found.version) != WO_CU_SUCCESS)
        found.version = 0;
    if (found.version > 0 && found.version < WO_CU_OLDEST_DRIVER)
        return too_old(found.version, err);
    if (missing != NULL || found.version == 0)
        WO_FAIL(err, WO_EDEVICE, "the libcuda.so.1 found is no whole driver: %s. Install NVIDIA's driver again, or use device=\"cpu\"",
                missing != NULL ? missing : "it does not say its version");
    WO_TRY(initialise(&found, err));
    the_driver = found;
    initialised_by = getpid();
    ready = true;
    return WO_OK;
}

wo_status wo_cuda_driver_get(const wo_cuda_driver **out, wo_error *err) {
    *out = NULL;
    pthread_mutex_lock(&loading);
    wo_status status = WO_OK;
    if (!ready)
        status = load(err);
    else if (initialised_by != getpid())
        status = wo_error_set(err, WO_EDEVICE, "this process was forked from one that had used the card, and the driver does not survive that. Start "
                              "processes with multiprocessing's \"spawn\", or use the card in the child only");
    pthread_mutex_unlock(&loading);
    if (status == WO_OK)
        *out = &the_driver;
    return status;
}

static const char *what_to_do(wo_cu_result result) {
    switch (result) {
    case WO_CU_OUT_OF_MEMORY:
        return "Lower the vram budget, choose leaf-level offload, or close other programs that use the card";
    case WO_CU_DEVICE_UNAVAILABLE:
        return "Another process has the card for itself; wait for it, or see its compute mode in nvidia-smi";
    case WO_CU_INVALID_IMAGE:
    case WO_CU_NO_BINARY_FOR_GPU:
    case WO_CU_INVALID_PTX:
    case WO_CU_UNSUPPORTED_PTX_VERSION:
        return "This build's kernels do not suit the card or its driver: install a newer driver, or build again with a newer nvcc and WANOFFLOAD_CUDA=on";
    case WO_CU_ECC_UNCORRECTABLE:
    case WO_CU_NVLINK_UNCORRECTABLE:
        return "The card has found an error in its memory or link that it cannot correct: start a new process, and reset the card if it happens again";
    case WO_CU_ILLEGAL_ADDRESS:
    case WO_CU_CONTEXT_IS_DESTROYED:
    case WO_CU_ASSERT:
    case WO_CU_HARDWARE_STACK_ERROR:
    case WO_CU_ILLEGAL_INSTRUCTION:
    case WO_CU_MISALIGNED_ADDRESS:
    case WO_CU_INVALID_ADDRESS_SPACE:
    case WO_CU_INVALID_PC:
    case WO_CU_LAUNCH_FAILED:
        return "This may come from work enqueued before. This process can no longer use the card: start a new one. With CUDA_LAUNCH_BLOCKING=1 in the "
               "environment the message names the operation; please report it";
    case WO_CU_LAUNCH_TIMEOUT:
        return "The card drives a display, and one kernel took longer than that allows: use a card without a display. Start a new process";
    case WO_CU_LAUNCH_OUT_OF_RESOURCES:
        return "A kernel asks for more than this card has: please report it";
    case WO_CU_SYSTEM_DRIVER_MISMATCH:
        return "The driver was updated while the machine ran: restart it";
    case WO_CU_UNKNOWN:
        return "The driver is in disorder, as it can be after suspend: start a new process; if that does not help, run `sudo rmmod nvidia_uvm; sudo "
               "modprobe nvidia_uvm` or restart the machine";
    default:
        return "See `nvidia-smi`, and run `wanoffload doctor`";
    }
}

wo_status wo_cuda_driver_error(const wo_cuda_driver *driver, wo_cu_result result, const char *doing, wo_error *err) {
    const char *name = NULL, *text = NULL;
    if (driver->error_name(result, &name) != WO_CU_SUCCESS || name == NULL)
        name = "an error without a name";
    if (driver->error_string(result, &text) != WO_CU_SUCCESS || text == NULL)
        text = "no text";
    const wo_status code = result == WO_CU_OUT_OF_MEMORY ? WO_ENOMEMORY : WO_EDEVICE;
    return wo_error_set(err, code, "%.150s: %.60s (%d), %.100s. %s", doing, name, result, text, what_to_do(result));
}
