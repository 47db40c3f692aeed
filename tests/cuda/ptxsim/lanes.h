/* The lane operations of opcodes.h as loops over 32 lanes, for the instruction set of the including place (lanes.c): TAG(name) names them.
 * The result of lanes that do not take part is computed, too, and thrown away: no operation here can trap. */
#define PTXSIM_LOOP for (int l = 0; l < LANES; l++)
#define PTXSIM_STORE(D, out)                                                                  \
    D *d = lanes(w, i->o[0]);                                                                 \
    if (exec == EVERY_LANE) memcpy(d, out, sizeof(out));                                      \
    else PTXSIM_LOOP d[l] = exec & lane_bit[l] ? out[l] : d[l];

#define X(id, name, types, n, D, A, B, C, E, result)                                          \
    static void TAG(id)(warp * w, const ins *i, u32 exec) {                                   \
        const A *pa = lanes(w, i->o[1]);                                                      \
        const B *pb = lanes(w, i->o[n > 1 ? 2 : 1]);                                          \
        const C *pc = lanes(w, i->o[n > 2 ? 3 : 1]);                                          \
        const E *pe = lanes(w, i->o[n > 3 ? 4 : 1]);                                          \
        const u64 imm = i->imm;                                                               \
        (void)pb, (void)pc, (void)pe, (void)imm;                                              \
        D out[LANES];                                                                         \
        PTXSIM_LOOP {                                                                         \
            const A a = pa[l];                                                                \
            const B b = n > 1 ? pb[l] : 0;                                                    \
            const C c = n > 2 ? pc[l] : 0;                                                    \
            const E e = n > 3 ? pe[l] : 0;                                                    \
            (void)b, (void)c, (void)e;                                                        \
            out[l] = (D)(result);                                                             \
        }                                                                                     \
        PTXSIM_STORE(D, out)                                                                  \
    }
PTXSIM_LANE_OPS(X)
#undef X

#define X(id, types, T)                                                                       \
    static void TAG(id)(warp * w, const ins *i, u32 exec) {                                   \
        const T *a = lanes(w, i->o[1]), *b = lanes(w, i->o[2]);                               \
        u32 choice = *(const u32 *)lanes(w, i->o[3]);                                         \
        if (i->flags & F_NOT) choice = ~choice;                                               \
        T out[LANES];                                                                         \
        PTXSIM_LOOP out[l] = choice & lane_bit[l] ? a[l] : b[l];                              \
        PTXSIM_STORE(T, out)                                                                  \
    }
PTXSIM_CHOOSE_OPS(X)
#undef X

#define X(id, name, n, result)                                                                \
    static void TAG(id)(warp * w, const ins *i, u32 exec) {                                   \
        const u32 a = *(const u32 *)lanes(w, i->o[1]), b = *(const u32 *)lanes(w, i->o[2]);   \
        (void)b;                                                                              \
        u32 *d = lanes(w, i->o[0]);                                                           \
        *d = (*d & ~exec) | ((result) & exec);                                                \
    }
PTXSIM_LOGIC_OPS(X)
#undef X

#define PTXSIM_COMPARE(cmp, as, result)                                                       \
    case CMP_##cmp: PTXSIM_LOOP {                                                             \
            const __auto_type a = as(pa[l]);                                                  \
            const __auto_type b = as(pb[l]);                                                  \
            out[l] = result;                                                                  \
        }                                                                                     \
        break;
#define X(id, types, T, as)                                                                   \
    static u32 TAG(id)(warp * w, const ins *i) {                                              \
        const T *pa = lanes(w, i->o[1]), *pb = lanes(w, i->o[2]);                             \
        u8 out[LANES] = {0};                                                                  \
        switch (i->compare) {                                                                 \
            PTXSIM_COMPARE(eq, as, a == b)                                                    \
            PTXSIM_COMPARE(ne, as, (a < b) | (a > b))                                         \
            PTXSIM_COMPARE(lt, as, a < b)                                                     \
            PTXSIM_COMPARE(le, as, a <= b)                                                    \
            PTXSIM_COMPARE(gt, as, a > b)                                                     \
            PTXSIM_COMPARE(ge, as, a >= b)                                                    \
            PTXSIM_COMPARE(equ, as, !((a < b) | (a > b)))                                     \
            PTXSIM_COMPARE(neu, as, a != b)                                                   \
            PTXSIM_COMPARE(ltu, as, !(a >= b))                                                \
            PTXSIM_COMPARE(leu, as, !(a > b))                                                 \
            PTXSIM_COMPARE(gtu, as, !(a <= b))                                                \
            PTXSIM_COMPARE(geu, as, !(a < b))                                                 \
            PTXSIM_COMPARE(num, as, (a == a) & (b == b))                                      \
            PTXSIM_COMPARE(nan, as, (a != a) | (b != b))                                      \
        }                                                                                     \
        return pack_bits(out);                                                                \
    }
PTXSIM_TEST_OPS(X)
#undef X
#undef PTXSIM_COMPARE

