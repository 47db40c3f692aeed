/* 8-bit weights with and without a scale beside them: what a component makes of their files. The codes of every weight are the
 * bytes 0, 1, 2 ... behind the scale. */
#include "offload/component.h"
#include "tests/store_files.h"

#include "base/memory.h"

#include <math.h>

static wo_error err;

#define HEADER(scale, more)                                                                                            \
    "{\"x.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[4,3],\"data_offsets\":[4,16]}," scale more                         \
    "\"y.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[2],\"data_offsets\":[16,18]}}"
#define SCALE(dtype, shape, end) "\"x.scale_weight\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[0," end "]},"

static void put(const char *header, float scale) {
    unsigned char file[1024];
    const size_t length = strlen(header);
    CHECK(8 + length + 22 <= sizeof file);
    memset(file, 0, 8);
    file[0] = (unsigned char)(length & 255);
    file[1] = (unsigned char)(length >> 8);
    memcpy(file + 8, header, length);
    memcpy(file + 8 + length, &scale, 4);
    for (unsigned i = 0; i < 18; i++)
        file[8 + length + 4 + i] = (unsigned char)i;
    put_bytes("m.safetensors", file, 8 + length + 22);
}

static wo_component *make(void) {
    wo_store *store;
    wo_component *c;
    CHECK_OK(wo_store_open(in_folder("m.safetensors"), &store, &err), &err);
    CHECK_OK(wo_component_create("toy", store, &c, &err), &err);
    wo_store_release(store);
    return c;
}

static wo_status add(wo_component *c, const char *tensor, int rank, int64_t first_row, int64_t rows, const wo_layer **layer) {
    const wo_param_spec spec = {.tensor = tensor, .rank = rank, .shape = {rank == 2 ? 4 : 2, 3}, .dtype = WO_F32, .first_row = first_row, .rows = rows};
    return rank == 2 ? wo_component_add_table(c, tensor, &spec, layer, &err) : wo_component_add_layer(c, tensor, -1, &spec, 1, layer, &err);
}

static const char *reason_of(const wo_component *c, const char *name) {
    for (size_t i = 0; i < wo_component_unused(c); i++)
        if (strcmp(wo_component_unused_at(c, i)->name, name) == 0)
            return wo_component_unused_at(c, i)->reason;
    return NULL;
}

static void check_rows(const wo_component *c, const wo_layer *layer, float scale) {
    const int32_t rows[] = {3, 0};
    float out[6];
    CHECK_OK(wo_component_read_rows(c, layer, rows, 2, out, &err), &err);
    for (int i = 0; i < 6; i++)
        CHECK(out[i] == wo_f8_e4m3_to_f32((uint8_t)(i < 3 ? 9 + i : i - 3)) * scale);
}

static void codes_without_a_scale_are_the_weights(void) {
    const wo_layer *x, *y;
    put(HEADER("", ""), 5);
    wo_component *c = make();
    CHECK_OK(add(c, "x.weight", 2, 0, 0, &x), &err);
    CHECK_OK(add(c, "y.weight", 1, 0, 0, &y), &err);
    CHECK(!x->param[0].conversion.scaled && x->param[0].scale == NULL && y->bytes == 256);
    check_rows(c, x, 1);
    wo_component_destroy(c);
}

/* The scale counts as used wherever its weight is, also by two slices of it, and is never another weight's. */
static void a_scale_is_applied_to_its_own_weight_and_accounted_for(void) {
    static const char *const shapes[] = {"[]", "[1]", "[1,1]"};
    static const float scales[] = {0.0123f, 1, 0, -3e4f, 0x1p-100f};
    for (size_t i = 0; i < 5; i++) {
        char header[512];
        snprintf(header, sizeof header, HEADER(SCALE("F32", "%s", "4"), ""), shapes[i % 3]);
        put(header, scales[i]);
        const wo_layer *x, *y, *upper, *lower;
        wo_component *c = make();
        CHECK_OK(add(c, "x.weight", 2, 0, 0, &x), &err);
        CHECK_OK(add(c, "y.weight", 1, 0, 0, &y), &err);
        CHECK(x->param[0].conversion.scaled && x->param[0].conversion.scale == scales[i] && !y->param[0].conversion.scaled);
        check_rows(c, x, scales[i]);
        CHECK_OK(wo_component_seal(c, &err), &err);
        CHECK(wo_component_unused(c) == 0);
        wo_component_destroy(c);
        c = make();
        CHECK_OK(add(c, "x.weight", 2, 0, 1, &upper), &err);
        CHECK_OK(add(c, "x.weight", 2, 1, 3, &lower), &err);
        CHECK(lower->param[0].conversion.scale == scales[i] && upper->param[0].conversion.scaled);
        CHECK_OK(wo_component_seal(c, &err), &err);
        CHECK(wo_component_unused(c) == 1 && reason_of(c, "y.weight") != NULL);
        wo_component_destroy(c);
    }
}

