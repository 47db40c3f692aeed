#include "device/cuda/cudnn.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct wo_dnn_plan {
    wo_dnn_plan *next;
    char name[sizeof((wo_dnn_problem *)0)->name], choice[160];
    int64_t workspace;
    wo_dnn_desc desc; /* NULL: there is none for this problem */
};

struct wo_dnn {
    const wo_dnn_api *api;
    wo_cuda_device *device; /* NULL: without a card */
    char card[96];          /* in keys of plans on disk */
    bool disk;              /* plans are kept there */
    size_t version;
    int nvrtc_version;
    wo_dnn_desc properties; /* without a card: its description */
    pthread_mutex_t lock;   /* guards all below, and the handle while it is used */
    wo_dnn_handle handle;
    bool broken;            /* the library does not start here */
    char problem[256];
    wo_dnn_plan *plans;     /* a plan does not change once it is there */
};

/* ---- descriptors ---- */

void wo_dnn_builder_init(wo_dnn_builder *b, const wo_dnn *dnn) {
    *b = (wo_dnn_builder){.dnn = dnn};
}

void wo_dnn_builder_fini(wo_dnn_builder *b) {
    while (b->count > 0)
        b->dnn->api->desc_destroy(b->descriptors[--b->count]);
}

static void note(wo_dnn_builder *b, wo_dnn_status status, const char *doing) {
    char last[192] = "";
    if (b->status != WO_DNN_SUCCESS || status == WO_DNN_SUCCESS)
        return;
    b->status = status;
    b->dnn->api->last_error(last, sizeof last);
    snprintf(b->problem, sizeof b->problem, "%.70s: %.60s %.100s", doing, b->dnn->api->status_name(status), last);
}

wo_dnn_desc wo_dnn_new(wo_dnn_builder *b, int type) {
    wo_dnn_desc desc = NULL;
    if (b->status == WO_DNN_SUCCESS && b->count == WO_DNN_DESCRIPTORS)
        note(b, WO_DNN_INTERNAL_ERROR, "more descriptors than a builder holds");
    if (b->status != WO_DNN_SUCCESS)
        return NULL;
    note(b, b->dnn->api->desc_create(type, &desc), "making a descriptor");
    if (b->status == WO_DNN_SUCCESS)
        b->descriptors[b->count++] = desc;
    return desc;
}

void wo_dnn_set(wo_dnn_builder *b, wo_dnn_desc desc, int attribute, int type, int64_t count, const void *values) {
    char doing[48];
    if (b->status != WO_DNN_SUCCESS)
        return;
    snprintf(doing, sizeof doing, "setting attribute %d", attribute);
    note(b, b->dnn->api->set(desc, attribute, type, count, values), doing);
}

void wo_dnn_set_int(wo_dnn_builder *b, wo_dnn_desc desc, int attribute, int64_t value) {
    wo_dnn_set(b, desc, attribute, WO_DNN_TYPE_INT64, 1, &value);
}

void wo_dnn_set_desc(wo_dnn_builder *b, wo_dnn_desc desc, int attribute, wo_dnn_desc value) {
    wo_dnn_set(b, desc, attribute, WO_DNN_TYPE_DESCRIPTOR, 1, &value);
}

void wo_dnn_finish(wo_dnn_builder *b, wo_dnn_desc desc) {
    if (b->status == WO_DNN_SUCCESS)
        note(b, b->dnn->api->finalize(desc), "finishing a descriptor");
}

/* Reads up to `asked` values; returns how many there are. */
static int64_t get(wo_dnn_builder *b, wo_dnn_desc desc, int attribute, int type, int64_t asked, void *values) {
    int64_t count = 0;
    char doing[48];
    if (b->status != WO_DNN_SUCCESS)
        return 0;
    snprintf(doing, sizeof doing, "reading attribute %d", attribute);
    note(b, b->dnn->api->get(desc, attribute, type, asked, &count, values), doing);
    return b->status == WO_DNN_SUCCESS ? count : 0;
}