/* Two halves of each lane's register as floats. */
static void TAG(halves)(f32 low[LANES], f32 high[LANES], const u32 reg[LANES], bool bf16) {
    if (bf16) PTXSIM_LOOP low[l] = as_f32(reg[l] << 16), high[l] = as_f32(reg[l] & 0xffff0000u);
    else PTXSIM_LOOP low[l] = from_f16((u16)reg[l]), high[l] = from_f16((u16)(reg[l] >> 16));
}
/* c += a * b for a 16 x 8 tile in the order of k; products and sums are rounded to float, and products of halves are exact. Lane 4 g + t of c[r] is row
 * g + 8 (r / 2), column 2 t + r % 2. a and b hold `per` values of each register: number k = (step, t, h) finds rows g in lanes 4 g + t of
 * a[2 step * per + h], rows g + 8 in those of a[(2 step + 1) * per + h], column j in lane 4 j + t of b[step * per + h]. The sums of a
 * column's 8 rows are one vector. */
static void TAG(mma)(f32 c[4][LANES], const f32 (*a)[LANES], const f32 (*b)[LANES], int steps, int per) {
    for (int half = 0; half < 2; half++) {
        f32(*to)[LANES] = c + 2 * half;
        vector sum[8];
        for (int t = 0; t < 4; t++)
            for (int r = 0; r < 2; r++) COLUMN(sum[2 * t + r], to[r], t);
        for (int step = 0; step < steps; step++)
            for (int t = 0; t < 4; t++)
                for (int h = 0; h < per; h++) {
                    vector column;
                    COLUMN(column, a[(2 * step + half) * per + h], t);
                    const f32 *row = b[step * per + h] + t;
                    for (int j = 0; j < 8; j++) sum[j] += column * row[4 * j];
                }
        for (int r = 0; r < 2; r++)
            for (int q = 0; q < 4; q++) {
                const vector x = SHUFFLE(sum[r], sum[r + 2], pairs_of[q]), y = SHUFFLE(sum[r + 4], sum[r + 6], pairs_of[q]), z = SHUFFLE(x, y, twos);
                memcpy(to[r] + q * 8, &z, sizeof(z));
            }
    }
}

/* What memory.c asks of accesses to `count` units of two bytes: whether one of them may not be; if all may, their tags are changed. */
static inline __attribute__((always_inline)) bool TAG(units)(u32 *wrote, u32 *read, int count, bool write, u32 now, u32 me) {
    u32 bad = 0;
    if (write) {
        for (int k = 0; k < count; k++) {
            bad |= (wrote[k] == GAP) | ((wrote[k] >= now) & (wrote[k] != me)) | ((read[k] >= now) & (read[k] != me));
        }
        for (int k = 0; k < count && !bad; k++) wrote[k] = me;
    } else {
        for (int k = 0; k < count; k++) bad |= !((wrote[k] - FIRST_TAG < now - FIRST_TAG) | (wrote[k] == me));
        for (int k = 0; k < count && !bad; k++) read[k] = (read[k] >= now) & (read[k] != me) ? now | MANY : me;
    }
    return bad;
}
/* The first lane that may not, or -1. */
#define PTXSIM_SHADOW(count)                                                                                                              \
    {                                                                                                                                     \
        bool in_row = true;                                                                                                               \
        PTXSIM_LOOP in_row &= at[l] == at[0] + 2 * (count) * (u64)l;                                                                      \
        if (in_row && !TAG(units)(s->wrote + at[0] / 2, s->read + at[0] / 2, LANES * (count), write, now, me)) return -1;                 \
        PTXSIM_LOOP if (!l || at[l] != at[l - 1]) {                                                                                       \
            if (TAG(units)(s->wrote + at[l] / 2, s->read + at[l] / 2, count, write, now, me)) return l;                                   \
        }                                                                                                                                 \
        return -1;                                                                                                                        \
    }
static int TAG(shadow)(block *s, const u64 at[LANES], u32 units, bool write, u32 now, u32 me) {
    switch (units) {
    case 1: PTXSIM_SHADOW(1)
    case 2: PTXSIM_SHADOW(2)
    case 4: PTXSIM_SHADOW(4)
    default: PTXSIM_SHADOW(8)
    }
}
#undef PTXSIM_SHADOW

static const lane_fn TAG(lane_fns)[LANE_IDS] = {
#define X(id, ...) TAG(id),
    PTXSIM_LANE_OPS(X) PTXSIM_CHOOSE_OPS(X) PTXSIM_LOGIC_OPS(X)
#undef X
};
static const compare_fn TAG(compare_fns)[TEST_IDS] = {
#define X(id, ...) TAG(id),
    PTXSIM_TEST_OPS(X)
#undef X
};
static const lane_table TAG(table) = {TAG(lane_fns), TAG(compare_fns), TAG(halves), TAG(mma), TAG(shadow)};

#undef PTXSIM_LOOP
#undef PTXSIM_STORE
