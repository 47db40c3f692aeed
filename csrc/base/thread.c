/* The signal mask is inherited, so it is closed around pthread_create: a new thread never has a moment with signals open. */
#include "base/thread.h"

#include <signal.h>
#include <string.h>

enum { STACK_BYTES = 2 << 20 };

wo_status wo_thread_start(pthread_t *out, void *(*fn)(void *), void *arg, const char *name, wo_error *err) {
    pthread_attr_t attributes;
    int code = pthread_attr_init(&attributes);
    if (code == 0) {
        sigset_t all, before;
        sigfillset(&all);
        pthread_attr_setstacksize(&attributes, STACK_BYTES);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        code = pthread_create(out, &attributes, fn, arg);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pthread_attr_destroy(&attributes);
    }
    if (code != 0)
        return wo_error_set_os(err, WO_EOS, code, NULL, "cannot start the thread %s: %s. The limit on threads or on memory of "
                               "this process may be too low.", name, strerror(code));
#if defined(__linux__)
    pthread_setname_np(*out, name);
#endif
    return WO_OK;
}
