/* From the words of an instruction to struct ins, by the table in opcodes.h. Each modifier must be taken by somebody: what is left over makes the
 * opcode unknown. */
#include "decode.h"

#include <stdio.h>
#include <stdlib.h>

const table_row ptxsim_rows[LANE_IDS] = {
#define X(id, name, types, n, D, A, B, C, E, r) {name, types, n, {sizeof(D), sizeof(A), sizeof(B), sizeof(C), sizeof(E)}},
    PTXSIM_LANE_OPS(X)
#undef X
#define X(id, types, T) {"selp", types, 3, {sizeof(T), sizeof(T), sizeof(T), 1, 1}},
        PTXSIM_CHOOSE_OPS(X)
#undef X
#define X(id, name, n, r) {name, TY(pred), n, {1, 1, 1, 1, 1}},
            PTXSIM_LOGIC_OPS(X)
#undef X
};
static const u8 bytes_of_type[TYPES] = {0,
#define X(name, bytes) bytes,
                                        PTXSIM_TYPE_LIST(X)
#undef X
};
const char *const ptxsim_type_names[TYPES] = {"",
#define X(name, bytes) #name,
                                              PTXSIM_TYPE_LIST(X)
#undef X
};
int ptxsim_type_bytes(int t) {
    return bytes_of_type[t];
}

bool d_unknown(decoder *d) {
    return ptxsim_complain(d->p, "unknown opcode '%s'", d->s->opcode);
}
bool d_wrong(decoder *d, const char *what) {
    return ptxsim_complain(d->p, "'%s': %s", d->s->opcode, what);
}
bool d_take(decoder *d, const char *word) {
    for (int k = 0; k < d->count; k++)
        if (!d->taken[k] && !strcmp(d->words[k], word)) return d->taken[k] = true;
    return false;
}
/* The first word of the list that is there, as its index + 1. */
int d_take_one(decoder *d, const char *const *list) {
    for (int k = 0; list[k]; k++)
        if (d_take(d, list[k])) return k + 1;
    return 0;
}
static bool all_taken(decoder *d) {
    for (int k = 0; k < d->count; k++)
        if (!d->taken[k]) return d_unknown(d);
    return true;
}
int d_take_type(decoder *d) {
    for (int k = 1; k < d->count; k++)
        for (int t = 1; t < TYPES && !d->taken[k]; t++)
            if (!strcmp(d->words[k], ptxsim_type_names[t])) return d->taken[k] = true, t;
    return T_none;
}

