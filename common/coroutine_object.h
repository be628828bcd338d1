/* coroutine_object.h: what a coroutine made by hand keeps from step to step.

   In Python: the object that a call of an `async def` function returns.
   Use: through coroutine.h; nothing to link. Every function needs the GIL.
   Taught in book/02_handmade_coroutine.md. */

/// What the object needs

#pragma once
#include <Python.h>
#include "critical_section.h"

/// The body

typedef struct Coroutine Coroutine;

/* Run the body up to its next `await` or its end. `value` is the result of
   what it awaited last, stolen, or NULL with the exception set that this
   `await` raises; at the start it is None. Return PYGEN_NEXT to await
   `*result`, PYGEN_RETURN to return it, both a new reference, or PYGEN_ERROR
   with an exception set. */
typedef PySendResult
CoroutineStep(Coroutine *self, PyObject *value, PyObject **result);

typedef struct {
    const char *name;   /* of the coroutine function */
    const char *file;   /* in which it is written */
    int line;           /* on which it begins */
    CoroutineStep *step;
    void (*end)(Coroutine *self); /* gives up what else it has, or NULL */
    int (*visit)(Coroutine *self, visitproc visit, void *arg); /* or NULL */
    size_t size;        /* of the struct of its coroutines */
    int variables; /* how many references it begins with, after `base` */
} CoroutineBody;

/// The object

enum { CREATED, RUNNING, SUSPENDED, CLOSED };

struct Coroutine {
    PyObject_VAR_HEAD
    const CoroutineBody *body;
    PyObject *code;
    PyObject *name;
    PyObject *qualname;
    PyObject *origin; /* where it was created, or NULL */
    PyObject *weakrefs;
    PyObject *frame; /* what cr_frame gave last, or NULL */
    PyObject *awaited; /* the iterator that it drives, or NULL */
    _PyErr_StackItem handled; /* the exception that the body handles */
    int state;
    int line; /* on which the body is */
    int position; /* where the body goes on, at first 0 */
};

/// The variables of the body

/* Return the first of the body's variables: references, each of them possibly
   NULL, which follow the Coroutine in memory. */
static inline PyObject **
coroutine_variables(Coroutine *self)
{
    return (PyObject **)(self + 1);
}

/// The state and the line

/* Return the state of `self`. */
static inline int
coroutine_get_state(Coroutine *self)
{
    int state;
    Py_BEGIN_CRITICAL_SECTION(self);
    state = self->state;
    Py_END_CRITICAL_SECTION();
    return state;
}

/* Change the state of `self`, which the caller runs. */
static inline void
coroutine_set_state(Coroutine *self, int state)
{
    Py_BEGIN_CRITICAL_SECTION(self);
    self->state = state;
    Py_END_CRITICAL_SECTION();
}

/* Say that the body of `self`, which the caller runs, is on `line`. */
static inline void
coroutine_set_line(Coroutine *self, int line)
{
    Py_BEGIN_CRITICAL_SECTION(self);
    self->line = line;
    Py_END_CRITICAL_SECTION();
}

/// Driving another iterator

/* Drive `iterator` from now on, or nothing if it is NULL. The caller runs
   `self`. Steals the reference to `iterator`. */
static inline void
coroutine_set_awaited(Coroutine *self, PyObject *iterator)
{
    PyObject *previous;
    Py_BEGIN_CRITICAL_SECTION(self);
    previous = self->awaited;
    self->awaited = iterator;
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(previous);
}

/// The end

/* Close `self`, which the caller runs, and drop what it needed to go on. */
static inline void
coroutine_end(Coroutine *self)
{
    coroutine_set_state(self, CLOSED);
    coroutine_set_awaited(self, NULL);
    if (self->body->end != NULL) {
        self->body->end(self);
    }
    Py_CLEAR(self->handled.exc_value);
    int count = self->body->variables;
    for (int i = 0; i < count; i++) {
        int at = PY_VERSION_HEX >= 0x030E0000 ? count - 1 - i : i;
        Py_CLEAR(coroutine_variables(self)[at]);
    }
}

/// Garbage collection

static inline int
Coroutine_traverse(PyObject *op, visitproc visit, void *arg)
{
    Coroutine *self = (Coroutine *)op;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->name);
    Py_VISIT(self->qualname);
    Py_VISIT(self->frame);
    Py_VISIT(self->awaited);
    Py_VISIT(self->handled.exc_value);
    for (int i = 0; i < self->body->variables; i++) {
        Py_VISIT(coroutine_variables(self)[i]);
    }
    return self->body->visit != NULL ? self->body->visit(self, visit, arg) : 0;
}

static inline int
Coroutine_clear(PyObject *op)
{
    Coroutine *self = (Coroutine *)op;
    coroutine_end(self);
    Py_CLEAR(self->frame);
    return 0;
}
