/* cuDNN's graph API as cudnn_attention.c and cudnn_conv.c use it: descriptors are collected in a builder, a problem becomes a plan once for the device,
 * and a plan runs on a stream.
 *
 * A plan is an engine with its knobs. The engine is ours to say, by card and operation; its knobs are what cuDNN's heuristic has for it, asked for at
 * one canonical shape. Both are then pinned, with the plan on disk. An engine is declined whose notes say that it is not deterministic or computes in
 * less than it was given, and one that wants more than WO_DNN_WORKSPACE bytes of workspace. No plan: own kernels.
 */
#ifndef WO_DEVICE_CUDA_CUDNN_H
#define WO_DEVICE_CUDA_CUDNN_H

#include "device/cuda/vendor.h"

/* ---- descriptors ---- */

enum { WO_DNN_DESCRIPTORS = 96, WO_DNN_KNOBS = 16, WO_DNN_DIMENSIONS = 5 };

/* The first failure sticks; after it every call does nothing, so that code reads straight. One thread. */
typedef struct wo_dnn_builder {
    const wo_dnn *dnn;
    wo_dnn_status status;
    char problem[256];
    int count;
    wo_dnn_desc descriptors[WO_DNN_DESCRIPTORS]; /* destroyed by fini, all of them */
} wo_dnn_builder;

void wo_dnn_builder_init(wo_dnn_builder *b, const wo_dnn *dnn);
void wo_dnn_builder_fini(wo_dnn_builder *b);
wo_dnn_desc wo_dnn_new(wo_dnn_builder *b, int type);
void wo_dnn_set(wo_dnn_builder *b, wo_dnn_desc desc, int attribute, int type, int64_t count, const void *values);
void wo_dnn_set_int(wo_dnn_builder *b, wo_dnn_desc desc, int attribute, int64_t value);
void wo_dnn_set_desc(wo_dnn_builder *b, wo_dnn_desc desc, int attribute, wo_dnn_desc value);
void wo_dnn_finish(wo_dnn_builder *b, wo_dnn_desc desc);

typedef struct wo_dnn_tensor {
    int64_t id; /* what a run's pointers are matched by */
    int type;   /* WO_DNN_FLOAT ... */
    int rank;
    int64_t dims[WO_DNN_DIMENSIONS], strides[WO_DNN_DIMENSIONS]; /* in elements */
    bool is_virtual;  /* never in memory */
    bool is_by_value; /* its pointer is to host memory, read when the run is enqueued */
} wo_dnn_tensor;

wo_dnn_desc wo_dnn_make_tensor(wo_dnn_builder *b, const wo_dnn_tensor *t);
/* An operation graph of these operations, for this device. */
wo_dnn_desc wo_dnn_make_graph(wo_dnn_builder *b, int count, const wo_dnn_desc *operations);

/* ---- plans ---- */

typedef struct wo_dnn_choice {
    int64_t engine;
    int knobs;
    int32_t types[WO_DNN_KNOBS]; /* cudnnBackendKnobType_t */
    int64_t values[WO_DNN_KNOBS];
} wo_dnn_choice;

/* "engine 9, knobs 40=3 41=2" */
void wo_dnn_choice_describe(const wo_dnn_choice *c, char *text, size_t bytes);
bool wo_dnn_choice_read(const char *text, wo_dnn_choice *c);

typedef struct wo_dnn_problem {
    char name[128]; /* operation, dtypes and shape: what tells problems apart */
    int64_t engine;
    wo_dnn_desc (*graph)(wo_dnn_builder *b, const void *shape);
    const void *shape, *canonical; /* canonical: of the shape at which knobs are asked for */
} wo_dnn_problem;

typedef struct wo_dnn_plan wo_dnn_plan;

/* The plan for the problem, made when it is first asked for (up to some seconds, for cuDNN compiles it; milliseconds from disk). NULL: there is none.
 * Any thread. The plan lives as long as dnn. */
const wo_dnn_plan *wo_dnn_find(wo_dnn *dnn, const wo_dnn_problem *problem);
/* What was chosen, as text, and bytes of workspace; and what the last find that came back with NULL failed at. */
const char *wo_dnn_plan_choice(const wo_dnn_plan *plan);
int64_t wo_dnn_plan_workspace(const wo_dnn_plan *plan);
const char *wo_dnn_problem_text(const wo_dnn *dnn);

/* Every call that cuDNN takes has as much; on sm_90 attention wants 256. */
enum { WO_DNN_WORKSPACE = 1 << 16, WO_DNN_POINTERS = 8 };

typedef struct wo_dnn_run {
    const char *op; /* for messages */
    const wo_dnn_plan *plan;
    int count;
    int64_t ids[WO_DNN_POINTERS];
    void *pointers[WO_DNN_POINTERS]; /* device memory at multiples of 16 bytes, or host memory for tensors by value */
    void *workspace;                 /* WO_DNN_WORKSPACE bytes */
} wo_dnn_run;

wo_status wo_dnn_enqueue(wo_stream *s, const wo_dnn_run *run, wo_error *err);

/* ---- the library of one device ---- */

/* *out is NULL where there is no cuDNN. Nothing is started before the first plan. */
void wo_dnn_open(wo_cuda_device *d, wo_dnn **out);
/* For tests: plans can be made for a card that is not there, of which json is cuDNN's description. disk: they are kept, as those of a card are. */
wo_status wo_dnn_open_without_card(int sm, const char *json, bool disk, wo_dnn **out, wo_error *err);
void wo_dnn_close(wo_dnn *dnn);

/* ---- cudnn_attention.c, cudnn_conv.c: the problems, from shapes alone; false where the call is not for cuDNN on such a card ---- */

typedef struct wo_dnn_attention_shape {
    wo_dtype dtype; /* of q, k, v and o: BF16 or F16 */
    int64_t queries, keys, heads, head_dim;
} wo_dnn_attention_shape;

typedef struct wo_dnn_conv_shape {
    wo_dtype dtype; /* of frames and w: BF16 or F16 */
    int64_t frames, height, width, channels, out_channels, kt, kh, kw; /* frames: of the input */
} wo_dnn_conv_shape;

/* BF16's and F16's number in cuDNN, and what they are called in a problem's name. */
static inline int wo_dnn_type_of(wo_dtype dtype) {
    return dtype == WO_BF16 ? WO_DNN_BFLOAT16 : WO_DNN_HALF;
}
static inline const char *wo_dnn_name_of(wo_dtype dtype) {
    return dtype == WO_BF16 ? "bf16" : "f16";
}

/* problem->shape and ->canonical point to shapes[0] and shapes[1], which are filled. */
bool wo_dnn_attention_problem(int sm, const wo_attention_args *args, wo_dnn_problem *problem, wo_dnn_attention_shape shapes[2]);
bool wo_dnn_conv_problem(int sm, const wo_conv_args *args, wo_dnn_problem *problem, wo_dnn_conv_shape *shape);

#endif
