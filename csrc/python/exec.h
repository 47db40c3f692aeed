/* Exec objects: what exec.c (life, running a pass), passes.c and passes_transformer.c (the passes of each network) share. */
#ifndef WO_PYTHON_EXEC_H
#define WO_PYTHON_EXEC_H

#include "python/module.h"

typedef struct {
    PyObject_HEAD
    wo_exec *exec; /* NULL when closed */
    PyObject *engine, *component, *plan;
    bool failed;   /* a pass was begun and did not end well: fit only for close */
    bool prepared; /* Transformer: a generation has begun */
    bool started;  /* VaeDecoder, VaeEncoder: the first frame is through */
    wo_text *text; /* Transformer: texts and images of this generation; embeddings lie in the arrays below */
    const float *images;
    PyObject *embeds;
    wo_report report; /* when closed */
    PyObject *trace;  /* when closed: what trace() returns, NULL when none was recorded */
} wo_py_exec;

/* TypeError when the Exec runs another kind of network; BusyError, or ValueError when it is closed or failed. method: the name
 * of the method, for messages. */
int wo_py_exec_check(const wo_py_exec *self, wo_py_kind kind, const char *method);
/* Runs one pass, after the same checks of busy and closed: another thread may have closed it while arguments were read. */
int wo_py_exec_run_turn(wo_py_exec *self, const char *method, wo_turn turn, wo_turn next, const void *request);
static inline int wo_py_exec_run(wo_py_exec *self, const char *method, int pass, int next, const void *request) {
    return wo_py_exec_run_turn(self, method, (wo_turn){.pass = pass}, (wo_turn){.pass = next}, request);
}

static inline const wo_py_network *wo_py_exec_network(const wo_py_exec *self) {
    return ((wo_py_component *)self->component)->network;
}
/* 2 when another Transformer takes turns. */
static inline int wo_py_exec_experts(const wo_py_exec *self) { return ((wo_py_plan *)self->plan)->second != NULL ? 2 : 1; }
static inline const wo_py_request *wo_py_exec_request(const wo_py_exec *self) {
    return &((wo_py_plan *)self->plan)->request;
}

/* traces.c: what Exec.trace() returns. */
PyObject *wo_py_trace_dict(const wo_trace *trace, const wo_plan *plan);

PyObject *wo_py_exec_encode(PyObject *self, PyObject *args, PyObject *names);
PyObject *wo_py_exec_encode_images(PyObject *self, PyObject *args, PyObject *names);
PyObject *wo_py_exec_encode_frames(PyObject *self, PyObject *args, PyObject *names);
PyObject *wo_py_exec_prepare(PyObject *self, PyObject *args, PyObject *names);
PyObject *wo_py_exec_step(PyObject *self, PyObject *args, PyObject *names);
PyObject *wo_py_exec_decode(PyObject *self, PyObject *args, PyObject *names);

#endif
