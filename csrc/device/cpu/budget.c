/* How much memory the process may have. In a container the machine's own figures mean nothing: the memory limit of the control group, or
 * of any group above it, is where the process gets killed. What a group holds in page cache counts as free, since the kernel takes it
 * back first; a checkpoint that was just read would otherwise look like memory in use. */
#include "device/cpu/internal.h"

#include "base/cgroup.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { PATH_BYTES = 4096 + 64 };

typedef struct bounds {
    uint64_t machine; /* bytes it has; a group that may have more is not limited */
    uint64_t free_bytes, total_bytes;
} bounds;

/* A file of one number; "max" is none. */
static bool read_number(const char *folder, const char *name, uint64_t *out) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%.4096s/%s", folder, name);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return false;
    const bool found = fscanf(f, "%" SCNu64, out) == 1;
    fclose(f);
    return found;
}

/* The sum of the numbers behind `first` and `second` in a file of lines "name number". Absent ones count 0. */
static uint64_t read_sum(const char *folder, const char *name, const char *first, const char *second) {
    char path[PATH_BYTES], key[64];
    snprintf(path, sizeof path, "%.4096s/%s", folder, name);
    uint64_t sum = 0, value;
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return 0;
    while (fscanf(f, "%63s %" SCNu64, key, &value) == 2)
        if (strcmp(key, first) == 0 || strcmp(key, second) == 0)
            sum += value;
    fclose(f);
    return sum;
}

static void bound_by_group(void *ctx, const char *folder, int version) {
    bounds *b = ctx;
    uint64_t limit = UINT64_MAX, high, used = 0;
    if (!read_number(folder, version == 2 ? "memory.max" : "memory.limit_in_bytes", &limit))
        limit = UINT64_MAX;
    /* Above memory.high the kernel slows the process down until it is as good as stopped. */
    if (version == 2 && read_number(folder, "memory.high", &high) && high < limit)
        limit = high;
    if (limit >= b->machine)
        return;
    if (limit < b->total_bytes)
        b->total_bytes = limit;
    if (!read_number(folder, version == 2 ? "memory.current" : "memory.usage_in_bytes", &used))
        return;
    const char *inactive = version == 2 ? "inactive_file" : "total_inactive_file";
    const char *active = version == 2 ? "active_file" : "total_active_file";
    const uint64_t cache = read_sum(folder, "memory.stat", inactive, active);
    used = used > cache ? used - cache : 0;
    const uint64_t left = limit > used ? limit - used : 0;
    if (left < b->free_bytes)
        b->free_bytes = left;
}

static wo_status bound_by_machine(const char *root, bounds *b, wo_error *err) {
    char path[PATH_BYTES], line[256];
    snprintf(path, sizeof path, "%.4096s/proc/meminfo", root);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return wo_error_set_os(err, WO_EOS, errno, path, "cannot read how much memory the machine has");
    uint64_t kib = 0;
    while (fgets(line, sizeof line, f) != NULL) {
        if (sscanf(line, "MemTotal: %" SCNu64, &kib) == 1)
            b->machine = b->total_bytes = kib * 1024;
        else if (sscanf(line, "MemAvailable: %" SCNu64, &kib) == 1)
            b->free_bytes = kib * 1024;
    }
    fclose(f);
    if (b->total_bytes == 0)
        return wo_error_set_os(err, WO_EOS, EINVAL, path, "%s does not say how much memory the machine has", path);
    return WO_OK;
}

wo_status wo_cpu_read_budget(const char *root, uint64_t *free_bytes, uint64_t *total_bytes, wo_error *err) {
    bounds b = {0};
    WO_TRY(bound_by_machine(root, &b, err));
    wo_cgroup_visit(root, "memory", bound_by_group, &b);
    *free_bytes = b.free_bytes < b.total_bytes ? b.free_bytes : b.total_bytes;
    *total_bytes = b.total_bytes;
    return WO_OK;
}
