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
#include "device/cpu/kernels/attention_panel.h"

#define LOG2_E 1.4426950408889634

typedef struct attention_job {
    wo_attention_args args;
    attention_layout layout;
    attention_room room;
    float scale;           /* of scores, to units of log2 */
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
    float *scores;                      /* [rows][stride]; in float32 the weights take their place */
    uint16_t *pairs;                    /* [rows][stride] weights in bfloat16 */
    float *last_bias;                   /* [block] of the last block: 0, last_key_bias, -inf behind the last key */
    float *row_bias;                    /* [block] of the last block of one row with a relative bias too */
    float *sums;                        /* [32][32] of AMX */
} attention_tile;

/* One block of keys as a tile meets it. */
typedef struct key_block {
    int64_t first, count; /* padded */
    const uint32_t *keys, *values;
    bool last_bias; /* this is the last block, and there is something to add to some of its scores */
    bool biased;    /* scores are not just products * scale */
} key_block;

static const float no_bias[ATTENTION_MAX_BLOCK];

/* The biases of one query for a block that is biased. */
static const float *find_bias(const attention_tile *t, const key_block *b, int64_t row) {
    const attention_layout *l = &t->job->layout;
    if (l->differences == 0)
        return b->last_bias ? t->last_bias : no_bias;
    const float *biases = t->job->room.biases + (size_t)t->head_in_group * l->bias_floats;
    const float *relative = biases + (l->queries - 1) - (t->first + row) + b->first;
    if (!b->last_bias)
        return relative;
    for (int64_t i = 0; i < b->count; i++)
        t->row_bias[i] = relative[i] + t->last_bias[i];
    return t->row_bias;
}

/* x = x * scale + bias; returns the maximum. */
VEC_INLINE float bias_row(float *x, const float *bias, int64_t count, float scale) {
    vec m = vec_splat(-INFINITY), factor = vec_splat(scale);
    for (int64_t i = 0; i < count; i += VEC_LANES) {
        vec a = vec_fma(vec_load(x + i), factor, vec_load(bias + i));
        vec_store(x + i, a);
        m = vec_max(a, m);
    }
    return vec_max_across(m);
}

static inline float maximum_of_row(const float *x, int64_t count) {
    vec m0 = vec_splat(-INFINITY), m1 = m0;
    for (int64_t i = 0; i < count; i += 2 * VEC_LANES) {
        m0 = vec_max(vec_load(x + i), m0);
        m1 = vec_max(vec_load(x + i + VEC_LANES), m1);
    }
    return vec_max_across(vec_max(m0, m1));
}

/* weights = 2^(x * scale - maximum), into y in pairs or into the place of x; returns their sum. */
VEC_INLINE float weigh_row(bool pairs, float *x, uint16_t *y, int64_t count, float scale, float maximum) {
    vec factor = vec_splat(scale), m = vec_splat(-maximum), s0 = vec_zero(), s1 = vec_zero();
    const wo_dtype dtype = pairs ? WO_BF16 : WO_F32;
    void *to = pairs ? (void *)y : (void *)x;
    int64_t i = 0;
    for (; i + 2 * VEC_LANES <= count; i += 2 * VEC_LANES) {
        vec a = vec_exp2_weight(vec_fma(vec_load(x + i), factor, m));
        vec b = vec_exp2_weight(vec_fma(vec_load(x + i + VEC_LANES), factor, m));
        s0 = vec_add(s0, a);
        s1 = vec_add(s1, b);
        vec_store_as(dtype, to, i, a);
        vec_store_as(dtype, to, i + VEC_LANES, b);
    }
    if (i < count) {
        vec a = vec_exp2_weight(vec_fma(vec_load(x + i), factor, m));
        s0 = vec_add(s0, a);
        vec_store_as(dtype, to, i, a);
    }
    return vec_sum(vec_add(s0, s1));
}

/* The maxima of this block's scores, for `rows` queries from `row` of the tile. lanes: the maxima of their products in
 * each lane, or NULL where nobody has them yet. */
