/* Runs one warp until it waits at a barrier, ends, or has had its turn.
 *
 * Lanes with one program counter are a group. The group with the lowest counter runs, until its counter reaches that of another group, which it
 * then joins. An instruction for named lanes (shfl, bar.warp.sync ...) or for the whole warp (mma, ldmatrix, barriers) makes a group wait until they
 * have all come to it; when every group waits, they never will. */
#include "internal.h"

static bool join_waiting(warp *w) {
    for (int j = 0; j < w->group_count; j++)
        for (int k = j + 1; k < w->group_count; k++)
            if (w->groups[j].pc == w->groups[k].pc) return w->groups[j].waiting = false, true; /* pick joins them */
    return false;
}
static bool stuck(warp *w) {
    const ins *here = &w->b->m->code[w->groups[0].pc];
    u32 gone = w->exists & ~w->alive;
    if (w->group_count == 1) {
        if (w->alive != EVERY_LANE && here->flags & F_WHOLE_WARP)
            return ptxsim_report_lane(w, here, __builtin_ctz(~w->alive),
                                      "not all 32 lanes of the warp come here: lanes 0x%08x have returned or do not exist", ~w->alive);
        return ptxsim_report_lane(w, here, __builtin_ctz(w->alive),
                                  "waits for lanes that do not come here: only lanes 0x%08x do, lanes 0x%08x have returned", w->groups[0].mask, gone);
    }
    return ptxsim_report_lane(w, here, __builtin_ctz(w->groups[0].mask), "divergence: lanes 0x%08x wait here and lanes 0x%08x at PTX line %u",
                              w->groups[0].mask, w->groups[1].mask, w->b->m->code[w->groups[1].pc].line);
}
/* Makes groups[current] the one to run and says up to which counter; false: there is none (*error: for a reason that was reported). */
static bool pick(warp *w, u32 *stop, bool *error) {
    group *g = w->groups;
    int best = -1;
    for (;;) {
        bool held = false;
        for (int k = 0; k < w->group_count; k++) {
            held |= g[k].held;
            if (!g[k].waiting && !g[k].held && (best < 0 || g[k].pc < g[best].pc)) best = k;
        }
        if (best >= 0 || !w->group_count) break;
        if (held)
            for (int k = 0; k < w->group_count; k++) g[k].held = false;
        else if (!join_waiting(w)) return *error = true, stuck(w);
    }
    if (best < 0) return false;
    *stop = ~0u;
    u32 pc = g[best].pc, mask = 0;
    int kept = 0;
    for (int k = 0; k < w->group_count; k++) {
        if (g[k].pc == pc && !(g[k].held && k != best)) {
            mask |= g[k].mask;
            continue;
        }
        if (!g[k].waiting && !g[k].held && g[k].pc < *stop) *stop = g[k].pc;
        g[kept++] = g[k];
    }
    g[kept] = (group){pc, mask, false, false};
    w->current = kept, w->group_count = kept + 1;
    return true;
}
static void add_group(warp *w, u32 pc, u32 mask) {
    w->groups[w->group_count++] = (group){pc, mask, false, false};
}
/* The lanes of mask that go on at pc leave the current group. */
static void split(warp *w, u32 pc, u32 mask, u32 *stop) {
    w->groups[w->current].mask &= ~mask;
    add_group(w, pc, mask);
    *stop = 0; /* choose again */
}

/* Whether those that instruction i names are all here. wait: they are not and may still come. */
static bool assembled(warp *w, const ins *i, u32 exec, bool *wait) {
    u32 named = EVERY_LANE;
    if (!(i->flags & F_WHOLE_WARP)) {
        const u32 *mask = lanes(w, i->o[i->results]);
        named = 0;
        if (!ptxsim_need(w, i, exec, i->results, 1, "the mask")) return false;
        for (int l = 0; l < LANES; l++) {
            if (!(exec >> l & 1)) continue;
            if (!(mask[l] >> l & 1)) return ptxsim_report_lane(w, i, l, "the mask 0x%08x does not name the lane itself", mask[l]);
            named |= mask[l];
        }
    }
    *wait = (named & ~exec) != 0; /* for lanes that have returned in vain, which `stuck` says */
    return true;
}
static bool compared(warp *w, const ins *i, u32 exec) {
    u32 r, c = *(const u32 *)lanes(w, i->o[3]) ^ (i->flags & F_NOT ? EVERY_LANE : 0), known = valid_sources(w, i, 1, 3);
    if (i->flags & F_SLOW) ptxsim_lane_slow(w, i, exec), r = *(const u32 *)lanes(w, (operand){AT_SINK, 0});
    else r = i->fn.compare(w, i);
    u32 p = i->combine == C_and ? r & c : i->combine == C_or ? r | c : r ^ c, q = i->combine == C_and ? ~r & c : i->combine == C_or ? ~r | c : ~r ^ c;
    u32 *d = lanes(w, i->o[0]), *e = lanes(w, i->o[4]);
    if (i->mode) {
        const u32 yes = i->mode == 1 ? ~0u : 0x3f800000u;
        for (int l = 0; l < LANES; l++)
            if (exec >> l & 1) d[l] = p >> l & 1 ? yes : 0;
    } else {
        *e = (*e & ~exec) | (q & exec); /* p last: it wins where both are the sink */
        *d = (*d & ~exec) | (p & exec);
    }
    set_valid(w, i->o[4], exec, known);
    set_valid(w, i->o[0], exec, known);
    return true;
}

