/* Engine: one call at a time, each on the engine's own core thread.
 *
 *   idle --- busy: job on the core thread --- end: let go of what was abandoned --- idle
 *
 * Two things may outlive their Python objects here, because those can be collected while the engine is busy: an open exec
 * (the orphan) and a network whose weights the engine holds (a tie to an abandoned network). `end` closes and drops them.
 */
#include "python/module.h"

#include "device/cuda/cuda.h"

#include <unistd.h>

/* ---- calls ---- */

/* True in a child process whose engines are copies without threads. Nothing can be waited for there, so what they hold is
 * left alone, as a child that is about to run another program does with all memory. */
static bool inherited(const wo_py_state *state) { return state->process != 0 && state->process != getpid(); }

int wo_py_check_process(const wo_py_state *state) {
    if (!inherited(state))
        return 0;
    PyErr_SetString(PyExc_RuntimeError, "this process was forked from one that had engines, whose threads are not here; "
                                        "use multiprocessing's \"spawn\" or make the first engine after the fork");
    return -1;
}

int wo_py_engine_check_idle(const wo_py_engine *engine) {
    if (!engine->busy)
        return 0;
    PyErr_SetString(wo_py_state_of((PyObject *)engine)->exceptions[WO_EBUSY],
                    "another call is running on this engine, which serves one call at a time");
    return -1;
}

static void close_orphan(wo_py_engine *engine) {
    wo_exec *exec = engine->orphan;
    wo_plan *plan = engine->orphan_plan;
    engine->orphan = NULL;
    engine->orphan_plan = NULL;
    Py_BEGIN_ALLOW_THREADS
    wo_report report;
    wo_exec_close(exec, &report);
    wo_plan_release(plan);
    Py_END_ALLOW_THREADS
    engine->open = engine->open_second = NULL;
}

static wo_py_tie **find_abandoned(wo_py_engine *engine) {
    for (wo_py_tie **at = &engine->ties; *at != NULL; at = &(*at)->next)
        if ((*at)->network->abandoned)
            return at;
    return NULL;
}

static void drop_abandoned(wo_py_engine *engine, wo_py_tie **at) {
    wo_py_tie *tie = *at;
    *at = tie->next;
    Py_BEGIN_ALLOW_THREADS
    wo_engine_drop(engine->engine, tie->network->component);
    Py_END_ALLOW_THREADS
    wo_py_network_release(tie->network);
    PyMem_Free(tie);
}

/* The GIL is let go of in between, and more may be abandoned then: hence the loop. */
static void end(wo_py_engine *engine) {
    wo_py_tie **at;
    engine->stoppable = NULL;
    while (engine->orphan != NULL || (at = find_abandoned(engine)) != NULL) {
        if (engine->orphan != NULL)
            close_orphan(engine);
        else
            drop_abandoned(engine, at);
    }
    engine->busy = false;
}

int wo_py_engine_run(wo_py_engine *engine, wo_cancel *cancel, wo_py_job_fn fn, void *job) {
    wo_py_state *state = wo_py_state_of((PyObject *)engine);
    if (wo_py_check_process(state) < 0 || wo_py_engine_check_idle(engine) < 0)
        return -1;
    engine->busy = true;
    engine->stoppable = cancel;
    int result = wo_py_job_run(state, engine->worker, cancel, fn, job);
    end(engine);
    return result;
}

