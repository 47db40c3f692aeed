/* Linear by cuBLASLt. y[M, N] = x[M, K] w[N, K]^T in its column-major terms is D[N, M] = op_T(A[K, N]) B[K, M] with A = w, B = x.
 *
 * One algorithm for each (N, K, dtypes, epilogue) of a card, whatever M is: it is asked for once, at a fixed M, a fixed size of workspace and a fixed
 * alignment, and pinned. Sums over K are never split between blocks, so a row's bits do not hang on how many rows a call has, and chunks of
 * rows and weights that are streamed keep them.
 *
 *   in the product's own epilogue   none, bias, ADD (as beta = 1), GELU_TANH into bfloat16, whose rounding hides its fast tanh
 *   product, then own elementwise   SILU, GELU_ERF, GELU_TANH into float32 or float16, MUL, GATE
 *
 * Of the second kind a WAN block has two, the gated residuals: M 32,760, N = K = 5,120 (and K 13,824). The product is 1.7 TFLOP, 11 ms of an RTX 4090
 * and 2.5 ms of an H200, and the detour writes and reads 4 bytes of each element, 1.3 GB: 1.3 ms and 0.3 ms if all went to memory. It is made in
 * portions of 32 MiB that stay in the second-level cache of cards that have one of that size, so the plan pays 32 MiB and not 671 MB. An own kernel
 * that fuses everything would have to come within a tenth of cuBLASLt's rate to be as good; on sm_90 and later it cannot, for lack of their
 * matrix instructions. So the library takes these, too. In float16 a block has a third, the first product of the feed-forward (N 13,824): its fast
 * tanh is further off than float16 rounds. 3.6 GB by the same reckoning, 3.6 ms beside a product of 28 ms on an RTX 4090.
 *
 * With y in bfloat16 or float16 the library wants the bias in that dtype: it is rounded, as diffusers' is. float32 is by FMA (pedantic), and
 * by TF32 where that was asked for.
 */
#include "device/cuda/grid.h"
#include "device/cuda/vendor.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define OP "linear"

enum {
    PORTION_BYTES = 32 << 20,
    PORTION_ROWS = 256,       /* portions are whole multiples, but the last */
    CANONICAL_ROWS = 8192,
    ALIGNMENT = 16,           /* of all pointers and rows; tensors begin at multiples of 256 bytes, rows of them at what N and K give */
    CANDIDATES = 16
};

/* What a choice is for. */
typedef struct shape {
    int64_t n, k;
    wo_dtype operand, result;
    int compute;  /* of WO_LT_COMPUTE_ */
    int epilogue; /* of WO_LT_EPILOGUE_ */
    bool adds;    /* beta = 1 */
} shape;

typedef struct choice {
    struct choice *next;
    shape shape;
    bool usable;
    wo_lt_algo algo;
} choice;

struct wo_lt {
    const wo_lt_api *api;
    wo_cuda_device *device;
    wo_lt_handle handle;
    pthread_mutex_t lock; /* guards choices; a choice does not change once it is there */
    choice *choices;
};

static atomic_bool tf32;

void wo_cuda_allow_tf32(bool allow) {
    atomic_store(&tf32, allow);
}

bool wo_cuda_allows_tf32(void) {
    return atomic_load(&tf32);
}

/* ---- what is taken, from shapes and the card alone ---- */

/* Of workspace for the library, the same for all calls on a card, because it is an input to the choice. Kernels of sm_90 and sm_100 want more. */
static size_t library_bytes(const wo_cuda_device *d) {
    return (size_t)(d->properties.sm / 10 == 9 || d->properties.sm / 10 == 10 ? 32 : 8) << 20;
}

static size_t round_up(size_t bytes) {
    return (bytes + 255) / 256 * 256;
}

static bool fused(const wo_linear_args *a) {
    return a->epilogue == WO_EPILOGUE_NONE || a->epilogue == WO_EPILOGUE_ADD ||
           (a->epilogue == WO_EPILOGUE_GELU_TANH && a->y.dtype == WO_BF16);
}

/* An activation alone, which own unary applies: in place where y is float32. */
static bool activates(const wo_linear_args *a) {
    return a->epilogue == WO_EPILOGUE_SILU || a->epilogue == WO_EPILOGUE_GELU_TANH || a->epilogue == WO_EPILOGUE_GELU_ERF;
}

static bool detours(const wo_linear_args *a) {
    return !fused(a) && !(activates(a) && a->y.dtype == WO_F32);
}

