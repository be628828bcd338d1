/* worker_threads.h: threads of C that end before their interpreter does.

   In Python: threading.Thread(daemon=True), and a function for atexit.
   Use: #include "worker_threads.h"; link with -pthread.
   Taught in book/03_thread_woken_future.md. */

/// What threads need

#pragma once
#include <Python.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include "raised_exception.h"

/// The stack of a thread

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { WORKER_STACK = 4 * 1024 * 1024 };
#else
enum { WORKER_STACK = 256 * 1024 };
#endif

/// A worker, and all of them

typedef struct Worker Worker;
typedef struct Workers Workers;

typedef struct {
    void (*run)(Worker *self); /* the work; in the thread, without the GIL */
    void (*stop)(Worker *self); /* needs the GIL: let go of Python's objects */
    void (*lose)(Worker *self); /* needs the GIL: the thread is not there */
    void (*free)(Worker *self); /* nobody needs the memory */
} WorkerKind;

struct Worker {
    const WorkerKind *kind;
    Workers *workers;
    Worker *next; /* in the list of `workers` */
    Worker *previous; /* or NULL */
    pthread_cond_t wake;
    int references; /* to this struct: the thread's and others' */
    int is_stopped;
};

struct Workers {
    pthread_mutex_t lock; /* for all that follows, and for all workers */
    pthread_cond_t ended; /* a thread has */
    Worker *first;
    int count; /* of the threads */
    int is_closed;
    int has_last;
    pthread_t last; /* the thread that ended last, which nobody has joined */
#if PY_VERSION_HEX >= 0x030F0000
    PyInterpreterView *interpreter;
#else
    PyInterpreterState *interpreter;
#endif
};

/// References to a worker

/* Drop one reference to `self`; the last one frees it. */
static inline void
worker_release(Worker *self)
{
    Workers *workers = self->workers;
    pthread_mutex_lock(&workers->lock);
    int left = --self->references;
    pthread_mutex_unlock(&workers->lock);
    if (left == 0) {
        pthread_cond_destroy(&self->wake);
        self->kind->free(self);
    }
}

/// Stopping a worker

/* Wake the thread of `self`, and let it end. */
static inline void
worker_stop(Worker *self)
{
    pthread_mutex_lock(&self->workers->lock);
    self->is_stopped = 1;
    pthread_cond_signal(&self->wake);
    pthread_mutex_unlock(&self->workers->lock);
}

/// A deadline

/* Return the time `seconds` from now, for worker_wait(). */
static inline struct timespec
worker_deadline(double seconds)
{
    struct timespec deadline;
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    time_t whole = (time_t)seconds;
    long rest = (long)((seconds - (double)whole) * 1e9);
    deadline.tv_sec += whole;
    deadline.tv_nsec += rest;
    if (deadline.tv_nsec >= 1000000000) {
        deadline.tv_sec += 1;
        deadline.tv_nsec -= 1000000000;
    }
    return deadline;
}

/// Waiting once

/* Wait until `deadline`, or until somebody signals. Returns 0 or an error
   number. The caller has the lock. */
static inline int
worker_wait_once(Worker *self, const struct timespec *deadline)
{
    pthread_mutex_t *lock = &self->workers->lock;
#ifdef __APPLE__
    struct timespec now, rest;
    clock_gettime(CLOCK_MONOTONIC, &now);
    rest.tv_sec = deadline->tv_sec - now.tv_sec;
    rest.tv_nsec = deadline->tv_nsec - now.tv_nsec;
    if (rest.tv_nsec < 0) {
        rest.tv_sec -= 1;
        rest.tv_nsec += 1000000000;
    }
    if (rest.tv_sec < 0) {
        return ETIMEDOUT;
    }
    return pthread_cond_timedwait_relative_np(&self->wake, lock, &rest);
#else
    return pthread_cond_timedwait(&self->wake, lock, deadline);
#endif
}

/// Waiting

