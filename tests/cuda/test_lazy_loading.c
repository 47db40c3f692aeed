/* The driver may load a kernel when it is first launched, and wait for everything that the card was given before it does. By then the stream of
 * transfers may stand in a host function that waits for a reader, and the readers for room in a ring that its copies make. Nothing of it may wait for
 * the thread that launches: every plan comes to an end, with the same bits. The card is made anew for each, so that each loads everything. */
#include "toy_on_card.h"
#include "tests/toy_model.h"

enum { MOST_SECONDS = 300 }; /* then it hangs */

static void run_on_a_new_card(const toy_model *m, const wo_policy *policy, toy_result *out) {
    wo_device *device;
    wo_engine *e;
    wo_error err;
    CHECK_OK(wo_device_open(TOY_DEVICE, &device, &err), &err);
    CHECK_OK(wo_engine_create(device, &e, &err), &err);
    CHECK_OK(toy_run(e, m, policy, out, &err), &err);
    wo_engine_drop(e, NULL);
    wo_engine_destroy(e);
    wo_device_close(device);
}

static wo_policy policy_of(int variant) {
    wo_policy policy = wo_policy_default();
    policy.level = variant & 1 ? WO_LEVEL_LEAF : WO_LEVEL_BLOCK;
    policy.blocks_per_group = 1;
    policy.tier = variant & 2 ? WO_TIER_DISK : WO_TIER_HOST;
    policy.use_stream = true;
    return policy;
}

static void test_loading_kernels_late_hangs_nothing(const toy_model *m) {
    static toy_result wanted, got;
    const wo_policy resident = wo_policy_default();
    run_on_a_new_card(m, &resident, &wanted);
    for (int variant = 0; variant < 4; variant++)
        for (uint64_t seed = 0; seed < 3; seed++) {
            const wo_policy policy = policy_of(variant);
            fakecuda()->reset();
            fakecuda()->set_seed(seed, 1e-4 * (double)seed);
            fakecuda()->set_lazy(true);
            run_on_a_new_card(m, &policy, &got);
            CHECK(toy_same(&got, &wanted));
            CHECK(fakecuda()->late_loads() > 0 && fakecuda()->misuses() == 0);
        }
}

int main(void) {
    toy_model m;
    wo_error err;
    toy_write(toy_path(), NULL, NULL);
    CHECK_OK(toy_create(&m, toy_path(), WO_BF16, &err), &err);
    alarm(MOST_SECONDS);
    test_loading_kernels_late_hangs_nothing(&m);
    wo_component_destroy(m.component);
    unlink(toy_path());
    return 0;
}
