/* The default number of threads. A container is usually limited by a CFS quota, not by an affinity mask: eight threads
 * on a quota of two CPUs run for a quarter of each period and then stand still together, so the quota counts as much as
 * the mask. */
#include "base/cgroup.h"
#include "base/cpus.h"
#include "base/pool.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 4096, MAX_CPUS = 1 << 16 };

typedef struct quota {
    double cpus; /* 0: no limit */
    char where[PATH_BYTES];
} quota;

static void offer(quota *best, double cpus, const char *where) {
    if (cpus > 0 && (best->cpus == 0 || cpus < best->cpus)) {
        size_t length = strnlen(where, sizeof best->where - 1);
        best->cpus = cpus;
        memcpy(best->where, where, length);
        best->where[length] = '\0';
    }
}

/* Up to `wanted` integers from the file's first line; returns how many there were. */
static int read_numbers(const char *path, long long *numbers, int wanted) {
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return 0;
    char line[128] = "", *at = line;
    int found = 0;
    if (fgets(line, sizeof line, f) != NULL) {
        for (char *end; found < wanted; found++, at = end) {
            numbers[found] = strtoll(at, &end, 10);
            if (end == at)
                break;
        }
    }
    fclose(f);
    return found;
}

/* The quota of one group. "max" in a cpu.max and -1 in a cfs_quota_us mean no limit. */
static void look_at(void *ctx, const char *folder, int version) {
    quota *best = ctx;
    char path[PATH_BYTES + 32];
    long long n[2] = {0, 0}; /* quota, period */
    if (version == 2) {
        snprintf(path, sizeof path, "%s/cpu.max", folder);
        if (read_numbers(path, n, 2) == 2 && n[0] > 0 && n[1] > 0)
            offer(best, (double)n[0] / (double)n[1], path);
        return;
    }
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
    int periods = read_numbers(path, &n[1], 1);
    snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder);
    if (periods == 1 && read_numbers(path, &n[0], 1) == 1 && n[0] > 0 && n[1] > 0)
        offer(best, (double)n[0] / (double)n[1], path);
}

double wo_cpus_quota(const char *root, char *where, size_t bytes) {
    quota best = {.cpus = 0};
    wo_cgroup_visit(root, "cpu", look_at, &best);
    snprintf(where, bytes, "%s", best.where);
    return best.cpus;
}

int wo_cpus_allowed(const char *root, int affinity, char *reason, size_t bytes) {
    char where[PATH_BYTES];
    double cpus = wo_cpus_quota(root, where, sizeof where);
    affinity = affinity < 1 ? 1 : affinity;
    if (cpus > 0 && cpus < (double)affinity) {
        int whole = (int)cpus + ((double)(int)cpus < cpus ? 1 : 0);
        snprintf(reason, bytes, "%d: the cgroup quota %s allows %.2f of the %d CPUs in the affinity mask", whole, where,
                 cpus, affinity);
        return whole;
    }
    snprintf(reason, bytes, "%d: the CPUs in the affinity mask%s", affinity, cpus > 0 ? "; the cgroup quota allows more" : "");
    return affinity;
}

/* The kernel refuses a mask smaller than its own, so the set grows until it is taken. */
static int count_affinity(void) {
    for (int cpus = 1024; cpus <= MAX_CPUS; cpus *= 4) {
        cpu_set_t *set = CPU_ALLOC(cpus);
        size_t bytes = CPU_ALLOC_SIZE(cpus);
        if (set == NULL)
            return 1;
        int found = sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
        CPU_FREE(set);
        if (found > 0)
            return found;
    }
    return 1;
}

int wo_pool_default_threads(char *reason, size_t bytes) {
    return wo_cpus_allowed("", count_affinity(), reason, bytes);
}
