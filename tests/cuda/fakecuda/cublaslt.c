/* A libcublasLt.so.13 for tests: the entry points that the device uses, on the fake card's memory and in the order of its streams.
 *
 * It is as awkward as the real one may be. Which algorithm comes first depends on the number of rows, the algorithms differ in the last bit, one of them
 * splits K where the caller does not forbid it, and all of them write over the workspace. Whoever asks anew for each number of rows, or takes what
 * comes first, gets other bits for the same row. */
#include "device/cuda/vendor_abi.h"
#include "fakecuda/fakecuda.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define DECLARE(name, symbol, result, params) result lt_##name params __asm__(symbol) EXPORT;
WO_LT_ENTRY_LIST(DECLARE)

/* Live objects of all kinds, for tests that look for leaks; and products so far. */
EXPORT uint64_t fakecublaslt_live(void);
EXPORT uint64_t fakecublaslt_products(void);

enum { ALIGNMENTS = 4, ALGORITHMS = 3 };

struct wo_lt_context {
    int unused;
};

struct wo_lt_matmul_desc {
    int compute, scale, transposed[2], epilogue, bias_type;
    const void *bias;
};

struct wo_lt_layout_desc {
    int type;
    uint64_t rows, columns;
    int64_t leading;
};

struct wo_lt_preference_desc {
    uint64_t workspace;
    uint32_t reductions, alignment[ALIGNMENTS];
};

/* What lies in wo_lt_algo.data. */
typedef struct algorithm {
    uint32_t magic, id, splits;
    uint32_t alignment[ALIGNMENTS];
    uint32_t workspace;
} algorithm;
enum { MAGIC = 0x4c54414c };
_Static_assert(sizeof(algorithm) <= sizeof(wo_lt_algo), "an algorithm fits");

static atomic_uint_fast64_t live, products;
static const fakecuda_api *the_card;

static void find_card(void) {
    the_card = fakecuda();
}

static const fakecuda_api *card(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find_card);
    return the_card;
}

static void *make(size_t bytes) {
    void *p = calloc(1, bytes);
    if (p != NULL)
        atomic_fetch_add(&live, 1);
    return p;
}

static wo_lt_status drop(void *p) {
    if (p == NULL)
        return WO_LT_INVALID_VALUE;
    free(p);
    atomic_fetch_sub(&live, 1);
    return WO_LT_SUCCESS;
}

uint64_t fakecublaslt_live(void) {
    return atomic_load(&live);
}

uint64_t fakecublaslt_products(void) {
    return atomic_load(&products);
}

/* --- descriptors ------------------------------------------------------------------------------------------------------------------ */

size_t lt_version(void) {
    const char *text = getenv("FAKECUBLASLT_VERSION");
    return text != NULL ? (size_t)atoi(text) : 130200;
}

const char *lt_status_name(wo_lt_status status) {
    return status == WO_LT_SUCCESS ? "CUBLAS_STATUS_SUCCESS" : status == WO_LT_NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED" : "CUBLAS_STATUS_INVALID_VALUE";
}

wo_lt_status lt_create(wo_lt_handle *out) {
    *out = make(sizeof **out);
    return *out != NULL ? WO_LT_SUCCESS : WO_LT_ALLOC_FAILED;
}

wo_lt_status lt_destroy(wo_lt_handle handle) {
    return drop(handle);
}

wo_lt_status lt_matmul_create(wo_lt_matmul *out, int compute_type, int scale_type) {
    *out = make(sizeof **out);
    if (*out == NULL)
        return WO_LT_ALLOC_FAILED;
    **out = (struct wo_lt_matmul_desc){.compute = compute_type, .scale = scale_type, .epilogue = WO_LT_EPILOGUE_DEFAULT, .bias_type = -1};
    return WO_LT_SUCCESS;
}

wo_lt_status lt_matmul_destroy(wo_lt_matmul desc) {
    return drop(desc);
}

wo_lt_status lt_matmul_set(wo_lt_matmul desc, int attribute, const void *value, size_t bytes) {
    void *field = NULL;
    int ignored = 0;
    size_t wanted = sizeof(int);
    switch (attribute) {
    case WO_LT_MATMUL_TRANSA:
        field = &desc->transposed[0];
        break;
    case WO_LT_MATMUL_TRANSB:
        field = &desc->transposed[1];
        break;
    case WO_LT_MATMUL_EPILOGUE:
        field = &desc->epilogue;
        break;
    case WO_LT_MATMUL_BIAS_POINTER:
        field = &desc->bias;
        wanted = sizeof(void *);
        break;
    case WO_LT_MATMUL_BIAS_DATA_TYPE:
        field = &desc->bias_type;
        break;
    case WO_LT_MATMUL_BATCH_INVARIANCE:
        field = lt_version() >= 131000 ? &ignored : NULL;
        break;
    default:
        break;
    }
    if (field == NULL || bytes != wanted)
        return WO_LT_INVALID_VALUE;
    memcpy(field, value, bytes);
    return WO_LT_SUCCESS;
}

