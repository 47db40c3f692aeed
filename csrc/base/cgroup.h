/* Finding the control groups that bound this process. The root is an argument so that a test can hand in a made-up tree. */
#ifndef WO_BASE_CGROUP_H
#define WO_BASE_CGROUP_H

/* Calls visit(ctx, folder, version) for the folder of the process's group and of every group above it, in each hierarchy
 * that has the controller ("memory", "cpu"): version 2 below <root>/sys/fs/cgroup, version 1 below
 * <root>/sys/fs/cgroup/<controller>. Folders need not exist, and one may come twice. */
void wo_cgroup_visit(const char *root, const char *controller,
                     void (*visit)(void *ctx, const char *folder, int version), void *ctx);

#endif
