/* The product by register tiles of vectors; tile.h tells the idea. A worker's scratch during a task:
 *
 *     | weights: TILE_WORDS x TILE_COLUMNS words, in panels | sums: chunk x TILE_COLUMNS | inputs: TILE_ROWS x TILE_WORDS |
 *
 * The inputs are packed only where they must be converted, or where an odd number of bfloat16 channels leaves no whole words.
 */
#include "device/cpu/kernels/tile_kernel.h"
#include "device/cpu/kernels/tile_plan.h"

/* Pixels of a task: enough that packing the weights is little beside using them, few enough that a task takes some milliseconds. */
#if defined(WO_ISA_GENERIC)
enum { CHUNK = 96 };
#elif defined(WO_ISA_AVX2)
enum { CHUNK = 384 };
#else
enum { CHUNK = 512 };
#endif

typedef struct scratch_layout {
    uint32_t weights[TILE_WORDS * TILE_COLUMNS];
    float sums[CHUNK * TILE_COLUMNS];
    uint32_t inputs[TILE_ROWS * TILE_WORDS];
} scratch_layout;
_Static_assert(sizeof(scratch_layout) <= WO_CPU_SCRATCH_BYTES, "a tile task must fit into a worker's scratch");

/* The panels of a task: `vectors` spread over as few of them as hold them, as evenly as they go. */
typedef struct panels {
    int count, vectors;
} panels;

static panels panels_of(const tile_task *t) {
    int vectors = (int)tile_ceil(t->columns, VEC_LANES);
    return (panels){(int)tile_ceil(vectors, TILE_VECTORS), vectors};
}

static int panel_vectors(const panels *all, int i) {
    return all->vectors / all->count + (i < all->vectors % all->count);
}

/* Packs what tile_locate found into rows of words, one behind the other, as if there were one long tap. */
static void pack_inputs(const tile_plan *s, int taps, int64_t channels, int rows, const void **at, uint32_t *inputs) {
    const int64_t words = tile_words_of(s->kind, channels);
    for (int r = 0; r < rows; r++) {
        uint32_t *row = inputs + r * TILE_WORDS;
        for (int i = 0; i < taps; i++) {
            const void *from = at[i * TILE_ROWS + r];
            if (s->kind == TILE_BF16)
                tile_pack_row(TILE_BF16, WO_BF16, from, channels, row + i * words);
            else if (s->p.x_dtype == WO_BF16)
                tile_pack_row(TILE_F32, WO_BF16, from, channels, row + i * words);
            else
                tile_pack_row(TILE_F32, WO_F32, from, channels, row + i * words);
        }
        at[r] = row;
    }
}

static void pack_weights(const tile_task *t, const tile_block *block, const tile_taps *live, const panels *all, uint32_t *panel) {
    const int64_t words = live->count * tile_words_of(t->s->kind, block->channels);
    for (int i = 0, column = 0; i < all->count; i++) {
        int vectors = panel_vectors(all, i);
        tile_pack_panel(t->s, live, block, t->column + column, vectors, panel);
        panel += words * vectors * VEC_LANES;
        column += vectors * VEC_LANES;
    }
}

static void multiply_block(const tile_task *t, const tile_block *block, const tile_taps *live, bool add, bool last,
                           scratch_layout *scratch) {
    const tile_plan *s = t->s;
    const bool direct = s->kind == TILE_BF16 ? s->p.channels % 2 == 0 : s->p.x_dtype == WO_F32;
    const int64_t words = live->count * tile_words_of(s->kind, block->channels);
    const int taps = direct ? live->count : 1;
    const panels all = panels_of(t);
    const void *at[TILE_TAPS * TILE_ROWS];
    pack_weights(t, block, live, &all, scratch->weights);
    for (int64_t r = 0; r < t->pixels; r += TILE_ROWS) {
        int rows = (int)tile_min(TILE_ROWS, t->pixels - r);
        float *sums = scratch->sums + r * TILE_COLUMNS;
        tile_locate(s, live, t->first_pixel + r, rows, at, TILE_ROWS);
        if (!direct)
            pack_inputs(s, live->count, block->channels, rows, at, scratch->inputs);
        const uint32_t *panel = scratch->weights;
        for (int i = 0, column = 0; i < all.count; i++) {
            int vectors = panel_vectors(&all, i);
            tile_multiply(s->kind, vectors, rows, taps, words / taps, at, panel, sums + column, add);
            panel += words * vectors * VEC_LANES;
            column += vectors * VEC_LANES;
        }
        if (last)
            tile_store_rows(t, r, rows, sums, TILE_COLUMNS);
    }
}

static void run_task(void *ctx, int64_t index, int worker, void *memory) {
    (void)worker;
    scratch_layout *scratch = memory;
    const tile_task t = tile_task_at(ctx, index);
    const int last = tile_last_live_block(&t);
    bool add = false;
    for (int i = 0; i <= last; i++) {
        tile_block block = tile_block_at(&t.s->blocking, i);
        tile_taps live = tile_taps_of(&t, &block, false);
        if (live.count == 0)
            continue;
        multiply_block(&t, &block, &live, add, i == last, scratch);
        add = true;
    }
    if (last < 0) {
        memset(scratch->sums, 0, (size_t)t.pixels * TILE_COLUMNS * sizeof(float));
        tile_store_rows(&t, 0, t.pixels, scratch->sums, TILE_COLUMNS);
    }
}

wo_status WO_KERNEL(tile_run)(wo_pool *pool, wo_cancel *cancel, const tile_product *p) {
#if defined(WO_ISA_AMX)
    if (tile_kind_of(p->x_dtype, p->w_dtype) == TILE_BF16)
        return WO_KERNEL(tile_amx_run)(pool, cancel, p);
#endif
    tile_plan s = tile_plan_of(p, TILE_WORDS, CHUNK, TILE_ROWS, TILE_COLUMNS);
    return wo_pool_run(pool, tile_tasks(&s), run_task, &s, cancel);
}
