/* spare.h: objects that are used again; on free-threaded builds they are not.

   In Python: nothing; its floats, tuples and coroutines do the same.
   Use: #include "spare.h"; nothing to link. Every function needs the GIL.
   Taught in book/02_handmade_coroutine.md. */

/// What is kept

#pragma once
#include <Python.h>
#include "stop_iteration.h"

#ifdef Py_GIL_DISABLED
enum { SPARES = 16, SPARES_ARE_KEPT = 0 };
#else
enum { SPARES = 16, SPARES_ARE_KEPT = 1 };
#endif

typedef struct {
    PyTypeObject *type; /* of the objects, or NULL if nothing is kept */
    PyObject *objects[SPARES];
    int count; /* of the objects that are there */
    PyObject *stop; /* an empty StopIteration, or NULL */
} Spares;

/// Beginning and ending to keep

/* Keep objects of `type` from now on. Borrows `type`. */
static inline void
spares_begin(Spares *spares, PyTypeObject *type)
{
    if (SPARES_ARE_KEPT) {
        spares->type = (PyTypeObject *)Py_NewRef(type);
    }
}

/* Free what is kept, and keep nothing from now on. */
static inline void
spares_end(Spares *spares)
{
    while (spares->count > 0) {
        PyObject_GC_Del(spares->objects[--spares->count]);
    }
    Py_CLEAR(spares->type);
    Py_CLEAR(spares->stop);
}

/// A spare object

/* Return an object of `type` whose members are all 0, or NULL with an
   exception set. */
static inline PyObject *
spares_take(Spares *spares, PyTypeObject *type)
{
    if (spares->count == 0) {
        return type->tp_alloc(type, 0);
    }
    PyObject *op = PyObject_Init(spares->objects[--spares->count], type);
    PyObject_GC_Track(op);
    return op;
}

/* Free `op`, which is not tracked and whose members are all 0, or keep it.
   `spares` is NULL if they are gone. */
static inline void
spares_give(Spares *spares, PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    if (spares != NULL && spares->type != NULL && spares->count < SPARES) {
        spares->objects[spares->count++] = op;
    }
    else {
        type->tp_free(op);
    }
    Py_DECREF(type);
}

/// A spare StopIteration

/* Return a StopIteration(value), or NULL with MemoryError set. Borrows
   `value`. */
static inline PyObject *
spares_take_stop(Spares *spares, PyObject *value)
{
    PyStopIterationObject *stop = (PyStopIterationObject *)spares->stop;
    if (stop == NULL) {
        return stop_iteration_new(value);
    }
    spares->stop = NULL;
    PyTuple_SET_ITEM(stop->args, 0, Py_NewRef(value));
    stop->value = Py_NewRef(value);
    if (PyType_IS_GC(Py_TYPE(value))) {
        PyObject_GC_Track(stop->args);
    }
    return (PyObject *)stop;
}

/// Emptying a StopIteration

/* Return 1 if nobody else has `stop` or its arguments, else 0. */
static inline int
stop_is_free(PyStopIterationObject *stop)
{
    return Py_REFCNT(stop) == 1 && stop->args != NULL
           && Py_REFCNT(stop->args) == 1 && PyTuple_CheckExact(stop->args)
           && PyTuple_GET_SIZE(stop->args) == 1;
}

/* Make `stop` what it was when it was made, but for the value. */
static inline void
stop_empty(PyStopIterationObject *stop)
{
    PyObject *args = stop->args;
    stop->args = NULL;
    PyObject_GC_UnTrack(stop);
    PyObject_GC_UnTrack(args);
    Py_TYPE(stop)->tp_clear((PyObject *)stop);
    stop->suppress_context = 0;
    PyTuple_SetItem(args, 0, NULL);
#if PY_VERSION_HEX >= 0x030E0000
    ((PyTupleObject *)args)->ob_hash = -1;
#endif
    stop->args = args;
}

/// A StopIteration that is over

/* Drop `op`, a StopIteration, or keep it. `spares` is NULL if they are gone.
   Steals `op`. */
static inline void
spares_give_stop(Spares *spares, PyObject *op)
{
    PyStopIterationObject *stop = (PyStopIterationObject *)op;
    if (spares == NULL || spares->type == NULL || !stop_is_free(stop)) {
        if (!PyObject_GC_IsTracked(op)) {
            PyObject_GC_Track(op);
        }
        Py_DECREF(op);
        return;
    }
    stop_empty(stop);
    Py_XSETREF(spares->stop, op);
}
