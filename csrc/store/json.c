/* See json.h. The cursor only moves forwards and every step compares with the length first, so no input makes it read
 * outside the text. The writing end of a string's decoding never overtakes the reading end. */
#include "store/json.h"
#include "store/file.h"

#include <inttypes.h>
#include <string.h>

wo_json wo_json_start(char *text, size_t length, const char *path, const char *part) {
    return (wo_json){.text = text, .length = length, .path = path, .part = part};
}

static wo_status fail(const wo_json *j, size_t at, const char *what, wo_error *err) {
    WO_BAD_FILE(err, j->path, "%s: the %s is not valid JSON at byte %zu: %s. The file is damaged; copy or download it again.",
                wo_path_tail(j->path), j->part, at, what);
}

static int peek(const wo_json *j) {
    return j->at < j->length ? (unsigned char)j->text[j->at] : -1;
}

static void skip_space(wo_json *j) {
    for (int c = peek(j); c == ' ' || c == '\t' || c == '\n' || c == '\r'; c = peek(j))
        j->at++;
}

static bool is_digit(int c) {
    return c >= '0' && c <= '9';
}

static wo_status begin(wo_json *j, char bracket, const char *what, wo_error *err) {
    skip_space(j);
    if (peek(j) != bracket)
        return fail(j, j->at, what, err);
    if (j->depth == WO_JSON_DEPTH)
        return fail(j, j->at, "it is nested too deeply", err);
    j->depth++;
    j->at++;
    return WO_OK;
}

wo_status wo_json_begin_object(wo_json *j, wo_error *err) {
    return begin(j, '{', "an object was expected", err);
}

wo_status wo_json_begin_array(wo_json *j, wo_error *err) {
    return begin(j, '[', "an array was expected", err);
}

wo_status wo_json_next(wo_json *j, bool first, bool *more, const char **key, wo_error *err) {
    int closing = key != NULL ? '}' : ']';
    *more = false;
    skip_space(j);
    if (peek(j) == closing) {
        j->at++;
        j->depth--;
        return WO_OK;
    }
    if (!first) {
        if (peek(j) != ',')
            return fail(j, j->at, key != NULL ? "',' or '}' was expected" : "',' or ']' was expected", err);
        j->at++;
    }
    if (key != NULL) {
        WO_TRY(wo_json_string(j, key, err));
        skip_space(j);
        if (peek(j) != ':')
            return fail(j, j->at, "':' was expected", err);
        j->at++;
    }
    *more = true;
    return WO_OK;
}

