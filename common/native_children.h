/* native_children.h: awaitables of both kinds become native futures.

   In Python: adopt() and adopt_all() of chapter 4's model.py.
   Use: #include "native_children.h"; link with -pthread. It needs the GIL.
   Taught in book/04_native_future_bridge.md. */

/// What adopting needs

#pragma once
#include "python_child.h"

/// Whose native future

/* A child is an object with a native future: a BridgeCoroutine of the same
   module, which is closed then for everybody else, or a Child. */

/* Return the native future of a child. */
static inline NativeFuture *
child_get_future(PyObject *child)
{
    if (Py_TYPE(child)->tp_call == Child_call) {
        return &((Child *)child)->native;
    }
    return bridge_coroutine_future((BridgeCoroutine *)child);
}

/* Return how deep the child is. */
static inline int
child_get_depth(PyObject *child)
{
    return Py_TYPE(child)->tp_call == Child_call
               ? 0
               : ((BridgeCoroutine *)child)->depth;
}

/* Return the result of a child that has ended, or NULL with an exception
   set. */
static inline PyObject *
child_get_result(PyObject *child)
{
    return Py_TYPE(child)->tp_call == Child_call
               ? child_take((Child *)child)
               : bridge_coroutine_take((BridgeCoroutine *)child);
}

/// A coroutine of ours

/* Return a new reference to `self` as a child, or NULL with an exception
   set. */
static inline PyObject *
adopt_coroutine(Coroutine *self)
{
    int state = coroutine_enter(self);
    if (state == CREATED) {
        coroutine_set_state(self, CLOSED);
        return Py_NewRef(self);
    }
    if (state == CLOSED) {
        coroutine_refuse(state);
        return NULL;
    }
    if (state == SUSPENDED) {
        coroutine_set_state(self, SUSPENDED);
    }
    PyErr_SetString(PyExc_RuntimeError, "coroutine is being awaited already");
    return NULL;
}

/// A coroutine of somebody else

/* Return 1 if `coroutine` has the attribute `name`, and that is neither None
   nor False, else 0, or -1 with an exception set. */
static inline int
check_attribute(PyObject *coroutine, const char *name)
{
    PyObject *found;
    int is_set = delegate_find(coroutine, name, &found);
    if (is_set == 1) {
        is_set = found != Py_None && found != Py_False;
        Py_DECREF(found);
    }
    return is_set;
}

/* Return 0 if nobody runs or awaits `coroutine`, else -1 with an exception
   set. */
static inline int
check_idle(PyObject *coroutine)
{
    int is_used = check_attribute(coroutine, "cr_running");
    if (is_used == 0) {
        is_used = check_attribute(coroutine, "cr_await");
    }
    if (is_used > 0) {
        PyErr_SetString(PyExc_RuntimeError,
                        "coroutine is being awaited already");
    }
    return is_used == 0 ? 0 : -1;
}

/// Any awaitable

enum { DEEPEST = 100 };

/* Return a child for `awaitable`, or NULL with an exception set. */
static inline PyObject *
adopt(ChildState *state, PyObject *awaitable)
{
    if (Py_IS_TYPE(awaitable, state->bridge.coroutine_type)
        && ((BridgeCoroutine *)awaitable)->depth < DEEPEST) {
        return adopt_coroutine((Coroutine *)awaitable);
    }
    PyAsyncMethods *methods = Py_TYPE(awaitable)->tp_as_async;
    if (!generator_is_coroutine(awaitable)
        && (methods == NULL || methods->am_await == NULL)) {
        PyErr_Format(PyExc_TypeError, "'%.100s' object can't be awaited",
                     Py_TYPE(awaitable)->tp_name);
        return NULL;
    }
    int is_coroutine = child_is_coroutine(state, awaitable);
    if (is_coroutine < 0 || (is_coroutine && check_idle(awaitable) < 0)) {
        return NULL;
    }
    return child_new(state, awaitable);
}

/// All arguments

/* Adopt what is left of the arguments, so that nobody else has to close it. */
static inline void
adopt_rest(ChildState *state, PyObject *const *args, Py_ssize_t count)
{
    PyObject *error = PyErr_GetRaisedException();
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *child = adopt(state, args[i]);
        PyErr_Clear();
        Py_XDECREF(child);
    }
    PyErr_SetRaisedException(error);
}

/* Return a tuple of children for the awaitables `args`, or NULL with an
   exception set. */
static inline PyObject *
adopt_all(ChildState *state, PyObject *const *args, Py_ssize_t count)
{
    PyObject *children = PyTuple_New(count);
    for (Py_ssize_t i = 0; children != NULL && i < count; i++) {
        PyObject *child = adopt(state, args[i]);
        if (child == NULL) {
            Py_CLEAR(children);
            adopt_rest(state, args + i + 1, count - i - 1);
            break;
        }
        PyTuple_SET_ITEM(children, i, child);
    }
    return children;
}

/* Return how deep a native future with these children is. */
static inline int
adopt_get_depth(PyObject *children)
{
    int depth = 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(children); i++) {
        int below = child_get_depth(PyTuple_GET_ITEM(children, i));
        depth = below > depth ? below : depth;
    }
    return depth + 1;
}
