/* python_child.h: an awaitable of Python is a native future.

   In Python: class Child of chapter 4's model.py.
   Use: #include "python_child.h"; link with -pthread. It needs the GIL.
   Taught in book/04_native_future_bridge.md. */

/// What a child of Python needs

#pragma once
#include "awaitable.h"
#include "delegate.h"
#include "bridge_coroutine.h"

/// What all children of a module share

typedef struct {
    BridgeState bridge; /* comes first: see bridge_get_state() */
    PyTypeObject *child_type;
    PyObject *ensure_future; /* asyncio.ensure_future */
    PyObject *iscoroutine;   /* asyncio.iscoroutine */
    PyObject *loop_name;     /* ("loop",) */
} ChildState;

/* Return what children of `type` share, or NULL with an exception set. It is
   what the state of their module begins with. */
static inline ChildState *
child_get_state(PyTypeObject *type)
{
    return PyType_GetModuleState(type);
}

/// A child of Python

typedef struct {
    PyObject_HEAD
    PyObject *awaitable;
    PyObject
        *task; /* what asyncio made of it, or NULL before the first poll */
    PyObject *error; /* what went wrong with it here, or NULL */
    Waker *waker;
    int is_unwanted; /* it was done when it was cancelled */
    int is_taken;
    NativeFuture native;
} Child;

static inline Child *
child_from(NativeFuture *native)
{
    return (Child *)((char *)native - offsetof(Child, native));
}

/// Asking a task

/* Return 1 if calling the method `name` of the task gives something true, else
   0, or -1 with an exception set. */
static inline int
child_ask(Child *self, const char *name)
{
    PyObject *answer = PyObject_CallMethod(self->task, name, NULL);
    int is_true = answer != NULL ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    return is_true;
}

/* Return in which state the task is; -1 with an exception set. */
static inline int
child_ask_state(Child *self)
{
    int is_done = child_ask(self, "done");
    if (is_done <= 0) {
        return is_done < 0 ? -1 : NATIVE_PENDING;
    }
    int is_cancelled = self->is_unwanted ? 1 : child_ask(self, "cancelled");
    if (is_cancelled != 0) {
        return is_cancelled < 0 ? -1 : NATIVE_CANCELLED;
    }
    PyObject *error = PyObject_CallMethod(self->task, "exception", NULL);
    if (error == NULL) {
        return -1;
    }
    int has_failed = error != Py_None;
    Py_DECREF(error);
    return has_failed ? NATIVE_FAILED : NATIVE_READY;
}

/// Starting

