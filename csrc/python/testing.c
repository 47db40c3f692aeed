/* _testing: switches for the test suite, as static methods of a type that only serves as a name space. */
#include "python/testing_ops.h"

#include "base/memory.h"
#include "device/cpu/cpu.h"
#include "device/cuda/cuda.h"

/* A static method has no self. Only one module of this name is ever loaded in a process, in the main interpreter, so its type
 * is found through the import system. */
static wo_py_state *find_state(void) {
    PyObject *name = PyUnicode_FromString("wanoffload._core");
    PyObject *module = name == NULL ? NULL : PyImport_GetModule(name);
    wo_py_state *state = module == NULL ? NULL : PyModule_GetState(module);
    Py_XDECREF(name);
    Py_XDECREF(module);
    if (state == NULL && !PyErr_Occurred())
        PyErr_SetString(PyExc_ImportError, "wanoffload._core is not loaded");
    return state;
}

static PyObject *none_or_raise(wo_py_state *state, wo_status status, const wo_error *err) {
    if (status == WO_OK)
        Py_RETURN_NONE;
    wo_py_raise(state, status, err);
    return NULL;
}

static PyObject *force_isa(PyObject *Py_UNUSED(none), PyObject *args, PyObject *names) {
    static char *keywords[] = {"name", NULL};
    PyObject *value;
    int isa = WO_ISA_COUNT;
    wo_py_state *state = find_state();
    if (state == NULL || !PyArg_ParseTupleAndKeywords(args, names, "O:force_isa", keywords, &value))
        return NULL;
    const char *words[WO_ISA_COUNT + 1] = {NULL};
    for (int i = 0; i < WO_ISA_COUNT; i++)
        words[i] = wo_isa_name((wo_isa)i);
    if (value != Py_None && wo_py_word(value, "name", words, &isa) < 0)
        return NULL;
    wo_error err;
    return none_or_raise(state, wo_cpu_force_isa((wo_isa)isa, &err), &err);
}

static PyObject *edges(PyObject *Py_UNUSED(none), PyObject *Py_UNUSED(args)) {
    static const char *const rows[][2] = {
#define EDGE_ROW(id, name, text) {name, text},
        WO_EDGE_LIST(EDGE_ROW)
#undef EDGE_ROW
    };
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < sizeof rows / sizeof *rows; i++)
        if (wo_py_append(list, Py_BuildValue("ss", rows[i][0], rows[i][1])) < 0)
            Py_CLEAR(list);
    return list;
}

static int read_edges(PyObject *value, const char *name, uint32_t *bits) {
    const char *words[WO_EDGE_COUNT + 1] = {NULL};
    for (int i = 0; i < WO_EDGE_COUNT; i++)
        words[i] = wo_edge_name((wo_edge)i);
    *bits = 0;
    PyObject *list = value == NULL ? PyList_New(0) : wo_py_sequence(value, name, "a list of names");
    if (list == NULL)
        return -1;
    int result = 0, edge;
    for (Py_ssize_t i = 0; result == 0 && i < PySequence_Fast_GET_SIZE(list); i++) {
        result = wo_py_word(PySequence_Fast_GET_ITEM(list, i), name, words, &edge);
        if (result == 0)
            *bits |= UINT32_C(1) << edge;
    }
    Py_DECREF(list);
    return result;
}

static PyObject *configure(PyObject *Py_UNUSED(none), PyObject *args, PyObject *names) {
    static char *keywords[] = {"engine",     "cut_edges",   "delay_edges",  "delay_seconds", "poison",
                               "chaos_seed", "chaos_delay", "fail_copy_at", NULL};
    PyObject *engine, *cut = NULL, *delay = NULL, *delay_seconds = NULL, *poison = NULL;
    PyObject *seed = NULL, *chaos_delay = NULL, *fail_copy = NULL;
    wo_py_state *state = find_state();
    if (state == NULL || !PyArg_ParseTupleAndKeywords(args, names, "O|OOOOOOO:configure", keywords, &engine, &cut, &delay,
                                                      &delay_seconds, &poison, &seed, &chaos_delay, &fail_copy))
        return NULL;
    wo_testing t = {.cut_edges = 0};
    int64_t number = 0;
    if (wo_py_instance(engine, "engine", state->engine) < 0 || read_edges(cut, "cut_edges", &t.cut_edges) < 0 ||
        read_edges(delay, "delay_edges", &t.delay_edges) < 0 ||
        (delay_seconds != NULL && wo_py_real(delay_seconds, "delay_seconds", 0.0, 60.0, &t.delay_seconds) < 0) ||
        (poison != NULL && wo_py_bool(poison, "poison", &t.poison) < 0) ||
        (seed != NULL && wo_py_int(seed, "chaos_seed", 0, INT64_MAX, &number) < 0) ||
        (chaos_delay != NULL && wo_py_real(chaos_delay, "chaos_delay", 0.0, 60.0, &t.chaos_delay) < 0) ||
        (fail_copy != NULL && wo_py_int(fail_copy, "fail_copy_at", 0, INT64_MAX, &t.fail_copy_at) < 0) ||
        wo_py_engine_check_idle((wo_py_engine *)engine) < 0)
        return NULL;
    t.chaos_seed = (uint64_t)number;
    wo_engine_set_testing(((wo_py_engine *)engine)->engine, &t);
    Py_RETURN_NONE;
}