static size_t type_bytes(int type) {
    return type == WO_LT_R_32F ? 4 : type == WO_LT_R_16F || type == WO_LT_R_16BF ? 2 : 0;
}

wo_lt_status lt_layout_create(wo_lt_layout *out, int type, uint64_t rows, uint64_t columns, int64_t leading) {
    if (type_bytes(type) == 0 || rows == 0 || columns == 0 || leading < (int64_t)rows)
        return WO_LT_INVALID_VALUE;
    *out = make(sizeof **out);
    if (*out == NULL)
        return WO_LT_ALLOC_FAILED;
    **out = (struct wo_lt_layout_desc){type, rows, columns, leading};
    return WO_LT_SUCCESS;
}

wo_lt_status lt_layout_destroy(wo_lt_layout layout) {
    return drop(layout);
}

wo_lt_status lt_preference_create(wo_lt_preference *out) {
    *out = make(sizeof **out);
    if (*out == NULL)
        return WO_LT_ALLOC_FAILED;
    **out = (struct wo_lt_preference_desc){.reductions = ~0u, .alignment = {256, 256, 256, 256}};
    return WO_LT_SUCCESS;
}

wo_lt_status lt_preference_destroy(wo_lt_preference preference) {
    return drop(preference);
}

wo_lt_status lt_preference_set(wo_lt_preference preference, int attribute, const void *value, size_t bytes) {
    void *field = attribute == WO_LT_PREFERENCE_MAX_WORKSPACE     ? (void *)&preference->workspace
                  : attribute == WO_LT_PREFERENCE_REDUCTION_MASK ? (void *)&preference->reductions
                  : attribute >= WO_LT_PREFERENCE_ALIGNMENT_A && attribute <= WO_LT_PREFERENCE_ALIGNMENT_D
                      ? (void *)&preference->alignment[attribute - WO_LT_PREFERENCE_ALIGNMENT_A]
                      : NULL;
    if (field == NULL || bytes != (attribute == WO_LT_PREFERENCE_MAX_WORKSPACE ? sizeof(uint64_t) : sizeof(uint32_t)))
        return WO_LT_INVALID_VALUE;
    memcpy(field, value, bytes);
    return WO_LT_SUCCESS;
}

/* --- algorithms ------------------------------------------------------------------------------------------------------------------- */

/* D [m, n] = op(A) [m, k] op(B) [k, n], all by columns. */
typedef struct shape {
    uint64_t m, n, k;
} shape;

/* An epilogue with a bias wants one, for a choice as well. */
static bool agree(const struct wo_lt_matmul_desc *desc, wo_lt_layout a, wo_lt_layout b, wo_lt_layout d, shape *s) {
    uint64_t inner_b = desc->transposed[1] ? b->columns : b->rows;
    *s = (shape){desc->transposed[0] ? a->columns : a->rows, desc->transposed[1] ? b->rows : b->columns, desc->transposed[0] ? a->rows : a->columns};
    const bool biased = desc->epilogue == WO_LT_EPILOGUE_BIAS || desc->epilogue == WO_LT_EPILOGUE_GELU_BIAS;
    return (!biased || desc->bias != NULL) && s->k == inner_b && d->rows == s->m && d->columns == s->n && desc->scale == WO_LT_R_32F;
}

static wo_lt_heuristic offer(uint32_t id, const struct wo_lt_preference_desc *p) {
    algorithm x = {.magic = MAGIC, .id = id, .splits = id == 2 ? 3 : 1};
    memcpy(x.alignment, p->alignment, sizeof x.alignment);
    x.workspace = id == 1 && p->workspace >= 4096 ? 4096 : 0;
    wo_lt_heuristic result = {.workspace_bytes = x.workspace, .waves = 1};
    memcpy(&result.algo, &x, sizeof x);
    return result;
}

wo_lt_status lt_heuristic(wo_lt_handle handle, wo_lt_matmul desc, wo_lt_layout a, wo_lt_layout b, wo_lt_layout c, wo_lt_layout d, wo_lt_preference preference,
                          int asked, wo_lt_heuristic *results, int *found) {
    shape s;
    if (handle == NULL || c == NULL || asked < 1 || !agree(desc, a, b, d, &s))
        return WO_LT_INVALID_VALUE;
    *found = 0;
    for (uint32_t i = 0; i < ALGORITHMS && *found < asked; i++) {
        uint32_t id = (i + (uint32_t)s.n) % ALGORITHMS;
        if (id == 2 && preference->reductions == WO_LT_REDUCTION_NONE)
            continue;
        results[(*found)++] = offer(id, preference);
    }
    return WO_LT_SUCCESS;
}