int wo_py_engine_tie(wo_py_engine *engine, wo_py_network *network) {
    for (const wo_py_tie *tie = engine->ties; tie != NULL; tie = tie->next)
        if (tie->network == network)
            return 0;
    wo_py_tie *tie = PyMem_Malloc(sizeof *tie);
    if (tie == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    *tie = (wo_py_tie){.network = network, .next = engine->ties};
    engine->ties = tie;
    network->holders++;
    return 0;
}

/* The list may change while an engine lets go, so the search starts anew after each. */
static wo_py_engine *find_idle_holder(wo_py_state *state) {
    for (wo_py_engine *engine = state->engines; engine != NULL; engine = engine->next)
        if (!engine->busy && find_abandoned(engine) != NULL)
            return engine;
    return NULL;
}

void wo_py_engines_abandon(wo_py_state *state, wo_py_network *network) {
    network->abandoned = true;
    wo_py_engine *engine;
    while (!inherited(state) && (engine = find_idle_holder(state)) != NULL) {
        Py_INCREF(engine);
        engine->busy = true;
        end(engine);
        Py_DECREF(engine);
    }
}

void wo_py_engine_abandon_exec(wo_py_engine *engine, wo_exec *exec, wo_plan *plan) {
    if (inherited(wo_py_state_of((PyObject *)engine)))
        return;
    engine->orphan = exec;
    engine->orphan_plan = wo_plan_retain(plan);
    if (!engine->busy) {
        engine->busy = true;
        end(engine);
    }
}

/* ---- life ---- */

static PyObject *engine_new(PyTypeObject *type, PyObject *args, PyObject *names) {
    static char *keywords[] = {"device", NULL};
    PyObject *value = NULL;
    const char *name = "cpu";
    wo_py_state *state = PyType_GetModuleState(type);
    if (!PyArg_ParseTupleAndKeywords(args, names, "|O:Engine", keywords, &value) ||
        wo_py_check_process(state) < 0 || (value != NULL && wo_py_string(value, "device", &name) < 0))
        return NULL;
    wo_py_engine *self = (wo_py_engine *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    wo_error err;
    wo_device *device = NULL;
    wo_status status = wo_py_device_open(name, &device, &err);
    if (status == WO_OK && (status = wo_engine_create(device, &self->engine, &err)) != WO_OK)
        wo_device_close(device);
    if (status == WO_OK)
        status = wo_py_worker_create(&self->worker, &err);
    if (status != WO_OK) {
        wo_py_raise(state, status, &err);
        Py_DECREF(self);
        return NULL;
    }
    state->process = getpid();
    self->next = state->engines;
    if (self->next != NULL)
        self->next->previous = self;
    state->engines = self;
    return (PyObject *)self;
}

static void leave_list(wo_py_state *state, wo_py_engine *self) {
    if (self->previous != NULL)
        self->previous->next = self->next;
    else if (state->engines == self)
        state->engines = self->next;
    if (self->next != NULL)
        self->next->previous = self->previous;
}

static void give_up_handles(wo_py_engine *self) {
    Py_BEGIN_ALLOW_THREADS
    if (self->engine != NULL) {
        wo_device *device = wo_engine_device(self->engine);
        wo_engine_destroy(self->engine);
        wo_device_close(device);
    }
    wo_py_worker_destroy(self->worker);
    Py_END_ALLOW_THREADS
    while (self->ties != NULL) {
        wo_py_tie *tie = self->ties;
        self->ties = tie->next;
        wo_py_network_release(tie->network);
        PyMem_Free(tie);
    }
}

/* An engine is never collected during a call, for the caller holds it; nor with an open Exec, which holds it too. */
static void engine_dealloc(PyObject *object) {
    wo_py_engine *self = (wo_py_engine *)object;
    PyTypeObject *type = Py_TYPE(object);
    wo_py_state *state = wo_py_state_of(object);
    leave_list(state, self);
    if (!inherited(state)) {
        if (state->engines == NULL)
            state->process = 0;
        give_up_handles(self);
    }
    type->tp_free(object);
    Py_DECREF(type);
}

/* ---- methods ---- */

typedef struct {
    wo_engine *engine;
    size_t bytes;
    const wo_component *component;
    wo_engine_held held;
} engine_job;

static wo_status reserve(void *context, wo_error *err) {
    const engine_job *job = context;
    return wo_engine_reserve(job->engine, job->bytes, err);
}

static wo_status release_arena(void *context, wo_error *Py_UNUSED(err)) {
    wo_engine_release_arena(((engine_job *)context)->engine);
    return WO_OK;
}

static wo_status drop(void *context, wo_error *Py_UNUSED(err)) {
    const engine_job *job = context;
    wo_engine_drop(job->engine, job->component);
    return WO_OK;
}

static wo_status drop_residents(void *context, wo_error *Py_UNUSED(err)) {
    const engine_job *job = context;
    wo_engine_drop_residents(job->engine, job->component);
    return WO_OK;
}

static wo_status get_held(void *context, wo_error *Py_UNUSED(err)) {
    engine_job *job = context;
    wo_engine_get_held(job->engine, &job->held);
    return WO_OK;
}

/* What an open Exec uses stays until it is closed. network: NULL stands for any. */
static int check_closed(const wo_py_engine *self, const wo_py_network *network, const char *what) {
    if (wo_py_engine_check_idle(self) < 0)
        return -1;
    if (self->open == NULL || (network != NULL && network != self->open && network != self->open_second))
        return 0;
    PyErr_Format(PyExc_ValueError, "%s: an Exec of the %s is open; close() it first", what,
                 wo_component_name(self->open->component));
    return -1;
}

static PyObject *run_to_none(wo_py_engine *self, wo_py_job_fn fn, engine_job *job) {
    job->engine = self->engine;
    if (wo_py_engine_run(self, NULL, fn, job) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *engine_reserve(PyObject *object, PyObject *args, PyObject *names) {
    static char *keywords[] = {"bytes", NULL};
    PyObject *value;
    int64_t bytes;
    if (!PyArg_ParseTupleAndKeywords(args, names, "O:reserve", keywords, &value) ||
        wo_py_int(value, "bytes", 0, INT64_MAX, &bytes) < 0 || check_closed((wo_py_engine *)object, NULL, "reserve") < 0)
        return NULL;
    return run_to_none((wo_py_engine *)object, reserve, &(engine_job){.bytes = (size_t)bytes});
}

static PyObject *engine_release_arena(PyObject *object, PyObject *Py_UNUSED(none)) {
    if (check_closed((wo_py_engine *)object, NULL, "release_arena") < 0)
        return NULL;
    return run_to_none((wo_py_engine *)object, release_arena, &(engine_job){.bytes = 0});
}

static PyObject *drop_by(PyObject *object, PyObject *args, PyObject *names, const char *what, wo_py_job_fn fn) {
    static char *keywords[] = {"component", NULL};
    PyObject *value = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, names, "|O", keywords, &value) ||
        (value != Py_None && wo_py_instance(value, "component", wo_py_state_of(object)->component) < 0))
        return NULL;
    const wo_py_network *network = value == Py_None ? NULL : ((wo_py_component *)value)->network;
    if (check_closed((wo_py_engine *)object, network, what) < 0)
        return NULL;
    engine_job job = {.component = network == NULL ? NULL : network->component};
    return run_to_none((wo_py_engine *)object, fn, &job);
}

static PyObject *engine_drop(PyObject *object, PyObject *args, PyObject *names) {
    return drop_by(object, args, names, "drop", drop);
}

static PyObject *engine_drop_residents(PyObject *object, PyObject *args, PyObject *names) {
    return drop_by(object, args, names, "drop_residents", drop_residents);
}

static PyObject *engine_record_trace(PyObject *object, PyObject *args, PyObject *names) {
    static char *keywords[] = {"spans", NULL};
    wo_py_engine *self = (wo_py_engine *)object;
    PyObject *value;
    int64_t spans;
    if (!PyArg_ParseTupleAndKeywords(args, names, "O:record_trace", keywords, &value) ||
        wo_py_int(value, "spans", 0, 1 << 24, &spans) < 0 || wo_py_engine_check_idle(self) < 0)
        return NULL;
    self->trace_spans = spans;
    Py_RETURN_NONE;
}

static PyObject *engine_held(PyObject *object, PyObject *Py_UNUSED(none)) {
    wo_py_engine *self = (wo_py_engine *)object;
    engine_job job = {.engine = self->engine};
    if (wo_py_engine_run(self, NULL, get_held, &job) < 0)
        return NULL;
    PyObject *dict = PyDict_New();
    if (dict != NULL &&
        (wo_py_put(dict, "resident_bytes", PyLong_FromSize_t(job.held.resident_bytes)) < 0 ||
         wo_py_put(dict, "slab_bytes", PyLong_FromSize_t(job.held.slab_bytes)) < 0 ||
         wo_py_put(dict, "arena_bytes", PyLong_FromSize_t(job.held.arena_bytes)) < 0 ||
         wo_py_put(dict, "other_host_bytes", PyLong_FromSize_t(job.held.other_host_bytes)) < 0))
        Py_CLEAR(dict);
    return dict;
}

static PyObject *engine_cancel(PyObject *object, PyObject *Py_UNUSED(none)) {
    wo_py_engine *self = (wo_py_engine *)object;
    if (self->stoppable != NULL)
        wo_cancel_request(self->stoppable);
    Py_RETURN_NONE;
}

static PyObject *engine_device(PyObject *object, void *Py_UNUSED(closure)) {
    return wo_py_text(wo_engine_device(((wo_py_engine *)object)->engine)->name);
}

static PyObject *engine_host_addressable(PyObject *object, void *Py_UNUSED(closure)) {
    return PyBool_FromLong(wo_engine_device(((wo_py_engine *)object)->engine)->memory->host_addressable);
}

static PyObject *engine_planning_only(PyObject *object, void *Py_UNUSED(closure)) {
    const wo_device *device = wo_engine_device(((wo_py_engine *)object)->engine);
    return PyBool_FromLong(wo_py_is_cuda(device->name) && wo_cuda_is_planning_only(device));
}

/* ---- type ---- */

PyDoc_STRVAR(engine_doc,
             "Engine(device='cpu')\n--\n\n"
             "Streams, readers, the work arena, residents and slabs. One call at a time: a second one raises BusyError.\n\n"
             "What it holds of a component goes when the component is dropped or collected.");
PyDoc_STRVAR(reserve_doc, "reserve($self, bytes)\n--\n\n"
                          "Grows the work arena to at least so many bytes. An open Exec uses it: ValueError.");
PyDoc_STRVAR(release_arena_doc, "release_arena($self, /)\n--\n\n"
                                "Frees the work arena. An open Exec uses it: ValueError.");
PyDoc_STRVAR(drop_doc, "drop($self, component=None)\n--\n\n"
                       "Forgets the residents and host slabs of a component, or of all. An open Exec of it: ValueError.");
PyDoc_STRVAR(drop_residents_doc, "drop_residents($self, component=None)\n--\n\n"
                                 "Forgets the residents of a component, or of all. An open Exec of it: ValueError.");
PyDoc_STRVAR(held_doc, "held($self, /)\n--\n\n"
                       "Bytes now held: resident_bytes, slab_bytes, arena_bytes, other_host_bytes.");
PyDoc_STRVAR(record_trace_doc,
             "record_trace($self, spans)\n--\n\n"
             "Plans made from now on have room for a trace of so many spans (a group visited or read), counted in their\n"
             "fixed_bytes, and an Exec under such a plan records it. 0: none.");
PyDoc_STRVAR(cancel_doc, "cancel($self, /)\n--\n\n"
                         "Stops the call that is running, which then raises KeyboardInterrupt. Any thread.");

static PyMethodDef methods[] = {
    {"reserve", WO_PY_METHOD(engine_reserve), METH_VARARGS | METH_KEYWORDS, reserve_doc},
    {"release_arena", engine_release_arena, METH_NOARGS, release_arena_doc},
    {"drop", WO_PY_METHOD(engine_drop), METH_VARARGS | METH_KEYWORDS, drop_doc},
    {"drop_residents", WO_PY_METHOD(engine_drop_residents), METH_VARARGS | METH_KEYWORDS, drop_residents_doc},
    {"held", engine_held, METH_NOARGS, held_doc},
    {"record_trace", WO_PY_METHOD(engine_record_trace), METH_VARARGS | METH_KEYWORDS, record_trace_doc},
    {"cancel", engine_cancel, METH_NOARGS, cancel_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef properties[] = {
    {"device", engine_device, NULL, "Name of the device.", NULL},
    {"host_addressable", engine_host_addressable, NULL, "Whether the device's memory is host memory, and counts as such.", NULL},
    {"planning_only", engine_planning_only, NULL, "Whether it can be planned for and not be run.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)engine_doc}, {Py_tp_new, engine_new},    {Py_tp_dealloc, engine_dealloc},
    {Py_tp_methods, methods},        {Py_tp_getset, properties}, {0, NULL},
};

static PyType_Spec spec = {
    .name = "wanoffload._core.Engine",
    .basicsize = sizeof(wo_py_engine),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

PyTypeObject *wo_py_engine_type(PyObject *module) { return (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL); }
