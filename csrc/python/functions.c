/* Functions of the module: threads, instruction sets, devices and memory of the process. */
#include "python/module.h"

#include "base/memory.h"
#include "base/pool.h"
#include "device/cpu/cpu.h"
#include "device/cuda/cuda.h"

#include <string.h>

enum { MOST_THREADS = 1024 };

wo_status wo_py_device_open(const char *name, wo_device **out, wo_error *err) {
    /* The dry device records instead of computing; it is the planner's own. */
    if (strcmp(name, "dry") == 0)
        WO_FAIL(err, WO_EVALUE, "there is no device 'dry'; devices: %s", wo_device_names());
    return wo_device_open(name, out, err);
}

static PyObject *set_num_threads(PyObject *module, PyObject *args, PyObject *names) {
    static char *keywords[] = {"threads", NULL};
    PyObject *value;
    int64_t threads;
    if (!PyArg_ParseTupleAndKeywords(args, names, "O:set_num_threads", keywords, &value) ||
        wo_py_int(value, "threads", 1, MOST_THREADS, &threads) < 0 || wo_py_check_process(PyModule_GetState(module)) < 0)
        return NULL;
    wo_error err;
    wo_status status;
    Py_BEGIN_ALLOW_THREADS
    status = wo_cpu_set_threads((int)threads, &err);
    Py_END_ALLOW_THREADS
    if (status != WO_OK) {
        wo_py_raise(PyModule_GetState(module), status, &err);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *get_num_threads(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)) {
    return PyLong_FromLong(wo_cpu_threads());
}

static PyObject *default_num_threads(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)) {
    char reason[512] = "";
    int threads = wo_pool_default_threads(reason, sizeof reason);
    PyObject *text = wo_py_text(reason);
    return text == NULL ? NULL : Py_BuildValue("iN", threads, text);
}

static PyObject *isa_dict(wo_isa isa) {
    PyObject *dict = PyDict_New();
    if (dict != NULL && (wo_py_put(dict, "name", wo_py_text(wo_isa_name(isa))) < 0 ||
                         wo_py_put(dict, "built", PyBool_FromLong(wo_isa_built(isa))) < 0 ||
                         wo_py_put(dict, "supported", PyBool_FromLong(wo_isa_supported(isa))) < 0 ||
                         wo_py_put(dict, "chosen", PyBool_FromLong(wo_cpu_isa() == isa)) < 0))
        Py_CLEAR(dict);
    return dict;
}

static PyObject *cpu_features(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)) {
    PyObject *list = PyList_New(0);
    for (int isa = 0; list != NULL && isa < WO_ISA_COUNT; isa++)
        if (wo_py_append(list, isa_dict((wo_isa)isa)) < 0)
            Py_CLEAR(list);
    return list;
}

/* The device that `name=` asks for, "cpu" unless given. */
static int read_name(PyObject *module, PyObject *args, PyObject *names, const char **name) {
    static char *keywords[] = {"name", NULL};
    PyObject *value = NULL;
    *name = "cpu";
    if (!PyArg_ParseTupleAndKeywords(args, names, "|O", keywords, &value) ||
        wo_py_check_process(PyModule_GetState(module)) < 0 || (value != NULL && wo_py_string(value, "name", name) < 0))
        return -1;
    return 0;
}

/* NULL with an exception when it cannot be opened. */
static wo_device *open_named(PyObject *module, const char *name) {
    wo_error err;
    wo_device *device = NULL;
    wo_status status;
    Py_BEGIN_ALLOW_THREADS
    status = wo_py_device_open(name, &device, &err);
    Py_END_ALLOW_THREADS
    if (status == WO_OK)
        return device;
    wo_py_raise(PyModule_GetState(module), status, &err);
    return NULL;
}

static PyObject *describe_device(PyObject *module, PyObject *args, PyObject *names) {
    const char *name;
    if (read_name(module, args, names, &name) < 0)
        return NULL;
    if (wo_py_is_cuda(name))
        return wo_py_cuda_describe();
    wo_device *device = open_named(module, name);
    if (device == NULL)
        return NULL;
    char text[4096] = "";
    wo_cpu_describe(text, sizeof text);
    wo_device_close(device);
    return wo_py_text(text);
}

static PyObject *device_memory(PyObject *module, PyObject *args, PyObject *names) {
    const char *name;
    if (read_name(module, args, names, &name) < 0)
        return NULL;
    wo_device *device = open_named(module, name);
    if (device == NULL)
        return NULL;
    wo_error err;
    uint64_t free_bytes = 0, total_bytes = 0;
    wo_status status = device->memory->budget(device, &free_bytes, &total_bytes, &err);
    wo_device_close(device);
    if (status == WO_OK)
        return Py_BuildValue("KK", (unsigned long long)free_bytes, (unsigned long long)total_bytes);
    wo_py_raise(PyModule_GetState(module), status, &err);
    return NULL;
}

static PyObject *host_memory(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)) {
    return Py_BuildValue("{sKsKsK}", "current", (unsigned long long)wo_memory_current(), "peak",
                         (unsigned long long)wo_memory_peak(), "pinned", (unsigned long long)wo_cuda_pinned_bytes());
}

PyDoc_STRVAR(set_num_threads_doc, "set_num_threads($module, threads)\n--\n\nSets the compute threads of the process.");
PyDoc_STRVAR(get_num_threads_doc, "get_num_threads($module, /)\n--\n\nCompute threads of the process.");
PyDoc_STRVAR(default_num_threads_doc, "default_num_threads($module, /)\n--\n\nThe default and why.");
PyDoc_STRVAR(cpu_features_doc, "cpu_features($module, /)\n--\n\n"
                               "One dict per instruction set, plain to best: name, built, supported, chosen.");
PyDoc_STRVAR(describe_device_doc, "describe_device($module, name='cpu')\n--\n\n"
                                  "Lines for `wanoffload doctor`: what was chosen and why; for \"cuda\" what is there, what is missing\n"
                                  "and what mends it, which never fails.");
PyDoc_STRVAR(device_memory_doc, "device_memory($module, name='cpu')\n--\n\n"
                                "(free, total) bytes; cpu respects the cgroup limit.");
PyDoc_STRVAR(host_memory_doc, "host_memory($module, /)\n--\n\n"
                              "Counted host memory of the core: current, peak; and what of it is pinned for cards now: pinned.");

PyMethodDef wo_py_functions[] = {
    {"set_num_threads", WO_PY_METHOD(set_num_threads), METH_VARARGS | METH_KEYWORDS, set_num_threads_doc},
    {"get_num_threads", get_num_threads, METH_NOARGS, get_num_threads_doc},
    {"default_num_threads", default_num_threads, METH_NOARGS, default_num_threads_doc},
    {"cpu_features", cpu_features, METH_NOARGS, cpu_features_doc},
    {"describe_device", WO_PY_METHOD(describe_device), METH_VARARGS | METH_KEYWORDS, describe_device_doc},
    {"device_memory", WO_PY_METHOD(device_memory), METH_VARARGS | METH_KEYWORDS, device_memory_doc},
    {"host_memory", host_memory, METH_NOARGS, host_memory_doc},
    {NULL, NULL, 0, NULL},
};
