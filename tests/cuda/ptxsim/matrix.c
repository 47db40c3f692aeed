/* What lanes of a warp do together: shfl, vote, match, redux, ldmatrix, mma. The schedule has seen to it that the lanes named are here. */
#include "scalar.h"

bool ptxsim_step_shfl(warp *w, const ins *i, u32 exec) {
    enum { UP = 1, DOWN, BUTTERFLY, INDEX };
    u32 a[LANES], *d = lanes(w, i->o[0]), *p = lanes(w, i->o[5]), known = w->valid[i->o[1].valid], result_known = 0, inside = 0;
    const u32 *b = lanes(w, i->o[2]), *c = lanes(w, i->o[3]);
    if (!ptxsim_need(w, i, exec, 2, 3, "the lane to read from")) return false;
    memcpy(a, lanes(w, i->o[1]), sizeof(a));
    for (int l = 0; l < LANES; l++) {
        if (!(exec >> l & 1)) continue;
        const int by = b[l] & 31, clamp = c[l] & 31, segment = c[l] >> 8 & 31, last = (l & segment) | (clamp & ~segment), first = l & segment;
        int j = i->mode == UP ? l - by : i->mode == DOWN ? l + by : i->mode == BUTTERFLY ? l ^ by : (first | (by & ~segment));
        bool in = i->mode == UP ? j >= last : j <= last;
        if (!in) j = l;
        if (!(exec >> j & 1)) return ptxsim_report_lane(w, i, l, "reads lane %d, which does not take part", j);
        d[l] = a[j];
        inside |= (u32)in << l, result_known |= (known >> j & 1) << l;
    }
    *p = (*p & ~exec) | inside;
    set_valid(w, i->o[0], exec, result_known);
    set_valid(w, i->o[5], exec, EVERY_LANE);
    return true;
}
bool ptxsim_step_vote(warp *w, const ins *i, u32 exec) {
    const u32 *mask = lanes(w, i->o[2]), a = *(const u32 *)lanes(w, i->o[1]) ^ (i->flags & F_NOT ? EVERY_LANE : 0);
    if (!ptxsim_need(w, i, exec, 1, 2, "a vote")) return false;
    u32 *d = lanes(w, i->o[0]), r = 0;
    for (int l = 0; l < LANES; l++) {
        if (!(exec >> l & 1)) continue;
        u32 yes = a & mask[l], all = yes == mask[l], any = yes != 0;
        if (i->mode == 4) d[l] = yes;
        else r |= (i->mode == 1 ? all : i->mode == 2 ? any : (all | !any)) << l;
    }
    if (i->mode != 4) *d = (*d & ~exec) | r;
    w->valid[i->o[0].valid] |= exec;
    return true;
}
bool ptxsim_step_match(warp *w, const ins *i, u32 exec) {
    const u32 *mask = lanes(w, i->o[2]);
    const unsigned char *a = lanes(w, i->o[1]);
    u32 *d = lanes(w, i->o[0]), *p = lanes(w, i->o[3]), all = 0, out[LANES];
    if (!ptxsim_need(w, i, exec, 1, 2, "a match")) return false;
    for (int l = 0; l < LANES; l++) {
        u32 same = 0;
        for (int j = 0; j < LANES; j++) same |= (u32)!memcmp(a + j * i->width, a + l * i->width, i->width) << j;
        same &= mask[l];
        out[l] = i->mode == 1 || same == mask[l] ? same : 0;
        all |= (u32)(same == mask[l]) << l;
    }
    for (int l = 0; l < LANES; l++)
        if (exec >> l & 1) d[l] = out[l];
    *p = (*p & ~exec) | (all & exec);
    w->valid[i->o[0].valid] |= exec, w->valid[i->o[3].valid] |= exec;
    return true;
}
bool ptxsim_step_redux(warp *w, const ins *i, u32 exec) {
    enum { ADD = 1, MIN, MAX, AND, OR };
    const u32 *mask = lanes(w, i->o[2]), *a = lanes(w, i->o[1]), top = i->type == T_s32 ? 0x80000000u : 0;
    u32 *d = lanes(w, i->o[0]), out[LANES];
    if (!ptxsim_need(w, i, exec, 1, 2, "a reduction")) return false;
    for (int l = 0; l < LANES; l++) {
        u32 r = i->mode == MIN ? EVERY_LANE : i->mode == AND ? EVERY_LANE : 0;
        for (int j = 0; j < LANES; j++) {
            if (!(mask[l] >> j & 1)) continue;
            u32 x = i->mode == MIN || i->mode == MAX ? a[j] ^ top : a[j];
            r = i->mode == ADD   ? r + x
                : i->mode == MIN ? (x < r ? x : r)
                : i->mode == MAX ? (x > r ? x : r)
                : i->mode == AND ? r & x
                : i->mode == OR  ? r | x
                                 : r ^ x;
        }
        out[l] = i->mode == MIN || i->mode == MAX ? r ^ top : r;
    }
    for (int l = 0; l < LANES; l++)
        if (exec >> l & 1) d[l] = out[l];
    w->valid[i->o[0].valid] |= exec;
    return true;
}

