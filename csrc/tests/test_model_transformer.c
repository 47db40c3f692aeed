/* The WAN transformer with and without images, tiny and with random weights: it computes what the formulas say, and no plan changes a bit
 * of it. */
#include "tests/transformer_reference.h"

/* Relative error against the reference that each dtype may have. bfloat16 has 8 bits, float16 weights 11. */
static double tolerance(wo_dtype dtype) {
    return dtype == WO_F32 ? 1e-5 : dtype == WO_BF16 ? 3e-2 : 3e-3;
}

static void check_reference(const network *n, const wo_transformer_config *config, const float *found, wo_dtype dtype) {
    size_t outputs = n->outputs / CASE_STEPS;
    for (size_t i = 0; i < CASE_STEPS; i++) {
        double error = relative_error(found + i * outputs, reference_velocity(config, n->planning, case_timesteps[i]), outputs);
        if (!(error <= tolerance(dtype))) {
            fprintf(stderr, "%s, %s, step %zu: relative error %g\n", n->name, wo_dtype_name(dtype), i, error);
            exit(1);
        }
    }
}

static void test_every_plan_computes_the_formulas(const char *name, const wo_transformer_config *config, wo_dtype dtype) {
    list_transformer(config);
    wo_store *store = open_file();
    wo_transformer *m = create_transformer(store, config, dtype);
    wo_transformer_request request = config->image_dim > 0 ? request_with_images() : request_without_images();
    network n = transformer_network(name, m, &request);
    check_reference(&n, config, check_plans(&n), dtype);
    wo_transformer_destroy(m);
    wo_store_release(store);
}

/* More queries than are summed at a time. */
static void test_long_films_lose_no_row_of_the_sum(wo_dtype dtype) {
    enum { FRAMES = 3, SIDE = 38 };
    static float latents[CASE_IN * FRAMES * SIDE * SIDE], found[MOST_OUTPUT];
    wo_transformer_config config = image_to_video();
    wo_transformer_request request = request_with_images();
    fill_random(latents, sizeof latents / sizeof(float));
    config.num_layers = 1;
    request.batch = 1;
    request.frames = FRAMES;
    request.height = request.width = SIDE;
    request.latents = latents;
    list_transformer(&config);
    wo_store *store = open_file();
    wo_transformer *m = create_transformer(store, &config, dtype);
    network n = transformer_network("a long film", m, &request);
    run_resident(&n, found);
    check_reference(&n, &config, found, dtype);
    wo_transformer_destroy(m);
    wo_store_release(store);
}

static float first[MOST_OUTPUT], second[MOST_OUTPUT];

static void run_with(const wo_transformer *m, const wo_transformer_request *request, float *out) {
    network n = transformer_network("image to video", m, request);
    run_resident(&n, out);
}

/* Whether the velocities of the item are the same in both runs, in all steps. */
static bool same_item(int item) {
    for (int i = 0; i < CASE_STEPS; i++) {
        size_t at = (size_t)(i * CASE_VELOCITY + item * CASE_OUT * CASE_PIXELS);
        if (memcmp(first + at, second + at, CASE_OUT * CASE_PIXELS * sizeof(float)) != 0)
            return false;
    }
    return true;
}

static void test_items_see_the_image_that_is_theirs(void) {
    enum { EMBEDDING = CASE_IMAGE_ROWS * CASE_IMAGE_DIM };
    static float embeds[CASE_IMAGES * EMBEDDING];
    static const int32_t in_order[CASE_BATCH] = {0, 1}, all_first[CASE_BATCH] = {0, 0};
    wo_transformer_config config = image_to_video();
    list_transformer(&config);
    wo_store *store = open_file();
    wo_transformer *m = create_transformer(store, &config, WO_F32);
    wo_transformer_request request = request_with_images();
    run_with(m, &request, first);

    memcpy(embeds, case_embeds + EMBEDDING, EMBEDDING * sizeof(float));
    memcpy(embeds + EMBEDDING, case_embeds, EMBEDDING * sizeof(float));
    request.images.embeds = embeds;
    request.images.of = in_order;
    run_with(m, &request, second);
    CHECK(same_item(0) && same_item(1)); /* the same images by other numbers */
    embeds[EMBEDDING] += 0.5f;
    run_with(m, &request, second);
    CHECK(same_item(0) && !same_item(1)); /* only the second item sees the second image */

    request.images.count = 1;
    request.images.of = all_first;
    run_with(m, &request, first);
    memcpy(embeds + EMBEDDING, embeds, EMBEDDING * sizeof(float));
    request.images.count = 2;
    request.images.of = in_order;
    run_with(m, &request, second);
    CHECK(same_item(0) && same_item(1)); /* one image for both is the image twice */
    wo_transformer_destroy(m);
    wo_store_release(store);
}