/* ---- calls ---- */
static void copy_local(warp *w, u32 exec, u64 to, u64 from, u32 bytes) {
    const size_t size = w->b->m->local_bytes;
    for (int l = 0; l < LANES; l++) {
        if (!(exec >> l & 1)) continue;
        memcpy(w->local + l * size + to, w->local + l * size + from, bytes);
        memcpy(w->local_known + l * size + to, w->local_known + l * size + from, bytes);
    }
}
static bool called(warp *w, const ins *i, u32 exec, u32 mask) {
    const ptxsim_module *m = w->b->m;
    const function *f = &m->functions[i->target];
    if (exec != mask) return ptxsim_report_lane(w, i, -1, "a call with a guard");
    for (u32 k = f->results; k < f->arguments; k++) copy_local(w, exec, f->argument[k], m->tables[i->imm + k], f->argument_bytes[k]);
    for (int l = 0; l < LANES; l++) {
        if (!(exec >> l & 1)) continue;
        if (w->depth[l] == CALL_DEPTH) return ptxsim_report_lane(w, i, l, "calls are nested too deeply");
        w->returns[w->depth[l]++][l] = (u32)(i - m->code) + 1;
    }
    w->groups[w->current].pc = f->first;
    return true;
}
/* Lanes that were called from different places part. */
static void returned(warp *w, u32 exec, u32 *stop) {
    const ptxsim_module *m = w->b->m;
    while (exec) {
        int first = __builtin_ctz(exec);
        u32 pc = w->returns[w->depth[first] - 1][first], these = 0;
        for (int l = 0; l < LANES; l++) these |= (u32)(exec >> l & 1 && w->depth[l] == w->depth[first] && w->returns[w->depth[l] - 1][l] == pc) << l;
        const ins *call = &m->code[pc - 1];
        const function *f = &m->functions[call->target];
        for (u32 k = 0; k < f->results; k++) copy_local(w, these, m->tables[call->imm + k], f->argument[k], f->argument_bytes[k]);
        for (int l = 0; l < LANES; l++) w->depth[l] -= these >> l & 1;
        split(w, pc, these, stop);
        exec &= ~these;
    }
}
static void ended(warp *w, u32 exec, u32 *stop) {
    w->alive &= ~exec;
    w->groups[w->current].mask &= ~exec;
    *stop = 0;
}
static bool jump(warp *w, const ins *i, u32 exec, u32 *stop) {
    const u32 *index = lanes(w, i->o[1]), *table = w->b->m->tables + i->target;
    if (!ptxsim_need(w, i, exec, 1, 1, "a jump")) return false;
    for (int l = 0; l < LANES; l++) {
        if (!(exec >> l & 1)) continue;
        if (index[l] >= table[0]) return ptxsim_report_lane(w, i, l, "jump %u of a table of %u", index[l], table[0]);
        split(w, table[1 + index[l]], 1u << l, stop); /* pick joins those of one target */
    }
    return true;
}
static bool at_barrier(warp *w, const ins *i, u32 exec, u32 mask, bool *wait) {
    const u32 *number = lanes(w, i->o[1]), *threads = lanes(w, i->o[2]);
    if (exec != mask)
        return ptxsim_report_lane(w, i, __builtin_ctz(mask & ~exec), "barrier divergence: a guard keeps lanes 0x%08x from it", mask & ~exec);
    *wait = exec != w->alive;
    if (*wait) return true;
    if (!ptxsim_need(w, i, exec, 1, 3, "a barrier")) return false;
    int first = __builtin_ctz(exec);
    w->barrier = i, w->barrier_number = number[first], w->barrier_threads = threads[first];
    for (int l = 0; l < LANES; l++)
        if (exec >> l & 1 && (number[l] != number[first] || threads[l] != threads[first]))
            return ptxsim_report_lane(w, i, l, "lanes name different barriers");
    if (w->barrier_number > 15 || w->barrier_threads % LANES)
        return ptxsim_report_lane(w, i, first, "barrier %u for %u threads: 0 to 15, whole warps", w->barrier_number, w->barrier_threads);
    w->at_barrier = true;
    return true;
}

