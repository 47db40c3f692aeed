/* Which devices there are. A device registers by a row here; nothing above device/ knows their names. */
#include "device/device.h"

#include "device/cpu/internal.h"
#include "device/cuda/cuda.h"
#include "device/dry/dry.h"

#include <string.h>

/* A device's name is its kind's, or that with what stands behind a colon: "cuda:1". */
typedef struct device_kind {
    const char *name;
    wo_status (*open)(const char *name, wo_device **out, wo_error *err);
    void (*close)(wo_device *d);
} device_kind;

static wo_status open_cpu(const char *name, wo_device **out, wo_error *err) {
    (void)name;
    return wo_cpu_open(out, err);
}

static wo_status open_dry(const char *name, wo_device **out, wo_error *err) {
    (void)name;
    return wo_dry_open(out, err);
}

static const device_kind kinds[] = {
    {"cpu", open_cpu, wo_cpu_close},
    {"cuda", wo_cuda_open, wo_cuda_close},
    {"cuda:", wo_cuda_open, wo_cuda_close},
    {"dry", open_dry, wo_dry_close},
};

static const device_kind *find(const char *name) {
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const size_t length = strlen(kinds[i].name);
        const bool numbered = kinds[i].name[length - 1] == ':';
        if (numbered ? strncmp(kinds[i].name, name, length) == 0 : strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    }
    return NULL;
}

/* The dry device is for planning, not for users, and so is not among the names. Whether there is a card is asked of the driver, which this loads. */
const char *wo_device_names(void) {
    return wo_cuda_count() > 0 ? "cpu, cuda" : "cpu";
}

wo_status wo_device_open(const char *name, wo_device **out, wo_error *err) {
    const device_kind *kind = find(name);
    if (kind != NULL)
        return kind->open(name, out, err);
    WO_FAIL(err, WO_EVALUE, "there is no device '%.40s'; devices: %s", name, wo_device_names());
}

void wo_device_close(wo_device *d) {
    if (d != NULL)
        find(d->name)->close(d);
}
