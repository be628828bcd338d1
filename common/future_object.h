/* future_object.h: what a future made by hand keeps, and how it becomes done.

   In Python: the attributes of asyncio.Future, set_result() and its sisters.
   Use: through future.h; nothing to link. Every function needs the GIL.
   Taught in book/03_thread_woken_future.md. */

/// What a future is made with

#pragma once
#include <Python.h>
#include <stdatomic.h>
#include "critical_section.h"
#include "raised_exception.h"

/// What all futures of a module share

typedef struct {
    PyTypeObject *future_type;
    PyTypeObject *iterator_type;
    PyObject *call_soon;       /* "call_soon" */
    PyObject *context_name;    /* ("context",) */
    PyObject *get_event_loop;  /* asyncio.get_event_loop */
    PyObject *cancelled_error; /* asyncio.CancelledError */
    PyObject *invalid_state;   /* asyncio.InvalidStateError */
} FutureState;

/* Return what the futures of `type` share, or NULL with an exception set. It
   is what the state of their module begins with. */
static inline FutureState *
future_get_state(PyTypeObject *type)
{
    return PyType_GetModuleState(type);
}

/// What a future waits for

typedef struct Work Work;

struct Work {
    void (*abandon)(Work *self); /* the future needs it no more */
};

/// The object of a future

enum { PENDING, CANCELLED, FINISHED, FAILED };

typedef struct {
    PyObject_HEAD
    PyObject *loop;
    PyObject *callback;  /* the first one, or NULL */
    PyObject *context; /* of the first one; if FAILED, the traceback */
    PyObject *callbacks; /* a list of more, as (callback, context), or NULL */
    PyObject *outcome; /* result, exception or message, or NULL */
    PyObject *weakrefs;
    Work *work; /* or NULL */
    atomic_int state; /* read without the lock, written after the rest */
    atomic_char is_blocking; /* what the flag of asyncio says */
    char is_unseen; /* the exception was not asked for yet */
} Future;

/// The life of a future

static inline int
Future_traverse(PyObject *op, visitproc visit, void *arg)
{
    Future *self = (Future *)op;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->loop);
    Py_VISIT(self->callback);
    Py_VISIT(self->context);
    Py_VISIT(self->callbacks);
    Py_VISIT(self->outcome);
    return 0;
}

/// Taking a future apart

/* Let go of the work, if there is any. */
static inline void
future_abandon_work(Future *self)
{
    Work *work = self->work;
    self->work = NULL;
    if (work != NULL) {
        work->abandon(work);
    }
}

static inline int
Future_clear(PyObject *op)
{
    Future *self = (Future *)op;
    future_abandon_work(self);
    Py_CLEAR(self->loop);
    Py_CLEAR(self->callback);
    Py_CLEAR(self->context);
    Py_CLEAR(self->callbacks);
    Py_CLEAR(self->outcome);
    return 0;
}

/// Through the loop

/* Let the loop call callback(self) in `context`, soon. Return 0, or -1 with an
   exception set. */
static inline int
future_call_soon(Future *self, PyObject *callback, PyObject *context)
{
    FutureState *state = future_get_state(Py_TYPE(self));
    if (state == NULL) {
        return -1;
    }
    PyObject *args[] = {self->loop, callback, (PyObject *)self, context};
    PyObject *handle = PyObject_VectorcallMethod(state->call_soon, args, 3,
                                                 state->context_name);
    Py_XDECREF(handle);
    return handle == NULL ? -1 : 0;
}

/* Let the loop call the callbacks of `entries`, a list of (callback, context).
   Return 0, or -1 with an exception set. */
static inline int
future_call_entries(Future *self, PyObject *entries)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(entries); i++) {
        PyObject *entry = PyList_GET_ITEM(entries, i);
        PyObject *callback = PyTuple_GET_ITEM(entry, 0);
        PyObject *context = PyTuple_GET_ITEM(entry, 1);
        if (future_call_soon(self, callback, context) < 0) {
            return -1;
        }
    }
    return 0;
}

/// Becoming done

/* Be done, in `state`, with `outcome` and of FAILED `traceback`, both stolen.
   Return 0, or -1 with an exception set if the loop refuses a callback. */
static inline int
future_finish(Future *self, int state, PyObject *outcome, PyObject *traceback)
{
    PyObject *callback = self->callback;
    PyObject *context = self->context;
    PyObject *callbacks = self->callbacks;
    self->callback = self->callbacks = NULL;
    self->context = traceback;
    self->outcome = outcome;
    self->is_unseen = state == FAILED;
    self->state = state;
    future_abandon_work(self);
    int status = 0;
    if (callback != NULL) {
        status = future_call_soon(self, callback, context);
    }
    if (status == 0 && callbacks != NULL) {
        status = future_call_entries(self, callbacks);
    }
    Py_XDECREF(callback);
    Py_XDECREF(context);
    Py_XDECREF(callbacks);
    return status;
}

