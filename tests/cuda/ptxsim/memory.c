/* Address spaces, ld and st.
 *
 * Each two bytes of shared memory have two tags, of their last writer and of their last reader: epoch << 6 | warp, where the epoch is the number of
 * barriers so far. So a read of what another warp wrote since the last barrier, or a write over what another warp read or wrote since, is an error in
 * whatever order the warps ran. Other tags: never written, between two arrays, a cp.async that nobody waited for. */
#include "internal.h"

#include <time.h>

/* What runs at every access is compiled for wider instruction sets, too, as lanes.h is. */
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_UNDEFINED__)
#define HOT __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"), flatten))
#else
#define HOT
#endif

HOT bool ptxsim_addresses(warp *w, const ins *i, operand base, u8 base_bytes, u64 offset, access *a) {
    const u32 *narrow = lanes(w, base);
    const u64 *full = lanes(w, base);
    u32 missing = a->exec & ~w->valid[base.valid];
    if (missing) return ptxsim_report_lane(w, i, __builtin_ctz(missing), "an address depends on a register that was never written");
    if (base_bytes == 4)
        for (int l = 0; l < LANES; l++) a->at[l] = (u32)(narrow[l] + (u32)offset); /* wraps as on the card: nvcc makes use of it */
    else
        for (int l = 0; l < LANES; l++) a->at[l] = full[l] + offset;
    if (a->exec != EVERY_LANE) { /* who does not take part repeats somebody who does, so that loops need no mask */
        u64 same = a->at[__builtin_ctz(a->exec)];
        for (int l = 0; l < LANES; l++) a->at[l] = a->exec >> l & 1 ? a->at[l] : same;
    }
    return true;
}

/* ---- counters ---- */
/* Passes that a phase of shared memory takes: the most different words in one bank. Accesses are aligned, so that one of several words either shares
 * all its banks with another or none. */
static u32 bank_passes(const u64 *at, u32 count, u32 words) {
    const u32 shift = words == 4 ? 4 : words == 2 ? 3 : 2, groups = 32 / words;
    u64 first[32], place[32];
    u32 seen = 0, differ = 0;
    for (u32 l = 0; l < count; l++) { /* mostly no bank is asked for two words */
        const u64 x = at[l] >> shift;
        const u32 bank = x & (groups - 1);
        if (!(seen >> bank & 1)) first[bank] = x, seen |= 1u << bank;
        differ |= first[bank] != x;
    }
    if (!differ) return 1;
    u32 most = 1, used[32] = {0}, places = 0;
    for (u32 l = 0; l < count; l++) {
        const u64 x = at[l] >> shift;
        u32 k = places;
        while (k && place[k - 1] != x) k--;
        if (k) continue;
        place[places++] = x;
        const u32 n = ++used[x & (groups - 1)];
        if (n > most) most = n;
    }
    return most;
}
static void count_shared(block *b, const access *a) {
    u32 phases = a->bytes > 4 ? a->bytes / 4 : 1, lanes_of_phase = LANES / phases;
    u64 step = 0;
    if (phases == 1)
        for (int l = 0; l < LANES; l++) step |= (a->at[l] ^ (a->at[0] & ~(u64)3)) >= 4 && a->at[l] - a->at[0] != a->bytes * (u64)l;
    else
        for (int l = 0; l < LANES; l++) step |= a->at[l] - a->at[0] != a->bytes * (u64)l;
    b->report->shared_accesses += phases;
    if (!step) b->report->shared_passes += phases; /* everybody in a row */
    else
        for (u32 p = 0; p < phases; p++) b->report->shared_passes += bank_passes(a->at + p * lanes_of_phase, lanes_of_phase, phases);
}
void ptxsim_count_ldmatrix(block *b, const u64 at[8]) {
    b->report->ldmatrix_phases++;
    u32 most = 1, used[8] = {0};
    for (int l = 0; l < 8; l++) {
        int known = 0;
        for (int k = 0; k < l; k++) known |= at[k] == at[l];
        u32 n = known ? 0 : ++used[at[l] >> 4 & 7];
        if (n > most) most = n;
    }
    b->report->ldmatrix_passes += most;
}
static void count_global(block *b, const access *a) {
    u64 sectors[LANES * 2], places[LANES], sector_count = 0, place_count = 0, bytes;
    bool in_row = true;
    for (int l = 0; l < LANES; l++) in_row &= a->at[l] == a->at[0] + a->bytes * (u64)l;
    if (in_row) {
        bytes = a->bytes * (u64)LANES;
        sector_count = ((a->at[0] + bytes - 1) >> 5) - (a->at[0] >> 5) + 1;
    } else {
        for (int l = 0; l < LANES; l++) {
            u64 k = 0;
            while (k < place_count && places[place_count - 1 - k] != a->at[l]) k++;
            if (k < place_count) continue;
            places[place_count++] = a->at[l];
            for (u64 s = a->at[l] >> 5; s <= (a->at[l] + a->bytes - 1) >> 5; s++) {
                for (k = 0; k < sector_count && sectors[sector_count - 1 - k] != s;) k++;
                if (k == sector_count) sectors[sector_count++] = s;
            }
        }
        bytes = place_count * a->bytes;
    }
    b->report->global_accesses++;
    b->report->global_sectors += sector_count;
    b->report->global_sectors_least += (bytes + 31) / 32;
}

