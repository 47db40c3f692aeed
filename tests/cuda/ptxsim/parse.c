/* Reads PTX. The text is words and single characters; a function's registers get their places as they are declared, labels are patched at its end,
 * and each instruction goes to decode.c with its operands resolved. */
#include "parse.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

bool ptxsim_complain(parser *p, const char *format, ...) {
    if (p->failed) return false;
    p->failed = true;
    int n = snprintf(p->message, p->message_bytes, "PTX line %u: ", p->line);
    va_list list;
    va_start(list, format);
    if (n >= 0 && (size_t)n < p->message_bytes) vsnprintf(p->message + n, p->message_bytes - (size_t)n, format, list);
    va_end(list);
    return false;
}
void *ptxsim_grow(parser *p, void *array, size_t count, size_t size) {
    if (count & (count - 1) || (count && count < 16)) return array; /* room doubles at powers of two, and starts with 16 */
    void *r = realloc(array, (count ? 2 * count : 16) * size);
    if (!r) ptxsim_complain(p, "out of memory");
    return r;
}

/* ---- words ---- */
static bool is_word(char c) {
    return isalnum((unsigned char)c) || c == '_' || c == '$' || c == '%' || c == '.';
}
void ptxsim_next(parser *p) {
    const char *c = p->at;
    for (;;) {
        if (*c == '\n') p->line_ahead++, c++;
        else if (isspace((unsigned char)*c)) c++;
        else if (c[0] == '/' && c[1] == '/')
            while (*c && *c != '\n') c++;
        else if (c[0] == '/' && c[1] == '*') {
            for (c += 2; *c && !(c[0] == '*' && c[1] == '/'); c++) p->line_ahead += *c == '\n';
            c += *c ? 2 : 0;
        } else break;
    }
    p->line = p->line_ahead;
    p->word = c;
    if (is_word(*c))
        while (is_word(*c) || (c[0] == ':' && c[1] == ':' && (c += 1))) c++;
    else if (*c == '"')
        for (c++; *c && *(c++) != '"';) {}
    else if (*c) c++;
    p->length = (size_t)(c - p->word);
    p->at = c;
}
bool ptxsim_is(const parser *p, const char *text) {
    return p->length == strlen(text) && !memcmp(p->word, text, p->length);
}
bool ptxsim_accept(parser *p, const char *text) {
    if (!ptxsim_is(p, text)) return false;
    ptxsim_next(p);
    return true;
}
bool ptxsim_expect(parser *p, const char *text) {
    return ptxsim_accept(p, text) || ptxsim_complain(p, "'%s' expected before '%.*s'", text, (int)p->length, p->word);
}
#define next ptxsim_next
#define is ptxsim_is
#define accept ptxsim_accept
#define expect ptxsim_expect

static bool number(parser *p, u64 *out, bool *is_float) {
    bool minus = accept(p, "-");
    char text[32], *end;
    if (!p->length || p->length >= sizeof(text) || !isdigit((unsigned char)p->word[0]))
        return ptxsim_complain(p, "a number expected before '%.*s'", (int)p->length, p->word);
    memcpy(text, p->word, p->length), text[p->length] = 0;
    *is_float = text[0] == '0' && strchr("fFdD", text[1]) && text[1];
    errno = 0;
    if (*is_float) *out = strtoull(text + 2, &end, 16);
    else if (text[0] == '0' && (text[1] == 'b' || text[1] == 'B')) *out = strtoull(text + 2, &end, 2);
    else *out = strtoull(text, &end, 0);
    if (*end == 'U' && !*is_float) end++;
    if (*end || errno) return ptxsim_complain(p, "'%s' is no number", text);
    if (minus) *out = *is_float ? *out ^ (text[1] == 'd' || text[1] == 'D' ? (u64)1 << 63 : 0x80000000u) : 0 - *out;
    next(p);
    return true;
}

