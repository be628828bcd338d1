/* thread_woken_future.c: futures that a thread of C completes.

   In Python: model.py beside this file.
   Run it: python3 run.py tour
   Taught in book/03_thread_woken_future.md. */

/// What the file needs

#include <Python.h>
#include "future.h"
#include "worker_threads.h"

/// The module state

typedef struct {
    FutureState futures; /* comes first: see future_get_state() */
    PyTypeObject *subclassed_type;
    PyObject *base_cancel;      /* asyncio.Future.cancel */
    PyObject *get_running_loop; /* asyncio.get_running_loop */
    PyObject *complete;         /* see below */
    PyObject *workers;          /* a capsule */
} thread_woken_future_state;

/// A job

typedef struct {
    Work work;     /* what the future has of it; comes first */
    Worker worker; /* what the thread has of it */
    PyObject *future;   /* these three are NULL if nobody waits any more */
    PyObject *loop;
    PyObject *complete;
    struct timespec deadline;
    long long x;
    long long square;
    int is_too_large;
} Job;

static Job *
job_from(Worker *worker)
{
    return (Job *)((char *)worker - offsetof(Job, worker));
}

/// What the thread computes

static const long long largest = 3037000499; /* the root of LLONG_MAX */

/* Square x. Needs no GIL. */
static void
job_compute(Job *job)
{
    job->is_too_large = job->x > largest || job->x < -largest;
    if (!job->is_too_large) {
        job->square = job->x * job->x;
    }
}

/// Who waits for a job

typedef struct {
    PyObject *future;
    PyObject *loop;
    PyObject *complete;
} Waiting;

/* Take the objects of Python out of the job: they are the caller's. */
static Waiting
job_take(Job *job)
{
    pthread_mutex_lock(&workers_lock);
    Waiting waiting = {job->future, job->loop, job->complete};
    job->future = job->loop = job->complete = NULL;
    pthread_mutex_unlock(&workers_lock);
    return waiting;
}

/* Return new references to these objects, or NULL three times. */
static Waiting
job_share(Job *job)
{
    pthread_mutex_lock(&workers_lock);
    Waiting waiting = {job->future, job->loop, job->complete};
    Py_XINCREF(waiting.future);
    Py_XINCREF(waiting.loop);
    Py_XINCREF(waiting.complete);
    pthread_mutex_unlock(&workers_lock);
    return waiting;
}

static void
waiting_drop(Waiting *waiting)
{
    Py_XDECREF(waiting->future);
    Py_XDECREF(waiting->loop);
    Py_XDECREF(waiting->complete);
}

/// What comes of a job

/* Return what the job has computed, or the exception that it ends with. */
static PyObject *
job_make_outcome(Job *job)
{
    PyObject *outcome = NULL;
    if (job->is_too_large) {
        PyErr_SetString(PyExc_OverflowError,
                        "the square does not fit into a C long long");
    }
    else {
        outcome = PyLong_FromLongLong(job->square);
    }
    return outcome != NULL ? outcome : PyErr_GetRaisedException();
}

/// A loop that refuses

/* Return 1 if `loop` says that it is closed, else 0. The exception that is set
   stays. */
static int
loop_is_closed(PyObject *loop)
{
    PyObject *error = PyErr_GetRaisedException();
    PyObject *answer = PyObject_CallMethod(loop, "is_closed", NULL);
    int is_closed = answer != NULL && PyObject_IsTrue(answer) == 1;
    Py_XDECREF(answer);
    PyErr_SetRaisedException(error);
    return is_closed;
}

/* Report the exception that is set, unless the loop is closed: then nobody
   waits any more. */
static void
waiting_report(Waiting *waiting)
{
    if (loop_is_closed(waiting->loop)) {
        PyErr_Clear();
    }
    else {
        PyErr_WriteUnraisable(waiting->future);
    }
}

/// Waking the loop

/* Let the loop complete the future, unless nobody waits. Needs the GIL; in any
   thread. */
