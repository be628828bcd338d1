/* handmade_coroutine.c: two awaitables and two coroutines, made by hand.

   In Python: model.py beside this file.
   Run it: python3 run.py tour
   Taught in book/02_handmade_coroutine.md. */

/// What the file needs

#include <Python.h>
#include "awaitable.h"
#include "coroutine.h"
#include "spare.h"
#include "stop_iteration.h"

/// The module state

enum { ADD, COUNTDOWN, BODIES };

typedef struct {
    PyTypeObject *coroutine_type;
    PyObject *codes[BODIES];
    Spares spares;
} handmade_coroutine_state;

/// An object that holds another one

typedef struct {
    PyObject_HEAD
    PyObject *held;
} Holder;

static int
Holder_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((Holder *)op)->held);
    return 0;
}

/* Free `op`, which is not tracked by the garbage collector. */
static void
Holder_free(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    Py_DECREF(((Holder *)op)->held);
    type->tp_free(op);
    Py_DECREF(type);
}

static void
Holder_dealloc(PyObject *op)
{
    PyObject *held = ((Holder *)op)->held;
    PyObject_GC_UnTrack(op);
    if (!PyType_IS_GC(Py_TYPE(held))) {
        Holder_free(op);
        return;
    }
    Py_TRASHCAN_BEGIN(op, Holder_dealloc);
    Holder_free(op);
    Py_TRASHCAN_END;
}

/// Calling the type

/* Return 0 if `name` may be called with `count` arguments, else -1 with
   TypeError set. */
static int
check_count(const char *name, Py_ssize_t count, Py_ssize_t expected)
{
    if (count == expected) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "%s expected %zd argument%s, got %zd", name,
                 expected, expected == 1 ? "" : "s", count);
    return -1;
}

/* Return 0 if `cls` is called with one positional argument, else -1 with
   TypeError set. */
static int
check_call(PyTypeObject *cls, size_t nargsf, PyObject *kwnames)
{
    if (kwnames != NULL && PyTuple_GET_SIZE(kwnames) > 0) {
        PyErr_Format(PyExc_TypeError, "%s takes no keyword arguments",
                     cls->tp_name);
        return -1;
    }
    return check_count(cls->tp_name, PyVectorcall_NARGS(nargsf), 1);
}

static PyObject *
Holder_vectorcall(PyObject *type, PyObject *const *args, size_t nargsf,
                  PyObject *kwnames)
{
    PyTypeObject *cls = (PyTypeObject *)type;
    if (check_call(cls, nargsf, kwnames) < 0) {
        return NULL;
    }
    Holder *self = (Holder *)cls->tp_alloc(cls, 0);
    if (self != NULL) {
        self->held = Py_NewRef(args[0]);
    }
    return (PyObject *)self;
}

/// Relay

static PyObject *
Relay_await(PyObject *op)
{
    if (Py_EnterRecursiveCall(" while awaiting")) {
        return NULL;
    }
    PyObject *iterator = awaitable_call_slot(((Holder *)op)->held);
    Py_LeaveRecursiveCall();
    return iterator;
}

static PyType_Slot Relay_slots[] = {
    {Py_tp_doc, "Relay(awaitable, /)\n--\n\n"
                "An awaitable that hands back the iterator of awaitable.\n\n"
                "Awaiting it raises TypeError if awaitable has no __await__."},
    {Py_tp_traverse, Holder_traverse},
    {Py_tp_dealloc, Holder_dealloc},
    {Py_am_await, Relay_await},
    {0, NULL},
};

/// Echo

static PyObject *
Echo_next(PyObject *op)
{
    PyObject *value = ((Holder *)op)->held;
    if (value != Py_None) {
        stop_iteration_raise(value);
    }
    return NULL;
}

static PySendResult
Echo_send(PyObject *op, PyObject *Py_UNUSED(value), PyObject **result)
{
    *result = Py_NewRef(((Holder *)op)->held);
    return PYGEN_RETURN;
}

/// The slots of Echo

