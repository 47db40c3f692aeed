/* A libcuda.so.1 with which cuDNN makes plans where there is no driver: what it loads is accepted unseen, everything else is refused. It runs
 * nothing. */
#include <stddef.h>

enum { SUCCESS = 0, NOT_INITIALIZED = 3, NOT_SUPPORTED = 801, DRIVER = 13000 };

#define HIDDEN_PLACE ((void *)0x1000)

/* What making a plan calls: each takes what it is given and hands out something that is not NULL. */
#define LOADS(X)                                                                                                    \
    X(cuLibraryLoadData, (void **out, const void *code, void *a, void *b, unsigned c, void *d, void *e, unsigned f)) \
    X(cuLibraryGetKernel, (void **out, void *library, const char *name))                                            \
    X(cuKernelGetFunction, (void **out, void *kernel))                                                              \
    X(cuModuleLoadData, (void **out, const void *image))                                                            \
    X(cuModuleLoadDataEx, (void **out, const void *image, unsigned count, void *options, void **values))            \
    X(cuModuleGetFunction, (void **out, void *module, const char *name))

#define SETS(X) X(cuInit) X(cuLibraryUnload) X(cuModuleUnload) X(cuKernelSetAttribute) X(cuFuncSetAttribute)

/* Looked up when its engines are loaded; there must be such a symbol. */
#define REFUSED(X)                                                                                                                  \
    X(cuCtxGetCurrent) X(cuCtxGetLimit) X(cuCtxPopCurrent) X(cuCtxPushCurrent) X(cuDeviceGet) X(cuDeviceGetCount)                   \
    X(cuGetExportTable) X(cuGetProcAddress_v2) X(cuKernelGetAttribute) X(cuLaunchCooperativeKernel) X(cuLaunchKernel)              \
    X(cuLaunchKernelEx) X(cuLibraryLoadFromFile) X(cuLinkAddData) X(cuLinkComplete) X(cuLinkCreate) X(cuLinkDestroy)               \
    X(cuOccupancyMaxPotentialClusterSize) X(cuStreamGetCtx) X(cuTensorMapEncodeIm2col) X(cuTensorMapEncodeTiled)

#define EXPORT __attribute__((visibility("default")))
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wmissing-prototypes"

#define LOAD(name, params)        \
    EXPORT int name params {      \
        *out = HIDDEN_PLACE;      \
        return SUCCESS;           \
    }
LOADS(LOAD)

#define SET(name)                 \
    EXPORT int name(void) {       \
        return SUCCESS;           \
    }
SETS(SET)

#define REFUSE(name)              \
    EXPORT int name(void) {       \
        return NOT_SUPPORTED;     \
    }
REFUSED(REFUSE)

EXPORT int cuDriverGetVersion(int *version) {
    *version = DRIVER;
    return SUCCESS;
}

EXPORT int cuGetErrorName(int error, const char **text) {
    *text = "STUB";
    return SUCCESS;
}

EXPORT int cuGetErrorString(int error, const char **text) {
    *text = "a stub of the driver runs nothing";
    return SUCCESS;
}
