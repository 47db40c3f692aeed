/* Counted host memory. Everything large that the core owns comes through here: the count is what `ram` budgets bound,
 * and the fault switch lets tests fail the n-th allocation. Thread safe. */
#ifndef WO_BASE_MEMORY_H
#define WO_BASE_MEMORY_H

#include "base/status.h"

#include <stddef.h>

/* 64-byte aligned, uninitialised; `what` names the purpose in the message of WO_ENOMEMORY. release takes NULL. */
wo_status wo_memory_acquire(size_t bytes, const char *what, void **out, wo_error *err);
void wo_memory_release(void *p);
/* Page-aligned with an unreadable guard page directly behind `bytes` rounded up to a page (tests write up to it). */
wo_status wo_memory_acquire_guarded(size_t bytes, const char *what, void **out, wo_error *err);
void wo_memory_release_guarded(void *p);

uint64_t wo_memory_current(void); /* bytes acquired and not released */
uint64_t wo_memory_peak(void);    /* highest since the last reset */
void wo_memory_reset_peak(void);

/* Tests: the n-th acquisition from now fails with WO_ENOMEMORY, once; 0 switches off. */
void wo_memory_fail_at(int64_t n);

#endif
