/* The driver API as far as it is used: types and constants declared here (they are a stable ABI), entry points in one table that dlopen
 * fills. No header or library of CUDA is needed to build this; tests/cuda/vendor/test_abi.py compares it with the real header. */
#ifndef WO_DEVICE_CUDA_DRIVER_H
#define WO_DEVICE_CUDA_DRIVER_H

#include "base/status.h"

#include <stddef.h>

typedef int wo_cu_result; /* 0 = success */
typedef int wo_cu_device;
typedef unsigned long long wo_cu_ptr;
typedef struct CUctx_st *wo_cu_context;
typedef struct CUmod_st *wo_cu_module;
typedef struct CUfunc_st *wo_cu_function;
typedef struct CUstream_st *wo_cu_stream;
typedef struct CUevent_st *wo_cu_event;

enum {
    WO_CU_SUCCESS = 0,
    WO_CU_INVALID_VALUE = 1,
    WO_CU_OUT_OF_MEMORY = 2,
    WO_CU_NOT_INITIALIZED = 3,
    WO_CU_DEINITIALIZED = 4,
    WO_CU_DEVICE_UNAVAILABLE = 46,
    WO_CU_NO_DEVICE = 100,
    WO_CU_INVALID_DEVICE = 101,
    WO_CU_INVALID_IMAGE = 200,
    WO_CU_INVALID_CONTEXT = 201,
    WO_CU_NO_BINARY_FOR_GPU = 209,
    WO_CU_INVALID_PTX = 218,
    WO_CU_NVLINK_UNCORRECTABLE = 220,
    WO_CU_ECC_UNCORRECTABLE = 214,
    WO_CU_UNSUPPORTED_PTX_VERSION = 222,
    WO_CU_NOT_FOUND = 500,
    WO_CU_NOT_READY = 600,
    WO_CU_ILLEGAL_ADDRESS = 700,
    WO_CU_LAUNCH_OUT_OF_RESOURCES = 701,
    WO_CU_LAUNCH_TIMEOUT = 702,
    WO_CU_CONTEXT_IS_DESTROYED = 709,
    WO_CU_ASSERT = 710,
    WO_CU_HOST_MEMORY_ALREADY_REGISTERED = 712,
    WO_CU_HARDWARE_STACK_ERROR = 714,
    WO_CU_ILLEGAL_INSTRUCTION = 715,
    WO_CU_MISALIGNED_ADDRESS = 716,
    WO_CU_INVALID_ADDRESS_SPACE = 717,
    WO_CU_INVALID_PC = 718,
    WO_CU_LAUNCH_FAILED = 719,
    WO_CU_SYSTEM_DRIVER_MISMATCH = 803,
    WO_CU_UNKNOWN = 999
};

enum { /* CUdevice_attribute */
    WO_CU_ATTRIBUTE_CLOCK_RATE = 13, /* kHz */
    WO_CU_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16,
    WO_CU_ATTRIBUTE_L2_CACHE_SIZE = 38,
    WO_CU_ATTRIBUTE_ASYNC_ENGINE_COUNT = 40,
    WO_CU_ATTRIBUTE_UNIFIED_ADDRESSING = 41,
    WO_CU_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75,
    WO_CU_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76,
    WO_CU_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM = 91,
    WO_CU_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = 97
};

enum {
    WO_CU_STREAM_NON_BLOCKING = 1,
    WO_CU_EVENT_BLOCKING_SYNC = 1,
    WO_CU_EVENT_DISABLE_TIMING = 2,
    WO_CU_MEMHOSTALLOC_PORTABLE = 1,
    WO_CU_MEMHOSTALLOC_DEVICEMAP = 2,
    WO_CU_MEMHOSTREGISTER_PORTABLE = 1,
    WO_CU_MEMHOSTREGISTER_DEVICEMAP = 2,
    WO_CU_FUNC_SHARED_SIZE_BYTES = 1,
    WO_CU_FUNC_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8
};