/* Wait until `deadline`. Return 1 then, or 0 as soon as `self` is stopped. */
static inline int
worker_wait(Worker *self, const struct timespec *deadline)
{
    int error = 0;
    pthread_mutex_lock(&self->workers->lock);
    while (!self->is_stopped && error == 0) {
        error = worker_wait_once(self, deadline);
    }
    int is_stopped = self->is_stopped;
    pthread_mutex_unlock(&self->workers->lock);
    return !is_stopped;
}

/// Attaching to the interpreter

#if PY_VERSION_HEX >= 0x030F0000
typedef PyThreadStateToken *Attached;
#else
typedef PyThreadState *Attached;
#endif

/* Try to attach this thread to the interpreter that started it. Return what
   worker_detach() needs, or NULL without an exception. */
static inline Attached
worker_try_attach(Worker *self)
{
#if PY_VERSION_HEX >= 0x030F0000
    return PyThreadState_EnsureFromView(self->workers->interpreter);
#else
    PyThreadState *state = PyThreadState_New(self->workers->interpreter);
    if (state != NULL) {
        PyEval_RestoreThread(state);
    }
    return state;
#endif
}

/// Until it is attached

/* Attach this thread as worker_try_attach() does; as long as that fails, try
   it again, a hundred times in a second. Return NULL if `self` is stopped. */
static inline Attached
worker_attach(Worker *self)
{
    Attached attached = worker_try_attach(self);
    while (attached == NULL) {
        struct timespec deadline = worker_deadline(0.01);
        if (!worker_wait(self, &deadline)) {
            return NULL;
        }
        attached = worker_try_attach(self);
    }
    return attached;
}

static inline void
worker_detach(Attached attached)
{
#if PY_VERSION_HEX >= 0x030F0000
    PyThreadState_Release(attached);
#else
    PyThreadState_Clear(attached);
    PyThreadState_DeleteCurrent();
#endif
}

/// The end of a thread

/* Take `self` out of the list of workers. The caller has the lock. */
static inline void
worker_unlink(Worker *self)
{
    if (self->previous != NULL) {
        self->previous->next = self->next;
    }
    else {
        self->workers->first = self->next;
    }
    if (self->next != NULL) {
        self->next->previous = self->previous;
    }
}

/* Leave the list of workers, and join the thread that left it before. */
static inline void
worker_leave(Worker *self)
{
    Workers *workers = self->workers;
    pthread_mutex_lock(&workers->lock);
    worker_unlink(self);
    pthread_t last = workers->last;
    int has_last = workers->has_last;
    workers->last = pthread_self();
    workers->has_last = 1;
    pthread_mutex_unlock(&workers->lock);
    worker_release(self);
    if (has_last) {
        pthread_join(last, NULL);
    }
    pthread_mutex_lock(&workers->lock);
    workers->count--;
    pthread_cond_signal(&workers->ended);
    pthread_mutex_unlock(&workers->lock);
}

/// The thread

static inline void *
worker_main(void *argument)
{
    Worker *self = argument;
    self->kind->run(self);
    worker_leave(self);
    return NULL;
}

/// Starting a thread

/* Start a thread for `self`, which no signal will reach. Return 0 or an error
   number. */
static inline int
worker_create_thread(Worker *self)
{
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, before;
    int error = pthread_attr_init(&attributes);
    if (error != 0) {
        return error;
    }
    pthread_attr_setstacksize(&attributes, WORKER_STACK);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&thread, &attributes, worker_main, self);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return error;
}

/// Entering the list

/* Enter the list of workers, with a reference for the thread. Return 0, or -1
   if the interpreter is about to end. */
static inline int
worker_enter(Worker *self)
{
    Workers *workers = self->workers;
    pthread_mutex_lock(&workers->lock);
    int is_closed = workers->is_closed;
    if (!is_closed) {
        self->next = workers->first;
        if (self->next != NULL) {
            self->next->previous = self;
        }
        workers->first = self;
        workers->count++;
        self->references++;
    }
    pthread_mutex_unlock(&workers->lock);
    return is_closed ? -1 : 0;
}

/// A new worker

