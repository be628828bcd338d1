/* awaitable.h: the iterator that `await` drives, for every kind of awaitable.

   In Python: `iterator = awaitable.__await__()`, or the awaitable itself.
   Use: #include "awaitable.h"; nothing to link. Every function needs the GIL.
   Taught in book/01_manual_await.md. */

/// What the header needs

#pragma once
#include <Python.h>

/// A coroutine that is being awaited already

/* Return a new reference to `coroutine.cr_await`, or NULL with an exception
   set. `coroutine` is a native one, and borrowed. */
static inline PyObject *
native_get_await(PyObject *coroutine)
{
    for (PyGetSetDef *def = PyCoro_Type.tp_getset; def->name != NULL; def++) {
        if (strcmp(def->name, "cr_await") == 0) {
            return def->get(coroutine, def->closure);
        }
    }
    return PyObject_GetAttrString(coroutine, "cr_await");
}

/* Return 0 if `coroutine`, a native one, is free to be awaited. Otherwise
   return -1 with RuntimeError set. Borrows its argument. */
static inline int
coroutine_check_free(PyObject *coroutine)
{
    PyObject *inner = native_get_await(coroutine);
    if (inner == NULL) {
        return -1;
    }
    int is_free = inner == Py_None;
    Py_DECREF(inner);
    if (!is_free) {
        PyErr_SetString(PyExc_RuntimeError,
                        "coroutine is being awaited already");
        return -1;
    }
    return 0;
}

/// A generator that counts as a coroutine

/* Return 1 if `object` is a generator that types.coroutine() has marked, else
   0. Borrows its argument. */
static inline int
generator_is_coroutine(PyObject *object)
{
    if (!PyGen_CheckExact(object)) {
        return 0;
    }
#if PY_VERSION_HEX >= 0x030C0000
    PyCodeObject *code = PyGen_GetCode((PyGenObject *)object);
#else
    PyCodeObject *code = ((PyGenObject *)object)->gi_code;
    Py_INCREF(code);
#endif
    int flags = code->co_flags;
    Py_DECREF(code);
    return (flags & CO_ITERABLE_COROUTINE) != 0;
}

/// What __await__ returned

/* Return 0 if `iterator`, which `awaitable` gave for itself, is one that
   `await` accepts. Otherwise return -1 with an exception set. Borrows both. */
static inline int
awaitable_check_iter(PyObject *awaitable, PyObject *iterator)
{
    if (generator_is_coroutine(iterator) || !PyIter_Check(iterator)) {
        PyErr_Format(PyExc_TypeError,
                     "%.100s.__await__() must return an iterator, not %.100s",
                     Py_TYPE(awaitable)->tp_name, Py_TYPE(iterator)->tp_name);
        return -1;
    }
    return 0;
}

/// Asking the type

/* Return a new reference to the iterator that the am_await slot of
   `awaitable` gives, or NULL with an exception set. Borrows its argument. */
static inline PyObject *
awaitable_call_slot(PyObject *awaitable)
{
    PyAsyncMethods *methods = Py_TYPE(awaitable)->tp_as_async;
    if (methods == NULL || methods->am_await == NULL) {
        PyErr_Format(PyExc_TypeError, "'%.100s' object can't be awaited",
                     Py_TYPE(awaitable)->tp_name);
        return NULL;
    }
    PyObject *iterator = methods->am_await(awaitable);
    if (iterator == NULL) {
        return NULL;
    }
    if (awaitable_check_iter(awaitable, iterator) < 0) {
        Py_DECREF(iterator);
        return NULL;
    }
    return iterator;
}

/// From awaitable to iterator

/* Return a new reference to what `await awaitable` would drive, or NULL with
   an exception set. Borrows its argument. */
static inline PyObject *
awaitable_get_iter(PyObject *awaitable)
{
    if (PyCoro_CheckExact(awaitable)) {
        return coroutine_check_free(awaitable) < 0 ? NULL
                                                   : Py_NewRef(awaitable);
    }
    return generator_is_coroutine(awaitable) ? Py_NewRef(awaitable)
                                             : awaitable_call_slot(awaitable);
}