/* X(name in the table, exported symbol, parameters) */
#define WO_CU_ENTRY_LIST(X)                                                                                                        \
    X(init, "cuInit", (unsigned flags))                                                                                            \
    X(driver_version, "cuDriverGetVersion", (int *version))                                                                        \
    X(error_name, "cuGetErrorName", (wo_cu_result r, const char **text))                                                           \
    X(error_string, "cuGetErrorString", (wo_cu_result r, const char **text))                                                       \
    X(device_count, "cuDeviceGetCount", (int *count))                                                                              \
    X(device_get, "cuDeviceGet", (wo_cu_device *device, int ordinal))                                                              \
    X(device_name, "cuDeviceGetName", (char *name, int bytes, wo_cu_device device))                                                \
    X(device_memory, "cuDeviceTotalMem_v2", (size_t *bytes, wo_cu_device device))                                                  \
    X(device_attribute, "cuDeviceGetAttribute", (int *value, int attribute, wo_cu_device device))                                  \
    X(context_retain, "cuDevicePrimaryCtxRetain", (wo_cu_context *context, wo_cu_device device))                                   \
    X(context_release, "cuDevicePrimaryCtxRelease_v2", (wo_cu_device device))                                                      \
    X(context_set_current, "cuCtxSetCurrent", (wo_cu_context context))                                                             \
    X(memory_info, "cuMemGetInfo_v2", (size_t *free_bytes, size_t *total_bytes))                                                   \
    X(memory_alloc, "cuMemAlloc_v2", (wo_cu_ptr *out, size_t bytes))                                                               \
    X(memory_free, "cuMemFree_v2", (wo_cu_ptr p))                                                                                  \
    X(host_alloc, "cuMemHostAlloc", (void **out, size_t bytes, unsigned flags))                                                    \
    X(host_free, "cuMemFreeHost", (void *p))                                                                                       \
    X(host_register, "cuMemHostRegister_v2", (void *p, size_t bytes, unsigned flags))                                              \
    X(host_unregister, "cuMemHostUnregister", (void *p))                                                                           \
    X(copy_async, "cuMemcpyAsync", (wo_cu_ptr dst, wo_cu_ptr src, size_t bytes, wo_cu_stream stream))                              \
    X(fill_async, "cuMemsetD8Async", (wo_cu_ptr dst, unsigned char value, size_t bytes, wo_cu_stream stream))                      \
    X(stream_create, "cuStreamCreate", (wo_cu_stream *out, unsigned flags))                                                        \
    X(stream_create_with_priority, "cuStreamCreateWithPriority", (wo_cu_stream *out, unsigned flags, int priority))                \
    X(stream_priorities, "cuCtxGetStreamPriorityRange", (int *least, int *greatest)) /* greatest <= least */                       \
    X(stream_destroy, "cuStreamDestroy_v2", (wo_cu_stream stream))                                                                 \
    X(stream_synchronize, "cuStreamSynchronize", (wo_cu_stream stream))                                                            \
    X(stream_wait_event, "cuStreamWaitEvent", (wo_cu_stream stream, wo_cu_event event, unsigned flags))                            \
    X(event_create, "cuEventCreate", (wo_cu_event *out, unsigned flags))                                                           \
    X(event_destroy, "cuEventDestroy_v2", (wo_cu_event event))                                                                     \
    X(event_record, "cuEventRecord", (wo_cu_event event, wo_cu_stream stream))                                                     \
    X(event_query, "cuEventQuery", (wo_cu_event event))                                                                            \
    X(event_synchronize, "cuEventSynchronize", (wo_cu_event event))                                                                \
    X(launch_host_func, "cuLaunchHostFunc", (wo_cu_stream stream, void (*fn)(void *ctx), void *ctx))                               \
    X(module_load_data, "cuModuleLoadData", (wo_cu_module *out, const void *image))                                                \
    X(module_unload, "cuModuleUnload", (wo_cu_module module))                                                                      \
    X(module_function, "cuModuleGetFunction", (wo_cu_function *out, wo_cu_module module, const char *name))                        \
    X(function_get_attribute, "cuFuncGetAttribute", (int *value, int attribute, wo_cu_function function))                          \
    X(function_set_attribute, "cuFuncSetAttribute", (wo_cu_function function, int attribute, int value))                           \
    X(launch, "cuLaunchKernel",                                                                                                    \
      (wo_cu_function f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared_bytes,      \
       wo_cu_stream stream, void **params, void **extra))

typedef struct wo_cuda_driver {
#define WO_CU_ENTRY_FIELD(name, symbol, params) wo_cu_result(*name) params;
    WO_CU_ENTRY_LIST(WO_CU_ENTRY_FIELD)
#undef WO_CU_ENTRY_FIELD
    int version; /* 13000 = 13.0 */
} wo_cuda_driver;

enum { WO_CU_OLDEST_DRIVER = 12000 };

/* Loads libcuda.so.1 once for the process; any thread. WO_EDEVICE with what to do: no driver, a driver older than WO_CU_OLDEST_DRIVER, no card. What
 * failed is tried again at the next call. */
wo_status wo_cuda_driver_get(const wo_cuda_driver **out, wo_error *err);
/* Fills *err with "doing: CUDA_ERROR_NAME (number), the driver's text. What to do." and returns its code, WO_ENOMEMORY or WO_EDEVICE. */
wo_status wo_cuda_driver_error(const wo_cuda_driver *driver, wo_cu_result result, const char *doing, wo_error *err);

#endif
