/* native_future_bridge.c: futures of C as awaitables, and the other way round.

   In Python: model.py beside this file.
   Run it: python3 run.py tour
   Taught in book/04_native_future_bridge.md. */

/// What the file needs

#include <Python.h>
#include "native_children.h"
#include "native_group.h"
#include "native_pool.h"

/// The module state

enum { SLEEP, COMPUTE, JOIN, SELECT, TIMEOUT, BODIES };

typedef struct {
    ChildState children; /* comes first: see child_get_state() */
    PyObject *codes[BODIES];
} native_future_bridge_state;

/// A new coroutine

static const BridgeBody bodies[BODIES];

/* Return a new coroutine of the kind `body`, or NULL with an exception set.
   Steals `held`. */
static BridgeCoroutine *
make_coroutine(native_future_bridge_state *state, int body, PyObject *held)
{
    return bridge_coroutine_new(&state->children.bridge, &bodies[body],
                                state->codes[body], held);
}

/// A delay

enum { LONGEST_DELAY = 1000000000 }; /* seconds */

/* Return `delay` in seconds, or -1 with an exception set. */
static double
parse_delay(PyObject *delay)
{
    double seconds = PyFloat_AsDouble(delay);
    if (seconds == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (!(seconds >= 0 && seconds <= LONGEST_DELAY)) {
        PyErr_SetString(PyExc_ValueError,
                        "delay must be from 0 to 1e9 seconds");
        return -1;
    }
    return seconds;
}

/// sleep

typedef struct {
    BridgeCoroutine base;
    NativeSleep native;
} SleepCoroutine;

static PyObject *
sleep_take(BridgeCoroutine *self)
{
    const char *error = bridge_coroutine_future(self)->error;
    return error != NULL ? native_raise(error) : Py_NewRef(self->held);
}

static PyObject *
native_future_bridge_sleep(PyObject *module, PyObject *args, PyObject *kwargs)
{
    native_future_bridge_state *state = PyModule_GetState(module);
    static char *names[] = {"delay", "value", NULL};
    PyObject *delay, *value = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:sleep", names, &delay,
                                     &value)) {
        return NULL;
    }
    double seconds = parse_delay(delay);
    if (seconds < 0) {
        return NULL;
    }
    BridgeCoroutine *self = make_coroutine(state, SLEEP, Py_NewRef(value));
    if (self != NULL) {
        sleep_init(&((SleepCoroutine *)self)->native, seconds);
    }
    return (PyObject *)self;
}

/// What is computed

typedef struct {
    PoolJob job;
    int n;
    long long value;
} Fibonacci;

enum { LARGEST_N = 92 };
static const char too_large[] = "the number does not fit into a C long long";

/* Return the nth Fibonacci number, slowly; any number if nobody waits. */
static long long
fibonacci(int n, PoolJob *job)
{
    if (n < 2 || promise_is_abandoned(&job->promise)) {
        return n;
    }
    return fibonacci(n - 1, job) + fibonacci(n - 2, job);
}

static const char *
fibonacci_run(PoolJob *job)
{
    Fibonacci *self = (Fibonacci *)job;
    if (self->n > LARGEST_N) {
        return too_large;
    }
    self->value = fibonacci(self->n, job);
    return NULL;
}

/// A computation

typedef struct {
    BridgeCoroutine base;
    NativePromise native;
    long long value;
} ComputeCoroutine;

static ComputeCoroutine *
compute_from(NativeFuture *future)
{
    size_t offset = offsetof(ComputeCoroutine, native);
    return (ComputeCoroutine *)((char *)future - offset);
}

static void
fibonacci_finish(Promise *promise, NativeFuture *future)
{
    compute_from(future)->value = ((Fibonacci *)promise)->value;
}

static const PromiseKind fibonacci_kind = {
    .begin = pool_add,
    .finish = fibonacci_finish,
};

