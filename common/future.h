/* future.h: a type of futures that asyncio takes for its own.

   In Python: asyncio.Future.
   Use: #include "future.h"; nothing to link. Every function needs the GIL.
   Taught in book/03_thread_woken_future.md. */

/// What the type of futures needs

#pragma once
#include <stddef.h>
#include <structmember.h>
#include "future_iterator.h"
#include "future_methods.h"

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