static void
job_deliver(Job *job)
{
    Waiting waiting = job_share(job);
    if (waiting.future == NULL) {
        return;
    }
    PyObject *outcome = job_make_outcome(job);
    PyObject *handle =
        PyObject_CallMethod(waiting.loop, "call_soon_threadsafe", "OOO",
                            waiting.complete, waiting.future, outcome);
    if (handle == NULL) {
        waiting_report(&waiting);
    }
    Py_XDECREF(handle);
    Py_DECREF(outcome);
    waiting_drop(&waiting);
    waiting = job_take(job);
    waiting_drop(&waiting);
}

/// The life of a thread

static void
job_run(Worker *worker)
{
    Job *job = job_from(worker);
    if (!worker_wait(worker, &job->deadline)) {
        return;
    }
    job_compute(job);
    Attached attached = worker_attach(worker);
    if (attached != NULL) {
        job_deliver(job);
        worker_detach(attached);
    }
}

/// Stopping a job

static void
job_stop(Worker *worker)
{
    worker_stop(worker);
    Waiting waiting = job_take(job_from(worker));
    waiting_drop(&waiting);
}

static void
job_abandon(Work *work)
{
    Job *job = (Job *)work;
    job_stop(&job->worker);
    worker_release(&job->worker);
}

static void
job_free(Worker *worker)
{
    PyMem_RawFree(job_from(worker));
}

/// A future that has to fail

/* Let the future fail, and nobody be told that nobody has seen it. Return 0,
   or -1 with an exception set. */
static int
waiting_fail(Waiting *waiting)
{
    PyObject *error = PyObject_CallFunction(
        PyExc_RuntimeError, "s",
        "this process was forked, and the thread of the future was not");
    if (error == NULL) {
        return -1;
    }
    PyObject *done = PyObject_CallFunctionObjArgs(
        waiting->complete, waiting->future, error, NULL);
    Py_DECREF(error);
    if (done == NULL) {
        return -1;
    }
    Py_DECREF(done);
    done = PyObject_CallMethod(waiting->future, "exception", NULL);
    Py_XDECREF(done);
    PyErr_Clear();
    return 0;
}

/// A job without a thread

static void
job_lose(Worker *worker)
{
    Waiting waiting = job_take(job_from(worker));
    if (waiting.future == NULL) {
        return;
    }
    if (waiting_fail(&waiting) < 0) {
        waiting_report(&waiting);
    }
    waiting_drop(&waiting);
}

static const WorkerKind job_kind = {
    .run = job_run,
    .stop = job_stop,
    .lose = job_lose,
    .free = job_free,
};

/// A new job

enum { LONGEST_DELAY = 1000000000 }; /* seconds */

/* Start a thread that completes `future` with the square of `x` after `delay`
   seconds. Return its job, or NULL with an exception set. */
static Work *
job_start(thread_woken_future_state *state, PyObject *future, PyObject *loop,
          long long x, double delay)
{
    Workers *workers = PyCapsule_GetPointer(state->workers, "workers");
    Job *job = PyMem_RawCalloc(1, sizeof(Job));
    if (job == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    worker_init(&job->worker, &job_kind, workers);
    job->work.abandon = job_abandon;
    job->future = Py_NewRef(future);
    job->loop = Py_NewRef(loop);
    job->complete = Py_NewRef(state->complete);
    job->x = x;
    job->deadline = thread_deadline(delay);
    if (worker_start(&job->worker) < 0) {
        PyObject *error = PyErr_GetRaisedException();
        job_abandon(&job->work);
        PyErr_SetRaisedException(error);
        return NULL;
    }
    return &job->work;
}

/// Asking a future

/* Return 1 if `future` is done, 0 if not, or -1 with an exception set. */
static int
ask_done(PyObject *future)
{
    PyObject *done = PyObject_CallMethod(future, "done", NULL);
    int is_done = done == NULL ? -1 : PyObject_IsTrue(done);
    Py_XDECREF(done);
    return is_done;
}

/// Completing a future

PyDoc_STRVAR(complete_doc,
"complete($module, future, outcome, /)\n"
"--\n"
"\n"
"Complete future, on its loop, unless it is done.");

static PyObject *
thread_woken_future_complete(PyObject *Py_UNUSED(module),
                             PyObject *const *args, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "complete needs two arguments");
        return NULL;
    }
    int is_done = ask_done(args[0]);
    if (is_done != 0) {
        return is_done < 0 ? NULL : Py_NewRef(Py_None);
    }
    const char *how =
        PyExceptionInstance_Check(args[1]) ? "set_exception" : "set_result";
    return PyObject_CallMethod(args[0], how, "(O)", args[1]);
}

