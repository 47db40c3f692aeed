/* What the files of the interpreter share.
 *
 *   parse.c     text -> symbols, registers, raw instructions     lanes.h     the lane operations, compiled once per instruction set
 *   decode.c    raw instruction -> struct ins, by opcodes.h      memory.c    address spaces, checks of each access, ld and st
 *   convert.c   cvt between any two types                        async.c     cp.async
 *   schedule.c  groups of lanes, warps, barriers, blocks         matrix.c    shfl, vote, redux, ldmatrix, mma
 *
 * A register is an array of 32 lanes in the file of its warp: operands are byte offsets into it, negative ones into the module's pool of
 * constants, so that a lane operation is one loop over arrays. A predicate is one word, a bit per lane. Beside each register stands a word that
 * says in which lanes it holds something: operations hand that on, and memory, branches and mma refuse a lane without it.
 */
#ifndef PTXSIM_INTERNAL_H
#define PTXSIM_INTERNAL_H

#include "ptxsim.h"

#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;
typedef float f32;
typedef double f64;

enum { LANES = 32, ALL_OPERANDS = 20, CALL_DEPTH = 4 };
#define EVERY_LANE 0xffffffffu

/* Name, bytes. */
#define PTXSIM_TYPE_LIST(X)                                                                                                                       \
    X(u8, 1) X(s8, 1) X(b8, 1) X(u16, 2) X(s16, 2) X(b16, 2) X(u32, 4) X(s32, 4) X(b32, 4) X(u64, 8) X(s64, 8) X(b64, 8)                          \
    X(f16, 2) X(bf16, 2) X(f16x2, 4) X(bf16x2, 4) X(f32, 4) X(f64, 8) X(pred, 1) X(tf32, 4) X(e4m3x2, 2) X(e5m2x2, 2)
typedef enum type {
    T_none,
#define X(name, bytes) T_##name,
    PTXSIM_TYPE_LIST(X)
#undef X
        TYPES
} type;
#define TY(t) (1u << T_##t)

/* Fixed places at the head of a warp's file, filled once per block. */
#define PTXSIM_SPECIAL_LIST(X)                                                                                                                    \
    X(tid_x, "%tid.x") X(tid_y, "%tid.y") X(tid_z, "%tid.z") X(ntid_x, "%ntid.x") X(ntid_y, "%ntid.y") X(ntid_z, "%ntid.z")                       \
    X(ctaid_x, "%ctaid.x") X(ctaid_y, "%ctaid.y") X(ctaid_z, "%ctaid.z") X(nctaid_x, "%nctaid.x") X(nctaid_y, "%nctaid.y")                        \
    X(nctaid_z, "%nctaid.z") X(laneid, "%laneid") X(warpid, "%warpid") X(lt, "%lanemask_lt") X(le, "%lanemask_le") X(eq, "%lanemask_eq")          \
    X(ge, "%lanemask_ge") X(gt, "%lanemask_gt") X(dynamic, "%dynamic_smem_size") X(total, "%total_smem_size")
typedef enum special_register {
#define X(name, text) S_##name,
    PTXSIM_SPECIAL_LIST(X)
#undef X
        SPECIALS
} special_register;
/* Behind them a sink for results nobody wants, then room for flushed copies of up to five operands. */
enum { AT_SINK = SPECIALS * 128, AT_SCRATCH = AT_SINK + 256, FILE_HEAD = AT_SCRATCH + 5 * 256 };
enum { VALID_ALWAYS, VALID_SINK, VALID_HEAD };

typedef enum memory_space { SP_GENERIC, SP_GLOBAL, SP_SHARED, SP_LOCAL, SP_CONST, SP_PARAM } memory_space;
/* Windows of the generic address space that are not the caller's memory; MODULE holds .const and .global variables. */
#define WINDOW(k) ((u64)(k) << 60)
enum { W_SHARED = 1, W_LOCAL = 2, W_MODULE = 3, W_PARAM = 4 };

typedef struct operand {
    s32 at;    /* offset of its 32 lanes in the warp's file; negative: in the pool */
    u32 valid; /* index of its word in warp.valid */
} operand;

typedef struct warp warp;
typedef struct block block;
typedef struct ins ins;
typedef void (*lane_fn)(warp *w, const ins *i, u32 exec);
typedef bool (*step_fn)(warp *w, const ins *i, u32 exec); /* false: reported */
typedef u32 (*compare_fn)(warp *w, const ins *i);

/* The lane operations as this machine runs them best. */
typedef struct lane_table {
    const lane_fn *lane;
    const compare_fn *compare;
    void (*halves)(f32 low[LANES], f32 high[LANES], const u32 reg[LANES], bool bf16);
    void (*mma)(f32 c[4][LANES], const f32 (*a)[LANES], const f32 (*b)[LANES], int blocks, int per);
    int (*shadow)(block *b, const u64 at[LANES], u32 units, bool write, u32 now, u32 me);
} lane_table;
lane_table ptxsim_lane_table(void);

