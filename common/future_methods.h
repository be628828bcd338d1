/* future_methods.h: what Python can ask of a future.

   In Python: the methods of asyncio.Future.
   Use: through future.h; nothing to link. Every function needs the GIL.
   Taught in book/03_thread_woken_future.md. */

/// What the methods of a future need

#pragma once
#include "future_object.h"

/// A new future

/* Return a new pending future on `loop`, or NULL with an exception set.
   Borrows both. */
static inline Future *
future_new(PyTypeObject *type, PyObject *loop)
{
    Future *self = (Future *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->loop = Py_NewRef(loop);
    }
    return self;
}

/// Calling the type of futures

static inline PyObject *
Future_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"loop", NULL};
    PyObject *loop = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$O:Future", names,
                                     &loop)) {
        return NULL;
    }
    if (loop != Py_None) {
        return (PyObject *)future_new(type, loop);
    }
    FutureState *state = future_get_state(type);
    loop = state == NULL ? NULL : PyObject_CallNoArgs(state->get_event_loop);
    if (loop == NULL) {
        return NULL;
    }
    Future *self = future_new(type, loop);
    Py_DECREF(loop);
    return (PyObject *)self;
}

/// The methods that complete a future

static inline PyObject *
Future_set_result(PyObject *op, PyObject *result)
{
    int status;
    Py_BEGIN_CRITICAL_SECTION(op);
    status = future_set_result((Future *)op, result);
    Py_END_CRITICAL_SECTION();
    return status < 0 ? NULL : Py_NewRef(Py_None);
}

static inline PyObject *
Future_set_exception(PyObject *op, PyObject *error)
{
    int status;
    Py_BEGIN_CRITICAL_SECTION(op);
    status = future_set_exception((Future *)op, error);
    Py_END_CRITICAL_SECTION();
    return status < 0 ? NULL : Py_NewRef(Py_None);
}

/// Cancelling, from Python

static inline PyObject *
Future_cancel(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"msg", NULL};
    PyObject *message = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:cancel", names,
                                     &message)) {
        return NULL;
    }
    int status;
    Py_BEGIN_CRITICAL_SECTION(op);
    status = future_cancel((Future *)op, message);
    Py_END_CRITICAL_SECTION();
    return status < 0 ? NULL : PyBool_FromLong(status);
}

/// The methods that ask a future

static inline PyObject *
Future_done(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(((Future *)op)->state != PENDING);
}

static inline PyObject *
Future_cancelled(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(((Future *)op)->state == CANCELLED);
}

static inline PyObject *
Future_result(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    PyObject *result;
    Py_BEGIN_CRITICAL_SECTION(op);
    result = future_get_result((Future *)op);
    Py_END_CRITICAL_SECTION();
    return result;
}

static inline PyObject *
Future_exception(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    PyObject *error;
    Py_BEGIN_CRITICAL_SECTION(op);
    error = future_get_exception((Future *)op);
    Py_END_CRITICAL_SECTION();
    return error;
}

static inline PyObject *
Future_get_loop(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(((Future *)op)->loop);
}

/// The methods for callbacks

static inline PyObject *
Future_add_done_callback(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "context", NULL};
    PyObject *callback, *context = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$O:add_done_callback",
                                     names, &callback, &context)) {
        return NULL;
    }
    int status;
    Py_BEGIN_CRITICAL_SECTION(op);
    status = future_add((Future *)op, callback, context);
    Py_END_CRITICAL_SECTION();
    return status < 0 ? NULL : Py_NewRef(Py_None);
}

static inline PyObject *
Future_remove_done_callback(PyObject *op, PyObject *callback)
{
    Py_ssize_t count;
    Py_BEGIN_CRITICAL_SECTION(op);
    count = future_remove((Future *)op, callback);
    Py_END_CRITICAL_SECTION();
    return count < 0 ? NULL : PyLong_FromSsize_t(count);
}