static inline void find_maxima(const attention_tile *t, const key_block *b, int64_t row, int64_t rows, const float *lanes, float *maxima) {
    const attention_job *job = t->job;
    for (int64_t r = 0; r < rows; r++)
        if (b->biased)
            maxima[r] = bias_row(t->scores + r * job->layout.stride, find_bias(t, b, row + r), b->count, job->scale);
        else if (lanes != NULL)
            maxima[r] = vec_max_across(vec_load(lanes + r * VEC_LANES)) * job->scale;
        else
            maxima[r] = maximum_of_row(t->scores + r * job->layout.stride, b->count) * job->scale;
}

/* Turns the scores of `rows` queries into weights, and says by what the earlier sum and o of each must shrink. maxima: of this block. Arrays
 * are as long as `rows` rounded up to whole vectors. */
VEC_INLINE void weigh(bool pairs, const attention_tile *t, const key_block *b, int64_t row, int64_t rows, const float *maxima, float *decay) {
    int64_t stride = t->job->layout.stride;
    float scale = b->biased ? 1.0f : t->job->scale, sums[ATTENTION_AMX_ROWS];
    for (int64_t r = 0; r < rows; r += VEC_LANES) {
        int64_t n = smaller(VEC_LANES, rows - r);
        vec before = vec_load_part(t->maximum + row + r, n), now = vec_max(vec_load(maxima + r), before);
        vec_store_part(t->maximum + row + r, now, n);
        vec_store(decay + r, vec_exp2_weight(vec_sub(before, now)));
    }
    for (int64_t r = 0; r < rows; r++)
        sums[r] = weigh_row(pairs, t->scores + r * stride, t->pairs + r * stride, b->count, scale, t->maximum[row + r]);
    for (int64_t r = 0; r < rows; r++)
        t->sum[row + r] = t->sum[row + r] * decay[r] + sums[r];
}

/* l->rows queries, from `row` of the tile, against one block of keys, by vectors. */
VEC_INLINE void attend_rows(bool pairs, const attention_tile *t, const key_block *b, int64_t row) {
    const attention_layout *l = &t->job->layout;
    int64_t rows = smaller(ROWS, t->rows - row), words = attention_key_words(l, b->count);
    float lanes[ROWS * VEC_LANES], maxima[2 * VEC_LANES] = {0}, decay[2 * VEC_LANES] = {0};
    for (int r = 0; r < ROWS; r++)
        vec_store(lanes + r * VEC_LANES, vec_splat(-INFINITY));
    for (int64_t at = 0, width; at < b->count; at += width) {
        width = attention_panel_width(l, b->first + at, l->padded_keys);
        BY_PANEL(score_panel, pairs, width == l->panel)(t->q + row * l->words, b->keys + at * l->words, l->words, t->scores + at, l->stride,
                                                        lanes);
    }
    find_maxima(t, b, row, rows, lanes, maxima);
    weigh(pairs, t, b, row, rows, maxima, decay);
    for (int64_t column = 0, width; column < l->columns; column += width) {
        width = attention_panel_width(l, column, l->columns);
        BY_PANEL(value_panel, pairs, width == l->panel)(pairs ? (const void *)t->pairs : (const void *)t->scores, pairs ? l->stride / 2 : l->stride,
                                                        b->values + column * words, words, decay, t->o + row * l->columns + column, l->columns);
    }
}