static bool read_algo(const wo_lt_algo *algo, algorithm *x) {
    if (algo == NULL)
        return false;
    memcpy(x, algo, sizeof *x);
    return x->magic == MAGIC && x->id < ALGORITHMS;
}

wo_lt_status lt_algo_check(wo_lt_handle handle, wo_lt_matmul desc, wo_lt_layout a, wo_lt_layout b, wo_lt_layout c, wo_lt_layout d, const wo_lt_algo *algo,
                           wo_lt_heuristic *result) {
    shape s;
    algorithm x;
    if (handle == NULL || c == NULL || !read_algo(algo, &x) || !agree(desc, a, b, d, &s))
        return WO_LT_INVALID_VALUE;
    *result = (wo_lt_heuristic){.algo = *algo, .workspace_bytes = x.workspace, .waves = 1};
    return WO_LT_SUCCESS;
}

wo_lt_status lt_algo_get(const wo_lt_algo *algo, int attribute, void *value, size_t bytes, size_t *written) {
    algorithm x;
    if (!read_algo(algo, &x) || bytes != sizeof(uint32_t))
        return WO_LT_INVALID_VALUE;
    uint32_t number = attribute == WO_LT_ALGO_ID ? 100 + x.id : attribute == WO_LT_ALGO_SPLITK ? x.splits : attribute == WO_LT_ALGO_REDUCTION ? x.splits > 1 : 0;
    memcpy(value, &number, sizeof number);
    if (written != NULL)
        *written = sizeof number;
    return WO_LT_SUCCESS;
}

/* --- the product ------------------------------------------------------------------------------------------------------------------ */

typedef struct product {
    struct wo_lt_matmul_desc desc;
    struct wo_lt_layout_desc a, b, d;
    shape s;
    algorithm algo;
    float alpha, beta;
    uint64_t at_a, at_b, at_c, at_d, at_workspace;
} product;

static float load(const void *base, int type, uint64_t i) {
    union {
        uint32_t bits;
        float value;
    } u;
    if (type == WO_LT_R_32F)
        return ((const float *)base)[i];
    uint16_t half = ((const uint16_t *)base)[i];
    if (type == WO_LT_R_16BF) {
        u.bits = (uint32_t)half << 16;
        return u.value;
    }
    int exponent = half >> 10 & 31, mantissa = half & 1023;
    float magnitude = exponent == 31 ? (mantissa ? NAN : INFINITY) : ldexpf((float)(exponent ? 1024 + mantissa : mantissa), (exponent ? exponent : 1) - 25);
    return half >> 15 ? -magnitude : magnitude;
}

/* To nearest even. In units of its last place a number has 1024 to 2048 of them, and fewer below 2^-14, where the unit gets no smaller. */
static uint16_t to_f16(float value) {
    int exponent;
    float magnitude = fabsf(value);
    uint16_t sign = signbit(value) ? 0x8000 : 0;
    if (isnan(value) || magnitude >= 65520.0f)
        return sign | (isnan(value) ? 0x7e00 : 0x7c00);
    frexpf(magnitude, &exponent);
    exponent = exponent < -13 ? -13 : exponent;
    return (uint16_t)(sign | (((exponent + 13) << 10) + (int)nearbyintf(ldexpf(magnitude, 11 - exponent))));
}

static void store(void *base, int type, uint64_t i, float value) {
    union {
        float value;
        uint32_t bits;
    } u = {value};
    if (type == WO_LT_R_32F)
        ((float *)base)[i] = value;
    else if (type == WO_LT_R_16F)
        ((uint16_t *)base)[i] = to_f16(value);
    else
        ((uint16_t *)base)[i] = isnan(value) ? 0x7fff : (uint16_t)((u.bits + 0x7fff + (u.bits >> 16 & 1)) >> 16);
}

