/* Plans: groups and visits of every level, residents, budgets and what is refused, and planning under want of memory. */
#include "toy_model.h"

static wo_error err;
static wo_engine *engine;
static toy_model model;

static wo_plan *make(const wo_policy *policy) {
    wo_plan *plan;
    CHECK_OK(toy_plan(engine, &model, policy, &plan, &err), &err);
    return plan;
}

static wo_policy streamed(wo_level level) {
    wo_policy p = wo_policy_default();
    p.level = level;
    p.tier = WO_TIER_HOST;
    p.use_stream = true;
    return p;
}

static const char *group_name(const wo_plan *plan, size_t i) {
    return wo_plan_group_at(plan, i)->name;
}

static void test_levels_cut_the_layers_into_named_groups(void) {
    wo_policy policy = wo_policy_default();
    wo_plan *plan = make(&policy);
    CHECK(strcmp(group_name(plan, 0), "toy") == 0 && wo_plan_group_at(plan, 1) == NULL);
    CHECK(wo_plan_group_at(plan, 0)->bytes == wo_component_bytes(model.component) && wo_plan_group_at(plan, 0)->tier == WO_TIER_DEVICE);
    wo_plan_release(plan);
    policy = streamed(WO_LEVEL_BLOCK);
    policy.blocks_per_group = 2;
    plan = make(&policy);
    static const char *const NAMES[] = {"stem", "blocks.0 .. blocks.1", "blocks.2 .. blocks.3", "blocks.4", "shared .. head"};
    for (size_t i = 0; i < 5; i++)
        CHECK(strcmp(group_name(plan, i), NAMES[i]) == 0);
    CHECK(wo_plan_group_at(plan, 5) == NULL);
    wo_plan_release(plan);
    policy = streamed(WO_LEVEL_LEAF);
    plan = make(&policy);
    CHECK(strcmp(group_name(plan, 0), "stem") == 0 && strcmp(group_name(plan, 4), "blocks.0.up") == 0);
    wo_plan_release(plan);
}

/* blocks 0 .. 4, each held from its first layer to its last with `shared` visited in between, and head at the end. */
static void test_visits_follow_the_forward(void) {
    static const int32_t WANTED[] = {0, 1, 6, 2, 6, 3, 6, 4, 6, 5, 6, 6};
    wo_policy policy = streamed(WO_LEVEL_BLOCK);
    wo_plan *plan = make(&policy);
    const int32_t *groups;
    CHECK(wo_plan_visits(plan, TOY_STEP, &groups) == 11);
    CHECK(memcmp(groups, WANTED, 11 * sizeof *groups) == 0);
    CHECK(wo_plan_visits(plan, TOY_PREPARE, &groups) == TOY_BLOCKS);
    for (int32_t i = 0; i < TOY_BLOCKS; i++)
        CHECK(groups[i] == i + 1);
    CHECK(wo_plan_pass_at(plan, TOY_STEP)->visits == 11 && wo_plan_pass_at(plan, TOY_PASSES) == NULL);
    wo_plan_release(plan);
}

static void test_residents_are_spread_and_begin_with_the_first_group(void) {
    wo_policy policy = streamed(WO_LEVEL_BLOCK);
    policy.resident_fraction = 0.7;
    wo_plan *plan = make(&policy);
    int run = 0;
    CHECK(wo_plan_group_at(plan, 0)->tier == WO_TIER_DEVICE);
    for (size_t i = 0; wo_plan_group_at(plan, i) != NULL; i++) {
        run = wo_plan_group_at(plan, i)->tier == WO_TIER_DEVICE ? 0 : run + 1;
        CHECK(run <= 2);
    }
    wo_plan_release(plan);
    policy.resident_fraction = 1;
    plan = make(&policy);
    wo_plan_summary s;
    wo_plan_summarize(plan, &s);
    CHECK(s.resident_bytes == s.weight_bytes && s.ring_bytes == 0 && s.host_slab_bytes == 0);
    wo_plan_release(plan);
}

static void test_the_parts_add_up(void) {
    wo_policy policy = streamed(WO_LEVEL_LEAF);
    policy.knobs.state_on_host = true;
    for (int tier = WO_TIER_HOST; tier <= WO_TIER_DISK; tier++) {
        wo_plan_summary s;
        policy.tier = (wo_tier)tier;
        wo_plan *plan = make(&policy);
        wo_plan_summarize(plan, &s);
        CHECK(s.work_bytes == s.ring_bytes + s.arrival_bytes + s.keep_bytes + s.activation_bytes && s.vram == s.resident_bytes + s.work_bytes);
        CHECK(s.ram == s.vram + s.host_slab_bytes + s.staging_bytes + s.host_keep_bytes + s.fixed_bytes);
        CHECK(s.host_keep_bytes == 4 * TOY_ROWS * TOY_D + (256 - 4 * TOY_ROWS * TOY_D % 256) % 256);
        CHECK(s.keep_bytes == TOY_BLOCKS * s.host_keep_bytes);
        CHECK(s.live_bytes <= s.vram && (double)s.vram <= 1.1 * (double)s.live_bytes);
        wo_plan_release(plan);
    }
}

