/* Blocks, their warps in turn, barriers, and the host threads that share the blocks of a grid. */
#include "internal.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

u64 ptxsim_random(block *b) { /* splitmix64 */
    u64 z = b->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* ---- a block's memory ---- */
static void free_block(block *b) {
    for (u32 k = 0; b->warp && k < b->warps; k++) {
        warp *w = &b->warp[k];
        free(w->file_memory), free(w->valid), free(w->local), free(w->local_known), free(w->copies);
    }
    free(b->warp), free(b->shared), free(b->wrote), free(b->read);
}
static size_t register_bytes(const block *b) {
    return b->m->has_calls ? b->m->file_bytes : FILE_HEAD + b->f->frame_bytes;
}
static bool make_block(block *b) {
    const ptxsim_launch *l = b->launch;
    size_t shared = DYNAMIC_AT + l->shared_bytes;
    b->threads = l->block[0] * l->block[1] * l->block[2];
    b->warps = (b->threads + LANES - 1) / LANES;
    b->warp = calloc(b->warps, sizeof(warp));
    b->shared = malloc(shared), b->wrote = malloc(shared / 2 * sizeof(u32) + 64), b->read = malloc(shared / 2 * sizeof(u32) + 64);
    bool ok = b->warp && b->shared && b->wrote && b->read;
    for (u32 k = 0; ok && k < b->warps; k++) {
        warp *w = &b->warp[k];
        w->file_memory = malloc(register_bytes(b) + 64); /* what a register holds before it is written is nobody's business: see valid */
        w->file = w->file_memory ? w->file_memory + (64 - (uintptr_t)w->file_memory % 64) : NULL;
        w->valid = malloc(b->m->valid_words * sizeof(u32));
        w->local = calloc(LANES, b->m->local_bytes), w->local_known = calloc(LANES, b->m->local_bytes);
        ok = w->file && w->valid && w->local && w->local_known;
        w->b = b, w->pool = b->m->pool, w->index = k;
    }
    return ok || ptxsim_report_block(b, "out of memory");
}
static void fill_special(warp *w) {
    const block *b = w->b;
    const unsigned *n = b->launch->block, *g = b->launch->grid;
    u32(*s)[LANES] = (u32(*)[LANES])(void *)w->file;
    for (u32 l = 0; l < LANES; l++) {
        const u32 t = w->index * LANES + l, bit = 1u << l;
        const u32 values[SPECIALS] = {[S_tid_x] = t % n[0],
                                      [S_tid_y] = t / n[0] % n[1],
                                      [S_tid_z] = t / n[0] / n[1],
                                      [S_ntid_x] = n[0],
                                      [S_ntid_y] = n[1],
                                      [S_ntid_z] = n[2],
                                      [S_ctaid_x] = b->id[0],
                                      [S_ctaid_y] = b->id[1],
                                      [S_ctaid_z] = b->id[2],
                                      [S_nctaid_x] = g[0],
                                      [S_nctaid_y] = g[1],
                                      [S_nctaid_z] = g[2],
                                      [S_laneid] = l,
                                      [S_warpid] = w->index,
                                      [S_lt] = bit - 1,
                                      [S_le] = bit * 2 - 1,
                                      [S_eq] = bit,
                                      [S_ge] = ~(bit - 1),
                                      [S_gt] = ~(bit * 2 - 1),
                                      [S_dynamic] = (u32)b->launch->shared_bytes,
                                      [S_total] = (u32)(b->launch->shared_bytes + b->f->shared_bytes)};
        for (int k = 0; k < SPECIALS; k++) s[k][l] = values[k];
    }
}
static void mark(block *b, size_t at, size_t bytes, u32 tag) {
    for (size_t k = at / 2; k < (at + bytes + 1) / 2; k++) b->wrote[k] = tag, b->read[k] = 0;
}
static void reset_block(block *b, u64 linear) {
    const ptxsim_launch *l = b->launch;
    b->id[0] = (unsigned)(linear % l->grid[0]), b->id[1] = (unsigned)(linear / l->grid[0] % l->grid[1]),
    b->id[2] = (unsigned)(linear / l->grid[0] / l->grid[1]);
    b->epoch = 1, b->random = l->seed * 0x2545f4914f6cdd1du + linear * 0x9e3779b1u;
    memset(b->arrived, 0, sizeof(b->arrived));
    mark(b, 0, b->f->shared_layout, UNWRITTEN), mark(b, DYNAMIC_AT, l->shared_bytes, UNWRITTEN);
    for (size_t k = 0; k < b->m->gap_count; k++)
        if (b->m->gaps[k].owner == ~0u || &b->m->functions[b->m->gaps[k].owner] == b->f) mark(b, b->m->gaps[k].at, b->m->gaps[k].bytes, GAP);
    for (u32 k = 0; k < b->warps; k++) {
        warp *w = &b->warp[k];
        u32 count = b->threads - k * LANES;
        w->exists = w->alive = count >= LANES ? EVERY_LANE : (1u << count) - 1;
        w->groups[0] = (group){b->f->first, w->exists, false, false}, w->group_count = 1;
        w->at_barrier = w->started = false, w->copy_count = 0;
        memset(w->committed, 0, sizeof(w->committed)), memset(w->depth, 0, sizeof(w->depth));
        memset(w->valid, 0, b->m->valid_words * sizeof(u32));
        w->valid[VALID_ALWAYS] = EVERY_LANE;
        memset(w->local_known, 0, LANES * b->m->local_bytes);
        fill_special(w);
    }
}

/* ---- barriers ---- */
static void reduce(block *b, u32 number) { /* bar.red: what all threads of the barrier said */
    u32 count = 0, total = 0;
    for (u32 k = 0; k < b->warps; k++) {
        const warp *w = &b->warp[k];
        if (!w->at_barrier || w->barrier_number != number) continue;
        u32 said = *(const u32 *)lanes(w, w->barrier->o[3]) ^ (w->barrier->flags & F_NOT ? EVERY_LANE : 0);
        count += (u32)__builtin_popcount(said & w->alive), total += (u32)__builtin_popcount(w->alive);
    }
    for (u32 k = 0; k < b->warps; k++) {
        warp *w = &b->warp[k];
        if (!w->at_barrier || w->barrier_number != number || !w->barrier->combine) continue;
        u32 *d = lanes(w, w->barrier->o[0]), yes = w->barrier->combine == 2 ? count == total : count > 0;
        if (w->barrier->combine == 1)
            for (int l = 0; l < LANES; l++) d[l] = count;
        else *d = yes ? EVERY_LANE : 0;
        w->valid[w->barrier->o[0].valid] |= w->alive;
    }
}
/* Lets go whoever may; *any: somebody went. False: an error. */
static bool release(block *b, bool *any) {
    *any = false;
    for (u32 k = 0; k < b->warps; k++) {
        warp *w = &b->warp[k];
        if (!w->at_barrier) continue;
        if (w->barrier->mode == 2) { /* bar.arrive does not wait */
            b->arrived[w->barrier_number] += LANES, w->at_barrier = false, *any = true;
            continue;
        }
        u32 threads = b->arrived[w->barrier_number], needed = w->barrier_threads ? w->barrier_threads : b->warps * LANES;
        for (u32 j = 0; j < b->warps; j++) threads += b->warp[j].at_barrier && b->warp[j].barrier_number == w->barrier_number ? LANES : 0;
        if (threads < needed) continue;
        for (u32 j = 0; j < b->warps; j++) {
            const warp *v = &b->warp[j];
            if (!v->at_barrier || v->barrier_number != w->barrier_number) continue;
            if (v->barrier != w->barrier && !b->m->splits_barriers)
                return ptxsim_report_lane(b->warp + j, v->barrier, -1, "barrier divergence: warp %u waits at PTX line %u", w->index,
                                          w->barrier->line);
            if (v->alive != v->exists)
                return ptxsim_report_lane(b->warp + j, v->barrier, __builtin_ctz(v->exists & ~v->alive),
                                          "barrier divergence: this thread has returned, others of its warp wait");
        }
        reduce(b, w->barrier_number);
        const u32 number = w->barrier_number;
        for (u32 j = 0; j < b->warps; j++)
            if (b->warp[j].barrier_number == number) b->warp[j].at_barrier = false;
        b->arrived[number] = 0, *any = true;
        if (++b->epoch >= 1u << 24) return ptxsim_report_block(b, "too many barriers");
    }
    return true;
}
static bool hang(block *b) {
    warp *w = NULL;
    const warp *other = NULL;
    for (u32 k = 0; k < b->warps; k++)
        if (b->warp[k].at_barrier) w = &b->warp[k];
        else other = &b->warp[k];
    return ptxsim_report_lane(w, w->barrier, -1, "barrier divergence: it waits for ever, warp %u has returned", other ? other->index : 0);
}
#define LONGEST_BLOCK ((u64)1 << 32) /* instructions; longer means for ever */

/* The next warp that can run, at random or in order; -1: none. */
static int choose(block *b) {
    u32 ready = 0;
    for (u32 k = 0; k < b->warps; k++) ready += b->warp[k].group_count && !b->warp[k].at_barrier;
    if (!ready) return -1;
    u32 n = b->launch->seed ? (u32)(ptxsim_random(b) % ready) : 0;
    for (u32 k = 0;; k++)
        if (b->warp[k].group_count && !b->warp[k].at_barrier && !n--) return (int)k;
}
bool ptxsim_block_run(block *b) {
    const u64 end = b->report->instructions + LONGEST_BLOCK;
    for (;;) {
        int k = choose(b);
        if (k >= 0) {
            u64 r = b->launch->seed ? ptxsim_random(b) : 0;
            b->left = b->launch->seed ? 1 + (r >> 8) % ((u64)1 << r % 10)
                                      : LONGEST_BLOCK; /* turns from 1 to 512 instructions, short ones as often as long ones */
            if (!ptxsim_warp_run(&b->warp[k])) return false;
            if (b->report->instructions >= end) return ptxsim_report_lane(&b->warp[k], &b->m->code[b->warp[k].groups[0].pc], -1, "does not end");
            if (!b->m->splits_barriers) continue;
        }
        bool waiting = false, any;
        for (u32 j = 0; j < b->warps; j++) waiting |= b->warp[j].at_barrier;
        if (!waiting && k < 0) return true;
        if (!release(b, &any)) return false;
        if (!any && k < 0) return hang(b);
    }
}

/* ---- the grid ---- */
typedef struct grid {
    const ptxsim_launch *launch;
    const function *f;
    lane_table table;
    ptxsim_report *report;
    u64 blocks, failed_at;
    atomic_ullong next;
    atomic_bool stop;
    pthread_mutex_t lock;
} grid;
static void *run_blocks(void *argument) {
    grid *g = argument;
    ptxsim_report mine = {.message = ""};
    block b = {.launch = g->launch, .m = g->launch->module, .f = g->f, .report = &mine, .table = &g->table};
    u64 k = 0;
    bool ok = make_block(&b);
    while (ok && !atomic_load(&g->stop) && (k = atomic_fetch_add(&g->next, 1)) < g->blocks) {
        if (g->launch->stop && g->launch->stop(g->launch->stop_ctx)) break;
        reset_block(&b, k);
        ok = ptxsim_block_run(&b);
    }
    free_block(&b);
    pthread_mutex_lock(&g->lock);
    u64 *sum = &g->report->instructions, *more = &mine.instructions;
    for (size_t n = 0; n < (sizeof(mine) - offsetof(ptxsim_report, instructions)) / sizeof(u64); n++) sum[n] += more[n];
    if (!ok && k <= g->failed_at) { /* of several errors that of the first block */
        g->failed_at = k;
        memcpy(g->report->message, mine.message, sizeof(mine.message));
    }
    pthread_mutex_unlock(&g->lock);
    if (!ok) atomic_store(&g->stop, true);
    return NULL;
}
static bool refuse(ptxsim_report *r, const function *f, const char *text, u64 is, u64 most) {
    snprintf(r->message, sizeof(r->message), "%s: %s: %llu, at most %llu", f->name, text, (unsigned long long)is, (unsigned long long)most);
    return false;
}
static bool launchable(const ptxsim_launch *l, const function *f, ptxsim_report *r) {
    u64 threads = (u64)l->block[0] * l->block[1] * l->block[2];
    if (!l->grid[0] || !l->grid[1] || !l->grid[2] || !threads) return refuse(r, f, "the grid or the block is empty", 0, 0);
    if (l->grid[0] > 0x7fffffffu || l->grid[1] > 65535 || l->grid[2] > 65535)
        return refuse(r, f, "blocks along y or z", l->grid[1] > l->grid[2] ? l->grid[1] : l->grid[2], 65535);
    if (threads > 1024 || l->block[0] > 1024 || l->block[1] > 1024 || l->block[2] > 64) return refuse(r, f, "threads of a block", threads, 1024);
    if (f->max_threads && threads > f->max_threads) return refuse(r, f, "threads of a block against .maxntid", threads, f->max_threads);
    for (int k = 0; k < 3; k++)
        if (f->required[0] && f->required[k] != l->block[k]) return refuse(r, f, "threads of a block against .reqntid", l->block[k], f->required[k]);
    if (f->shared_bytes + l->shared_bytes > l->shared_limit)
        return refuse(r, f, "bytes of shared memory", f->shared_bytes + l->shared_bytes, l->shared_limit);
    if (f->param_bytes && !l->params) return refuse(r, f, "no parameters are given; bytes", 0, f->param_bytes);
    return true;
}
bool ptxsim_run(const ptxsim_launch *l, ptxsim_report *report) {
    memset(report, 0, sizeof(*report));
    grid g = {.launch = l,
              .f = ptxsim_entry(l->module, l->entry),
              .table = ptxsim_lane_table(),
              .report = report,
              .failed_at = ~(u64)0,
              .lock = PTHREAD_MUTEX_INITIALIZER};
    if (!g.f) return snprintf(report->message, sizeof(report->message), "there is no entry %d", l->entry), false;
    if (!launchable(l, g.f, report)) return false;
    g.blocks = (u64)l->grid[0] * l->grid[1] * l->grid[2];
    pthread_t threads[64];
    int started = 0, wanted = l->threads < 1 ? 1 : l->threads > 64 ? 64 : l->threads;
    if ((u64)wanted > g.blocks) wanted = (int)g.blocks;
    while (started < wanted - 1 && !pthread_create(&threads[started], NULL, run_blocks, &g)) started++;
    run_blocks(&g);
    for (int k = 0; k < started; k++) pthread_join(threads[k], NULL);
    return !report->message[0];
}
