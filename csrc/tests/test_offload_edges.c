/* Each wait of the streamer is needed: with a delay at that edge, cutting the wait changes the bits in every run, and leaving it
 * changes them in none. The cut runs are data races by design, so ThreadSanitizer sees only the others. */
#include "toy_model.h"

#include <sys/wait.h>

/* On a card that is interpreted everything takes longer: delays that must outlast it do so too, and there are fewer runs. Five sixths of the time are
 * delays there, longer than a turn of the processor by far, so processes share the stages. */
#ifdef TOY_INTERPRETED
enum { CUT_RUNS = 4, KEPT_RUNS = 2, PROCESSES = 4 };
static const double SLOWER = 15;
#else
enum { CUT_RUNS = UNDER_ADDRESS_SANITIZER ? 4 : 20, KEPT_RUNS = 3, PROCESSES = 1 };
static const double SLOWER = 1;
#endif

#if defined(__SANITIZE_THREAD__)
enum { CUTS_ARE_RUN = 0 };
#else
enum { CUTS_ARE_RUN = 1 };
#endif

static wo_error err;
static wo_engine *engine;
static toy_model model;
static toy_result wanted;

/* Where an edge is shown: the way of offloading in which that wait does the work. */
typedef struct stage {
    wo_edge edge;
    const char *what;
    wo_level level;
    wo_tier tier;
    bool use_stream, poison;
    double seconds;
    bool direct; /* only where readers write straight into slots: elsewhere the stream's own order does the work */
} stage;

static const stage STAGES[] = {
    {WO_EDGE_READY, "a copy from a host slab", WO_LEVEL_BLOCK, WO_TIER_HOST, true, true, 0.003, false},
    {WO_EDGE_READY, "reads and conversions", WO_LEVEL_BLOCK, WO_TIER_DISK, true, true, 0.003, false},
    {WO_EDGE_FREE, "a copy over a slot in use", WO_LEVEL_BLOCK, WO_TIER_HOST, true, false, 0.006, false},
    {WO_EDGE_FREE, "reads into a slot in use", WO_LEVEL_LEAF, WO_TIER_DISK, false, false, 0.006, true},
    {WO_EDGE_READER_COPY, "conversions of pieces still to be read", WO_LEVEL_LEAF, WO_TIER_DISK, true, true, 0.004, false},
    {WO_EDGE_READER_COPY, "the same on the compute stream", WO_LEVEL_LEAF, WO_TIER_DISK, false, true, 0.004, false},
    {WO_EDGE_STAGING_REUSE, "reads over pieces not yet converted", WO_LEVEL_LEAF, WO_TIER_DISK, true, false, 0.004, false},
    {WO_EDGE_WRAP_AROUND, "copies for the next step over the end of this one", WO_LEVEL_BLOCK, WO_TIER_HOST, true, false, 0.015, false},
    {WO_EDGE_HAND_OVER, "copies into an arena that is still written", WO_LEVEL_BLOCK, WO_TIER_HOST, true, false, 0.015, false},
    {WO_EDGE_HAND_OVER, "reads into an arena that is still written", WO_LEVEL_LEAF, WO_TIER_DISK, true, false, 0.015, false},
};

static void set_stage(const stage *s, bool cut) {
    const wo_testing t = {.cut_edges = cut ? 1u << s->edge : 0, .delay_edges = 1u << s->edge, .delay_seconds = SLOWER * s->seconds, .poison = s->poison};
    wo_engine_set_testing(engine, &t);
}

/* Two execs one after the other, so that the second takes the arena over; the second's bits count. */
static bool same_bits(const stage *s, bool cut) {
    static toy_result got;
    wo_policy policy = wo_policy_default();
    policy.level = s->level;
    policy.tier = s->tier;
    policy.use_stream = s->use_stream;
    set_stage(s, cut);
    if (s->edge == WO_EDGE_HAND_OVER)
        CHECK_OK(toy_run(engine, &model, &policy, &got, &err), &err);
    CHECK_OK(toy_run(engine, &model, &policy, &got, &err), &err);
    return toy_same(&got, &wanted);
}

static void test_every_wait_is_needed_and_enough(int share) {
    for (size_t i = (size_t)share; i < sizeof STAGES / sizeof *STAGES; i += PROCESSES) {
        const stage *s = &STAGES[i];
        int differ = 0;
        if (s->direct && !wo_engine_device(engine)->memory->host_addressable)
            continue;
        for (int run = 0; run < KEPT_RUNS; run++)
            if (!same_bits(s, false)) {
                fprintf(stderr, "%s, %s: a delay alone changed the bits\n", wo_edge_name(s->edge), s->what);
                exit(1);
            }
        for (int run = 0; run < CUT_RUNS * CUTS_ARE_RUN; run++)
            differ += !same_bits(s, true);
        if (differ != CUT_RUNS * CUTS_ARE_RUN) {
            fprintf(stderr, "%s, %s: cut, the bits changed in %d of %d runs\n", wo_edge_name(s->edge), s->what, differ, (int)CUT_RUNS);
            exit(1);
        }
        wo_engine_drop(engine, NULL);
    }
}

