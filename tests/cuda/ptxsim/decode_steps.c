/* The decoders of opcodes that are more than one row of lane arithmetic; each line of PTXSIM_STEP_OPS names one. */
#include "decode.h"

#define DECODER(name) bool ptxsim_decode_##name(decoder *d)

/* ---- moves, conversions, comparisons ---- */
DECODER(mov) {
    if (d->s->operands != 2) return d_wrong(d, "two operands expected");
    const raw *to = d_raw(d, 0), *from = d_raw(d, 1);
    int n = d->s->count[0], t;
    if (n > 1) {
        if (!(t = d_take_type(d)) || ptxsim_type_bytes(t) % n) return d_unknown(d);
        d->i->bytes = (u8)ptxsim_type_bytes(t), d->i->width = (u8)(d->i->bytes / n), d->i->vector = (u8)n;
        for (int k = 0; k < n; k++)
            if (!d_destination(d, to + k, d->i->width, k)) return false;
        return d_source(d, from, d->i->bytes, n) && d_finish_step(d, ptxsim_step_unpack, n + 1);
    }
    if (d->s->count[1] > 1) {
        const raw *parts[4] = {from, from + 1, from + 2, from + 3};
        t = d_take_type(d);
        if (t == T_u32 || t == T_s32 || t == T_f32) t = T_b32;
        if (t == T_u64 || t == T_s64 || t == T_f64) t = T_b64;
        int row = t == T_b32 && d->s->count[1] == 2   ? L_pack_2x16
                  : t == T_b64 && d->s->count[1] == 2 ? L_pack_2x32
                  : t == T_b64 && d->s->count[1] == 4 ? L_pack_4x16
                                                      : -1;
        return row < 0 ? d_unknown(d) : d_use_row(d, row, parts);
    }
    if (!from->clock) return d_lane(d);
    t = d_take_type(d);
    d->i->width = (u8)ptxsim_type_bytes(t), d->i->mode = (u8)from->value;
    return d_destination(d, to, d->i->width, 0) && d_finish_step(d, ptxsim_step_clock, 1);
}
DECODER(cvt) {
    ins *i = d->i;
    d_modifiers(d);
    int t = d_take_type(d), t2 = d_take_type(d), n = d->s->operands - 1;
    const raw *from[2] = {d_raw(d, 1), n == 2 ? d_raw(d, 2) : NULL};
    bool pair = t == T_f16x2 || t == T_bf16x2 || t == T_e4m3x2 || t == T_e5m2x2;
    if (!t2 || n != (pair && t2 == T_f32 ? 2 : 1)) return d_unknown(d);
    if (pair && t2 != T_f32 && !((t == T_f16x2 && t2 >= T_e4m3x2) || (t >= T_e4m3x2 && t2 == T_f16x2))) return d_unknown(d);
    if (!pair && (t2 == T_f16x2 || t2 == T_bf16x2 || t2 >= T_pred)) return d_unknown(d);
    if ((t == T_tf32) != (i->rounding == R_rna) || (t == T_tf32 && t2 != T_f32)) return d_unknown(d);
    i->type = (u8)t, i->type2 = (u8)t2, i->sources = (u8)n;
    char name[16] = "cvt.";
    strcat(name, ptxsim_type_names[t2]);
    int row = d_row(name, t);
    bool plain = i->rounding <= R_rn && !i->flags;
    i->flags &= F_GUARD_NOT | F_FTZ | F_SAT | F_RELU;
    if (row >= 0 && plain && from[0]->kind == RAW_REGISTER && from[0]->width == ptxsim_rows[row].width[1] &&
        d_raw(d, 0)->width == ptxsim_rows[row].width[0])
        return d_use_row(d, row, from);
    i->bytes = d_raw(d, 0)->width, i->width = from[0]->width;
    for (int k = 0; k < 5; k++) d->o[k] = (operand){AT_SINK, VALID_SINK};
    if (d_raw(d, 0)->kind != RAW_REGISTER || from[0]->kind != RAW_REGISTER || i->bytes < ptxsim_type_bytes(t) || i->width < ptxsim_type_bytes(t2))
        return d_wrong(d, "registers are too narrow");
    for (int k = 0; k < n; k++)
        if (!d_source(d, from[k], i->width, k + 1)) return false;
    i->fn.lane = ptxsim_convert;
    u16 flags = i->flags; /* convert heeds them itself */
    i->flags &= F_GUARD_NOT;
    if (!d_destination(d, d_raw(d, 0), i->bytes, 0) || !d_finish(d, K_LANE, 5)) return false;
    i->mode = (u8)(flags & 7);
    return true;
}
static int take_space(decoder *d) {
    static const char *const names[] = {"global", "shared", "local", "const", "param", "shared::cta", "param::entry", "param::func", NULL};
    static const u8 spaces[] = {SP_GENERIC, SP_GLOBAL, SP_SHARED, SP_LOCAL, SP_CONST, SP_PARAM, SP_SHARED, SP_PARAM, SP_PARAM};
    return spaces[d_take_one(d, names)];
}
static u64 window(int space) {
    return space == SP_SHARED ? WINDOW(W_SHARED) : space == SP_LOCAL ? WINDOW(W_LOCAL) : space == SP_PARAM ? WINDOW(W_PARAM) : 0;
}
DECODER(cvta) {
    bool to = d_take(d, "to");
    int space = take_space(d);
    if (d->s->operands != 2 || !space || !d_take(d, "u64")) return d_unknown(d);
    raw base = {.kind = RAW_NUMBER, .value = window(space)};
    const raw *from[2] = {d_raw(d, 1), &base};
    return d_use_row(d, !base.value ? L_mov_64 : to ? L_sub_64 : L_add_64, from);
}
static bool comparison(decoder *d, int mode, int t) {
    static const char *const names[] = {"eq",  "ne",  "lt",  "le",  "gt", "ge", "equ", "neu", "ltu", "leu",
                                        "gtu", "geu", "num", "nan", "lo", "ls", "hi",  "hs",  NULL};
    static const char *const joins[] = {"and", "or", "xor", NULL};
    static const struct {
        u32 types;
        u8 width;
    } tests[TEST_IDS] = {
#define X(id, types, T, as) {types, sizeof(T)},
        PTXSIM_TEST_OPS(X)
#undef X
    };
    ins *i = d->i;
    int cmp = d_take_one(d, names) - 1, q = -1, pair = d->s->count[0] > 1;
    i->combine = (u8)d_take_one(d, joins), i->mode = (u8)mode;
    if (d_take(d, "ftz")) i->flags |= F_FTZ;
    for (int k = 0; k < TEST_IDS; k++)
        if (tests[k].types & 1u << t) q = k;
    if (cmp < 0 || q < 0 || d->s->operands != (i->combine ? 4 : 3) || (pair && mode) || (i->flags & F_FTZ && t != T_f32)) return d_unknown(d);
    if (cmp > CMP_ge && cmp < COMPARES && t != T_f32 && t != T_f64 && t != T_f16 && t != T_bf16) return d_unknown(d);
    i->compare = (u8)(cmp >= COMPARES ? cmp - COMPARES + CMP_lt : cmp), i->type = (u8)t, i->sources = 3;
    const raw always = {.kind = RAW_NUMBER, .value = 1}, nobody = {.kind = RAW_SINK}, *c = i->combine ? d_raw(d, 3) : &always;
    if (!i->combine) i->combine = C_and;
    if (c->negated) i->flags |= F_NOT;
    i->fn.compare = ptxsim_lane_table().compare[q];
    return d_destination(d, d_raw(d, 0), mode ? 4 : 1, 0) && d_source(d, d_raw(d, 1), tests[q].width, 1) &&
           d_source(d, d_raw(d, 2), tests[q].width, 2) && d_source(d, c, 1, 3) && d_destination(d, pair ? d_raw(d, 0) + 1 : &nobody, 1, 4) &&
           d_finish(d, K_COMPARE, 5);
}
DECODER(setp) {
    return comparison(d, 0, d_take_type(d));
}
DECODER(set) {
    int to = d_take_type(d);
    return to == T_u32 || to == T_s32 || to == T_f32 ? comparison(d, to == T_f32 ? 2 : 1, d_take_type(d)) : d_unknown(d);
}
DECODER(selp) {
    if (d->s->operands != 4) return d_wrong(d, "four operands expected");
    const raw *from[3] = {d_raw(d, 1), d_raw(d, 2), d_raw(d, 3)};
    int row = d_row("selp", d_take_type(d));
    return row < 0 ? d_unknown(d) : d_use_row(d, row, from);
}
DECODER(lop3) {
    if (d->s->operands != 5 || d_raw(d, 4)->kind != RAW_NUMBER || !d_take(d, "b32") || d->count != 2) return d_unknown(d);
    const raw *from[3] = {d_raw(d, 1), d_raw(d, 2), d_raw(d, 3)};
    d->i->imm = d_raw(d, 4)->value;
    return d_use_row(d, L_lop3, from);
}

