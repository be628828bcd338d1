/* stop_iteration.h: a result that is raised, whatever the result is.

   In Python: `raise StopIteration(value)`, the way in which an iterator ends.
   Use: #include "stop_iteration.h"; nothing to link. It needs the GIL.
   Taught in book/02_handmade_coroutine.md. */

/// What raising a result needs

#pragma once
#include "raised_exception.h"

/// A StopIteration

/* Return a new StopIteration(value), or NULL with MemoryError set. Borrows its
   argument. */
static inline PyObject *
stop_iteration_new(PyObject *value)
{
    PyTypeObject *type = (PyTypeObject *)PyExc_StopIteration;
    PyObject *args = PyTuple_Pack(1, value);
    if (args == NULL) {
        return NULL;
    }
    PyObject *stop = type->tp_new(type, args, NULL);
    Py_DECREF(args);
    if (stop != NULL) {
        Py_XSETREF(((PyStopIterationObject *)stop)->value, Py_NewRef(value));
    }
    return stop;
}

/// Raising a result

/* Raise StopIteration(value), or MemoryError. Borrows its argument. */
static inline void
stop_iteration_raise(PyObject *value)
{
    PyObject *stop = stop_iteration_new(value);
    if (stop != NULL) {
        PyErr_SetRaisedException(stop);
    }
}
