/* What decode.c (table, operands, lane operations) and decode_steps.c (the opcodes with a decoder of their own) share. */
#ifndef PTXSIM_DECODE_H
#define PTXSIM_DECODE_H

#include "opcodes.h"
#include "parse.h"

typedef struct decoder {
    parser *p;
    const statement *s;
    ins *i;
    char words[16][32]; /* of the opcode */
    bool taken[16];
    int count;
    operand o[ALL_OPERANDS]; /* what becomes i->o */
} decoder;

typedef struct table_row {
    const char *name;
    u32 types;
    u8 sources, width[5]; /* of d, a, b, c, e; 1: predicate */
} table_row;
extern const table_row ptxsim_rows[LANE_IDS];
extern const char *const ptxsim_type_names[TYPES];

#define X(name, decoder_of) bool ptxsim_decode_##decoder_of(decoder *d);
PTXSIM_STEP_OPS(X)
#undef X

/* All return false after a complaint. */
bool d_unknown(decoder *d);
bool d_wrong(decoder *d, const char *what);
bool d_source(decoder *d, const raw *r, u8 width, int to);
bool d_destination(decoder *d, const raw *r, u8 width, int to);
bool d_finish(decoder *d, kind k, int operands); /* an error if a word of the opcode is left */
bool d_use_row(decoder *d, int row, const raw *const *sources);
bool d_lane(decoder *d);
/* These only answer. */
bool d_take(decoder *d, const char *word);
int d_take_one(decoder *d, const char *const *list); /* index + 1 of the first that is there */
int d_take_type(decoder *d);
int d_row(const char *name, int t); /* -1: none */
void d_modifiers(decoder *d);

static inline const raw *d_raw(const decoder *d, int k) {
    return &d->s->raws[d->s->first[k]];
}
static inline bool d_finish_step(decoder *d, step_fn fn, int operands) {
    d->i->fn.step = fn;
    return d_finish(d, K_STEP, operands);
}

#endif
