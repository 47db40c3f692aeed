/* Plan: what a component will do under a policy. Immutable. */
#include "python/module.h"

typedef struct {
    const wo_py_network *network, *second;
    const void *request;
    const wo_device *device;
    wo_policy policy;
    wo_plan *plan;
} plan_job;

static wo_status make_plan(void *context, wo_error *err) {
    plan_job *job = context;
    const wo_py_network *n = job->network;
    const wo_component *const experts[] = {n->component, job->second != NULL ? job->second->component : NULL};
    return wo_plan_make_experts(experts, job->second != NULL ? 2 : 1, n->model, wo_py_network_forward(n), wo_py_network_passes(n),
                                job->request, job->device, &job->policy, &job->plan, err);
}

PyObject *wo_py_plan_new(PyObject *component, PyObject *second, PyObject *engine_object, wo_py_request *request, PyObject *policy) {
    wo_py_engine *engine = (wo_py_engine *)engine_object;
    wo_device *device = wo_engine_device(engine->engine);
    plan_job job = {.network = ((wo_py_component *)component)->network, .request = &request->as, .device = device};
    if (second != NULL)
        job.second = ((wo_py_component *)second)->network;
    PyTypeObject *type = wo_py_state_of(component)->plan;
    wo_py_plan *self = NULL;
    int result = wo_py_policy(policy, &job.policy);
    job.policy.trace_spans = engine->trace_spans;
    if (result == 0 && wo_py_engine_run(engine, NULL, make_plan, &job) == 0)
        self = (wo_py_plan *)type->tp_alloc(type, 0);
    if (self == NULL) {
        wo_plan_release(job.plan);
        wo_py_request_fini(request);
        return NULL;
    }
    self->plan = job.plan;
    self->component = Py_NewRef(component);
    self->second = Py_XNewRef(second);
    self->request = *request;
    snprintf(self->device, sizeof self->device, "%s", device->name);
    return (PyObject *)self;
}

static void plan_dealloc(PyObject *object) {
    wo_py_plan *self = (wo_py_plan *)object;
    PyTypeObject *type = Py_TYPE(object);
    wo_plan_release(self->plan);
    wo_py_request_fini(&self->request);
    Py_DECREF(self->component);
    Py_XDECREF(self->second);
    type->tp_free(object);
    Py_DECREF(type);
}

/* ---- as dicts ---- */

static PyObject *budget_or_none(int64_t bytes) {
    if (bytes < 0)
        Py_RETURN_NONE;
    return PyLong_FromLongLong(bytes);
}

static int put_size(PyObject *dict, const char *key, size_t value) {
    return wo_py_put(dict, key, PyLong_FromSize_t(value));
}

static int put_policy(PyObject *d, const wo_policy *p) {
    int failed = wo_py_put(d, "policy_level", wo_py_text(wo_py_level_words[p->level])) < 0 ||
                 wo_py_put(d, "policy_blocks_per_group", PyLong_FromLong(p->blocks_per_group)) < 0 ||
                 wo_py_put(d, "policy_tier", wo_py_text(wo_py_tier_words[p->tier])) < 0 ||
                 wo_py_put(d, "policy_use_stream", PyBool_FromLong(p->use_stream)) < 0 ||
                 wo_py_put(d, "policy_resident_fraction", PyFloat_FromDouble(p->resident_fraction)) < 0 ||
                 wo_py_put(d, "policy_vram", budget_or_none(p->vram)) < 0 ||
                 wo_py_put(d, "policy_ram", budget_or_none(p->ram)) < 0 ||
                 wo_py_put(d, "policy_vram_outside", PyLong_FromLongLong(p->vram_outside)) < 0 ||
                 wo_py_put(d, "policy_ram_outside", PyLong_FromLongLong(p->ram_outside)) < 0 ||
                 wo_py_put(d, "policy_readers", PyLong_FromLong(p->readers)) < 0 ||
                 wo_py_put(d, "policy_choose_knobs", PyBool_FromLong(p->choose_knobs)) < 0;
    return failed ? -1 : 0;
}