/* ---- memory ---- */
static bool base_of(decoder *d, const raw *r, int to, u8 *bytes) {
    if (r->kind != RAW_MEMORY) return d_wrong(d, "an address in brackets expected");
    *bytes = r->width ? r->width : 8;
    if (*bytes != 4 && *bytes != 8) return d_wrong(d, "an address has 32 or 64 bits");
    if (!r->width) return ptxsim_constant(d->p, 0, 8, &d->o[to]);
    d->o[to] = r->reg;
    return true;
}
static void take_hints(decoder *d) { /* what changes speed, visibility or caching only */
    static const char *const hints[] = {"nc",
                                        "volatile",
                                        "weak",
                                        "relaxed",
                                        "acquire",
                                        "release",
                                        "cta",
                                        "gpu",
                                        "sys",
                                        "ca",
                                        "cg",
                                        "cs",
                                        "lu",
                                        "cv",
                                        "wb",
                                        "wt",
                                        "L1::evict_normal",
                                        "L1::evict_unchanged",
                                        "L1::evict_first",
                                        "L1::evict_last",
                                        "L1::no_allocate",
                                        "L2::64B",
                                        "L2::128B",
                                        "L2::256B",
                                        "L2::evict_first",
                                        "L2::evict_last",
                                        "L2::evict_normal",
                                        NULL};
    while (d_take_one(d, hints)) {}
}
static bool load_or_store(decoder *d, bool is_store) {
    static const char *const vectors[] = {"v2", "v4", "v8", NULL};
    ins *i = d->i;
    const raw *at = d_raw(d, is_store ? 0 : 1), *value = d_raw(d, is_store ? 1 : 0);
    take_hints(d);
    bool policy = d_take(d, "L2::cache_hint");
    i->space = (u8)take_space(d);
    i->vector = (u8)(1 << d_take_one(d, vectors));
    int t = d_take_type(d);
    if (!t || t == T_pred || d->s->operands != 2 + policy) return d_unknown(d);
    if (d->s->count[is_store ? 1 : 0] != i->vector) return d_wrong(d, "the vector has the wrong length");
    if (i->space == SP_PARAM && at->variable && at->variable->space == SP_LOCAL) i->space = SP_LOCAL;
    if (is_store && (i->space == SP_PARAM || i->space == SP_CONST)) return d_wrong(d, "this memory is read only");
    i->type = (u8)t, i->bytes = (u8)ptxsim_type_bytes(t), i->imm = at->value;
    for (int k = 0; k < i->vector; k++) {
        int to = is_store ? k + 1 : k;
        u8 width = value[k].kind == RAW_REGISTER ? value[k].width : i->bytes < 2 ? 2 : i->bytes;
        if (width < i->bytes || width == 1 || (k && value[k].kind == RAW_REGISTER && i->width != width))
            return d_wrong(d, "a register has the wrong width");
        if (value[k].kind == RAW_REGISTER || !i->width) i->width = width;
        if (is_store ? !d_source(d, value + k, width, to) : !d_destination(d, value + k, width, to)) return false;
    }
    return base_of(d, at, is_store ? 0 : i->vector, &i->base_bytes) && d_finish_step(d, is_store ? ptxsim_step_st : ptxsim_step_ld, i->vector + 1);
}
DECODER(ld) {
    return load_or_store(d, false);
}
DECODER(st) {
    return load_or_store(d, true);
}
DECODER(isspacep) {
    d->i->space = (u8)take_space(d);
    return d->s->operands == 2 && d->i->space
               ? d_destination(d, d_raw(d, 0), 1, 0) && d_source(d, d_raw(d, 1), 8, 1) && d_finish_step(d, ptxsim_step_isspacep, 2)
               : d_unknown(d);
}
DECODER(cp_async) {
    ins *i = d->i;
    bool cg = d_take(d, "cg"), ca = !cg && d_take(d, "ca"), policy = d_take(d, "L2::cache_hint");
    int n = d->s->operands - policy;
    take_hints(d);
    if ((!cg && !ca) || !(d_take(d, "shared") || d_take(d, "shared::cta")) || !d_take(d, "global") || n < 3 || n > 4) return d_unknown(d);
    const raw *to = d_raw(d, 0), *from = d_raw(d, 1), *size = d_raw(d, 2), *taken = d_raw(d, n - 1);
    if (size->kind != RAW_NUMBER || !(size->value == 16 || (ca && (size->value == 4 || size->value == 8))))
        return d_wrong(d, "the size is 16, or 4 or 8 with .ca");
    i->vector = (u8)size->value, i->target = (u32)to->value, i->imm = from->value;
    i->mode = n == 4 && taken->width == 1;
    i->flags |= taken->negated ? F_NOT : 0;
    return base_of(d, to, 0, &i->base_bytes) && base_of(d, from, 1, &i->width) && d_source(d, taken, i->mode ? 1 : 4, 2) &&
           d_finish_step(d, ptxsim_step_cp_async, 3);
}
DECODER(cp_commit) {
    return d->s->operands ? d_unknown(d) : d_finish_step(d, ptxsim_step_cp_commit, 0);
}
DECODER(cp_wait) {
    d->i->mode = d->s->operands == 0;
    if (d->s->operands > 1 || (d->s->operands && d_raw(d, 0)->kind != RAW_NUMBER)) return d_unknown(d);
    d->i->imm = d->s->operands ? d_raw(d, 0)->value : 0;
    return d_finish_step(d, ptxsim_step_cp_wait, 0);
}

