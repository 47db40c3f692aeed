/* Attention in tiles of queries against blocks of keys, with a running maximum and sum for each query (online softmax), so that the scores
 * never leave the first cache.
 *
 *     for each group of heads:
 *         job 1   pack keys and values into panels, and the relative biases of each head
 *         job 2   for each tile of queries:  for each block of keys:  for each ROWS queries:
 *                     scores = q k^T * scale + bias, and their maximum     (register tiles)
 *                     weights = 2^(scores - maximum), and their sum        (in the same strip)
 *                     o = o * 2^(old maximum - maximum) + weights v        (register tiles)
 *
 * Scores are in units of log2, because 2^x is the cheaper function. A query's bits depend on its own row and on the keys: blocks begin at
 * multiples of a length that depends on head_dim, and no other row takes part. Rows that a tile lacks are computed as zeros and dropped. */
#include "device/cpu/kernels/attention_pack.h"

enum { ROWS = ATTENTION_ROWS, VECS = ATTENTION_VECS, PANEL = ATTENTION_PANEL, MAX_BLOCK = ATTENTION_MAX_BLOCK };

#define LOG2_E 1.4426950408889634

typedef struct attention_job {
    wo_attention_args args;
    attention_layout layout;
    attention_room room;
    int64_t first_head;    /* of the group in work */
    int64_t blocks, tiles; /* of one head */
} attention_job;

/* What a worker holds of its tile, in its scratch. */
typedef struct attention_tile {
    const attention_job *job;
    int64_t head_in_group, first, rows; /* queries */
    uint32_t *q;                        /* [tile][words] */
    float *o;                           /* [tile][columns] */
    float *maximum, *sum;               /* [tile] */
    float *scores;                      /* [ROWS][MAX_BLOCK]; in float32 the weights take their place */
    uint16_t *pairs;                    /* [ROWS][MAX_BLOCK] weights in bfloat16 */
    float *last_bias;                   /* [MAX_BLOCK] of the last block: 0, last_key_bias, -inf behind the last key */
    float *row_biases;                  /* [ROWS][MAX_BLOCK] of the last block when there is a relative bias too */
} attention_tile;

/* One block of keys as a tile meets it. */
typedef struct key_block {
    int64_t first, count; /* padded */
    const uint32_t *keys, *values;
    bool last;
} key_block;

static const float no_bias[MAX_BLOCK];

VEC_INLINE vec dot_step(bool pairs, vec c, vec a, vec b) {
    return pairs ? vec_dot_bf16(c, a, b) : vec_fma(a, b, c);
}

/* c[r][j] = sum over n words of a[r][i] * b[i][j], one chain from 0 for each. a: ROWS rows, a_stride words apart; b: [n][vecs vectors]. */
VEC_INLINE void multiply(bool pairs, int vecs, const uint32_t *a, int64_t a_stride, const uint32_t *b, int64_t n, vec c[ROWS][VECS]) {
    VEC_UNROLL for (int r = 0; r < ROWS; r++)
        VEC_UNROLL for (int j = 0; j < vecs; j++)
            c[r][j] = vec_zero();
    for (int64_t i = 0; i < n; i++, a++, b += vecs * VEC_LANES) {
        vec right[VECS];
        VEC_UNROLL for (int j = 0; j < vecs; j++)
            right[j] = vec_load_words(b + j * VEC_LANES);
        VEC_UNROLL for (int r = 0; r < ROWS; r++) {
            vec left = vec_splat_word(a + r * a_stride);
            VEC_UNROLL for (int j = 0; j < vecs; j++)
                c[r][j] = dot_step(pairs, c[r][j], left, right[j]);
        }
    }
}

/* Scores of ROWS queries for the panel of keys at `at` of the block, and the running maximum of each lane. */
VEC_INLINE void score_panel(bool pairs, int vecs, const uint32_t *q, const uint32_t *k, int64_t words, float scale, const float *const *bias,
                            int64_t at, float *scores, float *maxima) {
    vec c[ROWS][VECS];
    multiply(pairs, vecs, q, words, k, words, c);
    vec factor = vec_splat(scale);
    VEC_UNROLL for (int r = 0; r < ROWS; r++) {
        vec m = vec_load(maxima + r * VEC_LANES);
        VEC_UNROLL for (int j = 0; j < vecs; j++) {
            vec x = vec_fma(c[r][j], factor, vec_load(bias[r] + at + j * VEC_LANES));
            vec_store(scores + r * MAX_BLOCK + at + j * VEC_LANES, x);
            m = vec_max(x, m);
        }
        vec_store(maxima + r * VEC_LANES, m);
    }
}

