/* Exec: a component in execution. Its life, and running a pass on the engine's core thread; passes.c and passes_transformer.c
 * have what each network takes and gives. */
#include "python/exec.h"

#include <string.h>

static wo_py_engine *engine_of(const wo_py_exec *self) { return (wo_py_engine *)self->engine; }

/* ---- open and close ---- */

typedef struct {
    wo_engine *engine;
    const wo_component *component;
    wo_plan *plan;
    wo_exec *exec;
} open_job;

static wo_status open_exec(void *context, wo_error *err) {
    open_job *job = context;
    return wo_exec_open(job->engine, job->component, job->plan, &job->exec, err);
}

static int check_parts(wo_py_state *state, PyObject *engine, PyObject *component, PyObject *plan) {
    if (wo_py_instance(engine, "engine", state->engine) < 0 ||
        wo_py_instance(component, "component", state->component) < 0 || wo_py_instance(plan, "plan", state->plan) < 0)
        return -1;
    if (((wo_py_plan *)plan)->component != component) {
        PyErr_SetString(PyExc_ValueError, "plan: it was made by another component");
        return -1;
    }
    const char *device = wo_engine_device(((wo_py_engine *)engine)->engine)->name;
    if (strcmp(device, ((wo_py_plan *)plan)->device) != 0) {
        PyErr_Format(PyExc_ValueError, "plan: it was made for device %s, but the engine's is %s",
                     ((wo_py_plan *)plan)->device, device);
        return -1;
    }
    return wo_py_engine_check_idle((wo_py_engine *)engine);
}

