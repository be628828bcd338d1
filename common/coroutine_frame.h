/* coroutine_frame.h: a coroutine made by hand shows its lines, as Python does.

   In Python: `coroutine.cr_frame`, and the line of `add` in a traceback.
   Use: through coroutine.h; nothing to link. Every function needs the GIL.
   Taught in book/02_handmade_coroutine.md. */

/// What a frame needs

#pragma once
#include <Python.h>
#include <frameobject.h>
#include "coroutine_object.h"
#include "raised_exception.h"

/// Code without instructions

/* Return a new code object that has the name and file of `body` and is on
   `line`, or NULL with an exception set. */
static inline PyObject *
coroutine_make_code(const CoroutineBody *body, int line)
{
    return (PyObject *)PyCode_NewEmpty(body->file, body->name, line);
}

/// Global variables of a frame

/* Return a new dictionary with the name of the module that made `self`, or
   NULL with an exception set. */
static inline PyObject *
coroutine_make_globals(Coroutine *self)
{
    PyObject *module = PyType_GetModule(Py_TYPE(self));
    PyObject *name = module != NULL ? PyModule_GetNameObject(module) : NULL;
    return name != NULL ? Py_BuildValue("{sN}", "__name__", name) : NULL;
}

/// A frame on the line

/* Return a new frame that is on the line on which `self` is, or NULL with an
   exception set. It is for showing; it runs nothing. */
static inline PyFrameObject *
coroutine_make_frame(Coroutine *self)
{
    PyFrameObject *frame = NULL;
    PyObject *code = coroutine_make_code(self->body, self->line);
    PyObject *globals = code != NULL ? coroutine_make_globals(self) : NULL;
    if (globals != NULL) {
        frame = PyFrame_New(PyThreadState_Get(), (PyCodeObject *)code, globals,
                            NULL);
        Py_DECREF(globals);
    }
    Py_XDECREF(code);
    return frame;
}

/// A line in the traceback

/* Add the line on which `self` is to the traceback of the raised exception.
   When no frame can be made, the exception stays as it is. */
static inline void
coroutine_trace(Coroutine *self)
{
    PyObject *error = PyErr_GetRaisedException();
    PyFrameObject *frame = coroutine_make_frame(self);
    PyErr_SetRaisedException(error);
    if (frame != NULL) {
        PyTraceBack_Here(frame);
        Py_DECREF(frame);
    }
}