/* Whom a descriptor is for: the card of the handle, or the card described. An attribute of -1 is not there. */
static void aim(wo_dnn_builder *b, wo_dnn_desc desc, int handle, int properties) {
    if (b->dnn->properties != NULL && properties >= 0)
        wo_dnn_set(b, desc, properties, WO_DNN_TYPE_DESCRIPTOR, 1, &b->dnn->properties);
    if (b->dnn->properties == NULL && handle >= 0)
        wo_dnn_set(b, desc, handle, WO_DNN_TYPE_HANDLE, 1, &b->dnn->handle);
}

wo_dnn_desc wo_dnn_make_tensor(wo_dnn_builder *b, const wo_dnn_tensor *t) {
    wo_dnn_desc desc = wo_dnn_new(b, WO_DNN_TENSOR);
    const int32_t type = t->type;
    const bool yes = true;
    wo_dnn_set(b, desc, WO_DNN_TENSOR_DATA_TYPE, WO_DNN_TYPE_DATA_TYPE, 1, &type);
    wo_dnn_set(b, desc, WO_DNN_TENSOR_DIMENSIONS, WO_DNN_TYPE_INT64, t->rank, t->dims);
    wo_dnn_set(b, desc, WO_DNN_TENSOR_STRIDES, WO_DNN_TYPE_INT64, t->rank, t->strides);
    wo_dnn_set_int(b, desc, WO_DNN_TENSOR_UNIQUE_ID, t->id);
    wo_dnn_set_int(b, desc, WO_DNN_TENSOR_BYTE_ALIGNMENT, t->is_by_value ? 4 : 16);
    if (t->is_virtual)
        wo_dnn_set(b, desc, WO_DNN_TENSOR_IS_VIRTUAL, WO_DNN_TYPE_BOOLEAN, 1, &yes);
    if (t->is_by_value)
        wo_dnn_set(b, desc, WO_DNN_TENSOR_IS_BY_VALUE, WO_DNN_TYPE_BOOLEAN, 1, &yes);
    wo_dnn_finish(b, desc);
    return desc;
}

wo_dnn_desc wo_dnn_make_graph(wo_dnn_builder *b, int count, const wo_dnn_desc *operations) {
    wo_dnn_desc graph = wo_dnn_new(b, WO_DNN_OPERATIONGRAPH);
    aim(b, graph, WO_DNN_OPERATIONGRAPH_HANDLE, -1);
    wo_dnn_set(b, graph, WO_DNN_OPERATIONGRAPH_OPS, WO_DNN_TYPE_DESCRIPTOR, count, operations);
    wo_dnn_finish(b, graph);
    return graph;
}

/* ---- choices ---- */

void wo_dnn_choice_describe(const wo_dnn_choice *c, char *text, size_t bytes) {
    int n = snprintf(text, bytes, "engine %" PRId64 ", knobs", c->engine);
    size_t used = n > 0 ? (size_t)n : 0;
    for (int i = 0; i < c->knobs && used < bytes; i++) {
        n = snprintf(text + used, bytes - used, " %" PRId32 "=%" PRId64, c->types[i], c->values[i]);
        used += n > 0 ? (size_t)n : 0;
    }
}

bool wo_dnn_choice_read(const char *text, wo_dnn_choice *c) {
    int used = 0;
    *c = (wo_dnn_choice){0};
    if (sscanf(text, "engine %" SCNd64 ", knobs%n", &c->engine, &used) != 1 || used == 0)
        return false;
    for (text += used; *text != '\0'; text += used, c->knobs++)
        if (c->knobs == WO_DNN_KNOBS || sscanf(text, " %" SCNd32 "=%" SCNd64 "%n", &c->types[c->knobs], &c->values[c->knobs], &used) != 2)
            return false;
    return true;
}

