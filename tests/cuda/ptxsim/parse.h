/* The state of reading one file, shared by module.c (what is outside function bodies) and parse.c (what is inside). */
#ifndef PTXSIM_PARSE_H
#define PTXSIM_PARSE_H

#include "internal.h"

struct registers { /* "%r" with a count is %r0 ..; without one it is a name */
    const char *name;
    size_t length;
    u32 count;
    u8 width;
    operand first;
};
struct label {
    const char *name;
    size_t length;
    u32 pc, table; /* table: 1 + index into the module's, of .branchtargets */
};
struct jump { /* an instruction that waits for the end of its function */
    size_t code;
    const char *name;
    size_t length;
};
struct constant {
    u64 value;
    u8 width;
    s32 at;
};
struct parser {
    ptxsim_module *m;
    function *f; /* being read, or NULL */
    const char *at, *word;
    size_t length;
    u32 line, line_ahead; /* of word; behind it */
    char *message;
    size_t message_bytes;
    bool failed;
    struct registers *registers;
    struct label *labels;
    struct jump *jumps;
    struct constant *constants;
    size_t registers_count, label_count, jump_count, constant_count;
};

/* The array with room for one more, or NULL (complained about). */
void *ptxsim_grow(parser *p, void *array, size_t count, size_t size);
void ptxsim_next(parser *p);
bool ptxsim_is(const parser *p, const char *text);
bool ptxsim_accept(parser *p, const char *text);
bool ptxsim_expect(parser *p, const char *text);
bool ptxsim_number(parser *p, u64 *out, bool *is_float);
bool ptxsim_declare(parser *p);       /* a variable, from its state space on, with its initialiser, to behind the ; */
bool ptxsim_body(parser *p);          /* from behind a { to behind its } */
bool ptxsim_function_body(parser *p);
bool ptxsim_wait_for_label(parser *p, const char *name, size_t length); /* the instruction being decoded jumps there */

#endif
