/* The ABI of the vendor's libraries as far as it is used: cuBLASLt 12 and 13 (they agree in all that is here), cuDNN 9's backend and NVRTC.
 * Types, constants and entry points are declared here, so that their headers are not needed to build; tests/cuda/vendor/test_abi.py
 * compares each of them with the real headers.
 */
#ifndef WO_DEVICE_CUDA_VENDOR_ABI_H
#define WO_DEVICE_CUDA_VENDOR_ABI_H

#include "device/cuda/driver.h"

#include <stddef.h>
#include <stdint.h>

/* ---- cuBLASLt ---- */

typedef int wo_lt_status; /* 0 = success */
typedef struct wo_lt_context *wo_lt_handle;
/* Descriptors are made and destroyed by the library: their sizes differ between versions. */
typedef struct wo_lt_matmul_desc *wo_lt_matmul;
typedef struct wo_lt_layout_desc *wo_lt_layout;
typedef struct wo_lt_preference_desc *wo_lt_preference;

typedef struct wo_lt_algo {
    uint64_t data[8];
} wo_lt_algo;

typedef struct wo_lt_heuristic {
    wo_lt_algo algo;
    size_t workspace_bytes;
    wo_lt_status state;
    float waves;
    int reserved[4];
} wo_lt_heuristic;

enum { /* cublasStatus_t */
    WO_LT_SUCCESS = 0,
    WO_LT_NOT_INITIALIZED = 1,
    WO_LT_ALLOC_FAILED = 3,
    WO_LT_INVALID_VALUE = 7,
    WO_LT_ARCH_MISMATCH = 8,
    WO_LT_EXECUTION_FAILED = 13,
    WO_LT_INTERNAL_ERROR = 14,
    WO_LT_NOT_SUPPORTED = 15
};

enum { WO_LT_R_32F = 0, WO_LT_R_16F = 2, WO_LT_R_16BF = 14 };                                          /* cudaDataType */
enum { WO_LT_COMPUTE_32F = 68, WO_LT_COMPUTE_32F_PEDANTIC = 69, WO_LT_COMPUTE_32F_FAST_TF32 = 77 };   /* cublasComputeType_t */
enum { WO_LT_OP_N = 0, WO_LT_OP_T = 1 };                                                               /* cublasOperation_t */
enum { WO_LT_EPILOGUE_DEFAULT = 1, WO_LT_EPILOGUE_BIAS = 4, WO_LT_EPILOGUE_GELU = 32, WO_LT_EPILOGUE_GELU_BIAS = 36 };
enum { WO_LT_REDUCTION_NONE = 0 };
enum { WO_LT_BATCH_INVARIANCE_DISABLED = 0 };

enum { /* cublasLtMatmulDescAttributes_t: each 4 bytes, a pointer for BIAS_POINTER */
    WO_LT_MATMUL_TRANSA = 3,
    WO_LT_MATMUL_TRANSB = 4,
    WO_LT_MATMUL_EPILOGUE = 7,
    WO_LT_MATMUL_BIAS_POINTER = 8,
    WO_LT_MATMUL_BIAS_DATA_TYPE = 26,
    WO_LT_MATMUL_BATCH_INVARIANCE = 41 /* from 13.10 on */
};

enum { /* cublasLtMatmulPreferenceAttributes_t: 8 bytes for MAX_WORKSPACE, else 4 */
    WO_LT_PREFERENCE_MAX_WORKSPACE = 1,
    WO_LT_PREFERENCE_REDUCTION_MASK = 3,
    WO_LT_PREFERENCE_ALIGNMENT_A = 5,
    WO_LT_PREFERENCE_ALIGNMENT_B = 6,
    WO_LT_PREFERENCE_ALIGNMENT_C = 7,
    WO_LT_PREFERENCE_ALIGNMENT_D = 8
};

enum { /* cublasLtMatmulAlgoConfigAttributes_t: each 4 bytes */
    WO_LT_ALGO_ID = 0,
    WO_LT_ALGO_TILE = 1,
    WO_LT_ALGO_SPLITK = 2,
    WO_LT_ALGO_REDUCTION = 3,
    WO_LT_ALGO_SWIZZLE = 4,
    WO_LT_ALGO_CUSTOM = 5,
    WO_LT_ALGO_STAGES = 6
};

