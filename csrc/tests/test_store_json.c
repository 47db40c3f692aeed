/* The JSON cursor: what is JSON is read, what is not is refused with its place, and nothing outside the text is touched. */
#include "base/memory.h"
#include "store/json.h"
#include "tests/check.h"

static wo_error err;

/* A copy of the text that ends at a guard page, so that reading a byte too far stops the program. */
static wo_json open_text(const char *text, size_t length, void **block) {
    CHECK_OK(wo_memory_acquire_guarded(4096, "test", block, &err), &err);
    CHECK(length <= 4096);
    char *copy = (char *)*block + 4096 - length;
    memcpy(copy, text, length);
    return wo_json_start(copy, length, "some.json", "header");
}

static wo_status skip_all(const char *text, size_t length) {
    void *block;
    wo_json j = open_text(text, length, &block);
    wo_status status = wo_json_skip(&j, &err);
    if (status == WO_OK)
        status = wo_json_finish(&j, &err);
    wo_memory_release_guarded(block);
    return status;
}

static const char *const VALID[] = {
    "{}", "[]", "null", "true", "false", "0", "-0", "12", "-3.25", "1e9", "1E+9", "0.5e-3", "\"\"", " [ ] ", "\t\r\n{ }\n",
    "[1,2,3]", "{\"a\":1,\"b\":[{},{}]}", "{\"a\": {\"a\": {\"a\": null}}}", "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\u0041\\u00e9\\u20AC\\ud83d\\ude00\"",
    "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"", "\"\xED\x9F\xBF\xEE\x80\x80\xF4\x8F\xBF\xBF\"", "{\"same\":1,\"same\":2}",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]", /* 32 deep */
    "[[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[]]", /* but not many side by side */
};

static const char *const INVALID[] = {
    "", " ", "{", "}", "[", "]", "{]", "[}", "[1,]", "[,1]", "[1 2]", "[1,,2]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "{'a':1}", "{1:2}",
    "{\"a\":1 \"b\":2}", "{,}", "nul", "nulll", "True", "NaN", "Infinity", "-", "+1", ".5", "1.", "1.e2", "1e", "1e+", "01", "-01", "00", "0x10", "1_000",
    "\"", "\"abc", "\"\\\"", "\"\\", "\"\\x41\"", "\"\\u\"", "\"\\u00\"", "\"\\u00g0\"", "\"\\u12", "\"\\ud800\"", "\"\\udc00\"", "\"\\ud800\\u0041\"",
    "\"\\ud800\\ud800\"", "\"\\ud800\\", "\"\\ud800\\u", "\"\\ud800x\"", "\"\\u0000\"", "\"a\nb\"", "\"\x01\"", "\"\x1F\"", "\"\x80\"", "\"\xC0\x80\"", "\"\xC1\xBF\"", "\"\xC3\"",
    "\"\xE0\x80\x80\"", "\"\xE0\x9F\xBF\"", "\"\xED\xA0\x80\"", "\"\xE2\x82\"", "\"\xE2\x82", "\"\xF0\x80\x80\x80\"", "\"\xF0\x8F\xBF\xBF\"",
    "\"\xF4\x90\x80\x80\"", "\"\xF5\x80\x80\x80\"", "\"\xFF\"", "\"\xF0\x9F\x98\"", "{} {}", "{}x", "[1]]", "\xEF\xBB\xBF{}", "// no\n{}", "{/**/}",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
};

static void what_is_json_is_taken_and_what_is_not_is_refused(void) {
    for (size_t i = 0; i < sizeof VALID / sizeof *VALID; i++) {
        if (skip_all(VALID[i], strlen(VALID[i])) != WO_OK) {
            fprintf(stderr, "refused: %s: %s\n", VALID[i], err.message);
            exit(1);
        }
    }
    for (size_t i = 0; i < sizeof INVALID / sizeof *INVALID; i++) {
        if (skip_all(INVALID[i], strlen(INVALID[i])) != WO_ECHECKPOINT) {
            fprintf(stderr, "taken: %s\n", INVALID[i]);
            exit(1);
        }
        CHECK_CONTAINS(err.message, "some.json: the header is not valid JSON at byte ");
        CHECK(strcmp(err.path, "some.json") == 0);
    }
    CHECK_STATUS(skip_all("\"a\0b\"", 5), WO_ECHECKPOINT);
}

/* Cut anywhere, a document is not valid any more; and no cut makes the cursor read on. */
static void every_cut_document_is_refused(void) {
    static const char document[] = "{\"a\\u00e9\\ud83d\\ude00\": [1, -2.5e3, true, null, \"\xF0\x9F\x98\x80\"], \"b\": {\"c\": \"d\"}}";
    for (size_t length = 0; length < sizeof document - 1; length++)
        CHECK_STATUS(skip_all(document, length), WO_ECHECKPOINT);
    CHECK_STATUS(skip_all(document, sizeof document - 1), WO_OK);
}