/// What asyncio asks for in private

static inline PyObject *
Future_make_cancelled_error(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return future_make_cancelled_error((Future *)op);
}

static inline PyObject *
Future_get_cancel_message(PyObject *op, void *Py_UNUSED(closure))
{
    Future *self = (Future *)op;
    PyObject *message = Py_None;
    Py_BEGIN_CRITICAL_SECTION(op);
    if (self->state == CANCELLED) {
        message = self->outcome;
    }
    Py_INCREF(message);
    Py_END_CRITICAL_SECTION();
    return message;
}

/// The flag

static inline PyObject *
Future_get_blocking(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((Future *)op)->is_blocking);
}

static inline int
Future_set_blocking(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "cannot delete attribute");
        return -1;
    }
    int truth = PyObject_IsTrue(value);
    if (truth < 0) {
        return -1;
    }
    ((Future *)op)->is_blocking = (char)truth;
    return 0;
}

/// How a future looks

/* Return "pending", or what else `state` is. */
static inline const char *
future_state_name(int state)
{
    static const char *const names[] = {
        [PENDING] = "pending",
        [CANCELLED] = "cancelled",
        [FINISHED] = "finished result=",
        [FAILED] = "finished exception=",
    };
    return names[state];
}

/* Return the repr of the outcome, a result not too long, or NULL with an
   exception set. */
static inline PyObject *
future_repr_outcome(Future *self)
{
    if (self->state == FAILED) {
        return PyObject_Repr(self->outcome);
    }
    PyObject *reprlib = PyImport_ImportModule("reprlib");
    if (reprlib == NULL) {
        return NULL;
    }
    PyObject *repr =
        PyObject_CallMethod(reprlib, "repr", "(O)", self->outcome);
    Py_DECREF(reprlib);
    return repr;
}

/// The repr of a future

static inline PyObject *
Future_repr(PyObject *op)
{
    Future *self = (Future *)op;
    int state = self->state;
    const char *name = future_state_name(state);
    if (state == PENDING || state == CANCELLED) {
        return PyUnicode_FromFormat("<Future %s>", name);
    }
    int is_inside = Py_ReprEnter(op);
    if (is_inside != 0) {
        return is_inside < 0 ? NULL : PyUnicode_FromString("...");
    }
    PyObject *outcome = future_repr_outcome(self);
    Py_ReprLeave(op);
    if (outcome == NULL) {
        return NULL;
    }
    PyObject *repr = PyUnicode_FromFormat("<Future %s%U>", name, outcome);
    Py_DECREF(outcome);
    return repr;
}

/// An exception that nobody saw

/* Tell the loop that nobody has asked for the exception. Return 0, or -1 with
   an exception set. */
static inline int
future_report(Future *self)
{
    PyObject *details = Py_BuildValue(
        "{sssOsO}", "message", "Future exception was never retrieved",
        "exception", self->outcome, "future", (PyObject *)self);
    if (details == NULL) {
        return -1;
    }
    PyObject *done = PyObject_CallMethod(self->loop, "call_exception_handler",
                                         "O", details);
    Py_DECREF(details);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/// The end of a future

static inline void
Future_finalize(PyObject *op)
{
    Future *self = (Future *)op;
    if (!self->is_unseen) {
        return;
    }
    self->is_unseen = 0;
    PyObject *error = PyErr_GetRaisedException();
    if (future_report(self) < 0) {
        PyErr_WriteUnraisable(op);
    }
    PyErr_SetRaisedException(error);
}

static inline void
Future_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    if (PyObject_CallFinalizerFromDealloc(op) < 0) {
        return;
    }
    PyObject_GC_UnTrack(op);
    Py_TRASHCAN_BEGIN(op, Future_dealloc);
    if (((Future *)op)->weakrefs != NULL) {
        PyObject_ClearWeakRefs(op);
    }
    Future_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
    Py_TRASHCAN_END;
}