static PyType_Slot Echo_slots[] = {
    {Py_tp_doc, "Echo(value, /)\n--\n\n"
                "An awaitable that is ready at once and gives value back."},
    {Py_tp_traverse, Holder_traverse},
    {Py_tp_dealloc, Holder_dealloc},
    {Py_am_await, PyObject_SelfIter},
    {Py_am_send, Echo_send},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, Echo_next},
    {0, NULL},
};

/// The coroutine add

static CoroutineStep add_step;

typedef struct {
    Coroutine base;
    PyObject *a;
    PyObject *b;
    PyObject *left;
} Add;

static const CoroutineBody add_body = {
    .name = "add",
    .file = "handmade_coroutine.c",
    .line = __LINE__,
    .step = add_step,
    .size = sizeof(Add),
    .variables = 3,
};

/// The body of add

enum { ADD_START, ADD_AWAITS_A, ADD_AWAITS_B };

static PySendResult
add_step(Coroutine *base, PyObject *value, PyObject **result)
{
    Add *self = (Add *)base;
    PyObject *sum;
    if (value == NULL) {
        return PYGEN_ERROR;
    }
    switch (base->position) {
    case ADD_START:
        Py_DECREF(value);
        return coroutine_await(base, __LINE__, Py_NewRef(self->a),
                               ADD_AWAITS_A, result);
    case ADD_AWAITS_A:
        self->left = value;
        return coroutine_await(base, __LINE__, Py_NewRef(self->b),
                               ADD_AWAITS_B, result);
    default: /* ADD_AWAITS_B */
        sum = PyNumber_Add(self->left, value);
        Py_CLEAR(self->left);
        Py_DECREF(value);
        return coroutine_return(base, __LINE__, sum, result);
    }
}

/// Calling add

static PyObject *
handmade_coroutine_add(PyObject *module, PyObject *const *args,
                       Py_ssize_t count)
{
    handmade_coroutine_state *state = PyModule_GetState(module);
    if (check_count("add", count, 2) < 0) {
        return NULL;
    }
    Add *self = (Add *)coroutine_new(state->coroutine_type, &add_body,
                                     state->codes[ADD]);
    if (self != NULL) {
        self->a = Py_NewRef(args[0]);
        self->b = Py_NewRef(args[1]);
    }
    return (PyObject *)self;
}

/// The coroutine countdown

static CoroutineStep countdown_step;

typedef struct {
    Coroutine base;
    PyObject *n;
    PyObject *tick;
    PyObject *numbers;          /* the iterator of range(n), or NULL */
} Countdown;

static const CoroutineBody countdown_body = {
    .name = "countdown",
    .file = "handmade_coroutine.c",
    .line = __LINE__,
    .step = countdown_step,
    .size = sizeof(Countdown),
    .variables = 3,
};

enum { COUNTDOWN_START, COUNTDOWN_TRY, COUNTDOWN_FINALLY };

/// Counting

/* Do `iter(range(n))`. Return 0, or -1 with an exception set. */
static int
countdown_begin(Countdown *self)
{
    PyObject *range = PyObject_CallOneArg((PyObject *)&PyRange_Type, self->n);
    if (range == NULL) {
        return -1;
    }
    self->numbers = PyObject_GetIter(range);
    Py_DECREF(range);
    return self->numbers == NULL ? -1 : 0;
}

/* Go on to the next number. Return 1 if there is one, 0 if not, or -1 with an
   exception set. */