/* Every change of one byte gives a clear answer of either kind. */
static void no_changed_byte_makes_it_leave_the_text(void) {
    static const char document[] = "{\"a\\u00e9\":[1,-2.5e3,true,null,\"\xF0\x9F\x98\x80\"],\"b\":{\"c\":\"d\"}}";
    for (size_t i = 0; i < sizeof document - 1; i++) {
        for (int byte = 0; byte < 256; byte++) {
            char changed[sizeof document];
            memcpy(changed, document, sizeof document);
            changed[i] = (char)byte;
            wo_status status = skip_all(changed, sizeof document - 1);
            CHECK(status == WO_OK || status == WO_ECHECKPOINT);
        }
    }
}

static void strings_are_decoded_where_they_stand(void) {
    static const struct {
        const char *text, *wanted;
    } rows[] = {
        {"\"plain\"", "plain"},
        {"\"\"", ""},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"},
        {"\"\\u0041\\u00e9\\u20AC\\ud83d\\ude00\"", "A\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"},
        {"\"a\\u0062c\xE2\x82\xAC\"", "abc\xE2\x82\xAC"},
        {"\"\\ud800\\udc00\\udbff\\udfff\"", "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        void *block;
        const char *got = NULL;
        wo_json j = open_text(rows[i].text, strlen(rows[i].text), &block);
        CHECK_OK(wo_json_string(&j, &got, &err), &err);
        CHECK_OK(wo_json_finish(&j, &err), &err);
        CHECK(strcmp(got, rows[i].wanted) == 0);
        wo_memory_release_guarded(block);
    }
}

static void whole_numbers_are_exact_or_refused(void) {
    static const struct {
        const char *text;
        uint64_t value;
    } good[] = {{"0", 0}, {"7", 7}, {"18446744073709551615", UINT64_MAX}, {" 1000000007", 1000000007}};
    static const char *const bad[] = {"18446744073709551616", "99999999999999999999", "-1", "-0", "+1", "1.0", "1e3", "1E3", "01", "00", "\"1\"", "null", "", "[1]", "x"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        void *block;
        uint64_t value = 1;
        wo_json j = open_text(good[i].text, strlen(good[i].text), &block);
        CHECK_OK(wo_json_uint(&j, &value, &err), &err);
        CHECK(value == good[i].value);
        wo_memory_release_guarded(block);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        void *block;
        uint64_t value;
        wo_json j = open_text(bad[i], strlen(bad[i]), &block);
        CHECK_STATUS(wo_json_uint(&j, &value, &err), WO_ECHECKPOINT);
        wo_memory_release_guarded(block);
    }
}

static void keys_and_values_come_in_order(void) {
    static const char document[] = "{\"one\":[10,11],\"two\":\"x\",\"three\":{}}";
    void *block;
    bool more;
    const char *key, *text;
    uint64_t n = 0;
    wo_json j = open_text(document, sizeof document - 1, &block);
    CHECK_OK(wo_json_begin_object(&j, &err), &err);
    CHECK_OK(wo_json_next(&j, true, &more, &key, &err), &err);
    CHECK(more && strcmp(key, "one") == 0);
    CHECK_OK(wo_json_begin_array(&j, &err), &err);
    for (uint64_t i = 0; i < 2; i++) {
        CHECK_OK(wo_json_next(&j, i == 0, &more, NULL, &err), &err);
        CHECK_OK(wo_json_uint(&j, &n, &err), &err);
        CHECK(more && n == 10 + i);
    }
    CHECK_OK(wo_json_next(&j, false, &more, NULL, &err), &err);
    CHECK(!more);
    CHECK_OK(wo_json_next(&j, false, &more, &key, &err), &err);
    CHECK(more && strcmp(key, "two") == 0);
    CHECK_OK(wo_json_string(&j, &text, &err), &err);
    CHECK(strcmp(text, "x") == 0);
    CHECK_OK(wo_json_next(&j, false, &more, &key, &err), &err);
    CHECK(more && strcmp(key, "three") == 0);
    CHECK_OK(wo_json_skip(&j, &err), &err);
    CHECK_OK(wo_json_next(&j, false, &more, &key, &err), &err);
    CHECK(!more);
    CHECK_OK(wo_json_finish(&j, &err), &err);
    wo_memory_release_guarded(block);
}

static void long_names_are_cut_between_characters_in_messages(void) {
    char out[16];
    CHECK(strcmp(wo_json_brief("short", out, sizeof out), "short") == 0);
    CHECK(strcmp(wo_json_brief("fifteen letters", out, sizeof out), "fifteen letters") == 0);
    CHECK(strcmp(wo_json_brief("sixteen letters!", out, sizeof out), "sixteen lett...") == 0);
    CHECK(strcmp(wo_json_brief("elevenchar\xF0\x9F\x98\x80 and more", out, sizeof out), "elevenchar...") == 0);
}

int main(void) {
    what_is_json_is_taken_and_what_is_not_is_refused();
    every_cut_document_is_refused();
    no_changed_byte_makes_it_leave_the_text();
    strings_are_decoded_where_they_stand();
    whole_numbers_are_exact_or_refused();
    keys_and_values_come_in_order();
    long_names_are_cut_between_characters_in_messages();
    CHECK(wo_memory_current() == 0);
    return 0;
}