#if defined(WO_ISA_AMX)
/* The same by AMX. */
static void attend_rows_amx(const attention_tile *t, const key_block *b, int64_t row) {
    const attention_layout *l = &t->job->layout;
    int64_t rows = smaller(ATTENTION_AMX_ROWS, t->rows - row), words = attention_key_words(l, b->count);
    float maxima[ATTENTION_AMX_ROWS] = {0}, decay[ATTENTION_AMX_ROWS] = {0};
    for (int64_t at = 0; at < b->count; at += ATTENTION_AMX_PANEL)
        amx_multiply(t->q + row * l->words, 4 * l->words, b->keys + at * l->words, l->words, t->scores + at, 4 * l->stride);
    find_maxima(t, b, row, rows, NULL, maxima);
    weigh(true, t, b, row, rows, maxima, decay);
    for (int64_t column = 0; column < l->columns; column += ATTENTION_AMX_PANEL) {
        amx_multiply(t->pairs, 2 * l->stride, b->values + column * words, words, t->sums, 4 * ATTENTION_AMX_PANEL);
        amx_add(t->sums, decay, t->o + row * l->columns + column, l->columns);
    }
}
#endif

VEC_INLINE void load_queries(attention_form form, attention_tile *t) {
    const attention_layout *l = &t->job->layout;
    int64_t padded = attention_round_up(t->rows, l->rows);
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

/* Fills in block number `block` of the tile's head. */
static key_block find_block(const attention_tile *t, int64_t block) {
    const attention_job *job = t->job;
    const attention_layout *l = &job->layout;
    int64_t first = block * l->block;
    size_t head = (size_t)t->head_in_group * l->head_words;
    key_block b = {.first = first,
                   .count = smaller(l->block, l->padded_keys - first),
                   .keys = job->room.keys + head + first * l->words,
                   .values = job->room.values + head + attention_key_words(l, first) * l->columns};
    b.last_bias = block == job->blocks - 1 && (l->padded_keys > l->keys || job->args.last_key_bias != 0.0f);
    /* The maximum of scaled scores is the scaled maximum only for a positive scale; any other takes the way of a bias. */
    b.biased = b.last_bias || l->differences > 0 || !(job->scale > 0.0f);
    for (int64_t i = 0; b.last_bias && i < b.count; i++)
        t->last_bias[i] = first + i < l->keys ? 0.0f : -INFINITY;
    if (b.last_bias)
        t->last_bias[l->keys - 1 - first] = (float)((double)job->args.last_key_bias * LOG2_E);
    return b;
}

VEC_INLINE void attend(attention_form form, attention_tile *t) {
    const attention_job *job = t->job;
    load_queries(form, t);
    for (int64_t block = 0; block < job->blocks; block++) {
        key_block b = find_block(t, block);
        for (int64_t row = 0; row < t->rows; row += job->layout.rows) {
#if defined(WO_ISA_AMX)
            if (form == ATTENTION_TILES) {
                attend_rows_amx(t, &b, row);
                continue;
            }
#endif
            attend_rows(form == ATTENTION_PAIRS, t, &b, row);
        }
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
    t.scores = cut(&rest, l->rows * l->stride);
    t.pairs = (uint16_t *)cut(&rest, l->rows * l->stride / 2);
    t.last_bias = cut(&rest, l->block);
    t.row_bias = cut(&rest, l->block);
    t.sums = cut(&rest, ATTENTION_AMX_ROWS * ATTENTION_AMX_PANEL);
    if (l->form == ATTENTION_FLOAT) {
        attend(ATTENTION_FLOAT, &t);
        return;
    }
#if defined(WO_ISA_AMX)
    amx_begin();
#endif
    attend(attention_form_of(WO_BF16), &t);
#if defined(WO_ISA_AMX)
    amx_end();
#endif
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
    if (l->form == ATTENTION_FLOAT)
        pack_block(ATTENTION_FLOAT, job, head_in_group, block);
    else
        pack_block(attention_form_of(WO_BF16), job, head_in_group, block);
}

size_t WO_KERNEL(attention_workspace)(const wo_attention_args *args) {
    attention_layout l = attention_layout_of(args);
    return attention_room_bytes(&l);
}

wo_status WO_KERNEL(attention)(wo_pool *pool, wo_cancel *cancel, const wo_attention_args *args) {
    attention_job job = {.args = *args, .layout = attention_layout_of(args), .scale = (float)((double)args->scale * LOG2_E)};
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
