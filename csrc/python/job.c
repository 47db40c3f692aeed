/* Jobs on core threads.
 *
 *   calling thread   post --- wait 50 ms --- GIL, signals? --- wait 50 ms --- ... --- GIL, result
 *   core thread           `------------------ fn(job), no GIL ---------------------'
 *
 * A signal whose handler raises requests the cancel token and goes on waiting: the job uses memory of the caller until its
 * end. The request is repeated in each slice, because opening an exec resets the token. Only the main thread runs signal
 * handlers; in the others the look for signals finds nothing and they simply wait.
 */
#include "python/module.h"

#include "base/clock.h"
#include "base/thread.h"

#include <time.h>

enum { SLICE_NANOSECONDS = 50 * 1000 * 1000 };

typedef enum { IDLE, POSTED, ENDED, QUIT } phase;

struct wo_py_worker {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t change;
    phase phase;
    wo_py_job_fn fn;
    void *job;
    wo_status status;
    wo_error error;
};

static void *work(void *context) {
    wo_py_worker *w = context;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (w->phase != POSTED && w->phase != QUIT)
            pthread_cond_wait(&w->change, &w->lock);
        if (w->phase == QUIT)
            break;
        pthread_mutex_unlock(&w->lock);
        wo_status status = w->fn(w->job, &w->error);
        pthread_mutex_lock(&w->lock);
        w->status = status;
        w->phase = ENDED;
        pthread_cond_broadcast(&w->change);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

wo_status wo_py_worker_create(wo_py_worker **out, wo_error *err) {
    wo_py_worker *w = PyMem_RawCalloc(1, sizeof *w);
    if (w == NULL)
        return wo_error_set(err, WO_ENOMEMORY, "no memory for a core thread");
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->change, &monotonic);
    pthread_condattr_destroy(&monotonic);
    wo_status status = wo_thread_start(&w->thread, work, w, "wo-job", err);
    if (status != WO_OK) {
        pthread_cond_destroy(&w->change);
        pthread_mutex_destroy(&w->lock);
        PyMem_RawFree(w);
        return status;
    }
    *out = w;
    return WO_OK;
}

void wo_py_worker_destroy(wo_py_worker *w) {
    if (w == NULL)
        return;
    pthread_mutex_lock(&w->lock);
    w->phase = QUIT;
    pthread_cond_broadcast(&w->change);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->change);
    pthread_mutex_destroy(&w->lock);
    PyMem_RawFree(w);
}

static void post(wo_py_worker *w, wo_py_job_fn fn, void *job) {
    pthread_mutex_lock(&w->lock);
    w->fn = fn;
    w->job = job;
    w->error = (wo_error){.code = WO_OK};
    w->phase = POSTED;
    pthread_cond_broadcast(&w->change);
    pthread_mutex_unlock(&w->lock);
}

/* True when the job has ended, false after a slice of time. */
static bool wait_slice(wo_py_worker *w) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += SLICE_NANOSECONDS;
    if (until.tv_nsec >= 1000 * 1000 * 1000) {
        until.tv_nsec -= 1000 * 1000 * 1000;
        until.tv_sec++;
    }
    pthread_mutex_lock(&w->lock);
    int timed_out = 0;
    while (w->phase != ENDED && timed_out == 0)
        timed_out = pthread_cond_timedwait(&w->change, &w->lock, &until);
    bool ended = w->phase == ENDED;
    if (ended)
        w->phase = IDLE;
    pthread_mutex_unlock(&w->lock);
    return ended;
}

int wo_py_job_run(wo_py_state *state, wo_py_worker *worker, wo_cancel *cancel, wo_py_job_fn fn, void *job) {
    if (state->exiting && PyThread_get_thread_ident() != state->exit_thread) {
        PyErr_SetString(PyExc_RuntimeError, "the interpreter is shutting down");
        return -1;
    }
    state->running++;
    post(worker, fn, job);
    PyObject *exception = NULL; /* that of a signal handler, set aside while the job ends */
    bool ended;
    do {
        Py_BEGIN_ALLOW_THREADS
        ended = wait_slice(worker);
        Py_END_ALLOW_THREADS
        if (exception == NULL && PyErr_CheckSignals() < 0)
            exception = wo_py_exception_take();
        if (exception != NULL && !ended && cancel != NULL)
            wo_cancel_request(cancel);
    } while (!ended);
    state->running--;
    if (exception != NULL) {
        wo_py_exception_put(exception);
        return -1;
    }
    return worker->status == WO_OK ? 0 : wo_py_raise(state, worker->status, &worker->error);
}

/* ---- the interpreter's exit ---- */

static PyObject *end_jobs(PyObject *module, PyObject *Py_UNUSED(none)) {
    wo_py_state *state = PyModule_GetState(module);
    state->exiting = true;
    state->exit_thread = PyThread_get_thread_ident();
    while (state->running > 0) {
        for (wo_py_engine *e = state->engines; e != NULL; e = e->next)
            if (e->stoppable != NULL)
                wo_cancel_request(e->stoppable);
        Py_BEGIN_ALLOW_THREADS
        wo_clock_sleep(0.005);
        Py_END_ALLOW_THREADS
    }
    Py_RETURN_NONE;
}

static PyMethodDef end_jobs_def = {"end_jobs", end_jobs, METH_NOARGS, NULL};

int wo_py_job_watch_exit(PyObject *module) {
    PyObject *atexit = PyImport_ImportModule("atexit");
    PyObject *function = atexit == NULL ? NULL : PyCFunction_New(&end_jobs_def, module);
    PyObject *done = function == NULL ? NULL : PyObject_CallMethod(atexit, "register", "O", function);
    Py_XDECREF(atexit);
    Py_XDECREF(function);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}