/* Refused with what would do; that does, and a byte less does not. */
static void check_needed(wo_policy policy, bool vram) {
    wo_plan *plan;
    policy.vram = vram ? 1 : -1;
    policy.ram = vram ? -1 : 1;
    CHECK_STATUS(toy_plan(engine, &model, &policy, &plan, &err), WO_EPLAN);
    CHECK(plan == NULL && err.shortfall.vram_budget == policy.vram && err.shortfall.ram_budget == policy.ram);
    char number[32];
    int64_t needed = vram ? err.shortfall.vram_needed : err.shortfall.ram_needed;
    snprintf(number, sizeof number, "%lld bytes", (long long)needed);
    CHECK_CONTAINS(err.message, number);
    CHECK_CONTAINS(err.message, "toy");
    policy.vram = err.shortfall.vram_needed;
    policy.ram = err.shortfall.ram_needed;
    plan = make(&policy);
    wo_plan_summary s;
    wo_plan_summarize(plan, &s);
    CHECK((int64_t)s.vram + policy.vram_outside <= policy.vram && (int64_t)s.ram + policy.ram_outside <= policy.ram);
    wo_plan_release(plan);
    *(vram ? &policy.vram : &policy.ram) -= 1;
    CHECK_STATUS(toy_plan(engine, &model, &policy, &plan, &err), WO_EPLAN);
}

static void test_a_refusal_says_what_would_do(void) {
    for (int level = WO_LEVEL_RESIDENT; level <= WO_LEVEL_AUTO; level++)
        for (int choose = 0; choose < 2; choose++) {
            wo_policy policy = streamed((wo_level)level);
            policy.choose_knobs = choose;
            policy.vram_outside = 1000;
            policy.ram_outside = 100000;
            check_needed(policy, true);
            check_needed(policy, false);
        }
}

static void summary_under(int64_t vram, int64_t ram, wo_plan_summary *s) {
    wo_policy policy = wo_policy_default();
    policy.level = WO_LEVEL_AUTO;
    policy.choose_knobs = true;
    policy.vram = vram;
    policy.ram = ram;
    wo_plan *plan = make(&policy);
    wo_plan_summarize(plan, s);
    CHECK((vram < 0 || (int64_t)s->vram <= vram) && (ram < 0 || (int64_t)s->ram <= ram));
    wo_plan_release(plan);
}

static void test_auto_takes_the_fastest_way_that_fits(void) {
    wo_plan_summary whole, host, disk, half;
    summary_under(-1, -1, &whole);
    CHECK(whole.policy.level == WO_LEVEL_RESIDENT && whole.resident_bytes == whole.weight_bytes && whole.knobs.row_chunk == 0);
    int64_t tight = (int64_t)(whole.vram - whole.weight_bytes / 2);
    summary_under(tight, -1, &host);
    CHECK(host.policy.level == WO_LEVEL_LEAF && host.policy.tier == WO_TIER_HOST && host.policy.use_stream);
    summary_under(tight, (int64_t)(host.ram - host.host_slab_bytes / 2), &disk);
    CHECK(disk.policy.tier == WO_TIER_DISK && disk.host_slab_bytes == 0);
    summary_under((int64_t)whole.vram - 4096, -1, &half);
    CHECK(half.resident_bytes > host.resident_bytes && half.resident_bytes > half.weight_bytes / 4);
}

static void test_knobs_are_turned_only_where_that_saves(void) {
    wo_policy policy = wo_policy_default();
    wo_plan *plan = make(&policy);
    wo_plan_summary s;
    wo_plan_summarize(plan, &s);
    wo_plan_release(plan);
    policy.vram = (int64_t)s.vram - 1;
    CHECK_STATUS(toy_plan(engine, &model, &policy, &plan, &err), WO_EPLAN);
    policy.choose_knobs = true;
    plan = make(&policy);
    wo_plan_summarize(plan, &s);
    CHECK(s.knobs.state_on_host && s.knobs.cache_text && s.knobs.row_chunk == 0); /* 7 rows are no chunk of 2048 */
    wo_plan_release(plan);
}

static void test_senseless_policies_are_refused(void) {
    wo_plan *plan;
    wo_policy device = streamed(WO_LEVEL_LEAF), none = streamed(WO_LEVEL_BLOCK), much = streamed(WO_LEVEL_LEAF), many = much, odd = much;
    device.tier = WO_TIER_DEVICE;
    none.blocks_per_group = 0;
    much.resident_fraction = 1.5;
    many.readers = 1000;
    odd.level = (wo_level)77;
    const wo_policy *const senseless[] = {&device, &none, &much, &many, &odd};
    for (size_t i = 0; i < sizeof senseless / sizeof *senseless; i++)
        CHECK_STATUS(toy_plan(engine, &model, senseless[i], &plan, &err), WO_EVALUE);
}

