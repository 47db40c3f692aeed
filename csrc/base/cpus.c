/* The default number of threads. A container is usually limited by a CFS quota, not by an affinity mask: eight threads on a quota
 * of two CPUs run for a quarter of each period and then stand still together, so the quota counts as much as the mask.
 *
 * A process sees its group's path in /proc/self/cgroup. Inside a container without a cgroup namespace that path is the host's and
 * does not exist below the mount, which then is the group itself; so the mount's root is always looked at too. */
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
static void look_at(quota *best, const char *folder, int version) {
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

/* The group `path` below `mount`, and every group above it up to the mount. */
static void look_upwards(quota *best, const char *mount, const char *path, int version) {
    char folder[PATH_BYTES];
    int length = snprintf(folder, sizeof folder, "%s%s", mount, strcmp(path, "/") == 0 ? "" : path);
    if (length < 0 || (size_t)length >= sizeof folder || strstr(path, "..") != NULL) {
        look_at(best, mount, version);
        return;
    }
    for (;;) {
        look_at(best, folder, version);
        char *slash = strrchr(folder, '/');
        if (strlen(folder) <= strlen(mount) || slash == NULL)
            return;
        *slash = '\0';
    }
}

/* One line of /proc/self/cgroup is "id:controllers:path"; version 2 has no controllers named. */
static void look_at_line(quota *best, const char *root, char *line) {
    char *controllers = strchr(line, ':');
    char *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
    if (path == NULL)
        return;
    *path++ = '\0';
    controllers++;
    path[strcspn(path, "\n")] = '\0';
    char mount[PATH_BYTES];
    if (controllers[0] == '\0') {
        snprintf(mount, sizeof mount, "%s/sys/fs/cgroup", root);
        look_upwards(best, mount, path, 2);
        return;
    }
    bool has_cpu = false;
    for (char *rest = controllers, *name; (name = strsep(&rest, ",")) != NULL;)
        has_cpu = has_cpu || strcmp(name, "cpu") == 0;
    if (has_cpu) {
        snprintf(mount, sizeof mount, "%s/sys/fs/cgroup/cpu", root);
        look_upwards(best, mount, path, 1);
        snprintf(mount, sizeof mount, "%s/sys/fs/cgroup/cpu,cpuacct", root);
        look_upwards(best, mount, path, 1);
    }
}

double wo_cpus_quota(const char *root, char *where, size_t bytes) {
    quota best = {.cpus = 0};
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *f = fopen(path, "re");
    if (f != NULL) {
        char line[PATH_BYTES];
        while (fgets(line, sizeof line, f) != NULL)
            look_at_line(&best, root, line);
        fclose(f);
    }
    snprintf(where, bytes, "%s", best.where);
    return best.cpus;
}

int wo_cpus_allowed(const char *root, int affinity, char *reason, size_t bytes) {
    char where[PATH_BYTES];
    double cpus = wo_cpus_quota(root, where, sizeof where);
    affinity = affinity < 1 ? 1 : affinity;
    if (cpus > 0 && cpus < (double)affinity) {
        int whole = (int)cpus + ((double)(int)cpus < cpus ? 1 : 0);
        snprintf(reason, bytes, "%d: the cgroup quota %s allows %.2f of the %d CPUs in the affinity mask", whole, where, cpus, affinity);
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
