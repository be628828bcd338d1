/* module_call.h: calling a function of a module of Python.

   In Python: importlib.import_module(module).function(*args, **kwargs).
   Use: #include "module_call.h"; nothing to link. It needs the GIL.
   Taught in book/03_thread_woken_future.md. */

/// Calling a function of a module

#pragma once
#include <Python.h>

/* Call `function` of `module` with `args` and `kwargs`, both stolen, and both
   perhaps NULL with an exception set. Return 0, or -1 with one set. */
static inline int
module_call(const char *module, const char *function, PyObject *args,
            PyObject *kwargs)
{
    PyObject *done = NULL;
    PyObject *imported =
        PyErr_Occurred() ? NULL : PyImport_ImportModule(module);
    PyObject *method = NULL;
    if (imported != NULL) {
        method = PyObject_GetAttrString(imported, function);
    }
    if (method != NULL) {
        done = PyObject_Call(method, args, kwargs);
    }
    Py_XDECREF(imported);
    Py_XDECREF(method);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}
