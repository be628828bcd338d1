/* coroutine_run.h: running a coroutine made by hand, from await to await.

   In Python: send(), throw() and close() of a coroutine.
   Use: through coroutine.h; nothing to link. Every function needs the GIL.
   Taught in book/02_handmade_coroutine.md. */

/// What running needs

#pragma once
#include "awaitable.h"
#include "coroutine_frame.h"
#include "delegate.h"
#include "stop_iteration.h"

/// The right to run

/* Take the right to run `self`: if its state is CREATED or SUSPENDED, it is
   RUNNING from now on. Returns the state in which it was. */
static inline int
coroutine_enter(Coroutine *self)
{
    int state;
    Py_BEGIN_CRITICAL_SECTION(self);
    state = self->state;
    if (state == CREATED || state == SUSPENDED) {
        self->state = RUNNING;
    }
    Py_END_CRITICAL_SECTION();
    return state;
}

/* Set the exception for who asked to run a coroutine that is RUNNING or
   CLOSED, which `state` says. */
static inline void
coroutine_refuse(int state)
{
    if (state == RUNNING) {
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
    }
    else {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot reuse already awaited coroutine");
    }
}

/// Beginning and ending to run

/* Begin to run `self`: the exception that is being handled is now that of the
   body, if it has one. Returns the thread state, for coroutine_end_run(). */
static inline PyThreadState *
coroutine_begin_run(Coroutine *self)
{
    PyThreadState *tstate = PyThreadState_Get();
    self->handled.previous_item = tstate->exc_info;
    tstate->exc_info = &self->handled;
    return tstate;
}

/* End to run `self`, which has yielded if `status` is PYGEN_NEXT: then others
   may run it from now on. */
static inline void
coroutine_end_run(Coroutine *self, PyThreadState *tstate, PySendResult status)
{
    tstate->exc_info = self->handled.previous_item;
    if (status == PYGEN_NEXT) {
        coroutine_set_state(self, SUSPENDED);
    }
}

/* Return 1 if the body handles an exception, else 0. */
static inline int
coroutine_is_handling(Coroutine *self)
{
    PyObject *error = self->handled.exc_value;
    return error != NULL && error != Py_None;
}

/// StopIteration cannot leave

/* If StopIteration is raised, raise RuntimeError from it instead. */
static inline void
coroutine_replace_stop(void)
{
    if (!PyErr_ExceptionMatches(PyExc_StopIteration)) {
        return;
    }
    PyObject *stop = PyErr_GetRaisedException();
    PyErr_SetString(PyExc_RuntimeError, "coroutine raised StopIteration");
    PyObject *error = PyErr_GetRaisedException();
    PyException_SetCause(error, Py_NewRef(stop));
    PyException_SetContext(error, stop);
    PyErr_SetRaisedException(error);
}

/// Ending with an exception

/* Close `self`, of which the raised exception is the end. Always returns
   PYGEN_ERROR. */
static inline PySendResult
coroutine_fail(Coroutine *self)
{
    coroutine_replace_stop();
    PyObject *error = PyErr_GetRaisedException();
    coroutine_end(self);
    PyErr_SetRaisedException(error);
    return PYGEN_ERROR;
}

/// Beginning to await

/* Do the first step of `await *item`, and drop that reference. Returns what
   PyIter_Send does, with what came out in `*item`. */
static inline PySendResult
coroutine_begin_await(Coroutine *self, PyObject **item)
{
    PyObject *iterator = awaitable_get_iter(*item);
    Py_CLEAR(*item);
    if (iterator == NULL) {
        return PYGEN_ERROR;
    }
    coroutine_set_awaited(self, iterator);
    return PyIter_Send(iterator, Py_None, item);
}

/// The end of an await

/* Let go of what `self` awaited, which `status` came out of. An exception gets
   the line of the await in its traceback. */
static inline void
coroutine_end_await(Coroutine *self, PySendResult status)
{
    if (status != PYGEN_ERROR) {
        coroutine_set_awaited(self, NULL);
        return;
    }
    PyObject *error = PyErr_GetRaisedException();
    coroutine_set_awaited(self, NULL);
    PyErr_SetRaisedException(error);
    coroutine_trace(self);
}

/// From await to await

/* Go on until something is yielded, or to the end. `status` and `*item` are
   what came out of the iterator that is driven, before and after. */
static inline PySendResult
coroutine_go_on(Coroutine *self, PySendResult status, PyObject **item)
{
    while (status != PYGEN_NEXT) {
        coroutine_end_await(self, status);
        PyObject *value = *item;
        *item = NULL;
        PySendResult answer = self->body->step(self, value, item);
        if (answer == PYGEN_RETURN) {
            coroutine_end(self);
            return PYGEN_RETURN;
        }
        if (answer == PYGEN_ERROR) {
            return coroutine_fail(self);
        }
        status = coroutine_begin_await(self, item);
    }
    return PYGEN_NEXT;
}

/// Sending

