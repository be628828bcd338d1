/* coroutine.h: the type of the coroutines that C code makes by hand.

   In Python: the type of what a call of an `async def` function returns.
   Use: #include "coroutine.h"; nothing to link. Every function needs the GIL.
   Taught in book/02_handmade_coroutine.md. */

/// What the type needs

#pragma once
#include <stddef.h>
#include <structmember.h>
#include "coroutine_run.h"

/// Where it was created

/* Return where `frame` is in Python, as cr_origin says it, or NULL with an
   exception set. Borrows `frame`. */
static inline PyObject *
origin_entry(PyFrameObject *frame)
{
    PyCodeObject *code = PyFrame_GetCode(frame);
    PyObject *entry = Py_BuildValue(
        "OiO", code->co_filename, PyFrame_GetLineNumber(frame), code->co_name);
    Py_DECREF(code);
    return entry;
}

/* Return a new tuple with the innermost `depth` frames of the Python code that
   runs now, or NULL with an exception set. */
static inline PyObject *
origin_collect(int depth)
{
    PyObject *entries = PyList_New(0);
    if (entries == NULL) {
        return NULL;
    }
    PyFrameObject *frame = (PyFrameObject *)Py_XNewRef(PyEval_GetFrame());
    int failed = 0;
    while (frame != NULL && depth-- > 0 && !failed) {
        PyObject *entry = origin_entry(frame);
        failed = entry == NULL || PyList_Append(entries, entry) < 0;
        Py_XDECREF(entry);
        Py_SETREF(frame, PyFrame_GetBack(frame));
    }
    Py_XDECREF(frame);
    PyObject *origin = failed ? NULL : PyList_AsTuple(entries);
    Py_DECREF(entries);
    return origin;
}

/// A new coroutine

/* Return a new coroutine of `type`, or NULL with an exception set. `code` is
   what coroutine_make_code() made of `body`. Borrows all three. */
static inline Coroutine *
coroutine_new(PyTypeObject *type, const CoroutineBody *body, PyObject *code)
{
    PyObject *origin = NULL;
    int depth = PyThreadState_Get()->coroutine_origin_tracking_depth;
    if (depth > 0) {
        origin = origin_collect(depth);
        if (origin == NULL) {
            return NULL;
        }
    }
    Py_ssize_t more = (Py_ssize_t)(body->size - sizeof(Coroutine));
    Coroutine *self = (Coroutine *)type->tp_alloc(type, more);
    if (self == NULL) {
        Py_XDECREF(origin);
        return NULL;
    }
    self->body = body;
    self->line = body->line;
    self->code = Py_NewRef(code);
    self->name = Py_NewRef(((PyCodeObject *)code)->co_name);
    self->qualname = Py_NewRef(((PyCodeObject *)code)->co_qualname);
    self->origin = origin;
    return self;
}

/// Never awaited

/* Let the module warnings warn that `self` was never awaited. Return 1 if it
   did, else 0, in both cases perhaps with an exception set. */
static inline int
coroutine_warn_by_module(Coroutine *self)
{
    PyObject *name = PyUnicode_FromString("warnings");
    PyObject *module = name != NULL ? PyImport_GetModule(name) : NULL;
    Py_XDECREF(name);
    if (module == NULL) {
        return 0;
    }
    PyObject *done =
        PyObject_CallMethod(module, "_warn_unawaited_coroutine", "O", self);
    Py_DECREF(module);
    Py_XDECREF(done);
    return done != NULL || PyErr_ExceptionMatches(PyExc_RuntimeWarning);
}

/* Warn that `self` was never awaited. Sets no exception. */
static inline void
coroutine_warn(Coroutine *self)
{
    int warned = coroutine_warn_by_module(self);
    if (PyErr_Occurred()) {
        unraisable_report("finalizing coroutine", (PyObject *)self);
    }
    if (warned) {
        return;
    }
    if (PyErr_WarnFormat(PyExc_RuntimeWarning, 1,
                         "coroutine '%S' was never awaited", self->qualname)) {
        unraisable_report("finalizing coroutine", (PyObject *)self);
    }
}

/// The finalizer

static inline void
Coroutine_finalize(PyObject *op)
{
    Coroutine *self = (Coroutine *)op;
    PyObject *error = PyErr_GetRaisedException();
    int state = coroutine_get_state(self);
    if (state == CREATED) {
        coroutine_warn(self);
    }
    else if (state == SUSPENDED) {
        PyObject *done = Coroutine_close(op, NULL);
        if (done == NULL) {
            unraisable_report("closing generator", op);
        }
        Py_XDECREF(done);
    }
    PyErr_SetRaisedException(error);
}

/// Deallocation