/* Make `self`, which is all zeros, a worker with one reference. */
static inline void
worker_init(Worker *self, const WorkerKind *kind, Workers *workers)
{
    pthread_condattr_t attributes;
    self->kind = kind;
    self->workers = workers;
    self->references = 1;
    pthread_condattr_init(&attributes);
#ifndef __APPLE__
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
#endif
    pthread_cond_init(&self->wake, &attributes);
    pthread_condattr_destroy(&attributes);
}

/// Starting a worker

/* Let a thread work for `self`. Return 0, or -1 with RuntimeError set. */
static inline int
worker_start(Worker *self)
{
    Workers *workers = self->workers;
    if (worker_enter(self) < 0) {
        PyErr_SetString(PyExc_RuntimeError,
                        "can't start new thread at interpreter shutdown");
        return -1;
    }
    if (worker_create_thread(self) == 0) {
        return 0;
    }
    pthread_mutex_lock(&workers->lock);
    worker_unlink(self);
    workers->count--;
    self->references--;
    pthread_cond_signal(&workers->ended);
    pthread_mutex_unlock(&workers->lock);
    PyErr_SetString(PyExc_RuntimeError, "can't start new thread");
    return -1;
}

/// Whom to stop

/* Return a worker that is not stopped, with a reference, or NULL. */
static inline Worker *
workers_find(Workers *workers)
{
    pthread_mutex_lock(&workers->lock);
    Worker *found = workers->first;
    while (found != NULL && found->is_stopped) {
        found = found->next;
    }
    if (found != NULL) {
        found->references++;
    }
    pthread_mutex_unlock(&workers->lock);
    return found;
}

/// Joining the threads

/* Wait until every thread has ended. */
static inline void
workers_join(Workers *workers)
{
    pthread_mutex_lock(&workers->lock);
    while (workers->count > 0) {
        pthread_cond_wait(&workers->ended, &workers->lock);
    }
    int has_last = workers->has_last;
    pthread_t last = workers->last;
    workers->has_last = 0;
    pthread_mutex_unlock(&workers->lock);
    if (has_last) {
        pthread_join(last, NULL);
    }
}

/// Closing

/* Stop all workers for ever, and wait for their threads. */
static inline void
workers_close(Workers *workers)
{
    pthread_mutex_lock(&workers->lock);
    workers->is_closed = 1;
    pthread_mutex_unlock(&workers->lock);
    Worker *found;
    while ((found = workers_find(workers)) != NULL) {
        found->kind->stop(found);
        worker_release(found);
    }
    Py_BEGIN_ALLOW_THREADS
    workers_join(workers);
    Py_END_ALLOW_THREADS
}

/// A new lock

/* Make the lock and what waits for it new, in a process that has one thread. */
static inline void
workers_init_lock(Workers *workers)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&workers->lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
    pthread_cond_init(&workers->ended, NULL);
}

/// In a child

/* In a child, where no thread of a worker is there: let each worker know. */
static inline void
workers_lose(Workers *workers)
{
    Worker *lost = workers->first;
    workers_init_lock(workers);
    workers->first = NULL;
    workers->count = workers->has_last = 0;
    while (lost != NULL) {
        Worker *next = lost->next;
        lost->next = lost->previous = NULL;
        pthread_cond_init(&lost->wake, NULL);
        lost->kind->lose(lost);
        worker_release(lost);
        lost = next;
    }
}

/// The hooks

static inline Workers *
workers_from(PyObject *capsule)
{
    return PyCapsule_GetPointer(capsule, "workers");
}

static inline PyObject *
workers_at_exit(PyObject *capsule, PyObject *Py_UNUSED(ignored))
{
    workers_close(workers_from(capsule));
    Py_RETURN_NONE;
}

static inline PyObject *
workers_before_fork(PyObject *capsule, PyObject *Py_UNUSED(ignored))
{
    pthread_mutex_lock(&workers_from(capsule)->lock);
    Py_RETURN_NONE;
}

static inline PyObject *
workers_after_fork(PyObject *capsule, PyObject *Py_UNUSED(ignored))
{
    pthread_mutex_unlock(&workers_from(capsule)->lock);
    Py_RETURN_NONE;
}