/* The engine's number of a configuration that the heuristic found, and its knobs. */
static void read_choice(wo_dnn_builder *b, wo_dnn_desc configuration, wo_dnn_choice *c) {
    wo_dnn_desc knobs[WO_DNN_KNOBS], engine = wo_dnn_new(b, WO_DNN_ENGINE);
    for (int i = 0; i < WO_DNN_KNOBS; i++)
        knobs[i] = wo_dnn_new(b, WO_DNN_KNOB_CHOICE);
    get(b, configuration, WO_DNN_ENGINECFG_ENGINE, WO_DNN_TYPE_DESCRIPTOR, 1, &engine);
    get(b, engine, WO_DNN_ENGINE_GLOBAL_INDEX, WO_DNN_TYPE_INT64, 1, &c->engine);
    c->knobs = (int)get(b, configuration, WO_DNN_ENGINECFG_KNOB_CHOICES, WO_DNN_TYPE_DESCRIPTOR, WO_DNN_KNOBS, knobs);
    if (c->knobs > WO_DNN_KNOBS)
        note(b, WO_DNN_INTERNAL_ERROR, "more knobs than there is room for");
    for (int i = 0; i < c->knobs && b->status == WO_DNN_SUCCESS; i++) {
        get(b, knobs[i], WO_DNN_KNOB_CHOICE_TYPE, WO_DNN_TYPE_KNOB_TYPE, 1, &c->types[i]);
        get(b, knobs[i], WO_DNN_KNOB_CHOICE_VALUE, WO_DNN_TYPE_INT64, 1, &c->values[i]);
    }
}

/* The heuristic's first configuration of the wanted engine. */
static void choose(wo_dnn_builder *b, wo_dnn_desc graph, int64_t engine, wo_dnn_choice *out) {
    enum { LOOKED_AT = 4 };
    const int32_t mode = WO_DNN_HEUR_A;
    wo_dnn_desc results[LOOKED_AT], heuristic = wo_dnn_new(b, WO_DNN_ENGINEHEUR);
    wo_dnn_set_desc(b, heuristic, WO_DNN_ENGINEHEUR_OPERATION_GRAPH, graph);
    wo_dnn_set(b, heuristic, WO_DNN_ENGINEHEUR_MODE, WO_DNN_TYPE_HEUR_MODE, 1, &mode);
    aim(b, heuristic, -1, WO_DNN_ENGINEHEUR_DEVICEPROP);
    wo_dnn_finish(b, heuristic);
    for (int i = 0; i < LOOKED_AT; i++)
        results[i] = wo_dnn_new(b, WO_DNN_ENGINECFG);
    int64_t found = get(b, heuristic, WO_DNN_ENGINEHEUR_RESULTS, WO_DNN_TYPE_DESCRIPTOR, LOOKED_AT, results);
    for (int i = 0; i < found && i < LOOKED_AT && b->status == WO_DNN_SUCCESS; i++) {
        read_choice(b, results[i], out);
        if (b->status == WO_DNN_SUCCESS && out->engine == engine)
            return;
    }
    note(b, WO_DNN_NOT_SUPPORTED, "the heuristic does not have the wanted engine");
}

/* Deterministic, and in the precision that was asked for. */
static void check_notes(wo_dnn_builder *b, wo_dnn_desc engine) {
    int32_t notes[32];
    int64_t count = get(b, engine, WO_DNN_ENGINE_NUMERICAL_NOTE, WO_DNN_TYPE_NUMERICAL_NOTE, 32, notes);
    for (int i = 0; i < count && i < 32; i++)
        if (notes[i] >= WO_DNN_NOTE_DOWN_CONVERT_INPUTS && notes[i] <= WO_DNN_NOTE_LAST_OF_WINOGRAD)
            note(b, WO_DNN_NOT_SUPPORTED, "the engine is not deterministic, or computes in less than it was given");
}

static wo_dnn_desc make_configuration(wo_dnn_builder *b, wo_dnn_desc graph, const wo_dnn_choice *c) {
    wo_dnn_desc knobs[WO_DNN_KNOBS], engine = wo_dnn_new(b, WO_DNN_ENGINE), configuration = wo_dnn_new(b, WO_DNN_ENGINECFG);
    wo_dnn_set_desc(b, engine, WO_DNN_ENGINE_OPERATION_GRAPH, graph);
    wo_dnn_set_int(b, engine, WO_DNN_ENGINE_GLOBAL_INDEX, c->engine);
    aim(b, engine, -1, WO_DNN_ENGINE_DEVICEPROP);
    wo_dnn_finish(b, engine);
    check_notes(b, engine);
    for (int i = 0; i < c->knobs; i++) {
        knobs[i] = wo_dnn_new(b, WO_DNN_KNOB_CHOICE);
        wo_dnn_set(b, knobs[i], WO_DNN_KNOB_CHOICE_TYPE, WO_DNN_TYPE_KNOB_TYPE, 1, &c->types[i]);
        wo_dnn_set_int(b, knobs[i], WO_DNN_KNOB_CHOICE_VALUE, c->values[i]);
        wo_dnn_finish(b, knobs[i]);
    }
    wo_dnn_set_desc(b, configuration, WO_DNN_ENGINECFG_ENGINE, engine);
    if (c->knobs > 0)
        wo_dnn_set(b, configuration, WO_DNN_ENGINECFG_KNOB_CHOICES, WO_DNN_TYPE_DESCRIPTOR, c->knobs, knobs);
    wo_dnn_finish(b, configuration);
    return configuration;
}