/* ---- operands ---- */
bool ptxsim_constant(parser *p, u64 value, u8 width, operand *out) {
    ptxsim_module *m = p->m;
    out->valid = VALID_ALWAYS;
    for (size_t k = 0; k < p->constant_count; k++)
        if (p->constants[k].value == value && p->constants[k].width == width) return out->at = p->constants[k].at, true;
    if (!(p->constants = ptxsim_grow(p, p->constants, p->constant_count, sizeof(*p->constants)))) return false;
    size_t each = width == 1 ? 4 : width, count = width == 1 ? 1 : LANES, bytes = (each * count + 63) / 64 * 64;
    unsigned char *pool = realloc(m->pool, m->pool_bytes + bytes);
    if (!pool) return ptxsim_complain(p, "out of memory");
    m->pool = pool;
    memset(pool + m->pool_bytes, 0, bytes);
    for (size_t l = 0; l < count; l++) memcpy(pool + m->pool_bytes + l * each, &value, each);
    out->at = -(s32)m->pool_bytes;
    m->pool_bytes += bytes;
    p->constants[p->constant_count++] = (struct constant){value, width, out->at};
    return true;
}
bool ptxsim_operands(parser *p, ins *out, const operand *list, int count) {
    ptxsim_module *m = p->m;
    out->o = (const operand *)(uintptr_t)m->operand_count;
    for (int k = 0; k < count; k++) {
        if (!(m->operands = ptxsim_grow(p, m->operands, m->operand_count, sizeof(operand)))) return false;
        m->operands[m->operand_count++] = list[k];
    }
    return true;
}
bool d_source(decoder *d, const raw *r, u8 width, int to) {
    if (r->kind == RAW_REGISTER) {
        if (r->width != width) return d_wrong(d, "a source register has the wrong width");
        d->o[to] = r->reg;
        return true;
    }
    if (r->kind != RAW_NUMBER) return d_wrong(d, "a source is no register and no number");
    if (r->variable && width < 8 && r->value >> 32) return d_wrong(d, "the address does not fit");
    return ptxsim_constant(d->p,
                           width == 1   ? (r->value ? EVERY_LANE : 0)
                           : width == 8 ? r->value
                                        : r->value & (((u64)1 << width * 8) - 1),
                           width, &d->o[to]);
}
bool d_destination(decoder *d, const raw *r, u8 width, int to) {
    if (r->kind == RAW_SINK) return d->o[to] = (operand){AT_SINK, VALID_SINK}, true;
    if (r->kind != RAW_REGISTER || r->width != width) return d_wrong(d, "a destination is no register of the right width");
    if (r->reg.at < FILE_HEAD) return d_wrong(d, "a destination is a special register");
    d->o[to] = r->reg;
    return true;
}
bool d_finish(decoder *d, kind k, int operands) {
    d->i->kind = (u8)k;
    if (d->i->flags & ~(F_GUARD_NOT | F_NOT | F_WHOLE_WARP)) d->i->flags |= F_SLOW;
    return all_taken(d) && ptxsim_operands(d->p, d->i, d->o, operands < 5 ? 5 : operands);
}
/* ---- lane operations ---- */
void d_modifiers(decoder *d) {
    static const char *const roundings[] = {"rn", "rz", "rm", "rp", "rna", "rni", "rzi", "rmi", "rpi", NULL};
    d->i->rounding = (u8)d_take_one(d, roundings);
    if (d_take(d, "ftz")) d->i->flags |= F_FTZ;
    if (d_take(d, "sat") || d_take(d, "satfinite")) d->i->flags |= F_SAT;
    if (d_take(d, "relu")) d->i->flags |= F_RELU;
    d_take(d, "approx"), d_take(d, "full");
}
static int find_row(const decoder *d, const char *suffix, int t, int t2) {
    char name[96] = "";
    size_t n = 0;
    for (int k = 0; k < d->count; k++)
        if (k == 0 || !d->taken[k]) n += (size_t)snprintf(name + n, sizeof(name) - n, "%s%s", k ? "." : "", d->words[k]);
    snprintf(name + n, sizeof(name) - n, "%s%s%s", suffix, t2 ? "." : "", t2 ? ptxsim_type_names[t2] : "");
    for (int r = 0; r < LANE_IDS; r++)
        if (ptxsim_rows[r].types & 1u << t && !strcmp(ptxsim_rows[r].name, name)) return r;
    return -1;
}
bool d_use_row(decoder *d, int row, const raw *const *sources) {
    ins *i = d->i;
    for (int k = 0; k < d->count; k++) d->taken[k] = true;
    for (int k = 0; k < 5; k++) d->o[k] = (operand){AT_SINK, VALID_SINK};
    if (!d_destination(d, d_raw(d, 0), ptxsim_rows[row].width[0], 0)) return false;
    for (int k = 0; k < ptxsim_rows[row].sources; k++) {
        if (sources[k]->negated) {
            if (ptxsim_rows[row].width[k + 1] != 1) return d_wrong(d, "only a predicate is negated by '!'");
            i->flags |= F_NOT;
        }
        if (!d_source(d, sources[k], ptxsim_rows[row].width[k + 1], k + 1)) return false;
    }
    i->sources = ptxsim_rows[row].sources;
    if (i->rounding > R_rn) i->flags |= F_SLOW;
    i->fn.lane = ptxsim_lane_table().lane[row];
    return d_finish(d, K_LANE, 5);
}
bool d_lane(decoder *d) {
    const raw *sources[4];
    d_modifiers(d);
    int t = d_take_type(d), t2 = d_take_type(d), row = -1;
    if (!t) return d_unknown(d);
    if (d->i->flags & F_FTZ && (row = find_row(d, ".ftz", t, t2)) >= 0) d->i->flags &= (u16)~F_FTZ;
    if (row < 0) row = find_row(d, "", t, t2);
    if (row < 0) return d_unknown(d);
    bool is_float = t == T_f32 || t == T_f64, is_int = bytes_of_type[t] > 1 && t <= T_b64;
    if (d->i->rounding > R_rp || (d->i->rounding > R_rn && !is_float)) return d_unknown(d);
    if ((d->i->flags & (F_FTZ | F_SAT | F_RELU) && t != T_f32) || (is_int && d->i->rounding)) return d_unknown(d);
    if (is_int && (!strcmp(d->words[0], "div") || !strcmp(d->words[0], "rem"))) d->i->flags |= F_DIVIDES;
    if (d->s->operands != ptxsim_rows[row].sources + 1) return d_wrong(d, "the number of operands is wrong");
    for (int k = 0; k < ptxsim_rows[row].sources; k++) {
        sources[k] = d_raw(d, k + 1);
        if (d->s->count[k + 1] != 1) return d_wrong(d, "an operand is a vector");
        if (sources[k]->negated) return d_wrong(d, "'!' is not understood here");
    }
    d->i->type = (u8)t, d->i->type2 = (u8)t2;
    return d_use_row(d, row, sources);
}
int d_row(const char *name, int t) {
    for (int r = 0; r < LANE_IDS; r++)
        if (ptxsim_rows[r].types & 1u << t && !strcmp(ptxsim_rows[r].name, name)) return r;
    return -1;
}

static const struct step {
    const char *name;
    bool (*decode)(decoder *d);
} steps[] = {
#define X(name, decoder_of) {name, ptxsim_decode_##decoder_of},
    PTXSIM_STEP_OPS(X)
#undef X
};
bool ptxsim_decode(parser *p, const statement *s, ins *out) {
    decoder d = {.p = p, .s = s, .i = out};
    for (const char *c = s->opcode; *c; c += *c == '.') {
        size_t n = strcspn(c, ".");
        if (d.count == 16 || n >= sizeof(d.words[0])) return d_unknown(&d);
        memcpy(d.words[d.count++], c, n);
        c += n;
    }
    if (!d.count) return d_unknown(&d);
    d.taken[0] = true;
    size_t longest = 0;
    const struct step *best = NULL;
    for (size_t k = 0; k < sizeof(steps) / sizeof(*steps); k++) {
        size_t n = strlen(steps[k].name);
        if (n > longest && !strncmp(steps[k].name, s->opcode, n) && (!s->opcode[n] || s->opcode[n] == '.')) longest = n, best = &steps[k];
    }
    if (!best) return d_lane(&d);
    for (const char *c = best->name; (c = strchr(c, '.')); c++) { /* the words that made the name */
        char word[32] = "";
        memcpy(word, c + 1, strcspn(c + 1, "."));
        d_take(&d, word);
    }
    return best->decode(&d);
}
