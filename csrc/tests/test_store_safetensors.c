/* Headers of safetensors files: what they hold when they are good, and that each way of being bad is refused by name. */
#include "base/memory.h"
#include "store/store.h"
#include "tests/store_files.h"

static wo_error err;

static wo_store *open_good(const char *name) {
    wo_store *store;
    CHECK_OK(wo_store_open(in_folder(name), &store, &err), &err);
    return store;
}

static void tensors_come_in_order_of_name_with_their_places(void) {
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"pt\",\"deep\":[1,{\"x\":null}]},"
        "\"b.weight\":{\"dtype\":\"BF16\",\"shape\":[3,2],\"data_offsets\":[5,17]},"
        "\"a.\\u0062ias\":{\"shape\":[],\"data_offsets\":[1,5],\"dtype\":\"F32\",\"extra\":{\"ignored\":[true]}},"
        "\"c\":{\"dtype\":\"F64\",\"shape\":[1,1,1,1,1],\"data_offsets\":[20,28]},"
        "\"empty\":{\"dtype\":\"F16\",\"shape\":[4,0,7],\"data_offsets\":[17,17]},"
        "\"h\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[17,19]},"
        "\"o\":{\"dtype\":\"F8_E4M3\",\"shape\":[3,3],\"data_offsets\":[29,38]}}   ";
    put_safetensors("m.safetensors", header, 40);
    wo_store *store = open_good("m.safetensors");
    static const struct {
        const char *name, *at_rest;
        wo_dtype dtype;
        int32_t rank;
        int64_t shape[WO_MAX_RANK];
        uint64_t begin, bytes;
    } rows[] = {
        {"a.bias", "F32", WO_F32, 0, {1, 1, 1, 1, 1}, 1, 4},  {"b.weight", "BF16", WO_BF16, 2, {3, 2, 1, 1, 1}, 5, 12},
        {"c", "F64", WO_F64, 5, {1, 1, 1, 1, 1}, 20, 8},      {"empty", "F16", WO_F16, 3, {4, 0, 7, 1, 1}, 17, 0},
        {"h", "F16", WO_F16, 1, {1, 1, 1, 1, 1}, 17, 2},      {"o", "F8_E4M3", WO_F8_E4M3, 2, {3, 3, 1, 1, 1}, 29, 9},
    };
    CHECK(wo_store_count(store) == 6 && wo_store_files(store) == 1);
    CHECK(wo_store_bytes(store) == 8 + sizeof header - 1 + 40);
    CHECK(strcmp(wo_store_file_path(store, 0), in_folder("m.safetensors")) == 0);
    for (size_t i = 0; i < 6; i++) {
        const wo_entry *e = wo_store_at(store, i);
        CHECK(strcmp(e->name, rows[i].name) == 0 && wo_store_find(store, rows[i].name) == e);
        CHECK(e->dtype == rows[i].dtype && strcmp(e->dtype_at_rest, rows[i].at_rest) == 0 && e->rank == rows[i].rank);
        CHECK(memcmp(e->shape, rows[i].shape, sizeof e->shape) == 0 && e->skipped == NULL && e->file == 0);
        CHECK(e->offset == 8 + sizeof header - 1 + rows[i].begin && e->bytes == rows[i].bytes);
        unsigned char data[16];
        CHECK_OK(wo_store_read(store, e->file, e->offset, e->bytes, data, &err), &err);
        for (size_t k = 0; k < e->bytes; k++)
            CHECK(data[k] == rows[i].begin + k);
    }
    CHECK(wo_store_find(store, "") == NULL && wo_store_find(store, "zzz") == NULL && wo_store_find(store, "b") == NULL);
    wo_store_release(store);
    put_safetensors("none.safetensors", "{}", 0);
    store = open_good("none.safetensors");
    CHECK(wo_store_count(store) == 0 && wo_store_find(store, "a") == NULL);
    wo_store_release(store);
}