/* A part of the lanes stays behind for a while: nothing but .sync instructions promises that a warp keeps together. */
static void hold_back(warp *w) {
    u64 r = ptxsim_random(w->b);
    for (int k = 0; k < w->group_count; k++) w->groups[k].held = false;
    if (w->group_count != 1 || w->groups[0].waiting || r & 7) return;
    u32 held = (u32)(r >> 8) & w->groups[0].mask;
    if (!held || held == w->groups[0].mask) return;
    add_group(w, w->groups[0].pc, held);
    w->groups[0].mask &= ~held, w->groups[1].held = true;
}
bool ptxsim_warp_run(warp *w) {
    block *b = w->b;
    const ins *const code = b->m->code;
    u64 left = b->left, *const counted = &b->report->instructions;
    u32 stop = 0, pc = 0;
    bool error = false;
    if (b->launch->seed) hold_back(w);
    for (;; left--) {
        if (pc >= stop) {
            if (w->started) {
                w->groups[w->current].pc = pc;
                if (!w->groups[w->current].mask) w->groups[w->current] = w->groups[--w->group_count];
            }
            w->started = false;
            if (!left) return true;
            if (!pick(w, &stop, &error)) return !error;
            w->started = true;
            pc = w->groups[w->current].pc;
        }
        if (!left) {
            w->groups[w->current].pc = pc, w->started = false;
            return true;
        }
        const ins *i = &code[pc];
        const u32 mask = w->groups[w->current].mask;
        u32 exec = mask;
        bool ok = true, wait = false;
        ++*counted;
        if (i->guard) {
            u32 p = *(const u32 *)(w->file + i->guard), missing = mask & ~w->valid[i->guard_valid];
            if (missing) return ptxsim_report_lane(w, i, __builtin_ctz(missing), "the guard depends on a register that was never written");
            exec &= i->flags & F_GUARD_NOT ? ~p : p;
            if (!exec) {
                pc++;
                continue;
            }
        }
        switch (i->kind) {
        case K_LANE: {
            const u32 known = valid_sources(w, i, 1, i->sources);
            if (i->flags & F_DIVIDES && !ptxsim_divisors(w, i, exec)) return false;
            if (i->flags & F_SLOW) ptxsim_lane_slow(w, i, exec);
            else i->fn.lane(w, i, exec);
            set_valid(w, i->o[0], exec, known);
            pc++;
            break;
        }
        case K_COMPARE: ok = compared(w, i, exec), pc++; break;
        case K_STEP: ok = i->fn.step(w, i, exec), pc++; break;
        case K_SYNC:
            if (exec != mask) { /* the guard's others go on by themselves */
                split(w, pc + 1, mask & ~exec, &stop);
                continue;
            }
            if (!assembled(w, i, exec, &wait)) return false;
            if (!wait) ok = i->fn.step(w, i, exec), pc++;
            break;
        case K_BRANCH:
            if (exec == mask) pc = i->target;
            else split(w, i->target, exec, &stop), pc++;
            break;
        case K_BRANCH_TABLE: ok = jump(w, i, exec, &stop), pc++; break;
        case K_CALL: ok = called(w, i, exec, mask), pc = w->groups[w->current].pc, stop = 0; break;
        case K_RETURN:
            if (w->depth[__builtin_ctz(exec)]) returned(w, exec, &stop);
            else ended(w, exec, &stop);
            pc++;
            break;
        case K_EXIT: ended(w, exec, &stop), pc++; break;
        case K_BARRIER:
            ok = at_barrier(w, i, exec, mask, &wait);
            if (!ok || wait) break;
            w->groups[w->current].pc = pc + 1, w->started = false;
            return true;
        default: return ptxsim_report_lane(w, i, __builtin_ctz(exec), "trap");
        }
        if (!ok) return false;
        if (wait) w->groups[w->current].waiting = true, stop = 0;
    }
}
