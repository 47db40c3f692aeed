/* Packing of one head's keys, values and biases into the workspace. Only attention.c includes this. What is packed behind the last key
 * and the last column is 0, so that it adds nothing. */
#ifndef WO_KERNELS_ATTENTION_PACK_H
#define WO_KERNELS_ATTENTION_PACK_H

#include "device/cpu/kernels/attention_layout.h"

#include <math.h>

/* Words [word, word + VEC_LANES) of a row of head_dim elements, 0 behind the end. */
VEC_INLINE vec load_words(attention_form form, const void *row, int64_t word, int64_t head_dim) {
    if (attention_in_pairs(form)) {
        const uint16_t *pairs = (const uint16_t *)row + 2 * word;
        int64_t left = head_dim - 2 * word;
        return left >= 2 * VEC_LANES ? vec_load_words(pairs) : vec_load_bytes(pairs, (size_t)left * 2);
    }
    wo_dtype dtype = form == ATTENTION_FLOAT ? WO_F32 : WO_BF16;
    int64_t left = head_dim - word;
    return left >= VEC_LANES ? vec_load_as(dtype, row, word) : vec_load_as_part(dtype, row, word, left);
}

/* The row of one token and head in q, k or v. */
static inline const char *token_row(const attention_layout *l, const void *base, int64_t token, int64_t head) {
    return (const char *)base + (token * l->heads + head) * l->head_dim * (l->form == ATTENTION_FLOAT ? 4 : 2);
}

static inline int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Keys [first, first + VEC_LANES) become VEC_LANES lanes of the panel at `to`, whose rows are `width` words apart. */
VEC_INLINE void pack_key_lanes(attention_form form, const attention_layout *l, const void *k, int64_t head, int64_t first, uint32_t *to,
                               int64_t width) {
    int64_t rows = smaller(VEC_LANES, l->keys - first);
    for (int64_t word = 0; word < l->words; word += VEC_LANES) {
        vec square[VEC_LANES];
        for (int64_t r = 0; r < VEC_LANES; r++)
            square[r] = r < rows ? load_words(form, token_row(l, k, first + r, head), word, l->head_dim) : vec_zero();
        vec_transpose(square);
        int64_t n = smaller(VEC_LANES, l->words - word);
        for (int64_t r = 0; r < n; r++)
            vec_store((float *)(to + (word + r) * width), square[r]);
    }
}

VEC_INLINE void pack_keys(attention_form form, const attention_layout *l, const void *k, int64_t head, int64_t first, int64_t end,
                          uint32_t *packed) {
    for (int64_t panel = first, width; panel < end; panel += width) {
        width = attention_panel_width(l, panel, l->padded_keys);
        for (int64_t lane = 0; lane < width; lane += VEC_LANES)
            pack_key_lanes(form, l, k, head, panel + lane, packed + panel * l->words + lane, width);
    }
}

/* One word row of a panel of values: the columns [column, column + width) of two keys side by side, or of one. b may be NULL. */
static inline void pack_value_pair(const uint16_t *a, const uint16_t *b, int64_t column, int64_t width, int64_t head_dim, uint32_t *to) {
    int64_t n = smaller(width, head_dim - column);
    if (b != NULL)
        for (int64_t c = 0; c < n; c++)
            to[c] = a[column + c] | (uint32_t)b[column + c] << 16;
    else
        for (int64_t c = 0; c < n; c++)
            to[c] = a[column + c];
    for (int64_t c = n; c < width; c++)
        to[c] = 0;
}

VEC_INLINE void pack_value_row(attention_form form, const void *row, int64_t column, int64_t width, int64_t head_dim, uint32_t *to) {
    for (int64_t c = 0; c < width; c += VEC_LANES)
        vec_store((float *)(to + c), load_words(form, row, column + c, head_dim));
}

/* Values of the keys [first, end), which are one block; `end` counts padding. */
VEC_INLINE void pack_values(attention_form form, const attention_layout *l, const void *v, int64_t head, int64_t first, int64_t end,
                            uint32_t *packed) {
    int64_t words = attention_key_words(l, end - first), step = attention_in_pairs(form) ? 2 : 1;
    uint32_t *block = packed + attention_key_words(l, first) * l->columns;
    for (int64_t column = 0, width; column < l->columns; column += width) {
        width = attention_panel_width(l, column, l->columns);
        for (int64_t word = 0; word < words; word++) {
            int64_t key = first + word * step;
            uint32_t *to = block + column * words + word * width;
            if (key >= l->keys)
                memset(to, 0, (size_t)width * sizeof *to);
            else if (attention_in_pairs(form))
                pack_value_pair((const uint16_t *)token_row(l, v, key, head),
                                key + 1 < l->keys ? (const uint16_t *)token_row(l, v, key + 1, head) : NULL, column, width, l->head_dim, to);
            else
                pack_value_row(form, token_row(l, v, key, head), column, width, l->head_dim, to);
        }
    }
}

/* The bucket of difference = key - query as UMT5 has it: a half of the buckets for each sign, half of those for single steps, the others
 * logarithmic up to max_distance; every step in float32, because the borders lie where its rounding puts them. */
static inline int32_t relative_bucket(int64_t difference, int64_t buckets, int32_t max_distance) {
    int64_t half = buckets / 2, exact = half / 2, base = difference > 0 ? half : 0, distance = difference < 0 ? -difference : difference;
    if (distance < exact)
        return (int32_t)(base + distance);
    float ratio = logf((float)distance / (float)exact) / (float)log((double)max_distance / (double)exact);
    float steps = ratio * (float)(half - exact);
    int64_t bucket = steps < (float)half ? exact + (int64_t)steps : half - 1;
    return (int32_t)(base + smaller(bucket, half - 1));
}

static inline void fill_buckets(const attention_layout *l, const wo_attention_args *args, int32_t *buckets) {
    for (int64_t i = 0; i < l->differences; i++)
        buckets[i] = relative_bucket(i - (l->queries - 1), args->relative.shape[0], args->max_distance);
}

/* The bias of each difference for one head, in units of log2; the floats behind the last are read together with it, never used. */
static inline void fill_biases(const attention_layout *l, const wo_attention_args *args, const int32_t *buckets, int64_t head, float *biases) {
    const float *table = args->relative.data;
    for (int64_t i = 0; i < l->differences; i++)
        biases[i] = table[buckets[i] * l->heads + head] * 1.44269504f;
    for (int64_t i = l->differences; i < (int64_t)l->bias_floats; i++)
        biases[i] = 0.0f;
}

#endif