static PyMethodDef complete_method = {
    "complete", (PyCFunction)(void (*)(void))thread_woken_future_complete,
    METH_FASTCALL, complete_doc};

/// The arguments of square

/* Read the arguments of `name`. Return the running loop, a new reference, or
   NULL with an exception set. */
static PyObject *
parse_square(thread_woken_future_state *state, PyObject *args,
             PyObject *kwargs, long long *x, double *delay)
{
    static char *names[] = {"x", "delay", NULL};
    *delay = 1.0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "L|d:square", names, x,
                                     delay)) {
        return NULL;
    }
    if (!(*delay >= 0 && *delay <= LONGEST_DELAY)) {
        PyErr_SetString(PyExc_ValueError,
                        "delay must be from 0 to 1e9 seconds");
        return NULL;
    }
    return PyObject_CallNoArgs(state->get_running_loop);
}

/// Calling square

static PyObject *
thread_woken_future_square(PyObject *module, PyObject *args, PyObject *kwargs)
{
    thread_woken_future_state *state = PyModule_GetState(module);
    long long x;
    double delay;
    PyObject *loop = parse_square(state, args, kwargs, &x, &delay);
    if (loop == NULL) {
        return NULL;
    }
    Future *future = future_new(state->futures.future_type, loop);
    if (future != NULL) {
        future->work = job_start(state, (PyObject *)future, loop, x, delay);
        if (future->work == NULL) {
            Py_CLEAR(future);
        }
    }
    Py_DECREF(loop);
    return (PyObject *)future;
}

/// A subclass of asyncio.Future

typedef struct {
    Work *work; /* or NULL */
} SubclassedData;

/* Return what `op`, a SubclassedFuture, has of its own. */
static SubclassedData *
subclassed_data(PyObject *op)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyObject_GetTypeData(op, Py_TYPE(op));
#else
    return (SubclassedData *)((char *)op + Py_TYPE(op)->tp_base->tp_basicsize);
#endif
}

/// Its work

static void
subclassed_abandon_work(PyObject *op)
{
    SubclassedData *data = subclassed_data(op);
    Work *work;
    Py_BEGIN_CRITICAL_SECTION(op);
    work = data->work;
    data->work = NULL;
    Py_END_CRITICAL_SECTION();
    if (work != NULL) {
        work->abandon(work);
    }
}

/// Its methods

static PyObject *
SubclassedFuture_cancel(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"msg", NULL};
    PyObject *message = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:cancel", names,
                                     &message)) {
        return NULL;
    }
    thread_woken_future_state *state = PyType_GetModuleState(Py_TYPE(op));
    if (state == NULL) {
        return NULL;
    }
    PyObject *cancelled =
        PyObject_CallFunctionObjArgs(state->base_cancel, op, message, NULL);
    PyObject *error = PyErr_GetRaisedException();
    int is_done = ask_done(op);
    if (is_done == 1) {
        subclassed_abandon_work(op);
    }
    if (error != NULL) {
        PyErr_SetRaisedException(error);
    }
    else if (is_done < 0) {
        Py_CLEAR(cancelled);
    }
    return cancelled;
}

