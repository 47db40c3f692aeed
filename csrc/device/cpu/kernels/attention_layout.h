/* Sizes of an attention call, and where packed keys and values lie in its workspace. Everything here follows from shapes and dtypes.
 *
 *   workspace   [ keys | values | biases ] for each head of a group, then the bucket of each difference
 *   keys        panels of `panel` keys, the rest in panels of one vector; each panel is [words][its keys]
 *   values      blocks of `block` keys; in a block, panels of columns, cut in the same way, each [key words][its columns]
 *   biases      one float for each difference key - query, from 1 - queries to keys - 1, in units of log2
 *
 * A word is 32 bits, the unit that one step of a sum takes: a float, or a pair of bfloat16 where an instruction multiplies pairs. Rows of q
 * and k are paired along head_dim, and values along the keys. Heads are packed in groups large enough to keep many threads busy, so that
 * the workspace does not grow with the number of heads. */
#ifndef WO_KERNELS_ATTENTION_LAYOUT_H
#define WO_KERNELS_ATTENTION_LAYOUT_H

#include "device/cpu/kernels.h"
#include "device/cpu/kernels/vec.h"

/* How operands become words, and what multiplies them. */
typedef enum attention_form {
    ATTENTION_FLOAT,   /* float32 as it is */
    ATTENTION_WIDENED, /* bfloat16 to float32, where no instruction multiplies pairs */
    ATTENTION_PAIRS,   /* bfloat16 in pairs, VDPBF16PS */
    ATTENTION_TILES    /* bfloat16 in pairs, the tile registers of AMX */
} attention_form;

/* The register tile of vectors: ROWS x PANEL sums, with VECS words of the panel beside them. AMX has 32 x 32 sums in four of its tiles,
 * and steps of 16 words. */
enum {
    ATTENTION_ROWS = 6,
    ATTENTION_VECS = VEC_LANES == 16 ? 4 : 2,
    ATTENTION_PANEL = ATTENTION_VECS * VEC_LANES,
    ATTENTION_AMX_ROWS = 32,
    ATTENTION_AMX_PANEL = 32,
    ATTENTION_AMX_WORDS = 16,
    ATTENTION_MAX_BLOCK = 512,
    ATTENTION_TILES_IN_FLIGHT = 512
};

typedef struct attention_layout {
    attention_form form;
    int64_t queries, keys, heads, head_dim;
    int64_t rows;        /* queries that a register tile takes */
    int64_t panel;       /* keys or columns that it takes */
    int64_t words;       /* of one row of q or k, padded to what a step takes */
    int64_t columns;     /* head_dim padded to what a panel can be */
    int64_t padded_keys; /* keys padded likewise */
    int64_t block;       /* keys that are in work at a time: a sum over keys starts anew in every block */
    int64_t stride;      /* floats from one row of scores to the next: a block, and a line so that rows meet different sets of the cache */
    int64_t tile;        /* queries of a tile */
    int64_t group;       /* heads that are packed at a time */
    int64_t differences; /* 0 without a relative bias */
    size_t head_words;   /* of one head's packed keys, and of its values: the larger of both */
    size_t bias_floats;  /* of one head */
} attention_layout;

static inline int64_t attention_round_up(int64_t n, int64_t unit) {
    return (n + unit - 1) / unit * unit;
}

static inline int64_t attention_clamp(int64_t n, int64_t low, int64_t high) {
    return n < low ? low : n > high ? high : n;
}

static inline bool attention_in_pairs(attention_form form) {
    return form == ATTENTION_PAIRS || form == ATTENTION_TILES;
}

/* Width of the panel that begins at `at` of a row that ends at `end`: a full one, or a single vector where less is left. */
static inline int64_t attention_panel_width(const attention_layout *l, int64_t at, int64_t end) {
    return end - at >= l->panel ? l->panel : VEC_LANES;
}

/* Words that n keys take in the values' panels. */
static inline int64_t attention_key_words(const attention_layout *l, int64_t n) {
    return attention_in_pairs(l->form) ? n / 2 : n;
}