/* The one argument of a switch, an integer called n. */
static int read_count(PyObject *args, PyObject *names, int64_t *out) {
    static char *keywords[] = {"n", NULL};
    PyObject *value;
    if (!PyArg_ParseTupleAndKeywords(args, names, "O", keywords, &value))
        return -1;
    return wo_py_int(value, "n", 0, INT64_MAX, out);
}

static PyObject *fail_allocation(PyObject *Py_UNUSED(none), PyObject *args, PyObject *names) {
    int64_t n;
    if (read_count(args, names, &n) < 0)
        return NULL;
    wo_memory_fail_at(n);
    Py_RETURN_NONE;
}

static PyObject *fail_read(PyObject *Py_UNUSED(none), PyObject *args, PyObject *names) {
    int64_t n;
    if (read_count(args, names, &n) < 0)
        return NULL;
    wo_store_fail_at(n);
    Py_RETURN_NONE;
}

static PyObject *delay_reads(PyObject *Py_UNUSED(none), PyObject *args, PyObject *names) {
    static char *keywords[] = {"seconds", NULL};
    PyObject *value;
    double seconds;
    if (!PyArg_ParseTupleAndKeywords(args, names, "O:delay_reads", keywords, &value) ||
        wo_py_real(value, "seconds", 0.0, 60.0, &seconds) < 0)
        return NULL;
    wo_store_delay(seconds);
    Py_RETURN_NONE;
}

static PyObject *reset_peak(PyObject *Py_UNUSED(none), PyObject *Py_UNUSED(args)) {
    wo_memory_reset_peak();
    Py_RETURN_NONE;
}

static PyObject *tiles_after_cancel(PyObject *Py_UNUSED(none), PyObject *args, PyObject *names) {
    static char *keywords[] = {"engine", NULL};
    PyObject *engine;
    wo_py_state *state = find_state();
    if (state == NULL || !PyArg_ParseTupleAndKeywords(args, names, "O:tiles_after_cancel", keywords, &engine) ||
        wo_py_instance(engine, "engine", state->engine) < 0)
        return NULL;
    return PyLong_FromLongLong(atomic_load(&wo_engine_cancel(((wo_py_engine *)engine)->engine)->tiles_after));
}

static PyObject *probe_peak(PyObject *Py_UNUSED(none), PyObject *args, PyObject *names) {
    static char *keywords[] = {"kind", NULL};
    static const char *const words[] = {"float32", "bfloat16", NULL};
    PyObject *value;
    int kind;
    wo_py_state *state = find_state();
    if (state == NULL || wo_py_check_process(state) < 0 || !PyArg_ParseTupleAndKeywords(args, names, "O:probe_peak", keywords, &value) ||
        wo_py_word(value, "kind", words, &kind) < 0)
        return NULL;
    double peak;
    Py_BEGIN_ALLOW_THREADS
    peak = wo_cpu_probe_peak(kind == 1);
    Py_END_ALLOW_THREADS
    return PyFloat_FromDouble(peak);
}

static PyObject *own_kernels_only(PyObject *Py_UNUSED(none), PyObject *args, PyObject *names) {
    static char *keywords[] = {"only", NULL};
    PyObject *value;
    bool only;
    if (!PyArg_ParseTupleAndKeywords(args, names, "O:own_kernels_only", keywords, &value) || wo_py_bool(value, "only", &only) < 0)
        return NULL;
    wo_cuda_set_own_kernels_only(only);
    Py_RETURN_NONE;
}

