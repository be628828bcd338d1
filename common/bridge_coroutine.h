/* bridge_coroutine.h: a coroutine that drives a native future.

   In Python: drive() and make() of chapter 4's model.py.
   Use: #include "bridge_coroutine.h"; link with -pthread. It needs the GIL.
   Taught in book/04_native_future_bridge.md. */

/// What the bridge needs

#pragma once
#include "coroutine.h"
#include "loop_mailbox.h"
#include "native_timeout.h"

/// What all coroutines of a module share

typedef struct {
    FutureState futures; /* comes first: see future_get_state() */
    PyTypeObject *coroutine_type;
    PyObject *get_running_loop; /* asyncio.get_running_loop */
    PyObject *read;             /* mailbox_read() */
} BridgeState;

/* Return what objects of `type` share, or NULL with an exception set. It is
   what the state of their module begins with. */
static inline BridgeState *
bridge_get_state(PyTypeObject *type)
{
    return PyType_GetModuleState(type);
}

/// A coroutine with a native future

typedef struct {
    Coroutine base;
    PyObject *held; /* what the future needs, or gives, of Python */
    Mail *mail;     /* or NULL before the first poll */
    int depth;      /* how many native futures are inside of each other */
} BridgeCoroutine;

/* Return the native future of `self`, which follows it in memory. */
static inline NativeFuture *
bridge_coroutine_future(BridgeCoroutine *self)
{
    return (NativeFuture *)(self + 1);
}

typedef struct {
    CoroutineBody base;
    PyObject *(*take)(BridgeCoroutine *self); /* the result, or an exception */
} BridgeBody;

/// The result

/* Raise the exception for `error`, of which C knows. Returns NULL. */
static inline PyObject *
native_raise(const char *error)
{
    if (error == native_no_memory) {
        return PyErr_NoMemory();
    }
    if (error == native_timed_out) {
        PyErr_SetNone(PyExc_TimeoutError);
    }
    else {
        PyErr_SetString(PyExc_RuntimeError, error);
    }
    return NULL;
}

/* Return the result of `self`, whose native future has ended, or NULL with an
   exception set. */
static inline PyObject *
bridge_coroutine_take(BridgeCoroutine *self)
{
    return ((const BridgeBody *)self->base.body)->take(self);
}

/// On which loop

/* Return 0 if `self` runs on `loop`, or -1 with an exception set. */
static inline int
bridge_coroutine_check_mail(BridgeCoroutine *self, PyObject *loop)
{
    if (self->mail->mailbox->loop != loop) {
        PyErr_SetString(PyExc_RuntimeError,
                        "the coroutine was started on another event loop");
        return -1;
    }
    return 0;
}

/* Let what wakes `self` come by the mailbox of `loop`. Return 0, or -1 with an
   exception set. */