static void what_else_such_files_hold_is_excused_with_a_reason(void) {
    const wo_layer *y;
    put(HEADER(SCALE("F32", "[]", "4"), "\"scaled_fp8\":{\"dtype\":\"F8_E4M3\",\"shape\":[0],\"data_offsets\":[18,18]},"
               "\"y.scale_input\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[18,22]},"), 1);
    wo_component *c = make();
    CHECK_OK(add(c, "y.weight", 1, 0, 0, &y), &err);
    CHECK_OK(wo_component_seal(c, &err), &err);
    CHECK(wo_component_unused(c) == 4);
    CHECK_CONTAINS(reason_of(c, "scaled_fp8"), "marks a file of scaled 8-bit weights");
    CHECK_CONTAINS(reason_of(c, "y.scale_input"), "8-bit operands");
    CHECK_CONTAINS(reason_of(c, "x.scale_weight"), "a weight that is not used");
    CHECK_CONTAINS(reason_of(c, "x.weight"), "not part of this model");
    wo_component_destroy(c);
}

static void refused(const char *header, float scale, const char *tensor, const char *message) {
    const wo_layer *x;
    put(header, scale);
    wo_component *c = make();
    CHECK_STATUS(add(c, "x.weight", 2, 0, 0, &x), WO_ECHECKPOINT);
    CHECK_CONTAINS(err.message, tensor);
    CHECK_CONTAINS(err.message, "'x.weight'");
    CHECK_CONTAINS(err.message, message);
    CHECK_CONTAINS(err.message, in_folder("m.safetensors"));
    CHECK_CONTAINS(err.message, "Use the same weights in");
    wo_component_destroy(c);
}

static void a_scale_that_cannot_be_applied_is_refused_by_name(void) {
    static const float wild[] = {NAN, INFINITY, -INFINITY, 0x1p101f, -0x1p101f, 0x1p-101f, 1e-45f};
    for (size_t i = 0; i < sizeof wild / sizeof *wild; i++)
        refused(HEADER(SCALE("F32", "[]", "4"), ""), wild[i], "'x.scale_weight'", "wanted 0 or a magnitude of");
    refused(HEADER(SCALE("BF16", "[2]", "4"), ""), 1, "'x.scale_weight'", "it is 4 bytes of BF16, wanted one float32");
    refused(HEADER(SCALE("F16", "[]", "2"), ""), 1, "'x.scale_weight'", "2 bytes of F16");
    refused(HEADER(SCALE("F32", "[0]", "0"), ""), 1, "'x.scale_weight'", "0 bytes of F32");
    refused(HEADER("", "\"x.weight_scale\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"), 1, "'x.weight_scale'", "only X.scale_weight");
    refused(HEADER("", "\"x.weight_scale_inv\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"), 1, "'x.weight_scale_inv'", "only X.scale_weight");
}

/* Such a weight would be multiplied by one program and not by another; 1 changes nothing and is let pass. */
static void a_scale_beside_a_wider_weight_is_refused_unless_it_is_one(void) {
    static const char header[] = "{\"x.weight\":{\"dtype\":\"F8_E5M2\",\"shape\":[4,3],\"data_offsets\":[4,16]},"
                                 "\"z.weight\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[18,22]},"
                                 "\"z.scale_weight\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}";
    const wo_layer *layer;
    put(header, 2);
    wo_component *c = make();
    CHECK_STATUS(add(c, "z.weight", 1, 0, 0, &layer), WO_ECHECKPOINT);
    CHECK_CONTAINS(err.message, "it is 2 beside a weight in BF16");
    CHECK_STATUS(add(c, "x.weight", 2, 0, 0, &layer), WO_ECHECKPOINT);
    CHECK_CONTAINS(err.message, "F8_E5M2");
    wo_component_destroy(c);
    put(header, 1);
    c = make();
    CHECK_OK(add(c, "z.weight", 1, 0, 0, &layer), &err);
    CHECK(!layer->param[0].conversion.scaled);
    CHECK_OK(wo_component_seal(c, &err), &err);
    CHECK(reason_of(c, "z.scale_weight") == NULL);
    wo_component_destroy(c);
}

static void a_scale_that_cannot_be_read_is_an_error_and_leaves_nothing_behind(void) {
    const wo_layer *x;
    put(HEADER(SCALE("F32", "[]", "4"), ""), 3);
    wo_component *c = make();
    wo_store_fail_at(1);
    CHECK_STATUS(add(c, "x.weight", 2, 0, 0, &x), WO_EOS);
    wo_store_fail_at(0);
    CHECK(wo_component_layers(c) == 0);
    wo_status status = WO_ENOMEMORY;
    for (int64_t n = 1; status == WO_ENOMEMORY; n++) {
        wo_memory_fail_at(n);
        status = add(c, "x.weight", 2, 0, 0, &x);
        wo_memory_fail_at(0);
    }
    CHECK_OK(status, &err);
    check_rows(c, x, 3);
    wo_component_destroy(c);
}

int main(void) {
    begin_folder();
    codes_without_a_scale_are_the_weights();
    a_scale_is_applied_to_its_own_weight_and_accounted_for();
    what_else_such_files_hold_is_excused_with_a_reason();
    a_scale_that_cannot_be_applied_is_refused_by_name();
    a_scale_beside_a_wider_weight_is_refused_unless_it_is_one();
    a_scale_that_cannot_be_read_is_an_error_and_leaves_nothing_behind();
    CHECK(wo_memory_current() == 0);
    end_folder();
    return 0;
}
