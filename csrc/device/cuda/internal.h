/* What the files of the cuda device share. Nothing above device/ includes this; tests may.
 *
 *   driver.c      the table of libcuda's entry points        stream.c   streams         event.c  tickets
 *   device.c      opening and closing                        host.c     host calls      times.c  stamps
 *   errors.c      the sticky error, lost contexts            images.c   the fatbins of kernels/, made by the build
 *   memory.c      of the card, and pinned                    launch.c   loading and launching kernels
 *   properties.c  the cards that are known by name           planning.c a device whose card is not there
 *   libraries.c   finding cuBLASLt, cuDNN and NVRTC           X.c        one file per operation, or per kind of them
 */
#ifndef WO_DEVICE_CUDA_INTERNAL_H
#define WO_DEVICE_CUDA_INTERNAL_H

#include "device/cuda/cuda.h"
#include "device/cuda/driver.h"
#include "device/cuda/kernels/list.h"

#include <pthread.h>
#include <stdatomic.h>

/* Every kernel of kernels/list.h by number: WO_CUDA_layer_norm. */
typedef enum wo_cuda_kernel {
#define WO_CUDA_KERNEL_ENUM(module, entry) WO_CUDA_##entry,
    WO_CUDA_KERNEL_LIST(WO_CUDA_KERNEL_ENUM)
#undef WO_CUDA_KERNEL_ENUM
        WO_CUDA_KERNELS
} wo_cuda_kernel;

typedef struct wo_cuda_vendor wo_cuda_vendor; /* libraries.c: cuBLASLt and cuDNN of one device, each possibly absent */

typedef struct wo_cuda_device {
    wo_device head;
    char text[32]; /* head.name points here: "cuda", "cuda:1", "cuda:rtx4090" */
    wo_cuda_properties properties;
    bool planning_only;
    const wo_cuda_driver *driver; /* NULL when planning_only */
    wo_cu_device ordinal;
    wo_cu_context context;        /* the primary one */
    wo_cu_module modules[WO_CUDA_MODULES];
    wo_cu_function kernels[WO_CUDA_KERNELS];
    wo_cuda_vendor *vendor;       /* NULL: own kernels only */
    _Atomic(wo_cancel *) cancel;
    atomic_int failed;            /* the code of `error`, readable without the lock */
    atomic_bool lost;             /* the context is: nothing may be asked of the driver any more, and every ticket counts as reached */
    atomic_int holders;           /* whoever opened it, and its streams */
    atomic_uint chaos_turn;       /* counts calls of chaos */
    pthread_mutex_t lock;         /* guards everything below */
    wo_error error;               /* the sticky one; meaningful while failed is not WO_OK */
    struct wo_cuda_block *blocks; /* device memory that is out */
    struct wo_cuda_host_block *condemned; /* host memory that stays until the context has gone */
    uint64_t chaos_seed;
    double chaos_delay;
} wo_cuda_device;

typedef struct wo_cuda_grid {
    unsigned x, y, z;
} wo_cuda_grid;

static inline wo_cuda_device *wo_cuda_of(const wo_stream *s) {
    return (wo_cuda_device *)s->device;
}

/* What enqueues something of its own on the raw stream (a vendor's library) does so between these two, as wo_cuda_launch does: begin makes the context
 * current, keeps the host from running too far ahead and takes the stream for the calling thread; end gives it back. *skip: an error sticks or the call is
 * cancelled; then nothing is to be enqueued, and nothing to be ended. The same after a failure. `op` is for messages. */
wo_status wo_cuda_begin(wo_stream *s, const char *op, bool *skip, wo_error *err);
void wo_cuda_end(wo_stream *s);

/* Enqueues one launch; args points to the kernel's one parameter, a struct of kernels/args.h, which is copied. `op` names it in messages. Skipped
 * when an error sticks or the call is cancelled. y and z of the grid may not exceed 65535. */
wo_status wo_cuda_launch(wo_stream *s, wo_cuda_kernel kernel, wo_cuda_grid grid, unsigned threads, unsigned shared_bytes, const void *args,
                         const char *op, wo_error *err);
/* True when work is to be skipped: an error sticks, or cancelling was asked for. */
bool wo_cuda_interrupted(wo_cuda_device *d);
/* A driver's failure becomes the device's sticky error, with the op's name; returns its status with *err (may be NULL) filled. Any thread. */
wo_status wo_cuda_fail(wo_cuda_device *d, wo_cu_result result, const char *op, wo_error *err);
/* Tests: the process forgets which contexts it lost. */
void wo_cuda_forget_lost_cards(void);
/* The raw stream, for the vendor's libraries. */
wo_cu_stream wo_cuda_raw_stream(wo_stream *s);
/* Makes the context current on the calling thread. */
wo_status wo_cuda_enter(wo_cuda_device *d, wo_error *err);

/* One function per operation, and its workspace where it has one. Each is in the file of its kind: norms.c (layer_norm, rms_norm, l2_norm),
 * layouts.c (patchify, unpatchify, channels_last, embedding, rope_table, sinusoid), elementwise.c (add, unary; convert, fill), linear.c,
 * attention.c, conv.c. */
#define WO_CUDA_OP(op) wo_status wo_cuda_##op(wo_stream *s, const wo_##op##_args *args, wo_error *err);
WO_OP_LIST(WO_CUDA_OP)
#undef WO_CUDA_OP
size_t wo_cuda_linear_workspace(const wo_device *d, const wo_linear_args *args);
size_t wo_cuda_attention_workspace(const wo_device *d, const wo_attention_args *args);
size_t wo_cuda_conv_workspace(const wo_device *d, const wo_conv_args *args);
/* elementwise.c: src may be pinned host memory or device memory, at any alignment. */
wo_status wo_cuda_convert(wo_stream *s, const wo_conversion *c, void *dst, const void *src, int64_t count, wo_error *err);

/* libraries.c, cublaslt.c, cudnn.c: the vendor's way of an op. takes: whether this device, build and call have one; it depends on shapes, dtypes
 * and properties only, so that a plan made without the card asks for the same workspace. */
wo_status wo_cuda_vendor_open(wo_cuda_device *d, wo_cuda_vendor **out, wo_error *err); /* missing libraries are no error: *out NULL or in part */
void wo_cuda_vendor_close(wo_cuda_vendor *v);
bool wo_cublaslt_takes(const wo_cuda_device *d, const wo_linear_args *args);
size_t wo_cublaslt_workspace(const wo_cuda_device *d, const wo_linear_args *args);
wo_status wo_cublaslt_linear(wo_stream *s, const wo_linear_args *args, wo_error *err);
bool wo_cudnn_takes_attention(const wo_cuda_device *d, const wo_attention_args *args);
size_t wo_cudnn_attention_workspace(const wo_cuda_device *d, const wo_attention_args *args);
wo_status wo_cudnn_attention(wo_stream *s, const wo_attention_args *args, wo_error *err);
bool wo_cudnn_takes_conv(const wo_cuda_device *d, const wo_conv_args *args);
size_t wo_cudnn_conv_workspace(const wo_cuda_device *d, const wo_conv_args *args);
wo_status wo_cudnn_conv(wo_stream *s, const wo_conv_args *args, wo_error *err);

#endif
