/* The cancel token: one flag that the thread pool polls per output tile and the readers per chunk. */
#ifndef WO_BASE_CANCEL_H
#define WO_BASE_CANCEL_H

#include <stdatomic.h>
#include <stdbool.h>

typedef struct wo_cancel {
    atomic_int requested;
    atomic_llong tiles;       /* tiles begun since the token was armed */
    atomic_llong tiles_after; /* tiles begun after the request: at most one per thread, and a test counts them */
} wo_cancel;

void wo_cancel_reset(wo_cancel *c);
void wo_cancel_request(wo_cancel *c); /* async-signal safe, any thread */
static inline bool wo_cancel_requested(const wo_cancel *c) {
    return c != 0 && atomic_load_explicit(&c->requested, memory_order_relaxed) != 0;
}

#endif
