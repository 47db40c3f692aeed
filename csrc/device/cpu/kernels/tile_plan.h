/* How a product is cut into tasks, and where a task finds its operands: what the vector tiles (tile.c) and the AMX tiles (tile_amx.c)
 * share. All cuts come from shapes, dtypes and the instruction set. */
#ifndef WO_KERNELS_TILE_PLAN_H
#define WO_KERNELS_TILE_PLAN_H

#include "device/cpu/kernels/tile_block.h"
#include "device/cpu/kernels/tile_pack.h"

typedef struct tile_plan {
    tile_product p; /* without space where the kernel has none: then one row of pixels */
    tile_kind kind;
    tile_blocking blocking;
    int64_t in_height, in_width;           /* of one frame of the input, doubled where it is */
    int64_t out_height, out_width, pixels; /* of one frame of the output */
    int64_t chunk, chunks;                 /* pixels of a task */
    int64_t columns, column_chunks;        /* output channels of a task */
} tile_plan;

typedef struct tile_task {
    const tile_plan *s;
    int64_t image, first_pixel, pixels, column, columns;
} tile_task;

/* The taps of one block whose frame is there: where each frame begins, and how far the tap looks. */
typedef struct tile_taps {
    int count;
    int tap[TILE_TAPS];
    const char *frame[TILE_TAPS]; /* at the first channel of the block */
    int64_t dy[TILE_TAPS], dx[TILE_TAPS];
} tile_taps;

/* What the zero padding reads. */
static const uint32_t tile_zeros[TILE_WORDS];

/* Blocks of at most `words` words; tasks of at most `chunk` pixels, in tiles of `rows`, by `columns` output channels. */
VEC_INLINE tile_plan tile_plan_of(const tile_product *p, int64_t words, int64_t chunk, int64_t rows, int64_t columns) {
    tile_plan s = {.p = *p, .kind = tile_kind_of(p->x_dtype, p->w_dtype)};
    if (p->kh * p->kw == 1 && !p->upsample) {
        s.p.width *= s.p.height;
        s.p.height = 1;
    }
    s.blocking = tile_blocking_of(p, s.kind, words);
    s.in_height = s.p.height << p->upsample;
    s.in_width = s.p.width << p->upsample;
    s.out_height = s.in_height >> p->downsample;
    s.out_width = s.in_width >> p->downsample;
    s.pixels = s.out_height * s.out_width;
    s.chunk = tile_round_up(tile_ceil(s.pixels, tile_ceil(s.pixels, chunk)), rows);
    s.chunks = tile_ceil(s.pixels, s.chunk);
    s.columns = tile_round_up(tile_ceil(p->out.columns, tile_ceil(p->out.columns, columns)), VEC_LANES);
    s.column_chunks = tile_ceil(p->out.columns, s.columns);
    return s;
}

VEC_INLINE int64_t tile_tasks(const tile_plan *s) { return s->p.images * s->chunks * s->column_chunks; }

VEC_INLINE tile_task tile_task_at(const tile_plan *s, int64_t index) {
    tile_task t = {.s = s};
    t.column = index % s->column_chunks * s->columns;
    t.columns = tile_min(s->columns, s->p.out.columns - t.column);
    t.first_pixel = index / s->column_chunks % s->chunks * s->chunk;
    t.pixels = tile_min(s->chunk, s->pixels - t.first_pixel);
    t.image = index / s->column_chunks / s->chunks;
    return t;
}

/* With `all` set, taps of frames of zeros are listed too, with frame == NULL. Where the output is halved, there is no padding above and to
 * the left. */
VEC_INLINE tile_taps tile_taps_of(const tile_task *t, const tile_block *block, bool all) {
    const tile_product *p = &t->s->p;
    const int64_t above = p->downsample ? 0 : (p->kh - 1) / 2, left = p->downsample ? 0 : (p->kw - 1) / 2;
    tile_taps live = {0};
    for (int i = 0; i < block->taps; i++) {
        int tap = block->first_tap + i;
        const char *frame = p->frames[t->image + tap / (p->kh * p->kw)];
        if (frame == NULL && !all)
            continue;
        live.tap[live.count] = tap;
        live.frame[live.count] = frame == NULL ? NULL : frame + (size_t)block->first_channel * tile_bytes(p->x_dtype);
        live.dy[live.count] = tap / p->kw % p->kh - above;
        live.dx[live.count] = tap % p->kw - left;
        live.count++;
    }
    return live;
}