static PyObject *
compute_take(BridgeCoroutine *self)
{
    const char *error = bridge_coroutine_future(self)->error;
    if (error == too_large) {
        PyErr_SetString(PyExc_OverflowError, error);
        return NULL;
    }
    return error != NULL
               ? native_raise(error)
               : PyLong_FromLongLong(((ComputeCoroutine *)self)->value);
}

/// compute

static PyObject *
native_future_bridge_compute(PyObject *module, PyObject *arg)
{
    native_future_bridge_state *state = PyModule_GetState(module);
    long n = PyLong_AsLong(arg);
    if (n == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (n < 0) {
        PyErr_SetString(PyExc_ValueError, "n must not be negative");
        return NULL;
    }
    Promise *promise = promise_new(&fibonacci_kind, sizeof(Fibonacci));
    if (promise == NULL) {
        return PyErr_NoMemory();
    }
    Fibonacci *job = (Fibonacci *)promise;
    job->job.run = fibonacci_run;
    job->n = n > LARGEST_N ? LARGEST_N + 1 : (int)n;
    BridgeCoroutine *self = make_coroutine(state, COMPUTE, Py_NewRef(Py_None));
    if (self == NULL) {
        promise_release(promise);
        return NULL;
    }
    native_promise_init(&((ComputeCoroutine *)self)->native, promise);
    return (PyObject *)self;
}

/// join and select

typedef struct {
    BridgeCoroutine base;
    NativeGroup native;
} GroupCoroutine;

/* Return a new list with the results of all `children`, or NULL with an
   exception set. */
static PyObject *
take_all(PyObject *children)
{
    PyObject *results = PyList_New(PyTuple_GET_SIZE(children));
    for (Py_ssize_t i = 0; results != NULL && i < PyList_GET_SIZE(results);
         i++) {
        PyObject *result = child_get_result(PyTuple_GET_ITEM(children, i));
        if (result == NULL) {
            Py_CLEAR(results);
            break;
        }
        PyList_SET_ITEM(results, i, result);
    }
    return results;
}

static PyObject *
group_take(BridgeCoroutine *self)
{
    size_t decider = ((GroupCoroutine *)self)->native.decider;
    if (decider == GROUP_NOBODY) {
        return take_all(self->held);
    }
    return child_get_result(PyTuple_GET_ITEM(self->held, (Py_ssize_t)decider));
}

/// A coroutine with children

/* Return a new coroutine of the kind `body` with `children`, a tuple, which is
   stolen, or NULL with an exception set. */
static PyObject *
make_group(native_future_bridge_state *state, int body, PyObject *children)
{
    Py_ssize_t count = PyTuple_GET_SIZE(children);
    BridgeCoroutine *self = make_coroutine(state, body, children);
    if (self == NULL) {
        return NULL;
    }
    self->depth = adopt_get_depth(children);
    NativeGroup *group = &((GroupCoroutine *)self)->native;
    if (group_init(group, (size_t)count, body == SELECT) < 0) {
        coroutine_end(&self->base);
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *child = PyTuple_GET_ITEM(children, i);
        group_set(group, (size_t)i, child_get_future(child));
    }
    return (PyObject *)self;
}

static PyObject *
call_group(PyObject *module, PyObject *const *args, Py_ssize_t count, int body)
{
    native_future_bridge_state *state = PyModule_GetState(module);
    if (count == 0) {
        PyErr_Format(PyExc_TypeError, "%s expected at least 1 argument, got 0",
                     bodies[body].base.name);
        return NULL;
    }
    PyObject *children = adopt_all(&state->children, args, count);
    return children != NULL ? make_group(state, body, children) : NULL;
}

static PyObject *
native_future_bridge_join(PyObject *module, PyObject *const *args,
                          Py_ssize_t count)
{
    return call_group(module, args, count, JOIN);
}

static PyObject *
native_future_bridge_select(PyObject *module, PyObject *const *args,
                            Py_ssize_t count)
{
    return call_group(module, args, count, SELECT);
}

/// timeout

typedef struct {
    BridgeCoroutine base;
    NativeTimeout native;
} TimeoutCoroutine;

static PyObject *
timeout_take(BridgeCoroutine *self)
{
    const char *error = bridge_coroutine_future(self)->error;
    return error != NULL ? native_raise(error)
                         : child_get_result(PyTuple_GET_ITEM(self->held, 0));
}

static PyObject *
native_future_bridge_timeout(PyObject *module, PyObject *args,
                             PyObject *kwargs)
{
    native_future_bridge_state *state = PyModule_GetState(module);
    static char *names[] = {"awaitable", "delay", NULL};
    PyObject *awaitable, *delay;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:timeout", names,
                                     &awaitable, &delay)) {
        return NULL;
    }
    PyObject *children = adopt_all(&state->children, &awaitable, 1);
    if (children == NULL) {
        return NULL;
    }
    double seconds = parse_delay(delay);
    if (seconds < 0) {
        Py_DECREF(children);
        return NULL;
    }
    BridgeCoroutine *self = make_coroutine(state, TIMEOUT, children);
    if (self != NULL) {
        self->depth = adopt_get_depth(children);
        timeout_init(&((TimeoutCoroutine *)self)->native,
                     child_get_future(PyTuple_GET_ITEM(children, 0)), seconds);
    }
    return (PyObject *)self;
}