static int
countdown_next(Countdown *self)
{
    if (self->numbers == NULL && countdown_begin(self) < 0) {
        return -1;
    }
    PyObject *number = PyIter_Next(self->numbers);
    if (number == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    Py_DECREF(number);
    return 1;
}

/// The try and the finally

/* The `try`: await a tick if a number is left. Return 1 if the step has that
   to say, or 0 if the `try` is over, with an exception set or none. */
static int
countdown_try(Countdown *self, PyObject **result)
{
    int found = countdown_next(self);
    if (found < 0) {
        coroutine_error(&self->base, __LINE__);
    }
    if (found != 1) {
        return 0;
    }
    PySendResult answer =
        coroutine_await(&self->base, __LINE__, PyObject_CallNoArgs(self->tick),
                        COUNTDOWN_TRY, result);
    return answer == PYGEN_NEXT;
}

/* The `finally`: await a tick, while the exception that is set, if there is
   one, is being handled. Returns what the step returns. */
static PySendResult
countdown_finally(Countdown *self, PyObject **result)
{
    if (PyErr_Occurred()) {
        coroutine_catch(&self->base);
    }
    return coroutine_await(&self->base, __LINE__,
                           PyObject_CallNoArgs(self->tick), COUNTDOWN_FINALLY,
                           result);
}

/* What follows the `finally`: raise the exception again that ended the `try`,
   or return n. Returns what the step returns. */
static PySendResult
countdown_end(Countdown *self, PyObject **result)
{
    if (coroutine_is_handling(&self->base)) {
        return coroutine_raise_again(&self->base);
    }
    return coroutine_return(&self->base, __LINE__, Py_NewRef(self->n), result);
}

/// The body of countdown

static PySendResult
countdown_step(Coroutine *base, PyObject *value, PyObject **result)
{
    Countdown *self = (Countdown *)base;
    int has_raised = value == NULL;
    Py_XDECREF(value);
    if (base->position == COUNTDOWN_FINALLY) {
        return has_raised ? PYGEN_ERROR : countdown_end(self, result);
    }
    if (!has_raised && countdown_try(self, result)) {
        return PYGEN_NEXT;
    }
    return countdown_finally(self, result);
}

/// Calling countdown

static PyObject *
handmade_coroutine_countdown(PyObject *module, PyObject *const *args,
                             Py_ssize_t count)
{
    handmade_coroutine_state *state = PyModule_GetState(module);
    if (check_count("countdown", count, 2) < 0) {
        return NULL;
    }
    Countdown *self = (Countdown *)coroutine_new(
        state->coroutine_type, &countdown_body, state->codes[COUNTDOWN]);
    if (self != NULL) {
        self->n = Py_NewRef(args[0]);
        self->tick = Py_NewRef(args[1]);
    }
    return (PyObject *)self;
}

/// An Echo that costs less

typedef struct {
    PyObject_HEAD
    PyObject *value;
    PyObject *stop; /* the StopIteration that it raised last, or NULL */
    Spares *spares; /* in the state of the module */
    int is_awaited; /* by `await`, and has not ended yet */
} Ready;

/* Return the spares of `op`, or NULL if the module is gone. */
static Spares *
ready_get_spares(PyObject *op)
{
    PyHeapTypeObject *type = (PyHeapTypeObject *)Py_TYPE(op);
    return type->ht_module != NULL ? ((Ready *)op)->spares : NULL;
}

/// Calling Ready

static PyObject *
Ready_vectorcall(PyObject *type, PyObject *const *args, size_t nargsf,
                 PyObject *kwnames)
{
    PyTypeObject *cls = (PyTypeObject *)type;
    if (check_call(cls, nargsf, kwnames) < 0) {
        return NULL;
    }
    handmade_coroutine_state *state = PyType_GetModuleState(cls);
    if (state == NULL) {
        return NULL;
    }
    Ready *self = (Ready *)spares_take(&state->spares, cls);
    if (self != NULL) {
        self->value = Py_NewRef(args[0]);
        self->spares = &state->spares;
    }
    return (PyObject *)self;
}

/// Who sees its StopIteration

/* Return 1 if only the interpreter has `op`, to use it once more, else 0. */
static int
is_temporary(PyObject *op)
{
#if PY_VERSION_HEX >= 0x030E0000
    return PyUnstable_Object_IsUniqueReferencedTemporary(op);
#else
    return Py_REFCNT(op) == 1;
#endif
}

/* Return 1 if `self` is being awaited, which ends, else 0. */
static int
ready_end_await(Ready *self)
{
    if (!self->is_awaited) {
        return 0;
    }
    self->is_awaited = 0;
    return 1;
}

/// Awaiting a Ready

static PyObject *
Ready_am_await(PyObject *op)
{
    if (SPARES_ARE_KEPT) {
        ((Ready *)op)->is_awaited = 1;
    }
    return Py_NewRef(op);
}

static PyObject *
Ready_next(PyObject *op)
{
    Ready *self = (Ready *)op;
    if (self->value == Py_None) {
        ready_end_await(self);
        return NULL;
    }
    Spares *spares = ready_get_spares(op);
    if (!ready_end_await(self) || !is_temporary(op) || spares == NULL) {
        stop_iteration_raise(self->value);
        return NULL;
    }
    PyObject *stop = spares_take_stop(spares, self->value);
    if (stop != NULL) {
        Py_XSETREF(self->stop, Py_NewRef(stop));
        PyErr_SetRaisedException(stop);
    }
    return NULL;
}

/// Other ways to a Ready

static PySendResult
Ready_send(PyObject *op, PyObject *Py_UNUSED(value), PyObject **result)
{
    ready_end_await((Ready *)op);
    *result = Py_NewRef(((Ready *)op)->value);
    return PYGEN_RETURN;
}

static PyObject *
Ready_iter(PyObject *op)
{
    ready_end_await((Ready *)op);
    return Py_NewRef(op);
}

static PyObject *
Ready_dunder_await(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return Ready_iter(op);
}

static PyMethodDef Ready_methods[] = {
    {"__await__", Ready_dunder_await, METH_NOARGS | METH_COEXIST, NULL},
    {NULL, NULL, 0, NULL},
};

/// The end of a Ready

static int
Ready_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((Ready *)op)->value);
    Py_VISIT(((Ready *)op)->stop);
    return 0;
}