/* ---- many lanes at once ---- */
static bool finish_sync(decoder *d, step_fn fn, int mask, int operands) {
    d->i->fn.step = fn;
    if (mask) d->i->results = (u8)mask; /* the operand that names the lanes */
    else d->i->flags |= F_WHOLE_WARP;
    return d_finish(d, K_SYNC, operands);
}
DECODER(shfl) {
    static const char *const modes[] = {"up", "down", "bfly", "idx", NULL};
    const raw nobody = {.kind = RAW_SINK};
    d->i->mode = (u8)d_take_one(d, modes);
    if (!d->i->mode || !d_take(d, "b32") || d->s->operands != 5) return d_unknown(d);
    for (int k = 1; k < 5; k++)
        if (!d_source(d, d_raw(d, k), 4, k)) return false;
    return d_destination(d, d_raw(d, 0), 4, 0) && d_destination(d, d->s->count[0] > 1 ? d_raw(d, 0) + 1 : &nobody, 1, 5) &&
           finish_sync(d, ptxsim_step_shfl, 4, 6);
}
DECODER(vote) {
    static const char *const modes[] = {"all", "any", "uni", "ballot", NULL};
    d->i->mode = (u8)d_take_one(d, modes);
    if (!d->i->mode || !d_take(d, d->i->mode == 4 ? "b32" : "pred") || d->s->operands != 3) return d_unknown(d);
    if (d_raw(d, 1)->negated) d->i->flags |= F_NOT;
    return d_destination(d, d_raw(d, 0), d->i->mode == 4 ? 4 : 1, 0) && d_source(d, d_raw(d, 1), 1, 1) && d_source(d, d_raw(d, 2), 4, 2) &&
           finish_sync(d, ptxsim_step_vote, 2, 3);
}
DECODER(match) {
    static const char *const modes[] = {"any", "all", NULL};
    const raw nobody = {.kind = RAW_SINK};
    d->i->mode = (u8)d_take_one(d, modes);
    d->i->width = d_take(d, "b32") ? 4 : d_take(d, "b64") ? 8 : 0;
    if (!d->i->mode || !d->i->width || !d_take(d, "sync") || d->s->operands != 3) return d_unknown(d);
    return d_destination(d, d_raw(d, 0), 4, 0) && d_destination(d, d->s->count[0] > 1 ? d_raw(d, 0) + 1 : &nobody, 1, 3) &&
           d_source(d, d_raw(d, 1), d->i->width, 1) && d_source(d, d_raw(d, 2), 4, 2) && finish_sync(d, ptxsim_step_match, 2, 4);
}
DECODER(redux) {
    static const char *const modes[] = {"add", "min", "max", "and", "or", "xor", NULL};
    d->i->mode = (u8)d_take_one(d, modes);
    int t = d_take_type(d);
    d->i->type = (u8)t;
    if (!d->i->mode || (t != T_u32 && t != T_s32 && t != T_b32) || d->s->operands != 3) return d_unknown(d);
    return d_destination(d, d_raw(d, 0), 4, 0) && d_source(d, d_raw(d, 1), 4, 1) && d_source(d, d_raw(d, 2), 4, 2) &&
           finish_sync(d, ptxsim_step_redux, 2, 3);
}
DECODER(activemask) {
    return d_take(d, "b32") && d->s->operands == 1 ? d_destination(d, d_raw(d, 0), 4, 0) && d_finish_step(d, ptxsim_step_activemask, 1)
                                                   : d_unknown(d);
}
DECODER(ldmatrix) {
    static const char *const counts[] = {"x1", "x2", "x4", NULL};
    int n = d_take_one(d, counts);
    d->i->mode = d_take(d, "trans"), d->i->vector = (u8)(n ? 1 << (n - 1) : 0), d->i->imm = d->s->operands == 2 ? d_raw(d, 1)->value : 0;
    if (!n || !d_take(d, "m8n8") || take_space(d) != SP_SHARED || !d_take(d, "b16") || d->s->operands != 2 || d->s->count[0] != d->i->vector)
        return d_unknown(d);
    for (int k = 0; k < d->i->vector; k++)
        if (!d_destination(d, d_raw(d, 0) + k, 4, k)) return false;
    return base_of(d, d_raw(d, 1), d->i->vector, &d->i->base_bytes) && finish_sync(d, ptxsim_step_ldmatrix, 0, d->i->vector + 1);
}
DECODER(mma) {
    static const char *const shapes[] = {"m16n8k8", "m16n8k16", NULL};
    ins *i = d->i;
    int shape = d_take_one(d, shapes);
    if (!shape || !d_take(d, "row") || !d_take(d, "col")) return d_unknown(d);
    int t[4], o = 0;
    for (int k = 0; k < 4; k++) t[k] = d_take_type(d);
    bool tf32 = t[1] == T_tf32;
    if (t[1] != t[2] || t[0] != t[3] || (t[0] != T_f32 && (t[0] != T_f16 || t[1] != T_f16))) return d_unknown(d);
    if ((t[1] != T_f16 && t[1] != T_bf16 && !tf32) || (tf32 && shape != 1)) return d_unknown(d);
    const int half = shape == 1 && !tf32, counts[4] = {t[0] == T_f32 ? 4 : 2, half ? 2 : 4, half ? 1 : 2, t[0] == T_f32 ? 4 : 2};
    if (d->s->operands != 4) return d_wrong(d, "four operands expected");
    for (int k = 0; k < 4; k++) {
        if (d->s->count[k] != counts[k]) return d_wrong(d, "a fragment has the wrong number of registers");
        for (int j = 0; j < counts[k]; j++, o++)
            if (!(k ? d_source : d_destination)(d, d_raw(d, k) + j, 4, o)) return false;
    }
    i->type = (u8)t[0], i->type2 = (u8)t[1], i->vector = (u8)counts[0], i->width = (u8)counts[1];
    return finish_sync(d, ptxsim_step_mma, 0, o);
}