static double gelu(double x) {
    return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

/* To float, towards zero or to the nearest: by this the algorithms differ. */
static float rounded(double x, uint32_t id) {
    float y = (float)x;
    return id == 1 && fabs((double)y) > fabs(x) ? nextafterf(y, 0) : y;
}

/* The whole of a matrix as one range; NULL when that is not allocated. */
static void *find(uint64_t address, const struct wo_lt_layout_desc *l) {
    return card()->resolve(address, (size_t)((l->columns - 1) * (uint64_t)l->leading + l->rows) * type_bytes(l->type));
}

/* What a tensor core takes of a float32. */
static double operand(const product *p, const void *base, int type, uint64_t i) {
    union {
        float value;
        uint32_t bits;
    } u = {load(base, type, i)};
    if (p->desc.compute == WO_LT_COMPUTE_32F_FAST_TF32)
        u.bits = (u.bits + 0x0fff + (u.bits >> 13 & 1)) & ~0x1fffu;
    return (double)u.value;
}

static double sum(const product *p, const void *a, const void *b, uint64_t i, uint64_t j) {
    double total = 0;
    for (uint64_t k = 0; k < p->s.k; k++) {
        uint64_t at_a = p->desc.transposed[0] ? i * (uint64_t)p->a.leading + k : k * (uint64_t)p->a.leading + i;
        uint64_t at_b = p->desc.transposed[1] ? k * (uint64_t)p->b.leading + j : j * (uint64_t)p->b.leading + k;
        total += operand(p, a, p->a.type, at_a) * operand(p, b, p->b.type, at_b);
    }
    return total;
}

static int multiply(void *ctx) {
    const product *p = ctx;
    atomic_fetch_add(&products, 1);
    const bool has_bias = p->desc.epilogue == WO_LT_EPILOGUE_BIAS || p->desc.epilogue == WO_LT_EPILOGUE_GELU_BIAS;
    const bool has_gelu = p->desc.epilogue == WO_LT_EPILOGUE_GELU || p->desc.epilogue == WO_LT_EPILOGUE_GELU_BIAS;
    const int bias_type = p->desc.bias_type >= 0 ? p->desc.bias_type : p->d.type;
    const void *a = find(p->at_a, &p->a), *b = find(p->at_b, &p->b), *c = p->beta != 0 ? find(p->at_c, &p->d) : "";
    const void *bias = has_bias ? card()->resolve((uint64_t)(uintptr_t)p->desc.bias, p->s.m * type_bytes(bias_type)) : "";
    void *d = find(p->at_d, &p->d), *workspace = p->algo.workspace > 0 ? card()->resolve(p->at_workspace, p->algo.workspace) : "";
    if (a == NULL || b == NULL || c == NULL || d == NULL || bias == NULL || workspace == NULL)
        return WO_CU_ILLEGAL_ADDRESS;
    if (p->algo.workspace > 0)
        memset(workspace, 0xff, p->algo.workspace);
    for (uint64_t j = 0; j < p->s.n; j++)
        for (uint64_t i = 0; i < p->s.m; i++) {
            uint64_t at = j * (uint64_t)p->d.leading + i;
            double x = (double)p->alpha * sum(p, a, b, i, j) + (p->beta != 0 ? (double)p->beta * (double)load(c, p->d.type, at) : 0);
            x += has_bias ? (double)load(bias, bias_type, i) : 0;
            store(d, p->d.type, at, rounded(has_gelu ? gelu(x) : x, p->algo.id));
        }
    return WO_CU_SUCCESS;
}

static bool is_aligned(const product *p) {
    const uint64_t at[ALIGNMENTS] = {p->at_a, p->at_b, p->at_c, p->at_d};
    for (int i = 0; i < ALIGNMENTS; i++)
        if (p->algo.alignment[i] == 0 || at[i] % p->algo.alignment[i] != 0)
            return false;
    return true;
}

wo_lt_status lt_matmul(wo_lt_handle handle, wo_lt_matmul desc, const void *alpha, const void *a, wo_lt_layout la, const void *b, wo_lt_layout lb, const void *beta,
                       const void *c, wo_lt_layout lc, void *d, wo_lt_layout ld, const wo_lt_algo *algo, void *workspace, size_t workspace_bytes,
                       wo_cu_stream stream) {
    algorithm x;
    if (handle == NULL || !read_algo(algo, &x) || workspace_bytes < x.workspace)
        return WO_LT_INVALID_VALUE;
    product p = {.desc = *desc, .a = *la, .b = *lb, .d = *ld, .algo = x};
    if (!agree(desc, la, lb, ld, &p.s) || lc->type != ld->type || lc->rows != ld->rows || lc->columns != ld->columns || lc->leading != ld->leading)
        return WO_LT_INVALID_VALUE;
    p.at_a = (uint64_t)(uintptr_t)a;
    p.at_b = (uint64_t)(uintptr_t)b;
    p.at_c = (uint64_t)(uintptr_t)c;
    p.at_d = (uint64_t)(uintptr_t)d;
    p.at_workspace = (uint64_t)(uintptr_t)workspace;
    memcpy(&p.alpha, alpha, sizeof p.alpha);
    memcpy(&p.beta, beta, sizeof p.beta);
    if (!is_aligned(&p)) {
        card()->misuse("cublasLtMatmul of memory that is less aligned than its algorithm was asked for");
        return WO_LT_INVALID_VALUE;
    }
    return card()->call(stream, multiply, &p, sizeof p) == WO_CU_SUCCESS ? WO_LT_SUCCESS : WO_LT_EXECUTION_FAILED;
}