/* ---- the other side of the hand-over: copies that an exec left behind ---- */

/* Lets the second exec's compute stream rest in the middle of a pass, with everything it has computed so far in the arena. */
static wo_status resting_forward(const void *m, wo_exec *x, int pass, const void *request, wo_error *e) {
    wo_tensor early;
    wo_stream *s = wo_exec_stream(x);
    WO_TRY(wo_exec_new(x, &early, e, WO_F32, 1 << 18));
    WO_TRY(s->device->stream->zero(s, early.data, wo_tensor_bytes(&early), e));
    WO_TRY(s->device->stream->delay(s, SLOWER * 0.1, e));
    WO_TRY(wo_exec_download(x, ((const toy_request *)request)->out, &early, e));
    wo_exec_free(x, &early);
    (void)m, (void)pass;
    return WO_OK;
}

static wo_plan *resting_plan(const toy_model *other) {
    const toy_request request = {.out = NULL};
    const wo_policy resident = wo_policy_default();
    wo_plan *plan;
    CHECK_OK(wo_plan_make(other->component, other, resting_forward, 1, &request, wo_engine_device(engine), &resident, &plan, &err), &err);
    return plan;
}

static void run_one(const toy_model *m, wo_plan *plan, wo_forward_fn forward, int pass, int next, float *out) {
    const toy_request request = {toy_latents(), toy_text_input(), out};
    wo_exec *x;
    CHECK_OK(wo_exec_open(engine, m->component, plan, &x, &err), &err);
    CHECK_OK(wo_exec_run(x, m, forward, pass, next, &request, &err), &err);
    wo_exec_close(x, NULL);
}

/* An exec announces a step that never comes and is closed; the next one, whose weights are loaded already, keeps a megabyte of zeros
 * where the ring was. */
static bool zeros_stay(const toy_model *other, bool cut) {
    static float out[1 << 18];
    const wo_testing plain = {.poison = false};
    const wo_testing t = {.cut_edges = cut ? 1u << WO_EDGE_HAND_OVER : 0, .delay_edges = 1u << WO_EDGE_HAND_OVER, .delay_seconds = SLOWER * 0.03};
    wo_policy policy = wo_policy_default();
    wo_plan *plan, *resting = resting_plan(other);
    policy.level = WO_LEVEL_BLOCK;
    policy.tier = WO_TIER_HOST;
    policy.use_stream = true;
    wo_engine_set_testing(engine, &plain);
    CHECK_OK(wo_engine_reserve(engine, 4 << 20, &err), &err);
    CHECK_OK(toy_plan(engine, &model, &policy, &plan, &err), &err);
    run_one(other, resting, resting_forward, 0, -1, out);
    wo_engine_set_testing(engine, &t);
    run_one(&model, plan, toy_forward, TOY_STEP, TOY_STEP, out);
    run_one(other, resting, resting_forward, 0, -1, out);
    wo_plan_release(plan);
    wo_plan_release(resting);
    for (int i = 0; i < 1 << 18; i++)
        if (out[i] != 0)
            return false;
    return true;
}

static void test_copies_left_behind_do_not_reach_the_next_exec(void) {
    toy_model other;
    CHECK_OK(toy_create(&other, toy_path(), WO_F32, &err), &err);
    for (int run = 0; run < KEPT_RUNS; run++)
        CHECK(zeros_stay(&other, false));
    for (int run = 0; run < CUT_RUNS * CUTS_ARE_RUN; run++)
        CHECK(!zeros_stay(&other, true));
    wo_engine_drop(engine, NULL);
    wo_component_destroy(other.component);
}

static void run_share(int share) {
    wo_device *device;
    wo_policy policy = wo_policy_default();
    toy_write(toy_path(), NULL, NULL);
    CHECK_OK(wo_device_open(TOY_DEVICE, &device, &err), &err);
    CHECK_OK(wo_engine_create(device, &engine, &err), &err);
    CHECK_OK(toy_create(&model, toy_path(), WO_F32, &err), &err);
    CHECK_OK(toy_run(engine, &model, &policy, &wanted, &err), &err);
    test_every_wait_is_needed_and_enough(share);
    if (share == PROCESSES - 1)
        test_copies_left_behind_do_not_reach_the_next_exec();
    wo_engine_destroy(engine);
    wo_component_destroy(model.component);
    wo_device_close(device);
    unlink(toy_path());
}

int main(void) {
    pid_t others[PROCESSES];
    int state;
    for (int i = 1; i < PROCESSES; i++)
        if ((others[i] = fork()) == 0) {
            run_share(i);
            return 0;
        }
    run_share(0);
    for (int i = 1; i < PROCESSES; i++)
        CHECK(waitpid(others[i], &state, 0) == others[i] && WIFEXITED(state) && WEXITSTATUS(state) == 0);
    return 0;
}
