/* Two experts in one exec: every way of offloading gives each the bits that it gives alone, the change from one to the other moves not a
 * byte twice and is prefetched, memory is planned for both, and an expert that does not come is not read from its file. */
#include "toy_model.h"

enum { STEPS = 2, TURNS = 2 + 2 * STEPS, OUT = TOY_ROWS * TOY_D };

static wo_error err;
static wo_engine *engine;
static toy_model model[2];

typedef struct film {
    float out[2][STEPS][OUT];
    wo_report report;
    wo_plan_summary summary;
    size_t streamed[TOY_PASSES];
} film;

static const wo_turn NONE = {.pass = -1};
static const wo_turn ORDER[TURNS] = {{TOY_PREPARE, 0}, {TOY_PREPARE, 1}, {TOY_STEP, 0}, {TOY_STEP, 0}, {TOY_STEP, 1}, {TOY_STEP, 1}};

static wo_status make_plan(const toy_model *first, const toy_model *second, const wo_policy *policy, wo_plan **out) {
    toy_request request = {.latents = NULL};
    const wo_component *const experts[] = {first->component, second->component};
    return wo_plan_make_experts(experts, 2, first, toy_forward, TOY_PASSES, &request, wo_engine_device(engine), policy, out, &err);
}

/* Takes the first `turns` turns of the order; the last of them announces the one after it where `announce` says so. */
static void run_turns(const wo_policy *policy, int turns, bool announce, film *f) {
    wo_plan *plan;
    wo_exec *x;
    toy_request request = {.latents = toy_latents(), .text = toy_text_input()};
    memset(f, 0, sizeof *f);
    CHECK_OK(make_plan(&model[0], &model[1], policy, &plan), &err);
    wo_plan_summarize(plan, &f->summary);
    for (int i = 0; i < TOY_PASSES; i++)
        f->streamed[i] = wo_plan_pass_at(plan, i)->streamed_bytes;
    CHECK_OK(wo_exec_open(engine, model[0].component, plan, &x, &err), &err);
    for (int i = 0; i < turns; i++) {
        wo_turn now = ORDER[i], next = i + 1 < turns || announce ? ORDER[i + 1] : NONE;
        request.out = f->out[now.expert][i % 2];
        CHECK_OK(wo_exec_run_turn(x, &model[now.expert], toy_forward, now, next, &request, &err), &err);
    }
    wo_exec_close(x, &f->report);
    wo_plan_release(plan);
}

/* What each expert gives alone, resident. */
static void run_alone(film *f) {
    const wo_policy policy = wo_policy_default();
    toy_request request = {.latents = toy_latents(), .text = toy_text_input()};
    for (int k = 0; k < 2; k++) {
        wo_plan *plan;
        wo_exec *x;
        CHECK_OK(toy_plan(engine, &model[k], &policy, &plan, &err), &err);
        CHECK_OK(wo_exec_open(engine, model[k].component, plan, &x, &err), &err);
        CHECK_OK(wo_exec_run(x, &model[k], toy_forward, TOY_PREPARE, TOY_STEP, &request, &err), &err);
        for (int i = 0; i < STEPS; i++) {
            request.out = f->out[k][i];
            CHECK_OK(wo_exec_run(x, &model[k], toy_forward, TOY_STEP, TOY_STEP, &request, &err), &err);
        }
        wo_exec_close(x, NULL);
        wo_plan_release(plan);
    }
    CHECK(memcmp(f->out[0], f->out[1], sizeof f->out[0]) != 0);
    wo_engine_drop(engine, NULL);
}

static size_t moved_by(const film *f, int turns) {
    size_t sum = 0;
    for (int i = 0; i < turns; i++)
        sum += f->streamed[ORDER[i].pass];
    return sum;
}

static void test_each_expert_gives_its_own_bits(const film *alone, const wo_testing *testing) {
    static film got;
    wo_engine_set_testing(engine, testing);
    for (int variant = 0; variant < 24; variant++) {
        wo_policy policy = wo_policy_default();
        policy.level = variant % 3 == 0 ? WO_LEVEL_BLOCK : variant % 3 == 1 ? WO_LEVEL_LEAF : WO_LEVEL_RESIDENT;
        policy.tier = variant / 3 & 1 ? WO_TIER_DISK : WO_TIER_HOST;
        policy.use_stream = (variant / 3 & 2) != 0;
        policy.resident_fraction = variant / 3 & 4 && policy.level != WO_LEVEL_RESIDENT ? 0.5 : 0;
        wo_engine_release_arena(engine);
        for (int run = 0; run < 2; run++) {
            run_turns(&policy, TURNS, false, &got);
            CHECK(memcmp(got.out, alone->out, sizeof got.out) == 0);
            CHECK(got.report.bytes_moved == moved_by(&got, TURNS));
            CHECK(got.report.bytes_loaded == (run == 0 ? got.summary.resident_bytes + got.summary.host_slab_bytes : 0));
            CHECK(got.report.arena_bytes == got.summary.work_bytes);
            CHECK(!testing->poison || got.report.arena_touched == got.summary.work_bytes);
        }
        wo_engine_drop(engine, NULL);
    }
    const wo_testing plain = {.poison = false};
    wo_engine_set_testing(engine, &plain);
}