/// Counting

PyDoc_STRVAR(counters_doc,
"counters($module, /)\n"
"--\n"
"\n"
"Return a dict that says how much is going on, in all of this process.\n"
"\n"
"sleepers wait for the timer, and jobs for the pool; done jobs are over.\n"
"mailboxes belong to loops that are open; threads left wakes there, and had\n"
"to write to a descriptor for some: writes.");

static PyObject *
native_future_bridge_counters(PyObject *Py_UNUSED(module),
                              PyObject *Py_UNUSED(ignored))
{
    long wakes = 0, writes = 0;
    int count = 0;
    pthread_mutex_lock(&mailboxes_lock);
    for (Mailbox *each = mailboxes; each != NULL; each = each->next) {
        wakes += each->wakes;
        writes += each->writes;
        count++;
    }
    pthread_mutex_unlock(&mailboxes_lock);
    pthread_mutex_lock(&timer.lock);
    unsigned int sleepers = timer.count;
    pthread_mutex_unlock(&timer.lock);
    pthread_mutex_lock(&pool.lock);
    long done = pool.ended, jobs = pool.begun - done;
    pthread_mutex_unlock(&pool.lock);
    return Py_BuildValue("{sIslslsislsl}", "sleepers", sleepers, "jobs", jobs,
                         "done", done, "mailboxes", count, "wakes", wakes,
                         "writes", writes);
}

/// The kinds of coroutines

static const BridgeBody bodies[BODIES] = {
    [SLEEP] = {BRIDGE_BODY_BASE("sleep", SleepCoroutine), sleep_take},
    [COMPUTE] = {BRIDGE_BODY_BASE("compute", ComputeCoroutine), compute_take},
    [JOIN] = {BRIDGE_BODY_BASE("join", GroupCoroutine), group_take},
    [SELECT] = {BRIDGE_BODY_BASE("select", GroupCoroutine), group_take},
    [TIMEOUT] = {BRIDGE_BODY_BASE("timeout", TimeoutCoroutine), timeout_take},
};

/// The functions of the module

PyDoc_STRVAR(sleep_doc,
"sleep($module, /, delay, value=None)\n"
"--\n"
"\n"
"Return a coroutine that returns value after delay seconds.\n"
"\n"
"Raises ValueError if delay is not from 0 to 1e9.");

PyDoc_STRVAR(compute_doc,
"compute($module, n, /)\n"
"--\n"
"\n"
"Return a coroutine that returns the nth Fibonacci number.\n"
"\n"
"A thread of C computes it, as slowly as it can. Awaiting it raises\n"
"OverflowError if the number does not fit into a C long long. Raises\n"
"ValueError if n is negative.");