static inline int
bridge_coroutine_make_mail(BridgeCoroutine *self, PyObject *loop)
{
    BridgeState *state = bridge_get_state(Py_TYPE(self));
    Mailbox *mailbox = state != NULL ? mailbox_get(loop, state->read) : NULL;
    if (mailbox == NULL) {
        return -1;
    }
    self->mail = mail_new(mailbox);
    mailbox_release(mailbox);
    if (self->mail == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (!PyObject_GC_IsTracked((PyObject *)self)) {
        PyObject_GC_Track(self);
    }
    return 0;
}

/// What it waits for

/* Return a new future, which the next mail completes, or NULL with an
   exception set. */
static inline PyObject *
bridge_coroutine_wait(BridgeCoroutine *self, PyObject *loop)
{
    BridgeState *state = bridge_get_state(Py_TYPE(self));
    if (state == NULL) {
        return NULL;
    }
    Future *future = future_new(state->futures.future_type, loop);
    if (future != NULL) {
        Py_INCREF(future);
        Py_XDECREF(atomic_exchange(&self->mail->target, future));
    }
    return (PyObject *)future;
}

/// The step

/* Poll, on `loop`, and say what comes of it. Returns what the step returns. */
static inline PySendResult
bridge_coroutine_poll(BridgeCoroutine *self, PyObject *loop, PyObject **result)
{
    Coroutine *base = &self->base;
    NativeFuture *future = bridge_coroutine_future(self);
    NativeState state = native_poll(future, &self->mail->waker);
    if (state == NATIVE_PENDING) {
        return coroutine_await(base, __LINE__,
                               bridge_coroutine_wait(self, loop), 0, result);
    }
    if (state == NATIVE_CANCELLED && coroutine_is_handling(base)) {
        return coroutine_raise_again(base);
    }
    return coroutine_return(base, __LINE__, bridge_coroutine_take(self),
                            result);
}

enum { BRIDGE_BODY_LINE = __LINE__ };

static inline PySendResult
bridge_coroutine_step(Coroutine *base, PyObject *value, PyObject **result)
{
    BridgeCoroutine *self = (BridgeCoroutine *)base;
    if (value == NULL) {
        if (PyErr_ExceptionMatches(PyExc_GeneratorExit)) {
            return PYGEN_ERROR;
        }
        coroutine_catch(base);
        native_cancel(bridge_coroutine_future(self));
    }
    Py_XDECREF(value);
    BridgeState *state = bridge_get_state(Py_TYPE(self));
    PyObject *loop =
        state != NULL ? PyObject_CallNoArgs(state->get_running_loop) : NULL;
    if (loop == NULL) {
        return coroutine_error(base, __LINE__);
    }
    int status = self->mail == NULL ? bridge_coroutine_make_mail(self, loop)
                                    : bridge_coroutine_check_mail(self, loop);
    PySendResult answer = status < 0
                              ? coroutine_error(base, __LINE__)
                              : bridge_coroutine_poll(self, loop, result);
    Py_DECREF(loop);
    return answer;
}

/// The end

/* Give up the native future, unless it has ended, and the mail. */
static inline void
bridge_coroutine_end(Coroutine *base)
{
    BridgeCoroutine *self = (BridgeCoroutine *)base;
    NativeFuture *future = bridge_coroutine_future(self);
    PyObject *error = PyErr_GetRaisedException();
    if (future->kind != NULL && future->state == NATIVE_PENDING) {
        native_drop(future);
    }
    Mail *mail = self->mail;
    self->mail = NULL;
    if (mail != NULL) {
        Py_XDECREF(atomic_exchange(&mail->target, NULL));
        mail_release(&mail->waker);
    }
    PyErr_SetRaisedException(error);
}

/// What only it can still complete

/* Visit the future that the mail owns, once no loop reads the mail any more:
   until then, it lives because the loop will complete it. */
static inline int
bridge_coroutine_visit(Coroutine *base, visitproc visit, void *arg)
{
    Mail *mail = ((BridgeCoroutine *)base)->mail;
    if (mail != NULL && wake_list_is_closed(&mail->mailbox->mails)) {
        Py_VISIT(atomic_load(&mail->target));
    }
    return 0;
}

/// Its body

/* What a BridgeBody begins with: `function` is the name of the coroutines, and
   `type` is their struct. */
#define BRIDGE_BODY_BASE(function, type)                                      \
    {                                                                         \
        .name = function,                                                     \
        .file = "bridge_coroutine.h",                                         \
        .line = BRIDGE_BODY_LINE,                                             \
        .step = bridge_coroutine_step,                                        \
        .end = bridge_coroutine_end,                                          \
        .visit = bridge_coroutine_visit,                                      \
        .size = sizeof(type),                                                 \
        .variables = 1,                                                       \
    }

/// A new coroutine with a native future

/* Return a new coroutine, whose native future is still to be made, or NULL
   with an exception set. `code` is what coroutine_make_code() made of `body`.
   Steals `held`. */
static inline BridgeCoroutine *
bridge_coroutine_new(BridgeState *state, const BridgeBody *body,
                     PyObject *code, PyObject *held)
{
    BridgeCoroutine *self = (BridgeCoroutine *)coroutine_new(
        state->coroutine_type, &body->base, code);
    if (self == NULL) {
        Py_DECREF(held);
        return NULL;
    }
    self->held = held;
    if (!PyObject_IS_GC(held)) {
        PyObject_GC_UnTrack(self); /* until it waits: there is no cycle */
    }
    return self;
}

/// The state of a module with a bridge

/* Fill `state` for `module`, with types of these names, as in "module.future".
   Return 0, or -1 with an exception set. */
static inline int
bridge_state_init(BridgeState *state, PyObject *module, const char *future,
                  const char *iterator, const char *coroutine)
{
    if (future_state_init(&state->futures, module, future, iterator) < 0
        || asyncio_get("get_running_loop", &state->get_running_loop) < 0) {
        return -1;
    }
    state->coroutine_type = coroutine_type_new(module, coroutine);
    state->read = PyCFunction_New(&mailbox_read_method, module);
    if (state->coroutine_type == NULL || state->read == NULL) {
        return -1;
    }
    return mailboxes_watch_forks(module);
}

static inline int
bridge_state_traverse(BridgeState *state, visitproc visit, void *arg)
{
    Py_VISIT(state->coroutine_type);
    Py_VISIT(state->get_running_loop);
    Py_VISIT(state->read);
    return future_state_traverse(&state->futures, visit, arg);
}

static inline void
bridge_state_clear(BridgeState *state)
{
    Py_CLEAR(state->coroutine_type);
    Py_CLEAR(state->get_running_loop);
    Py_CLEAR(state->read);
    future_state_clear(&state->futures);
}
