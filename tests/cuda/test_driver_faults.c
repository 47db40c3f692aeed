/* Whatever the driver refuses, at whatever call, and whenever a launch fails or the card is lost: a clean error, nothing leaked, and afterwards the same
 * engine (or, where the card was lost, a new one) gives the right bits. Inside a step the driver is asked for nothing that makes a card wait. */
#define TOY_DEVICE "cuda"
#include "tests/toy_model.h"

#include "device/cuda/device_impl.h"
#include "fakecuda/fakecuda.h"

static const fakecuda_api *card;
static wo_error err;
static wo_device *device;
static wo_engine *engine;
static toy_model model;
static toy_result wanted;

static const char *const symbols[] = {
#define SYMBOL(name, symbol, params) symbol,
    WO_CU_ENTRY_LIST(SYMBOL)
#undef SYMBOL
};
enum { SYMBOLS = sizeof symbols / sizeof *symbols };

typedef struct way {
    const char *name;
    wo_level level;
    wo_tier tier;
    bool use_stream;
    double fraction;
} way;

static const way WAYS[] = {
    {"resident", WO_LEVEL_RESIDENT, WO_TIER_DEVICE, false, 0},
    {"blocks from the host", WO_LEVEL_BLOCK, WO_TIER_HOST, true, 0.3},
    {"layers from the disk", WO_LEVEL_LEAF, WO_TIER_DISK, true, 0.3},
};
enum { WAY_COUNT = sizeof WAYS / sizeof *WAYS };

static wo_policy policy_of(const way *w) {
    wo_policy p = wo_policy_default();
    p.level = w->level;
    p.tier = w->tier;
    p.use_stream = w->use_stream;
    p.resident_fraction = w->fraction;
    return p;
}

/* --- all of it: device, engine, model, a run; and all away again ------------------------------------------------------------------ */

static wo_status open_engine(void) {
    device = NULL;
    engine = NULL;
    WO_TRY(wo_device_open("cuda", &device, &err));
    return wo_engine_create(device, &engine, &err);
}

static wo_status run(const way *w, toy_result *got) {
    wo_policy policy = policy_of(w);
    return toy_run(engine, &model, &policy, got, &err);
}

static void close_engine(void) {
    if (engine != NULL)
        wo_engine_destroy(engine);
    wo_device_close(device);
    device = NULL;
    engine = NULL;
}

static uint64_t count_live(void) {
    uint64_t count = 0;
    for (int kind = 0; kind < FAKECUDA_KINDS; kind++)
        count += card->live((fakecuda_kind)kind);
    return count;
}

/* What cannot be given back because the driver refuses to take it goes with the context, and that is all that can be done. */
static bool gives_back(const char *symbol) {
    static const char *const those[] = {"cuMemFree_v2", "cuMemFreeHost", "cuMemHostUnregister", "cuStreamDestroy_v2", "cuEventDestroy_v2", "cuModuleUnload",
                                        "cuCtxSetCurrent", "cuDevicePrimaryCtxRelease_v2"};
    for (size_t i = 0; i < sizeof those / sizeof *those; i++)
        if (strcmp(those[i], symbol) == 0)
            return true;
    return false;
}

static void let_the_context_go(void) {
    const wo_cuda_driver *driver;
    CHECK_OK(wo_cuda_driver_get(&driver, &err), &err);
    while (card->live(FAKECUDA_CONTEXTS) > 0)
        CHECK(driver->context_release(0) == WO_CU_SUCCESS);
    card->reset();
}

/* Of the host's memory the model remains, which was there before. */
static void check_nothing_is_left(const char *what, uint64_t host_before) {
    if (count_live() == 0 && wo_memory_current() == host_before && card->misuses() == 0 && wo_cuda_pinned_bytes() == 0)
        return;
    fprintf(stderr, "%s: %llu objects of the card, %lld bytes of host memory left, %llu misuses (%s)\n", what, (unsigned long long)count_live(),
            (long long)(wo_memory_current() - host_before), (unsigned long long)card->misuses(), card->message());
    exit(1);
}

/* --- faults ----------------------------------------------------------------------------------------------------------------------- */

/* A card that does not say what it can is one that cannot be used. */
static bool is_fitting(wo_status status, bool loses) {
    return status == WO_EDEVICE || (status == WO_EUNSUPPORTED && engine == NULL) || (status == WO_ENOMEMORY && !loses);
}

/* One whole life with the armed fault in it. True when the fault happened. */
static bool live_with_fault(const way *w, const char *symbol, bool loses, const char *what) {
    static toy_result got;
    const uint64_t before = wo_memory_current();
    wo_status status = open_engine();
    if (status == WO_OK)
        status = run(w, &got);
    const bool fired = card->fired();
    if (status == WO_OK) {
        CHECK(toy_same(&got, &wanted)); /* a fault that does no harm is one that the device makes up for */
    } else if (!fired || err.code != status || err.message[0] == '\0' || !is_fitting(status, loses)) {
        fprintf(stderr, "%s: ended with \"%s\": %s\n", what, wo_status_text(status), err.message);
        exit(1);
    }
    card->fail(NULL, 0, 0, false);
    card->fail_kernel(0, 0);
    /* Unless the card is lost, the same engine goes on: looked at after every third fault, for a run takes long, and after each in giving something
     * back. What failed while the first run was already over, the next one says. */
    static int lives;
    const bool looked_at = engine != NULL && !loses && (gives_back(symbol) || lives++ % 3 == 0);
    const bool late = looked_at && status == WO_OK && fired && run(w, &got) != WO_OK;
    if (looked_at && (!is_fitting(late ? err.code : WO_EDEVICE, false) || run(w, &got) != WO_OK || !toy_same(&got, &wanted))) {
        fprintf(stderr, "%s: the engine does not go on: %s\n", what, err.message);
        exit(1);
    }
    close_engine();
    if (fired && gives_back(symbol))
        let_the_context_go();
    check_nothing_is_left(what, before);
    wo_cuda_forget_lost_cards();
    return fired;
}