VEC_INLINE bool tile_block_is_live(const tile_task *t, const tile_block *block) {
    return tile_taps_of(t, block, false).count > 0;
}

/* The last block with a frame to read, or -1. */
VEC_INLINE int tile_last_live_block(const tile_task *t) {
    for (int i = t->s->blocking.blocks - 1; i >= 0; i--) {
        tile_block block = tile_block_at(&t->s->blocking, i);
        if (tile_block_is_live(t, &block))
            return i;
    }
    return -1;
}

/* Where output pixels [first, first + count) find their inputs: at[tap * stride + r]; in the padding that is a row of zeros. */
VEC_INLINE void tile_locate(const tile_plan *s, const tile_taps *live, int64_t first, int count, const void **at, int stride) {
    const tile_product *p = &s->p;
    const size_t pixel_bytes = (size_t)p->channels * tile_bytes(p->x_dtype);
    int64_t y = first / s->out_width, x = first % s->out_width;
    for (int r = 0; r < count; r++) {
        for (int i = 0; i < live->count; i++) {
            int64_t row = (y << p->downsample) + live->dy[i], column = (x << p->downsample) + live->dx[i];
            bool inside = live->frame[i] != NULL && row >= 0 && row < s->in_height && column >= 0 && column < s->in_width;
            int64_t pixel = (row >> p->upsample) * p->width + (column >> p->upsample);
            at[i * stride + r] = inside ? live->frame[i] + (size_t)pixel * pixel_bytes : (const void *)tile_zeros;
        }
        if (++x == s->out_width) {
            x = 0;
            y++;
        }
    }
}

/* Packs the block's weights for output channels [column, column + vectors * VEC_LANES). Runs of taps that lie one behind the other
 * in a weight's row are packed as one. */
VEC_INLINE void tile_pack_panel(const tile_plan *s, const tile_taps *live, const tile_block *block, int64_t column, int vectors,
                                uint32_t *panel) {
    const tile_product *p = &s->p;
    const int64_t row_elements = s->blocking.taps * p->channels;
    const int64_t rows = p->out.columns - column;
    const bool joins = block->channels == p->channels && (s->kind == TILE_F32 || p->channels % 2 == 0);
    for (int i = 0; i < live->count;) {
        int run = 1;
        while (joins && i + run < live->count && live->tap[i + run] == live->tap[i] + run)
            run++;
        const int64_t first = column * row_elements + live->tap[i] * p->channels + block->first_channel;
        const char *w = (const char *)p->w + (size_t)first * tile_bytes(p->w_dtype);
        const int64_t elements = run * block->channels;
        if (s->kind == TILE_BF16)
            tile_pack_run(TILE_BF16, WO_BF16, w, row_elements, rows, elements, panel, vectors);
        else if (p->w_dtype == WO_F32)
            tile_pack_run(TILE_F32, WO_F32, w, row_elements, rows, elements, panel, vectors);
        else if (p->w_dtype == WO_BF16)
            tile_pack_run(TILE_F32, WO_BF16, w, row_elements, rows, elements, panel, vectors);
        else
            tile_pack_run(TILE_F32, WO_F16, w, row_elements, rows, elements, panel, vectors);
        panel += run * tile_words_of(s->kind, block->channels) * vectors * VEC_LANES;
        i += run;
    }
}

/* Bias, epilogue and store of pixels [r, r + rows) of the task from their sums. */
VEC_INLINE void tile_store_rows(const tile_task *t, int64_t r, int64_t rows, const float *sums, int64_t stride) {
    const int64_t row = t->image * t->s->pixels + t->first_pixel + r;
    WO_KERNEL(tile_store)(&t->s->p.out, row, rows, t->column, t->columns, sums, stride);
}

#endif
