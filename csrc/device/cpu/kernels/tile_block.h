/* How K is cut into blocks. The cut decides the order of every sum, so it depends on (taps, channels, kind) and on nothing else. */
#ifndef WO_KERNELS_TILE_BLOCK_H
#define WO_KERNELS_TILE_BLOCK_H

#include "device/cpu/kernels/tile.h"

typedef struct tile_blocking {
    int taps;         /* of the kernel */
    int group;        /* taps in a block; 1 when channels are cut */
    int64_t channels; /* of a tap */
    int64_t part;     /* channels in a block; all of them unless one tap alone is too long */
    int blocks;
} tile_blocking;

typedef struct tile_block {
    int first_tap, taps;
    int64_t first_channel, channels;
} tile_block;

/* The largest of: all taps, those of one frame, those of one row, a single one, that a block can hold. */
VEC_INLINE int tile_tap_group(int kt, int kh, int kw, int64_t words, int64_t limit) {
    int groups[] = {kt * kh * kw, kh * kw, kw};
    for (int i = 0; i < 3; i++)
        if (groups[i] <= TILE_TAPS && groups[i] * words <= limit)
            return groups[i];
    return 1;
}

/* Blocks of at most `limit` words, a multiple of 16. */
VEC_INLINE tile_blocking tile_blocking_of(const tile_product *p, tile_kind kind, int64_t limit) {
    int64_t words = tile_words_of(kind, p->channels);
    tile_blocking b = {.taps = p->kt * p->kh * p->kw, .channels = p->channels, .part = p->channels};
    b.group = tile_tap_group(p->kt, p->kh, p->kw, words, limit);
    if (words > limit) {
        int64_t part = tile_round_up(tile_ceil(words, tile_ceil(words, limit)), 16);
        b.part = kind == TILE_BF16 ? 2 * part : part;
    }
    b.blocks = (int)(tile_ceil(b.taps, b.group) * tile_ceil(b.channels, b.part));
    return b;
}

VEC_INLINE tile_block tile_block_at(const tile_blocking *b, int index) {
    int parts = (int)tile_ceil(b->channels, b->part);
    tile_block block = {.first_tap = index / parts * b->group, .first_channel = index % parts * b->part};
    block.taps = (int)tile_min(b->group, b->taps - block.first_tap);
    block.channels = tile_min(b->part, b->channels - block.first_channel);
    return block;
}

#endif
