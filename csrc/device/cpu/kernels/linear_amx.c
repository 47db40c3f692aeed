/* The dot form of a linear in bfloat16 by AMX. Rows of w are the left operand, read as they lie in memory and once; rows of x are the right
 * one, packed as pairs. So the sums are those of y transposed:
 *
 *     sums [32 rows of w][32 rows of x]   =   w 4   x   x 6 7       a step: 16 words of K
 *                                               5
 *
 *     task = COLUMNS rows of w x a batch of up to 32 rows of x; K in chunks of CHUNK words, each with its own sums, added once
 *
 * Rows of w pass through a copy in scratch where a tile would reach behind the last row or the last word.
 */
#include "device/cpu/kernels/linear.h"

#if defined(WO_ISA_AMX)
#include "device/cpu/kernels/amx.h"

enum { COLUMNS = 128, BATCH = AMX_PAIR, CHUNK = 1024, STEPS = CHUNK / AMX_STEP };

typedef struct scratch_layout {
    uint32_t x[2][STEPS][AMX_TILE];     /* [half of the batch][step][word][row] */
    uint32_t w[AMX_PAIR][CHUNK];        /* copies */
    float block[AMX_PAIR][BATCH];       /* sums of one chunk, before they are added */
    float sums[COLUMNS][BATCH];
    float rows[BATCH][COLUMNS]; /* transposed */
} scratch_layout;
_Static_assert(sizeof(scratch_layout) <= WO_CPU_SCRATCH_BYTES, "an AMX dot task must fit into a worker's scratch");

typedef struct plan {
    const tile_product *p;
    int64_t words, batches;
} plan;

typedef struct task {
    const plan *s;
    scratch_layout *scratch;
    int64_t row, rows, column, columns;
} task;

/* to[32][BATCH] = products of 32 rows of w, `stride` bytes apart, with one or both halves of the batch, over `steps` steps.
 * While they run, the same words of the 32 rows of w behind are prefetched from `next`, if it is not NULL. */
static __attribute__((noinline)) void multiply_rows(int steps, const char *w, size_t stride, const uint32_t *x, bool both, float *to,
                                                    const char *next) {
    const char *lower = w + AMX_SIDE * stride;
    AMX_MEMORY_IS_WRITTEN();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int k = 0; k < steps; k++, x += AMX_TILE) {
        _tile_stream_loadd(4, w + 4 * AMX_STEP * k, stride);
        _tile_stream_loadd(5, lower + 4 * AMX_STEP * k, stride);
        _tile_loadd(6, x, 4 * AMX_STEP);
        if (next != NULL)
            for (int i = 0; i < AMX_PAIR; i++)
                vec_prefetch(next + (size_t)i * stride + 4 * AMX_STEP * k);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(2, 5, 6);
        if (both) {
            _tile_loadd(7, x + STEPS * AMX_TILE, 4 * AMX_STEP);
            _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, to, 4 * BATCH);
    _tile_stored(1, to + AMX_SIDE, 4 * BATCH);
    _tile_stored(2, to + AMX_SIDE * BATCH, 4 * BATCH);
    _tile_stored(3, to + AMX_SIDE * BATCH + AMX_SIDE, 4 * BATCH);
    AMX_MEMORY_IS_WRITTEN();
}

/* Packs words [k, k + 16 * steps) of the batch: each tile is the transpose of 16 rows of x. */
static void pack_x(const task *t, int64_t k, int steps) {
    const tile_product *p = t->s->p;
    for (int half = 0; half * AMX_SIDE < t->rows; half++)
        for (int step = 0; step < steps; step++) {
            vec tile[AMX_SIDE];
            for (int i = 0; i < AMX_SIDE; i++) {
                int64_t row = half * AMX_SIDE + i;
                const uint16_t *x = (const uint16_t *)p->frames[0] + (row < t->rows ? t->row + row : 0) * p->channels;
                tile[i] = row < t->rows ? tile_load_words(TILE_BF16, WO_BF16, x, k + step * AMX_STEP, p->channels) : vec_zero();
            }
            vec_transpose(tile);
            VEC_UNROLL for (int i = 0; i < AMX_SIDE; i++)
                vec_store((float *)(t->scratch->x[half][step] + i * AMX_STEP), tile[i]);
        }
}

