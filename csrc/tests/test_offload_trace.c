/* The trace: off it costs nothing, on it changes no bit, it is planned to the byte, its lanes add up to the report, and every group
 * is where the schedule has it. Nothing here depends on how long anything takes. */
#include "toy_model.h"

#include "offload/engine_impl.h"
#include "offload/plan_impl.h"

#include <math.h>

enum { SPANS = 4096, EVENTS = 8192 };

static wo_error err;
static wo_engine *engine;
static toy_model model;

typedef struct traced {
    toy_result result;
    wo_plan *plan;
    wo_trace_event event[EVENTS];
    size_t count;
    uint64_t dropped;
} traced;

static wo_policy policy_of(wo_level level, wo_tier tier, bool stream, int64_t spans) {
    wo_policy policy = wo_policy_default();
    policy.level = level;
    policy.tier = tier;
    policy.use_stream = stream;
    policy.trace_spans = spans;
    return policy;
}

static void run_traced(const wo_policy *policy, traced *t) {
    wo_exec *x;
    memset(t, 0, sizeof *t);
    CHECK_OK(toy_plan(engine, &model, policy, &t->plan, &err), &err);
    CHECK_OK(wo_exec_open(engine, model.component, t->plan, &x, &err), &err);
    CHECK_OK(toy_passes(x, &model, &t->result, &err), &err);
    wo_trace *trace = wo_exec_take_trace(x);
    wo_exec_close(x, &t->result.report);
    CHECK((trace != NULL) == (policy->trace_spans > 0));
    for (size_t cursor = 0; trace != NULL && wo_trace_next(trace, &cursor, &t->event[t->count]); t->count++)
        CHECK(t->count + 1 < EVENTS);
    t->dropped = trace != NULL ? wo_trace_dropped(trace) : 0;
    wo_trace_destroy(trace);
}

static double seconds_of(const traced *t, wo_lane lane) {
    double sum = 0;
    for (size_t i = 0; i < t->count; i++)
        if (t->event[i].lane == lane && t->event[i].pass > 0)
            sum += t->event[i].end - t->event[i].begin;
    return sum;
}

static size_t count_of(const traced *t, wo_lane lane, int32_t group, uint64_t pass) {
    size_t count = 0;
    for (size_t i = 0; i < t->count; i++)
        count += t->event[i].lane == lane && t->event[i].group == group && t->event[i].pass == pass;
    return count;
}

/* Whatever the streams did outside of the spans (the cuts themselves) is in the report too, so the lanes never exceed it. */
static void check_sums(const traced *t) {
    const wo_report *r = &t->result.report;
    const double rounding = 1e-6;
    double copy = seconds_of(t, WO_LANE_COPY), compute = seconds_of(t, WO_LANE_COMPUTE);
    CHECK(copy <= r->copy_seconds + rounding && r->copy_seconds > 0);
    CHECK(compute <= r->compute_seconds + rounding && r->compute_seconds > 0);
    CHECK(fabs(seconds_of(t, WO_LANE_STALL) - r->stall_seconds) <= rounding);
}

/* Readers' time is that of the report, loading included. */
static void check_reads(const traced *t) {
    double sum = 0;
    uint64_t bytes = 0;
    for (size_t i = 0; i < t->count; i++)
        if (t->event[i].lane == WO_LANE_READ) {
            sum += t->event[i].end - t->event[i].begin;
            bytes += t->event[i].pass > 0 ? t->event[i].bytes : 0;
        }
    CHECK(fabs(sum - t->result.report.read_seconds) <= 1e-6);
    CHECK(bytes == t->result.report.bytes_from_disk);
}

/* Each visit of each pass is computed with once, and each streamed one was fetched once for that pass. */
static void check_visits(const traced *t, wo_tier tier) {
    for (uint64_t pass = 1; pass <= 1 + TOY_STEPS; pass++) {
        const int32_t *groups;
        int kind = pass == 1 ? TOY_PREPARE : TOY_STEP;
        size_t visits = wo_plan_visits(t->plan, kind, &groups);
        CHECK(visits > 0);
        for (size_t v = 0; v < visits; v++) {
            size_t times = 0;
            for (size_t w = 0; w < visits; w++)
                times += groups[w] == groups[v];
            CHECK(count_of(t, WO_LANE_COMPUTE, groups[v], pass) == times);
            bool streamed = wo_plan_group_at(t->plan, (size_t)groups[v])->tier != WO_TIER_DEVICE;
            CHECK(count_of(t, WO_LANE_COPY, groups[v], pass) == (streamed ? times : 0));
            CHECK((count_of(t, WO_LANE_READ, groups[v], pass) > 0) == (streamed && tier == WO_TIER_DISK));
        }
    }
}