static inline attention_form attention_form_of(wo_dtype dtype) {
    if (dtype == WO_F32)
        return ATTENTION_FLOAT;
#if defined(WO_ISA_AMX)
    return ATTENTION_TILES;
#else
    return VEC_HAS_BF16_DOT ? ATTENTION_PAIRS : ATTENTION_WIDENED;
#endif
}

/* Queries of a tile: some milliseconds of work, with their sums in the second cache. A tile of the plain variant is held to less work, for
 * it takes ten times as long. */
static inline int64_t attention_tile_queries(const attention_layout *l) {
    const int64_t most = l->form == ATTENTION_TILES ? 6 * ATTENTION_AMX_ROWS : 16 * ATTENTION_ROWS;
    const int64_t work = l->form == ATTENTION_TILES ? 2000000000 : VEC_LANES >= 8 ? 500000000 : 40000000;
    int64_t n = work / (l->keys * l->head_dim), fit = most * 512 / l->head_dim;
    n = attention_clamp(n < fit ? n : fit, l->rows, most);
    return n / l->rows * l->rows;
}

static inline attention_layout attention_layout_of(const wo_attention_args *args) {
    attention_layout l = {.form = attention_form_of(args->q.dtype),
                          .queries = args->q.shape[0],
                          .keys = args->k.shape[0],
                          .heads = args->q.shape[1],
                          .head_dim = args->q.shape[2]};
    const bool amx = l.form == ATTENTION_TILES;
    const int64_t unit = amx ? ATTENTION_AMX_PANEL : VEC_LANES;
    l.rows = amx ? ATTENTION_AMX_ROWS : ATTENTION_ROWS;
    l.panel = amx ? ATTENTION_AMX_PANEL : ATTENTION_PANEL;
    l.words = attention_in_pairs(l.form) ? (l.head_dim + 1) / 2 : l.head_dim;
    l.words = attention_round_up(l.words, amx ? ATTENTION_AMX_WORDS : 1);
    l.columns = attention_round_up(l.head_dim, unit);
    l.padded_keys = attention_round_up(l.keys, unit);
    /* Keys and values of a block stay in the second cache (512 KiB in float32), and ROWS rows of scores in the first. */
    l.block = attention_clamp(65536 / l.head_dim / 64 * 64, 64, amx ? ATTENTION_MAX_BLOCK / 2 : ATTENTION_MAX_BLOCK);
    l.stride = l.block + 16;
    l.tile = attention_tile_queries(&l);
    int64_t tiles = (l.queries + l.tile - 1) / l.tile;
    l.group = attention_clamp((ATTENTION_TILES_IN_FLIGHT + tiles - 1) / tiles, 1, l.heads);
    int64_t value_words = l.columns * attention_key_words(&l, l.padded_keys), key_words = l.words * l.padded_keys;
    l.head_words = (size_t)(value_words > key_words ? value_words : key_words);
    if (args->relative.data != NULL) {
        l.differences = l.queries + l.keys - 1;
        l.bias_floats = (size_t)(l.differences + unit);
    }
    return l;
}

typedef struct attention_room {
    uint32_t *keys, *values; /* [group][head_words] */
    float *biases;           /* [group][bias_floats] */
    int32_t *buckets;        /* [differences] */
} attention_room;

static inline size_t attention_room_bytes(const attention_layout *l) {
    size_t group = (size_t)l->group;
    return 4 * (2 * group * l->head_words + group * l->bias_floats + (size_t)l->differences);
}

static inline attention_room attention_room_in(const attention_layout *l, void *workspace) {
    size_t group = (size_t)l->group;
    attention_room room;
    room.keys = workspace;
    room.values = room.keys + group * l->head_words;
    room.biases = (float *)(room.values + group * l->head_words);
    room.buckets = (int32_t *)(room.biases + group * l->bias_floats);
    return room;
}

#endif
