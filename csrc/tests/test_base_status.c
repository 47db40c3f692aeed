/* Errors, dtypes, tensor views and the clock. */
#include "base/clock.h"
#include "base/tensor.h"
#include "tests/check.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <sys/time.h>

static void setting_an_error_forgets_the_one_before(void) {
    wo_error err;
    memset(&err, 0x7f, sizeof err);
    CHECK(wo_error_set_os(&err, WO_EOS, ENOENT, "/a/b", "cannot open %s", "b") == WO_EOS);
    CHECK(err.code == WO_EOS && err.os_errno == ENOENT && strcmp(err.path, "/a/b") == 0);
    CHECK(strcmp(err.message, "cannot open b") == 0);
    CHECK(wo_error_set(&err, WO_EVALUE, "%d is wrong", 7) == WO_EVALUE);
    CHECK(err.code == WO_EVALUE && err.os_errno == 0 && err.path[0] == '\0');
    CHECK(strcmp(err.message, "7 is wrong") == 0);
    CHECK(err.shortfall.vram_budget == -1 && err.shortfall.ram_budget == -1);
    CHECK(wo_error_set(NULL, WO_EPLAN, "nobody listens") == WO_EPLAN);
    CHECK(wo_error_set_os(&err, WO_ECHECKPOINT, 0, NULL, "no path") == WO_ECHECKPOINT && err.path[0] == '\0');
}

static void an_error_can_wrap_its_own_message(void) {
    wo_error err;
    wo_error_set_os(&err, WO_EOS, EIO, "file", "inner");
    wo_error_set_os(&err, err.code, err.os_errno, err.path, "outer: %s", err.message);
    CHECK(strcmp(err.message, "outer: inner") == 0 && strcmp(err.path, "file") == 0 && err.os_errno == EIO);
}

/* Every length around the limit, so that the cut falls on each byte of a character. */
static void a_long_message_is_cut_between_characters(void) {
    wo_error err;
    for (int shift = 0; shift < 4; shift++) {
        char text[2000] = "";
        memset(text, 'x', (size_t)shift);
        for (size_t i = (size_t)shift; i + 3 < 1500; i += 3)
            memcpy(text + i, "\xE2\x82\xAC", 4);
        wo_error_set_os(&err, WO_EOS, 0, text, "%s", text);
        size_t length = strlen(err.message), path = strlen(err.path);
        CHECK(length < sizeof err.message && length >= sizeof err.message - 3);
        CHECK((length - (size_t)shift) % 3 == 0 && (path - (size_t)shift) % 3 == 0);
        CHECK(memcmp(err.message, text, length) == 0 && memcmp(err.path, text, path) == 0);
    }
}

static void every_status_has_a_text(void) {
    for (int i = 0; i < WO_STATUS_COUNT; i++)
        CHECK(wo_status_text((wo_status)i)[0] != '\0' && strcmp(wo_status_text((wo_status)i), "unknown status") != 0);
    CHECK(strcmp(wo_status_text((wo_status)999), "unknown status") == 0);
}

static void dtypes_are_found_by_both_names(void) {
    static const struct {
        wo_dtype dtype;
        size_t bytes;
        const char *at_rest, *name;
    } rows[] = {
        {WO_F32, 4, "F32", "float32"}, {WO_BF16, 2, "BF16", "bfloat16"}, {WO_F16, 2, "F16", "float16"}, {WO_F64, 8, "F64", "float64"},
        {WO_F8_E4M3, 1, "F8_E4M3", "float8_e4m3fn"},
        {WO_I64, 8, "I64", "int64"},   {WO_I32, 4, "I32", "int32"},      {WO_I16, 2, "I16", "int16"},   {WO_I8, 1, "I8", "int8"},
        {WO_U8, 1, "U8", "uint8"},     {WO_BOOL, 1, "BOOL", "bool"},
    };
    CHECK(sizeof rows / sizeof *rows == WO_DTYPE_COUNT);
    for (size_t i = 0; i < WO_DTYPE_COUNT; i++) {
        wo_dtype found = WO_DTYPE_COUNT;
        CHECK(wo_dtype_size(rows[i].dtype) == rows[i].bytes && strcmp(wo_dtype_name(rows[i].dtype), rows[i].name) == 0);
        CHECK(wo_dtype_from_name(rows[i].at_rest, &found) && found == rows[i].dtype);
        CHECK(wo_dtype_from_name(rows[i].name, &found) && found == rows[i].dtype);
    }
    wo_dtype untouched = WO_I8;
    CHECK(!wo_dtype_from_name("float33", &untouched) && !wo_dtype_from_name("", &untouched) && untouched == WO_I8);
    CHECK(wo_dtype_size(WO_DTYPE_COUNT) == 0 && strcmp(wo_dtype_name(WO_DTYPE_COUNT), "unknown dtype") == 0);
}

