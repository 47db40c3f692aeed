/* Products of bfloat16 by AMX: one instruction adds the product of 16 pixels x 32 channels with 32 channels x 16 columns to 16 x 16 sums.
 * Tasks and blocks are those of tile.h; the register tile is 32 pixels x 32 columns, four tiles of sums:
 *
 *     sums 0 1   =   inputs 4   x   weights 6 7        a step: 16 words of K, four loads of 1 KiB for four products
 *          2 3              5
 *
 * A step's products take 64 cycles, so its loads must not all come from the second-level cache: blocks are short enough that a panel of
 * weights stays in the first while the pixels of the chunk stream past it. Sixteen pixels at a constant stride are read as they lie. They are
 * first copied into whole tiles where the image's edge, the doubling or a number of channels that is no multiple of 32 is in the way, and where
 * the stride is a multiple of a page: then all pixels fall into few sets of the caches.
 */
#include "device/cpu/kernels/tile.h"

#if defined(WO_ISA_AMX)
#include "device/cpu/kernels/amx.h"
#include "device/cpu/kernels/tile_plan.h"

enum {
    WORDS = 288,   /* of a block: 36 KiB of weights in a panel */
    CHUNK = 512,   /* pixels of a task */
    COLUMNS = 192, /* of a task */
    GROUPS = CHUNK / AMX_SIDE,
    PAGE = 4096
};

/* Where 16 pixels find one tap: `stride` bytes from pixel to pixel, `step` bytes from one step of K to the next. */
typedef struct place {
    const char *at;
    size_t stride, step;
} place;

typedef struct scratch_layout {
    uint32_t weights[WORDS * AMX_PAIR]; /* two columns of tiles, one behind the other */
    float block[AMX_PAIR * AMX_PAIR];      /* sums of one block, before they are added */
    float sums[CHUNK * COLUMNS];
    uint32_t copies[CHUNK * WORDS]; /* [group][step][pixel][word]: whole tiles */
    place places[GROUPS][TILE_TAPS];
} scratch_layout;
_Static_assert(sizeof(scratch_layout) <= WO_CPU_SCRATCH_BYTES, "an AMX task must fit into a worker's scratch");

/* to[32][stride] = one block's products for 32 pixels x 32 columns. The inputs are loaded with the hint that they will not be needed soon:
 * without it they drive the weights out of the first-level cache, and a quarter of the speed is lost. */
static __attribute__((noinline)) void multiply_tile(int taps, int steps, const place *upper, const place *lower, const uint32_t *left,
                                                    const uint32_t *right, float *to, size_t stride) {
    AMX_MEMORY_IS_WRITTEN();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int tap = 0; tap < taps; tap++) {
        const char *a = upper[tap].at, *b = lower[tap].at;
        const size_t a_stride = upper[tap].stride, b_stride = lower[tap].stride;
        const size_t a_step = upper[tap].step, b_step = lower[tap].step;
        for (int k = 0; k < steps; k++, a += a_step, b += b_step, left += AMX_TILE, right += AMX_TILE) {
            _tile_loadd(6, left, 4 * AMX_SIDE);
            _tile_stream_loadd(4, a, a_stride);
            _tile_loadd(7, right, 4 * AMX_SIDE);
            _tile_stream_loadd(5, b, b_stride);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, to, 4 * stride);
    _tile_stored(1, to + AMX_SIDE, 4 * stride);
    _tile_stored(2, to + AMX_SIDE * stride, 4 * stride);
    _tile_stored(3, to + AMX_SIDE * stride + AMX_SIDE, 4 * stride);
    AMX_MEMORY_IS_WRITTEN();
}

static void add_block(const float *block, float *sums) {
    for (int r = 0; r < AMX_PAIR; r++)
        VEC_UNROLL for (int j = 0; j < AMX_PAIR; j += VEC_LANES) {
            float *at = sums + r * COLUMNS + j;
            vec_store(at, vec_add(vec_load(at), vec_load(block + r * AMX_PAIR + j)));
        }
}

/* Copies whole steps of one tap for `pixels` <= 16 pixels into tiles; the remaining rows become 0. */
static void copy_pixels(const void *const *at, int pixels, int steps, uint32_t *tile) {
    for (int r = 0; r < AMX_SIDE; r++)
        for (int k = 0; k < steps; k++)
            vec_store((float *)(tile + k * AMX_TILE + r * AMX_STEP), r < pixels ? vec_load_words((const char *)at[r] + k * 4 * AMX_STEP) : vec_zero());
}

/* One block of a task. */
typedef struct block_run {
    const tile_task *t;
    tile_block block;
    tile_taps live;
    bool whole;    /* whole steps in each tap */
    int64_t words; /* of K, without the padding of the last step */
    int taps, steps; /* steps of each tap; joined taps count as one */
    int groups;
    scratch_layout *scratch;
} block_run;

/* Taps of frames that are not there keep their place when taps are joined: the instruction sums each step by itself, so the bits of a sum
 * depend on what shares a step. */
static block_run block_run_of(const tile_task *t, const tile_block *block, scratch_layout *scratch) {
    block_run b = {.t = t, .block = *block, .whole = block->channels % (2 * AMX_STEP) == 0, .scratch = scratch};
    b.live = tile_taps_of(t, block, !b.whole);
    b.words = b.live.count * tile_words_of(TILE_BF16, block->channels);
    b.taps = b.whole ? b.live.count : 1;
    b.steps = (int)(tile_ceil(b.words, AMX_STEP) / b.taps);
    b.groups = (int)tile_ceil(t->pixels, AMX_SIDE);
    return b;
}