/// Only once

/* Return 0 if `self` is pending, else -1 with InvalidStateError set. */
static inline int
future_check_pending(Future *self)
{
    if (self->state == PENDING) {
        return 0;
    }
    FutureState *state = future_get_state(Py_TYPE(self));
    if (state != NULL) {
        PyErr_SetString(state->invalid_state, "invalid state");
    }
    return -1;
}

/// A result

/* Be done with `result`, which is borrowed. Return 0, or -1 with an exception
   set. */
static inline int
future_set_result(Future *self, PyObject *result)
{
    if (future_check_pending(self) < 0) {
        return -1;
    }
    return future_finish(self, FINISHED, Py_NewRef(result), NULL);
}

/// StopIteration cannot be an exception of a future

/* Return a new RuntimeError whose cause is `stop`, a StopIteration, which is
   stolen, or NULL with an exception set, up to 3.12 always with TypeError. */
static inline PyObject *
future_wrap_stop(PyObject *stop)
{
    const char *why = "StopIteration interacts badly with generators and "
                      "cannot be raised into a Future";
#if PY_VERSION_HEX < 0x030D0000
    PyErr_SetString(PyExc_TypeError, why);
    Py_DECREF(stop);
    return NULL;
#else
    PyObject *error = PyObject_CallFunction(PyExc_RuntimeError, "s", why);
    if (error == NULL) {
        Py_DECREF(stop);
        return NULL;
    }
    PyException_SetCause(error, Py_NewRef(stop));
    PyException_SetContext(error, stop);
    return error;
#endif
}

/// The exception that is meant

/* Return the exception that `given` means, a new reference, or NULL with an
   exception set. */
static inline PyObject *
future_make_exception(PyObject *given)
{
    PyObject *error = PyExceptionClass_Check(given)
                          ? PyObject_CallNoArgs(given)
                          : Py_NewRef(given);
    if (error == NULL) {
        return NULL;
    }
    if (!PyExceptionInstance_Check(error)) {
        PyErr_SetString(PyExc_TypeError, "invalid exception object");
        Py_DECREF(error);
        return NULL;
    }
    if (PyErr_GivenExceptionMatches(error, PyExc_StopIteration)) {
        return future_wrap_stop(error);
    }
    return error;
}

/// An exception

/* Be done with the exception that `given` means, which is borrowed. Return 0,
   or -1 with an exception set. */
static inline int
future_set_exception(Future *self, PyObject *given)
{
    if (future_check_pending(self) < 0) {
        return -1;
    }
    PyObject *error = future_make_exception(given);
    if (error == NULL) {
        return -1;
    }
    if (self->state != PENDING) { /* the class has done it */
        Py_DECREF(error);
        return future_check_pending(self);
    }
    return future_finish(self, FAILED, error, PyException_GetTraceback(error));
}

/// Cancelling

/* Be done without a result, and with `message`, which is borrowed. Return 1,
   or 0 if `self` was done before, or -1 with an exception set. */
static inline int
future_cancel(Future *self, PyObject *message)
{
    self->is_unseen = 0;
    if (self->state != PENDING) {
        return 0;
    }
    if (future_finish(self, CANCELLED, Py_NewRef(message), NULL) < 0) {
        return -1;
    }
    return 1;
}

/// The error of a cancelled future

/* Return a new CancelledError with the message of `self`, or NULL with an
   exception set. */
static inline PyObject *
future_make_cancelled_error(Future *self)
{
    FutureState *state = future_get_state(Py_TYPE(self));
    if (state == NULL) {
        return NULL;
    }
    if (self->state != CANCELLED || self->outcome == Py_None) {
        return PyObject_CallNoArgs(state->cancelled_error);
    }
    return PyObject_CallOneArg(state->cancelled_error, self->outcome);
}

/// Asking

/* Return 0 if `self` has a result or an exception. Otherwise raise what says
   why not, which is `missing` if it is pending, and return -1. */
static inline int
future_check_done(Future *self, const char *missing)
{
    if (self->state == CANCELLED) {
        PyObject *error = future_make_cancelled_error(self);
        if (error != NULL) {
            PyErr_SetObject((PyObject *)Py_TYPE(error), error);
            Py_DECREF(error);
        }
        return -1;
    }
    if (self->state == PENDING) {
        FutureState *state = future_get_state(Py_TYPE(self));
        if (state != NULL) {
            PyErr_SetString(state->invalid_state, missing);
        }
        return -1;
    }
    self->is_unseen = 0;
    return 0;
}

/// The result and the exception