static PyMethodDef SubclassedFuture_methods[] = {
    {"cancel", (PyCFunction)(void (*)(void))SubclassedFuture_cancel,
     METH_VARARGS | METH_KEYWORDS,
     "cancel($self, /, msg=None)\n--\n\nBe done, and stop the thread.\n\n"
     "Return False if the future was done before."},
    {NULL, NULL, 0, NULL},
};

/// Its end

static void
SubclassedFuture_finalize(PyObject *op)
{
    PyObject *error = PyErr_GetRaisedException();
    subclassed_abandon_work(op);
    PyErr_SetRaisedException(error);
    Py_TYPE(op)->tp_base->tp_finalize(op);
}

/// Its type

static PyType_Slot SubclassedFuture_slots[] = {
    {Py_tp_doc,
     "SubclassedFuture(*, loop=None)\n--\n\n"
     "An asyncio.Future that stops its thread when it is cancelled."},
    {Py_tp_methods, SubclassedFuture_methods},
    {Py_tp_finalize, SubclassedFuture_finalize},
    {0, NULL},
};

/* Return the new type, whose base is `base`, or NULL with an exception set. */
static PyTypeObject *
make_subclassed_type(PyObject *module, PyObject *base)
{
    PyType_Spec spec = {
        .name = "thread_woken_future.SubclassedFuture",
#if PY_VERSION_HEX >= 0x030C0000
        .basicsize = -(int)sizeof(SubclassedData),
#else
        .basicsize = (int)(((PyTypeObject *)base)->tp_basicsize
                           + (Py_ssize_t)sizeof(SubclassedData)),
#endif
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
        .slots = SubclassedFuture_slots,
    };
    return (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, base);
}

/// A new SubclassedFuture

/* Return a new SubclassedFuture on `loop`, or NULL with an exception set. */
static PyObject *
make_subclassed(thread_woken_future_state *state, PyObject *loop)
{
    PyObject *none = PyTuple_New(0);
    PyObject *kwargs =
        none != NULL ? Py_BuildValue("{sO}", "loop", loop) : NULL;
    PyObject *future = NULL;
    if (kwargs != NULL) {
        future =
            PyObject_Call((PyObject *)state->subclassed_type, none, kwargs);
    }
    Py_XDECREF(none);
    Py_XDECREF(kwargs);
    return future;
}

/// Calling subclassed_square

static PyObject *
thread_woken_future_subclassed_square(PyObject *module, PyObject *args,
                                      PyObject *kwargs)
{
    thread_woken_future_state *state = PyModule_GetState(module);
    long long x;
    double delay;
    PyObject *loop = parse_square(state, args, kwargs, &x, &delay);
    if (loop == NULL) {
        return NULL;
    }
    PyObject *future = make_subclassed(state, loop);
    if (future != NULL) {
        Work *work = job_start(state, future, loop, x, delay);
        if (work == NULL) {
            Py_CLEAR(future);
        }
        else {
            subclassed_data(future)->work = work;
        }
    }
    Py_DECREF(loop);
    return future;
}

/// Counting the threads

static PyObject *
thread_woken_future_count_threads(PyObject *module,
                                  PyObject *Py_UNUSED(ignored))
{
    thread_woken_future_state *state = PyModule_GetState(module);
    Workers *workers = PyCapsule_GetPointer(state->workers, "workers");
    pthread_mutex_lock(&workers_lock);
    int count = workers->count;
    pthread_mutex_unlock(&workers_lock);
    return PyLong_FromLong(count);
}

/// The functions of the module

PyDoc_STRVAR(square_doc,
"square($module, /, x, delay=1.0)\n"
"--\n"
"\n"
"Return a Future that a thread of C completes with x * x.\n"
"\n"
"delay is the time in seconds that the thread waits before, up to 1e9.\n"
"A square that fits into no C long long completes it with OverflowError.\n"
"Raises RuntimeError if no event loop runs or no thread can be started.");