/* One ring, one set of activations; weights and what is kept twice. */
static void test_memory_is_planned_for_both(void) {
    wo_plan_summary one, two;
    wo_policy policy = wo_policy_default();
    wo_plan *plan;
    policy.level = WO_LEVEL_LEAF;
    policy.tier = WO_TIER_HOST;
    policy.use_stream = true;
    policy.resident_fraction = 0.3;
    CHECK_OK(toy_plan(engine, &model[0], &policy, &plan, &err), &err);
    wo_plan_summarize(plan, &one);
    wo_plan_release(plan);
    CHECK_OK(make_plan(&model[0], &model[1], &policy, &plan), &err);
    wo_plan_summarize(plan, &two);
    wo_plan_release(plan);
    CHECK(one.experts == 1 && two.experts == 2);
    CHECK(two.ring_bytes == one.ring_bytes && two.activation_bytes == one.activation_bytes);
    CHECK(two.resident_bytes == 2 * one.resident_bytes && two.keep_bytes == 2 * one.keep_bytes && one.resident_bytes > 0);
    CHECK(two.host_slab_bytes == 2 * one.host_slab_bytes && two.weight_bytes == 2 * one.weight_bytes);
    CHECK(two.work_bytes == one.work_bytes + one.keep_bytes && two.vram == two.resident_bytes + two.work_bytes);
    policy.vram = (int64_t)two.vram - 1;
    CHECK_STATUS(make_plan(&model[0], &model[1], &policy, &plan), WO_EPLAN);
    CHECK(err.shortfall.vram_needed == (int64_t)two.vram);
}

/* The last step of the first expert fetches for the first step of the second. */
static void test_the_change_is_prefetched(void) {
    static film got;
    wo_policy policy = wo_policy_default();
    policy.level = WO_LEVEL_BLOCK;
    policy.use_stream = true;
    for (int tier = WO_TIER_HOST; tier <= WO_TIER_DISK; tier++) {
        policy.tier = (wo_tier)tier;
        run_turns(&policy, 2 + STEPS, false, &got);
        CHECK(got.report.bytes_moved == moved_by(&got, 2 + STEPS));
        run_turns(&policy, 2 + STEPS, true, &got);
        CHECK(got.report.bytes_moved > moved_by(&got, 2 + STEPS));
        wo_engine_drop(engine, NULL);
    }
}

/* What comes at the change still waits for the last group of the expert before: cut, the bits change. */
static void test_the_change_waits_for_the_ring(const film *alone) {
    static film got;
    wo_policy policy = wo_policy_default();
    policy.level = WO_LEVEL_BLOCK;
    policy.tier = WO_TIER_HOST;
    policy.use_stream = true;
    wo_testing t = {.delay_edges = 1u << WO_EDGE_WRAP_AROUND, .delay_seconds = 0.015};
    wo_engine_set_testing(engine, &t);
    run_turns(&policy, TURNS, false, &got);
    CHECK(memcmp(got.out, alone->out, sizeof got.out) == 0);
#if !defined(__SANITIZE_THREAD__)
    t.cut_edges = t.delay_edges;
    wo_engine_set_testing(engine, &t);
    run_turns(&policy, TURNS, false, &got);
    CHECK(memcmp(got.out[0][STEPS - 1], alone->out[0][STEPS - 1], sizeof got.out[0][0]) != 0);
#endif
    t = (wo_testing){.poison = false};
    wo_engine_set_testing(engine, &t);
    wo_engine_drop(engine, NULL);
}