static void what_cannot_be_computed_with_is_listed_with_the_reason(void) {
    static const struct {
        const char *at_rest, *shape, *reason;
        wo_dtype dtype;
        unsigned bytes;
    } rows[] = {
        {"I64", "[2]", "dtype int64 is not a weight", WO_I64, 16},    {"I32", "[2]", "int32", WO_I32, 8},
        {"I16", "[2]", "int16", WO_I16, 4},                           {"I8", "[2]", "int8", WO_I8, 2},
        {"U8", "[2]", "uint8", WO_U8, 2},                             {"BOOL", "[2]", "bool", WO_BOOL, 2},
        {"U16", "[2]", "uint16", WO_DTYPE_COUNT, 4},                  {"F8_E8M0", "[2]", "F8_E8M0", WO_DTYPE_COUNT, 2},
        {"F8_E5M2", "[2]", "F8_E5M2", WO_DTYPE_COUNT, 2},             {"F4", "[2,3]", "F4", WO_DTYPE_COUNT, 3},
        {"F6_E2M3", "[4]", "F6_E2M3", WO_DTYPE_COUNT, 3},             {"C64", "[1]", "complex64", WO_DTYPE_COUNT, 8},
        {"Q4_K", "[999]", "not known", WO_DTYPE_COUNT, 5},            {"F32", "[1,1,1,1,1,2]", "more than 5 axes", WO_F32, 8},
        {"F32", "[1,1,1,1,1,0]", "more than 5 axes", WO_F32, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char header[300];
        snprintf(header, sizeof header, "{\"t\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[0,%u]}}", rows[i].at_rest, rows[i].shape, rows[i].bytes);
        put_safetensors("m.safetensors", header, 16);
        wo_store *store = open_good("m.safetensors");
        const wo_entry *e = wo_store_find(store, "t");
        CHECK(e != NULL && e->skipped != NULL && e->dtype == rows[i].dtype && e->rank <= WO_MAX_RANK && e->bytes == rows[i].bytes);
        CHECK(strcmp(e->dtype_at_rest, rows[i].at_rest) == 0);
        CHECK_CONTAINS(e->skipped, rows[i].reason);
        wo_store_release(store);
    }
}

/* One tensor "t" of [2, 3] float32 in 24 bytes of data; each row replaces its object or the whole header. */
static const struct {
    const char *object, *message;
} BAD_OBJECTS[] = {
    {"{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,23]}", "has 23 bytes, but its shape has 6 elements of dtype F32"},
    {"{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,25]}", "only 24 bytes follow the header"},
    {"{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[4,28]}", "data_offsets [4, 28], but only 24"},
    {"{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[24,0]}", "[24, 0], which run backwards"},
    {"{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,18446744073709551615]}", "only 24 bytes"},
    {"{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[18446744073709551592,18446744073709551615]}", "only 24 bytes"},
    {"{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,18446744073709551616]}", "2^64"},
    {"{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[-1,24]}", "whole number without a sign"},
    {"{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0.0,24]}", "whole number"},
    {"{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0]}", "1 data_offsets"},
    {"{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[]}", "0 data_offsets"},
    {"{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24,24]}", "more than two data_offsets"},
    {"{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":{}}", "array was expected"},
    {"{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":null}", "array was expected"},
    {"{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,24]}", "4 elements"},
    {"{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,24]}", "1 elements"},
    {"{\"dtype\":\"F32\",\"shape\":[0,3],\"data_offsets\":[0,24]}", "0 elements"},
    {"{\"dtype\":\"F32\",\"shape\":[6,-1],\"data_offsets\":[0,24]}", "whole number"},
    {"{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,24]}", "multiply to more than can be addressed (axis 1 is 4294967296)"},
    {"{\"dtype\":\"F32\",\"shape\":[2305843009213693952,4],\"data_offsets\":[0,24]}", "multiply to more"},
    {"{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4,6],\"data_offsets\":[0,24]}", "multiply to more"},
    {"{\"dtype\":\"F32\",\"shape\":[4294967296,0,4294967296],\"data_offsets\":[0,0]}", "multiply to more"},
    {"{\"dtype\":\"F32\",\"shape\":[18446744073709551615],\"data_offsets\":[0,24]}", "multiply to more"},
    {"{\"dtype\":\"F32\",\"shape\":6,\"data_offsets\":[0,24]}", "array was expected"},
    {"{\"dtype\":\"F32\",\"shape\":[[2,3]],\"data_offsets\":[0,24]}", "whole number"},
    {"{\"dtype\":\"F8_E4M3\",\"shape\":[23],\"data_offsets\":[0,24]}", "has 24 bytes, but its shape has 23 elements of dtype F8_E4M3 (8 bits each)"},
    {"{\"dtype\":\"F8_E4M3\",\"shape\":[5,5],\"data_offsets\":[0,24]}", "25 elements"},
    {"{\"dtype\":\"F8_E4M3\",\"shape\":[25],\"data_offsets\":[0,25]}", "only 24 bytes"},
    {"{\"dtype\":\"F8_E4M3\",\"shape\":[9223372036854775807,2],\"data_offsets\":[0,24]}", "multiply to more"},
    {"{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}", "4 bits each"},
    {"{\"dtype\":\"I64\",\"shape\":[2,3],\"data_offsets\":[0,24]}", "dtype I64 (64 bits each)"},
    {"{\"dtype\":32,\"shape\":[2,3],\"data_offsets\":[0,24]}", "string was expected"},
    {"{\"shape\":[2,3],\"data_offsets\":[0,24]}", "lacks the field dtype"},
    {"{\"dtype\":\"F32\",\"data_offsets\":[0,24]}", "lacks the field shape"},
    {"{\"dtype\":\"F32\",\"shape\":[2,3]}", "lacks the field data_offsets"},
    {"{}", "lacks the field"},
    {"{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}", "field dtype twice"},
    {"{\"dtype\":\"F32\",\"shape\":[2,3],\"shape\":[2,3],\"data_offsets\":[0,24]}", "field shape twice"},
    {"{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24],\"data_offsets\":[0,24]}", "field data_offsets twice"},
    {"{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24],}", "string was expected"},
    {"[]", "object was expected"},
    {"\"t\"", "object was expected"},
};

static const struct {
    const char *header, *message;
} BAD_HEADERS[] = {
    {"[]", "object was expected"},
    {"{}}", "something follows the end"},
    {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", "\"t\" stands twice"},
    {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"\\u0074\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", "\"t\" stands twice"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[7,15]}}", "\"b\" shares bytes"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", "shares bytes"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[6],\"data_offsets\":[0,24]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[8,10]}}", "\"b\" shares bytes"},
    {"{\"a\":{\"dtype\":\"?\",\"shape\":[6],\"data_offsets\":[0,24]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[23,25]}}", "only 24 bytes"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", "__metadata__ twice"},
    {"{\"__metadata__\":{\"a\"}}", "':' was expected"},
    {"{\"a\\u0000b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", "NUL"},
};

