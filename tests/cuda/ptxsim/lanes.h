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

/* c[0..3] of the fragment += a[16][k] * b[k][8], in the order of k, each product and sum rounded to float (products of halves are exact).
 * The fragments' rows are laid out as columns so that 16 rows are one vector. */
static void TAG(mma)(f32 c[4][LANES], const f32 (*a)[16], const f32 (*b)[8], int depth) {
    f32 sum[8][16];
    PTXSIM_LOOP for (int r = 0; r < 4; r++) sum[(l & 3) * 2 + (r & 1)][(l >> 2) + (r >> 1) * 8] = c[r][l];
    for (int n = 0; n < 8; n += 4)
        for (int k = 0; k < depth; k++)
            for (int j = n; j < n + 4; j++) {
                const f32 factor = b[k][j];
                for (int m = 0; m < 16; m++) sum[j][m] += a[k][m] * factor;
            }
    PTXSIM_LOOP for (int r = 0; r < 4; r++) c[r][l] = sum[(l & 3) * 2 + (r & 1)][(l >> 2) + (r >> 1) * 8];
}
static void TAG(spread_a)(f32 (*a)[16], const u32 *regs[4], int bf16, int registers) {
    for (int r = 0; r < registers; r++) {
        f32 low[LANES], high[LANES];
        if (bf16) PTXSIM_LOOP low[l] = as_f32(regs[r][l] << 16), high[l] = as_f32(regs[r][l] & 0xffff0000u);
        else PTXSIM_LOOP low[l] = from_f16((u16)regs[r][l]), high[l] = from_f16((u16)(regs[r][l] >> 16));
        for (int t = 0; t < 4; t++)
            for (int g = 0; g < 8; g++) {
                a[t * 2 + (r >> 1) * 8][g + (r & 1) * 8] = low[g * 4 + t];
                a[t * 2 + (r >> 1) * 8 + 1][g + (r & 1) * 8] = high[g * 4 + t];
            }
    }
}
static void TAG(spread_b)(f32 (*b)[8], const u32 *regs[2], int bf16, int registers) {
    for (int r = 0; r < registers; r++) {
        f32 low[LANES], high[LANES];
        if (bf16) PTXSIM_LOOP low[l] = as_f32(regs[r][l] << 16), high[l] = as_f32(regs[r][l] & 0xffff0000u);
        else PTXSIM_LOOP low[l] = from_f16((u16)regs[r][l]), high[l] = from_f16((u16)(regs[r][l] >> 16));
        for (int t = 0; t < 4; t++)
            for (int g = 0; g < 8; g++) b[t * 2 + r * 8][g] = low[g * 4 + t], b[t * 2 + r * 8 + 1][g] = high[g * 4 + t];
    }
}

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
static const lane_table TAG(table) = {TAG(lane_fns), TAG(compare_fns), TAG(mma), TAG(spread_a), TAG(spread_b)};

#undef PTXSIM_LOOP
#undef PTXSIM_STORE
