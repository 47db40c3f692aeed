/* What a test can ask of the fake card and do to it. The card is a libcuda.so.1 (LD_LIBRARY_PATH names its folder); these functions are exported
 * from it beside the driver's, as fakecuda_NAME, and fakecuda() finds them. Any thread, unless said otherwise.
 *
 * From the environment, read when the library is loaded:
 *   FAKECUDA_COUNT      cards (1)                       FAKECUDA_MEMORY    bytes of each (1 GiB)
 *   FAKECUDA_TARGET     80 or 120: the PTX that is run, and the compute capability unless FAKECUDA_SM says another
 *   FAKECUDA_SM         compute capability * 10         FAKECUDA_NAME      name of the cards
 *   FAKECUDA_DRIVER     driver's version (13000)        FAKECUDA_THREADS   host threads for the blocks of a launch (1)
 *   FAKECUDA_SEED       of schedules and delays (0: in order)    FAKECUDA_DELAY   longest random delay before a command, seconds (0)
 *   FAKECUDA_PAGEABLE   sync (as the driver mostly does), async (as it may): copies that touch host memory which is not pinned
 *   FAKECUDA_LAZY       1: as set_lazy from the start (0)
 *   FAKECUDA_FAIL       SYMBOL:N:RESULT[:sticky], a fault from the start
 *   FAKECUDA_PTX        folder of MODULE.ptx that are run instead of the kernels built in
 *   FAKECUDA_TRACE      1: every command on stderr when it is carried out
 */
#ifndef FAKECUDA_H
#define FAKECUDA_H

#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef enum fakecuda_kind {
    FAKECUDA_CONTEXTS,
    FAKECUDA_STREAMS,
    FAKECUDA_EVENTS,
    FAKECUDA_MODULES,
    FAKECUDA_ALLOCATIONS,      /* device memory */
    FAKECUDA_HOST_ALLOCATIONS, /* pinned host memory that the driver made */
    FAKECUDA_REGISTRATIONS,    /* host memory of others that it pinned */
    FAKECUDA_KINDS
} fakecuda_kind;

/* What ptxsim counted in all launches of a kernel since reset. See ptxsim.h. */
typedef struct fakecuda_counts {
    uint64_t launches, instructions;
    uint64_t shared_accesses, shared_passes, ldmatrix_phases, ldmatrix_passes;
    uint64_t global_accesses, global_sectors, global_sectors_least;
} fakecuda_counts;

/* X(name, result, parameters)
 *   reset            no faults, no rehearsal, all counts 0, and what the environment says of seed, delay, pageable copies and lazy loading
 *   set_target       80 or 120, as FAKECUDA_TARGET; while no context is there
 *   set_seed         of warp schedules, of when cp.async lands and of delays up to max_delay before each command; 0: all in order
 *   set_pageable     true: copies with pageable host memory are carried out in the stream; false: at once, when the stream has got there
 *   set_lazy         true: the first launch of each kernel, and every call of another library, waits until the card has nothing left to do, as
 *                    the driver may when it loads kernels at their first use
 *   set_rehearsal    true: launches are counted and not carried out, to see which kernels something asks for
 *   fail             the n-th call from now of symbol (NULL: of any entry but cuGetErrorName and cuGetErrorString) does nothing and returns
 *                    result; sticky: and so does every later call on that card, until its context is gone. n = 0: none
 *   fail_kernel      the n-th launch from now is accepted, and ends with result while it runs; every later call returns it
 *   fired            whether the fault that was asked for last has happened
 *   message          the last thing that went wrong on the card, in words: what ptxsim found, a misuse, or ""; valid until the next
 *   calls            of an entry since reset; NULL: of all
 *   live             objects of a kind that are there
 *   device_bytes, device_peak, pinned_bytes     now, highest since reset, now
 *   misuses          calls that no driver forgives or that only seem to work: objects left when a context goes, calls from a host function,
 *                    handles that are gone, overlapping copies. Each is printed as well
 *   pageable_copies  copies with host memory that is not pinned
 *   implicit_waits   calls by which the driver waited for the card without being asked (cuMemFree and the like, pageable copies)
 *   late_loads       launches and calls that waited as set_lazy says
 *   kernel           counts of one kernel, zeros when it was not launched
 *   call             for other fake libraries: carries fn out in the order of the stream, with a copy of ctx; anything but 0 is what the context is then
 *                    lost with. Returns what a launch would
 *   resolve          for fn: the host address of memory of the card or of pinned memory, NULL when that is not one allocation
 *   misuse           counts and prints one */
#define FAKECUDA_LIST(X)                                                          \
    X(reset, void, (void))                                                        \
    X(set_target, void, (int target))                                             \
    X(set_seed, void, (uint64_t seed, double max_delay))                          \
    X(set_pageable, void, (bool async))                                           \
    X(set_lazy, void, (bool lazy))                                                \
    X(set_rehearsal, void, (bool rehearsal))                                      \
    X(fail, void, (const char *symbol, int64_t n, int result, bool sticky))       \
    X(fail_kernel, void, (int64_t n, int result))                                 \
    X(fired, bool, (void))                                                        \
    X(message, const char *, (void))                                              \
    X(calls, uint64_t, (const char *symbol))                                      \
    X(live, uint64_t, (fakecuda_kind kind))                                       \
    X(device_bytes, uint64_t, (void))                                             \
    X(device_peak, uint64_t, (void))                                              \
    X(pinned_bytes, uint64_t, (void))                                             \
    X(misuses, uint64_t, (void))                                                  \
    X(pageable_copies, uint64_t, (void))                                          \
    X(implicit_waits, uint64_t, (void))                                           \
    X(late_loads, uint64_t, (void))                                               \
    X(kernel, fakecuda_counts, (const char *name))                                \
    X(call, int, (void *stream, int (*fn)(void *ctx), const void *ctx, size_t bytes)) \
    X(resolve, void *, (uint64_t address, size_t bytes))                          \
    X(misuse, void, (const char *text))

typedef struct fakecuda_api {
#define FAKECUDA_FIELD(name, result, params) result(*name) params;
    FAKECUDA_LIST(FAKECUDA_FIELD)
#undef FAKECUDA_FIELD
} fakecuda_api;

/* The fake card of this process; ends it with a message when the libcuda.so.1 found is none. */
static inline const fakecuda_api *fakecuda(void) {
    static fakecuda_api api;
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    bool found = library != NULL;
#define FAKECUDA_FIND(name, result, params) \
    found = found && (*(void **)&api.name = dlsym(library, "fakecuda_" #name)) != NULL;
    FAKECUDA_LIST(FAKECUDA_FIND)
#undef FAKECUDA_FIND
    if (!found) {
        fprintf(stderr, "this test needs the fake card: make fakecuda, and its folder in LD_LIBRARY_PATH (%s)\n", library ? "found another" : dlerror());
        exit(1);
    }
    return &api;
}

#endif