/* ---- plans ---- */

/* Finishing a plan may compile it. Returns its workspace. */
static int64_t finish_plan(wo_dnn_builder *b, wo_dnn_desc plan) {
    int64_t workspace = 0;
    wo_dnn_finish(b, plan);
    get(b, plan, WO_DNN_EXECUTION_PLAN_WORKSPACE_SIZE, WO_DNN_TYPE_INT64, 1, &workspace);
    if (workspace > WO_DNN_WORKSPACE)
        note(b, WO_DNN_NOT_SUPPORTED, "the engine wants more workspace than a call has");
    return workspace;
}

/* The plan outlives the builder. */
static wo_dnn_desc keep(wo_dnn_builder *b, wo_dnn_desc plan) {
    for (int i = 0; i < b->count && b->status == WO_DNN_SUCCESS; i++)
        if (b->descriptors[i] == plan) {
            b->descriptors[i] = b->descriptors[--b->count];
            return plan;
        }
    return NULL;
}

static wo_dnn_desc make_plan(wo_dnn_builder *b, const wo_dnn_problem *p, wo_dnn_choice *choice, int64_t *workspace) {
    choose(b, p->graph(b, p->canonical), p->engine, choice);
    wo_dnn_desc configuration = make_configuration(b, p->graph(b, p->shape), choice), plan = wo_dnn_new(b, WO_DNN_EXECUTION_PLAN);
    aim(b, plan, WO_DNN_EXECUTION_PLAN_HANDLE, WO_DNN_EXECUTION_PLAN_DEVICEPROP);
    wo_dnn_set_desc(b, plan, WO_DNN_EXECUTION_PLAN_ENGINE_CONFIG, configuration);
    *workspace = finish_plan(b, plan);
    return plan;
}

/* Counted up whenever the graph of a problem changes under the same name, so that no plan of an older graph is taken from disk. */
enum { GRAPHS = 1 };

static void key_of(const wo_dnn *dnn, const wo_dnn_problem *p, char *key, size_t bytes) {
    snprintf(key, bytes, "graphs %d cudnn %zu nvrtc %d %s %s", GRAPHS, dnn->version, dnn->nvrtc_version, dnn->card, p->name);
}

static void store(wo_dnn_builder *b, const wo_dnn_problem *p, wo_dnn_desc plan, const wo_dnn_plan *out) {
    wo_plan_record r = {.workspace = out->workspace};
    int64_t bytes = get(b, plan, WO_DNN_EXECUTION_PLAN_JSON, WO_DNN_TYPE_CHAR, 0, NULL);
    r.text = bytes > 0 ? malloc((size_t)bytes) : NULL;
    if (r.text == NULL)
        return;
    r.bytes = (size_t)get(b, plan, WO_DNN_EXECUTION_PLAN_JSON, WO_DNN_TYPE_CHAR, bytes, r.text);
    key_of(b->dnn, p, r.key, sizeof r.key);
    snprintf(r.choice, sizeof r.choice, "%s", out->choice);
    if (r.bytes > 0 && r.bytes <= (size_t)bytes)
        wo_plan_cache_store(&r);
    free(r.text);
}