static shape shape_of(const wo_linear_args *a) {
    const bool biased = a->bias.data != NULL;
    shape s;
    memset(&s, 0, sizeof s); /* shapes are compared as bytes */
    s.n = a->w.shape[0];
    s.k = a->w.shape[1];
    s.operand = a->x.dtype;
    s.compute = a->x.dtype != WO_F32 ? WO_LT_COMPUTE_32F : atomic_load(&tf32) ? WO_LT_COMPUTE_32F_FAST_TF32 : WO_LT_COMPUTE_32F_PEDANTIC;
    s.result = detours(a) ? WO_F32 : a->y.dtype;
    s.adds = a->epilogue == WO_EPILOGUE_ADD;
    s.epilogue = biased ? WO_LT_EPILOGUE_BIAS : WO_LT_EPILOGUE_DEFAULT;
    if (fused(a) && a->epilogue == WO_EPILOGUE_GELU_TANH)
        s.epilogue = biased ? WO_LT_EPILOGUE_GELU_BIAS : WO_LT_EPILOGUE_GELU;
    return s;
}

static bool suits(const wo_linear_args *a) {
    const int64_t operand = (int64_t)wo_dtype_size(a->x.dtype), result = (int64_t)wo_dtype_size(a->y.dtype);
    if (a->form != WO_FORM_TILE || a->x.dtype != a->w.dtype || (a->y.dtype != WO_F32 && a->y.dtype != a->x.dtype))
        return false;
    return a->w.shape[1] * operand % ALIGNMENT == 0 && a->w.shape[0] * result % ALIGNMENT == 0;
}

static int64_t portion_rows(const wo_linear_args *a) {
    int64_t rows = PORTION_BYTES / (a->w.shape[0] * (int64_t)sizeof(float)) / PORTION_ROWS * PORTION_ROWS;
    rows = rows > 0 ? rows : PORTION_ROWS;
    return rows < a->x.shape[0] ? rows : a->x.shape[0];
}

/* For the rounded bias. Taken whether there is one or not, because a plan is made before there are addresses. */
static size_t bias_bytes(const wo_linear_args *a) {
    return shape_of(a).result != WO_F32 ? round_up((size_t)a->w.shape[0] * 2) : 0;
}

size_t wo_cublaslt_workspace(const wo_cuda_device *d, const wo_linear_args *args) {
    const size_t product = detours(args) ? round_up((size_t)(portion_rows(args) * args->w.shape[0]) * sizeof(float)) : 0;
    return library_bytes(d) + bias_bytes(args) + product;
}

/* ---- descriptors of one product ---- */

typedef struct product {
    wo_lt_matmul op;
    wo_lt_layout w, x, y;
} product;

static int type_of(wo_dtype dtype) {
    return dtype == WO_BF16 ? WO_LT_R_16BF : dtype == WO_F16 ? WO_LT_R_16F : WO_LT_R_32F;
}

static void product_fini(const wo_lt *lt, product *p) {
    if (p->op != NULL)
        lt->api->matmul_destroy(p->op);
    if (p->w != NULL)
        lt->api->layout_destroy(p->w);
    if (p->x != NULL)
        lt->api->layout_destroy(p->x);
    if (p->y != NULL)
        lt->api->layout_destroy(p->y);
}

#define LT_TRY(call)                    \
    do {                                \
        wo_lt_status lt_try_ = (call);  \
        if (lt_try_ != WO_LT_SUCCESS)   \
            return lt_try_;             \
    } while (0)

static wo_lt_status set_four(const wo_lt *lt, wo_lt_matmul op, int attribute, int32_t value) {
    return lt->api->matmul_set(op, attribute, &value, sizeof value);
}

/* *p is zero; what was made is destroyed by product_fini after a failure, too. bias: in the result's dtype. */
static wo_lt_status product_init(const wo_lt *lt, const shape *s, int64_t rows, const void *bias, product *p) {
    const int operand = type_of(s->operand), result = type_of(s->result);
    LT_TRY(lt->api->matmul_create(&p->op, s->compute, WO_LT_R_32F));
    LT_TRY(set_four(lt, p->op, WO_LT_MATMUL_TRANSA, WO_LT_OP_T));
    LT_TRY(set_four(lt, p->op, WO_LT_MATMUL_TRANSB, WO_LT_OP_N));
    LT_TRY(set_four(lt, p->op, WO_LT_MATMUL_EPILOGUE, s->epilogue));
    if ((s->epilogue & WO_LT_EPILOGUE_BIAS) != 0) {
        LT_TRY(lt->api->matmul_set(p->op, WO_LT_MATMUL_BIAS_POINTER, &bias, sizeof bias));
        LT_TRY(set_four(lt, p->op, WO_LT_MATMUL_BIAS_DATA_TYPE, result));
    }
    /* Invariance is had by pinning. Said explicitly, it overrides the environment; versions that do not know it refuse, and need not be told. */
    set_four(lt, p->op, WO_LT_MATMUL_BATCH_INVARIANCE, WO_LT_BATCH_INVARIANCE_DISABLED);
    LT_TRY(lt->api->layout_create(&p->w, operand, (uint64_t)s->k, (uint64_t)s->n, s->k));
    LT_TRY(lt->api->layout_create(&p->x, operand, (uint64_t)s->k, (uint64_t)rows, s->k));
    return lt->api->layout_create(&p->y, result, (uint64_t)s->n, (uint64_t)rows, s->n);
}