/* ---- shared memory ---- */
void ptxsim_shadow_set(block *b, u64 at, u32 bytes, u32 tag) {
    for (u64 k = at / 2; k <= (at + bytes - 1) / 2; k++) b->wrote[k] = tag;
}
static int guilty(const access *a, int l) { /* lanes that do not take part repeat the first that does */
    return a->exec >> l & 1 ? l : __builtin_ctz(a->exec);
}
static const char *part_of(u64 *at) { /* dynamic memory is counted from its own beginning */
    if (*at < DYNAMIC_AT) return "shared memory";
    *at -= DYNAMIC_AT;
    return "dynamic shared memory";
}
static bool shadow_complaint(warp *w, const ins *i, const access *a, int l) {
    const block *b = w->b;
    const u32 now = b->epoch << 6, me = shadow_tag(w);
    const char *done = a->write ? "written" : "read";
    l = guilty(a, l);
    for (u64 k = a->at[l] / 2; k <= (a->at[l] + a->bytes - 1) / 2; k++) {
        const u32 t = b->wrote[k], r = b->read[k];
        u64 place = k * 2;
        const char *part = part_of(&place);
        const unsigned at = (unsigned)place;
        if (t & PENDING) return ptxsim_report_lane(w, i, l, "%s at %u is %s before the cp.async to it has been waited for", part, at, done);
        if (t == GAP) return ptxsim_report_lane(w, i, l, "%s at %u lies between two arrays", part, at);
        if (!a->write && t == UNWRITTEN) return ptxsim_report_lane(w, i, l, "%s at %u is read and was never written", part, at);
        if (t >= now && t != me)
            return ptxsim_report_lane(w, i, l, "%s at %u is %s after warp %u wrote it, with no barrier between", part, at, done, t & 63);
        if (!a->write || r < now || r == me) continue;
        if ((r & 63) == MANY)
            return ptxsim_report_lane(w, i, l, "%s at %u is written after several warps read it, with no barrier between", part, at);
        return ptxsim_report_lane(w, i, l, "%s at %u is written after warp %u read it, with no barrier between", part, at, r & 63);
    }
    return true;
}
bool ptxsim_shadow_access(warp *w, const ins *i, const access *a) {
    block *b = w->b;
    const u32 now = b->epoch << 6, me = shadow_tag(w);
    if (a->bytes > 1) {
        int l = b->table->shadow(b, a->at, a->bytes / 2, a->write, now, me);
        return l < 0 || shadow_complaint(w, i, a, l);
    }
    for (int l = 0; l < LANES; l++) { /* one byte of two: who uses the other byte is not known, so there is no look for races */
        u32 *wrote = b->wrote + a->at[l] / 2;
        if (*wrote & PENDING || *wrote == GAP || (!a->write && *wrote == UNWRITTEN)) return shadow_complaint(w, i, a, l);
        if (a->write) *wrote = me;
    }
    return true;
}
/* For cp.async: a write, whose bytes nobody may touch until it has been waited for. */
bool ptxsim_claim(warp *w, const ins *i, const access *a) {
    if (!ptxsim_shadow_access(w, i, a)) return false;
    for (int l = 0; l < LANES; l++) ptxsim_shadow_set(w->b, a->at[l], a->bytes, PENDING | w->index);
    return true;
}
static bool in_shared(warp *w, const ins *i, access *a) {
    block *b = w->b;
    const u64 end = b->f->shared_layout, dynamic_end = DYNAMIC_AT + b->launch->shared_bytes;
    for (int l = 0; l < LANES; l++) {
        u64 at = a->at[l];
        if (at < dynamic_end && at + a->bytes <= (at < DYNAMIC_AT ? end : dynamic_end)) continue;
        const char *part = part_of(&at);
        return ptxsim_report_lane(w, i, guilty(a, l), "%u bytes at %lld are outside %s: %zu bytes of arrays, %zu dynamic", a->bytes, (long long)at,
                                  part, b->f->shared_bytes, b->launch->shared_bytes);
    }
    for (int l = 0; l < LANES; l++) a->host[l] = b->shared + a->at[l];
    if (i->kind != K_STEP || i->fn.step == ptxsim_step_cp_async) return true; /* cp.async and ldmatrix count for themselves */
    count_shared(b, a);
    return ptxsim_shadow_access(w, i, a);
}