/* o = o * decay + weights v for one panel of columns. */
VEC_INLINE void value_panel(bool pairs, int vecs, const uint32_t *weights, const uint32_t *v, int64_t words, const float *decay, float *o,
                            int64_t o_stride) {
    vec c[ROWS][VECS];
    multiply(pairs, vecs, weights, pairs ? MAX_BLOCK / 2 : MAX_BLOCK, v, words, c);
    VEC_UNROLL for (int r = 0; r < ROWS; r++) {
        vec factor = vec_splat(decay[r]);
        VEC_UNROLL for (int j = 0; j < vecs; j++) {
            float *to = o + r * o_stride + j * VEC_LANES;
            vec_store(to, vec_fma(vec_load(to), factor, c[r][j]));
        }
    }
}

/* GCC keeps the sums in registers only when their number is a constant: a function for the full panel and one for a single vector. */
#define PANEL_FUNCTIONS(name, pairs, vecs)                                                                                            \
    static __attribute__((noinline)) void score_panel_##name(const uint32_t *q, const uint32_t *k, int64_t words, float scale,        \
                                                             const float *const *bias, int64_t at, float *scores, float *maxima) {    \
        score_panel(pairs, vecs, q, k, words, scale, bias, at, scores, maxima);                                                       \
    }                                                                                                                                 \
    static __attribute__((noinline)) void value_panel_##name(const uint32_t *weights, const uint32_t *v, int64_t words,               \
                                                             const float *decay, float *o, int64_t o_stride) {                        \
        value_panel(pairs, vecs, weights, v, words, decay, o, o_stride);                                                              \
    }
