/* The product by register tiles; tile.h tells the idea. A worker's scratch during a task:
 *
 *     | weights: TILE_WORDS x TILE_COLUMNS words, in panels | sums: chunk x TILE_COLUMNS | inputs: TILE_ROWS x TILE_WORDS |
 *
 * The inputs are packed only where they must be converted, or where an odd number of bfloat16 channels leaves no whole words.
 */
#include "device/cpu/kernels/tile.h"
#include "device/cpu/kernels/tile_block.h"
#include "device/cpu/kernels/tile_kernel.h"
#include "device/cpu/kernels/tile_pack.h"

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

/* What the zero padding reads. */
static const uint32_t zeros[TILE_WORDS];

typedef struct plan {
    const tile_product *p;
    tile_kind kind;
    tile_blocking blocking;
    bool direct; /* the kernel reads the inputs as they lie */
    int64_t out_width, pixels;
    int64_t chunk, chunks;          /* pixels of a task */
    int64_t columns, column_chunks; /* output channels of a task */
} plan;

/* The live taps of one block: where the frame of each begins, and how far it looks. */
typedef struct live_taps {
    int count;
    int tap[TILE_TAPS];
    const char *frame[TILE_TAPS]; /* at the first channel of the block */
    int64_t dy[TILE_TAPS], dx[TILE_TAPS];
} live_taps;

static plan plan_of(const tile_product *p) {
    plan s = {.p = p, .kind = tile_kind_of(p->x_dtype, p->w_dtype)};
    s.blocking = tile_blocking_of(p, s.kind);
    s.direct = s.kind == TILE_BF16 ? p->channels % 2 == 0 : p->x_dtype == WO_F32;
    s.out_width = p->width << p->upsample;
    s.pixels = s.out_width * (p->height << p->upsample);
    s.chunk = tile_round_up(tile_ceil(s.pixels, tile_ceil(s.pixels, CHUNK)), TILE_ROWS);
    s.chunks = tile_ceil(s.pixels, s.chunk);
    s.columns = tile_ceil(p->out.columns, tile_ceil(p->out.columns, TILE_COLUMNS));
    s.columns = tile_round_up(s.columns, VEC_LANES);
    s.column_chunks = tile_ceil(p->out.columns, s.columns);
    return s;
}

static live_taps live_taps_of(const plan *s, int64_t image, const tile_block *block) {
    const tile_product *p = s->p;
    live_taps live = {0};
    for (int i = 0; i < block->taps; i++) {
        int tap = block->first_tap + i;
        const char *frame = p->frames[image + tap / (p->kh * p->kw)];
        if (frame == NULL)
            continue;
        live.tap[live.count] = tap;
        live.frame[live.count] = frame + (size_t)block->first_channel * tile_bytes(p->x_dtype);
        live.dy[live.count] = tap / p->kw % p->kh - (p->kh - 1) / 2;
        live.dx[live.count] = tap % p->kw - (p->kw - 1) / 2;
        live.count++;
    }
    return live;
}

/* Where pixels [first, first + count) find their inputs: at[tap * TILE_ROWS + r]; NULL in the padding. */
static void locate(const plan *s, const live_taps *live, int64_t first, int count, const void **at) {
    const tile_product *p = s->p;
    const int64_t out_height = p->height << p->upsample;
    const size_t pixel_bytes = (size_t)p->channels * tile_bytes(p->x_dtype);
    int64_t y = first / s->out_width, x = first % s->out_width;
    for (int r = 0; r < count; r++) {
        for (int i = 0; i < live->count; i++) {
            int64_t row = y + live->dy[i], column = x + live->dx[i];
            bool inside = row >= 0 && row < out_height && column >= 0 && column < s->out_width;
            int64_t pixel = (row >> p->upsample) * p->width + (column >> p->upsample);
            at[i * TILE_ROWS + r] = inside ? live->frame[i] + (size_t)pixel * pixel_bytes : NULL;
        }
        if (++x == s->out_width) {
            x = 0;
            y++;
        }
    }
}

/* Packs what locate found into rows of count * words, and points at[] there as if there were one long tap. */
static void pack_inputs(const plan *s, const live_taps *live, int64_t channels, int count, const void **at, uint32_t *inputs) {
    const int64_t words = tile_words_of(s->kind, channels);
    for (int r = 0; r < count; r++) {
        uint32_t *row = inputs + r * TILE_WORDS;
        for (int i = 0; i < live->count; i++) {
            const void *from = at[i * TILE_ROWS + r];
            if (s->kind == TILE_BF16)
                tile_pack_row(TILE_BF16, WO_BF16, from, channels, row + i * words);
            else if (s->p->x_dtype == WO_BF16)
                tile_pack_row(TILE_F32, WO_BF16, from, channels, row + i * words);
            else
                tile_pack_row(TILE_F32, WO_F32, from, channels, row + i * words);
        }
        at[r] = row;
    }
}