/* ---- the other spaces ---- */
static bool in_global(warp *w, const ins *i, access *a) {
    const ptxsim_memory *memory = &w->b->launch->memory;
    u64 low = a->at[0], high = a->at[0];
    const char *reason = NULL;
    count_global(w->b, a);
    for (int l = 1; l < LANES; l++) low = a->at[l] < low ? a->at[l] : low, high = a->at[l] > high ? a->at[l] : high;
    if (high - low < (u64)1 << 26) { /* mostly all lanes are in one allocation: one question */
        unsigned char *host = memory->resolve(memory->ctx, low, (size_t)(high - low) + a->bytes, a->write, &reason);
        for (int l = 0; host && l < LANES; l++) a->host[l] = host + (a->at[l] - low);
        if (host) return true;
    }
    for (int l = 0; l < LANES; l++) {
        if (!(a->exec >> l & 1)) continue;
        reason = NULL;
        a->host[l] = memory->resolve(memory->ctx, a->at[l], a->bytes, a->write, &reason);
        if (!a->host[l])
            return ptxsim_report_lane(w, i, l, "%s of %u bytes at 0x%llx: %s", a->write ? "write" : "read", a->bytes, (unsigned long long)a->at[l],
                                      reason ? reason : "no such memory");
    }
    return true;
}
static bool in_local(warp *w, const ins *i, access *a) {
    const size_t end = w->b->m->local_bytes;
    for (int l = 0; l < LANES; l++) {
        if (!(a->exec >> l & 1)) continue;
        if (a->at[l] < 16 || a->at[l] + a->bytes > end)
            return ptxsim_report_lane(w, i, l, "%u bytes at %lld are outside local memory", a->bytes, (long long)a->at[l]);
        unsigned char *known = w->local_known + (size_t)l * end + a->at[l];
        a->host[l] = w->local + (size_t)l * end + a->at[l];
        if (a->write) memset(known, 1, a->bytes);
        else if (memchr(known, 0, a->bytes))
            return ptxsim_report_lane(w, i, l, "local memory at %llu is read and was never written", (unsigned long long)a->at[l]);
    }
    return true;
}
/* Memory that is only read: size bytes at the address origin, of which the first skipped ones belong to nothing. */
typedef struct bytes_view {
    const void *start;
    u64 origin;
    size_t skipped, size;
} bytes_view;
static bool in_bytes(warp *w, const ins *i, access *a, bytes_view v, const char *what) {
    if (a->write) return ptxsim_report_lane(w, i, __builtin_ctz(a->exec), "a write to %s", what);
    for (int l = 0; l < LANES; l++) {
        const u64 at = a->at[l] - v.origin;
        if (at < v.skipped || at > v.size || v.size - at < a->bytes)
            return ptxsim_report_lane(w, i, guilty(a, l), "%u bytes at %lld are outside %s", a->bytes, (long long)at, what);
        a->host[l] = (unsigned char *)(uintptr_t)v.start + at;
    }
    return true;
}
static bool in_image(warp *w, const ins *i, access *a, const char *what) {
    return in_bytes(w, i, a, (bytes_view){w->b->m->image, WINDOW(W_MODULE), 64, w->b->m->image_bytes}, what);
}
/* Generic addresses: lanes of each window by themselves. */
static bool in_any(warp *w, const ins *i, access *a) {
    static const u8 spaces[] = {SP_GLOBAL, SP_SHARED, SP_LOCAL, SP_CONST, SP_PARAM};
    for (u32 left = a->exec; left;) {
        u64 window = a->at[__builtin_ctz(left)] >> 60;
        u32 these = 0;
        for (int l = 0; l < LANES; l++) these |= (u32)(left >> l & 1 && a->at[l] >> 60 == window) << l;
        access part = *a;
        part.exec = these;
        int first = __builtin_ctz(these);
        if (window >= sizeof(spaces)) return ptxsim_report_lane(w, i, first, "0x%llx is no address", (unsigned long long)a->at[first]);
        u64 minus = window == W_MODULE ? 0 : WINDOW(window);
        for (int l = 0; l < LANES; l++) part.at[l] = (these >> l & 1 ? a->at[l] : a->at[first]) - minus;
        if (!ptxsim_reach(w, i, &part, spaces[window])) return false;
        for (int l = 0; l < LANES; l++)
            if (these >> l & 1) a->host[l] = part.host[l];
        left &= ~these;
    }
    return true;
}
HOT bool ptxsim_reach(warp *w, const ins *i, access *a, int space) {
    const block *b = w->b;
    u64 low_bits = 0;
    if (space == SP_GENERIC) return in_any(w, i, a);
    for (int l = 0; l < LANES; l++) low_bits |= a->at[l];
    if (low_bits & (a->bytes - 1))
        for (int l = 0; l < LANES; l++)
            if (a->exec >> l & 1 && a->at[l] & (a->bytes - 1))
                return ptxsim_report_lane(w, i, l, "an access of %u bytes at 0x%llx is not aligned", a->bytes, (unsigned long long)a->at[l]);
    switch (space) {
    case SP_GLOBAL: return low_bits >> 60 == W_MODULE ? in_image(w, i, a, "the module's variables") : in_global(w, i, a);
    case SP_SHARED: return in_shared(w, i, a);
    case SP_LOCAL: return in_local(w, i, a);
    case SP_CONST: return in_image(w, i, a, "constant memory");
    default: return in_bytes(w, i, a, (bytes_view){b->launch->params, 0, 0, b->f->param_bytes}, "the parameters");
    }
}

