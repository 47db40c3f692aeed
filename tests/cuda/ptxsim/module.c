/* What stands outside function bodies: variables, function headers, directives; loading and unloading.
 *
 * Shared memory of a block:  0 | static arrays, a gap behind each | ... nothing ... | DYNAMIC_AT | dynamic |
 * so that an address of dynamic memory is known before the static arrays of a function are. */
#include "parse.h"

#include <stdio.h>
#include <stdlib.h>

#define next ptxsim_next
#define is ptxsim_is
#define accept ptxsim_accept
#define expect ptxsim_expect

static u8 type_bytes(const parser *p) {
#define X(name, bytes)                                                                                                                               \
    if (is(p, "." #name)) return bytes;
    PTXSIM_TYPE_LIST(X)
#undef X
    return 0;
}
static bool bounded(parser *p, u64 *out, u64 most, const char *what) {
    bool f;
    if (!ptxsim_number(p, out, &f)) return false;
    return (!f && *out <= most) || ptxsim_complain(p, "%s is beyond %llu", what, (unsigned long long)most);
}
static variable *add_variable(parser *p, const variable *v) {
    if (!(p->m->variables = ptxsim_grow(p, p->m->variables, p->m->variable_count, sizeof(*v)))) return NULL;
    p->m->variables[p->m->variable_count] = *v;
    return &p->m->variables[p->m->variable_count++];
}
/* [.align n] type [.ptr ...] name[n][m]; the word in front of it is read. *element 0: a type that has no place in memory. */
static bool declarator(parser *p, variable *v, u8 *element, bool *is_dynamic) {
    u64 n;
    v->align = 0, *is_dynamic = false;
    if (accept(p, ".align")) {
        if (!bounded(p, &v->align, 1u << 16, "an alignment")) return false;
    }
    if (!(*element = type_bytes(p))) return ptxsim_complain(p, "a variable of the unknown type '%.*s'", (int)p->length, p->word);
    if (!v->align) v->align = *element;
    if (v->align & (v->align - 1)) return ptxsim_complain(p, "an alignment is a power of two");
    next(p);
    while (is(p, ".ptr") || is(p, ".global") || is(p, ".const") || is(p, ".shared") || is(p, ".local") || is(p, ".align")) {
        if (!accept(p, ".align")) next(p);
        else if (!bounded(p, &n, 1u << 16, "an alignment")) return false;
    }
    v->name = p->word, v->length = p->length, v->bytes = *element;
    next(p);
    while (accept(p, "[")) {
        if (is(p, "]")) n = 0, *is_dynamic = true;
        else if (!bounded(p, &n, 1u << 28, "an array")) return false;
        v->bytes *= n;
        if (v->bytes > 1u << 28) return ptxsim_complain(p, "an array is too large");
        if (!expect(p, "]")) return false;
    }
    return true;
}
static u64 place(size_t *end, const variable *v) {
    u64 at = (*end + v->align - 1) / v->align * v->align;
    *end = at + v->bytes;
    return at;
}
static bool initial_values(parser *p, unsigned char *to, u64 bytes, u8 element, u64 *used) {
    if (accept(p, "{")) {
        while (!is(p, "}")) {
            if (!initial_values(p, to, bytes, element, used)) return false;
            if (!accept(p, ",")) break;
        }
        return expect(p, "}");
    }
    u64 v = 0;
    bool f;
    bool generic = accept(p, "generic") && accept(p, "(");
    const variable *named = NULL;
    for (size_t k = 0; k < p->m->variable_count; k++)
        if (p->m->variables[k].owner == ~0u && p->m->variables[k].length == p->length && !memcmp(p->m->variables[k].name, p->word, p->length))
            named = &p->m->variables[k];
    if (named) {
        v = named->at;
        next(p);
        u64 more;
        if (accept(p, "+")) {
            if (!ptxsim_number(p, &more, &f)) return false;
            v += more;
        }
    } else if (!ptxsim_number(p, &v, &f)) return false;
    if (generic && !expect(p, ")")) return false;
    if (*used + element > bytes) return ptxsim_complain(p, "more initial values than places");
    memcpy(to + *used, &v, element);
    *used += element;
    return true;
}
static bool in_image(parser *p, variable *v, u8 element) {
    ptxsim_module *m = p->m;
    size_t end = m->image_bytes ? m->image_bytes + 64 : 64; /* room between variables, and none at 0 */
    u64 at = place(&end, v), used = 0;
    unsigned char *image = realloc(m->image, end + 16);
    if (!image) return ptxsim_complain(p, "out of memory");
    memset(image + m->image_bytes, 0, end + 16 - m->image_bytes);
    m->image = image, m->image_bytes = end;
    v->at = WINDOW(W_MODULE) + at;
    return !accept(p, "=") || initial_values(p, image + at, v->bytes, element, &used);
}
static bool in_shared(parser *p, variable *v, bool is_dynamic) {
    v->space = SP_SHARED;
    if (is_dynamic) return v->at = DYNAMIC_AT, v->align <= 1024 || ptxsim_complain(p, "shared memory is aligned to 1024 at most");
    size_t *end = p->f ? &p->f->shared_layout : &p->m->shared_layout;
    v->at = place(end, v);
    if (p->f) p->f->shared_bytes += v->bytes;
    if (!(p->m->gaps = ptxsim_grow(p, p->m->gaps, p->m->gap_count, sizeof(gap)))) return false;
    p->m->gaps[p->m->gap_count++] = (gap){v->owner, *end, GAP_BYTES};
    *end += GAP_BYTES;
    if (!p->f && p->m->function_count) return ptxsim_complain(p, "shared memory of the module behind a function");
    return *end <= DYNAMIC_AT || ptxsim_complain(p, "too much static shared memory");
}
bool ptxsim_declare(parser *p) {
    variable v = {.owner = p->f ? (u32)(p->f - p->m->functions) : ~0u};
    u8 element;
    bool is_dynamic;
    char in = p->word[1];
    next(p);
    do {
        if (!declarator(p, &v, &element, &is_dynamic)) return false;
        if (is_dynamic && in != 's') return ptxsim_complain(p, "'%.*s' has no size", (int)v.length, v.name);
        bool ok = true;
        switch (in) {
        case 's': ok = in_shared(p, &v, is_dynamic); break;
        case 'l':
        case 'p': v.space = SP_LOCAL, v.at = place(&p->m->local_bytes, &v); break;
        default: v.space = in == 'c' ? SP_CONST : SP_GLOBAL, ok = in_image(p, &v, element);
        }
        if (!ok || !add_variable(p, &v)) return false;
    } while (accept(p, ","));
    return expect(p, ";");
}

/* ---- functions ---- */
static bool parameters(parser *p, bool are_results) {
    function *f = p->f;
    while (!is(p, ")")) {
        variable v = {.owner = (u32)(f - p->m->functions)};
        u8 element;
        bool is_dynamic;
        if (!expect(p, ".param") || !declarator(p, &v, &element, &is_dynamic)) return false;
        if (f->is_entry) v.space = SP_PARAM, v.at = place(&f->param_bytes, &v);
        else {
            v.space = SP_LOCAL, v.at = place(&p->m->local_bytes, &v);
            if (f->arguments == 16) return ptxsim_complain(p, "too many parameters");
            f->argument[f->arguments] = v.at, f->argument_bytes[f->arguments++] = (u32)v.bytes, f->results += are_results;
        }
        if (!add_variable(p, &v)) return false;
        if (!accept(p, ",")) break;
    }
    return expect(p, ")");
}
static function *find_function(ptxsim_module *m, const char *name, size_t length) {
    for (size_t k = 0; k < m->function_count; k++)
        if (strlen(m->functions[k].name) == length && !memcmp(m->functions[k].name, name, length)) return &m->functions[k];
    return NULL;
}
static bool limits(parser *p) {
    function *f = p->f;
    u64 n[3];
    bool fl;
    for (;;) {
        bool most = is(p, ".maxntid"), exactly = is(p, ".reqntid");
        if (most || exactly || is(p, ".minnctapersm") || is(p, ".maxnctapersm") || is(p, ".maxnreg")) {
            int k = 0;
            n[0] = n[1] = n[2] = 1;
            do {
                next(p);
                if (k == 3 || !ptxsim_number(p, &n[k++], &fl)) return ptxsim_complain(p, "three numbers at most");
            } while (is(p, ","));
            if (most) f->max_threads = (u32)(n[0] * n[1] * n[2]);
            for (k = 0; exactly && k < 3; k++) f->required[k] = (u32)n[k];
        } else if (accept(p, ".noreturn")) {
        } else if (accept(p, ".pragma")) {
            next(p);
            if (!expect(p, ";")) return false;
        } else return true;
    }
}
static bool function_of(parser *p, bool is_entry) {
    ptxsim_module *m = p->m;
    size_t variables = m->variable_count;
    function f = {.is_entry = is_entry, .shared_layout = m->shared_layout, .operand_first = m->operand_count};
    if (!(m->functions = ptxsim_grow(p, m->functions, m->function_count, sizeof(f)))) return false;
    p->f = &m->functions[m->function_count];
    *p->f = f;
    if (!is_entry && accept(p, "(") && !parameters(p, true)) return false;
    function *declared = find_function(m, p->word, p->length);
    if (declared && declared->has_body) return ptxsim_complain(p, "'%.*s' a second time", (int)p->length, p->word);
    p->f->name = strndup(p->word, p->length);
    if (!p->f->name) return ptxsim_complain(p, "out of memory");
    next(p);
    m->function_count++;
    if (accept(p, "(") && !parameters(p, false)) return false;
    if (!limits(p)) return false;
    if (!accept(p, ";")) {
        if (!expect(p, "{") || !ptxsim_function_body(p)) return false;
        p->f->operand_end = m->operand_count;
    }
    for (size_t k = variables; k < m->variable_count; k++) m->variables[k].closed = m->variables[k].owner != ~0u;
    p->f = NULL;
    return true;
}

/* ---- the file ---- */
static bool file_name(parser *p) { /* .file number "path" [, time, size] */
    ptxsim_module *m = p->m;
    u64 n;
    bool f;
    if (!bounded(p, &n, 4096, "a file's number")) return false;
    while (m->file_count <= n) {
        if (!(m->files = ptxsim_grow(p, m->files, m->file_count, sizeof(char *)))) return false;
        m->files[m->file_count++] = NULL;
    }
    const char *start = p->word + 1, *end = p->word + p->length - 1;
    for (const char *c = start; c < end; c++)
        if (*c == '/') start = c + 1;
    free(m->files[n]);
    m->files[n] = strndup(start, start < end ? (size_t)(end - start) : 0);
    next(p);
    while (accept(p, ","))
        if (!ptxsim_number(p, &n, &f)) return false;
    return true;
}
static bool skip_section(parser *p) {
    while (p->length && !is(p, "{")) next(p);
    while (p->length && !is(p, "}")) next(p);
    return expect(p, "}");
}
static bool directive(parser *p) {
    if (accept(p, ".version") || accept(p, ".address_size")) {
        if (p->word[0] == '3') return ptxsim_complain(p, "addresses of 64 bits only");
        return next(p), true;
    }
    if (accept(p, ".target")) {
        do next(p);
        while (accept(p, ","));
        return true;
    }
    if (accept(p, ".file")) return file_name(p);
    if (accept(p, ".section")) return skip_section(p);
    if (accept(p, ".visible") || accept(p, ".weak") || accept(p, ".extern") || accept(p, ".common") || accept(p, ";")) return true;
    if (accept(p, ".entry")) return function_of(p, true);
    if (accept(p, ".func")) return function_of(p, false);
    if (is(p, ".shared") || is(p, ".global") || is(p, ".const")) return ptxsim_declare(p);
    return ptxsim_complain(p, "unknown directive '%.*s'", (int)p->length, p->word);
}
/* Moves the registers of each .func behind those of all entries, so that a call needs no frame; turns indices into pointers. */
static bool finish(parser *p) {
    ptxsim_module *m = p->m;
    size_t bytes = 0;
    u32 words = 0;
    for (size_t k = 0; k < m->function_count; k++)
        if (m->functions[k].is_entry) {
            if (m->functions[k].frame_bytes > bytes) bytes = m->functions[k].frame_bytes;
            if (m->functions[k].valid_count > words) words = m->functions[k].valid_count;
        }
    for (size_t k = 0; k < m->codes; k++) m->code[k].o = m->operands + (uintptr_t)m->code[k].o;
    for (size_t k = 0; k < m->function_count; k++) {
        function *f = &m->functions[k];
        if (f->is_entry || !f->has_body) continue;
        bytes = (bytes + 63) / 64 * 64;
        for (size_t j = f->operand_first; j < f->operand_end; j++)
            if (m->operands[j].at >= FILE_HEAD) m->operands[j].at += (s32)bytes, m->operands[j].valid += words;
        for (u32 j = f->first; j < f->end; j++)
            if (m->code[j].guard) m->code[j].guard += (s32)bytes, m->code[j].guard_valid += words;
        bytes += f->frame_bytes, words += f->valid_count;
    }
    m->file_bytes = FILE_HEAD + bytes, m->valid_words = VALID_HEAD + words;
    for (size_t k = 0; k < m->codes; k++) { /* calls know their function by number until now */
        ins *i = &m->code[k];
        if (i->kind != K_CALL) continue;
        const function *f = &m->functions[i->target];
        for (size_t j = 0; !f->has_body && j < m->function_count; j++)
            if (m->functions[j].has_body && !strcmp(m->functions[j].name, f->name)) f = &m->functions[j];
        p->line = i->line;
        if (!f->has_body) return ptxsim_complain(p, "'%s' is called and has no body", f->name);
        i->target = (u32)(f - m->functions), m->has_calls = true;
    }
    return true;
}
ptxsim_module *ptxsim_load(const char *text, char *message, size_t message_bytes) {
    ptxsim_module *m = calloc(1, sizeof(*m));
    parser p = {.m = m, .message = message, .message_bytes = message_bytes, .line_ahead = 1};
    if (message_bytes) message[0] = 0;
    bool ok = m && (m->text = strdup(text)) && (m->pool = calloc(1, 64));
    if (!ok) ptxsim_complain(&p, "out of memory");
    else {
        m->pool_bytes = 64, m->local_bytes = 16;
        p.at = m->text;
        next(&p);
        while (ok && p.length) ok = directive(&p);
        ok = ok && finish(&p);
    }
    free(p.registers), free(p.labels), free(p.jumps), free(p.constants);
    if (ok) return m;
    ptxsim_unload(m);
    return NULL;
}
void ptxsim_unload(ptxsim_module *m) {
    if (!m) return;
    for (size_t k = 0; k < m->function_count; k++) free(m->functions[k].name);
    for (size_t k = 0; k < m->file_count; k++) free(m->files[k]);
    free(m->text), free(m->code), free(m->operands), free(m->functions), free(m->variables), free(m->gaps), free(m->pool), free(m->image);
    free(m->tables), free(m->sources), free(m->files), free(m);
}
static const function *entry_of(const ptxsim_module *m, int entry, int *found) {
    int n = 0;
    for (size_t k = 0; k < m->function_count; k++)
        if (m->functions[k].is_entry && n++ == entry) return &m->functions[k];
    if (found) *found = n;
    return NULL;
}
const function *ptxsim_entry(const ptxsim_module *m, int entry) {
    return entry_of(m, entry, NULL);
}
int ptxsim_count(const ptxsim_module *m) {
    int n = 0;
    entry_of(m, -1, &n);
    return n;
}
int ptxsim_find(const ptxsim_module *m, const char *entry) {
    for (int k = 0, n = ptxsim_count(m); k < n; k++)
        if (!strcmp(ptxsim_name(m, k), entry)) return k;
    return -1;
}
const char *ptxsim_name(const ptxsim_module *m, int entry) {
    const function *f = entry_of(m, entry, NULL);
    return f ? f->name : NULL;
}
size_t ptxsim_param_bytes(const ptxsim_module *m, int entry) {
    const function *f = entry_of(m, entry, NULL);
    return f ? f->param_bytes : 0;
}
size_t ptxsim_shared_bytes(const ptxsim_module *m, int entry) {
    const function *f = entry_of(m, entry, NULL);
    return f ? f->shared_bytes : 0;
}
