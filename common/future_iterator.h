/* future_iterator.h: what `await` drives while it waits for a future.

   In Python: what asyncio.Future.__await__ returns.
   Use: through future.h; nothing to link. Every function needs the GIL.
   Taught in book/03_thread_woken_future.md. */

/// What the iterator of a future needs

#pragma once
#include "future_object.h"
#include "stop_iteration.h"
#include "throw_arguments.h"

/// The iterator of a future

typedef struct {
    PyObject_HEAD
    Future *future; /* or NULL at the end */
} FutureIterator;

static inline int
FutureIterator_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((FutureIterator *)op)->future);
    return 0;
}

static inline int
FutureIterator_clear(PyObject *op)
{
    Py_BEGIN_CRITICAL_SECTION(op);
    Py_CLEAR(((FutureIterator *)op)->future);
    Py_END_CRITICAL_SECTION();
    return 0;
}

static inline void
FutureIterator_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    FutureIterator_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

/// A new iterator

static inline PyObject *
Future_iter(PyObject *op)
{
    FutureState *state = future_get_state(Py_TYPE(op));
    if (state == NULL) {
        return NULL;
    }
    PyTypeObject *type = state->iterator_type;
    FutureIterator *self = (FutureIterator *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->future = (Future *)Py_NewRef(op);
    }
    return (PyObject *)self;
}

/// Driving the iterator

/* Do the next step with `future`; return what am_send returns. */
static inline PySendResult
future_step(Future *future, PyObject **item)
{
    if (future->state != PENDING) {
        *item = future_get_result(future);
        return *item != NULL ? PYGEN_RETURN : PYGEN_ERROR;
    }
    if (future->is_blocking) {
        PyErr_SetString(PyExc_RuntimeError, "await wasn't used with future");
        return PYGEN_ERROR;
    }
    future->is_blocking = 1;
    *item = Py_NewRef(future);
    return PYGEN_NEXT;
}

static inline PySendResult
FutureIterator_am_send(PyObject *op, PyObject *Py_UNUSED(value),
                       PyObject **item)
{
    PySendResult status;
    Future *future;
    Py_BEGIN_CRITICAL_SECTION(op);
    future = (Future *)Py_XNewRef(((FutureIterator *)op)->future);
    Py_END_CRITICAL_SECTION();
    *item = NULL;
    if (future == NULL) {
        *item = Py_NewRef(Py_None);
        return PYGEN_RETURN;
    }
    Py_BEGIN_CRITICAL_SECTION(future);
    status = future_step(future, item);
    Py_END_CRITICAL_SECTION();
    if (status != PYGEN_NEXT) {
        FutureIterator_clear(op);
    }
    Py_DECREF(future);
    return status;
}

/// Next, from a future

static inline PyObject *
FutureIterator_iternext(PyObject *op)
{
    PyObject *item;
    if (FutureIterator_am_send(op, Py_None, &item) == PYGEN_RETURN) {
        if (item != Py_None) {
            stop_iteration_raise(item);
        }
        Py_CLEAR(item);
    }
    return item;
}

/// The methods of the iterator

static inline PyObject *
FutureIterator_send(PyObject *op, PyObject *Py_UNUSED(value))
{
    PyObject *item = FutureIterator_iternext(op);
    if (item == NULL && !PyErr_Occurred()) {
        PyErr_SetNone(PyExc_StopIteration);
    }
    return item;
}

static inline PyObject *
FutureIterator_throw(PyObject *op, PyObject *const *args, Py_ssize_t count)
{
    if (throw_check_count(count) < 0) {
        return NULL;
    }
    PyObject *error = throw_get_exception(args, count);
    if (error != NULL) {
        FutureIterator_clear(op);
        PyErr_SetRaisedException(error);
    }
    return NULL;
}

static inline PyObject *
FutureIterator_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    FutureIterator_clear(op);
    Py_RETURN_NONE;
}

/// The type of the iterator

static PyMethodDef future_iterator_methods[] = {
    {"send", FutureIterator_send, METH_O, NULL},
    {"throw", (PyCFunction)(void (*)(void))FutureIterator_throw, METH_FASTCALL,
     NULL},
    {"close", FutureIterator_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot future_iterator_slots[] = {
    {Py_tp_traverse, FutureIterator_traverse},
    {Py_tp_clear, FutureIterator_clear},
    {Py_tp_dealloc, FutureIterator_dealloc},
    {Py_tp_methods, future_iterator_methods},
    {Py_am_send, FutureIterator_am_send},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, FutureIterator_iternext},
    {0, NULL},
};
