/* The request is one store to a lock-free atomic, which is all that a signal handler may do. */
#include "base/cancel.h"

_Static_assert(ATOMIC_INT_LOCK_FREE == 2, "wo_cancel_request is called from signal handlers");

void wo_cancel_reset(wo_cancel *c) {
    atomic_store(&c->requested, 0);
    atomic_store(&c->tiles, 0);
    atomic_store(&c->tiles_after, 0);
}

void wo_cancel_request(wo_cancel *c) {
    atomic_store(&c->requested, 1);
}