/* A device whose products of few rows may have other bits: the planner leaves them whole, and who asks for chunks hears why not. */
static void test_calls_are_cut_only_where_that_changes_no_bit(void) {
    wo_device *d = wo_engine_device(engine);
    const wo_ops_api *const usual = d->ops;
    wo_ops_api whole = *usual;
    wo_policy cut[] = {wo_policy_default(), wo_policy_default(), wo_policy_default()}, least = wo_policy_default();
    wo_plan_summary s;
    wo_plan *plan;
    cut[0].knobs.row_chunk = 2;
    cut[1].knobs.items_apart = true;
    cut[2].knobs.passes_apart = true;
    least.level = WO_LEVEL_LEAF;
    least.tier = WO_TIER_HOST;
    least.vram = 0;
    least.choose_knobs = true;
    whole.rows_apart = 1u << WO_OP_attention;
    d->ops = &whole;
    for (int i = 0; i < 3; i++) {
        CHECK_STATUS(toy_plan(engine, &model, &cut[i], &plan, &err), WO_EUNSUPPORTED);
        CHECK_CONTAINS(err.message, "row_chunk, items_apart and passes_apart");
    }
    CHECK_STATUS(toy_plan(engine, &model, &least, &plan, &err), WO_EPLAN);
    least.vram = err.shortfall.vram_needed;
    plan = make(&least);
    wo_plan_summarize(plan, &s);
    CHECK(s.knobs.state_on_host && !s.knobs.cache_text && s.knobs.row_chunk == 0 && !s.knobs.items_apart && !s.knobs.passes_apart);
    wo_plan_release(plan);
    d->ops = usual;
    for (int i = 0; i < 3; i++)
        wo_plan_release(make(&cut[i]));
}

static wo_status unbalanced_forward(const void *m, wo_exec *x, int pass, const void *request, wo_error *e) {
    const wo_tensor *params;
    (void)pass, (void)request;
    return wo_exec_use(x, ((const toy_model *)m)->stem, &params, e);
}

static wo_status twice_freeing_forward(const void *m, wo_exec *x, int pass, const void *request, wo_error *e) {
    wo_tensor t, again;
    WO_TRY(wo_exec_new(x, &t, e, WO_F32, 3));
    again = t;
    wo_exec_free(x, &t);
    wo_exec_free(x, &again);
    (void)m, (void)pass, (void)request;
    return WO_OK;
}

static void test_faults_of_a_model_are_found_by_the_first_plan(void) {
    const wo_policy policy = wo_policy_default();
    wo_device *d = wo_engine_device(engine);
    wo_plan *plan;
    CHECK_STATUS(wo_plan_make(model.component, &model, unbalanced_forward, 1, NULL, d, &policy, &plan, &err), WO_EINTERNAL);
    CHECK_CONTAINS(err.message, "layer 'stem' is never let go");
    CHECK_STATUS(wo_plan_make(model.component, &model, twice_freeing_forward, 1, NULL, d, &policy, &plan, &err), WO_EINTERNAL);
    CHECK_CONTAINS(err.message, "[3] float32 is freed that is not allocated");
}

static void test_no_memory_while_planning_leaves_nothing_behind(void) {
    const uint64_t before = wo_memory_current();
    wo_policy policy = streamed(WO_LEVEL_AUTO);
    wo_plan *plan;
    wo_status status;
    int64_t n = 0;
    policy.vram = 900000;
    policy.choose_knobs = true;
    do {
        n += 1 + n / 50;
        wo_memory_fail_at(n);
        status = toy_plan(engine, &model, &policy, &plan, &err);
        wo_memory_fail_at(0);
        CHECK(status == WO_OK || (status == WO_ENOMEMORY && wo_memory_current() == before));
    } while (status != WO_OK);
    CHECK(n > 100);
    wo_plan_release(plan);
    CHECK(wo_memory_current() == before);
}

int main(void) {
    wo_device *device;
    toy_write(toy_path(), NULL, NULL);
    CHECK_OK(wo_device_open("cpu", &device, &err), &err);
    CHECK_OK(wo_engine_create(device, &engine, &err), &err);
    CHECK_OK(toy_create(&model, toy_path(), WO_F32, &err), &err);
    test_levels_cut_the_layers_into_named_groups();
    test_visits_follow_the_forward();
    test_residents_are_spread_and_begin_with_the_first_group();
    test_the_parts_add_up();
    test_a_refusal_says_what_would_do();
    test_auto_takes_the_fastest_way_that_fits();
    test_knobs_are_turned_only_where_that_saves();
    test_senseless_policies_are_refused();
    test_calls_are_cut_only_where_that_changes_no_bit();
    test_faults_of_a_model_are_found_by_the_first_plan();
    test_no_memory_while_planning_leaves_nothing_behind();
    wo_engine_destroy(engine);
    wo_component_destroy(model.component);
    wo_device_close(device);
    unlink(toy_path());
    return 0;
}
