/* A strict JSON reader for untrusted text, as a cursor: the caller asks for what it expects. Private to store.
 *
 * Nothing is allocated. Strings are decoded in place (no escape is shorter than what it stands for) and end with a NUL
 * where their closing quote was, so they live as long as the text. Refused: anything outside RFC 8259, invalid UTF-8,
 * lone surrogates, NUL inside a string, nesting deeper than WO_JSON_DEPTH. Every failure is WO_ECHECKPOINT and names the
 * file and the byte. */
#ifndef WO_STORE_JSON_H
#define WO_STORE_JSON_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

enum { WO_JSON_DEPTH = 32 };

typedef struct wo_json {
    char *text; /* mutable, `length` bytes, borrowed */
    size_t length, at;
    int depth;
    const char *path, *part; /* for messages: the file, and which part of it this is ("header") */
} wo_json;

wo_json wo_json_start(char *text, size_t length, const char *path, const char *part);

/* begin, then next until *more is false, reading one value after each true:
 *   { "key": value, ... }   next leaves the cursor at the value and sets *key
 *   [ value, ... ]          pass key = NULL */
wo_status wo_json_begin_object(wo_json *j, wo_error *err);
wo_status wo_json_begin_array(wo_json *j, wo_error *err);
wo_status wo_json_next(wo_json *j, bool first, bool *more, const char **key, wo_error *err);

wo_status wo_json_string(wo_json *j, const char **out, wo_error *err);
wo_status wo_json_uint(wo_json *j, uint64_t *out, wo_error *err); /* digits only: no sign, fraction or exponent */
wo_status wo_json_skip(wo_json *j, wo_error *err);                /* any value; keys below it may repeat */
/* Only white space may follow the value that was read. */
wo_status wo_json_finish(wo_json *j, wo_error *err);

/* text, or its beginning and "..." where it is long, cut between characters; for names from files in messages. Returns
 * buffer. */
const char *wo_json_brief(const char *text, char *buffer, size_t bytes);

#endif