/* ---- names ---- */
static const struct registers *find_registers(const parser *p, const char *s, size_t n, u32 *index) {
    size_t stem = n;
    while (stem && isdigit((unsigned char)s[stem - 1])) stem--;
    for (size_t k = p->registers_count; k-- > 0;) {
        const struct registers *r = &p->registers[k];
        if (r->length == n && !r->count && !memcmp(r->name, s, n)) return *index = 0, r;
        if (r->length == stem && stem < n && r->count && !memcmp(r->name, s, stem) && (*index = (u32)strtoul(s + stem, NULL, 10)) < r->count)
            return r;
    }
    return NULL;
}
static const variable *find_variable(const parser *p, const char *s, size_t n) {
    u32 self = p->f ? (u32)(p->f - p->m->functions) : ~0u;
    for (size_t k = p->m->variable_count; k-- > 0;) {
        const variable *v = &p->m->variables[k];
        if (v->length == n && !v->closed && (v->owner == self || v->owner == ~0u) && !memcmp(v->name, s, n)) return v;
    }
    return NULL;
}
static bool declare_registers(parser *p) {
    static const struct {
        const char *name;
        u8 width;
    } widths[] = {{".pred", 1}, {".b16", 2}, {".u16", 2},   {".s16", 2}, {".f16", 2}, {".b32", 4}, {".u32", 4},
                  {".s32", 4},  {".f32", 4}, {".f16x2", 4}, {".b64", 8}, {".u64", 8}, {".s64", 8}, {".f64", 8}};
    u8 width = 0;
    for (size_t k = 0; k < sizeof(widths) / sizeof(*widths); k++)
        if (is(p, widths[k].name)) width = widths[k].width;
    if (!width) return ptxsim_complain(p, "registers of the unknown type '%.*s'", (int)p->length, p->word);
    do {
        next(p);
        struct registers r = {p->word, p->length, 0, width, {0, 0}};
        next(p);
        if (accept(p, "<")) {
            u64 count;
            bool f;
            if (!number(p, &count, &f) || !expect(p, ">")) return false;
            if (count > 1u << 20) return ptxsim_complain(p, "too many registers");
            r.count = (u32)count;
        }
        size_t each = width == 1 ? 4 : width * (size_t)LANES, bytes = each * (r.count ? r.count : 1);
        p->f->frame_bytes = (p->f->frame_bytes + 63) / 64 * 64;
        r.first.at = FILE_HEAD + (s32)p->f->frame_bytes, r.first.valid = VALID_HEAD + p->f->valid_count;
        p->f->frame_bytes += bytes, p->f->valid_count += r.count ? r.count : 1;
        if (p->f->frame_bytes > 1u << 30) return ptxsim_complain(p, "too many registers");
        if (!(p->registers = ptxsim_grow(p, p->registers, p->registers_count, sizeof(r)))) return false;
        p->registers[p->registers_count++] = r;
    } while (is(p, ","));
    return expect(p, ";");
}

/* ---- operands ---- */
static bool operand_of(parser *p, statement *s);
static raw *add_raw(parser *p, statement *s) {
    if (s->raw_count == ALL_OPERANDS) return ptxsim_complain(p, "too many operands"), NULL;
    raw *r = &s->raws[s->raw_count++];
    memset(r, 0, sizeof(*r));
    return r;
}
static bool offset_of(parser *p, raw *r) {
    bool plus = accept(p, "+"), f;
    u64 v;
    if (!plus && !is(p, "-")) return true;
    if (!number(p, &v, &f)) return false;
    r->value += v;
    return true;
}
static bool named(parser *p, raw *r) {
    u32 k;
    const struct registers *regs = find_registers(p, p->word, p->length, &k);
    r->name = p->word, r->length = p->length;
    if (regs) {
        r->kind = RAW_REGISTER, r->width = regs->width;
        r->reg.at = regs->first.at + (s32)(k * (regs->width == 1 ? 4u : regs->width * (u32)LANES)), r->reg.valid = regs->first.valid + k;
        return next(p), true;
    }
#define X(id, text)                                                                                                                                  \
    if (is(p, text)) return r->kind = RAW_REGISTER, r->width = 4, r->reg.at = S_##id * 128, next(p), true;
    PTXSIM_SPECIAL_LIST(X)
#undef X
    static const char *const clocks[] = {"%clock", "%clock64", "%globaltimer", "%globaltimer_lo", "%globaltimer_hi", "%smid"};
    for (size_t c = 0; c < sizeof(clocks) / sizeof(*clocks); c++)
        if (is(p, clocks[c])) return r->kind = RAW_NAME, r->clock = true, r->value = c, next(p), true;
    if (p->word[0] == '%') return ptxsim_complain(p, "the register '%.*s' is not known", (int)p->length, p->word);
    if (is(p, "WARP_SZ")) return r->kind = RAW_NUMBER, r->value = 32, next(p), true;
    r->kind = RAW_NAME;
    r->variable = find_variable(p, p->word, p->length);
    next(p);
    if (!r->variable) return true;
    r->kind = RAW_NUMBER, r->value = r->variable->at;
    return offset_of(p, r);
}
static bool memory(parser *p, raw *r) {
    bool f;
    if (isdigit((unsigned char)p->word[0])) {
        if (!number(p, &r->value, &f)) return false;
    } else if (!named(p, r)) return false;
    else if (r->kind == RAW_NAME) return ptxsim_complain(p, "'%.*s' is not known", (int)r->length, r->name);
    if (r->kind != RAW_REGISTER) r->width = 0;
    r->kind = RAW_MEMORY;
    return offset_of(p, r) && expect(p, "]");
}
static bool list_of(parser *p, statement *s, const char *close) {
    while (!is(p, close)) {
        if (!operand_of(p, s)) return false;
        if (!accept(p, ",")) break;
    }
    return expect(p, close);
}
static bool operand_of(parser *p, statement *s) {
    if (accept(p, "{")) return list_of(p, s, "}");
    if (accept(p, "(")) return list_of(p, s, ")");
    raw *r = add_raw(p, s);
    if (!r) return false;
    if (accept(p, "[")) return memory(p, r);
    r->negated = accept(p, "!");
    if (accept(p, "_")) r->kind = RAW_SINK;
    else if (isdigit((unsigned char)p->word[0]) || is(p, "-")) {
        r->kind = RAW_NUMBER;
        if (!number(p, &r->value, &r->is_float)) return false;
    } else if (!is_word(p->word[0]) || p->word[0] == '.') return ptxsim_complain(p, "an operand expected before '%.*s'", (int)p->length, p->word);
    else if (!named(p, r)) return false;
    if (!accept(p, "|")) return true;
    r->pair = true;
    return operand_of(p, s);
}