/* The same file read as a network without images leaves the image layers out; without images given, so must the other. */
static void test_without_images_the_text_alone_is_seen(void) {
    wo_transformer_config config = image_to_video();
    wo_transformer_request request = request_without_images();
    list_transformer(&config);
    wo_store *store = open_file();
    wo_transformer *with = create_transformer(store, &config, WO_F32), *without = create_transformer(store, &text_to_video, WO_F32);
    CHECK(wo_component_layers(wo_transformer_component(with)) == wo_component_layers(wo_transformer_component(without)) + 4 + 3 * 3);
    run_with(with, &request, first);
    run_with(without, &request, second);
    CHECK(same_item(0) && same_item(1));
    network n = transformer_network("image to video without images", with, &request);
    CHECK(memcmp(check_plans(&n), first, n.outputs * sizeof(float)) == 0);
    wo_transformer_destroy(with);
    wo_transformer_destroy(without);
    wo_store_release(store);
}

/* Bytes of activations of a plan for the device, of a network held in the dtype. */
static size_t planned_activations(const char *device_name, wo_dtype dtype) {
    wo_policy policy = wo_policy_default();
    wo_transformer_request request = request_without_images();
    wo_plan_summary summary;
    wo_device *device;
    wo_plan *plan;
    wo_error err;
    list_transformer(&text_to_video);
    wo_store *store = open_file();
    wo_transformer *m = create_transformer(store, &text_to_video, dtype);
    network n = transformer_network("planned", m, &request);
    CHECK_OK(wo_device_open(device_name, &device, &err), &err);
    CHECK_OK(wo_plan_make(n.component, n.model, n.forward, n.passes, n.planning, device, &policy, &plan, &err), &err);
    wo_plan_summarize(plan, &summary);
    wo_plan_release(plan);
    wo_device_close(device);
    wo_transformer_destroy(m);
    wo_store_release(store);
    return summary.activation_bytes;
}

/* float16 operands are as long as bfloat16 ones where the device multiplies them, and elsewhere they are float32. */
static void test_float16_is_planned_in_the_dtype_that_the_device_computes_in(void) {
    CHECK(planned_activations("cpu", WO_F16) > planned_activations("cpu", WO_BF16));
#ifdef WO_HAVE_CUDA
    size_t bytes = planned_activations("cuda:rtx4090", WO_F16);
    CHECK(bytes == planned_activations("cuda:rtx4090", WO_BF16) && bytes < planned_activations("cuda:rtx4090", WO_F32));
#endif
}

static void check_refused(const wo_transformer *m, const wo_transformer_request *request, const char *part, const char *other) {
    network n = transformer_network("refused", m, request);
    wo_engine *engine = open_engine();
    wo_policy policy = wo_policy_default();
    wo_plan *plan;
    wo_error err;
    CHECK_STATUS(wo_plan_make(n.component, n.model, n.forward, n.passes, request, wo_engine_device(engine), &policy, &plan, &err), WO_EVALUE);
    CHECK_CONTAINS(err.message, part);
    CHECK_CONTAINS(err.message, other);
    close_engine(engine);
}

static void test_wrong_images_are_named(void) {
    static const int32_t outside[CASE_BATCH] = {0, 2};
    wo_transformer_config config = first_and_last_to_video();
    wo_transformer_request request = request_with_images();
    wo_transformer *refused;
    wo_error err;
    list_transformer(&config);
    wo_store *store = open_file();
    wo_transformer *m = create_transformer(store, &config, WO_F32), *without = create_transformer(store, &text_to_video, WO_F32);
    check_refused(without, &request, "takes none", "image_dim");
    request.images.rows = 5;
    check_refused(m, &request, "has 5 rows", "has 9");
    request.images.rows = CASE_IMAGE_ROWS;
    request.images.of = outside;
    check_refused(m, &request, "item 1 attends to image embedding 2", "there are 2");
    request.images.count = 0;
    check_refused(m, &request, "0 image embeddings of 9 rows", "between 1 and");
    config.image_dim = 0;
    CHECK_STATUS(wo_transformer_create(store, &config, WO_F32, &refused, &err), WO_EVALUE);
    CHECK_CONTAINS(err.message, "pos_embed_seq_len of the configuration is 9");
    config.image_dim = CASE_IMAGE_DIM + 1;
    CHECK_STATUS(wo_transformer_create(store, &config, WO_F32, &refused, &err), WO_ECHECKPOINT);
    CHECK_CONTAINS(err.message, "condition_embedder.image_embedder.pos_embed");
    wo_transformer_destroy(m);
    wo_transformer_destroy(without);
    wo_store_release(store);
}

int main(void) {
    wo_transformer_config image = image_to_video(), first_and_last = first_and_last_to_video();
    fill_case();
    for (wo_dtype dtype = WO_F32; dtype <= WO_F16; dtype++) {
        test_every_plan_computes_the_formulas("text to video", &text_to_video, dtype);
        test_every_plan_computes_the_formulas("image to video", &image, dtype);
        test_every_plan_computes_the_formulas("first and last frame to video", &first_and_last, dtype);
        test_long_films_lose_no_row_of_the_sum(dtype);
    }
    test_items_see_the_image_that_is_theirs();
    test_without_images_the_text_alone_is_seen();
    test_float16_is_planned_in_the_dtype_that_the_device_computes_in();
    test_wrong_images_are_named();
    puts("transformer: ok");
    return 0;
}
