/* Every way of offloading gives the bits of the resident run on the cuda device too: the tests of the cpu device, on the fake card. */
#include "toy_on_card.h"
#include "tests/test_offload_equality.c"