static PyObject *run_op(PyObject *Py_UNUSED(none), PyObject *args, PyObject *names) {
    static char *keywords[] = {"engine", "op", "arguments", "repeats", NULL};
    PyObject *engine, *op, *arguments, *count = NULL;
    int64_t repeats = 0;
    wo_py_state *state = find_state();
    if (state == NULL || !PyArg_ParseTupleAndKeywords(args, names, "OOO|O:run_op", keywords, &engine, &op, &arguments, &count) ||
        wo_py_instance(engine, "engine", state->engine) < 0 ||
        (count != NULL && wo_py_int(count, "repeats", 0, INT32_MAX, &repeats) < 0))
        return NULL;
    return wo_py_run_op((wo_py_engine *)engine, op, arguments, repeats);
}

PyDoc_STRVAR(testing_doc, "Switches for the test suite; static methods only.");
PyDoc_STRVAR(force_isa_doc, "force_isa(name)\n--\n\n"
                            "Forces an instruction set for the process; None returns to the best.");
PyDoc_STRVAR(edges_doc, "edges()\n--\n\n(name, meaning) of each synchronisation edge of the streamer.");
PyDoc_STRVAR(configure_doc, "configure(engine, **fields)\n--\n\n"
                            "cut_edges, delay_edges (lists of names), delay_seconds, poison, chaos_seed, chaos_delay,\n"
                            "fail_copy_at. What is not given is off.");
PyDoc_STRVAR(fail_allocation_doc, "fail_allocation(n)\n--\n\n"
                                  "The n-th counted allocation from now fails, once; 0 switches off.");
PyDoc_STRVAR(fail_read_doc, "fail_read(n)\n--\n\nThe n-th read from now fails with EIO, once; 0 switches off.");
PyDoc_STRVAR(delay_reads_doc, "delay_reads(seconds)\n--\n\nEvery read first sleeps so long.");
PyDoc_STRVAR(reset_peak_doc, "reset_peak()\n--\n\nBegins a new host_memory()[\"peak\"].");
PyDoc_STRVAR(tiles_after_cancel_doc, "tiles_after_cancel(engine)\n--\n\nTiles that threads began after the last cancel.");
PyDoc_STRVAR(probe_peak_doc, "probe_peak(kind)\n--\n\n"
                             "FLOP/s that all compute threads reach between registers, \"float32\" or \"bfloat16\".");
PyDoc_STRVAR(own_kernels_only_doc, "own_kernels_only(only)\n--\n\n"
                                   "Cuda devices opened from now on do without cuBLASLt and cuDNN, even if they are there.");
PyDoc_STRVAR(run_op_doc, "run_op(engine, op, arguments, repeats=0)\n--\n\n"
                         "One operation on the engine's device: ({name: result as float32}, seconds of a call, the mean of\n"
                         "repeats behind a first one). arguments: by the names of its fields, tensors as (array of one axis,\n"
                         "dtype, shape), where the array is repeated until the tensor is full and None for results; a\n"
                         "convolution's frames are one tensor [frames, height, width, channels], of which the first\n"
                         "null_frames are frames of zeros that are not there. An input given as the name of a result is that\n"
                         "tensor itself ({\"residual\": \"y\"}), which then begins with an array of its own.");

enum { WITH_NAMES = METH_VARARGS | METH_KEYWORDS | METH_STATIC };

static PyMethodDef methods[] = {
    {"force_isa", WO_PY_METHOD(force_isa), WITH_NAMES, force_isa_doc},
    {"edges", edges, METH_NOARGS | METH_STATIC, edges_doc},
    {"configure", WO_PY_METHOD(configure), WITH_NAMES, configure_doc},
    {"fail_allocation", WO_PY_METHOD(fail_allocation), WITH_NAMES, fail_allocation_doc},
    {"fail_read", WO_PY_METHOD(fail_read), WITH_NAMES, fail_read_doc},
    {"delay_reads", WO_PY_METHOD(delay_reads), WITH_NAMES, delay_reads_doc},
    {"reset_peak", reset_peak, METH_NOARGS | METH_STATIC, reset_peak_doc},
    {"probe_peak", WO_PY_METHOD(probe_peak), WITH_NAMES, probe_peak_doc},
    {"own_kernels_only", WO_PY_METHOD(own_kernels_only), WITH_NAMES, own_kernels_only_doc},
    {"run_op", WO_PY_METHOD(run_op), WITH_NAMES, run_op_doc},
    {"tiles_after_cancel", WO_PY_METHOD(tiles_after_cancel), WITH_NAMES, tiles_after_cancel_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)testing_doc},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "wanoffload._core._testing",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

PyTypeObject *wo_py_testing_type(PyObject *module) { return (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL); }
