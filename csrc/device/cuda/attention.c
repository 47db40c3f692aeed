/* Attention: the choice between the vendor's library and own kernels, and the launch of those. Own kernels need no workspace. */
#include "device/cuda/internal.h"

#include <math.h>

#define OP "attention"
#define LOG2_E 1.4426950408889634

/* Who computes a call: a table by device and shape, never a race. Only the keys, the length of a head and the dtype decide, never the number
 * of queries or heads, so that queries may come in any portions.
 *
 *   float32            own: its products are float32 throughout, which the library does not promise
 *   relative bias      own: a text encoder's prompts are short and each has a length of its own, for which the library would compile a plan
 *   few keys           own: cross-attention is a hundredth of a step, and its keys change with the prompt
 *   many keys          the library where it is there and takes the head_dim: on sm_90 and sm_100 it has instructions that own kernels do
 *                      without, on sm_80, 86, 89 and 120 both are about equal
 */
static bool vendor_computes(const wo_device *d, const wo_attention_args *args) {
    enum { MANY_KEYS = 1024 };
    if (args->q.dtype == WO_F32 || args->relative.data != NULL || args->k.shape[0] < MANY_KEYS)
        return false;
    return wo_cudnn_takes_attention((const wo_cuda_device *)d, args);
}

size_t wo_cuda_attention_workspace(const wo_device *d, const wo_attention_args *args) {
    return vendor_computes(d, args) ? wo_cudnn_attention_workspace((const wo_cuda_device *)d, args) : 0;
}

/* How many steps from `exact` to the last bucket of a direction a distance of at least `exact` has; every operation rounds to float32, because
 * where a model's buckets begin hangs on that rounding. */
static float bucket_steps(int64_t distance, int32_t exact, int32_t half, int32_t max_distance) {
    float ratio = logf((float)distance / (float)exact) / (float)log((double)max_distance / (double)exact);
    return ratio * (float)(half - exact);
}

/* Buckets of distances: kernels compare with the least distance of each, so that no logarithm of a card's decides. */
static wo_status fill_buckets(wo_cuda_attention_args *a, const wo_attention_args *args, wo_error *err) {
    a->half = (int32_t)(args->relative.shape[0] / 2);
    a->exact = a->half / 2;
    a->border_count = a->half - a->exact - 1;
    if (args->relative.shape[0] > 4 * (WO_CUDA_ATTENTION_BORDERS + 1))
        WO_FAIL(err, WO_EUNSUPPORTED, OP ": a relative bias may have at most %d buckets on the cuda device, but has %lld; use the cpu device",
                4 * (WO_CUDA_ATTENTION_BORDERS + 1), (long long)args->relative.shape[0]);
    int64_t distance = a->exact;
    for (int32_t i = 0; i < a->border_count; i++) {
        int64_t end = args->max_distance; /* it has all steps, or all but a rounding of the last, of which there is no border */
        while (distance < end) {
            int64_t middle = distance + (end - distance) / 2;
            if (bucket_steps(middle, a->exact, a->half, args->max_distance) >= (float)(i + 1))
                end = middle;
            else
                distance = middle + 1;
        }
        a->borders[i] = (int32_t)distance;
    }
    return WO_OK;
}

static bool at_multiples_of_16(const wo_tensor *t, int64_t row_bytes) {
    return (uintptr_t)t->data % 16 == 0 && row_bytes % 16 == 0;
}

/* Tokens are counted in 32 bits; the rest of a launch's limits is checked where it is launched. */
static wo_status check_sizes(const wo_attention_args *args, wo_error *err) {
    const int64_t queries = args->q.shape[0], keys = args->k.shape[0];
    if (queries > INT32_MAX / 2 || keys > INT32_MAX / 2)
        WO_FAIL(err, WO_EUNSUPPORTED, OP ": at most %d queries and keys fit into one call on the cuda device, but there are %lld and %lld", INT32_MAX / 2,
                (long long)queries, (long long)keys);
    return WO_OK;
}

static wo_status fill_args(wo_cuda_attention_args *a, const wo_attention_args *args, wo_error *err) {
    const int64_t row_bytes = args->q.shape[2] * (int64_t)wo_dtype_size(args->q.dtype);
    *a = (wo_cuda_attention_args){.q = args->q.data, .k = args->k.data, .v = args->v.data, .o = args->o.data, .relative = args->relative.data};
    a->queries = (int32_t)args->q.shape[0];
    a->keys = (int32_t)args->k.shape[0];
    a->heads = (int32_t)args->q.shape[1];
    a->head_dim = (int32_t)args->q.shape[2];
    a->o_dtype = (int32_t)args->o.dtype;
    a->aligned = at_multiples_of_16(&args->q, row_bytes) && at_multiples_of_16(&args->k, row_bytes) && at_multiples_of_16(&args->v, row_bytes);
    a->factor = (float)((double)args->scale * LOG2_E);
    a->last_key_bias = (float)((double)args->last_key_bias * LOG2_E);
    a->last_biased = a->keys % WO_CUDA_ATTENTION_KEYS != 0 || args->last_key_bias != 0.0f;
    return args->relative.data != NULL ? fill_buckets(a, args, err) : WO_OK;
}

static wo_cuda_grid grid_of(const wo_cuda_attention_args *a, int32_t queries, int32_t columns) {
    return (wo_cuda_grid){(unsigned)((a->queries + queries - 1) / queries), (unsigned)a->heads, (unsigned)((a->head_dim + columns - 1) / columns)};
}

wo_status wo_cuda_attention(wo_stream *s, const wo_attention_args *args, wo_error *err) {
    wo_cuda_attention_args a;
    if (vendor_computes(s->device, args))
        return wo_cudnn_attention(s, args, err);
    WO_TRY(check_sizes(args, err));
    WO_TRY(fill_args(&a, args, err));
    if (args->q.dtype == WO_F32)
        return wo_cuda_launch(s, WO_CUDA_attention_f32, grid_of(&a, WO_CUDA_ATTENTION_F32_QUERIES, WO_CUDA_ATTENTION_COLUMNS),
                              WO_CUDA_ATTENTION_F32_THREADS, 0, &a, OP, err);
    const bool bf16 = args->q.dtype == WO_BF16;
    const wo_cuda_kernel of_64 = bf16 ? WO_CUDA_attention_bf16_64 : WO_CUDA_attention_f16_64;
    const wo_cuda_kernel of_128 = bf16 ? WO_CUDA_attention_bf16_128 : WO_CUDA_attention_f16_128;
    if (a.aligned && at_multiples_of_16(&args->o, 16) && (a.head_dim == 64 || a.head_dim == 128))
        return wo_cuda_launch(s, a.head_dim == 64 ? of_64 : of_128,
                              grid_of(&a, WO_CUDA_ATTENTION_TUNED_QUERIES, a.head_dim), WO_CUDA_ATTENTION_TUNED_THREADS,
                              (unsigned)WO_CUDA_ATTENTION_TUNED_SHARED(a.head_dim), &a, OP, err);
    return wo_cuda_launch(s, bf16 ? WO_CUDA_attention_bf16 : WO_CUDA_attention_f16, grid_of(&a, WO_CUDA_ATTENTION_HALF_QUERIES, WO_CUDA_ATTENTION_COLUMNS),
                          WO_CUDA_ATTENTION_HALF_THREADS, WO_CUDA_ATTENTION_HALF_SHARED, &a, OP, err);
}