static void refused(const char *header, const char *message) {
    wo_store *store = (wo_store *)&err;
    put_safetensors("m.safetensors", header, 24);
    if (wo_store_open(in_folder("m.safetensors"), &store, &err) != WO_ECHECKPOINT) {
        fprintf(stderr, "taken: %s\n", header);
        exit(1);
    }
    CHECK(store == NULL && wo_memory_current() == 0);
    CHECK_CONTAINS(err.message, message);
    CHECK_CONTAINS(err.message, in_folder("m.safetensors"));
    CHECK(strcmp(err.path, in_folder("m.safetensors")) == 0);
}

static void every_bad_field_is_refused_by_name(void) {
    for (size_t i = 0; i < sizeof BAD_OBJECTS / sizeof *BAD_OBJECTS; i++) {
        char header[400];
        snprintf(header, sizeof header, "{\"ok\":{\"dtype\":\"F16\",\"shape\":[0],\"data_offsets\":[3,3]},\"t\":%s}", BAD_OBJECTS[i].object);
        refused(header, BAD_OBJECTS[i].message);
    }
    for (size_t i = 0; i < sizeof BAD_HEADERS / sizeof *BAD_HEADERS; i++)
        refused(BAD_HEADERS[i].header, BAD_HEADERS[i].message);
}