/* ---- the choice of an algorithm ---- */

/* A bias to choose an algorithm for: an address that nothing reads, because a choice for none might not be one for any. */
static const void *const some_bias = (const void *)256;

/* Whole sums over K by one block, and fit for any number of rows. */
static bool may_be_pinned(const wo_lt *lt, const shape *s, const wo_lt_heuristic *found) {
    static const int64_t rows[] = {1, 8, 300, 4096, 100000};
    const size_t most = library_bytes(lt->device);
    int32_t splits = 0;
    uint32_t reduction = 0;
    size_t written = 0;
    if (found->state != WO_LT_SUCCESS || found->workspace_bytes > most)
        return false;
    if (lt->api->algo_get(&found->algo, WO_LT_ALGO_SPLITK, &splits, sizeof splits, &written) != WO_LT_SUCCESS || splits > 1)
        return false;
    if (lt->api->algo_get(&found->algo, WO_LT_ALGO_REDUCTION, &reduction, sizeof reduction, &written) != WO_LT_SUCCESS ||
        reduction != WO_LT_REDUCTION_NONE)
        return false;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        product p = {0};
        wo_lt_heuristic checked;
        wo_lt_status status = product_init(lt, s, rows[i], some_bias, &p);
        if (status == WO_LT_SUCCESS)
            status = lt->api->algo_check(lt->handle, p.op, p.w, p.x, p.y, p.y, &found->algo, &checked);
        product_fini(lt, &p);
        if (status != WO_LT_SUCCESS || checked.workspace_bytes > most)
            return false;
    }
    return true;
}

static wo_lt_status prefer(const wo_lt *lt, wo_lt_preference *out) {
    static const int alignments[] = {WO_LT_PREFERENCE_ALIGNMENT_A, WO_LT_PREFERENCE_ALIGNMENT_B, WO_LT_PREFERENCE_ALIGNMENT_C,
                                     WO_LT_PREFERENCE_ALIGNMENT_D};
    const uint64_t bytes = library_bytes(lt->device);
    const uint32_t reduction = WO_LT_REDUCTION_NONE, alignment = ALIGNMENT;
    LT_TRY(lt->api->preference_create(out));
    LT_TRY(lt->api->preference_set(*out, WO_LT_PREFERENCE_MAX_WORKSPACE, &bytes, sizeof bytes));
    LT_TRY(lt->api->preference_set(*out, WO_LT_PREFERENCE_REDUCTION_MASK, &reduction, sizeof reduction));
    for (size_t i = 0; i < sizeof alignments / sizeof alignments[0]; i++)
        LT_TRY(lt->api->preference_set(*out, alignments[i], &alignment, sizeof alignment));
    return WO_LT_SUCCESS;
}

static wo_lt_status choose(const wo_lt *lt, choice *c) {
    wo_lt_heuristic found[CANDIDATES];
    wo_lt_preference preference = NULL;
    product p = {0};
    int count = 0;
    wo_lt_status status = prefer(lt, &preference);
    if (status == WO_LT_SUCCESS)
        status = product_init(lt, &c->shape, CANONICAL_ROWS, some_bias, &p);
    if (status == WO_LT_SUCCESS)
        status = lt->api->heuristic(lt->handle, p.op, p.w, p.x, p.y, p.y, preference, CANDIDATES, found, &count);
    for (int i = 0; status == WO_LT_SUCCESS && i < count && !c->usable; i++) {
        c->usable = may_be_pinned(lt, &c->shape, &found[i]);
        c->algo = found[i].algo;
    }
    product_fini(lt, &p);
    if (preference != NULL)
        lt->api->preference_destroy(preference);
    return status;
}

