/* One operation alone, for tests and benchmarks. Private to python. */
#ifndef WO_PYTHON_TESTING_OPS_H
#define WO_PYTHON_TESTING_OPS_H

#include "python/module.h"

/* arguments: a mapping of the argument struct's field names to (array, dtype, shape) for tensors, and to numbers. Returns a new (dict of the results as
 * float32 arrays, seconds of one call); NULL with an exception. */
PyObject *wo_py_run_op(wo_py_engine *engine, PyObject *name, PyObject *arguments, int64_t repeats);

#endif