/* The file's first bytes as they come, and what the message has to say. */
static void every_bad_beginning_is_refused(void) {
    static const struct {
        const char *bytes;
        size_t count;
        const char *message;
    } rows[] = {
        {"", 0, "0 bytes, too few"},
        {"\2\0\0\0\0\0\0", 7, "7 bytes, too few"},
        {"\0\0\0\0\0\0\0\0", 8, "header would have 0 bytes"},
        {"\1\0\0\0\0\0\0\0{", 9, "header would have 1 bytes"},
        {"\3\0\0\0\0\0\0\0{}", 10, "header would have 3 bytes, the file has 10"},
        {"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF{}", 10, "18446744073709551615"},
        {"\xF8\xFF\xFF\xFF\xFF\xFF\xFF\xFF{}", 10, "18446744073709551608"},
        {"\0\0\0\0\1\0\0\0{}", 10, "4294967296"},
        {"PK\3\4 and more of an archive", 27, "PyTorch archive"},
        {"version https://git-lfs.github.com/spec/v1\n", 43, "Git LFS pointer"},
        {"<!DOCTYPE html><html></html>", 28, "web page"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        wo_store *store;
        put_bytes("m.safetensors", rows[i].bytes, rows[i].count);
        CHECK_STATUS(wo_store_open(in_folder("m.safetensors"), &store, &err), WO_ECHECKPOINT);
        CHECK_CONTAINS(err.message, rows[i].message);
        CHECK(wo_memory_current() == 0);
    }
    put_bytes("big.safetensors", "\1\xE1\xF5\5\0\0\0\0{}", 10); /* one byte above the limit, in a file that would have room for it */
    CHECK(truncate(in_folder("big.safetensors"), 200000000) == 0);
    wo_store *store;
    CHECK_STATUS(wo_store_open(in_folder("big.safetensors"), &store, &err), WO_ECHECKPOINT);
    CHECK_CONTAINS(err.message, "100000001 bytes, the file has 200000000 and the limit is 100000000");
}

/* Whatever one byte of a good header is changed to, opening answers, and what it takes stays inside the file. */
static void no_changed_byte_of_a_header_escapes_the_checks(void) {
    static const char header[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},\"b\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[24,32]}}";
    static const char tries[] = "\0\1 \"{}[]:,.-+eE0192345678abF\\/\x7F\x80\xC3\xFF";
    unsigned taken = 0, turned_away = 0;
    for (size_t i = 0; i < sizeof header - 1; i++) {
        for (size_t t = 0; t < sizeof tries - 1; t++) {
            char changed[sizeof header];
            wo_store *store;
            memcpy(changed, header, sizeof header);
            changed[i] = tries[t];
            put_safetensors_bytes("m.safetensors", changed, sizeof header - 1, 32);
            wo_status status = wo_store_open(in_folder("m.safetensors"), &store, &err);
            CHECK(status == WO_OK || (status == WO_ECHECKPOINT && err.message[0] != '\0'));
            for (size_t e = 0; status == WO_OK && e < wo_store_count(store); e++) {
                const wo_entry *entry = wo_store_at(store, e);
                uint64_t end = entry->offset + entry->bytes;
                CHECK(entry->offset >= 8 + sizeof header - 1 && end >= entry->offset && end <= wo_store_bytes(store));
            }
            taken += status == WO_OK;
            turned_away += status != WO_OK;
            wo_store_release(store);
        }
    }
    CHECK(taken > 100 && turned_away > 1000 && wo_memory_current() == 0);
}

static void a_hundred_thousand_tensors_and_long_names_are_no_trouble(void) {
    enum { COUNT = 100000, EACH = 90 };
    char *header = malloc((size_t)COUNT * EACH + 10), *at = header;
    CHECK(header != NULL);
    *at++ = '{';
    for (int i = 0; i < COUNT; i++)
        at += sprintf(at, "%s\"tensor.%d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}", i > 0 ? "," : "", i, COUNT - 1 - i, COUNT - i);
    *at++ = '}';
    put_safetensors_bytes("m.safetensors", header, (size_t)(at - header), COUNT);
    wo_store *store = open_good("m.safetensors");
    CHECK(wo_store_count(store) == COUNT && wo_store_find(store, "tensor.99999") != NULL);
    wo_store_release(store);
    memset(header, 'n', 5000);
    memcpy(header, "{\"", 2);
    strcpy(header + 5000, "\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}");
    refused(header, "nnn...\" has 4 bytes, but its shape has 2 elements");
    free(header);
}

int main(void) {
    begin_folder();
    tensors_come_in_order_of_name_with_their_places();
    what_cannot_be_computed_with_is_listed_with_the_reason();
    every_bad_field_is_refused_by_name();
    every_bad_beginning_is_refused();
    no_changed_byte_of_a_header_escapes_the_checks();
    a_hundred_thousand_tensors_and_long_names_are_no_trouble();
    CHECK(wo_memory_current() == 0);
    end_folder();
    return 0;
}
