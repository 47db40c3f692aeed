/* Finding cuBLASLt, cuDNN and NVRTC. They are found at run time and may be missing: own kernels do all that they do, slower on some cards.
 *
 * What the process has loaded already (torch's, say) is used, because a second copy of cuDNN would mix its parts with those of the first. Else the
 * folders that were set are searched, in order, and then the loader's own places. NVRTC and cuBLASLt come before cuDNN, which looks for
 * both by name when it needs them. Of cuDNN the part with its graph API is loaded; it finds its engines beside it. (libcudnn.so.9 itself only passes
 * calls on, and ends the process when a part is missing.)
 */
#include "device/cuda/cudnn.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INSTALL "pip install 'wanoffload[cuda13]'"

enum { NVRTC, CUBLASLT, CUDNN, LIBRARIES, SONAMES = 2, MAX_PATH = 1024 };

typedef struct library {
    const char *key, *sonames[SONAMES], *without; /* without: what happens where it is missing */
    void *handle;
    char path[MAX_PATH], version[32], problem[256], declined[256]; /* why it is not used; what it was not used for last */
} library;

static library libraries[LIBRARIES] = {
    [NVRTC] = {"nvrtc", {"libnvrtc.so.13", "libnvrtc.so.12"}, "cuDNN cannot compile attention"},
    [CUBLASLT] = {"cublaslt", {"libcublasLt.so.13", "libcublasLt.so.12"}, "own kernels multiply matrices"},
    [CUDNN] = {"cudnn", {"libcudnn_graph.so.9", NULL}, "own kernels compute attention"},
};
static wo_cuda_libraries tables;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *folders; /* separated by ':', or NULL */
static atomic_bool own_only;

void wo_cuda_set_library_folders(const char *text) {
    pthread_mutex_lock(&lock);
    free(folders);
    folders = text != NULL ? strdup(text) : NULL;
    pthread_mutex_unlock(&lock);
}

void wo_cuda_set_own_kernels_only(bool only) {
    atomic_store(&own_only, only);
}

static bool try_path(library *l, const char *path, int flags) {
    l->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | flags);
    if (l->handle == NULL && strchr(path, '/') != NULL)
        snprintf(l->problem, sizeof l->problem, "%s", dlerror());
    return l->handle != NULL;
}

static bool try_sonames(library *l, int flags) {
    for (int i = 0; i < SONAMES && l->sonames[i] != NULL; i++)
        if (try_path(l, l->sonames[i], flags))
            return true;
    return false;
}

static bool try_folder(library *l, const char *folder, int length) {
    char path[MAX_PATH];
    for (int i = 0; i < SONAMES && l->sonames[i] != NULL; i++) {
        int n = snprintf(path, sizeof path, "%.*s/%s", length, folder, l->sonames[i]);
        FILE *f = n > 0 && (size_t)n < sizeof path ? fopen(path, "rb") : NULL;
        if (f == NULL)
            continue;
        fclose(f);
        if (try_path(l, path, 0))
            return true;
    }
    return false;
}

/* Beside the libcudnn.so.9 that the process has loaded without its parts. */
static bool try_beside_the_loaded(library *l) {
    Dl_info info;
    void *other = l == &libraries[CUDNN] ? dlopen("libcudnn.so.9", RTLD_NOW | RTLD_NOLOAD) : NULL;
    void *entry = other != NULL ? dlsym(other, "cudnnGetVersion") : NULL;
    if (entry == NULL || dladdr(entry, &info) == 0 || info.dli_fname == NULL || strrchr(info.dli_fname, '/') == NULL)
        return false;
    return try_folder(l, info.dli_fname, (int)(strrchr(info.dli_fname, '/') - info.dli_fname));
}

static bool find(library *l) {
    l->problem[0] = '\0';
    if (try_sonames(l, RTLD_NOLOAD) || try_beside_the_loaded(l))
        return true;
    for (const char *at = folders; at != NULL && *at != '\0';) {
        size_t length = strcspn(at, ":");
        if (length > 0 && try_folder(l, at, (int)length))
            return true;
        at += length + (at[length] == ':');
    }
    return try_sonames(l, 0);
}