/* The pinned choice for the shape, made when it is first asked for; NULL when the library has none. */
static const choice *find_choice(wo_lt *lt, const shape *s) {
    pthread_mutex_lock(&lt->lock);
    choice *c = lt->choices;
    while (c != NULL && memcmp(&c->shape, s, sizeof *s) != 0)
        c = c->next;
    if (c == NULL && wo_cuda_enter(lt->device, NULL) == WO_OK && (c = calloc(1, sizeof *c)) != NULL) {
        c->shape = *s;
        wo_lt_status status = choose(lt, c);
        c->next = lt->choices;
        lt->choices = c;
        if (!c->usable)
            wo_cuda_note_decline("cublaslt", "it has no algorithm for N %lld, K %lld, %s to %s (%s)", (long long)s->n,
                                 (long long)s->k, wo_dtype_name(s->operand), wo_dtype_name(s->result), lt->api->status_name(status));
    }
    pthread_mutex_unlock(&lt->lock);
    return c != NULL && c->usable ? c : NULL;
}

bool wo_cublaslt_takes(const wo_cuda_device *d, const wo_linear_args *args) {
    wo_lt *lt = wo_cuda_lt_of(d);
    if (!suits(args) || (lt == NULL && !wo_cuda_vendor_is_supposed(d)))
        return false;
    const shape s = shape_of(args);
    return lt == NULL || find_choice(lt, &s) != NULL;
}

/* ---- running ---- */

/* One product: rows of x into y, and for ADD what is added. */
typedef struct rows_call {
    int64_t rows;
    const void *x, *other;
    void *y;
} rows_call;

static wo_lt_status enqueue(wo_stream *s, const wo_linear_args *a, const choice *c, const void *bias, const rows_call *r) {
    const wo_lt *lt = wo_cuda_lt_of(wo_cuda_of(s));
    const float one = 1.0f, zero = 0.0f;
    product p = {0};
    wo_lt_status status = product_init(lt, &c->shape, r->rows, bias, &p);
    if (status == WO_LT_SUCCESS)
        status = lt->api->matmul(lt->handle, p.op, &one, a->w.data, p.w, r->x, p.x, c->shape.adds ? &one : &zero, c->shape.adds ? r->other : r->y,
                                 p.y, r->y, p.y, &c->algo, a->workspace.data, library_bytes(lt->device), wo_cuda_raw_stream(s));
    product_fini(lt, &p);
    return status;
}

static wo_status multiply(wo_stream *s, const wo_linear_args *a, const choice *c, const void *bias, const rows_call *r, wo_error *err) {
    wo_cuda_device *d = wo_cuda_of(s);
    bool skip;
    WO_TRY(wo_cuda_begin(s, OP, &skip, err));
    if (skip)
        return WO_OK;
    const wo_lt_status status = enqueue(s, a, c, bias, r);
    wo_cuda_end(s);
    if (status == WO_LT_SUCCESS)
        return WO_OK;
    return wo_cuda_vendor_fail(d, status == WO_LT_ALLOC_FAILED ? WO_ENOMEMORY : WO_EDEVICE, OP, "cuBLASLt",
                               wo_cuda_lt_of(d)->api->status_name(status), err);
}

static wo_status activate(wo_stream *s, wo_epilogue epilogue, const wo_tensor *x, const wo_tensor *y, wo_error *err) {
    const wo_unary_args args = {.x = *x, .y = *y,
                                .kind = epilogue == WO_EPILOGUE_SILU        ? WO_UNARY_SILU
                                        : epilogue == WO_EPILOGUE_GELU_TANH ? WO_UNARY_GELU_TANH
                                                                            : WO_UNARY_GELU_ERF};
    return wo_cuda_unary(s, &args, err);
}

/* y of the rows [first, first + rows of p) from their product p. */
static wo_status finish(wo_stream *s, const wo_linear_args *a, const wo_tensor *p, int64_t first, wo_error *err) {
    const int64_t rows = p->shape[0];
    const wo_tensor y = wo_tensor_rows(&a->y, first, rows);
    if (activates(a))
        return activate(s, a->epilogue, p, &y, err);
    const wo_tensor other = wo_tensor_rows(&a->other, first, rows);
    const bool gated = a->epilogue == WO_EPILOGUE_GATE;
    const wo_cuda_epilogue_args args = {.product = p->data, .other = other.data, .gate = gated ? a->gate.data : NULL, .y = y.data,
                                        .rows = (uint32_t)rows, .columns = (uint32_t)p->shape[1], .first_row = (uint32_t)first,
                                        .rows_per_gate = gated && a->rows_per_gate < INT32_MAX ? (uint32_t)a->rows_per_gate : INT32_MAX,
                                        .dtype = (int32_t)y.dtype};
    wo_cuda_grid grid;
    WO_TRY(wo_cuda_blocks(OP, wo_tensor_count(p), WO_CUDA_EPILOGUE_CHUNK, &grid, err));
    return wo_cuda_launch(s, WO_CUDA_epilogue, grid, WO_CUDA_EPILOGUE_BLOCK, 0, &args, OP, err);
}

