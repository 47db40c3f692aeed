/* Whatever goes wrong, at whatever point: a clean error, nothing leaked, nothing half loaded, and the engine usable afterwards. */
#include "toy_model.h"

static wo_error err;
static wo_device *device;
static wo_engine *engine;
static toy_model model;
static toy_result wanted;

static const wo_testing PLAIN = {.poison = false};

typedef struct way {
    wo_level level;
    wo_tier tier;
    bool use_stream;
    double fraction;
} way;

static const way WAYS[] = {
    {WO_LEVEL_RESIDENT, WO_TIER_DEVICE, false, 0},
    {WO_LEVEL_BLOCK, WO_TIER_HOST, true, 0.3},
    {WO_LEVEL_LEAF, WO_TIER_DISK, true, 0.3},
    {WO_LEVEL_LEAF, WO_TIER_DISK, false, 0},
};
enum { WAY_COUNT = sizeof WAYS / sizeof *WAYS };

static wo_policy policy_of(int i) {
    wo_policy p = wo_policy_default();
    p.level = WAYS[i].level;
    p.tier = WAYS[i].tier;
    p.use_stream = WAYS[i].use_stream;
    p.resident_fraction = WAYS[i].fraction;
    return p;
}

static void check_usable(int i) {
    static toy_result got;
    wo_policy policy = policy_of(i);
    CHECK_OK(toy_run(engine, &model, &policy, &got, &err), &err);
    CHECK(toy_same(&got, &wanted));
}

/* Lets the n-th event of a kind fail for n = 1, 2, ... until a run succeeds. Each time from an engine that holds nothing, so that
 * loading is hit as well as running. `stride` skips events where there are many. Returns how many runs failed. */
static int fail_each(int i, void (*arm)(int64_t n), wo_status status, int64_t stride) {
    static toy_result got;
    wo_policy policy = policy_of(i);
    wo_engine_drop(engine, NULL);
    wo_engine_release_arena(engine);
    const uint64_t before = wo_memory_current();
    int failures = 0;
    for (int64_t n = 1;; n += stride) {
        arm(n);
        wo_status got_status = toy_run(engine, &model, &policy, &got, &err);
        arm(0);
        wo_engine_held held;
        wo_engine_get_held(engine, &held);
        CHECK(held.resident_bytes == 0 || held.resident_bytes == got.summary.resident_bytes);
        CHECK(held.slab_bytes == 0 || held.slab_bytes == got.summary.host_slab_bytes);
        if (got_status == WO_OK)
            break;
        CHECK(got_status == status && err.code == status && err.message[0] != '\0');
        failures++;
        if (failures % 16 == 1)
            check_usable(i);
        wo_engine_drop(engine, NULL);
        wo_engine_release_arena(engine);
        CHECK(wo_memory_current() <= before + 65536); /* the queue of the readers, once */
    }
    CHECK(toy_same(&got, &wanted));
    return failures;
}

static void arm_copy(int64_t n) {
    const wo_testing t = {.fail_copy_at = n};
    wo_engine_set_testing(engine, &t);
}

static void test_every_failing_allocation_read_and_copy_is_survived(void) {
    for (int i = 0; i < WAY_COUNT; i++) {
        CHECK(fail_each(i, wo_memory_fail_at, WO_ENOMEMORY, 1) > 20);
        CHECK(fail_each(i, wo_store_fail_at, WO_EOS, 3) > (WAYS[i].tier == WO_TIER_DISK ? 25 : 10));
        CHECK(fail_each(i, arm_copy, WO_EDEVICE, 3) > 3);
    }
    wo_engine_set_testing(engine, &PLAIN);
}

/* ---- cancelling ---- */

static int64_t cancel_at;

static wo_status cancelling_forward(const void *m, wo_exec *x, int pass, const void *request, wo_error *e) {
    if (!wo_exec_is_dry(x) && --cancel_at == 0)
        wo_cancel_request(wo_engine_cancel(engine));
    return toy_forward(m, x, pass, request, e);
}

static void cancel_from_stream(void *ctx) {
    wo_cancel_request(ctx);
}

