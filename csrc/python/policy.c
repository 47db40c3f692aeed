/* Policies: from a dict to wo_policy, by one table of keys. */
#include "python/module.h"

#include <string.h>

const char *const wo_py_level_words[] = {"resident", "model", "block", "leaf", "auto", NULL};
const char *const wo_py_tier_words[] = {"device", "host", "disk", NULL};

typedef enum { LEVEL, TIER, COUNT, BYTES, BUDGET, FRACTION, SWITCH } field_kind;

static const struct {
    const char *key;
    field_kind kind;
    size_t offset;
    int64_t least, most; /* COUNT and BYTES */
} fields[] = {
    {"level", LEVEL, offsetof(wo_policy, level), 0, 0},
    {"blocks_per_group", COUNT, offsetof(wo_policy, blocks_per_group), 1, INT32_MAX},
    {"tier", TIER, offsetof(wo_policy, tier), 0, 0},
    {"use_stream", SWITCH, offsetof(wo_policy, use_stream), 0, 0},
    {"resident_fraction", FRACTION, offsetof(wo_policy, resident_fraction), 0, 0},
    {"vram", BUDGET, offsetof(wo_policy, vram), 0, 0},
    {"ram", BUDGET, offsetof(wo_policy, ram), 0, 0},
    {"vram_outside", BYTES, offsetof(wo_policy, vram_outside), 0, INT64_MAX},
    {"ram_outside", BYTES, offsetof(wo_policy, ram_outside), 0, INT64_MAX},
    {"readers", COUNT, offsetof(wo_policy, readers), 0, 256},
    {"choose_knobs", SWITCH, offsetof(wo_policy, choose_knobs), 0, 0},
    {"row_chunk", BYTES, offsetof(wo_policy, knobs.row_chunk), 0, INT64_MAX},
    {"cache_text", SWITCH, offsetof(wo_policy, knobs.cache_text), 0, 0},
    {"state_on_host", SWITCH, offsetof(wo_policy, knobs.state_on_host), 0, 0},
    {"items_apart", SWITCH, offsetof(wo_policy, knobs.items_apart), 0, 0},
    {"passes_apart", SWITCH, offsetof(wo_policy, knobs.passes_apart), 0, 0},
};
enum { FIELDS = sizeof fields / sizeof *fields };

/* Groups that are streamed rest on the host or on disk; "device" is what a plan says of residents. */
static int set_tier(PyObject *value, const char *name, void *field) {
    int index;
    if (wo_py_word(value, name, wo_py_tier_words + 1, &index) < 0)
        return -1;
    *(wo_tier *)field = index == 0 ? WO_TIER_HOST : WO_TIER_DISK;
    return 0;
}

static int set_level(PyObject *value, const char *name, void *field) {
    int index;
    if (wo_py_word(value, name, wo_py_level_words, &index) < 0)
        return -1;
    *(wo_level *)field = (wo_level)index;
    return 0;
}

static int set_field(int i, PyObject *value, wo_policy *policy) {
    char name[64];
    snprintf(name, sizeof name, "policy: %s", fields[i].key);
    void *field = (char *)policy + fields[i].offset;
    int64_t number = 0;
    int result = 0;
    switch (fields[i].kind) {
    case LEVEL:
        return set_level(value, name, field);
    case TIER:
        return set_tier(value, name, field);
    case SWITCH:
        return wo_py_bool(value, name, field);
    case FRACTION:
        return wo_py_real(value, name, 0.0, 1.0, field);
    case COUNT:
        result = wo_py_int(value, name, fields[i].least, fields[i].most, &number);
        *(int32_t *)field = (int32_t)number;
        return result;
    case BYTES:
        return wo_py_int(value, name, fields[i].least, fields[i].most, field);
    case BUDGET:
        *(int64_t *)field = -1;
        return value == Py_None ? 0 : wo_py_int(value, name, 0, INT64_MAX, field);
    }
    return result;
}

static int find_field(PyObject *key) {
    for (int i = 0; i < FIELDS; i++)
        if (PyUnicode_Check(key) && PyUnicode_CompareWithASCIIString(key, fields[i].key) == 0)
            return i;
    return -1;
}

static int refuse_key(PyObject *key) {
    char known[512] = "";
    for (int i = 0; i < FIELDS; i++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i == 0 ? "" : ", ", fields[i].key);
    }
    PyErr_Format(PyExc_ValueError, "policy: there is no key %R; the keys are %s", key, known);
    return -1;
}

int wo_py_policy(PyObject *value, wo_policy *out) {
    *out = wo_policy_default();
    PyObject *dict = wo_py_mapping(value, "policy");
    if (dict == NULL)
        return -1;
    PyObject *key, *item;
    Py_ssize_t position = 0;
    int result = 0;
    while (result == 0 && PyDict_Next(dict, &position, &key, &item)) {
        int i = find_field(key);
        result = i < 0 ? refuse_key(key) : set_field(i, item, out);
    }
    Py_DECREF(dict);
    return result;
}
