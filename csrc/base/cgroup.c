/* A process sees its group's path in /proc/self/cgroup. Inside a container without a cgroup namespace that path is the
 * host's and does not exist below the mount, which then is the group itself; so the walk always goes up to the mount's
 * root. */
#include "base/cgroup.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { PATH_BYTES = 4096 };

typedef struct visitor {
    void (*visit)(void *ctx, const char *folder, int version);
    void *ctx;
} visitor;

static void walk_upwards(const visitor *v, const char *mount, const char *path, int version) {
    char folder[PATH_BYTES];
    const int length = snprintf(folder, sizeof folder, "%s%s", mount, strcmp(path, "/") == 0 ? "" : path);
    if (length < 0 || (size_t)length >= sizeof folder || strstr(path, "..") != NULL) {
        v->visit(v->ctx, mount, version);
        return;
    }
    for (;;) {
        v->visit(v->ctx, folder, version);
        char *slash = strrchr(folder, '/');
        if (strlen(folder) <= strlen(mount) || slash == NULL)
            return;
        *slash = '\0';
    }
}

static bool names(const char *controllers, const char *wanted) {
    const size_t length = strlen(wanted);
    for (const char *at = controllers; at != NULL; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, wanted, length) == 0 && (at[length] == '\0' || at[length] == ','))
            return true;
    }
    return false;
}

/* One line is "id:controllers:path"; version 2 names no controllers. Version 1 is mounted under the controller's name or
 * under the names of all that share the hierarchy. */
static void visit_line(const visitor *v, const char *root, const char *controller, char *line) {
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
        walk_upwards(v, mount, path, 2);
    } else if (names(controllers, controller)) {
        snprintf(mount, sizeof mount, "%s/sys/fs/cgroup/%s", root, controller);
        walk_upwards(v, mount, path, 1);
        if (strcmp(controllers, controller) != 0) {
            snprintf(mount, sizeof mount, "%s/sys/fs/cgroup/%s", root, controllers);
            walk_upwards(v, mount, path, 1);
        }
    }
}

void wo_cgroup_visit(const char *root, const char *controller,
                     void (*visit)(void *ctx, const char *folder, int version), void *ctx) {
    const visitor v = {.visit = visit, .ctx = ctx};
    char text[PATH_BYTES];
    snprintf(text, sizeof text, "%s/proc/self/cgroup", root);
    FILE *f = fopen(text, "re");
    if (f == NULL)
        return;
    while (fgets(text, sizeof text, f) != NULL)
        visit_line(&v, root, controller, text);
    fclose(f);
}
