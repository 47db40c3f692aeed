/* Runs nvcc's own PTX on the CPU, and looks for what a card would not forgive.
 *
 * Lanes of a warp run in lockstep groups by program counter; warps of a block are interleaved by a seeded schedule and may be pre-empted anywhere;
 * barriers, shuffles, ldmatrix and mma check who takes part; cp.async lands late or early. Accesses of two warps to one place of shared memory with no
 * barrier between are errors whatever the schedule. What it finds is an error with the kernel, the PTX line, the block and the thread.
 */
#ifndef PTXSIM_H
#define PTXSIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ptxsim_module ptxsim_module; /* immutable once loaded: any number of threads may launch from it */

/* text: NUL-terminated PTX of one file. An unknown opcode, modifier, directive or special register is an error that names line and text.
 * NULL with a message on failure. */
ptxsim_module *ptxsim_load(const char *text, char *message, size_t message_bytes);
void ptxsim_unload(ptxsim_module *m); /* NULL is fine */
/* The number of an .entry, -1 if there is none; count and names for listing. */
int ptxsim_find(const ptxsim_module *m, const char *entry);
int ptxsim_count(const ptxsim_module *m);
const char *ptxsim_name(const ptxsim_module *m, int entry);
size_t ptxsim_param_bytes(const ptxsim_module *m, int entry);  /* size of the parameter block */
size_t ptxsim_shared_bytes(const ptxsim_module *m, int entry); /* static shared memory */

/* Global memory belongs to the caller. resolve returns the host address of [address, address + bytes), or NULL with a reason when that is not one
 * live allocation that may be so accessed. Called from the launching threads. */
typedef struct ptxsim_memory {
    void *(*resolve)(void *ctx, uint64_t address, size_t bytes, bool write, const char **reason);
    void *ctx;
} ptxsim_memory;

typedef enum ptxsim_async { PTXSIM_ASYNC_LATE, PTXSIM_ASYNC_EARLY, PTXSIM_ASYNC_RANDOM } ptxsim_async;

typedef struct ptxsim_launch {
    const ptxsim_module *module;
    int entry;
    unsigned grid[3], block[3];
    size_t shared_bytes;       /* dynamic */
    size_t shared_limit;       /* static + dynamic may not exceed it */
    const void *params;        /* ptxsim_param_bytes bytes */
    ptxsim_memory memory;
    /* Of the warp schedule; 0: warps in order, switched at barriers only (fast). Others switch anywhere, and lanes of a warp part now and then. */
    uint64_t seed;
    ptxsim_async async;
    int threads;               /* host threads over blocks; 0 = 1 */
    /* Polled once per block; true: stop, which is not an error. May be NULL. */
    bool (*stop)(void *ctx);
    void *stop_ctx;
} ptxsim_launch;

/* Counts are worth comparing with seed 0 only: other schedules split warps. */
typedef struct ptxsim_report {
    char message[512];         /* what was wrong, or "" */
    uint64_t instructions;     /* of warps */
    /* ld and st: phases of warps (8 bytes a lane take two, 16 take four, as on a card) and the bank passes they took: equal without conflicts. */
    uint64_t shared_accesses, shared_passes;
    uint64_t ldmatrix_phases, ldmatrix_passes; /* 8 rows each */
    /* 32-byte sectors touched, and the fewest that would have done for the bytes used; cp.async of whole sizes counts, too. */
    uint64_t global_accesses, global_sectors, global_sectors_least;
} ptxsim_report;

/* Runs the whole grid. False with report->message when something was wrong. */
bool ptxsim_run(const ptxsim_launch *launch, ptxsim_report *report);

#endif
