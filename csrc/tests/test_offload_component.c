/* A component accounts for every tensor of its checkpoint, lays layers out, and names what is wrong. */
#include "toy_model.h"

static wo_error err;

static const wo_unused *find_unused(const wo_component *c, const char *name) {
    for (size_t i = 0; i < wo_component_unused(c); i++)
        if (strcmp(wo_component_unused_at(c, i)->name, name) == 0)
            return wo_component_unused_at(c, i);
    return NULL;
}

static void test_layers_lie_as_they_are_used(void) {
    toy_model m;
    CHECK_OK(toy_create(&m, toy_path(), WO_BF16, &err), &err);
    CHECK(wo_component_layers(m.component) == 4 + 5 * TOY_BLOCKS && wo_component_blocks(m.component) == TOY_BLOCKS);
    CHECK(strcmp(wo_component_block_name(m.component, 3), "blocks.3") == 0);
    const wo_layer *conv = m.block[2].conv, *up = m.block[2].up;
    const int64_t taps_outside[5] = {TOY_D, 1, 2, 3, TOY_D / TOY_TAPS};
    CHECK(conv->block == 2 && conv->param[0].shape_of_use.rank == 5);
    CHECK(memcmp(conv->param[0].shape_of_use.shape, taps_outside, sizeof taps_outside) == 0);
    CHECK(up->params == 2 && up->param[0].slab_offset == 0 && up->param[1].slab_offset == 2 * TOY_H * TOY_D);
    CHECK(up->bytes % 256 == 0 && up->param[1].slab_offset % 256 == 0);
    CHECK(up->bytes == 2 * TOY_H * TOY_D + (4 * TOY_H + 255) / 256 * 256);
    size_t sum = 0;
    for (size_t i = 0; i < wo_component_layers(m.component); i++)
        if (wo_component_layer(m.component, i) != m.table)
            sum += wo_component_layer(m.component, i)->bytes;
    CHECK(wo_component_bytes(m.component) == sum && m.table->read_by_row);
    wo_component_destroy(m.component);
}

static void test_every_tensor_is_claimed_or_listed(void) {
    toy_model m;
    CHECK_OK(toy_create(&m, toy_path(), WO_F32, &err), &err);
    CHECK(wo_component_unused(m.component) == 3);
    CHECK(strcmp(find_unused(m.component, "extra.weight")->reason, "not part of this model") == 0);
    CHECK(strcmp(find_unused(m.component, "head.weight[96:192]")->reason, "the lower half") == 0);
    CHECK(find_unused(m.component, "head.bias[96:192]") != NULL);
    wo_component_destroy(m.component);
}

static void test_wrong_tensors_are_named(void) {
    toy_model m;
    char path[80];
    snprintf(path, sizeof path, "%s.wrong", toy_path());
    toy_write(path, "blocks.3.up.weight", NULL);
    CHECK_STATUS(toy_create(&m, path, WO_F32, &err), WO_ECHECKPOINT);
    CHECK_CONTAINS(err.message, "blocks.3.up.weight");
    CHECK_CONTAINS(err.message, "wanted [160, 96]");
    CHECK_CONTAINS(err.message, path);
    CHECK(strcmp(err.path, path) == 0);
    toy_write(path, NULL, "blocks.3.up.weight");
    CHECK_STATUS(toy_create(&m, path, WO_F32, &err), WO_ECHECKPOINT);
    CHECK_CONTAINS(err.message, "blocks.3.up.weight");
    CHECK_CONTAINS(err.message, "wanted [160, 96], found [96, 160]");
    CHECK_CONTAINS(err.message, path);
    unlink(path);
}

/* A component over the toy file with nothing in it yet. */
static wo_component *empty_component(void) {
    wo_store *store;
    wo_component *c;
    CHECK_OK(wo_store_open(toy_path(), &store, &err), &err);
    CHECK_OK(wo_component_create("empty", store, &c, &err), &err);
    wo_store_release(store);
    return c;
}

static void test_rows_have_one_owner(void) {
    wo_component *c = empty_component();
    const wo_layer *layer;
    wo_param_spec upper = {.tensor = "head.weight", .rank = 2, .shape = {2 * TOY_D, TOY_D}, .dtype = WO_F32, .rows = TOY_D};
    wo_param_spec lower = upper, middle = upper;
    lower.first_row = TOY_D;
    middle.first_row = TOY_D / 2;
    CHECK_OK(wo_component_add_layer(c, "upper", -1, &upper, 1, &layer, &err), &err);
    CHECK_STATUS(wo_component_add_layer(c, "middle", -1, &middle, 1, &layer, &err), WO_EINTERNAL);
    CHECK_CONTAINS(err.message, "'upper'");
    CHECK_CONTAINS(err.message, "'middle'");
    CHECK_OK(wo_component_add_layer(c, "lower", -1, &lower, 1, &layer, &err), &err);
    lower.rows = TOY_D + 1;
    CHECK_STATUS(wo_component_add_layer(c, "below", -1, &lower, 1, &layer, &err), WO_EINTERNAL);
    CHECK_CONTAINS(err.message, "rows 96 to 193");
    CHECK_OK(wo_component_seal(c, &err), &err);
    CHECK(find_unused(c, "head.weight") == NULL && find_unused(c, "head.bias") != NULL);
    CHECK_STATUS(wo_component_add_layer(c, "late", -1, &middle, 1, &layer, &err), WO_EINTERNAL);
    wo_component_destroy(c);
}

static void test_rows_of_a_table_are_read_and_converted(void) {
    enum { COUNT = 4 };
    const int32_t ids[COUNT] = {99, 0, 7, 7}, beyond = 100;
    static float whole[100 * TOY_D];
    static uint16_t rows[COUNT * TOY_D];
    toy_model m;
    CHECK_OK(toy_create(&m, toy_path(), WO_BF16, &err), &err);
    const wo_entry *entry = m.table->param[0].entry;
    CHECK_OK(wo_store_read(wo_component_store(m.component), entry->file, entry->offset, sizeof whole, whole, &err), &err);
    CHECK_OK(wo_component_read_rows(m.component, m.table, ids, COUNT, rows, &err), &err);
    for (int i = 0; i < COUNT; i++)
        for (int k = 0; k < TOY_D; k++)
            CHECK(rows[i * TOY_D + k] == wo_f32_to_bf16(whole[ids[i] * TOY_D + k]));
    CHECK_STATUS(wo_component_read_rows(m.component, m.table, &beyond, 1, rows, &err), WO_EVALUE);
    CHECK_CONTAINS(err.message, "row 100 of 'table.weight'");
    wo_component_destroy(m.component);
}

static void test_no_memory_while_declaring_leaves_nothing_behind(void) {
    const uint64_t before = wo_memory_current();
    toy_model m;
    int64_t n = 0;
    wo_status status;
    do {
        wo_memory_fail_at(++n);
        status = toy_create(&m, toy_path(), WO_F32, &err);
        wo_memory_fail_at(0);
        CHECK(status == WO_OK || (status == WO_ENOMEMORY && wo_memory_current() == before));
    } while (status != WO_OK);
    CHECK(n > 60);
    wo_component_destroy(m.component);
    CHECK(wo_memory_current() == before);
}

int main(void) {
    toy_write(toy_path(), NULL, NULL);
    test_layers_lie_as_they_are_used();
    test_every_tensor_is_claimed_or_listed();
    test_wrong_tensors_are_named();
    test_rows_have_one_owner();
    test_rows_of_a_table_are_read_and_converted();
    test_no_memory_while_declaring_leaves_nothing_behind();
    unlink(toy_path());
    return 0;
}