PyDoc_STRVAR(subclassed_square_doc,
"subclassed_square($module, /, x, delay=1.0)\n"
"--\n"
"\n"
"Do what square does, with a SubclassedFuture.");

PyDoc_STRVAR(count_threads_doc,
"count_threads($module, /)\n"
"--\n"
"\n"
"Return how many threads there are for futures of this module.");

static PyMethodDef thread_woken_future_methods[] = {
    {"square", (PyCFunction)(void (*)(void))thread_woken_future_square,
     METH_VARARGS | METH_KEYWORDS, square_doc},
    {"subclassed_square",
     (PyCFunction)(void (*)(void))thread_woken_future_subclassed_square,
     METH_VARARGS | METH_KEYWORDS, subclassed_square_doc},
    {"count_threads", thread_woken_future_count_threads, METH_NOARGS,
     count_threads_doc},
    {NULL, NULL, 0, NULL},
};

/// Adding the subclass

/* Make SubclassedFuture and add it to the module. Return 0, or -1 with an
   exception set. */
static int
add_subclassed_type(PyObject *module, thread_woken_future_state *state)
{
    PyObject *base;
    if (asyncio_get("Future", &base) < 0) {
        return -1;
    }
    state->base_cancel = PyObject_GetAttrString(base, "cancel");
    if (state->base_cancel != NULL) {
        state->subclassed_type = make_subclassed_type(module, base);
    }
    Py_DECREF(base);
    if (state->subclassed_type == NULL) {
        return -1;
    }
    return PyModule_AddType(module, state->subclassed_type);
}

/// Filling the module

static int
thread_woken_future_exec(PyObject *module)
{
    thread_woken_future_state *state = PyModule_GetState(module);
    if (future_state_init(&state->futures, module,
                          "thread_woken_future.Future",
                          "thread_woken_future.future_iterator")
            < 0
        || PyModule_AddType(module, state->futures.future_type) < 0
        || add_subclassed_type(module, state) < 0
        || asyncio_get("get_running_loop", &state->get_running_loop) < 0) {
        return -1;
    }
    state->complete = PyCFunction_New(&complete_method, module);
    if (state->complete == NULL) {
        return -1;
    }
    state->workers = workers_new();
    return state->workers == NULL ? -1 : 0;
}

/// The life of the module

static int
thread_woken_future_traverse(PyObject *module, visitproc visit, void *arg)
{
    thread_woken_future_state *state = PyModule_GetState(module);
    Py_VISIT(state->subclassed_type);
    Py_VISIT(state->base_cancel);
    Py_VISIT(state->get_running_loop);
    Py_VISIT(state->complete);
    return future_state_traverse(&state->futures, visit, arg);
}

static int
thread_woken_future_clear(PyObject *module)
{
    thread_woken_future_state *state = PyModule_GetState(module);
    Py_CLEAR(state->subclassed_type);
    Py_CLEAR(state->base_cancel);
    Py_CLEAR(state->get_running_loop);
    Py_CLEAR(state->complete);
    Py_CLEAR(state->workers);
    future_state_clear(&state->futures);
    return 0;
}

static void
thread_woken_future_free(void *module)
{
    thread_woken_future_clear(module);
}

/// The module definition

static PyModuleDef_Slot thread_woken_future_slots[] = {
    {Py_mod_exec, thread_woken_future_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef thread_woken_future_module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "thread_woken_future",
    .m_doc = "Futures that a thread of C completes.",
    .m_size = sizeof(thread_woken_future_state),
    .m_methods = thread_woken_future_methods,
    .m_slots = thread_woken_future_slots,
    .m_traverse = thread_woken_future_traverse,
    .m_clear = thread_woken_future_clear,
    .m_free = thread_woken_future_free,
};

PyMODINIT_FUNC
PyInit_thread_woken_future(void)
{
    return PyModuleDef_Init(&thread_woken_future_module);
}