/* Free `op`, which is not tracked, or keep what it needed. */
static void
Ready_free(PyObject *op)
{
    Ready *self = (Ready *)op;
    Spares *spares = ready_get_spares(op);
    Py_CLEAR(self->value);
    if (self->stop != NULL) {
        spares_give_stop(spares, self->stop);
        self->stop = NULL;
    }
    self->is_awaited = 0;
    spares_give(spares, op);
}

static void
Ready_dealloc(PyObject *op)
{
    PyObject *value = ((Ready *)op)->value;
    PyObject_GC_UnTrack(op);
    if (!PyType_IS_GC(Py_TYPE(value))) {
        Ready_free(op);
        return;
    }
    Py_TRASHCAN_BEGIN(op, Ready_dealloc);
    Ready_free(op);
    Py_TRASHCAN_END;
}

/// The slots of Ready

static PyType_Slot Ready_slots[] = {
    {Py_tp_doc, "Ready(value, /)\n--\n\n"
                "An awaitable that is ready at once and gives value back."},
    {Py_tp_traverse, Ready_traverse},
    {Py_tp_dealloc, Ready_dealloc},
    {Py_tp_methods, Ready_methods},
    {Py_am_await, Ready_am_await},
    {Py_am_send, Ready_send},
    {Py_tp_iter, Ready_iter},
    {Py_tp_iternext, Ready_next},
    {0, NULL},
};

/// The functions of the module

PyDoc_STRVAR(add_doc,
"add($module, a, b, /)\n"
"--\n"
"\n"
"Return a coroutine that returns (await a) + (await b).\n"
"\n"
"Awaiting it raises TypeError for what cannot be awaited or added, and\n"
"whatever a and b raise.");

PyDoc_STRVAR(countdown_doc,
"countdown($module, n, tick, /)\n"
"--\n"
"\n"
"Return a coroutine that awaits tick() n times and returns n.\n"
"\n"
"Once begun, it awaits tick() once more before it ends, however it ends.\n"
"Awaiting it raises TypeError if n is no integer.");