typedef enum kind { K_LANE, K_COMPARE, K_STEP, K_SYNC, K_BRANCH, K_BRANCH_TABLE, K_CALL, K_RETURN, K_EXIT, K_BARRIER, K_TRAP } kind;
enum { F_FTZ = 1, F_SAT = 2, F_RELU = 4, F_DIVIDES = 8, F_SLOW = 16, F_GUARD_NOT = 32, F_NOT = 64, F_WHOLE_WARP = 128 };
enum { C_none, C_and, C_or, C_xor };
typedef enum compare { CMP_eq, CMP_ne, CMP_lt, CMP_le, CMP_gt, CMP_ge, CMP_equ, CMP_neu, CMP_ltu, CMP_leu, CMP_gtu, CMP_geu, CMP_num, CMP_nan, COMPARES } compare;
enum { R_none, R_rn, R_rz, R_rm, R_rp, R_rna, R_rni, R_rzi, R_rmi, R_rpi };

struct ins {
    union {
        lane_fn lane;
        step_fn step;
        compare_fn compare;
    } fn;
    const operand *o; /* o[0] is the destination, o[1..sources] are the sources; at least five */
    u64 imm;
    s32 guard; /* offset of the predicate, 0: none */
    u32 guard_valid;
    u32 target; /* of branch and call */
    u16 flags;
    u8 kind, sources, results;
    u8 type, type2, rounding, compare, combine;
    u8 space, vector, bytes, width, base_bytes; /* of ld and st: elements, bytes of one, of its register, of the address register */
    u8 mode;
    u32 line, source; /* of the PTX; index of the .loc in force, 0: none */
};

typedef struct variable {
    const char *name;
    size_t length;
    memory_space space;
    u64 at, bytes, align;
    u32 owner;   /* function, ~0: the module */
    bool closed; /* its scope is behind the reader */
} variable;

typedef struct function {
    char *name;
    bool is_entry, has_body;
    u32 first, end;                /* its instructions */
    size_t operand_first, operand_end;
    size_t frame_bytes;            /* its registers; an entry's begin at FILE_HEAD, a .func's are moved behind those of every entry */
    u32 valid_count;
    size_t param_bytes, shared_bytes, shared_layout; /* layout: with the gaps between arrays */
    u32 max_threads, required[3];
    u64 argument[16];              /* where a .func keeps them in local memory: results first */
    u32 argument_bytes[16], arguments, results;
} function;

typedef struct gap { /* no man's land behind an array of static shared memory */
    u32 owner;
    size_t at, bytes;
} gap;
enum { GAP_BYTES = 128, DYNAMIC_AT = 0x40000 };

typedef struct location {
    u32 file, line;
} location;

struct ptxsim_module {
    char *text;
    ins *code;
    operand *operands;
    function *functions;
    variable *variables;
    gap *gaps;
    unsigned char *pool, *image; /* constants for lane operations; .const and .global variables */
    u32 *tables;                 /* of brx.idx: count, targets */
    location *sources;           /* of .loc */
    char **files;                /* of .file */
    size_t codes, operand_count, function_count, variable_count, gap_count, pool_bytes, image_bytes, table_words, source_count, file_count;
    size_t file_bytes, shared_layout, local_bytes; /* registers with all functions; shared memory of the module; local memory of a thread */
    u32 valid_words;
    bool has_calls;
    bool splits_barriers; /* bar with a count or a number but 0: a barrier orders only some warps, so races are left to the seeds */
};

typedef struct group {
    u32 pc, mask;
    bool waiting, held; /* for lanes that must come along; held back by the schedule for a while */
} group;

typedef struct copy { /* one cp.async of a warp */
    u32 mask, number[LANES], shared[LANES];
    u64 global[LANES];
    u8 taken[LANES], bytes;
    bool done;
    const ins *from;
} copy;

struct warp {
    block *b;
    unsigned char *file_memory, *file; /* file: the aligned part */
    const unsigned char *pool;
    u32 *valid;
    unsigned char *local, *local_known; /* [lane][local_bytes] */
    u32 index, exists, alive;
    group groups[LANES + 1]; /* the current one may be empty for a moment */
    int group_count, current;
    bool at_barrier, started;
    const ins *barrier;
    u32 barrier_number, barrier_threads;
    copy *copies;
    int copy_count, copy_room;
    u32 committed[LANES];
    u32 returns[CALL_DEPTH][LANES];
    u8 depth[LANES];
};

