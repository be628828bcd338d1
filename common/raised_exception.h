/* raised_exception.h: the raised exception as one object, on 3.11 too.

   In Python: `except BaseException as error`, and `raise error` later on.
   Use: #include "raised_exception.h"; nothing to link. Both need the GIL.
   Taught in book/01_manual_await.md. Delete it when you drop Python 3.11. */

/// What 3.11 lacks

#pragma once
#include <Python.h>
#if PY_VERSION_HEX < 0x030C0000

/// Taking the exception

/* Return the raised exception as a new reference, or NULL if there is none,
   and raise it no longer. */
static inline PyObject *
PyErr_GetRaisedException(void)
{
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (error != NULL) {
        PyException_SetTraceback(error, traceback ? traceback : Py_None);
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return error;
}

/// Raising it again

/* Raise `error`, or nothing if it is NULL, in place of whatever is raised.
   Steals the reference. */
static inline void
PyErr_SetRaisedException(PyObject *error)
{
    if (error == NULL) {
        PyErr_Clear();
        return;
    }
    PyErr_Restore(Py_NewRef(Py_TYPE(error)), error,
                  PyException_GetTraceback(error));
}
#endif
