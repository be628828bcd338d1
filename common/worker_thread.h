/* worker_thread.h: a thread of C that works for Python.

   In Python: threading.Thread(daemon=True), with a way to stop it.
   Use: through worker_threads.h; link with -pthread.
   Taught in book/03_thread_woken_future.md. */

/// What threads need

#pragma once
#include <Python.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
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
    return pthread_cond_timedwait_relative_np(&self->wake, &workers_lock,
                                              &rest);
#else
    return pthread_cond_timedwait(&self->wake, &workers_lock, deadline);
#endif
}

/// Waiting

/* Wait until `deadline`. Return 1 then, or 0 as soon as `self` is stopped. */
static inline int
worker_wait(Worker *self, const struct timespec *deadline)
{
    int error = 0;
    pthread_mutex_lock(&workers_lock);
    while (!self->is_stopped && error == 0) {
        error = worker_wait_once(self, deadline);
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
        struct timespec deadline = worker_deadline(0.01);
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

/// Starting a thread

/* The signals of a crash, which belong to the thread that crashes. */
static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

/* Start a thread for `self`, which no signal from outside will reach. Return 0
   or an error number. */
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
    for (size_t i = 0; i < sizeof(faults) / sizeof(*faults); i++) {
        sigdelset(&all, faults[i]);
    }
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&thread, &attributes, worker_main, self);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return error;
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
    pthread_mutex_lock(&workers_lock);
    worker_unlink(self);
    workers->count--;
    self->references--;
    pthread_cond_signal(&workers->ended);
    pthread_mutex_unlock(&workers_lock);
    PyErr_SetString(PyExc_RuntimeError, "can't start new thread");
    return -1;
}