/* Requests while the streams are in the middle of the pass that the host has already enqueued. */
static wo_status cancelled_on_stream(const void *m, wo_exec *x, int pass, const void *request, wo_error *e) {
    wo_stream *s = wo_exec_stream(x);
    if (pass == TOY_STEP)
        WO_TRY(s->device->stream->host_call(s, cancel_from_stream, wo_engine_cancel(engine), e));
    return toy_forward(m, x, pass, request, e);
}

static void test_cancelling_leaves_the_engine_usable(void) {
    static float out[TOY_ROWS * TOY_D];
    const toy_request request = {toy_latents(), toy_text_input(), out};
    for (int i = 0; i < WAY_COUNT; i++)
        for (int at = 1; at <= 3; at++) {
            wo_policy policy = policy_of(i);
            wo_plan *plan;
            wo_exec *x;
            cancel_at = at;
            CHECK_OK(toy_plan(engine, &model, &policy, &plan, &err), &err);
            CHECK_OK(wo_exec_open(engine, model.component, plan, &x, &err), &err);
            wo_status status = wo_exec_run(x, &model, at < 3 ? cancelling_forward : cancelled_on_stream, TOY_PREPARE, TOY_STEP, &request, &err);
            if (status == WO_OK)
                status = wo_exec_run(x, &model, at < 3 ? cancelling_forward : cancelled_on_stream, TOY_STEP, TOY_STEP, &request, &err);
            CHECK(status == WO_ECANCELLED);
            CHECK_STATUS(wo_exec_run(x, &model, toy_forward, TOY_STEP, -1, &request, &err), WO_EINTERNAL);
            wo_exec_close(x, NULL);
            wo_plan_release(plan);
            check_usable(i);
        }
}

/* ---- misuse ---- */

static void test_a_layer_out_of_order_names_both_groups(void) {
    static toy_result got;
    toy_model wrong = model;
    wo_policy policy = policy_of(1);
    wrong.misuse = 1;
    CHECK_STATUS(toy_run(engine, &wrong, &policy, &got, &err), WO_EINTERNAL);
    CHECK_CONTAINS(err.message, "group 'blocks.4'");
    CHECK_CONTAINS(err.message, "group 'blocks.0'");
    check_usable(1);
}

static void test_a_second_exec_is_refused_while_one_is_open(void) {
    wo_policy policy = policy_of(2);
    wo_plan *plan;
    wo_exec *x, *second;
    CHECK_OK(toy_plan(engine, &model, &policy, &plan, &err), &err);
    CHECK_OK(wo_exec_open(engine, model.component, plan, &x, &err), &err);
    CHECK_STATUS(wo_exec_open(engine, model.component, plan, &second, &err), WO_EBUSY);
    CHECK(second == NULL);
    wo_engine_drop(engine, NULL); /* what is in use stays */
    CHECK_OK(toy_passes(x, &model, &(toy_result){.out = {{0}}}, &err), &err);
    wo_exec_close(x, NULL);
    wo_plan_release(plan);
    check_usable(2);
}

static void test_a_file_that_changes_is_noticed_before_the_next_pass(void) {
    static toy_result got;
    char path[80];
    toy_model m;
    wo_plan *plan;
    wo_exec *x;
    wo_policy policy = policy_of(2);
    const toy_request request = {toy_latents(), toy_text_input(), got.out[0]};
    snprintf(path, sizeof path, "%s.changing", toy_path());
    toy_write(path, NULL, NULL);
    CHECK_OK(toy_create(&m, path, WO_F32, &err), &err);
    CHECK_OK(toy_plan(engine, &m, &policy, &plan, &err), &err);
    CHECK_OK(wo_exec_open(engine, m.component, plan, &x, &err), &err);
    CHECK_OK(wo_exec_run(x, &m, toy_forward, TOY_PREPARE, TOY_STEP, &request, &err), &err);
    CHECK(truncate(path, 1000) == 0);
    CHECK_STATUS(wo_exec_run(x, &m, toy_forward, TOY_STEP, -1, &request, &err), WO_ECHECKPOINT);
    CHECK_CONTAINS(err.message, path);
    wo_exec_close(x, NULL);
    CHECK_STATUS(wo_exec_open(engine, m.component, plan, &x, &err), WO_ECHECKPOINT);
    wo_plan_release(plan);
    wo_engine_drop(engine, m.component);
    wo_component_destroy(m.component);
    unlink(path);
    check_usable(2);
}

