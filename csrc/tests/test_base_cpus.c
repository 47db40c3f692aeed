/* The default number of threads, from made-up trees of control groups. */
#include "base/cpus.h"
#include "base/pool.h"
#include "tests/check.h"

#include <limits.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[64];

/* Writes text to root/path, making folders on the way. */
static void put(const char *path, const char *text) {
    char full[PATH_MAX];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *slash = full + strlen(root); (slash = strchr(slash + 1, '/')) != NULL;) {
        *slash = '\0';
        mkdir(full, 0700);
        *slash = '/';
    }
    FILE *f = fopen(full, "w");
    CHECK(f != NULL && fputs(text, f) >= 0 && fclose(f) == 0);
}

static void begin(void) {
    strcpy(root, "/tmp/wo-test-cpus-XXXXXX");
    CHECK(mkdtemp(root) != NULL);
}

static void end(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", root);
    CHECK(system(command) == 0);
}

static int allowed(int affinity, const char *part) {
    char reason[600] = "";
    int threads = wo_cpus_allowed(root, affinity, reason, sizeof reason);
    CHECK_CONTAINS(reason, part);
    return threads;
}

static void without_a_quota_the_affinity_mask_decides(void) {
    begin();
    CHECK(allowed(6, "affinity mask") == 6 && allowed(0, "affinity mask") == 1);
    put("/proc/self/cgroup", "0::/a/b\n");
    put("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    CHECK(allowed(6, "affinity mask") == 6);
    put("/sys/fs/cgroup/a/b/cpu.max", "garbage\n");
    CHECK(allowed(6, "affinity mask") == 6);
    put("/sys/fs/cgroup/a/b/cpu.max", "-1 0\n");
    CHECK(allowed(6, "affinity mask") == 6);
    end();
}

static void the_smallest_quota_on_the_way_up_counts_rounded_up(void) {
    begin();
    put("/proc/self/cgroup", "0::/a/b/c\n");
    put("/sys/fs/cgroup/a/b/c/cpu.max", "800000 100000\n");
    CHECK(allowed(16, "8.00") == 8);
    put("/sys/fs/cgroup/a/cpu.max", "250000 100000\n");
    CHECK(allowed(16, "/sys/fs/cgroup/a/cpu.max") == 3 && allowed(16, "2.50") == 3);
    CHECK(allowed(2, "affinity mask; the cgroup quota allows more") == 2);
    put("/sys/fs/cgroup/a/b/cpu.max", "1000 100000\n");
    CHECK(allowed(16, "0.01") == 1);
    end();
}

/* Without a cgroup namespace the path is the host's, and the mount itself is the container's group. */
static void the_mount_itself_is_looked_at_when_the_path_is_the_hosts(void) {
    begin();
    put("/proc/self/cgroup", "0::/docker/0123456789\n");
    put("/sys/fs/cgroup/cpu.max", "200000 100000\n");
    CHECK(allowed(16, "/sys/fs/cgroup/cpu.max") == 2);
    end();
}

static void version_1_quotas_count(void) {
    begin();
    put("/proc/self/cgroup", "5:memory:/x\n4:cpu,cpuacct:/jobs/7\n3:cpuset:/\n");
    put("/sys/fs/cgroup/cpu/jobs/7/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu/jobs/7/cpu.cfs_period_us", "50000\n");
    CHECK(allowed(16, "affinity mask") == 16);
    put("/sys/fs/cgroup/cpu/jobs/7/cpu.cfs_quota_us", "220000\n");
    CHECK(allowed(16, "cpu.cfs_quota_us") == 5);
    put("/sys/fs/cgroup/cpuset/cpu.max", "1 100000\n");
    CHECK(allowed(16, "cpu.cfs_quota_us") == 5);
    end();
}

static void hostile_cgroup_lines_do_no_harm(void) {
    begin();
    char line[3 * PATH_MAX] = "0::/";
    memset(line + 4, 'x', 2 * PATH_MAX);
    put("/proc/self/cgroup", line);
    put("/sys/fs/cgroup/cpu.max", "300000 100000\n");
    CHECK(allowed(16, "") >= 1);
    put("/proc/self/cgroup", "\n:\n::\nno colons\n0::\n0::/../../..\n");
    put("/cpu.max", "100000 100000\n");
    CHECK(allowed(16, "") == 3);
    end();
}

static void the_real_default_is_within_the_affinity_mask(void) {
    char reason[600] = "", small[8];
    cpu_set_t set;
    CHECK(sched_getaffinity(0, sizeof set, &set) == 0);
    int threads = wo_pool_default_threads(reason, sizeof reason);
    CHECK(threads >= 1 && threads <= CPU_COUNT(&set) && reason[0] != '\0');
    CHECK(wo_pool_default_threads(small, sizeof small) == threads && strlen(small) < sizeof small);
    CPU_ZERO(&set);
    CHECK(sched_getaffinity(0, sizeof set, &set) == 0);
    for (int i = 0, kept = 0; i < CPU_SETSIZE; i++) {
        if (CPU_ISSET(i, &set) && kept++ > 0)
            CPU_CLR(i, &set);
    }
    CHECK(sched_setaffinity(0, sizeof set, &set) == 0);
    CHECK(wo_pool_default_threads(reason, sizeof reason) == 1);
}

int main(void) {
    without_a_quota_the_affinity_mask_decides();
    the_smallest_quota_on_the_way_up_counts_rounded_up();
    the_mount_itself_is_looked_at_when_the_path_is_the_hosts();
    version_1_quotas_count();
    hostile_cgroup_lines_do_no_harm();
    the_real_default_is_within_the_affinity_mask();
    return 0;
}
