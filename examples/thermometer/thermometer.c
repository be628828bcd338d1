/* thermometer.c: the library of therm.h as something to await.

   In Python: `degrees = await thermometer.read(sensor)`.
   Run it: the commands are on the page.
   Taught in book/05_take_it_all_home.md. */

/// What the module needs

#include <Python.h>
#include <limits.h>
#include "bridge_coroutine.h"
#include "native_promise.h"
#include "therm.h"

typedef struct {
    BridgeState bridge; /* comes first: see bridge_get_state() */
    PyObject *code;
} thermometer_state;

/// A measurement

typedef struct {
    Promise promise; /* comes first */
    int sensor;
    double degrees;
} Measurement;

typedef struct {
    BridgeCoroutine base;
    NativePromise native;
    double degrees;
} ReadCoroutine;

/// What the library calls

/* Called in a thread of the library: no Python here. */
static void
measurement_done(void *user, double degrees, const char *error)
{
    Measurement *self = user;
    self->degrees = degrees;
    promise_fulfil(&self->promise, error);
}

static const char *
measurement_begin(Promise *promise)
{
    int sensor = ((Measurement *)promise)->sensor;
    int status = therm_read(sensor, measurement_done, promise);
    return status < 0 ? "the thermometer cannot be read" : NULL;
}

/// What the coroutine gets

static void
measurement_finish(Promise *promise, NativeFuture *future)
{
    size_t offset = offsetof(ReadCoroutine, native);
    ReadCoroutine *self = (ReadCoroutine *)((char *)future - offset);
    self->degrees = ((Measurement *)promise)->degrees;
}

static const PromiseKind measurement_kind = {
    .begin = measurement_begin,
    .finish = measurement_finish,
};

static PyObject *
read_take(BridgeCoroutine *self)
{
    const char *error = bridge_coroutine_future(self)->error;
    return error != NULL
               ? native_raise(error)
               : PyFloat_FromDouble(((ReadCoroutine *)self)->degrees);
}

static const BridgeBody read_body = {
    BRIDGE_BODY_BASE("read", ReadCoroutine),
    read_take,
};

/// Calling read

static PyObject *
thermometer_read(PyObject *module, PyObject *arg)
{
    thermometer_state *state = PyModule_GetState(module);
    long sensor = PyLong_AsLong(arg);
    if (sensor == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (sensor < INT_MIN || sensor > INT_MAX) {
        PyErr_SetString(PyExc_OverflowError, "the number is too large");
        return NULL;
    }
    Promise *promise = promise_new(&measurement_kind, sizeof(Measurement));
    if (promise == NULL) {
        return PyErr_NoMemory();
    }
    ((Measurement *)promise)->sensor = (int)sensor;
    BridgeCoroutine *self = bridge_coroutine_new(
        &state->bridge, &read_body, state->code, Py_NewRef(Py_None));
    if (self == NULL) {
        promise_release(promise);
        return NULL;
    }
    native_promise_init(&((ReadCoroutine *)self)->native, promise);
    return (PyObject *)self;
}

static PyMethodDef thermometer_methods[] = {
    {"read", thermometer_read, METH_O,
     "read($module, sensor, /)\n--\n\n"
     "Return a coroutine that returns the temperature in degrees Celsius.\n\n"
     "Awaiting it raises RuntimeError if the thermometer cannot be read."},
    {NULL, NULL, 0, NULL},
};

/// The module

static int
thermometer_exec(PyObject *module)
{
    thermometer_state *state = PyModule_GetState(module);
    state->code = coroutine_make_code(&read_body.base, read_body.base.line);
    if (state->code == NULL) {
        return -1;
    }
    return bridge_state_init(&state->bridge, module, "thermometer.future",
                             "thermometer.future_iterator",
                             "thermometer.coroutine");
}

static int
thermometer_traverse(PyObject *module, visitproc visit, void *arg)
{
    thermometer_state *state = PyModule_GetState(module);
    return bridge_state_traverse(&state->bridge, visit, arg);
}

static int
thermometer_clear(PyObject *module)
{
    thermometer_state *state = PyModule_GetState(module);
    Py_CLEAR(state->code);
    bridge_state_clear(&state->bridge);
    return 0;
}

static void
thermometer_free(void *module)
{
    thermometer_clear(module);
}

/// Its definition

static PyModuleDef_Slot thermometer_slots[] = {
    {Py_mod_exec, thermometer_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef thermometer_module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "thermometer",
    .m_doc = "Thermometers to await.",
    .m_size = sizeof(thermometer_state),
    .m_methods = thermometer_methods,
    .m_slots = thermometer_slots,
    .m_traverse = thermometer_traverse,
    .m_clear = thermometer_clear,
    .m_free = thermometer_free,
};

PyMODINIT_FUNC
PyInit_thermometer(void)
{
    return PyModuleDef_Init(&thermometer_module);
}
