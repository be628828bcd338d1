/* worker_thread.h: a thread of C that works for Python.

   In Python: threading.Thread(daemon=True), with a way to stop it.
   Use: through worker_threads.h; link with -pthread.
   Taught in book/03_thread_woken_future.md. */

/// What a worker needs

#pragma once
#include <Python.h>
#include <stdatomic.h>
#include "native_thread.h"
#include "raised_exception.h"

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
    atomic_int references; /* to this struct: the thread's and others' */
    int is_stopped;
};

/* For all workers, and for the list of the Workers of all interpreters. */
static pthread_mutex_t workers_lock = PTHREAD_MUTEX_INITIALIZER;
static Workers *workers_all;

struct Workers {
    Workers *next; /* in the list of all */
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

/* Drop one reference to `self`; the last one frees it. Needs no GIL. */
static inline void
worker_release(Worker *self)
{
    if (atomic_fetch_sub(&self->references, 1) == 1) {
        pthread_cond_destroy(&self->wake);
        self->kind->free(self);
    }
}

/// Stopping a worker

/* Wake the thread of `self`, and let it end. */
static inline void
worker_stop(Worker *self)
{
    pthread_mutex_lock(&workers_lock);
    self->is_stopped = 1;
    pthread_cond_signal(&self->wake);
    pthread_mutex_unlock(&workers_lock);
}

/* Return 1 if `self` is stopped, else 0. Needs no GIL. */
static inline int
worker_is_stopped(Worker *self)
{
    pthread_mutex_lock(&workers_lock);
    int is_stopped = self->is_stopped;
    pthread_mutex_unlock(&workers_lock);
    return is_stopped;
}

/// Waiting

/* Wait until `deadline`. Return 1 then, or 0 as soon as `self` is stopped. */
static inline int
worker_wait(Worker *self, const struct timespec *deadline)
{
    int error = 0;
    pthread_mutex_lock(&workers_lock);
    while (!self->is_stopped && error == 0) {
        error = thread_wait(&self->wake, &workers_lock, deadline);
    }
    int is_stopped = self->is_stopped;
    pthread_mutex_unlock(&workers_lock);
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
    while (!worker_is_stopped(self)) {
        Attached attached = worker_try_attach(self);
        if (attached != NULL) {
            return attached;
        }
        struct timespec deadline = thread_deadline(0.01);
        worker_wait(self, &deadline);
    }
    return NULL;
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

/// Leaving the list of workers

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

/// The end of a thread

/* Leave the list of workers, and join the thread that left it before. */
static inline void
worker_leave(void *argument)
{
    Worker *self = argument;
    Workers *workers = self->workers;
    pthread_mutex_lock(&workers_lock);
    worker_unlink(self);
    pthread_t last = workers->last;
    int has_last = workers->has_last;
    workers->last = pthread_self();
    workers->has_last = 1;
    pthread_mutex_unlock(&workers_lock);
    worker_release(self);
    if (has_last) {
        pthread_join(last, NULL);
    }
    pthread_mutex_lock(&workers_lock);
    workers->count--;
    pthread_cond_signal(&workers->ended);
    pthread_mutex_unlock(&workers_lock);
}

/// The thread

static inline void *
worker_main(void *argument)
{
    Worker *self = argument;
    pthread_cleanup_push(worker_leave, self);
    self->kind->run(self);
    pthread_cleanup_pop(1);
    return NULL;
}

/// Entering the list of workers

/* Enter the list of workers, with a reference for the thread. Return 0, or -1
   if the interpreter is about to end. */
static inline int
worker_enter(Worker *self)
{
    Workers *workers = self->workers;
    pthread_mutex_lock(&workers_lock);
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
    pthread_mutex_unlock(&workers_lock);
    return is_closed ? -1 : 0;
}

/// A new worker

/* Make `self`, which is all zeros, a worker with one reference. */
static inline void
worker_init(Worker *self, const WorkerKind *kind, Workers *workers)
{
    self->kind = kind;
    self->workers = workers;
    self->references = 1;
    thread_condition_init(&self->wake);
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
    if (thread_start(worker_main, self) == 0) {
        return 0;
    }
    pthread_mutex_lock(&workers_lock);
    worker_unlink(self);
    workers->count--;
    self->references--;
    pthread_cond_signal(&workers->ended);
    pthread_mutex_unlock(&workers_lock);
    PyErr_SetString(PyExc_RuntimeError, "can't start new thread");
    return -1;
}
