/* Long calls run as jobs on a core thread, while the caller waits without the GIL and takes signals. */
#ifndef WO_PYTHON_JOB_H
#define WO_PYTHON_JOB_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "base/cancel.h"
#include "base/status.h"

/* Runs on a core thread without the GIL and must not touch Python. */
typedef wo_status (*wo_py_job_fn)(void *job, wo_error *err);

/* One core thread that runs one job at a time. */
typedef struct wo_py_worker wo_py_worker;
wo_status wo_py_worker_create(wo_py_worker **out, wo_error *err);
void wo_py_worker_destroy(wo_py_worker *worker); /* the worker is idle; NULL is fine */

struct wo_py_state;
/* Runs fn(job) on the worker and waits for its end. 0, or -1 with an exception: the job's own, or that of a signal handler,
 * for which cancel (may be NULL) was requested and the job's end awaited. So on -1 the job may have succeeded: what it made
 * is the caller's to give back. GIL held. */
int wo_py_job_run(struct wo_py_state *state, wo_py_worker *worker, wo_cancel *cancel, wo_py_job_fn fn, void *job);

/* When the interpreter exits, running jobs are cancelled and awaited, for a thread that dies takes its job's memory along. */
int wo_py_job_watch_exit(PyObject *module);

#endif