static int put_knobs(PyObject *d, const wo_knobs *k) {
    int failed = wo_py_put(d, "knobs_row_chunk", PyLong_FromLongLong(k->row_chunk)) < 0 ||
                 wo_py_put(d, "knobs_cache_text", PyBool_FromLong(k->cache_text)) < 0 ||
                 wo_py_put(d, "knobs_state_on_host", PyBool_FromLong(k->state_on_host)) < 0 ||
                 wo_py_put(d, "knobs_items_apart", PyBool_FromLong(k->items_apart)) < 0 ||
                 wo_py_put(d, "knobs_passes_apart", PyBool_FromLong(k->passes_apart)) < 0;
    return failed ? -1 : 0;
}

static int put_sizes(PyObject *d, const wo_plan_summary *s) {
    const struct {
        const char *key;
        size_t value;
    } rows[] = {
        {"groups", s->groups},
        {"passes", s->passes},
        {"experts", s->experts},
        {"weight_bytes", s->weight_bytes},
        {"resident_bytes", s->resident_bytes},
        {"streamed_bytes", s->streamed_bytes},
        {"ring_bytes", s->ring_bytes},
        {"activation_bytes", s->activation_bytes},
        {"keep_bytes", s->keep_bytes},
        {"arrival_bytes", s->arrival_bytes},
        {"work_bytes", s->work_bytes},
        {"vram", s->vram},
        {"host_slab_bytes", s->host_slab_bytes},
        {"staging_bytes", s->staging_bytes},
        {"host_keep_bytes", s->host_keep_bytes},
        {"fixed_bytes", s->fixed_bytes},
        {"ram", s->ram},
        {"live_bytes", s->live_bytes},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (put_size(d, rows[i].key, rows[i].value) < 0)
            return -1;
    return 0;
}

static PyObject *plan_summary(PyObject *object, PyObject *Py_UNUSED(none)) {
    wo_plan_summary summary;
    wo_plan_summarize(((wo_py_plan *)object)->plan, &summary);
    PyObject *dict = PyDict_New();
    if (dict != NULL &&
        (wo_py_put(dict, "component", wo_py_text(summary.component)) < 0 || put_policy(dict, &summary.policy) < 0 ||
         put_knobs(dict, &summary.knobs) < 0 || put_sizes(dict, &summary) < 0))
        Py_CLEAR(dict);
    return dict;
}

static PyObject *group_dict(const wo_plan_group *group) {
    PyObject *dict = PyDict_New();
    if (dict != NULL && (wo_py_put(dict, "name", wo_py_text(group->name)) < 0 ||
                         wo_py_put(dict, "first_layer", PyLong_FromLong(group->first_layer)) < 0 ||
                         wo_py_put(dict, "layers", PyLong_FromLong(group->layers)) < 0 ||
                         put_size(dict, "bytes", group->bytes) < 0 ||
                         wo_py_put(dict, "tier", wo_py_text(wo_py_tier_words[group->tier])) < 0))
        Py_CLEAR(dict);
    return dict;
}

static PyObject *plan_groups(PyObject *object, PyObject *Py_UNUSED(none)) {
    const wo_plan *plan = ((wo_py_plan *)object)->plan;
    wo_plan_summary summary;
    wo_plan_summarize(plan, &summary);
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < summary.groups; i++)
        if (wo_py_append(list, group_dict(wo_plan_group_at(plan, i))) < 0)
            Py_CLEAR(list);
    return list;
}

/* (float32, 16 bits) */
static PyObject *pair(const double *kinds) { return Py_BuildValue("dd", kinds[WO_WORK_F32], kinds[WO_WORK_HALF]); }

static PyObject *work_dict(const wo_work *work) {
    PyObject *dict = PyDict_New();
    if (dict != NULL && (wo_py_put(dict, "operations", PyLong_FromLongLong(work->operations)) < 0 ||
                         wo_py_put(dict, "products", pair(work->products)) < 0 ||
                         wo_py_put(dict, "attention", pair(work->attention)) < 0 ||
                         wo_py_put(dict, "convolutions", pair(work->convolutions)) < 0 ||
                         wo_py_put(dict, "other_bytes", PyFloat_FromDouble(work->other_bytes)) < 0))
        Py_CLEAR(dict);
    return dict;
}

