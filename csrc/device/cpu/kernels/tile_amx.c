/* Products of bfloat16 by AMX: one instruction adds the product of 16 pixels x 32 channels with 32 channels x 16 columns to 16 x 16 sums.
 * Tasks, blocks and packed weights are those of tile.h; the register tile is 32 pixels x 32 columns, four tiles of sums:
 *
 *     sums 0 1   =   inputs 4   x   weights 6 7        a step: 16 words of K, four loads of 1 KiB for four products
 *          2 3              5
 *
 * A step's products take 64 cycles, so its loads must not all come from the second-level cache: blocks are short enough that a panel of
 * weights stays in the first while the pixels of the chunk stream past it. Sixteen pixels at a small constant stride are read as they lie;
 * where the stride is large, or the image's edge, the doubling, or a number of channels that is no multiple of 32 is in the way, they are
 * first copied into whole tiles.
 */
#include "device/cpu/kernels/tile.h"

#if defined(WO_ISA_AMX)
#include "device/cpu/kernels/tile_plan.h"

enum {
    WORDS = 288,         /* of a block */
    STEP = 16,           /* words of K in a tile */
    SIDE = 16,           /* pixels or columns of a tile */
    TILE = SIDE * STEP,  /* words of a tile */
    PANEL = 2 * SIDE,    /* columns; 36 KiB of weights */
    CHUNK = 512,         /* pixels of a task; with the columns, what the second-level cache holds */
    COLUMNS = 384,       /* of a task */
    FEW_TASKS = 8,       /* below that, tasks of half or a quarter of the columns */
    GROUPS = CHUNK / SIDE,
    DIRECT_BYTES = 1024  /* from pixel to pixel; farther apart, 16 rows of a tile meet in few sets of the cache */
};

/* Where 16 pixels find one tap: `stride` bytes from pixel to pixel, `step` bytes from one step of K to the next. */
typedef struct place {
    const char *at;
    size_t stride, step;
} place;

typedef struct scratch_layout {
    uint32_t weights[WORDS * PANEL];
    float sums[CHUNK * COLUMNS];
    float block[PANEL * PANEL]; /* sums of one block, before they are added */
    uint32_t copies[CHUNK * WORDS]; /* [group][step][pixel][word]: whole tiles, one behind the other */
    place places[GROUPS][TILE_TAPS];
} scratch_layout;
_Static_assert(sizeof(scratch_layout) <= WO_CPU_SCRATCH_BYTES, "an AMX task must fit into a worker's scratch");

/* The tile intrinsics of GCC do not tell the compiler which memory they read. */
#define MEMORY_IS_WRITTEN() __asm__ volatile("" : : : "memory")

typedef struct tile_shapes {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_shapes;

static void configure_tiles(void) {
    tile_shapes shapes = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        shapes.row_bytes[i] = 64;
        shapes.rows[i] = SIDE;
    }
    __asm__ volatile("" : : "r"(&shapes) : "memory");
    _tile_loadconfig(&shapes);
}

/* to[32][stride bytes] = the sums of one block for 32 pixels x two columns of tiles. The inputs are loaded with the hint that they will
 * not be needed soon: without it they drive the weights out of the first-level cache, and a quarter of the speed is lost. */
static __attribute__((noinline)) void multiply_tile(int taps, int steps, const place *upper, const place *lower, const uint32_t *left,
                                                    const uint32_t *right, float *to, size_t stride) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int tap = 0; tap < taps; tap++) {
        const char *a = upper[tap].at, *b = lower[tap].at;
        const size_t a_stride = upper[tap].stride, b_stride = lower[tap].stride;
        const size_t a_step = upper[tap].step, b_step = lower[tap].step;
        for (int k = 0; k < steps; k++, a += a_step, b += b_step, left += TILE, right += TILE) {
            _tile_loadd(6, left, 4 * SIDE);
            _tile_stream_loadd(4, a, a_stride);
            _tile_loadd(7, right, 4 * SIDE);
            _tile_stream_loadd(5, b, b_stride);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, to, stride);
    _tile_stored(1, to + SIDE, stride);
    _tile_stored(2, (char *)to + SIDE * stride, stride);
    _tile_stored(3, (char *)(to + SIDE) + SIDE * stride, stride);
    MEMORY_IS_WRITTEN();
}

static void add_block(const float *block, float *sums) {
    for (int r = 0; r < PANEL; r++)
        VEC_UNROLL for (int j = 0; j < PANEL; j += VEC_LANES) {
            float *at = sums + r * COLUMNS + j;
            vec_store(at, vec_add(vec_load(at), vec_load(block + r * PANEL + j)));
        }
}

/* Copies whole steps of one tap for `pixels` <= 16 pixels into tiles; the remaining rows become 0. */
static void copy_pixels(const void *const *at, int pixels, int steps, uint32_t *tile) {
    for (int k = 0; k < steps; k++, tile += TILE)
        for (int r = 0; r < SIDE; r++)
            vec_store((float *)(tile + r * STEP), r < pixels ? vec_load_words((const char *)at[r] + k * 4 * STEP) : vec_zero());
}