/* Send `value`: to the body if it has not begun, else to what it awaits. The
   caller has the right to run. Returns what am_send does. */
static inline PySendResult
coroutine_send_value(Coroutine *self, PyObject *value, PyObject **item)
{
    *item = NULL;
    if (Py_EnterRecursiveCall(" while awaiting")) {
        coroutine_trace(self);
        return coroutine_fail(self);
    }
    PyThreadState *tstate = coroutine_begin_run(self);
    PySendResult status = PYGEN_RETURN;
    if (self->awaited != NULL) {
        status = PyIter_Send(self->awaited, value, item);
    }
    else {
        *item = Py_NewRef(Py_None);
    }
    status = coroutine_go_on(self, status, item);
    coroutine_end_run(self, tstate, status);
    Py_LeaveRecursiveCall();
    return status;
}

/// The send slot

static inline PySendResult
Coroutine_am_send(PyObject *op, PyObject *value, PyObject **item)
{
    Coroutine *self = (Coroutine *)op;
    int state = coroutine_enter(self);
    if (state == SUSPENDED || (state == CREATED && value == Py_None)) {
        return coroutine_send_value(self, value, item);
    }
    *item = NULL;
    if (state != CREATED) {
        coroutine_refuse(state);
        return PYGEN_ERROR;
    }
    coroutine_set_state(self, CREATED);
    PyErr_SetString(PyExc_TypeError, "can't send non-None value to a "
                                     "just-started coroutine");
    return PYGEN_ERROR;
}

/// What the caller gets

/* Return `item` if it was yielded, else NULL with an exception set: the one
   that is raised already, or StopIteration with the result. Steals `item`. */
static inline PyObject *
coroutine_give(PySendResult status, PyObject *item)
{
    if (status == PYGEN_RETURN) {
        if (item == Py_None) {
            PyErr_SetNone(PyExc_StopIteration);
        }
        else {
            stop_iteration_raise(item);
        }
        Py_CLEAR(item);
    }
    return item;
}

/// The method send

static inline PyObject *
Coroutine_send(PyObject *op, PyObject *value)
{
    PyObject *item;
    PySendResult status = Coroutine_am_send(op, value, &item);
    return coroutine_give(status, item);
}

/// Next

static inline PyObject *
Coroutine_iternext(PyObject *op)
{
    PyObject *item;
    PySendResult status = Coroutine_am_send(op, Py_None, &item);
    if (status == PYGEN_RETURN && item == Py_None) {
        Py_DECREF(item);
        return NULL;
    }
    return coroutine_give(status, item);
}

/// Going on with what was thrown

/* Go on as coroutine_go_on() does, after throw() or close(): an exception now
   enters the body, whose own exception becomes its context. */
static inline PySendResult
coroutine_go_on_thrown(Coroutine *self, PySendResult status, PyObject **item)
{
    PyThreadState *tstate = coroutine_begin_run(self);
    if (status == PYGEN_ERROR && coroutine_is_handling(self)) {
        PyObject *error = PyErr_GetRaisedException();
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        Py_DECREF(error);
    }
#if PY_VERSION_HEX >= 0x030C0000
    if (status == PYGEN_ERROR) {
        status = stop_iteration_fetch(item);
    }
#endif
    status = coroutine_go_on(self, status, item);
    coroutine_end_run(self, tstate, status);
    return status;
}

/// Who warns

/* Return 1 if what `self` awaits warns itself of deprecated arguments of
   throw(), as coroutines and generators do, native ones and ours, else 0. */
static inline int
coroutine_throw_warns(Coroutine *self)
{
    PyObject *iterator = self->awaited;
    return PyCoro_CheckExact(iterator) || PyGen_CheckExact(iterator)
           || Py_IS_TYPE(iterator, Py_TYPE(self));
}

/// Throwing into what is awaited

/* Pass the arguments of throw() on. Return 0 with what came out in `*status`
   and `*item`, or -1 with an exception set if nothing took them. */
static inline int
coroutine_throw_inside(Coroutine *self, PyObject *const *args,
                       Py_ssize_t count, PySendResult *status, PyObject **item)
{
    PyObject *method = NULL;
    *status = PYGEN_ERROR;
    *item = NULL;
    if (PyErr_GivenExceptionMatches(args[0], PyExc_GeneratorExit)) {
        if (delegate_close(self->awaited) < 0) {
            return 0;
        }
    }
    else if (delegate_find(self->awaited, "throw", &method) < 0) {
        return -1;
    }
    if (method != NULL) {
        int warns = coroutine_throw_warns(self);
        *status = delegate_throw(method, args, count, warns, item);
        Py_DECREF(method);
        return 0;
    }
    PyObject *error = throw_get_exception(args, count);
    if (error == NULL) {
        return -1;
    }
    PyErr_SetRaisedException(error);
    return 0;
}

/// Throwing at an await