/* ---- what stays and what comes back ---- */

static void test_a_pass_that_was_announced_and_does_not_come_is_let_go(void) {
    static toy_result got;
    for (int i = 1; i < WAY_COUNT; i++) {
        wo_policy policy = policy_of(i);
        wo_plan *plan;
        wo_exec *x;
        const toy_request request = {toy_latents(), toy_text_input(), got.out[0]};
        CHECK_OK(toy_plan(engine, &model, &policy, &plan, &err), &err);
        CHECK_OK(wo_exec_open(engine, model.component, plan, &x, &err), &err);
        for (int again = 0; again < 3; again++)
            CHECK_OK(wo_exec_run(x, &model, toy_forward, TOY_PREPARE, again < 2 ? TOY_STEP : -1, &request, &err), &err);
        CHECK_OK(wo_exec_run(x, &model, toy_forward, TOY_STEP, TOY_STEP, &request, &err), &err);
        CHECK(memcmp(got.out[0], wanted.out[0], sizeof wanted.out[0]) == 0);
        wo_exec_close(x, NULL); /* with fetches for another step on their way */
        wo_plan_release(plan);
        check_usable(0);
        check_usable(i);
    }
}

static void test_residents_come_back_from_slabs_without_the_disk(void) {
    static toy_result got;
    wo_engine_held held;
    wo_policy policy = wo_policy_default();
    policy.level = WO_LEVEL_MODEL;
    policy.tier = WO_TIER_HOST;
    wo_engine_drop(engine, NULL);
    for (int run = 0; run < 3; run++) {
        if (run > 0)
            wo_store_fail_at(1);
        CHECK_OK(toy_run(engine, &model, &policy, &got, &err), &err);
        CHECK(toy_same(&got, &wanted));
        wo_engine_drop_residents(engine, model.component);
        wo_engine_get_held(engine, &held);
        CHECK(held.resident_bytes == 0 && held.slab_bytes + toy_saving(model.component) == got.summary.weight_bytes);
    }
    wo_store_fail_at(0);
    wo_engine_drop(engine, model.component);
    wo_engine_get_held(engine, &held);
    CHECK(held.slab_bytes == 0);
}

/* All memory is there once the exec is open: the first allocation after that would fail, and none does. */
static void test_passes_allocate_nothing(void) {
    static toy_result got;
    for (int i = 0; i < WAY_COUNT; i++) {
        wo_policy policy = policy_of(i);
        wo_plan *plan;
        wo_exec *x;
        CHECK_OK(toy_plan(engine, &model, &policy, &plan, &err), &err);
        CHECK_OK(wo_exec_open(engine, model.component, plan, &x, &err), &err);
        wo_memory_fail_at(1);
        CHECK_OK(toy_passes(x, &model, &got, &err), &err);
        void *memory;
        CHECK_STATUS(wo_memory_acquire(1, "a test", &memory, &err), WO_ENOMEMORY); /* the switch was on all the time */
        wo_exec_close(x, &got.report);
        wo_plan_release(plan);
        CHECK(toy_same(&got, &wanted));
    }
}

int main(void) {
    wo_policy policy = wo_policy_default();
    toy_write(toy_path(), NULL, NULL);
    CHECK_OK(wo_device_open(TOY_DEVICE, &device, &err), &err);
    CHECK_OK(wo_engine_create(device, &engine, &err), &err);
    CHECK_OK(toy_create(&model, toy_path(), WO_BF16, &err), &err);
    CHECK_OK(toy_run(engine, &model, &policy, &wanted, &err), &err);
    test_every_failing_allocation_read_and_copy_is_survived();
    test_passes_allocate_nothing();
    test_cancelling_leaves_the_engine_usable();
    test_a_layer_out_of_order_names_both_groups();
    test_a_second_exec_is_refused_while_one_is_open();
    test_a_file_that_changes_is_noticed_before_the_next_pass();
    test_a_pass_that_was_announced_and_does_not_come_is_let_go();
    test_residents_come_back_from_slabs_without_the_disk();
    wo_engine_destroy(engine);
    wo_component_destroy(model.component);
    wo_device_close(device);
    CHECK(wo_memory_current() == 0);
    unlink(toy_path());
    return 0;
}