/* Take `op` apart, which is not tracked by the garbage collector. */
static inline void
coroutine_destroy(PyObject *op)
{
    Coroutine *self = (Coroutine *)op;
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs(op);
    }
    if (coroutine_get_state(self) != CLOSED) {
        PyObject_GC_Track(op);
        if (PyObject_CallFinalizerFromDealloc(op) < 0) {
            return;
        }
        PyObject_GC_UnTrack(op);
    }
    Coroutine_clear(op);
    Py_XDECREF(self->code);
    Py_XDECREF(self->name);
    Py_XDECREF(self->qualname);
    Py_XDECREF(self->origin);
    PyTypeObject *type = Py_TYPE(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static inline void
Coroutine_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    if (coroutine_get_state((Coroutine *)op) == CLOSED) {
        coroutine_destroy(op);
        return;
    }
    Py_TRASHCAN_BEGIN(op, Coroutine_dealloc);
    coroutine_destroy(op);
    Py_TRASHCAN_END;
}

/// Being awaited

static inline PyObject *
Coroutine_am_await(PyObject *op)
{
    if (coroutine_get_state((Coroutine *)op) == SUSPENDED) {
        PyErr_SetString(PyExc_RuntimeError,
                        "coroutine is being awaited already");
        return NULL;
    }
    return Py_NewRef(op);
}

static inline PyObject *
Coroutine_dunder_await(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(op);
}

/// Names

/* Return the address of the name at `offset`, which is where `__name__` or
   `__qualname__` is kept. */
static inline PyObject **
coroutine_find_name(PyObject *op, void *offset)
{
    return (PyObject **)((char *)op + (size_t)offset);
}

static inline PyObject *
Coroutine_get_name(PyObject *op, void *offset)
{
    PyObject *name;
    Py_BEGIN_CRITICAL_SECTION(op);
    name = Py_NewRef(*coroutine_find_name(op, offset));
    Py_END_CRITICAL_SECTION();
    return name;
}

static inline int
Coroutine_set_name(PyObject *op, PyObject *value, void *offset)
{
    if (value == NULL || !PyUnicode_Check(value)) {
        PyErr_Format(PyExc_TypeError, "%s must be set to a string object",
                     (size_t)offset == offsetof(Coroutine, name)
                         ? "__name__"
                         : "__qualname__");
        return -1;
    }
    PyObject **name = coroutine_find_name(op, offset);
    PyObject *previous;
    Py_BEGIN_CRITICAL_SECTION(op);
    previous = *name;
    *name = Py_NewRef(value);
    Py_END_CRITICAL_SECTION();
    Py_DECREF(previous);
    return 0;
}

/// The state

static inline PyObject *
Coroutine_get_cr_running(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(coroutine_get_state((Coroutine *)op) == RUNNING);
}

static inline PyObject *
Coroutine_get_cr_suspended(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(coroutine_get_state((Coroutine *)op) == SUSPENDED);
}

#if PY_VERSION_HEX >= 0x030F0000
static inline PyObject *
Coroutine_get_cr_state(PyObject *op, void *Py_UNUSED(closure))
{
    static const char *const names[] = {
        [CREATED] = "CORO_CREATED",
        [RUNNING] = "CORO_RUNNING",
        [SUSPENDED] = "CORO_SUSPENDED",
        [CLOSED] = "CORO_CLOSED",
    };
    return PyUnicode_FromString(names[coroutine_get_state((Coroutine *)op)]);
}
#endif

/// What it waits for

static inline PyObject *
Coroutine_get_cr_await(PyObject *op, void *Py_UNUSED(closure))
{
    Coroutine *self = (Coroutine *)op;
    PyObject *awaited = NULL;
    Py_BEGIN_CRITICAL_SECTION(op);
    if (self->state == SUSPENDED) {
        awaited = Py_XNewRef(self->awaited);
    }
    Py_END_CRITICAL_SECTION();
    return awaited != NULL ? awaited : Py_NewRef(Py_None);
}

/// Where it is

/* Return the frame that cr_frame gave last, if it is on the right line, else a
   new one, or NULL with an exception set. */
static inline PyObject *
coroutine_keep_frame(Coroutine *self)
{
    PyFrameObject *frame = (PyFrameObject *)self->frame;
    if (frame == NULL || PyFrame_GetLineNumber(frame) != self->line) {
        Py_XSETREF(self->frame, (PyObject *)coroutine_make_frame(self));
    }
    return Py_XNewRef(self->frame);
}

static inline PyObject *
Coroutine_get_cr_frame(PyObject *op, void *Py_UNUSED(closure))
{
    if (PySys_Audit("object.__getattr__", "Os", op, "cr_frame") < 0) {
        return NULL;
    }
    if (coroutine_get_state((Coroutine *)op) == CLOSED) {
        Py_RETURN_NONE;
    }
    PyObject *frame;
    Py_BEGIN_CRITICAL_SECTION(op);
    frame = coroutine_keep_frame((Coroutine *)op);
    Py_END_CRITICAL_SECTION();
    return frame;
}

