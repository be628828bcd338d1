/* iter_throw.h: the sibling that PyIter_Send lacks.

   In Python: `iterator.throw(error)`, where `await` would raise it.
   Use: #include "iter_throw.h"; nothing to link. Both need the GIL.
   Taught in book/01_manual_await.md. */

/// What throwing needs

#pragma once
#include "raised_exception.h"

/// A result that comes as StopIteration

/* If StopIteration is raised, clear it, give a new reference to its value and
   return PYGEN_RETURN. Leave any other exception raised, set `*result` to NULL
   and return PYGEN_ERROR. */
static inline PySendResult
stop_iteration_fetch(PyObject **result)
{
    PyObject *error = PyErr_GetRaisedException();
    if (!PyErr_GivenExceptionMatches(error, PyExc_StopIteration)) {
        *result = NULL;
        PyErr_SetRaisedException(error);
        return PYGEN_ERROR;
    }
    PyObject *value = ((PyStopIterationObject *)error)->value;
    *result = Py_NewRef(value != NULL ? value : Py_None);
    Py_DECREF(error);
    return PYGEN_RETURN;
}

/// Throwing into an iterator

/* Raise `error` in `iterator`, where it is suspended, and run it to its next
   yield or its end. Returns what PyIter_Send does, with a new reference in
   `*item` unless it is PYGEN_ERROR. Borrows `iterator` and `error`. */
static inline PySendResult
iter_throw(PyObject *iterator, PyObject *error, PyObject **item)
{
    *item = NULL;
    PyObject *method = PyObject_GetAttrString(iterator, "throw");
    if (method == NULL) {
        if (PyErr_ExceptionMatches(PyExc_AttributeError)) {
            PyErr_SetRaisedException(Py_NewRef(error));
        }
        return PYGEN_ERROR;
    }
    *item = PyObject_CallOneArg(method, error);
    Py_DECREF(method);
    return *item != NULL ? PYGEN_NEXT : stop_iteration_fetch(item);
}
