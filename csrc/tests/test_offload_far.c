/* A device whose memory the host cannot touch gets the bits of one that it can: every way of offloading, plain, under chaos and with
 * waits cut; everything comes through staging or by copies of streams; and what was written of the arena is found out all the same. */
#include "toy_model.h"

#include "far_device.h"

enum { CUT_RUNS = 10, VARIANTS = 16 };

#if defined(__SANITIZE_THREAD__)
enum { CUTS_ARE_RUN = 0 }; /* they are data races by design */
#else
enum { CUTS_ARE_RUN = 1 };
#endif

static wo_error err;
static wo_device *near;
static wo_engine *engine;
static toy_model model;
static toy_result wanted, got;

static const wo_testing PLAIN = {.poison = false};

static wo_policy policy_of(int variant) {
    wo_policy p = wo_policy_default();
    p.level = variant & 1 ? WO_LEVEL_BLOCK : WO_LEVEL_LEAF;
    p.tier = variant & 2 ? WO_TIER_HOST : WO_TIER_DISK;
    p.use_stream = (variant & 4) != 0;
    p.resident_fraction = variant & 8 ? 0.4 : 0;
    return p;
}

static void run(const wo_policy *policy) {
    CHECK_OK(toy_run(engine, &model, policy, &got, &err), &err);
}

static void check_same(const char *what, int variant) {
    if (toy_same(&got, &wanted))
        return;
    fprintf(stderr, "%s, variant %d: other bits than on the cpu device\n", what, variant);
    exit(1);
}

static void test_every_plan_gives_the_bits_of_the_cpu_device(const wo_testing *testing, const char *what) {
    wo_policy resident = wo_policy_default(), whole = wo_policy_default();
    whole.level = WO_LEVEL_MODEL;
    whole.tier = WO_TIER_HOST;
    wo_engine_set_testing(engine, testing);
    run(&resident);
    check_same(what, -1);
    run(&whole);
    check_same(what, -2);
    for (int variant = 0; variant < VARIANTS; variant++)
        for (int again = 0; again < 2; again++) {
            wo_policy policy = policy_of(variant);
            run(&policy);
            check_same(what, variant);
            CHECK((got.report.bytes_from_host > 0) == (policy.tier == WO_TIER_HOST));
            CHECK((got.report.bytes_from_disk > 0) == (policy.tier == WO_TIER_DISK));
        }
    wo_engine_drop(engine, NULL);
    wo_engine_set_testing(engine, &PLAIN);
}

/* Device memory is no part of `ram`, and all that is read from the file on its way to the device passes through staging. */
static void test_host_memory_is_counted_apart(void) {
    wo_policy policy = policy_of(8), slabs = policy_of(2);
    run(&policy);
    const wo_plan_summary *s = &got.summary;
    CHECK(s->staging_bytes > 0 && s->host_slab_bytes == 0);
    CHECK(s->ram == s->staging_bytes + s->host_keep_bytes + s->fixed_bytes);
    CHECK(s->vram == s->resident_bytes + s->work_bytes && s->resident_bytes > 0);
    run(&slabs);
    CHECK(s->ram == s->host_slab_bytes + s->staging_bytes + s->host_keep_bytes + s->fixed_bytes);
    CHECK(s->host_slab_bytes + toy_saving(model.component) == s->weight_bytes);
    CHECK(s->arrival_bytes >= TOY_D * TOY_H && s->arrival_bytes < 2 * TOY_D * TOY_H);
    wo_engine_drop(engine, NULL);
}

static void test_the_arena_is_touched_up_to_the_plan(void) {
    const wo_testing poison = {.poison = true};
    wo_engine_set_testing(engine, &poison);
    for (int variant = 0; variant < VARIANTS; variant++) {
        wo_policy policy = policy_of(variant);
        wo_engine_release_arena(engine);
        run(&policy);
        CHECK(got.report.arena_touched == got.summary.work_bytes);
    }
    CHECK_OK(wo_engine_reserve(engine, 2 * got.summary.work_bytes, &err), &err);
    wo_policy policy = policy_of(0);
    run(&policy);
    CHECK(got.report.arena_bytes > got.summary.work_bytes && got.report.arena_touched == got.summary.work_bytes);
    wo_engine_drop(engine, NULL);
    wo_engine_set_testing(engine, &PLAIN);
}

/* Writes far behind its own tensor, where the plan has nothing but a larger arena has. */
static size_t spill_distance;

static wo_status spilling_forward(const void *m, wo_exec *x, int pass, const void *request, wo_error *e) {
    wo_tensor own;
    wo_stream *s = wo_exec_stream(x);
    WO_TRY(wo_exec_new(x, &own, e, WO_F32, 100));
    if (!wo_exec_is_dry(x))
        WO_TRY(s->device->stream->zero(s, (char *)own.data + spill_distance, 4, e));
    wo_exec_free(x, &own);
    (void)m, (void)pass, (void)request;
    return WO_OK;
}