/* X(name in the table, exported symbol, result, parameters) */
#define WO_LT_ENTRY_LIST(X)                                                                                                        \
    X(version, "cublasLtGetVersion", size_t, (void))                                                                               \
    X(status_name, "cublasLtGetStatusName", const char *, (wo_lt_status status))                                                   \
    X(create, "cublasLtCreate", wo_lt_status, (wo_lt_handle *out))                                                                 \
    X(destroy, "cublasLtDestroy", wo_lt_status, (wo_lt_handle handle))                                                             \
    X(matmul_create, "cublasLtMatmulDescCreate", wo_lt_status, (wo_lt_matmul *out, int compute_type, int scale_type))              \
    X(matmul_destroy, "cublasLtMatmulDescDestroy", wo_lt_status, (wo_lt_matmul desc))                                              \
    X(matmul_set, "cublasLtMatmulDescSetAttribute", wo_lt_status,                                                                  \
      (wo_lt_matmul desc, int attribute, const void *value, size_t bytes))                                                         \
    X(layout_create, "cublasLtMatrixLayoutCreate", wo_lt_status,                                                                   \
      (wo_lt_layout *out, int type, uint64_t rows, uint64_t columns, int64_t leading))                                             \
    X(layout_destroy, "cublasLtMatrixLayoutDestroy", wo_lt_status, (wo_lt_layout layout))                                          \
    X(preference_create, "cublasLtMatmulPreferenceCreate", wo_lt_status, (wo_lt_preference *out))                                  \
    X(preference_destroy, "cublasLtMatmulPreferenceDestroy", wo_lt_status, (wo_lt_preference preference))                          \
    X(preference_set, "cublasLtMatmulPreferenceSetAttribute", wo_lt_status,                                                        \
      (wo_lt_preference preference, int attribute, const void *value, size_t bytes))                                               \
    X(heuristic, "cublasLtMatmulAlgoGetHeuristic", wo_lt_status,                                                                   \
      (wo_lt_handle handle, wo_lt_matmul desc, wo_lt_layout a, wo_lt_layout b, wo_lt_layout c, wo_lt_layout d,                     \
       wo_lt_preference preference, int asked, wo_lt_heuristic *results, int *found))                                              \
    X(algo_check, "cublasLtMatmulAlgoCheck", wo_lt_status,                                                                         \
      (wo_lt_handle handle, wo_lt_matmul desc, wo_lt_layout a, wo_lt_layout b, wo_lt_layout c, wo_lt_layout d,                     \
       const wo_lt_algo *algo, wo_lt_heuristic *result))                                                                           \
    X(algo_get, "cublasLtMatmulAlgoConfigGetAttribute", wo_lt_status,                                                              \
      (const wo_lt_algo *algo, int attribute, void *value, size_t bytes, size_t *written))                                         \
    X(matmul, "cublasLtMatmul", wo_lt_status,                                                                                      \
      (wo_lt_handle handle, wo_lt_matmul desc, const void *alpha, const void *a, wo_lt_layout la, const void *b, wo_lt_layout lb,  \
       const void *beta, const void *c, wo_lt_layout lc, void *d, wo_lt_layout ld, const wo_lt_algo *algo, void *workspace,        \
       size_t workspace_bytes, wo_cu_stream stream))

typedef struct wo_lt_api {
#define WO_LT_ENTRY_FIELD(name, symbol, result, params) result(*name) params;
    WO_LT_ENTRY_LIST(WO_LT_ENTRY_FIELD)
#undef WO_LT_ENTRY_FIELD
} wo_lt_api;

/* ---- cuDNN ---- */

typedef int wo_dnn_status; /* 0 = success */
typedef struct wo_dnn_context *wo_dnn_handle;
typedef void *wo_dnn_desc;

enum { /* cudnnStatus_t: thousands are kinds */
    WO_DNN_SUCCESS = 0,
    WO_DNN_NOT_SUPPORTED = 3000,
    WO_DNN_INTERNAL_ERROR = 4000,
    WO_DNN_HOST_ALLOCATION_FAILED = 4003,
    WO_DNN_DEVICE_ALLOCATION_FAILED = 4004,
    WO_DNN_EXECUTION_FAILED = 5000
};

enum { WO_DNN_FLOAT = 0, WO_DNN_HALF = 2, WO_DNN_BFLOAT16 = 9 }; /* cudnnDataType_t */
enum { WO_DNN_CROSS_CORRELATION = 1 };
enum { WO_DNN_POINTWISE_ADD = 0 };
enum { WO_DNN_HEUR_FALLBACK = 2, WO_DNN_HEUR_A = 3 };