static inline PyObject *
workers_in_child(PyObject *capsule, PyObject *Py_UNUSED(ignored))
{
    workers_lose(workers_from(capsule));
    Py_RETURN_NONE;
}

/// The table of hooks

static PyMethodDef workers_hooks[] = {
    {"at_exit", workers_at_exit, METH_NOARGS, NULL},
    {"before", workers_before_fork, METH_NOARGS, NULL},
    {"after_in_parent", workers_after_fork, METH_NOARGS, NULL},
    {"after_in_child", workers_in_child, METH_NOARGS, NULL},
};

/// Calling a function of a module

/* Call `function` of `module` with `args` and `kwargs`. Return 0, or -1 with
   an exception set. */
static inline int
workers_call(const char *module, const char *function, PyObject *args,
             PyObject *kwargs)
{
    PyObject *imported = PyImport_ImportModule(module);
    if (imported == NULL) {
        return -1;
    }
    PyObject *method = PyObject_GetAttrString(imported, function);
    Py_DECREF(imported);
    PyObject *done =
        method != NULL ? PyObject_Call(method, args, kwargs) : NULL;
    Py_XDECREF(method);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/// The hooks for forks

/* Return a new dictionary with the three hooks for forks, or NULL with an
   exception set. */
static inline PyObject *
workers_fork_hooks(PyObject *capsule)
{
    PyObject *hooks = PyDict_New();
    for (int i = 1; hooks != NULL && i < 4; i++) {
        PyObject *hook = PyCFunction_New(&workers_hooks[i], capsule);
        if (hook == NULL
            || PyDict_SetItemString(hooks, workers_hooks[i].ml_name, hook)
                   < 0) {
            Py_CLEAR(hooks);
        }
        Py_XDECREF(hook);
    }
    return hooks;
}

/// All hooks

/* Let Python call the hooks of `capsule`. Return 0, or -1 with an exception
   set. */
static inline int
workers_set_hooks(PyObject *capsule)
{
    PyObject *at_exit = PyCFunction_New(&workers_hooks[0], capsule);
    PyObject *args = at_exit != NULL ? PyTuple_Pack(1, at_exit) : NULL;
    Py_XDECREF(at_exit);
    if (args == NULL) {
        return -1;
    }
    int status = workers_call("atexit", "register", args, NULL);
    Py_DECREF(args);
    PyObject *none = status == 0 ? PyTuple_New(0) : NULL;
    PyObject *hooks = none != NULL ? workers_fork_hooks(capsule) : NULL;
    status = -1;
    if (hooks != NULL) {
        status = workers_call("os", "register_at_fork", none, hooks);
    }
    Py_XDECREF(none);
    Py_XDECREF(hooks);
    return status;
}

/// Making and freeing

static inline void
workers_free(PyObject *capsule)
{
    Workers *workers = workers_from(capsule);
#if PY_VERSION_HEX >= 0x030F0000
    PyInterpreterView_Close(workers->interpreter);
#endif
    pthread_cond_destroy(&workers->ended);
    pthread_mutex_destroy(&workers->lock);
    PyMem_RawFree(workers);
}

/// A new capsule

/* Return a new capsule with Workers for this interpreter, or NULL with an
   exception set. */
static inline PyObject *
workers_new(void)
{
    Workers *workers = PyMem_RawCalloc(1, sizeof(Workers));
    if (workers == NULL) {
        return PyErr_NoMemory();
    }
#if PY_VERSION_HEX >= 0x030F0000
    workers->interpreter = PyInterpreterView_FromCurrent();
    if (workers->interpreter == NULL) {
        PyMem_RawFree(workers);
        return NULL;
    }
#else
    workers->interpreter = PyInterpreterState_Get();
#endif
    workers_init_lock(workers);
    PyObject *capsule = PyCapsule_New(workers, "workers", workers_free);
    if (capsule == NULL || workers_set_hooks(capsule) < 0) {
        Py_CLEAR(capsule);
    }
    return capsule;
}