/* The plan that rests on disk for the problem; false when there is none, or cuDNN does not want it any more. */
static bool restore(const wo_dnn *dnn, const wo_dnn_problem *p, wo_dnn_plan *out) {
    char key[sizeof((wo_plan_record *)0)->key];
    wo_plan_record r;
    wo_dnn_choice choice;
    wo_dnn_builder b;
    key_of(dnn, p, key, sizeof key);
    if (!wo_plan_cache_load(key, &r))
        return false;
    if (wo_dnn_choice_read(r.choice, &choice) && choice.engine == p->engine) {
        wo_dnn_builder_init(&b, dnn);
        wo_dnn_desc plan = wo_dnn_new(&b, WO_DNN_EXECUTION_PLAN);
        aim(&b, plan, WO_DNN_EXECUTION_PLAN_HANDLE, WO_DNN_EXECUTION_PLAN_DEVICEPROP);
        wo_dnn_set(&b, plan, WO_DNN_EXECUTION_PLAN_JSON, WO_DNN_TYPE_CHAR, (int64_t)r.bytes, r.text);
        out->workspace = finish_plan(&b, plan);
        out->desc = keep(&b, plan);
        snprintf(out->choice, sizeof out->choice, "%s", r.choice);
        wo_dnn_builder_fini(&b);
    }
    free(r.text);
    return out->desc != NULL;
}

/* With the lock held. */
static void fill_plan(wo_dnn *dnn, const wo_dnn_problem *p, wo_dnn_plan *out) {
    wo_dnn_choice choice = {0};
    wo_dnn_builder b;
    if (dnn->disk && restore(dnn, p, out))
        return;
    wo_dnn_builder_init(&b, dnn);
    wo_dnn_desc plan = make_plan(&b, p, &choice, &out->workspace);
    wo_dnn_choice_describe(&choice, out->choice, sizeof out->choice);
    if (dnn->disk && b.status == WO_DNN_SUCCESS)
        store(&b, p, plan, out);
    out->desc = keep(&b, plan);
    if (out->desc == NULL) {
        snprintf(dnn->problem, sizeof dnn->problem, "%s", b.problem);
        wo_cuda_note_decline("cudnn", "it has no plan for %.90s (%.120s)", p->name, b.problem);
    }
    wo_dnn_builder_fini(&b);
}

/* With the lock held. */
static bool start(wo_dnn *dnn) {
    if (dnn->broken || dnn->device == NULL || dnn->handle != NULL)
        return !dnn->broken;
    if (wo_cuda_enter(dnn->device, NULL) != WO_OK)
        return false;
    const wo_dnn_status status = dnn->api->create(&dnn->handle);
    if (status == WO_DNN_SUCCESS)
        return true;
    dnn->handle = NULL;
    dnn->broken = true;
    wo_cuda_note_problem("cudnn", "it does not start on %.60s (%.60s)", dnn->device->properties.name, dnn->api->status_name(status));
    return false;
}

const wo_dnn_plan *wo_dnn_find(wo_dnn *dnn, const wo_dnn_problem *problem) {
    pthread_mutex_lock(&dnn->lock);
    wo_dnn_plan *plan = dnn->plans;
    while (plan != NULL && strcmp(plan->name, problem->name) != 0)
        plan = plan->next;
    if (plan == NULL && start(dnn) && (plan = calloc(1, sizeof *plan)) != NULL) {
        snprintf(plan->name, sizeof plan->name, "%s", problem->name);
        if (dnn->device == NULL || wo_cuda_enter(dnn->device, NULL) == WO_OK)
            fill_plan(dnn, problem, plan);
        plan->next = dnn->plans;
        dnn->plans = plan;
    }
    pthread_mutex_unlock(&dnn->lock);
    return plan != NULL && plan->desc != NULL ? plan : NULL;
}

const char *wo_dnn_plan_choice(const wo_dnn_plan *plan) {
    return plan->choice;
}

int64_t wo_dnn_plan_workspace(const wo_dnn_plan *plan) {
    return plan->workspace;
}

const char *wo_dnn_problem_text(const wo_dnn *dnn) {
    return dnn->problem;
}

/* ---- running ---- */

static wo_dnn_status execute(wo_stream *s, wo_dnn *dnn, const wo_dnn_run *run, char *problem, size_t bytes) {
    wo_dnn_builder b;
    wo_dnn_builder_init(&b, dnn);
    wo_dnn_desc pack = wo_dnn_new(&b, WO_DNN_VARIANT_PACK);
    wo_dnn_set(&b, pack, WO_DNN_VARIANT_PACK_UNIQUE_IDS, WO_DNN_TYPE_INT64, run->count, run->ids);
    wo_dnn_set(&b, pack, WO_DNN_VARIANT_PACK_DATA_POINTERS, WO_DNN_TYPE_VOID_PTR, run->count, run->pointers);
    wo_dnn_set(&b, pack, WO_DNN_VARIANT_PACK_WORKSPACE, WO_DNN_TYPE_VOID_PTR, 1, &run->workspace);
    wo_dnn_finish(&b, pack);
    if (b.status == WO_DNN_SUCCESS)
        note(&b, dnn->api->set_stream(dnn->handle, wo_cuda_raw_stream(s)), "choosing the stream");
    if (b.status == WO_DNN_SUCCESS)
        note(&b, dnn->api->execute(dnn->handle, run->plan->desc, pack), "running the plan");
    snprintf(problem, bytes, "%s", b.problem);
    wo_dnn_builder_fini(&b);
    return b.status;
}

