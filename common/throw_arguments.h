/* throw_arguments.h: one exception from what throw() was given.

   In Python: `throw(error)`, or the old `throw(type, error, traceback)`.
   Use: #include "throw_arguments.h"; nothing to link. Both need the GIL.
   Taught in book/02_handmade_coroutine.md. */

/// What reading the arguments needs

#pragma once
#include <Python.h>

/// How many arguments throw may have

/* Return 0 if throw() may have `count` arguments, else -1 with an exception
   set, which may be a DeprecationWarning. */
static inline int
throw_check_count(Py_ssize_t count)
{
    if (count < 1) {
        PyErr_SetString(PyExc_TypeError,
                        "throw expected at least 1 argument, got 0");
        return -1;
    }
    if (count > 3) {
        PyErr_Format(PyExc_TypeError,
                     "throw expected at most 3 arguments, got %zd", count);
        return -1;
    }
#if PY_VERSION_HEX >= 0x030C0000
    if (count > 1) {
        return PyErr_WarnEx(PyExc_DeprecationWarning,
                            "the (type, exc, tb) signature of throw() is "
                            "deprecated, use the single-arg signature "
                            "instead.",
                            1);
    }
#endif
    return 0;
}

/// The instance of a class

/* Return a new reference to the instance of the exception class `type` that
   throw() was given as class, value and traceback, of which the last two may
   be NULL. If it cannot be made, that is the exception of the failure. */
static inline PyObject *
throw_make_exception(PyObject *type, PyObject *error, PyObject *traceback)
{
    Py_INCREF(type);
    Py_XINCREF(error);
    Py_XINCREF(traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(error, traceback);
        Py_DECREF(traceback);
    }
    Py_DECREF(type);
    return error;
}

/// The exception that is meant

/* Return a new reference to the exception that the `count` arguments of
   throw() mean, or NULL with TypeError set. Borrows them. */
static inline PyObject *
throw_get_exception(PyObject *const *args, Py_ssize_t count)
{
    PyObject *type = args[0];
    PyObject *error = count > 1 && args[1] != Py_None ? args[1] : NULL;
    PyObject *traceback = count > 2 && args[2] != Py_None ? args[2] : NULL;
    if (traceback != NULL && !PyTraceBack_Check(traceback)) {
        PyErr_SetString(PyExc_TypeError,
                        "throw() third argument must be a traceback object");
        return NULL;
    }
    if (PyExceptionInstance_Check(type)) {
        if (error != NULL) {
            PyErr_SetString(
                PyExc_TypeError,
                "instance exception may not have a separate value");
            return NULL;
        }
        if (traceback != NULL) {
            PyException_SetTraceback(type, traceback);
        }
        return Py_NewRef(type);
    }
    if (!PyExceptionClass_Check(type)) {
        PyErr_Format(PyExc_TypeError,
                     "exceptions must be classes or instances deriving from "
                     "BaseException, not %s",
                     Py_TYPE(type)->tp_name);
        return NULL;
    }
    return throw_make_exception(type, error, traceback);
}
