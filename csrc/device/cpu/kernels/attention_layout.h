/* Sizes of an attention call, and where packed keys and values lie in its workspace. Everything here follows from shapes and dtypes.
 *
 *   workspace   [ keys | values | biases ] for each head of a group, then the bucket of each difference
 *   keys        panels of ATTENTION_PANEL keys, the rest in panels of one vector; each panel is [words][its keys]
 *   values      blocks of `block` keys; in a block, panels of columns, cut in the same way, each [key words][its columns]
 *   biases      one float for each difference key - query, from 1 - queries to keys - 1, in units of log2
 *
 * A word is 32 bits, the unit that one step of a sum takes: a float, or with VDPBF16PS a pair of bfloat16. Rows of q and k are paired along
 * head_dim, and values along the keys. Heads are packed in groups large enough to keep many threads busy, so that the workspace
 * does not grow with the number of heads. */
#ifndef WO_KERNELS_ATTENTION_LAYOUT_H
#define WO_KERNELS_ATTENTION_LAYOUT_H

#include "device/cpu/kernels.h"
#include "device/cpu/kernels/vec.h"

/* The register tile: ROWS x PANEL sums, and PANEL / VEC_LANES words of the panel beside them. */
enum {
    ATTENTION_ROWS = 6,
    ATTENTION_VECS = VEC_LANES == 16 ? 4 : 2,
    ATTENTION_PANEL = ATTENTION_VECS * VEC_LANES,
    ATTENTION_MAX_BLOCK = 512,
    ATTENTION_MAX_TILE = 96,
    ATTENTION_TILES_IN_FLIGHT = 512
};

/* How operands become words. */
typedef enum attention_form {
    ATTENTION_FLOAT,  /* float32 as it is */
    ATTENTION_PAIRS,  /* bfloat16 in pairs */
    ATTENTION_WIDENED /* bfloat16 to float32, where no instruction multiplies pairs */
} attention_form;

typedef struct attention_layout {
    attention_form form;
    int64_t queries, keys, heads, head_dim;
    int64_t words;       /* of one row of q or k */
    int64_t columns;     /* head_dim rounded up to whole vectors */
    int64_t padded_keys; /* keys rounded up to whole vectors */
    int64_t block;       /* keys that are in work at a time: a sum over keys starts anew in every block */
    int64_t tile;        /* queries of a tile */
    int64_t group;       /* heads that are packed at a time */
    int64_t differences; /* 0 without a relative bias */
    size_t head_words;   /* of one head's packed values; its packed keys need no more */
    size_t bias_floats;  /* of one head */
} attention_layout;

static inline int64_t attention_round_up(int64_t n, int64_t unit) {
    return (n + unit - 1) / unit * unit;
}

static inline int64_t attention_clamp(int64_t n, int64_t low, int64_t high) {
    return n < low ? low : n > high ? high : n;
}

/* Width of the panel that begins at `at` of a row that ends at `end`: a full one, or a single vector where less is left. */
static inline int64_t attention_panel_width(int64_t at, int64_t end) {
    return end - at >= ATTENTION_PANEL ? ATTENTION_PANEL : VEC_LANES;
}

/* Words that n keys take in the values' panels. */
static inline int64_t attention_key_words(const attention_layout *l, int64_t n) {
    return l->form == ATTENTION_PAIRS ? n / 2 : n;
}

static inline attention_layout attention_layout_of(const wo_attention_args *args) {
    attention_layout l = {.queries = args->q.shape[0],
                          .keys = args->k.shape[0],
                          .heads = args->q.shape[1],
                          .head_dim = args->q.shape[2]};
    l.form = args->q.dtype == WO_F32 ? ATTENTION_FLOAT : VEC_HAS_BF16_DOT ? ATTENTION_PAIRS : ATTENTION_WIDENED;
    l.words = l.form == ATTENTION_PAIRS ? (l.head_dim + 1) / 2 : l.head_dim;
    l.columns = attention_round_up(l.head_dim, VEC_LANES);
    l.padded_keys = attention_round_up(l.keys, VEC_LANES);
    /* Keys and values of a block stay in the second cache: 512 KiB in float32. */
    l.block = attention_clamp(65536 / l.head_dim / 64 * 64, 64, ATTENTION_MAX_BLOCK);
    /* A tile is some milliseconds of work, with its sums in the second cache. */
    int64_t work = VEC_LANES >= 8 ? 500000000 : 40000000;
    int64_t rows = attention_clamp(work / (l.keys * l.head_dim), 1, ATTENTION_MAX_TILE);
    rows = attention_clamp(ATTENTION_MAX_TILE * 512 / l.head_dim, 1, rows);
    l.tile = attention_clamp(rows / ATTENTION_ROWS * ATTENTION_ROWS, ATTENTION_ROWS, ATTENTION_MAX_TILE);
    int64_t tiles = (l.queries + l.tile - 1) / l.tile;
    l.group = attention_clamp((ATTENTION_TILES_IN_FLIGHT + tiles - 1) / tiles, 1, l.heads);
    l.head_words = (size_t)(l.columns * attention_key_words(&l, l.padded_keys));
    if (args->relative.data != NULL) {
        l.differences = l.queries + l.keys - 1;
        l.bias_floats = (size_t)(l.differences + ATTENTION_PANEL);
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
    return 64 + 4 * (2 * group * l->head_words + group * l->bias_floats + (size_t)l->differences);
}

static inline attention_room attention_room_in(const attention_layout *l, void *workspace) {
    size_t group = (size_t)l->group;
    attention_room room;
    room.keys = (uint32_t *)(((uintptr_t)workspace + 63) / 64 * 64);
    room.values = room.keys + group * l->head_words;
    room.biases = (float *)(room.values + group * l->head_words);
    room.buckets = (int32_t *)(room.biases + group * l->bias_floats);
    return room;
}

#endif