/* The n-th call of one entry: all of the first ones, where things are made, and a sample of those that a run repeats. */
static int64_t after(int64_t n) {
    return n < 5 ? n + 1 : 2 * n;
}

static void test_each_call_of_each_entry_may_fail(const way *w, int result, bool sticky) {
    int faults = 0;
    for (int i = 0; i < SYMBOLS; i++) {
        if (strncmp(symbols[i], "cuGetError", 10) == 0)
            continue;
        for (int64_t n = 1;; n = after(n)) {
            char what[128];
            snprintf(what, sizeof what, "%s, call %lld of %s %s %d", w->name, (long long)n, symbols[i], sticky ? "loses the card with" : "fails with", result);
            card->fail(symbols[i], n, result, sticky);
            if (!live_with_fault(w, symbols[i], sticky, what))
                break;
            faults++;
        }
    }
    card->fail(NULL, 0, 0, false);
    CHECK(faults > 80);
    printf("%s, %s %d: %d faults\n", w->name, sticky ? "lost with" : "failing with", result, faults);
}

static void test_any_launch_may_fail_on_the_card(const way *w) {
    int faults = 0;
    for (int64_t n = 1;; n = after(n)) {
        char what[128];
        snprintf(what, sizeof what, "%s, launch %lld fails", w->name, (long long)n);
        card->fail_kernel(n, WO_CU_LAUNCH_FAILED);
        if (!live_with_fault(w, "cuLaunchKernel", true, what))
            break;
        faults++;
    }
    card->fail_kernel(0, 0);
    CHECK(faults > 7);
    printf("%s: %d failing launches\n", w->name, faults);
}

/* --- what a step asks the driver for ---------------------------------------------------------------------------------------------- */

static const char *const forbidden[] = {"cuMemAlloc_v2", "cuMemFree_v2", "cuMemHostAlloc", "cuMemFreeHost", "cuMemHostRegister_v2", "cuMemHostUnregister",
                                        "cuStreamCreate", "cuStreamCreateWithPriority", "cuStreamDestroy_v2", "cuModuleLoadData", "cuModuleUnload",
                                        "cuModuleGetFunction", "cuDevicePrimaryCtxRetain", "cuMemGetInfo_v2", "cuStreamSynchronize"};

static void test_steps_allocate_register_and_make_nothing(const way *w) {
    static toy_result got;
    const uint64_t before = wo_memory_current();
    wo_policy policy = policy_of(w);
    wo_plan *plan;
    wo_exec *x;
    CHECK_OK(open_engine(), &err);
    CHECK_OK(toy_plan(engine, &model, &policy, &plan, &err), &err);
    CHECK_OK(wo_exec_open(engine, model.component, plan, &x, &err), &err);
    CHECK_OK(toy_passes(x, &model, &got, &err), &err); /* the first ones make the driver's events */
    card->reset();
    CHECK_OK(toy_passes(x, &model, &got, &err), &err);
    for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++)
        if (card->calls(forbidden[i]) > 0) {
            fprintf(stderr, "%s: a step calls %s\n", w->name, forbidden[i]);
            exit(1);
        }
    wo_exec_close(x, NULL);
    wo_plan_release(plan);
    close_engine();
    check_nothing_is_left(w->name, before);
}

int main(void) {
    card = fakecuda();
    wo_cuda_set_own_kernels_only(true);
    toy_write(toy_path(), NULL, NULL);
    CHECK_OK(toy_create(&model, toy_path(), WO_BF16, &err), &err);
    CHECK_OK(open_engine(), &err);
    CHECK_OK(run(&WAYS[0], &wanted), &err);
    close_engine();
    for (int i = 0; i < WAY_COUNT; i++)
        test_steps_allocate_register_and_make_nothing(&WAYS[i]);
    /* The first way calls nothing that the others, which have residents too, do not. */
    for (int i = UNDER_THREAD_SANITIZER || UNDER_ADDRESS_SANITIZER ? WAY_COUNT - 1 : 1; i < WAY_COUNT; i++)
        test_each_call_of_each_entry_may_fail(&WAYS[i], WO_CU_OUT_OF_MEMORY, false);
    for (int i = 0; i < WAY_COUNT; i++)
        test_any_launch_may_fail_on_the_card(&WAYS[i]);
    test_each_call_of_each_entry_may_fail(&WAYS[WAY_COUNT - 1], WO_CU_ECC_UNCORRECTABLE, true);
    wo_component_destroy(model.component);
    CHECK(wo_memory_current() == 0);
    unlink(toy_path());
    return 0;
}
