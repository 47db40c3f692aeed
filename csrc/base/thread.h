/* Starting the core's own threads: pool workers, readers and streams. */
#ifndef WO_BASE_THREAD_H
#define WO_BASE_THREAD_H

#include "base/status.h"

#include <pthread.h>

/* Starts fn(arg) on a joinable thread with a stack of 2 MiB and every signal blocked, so that Ctrl-C reaches the caller's
 * threads. name: at most 15 characters, shown by debuggers. Fails with WO_EOS. */
wo_status wo_thread_start(pthread_t *out, void *(*fn)(void *), void *arg, const char *name, wo_error *err);

/* One round of a spinning wait: tells the core that this is one. */
static inline void wo_thread_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
