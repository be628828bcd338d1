/* pyawaitable_peer.c: the twins of bench.py, made with PyAwaitable 2.

   Used by: run.py bench --peers. Not shown in the book. */

#include <Python.h>
#include <pyawaitable.h>

/* Return what a function returns that has done `status` with `awaitable`. */
static PyObject *
finish(PyObject *awaitable, int status)
{
    if (status < 0) {
        Py_CLEAR(awaitable);
    }
    return awaitable;
}

/* ready(value), relay(awaitable) */

static PyObject *
ready(PyObject *Py_UNUSED(module), PyObject *value)
{
    PyObject *awaitable = PyAwaitable_New();
    if (awaitable == NULL) {
        return NULL;
    }
    return finish(awaitable, PyAwaitable_SetResult(awaitable, value));
}

static PyObject *
relay(PyObject *Py_UNUSED(module), PyObject *inner)
{
    PyObject *awaitable = PyAwaitable_New();
    if (awaitable == NULL) {
        return NULL;
    }
    return finish(
        awaitable,
        PyAwaitable_AddAwait(awaitable, inner, PyAwaitable_SetResult, NULL));
}

/* add(a, b) */

static int
add_got_a(PyObject *awaitable, PyObject *a)
{
    return PyAwaitable_SaveValues(awaitable, 1, a);
}

static int
add_got_b(PyObject *awaitable, PyObject *b)
{
    PyObject *a;
    if (PyAwaitable_UnpackValues(awaitable, &a) < 0) {
        return -1;
    }
    PyObject *sum = PyNumber_Add(a, b);
    if (sum == NULL) {
        return -1;
    }
    int status = PyAwaitable_SetResult(awaitable, sum);
    Py_DECREF(sum);
    return status;
}

static PyObject *
add(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "add expected 2 arguments");
        return NULL;
    }
    PyObject *awaitable = PyAwaitable_New();
    if (awaitable == NULL) {
        return NULL;
    }
    int status = PyAwaitable_AddAwait(awaitable, args[0], add_got_a, NULL);
    if (status == 0) {
        status = PyAwaitable_AddAwait(awaitable, args[1], add_got_b, NULL);
    }
    return finish(awaitable, status);
}

/* countdown(n, tick), without what its `finally` does after an exception: no
   row raises one. The values are n, tick and how many ticks are left. */

static int countdown_ticked(PyObject *awaitable, PyObject *ignored);

static int
countdown_tick(PyObject *awaitable, PyObject *tick)
{
    PyObject *ticking = PyObject_CallNoArgs(tick);
    if (ticking == NULL) {
        return -1;
    }
    int status =
        PyAwaitable_AddAwait(awaitable, ticking, countdown_ticked, NULL);
    Py_DECREF(ticking);
    return status;
}

static int
countdown_ticked(PyObject *awaitable, PyObject *Py_UNUSED(ignored))
{
    PyObject *n, *tick;
    if (PyAwaitable_UnpackValues(awaitable, &n, &tick) < 0) {
        return -1;
    }
    char *left = PyAwaitable_GetArbValue(awaitable, 0);
    if (left == (char *)1) {
        return PyAwaitable_SetResult(awaitable, n);
    }
    if (PyAwaitable_SetArbValue(awaitable, 0, left - 1) < 0) {
        return -1;
    }
    return countdown_tick(awaitable, tick);
}

static PyObject *
countdown(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "countdown expected 2 arguments");
        return NULL;
    }
    Py_ssize_t n = PyLong_AsSsize_t(args[0]);
    if (n == -1 && PyErr_Occurred()) {
        return NULL;
    }
    PyObject *awaitable = PyAwaitable_New();
    if (awaitable == NULL) {
        return NULL;
    }
    if (PyAwaitable_SaveValues(awaitable, 2, args[0], args[1]) < 0
        || PyAwaitable_SaveArbValues(awaitable, 1, (void *)(n + 1)) < 0) {
        return finish(awaitable, -1);
    }
    return finish(awaitable, countdown_tick(awaitable, args[1]));
}

/* The module */

static int
peer_exec(PyObject *Py_UNUSED(module))
{
    return PyAwaitable_Init();
}

static PyMethodDef peer_methods[] = {
    {"ready", ready, METH_O, NULL},
    {"relay", relay, METH_O, NULL},
    {"add", (PyCFunction)(void (*)(void))add, METH_FASTCALL, NULL},
    {"countdown", (PyCFunction)(void (*)(void))countdown, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot peer_slots[] = {
    {Py_mod_exec, peer_exec},
#ifdef Py_GIL_DISABLED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef peer_def = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "pyawaitable_peer",
    .m_methods = peer_methods,
    .m_slots = peer_slots,
};

PyMODINIT_FUNC
PyInit_pyawaitable_peer(void)
{
    return PyModuleDef_Init(&peer_def);
}