/// What it is

static inline PyObject *
Coroutine_get_cr_code(PyObject *op, void *Py_UNUSED(closure))
{
    if (PySys_Audit("object.__getattr__", "Os", op, "cr_code") < 0) {
        return NULL;
    }
    return Py_NewRef(((Coroutine *)op)->code);
}

static inline PyObject *
Coroutine_get_cr_origin(PyObject *op, void *Py_UNUSED(closure))
{
    PyObject *origin = ((Coroutine *)op)->origin;
    return Py_NewRef(origin != NULL ? origin : Py_None);
}

static inline PyObject *
Coroutine_repr(PyObject *op)
{
    PyObject *qualname =
        Coroutine_get_name(op, (void *)offsetof(Coroutine, qualname));
    PyObject *repr =
        PyUnicode_FromFormat("<coroutine object %S at %p>", qualname, op);
    Py_DECREF(qualname);
    return repr;
}

/// The methods

PyDoc_STRVAR(coroutine_send_doc,
"send($self, value, /)\n"
"--\n"
"\n"
"Send value, at first None, and return what is yielded next.\n"
"\n"
"Raises StopIteration with the result at the end.");

PyDoc_STRVAR(coroutine_throw_doc,
"throw(error)\n"
"throw(type[, error[, traceback]])\n"
"\n"
"Raise error where the coroutine waits; return what is yielded next.\n"
"\n"
"Raises StopIteration with the result at the end. The form with more than\n"
"one argument is deprecated since Python 3.12.");

PyDoc_STRVAR(coroutine_close_doc,
"close($self, /)\n"
"--\n"
"\n"
"Raise GeneratorExit where the coroutine waits, and let it end.\n"
"\n"
"Raises RuntimeError if it yields instead.");

static PyMethodDef coroutine_methods[] = {
    {"send", Coroutine_send, METH_O, coroutine_send_doc},
    {"throw", (PyCFunction)(void (*)(void))Coroutine_throw, METH_FASTCALL,
     coroutine_throw_doc},
    {"close", Coroutine_close, METH_NOARGS, coroutine_close_doc},
    {"__await__", Coroutine_dunder_await, METH_NOARGS | METH_COEXIST, NULL},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL, NULL, 0, NULL},
};

/// The attributes

static PyMemberDef coroutine_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Coroutine, weakrefs), READONLY,
     NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef coroutine_getset[] = {
    {"__name__", Coroutine_get_name, Coroutine_set_name,
     "name of the coroutine", (void *)offsetof(Coroutine, name)},
    {"__qualname__", Coroutine_get_name, Coroutine_set_name,
     "qualified name of the coroutine", (void *)offsetof(Coroutine, qualname)},
    {"cr_await", Coroutine_get_cr_await, NULL,
     "object being awaited on, or None", NULL},
    {"cr_running", Coroutine_get_cr_running, NULL, NULL, NULL},
    {"cr_suspended", Coroutine_get_cr_suspended, NULL, NULL, NULL},
    {"cr_frame", Coroutine_get_cr_frame, NULL, NULL, NULL},
    {"cr_code", Coroutine_get_cr_code, NULL, NULL, NULL},
    {"cr_origin", Coroutine_get_cr_origin, NULL, NULL, NULL},
#if PY_VERSION_HEX >= 0x030F0000
    {"cr_state", Coroutine_get_cr_state, NULL, NULL, NULL},
#endif
    {NULL, NULL, NULL, NULL, NULL},
};

/// The type

static PyType_Slot coroutine_slots[] = {
    {Py_tp_doc, "A coroutine that C code made by hand."},
    {Py_tp_dealloc, Coroutine_dealloc},
    {Py_tp_finalize, Coroutine_finalize},
    {Py_tp_traverse, Coroutine_traverse},
    {Py_tp_clear, Coroutine_clear},
    {Py_tp_repr, Coroutine_repr},
    {Py_tp_methods, coroutine_methods},
    {Py_tp_members, coroutine_members},
    {Py_tp_getset, coroutine_getset},
    {Py_am_await, Coroutine_am_await},
    {Py_am_send, Coroutine_am_send},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, Coroutine_iternext},
    {0, NULL},
};

/* Return a new type of coroutines for `module`, or NULL with an exception set.
   `name` is "module.coroutine". */
static inline PyTypeObject *
coroutine_type_new(PyObject *module, const char *name)
{
    PyType_Spec spec = {
        .name = name,
        .basicsize = sizeof(Coroutine),
        .itemsize = 1,
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
                 | Py_TPFLAGS_IMMUTABLETYPE
                 | Py_TPFLAGS_DISALLOW_INSTANTIATION,
        .slots = coroutine_slots,
    };
    return (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
}
