/* Each wait of the streamer is needed and enough on the cuda device too: the tests of the cpu device, on the fake card. */
#include "toy_on_card.h"
#include "tests/test_offload_edges.c"
