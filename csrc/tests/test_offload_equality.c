/* Every way of offloading gives the bits of the resident run: plain, and under chaos (random delays in both streams, everything that
 * is freed turned to NaN). Each cell also shows from its report that it did what its name says. */
#include "toy_model.h"

/* The second run of a cell finds residents and slabs loaded. An interpreted card is slow. */
#ifdef TOY_INTERPRETED
enum { RUNS = 1, MOST_THREADS = 1 };
#else
enum { RUNS = 2, MOST_THREADS = 3 };
#endif

typedef struct cell {
    const char *name;
    wo_level level;
    int32_t blocks_per_group;
    size_t groups; /* that the toy model falls into */
} cell;

/* 5 blocks of 5 layers, the stem before them, shared and head behind; the table is in no group. */
static const cell CELLS[] = {
    {"block", WO_LEVEL_BLOCK, 1, 7},
    {"two blocks", WO_LEVEL_BLOCK, 2, 5},
    {"leaf", WO_LEVEL_LEAF, 1, 28},
};

static const float FRACTIONS[] = {0, 0.5f};

static void check_moved(const toy_model *m, const cell *c, const wo_policy *p, const toy_result *r, bool first_run) {
    const wo_plan_summary *s = &r->summary;
    uint64_t moved = r->pass[TOY_PREPARE].streamed_bytes + TOY_STEPS * (uint64_t)r->pass[TOY_STEP].streamed_bytes;
    uint64_t from_host = r->pass[TOY_PREPARE].host_bytes + TOY_STEPS * (uint64_t)r->pass[TOY_STEP].host_bytes;
    const bool host = p->tier == WO_TIER_HOST;
    CHECK(s->groups == c->groups);
    CHECK(s->resident_bytes + s->streamed_bytes == s->weight_bytes);
    CHECK((p->resident_fraction > 0) == (s->resident_bytes > 0));
    CHECK(s->resident_bytes <= p->resident_fraction * (double)s->weight_bytes + 1);
    CHECK(r->report.passes == 1 + TOY_STEPS);
    CHECK(r->report.bytes_moved == moved);
    CHECK(r->report.bytes_from_host == from_host);
    CHECK(host ? from_host > moved / 2 && from_host <= moved : from_host == 0);
    CHECK(!host || p->resident_fraction > 0 || from_host < moved);
    CHECK((r->report.bytes_from_disk > 0) == (p->tier == WO_TIER_DISK));
    CHECK(r->report.bytes_loaded == (first_run ? s->resident_bytes + s->host_slab_bytes : 0));
    CHECK(host ? s->host_slab_bytes + toy_saving(m->component) >= s->streamed_bytes : s->host_slab_bytes == 0);
    CHECK(!host || p->resident_fraction > 0 || s->host_slab_bytes + toy_saving(m->component) == s->weight_bytes);
    CHECK(s->ring_bytes < s->weight_bytes);
    CHECK(r->report.wraps >= 2);
}

static void run_cell(wo_engine *e, const toy_model *m, const cell *c, const wo_policy *policy, int fewest, int most, const toy_result *wanted) {
    static toy_result got;
    wo_error err;
    for (int threads = fewest; threads <= most; threads++) {
        CHECK_OK(wo_cpu_set_threads(threads, &err), &err);
        for (int run = 0; run < RUNS; run++) {
            CHECK_OK(toy_run(e, m, policy, &got, &err), &err);
            if (!toy_same(&got, wanted)) {
                fprintf(stderr, "%s level, %s tier, %s, fraction %g, %d threads, run %d: other bits than resident\n", c->name,
                        policy->tier == WO_TIER_HOST ? "host" : "disk", policy->use_stream ? "copy stream" : "no copy stream",
                        policy->resident_fraction, threads, run);
                exit(1);
            }
            check_moved(m, c, policy, &got, threads == fewest && run == 0);
        }
    }
    wo_engine_drop(e, m->component);
}

/* Plain cells run with 1, 2 and 3 threads of the cpu; chaotic ones, which sleep a lot, with one of the three. */
static void run_cells(wo_engine *e, const toy_model *m, bool chaos, const toy_result *wanted) {
    for (size_t c = 0; c < sizeof CELLS / sizeof *CELLS; c++)
        for (int variant = 0; variant < 8; variant++) {
            wo_policy policy = wo_policy_default();
            policy.level = CELLS[c].level;
            policy.blocks_per_group = CELLS[c].blocks_per_group;
            policy.tier = variant & 1 ? WO_TIER_DISK : WO_TIER_HOST;
            policy.use_stream = (variant & 2) != 0;
            policy.resident_fraction = FRACTIONS[variant >> 2];
            int threads = 1 + ((int)c + variant) % 3;
            run_cell(e, m, &CELLS[c], &policy, chaos ? threads : 1, chaos ? threads : MOST_THREADS, wanted);
        }
}

