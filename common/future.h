/* future.h: a type of futures that asyncio takes for its own.

   In Python: asyncio.Future.
   Use: #include "future.h"; nothing to link. Every function needs the GIL.
   Taught in book/03_thread_woken_future.md. */

/// What the type of futures needs

#pragma once
#include <stddef.h>
#include <structmember.h>
#include "future_object.h"
#include "stop_iteration.h"
#include "throw_arguments.h"

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
    Py_CLEAR(((FutureIterator *)op)->future);
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
    Future *future = (Future *)Py_XNewRef(((FutureIterator *)op)->future);
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

/* Return "pending", or what `self` is instead. */
static inline const char *
future_state_name(Future *self)
{
    static const char *const names[] = {
        [PENDING] = "pending",
        [CANCELLED] = "cancelled",
        [FINISHED] = "finished result=",
        [FAILED] = "finished exception=",
    };
    return names[self->state];
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
    const char *state = future_state_name(self);
    if (self->state == PENDING || self->state == CANCELLED) {
        return PyUnicode_FromFormat("<Future %s>", state);
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
    PyObject *repr = PyUnicode_FromFormat("<Future %s%U>", state, outcome);
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

/// The tables of the type of futures

static PyMethodDef future_methods[] = {
    {"set_result", Future_set_result, METH_O,
     "set_result($self, result, /)\n--\n\nBe done, with result.\n\n"
     "Raises InvalidStateError if the future is done."},
    {"set_exception", Future_set_exception, METH_O,
     "set_exception($self, exception, /)\n--\n\nBe done, with exception.\n\n"
     "Raises InvalidStateError if the future is done, and TypeError if it is\n"
     "neither an exception nor a class of exceptions."},
    {"cancel", (PyCFunction)(void (*)(void))Future_cancel,
     METH_VARARGS | METH_KEYWORDS,
     "cancel($self, /, msg=None)\n--\n\nBe done, without a result.\n\n"
     "Return False if the future was done before."},
    {"done", Future_done, METH_NOARGS,
     "done($self, /)\n--\n\nReturn True if the future is not pending."},
    {"cancelled", Future_cancelled, METH_NOARGS,
     "cancelled($self, /)\n--\n\nReturn True if the future was cancelled."},
    {"result", Future_result, METH_NOARGS,
     "result($self, /)\n--\n\nReturn the result or raise the exception.\n\n"
     "Raises InvalidStateError if the future is pending, and CancelledError."},
    {"exception", Future_exception, METH_NOARGS,
     "exception($self, /)\n--\n\nReturn the exception or None.\n\n"
     "Raises InvalidStateError if the future is pending, and CancelledError."},
    {"get_loop", Future_get_loop, METH_NOARGS,
     "get_loop($self, /)\n--\n\nReturn the event loop of the future."},
    {"add_done_callback",
     (PyCFunction)(void (*)(void))Future_add_done_callback,
     METH_VARARGS | METH_KEYWORDS,
     "add_done_callback($self, callback, /, *, context=None)\n--\n\n"
     "Let the loop call callback(self) in context when the future is done."},
    {"remove_done_callback", Future_remove_done_callback, METH_O,
     "remove_done_callback($self, callback, /)\n--\n\n"
     "Forget callback; return how often it had been added."},
    {"_make_cancelled_error", Future_make_cancelled_error, METH_NOARGS, NULL},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL, NULL, 0, NULL},
};

/// The attributes of a future

static PyGetSetDef future_getset[] = {
    {"_asyncio_future_blocking", Future_get_blocking, Future_set_blocking,
     NULL, NULL},
    {"_cancel_message", Future_get_cancel_message, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef future_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Future, weakrefs), READONLY,
     NULL},
    {NULL, 0, 0, 0, NULL},
};

/// The type of futures

static PyType_Slot future_slots[] = {
    {Py_tp_doc,
     "Future(*, loop=None)\n--\n\nA result that is not there yet.\n\n"
     "loop is the event loop that calls the callbacks, else the current one.\n"
     "Raises RuntimeError if there is none."},
    {Py_tp_new, Future_new},
    {Py_tp_traverse, Future_traverse},
    {Py_tp_clear, Future_clear},
    {Py_tp_finalize, Future_finalize},
    {Py_tp_dealloc, Future_dealloc},
    {Py_tp_repr, Future_repr},
    {Py_tp_methods, future_methods},
    {Py_tp_getset, future_getset},
    {Py_tp_members, future_members},
    {Py_tp_iter, Future_iter},
    {Py_am_await, Future_iter},
    {0, NULL},
};

/// Making the type of futures

/* Return a new type of `size` for `module`, or NULL with an exception set. */
static inline PyTypeObject *
future_make_type(PyObject *module, const char *name, size_t size,
                 unsigned int flags, PyType_Slot *slots)
{
    PyType_Spec spec = {
        .name = name,
        .basicsize = (int)size,
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
                 | Py_TPFLAGS_IMMUTABLETYPE | flags,
        .slots = slots,
    };
    return (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
}

/// Filling what futures share

/* Put the attribute `name` of the module asyncio into `*found`. Return 0, or
   -1 with an exception set. */
static inline int
asyncio_get(const char *name, PyObject **found)
{
    PyObject *asyncio = PyImport_ImportModule("asyncio");
    if (asyncio == NULL) {
        return -1;
    }
    *found = PyObject_GetAttrString(asyncio, name);
    Py_DECREF(asyncio);
    return *found == NULL ? -1 : 0;
}

/* Fill `state` with what futures need from elsewhere. Return 0, or -1 with an
   exception set. */
static inline int
future_state_import(FutureState *state)
{
    state->call_soon = PyUnicode_InternFromString("call_soon");
    if (state->call_soon == NULL) {
        return -1;
    }
    state->context_name = Py_BuildValue("(s)", "context");
    if (state->context_name == NULL
        || asyncio_get("get_event_loop", &state->get_event_loop) < 0
        || asyncio_get("CancelledError", &state->cancelled_error) < 0) {
        return -1;
    }
    return asyncio_get("InvalidStateError", &state->invalid_state);
}

/// The state of a module with futures

/* Fill `state` for `module`, with types of these names, as in "module.Future".
   Return 0, or -1 with an exception set. */
static inline int
future_state_init(FutureState *state, PyObject *module, const char *name,
                  const char *iterator_name)
{
    if (future_state_import(state) < 0) {
        return -1;
    }
    state->future_type =
        future_make_type(module, name, sizeof(Future), 0, future_slots);
    if (state->future_type == NULL) {
        return -1;
    }
    state->iterator_type = future_make_type(
        module, iterator_name, sizeof(FutureIterator),
        Py_TPFLAGS_DISALLOW_INSTANTIATION, future_iterator_slots);
    return state->iterator_type == NULL ? -1 : 0;
}

/// The end of what futures share

static inline int
future_state_traverse(FutureState *state, visitproc visit, void *arg)
{
    Py_VISIT(state->future_type);
    Py_VISIT(state->iterator_type);
    Py_VISIT(state->get_event_loop);
    Py_VISIT(state->cancelled_error);
    Py_VISIT(state->invalid_state);
    return 0;
}

static inline void
future_state_clear(FutureState *state)
{
    Py_CLEAR(state->future_type);
    Py_CLEAR(state->iterator_type);
    Py_CLEAR(state->call_soon);
    Py_CLEAR(state->context_name);
    Py_CLEAR(state->get_event_loop);
    Py_CLEAR(state->cancelled_error);
    Py_CLEAR(state->invalid_state);
}