/* Return the result, a new reference, or NULL with the exception set. */
static inline PyObject *
future_get_result(Future *self)
{
    if (future_check_done(self, "Result is not set.") < 0) {
        return NULL;
    }
    if (self->state == FINISHED) {
        return Py_NewRef(self->outcome);
    }
    PyObject *error = Py_NewRef(self->outcome);
    PyObject *traceback = self->context != NULL ? self->context : Py_None;
    PyException_SetTraceback(error, traceback);
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_DECREF(error);
    return NULL;
}

/* Return the exception, a new reference, or NULL with one set. */
static inline PyObject *
future_get_exception(Future *self)
{
    if (future_check_done(self, "Exception is not set.") < 0) {
        return NULL;
    }
    return Py_NewRef(self->state == FAILED ? self->outcome : Py_None);
}

/// Adding a callback

/* Keep `callback` until `self` is done. Return 0, or -1 with an exception
   set. */
static inline int
future_keep(Future *self, PyObject *callback, PyObject *context)
{
    if (self->callback == NULL && self->callbacks == NULL) {
        self->callback = Py_NewRef(callback);
        self->context = Py_NewRef(context);
        return 0;
    }
    if (self->callbacks == NULL) {
        self->callbacks = PyList_New(0);
    }
    PyObject *entry = PyTuple_Pack(2, callback, context);
    int status = -1;
    if (entry != NULL && self->callbacks != NULL) {
        status = PyList_Append(self->callbacks, entry);
    }
    Py_XDECREF(entry);
    return status;
}

/// A callback and its context

/* Let the loop call callback(self) in `context`, or in a copy of the present
   one if it is None, when `self` is done. Return 0, or -1 with an exception
   set. */
static inline int
future_add(Future *self, PyObject *callback, PyObject *context)
{
    context =
        context == Py_None ? PyContext_CopyCurrent() : Py_NewRef(context);
    if (context == NULL) {
        return -1;
    }
    int status = self->state == PENDING
                     ? future_keep(self, callback, context)
                     : future_call_soon(self, callback, context);
    Py_DECREF(context);
    return status;
}

/// The callbacks that are equal

/* Return a new list of those of `entries` that have `callback`, or NULL with
   an exception set. */
static inline PyObject *
future_find(PyObject *entries, PyObject *callback)
{
    PyObject *found = PyList_New(0);
    for (Py_ssize_t i = 0; found != NULL && i < PyList_GET_SIZE(entries);
         i++) {
        PyObject *entry = Py_NewRef(PyList_GET_ITEM(entries, i));
        int equal = PyObject_RichCompareBool(PyTuple_GET_ITEM(entry, 0),
                                             callback, Py_EQ);
        if (equal < 0 || (equal == 1 && PyList_Append(found, entry) < 0)) {
            Py_CLEAR(found);
        }
        Py_DECREF(entry);
    }
    return found;
}

/// Removing the first callback

/* Forget the first callback if it is `callback`. Return how many there were,
   or -1 with an exception set. */
static inline Py_ssize_t
future_remove_first(Future *self, PyObject *callback)
{
    if (self->callback == NULL) {
        return 0;
    }
    PyObject *first = Py_NewRef(self->callback);
    int equal = PyObject_RichCompareBool(first, callback, Py_EQ);
    if (equal == 1 && self->callback == first) {
        Py_CLEAR(self->callback);
        Py_CLEAR(self->context);
    }
    Py_DECREF(first);
    return equal;
}

/// Removing one callback

/* Remove `entry`, that very object, from the list of callbacks. Return 1 if it
   was there, 0 if not, or -1 with an exception set. */
static inline int
future_delete(Future *self, PyObject *entry)
{
    PyObject *entries = self->callbacks;
    Py_ssize_t count = entries != NULL ? PyList_GET_SIZE(entries) : 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (PyList_GET_ITEM(entries, i) == entry) {
            return PyList_SetSlice(entries, i, i + 1, NULL) < 0 ? -1 : 1;
        }
    }
    return 0;
}

/// Removing every callback

/* Forget every `callback` that was added. Return how many there were, or -1
   with an exception set. */
static inline Py_ssize_t
future_remove(Future *self, PyObject *callback)
{
    Py_ssize_t count = future_remove_first(self, callback);
    if (count < 0 || self->callbacks == NULL) {
        return count;
    }
    PyObject *entries = Py_NewRef(self->callbacks);
    PyObject *found = future_find(entries, callback);
    Py_DECREF(entries);
    if (found == NULL) {
        return -1;
    }
    for (Py_ssize_t i = 0; count >= 0 && i < PyList_GET_SIZE(found); i++) {
        int deleted = future_delete(self, PyList_GET_ITEM(found, i));
        count = deleted < 0 ? -1 : count + deleted;
    }
    Py_DECREF(found);
    return count;
}