static void test_what_is_written_beyond_the_plan_is_seen(void) {
    const wo_testing poison = {.poison = true};
    const wo_policy policy = policy_of(0);
    const toy_request request = {.out = NULL};
    wo_plan_summary s;
    wo_report report;
    wo_plan *plan;
    wo_exec *x;
    CHECK_OK(wo_plan_make(model.component, &model, spilling_forward, 1, &request, wo_engine_device(engine), &policy, &plan, &err), &err);
    wo_plan_summarize(plan, &s);
    spill_distance = 3 * s.work_bytes;
    CHECK_OK(wo_engine_reserve(engine, 5 * s.work_bytes, &err), &err);
    wo_engine_set_testing(engine, &poison);
    CHECK_OK(wo_exec_open(engine, model.component, plan, &x, &err), &err);
    CHECK_OK(wo_exec_run(x, &model, spilling_forward, 0, -1, &request, &err), &err);
    wo_exec_close(x, &report);
    CHECK(report.arena_touched > 3 * s.work_bytes && report.arena_touched < 4 * s.work_bytes + 256);
    wo_engine_set_testing(engine, &PLAIN);
    wo_plan_release(plan);
    wo_engine_drop(engine, NULL);
}

/* ---- cut waits ---- */

typedef struct stage {
    wo_edge edge;
    int variant;
    double seconds;
} stage;

static const stage STAGES[] = {
    {WO_EDGE_READY, 4, 0.003},          {WO_EDGE_READY, 7, 0.003},         {WO_EDGE_FREE, 4, 0.006},        {WO_EDGE_FREE, 7, 0.006},
    {WO_EDGE_READER_COPY, 4, 0.004},    {WO_EDGE_READER_COPY, 0, 0.004},   {WO_EDGE_STAGING_REUSE, 4, 0.004},
    {WO_EDGE_WRAP_AROUND, 7, 0.015},    {WO_EDGE_HAND_OVER, 7, 0.015},
};

static bool changes_bits(const stage *s, bool cut) {
    const wo_testing t = {.cut_edges = cut ? 1u << s->edge : 0, .delay_edges = 1u << s->edge, .delay_seconds = s->seconds};
    wo_policy policy = policy_of(s->variant);
    wo_engine_set_testing(engine, &t);
    if (s->edge == WO_EDGE_HAND_OVER)
        run(&policy);
    run(&policy);
    return !toy_same(&got, &wanted);
}

static void test_every_wait_is_needed(void) {
    for (size_t i = 0; i < sizeof STAGES / sizeof *STAGES; i++) {
        int changed = 0;
        CHECK(!changes_bits(&STAGES[i], false));
        for (int n = 0; n < CUT_RUNS * CUTS_ARE_RUN; n++)
            changed += changes_bits(&STAGES[i], true);
        if (changed != CUT_RUNS * CUTS_ARE_RUN) {
            fprintf(stderr, "%s, variant %d: cut, the bits changed in %d of %d runs\n", wo_edge_name(STAGES[i].edge), STAGES[i].variant, changed,
                    (int)CUT_RUNS);
            exit(1);
        }
        wo_engine_drop(engine, NULL);
    }
    wo_engine_set_testing(engine, &PLAIN);
}

/* ---- failures ---- */

static void test_any_copy_may_fail(int variant) {
    wo_policy policy = policy_of(variant);
    wo_engine_drop(engine, NULL);
    wo_engine_release_arena(engine);
    const uint64_t before = wo_memory_current();
    int failures = 0;
    for (int64_t n = 1;; n += 3) {
        const wo_testing t = {.fail_copy_at = n};
        wo_engine_set_testing(engine, &t);
        wo_status status = toy_run(engine, &model, &policy, &got, &err);
        wo_engine_set_testing(engine, &PLAIN);
        if (status == WO_OK)
            break;
        CHECK(status == WO_EDEVICE);
        failures++;
        wo_engine_drop(engine, NULL);
        wo_engine_release_arena(engine);
        CHECK(wo_memory_current() <= before + (1 << 16)); /* threads of readers stay */
    }
    CHECK(failures > 5);
    run(&policy);
    check_same("after failures", variant);
    wo_engine_drop(engine, NULL);
}

int main(void) {
    const wo_testing chaos = {.poison = true, .chaos_seed = 31, .chaos_delay = 6e-5};
    wo_policy resident = wo_policy_default();
    toy_write(toy_path(), NULL, NULL);
    CHECK_OK(wo_device_open("cpu", &near, &err), &err);
    wo_engine *nearby;
    CHECK_OK(wo_engine_create(near, &nearby, &err), &err);
    CHECK_OK(toy_create(&model, toy_path(), WO_BF16, &err), &err);
    CHECK_OK(toy_run(nearby, &model, &resident, &wanted, &err), &err);
    wo_engine_destroy(nearby);
    CHECK_OK(wo_engine_create(far_open(near), &engine, &err), &err);
    test_every_plan_gives_the_bits_of_the_cpu_device(&PLAIN, "plain");
    test_every_plan_gives_the_bits_of_the_cpu_device(&chaos, "chaos");
    test_host_memory_is_counted_apart();
    test_the_arena_is_touched_up_to_the_plan();
    test_what_is_written_beyond_the_plan_is_seen();
    test_every_wait_is_needed();
    test_any_copy_may_fail(8 | 4);
    test_any_copy_may_fail(2 | 1);
    wo_engine_destroy(engine);
    wo_component_destroy(model.component);
    wo_device_close(near);
    unlink(toy_path());
    return 0;
}