/* ---- statements ---- */
static bool emit(parser *p, const statement *s, const raw *guard, u32 line) {
    ptxsim_module *m = p->m;
    if (!(m->code = ptxsim_grow(p, m->code, m->codes, sizeof(ins)))) return false;
    ins *i = &m->code[m->codes];
    memset(i, 0, sizeof(*i));
    i->line = line, i->source = (u32)m->source_count;
    if (guard) {
        i->guard = guard->reg.at, i->guard_valid = guard->reg.valid;
        if (guard->negated) i->flags = F_GUARD_NOT;
    }
    if (!ptxsim_decode(p, s, i)) return false;
    m->codes++;
    return true;
}
static bool instruction(parser *p) {
    statement s = {.operands = 0};
    raw guard = {.kind = RAW_SINK};
    u32 line = p->line;
    if (accept(p, "@")) {
        guard.negated = accept(p, "!");
        if (!named(p, &guard)) return false;
        if (guard.kind != RAW_REGISTER || guard.width != 1) return ptxsim_complain(p, "a guard is a predicate");
    }
    if (p->length >= sizeof(s.opcode)) return ptxsim_complain(p, "unknown opcode '%.*s'", (int)p->length, p->word);
    memcpy(s.opcode, p->word, p->length);
    next(p);
    while (!is(p, ";")) {
        if (s.operands == ALL_OPERANDS) return ptxsim_complain(p, "too many operands");
        s.first[s.operands] = s.raw_count;
        if (!operand_of(p, &s)) return false;
        s.count[s.operands] = s.raw_count - s.first[s.operands];
        s.operands++;
        if (!accept(p, ",")) break;
    }
    u32 end = p->line;
    p->line = line;
    if (!emit(p, &s, guard.kind == RAW_REGISTER ? &guard : NULL, line)) return false;
    p->line = end;
    return expect(p, ";");
}
static bool label(parser *p, const char *name, size_t length) {
    for (size_t k = 0; k < p->label_count; k++)
        if (p->labels[k].length == length && !memcmp(p->labels[k].name, name, length))
            return ptxsim_complain(p, "a second label '%.*s'", (int)length, name);
    if (!(p->labels = ptxsim_grow(p, p->labels, p->label_count, sizeof(*p->labels)))) return false;
    p->labels[p->label_count++] = (struct label){name, length, (u32)p->m->codes, 0};
    if (!accept(p, ".branchtargets")) return true;
    /* The label names a list: it is kept in the module's tables, first as the place of each name in the text. */
    u32 *count = NULL;
    size_t at = p->m->table_words;
    p->labels[p->label_count - 1].table = (u32)at + 1;
    do {
        for (int k = count ? 1 : 0; k < 2; k++) { /* the count, once, and a target */
            if (!(p->m->tables = ptxsim_grow(p, p->m->tables, p->m->table_words, sizeof(u32)))) return false;
            p->m->tables[p->m->table_words++] = k ? (u32)(p->word - p->m->text) : 0;
            count = &p->m->tables[at];
        }
        ++*count;
        next(p);
    } while (accept(p, ","));
    return expect(p, ";");
}
static bool find_label(parser *p, const char *name, size_t length, u32 *pc) {
    for (size_t k = 0; k < p->label_count; k++)
        if (p->labels[k].length == length && !memcmp(p->labels[k].name, name, length)) return *pc = p->labels[k].pc, true;
    return ptxsim_complain(p, "no label '%.*s'", (int)length, name);
}
static bool patch_labels(parser *p) {
    ptxsim_module *m = p->m;
    for (size_t k = 0; k < p->jump_count; k++) {
        struct jump *j = &p->jumps[k];
        ins *i = &m->code[j->code];
        p->line = i->line;
        if (i->kind == K_BRANCH) {
            if (!find_label(p, j->name, j->length, &i->target)) return false;
            continue;
        }
        for (size_t t = 0; t < p->label_count; t++)
            if (p->labels[t].table && p->labels[t].length == j->length && !memcmp(p->labels[t].name, j->name, j->length))
                i->target = p->labels[t].table - 1;
        if (i->target == ~0u) return ptxsim_complain(p, "no .branchtargets '%.*s'", (int)j->length, j->name);
    }
    for (size_t t = 0; t < p->label_count; t++)
        for (u32 k = 0; p->labels[t].table && k < m->tables[p->labels[t].table - 1]; k++) {
            u32 *target = &m->tables[p->labels[t].table + k];
            const char *name = m->text + *target;
            size_t length = 0;
            while (is_word(name[length])) length++;
            if (!find_label(p, name, length, target)) return false;
        }
    p->label_count = p->jump_count = 0;
    return true;
}
static bool source_location(parser *p) { /* .loc file line column [, function_name ...] */
    u64 v[3] = {0, 0, 0};
    bool f;
    for (int k = 0; k < 3; k++)
        if (!number(p, &v[k], &f)) return false;
    while (p->length && p->word[0] == ',') { /* , function_name $L, inlined_at file line column */
        next(p);
        bool inlined = is(p, "inlined_at");
        next(p);
        for (int k = 0; inlined && k < 3; k++)
            if (!number(p, &v[k], &f)) return false;
        if (!inlined) {
            next(p);
            if (accept(p, "+") && !number(p, &v[2], &f)) return false;
        }
    }
    ptxsim_module *m = p->m;
    if (!(m->sources = ptxsim_grow(p, m->sources, m->source_count, sizeof(*m->sources)))) return false;
    m->sources[m->source_count++] = (location){(u32)v[0], (u32)v[1]};
    return true;
}
/* From behind { to behind its }. */
bool ptxsim_body(parser *p) {
    size_t registers = p->registers_count, variables = p->m->variable_count;
    bool ok = true;
    while (ok && !is(p, "}")) {
        const char *word = p->word;
        size_t length = p->length;
        if (!length) return ptxsim_complain(p, "the text ends inside a function");
        if (accept(p, "{")) ok = ptxsim_body(p);
        else if (accept(p, ".reg")) ok = declare_registers(p);
        else if (accept(p, ".loc")) ok = source_location(p);
        else if (is(p, ".shared") || is(p, ".local") || is(p, ".param")) ok = ptxsim_declare(p);
        else if (accept(p, ".pragma")) next(p), ok = expect(p, ";");
        else if (word[0] == '.') ok = ptxsim_complain(p, "unknown directive '%.*s'", (int)length, word);
        else if (accept(p, ";")) {
        } else if (word[0] == '@') ok = instruction(p);
        else {
            const char *c = p->at;
            while (*c == ' ' || *c == '\t') c++;
            if (*c != ':') ok = instruction(p);
            else next(p), next(p), ok = label(p, word, length);
        }
    }
    if (!ok) return false;
    next(p);
    p->registers_count = registers;
    for (size_t k = variables; k < p->m->variable_count; k++) p->m->variables[k].closed = true;
    return true;
}
bool ptxsim_function_body(parser *p) {
    p->f->first = (u32)p->m->codes;
    p->registers_count = 0;
    if (!ptxsim_body(p) || !patch_labels(p)) return false;
    statement s = {.opcode = "exit"};
    if (!emit(p, &s, NULL, p->line)) return false; /* for a text that runs off the end */
    p->f->end = (u32)p->m->codes, p->f->has_body = true;
    return true;
}
bool ptxsim_wait_for_label(parser *p, const char *name, size_t length) {
    if (!(p->jumps = ptxsim_grow(p, p->jumps, p->jump_count, sizeof(*p->jumps)))) return false;
    p->jumps[p->jump_count++] = (struct jump){p->m->codes, name, length};
    return true;
}
bool ptxsim_number(parser *p, u64 *out, bool *is_float) {
    return number(p, out, is_float);
}