enum { /* cudnnBackendAttributeType_t */
    WO_DNN_TYPE_HANDLE = 0,
    WO_DNN_TYPE_DATA_TYPE = 1,
    WO_DNN_TYPE_BOOLEAN = 2,
    WO_DNN_TYPE_INT64 = 3,
    WO_DNN_TYPE_FLOAT = 4,
    WO_DNN_TYPE_VOID_PTR = 6,
    WO_DNN_TYPE_CONVOLUTION_MODE = 7,
    WO_DNN_TYPE_HEUR_MODE = 8,
    WO_DNN_TYPE_KNOB_TYPE = 9,
    WO_DNN_TYPE_NUMERICAL_NOTE = 11,
    WO_DNN_TYPE_POINTWISE_MODE = 14,
    WO_DNN_TYPE_DESCRIPTOR = 15,
    WO_DNN_TYPE_BEHAVIOR_NOTE = 19,
    WO_DNN_TYPE_INT32 = 23,
    WO_DNN_TYPE_CHAR = 24
};

enum { /* cudnnBackendDescriptorType_t */
    WO_DNN_POINTWISE = 0,
    WO_DNN_CONVOLUTION = 1,
    WO_DNN_ENGINE = 2,
    WO_DNN_ENGINECFG = 3,
    WO_DNN_ENGINEHEUR = 4,
    WO_DNN_EXECUTION_PLAN = 5,
    WO_DNN_KNOB_CHOICE = 7,
    WO_DNN_OPERATION_CONVOLUTION_FORWARD = 10,
    WO_DNN_OPERATION_POINTWISE = 13,
    WO_DNN_OPERATIONGRAPH = 15,
    WO_DNN_VARIANT_PACK = 16,
    WO_DNN_TENSOR = 17,
    WO_DNN_DEVICEPROP = 38,
    WO_DNN_OPERATION_SDPA_FWD = 41
};

enum { /* cudnnBackendAttributeName_t */
    WO_DNN_POINTWISE_MODE = 0,
    WO_DNN_POINTWISE_MATH_PREC = 1,
    WO_DNN_CONVOLUTION_COMP_TYPE = 100,
    WO_DNN_CONVOLUTION_CONV_MODE = 101,
    WO_DNN_CONVOLUTION_DILATIONS = 102,
    WO_DNN_CONVOLUTION_FILTER_STRIDES = 103,
    WO_DNN_CONVOLUTION_POST_PADDINGS = 104,
    WO_DNN_CONVOLUTION_PRE_PADDINGS = 105,
    WO_DNN_CONVOLUTION_SPATIAL_DIMS = 106,
    WO_DNN_ENGINEHEUR_MODE = 200,
    WO_DNN_ENGINEHEUR_OPERATION_GRAPH = 201,
    WO_DNN_ENGINEHEUR_RESULTS = 202,
    WO_DNN_ENGINEHEUR_DEVICEPROP = 204,
    WO_DNN_ENGINECFG_ENGINE = 300,
    WO_DNN_ENGINECFG_KNOB_CHOICES = 302,
    WO_DNN_EXECUTION_PLAN_HANDLE = 400,
    WO_DNN_EXECUTION_PLAN_ENGINE_CONFIG = 401,
    WO_DNN_EXECUTION_PLAN_WORKSPACE_SIZE = 402,
    WO_DNN_EXECUTION_PLAN_JSON = 405,
    WO_DNN_EXECUTION_PLAN_DEVICEPROP = 407,
    WO_DNN_KNOB_CHOICE_TYPE = 600,
    WO_DNN_KNOB_CHOICE_VALUE = 601,
    WO_DNN_CONVOLUTION_FORWARD_ALPHA = 700,
    WO_DNN_CONVOLUTION_FORWARD_BETA = 701,
    WO_DNN_CONVOLUTION_FORWARD_CONV_DESC = 702,
    WO_DNN_CONVOLUTION_FORWARD_W = 703,
    WO_DNN_CONVOLUTION_FORWARD_X = 704,
    WO_DNN_CONVOLUTION_FORWARD_Y = 705,
    WO_DNN_OPERATION_POINTWISE_PW = 750,
    WO_DNN_OPERATION_POINTWISE_X = 751,
    WO_DNN_OPERATION_POINTWISE_B = 752,
    WO_DNN_OPERATION_POINTWISE_Y = 753,
    WO_DNN_OPERATIONGRAPH_HANDLE = 800,
    WO_DNN_OPERATIONGRAPH_OPS = 801,
    WO_DNN_TENSOR_BYTE_ALIGNMENT = 900,
    WO_DNN_TENSOR_DATA_TYPE = 901,
    WO_DNN_TENSOR_DIMENSIONS = 902,
    WO_DNN_TENSOR_STRIDES = 903,
    WO_DNN_TENSOR_UNIQUE_ID = 906,
    WO_DNN_TENSOR_IS_VIRTUAL = 907,
    WO_DNN_TENSOR_IS_BY_VALUE = 908,
    WO_DNN_VARIANT_PACK_UNIQUE_IDS = 1000,
    WO_DNN_VARIANT_PACK_DATA_POINTERS = 1001,
    WO_DNN_VARIANT_PACK_WORKSPACE = 1003,
    WO_DNN_ENGINE_OPERATION_GRAPH = 1300,
    WO_DNN_ENGINE_GLOBAL_INDEX = 1301,
    WO_DNN_ENGINE_NUMERICAL_NOTE = 1303,
    WO_DNN_ENGINE_BEHAVIOR_NOTE = 1305,
    WO_DNN_ENGINE_DEVICEPROP = 1307,
    WO_DNN_DEVICEPROP_DEVICE_ID = 2700,
    WO_DNN_DEVICEPROP_HANDLE = 2701,
    WO_DNN_DEVICEPROP_JSON = 2702,
    WO_DNN_SDPA_FWD_Q = 2800,
    WO_DNN_SDPA_FWD_K = 2801,
    WO_DNN_SDPA_FWD_V = 2802,
    WO_DNN_SDPA_FWD_O = 2803,
    WO_DNN_SDPA_FWD_SCALE = 2805
};

