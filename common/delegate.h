/* delegate.h: what `yield from` does besides sending.

   In Python: throw() and close() of a coroutine reach what it is waiting for.
   Use: #include "delegate.h"; nothing to link. All need the GIL.
   Taught in book/02_handmade_coroutine.md. */

/// What delegating needs

#pragma once
#include "iter_throw.h"
#include "throw_arguments.h"

/// What nobody can handle

/* Report the raised exception as Python does if nobody can handle it. It came
   up while `what` was done with `object`. */
static inline void
unraisable_report(const char *what, PyObject *object)
{
#if PY_VERSION_HEX >= 0x030E0000
    PyErr_FormatUnraisable("Exception ignored while %s %R", what, object);
#else
    (void)what;
    PyErr_WriteUnraisable(object);
#endif
}

/// A method that may be missing

/* Look up the method `name`. Return 1 with a new reference in `*method`, 0
   with NULL there if there is none, or -1 with an exception set. */
static inline int
delegate_find(PyObject *iterator, const char *name, PyObject **method)
{
    *method = PyObject_GetAttrString(iterator, name);
    if (*method != NULL) {
        return 1;
    }
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}

/// Closing the iterator

/* Close `iterator` if it can be closed. Return 0, or -1 with an exception set
   if it fails. Borrows its argument. */
static inline int
delegate_close(PyObject *iterator)
{
    PyObject *method;
    if (delegate_find(iterator, "close", &method) < 0) {
        unraisable_report("closing generator", iterator);
    }
    if (method == NULL) {
        return 0;
    }
    PyObject *ignored = PyObject_CallNoArgs(method);
    Py_DECREF(method);
    if (ignored == NULL) {
        return -1;
    }
    Py_DECREF(ignored);
    return 0;
}

/// Throwing into the iterator

/* Call `method`, the throw() of an iterator, with the `count` arguments that
   ours was given, or with the one exception that they mean if it `warns` of
   more. Returns what PyIter_Send does. Borrows all of them. */
static inline PySendResult
delegate_throw(PyObject *method, PyObject *const *args, Py_ssize_t count,
               int warns, PyObject **item)
{
    PyObject *error = NULL;
    if (count > 1 && warns) {
        error = throw_get_exception(args, count);
        if (error == NULL) {
            *item = NULL;
            return PYGEN_ERROR;
        }
        args = &error;
        count = 1;
    }
    *item = PyObject_Vectorcall(method, args, (size_t)count, NULL);
    Py_XDECREF(error);
    return *item != NULL ? PYGEN_NEXT : stop_iteration_fetch(item);
}