/* Copies words [k, k + words) of 32 rows of w from row `first` on; behind the end they are 0. */
static void copy_w(const task *t, int64_t first, int64_t k, int64_t words) {
    const tile_product *p = t->s->p;
    for (int i = 0; i < AMX_PAIR; i++) {
        const bool there = first + i < p->out.columns;
        const uint16_t *w = (const uint16_t *)p->w + (there ? first + i : 0) * p->channels;
        for (int64_t j = 0; j < words; j += VEC_LANES)
            vec_store((float *)(t->scratch->w[i] + j), there ? tile_load_words(TILE_BF16, WO_BF16, w, k + j, p->channels) : vec_zero());
    }
}

static void multiply_chunk(const task *t, int64_t k) {
    const tile_product *p = t->s->p;
    const int steps = (int)tile_ceil(tile_min(CHUNK, t->s->words - k), AMX_STEP);
    const size_t row_bytes = (size_t)p->channels * 2;
    const bool whole = 2 * (k + steps * AMX_STEP) <= p->channels;
    pack_x(t, k, steps);
    for (int64_t n = 0; n < t->columns; n += AMX_PAIR) {
        const int64_t first = t->column + n;
        const char *w = (const char *)p->w + (size_t)first * row_bytes + (size_t)k * 4;
        const bool direct = whole && first + AMX_PAIR <= p->out.columns;
        const bool ahead = direct && first + 2 * AMX_PAIR <= p->out.columns;
        if (!direct)
            copy_w(t, first, k, (int64_t)steps * AMX_STEP);
        multiply_rows(steps, direct ? w : (const char *)t->scratch->w, direct ? row_bytes : sizeof t->scratch->w[0],
                      &t->scratch->x[0][0][0], t->rows > AMX_SIDE, k == 0 ? t->scratch->sums[n] : t->scratch->block[0],
                      ahead ? w + AMX_PAIR * row_bytes : NULL);
        for (int i = 0; k > 0 && i < AMX_PAIR * BATCH; i += VEC_LANES) {
            float *sums = t->scratch->sums[n] + i;
            vec_store(sums, vec_add(vec_load(sums), vec_load(t->scratch->block[0] + i)));
        }
    }
}

static void finish(const task *t) {
    for (int64_t n = 0; n < COLUMNS; n += AMX_SIDE)
        for (int64_t m = 0; m < BATCH; m += AMX_SIDE) {
            vec tile[AMX_SIDE];
            VEC_UNROLL for (int i = 0; i < AMX_SIDE; i++)
                tile[i] = vec_load(t->scratch->sums[n + i] + m);
            vec_transpose(tile);
            VEC_UNROLL for (int i = 0; i < AMX_SIDE; i++)
                vec_store(t->scratch->rows[m + i] + n, tile[i]);
        }
    WO_KERNEL(tile_store)(&t->s->p->out, t->row, t->rows, t->column, t->columns, t->scratch->rows[0], COLUMNS);
}

static void run_task(void *ctx, int64_t index, int worker, void *scratch) {
    (void)worker;
    const plan *s = ctx;
    task t = {.s = s, .scratch = scratch};
    t.row = index % s->batches * BATCH;
    t.rows = tile_min(BATCH, s->p->height - t.row);
    t.column = index / s->batches * COLUMNS;
    t.columns = tile_min(COLUMNS, s->p->out.columns - t.column);
    amx_configure();
    for (int64_t k = 0; k < s->words; k += CHUNK)
        multiply_chunk(&t, k);
    _tile_release();
    finish(&t);
}

wo_status WO_KERNEL(dot_amx_run)(wo_pool *pool, wo_cancel *cancel, const tile_product *p) {
    plan s = {.p = p, .words = tile_words_of(TILE_BF16, p->channels), .batches = tile_ceil(p->height, BATCH)};
    return wo_pool_run(pool, s.batches * tile_ceil(p->out.columns, COLUMNS), run_task, &s, cancel);
}
#endif