static int hex_value(int c) {
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Four hex digits at the cursor; -1 when they are not there. */
static long read_hex4(wo_json *j) {
    long value = 0;
    for (int i = 0; i < 4; i++, j->at++) {
        int digit = hex_value(peek(j));
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

static size_t encode_utf8(char *out, long code) {
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    size_t extra = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const unsigned char LEAD[] = {0, 0xC0, 0xE0, 0xF0};
    out[0] = (char)(LEAD[extra] | (code >> (6 * extra)));
    for (size_t i = 1; i <= extra; i++)
        out[i] = (char)(0x80 | ((code >> (6 * (extra - i))) & 0x3F));
    return extra + 1;
}

/* What follows \u: a code point, perhaps as a pair of surrogates; the cursor is behind the 'u'. -1 when it is none. */
static long read_unicode_escape(wo_json *j) {
    long code = read_hex4(j);
    if (code < 0xD800 || code > 0xDFFF)
        return code;
    if (code > 0xDBFF || j->length - j->at < 6 || j->text[j->at] != '\\' || j->text[j->at + 1] != 'u')
        return -1;
    j->at += 2;
    long low = read_hex4(j);
    return low < 0xDC00 || low > 0xDFFF ? -1 : 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
}

/* Decodes the escape at the cursor, which is behind the backslash, to *write. */
static wo_status read_escape(wo_json *j, size_t *write, wo_error *err) {
    static const char FROM[] = "\"\\/bfnrt", TO[] = "\"\\/\b\f\n\r\t";
    size_t at = j->at;
    int c = peek(j);
    const char *simple = c > 0 ? strchr(FROM, c) : NULL;
    j->at++;
    if (simple != NULL) {
        j->text[(*write)++] = TO[simple - FROM];
        return WO_OK;
    }
    if (c != 'u')
        return fail(j, at, "an unknown escape in a string", err);
    long code = read_unicode_escape(j);
    if (code < 0)
        return fail(j, at, "a \\u escape that is no character", err);
    if (code == 0)
        return fail(j, at, "a NUL character in a string", err);
    *write += encode_utf8(j->text + *write, code);
    return WO_OK;
}

/* The number of bytes of the UTF-8 sequence at s, or 0 when it is invalid: overlong forms, surrogates and what lies above
 * U+10FFFF are told by the second byte. */
static size_t utf8_length(const unsigned char *s, size_t room) {
    unsigned low = 0x80, high = 0xBF;
    size_t length;
    if (s[0] < 0x80)
        return 1;
    if (s[0] >= 0xC2 && s[0] <= 0xDF) {
        length = 2;
    } else if ((s[0] & 0xF0) == 0xE0) {
        length = 3;
        low = s[0] == 0xE0 ? 0xA0 : low;
        high = s[0] == 0xED ? 0x9F : high;
    } else if (s[0] >= 0xF0 && s[0] <= 0xF4) {
        length = 4;
        low = s[0] == 0xF0 ? 0x90 : low;
        high = s[0] == 0xF4 ? 0x8F : high;
    } else {
        return 0;
    }
    if (room < length || s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    return length;
}

wo_status wo_json_string(wo_json *j, const char **out, wo_error *err) {
    skip_space(j);
    if (peek(j) != '"')
        return fail(j, j->at, "a string was expected", err);
    size_t start = ++j->at, write = start;
    for (;;) {
        int c = peek(j);
        if (c < 0)
            return fail(j, start - 1, "a string is not closed", err);
        if (c == '"')
            break;
        if (c < 0x20)
            return fail(j, j->at, "a control character in a string", err);
        if (c == '\\') {
            j->at++;
            WO_TRY(read_escape(j, &write, err));
            continue;
        }
        size_t length = utf8_length((const unsigned char *)j->text + j->at, j->length - j->at);
        if (length == 0)
            return fail(j, j->at, "a string is not UTF-8", err);
        memmove(j->text + write, j->text + j->at, length);
        write += length;
        j->at += length;
    }
    j->text[write] = '\0';
    j->at++;
    *out = j->text + start;
    return WO_OK;
}

wo_status wo_json_uint(wo_json *j, uint64_t *out, wo_error *err) {
    skip_space(j);
    size_t start = j->at;
    uint64_t value = 0;
    for (; is_digit(peek(j)); j->at++) {
        uint64_t digit = (uint64_t)(peek(j) - '0');
        if (__builtin_mul_overflow(value, (uint64_t)10, &value) || __builtin_add_overflow(value, digit, &value))
            return fail(j, start, "a number of 2^64 or more", err);
    }
    int next = peek(j);
    bool leading_zero = j->at - start > 1 && j->text[start] == '0';
    if (j->at == start || leading_zero || next == '.' || next == 'e' || next == 'E')
        return fail(j, start, "a whole number without a sign was expected", err);
    *out = value;
    return WO_OK;
}

static bool skip_digits(wo_json *j) {
    size_t start = j->at;
    while (is_digit(peek(j)))
        j->at++;
    return j->at > start;
}

static wo_status skip_number(wo_json *j, wo_error *err) {
    size_t start = j->at;
    j->at += peek(j) == '-' ? 1 : 0;
    bool zero = peek(j) == '0';
    size_t digits = j->at;
    bool good = skip_digits(j) && !(zero && j->at - digits > 1);
    if (good && peek(j) == '.') {
        j->at++;
        good = skip_digits(j);
    }
    if (good && (peek(j) == 'e' || peek(j) == 'E')) {
        j->at++;
        j->at += peek(j) == '+' || peek(j) == '-' ? 1 : 0;
        good = skip_digits(j);
    }
    return good ? WO_OK : fail(j, start, "a value was expected", err);
}

static bool skip_word(wo_json *j, const char *word) {
    size_t length = strlen(word);
    if (j->length - j->at < length || memcmp(j->text + j->at, word, length) != 0)
        return false;
    j->at += length;
    return true;
}

/* Recursion is bounded by WO_JSON_DEPTH, which `begin` enforces. */
wo_status wo_json_skip(wo_json *j, wo_error *err) {
    skip_space(j);
    int c = peek(j);
    const char *ignored;
    if (c == '"')
        return wo_json_string(j, &ignored, err);
    if (c != '{' && c != '[') {
        bool word = skip_word(j, "true") || skip_word(j, "false") || skip_word(j, "null");
        return word ? WO_OK : skip_number(j, err);
    }
    WO_TRY(c == '{' ? wo_json_begin_object(j, err) : wo_json_begin_array(j, err));
    bool more = true;
    for (bool first = true;; first = false) {
        WO_TRY(wo_json_next(j, first, &more, c == '{' ? &ignored : NULL, err));
        if (!more)
            return WO_OK;
        WO_TRY(wo_json_skip(j, err));
    }
}

wo_status wo_json_finish(wo_json *j, wo_error *err) {
    skip_space(j);
    return j->at == j->length ? WO_OK : fail(j, j->at, "something follows the end", err);
}

const char *wo_json_brief(const char *text, char *buffer, size_t bytes) {
    size_t length = strnlen(text, bytes);
    if (length < bytes) {
        memcpy(buffer, text, length + 1);
        return buffer;
    }
    length = bytes - 4;
    while (length > 0 && ((unsigned char)text[length] & 0xC0) == 0x80)
        length--;
    memcpy(buffer, text, length);
    memcpy(buffer + length, "...", 4);
    return buffer;
}