static PyObject *pass_dict(const wo_plan_pass *pass) {
    PyObject *dict = PyDict_New();
    if (dict != NULL && (put_size(dict, "visits", pass->visits) < 0 ||
                         put_size(dict, "streamed_bytes", pass->streamed_bytes) < 0 ||
                         put_size(dict, "host_bytes", pass->host_bytes) < 0 ||
                         put_size(dict, "activation_bytes", pass->activation_bytes) < 0 ||
                         put_size(dict, "activation_live_bytes", pass->activation_live_bytes) < 0 ||
                         wo_py_put(dict, "work", work_dict(&pass->work)) < 0))
        Py_CLEAR(dict);
    return dict;
}

static PyObject *plan_passes(PyObject *object, PyObject *Py_UNUSED(none)) {
    const wo_plan *plan = ((wo_py_plan *)object)->plan;
    wo_plan_summary summary;
    wo_plan_summarize(plan, &summary);
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < summary.passes; i++)
        if (wo_py_append(list, pass_dict(wo_plan_pass_at(plan, (int)i))) < 0)
            Py_CLEAR(list);
    return list;
}

static PyObject *plan_visits(PyObject *object, PyObject *args, PyObject *names) {
    const wo_plan *plan = ((wo_py_plan *)object)->plan;
    static char *keywords[] = {"index", NULL};
    PyObject *index;
    if (!PyArg_ParseTupleAndKeywords(args, names, "O:visits", keywords, &index))
        return NULL;
    wo_plan_summary summary;
    wo_plan_summarize(plan, &summary);
    int64_t pass;
    if (wo_py_int(index, "index", 0, (int64_t)summary.passes - 1, &pass) < 0)
        return NULL;
    const int32_t *groups = NULL;
    size_t count = wo_plan_visits(plan, (int)pass, &groups);
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < count; i++)
        if (wo_py_append(list, PyLong_FromLong(groups[i])) < 0)
            Py_CLEAR(list);
    return list;
}

/* ---- type ---- */

PyDoc_STRVAR(plan_doc,
             "What will happen, in bytes, before anything runs. Made by a component's plan().\n\n"
             "policy: level \"resident\" | \"model\" | \"block\" | \"leaf\" | \"auto\"; blocks_per_group int;\n"
             "tier \"host\" | \"disk\"; use_stream bool; resident_fraction float; vram, ram int or None;\n"
             "vram_outside, ram_outside int; readers int; choose_knobs bool; row_chunk int; cache_text bool;\n"
             "state_on_host bool; items_apart bool; passes_apart bool. Missing keys take the default of wo_policy_default.\n"
             "Unknown keys: ValueError.");
PyDoc_STRVAR(summary_doc, "summary($self, /)\n--\n\n"
                          "The fields of wo_plan_summary; policy and knobs flattened into policy_* and knobs_*;\n"
                          "tier, level as words.");
PyDoc_STRVAR(groups_doc, "groups($self, /)\n--\n\nname, first_layer, layers, bytes, tier (\"device\" = resident).");
PyDoc_STRVAR(passes_doc, "passes($self, /)\n--\n\n"
                         "visits, streamed_bytes, activation_bytes, activation_live_bytes; work: what is computed, from the\n"
                         "shapes: its operations, FLOP of products, attention and convolutions, each as (float32, 16 bits),\n"
                         "and other_bytes that all other operations read and write.");
PyDoc_STRVAR(visits_doc, "visits($self, index)\n--\n\nThe groups that pass `index` acquires, in order.");

static PyMethodDef methods[] = {
    {"summary", plan_summary, METH_NOARGS, summary_doc},
    {"groups", plan_groups, METH_NOARGS, groups_doc},
    {"passes", plan_passes, METH_NOARGS, passes_doc},
    {"visits", WO_PY_METHOD(plan_visits), METH_VARARGS | METH_KEYWORDS, visits_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)plan_doc},
    {Py_tp_dealloc, plan_dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "wanoffload._core.Plan",
    .basicsize = sizeof(wo_py_plan),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

PyTypeObject *wo_py_plan_type(PyObject *module) { return (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL); }