static void views_count_and_point_where_they_should(void) {
    float data[4 * 3 * 5];
    wo_tensor t = wo_tensor_of(data, WO_F32, 4, 3, 5);
    CHECK(t.rank == 3 && t.shape[2] == 5 && t.shape[3] == 1 && t.shape[4] == 1);
    CHECK(wo_tensor_count(&t) == 60 && wo_tensor_bytes(&t) == 240);
    wo_tensor rows = wo_tensor_rows(&t, 1, 2);
    CHECK(rows.data == data + 15 && rows.shape[0] == 2 && wo_tensor_count(&rows) == 30);
    wo_tensor none = wo_tensor_rows(&t, 4, 0);
    CHECK(wo_tensor_count(&none) == 0 && none.data == data + 60);
    wo_tensor flat = wo_tensor_as(&t, 12, 5);
    CHECK(flat.rank == 2 && flat.data == data && flat.shape[0] == 12 && flat.shape[2] == 1);
    wo_tensor planned = wo_tensor_of(NULL, WO_BF16, 4, 2);
    CHECK(wo_tensor_rows(&planned, 2, 2).data == NULL);
    wo_tensor scalar = wo_tensor_make(data, WO_F64, 0, NULL);
    CHECK(wo_tensor_count(&scalar) == 1 && wo_tensor_bytes(&scalar) == 8);
}

static void descriptions_never_leave_their_buffer(void) {
    char text[64];
    wo_tensor t = wo_tensor_of(NULL, WO_BF16, 3, 5), scalar = wo_tensor_make(NULL, WO_F32, 0, NULL);
    CHECK(strcmp(wo_tensor_describe(&t, text, sizeof text), "[3, 5] bfloat16") == 0);
    CHECK(strcmp(wo_tensor_describe(&scalar, text, sizeof text), "[] float32") == 0);
    for (size_t bytes = 1; bytes < 16; bytes++) {
        memset(text, '#', sizeof text);
        wo_tensor_describe(&t, text, bytes);
        CHECK(strlen(text) == bytes - 1 && strncmp(text, "[3, 5] bfloat16", bytes - 1) == 0 && text[bytes] == '#');
    }
}

static void products_of_sizes_notice_overflow(void) {
    uint64_t out = 0;
    CHECK(wo_mul_size(UINT64_MAX, 1, &out) && out == UINT64_MAX);
    CHECK(!wo_mul_size(UINT64_C(1) << 32, UINT64_C(1) << 32, &out));
    CHECK(wo_mul_size(0, UINT64_MAX, &out) && out == 0);
    CHECK(wo_add_size(UINT64_MAX - 1, 1, &out) && out == UINT64_MAX);
    CHECK(!wo_add_size(UINT64_MAX, 1, &out));
}

static void on_alarm(int signal_number) {
    (void)signal_number;
}

static void a_signal_does_not_shorten_a_sleep(void) {
    struct sigaction action = {.sa_handler = on_alarm};
    struct itimerval soon = {.it_interval = {.tv_usec = 5000}, .it_value = {.tv_usec = 5000}}, off = {.it_value = {0}};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &soon, NULL) == 0);
    double begin = wo_clock_seconds();
    wo_clock_sleep(0.05);
    CHECK(wo_clock_seconds() - begin >= 0.0499);
    CHECK(setitimer(ITIMER_REAL, &off, NULL) == 0);
    wo_clock_sleep(0);
    wo_clock_sleep(-1);
}

int main(void) {
    setting_an_error_forgets_the_one_before();
    an_error_can_wrap_its_own_message();
    a_long_message_is_cut_between_characters();
    every_status_has_a_text();
    dtypes_are_found_by_both_names();
    views_count_and_point_where_they_should();
    descriptions_never_leave_their_buffer();
    products_of_sizes_notice_overflow();
    a_signal_does_not_shorten_a_sleep();
    return 0;
}