/* ---- ld and st ---- */
static u64 widened(const ins *i, const unsigned char *from) {
    u64 x = 0;
    memcpy(&x, from, i->bytes);
    if (i->type == T_s8) return (u64)(s64)(s8)x;
    if (i->type == T_s16) return (u64)(s64)(s16)x;
    if (i->type == T_s32) return (u64)(s64)(s32)x;
    return x;
}
/* The three widths without conversion are loops of their own for speed. */
#define SAME(T, to_host)                                                                                                                             \
    for (int n = 0; n < LANES; n++) {                                                                                                                \
        if (exec >> n & 1 && (to_host)) memcpy(a.host[n] + k * sizeof(T), (const T *)reg + n, sizeof(T));                                            \
        if (exec >> n & 1 && !(to_host)) memcpy(reg + n * sizeof(T), a.host[n] + k * sizeof(T), sizeof(T));                                          \
    }
HOT bool ptxsim_step_ld(warp *w, const ins *i, u32 exec) {
    access a;
    a.exec = exec, a.bytes = (u32)i->bytes * i->vector, a.write = false;
    if (!ptxsim_addresses(w, i, i->o[i->vector], i->base_bytes, i->imm, &a) || !ptxsim_reach(w, i, &a, i->space)) return false;
    for (int k = 0; k < i->vector; k++) {
        unsigned char *reg = lanes(w, i->o[k]);
        if (i->width != i->bytes)
            for (int l = 0; l < LANES; l++) {
                if (!(exec >> l & 1)) continue;
                u64 x = widened(i, a.host[l] + k * i->bytes);
                memcpy(reg + l * i->width, &x, i->width);
            }
        else if (i->bytes == 4) {
            SAME(u32, 0)
        } else if (i->bytes == 8) {
            SAME(u64, 0)
        } else {
            SAME(u16, 0)
        }
        w->valid[i->o[k].valid] |= exec;
    }
    return true;
}
HOT bool ptxsim_step_st(warp *w, const ins *i, u32 exec) {
    access a;
    a.exec = exec, a.bytes = (u32)i->bytes * i->vector, a.write = true;
    if (!ptxsim_need(w, i, exec, 1, i->vector, "what is stored")) return false;
    if (!ptxsim_addresses(w, i, i->o[0], i->base_bytes, i->imm, &a) || !ptxsim_reach(w, i, &a, i->space)) return false;
    for (int k = 0; k < i->vector; k++) {
        unsigned char *reg = lanes(w, i->o[k + 1]);
        if (i->width != i->bytes)
            for (int l = 0; l < LANES; l++) {
                if (exec >> l & 1) memcpy(a.host[l] + k * i->bytes, reg + l * i->width, i->bytes);
            }
        else if (i->bytes == 4) {
            SAME(u32, 1)
        } else if (i->bytes == 8) { /* each whole, as on a card: the host looks for the time that a stream writes */
            for (int l = 0; l < LANES; l++)
                if (exec >> l & 1) __atomic_store_n((u64 *)(void *)(a.host[l] + k * 8), ((const u64 *)(const void *)reg)[l], __ATOMIC_RELAXED);
        } else {
            SAME(u16, 1)
        }
    }
    return true;
}

