/* The dot form of a linear, for few rows of x: lanes run along K, and each weight is read once, at the speed of memory.
 *
 *     task = COLUMNS rows of w x a batch of up to BATCH rows of x; K in chunks of CHUNK words
 *     for each chunk:   repack the batch's x as [rows / X_ROWS][word / lanes][X_ROWS][lanes], one stream for each group of rows
 *         for each W_ROWS rows of w:   dots with all groups of x, while the next rows of w are prefetched
 *     at the end:   the lanes of each sum are added, by transposing VEC_LANES sums at a time
 *
 * A sum's lanes start from 0 in each chunk and are added once, so its bits depend on K and the kind of product alone. Weights that must
 * be widened, and the last chunk when it does not end on a whole vector, pass through a small copy in scratch.
 */
#include "device/cpu/kernels/linear.h"

#if defined(WO_ISA_GENERIC) || defined(WO_ISA_AVX2)
enum { W_ROWS = 2, X_ROWS = 4 }; /* 16 registers */
#else
enum { W_ROWS = 6, X_ROWS = 4 };
#endif
enum { COLUMNS = 48, BATCH = 32, CHUNK = 1024 };

typedef struct scratch_layout {
    float sums[COLUMNS * BATCH * VEC_LANES];
    uint32_t x[BATCH * CHUNK];
    uint32_t w[W_ROWS * CHUNK];
    float rows[BATCH * COLUMNS]; /* the finished sums, row by row; tile_store reads whole vectors of it */
} scratch_layout;
_Static_assert(sizeof(scratch_layout) <= WO_CPU_SCRATCH_BYTES, "a dot task must fit into a worker's scratch");

/* sums[(n * BATCH + m) * lanes] = (add ? itself : 0) + lanes of x[m] w[n] over `words` words, a multiple of the lanes; x as packed for
 * `rows` rows. next: the rows of w to prefetch, or NULL. */
VEC_INLINE void dot_body(tile_kind kind, int rows, int64_t words, const uint32_t *x, const uint32_t *const *w, float *sums, bool add,
                         const uint32_t *const *next) {
    vec sum[W_ROWS][X_ROWS];
    VEC_UNROLL for (int n = 0; n < W_ROWS; n++)
        VEC_UNROLL for (int m = 0; m < rows; m++)
            sum[n][m] = vec_zero();
    for (int64_t k = 0; k < words; k += VEC_LANES) {
        vec a[X_ROWS];
        if (next != NULL)
            VEC_UNROLL for (int n = 0; n < W_ROWS; n++)
                vec_prefetch(next[n] + k);
        VEC_UNROLL for (int m = 0; m < rows; m++)
            a[m] = vec_load_words(x + k * rows + m * VEC_LANES);
        VEC_UNROLL for (int n = 0; n < W_ROWS; n++) {
            vec b = vec_load_words(w[n] + k);
            VEC_UNROLL for (int m = 0; m < rows; m++)
                sum[n][m] = kind == TILE_BF16 ? vec_dot_bf16(sum[n][m], a[m], b) : vec_fma(a[m], b, sum[n][m]);
        }
    }
    VEC_UNROLL for (int n = 0; n < W_ROWS; n++)
        VEC_UNROLL for (int m = 0; m < rows; m++) {
            float *at = sums + (n * BATCH + m) * VEC_LANES;
            vec_store(at, add ? vec_add(vec_load(at), sum[n][m]) : sum[n][m]);
        }
}

#define DOT_KERNEL(kind, rows)                                                                                                  \
    static __attribute__((noinline)) void dot_##kind##_##rows(int64_t words, const uint32_t *x, const uint32_t *const *w,       \
                                                              float *sums, bool add, const uint32_t *const *next) {             \
        dot_body(kind, rows, words, x, w, sums, add, next);                                                                     \
    }
DOT_KERNEL(TILE_F32, 1)
DOT_KERNEL(TILE_F32, 2)
DOT_KERNEL(TILE_F32, 4)
#if defined(WO_ISA_AVX512_BF16) || defined(WO_ISA_AMX)
DOT_KERNEL(TILE_BF16, 1)
DOT_KERNEL(TILE_BF16, 2)
DOT_KERNEL(TILE_BF16, 4)
#endif

typedef void (*dot_kernel)(int64_t words, const uint32_t *x, const uint32_t *const *w, float *sums, bool add, const uint32_t *const *next);

/* [kind][log2 of the rows] */
static const dot_kernel kernels[2][3] = {
    [TILE_F32] = {dot_TILE_F32_1, dot_TILE_F32_2, dot_TILE_F32_4},
#if defined(WO_ISA_AVX512_BF16) || defined(WO_ISA_AMX)
    [TILE_BF16] = {dot_TILE_BF16_1, dot_TILE_BF16_2, dot_TILE_BF16_4},
#endif
};

typedef struct plan {
    const tile_product *p;
    tile_kind kind;
    int64_t words, batches;
} plan;

typedef struct task {
    const plan *s;
    scratch_layout *scratch;
    int64_t row, rows, column, columns;
} task;