wo_status wo_dnn_enqueue(wo_stream *s, const wo_dnn_run *run, wo_error *err) {
    wo_cuda_device *d = wo_cuda_of(s);
    wo_dnn *dnn = wo_cuda_dnn_of(d);
    char problem[256];
    bool skip;
    WO_TRY(wo_cuda_begin(s, run->op, &skip, err));
    if (skip)
        return WO_OK;
    pthread_mutex_lock(&dnn->lock);
    const wo_dnn_status status = execute(s, dnn, run, problem, sizeof problem);
    pthread_mutex_unlock(&dnn->lock);
    wo_cuda_end(s);
    if (status == WO_DNN_SUCCESS)
        return WO_OK;
    const bool memory = status == WO_DNN_HOST_ALLOCATION_FAILED || status == WO_DNN_DEVICE_ALLOCATION_FAILED;
    return wo_cuda_vendor_fail(d, memory ? WO_ENOMEMORY : WO_EDEVICE, run->op, "cuDNN", problem, err);
}

/* ---- the library of one device ---- */

static wo_dnn *create(void) {
    const wo_cuda_libraries *l = wo_cuda_libraries_get();
    wo_dnn *dnn = l->has_dnn ? calloc(1, sizeof *dnn) : NULL;
    if (dnn == NULL)
        return NULL;
    dnn->api = &l->dnn;
    dnn->version = l->dnn_version;
    dnn->nvrtc_version = l->nvrtc_version;
    pthread_mutex_init(&dnn->lock, NULL);
    return dnn;
}

void wo_dnn_open(wo_cuda_device *d, wo_dnn **out) {
    *out = create();
    if (*out == NULL)
        return;
    (*out)->device = d;
    (*out)->disk = true;
    snprintf((*out)->card, sizeof(*out)->card, "sm_%d x %d, %s,", d->properties.sm, d->properties.multiprocessors, d->properties.name);
}

wo_status wo_dnn_open_without_card(int sm, const char *json, bool disk, wo_dnn **out, wo_error *err) {
    wo_dnn *dnn = *out = create();
    wo_dnn_builder b;
    if (dnn == NULL)
        WO_FAIL(err, WO_EDEVICE, "there is no cuDNN, or one that is too old");
    dnn->disk = disk;
    snprintf(dnn->card, sizeof dnn->card, "sm_%d", sm);
    wo_dnn_builder_init(&b, dnn);
    wo_dnn_desc properties = wo_dnn_new(&b, WO_DNN_DEVICEPROP);
    wo_dnn_set(&b, properties, WO_DNN_DEVICEPROP_JSON, WO_DNN_TYPE_CHAR, (int64_t)strlen(json), json);
    wo_dnn_finish(&b, properties);
    dnn->properties = keep(&b, properties);
    wo_dnn_builder_fini(&b);
    if (dnn->properties != NULL)
        return WO_OK;
    wo_dnn_close(dnn);
    *out = NULL;
    WO_FAIL(err, WO_EDEVICE, "cuDNN does not take the description of a card: %s", b.problem);
}

void wo_dnn_close(wo_dnn *dnn) {
    if (dnn == NULL)
        return;
    for (wo_dnn_plan *p = dnn->plans, *next; p != NULL; p = next) {
        next = p->next;
        if (p->desc != NULL)
            dnn->api->desc_destroy(p->desc);
        free(p);
    }
    if (dnn->properties != NULL)
        dnn->api->desc_destroy(dnn->properties);
    if (dnn->handle != NULL)
        dnn->api->destroy(dnn->handle);
    pthread_mutex_destroy(&dnn->lock);
    free(dnn);
}
