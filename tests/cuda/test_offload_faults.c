/* Whatever goes wrong on the host, nothing is leaked and the engine is usable afterwards: the tests of the cpu device, on the fake card. What goes wrong
 * on the card is in test_driver_faults.c. */
#include "toy_on_card.h"
#include "tests/test_offload_faults.c"
