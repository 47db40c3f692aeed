/* Which devices there are. A device registers by a row here; nothing above device/ knows their names. */
#include "device/device.h"

#include "device/cpu/internal.h"
#include "device/dry/dry.h"

#include <string.h>

typedef struct device_kind {
    const char *name;
    wo_status (*open)(wo_device **out, wo_error *err);
    void (*close)(wo_device *d);
} device_kind;

static const device_kind kinds[] = {
    {"cpu", wo_cpu_open, wo_cpu_close},
    {"dry", wo_dry_open, wo_dry_close},
};

static const device_kind *find(const char *name) {
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    return NULL;
}

/* The dry device is for planning, not for users, and so is not among the names. */
const char *wo_device_names(void) {
    return "cpu";
}

wo_status wo_device_open(const char *name, wo_device **out, wo_error *err) {
    const device_kind *kind = find(name);
    if (kind != NULL)
        return kind->open(out, err);
    if (strcmp(name, "cuda") == 0 || strncmp(name, "cuda:", 5) == 0)
        WO_FAIL(err, WO_EDEVICE, "CUDA support is not in this build yet, so device '%.40s' cannot be opened; devices: %s", name, wo_device_names());
    WO_FAIL(err, WO_EVALUE, "there is no device '%.40s'; devices: %s", name, wo_device_names());
}

void wo_device_close(wo_device *d) {
    if (d != NULL)
        find(d->name)->close(d);
}
