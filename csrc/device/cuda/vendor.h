/* What the files about the vendor's libraries share.
 *
 *   libraries.c    finding and loading them             cudnn.c            descriptors, the choice of an engine, plans
 *   environment.c  variables that change their results  cudnn_attention.c  SDPA
 *   cublaslt.c     linear                               cudnn_conv.c       convolution
 *   plan_cache.c   plans on disk
 */
#ifndef WO_DEVICE_CUDA_VENDOR_H
#define WO_DEVICE_CUDA_VENDOR_H

#include "device/cuda/internal.h"
#include "device/cuda/vendor_abi.h"

/* ---- libraries.c ---- */

enum { WO_CUDA_OLDEST_CUDNN = 91500 }; /* 9.15.0: from 9.8 on, 3-d convolutions in bfloat16 gave wrong results */

/* Once for the process. A has_ is true when the library was found, is whole and is new enough; its table is then complete. */
typedef struct wo_cuda_libraries {
    bool has_lt, has_dnn, has_nvrtc;
    wo_lt_api lt;
    wo_dnn_api dnn;
    wo_nvrtc_api nvrtc;
    size_t dnn_version; /* 92801 = 9.28.1 */
    int nvrtc_version;  /* 1305 = 13.5, 0: none */
} wo_cuda_libraries;

/* Loads what is not loaded yet. Any thread; the struct does not change under one who has read a has_ as true. */
const wo_cuda_libraries *wo_cuda_libraries_get(void);
/* Keeps why a library that is there could not be used, for describe. library: "cublaslt" or "cudnn". */
void wo_cuda_note_problem(const char *library, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same for one shape that it has nothing for, while it is used for others. */
void wo_cuda_note_decline(const char *library, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Lines "key: value" on cuBLASLt, cuDNN and NVRTC: path and version, or what is missing and the command that mends it. */
void wo_cuda_vendor_describe(char *text, size_t bytes);

typedef struct wo_lt wo_lt;
typedef struct wo_dnn wo_dnn;

struct wo_cuda_vendor {
    wo_lt *lt;   /* NULL: none that works */
    wo_dnn *dnn;
};

/* The device's, or NULL. */
wo_lt *wo_cuda_lt_of(const wo_cuda_device *d);
wo_dnn *wo_cuda_dnn_of(const wo_cuda_device *d);
/* A device that is planned for has no libraries; plans suppose that they will be there, unless own kernels were asked for. */
bool wo_cuda_vendor_is_supposed(const wo_cuda_device *d);

/* A library's failure while enqueuing: becomes the device's sticky error. Returns its status, with *err filled. */
wo_status wo_cuda_vendor_fail(wo_cuda_device *d, wo_status code, const char *op, const char *library, const char *what, wo_error *err);

/* ---- environment.c ---- */

/* WO_EVALUE with the name of a variable that changes what the libraries compute, and what to do. */
wo_status wo_cuda_check_environment(wo_error *err);
/* Appends a line for each variable of theirs that is set. */
size_t wo_cuda_describe_environment(char *text, size_t bytes);

/* ---- cublaslt.c ---- */

/* *out is NULL when the library does not work on this card (then a problem is noted). The context is current. */
void wo_lt_open(wo_cuda_device *d, wo_lt **out);
void wo_lt_close(wo_lt *lt);

/* ---- plan_cache.c ---- */

/* A plan at rest: which library, card and problem it is for, what was chosen, and cuDNN's own text of it. */
typedef struct wo_plan_record {
    char key[320], choice[160];
    int64_t workspace;
    char *text; /* malloc'ed; ends with a NUL */
    size_t bytes;
} wo_plan_record;

/* The folder of plans, without a '/' at its end; "" where there is no home. */
void wo_plan_cache_folder(char *path, size_t bytes);
/* True when there is a whole record for key. What is corrupt, or belongs to another user, counts as absent. */
bool wo_plan_cache_load(const char *key, wo_plan_record *out);
/* Failing to write is not an error: the next process makes the plan again. */
void wo_plan_cache_store(const wo_plan_record *record);

#endif
