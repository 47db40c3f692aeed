/* Variables by which a user, or a container's image, changes what the vendor's libraries compute. The results of a film may not hang on them
 * unseen: those that change numbers are refused, the others are shown. */
#include "device/cuda/vendor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

/* Beginnings of names. What only logs, caches or says where the libraries lie is harmless. */
static const char *const changes_numbers[] = {
    "NVIDIA_TF32_OVERRIDE=",  "CUBLAS_EMULATE_", "CUBLAS_EMULATION_",          "CUBLAS_FIXEDPOINT_EMULATION_",
    "CUBLAS_BATCH_INVARIANCE", "CUBLAS_ENABLE_",  "CUBLASLT_HEURISTICS_LUT_FILE", "CUDNN_FORT_",
};
static const char *const theirs[] = {"NVIDIA_TF32_OVERRIDE=", "CUBLAS_", "CUBLASLT_", "CUDNN_"};

static bool begins(const char *entry, const char *const *names, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (strncmp(entry, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

/* Off is what is asked of the libraries anyway. */
static bool refused(const char *entry) {
    if (strcmp(entry, "NVIDIA_TF32_OVERRIDE=0") == 0)
        return false;
    return begins(entry, changes_numbers, sizeof changes_numbers / sizeof changes_numbers[0]);
}

wo_status wo_cuda_check_environment(wo_error *err) {
    for (char **e = environ; e != NULL && *e != NULL; e++)
        if (refused(*e))
            WO_FAIL(err, WO_EVALUE, "the environment has %.120s, which changes what NVIDIA's libraries compute. Unset %.*s and start again", *e,
                    (int)strcspn(*e, "="), *e);
    return WO_OK;
}

size_t wo_cuda_describe_environment(char *text, size_t bytes) {
    size_t used = 0;
    for (char **e = environ; e != NULL && *e != NULL; e++) {
        if (!begins(*e, theirs, sizeof theirs / sizeof theirs[0]))
            continue;
        int n = snprintf(text + used, bytes - used, "environment: %.200s%s\n", *e, refused(*e) ? " (refused: it changes results; unset it)" : "");
        if (n < 0 || (size_t)n >= bytes - used)
            break;
        used += (size_t)n;
    }
    if (used < bytes)
        text[used] = '\0';
    return used;
}