/* The places of one group of pixels when its block has whole steps in each tap. */
static void place_group(const tile_plan *s, const tile_taps *live, const tile_block *block, int64_t first, int pixels, place *places,
                        uint32_t *copies) {
    const int steps = (int)(block->channels / 2 / STEP);
    const int64_t y = first / s->out_width, x = first % s->out_width;
    const size_t pixel_bytes = (size_t)s->p.channels * 2;
    const bool row = pixel_bytes <= DIRECT_BYTES && pixels == SIDE && !s->p.upsample && x + SIDE <= s->out_width;
    const void *at[TILE_TAPS * SIDE];
    bool located = false;
    for (int i = 0; i < live->count; i++, copies += steps * TILE) {
        const int64_t from_y = y + live->dy[i], from_x = x + live->dx[i];
        if (row && (from_y < 0 || from_y >= s->out_height)) {
            places[i] = (place){(const char *)tile_zeros, 0, 0};
        } else if (row && from_x >= 0 && from_x + SIDE <= s->out_width) {
            places[i] = (place){live->frame[i] + (size_t)(from_y * s->p.width + from_x) * pixel_bytes, pixel_bytes, 4 * STEP};
        } else {
            if (!located)
                tile_locate(s, live, first, pixels, at, SIDE);
            located = true;
            copy_pixels(at + i * SIDE, pixels, steps, copies);
            places[i] = (place){(const char *)copies, 4 * STEP, 4 * TILE};
        }
    }
}

/* The place of one group when it has not: its taps are copied one behind the other, with zeros up to a whole step. */
static void join_group(const tile_plan *s, const tile_taps *live, const tile_block *block, int64_t first, int pixels, place *places,
                       uint32_t *copies) {
    const int64_t words = tile_words_of(TILE_BF16, block->channels);
    const int steps = (int)tile_ceil(live->count * words, STEP);
    uint32_t row[WORDS];
    const void *at[TILE_TAPS * SIDE];
    tile_locate(s, live, first, pixels, at, SIDE);
    memset(copies, 0, (size_t)steps * TILE * 4);
    memset(row, 0, sizeof row);
    for (int r = 0; r < pixels; r++) {
        for (int i = 0; i < live->count; i++)
            tile_pack_row(TILE_BF16, WO_BF16, at[i * SIDE + r], block->channels, row + i * words);
        for (int k = 0; k < steps; k++)
            memcpy(copies + k * TILE + r * STEP, row + k * STEP, 4 * STEP);
    }
    places[0] = (place){(const char *)copies, 4 * STEP, 4 * TILE};
}

/* Taps of frames that are not there keep their place when taps are joined: a step's sum begins anew, so its bits depend on what it holds. */
static void multiply_block(const tile_task *t, const tile_block *block, bool add, scratch_layout *scratch) {
    const tile_plan *s = t->s;
    const bool whole = block->channels % (2 * STEP) == 0;
    const tile_taps found = tile_taps_of(t, block, !whole), *live = &found;
    const int64_t words = live->count * tile_words_of(TILE_BF16, block->channels), padded = tile_round_up(words, STEP);
    const int taps = whole ? live->count : 1, steps = (int)(padded / STEP / taps);
    const int groups = (int)tile_ceil(t->pixels, SIDE);
    for (int g = 0; g < groups; g++) {
        int pixels = (int)tile_min(SIDE, t->pixels - g * SIDE);
        (whole ? place_group : join_group)(s, live, block, t->first_pixel + g * SIDE, pixels, scratch->places[g],
                                           scratch->copies + g * SIDE * WORDS);
    }
    if (groups % 2 != 0)
        for (int i = 0; i < taps; i++)
            scratch->places[groups][i] = (place){(const char *)tile_zeros, 0, 0};
    for (int64_t column = 0; column < t->columns; column += PANEL) {
        uint32_t *left = scratch->weights, *right = left + padded * SIDE;
        tile_pack_panel(s, live, block, t->column + column, 1, left);
        tile_pack_panel(s, live, block, t->column + column + SIDE, 1, right);
        memset(left + words * SIDE, 0, (size_t)(padded - words) * SIDE * 4);
        memset(right + words * SIDE, 0, (size_t)(padded - words) * SIDE * 4);
        MEMORY_IS_WRITTEN();
        for (int g = 0; g < groups; g += 2) {
            float *sums = scratch->sums + g * SIDE * COLUMNS + column;
            float *to = add ? scratch->block : sums;
            multiply_tile(taps, steps, scratch->places[g], scratch->places[g + 1], left, right, to, 4 * (add ? PANEL : COLUMNS));
            if (add)
                add_block(scratch->block, sums);
        }
    }
}

static void run_task(void *ctx, int64_t index, int worker, void *memory) {
    (void)worker;
    scratch_layout *scratch = memory;
    const tile_task t = tile_task_at(ctx, index);
    bool add = false;
    configure_tiles();
    for (int i = 0; i < t.s->blocking.blocks; i++) {
        const tile_block block = tile_block_at(&t.s->blocking, i);
        if (!tile_block_is_live(&t, &block))
            continue;
        multiply_block(&t, &block, add, scratch);
        add = true;
    }
    _tile_release();
    if (!add)
        memset(scratch->sums, 0, sizeof scratch->sums);
    tile_store_rows(&t, 0, t.pixels, scratch->sums, COLUMNS);
}

wo_status WO_KERNEL(tile_amx_run)(wo_pool *pool, wo_cancel *cancel, const tile_product *p) {
    tile_plan s = tile_plan_of(p, WORDS, CHUNK, SIDE, COLUMNS);
    for (int64_t columns = COLUMNS / 2; tile_tasks(&s) < FEW_TASKS && columns >= COLUMNS / 4; columns /= 2)
        s = tile_plan_of(p, WORDS, CHUNK, SIDE, columns);
    return wo_pool_run(pool, tile_tasks(&s), run_task, &s, cancel);
}
#endif