/* Lane 8 m + r holds the address of row r of matrix m. */
bool ptxsim_step_ldmatrix(warp *w, const ins *i, u32 exec) {
    access a;
    a.exec = exec, a.bytes = 16, a.write = false;
    const int rows = i->vector * 8;
    const u32 used = rows == LANES ? EVERY_LANE : (1u << rows) - 1;
    a.exec = used; /* the addresses of further lanes do not count */
    if (!ptxsim_addresses(w, i, i->o[i->vector], i->base_bytes, i->imm, &a) || !ptxsim_reach(w, i, &a, SP_SHARED) || !ptxsim_shadow_access(w, i, &a))
        return false;
    for (int m = 0; m < i->vector; m++) {
        u32 *d = lanes(w, i->o[m]);
        ptxsim_count_ldmatrix(w->b, a.at + m * 8);
        if (!i->mode) {
            for (int r = 0; r < 8; r++) memcpy(d + r * 4, a.host[m * 8 + r], 16);
        } else {
            u16 cell[8][8];
            for (int r = 0; r < 8; r++) memcpy(cell[r], a.host[m * 8 + r], 16);
            for (int l = 0; l < LANES; l++) d[l] = (u32)cell[(l & 3) * 2 + 1][l >> 2] << 16 | cell[(l & 3) * 2][l >> 2];
        }
        w->valid[i->o[m].valid] = EVERY_LANE;
    }
    return true;
}

static void fragments(warp *w, const ins *i, int first, int registers, f32 (*out)[LANES]) {
    for (int r = 0; r < registers; r++) {
        const u32 *reg = lanes(w, i->o[first + r]);
        if (i->type2 != T_tf32) w->b->table->halves(out[2 * r], out[2 * r + 1], reg, i->type2 == T_bf16);
        else
            for (int l = 0; l < LANES; l++) out[r][l] = as_f32(reg[l] & ~0x1fffu);
    }
}
bool ptxsim_step_mma(warp *w, const ins *i, u32 exec) {
    const int results = i->vector, of_a = i->width, of_b = of_a / 2, first_b = results + of_a, first_c = first_b + of_b;
    f32 a[8][LANES], b[4][LANES], c[4][LANES];
    if (!ptxsim_need(w, i, exec, results, of_a + of_b + results, "a matrix")) return false;
    fragments(w, i, results, of_a, a);
    fragments(w, i, first_b, of_b, b);
    if (i->type == T_f32)
        for (int k = 0; k < 4; k++) memcpy(c[k], lanes(w, i->o[first_c + k]), sizeof(c[k]));
    else
        for (int l = 0; l < LANES; l++)
            for (int k = 0; k < 4; k++) c[k][l] = from_f16((u16)(((u32 *)lanes(w, i->o[first_c + k / 2]))[l] >> (k & 1) * 16));
    w->b->table->mma(c, (const f32(*)[LANES])a, (const f32(*)[LANES])b, of_b, i->type2 == T_tf32 ? 1 : 2);
    for (int k = 0; k < results; k++) {
        u32 *d = lanes(w, i->o[k]);
        if (i->type == T_f32) memcpy(d, c[k], sizeof(c[k]));
        else
            for (int l = 0; l < LANES; l++) d[l] = (u32)to_f16(c[2 * k + 1][l]) << 16 | to_f16(c[2 * k][l]);
        w->valid[i->o[k].valid] = EVERY_LANE;
    }
    return true;
}