/* From disk, an expert that does not come costs no read: its file may be cut short meanwhile. */
static void test_an_expert_that_does_not_come_is_not_read(const char *second) {
    static film got;
    wo_policy policy = wo_policy_default();
    wo_plan *plan;
    wo_exec *x;
    toy_request request = {.latents = toy_latents(), .text = toy_text_input(), .out = got.out[0][0]};
    policy.level = WO_LEVEL_LEAF;
    policy.tier = WO_TIER_DISK;
    policy.use_stream = true;
    CHECK_OK(make_plan(&model[0], &model[1], &policy, &plan), &err);
    CHECK_OK(wo_exec_open(engine, model[0].component, plan, &x, &err), &err);
    CHECK(truncate(second, 1000) == 0);
    CHECK_OK(wo_exec_run_turn(x, &model[0], toy_forward, (wo_turn){TOY_PREPARE, 0}, (wo_turn){TOY_STEP, 0}, &request, &err), &err);
    CHECK_OK(wo_exec_run_turn(x, &model[0], toy_forward, (wo_turn){TOY_STEP, 0}, NONE, &request, &err), &err);
    CHECK_STATUS(wo_exec_run_turn(x, &model[1], toy_forward, (wo_turn){TOY_STEP, 1}, NONE, &request, &err), WO_ECHECKPOINT);
    CHECK_CONTAINS(err.message, second);
    wo_exec_close(x, NULL);
    wo_plan_release(plan);
}

static void test_turns_that_there_are_not_are_refused(void) {
    const wo_policy policy = wo_policy_default();
    toy_request request = {.latents = toy_latents(), .text = toy_text_input()};
    wo_plan *plan;
    wo_exec *x;
    CHECK_OK(make_plan(&model[0], &model[1], &policy, &plan), &err);
    CHECK_STATUS(wo_exec_open(engine, model[1].component, plan, &x, &err), WO_EINTERNAL);
    CHECK_OK(wo_exec_open(engine, model[0].component, plan, &x, &err), &err);
    CHECK_STATUS(wo_exec_run_turn(x, &model[0], toy_forward, (wo_turn){TOY_STEP, 2}, NONE, &request, &err), WO_EINTERNAL);
    CHECK_STATUS(wo_exec_run_turn(x, &model[0], toy_forward, (wo_turn){TOY_STEP, 0}, (wo_turn){TOY_STEP, -1}, &request, &err), WO_EINTERNAL);
    wo_engine_drop(engine, NULL); /* both stay while the exec is open */
    wo_engine_held held;
    wo_engine_get_held(engine, &held);
    CHECK(held.resident_bytes == 2 * wo_component_bytes(model[0].component));
    wo_exec_close(x, NULL);
    wo_engine_drop(engine, NULL);
    wo_engine_get_held(engine, &held);
    CHECK(held.resident_bytes == 0);
    wo_plan_release(plan);
}

static void test_experts_of_different_shape_are_refused(void) {
    toy_model other;
    wo_plan *plan;
    const wo_policy policy = wo_policy_default();
    CHECK_OK(toy_create(&other, toy_path(), WO_BF16, &err), &err);
    CHECK_STATUS(make_plan(&model[0], &other, &policy, &plan), WO_ECHECKPOINT);
    CHECK_CONTAINS(err.message, "experts of one model have equal shapes");
    CHECK_CONTAINS(err.message, "stem");
    wo_component_destroy(other.component);
}

int main(void) {
    static film alone;
    wo_device *device;
    char second[80];
    snprintf(second, sizeof second, "%s.second", toy_path());
    toy_write(toy_path(), NULL, NULL);
    toy_seed = 1000;
    toy_write(second, NULL, NULL);
    CHECK_OK(wo_device_open("cpu", &device, &err), &err);
    CHECK_OK(wo_engine_create(device, &engine, &err), &err);
    CHECK_OK(toy_create(&model[0], toy_path(), WO_F32, &err), &err);
    CHECK_OK(toy_create(&model[1], second, WO_F32, &err), &err);
    run_alone(&alone);
    test_each_expert_gives_its_own_bits(&alone, &(wo_testing){.poison = false});
    test_each_expert_gives_its_own_bits(&alone, &(wo_testing){.poison = true, .chaos_seed = 9, .chaos_delay = 5e-5});
    test_memory_is_planned_for_both();
    test_the_change_is_prefetched();
    test_the_change_waits_for_the_ring(&alone);
    test_turns_that_there_are_not_are_refused();
    test_experts_of_different_shape_are_refused();
    test_an_expert_that_does_not_come_is_not_read(second);
    wo_engine_destroy(engine);
    wo_component_destroy(model[0].component);
    wo_component_destroy(model[1].component);
    wo_device_close(device);
    unlink(toy_path());
    unlink(second);
    return 0;
}
