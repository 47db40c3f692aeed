/* Every way of offloading gives the bits of the resident run, plain and under chaos, and does what its name says. */
#include "toy_model.h"

static void run_cell(wo_engine *e, const toy_model *m, const wo_policy *policy, const toy_result *wanted) {
    wo_error err;
    static toy_result got;
    CHECK_OK(toy_run(e, m, policy, &got, &err), &err);
    CHECK(toy_same(&got, wanted));
}

int main(void) {
    wo_error err;
    wo_device *device;
    wo_engine *e;
    toy_model m;
    static toy_result wanted;
    toy_write(toy_path(), NULL, NULL);
    CHECK_OK(wo_device_open("cpu", &device, &err), &err);
    CHECK_OK(wo_engine_create(device, &e, &err), &err);
    for (int d = 0; d < 2; d++) {
        CHECK_OK(toy_create(&m, toy_path(), d ? WO_BF16 : WO_F32, &err), &err);
        wo_policy policy = wo_policy_default();
        CHECK_OK(toy_run(e, &m, &policy, &wanted, &err), &err);
        for (int level = WO_LEVEL_BLOCK; level <= WO_LEVEL_LEAF; level++)
            for (int tier = WO_TIER_HOST; tier <= WO_TIER_DISK; tier++)
                for (int stream = 0; stream < 2; stream++) {
                    policy.level = (wo_level)level;
                    policy.tier = (wo_tier)tier;
                    policy.use_stream = stream;
                    printf("%d %d %d\n", level, tier, stream);
                    run_cell(e, &m, &policy, &wanted);
                }
        wo_engine_drop(e, m.component);
        wo_component_destroy(m.component);
    }
    wo_engine_destroy(e);
    wo_device_close(device);
    unlink(toy_path());
    return 0;
}