/* ---- small steps ---- */
bool ptxsim_step_unpack(warp *w, const ins *i, u32 exec) {
    const unsigned char *from = lanes(w, i->o[i->vector]);
    unsigned char whole[LANES * 8];
    memcpy(whole, from, (size_t)LANES * i->bytes); /* a part may be the whole's own register */
    for (int k = 0; k < i->vector; k++) {
        unsigned char *to = lanes(w, i->o[k]);
        for (int l = 0; l < LANES; l++)
            if (exec >> l & 1) memcpy(to + l * i->width, whole + l * i->bytes + k * i->width, i->width);
        set_valid(w, i->o[k], exec, w->valid[i->o[i->vector].valid]);
    }
    return true;
}
bool ptxsim_step_clock(warp *w, const ins *i, u32 exec) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    u64 now = (u64)t.tv_sec * 1000000000u + (u64)t.tv_nsec, x = i->mode < 2    ? w->b->report->instructions
                                                                : i->mode == 4 ? now >> 32
                                                                : i->mode == 5 ? 0
                                                                               : now;
    for (int l = 0; l < LANES; l++)
        if (exec >> l & 1) memcpy((unsigned char *)lanes(w, i->o[0]) + l * i->width, &x, i->width);
    w->valid[i->o[0].valid] |= exec;
    return true;
}
bool ptxsim_step_isspacep(warp *w, const ins *i, u32 exec) {
    static const u8 windows[] = {0, 0, W_SHARED, W_LOCAL, W_MODULE, W_PARAM};
    const u64 *a = lanes(w, i->o[1]);
    u32 *d = lanes(w, i->o[0]), r = 0;
    for (int l = 0; l < LANES; l++) r |= (u32)(a[l] >> 60 == windows[i->space] || (i->space == SP_GLOBAL && a[l] >> 60 == W_MODULE)) << l;
    *d = (*d & ~exec) | (r & exec);
    set_valid(w, i->o[0], exec, w->valid[i->o[1].valid]);
    return true;
}
bool ptxsim_step_nothing(warp *w, const ins *i, u32 exec) {
    (void)w, (void)i, (void)exec;
    return true;
}
bool ptxsim_step_activemask(warp *w, const ins *i, u32 exec) {
    u32 *d = lanes(w, i->o[0]);
    for (int l = 0; l < LANES; l++)
        if (exec >> l & 1) d[l] = exec;
    w->valid[i->o[0].valid] |= exec;
    return true;
}
