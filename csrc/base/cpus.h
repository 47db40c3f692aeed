/* How many CPUs a cgroup quota leaves. Private to base; the root is an argument so that a test can hand in a made-up
 * tree. */
#ifndef WO_BASE_CPUS_H
#define WO_BASE_CPUS_H

#include <stddef.h>

/* Reads <root>/proc/self/cgroup and the quotas below <root>/sys/fs/cgroup: cgroup v2 `cpu.max`, v1 `cpu.cfs_quota_us`,
 * of the process's group and all groups above it. Returns the smallest quota in CPUs, or 0 when there is none; where
 * receives the file that said so. */
double wo_cpus_quota(const char *root, char *where, size_t bytes);
/* min(affinity, quota rounded up), at least 1; reason receives one sentence. */
int wo_cpus_allowed(const char *root, int affinity, char *reason, size_t bytes);

#endif