PANEL_FUNCTIONS(float_full, false, VECS)
PANEL_FUNCTIONS(float_one, false, 1)
#if defined(WO_ISA_AVX512_BF16) || defined(WO_ISA_AMX)
PANEL_FUNCTIONS(pairs_full, true, VECS)
PANEL_FUNCTIONS(pairs_one, true, 1)
#define BY_PANEL(function, pairs, full) \
    ((pairs) ? ((full) ? function##_pairs_full : function##_pairs_one) : ((full) ? function##_float_full : function##_float_one))
#else
#define BY_PANEL(function, pairs, full) ((full) ? function##_float_full : function##_float_one)
#endif

/* Turns ROWS rows of scores into weights. maxima: the lanes' maxima of the block; decay: by what earlier sums and o must shrink. */
VEC_INLINE void weigh(bool pairs, const attention_tile *t, int64_t row, int64_t count, const float *maxima, float *decay) {
    for (int r = 0; r < ROWS; r++) {
        float *x = t->scores + r * MAX_BLOCK, before = t->maximum[row + r], lanes[VEC_LANES];
        uint16_t *y = t->pairs + r * MAX_BLOCK;
        float now = vec_max_across(vec_load(maxima + r * VEC_LANES));
        now = now > before ? now : before;
        vec m = vec_splat(now), s0 = vec_zero(), s1 = vec_zero();
        int64_t i = 0;
        for (; i + 2 * VEC_LANES <= count; i += 2 * VEC_LANES) {
            vec a = vec_exp2(vec_sub(vec_load(x + i), m)), b = vec_exp2(vec_sub(vec_load(x + i + VEC_LANES), m));
            s0 = vec_add(s0, a);
            s1 = vec_add(s1, b);
            vec_store_as(pairs ? WO_BF16 : WO_F32, pairs ? (void *)y : (void *)x, i, a);
            vec_store_as(pairs ? WO_BF16 : WO_F32, pairs ? (void *)y : (void *)x, i + VEC_LANES, b);
        }
        if (i < count) {
            vec a = vec_exp2(vec_sub(vec_load(x + i), m));
            s0 = vec_add(s0, a);
            vec_store_as(pairs ? WO_BF16 : WO_F32, pairs ? (void *)y : (void *)x, i, a);
        }
        vec_store(lanes, vec_exp2(vec_splat(before - now)));
        decay[r] = lanes[0];
        t->sum[row + r] = t->sum[row + r] * decay[r] + vec_sum(vec_add(s0, s1));
        t->maximum[row + r] = now;
    }
}

/* Where the biases of each of ROWS queries begin for this block. */
static void find_biases(const attention_tile *t, const key_block *b, int64_t row, const float *bias[ROWS]) {
    const attention_layout *l = &t->job->layout;
    for (int r = 0; r < ROWS; r++) {
        bias[r] = b->last ? t->last_bias : no_bias;
        if (l->differences == 0)
            continue;
        int64_t query = smaller(t->first + row + r, l->queries - 1);
        const float *relative = t->job->room.biases + (size_t)t->head_in_group * l->bias_floats + l->queries - 1 - query + b->first;
        bias[r] = relative;
        if (!b->last)
            continue;
        float *sum = t->row_biases + r * MAX_BLOCK;
        for (int64_t i = 0; i < b->count; i++)
            sum[i] = relative[i] + t->last_bias[i];
        bias[r] = sum;
    }
}

/* ROWS queries, from `row` of the tile, against one block of keys. */
VEC_INLINE void attend_rows(bool pairs, const attention_tile *t, const key_block *b, int64_t row) {
    const attention_layout *l = &t->job->layout;
    const float scale = (float)((double)t->job->args.scale * LOG2_E);
    const uint32_t *q = t->q + row * l->words;
    const float *bias[ROWS];
    float maxima[ROWS * VEC_LANES], decay[ROWS];
    find_biases(t, b, row, bias);
    for (int r = 0; r < ROWS; r++)
        vec_store(maxima + r * VEC_LANES, vec_splat(-INFINITY));
    for (int64_t at = 0, width; at < b->count; at += width) {
        width = attention_panel_width(b->first + at, l->padded_keys);
        BY_PANEL(score_panel, pairs, width == PANEL)(q, b->keys + at * l->words, l->words, scale, bias, at, t->scores, maxima);
    }
    weigh(pairs, t, row, b->count, maxima, decay);
    const uint32_t *weights = pairs ? (const void *)t->pairs : (const void *)t->scores;
    int64_t words = attention_key_words(l, b->count);
    for (int64_t column = 0, width; column < l->columns; column += width) {
        width = attention_panel_width(column, l->columns);
        BY_PANEL(value_panel, pairs, width == PANEL)(weights, b->values + column * words, words, decay, t->o + row * l->columns + column,
                                                     l->columns);
    }
}

VEC_INLINE void load_queries(attention_form form, attention_tile *t) {
    const attention_layout *l = &t->job->layout;
    int64_t padded = attention_round_up(t->rows, ROWS);
    for (int64_t r = 0; r < padded; r++) {
        float *q = (float *)(t->q + r * l->words);
        t->maximum[r] = -INFINITY;
        t->sum[r] = 0.0f;
        if (r >= t->rows) {
            memset(q, 0, (size_t)l->words * sizeof(float));
            continue;
        }
        const char *row = token_row(l, t->job->args.q.data, t->first + r, t->job->first_head + t->head_in_group);
        for (int64_t word = 0; word < l->words; word += VEC_LANES)
            vec_store_part(q + word, load_words(form, row, word, l->head_dim), smaller(VEC_LANES, l->words - word));
    }
    memset(t->o, 0, (size_t)(padded * l->columns) * sizeof(float));
}

VEC_INLINE void store_outputs(wo_dtype dtype, const attention_tile *t) {
    const attention_layout *l = &t->job->layout;
    for (int64_t r = 0; r < t->rows; r++) {
        int64_t at = ((t->first + r) * l->heads + t->job->first_head + t->head_in_group) * l->head_dim, i = 0;
        const float *o = t->o + r * l->columns;
        vec factor = vec_splat(1.0f / t->sum[r]);
        for (; i + VEC_LANES <= l->head_dim; i += VEC_LANES)
            vec_store_as(dtype, t->job->args.o.data, at + i, vec_mul(vec_load(o + i), factor));
        if (i < l->head_dim)
            vec_store_as_part(dtype, t->job->args.o.data, at + i, vec_mul(vec_load(o + i), factor), l->head_dim - i);
    }
}

VEC_INLINE void attend(attention_form form, attention_tile *t) {
    const attention_job *job = t->job;
    const attention_layout *l = &job->layout;
    load_queries(form, t);
    for (int64_t first = 0; first < l->padded_keys; first += l->block) {
        key_block b = {.first = first, .count = smaller(l->block, l->padded_keys - first)};
        size_t head = (size_t)t->head_in_group * l->head_words;
        b.keys = job->room.keys + head + first * l->words;
        b.values = job->room.values + head + attention_key_words(l, first) * l->columns;
        b.last = first + b.count == l->padded_keys;
        for (int64_t i = 0; b.last && i < b.count; i++)
            t->last_bias[i] = first + i < l->keys - 1    ? 0.0f
                              : first + i == l->keys - 1 ? (float)((double)job->args.last_key_bias * LOG2_E)
                                                         : -INFINITY;
        for (int64_t row = 0; row < t->rows; row += ROWS)
            attend_rows(form == ATTENTION_PAIRS, t, &b, row);
    }
    if (job->args.o.dtype == WO_F32)
        store_outputs(WO_F32, t);
    else
        store_outputs(WO_BF16, t);
}

/* Cuts the next n floats from scratch; each piece begins at a cache line. */
static float *cut(char **scratch, int64_t n) {
    float *piece = (float *)(void *)*scratch;
    *scratch += attention_round_up(n * (int64_t)sizeof(float), 64);
    return piece;
}

static void attend_tile(void *ctx, int64_t tile, int worker, void *scratch) {
    const attention_job *job = ctx;
    const attention_layout *l = &job->layout;
    char *rest = scratch;
    (void)worker;
    attention_tile t = {.job = job, .head_in_group = tile / job->tiles, .first = tile % job->tiles * l->tile};
    t.rows = smaller(l->tile, l->queries - t.first);
    t.q = (uint32_t *)cut(&rest, l->tile * l->words);
    t.o = cut(&rest, l->tile * l->columns);
    t.maximum = cut(&rest, l->tile);
    t.sum = cut(&rest, l->tile);
    t.scores = cut(&rest, ROWS * MAX_BLOCK);
    t.pairs = (uint16_t *)cut(&rest, ROWS * MAX_BLOCK / 2);
    t.last_bias = cut(&rest, MAX_BLOCK);
    t.row_biases = cut(&rest, ROWS * MAX_BLOCK);
    switch (l->form) {
    case ATTENTION_FLOAT:
        attend(ATTENTION_FLOAT, &t);
        break;
    case ATTENTION_PAIRS:
        attend(ATTENTION_PAIRS, &t);
        break;
    case ATTENTION_WIDENED:
        attend(ATTENTION_WIDENED, &t);
        break;
    }
}

VEC_INLINE void pack_block(attention_form form, const attention_job *job, int64_t head_in_group, int64_t block) {
    const attention_layout *l = &job->layout;
    int64_t head = job->first_head + head_in_group, first = block * l->block, end = smaller(first + l->block, l->padded_keys);
    pack_keys(form, l, job->args.k.data, head, first, end, job->room.keys + (size_t)head_in_group * l->head_words);
    pack_values(form, l, job->args.v.data, head, first, end, job->room.values + (size_t)head_in_group * l->head_words);
}

/* Tile = one block of keys of one head; the first of a head makes its biases as well. */
static void pack_tile(void *ctx, int64_t tile, int worker, void *scratch) {
    const attention_job *job = ctx;
    const attention_layout *l = &job->layout;
    int64_t head_in_group = tile / job->blocks, block = tile % job->blocks;
    (void)worker;
    (void)scratch;
    if (block == 0 && l->differences > 0)
        fill_biases(l, &job->args, job->room.buckets, job->first_head + head_in_group,
                    job->room.biases + (size_t)head_in_group * l->bias_floats);
    switch (l->form) {
    case ATTENTION_FLOAT:
        pack_block(ATTENTION_FLOAT, job, head_in_group, block);
        break;
    case ATTENTION_PAIRS:
        pack_block(ATTENTION_PAIRS, job, head_in_group, block);
        break;
    case ATTENTION_WIDENED:
        pack_block(ATTENTION_WIDENED, job, head_in_group, block);
        break;
    }
}

size_t WO_KERNEL(attention_workspace)(const wo_attention_args *args) {
    attention_layout l = attention_layout_of(args);
    return attention_room_bytes(&l);
}

wo_status WO_KERNEL(attention)(wo_pool *pool, wo_cancel *cancel, const wo_attention_args *args) {
    attention_job job = {.args = *args, .layout = attention_layout_of(args)};
    const attention_layout *l = &job.layout;
    job.room = attention_room_in(l, args->workspace.data);
    job.blocks = (l->padded_keys + l->block - 1) / l->block;
    job.tiles = (l->queries + l->tile - 1) / l->tile;
    if (l->differences > 0)
        fill_buckets(l, args, job.room.buckets);
    for (; job.first_head < l->heads; job.first_head += l->group) {
        int64_t heads = smaller(l->group, l->heads - job.first_head);
        WO_TRY(wo_pool_run(pool, heads * job.blocks, pack_tile, &job, cancel));
        WO_TRY(wo_pool_run(pool, heads * job.tiles, attend_tile, &job, cancel));
    }
    return WO_OK;
}
