/* cp.async. What is on its way is a list per warp; its bytes in shared memory are nobody's until the copying thread has waited, whatever the mode:
 * LATE moves them at the wait, EARLY at once, RANDOM one or the other. After the wait they are as if written by that warp then. */
#include "internal.h"

#include <stdlib.h>

static bool move(warp *w, copy *c, u32 exec) {
    unsigned char data[16];
    for (int l = 0; l < LANES; l++) {
        if (!(exec >> l & 1)) continue;
        const char *reason = NULL;
        const ptxsim_memory *m = &w->b->launch->memory;
        memset(data, 0, sizeof(data));
        if (c->taken[l]) {
            const void *from = m->resolve(m->ctx, c->global[l], c->taken[l], false, &reason);
            if (!from)
                return ptxsim_report_lane(w, c->from, l, "read of %u bytes at 0x%llx: %s", c->taken[l], (unsigned long long)c->global[l],
                                          reason ? reason : "no such memory");
            memcpy(data, from, c->taken[l]);
        }
        memcpy(w->b->shared + c->shared[l], data, c->bytes);
    }
    return true;
}
static bool start(warp *w, const ins *i, u32 exec, copy **out) {
    if (w->copy_count == w->copy_room) {
        int room = w->copy_room ? 2 * w->copy_room : 16;
        copy *more = realloc(w->copies, (size_t)room * sizeof(copy));
        if (!more) return ptxsim_report_lane(w, i, -1, "out of memory");
        w->copies = more, w->copy_room = room;
    }
    copy *c = *out = &w->copies[w->copy_count++];
    c->mask = exec, c->bytes = i->vector, c->done = false, c->from = i;
    memcpy(c->number, w->committed, sizeof(c->number));
    return true;
}
bool ptxsim_step_cp_async(warp *w, const ins *i, u32 exec) {
    block *b = w->b;
    access to, from;
    copy *c = NULL;
    to.exec = from.exec = exec, to.bytes = from.bytes = i->vector, to.write = true, from.write = false;
    if (!ptxsim_need(w, i, exec, 2, 1, "the size") || !start(w, i, exec, &c)) return false;
    if (!ptxsim_addresses(w, i, i->o[0], i->base_bytes, (u64)(s64)(s32)i->target, &to) || !ptxsim_addresses(w, i, i->o[1], i->width, i->imm, &from))
        return false;
    const u32 *sizes = lanes(w, i->o[2]), ignored = i->mode ? *sizes ^ (i->flags & F_NOT ? EVERY_LANE : 0) : 0;
    u32 whole = 0;
    for (int l = 0; l < LANES; l++) {
        if (!(exec >> l & 1)) continue;
        u32 taken = i->mode ? (ignored >> l & 1 ? 0 : i->vector) : sizes[l];
        if (taken > i->vector) return ptxsim_report_lane(w, i, l, "%u of %u bytes are to be copied", taken, i->vector);
        c->taken[l] = (u8)taken, c->shared[l] = (u32)to.at[l], c->global[l] = from.at[l];
        whole |= (u32)(taken == i->vector) << l;
    }
    if (!ptxsim_reach(w, i, &to, SP_SHARED)) return false;
    if (!ptxsim_claim(w, i, &to)) return false;
    for (int l = 0; l < LANES; l++) {
        if (exec >> l & 1 && from.at[l] & (i->vector - 1u))
            return ptxsim_report_lane(w, i, l, "the source 0x%llx is not aligned to %u", (unsigned long long)from.at[l], i->vector);
    }
    for (int l = 0; whole && l < LANES; l++)
        if (!(whole >> l & 1)) from.at[l] = from.at[__builtin_ctz(whole)];
    from.exec = whole;
    if (whole && !ptxsim_reach(w, i, &from, SP_GLOBAL)) return false; /* lanes that copy less need less of the source: move looks */
    if (b->launch->async == PTXSIM_ASYNC_EARLY || (b->launch->async == PTXSIM_ASYNC_RANDOM && ptxsim_random(b) & 1)) {
        if (!move(w, c, exec)) return false;
        c->done = true;
    }
    return true;
}
bool ptxsim_step_cp_commit(warp *w, const ins *i, u32 exec) {
    (void)i;
    for (int l = 0; l < LANES; l++) w->committed[l] += exec >> l & 1;
    return true;
}
/* At most imm groups of each lane stay on their way; with mode 1 none, committed or not. */
bool ptxsim_step_cp_wait(warp *w, const ins *i, u32 exec) {
    int kept = 0;
    for (int k = 0; k < w->copy_count; k++) {
        copy *c = &w->copies[k];
        u32 lands = 0;
        for (int l = 0; l < LANES; l++) lands |= (u32)(i->mode || c->number[l] + i->imm < w->committed[l]) << l;
        lands &= exec & c->mask;
        if (lands && !c->done && !move(w, c, lands)) return false;
        for (int l = 0; l < LANES; l++)
            if (lands >> l & 1) ptxsim_shadow_set(w->b, c->shared[l], c->bytes, shadow_tag(w));
        c->mask &= ~lands;
        if (c->mask && kept++ != k) w->copies[kept - 1] = *c;
    }
    w->copy_count = kept;
    return true;
}
