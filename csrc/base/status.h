/* Status codes and errors.
 *
 * A fallible function returns a wo_status and takes a caller-owned wo_error last. Nothing prints, nothing aborts, and
 * there is no last-error global. The one list below makes the enum, the texts and the Python exceptions.
 */
#ifndef WO_BASE_STATUS_H
#define WO_BASE_STATUS_H

#include <stdint.h>

/* X(enumerator, Python exception class, text). The Python names without a dot live in wanoffload.errors. */
#define WO_STATUS_LIST(X)                                       \
    X(OK, "", "ok")                                             \
    X(EVALUE, "ValueError", "bad argument")                     \
    X(ETYPE, "TypeError", "wrong type")                         \
    X(ECHECKPOINT, "CheckpointError", "bad checkpoint")         \
    X(EPLAN, "PlanError", "no plan fits")                       \
    X(EDEVICE, "DeviceError", "device fault")                   \
    X(EUNSUPPORTED, "DeviceError", "not supported")             \
    X(ENOMEMORY, "OutOfMemoryError", "out of memory")           \
    X(EOS, "OSError", "operating system error")                 \
    X(EBUSY, "BusyError", "already running")                    \
    X(ECANCELLED, "KeyboardInterrupt", "cancelled")             \
    X(EINTERNAL, "InternalError", "broken invariant")

typedef enum wo_status {
#define WO_STATUS_ENUM(name, python, text) WO_##name,
    WO_STATUS_LIST(WO_STATUS_ENUM)
#undef WO_STATUS_ENUM
        WO_STATUS_COUNT
} wo_status;

/* Bytes that a plan had and would need; set with WO_EPLAN only. A budget of -1 was not given. */
typedef struct wo_shortfall {
    int64_t vram_budget, ram_budget, vram_needed, ram_needed;
} wo_shortfall;

typedef struct wo_error {
    wo_status code;
    int os_errno;
    char message[640];
    char path[512]; /* the file an EOS or ECHECKPOINT speaks of, or "" */
    wo_shortfall shortfall;
} wo_error;

/* Fills *err (may be NULL) and returns code, so that `return wo_error_set(...)` reads as one step. */
wo_status wo_error_set(wo_error *err, wo_status code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The same with errno and the file's name; code is WO_EOS or WO_ECHECKPOINT. */
wo_status wo_error_set_os(wo_error *err, wo_status code, int os_errno, const char *path, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
const char *wo_status_text(wo_status code);

#define WO_TRY(call)                            \
    do {                                        \
        wo_status wo_try_status_ = (call);      \
        if (wo_try_status_ != WO_OK)            \
            return wo_try_status_;              \
    } while (0)
/* As WO_TRY, for functions that clean up behind one `done:` label and keep their result in `status`. */
#define WO_GO(call)                     \
    do {                                \
        status = (call);                \
        if (status != WO_OK)            \
            goto done;                  \
    } while (0)
#define WO_FAIL(err, code, ...) return wo_error_set((err), (code), __VA_ARGS__)

#endif