PyDoc_STRVAR(join_doc,
"join($module, /, *awaitables)\n"
"--\n"
"\n"
"Return a coroutine that returns a list of the results of all awaitables.\n"
"\n"
"If one fails, it cancels the others, waits until they have ended, and\n"
"raises that exception.");

PyDoc_STRVAR(select_doc,
"select($module, /, *awaitables)\n"
"--\n"
"\n"
"Return a coroutine that returns the result of the first to end.\n"
"\n"
"Then it cancels the others, and waits until they have ended, too.");

PyDoc_STRVAR(timeout_doc,
"timeout($module, /, awaitable, delay)\n"
"--\n"
"\n"
"Return a coroutine that returns the result of awaitable.\n"
"\n"
"After delay seconds, it cancels awaitable, waits until that has ended, and\n"
"raises TimeoutError. Raises ValueError if delay is not from 0 to 1e9.");

static PyMethodDef native_future_bridge_methods[] = {
    {"sleep", (PyCFunction)(void (*)(void))native_future_bridge_sleep,
     METH_VARARGS | METH_KEYWORDS, sleep_doc},
    {"compute", native_future_bridge_compute, METH_O, compute_doc},
    {"join", (PyCFunction)(void (*)(void))native_future_bridge_join,
     METH_FASTCALL, join_doc},
    {"select", (PyCFunction)(void (*)(void))native_future_bridge_select,
     METH_FASTCALL, select_doc},
    {"timeout", (PyCFunction)(void (*)(void))native_future_bridge_timeout,
     METH_VARARGS | METH_KEYWORDS, timeout_doc},
    {"counters", native_future_bridge_counters, METH_NOARGS, counters_doc},
    {NULL, NULL, 0, NULL},
};

/// Filling the module

static int
native_future_bridge_exec(PyObject *module)
{
    native_future_bridge_state *state = PyModule_GetState(module);
    for (int i = 0; i < BODIES; i++) {
        state->codes[i] =
            coroutine_make_code(&bodies[i].base, bodies[i].base.line);
        if (state->codes[i] == NULL) {
            return -1;
        }
    }
    if (child_state_init(&state->children, module,
                         "native_future_bridge.child")
        < 0) {
        return -1;
    }
    return bridge_state_init(&state->children.bridge, module,
                             "native_future_bridge.future",
                             "native_future_bridge.future_iterator",
                             "native_future_bridge.coroutine");
}

/// The life of the module

static int
native_future_bridge_traverse(PyObject *module, visitproc visit, void *arg)
{
    native_future_bridge_state *state = PyModule_GetState(module);
    return child_state_traverse(&state->children, visit, arg);
}

static int
native_future_bridge_clear(PyObject *module)
{
    native_future_bridge_state *state = PyModule_GetState(module);
    for (int i = 0; i < BODIES; i++) {
        Py_CLEAR(state->codes[i]);
    }
    child_state_clear(&state->children);
    return 0;
}

static void
native_future_bridge_free(void *module)
{
    native_future_bridge_clear(module);
}

/// Module definition

static PyModuleDef_Slot native_future_bridge_slots[] = {
    {Py_mod_exec, native_future_bridge_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef native_future_bridge_module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "native_future_bridge",
    .m_doc = "Futures of C as awaitables of Python, and the other way round.",
    .m_size = sizeof(native_future_bridge_state),
    .m_methods = native_future_bridge_methods,
    .m_slots = native_future_bridge_slots,
    .m_traverse = native_future_bridge_traverse,
    .m_clear = native_future_bridge_clear,
    .m_free = native_future_bridge_free,
};

PyMODINIT_FUNC
PyInit_native_future_bridge(void)
{
    return PyModuleDef_Init(&native_future_bridge_module);
}