/* Let asyncio run the awaitable. Return 0, or -1 with an exception set. */
static inline int
child_start(Child *self)
{
    ChildState *state = child_get_state(Py_TYPE(self));
    if (state == NULL) {
        return -1;
    }
    PyObject *loop = PyObject_CallNoArgs(state->bridge.get_running_loop);
    if (loop == NULL) {
        return -1;
    }
    PyObject *args[] = {self->awaitable, loop};
    self->task =
        PyObject_Vectorcall(state->ensure_future, args, 1, state->loop_name);
    Py_DECREF(loop);
    if (self->task == NULL) {
        return -1;
    }
    PyObject *done =
        PyObject_CallMethod(self->task, "add_done_callback", "O", self);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* What the loop calls when the task is done. */
static inline PyObject *
Child_call(PyObject *op, PyObject *Py_UNUSED(args),
           PyObject *Py_UNUSED(kwargs))
{
    waker_wake(&((Child *)op)->waker);
    Py_RETURN_NONE;
}

/// Polling a child

static inline NativeState
child_poll(NativeFuture *native, Waker *waker)
{
    Child *self = child_from(native);
    int state = NATIVE_CANCELLED;
    if (self->task != NULL) {
        state = child_ask_state(self);
    }
    else if (!self->is_unwanted) {
        self->waker = waker_keep(waker);
        state = child_start(self) < 0 ? -1 : child_ask_state(self);
    }
    if (state < 0) {
        self->error = PyErr_GetRaisedException();
        state = NATIVE_FAILED;
    }
    if (state != NATIVE_PENDING) {
        waker_clear(&self->waker);
    }
    return (NativeState)state;
}

/// Cancelling a child

/* Return 1 if asyncio takes `awaitable` for a coroutine, 0 if not, or -1 with
   an exception set. */
static inline int
child_is_coroutine(ChildState *state, PyObject *awaitable)
{
    PyObject *answer = PyObject_CallOneArg(state->iscoroutine, awaitable);
    int is_coroutine = answer != NULL ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    return is_coroutine;
}

/* Close an awaitable that nobody has started, if it is a coroutine. */
static inline void
child_close(Child *self)
{
    ChildState *state = child_get_state(Py_TYPE(self));
    int status = -1;
    if (state != NULL) {
        status = child_is_coroutine(state, self->awaitable);
    }
    if (status == 1) {
        status = delegate_close(self->awaitable);
    }
    if (status < 0) {
        unraisable_report("closing", self->awaitable);
    }
}

/* Report the exception that is set, unless the loop is closed: then the task
   never ends, and nobody waits for it. */
static inline void
child_report_cancel(Child *self)
{
    PyObject *error = PyErr_GetRaisedException();
    PyObject *loop = PyObject_CallMethod(self->task, "get_loop", NULL);
    PyObject *is_closed =
        loop != NULL ? PyObject_CallMethod(loop, "is_closed", NULL) : NULL;
    PyErr_SetRaisedException(error);
    if (is_closed == Py_True) {
        PyErr_Clear();
    }
    else {
        unraisable_report("cancelling", self->task);
    }
    Py_XDECREF(loop);
    Py_XDECREF(is_closed);
}

static inline void
child_cancel(NativeFuture *native)
{
    Child *self = child_from(native);
    if (self->task == NULL) {
        self->is_unwanted = 1;
        return;
    }
    int is_cancelling = child_ask(self, "cancel");
    if (is_cancelling < 0) {
        child_report_cancel(self);
    }
    else if (is_cancelling == 0) {
        self->is_unwanted = 1;
    }
}

static inline void
child_drop(NativeFuture *native)
{
    child_cancel(native);
    waker_clear(&child_from(native)->waker);
}

static const NativeKind child_kind = {
    .poll = child_poll,
    .cancel = child_cancel,
    .drop = child_drop,
};

/// What comes of a child

/* Return the result, or NULL with an exception set. Called at most once. */
static inline PyObject *
child_take(Child *self)
{
    self->is_taken = 1;
    if (self->error != NULL) {
        PyErr_SetRaisedException(self->error);
        self->error = NULL;
        return NULL;
    }
    if (self->task == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the awaitable was not started");
        return NULL;
    }
    return PyObject_CallMethod(self->task, "result", NULL);
}

/// A failure that nobody has seen

/* Tell the loop about the exception of a task that nobody asked for. */
static inline void
child_report(Child *self)
{
    PyObject *error = PyObject_CallMethod(self->task, "exception", NULL);
    PyObject *loop = PyObject_CallMethod(self->task, "get_loop", NULL);
    PyObject *done = NULL;
    if (error != NULL && loop != NULL) {
        done = PyObject_CallMethod(
            loop, "call_exception_handler", "{sssOsO}", "message",
            "exception of an awaitable was never retrieved", "exception",
            error, "future", self->task);
    }
    if (done == NULL) {
        unraisable_report("reporting the exception of", self->task);
    }
    Py_XDECREF(error);
    Py_XDECREF(loop);
    Py_XDECREF(done);
}

/// The end of a child

static inline void
Child_finalize(PyObject *op)
{
    Child *self = (Child *)op;
    PyObject *error = PyErr_GetRaisedException();
    if (self->task == NULL && self->awaitable != NULL) {
        child_close(self);
    }
    else if (self->native.state == NATIVE_PENDING) {
        native_drop(&self->native);
    }
    if (self->native.state == NATIVE_FAILED && !self->is_taken
        && self->error == NULL) {
        child_report(self);
    }
    PyErr_SetRaisedException(error);
}

static inline int
Child_traverse(PyObject *op, visitproc visit, void *arg)
{
    Child *self = (Child *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->awaitable);
    Py_VISIT(self->task);
    Py_VISIT(self->error);
    return 0;
}

static inline int
Child_clear(PyObject *op)
{
    Child *self = (Child *)op;
    waker_clear(&self->waker);
    Py_CLEAR(self->awaitable);
    Py_CLEAR(self->task);
    Py_CLEAR(self->error);
    return 0;
}

static inline void
Child_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    if (PyObject_CallFinalizerFromDealloc(op) < 0) {
        return;
    }
    PyObject_GC_UnTrack(op);
    Child_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

/// The type of children

static PyType_Slot child_slots[] = {
    {Py_tp_doc, "An awaitable that a native future waits for."},
    {Py_tp_call, Child_call},
    {Py_tp_finalize, Child_finalize},
    {Py_tp_traverse, Child_traverse},
    {Py_tp_clear, Child_clear},
    {Py_tp_dealloc, Child_dealloc},
    {0, NULL},
};

/* Return a new child for `awaitable`, or NULL with an exception set. */
static inline PyObject *
child_new(ChildState *state, PyObject *awaitable)
{
    PyTypeObject *type = state->child_type;
    Child *self = (Child *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->awaitable = Py_NewRef(awaitable);
        self->native.kind = &child_kind;
    }
    return (PyObject *)self;
}

/// The state of a module with children

/* Fill what `state` has besides its bridge, with a type of this name, as in
   "module.child". Return 0, or -1 with an exception set. */
static inline int
child_state_init(ChildState *state, PyObject *module, const char *name)
{
    state->child_type =
        future_make_type(module, name, sizeof(Child),
                         Py_TPFLAGS_DISALLOW_INSTANTIATION, child_slots);
    if (state->child_type == NULL
        || asyncio_get("ensure_future", &state->ensure_future) < 0) {
        return -1;
    }
    state->loop_name = Py_BuildValue("(s)", "loop");
    return state->loop_name != NULL
               ? asyncio_get("iscoroutine", &state->iscoroutine)
               : -1;
}

static inline int
child_state_traverse(ChildState *state, visitproc visit, void *arg)
{
    Py_VISIT(state->child_type);
    Py_VISIT(state->ensure_future);
    Py_VISIT(state->iscoroutine);
    return bridge_state_traverse(&state->bridge, visit, arg);
}

static inline void
child_state_clear(ChildState *state)
{
    Py_CLEAR(state->child_type);
    Py_CLEAR(state->ensure_future);
    Py_CLEAR(state->iscoroutine);
    Py_CLEAR(state->loop_name);
    bridge_state_clear(&state->bridge);
}