/* ---- control ---- */
DECODER(bar) {
    ins *i = d->i;
    static const char *const modes[] = {"sync", "arrive", "red", NULL}, *const reductions[] = {"popc", "and", "or", NULL};
    d_take(d, "cta"), d_take(d, "aligned");
    i->mode = (u8)d_take_one(d, modes);
    int first = i->mode == 3, n = d->s->operands - 2 * first;
    i->combine = (u8)(first ? d_take_one(d, reductions) : 0);
    if (!i->mode || (first && (!i->combine || !d_take(d, i->combine == 1 ? "u32" : "pred"))) || n < 1 || n > 2 || (i->mode == 2 && n != 2))
        return d_unknown(d);
    const raw zero = {.kind = RAW_NUMBER}, nobody = {.kind = RAW_SINK}, *which = d_raw(d, first),
              *value = first ? d_raw(d, d->s->operands - 1) : &zero;
    if (n == 2 || which->kind != RAW_NUMBER || which->value) d->p->m->splits_barriers = true;
    if (value->negated) i->flags |= F_NOT;
    return d_destination(d, first ? d_raw(d, 0) : &nobody, i->combine == 1 ? 4 : 1, 0) && d_source(d, which, 4, 1) &&
           d_source(d, n == 2 ? d_raw(d, first + 1) : &zero, 4, 2) && d_source(d, value, 1, 3) && d_finish(d, K_BARRIER, 4);
}
DECODER(warp_sync) {
    return d->s->operands == 1 ? d_source(d, d_raw(d, 0), 4, 1) && finish_sync(d, ptxsim_step_nothing, 1, 2) : d_unknown(d);
}
DECODER(nothing) {
    static const char *const words[] = {"gl", "cta", "sys", "gpu", "cluster", "acq_rel", "sc", "global", "local", "L1", "L2", "u32", NULL};
    while (d_take_one(d, words)) {}
    return d_finish_step(d, ptxsim_step_nothing, 0);
}
DECODER(bra) {
    d_take(d, "uni");
    if (d->s->operands != 1 || d_raw(d, 0)->kind != RAW_NAME) return d_unknown(d);
    return ptxsim_wait_for_label(d->p, d_raw(d, 0)->name, d_raw(d, 0)->length) && d_finish(d, K_BRANCH, 0);
}
DECODER(brx) {
    d_take(d, "uni");
    d->i->target = ~0u;
    if (d->s->operands != 2 || d_raw(d, 1)->kind != RAW_NAME) return d_unknown(d);
    return d_source(d, d_raw(d, 0), 4, 1) && ptxsim_wait_for_label(d->p, d_raw(d, 1)->name, d_raw(d, 1)->length) && d_finish(d, K_BRANCH_TABLE, 2);
}
/* The places of the actual parameters, results first, go to the module's tables. */
DECODER(call) {
    ptxsim_module *m = d->p->m;
    const statement *s = d->s;
    const raw *name = NULL;
    d_take(d, "uni");
    d->i->imm = m->table_words;
    for (int k = 0; k < s->raw_count; k++) {
        const raw *r = &s->raws[k];
        if (r->kind == RAW_NAME && !name) name = r;
        else if (r->kind != RAW_NUMBER || !r->variable || r->variable->space != SP_LOCAL)
            return d_wrong(d, "a call's parameters are .param variables, its target a name");
        else {
            if (!(m->tables = ptxsim_grow(d->p, m->tables, m->table_words, sizeof(u32)))) return false;
            m->tables[m->table_words++] = (u32)r->value;
        }
    }
    for (u32 f = 0; name && f < m->function_count; f++)
        if (strlen(m->functions[f].name) == name->length && !memcmp(m->functions[f].name, name->name, name->length)) {
            d->i->target = f;
            if (m->functions[f].is_entry || m->functions[f].arguments != m->table_words - d->i->imm)
                return d_wrong(d, "the number of parameters is wrong");
            return d_finish(d, K_CALL, 0);
        }
    return d_wrong(d, "the function is not known");
}
DECODER(ret) {
    d_take(d, "uni");
    return d->s->operands ? d_unknown(d) : d_finish(d, !strcmp(d->words[0], "exit") ? K_EXIT : K_RETURN, 0);
}
DECODER(trap) {
    return d_finish(d, K_TRAP, 0);
}
