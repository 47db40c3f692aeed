/* Image to video under leaf level offloading with streams: the film that other software got wrong, with a list of layers that had never
 * run. Counted from outside, by wrapping the calls at link time, are the layers that a pass takes into use and the bytes that are read
 * from the file. Every layer must run as often as the dry run says and as the resident run does, every tensor must count for the result,
 * and norm_added_q, which is in published files and belongs to no layer that runs, must not be read at all. */
#include "tests/transformer_case.h"

#include <pthread.h>

enum { MOST_LAYERS = 256, MOST_BYTES = 1 << 20, REAL = 0, DRY = 1 };

static int uses[2][WO_TRANSFORMER_PASSES][MOST_LAYERS], runs[2][WO_TRANSFORMER_PASSES], running_pass;
static unsigned char was_read[MOST_BYTES]; /* by byte of the file */
static pthread_mutex_t reading = PTHREAD_MUTEX_INITIALIZER;

wo_status __real_wo_exec_use(wo_exec *x, const wo_layer *layer, const wo_tensor **params, wo_error *err);
wo_status __wrap_wo_exec_use(wo_exec *x, const wo_layer *layer, const wo_tensor **params, wo_error *err);
ssize_t __real_pread(int fd, void *dst, size_t bytes, off_t offset);
ssize_t __wrap_pread(int fd, void *dst, size_t bytes, off_t offset);

wo_status __wrap_wo_exec_use(wo_exec *x, const wo_layer *layer, const wo_tensor **params, wo_error *err) {
    CHECK(layer->index < MOST_LAYERS);
    uses[wo_exec_is_dry(x)][running_pass][layer->index]++;
    return __real_wo_exec_use(x, layer, params, err);
}

ssize_t __wrap_pread(int fd, void *dst, size_t bytes, off_t offset) {
    CHECK(offset >= 0 && (size_t)offset + bytes <= MOST_BYTES);
    pthread_mutex_lock(&reading);
    memset(was_read + offset, 1, bytes);
    pthread_mutex_unlock(&reading);
    return __real_pread(fd, dst, bytes, offset);
}

static wo_status counted_forward(const void *model, wo_exec *x, int pass, const void *request, wo_error *err) {
    running_pass = pass;
    runs[wo_exec_is_dry(x)][pass]++;
    return wo_transformer_forward(model, x, pass, request, err);
}

static wo_policy leaf_and_stream(wo_tier tier) {
    wo_policy policy = wo_policy_default();
    policy.level = WO_LEVEL_LEAF;
    policy.tier = tier;
    policy.use_stream = true;
    policy.knobs.cache_text = true;
    return policy;
}

static void run_counted(const network *n, wo_engine *engine, const wo_policy *policy, float *out, wo_report *report) {
    memset(uses, 0, sizeof uses);
    memset(runs, 0, sizeof runs);
    memset(was_read, 0, sizeof was_read);
    run_under(n, engine, policy, out, report);
}

/* How many bytes of the tensor were read from the file. */
static uint64_t bytes_read(const wo_entry *entry) {
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < entry->bytes; i++)
        bytes += was_read[entry->offset + i];
    return bytes;
}

/* Every layer was used as often as the dry run says, and read whole. */
static void check_all_layers_ran(const wo_component *c) {
    for (size_t i = 0; i < wo_component_layers(c); i++) {
        const wo_layer *layer = wo_component_layer(c, i);
        int of_layer = 0;
        for (int pass = 0; pass < WO_TRANSFORMER_PASSES; pass++) {
            CHECK(runs[DRY][pass] > 0 && runs[REAL][pass] == (pass == WO_TRANSFORMER_PREPARE ? 1 : CASE_STEPS));
            CHECK(uses[REAL][pass][i] * runs[DRY][pass] == uses[DRY][pass][i] * runs[REAL][pass]);
            of_layer += uses[REAL][pass][i];
        }
        if (of_layer == 0)
            fprintf(stderr, "layer %s never ran\n", layer->name);
        CHECK(of_layer > 0);
        for (int32_t k = 0; k < layer->params; k++)
            CHECK(bytes_read(layer->param[k].entry) == layer->param[k].entry->bytes);
    }
}

