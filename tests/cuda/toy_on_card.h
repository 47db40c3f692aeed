/* For the tests of the cpu device that run on the fake card as well: what they run on, and a look at the card when they are done. */
#ifndef WO_TESTS_CUDA_TOY_ON_CARD_H
#define WO_TESTS_CUDA_TOY_ON_CARD_H

#define TOY_DEVICE "cuda"
#define TOY_INTERPRETED

#include "fakecuda/fakecuda.h"

#include <unistd.h>

/* A test that passes must have left nothing on the card, and done nothing there that only seems to work. */
static void look_at_the_card(void) {
    uint64_t left = fakecuda()->misuses();
    for (int kind = 0; kind < FAKECUDA_KINDS; kind++)
        left += fakecuda()->live((fakecuda_kind)kind);
    if (left == 0)
        return;
    fprintf(stderr, "%llu objects left on the card, or misuses; the last thing it says: %s\n", (unsigned long long)left, fakecuda()->message());
    _exit(1);
}

__attribute__((constructor)) static void look_at_the_card_in_the_end(void) {
    atexit(look_at_the_card);
}

#endif