/* Events of a lane follow each other, and what holds the ring at one time is no more than the ring. */
static void check_order(const traced *t) {
    for (int lane = WO_LANE_COPY; lane < WO_LANE_COUNT; lane++) {
        double last = 0;
        for (size_t i = 0; i < t->count; i++) {
            const wo_trace_event *event = &t->event[i];
            if (event->lane != (wo_lane)lane || event->pass == 0)
                continue;
            CHECK(event->begin >= last - 1e-6 && event->end >= event->begin);
            last = event->end;
        }
    }
    for (size_t i = 0; i < t->count; i++) {
        const wo_trace_event *at = &t->event[i];
        size_t held = 0;
        if (at->held_from <= 0)
            continue;
        CHECK(at->held_to == 0 || at->held_to >= at->held_from);
        for (size_t k = 0; k < t->count; k++) {
            const wo_trace_event *other = &t->event[k];
            if (other->held_from > 0 && other->held_from <= at->held_from && (other->held_to == 0 || other->held_to > at->held_from))
                held += other->bytes;
        }
        CHECK(held >= at->bytes && held <= t->result.summary.ring_bytes);
    }
}

/* What a pass has alive at most is what the dry record found. */
static void check_alive(const traced *t) {
    size_t most = 0;
    for (size_t i = 0; i < t->count; i++)
        if (t->event[i].lane == WO_LANE_COMPUTE && t->event[i].pass > 1 && t->event[i].bytes > most)
            most = t->event[i].bytes;
    CHECK(most == wo_plan_pass_at(t->plan, TOY_STEP)->activation_live_bytes);
}

static void test_the_trace_says_what_happened(void) {
    static traced plain, on;
    const wo_level levels[] = {WO_LEVEL_BLOCK, WO_LEVEL_LEAF};
    for (int variant = 0; variant < 16; variant++) {
        wo_tier tier = variant & 2 ? WO_TIER_DISK : WO_TIER_HOST;
        bool stream = (variant & 4) != 0;
        wo_policy policy = policy_of(levels[variant & 1], tier, stream, 0);
        policy.resident_fraction = variant & 8 ? 0.4 : 0;
        const wo_testing chaos = {.poison = true, .chaos_seed = 3 + (uint64_t)variant, .chaos_delay = 2e-5};
        const wo_testing quiet = {.poison = false};
        wo_engine_set_testing(engine, variant & 8 ? &chaos : &quiet);
        run_traced(&policy, &plain);
        CHECK(plain.count == 0);
        policy.trace_spans = SPANS;
        wo_engine_drop(engine, NULL);
        run_traced(&policy, &on);
        wo_plan_summarize(on.plan, &on.result.summary);
        CHECK(memcmp(plain.result.out, on.result.out, sizeof plain.result.out) == 0);
        CHECK(on.dropped == 0 && on.count > 0);
        wo_plan_summarize(plain.plan, &plain.result.summary);
        CHECK(on.result.summary.fixed_bytes == plain.result.summary.fixed_bytes + wo_trace_bytes(SPANS));
        CHECK(on.result.summary.ram == plain.result.summary.ram + wo_trace_bytes(SPANS));
        check_sums(&on);
        check_reads(&on);
        check_visits(&on, tier);
        check_order(&on);
        check_alive(&on);
        wo_plan_release(plain.plan);
        wo_plan_release(on.plan);
        wo_engine_drop(engine, NULL);
    }
    const wo_testing quiet = {.poison = false};
    wo_engine_set_testing(engine, &quiet);
}

/* Loading is pass 0: residents are read and copied, each group once. */
static void test_loading_is_recorded_apart(void) {
    static traced t;
    wo_policy policy = policy_of(WO_LEVEL_RESIDENT, WO_TIER_DEVICE, false, SPANS);
    run_traced(&policy, &t);
    CHECK(count_of(&t, WO_LANE_COPY, 0, 0) == 1);
    CHECK(count_of(&t, WO_LANE_READ, 0, 0) >= 1);
    CHECK(count_of(&t, WO_LANE_COPY, 0, 2) == 0 && seconds_of(&t, WO_LANE_STALL) == 0);
    CHECK(count_of(&t, WO_LANE_COMPUTE, 0, 2) == 1);
    wo_plan_release(t.plan);
    wo_engine_drop(engine, NULL);
}