static void check_norm_added_q_is_left_alone(const wo_component *c, int blocks) {
    int found = 0;
    for (size_t i = 0; i < wo_component_layers(c); i++)
        CHECK(strstr(wo_component_layer(c, i)->name, "norm_added_q") == NULL);
    for (size_t i = 0; i < wo_component_unused(c); i++) {
        const wo_unused *unused = wo_component_unused_at(c, i);
        CHECK(ends_with(unused->name, ".attn2.norm_added_q.weight"));
        CHECK_CONTAINS(unused->reason, "image queries are not normalised");
        CHECK(bytes_read(wo_store_find(wo_component_store(c), unused->name)) == 0);
        found++;
    }
    CHECK(found == blocks);
}

static void test_every_layer_runs_and_nothing_else_is_read(bool cache) {
    static float wanted[MOST_OUTPUT], found[MOST_OUTPUT];
    static int resident_uses[WO_TRANSFORMER_PASSES][MOST_LAYERS];
    wo_transformer_config config = first_and_last_to_video();
    wo_transformer_request request = request_with_images();
    wo_policy policies[] = {wo_policy_default(), leaf_and_stream(WO_TIER_HOST), leaf_and_stream(WO_TIER_DISK)};
    wo_report report;
    list_transformer(&config);
    wo_store *store = open_file();
    wo_transformer *m = create_transformer(store, &config, WO_F32);
    network n = transformer_network("image to video", m, &request);
    n.forward = counted_forward;
    wo_engine *engine = open_engine();
    for (int i = 0; i < 3; i++) {
        policies[i].knobs.cache_text = cache;
        run_counted(&n, engine, &policies[i], i == 0 ? wanted : found, &report);
        if (i == 0)
            memcpy(resident_uses, uses[REAL], sizeof resident_uses);
        check_all_layers_ran(n.component);
        check_norm_added_q_is_left_alone(n.component, (int)config.num_layers);
        CHECK(memcmp(resident_uses, uses[REAL], sizeof resident_uses) == 0);
        CHECK(i == 0 || same_bits(&n, wanted, found));
        uint64_t visits = 0;
        for (int pass = 0; i > 0 && pass < WO_TRANSFORMER_PASSES; pass++)
            for (int layer = 0; layer < MOST_LAYERS; layer++)
                visits += (uint64_t)uses[REAL][pass][layer];
        CHECK(report.visits == visits);
    }
    close_engine(engine);
    wo_transformer_destroy(m);
    wo_store_release(store);
}

/* The output under leaf level and stream of the file as it is now. */
static void run_file(const wo_transformer_config *config, wo_engine *engine, float *out) {
    wo_transformer_request request = request_with_images();
    wo_policy policy = leaf_and_stream(WO_TIER_HOST);
    wo_report report;
    wo_store *store = open_file();
    wo_transformer *m = create_transformer(store, config, WO_F32);
    network n = transformer_network("image to video", m, &request);
    run_under(&n, engine, &policy, out, &report);
    wo_transformer_destroy(m);
    wo_store_release(store);
}

/* A layer that is used but not with its own weights would pass for one that runs: each tensor is changed in turn. */
static void test_every_tensor_counts_but_norm_added_q(void) {
    static float before[MOST_OUTPUT], after[MOST_OUTPUT];
    wo_transformer_config config = first_and_last_to_video();
    wo_engine *engine = open_engine();
    int of_images = 0;
    config.num_layers = 2;
    list_transformer(&config);
    run_file(&config, engine, before);
    for (int i = 0; i < model_file.tensors; i++) {
        const file_tensor *t = &model_file.tensor[i];
        bool counts = strstr(t->name, "norm_added_q") == NULL;
        float kept = model_file.values[t->first];
        model_file.values[t->first] += 0.5f;
        run_file(&config, engine, after);
        model_file.values[t->first] = kept;
        bool changed = memcmp(before, after, CASE_STEPS * CASE_VELOCITY * sizeof(float)) != 0;
        if (changed != counts)
            fprintf(stderr, "%s %s\n", t->name, changed ? "counts" : "does not count");
        CHECK(changed == counts);
        of_images += counts && (strstr(t->name, ".add_") != NULL || strstr(t->name, "norm_added_k") != NULL);
    }
    CHECK(of_images == 2 * 5);
    close_engine(engine);
}

int main(void) {
    wo_error err;
    fill_case();
    CHECK_OK(wo_cpu_set_threads(2, &err), &err);
    test_every_layer_runs_and_nothing_else_is_read(true);
    test_every_layer_runs_and_nothing_else_is_read(false);
    test_every_tensor_counts_but_norm_added_q();
    puts("model uses: ok");
    return 0;
}