/* The places of one group of pixels when its block has whole steps in each tap. */
static void place_group(const block_run *b, int64_t first, int pixels, place *places, uint32_t *copies) {
    const tile_plan *s = b->t->s;
    const int64_t y = first / s->out_width, x = first % s->out_width;
    const int down = s->p.downsample;
    const size_t pixel_bytes = (size_t)s->p.channels * 2, stride = pixel_bytes << down;
    const bool row = stride % PAGE != 0 && pixels == AMX_SIDE && !s->p.upsample && x + AMX_SIDE <= s->out_width;
    const void *at[TILE_TAPS * AMX_SIDE];
    bool located = false;
    for (int i = 0; i < b->taps; i++, copies += b->steps * AMX_TILE) {
        const int64_t from_y = (y << down) + b->live.dy[i], from_x = (x << down) + b->live.dx[i];
        if (row && (from_y < 0 || from_y >= s->in_height)) {
            places[i] = (place){(const char *)tile_zeros, 0, 0};
        } else if (row && from_x >= 0 && from_x + ((AMX_SIDE - 1) << down) < s->in_width) {
            places[i] = (place){b->live.frame[i] + (size_t)(from_y * s->p.width + from_x) * pixel_bytes, stride, 4 * AMX_STEP};
        } else {
            if (!located)
                tile_locate(s, &b->live, first, pixels, at, AMX_SIDE);
            located = true;
            copy_pixels(at + i * AMX_SIDE, pixels, b->steps, copies);
            places[i] = (place){(const char *)copies, 4 * AMX_STEP, 4 * AMX_TILE};
        }
    }
}

/* The place of one group when it has not: its taps are copied one behind the other, with zeros up to a whole step. */
static void join_group(const block_run *b, int64_t first, int pixels, place *places, uint32_t *copies) {
    const int64_t words = tile_words_of(TILE_BF16, b->block.channels);
    uint32_t row[WORDS];
    const void *at[TILE_TAPS * AMX_SIDE];
    tile_locate(b->t->s, &b->live, first, pixels, at, AMX_SIDE);
    memset(row, 0, sizeof row);
    memset(copies, 0, (size_t)b->steps * AMX_TILE * 4);
    for (int r = 0; r < pixels; r++) {
        for (int i = 0; i < b->live.count; i++)
            tile_pack_row(TILE_BF16, WO_BF16, at[i * AMX_SIDE + r], b->block.channels, row + i * words);
        for (int k = 0; k < b->steps; k++)
            vec_store((float *)(copies + k * AMX_TILE + r * AMX_STEP), vec_load_words(row + k * AMX_STEP));
    }
    places[0] = (place){(const char *)copies, 4 * AMX_STEP, 4 * AMX_TILE};
}

/* Finds or copies the inputs of all groups, and of one more where their number is odd: zeros. */
static void place_groups(const block_run *b) {
    for (int g = 0; g < b->groups + b->groups % 2; g++) {
        place *places = b->scratch->places[g];
        const int64_t first = b->t->first_pixel + g * AMX_SIDE;
        const int pixels = (int)tile_min(AMX_SIDE, b->t->pixels - g * AMX_SIDE);
        if (pixels > 0)
            (b->whole ? place_group : join_group)(b, first, pixels, places, b->scratch->copies + g * AMX_SIDE * WORDS);
        else
            for (int i = 0; i < b->taps; i++)
                places[i] = (place){(const char *)tile_zeros, 0, 0};
    }
}

/* One column of tiles: 16 output channels from `column` of the task on; behind the last channel and the last word they are 0. */
static void pack_column(const block_run *b, int64_t column, uint32_t *to) {
    tile_pack_panel(b->t->s, &b->live, &b->block, b->t->column + column, 1, to);
    memset(to + b->words * AMX_SIDE, 0, (size_t)(tile_round_up(b->words, AMX_STEP) - b->words) * AMX_SIDE * 4);
}

static void multiply_block(const block_run *b, bool add) {
    uint32_t *left = b->scratch->weights, *right = left + tile_round_up(b->words, AMX_STEP) * AMX_SIDE;
    place_groups(b);
    for (int64_t column = 0; column < b->t->columns; column += AMX_PAIR) {
        pack_column(b, column, left);
        pack_column(b, column + AMX_SIDE, right);
        for (int g = 0; g < b->groups; g += 2) {
            const place(*places)[TILE_TAPS] = b->scratch->places + g;
            float *sums = b->scratch->sums + g * AMX_SIDE * COLUMNS + column;
            if (add) {
                multiply_tile(b->taps, b->steps, places[0], places[1], left, right, b->scratch->block, AMX_PAIR);
                add_block(b->scratch->block, sums);
            } else {
                multiply_tile(b->taps, b->steps, places[0], places[1], left, right, sums, COLUMNS);
            }
        }
    }
}

static void run_task(void *ctx, int64_t index, int worker, void *memory) {
    (void)worker;
    scratch_layout *scratch = memory;
    const tile_task t = tile_task_at(ctx, index);
    bool add = false;
    amx_configure();
    for (int i = 0; i < t.s->blocking.blocks; i++) {
        const tile_block block = tile_block_at(&t.s->blocking, i);
        if (!tile_block_is_live(&t, &block))
            continue;
        const block_run b = block_run_of(&t, &block, scratch);
        multiply_block(&b, add);
        add = true;
    }
    _tile_release();
    if (!add)
        memset(scratch->sums, 0, sizeof scratch->sums);
    tile_store_rows(&t, 0, t.pixels, scratch->sums, COLUMNS);
}

wo_status WO_KERNEL(tile_amx_run)(wo_pool *pool, wo_cancel *cancel, const tile_product *p) {
    tile_plan s = tile_plan_of(p, WORDS, CHUNK, AMX_SIDE, COLUMNS);
    return wo_pool_run(pool, tile_tasks(&s), run_task, &s, cancel);
}
#endif