static PyObject *exec_new(PyTypeObject *type, PyObject *args, PyObject *names) {
    static char *keywords[] = {"engine", "component", "plan", NULL};
    PyObject *engine, *component, *plan;
    if (!PyArg_ParseTupleAndKeywords(args, names, "OOO:Exec", keywords, &engine, &component, &plan) ||
        check_parts(PyType_GetModuleState(type), engine, component, plan) < 0)
        return NULL;
    wo_py_engine *e = (wo_py_engine *)engine;
    wo_py_network *network = ((wo_py_component *)component)->network;
    wo_py_exec *self = (wo_py_exec *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->engine = Py_NewRef(engine);
    self->component = Py_NewRef(component);
    self->plan = Py_NewRef(plan);
    open_job job = {.engine = e->engine, .component = network->component, .plan = ((wo_py_plan *)plan)->plan};
    PyObject *second = ((wo_py_plan *)plan)->second;
    int result = wo_py_engine_tie(e, network);
    if (result == 0 && second != NULL)
        result = wo_py_engine_tie(e, ((wo_py_component *)second)->network);
    if (result == 0) {
        result = wo_py_engine_run(e, wo_engine_cancel(e->engine), open_exec, &job);
        self->exec = job.exec;
        if (job.exec != NULL) {
            e->open = network;
            e->open_second = second != NULL ? ((wo_py_component *)second)->network : NULL;
        }
    }
    if (result < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void forget_text(wo_py_exec *self) {
    PyMem_Free(self->text);
    self->text = NULL;
    self->images = NULL;
    Py_CLEAR(self->embeds);
}

static void exec_dealloc(PyObject *object) {
    wo_py_exec *self = (wo_py_exec *)object;
    PyTypeObject *type = Py_TYPE(object);
    if (self->exec != NULL)
        wo_py_engine_abandon_exec(engine_of(self), self->exec, ((wo_py_plan *)self->plan)->plan);
    forget_text(self);
    Py_XDECREF(self->trace);
    Py_DECREF(self->plan);
    Py_DECREF(self->component);
    Py_DECREF(self->engine);
    type->tp_free(object);
    Py_DECREF(type);
}

typedef struct {
    wo_exec *exec;
    wo_report report;
    wo_trace *trace;
    bool ended;
} close_job;

static wo_status close_exec(void *context, wo_error *Py_UNUSED(err)) {
    close_job *job = context;
    job->trace = wo_exec_take_trace(job->exec);
    wo_exec_close(job->exec, &job->report);
    job->ended = true;
    return WO_OK;
}

static PyObject *report_dict(const wo_report *r) {
    const struct {
        const char *key;
        uint64_t value;
    } counts[] = {
        {"passes", r->passes},
        {"visits", r->visits},
        {"bytes_loaded", r->bytes_loaded},
        {"bytes_moved", r->bytes_moved},
        {"bytes_from_disk", r->bytes_from_disk},
        {"bytes_from_host", r->bytes_from_host},
        {"wraps", r->wraps},
        {"activation_peak", r->activation_peak},
        {"arena_bytes", r->arena_bytes},
        {"arena_touched", r->arena_touched},
        {"ram_peak", r->ram_peak},
    };
    const struct {
        const char *key;
        double value;
    } times[] = {
        {"seconds", r->seconds},
        {"load_seconds", r->load_seconds},
        {"compute_seconds", r->compute_seconds},
        {"stall_seconds", r->stall_seconds},
        {"copy_seconds", r->copy_seconds},
        {"read_seconds", r->read_seconds},
    };
    PyObject *dict = PyDict_New();
    int result = dict == NULL ? -1 : 0;
    for (size_t i = 0; result == 0 && i < sizeof counts / sizeof *counts; i++)
        result = wo_py_put(dict, counts[i].key, PyLong_FromUnsignedLongLong(counts[i].value));
    for (size_t i = 0; result == 0 && i < sizeof times / sizeof *times; i++)
        result = wo_py_put(dict, times[i].key, PyFloat_FromDouble(times[i].value));
    if (result < 0)
        Py_CLEAR(dict);
    return dict;
}

static PyObject *exec_close(PyObject *object, PyObject *Py_UNUSED(none)) {
    wo_py_exec *self = (wo_py_exec *)object;
    if (self->exec == NULL)
        return report_dict(&self->report);
    close_job job = {.exec = self->exec};
    int result = wo_py_engine_run(engine_of(self), NULL, close_exec, &job);
    if (job.ended) {
        self->exec = NULL;
        self->report = job.report;
        engine_of(self)->open = engine_of(self)->open_second = NULL;
        forget_text(self);
        if (job.trace != NULL && (self->trace = wo_py_trace_dict(job.trace, ((wo_py_plan *)self->plan)->plan)) == NULL)
            result = -1;
        wo_trace_destroy(job.trace);
    }
    return result < 0 ? NULL : report_dict(&self->report);
}

static PyObject *exec_trace(PyObject *object, PyObject *Py_UNUSED(none)) {
    wo_py_exec *self = (wo_py_exec *)object;
    if (self->exec != NULL) {
        PyErr_SetString(PyExc_ValueError, "trace: this Exec is open; close() it first");
        return NULL;
    }
    return Py_NewRef(self->trace != NULL ? self->trace : Py_None);
}

static PyObject *exec_enter(PyObject *object, PyObject *Py_UNUSED(none)) { return Py_NewRef(object); }

static PyObject *exec_exit(PyObject *object, PyObject *Py_UNUSED(args)) {
    PyObject *report = exec_close(object, NULL);
    Py_XDECREF(report);
    return report == NULL ? NULL : Py_NewRef(Py_None);
}

/* ---- passes ---- */

typedef struct {
    wo_exec *exec;
    const wo_py_network *network;
    wo_turn turn, next;
    const void *request;
    bool begun;
} pass_job;

static wo_status run_pass(void *context, wo_error *err) {
    pass_job *job = context;
    const wo_py_network *n = job->network;
    job->begun = true;
    return wo_exec_run_turn(job->exec, n->model, wo_py_network_forward(n), job->turn, job->next, job->request, err);
}

static int check_usable(const wo_py_exec *self, const char *method) {
    if (wo_py_engine_check_idle(engine_of(self)) < 0)
        return -1;
    if (self->exec != NULL && !self->failed)
        return 0;
    PyErr_Format(PyExc_ValueError, "%s: this Exec %s", method,
                 self->exec == NULL ? "is closed" : "failed in an earlier call; close() it and open a new one");
    return -1;
}

int wo_py_exec_check(const wo_py_exec *self, wo_py_kind kind, const char *method) {
    static const char *const words[WO_PY_KINDS] = {
        [WO_PY_TEXT_ENCODER] = "a TextEncoder", [WO_PY_IMAGE_ENCODER] = "an ImageEncoder",
        [WO_PY_TRANSFORMER] = "a Transformer",  [WO_PY_VAE_DECODER] = "a VaeDecoder",
        [WO_PY_VAE_ENCODER] = "a VaeEncoder",
    };
    wo_py_kind found = wo_py_exec_network(self)->kind;
    if (found == kind)
        return check_usable(self, method);
    PyErr_Format(PyExc_TypeError, "%s: wanted an Exec of %s, but this one runs %s", method, words[kind], words[found]);
    return -1;
}

int wo_py_exec_run_turn(wo_py_exec *self, const char *method, wo_turn turn, wo_turn next, const void *request) {
    if (check_usable(self, method) < 0)
        return -1;
    PyObject *expert = turn.expert == 0 ? self->component : ((wo_py_plan *)self->plan)->second;
    const wo_py_network *network = ((wo_py_component *)expert)->network;
    pass_job job = {.exec = self->exec, .network = network, .turn = turn, .next = next, .request = request};
    wo_py_engine *engine = engine_of(self);
    int result = wo_py_engine_run(engine, wo_engine_cancel(engine->engine), run_pass, &job);
    if (result < 0 && job.begun)
        self->failed = true;
    return result;
}

/* ---- type ---- */

PyDoc_STRVAR(exec_doc, "Exec(engine, component, plan)\n--\n\n"
                       "A component in execution under a plan. Use as a context manager, or close().");
PyDoc_STRVAR(encode_doc, "encode($self, ids)\n--\n\n"
                         "TextEncoder: real token ids of each prompt -> [tokens, d_model] each.");
PyDoc_STRVAR(encode_images_doc, "encode_images($self, patches)\n--\n\n"
                                "ImageEncoder: patches [images, tokens - 1, channels * patch_size**2], columns in the order of\n"
                                "the weight -> hidden states before the last block [images, tokens, hidden_size].");
PyDoc_STRVAR(encode_frames_doc,
             "encode_frames($self, frames, first, follow=False)\n--\n\n"
             "VaeEncoder: frames [T, H, W, in_channels] in [-1, 1], T = 1 for the first and frames_per_latent later ->\n"
             "moments [2 * z, h, w]: mean, then log of the variance. follow: other frames come next.");
PyDoc_STRVAR(prepare_doc,
             "prepare($self, text, frames, height, width, unfolded=False, follow=True, images=None, image_of=None)\n--\n\n"
             "Transformer: (rows, embeds [real, text_dim]) of each batch item; starts a generation. Call again when\n"
             "texts or images change; their sizes are the plan's. follow: a step comes next (its first weights are\n"
             "prefetched). images: embeddings [count, rows, image_dim]; image_of: the index of each batch item's, as\n"
             "planned. Of two experts both are prepared.");
PyDoc_STRVAR(step_doc, "step($self, latents, timesteps, follow=False, expert=0, next_expert=None)\n--\n\n"
                       "Transformer: latents [B, C, F, h, w], timesteps [B] -> velocity [B, C_out, F, h, w].\n"
                       "follow: another step comes next. expert: whose step it is, 1 being the plan's second; next_expert: whose\n"
                       "comes next, where that is another's.");
PyDoc_STRVAR(decode_doc,
             "decode($self, latent, first, follow=False, clamp=True)\n--\n\n"
             "VaeDecoder: latent [z, h, w] -> frames [T, H, W, out_channels] in [-1, 1]. clamp=False leaves values\n"
             "outside as they are (tiles are blended before they are clamped). follow: another frame comes next.");
PyDoc_STRVAR(close_doc, "close($self, /)\n--\n\n"
                        "Gives memory back; returns the fields of wo_report. Further calls return the same numbers.");
PyDoc_STRVAR(trace_doc, "trace($self, /)\n--\n\n"
                        "Of a closed Exec whose plan was made while its engine records: \"events\", dicts of lane (\"read\",\n"
                        "\"copy\", \"compute\", \"stall\"), group (its name or None), expert, pass (from 1; 0 is loading), thread,\n"
                        "bytes, begin, end (seconds, as time.monotonic() counts them) and held (of \"copy\": when the group had a\n"
                        "place in the ring); and \"dropped\", how many there was no room for. Else None.");
PyDoc_STRVAR(enter_doc, "__enter__($self, /)\n--\n\n");
PyDoc_STRVAR(exit_doc, "__exit__($self, /, *args)\n--\n\n");

static PyMethodDef methods[] = {
    {"encode", WO_PY_METHOD(wo_py_exec_encode), METH_VARARGS | METH_KEYWORDS, encode_doc},
    {"encode_images", WO_PY_METHOD(wo_py_exec_encode_images), METH_VARARGS | METH_KEYWORDS, encode_images_doc},
    {"encode_frames", WO_PY_METHOD(wo_py_exec_encode_frames), METH_VARARGS | METH_KEYWORDS, encode_frames_doc},
    {"prepare", WO_PY_METHOD(wo_py_exec_prepare), METH_VARARGS | METH_KEYWORDS, prepare_doc},
    {"step", WO_PY_METHOD(wo_py_exec_step), METH_VARARGS | METH_KEYWORDS, step_doc},
    {"decode", WO_PY_METHOD(wo_py_exec_decode), METH_VARARGS | METH_KEYWORDS, decode_doc},
    {"close", exec_close, METH_NOARGS, close_doc},
    {"trace", exec_trace, METH_NOARGS, trace_doc},
    {"__enter__", exec_enter, METH_NOARGS, enter_doc},
    {"__exit__", exec_exit, METH_VARARGS, exit_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)exec_doc},
    {Py_tp_new, exec_new},
    {Py_tp_dealloc, exec_dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "wanoffload._core.Exec",
    .basicsize = sizeof(wo_py_exec),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

PyTypeObject *wo_py_exec_type(PyObject *module) { return (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL); }