static wo_status in_portions(wo_stream *s, const wo_linear_args *a, const choice *c, const void *bias, char *memory, wo_error *err) {
    const int64_t most = portion_rows(a), all = a->x.shape[0];
    for (int64_t first = 0; first < all; first += most) {
        const int64_t rows = all - first < most ? all - first : most;
        const wo_tensor p = wo_tensor_of(memory, WO_F32, rows, a->w.shape[0]);
        const rows_call r = {.rows = rows, .x = wo_tensor_rows(&a->x, first, rows).data, .y = memory};
        WO_TRY(multiply(s, a, c, bias, &r, err));
        WO_TRY(finish(s, a, &p, first, err));
    }
    return WO_OK;
}

static wo_status check_alignment(const wo_linear_args *a, wo_error *err) {
    const uintptr_t all = (uintptr_t)a->x.data | (uintptr_t)a->w.data | (uintptr_t)a->y.data | (uintptr_t)a->other.data | (uintptr_t)a->bias.data;
    if (all % ALIGNMENT != 0 || (uintptr_t)a->workspace.data % 256 != 0)
        WO_FAIL(err, WO_EINTERNAL, OP ": tensors must lie at multiples of %d bytes and workspace at one of 256, but x, w, y, other, bias, workspace are at "
                "%p, %p, %p, %p, %p, %p", (int)ALIGNMENT, a->x.data, a->w.data, a->y.data, a->other.data, a->bias.data, a->workspace.data);
    return WO_OK;
}

wo_status wo_cublaslt_linear(wo_stream *s, const wo_linear_args *args, wo_error *err) {
    wo_cuda_device *d = wo_cuda_of(s);
    const shape wanted = shape_of(args);
    const choice *c = find_choice(wo_cuda_lt_of(d), &wanted);
    char *memory = (char *)args->workspace.data + library_bytes(d);
    const void *bias = args->bias.data;
    if (c == NULL)
        WO_FAIL(err, WO_EINTERNAL, OP ": cuBLASLt was given a call that it does not take");
    WO_TRY(check_alignment(args, err));
    if (bias != NULL && bias_bytes(args) > 0) {
        const wo_unary_args round = {.x = args->bias, .y = wo_tensor_of(memory, wanted.result, args->bias.shape[0]), .kind = WO_UNARY_COPY};
        WO_TRY(wo_cuda_unary(s, &round, err));
        bias = memory;
    }
    if (detours(args))
        return in_portions(s, args, c, bias, memory + bias_bytes(args), err);
    const rows_call r = {.rows = args->x.shape[0], .x = args->x.data, .other = args->other.data, .y = args->y.data};
    WO_TRY(multiply(s, args, c, bias, &r, err));
    return fused(args) ? WO_OK : activate(s, args->epilogue, &args->y, &args->y, err);
}

/* ---- the library of one device ---- */

void wo_lt_open(wo_cuda_device *d, wo_lt **out) {
    const wo_cuda_libraries *l = wo_cuda_libraries_get();
    *out = NULL;
    wo_lt *lt = l->has_lt ? calloc(1, sizeof *lt) : NULL;
    if (lt == NULL)
        return;
    *lt = (wo_lt){.api = &l->lt, .device = d};
    const wo_lt_status status = lt->api->create(&lt->handle);
    if (status != WO_LT_SUCCESS) {
        wo_cuda_note_problem("cublaslt", "it does not start on %.60s (%s); its CUDA version may be newer than the driver knows", d->properties.name,
                             lt->api->status_name(status));
        free(lt);
        return;
    }
    pthread_mutex_init(&lt->lock, NULL);
    *out = lt;
}

void wo_lt_close(wo_lt *lt) {
    if (lt == NULL)
        return;
    for (choice *c = lt->choices, *next; c != NULL; c = next) {
        next = c->next;
        free(c);
    }
    lt->api->destroy(lt->handle);
    pthread_mutex_destroy(&lt->lock);
    free(lt);
}