/* POSIX lets dlsym's result be stored through a pointer to the field. */
static bool fill(library *l, const char *symbol, void *field, size_t bytes) {
    void *entry = dlsym(l->handle, symbol);
    memcpy(field, &entry, bytes);
    if (entry == NULL)
        snprintf(l->problem, sizeof l->problem, "it has no %s", symbol);
    return entry != NULL;
}

#define FILL(name, symbol, result, params) whole = fill(l, symbol, &api->name, sizeof api->name) && whole;

static bool fill_lt(library *l, wo_lt_api *api) {
    bool whole = true;
    WO_LT_ENTRY_LIST(FILL)
    if (whole)
        snprintf(l->version, sizeof l->version, "%zu.%zu.%zu", api->version() / 10000, api->version() / 100 % 100, api->version() % 100);
    return whole;
}

/* NVRTC looks for this part of it by name, and before 13.1 not beside itself. What is loaded already is found by name. */
static void load_builtins(const library *l) {
    const char *slash = strrchr(l->path, '/');
    char path[MAX_PATH + 64];
    if (slash == NULL)
        return;
    snprintf(path, sizeof path, "%.*s/libnvrtc-builtins.so.%s", (int)(slash - l->path), l->path, l->version);
    (void)dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

static bool fill_nvrtc(library *l, wo_nvrtc_api *api) {
    bool whole = true;
    int major = 0, minor = 0;
    WO_NVRTC_ENTRY_LIST(FILL)
    if (!whole || api->version(&major, &minor) != 0)
        return false;
    snprintf(l->version, sizeof l->version, "%d.%d", major, minor);
    tables.nvrtc_version = major * 100 + minor;
    load_builtins(l);
    return true;
}

static bool fill_dnn(library *l, wo_dnn_api *api) {
    bool whole = true;
    WO_DNN_ENTRY_LIST(FILL)
    if (!whole)
        return false;
    tables.dnn_version = api->version();
    snprintf(l->version, sizeof l->version, "%zu.%zu.%zu", tables.dnn_version / 10000, tables.dnn_version / 100 % 100, tables.dnn_version % 100);
    if (tables.dnn_version < WO_CUDA_OLDEST_CUDNN)
        snprintf(l->problem, sizeof l->problem, "it is too old: 9.%d is needed at least, because convolutions of earlier ones can be wrong",
                 WO_CUDA_OLDEST_CUDNN / 100 % 100);
    return tables.dnn_version >= WO_CUDA_OLDEST_CUDNN;
}
#undef FILL

static void locate(library *l, const void *entry) {
    Dl_info info;
    if (dladdr(entry, &info) != 0 && info.dli_fname != NULL)
        snprintf(l->path, sizeof l->path, "%s", info.dli_fname);
}

/* What was found is looked at once. What cannot be used stays loaded: unloading what a process may be using otherwise gains nothing. */
static void load(library *l, bool *has, bool (*take)(library *), const char *symbol) {
    if (l->handle != NULL || !find(l))
        return;
    void *entry = dlsym(l->handle, symbol);
    if (entry != NULL)
        locate(l, entry);
    *has = take(l);
}

static bool take_nvrtc(library *l) {
    return fill_nvrtc(l, &tables.nvrtc);
}

static bool take_lt(library *l) {
    return fill_lt(l, &tables.lt);
}

static bool take_dnn(library *l) {
    return fill_dnn(l, &tables.dnn);
}

const wo_cuda_libraries *wo_cuda_libraries_get(void) {
    pthread_mutex_lock(&lock);
    load(&libraries[NVRTC], &tables.has_nvrtc, take_nvrtc, "nvrtcVersion");
    load(&libraries[CUBLASLT], &tables.has_lt, take_lt, "cublasLtGetVersion");
    load(&libraries[CUDNN], &tables.has_dnn, take_dnn, "cudnnGetVersion");
    pthread_mutex_unlock(&lock);
    return &tables;
}

static void note(const char *key, bool declined, const char *format, va_list arguments) {
    pthread_mutex_lock(&lock);
    for (int i = 0; i < LIBRARIES; i++)
        if (strcmp(libraries[i].key, key) == 0)
            vsnprintf(declined ? libraries[i].declined : libraries[i].problem, sizeof libraries[i].problem, format, arguments);
    pthread_mutex_unlock(&lock);
}

void wo_cuda_note_problem(const char *key, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    note(key, false, format, arguments);
    va_end(arguments);
}

void wo_cuda_note_decline(const char *key, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    note(key, true, format, arguments);
    va_end(arguments);
}

static int describe_library(const library *l, char *text, size_t bytes) {
    if (l->handle == NULL)
        return snprintf(text, bytes, "%s: not found, so %s%s%s. Mend with: " INSTALL "\n", l->key, l->without, l->problem[0] != '\0' ? "; " : "",
                        l->problem);
    return snprintf(text, bytes, "%s: %s (%s)%s%s%s%s%s\n", l->key, l->version[0] != '\0' ? l->version : "unknown version", l->path,
                    l->problem[0] != '\0' ? ", not used: " : "", l->problem, l->problem[0] != '\0' ? ". Mend with: " INSTALL : "",
                    l->declined[0] != '\0' ? "; own kernels do what it does not: " : "", l->declined);
}

void wo_cuda_vendor_describe(char *text, size_t bytes) {
    char folder[MAX_PATH];
    size_t used = 0;
    if (bytes == 0)
        return;
    text[0] = '\0';
    wo_cuda_libraries_get();
    pthread_mutex_lock(&lock);
    for (int i = CUBLASLT; used < bytes && i < CUBLASLT + LIBRARIES; i++) {
        int n = describe_library(&libraries[i % LIBRARIES], text + used, bytes - used);
        used += n > 0 ? (size_t)n : 0;
    }
    pthread_mutex_unlock(&lock);
    wo_plan_cache_folder(folder, sizeof folder);
    if (used < bytes && tables.has_dnn) {
        int n = snprintf(text + used, bytes - used, "cudnn plans: %s\n", folder[0] != '\0' ? folder : "not kept, there is no home folder");
        used += n > 0 ? (size_t)n : 0;
    }
    if (used < bytes)
        wo_cuda_describe_environment(text + used, bytes - used);
}

/* ---- the libraries of one device ---- */

wo_status wo_cuda_vendor_open(wo_cuda_device *d, wo_cuda_vendor **out, wo_error *err) {
    *out = NULL;
    if (atomic_load(&own_only) || d->planning_only)
        return WO_OK;
    const wo_cuda_libraries *l = wo_cuda_libraries_get();
    if (!l->has_lt && !l->has_dnn)
        return WO_OK;
    WO_TRY(wo_cuda_check_environment(err));
    wo_cuda_vendor *v = calloc(1, sizeof *v);
    if (v == NULL)
        WO_FAIL(err, WO_ENOMEMORY, "no memory for the libraries of %s", d->text);
    wo_lt_open(d, &v->lt);
    wo_dnn_open(d, &v->dnn);
    *out = v;
    return WO_OK;
}

void wo_cuda_vendor_close(wo_cuda_vendor *v) {
    if (v == NULL)
        return;
    wo_lt_close(v->lt);
    wo_dnn_close(v->dnn);
    free(v);
}

wo_lt *wo_cuda_lt_of(const wo_cuda_device *d) {
    return d->vendor != NULL ? d->vendor->lt : NULL;
}

wo_dnn *wo_cuda_dnn_of(const wo_cuda_device *d) {
    return d->vendor != NULL ? d->vendor->dnn : NULL;
}

bool wo_cuda_vendor_is_supposed(const wo_cuda_device *d) {
    return d->planning_only && !atomic_load(&own_only);
}

wo_status wo_cuda_vendor_fail(wo_cuda_device *d, wo_status code, const char *op, const char *name, const char *what, wo_error *err) {
    wo_error own;
    if (err == NULL)
        err = &own;
    wo_error_set(err, code, "%s (%.50s), %s: %s failed: %.300s", d->text, d->properties.name, op, name, what);
    d->head.stream->post_error(&d->head, err);
    return code;
}