struct block {
    const ptxsim_launch *launch;
    const ptxsim_module *m;
    const function *f;
    ptxsim_report *report; /* of this host thread */
    const lane_table *table;
    unsigned id[3], threads;
    unsigned char *shared;
    /* Per two bytes of shared memory: who wrote last and who read last, as epoch << 6 | warp, where the epoch counts barriers; see memory.c. */
    u32 *wrote, *read;
    u32 epoch, warps, arrived[16]; /* arrived: threads at bar.arrive, by barrier */
    warp *warp;
    u64 random, left; /* instructions until the schedule thinks again */
};

typedef struct access {
    u32 exec, bytes; /* bytes of each lane */
    bool write;
    u64 at[LANES];
    unsigned char *host[LANES];
} access;

static inline void *lanes(const warp *w, operand o) {
    return o.at < 0 ? (void *)(w->pool - o.at) : (void *)(w->file + o.at);
}
static inline u32 valid_sources(const warp *w, const ins *i, int first, int count) {
    u32 v = EVERY_LANE;
    for (int k = first; k < first + count; k++) v &= w->valid[i->o[k].valid];
    return v;
}
static inline void set_valid(warp *w, operand o, u32 exec, u32 v) {
    u32 *p = &w->valid[o.valid];
    *p = (*p & ~exec) | (v & exec);
}

/* parse.c hands decode one instruction; a vector operand is spread over raw[first[k] .. first[k] + count[k]). */
typedef enum raw_kind { RAW_REGISTER, RAW_NUMBER, RAW_MEMORY, RAW_SINK, RAW_NAME } raw_kind;
typedef struct raw {
    raw_kind kind;
    operand reg; /* of RAW_REGISTER, and the base of RAW_MEMORY */
    u8 width;    /* bytes of the register's lane, 1: predicate, 0: RAW_MEMORY without a base */
    bool negated, clock, is_float, pair;
    u64 value;   /* number, address of a symbol, offset */
    const variable *variable;
    const char *name;
    size_t length;
} raw;
typedef struct statement {
    char opcode[96];
    raw raws[ALL_OPERANDS];
    int first[ALL_OPERANDS], count[ALL_OPERANDS], operands, raw_count;
} statement;

typedef struct parser parser;
bool ptxsim_complain(parser *p, const char *format, ...) __attribute__((format(printf, 2, 3))); /* always false */
bool ptxsim_decode(parser *p, const statement *s, ins *out);
bool ptxsim_constant(parser *p, u64 value, u8 width, operand *out); /* 32 lanes of it in the pool */
bool ptxsim_operands(parser *p, ins *out, const operand *list, int count); /* keeps a copy; out->o is an index until the module is whole */

/* Says what happened to a lane (-1: nobody in particular); always false. */
bool ptxsim_report_lane(warp *w, const ins *i, int lane, const char *format, ...) __attribute__((format(printf, 4, 5)));
bool ptxsim_report_block(block *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Where the sources of exec's lanes hold nothing, that is reported. */
bool ptxsim_need(warp *w, const ins *i, u32 exec, int first, int count, const char *what);

bool ptxsim_addresses(warp *w, const ins *i, operand base, u8 base_bytes, u64 offset, access *a); /* a->exec is set */
bool ptxsim_reach(warp *w, const ins *i, access *a, int space); /* checks every rule of memory and fills a->host */
void ptxsim_shadow_set(block *b, u64 at, u32 bytes, u32 tag);
bool ptxsim_claim(warp *w, const ins *i, const access *a);
bool ptxsim_shadow_access(warp *w, const ins *i, const access *a);
void ptxsim_count_ldmatrix(block *b, const u64 at[8]);
u64 ptxsim_random(block *b);
void ptxsim_convert(warp *w, const ins *i, u32 exec);
void ptxsim_lane_slow(warp *w, const ins *i, u32 exec); /* with rounding, ftz, sat, or a divisor to look at */
bool ptxsim_divisors(warp *w, const ins *i, u32 exec);
bool ptxsim_warp_run(warp *w); /* false: an error */
bool ptxsim_block_run(block *b);
const function *ptxsim_entry(const ptxsim_module *m, int entry);
int ptxsim_type_bytes(int t);

/* Tags of shared memory beside epoch << 6 | warp, which are 64 and more. */
#define PENDING 0x80000000u
enum { UNWRITTEN = 0, GAP = 1, FIRST_TAG = 64, MANY = 63 };
static inline u32 shadow_tag(const warp *w) {
    return w->b->epoch << 6 | (w->b->m->splits_barriers ? 0 : w->index);
}

#define STEP(name) bool ptxsim_step_##name(warp *w, const ins *i, u32 exec)
STEP(ld); STEP(st); STEP(clock); STEP(unpack); STEP(isspacep); STEP(cp_async); STEP(cp_commit); STEP(cp_wait);
STEP(shfl); STEP(vote); STEP(match); STEP(redux); STEP(ldmatrix); STEP(mma); STEP(activemask); STEP(nothing);

#endif
