/* wanoffload._core: multi-phase initialisation, heap types, and all state in the module. The core below has one CPU device
 * and one count of memory per process, so the module is for the main interpreter only, and refuses others cleanly. */
#include "python/module.h"

static int refuse_subinterpreter(void) {
    if (PyInterpreterState_Get() == PyInterpreterState_Main())
        return 0;
    PyErr_SetString(PyExc_ImportError, "wanoffload._core does not support subinterpreters");
    return -1;
}

static int add_type(PyObject *module, PyTypeObject **slot, PyTypeObject *type) {
    *slot = type;
    return type == NULL ? -1 : PyModule_AddType(module, type);
}

static int add_types(PyObject *module, wo_py_state *state) {
    if (add_type(module, &state->store, wo_py_store_type(module)) < 0 ||
        add_type(module, &state->component, wo_py_component_type(module)) < 0 ||
        add_type(module, &state->plan, wo_py_plan_type(module)) < 0 ||
        add_type(module, &state->engine, wo_py_engine_type(module)) < 0 ||
        add_type(module, &state->exec, wo_py_exec_type(module)) < 0 || wo_py_network_types(module, state) < 0)
        return -1;
    for (size_t i = 0; i < sizeof state->networks / sizeof *state->networks; i++)
        if (PyModule_AddType(module, state->networks[i]) < 0)
            return -1;
    PyTypeObject *testing = wo_py_testing_type(module);
    int result = testing == NULL ? -1 : PyModule_AddType(module, testing);
    Py_XDECREF(testing);
    return result;
}

static int module_exec(PyObject *module) {
    wo_py_state *state = PyModule_GetState(module);
    if (refuse_subinterpreter() < 0 || wo_py_arrays_init() < 0 || wo_py_errors_init(state) < 0 ||
        add_types(module, state) < 0 || PyModule_AddFunctions(module, wo_py_cuda_functions) < 0)
        return -1;
    return wo_py_job_watch_exit(module);
}

static int module_traverse(PyObject *module, visitproc visit, void *arg) {
    wo_py_state *state = PyModule_GetState(module);
    for (int i = 0; i < WO_STATUS_COUNT; i++)
        Py_VISIT(state->exceptions[i]);
    for (size_t i = 0; i < sizeof state->networks / sizeof *state->networks; i++)
        Py_VISIT(state->networks[i]);
    Py_VISIT(state->store);
    Py_VISIT(state->component);
    Py_VISIT(state->plan);
    Py_VISIT(state->engine);
    Py_VISIT(state->exec);
    return 0;
}

static int module_clear(PyObject *module) {
    wo_py_state *state = PyModule_GetState(module);
    for (int i = 0; i < WO_STATUS_COUNT; i++)
        Py_CLEAR(state->exceptions[i]);
    for (size_t i = 0; i < sizeof state->networks / sizeof *state->networks; i++)
        Py_CLEAR(state->networks[i]);
    Py_CLEAR(state->store);
    Py_CLEAR(state->component);
    Py_CLEAR(state->plan);
    Py_CLEAR(state->engine);
    Py_CLEAR(state->exec);
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
    {0, NULL},
};

PyDoc_STRVAR(module_doc,
             "The C core. Arrays handed in are read while the call lasts; arrays handed out are new. Long calls release the GIL,\n"
             "run on a core thread, and raise KeyboardInterrupt soon after Ctrl-C. Errors are the classes of\n"
             "wanoffload.errors.");

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "wanoffload._core",
    .m_doc = module_doc,
    .m_size = sizeof(wo_py_state),
    .m_methods = wo_py_functions,
    .m_slots = slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
};

/* The only symbol that the module exports. */
PyMODINIT_FUNC PyInit__core(void);
PyMODINIT_FUNC PyInit__core(void) { return PyModuleDef_Init(&definition); }