enum { /* cudnnBackendNumericalNote_t */
    WO_DNN_NOTE_TENSOR_CORE = 0,
    WO_DNN_NOTE_DOWN_CONVERT_INPUTS = 1,
    WO_DNN_NOTE_REDUCED_PRECISION_REDUCTION = 2,
    WO_DNN_NOTE_FFT = 3,
    WO_DNN_NOTE_NONDETERMINISTIC = 4,
    WO_DNN_NOTE_WINOGRAD = 5,
    WO_DNN_NOTE_LAST_OF_WINOGRAD = 8
};

enum { WO_DNN_BEHAVIOR_RUNTIME_COMPILATION = 0 };

/* X(name in the table, exported symbol, result, parameters) */
#define WO_DNN_ENTRY_LIST(X)                                                                                                       \
    X(version, "cudnnGetVersion", size_t, (void))                                                                                  \
    X(status_name, "cudnnGetErrorString", const char *, (wo_dnn_status status))                                                    \
    X(last_error, "cudnnGetLastErrorString", void, (char *message, size_t bytes))                                                  \
    X(create, "cudnnCreate", wo_dnn_status, (wo_dnn_handle *out))                                                                  \
    X(destroy, "cudnnDestroy", wo_dnn_status, (wo_dnn_handle handle))                                                              \
    X(set_stream, "cudnnSetStream", wo_dnn_status, (wo_dnn_handle handle, wo_cu_stream stream))                                    \
    X(desc_create, "cudnnBackendCreateDescriptor", wo_dnn_status, (int type, wo_dnn_desc *out))                                    \
    X(desc_destroy, "cudnnBackendDestroyDescriptor", wo_dnn_status, (wo_dnn_desc desc))                                            \
    X(finalize, "cudnnBackendFinalize", wo_dnn_status, (wo_dnn_desc desc))                                                         \
    X(set, "cudnnBackendSetAttribute", wo_dnn_status,                                                                              \
      (wo_dnn_desc desc, int attribute, int type, int64_t count, const void *values))                                              \
    X(get, "cudnnBackendGetAttribute", wo_dnn_status,                                                                              \
      (wo_dnn_desc desc, int attribute, int type, int64_t asked, int64_t *count, void *values))                                    \
    X(execute, "cudnnBackendExecute", wo_dnn_status, (wo_dnn_handle handle, wo_dnn_desc plan, wo_dnn_desc pack))

typedef struct wo_dnn_api {
#define WO_DNN_ENTRY_FIELD(name, symbol, result, params) result(*name) params;
    WO_DNN_ENTRY_LIST(WO_DNN_ENTRY_FIELD)
#undef WO_DNN_ENTRY_FIELD
} wo_dnn_api;

/* ---- NVRTC: cuDNN calls it; here only its version is asked ---- */

#define WO_NVRTC_ENTRY_LIST(X) X(version, "nvrtcVersion", int, (int *major, int *minor))

typedef struct wo_nvrtc_api {
#define WO_NVRTC_ENTRY_FIELD(name, symbol, result, params) result(*name) params;
    WO_NVRTC_ENTRY_LIST(WO_NVRTC_ENTRY_FIELD)
#undef WO_NVRTC_ENTRY_FIELD
} wo_nvrtc_api;

#endif
