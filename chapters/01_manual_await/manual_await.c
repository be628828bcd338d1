/* manual_await.c: what `await` does, with no event loop to help.

   In Python: model.py beside this file.
   Run it: python3 run.py tour
   Taught in book/01_manual_await.md. */

/// What the file needs

#include <Python.h>
#include "awaitable.h"
#include "iter_throw.h"

/// Refusing what needs an event loop

/* Set the exception that refuses `item`, or the one that its repr() raises.
   Always returns -1. Borrows its argument. */
static int
refuse(PyObject *item)
{
    PyObject *message =
        PyUnicode_FromFormat("waiting for %R needs an event loop", item);
    if (message == NULL) {
        return -1;
    }
    PyObject *error = PyObject_CallOneArg(PyExc_RuntimeError, message);
    Py_DECREF(message);
    if (error != NULL) {
        PyErr_SetRaisedException(error);
    }
    return -1;
}

/// What came out

/* Decide about `item`, which the awaitable has yielded. Return 0 to go on, or
   -1 with an exception set that is to be thrown in. `yielded` is the list that
   steps() keeps, or NULL for run(). Borrows both arguments. */
static int
receive(PyObject *item, PyObject *yielded)
{
    if (PyErr_CheckSignals() < 0) {
        return -1;
    }
    if (yielded != NULL) {
        return PyList_Append(yielded, item);
    }
    return item == Py_None ? 0 : refuse(item);
}

/// Letting others run

/* Give other threads a turn. The GIL is released and taken back. */
static void
let_others_run(void)
{
    Py_BEGIN_ALLOW_THREADS
    Py_END_ALLOW_THREADS
}

/// Throwing in what went wrong

/* Throw the raised exception into `iterator`. Returns what iter_throw does. */
static PySendResult
throw_raised(PyObject *iterator, PyObject **item)
{
    PyObject *error = PyErr_GetRaisedException();
    PySendResult status = iter_throw(iterator, error, item);
    Py_DECREF(error);
    return status;
}

/// Driving to the end

/* Drive `iterator` to its end. Return a new reference to its result, or NULL
   with an exception set. Borrows both arguments; see receive(). */
static PyObject *
drive(PyObject *iterator, PyObject *yielded)
{
    PyObject *item;
    PySendResult status = PyIter_Send(iterator, Py_None, &item);
    while (status == PYGEN_NEXT) {
        let_others_run();
        int received = receive(item, yielded);
        Py_DECREF(item);
        if (received < 0) {
            status = throw_raised(iterator, &item);
        }
        else {
            status = PyIter_Send(iterator, Py_None, &item);
        }
    }
    return status == PYGEN_RETURN ? item : NULL;
}

/// From awaitable to result

/* Do what `await awaitable` does. Return a new reference to the result, or
   NULL with an exception set. Borrows both arguments; see receive(). */
static PyObject *
await(PyObject *awaitable, PyObject *yielded)
{
    if (Py_EnterRecursiveCall(" while awaiting")) {
        return NULL;
    }
    PyObject *result = NULL;
    PyObject *iterator = awaitable_get_iter(awaitable);
    if (iterator != NULL) {
        result = drive(iterator, yielded);
        Py_DECREF(iterator);
    }
    Py_LeaveRecursiveCall();
    return result;
}

/// run

static PyObject *
manual_await_run(PyObject *Py_UNUSED(module), PyObject *awaitable)
{
    return await(awaitable, NULL);
}

/// steps

static PyObject *
manual_await_steps(PyObject *Py_UNUSED(module), PyObject *awaitable)
{
    PyObject *yielded = PyList_New(0);
    if (yielded == NULL) {
        return NULL;
    }
    PyObject *pair = NULL;
    PyObject *result = await(awaitable, yielded);
    if (result != NULL) {
        pair = PyTuple_Pack(2, yielded, result);
        Py_DECREF(result);
    }
    Py_DECREF(yielded);
    return pair;
}

/// The docstrings

PyDoc_STRVAR(run_doc,
"run($module, awaitable, /)\n"
"--\n"
"\n"
"Drive awaitable to its end without an event loop and return its result.\n"
"\n"
"Whatever it yields on the way, except None, needs an event loop: a\n"
"RuntimeError that says so is raised in it, where it waits.\n"
"Raises TypeError for what cannot be awaited.");

PyDoc_STRVAR(steps_doc,
"steps($module, awaitable, /)\n"
"--\n"
"\n"
"Drive awaitable to its end and return (yielded, result).\n"
"\n"
"yielded is a list of all that it yielded on the way, each answered with\n"
"None. Raises TypeError for what cannot be awaited.");

/// The method table

static PyMethodDef manual_await_methods[] = {
    {"run", manual_await_run, METH_O, run_doc},
    {"steps", manual_await_steps, METH_O, steps_doc},
    {NULL, NULL, 0, NULL},
};

/// The module slots

static PyModuleDef_Slot manual_await_slots[] = {
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

/// The module definition

static struct PyModuleDef manual_await_module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "manual_await",
    .m_doc = "What await does, by hand: run() and steps().",
    .m_size = 0,
    .m_methods = manual_await_methods,
    .m_slots = manual_await_slots,
};

/// The init function

PyMODINIT_FUNC
PyInit_manual_await(void)
{
    return PyModuleDef_Init(&manual_await_module);
}
