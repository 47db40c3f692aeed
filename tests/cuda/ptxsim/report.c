/* Messages: what, then where: kernel, line of the PTX with its text, line of the source, block and thread. The first one stays. */
#include "internal.h"

#include <stdarg.h>
#include <stdio.h>

static void write_message(block *b, const char *where, const char *format, va_list list) {
    char *out = b->report->message;
    size_t room = sizeof(b->report->message);
    if (out[0]) return;
    int n = vsnprintf(out, room, format, list);
    if (n >= 0 && (size_t)n < room) snprintf(out + n, room - (size_t)n, "%s", where);
}
static void line_text(const ptxsim_module *m, u32 line, char *out, size_t room) {
    const char *c = m->text;
    for (u32 k = 1; k < line && *c; c++) k += *c == '\n';
    while (*c == ' ' || *c == '\t' || *c == '{') c++;
    size_t n = strcspn(c, "\n");
    snprintf(out, room, "%.*s", (int)n, c);
    for (char *t = out; *t; t++)
        if (*t == '\t') *t = ' ';
}
bool ptxsim_report_lane(warp *w, const ins *i, int lane, const char *format, ...) {
    const block *b = w->b;
    const ptxsim_module *m = b->m;
    char where[448], text[120], source[80] = "", thread[48];
    const unsigned *n = b->launch->block;
    unsigned t = w->index * LANES + (unsigned)(lane < 0 ? 0 : lane);
    line_text(m, i->line, text, sizeof(text));
    if (i->source) {
        location at = m->sources[i->source - 1];
        snprintf(source, sizeof(source), " (%.50s:%u)", at.file < m->file_count && m->files[at.file] ? m->files[at.file] : "?", at.line);
    }
    if (lane < 0) snprintf(thread, sizeof(thread), "warp %u", w->index);
    else snprintf(thread, sizeof(thread), "thread (%u,%u,%u)", t % n[0], t / n[0] % n[1], t / n[0] / n[1]);
    snprintf(where, sizeof(where), "; %.80s, PTX line %u `%s`%s, block (%u,%u,%u), %s", b->f->name, i->line, text, source, b->id[0], b->id[1],
             b->id[2], thread);
    va_list list;
    va_start(list, format);
    write_message(w->b, where, format, list);
    va_end(list);
    return false;
}
bool ptxsim_report_block(block *b, const char *format, ...) {
    char where[160];
    snprintf(where, sizeof(where), "; %.80s, block (%u,%u,%u)", b->f->name, b->id[0], b->id[1], b->id[2]);
    va_list list;
    va_start(list, format);
    write_message(b, where, format, list);
    va_end(list);
    return false;
}
bool ptxsim_need(warp *w, const ins *i, u32 exec, int first, int count, const char *what) {
    u32 missing = exec & ~valid_sources(w, i, first, count);
    return !missing || ptxsim_report_lane(w, i, __builtin_ctz(missing), "%s depends on a register that was never written", what);
}