/* Runs of taps that lie one behind the other in a weight's row are packed as one. */
static void pack_panel(const plan *s, const live_taps *live, const tile_block *block, int64_t column, int vectors, uint32_t *panel) {
    const tile_product *p = s->p;
    const int64_t row_elements = s->blocking.taps * p->channels;
    const int64_t rows = p->out.columns - column;
    const bool joins = block->channels == p->channels && (s->kind == TILE_F32 || p->channels % 2 == 0);
    for (int i = 0; i < live->count;) {
        int run = 1;
        while (joins && i + run < live->count && live->tap[i + run] == live->tap[i] + run)
            run++;
        int64_t first = column * row_elements + live->tap[i] * p->channels + block->first_channel;
        const char *w = (const char *)p->w + (size_t)first * tile_bytes(p->w_dtype);
        int64_t elements = run * block->channels;
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

/* Vectors of panel i when `total` vectors are spread over as few panels as hold them, as evenly as they go. */
static int panel_vectors(int total, int i) {
    int panels = (int)tile_ceil(total, TILE_VECTORS);
    return total / panels + (i < total % panels);
}

typedef struct task {
    const plan *s;
    scratch_layout *scratch;
    int64_t image, first_pixel, pixels, column, columns;
    int vectors, panels;
} task;

static void multiply_block(const task *t, const tile_block *block, const live_taps *live, bool add, bool last) {
    const plan *s = t->s;
    const void *at[TILE_TAPS * TILE_ROWS];
    const int64_t words = tile_words_of(s->kind, block->channels);
    uint32_t *panel = t->scratch->weights;
    for (int i = 0, column = 0; i < t->panels; i++) {
        int vectors = panel_vectors(t->vectors, i);
        pack_panel(s, live, block, t->column + column, vectors, panel);
        panel += live->count * words * vectors * VEC_LANES;
        column += vectors * VEC_LANES;
    }
    for (int64_t r = 0; r < t->pixels; r += TILE_ROWS) {
        int rows = (int)tile_min(TILE_ROWS, t->pixels - r);
        float *sums = t->scratch->sums + r * TILE_COLUMNS;
        locate(s, live, t->first_pixel + r, rows, at);
        if (s->direct)
            for (int i = 0; i < live->count * TILE_ROWS; i++)
                at[i] = i % TILE_ROWS < rows && at[i] != NULL ? at[i] : zeros;
        else
            pack_inputs(s, live, block->channels, rows, at, t->scratch->inputs);
        panel = t->scratch->weights;
        for (int i = 0, column = 0; i < t->panels; i++) {
            int vectors = panel_vectors(t->vectors, i);
            int taps = s->direct ? live->count : 1;
            tile_multiply(s->kind, vectors, rows, taps, live->count * words / taps, at, panel, sums + column, add);
            panel += live->count * words * vectors * VEC_LANES;
            column += vectors * VEC_LANES;
        }
        if (last)
            WO_KERNEL(tile_store)(&s->p->out, t->image * s->pixels + t->first_pixel + r, rows, t->column, t->columns, sums, TILE_COLUMNS);
    }
}

/* The last block with a frame to read, or -1. */
static int last_live_block(const plan *s, int64_t image) {
    for (int i = s->blocking.blocks - 1; i >= 0; i--) {
        tile_block block = tile_block_at(&s->blocking, i);
        if (live_taps_of(s, image, &block).count > 0)
            return i;
    }
    return -1;
}

static void run_task(void *ctx, int64_t index, int worker, void *scratch) {
    (void)worker;
    const plan *s = ctx;
    task t = {.s = s, .scratch = scratch};
    t.column = index % s->column_chunks * s->columns;
    t.columns = tile_min(s->columns, s->p->out.columns - t.column);
    t.first_pixel = index / s->column_chunks % s->chunks * s->chunk;
    t.pixels = tile_min(s->chunk, s->pixels - t.first_pixel);
    t.image = index / s->column_chunks / s->chunks;
    t.vectors = (int)tile_ceil(t.columns, VEC_LANES);
    t.panels = (int)tile_ceil(t.vectors, TILE_VECTORS);
    int last = last_live_block(s, t.image);
    if (last < 0) {
        memset(t.scratch->sums, 0, (size_t)t.pixels * TILE_COLUMNS * sizeof(float));
        WO_KERNEL(tile_store)(&s->p->out, t.image * s->pixels + t.first_pixel, t.pixels, t.column, t.columns, t.scratch->sums, TILE_COLUMNS);
    }
    bool add = false;
    for (int i = 0; i <= last; i++) {
        tile_block block = tile_block_at(&s->blocking, i);
        live_taps live = live_taps_of(s, t.image, &block);
        if (live.count == 0)
            continue;
        multiply_block(&t, &block, &live, add, i == last);
        add = true;
    }
}

wo_status WO_KERNEL(tile_run)(wo_pool *pool, wo_cancel *cancel, const tile_product *p) {
    plan s = plan_of(p);
    return wo_pool_run(pool, p->images * s.chunks * s.column_chunks, run_task, &s, cancel);
}
