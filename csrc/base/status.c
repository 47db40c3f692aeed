/* Errors are filled by value into the caller's struct. The text is formatted beside the target first, because a caller that
 * wraps an error passes the old message as an argument of the new one. */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const TEXTS[WO_STATUS_COUNT] = {
#define WO_STATUS_TEXT(name, python, text) text,
    WO_STATUS_LIST(WO_STATUS_TEXT)
#undef WO_STATUS_TEXT
};

/* Copies as much of text as fits and never cuts a UTF-8 sequence in two: Python decodes these strings. */
static void copy_text(char *out, size_t bytes, const char *text) {
    size_t length = strlen(text);
    if (length >= bytes) {
        length = bytes - 1;
        while (length > 0 && ((unsigned char)text[length] & 0xC0) == 0x80)
            length--;
    }
    memmove(out, text, length);
    out[length] = '\0';
}

static wo_status fill(wo_error *err, wo_status code, int os_errno, const char *path, const char *format, va_list args)
    __attribute__((format(printf, 5, 0)));
static wo_status fill(wo_error *err, wo_status code, int os_errno, const char *path, const char *format, va_list args) {
    if (err == NULL)
        return code;
    char message[sizeof err->message + 4], file[sizeof err->path + 4];
    vsnprintf(message, sizeof message, format, args);
    snprintf(file, sizeof file, "%s", path);
    *err = (wo_error){.code = code, .os_errno = os_errno, .shortfall = {-1, -1, 0, 0}};
    copy_text(err->message, sizeof err->message, message);
    copy_text(err->path, sizeof err->path, file);
    return code;
}

wo_status wo_error_set(wo_error *err, wo_status code, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fill(err, code, 0, "", format, args);
    va_end(args);
    return code;
}

wo_status wo_error_set_os(wo_error *err, wo_status code, int os_errno, const char *path, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fill(err, code, os_errno, path != NULL ? path : "", format, args);
    va_end(args);
    return code;
}

const char *wo_status_text(wo_status code) {
    return (unsigned)code < WO_STATUS_COUNT ? TEXTS[code] : "unknown status";
}