/* Do what throw() does to a coroutine that is suspended. */
static inline PyObject *
coroutine_throw_suspended(Coroutine *self, PyObject *const *args,
                          Py_ssize_t count)
{
    PySendResult status;
    PyObject *item;
    if (coroutine_throw_inside(self, args, count, &status, &item) < 0) {
        coroutine_set_state(self, SUSPENDED);
        return NULL;
    }
    status = coroutine_go_on_thrown(self, status, &item);
    return coroutine_give(status, item);
}

/// Throwing before the start

/* Do what throw() does to a coroutine that is not suspended: end it if it has
   not begun, which `state` says, or refuse. Always returns NULL. */
static inline PyObject *
coroutine_throw_elsewhere(Coroutine *self, int state, PyObject *const *args,
                          Py_ssize_t count)
{
#if PY_VERSION_HEX >= 0x030F0000
    if (state != CREATED) {
        coroutine_refuse(state);
        return NULL;
    }
#endif
    PyObject *error = throw_get_exception(args, count);
    if (state == CREATED && error != NULL) {
        PyErr_SetRaisedException(error);
        coroutine_trace(self);
        coroutine_fail(self);
        return NULL;
    }
    if (state == CREATED) {
        coroutine_set_state(self, CREATED);
    }
    else if (error != NULL) {
        coroutine_refuse(state);
        Py_DECREF(error);
    }
    return NULL;
}

/// The method throw

static inline PyObject *
Coroutine_throw(PyObject *op, PyObject *const *args, Py_ssize_t count)
{
    Coroutine *self = (Coroutine *)op;
    if (throw_check_count(count) < 0) {
        return NULL;
    }
    int state = coroutine_enter(self);
    if (state == SUSPENDED) {
        return coroutine_throw_suspended(self, args, count);
    }
    return coroutine_throw_elsewhere(self, state, args, count);
}

/// Closing at an await

/* Do what close() does to a coroutine that is suspended. */
static inline PyObject *
coroutine_close_suspended(Coroutine *self)
{
    PyObject *item = NULL;
    if (delegate_close(self->awaited) == 0) {
        PyErr_SetNone(PyExc_GeneratorExit);
    }
    PySendResult status = coroutine_go_on_thrown(self, PYGEN_ERROR, &item);
    if (status == PYGEN_NEXT) {
        Py_DECREF(item);
        PyErr_SetString(PyExc_RuntimeError, "coroutine ignored GeneratorExit");
        return NULL;
    }
    if (status == PYGEN_ERROR) {
        if (!PyErr_ExceptionMatches(PyExc_GeneratorExit)) {
            return NULL;
        }
        PyErr_Clear();
        Py_RETURN_NONE;
    }
#if PY_VERSION_HEX < 0x030D0000
    Py_SETREF(item, Py_NewRef(Py_None));
#endif
    return item;
}

/// The method close

static inline PyObject *
Coroutine_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    Coroutine *self = (Coroutine *)op;
    int state = coroutine_enter(self);
    if (state == SUSPENDED) {
        return coroutine_close_suspended(self);
    }
    if (state == RUNNING) {
        coroutine_refuse(state);
        return NULL;
    }
    if (state == CREATED) {
        coroutine_end(self);
    }
    Py_RETURN_NONE;
}

/// An exception begins

/* What a step says when an exception was raised on `line` of the body. Returns
   what the step returns. */
static inline PySendResult
coroutine_error(Coroutine *self, int line)
{
    coroutine_set_line(self, line);
    coroutine_trace(self);
    return PYGEN_ERROR;
}

/// Await and return

/* What a step says to await `awaitable` on `line` and to go on at `position`.
   Returns what the step returns. Steals `awaitable`, which is NULL with an
   exception set if there is none. */
static inline PySendResult
coroutine_await(Coroutine *self, int line, PyObject *awaitable, int position,
                PyObject **result)
{
    coroutine_set_line(self, line);
    self->position = position;
    *result = awaitable;
    return awaitable != NULL ? PYGEN_NEXT : coroutine_error(self, line);
}

/* What a step says to return `value` on `line`. Returns what the step returns.
   Steals `value`, which is NULL with an exception set if there is none. */
static inline PySendResult
coroutine_return(Coroutine *self, int line, PyObject *value, PyObject **result)
{
    *result = value;
    return value != NULL ? PYGEN_RETURN : coroutine_error(self, line);
}

/// Catch and raise

/* What a step says for `except`: the raised exception is now being handled. */
static inline void
coroutine_catch(Coroutine *self)
{
    Py_XSETREF(self->handled.exc_value, PyErr_GetRaisedException());
}

/* What a step says for `raise`: what is being handled is raised again, or
   RuntimeError if nothing is. Returns what the step returns. */
static inline PySendResult
coroutine_raise_again(Coroutine *self)
{
    if (coroutine_is_handling(self)) {
        PyErr_SetRaisedException(Py_NewRef(self->handled.exc_value));
    }
    else {
        PyErr_SetString(PyExc_RuntimeError, "No active exception to reraise");
    }
    return PYGEN_ERROR;
}