/* Rows of the next group when `left` rows of the batch remain: 4, 2 or 1. */
static int group_rows(int64_t left) {
    return left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

/* Copies `words` words of a row from word k on to a stream whose vectors lie `stride` apart; behind the row's end it is 0. */
static void copy_words(tile_kind kind, wo_dtype dtype, const void *row, int64_t elements, int64_t k, int64_t words, uint32_t *to,
                       int64_t stride) {
    for (int64_t i = 0; i < words; i += VEC_LANES, to += stride) {
        vec v;
        if (kind == TILE_BF16)
            v = tile_load_words(TILE_BF16, WO_BF16, row, k + i, elements);
        else if (dtype == WO_F32)
            v = tile_load_words(TILE_F32, WO_F32, row, k + i, elements);
        else if (dtype == WO_BF16)
            v = tile_load_words(TILE_F32, WO_BF16, row, k + i, elements);
        else
            v = tile_load_words(TILE_F32, WO_F16, row, k + i, elements);
        vec_store((float *)to, v);
    }
}

static void pack_x(const task *t, int64_t k, int64_t words) {
    const tile_product *p = t->s->p;
    const size_t row_bytes = (size_t)p->channels * tile_bytes(p->x_dtype);
    uint32_t *to = t->scratch->x;
    for (int64_t m = 0; m < t->rows;) {
        int group = group_rows(t->rows - m);
        for (int i = 0; i < group; i++)
            copy_words(t->s->kind, p->x_dtype, (const char *)p->frames[0] + (size_t)(t->row + m + i) * row_bytes, p->channels, k, words,
                       to + i * VEC_LANES, group * VEC_LANES);
        to += group * words;
        m += group;
    }
}

/* Words [k, k + words) of W_ROWS rows of w from column n of the task on: as they lie, or copied. Behind the last row it is
 * repeated; those sums are never stored. */
static void find_w(const task *t, int64_t n, int64_t k, int64_t words, bool copy, const uint32_t **w) {
    const tile_product *p = t->s->p;
    const size_t row_bytes = (size_t)p->channels * tile_bytes(p->w_dtype);
    for (int i = 0; i < W_ROWS; i++) {
        int64_t column = tile_min(t->column + n + i, p->out.columns - 1);
        const char *row = (const char *)p->w + (size_t)column * row_bytes;
        if (copy) {
            copy_words(t->s->kind, p->w_dtype, row, p->channels, k, words, t->scratch->w + i * CHUNK, VEC_LANES);
            w[i] = t->scratch->w + i * CHUNK;
        } else {
            w[i] = (const uint32_t *)(const void *)(row + (size_t)k * 4);
        }
    }
}

static void multiply_chunk(const task *t, int64_t k) {
    const tile_product *p = t->s->p;
    const tile_kind kind = t->s->kind;
    const int64_t words = tile_round_up(tile_min(CHUNK, t->s->words - k), VEC_LANES);
    const bool as_it_lies = (kind == TILE_BF16 || p->w_dtype == WO_F32) && p->channels * (int64_t)tile_bytes(p->w_dtype) >= (k + words) * 4;
    pack_x(t, k, words);
    for (int64_t n = 0; n < t->columns; n += W_ROWS) {
        const uint32_t *w[W_ROWS], *next[W_ROWS];
        find_w(t, n, k, words, !as_it_lies, w);
        if (as_it_lies)
            find_w(t, n + W_ROWS, k, words, false, next);
        const uint32_t *x = t->scratch->x;
        for (int64_t m = 0; m < t->rows;) {
            int group = group_rows(t->rows - m);
            float *sums = t->scratch->sums + (n * BATCH + m) * VEC_LANES;
            kernels[kind][group / 2](words, x, w, sums, k > 0, as_it_lies && m == 0 ? next : NULL);
            x += group * words;
            m += group;
        }
    }
}

/* Adds the lanes of VEC_LANES sums at once: the transpose's rows hold lane 0 of each, lane 1 of each, ... */
VEC_INLINE vec add_lanes(const float *sums) {
    vec t[VEC_LANES];
    VEC_UNROLL for (int i = 0; i < VEC_LANES; i++)
        t[i] = vec_load(sums + i * VEC_LANES);
    vec_transpose(t);
    for (int step = VEC_LANES / 2; step >= 1; step /= 2)
        for (int i = 0; i < step; i++)
            t[i] = vec_add(t[i], t[i + step]);
    return t[0];
}

static void finish(const task *t) {
    float *rows = t->scratch->rows;
    for (int64_t n = 0; n < t->columns; n++)
        for (int64_t m = 0; m < t->rows; m += VEC_LANES) {
            float lanes[VEC_LANES];
            vec_store(lanes, add_lanes(t->scratch->sums + (n * BATCH + m) * VEC_LANES));
            for (int64_t i = 0; i < tile_min(VEC_LANES, t->rows - m); i++)
                rows[(m + i) * COLUMNS + n] = lanes[i];
        }
    WO_KERNEL(tile_store)(&t->s->p->out, t->row, t->rows, t->column, t->columns, rows, COLUMNS);
}

static void run_task(void *ctx, int64_t index, int worker, void *scratch) {
    (void)worker;
    const plan *s = ctx;
    task t = {.s = s, .scratch = scratch};
    t.row = index % s->batches * BATCH;
    t.rows = tile_min(BATCH, s->p->height - t.row);
    t.column = index / s->batches * COLUMNS;
    t.columns = tile_min(COLUMNS, s->p->out.columns - t.column);
    for (int64_t k = 0; k < s->words; k += CHUNK)
        multiply_chunk(&t, k);
    finish(&t);
}

wo_status WO_KERNEL(dot_run)(wo_pool *pool, wo_cancel *cancel, const tile_product *p) {
#if defined(WO_ISA_AMX)
    if (tile_kind_of(p->x_dtype, p->w_dtype) == TILE_BF16)
        return WO_KERNEL(dot_amx_run)(pool, cancel, p);
#endif
    plan s = {.p = p, .kind = tile_kind_of(p->x_dtype, p->w_dtype)};
    s.words = tile_words_of(s.kind, p->channels);
    s.batches = tile_ceil(p->height, BATCH);
    return wo_pool_run(pool, s.batches * tile_ceil(p->out.columns, COLUMNS), run_task, &s, cancel);
}