static void test_every_plan_gives_the_resident_bits(wo_engine *e, wo_dtype dtype) {
    static toy_result wanted;
    wo_error err;
    toy_model m;
    CHECK_OK(toy_create(&m, toy_path(), dtype, &err), &err);
    wo_policy resident = wo_policy_default();
    CHECK_OK(toy_run(e, &m, &resident, &wanted, &err), &err);
    CHECK(wanted.report.bytes_moved == 0 && wanted.report.visits == 0 && wanted.summary.ring_bytes == 0);
    CHECK(wanted.report.bytes_loaded == wanted.summary.weight_bytes && wanted.summary.groups == 1);
    run_cells(e, &m, false, &wanted);
    const wo_testing chaos = {.poison = true, .chaos_seed = 20 + (uint64_t)dtype, .chaos_delay = 6e-5};
    wo_engine_set_testing(e, &chaos);
    run_cells(e, &m, false, &wanted);
    const wo_testing plain = {.poison = false};
    wo_engine_set_testing(e, &plain);
    wo_component_destroy(m.component);
}

/* The knobs change memory and where things rest, and no bit. */
static void test_knobs_change_no_bits(wo_engine *e) {
    static toy_result wanted, got;
    wo_error err;
    toy_model m;
    CHECK_OK(toy_create(&m, toy_path(), WO_BF16, &err), &err);
    wo_policy policy = wo_policy_default();
    CHECK_OK(toy_run(e, &m, &policy, &wanted, &err), &err);
    policy.level = WO_LEVEL_LEAF;
    policy.tier = WO_TIER_DISK;
    policy.use_stream = true;
    for (int i = 0; i < 8; i++) {
        policy.knobs = (wo_knobs){.row_chunk = i & 1 ? 2 : 0, .cache_text = (i & 2) != 0, .state_on_host = (i & 4) != 0};
        CHECK_OK(toy_run(e, &m, &policy, &got, &err), &err);
        CHECK(toy_same(&got, &wanted));
        CHECK((got.summary.host_keep_bytes > 0) == policy.knobs.state_on_host);
        CHECK((got.pass[TOY_PREPARE].visits > 0) == policy.knobs.cache_text);
    }
    wo_engine_drop(e, NULL);
    wo_component_destroy(m.component);
}

/* What a plan promises of the arena is what is touched: not a byte more, and not one less. */
static void test_the_arena_is_touched_up_to_the_plan(wo_engine *e) {
    static toy_result got;
    wo_error err;
    toy_model m;
    const wo_testing poison = {.poison = true};
    wo_engine_set_testing(e, &poison);
    CHECK_OK(toy_create(&m, toy_path(), WO_F32, &err), &err);
    wo_policy policy = wo_policy_default();
    for (int variant = 0; variant < 3; variant++) {
        policy.level = variant == 0 ? WO_LEVEL_RESIDENT : WO_LEVEL_LEAF;
        policy.tier = variant == 0 ? WO_TIER_DEVICE : WO_TIER_HOST;
        policy.use_stream = variant == 1;
        wo_engine_release_arena(e);
        CHECK_OK(toy_run(e, &m, &policy, &got, &err), &err);
        CHECK(got.report.arena_touched == got.summary.work_bytes);
        CHECK(got.report.activation_peak == got.summary.activation_bytes);
        CHECK(got.report.arena_bytes == got.summary.work_bytes);
        CHECK((double)got.summary.vram <= 1.1 * (double)got.summary.live_bytes);
        CHECK(!toy_is_on_host() || got.report.ram_peak >= got.summary.vram);
    }
    CHECK_OK(wo_engine_reserve(e, 2 * got.summary.work_bytes, &err), &err);
    CHECK_OK(toy_run(e, &m, &policy, &got, &err), &err);
    CHECK(got.report.arena_bytes == 2 * got.summary.work_bytes && got.report.arena_touched == got.summary.work_bytes);
    wo_engine_drop(e, NULL);
    wo_component_destroy(m.component);
}

int main(void) {
    wo_error err;
    wo_device *device;
    wo_engine *e;
    toy_write(toy_path(), NULL, NULL);
    CHECK_OK(wo_device_open(TOY_DEVICE, &device, &err), &err);
    CHECK_OK(wo_engine_create(device, &e, &err), &err);
    if (!UNDER_THREAD_SANITIZER) /* for which one dtype is as good as another */
        test_every_plan_gives_the_resident_bits(e, WO_F32);
    test_every_plan_gives_the_resident_bits(e, WO_BF16);
    test_knobs_change_no_bits(e);
    test_the_arena_is_touched_up_to_the_plan(e);
    wo_engine_destroy(e);
    wo_device_close(device);
    unlink(toy_path());
    return 0;
}
