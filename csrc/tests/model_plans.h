/* A network under every kind of plan: its bits must be those of the resident plan on one thread, whatever the weights do meanwhile. */
#ifndef WO_TESTS_MODEL_PLANS_H
#define WO_TESTS_MODEL_PLANS_H

#include "device/cpu/cpu.h"
#include "offload/engine.h"
#include "tests/check.h"

#include <math.h>

enum { MOST_OUTPUT = 1 << 16 };

/* A network, its passes and its output. */
typedef struct network {
    const char *name;
    const void *model;
    const wo_component *component;
    wo_forward_fn forward;
    int passes;
    const void *planning; /* the request without data */
    size_t outputs;
    /* Runs the passes that make one output. */
    void (*run)(const struct network *n, wo_exec *x, float *out);
} network;

static inline void run_pass(const network *n, wo_exec *x, int pass, int next, const void *request) {
    wo_error err;
    CHECK_OK(wo_exec_run(x, n->model, n->forward, pass, next, request, &err), &err);
}

static inline wo_engine *open_engine(void) {
    wo_engine *engine;
    wo_device *device;
    wo_error err;
    CHECK_OK(wo_device_open("cpu", &device, &err), &err);
    CHECK_OK(wo_engine_create(device, &engine, &err), &err);
    return engine;
}

static inline void close_engine(wo_engine *engine) {
    wo_device *device = wo_engine_device(engine);
    wo_engine_destroy(engine);
    wo_device_close(device);
}

static inline void run_under(const network *n, wo_engine *engine, const wo_policy *policy, float *out, wo_report *report) {
    wo_plan *plan;
    wo_exec *x;
    wo_error err;
    for (size_t i = 0; i < n->outputs; i++)
        out[i] = NAN;
    CHECK_OK(wo_plan_make(n->component, n->model, n->forward, n->passes, n->planning, wo_engine_device(engine), policy, &plan, &err), &err);
    CHECK_OK(wo_exec_open(engine, n->component, plan, &x, &err), &err);
    n->run(n, x, out);
    wo_exec_close(x, report);
    wo_plan_release(plan);
    wo_engine_drop(engine, n->component);
}

/* The resident run on one thread, which everything else is compared with. */
static inline void run_resident(const network *n, float *out) {
    wo_engine *engine = open_engine();
    wo_policy policy = wo_policy_default();
    wo_report report;
    wo_error err;
    CHECK(n->outputs <= MOST_OUTPUT);
    CHECK_OK(wo_cpu_set_threads(1, &err), &err);
    policy.knobs = (wo_knobs){.cache_text = true};
    run_under(n, engine, &policy, out, &report);
    close_engine(engine);
    double sum = 0;
    for (size_t i = 0; i < n->outputs; i++) {
        CHECK(isfinite(out[i]));
        sum += fabs((double)out[i]);
    }
    CHECK(sum > 0.01 * (double)n->outputs);
}

static inline bool same_bits(const network *n, const float *a, const float *b) {
    return memcmp(a, b, n->outputs * sizeof *a) == 0;
}

/* Every plan of the list, poisoned and on one to three threads, against the resident one, whose output is returned; good until the next
 * call. ThreadSanitizer, under which arithmetic takes tens of times as long, sees those in which most goes on at one time. */
static inline const float *check_plans(const network *n) {
    static float wanted[MOST_OUTPUT], found[MOST_OUTPUT];
    const wo_level levels[] = {WO_LEVEL_RESIDENT, WO_LEVEL_MODEL, WO_LEVEL_BLOCK, WO_LEVEL_LEAF};
    const wo_knobs knobs[] = {{.cache_text = true},
                              {.row_chunk = 5, .state_on_host = true, .items_apart = true},
                              {.row_chunk = 3, .cache_text = true, .passes_apart = true},
                              {.row_chunk = 7, .cache_text = true, .state_on_host = true}};
    wo_policy policy = wo_policy_default();
    wo_report report;
    wo_error err;
    int cell = 0;
    run_resident(n, wanted);
    wo_engine *engine = open_engine();
    wo_engine_set_testing(engine, &(wo_testing){.poison = true});
    for (int level = 0; level < 4; level++)
        for (int disk = 0; disk < 2; disk++)
            for (int stream = 0; stream < 2; stream++, cell++) {
                if (UNDER_THREAD_SANITIZER && (!stream || levels[level] < WO_LEVEL_BLOCK))
                    continue;
                policy.level = levels[level];
                policy.blocks_per_group = 1;
                policy.tier = disk ? WO_TIER_DISK : WO_TIER_HOST;
                policy.use_stream = stream;
                const int choice = (cell + level) % 4;
                policy.knobs = knobs[choice];
                CHECK_OK(wo_cpu_set_threads(1 + cell % 3, &err), &err);
                run_under(n, engine, &policy, found, &report);
                if (!same_bits(n, wanted, found)) {
                    fprintf(stderr, "%s: other bits under the plan: level %d, %s, %s, knobs %d, %d threads\n", n->name, level,
                            disk ? "disk" : "host", stream ? "stream" : "no stream", choice, 1 + cell % 3);
                    exit(1);
                }
                CHECK((report.bytes_moved > 0) == (levels[level] == WO_LEVEL_BLOCK || levels[level] == WO_LEVEL_LEAF));
            }
    close_engine(engine);
    return wanted;
}

#endif