static PyMethodDef handmade_coroutine_methods[] = {
    {"add", (PyCFunction)(void (*)(void))handmade_coroutine_add, METH_FASTCALL,
     add_doc},
    {"countdown", (PyCFunction)(void (*)(void))handmade_coroutine_countdown,
     METH_FASTCALL, countdown_doc},
    {NULL, NULL, 0, NULL},
};

/// Adding a type

/* Make a type of objects of `size` bytes, which `call` makes, and add it to
   the module. Return it, borrowed from the module, or NULL with an exception
   set. */
static PyTypeObject *
add_type(PyObject *module, const char *name, size_t size, vectorcallfunc call,
         PyType_Slot *slots)
{
    PyType_Spec spec = {
        .name = name,
        .basicsize = (int)size,
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
                 | Py_TPFLAGS_IMMUTABLETYPE
                 | Py_TPFLAGS_DISALLOW_INSTANTIATION,
        .slots = slots,
    };
    PyTypeObject *type =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    if (type == NULL) {
        return NULL;
    }
    type->tp_vectorcall = call;
    int status = PyModule_AddType(module, type);
    Py_DECREF(type);
    return status < 0 ? NULL : type;
}

/// The types of awaitables

/* Add the types of awaitables to the module. Return 0, or -1 with an exception
   set. */
static int
add_types(PyObject *module, Spares *spares)
{
    if (add_type(module, "handmade_coroutine.Relay", sizeof(Holder),
                 Holder_vectorcall, Relay_slots)
        == NULL) {
        return -1;
    }
    if (add_type(module, "handmade_coroutine.Echo", sizeof(Holder),
                 Holder_vectorcall, Echo_slots)
        == NULL) {
        return -1;
    }
    PyTypeObject *ready =
        add_type(module, "handmade_coroutine.Ready", sizeof(Ready),
                 Ready_vectorcall, Ready_slots);
    if (ready == NULL) {
        return -1;
    }
    spares_begin(spares, ready);
    return 0;
}

/// Filling the module

static const CoroutineBody *const bodies[BODIES] = {
    [ADD] = &add_body,
    [COUNTDOWN] = &countdown_body,
};

static int
handmade_coroutine_exec(PyObject *module)
{
    handmade_coroutine_state *state = PyModule_GetState(module);
    state->coroutine_type =
        coroutine_type_new(module, "handmade_coroutine.coroutine");
    if (state->coroutine_type == NULL) {
        return -1;
    }
    for (int i = 0; i < BODIES; i++) {
        state->codes[i] = coroutine_make_code(bodies[i], bodies[i]->line);
        if (state->codes[i] == NULL) {
            return -1;
        }
    }
    return add_types(module, &state->spares);
}

/// The life of the module

static int
handmade_coroutine_traverse(PyObject *module, visitproc visit, void *arg)
{
    handmade_coroutine_state *state = PyModule_GetState(module);
    Py_VISIT(state->coroutine_type);
    Py_VISIT(state->spares.type);
    return 0;
}

static int
handmade_coroutine_clear(PyObject *module)
{
    handmade_coroutine_state *state = PyModule_GetState(module);
    Py_CLEAR(state->coroutine_type);
    for (int i = 0; i < BODIES; i++) {
        Py_CLEAR(state->codes[i]);
    }
    spares_end(&state->spares);
    return 0;
}

static void
handmade_coroutine_free(void *module)
{
    handmade_coroutine_clear(module);
}

/// The module definition

static PyModuleDef_Slot handmade_coroutine_slots[] = {
    {Py_mod_exec, handmade_coroutine_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef handmade_coroutine_module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "handmade_coroutine",
    .m_doc = "Awaitables and coroutines made by hand.",
    .m_size = sizeof(handmade_coroutine_state),
    .m_methods = handmade_coroutine_methods,
    .m_slots = handmade_coroutine_slots,
    .m_traverse = handmade_coroutine_traverse,
    .m_clear = handmade_coroutine_clear,
    .m_free = handmade_coroutine_free,
};

PyMODINIT_FUNC
PyInit_handmade_coroutine(void)
{
    return PyModuleDef_Init(&handmade_coroutine_module);
}