/* A pause in a group's computing is that group's. */
static void test_a_pause_is_its_groups_computing(void) {
    static traced t;
    const double pause = 0.01;
    wo_policy policy = policy_of(WO_LEVEL_BLOCK, WO_TIER_HOST, true, SPANS);
    const wo_testing slow = {.delay_edges = 1u << WO_EDGE_FREE, .delay_seconds = pause};
    const wo_testing quiet = {.poison = false};
    wo_engine_set_testing(engine, &slow);
    run_traced(&policy, &t);
    const int32_t *groups;
    CHECK(wo_plan_visits(t.plan, TOY_STEP, &groups) > WO_DELAYS_PER_PASS);
    int visit = 0;
    for (size_t i = 0; i < t.count && visit < WO_DELAYS_PER_PASS; i++) {
        const wo_trace_event *event = &t.event[i];
        if (event->lane != WO_LANE_COMPUTE || event->pass != 2 || event->group < 0)
            continue;
        CHECK(event->group == groups[visit++]);
        CHECK(event->end - event->begin >= pause);
    }
    CHECK(visit == WO_DELAYS_PER_PASS);
    wo_plan_release(t.plan);
    wo_engine_set_testing(engine, &quiet);
    wo_engine_drop(engine, NULL);
}

/* A delay before a group's copy is a stall of that group, and nobody else's. */
static void test_a_late_copy_is_its_groups_stall(void) {
    static traced t;
    wo_policy policy = policy_of(WO_LEVEL_BLOCK, WO_TIER_HOST, true, SPANS);
    const wo_testing late = {.delay_edges = 1u << WO_EDGE_READY, .delay_seconds = 0.02};
    const wo_testing quiet = {.poison = false};
    wo_engine_set_testing(engine, &late);
    run_traced(&policy, &t);
    CHECK(count_of(&t, WO_LANE_STALL, 0, 2) + count_of(&t, WO_LANE_STALL, 1, 1) >= 1);
    CHECK(seconds_of(&t, WO_LANE_STALL) > 0.02);
    wo_plan_release(t.plan);
    wo_engine_set_testing(engine, &quiet);
    wo_engine_drop(engine, NULL);
}

/* Without room for all, the beginning is kept, the rest is counted, and nothing is written beyond. */
static void test_a_full_trace_counts_what_it_leaves_out(void) {
    static traced t, whole;
    wo_policy policy = policy_of(WO_LEVEL_LEAF, WO_TIER_DISK, true, SPANS);
    run_traced(&policy, &whole);
    for (int64_t spans = 1; spans <= 40; spans += 13) {
        policy.trace_spans = spans;
        run_traced(&policy, &t);
        CHECK(t.count <= 2 * (size_t)spans && t.dropped > 0);
        CHECK(memcmp(t.result.out, whole.result.out, sizeof t.result.out) == 0);
        wo_plan_release(t.plan);
    }
    wo_plan_summarize(whole.plan, &whole.result.summary);
    const size_t ram = whole.result.summary.ram; /* the room for the trace in it */
    wo_plan_release(whole.plan);
    policy.trace_spans = (int64_t)WO_MAX_TRACE_SPANS + 1;
    CHECK_STATUS(toy_plan(engine, &model, &policy, &t.plan, &err), WO_EVALUE);
    policy.trace_spans = SPANS;
    policy.ram = (int64_t)ram - 1;
    CHECK_STATUS(toy_plan(engine, &model, &policy, &t.plan, &err), WO_EPLAN);
    wo_engine_drop(engine, NULL);
}

int main(void) {
    wo_device *device;
    toy_write(toy_path(), NULL, NULL);
    CHECK_OK(wo_device_open("cpu", &device, &err), &err);
    CHECK_OK(wo_engine_create(device, &engine, &err), &err);
    CHECK_OK(toy_create(&model, toy_path(), WO_F32, &err), &err);
    test_the_trace_says_what_happened();
    test_loading_is_recorded_apart();
    test_a_pause_is_its_groups_computing();
    test_a_late_copy_is_its_groups_stall();
    test_a_full_trace_counts_what_it_leaves_out();
    wo_engine_destroy(engine);
    wo_component_destroy(model.component);
    wo_device_close(device);
    unlink(toy_path());
    return 0;
}
