/* worker_threads.h: threads of C that end before their interpreter does.

   In Python: functions for atexit and for os.register_at_fork.
   Use: #include "worker_threads.h"; link with -pthread.
   Taught in book/03_thread_woken_future.md. */

/// What the end of threads needs

#pragma once
#include "module_call.h"
#include "worker_thread.h"

/// Whom to stop

/* Return a worker that is not stopped, with a reference, or NULL. */
static inline Worker *
workers_find(Workers *workers)
{
    pthread_mutex_lock(&workers_lock);
    Worker *found = workers->first;
    while (found != NULL && found->is_stopped) {
        found = found->next;
    }
    if (found != NULL) {
        found->references++;
    }
    pthread_mutex_unlock(&workers_lock);
    return found;
}

/// Joining the threads

/* Wait until every thread has ended. */
static inline void
workers_join(Workers *workers)
{
    pthread_mutex_lock(&workers_lock);
    while (workers->count > 0) {
        pthread_cond_wait(&workers->ended, &workers_lock);
    }
    int has_last = workers->has_last;
    pthread_t last = workers->last;
    workers->has_last = 0;
    pthread_mutex_unlock(&workers_lock);
    if (has_last) {
        pthread_join(last, NULL);
    }
}

/// Closing

/* Stop all workers for ever, and wait for their threads. */
static inline void
workers_close(Workers *workers)
{
    pthread_mutex_lock(&workers_lock);
    workers->is_closed = 1;
    pthread_mutex_unlock(&workers_lock);
    Worker *found;
    while ((found = workers_find(workers)) != NULL) {
        found->kind->stop(found);
        worker_release(found);
    }
    Py_BEGIN_ALLOW_THREADS
    workers_join(workers);
    Py_END_ALLOW_THREADS
}

/// Inside of fork

static inline void
workers_before_fork(void)
{
    pthread_mutex_lock(&workers_lock);
}

static inline void
workers_in_parent(void)
{
    pthread_mutex_unlock(&workers_lock);
}

/* Make new what threads may be waiting for who are not in this process. */
static inline void
workers_in_child(void)
{
    pthread_mutex_init(&workers_lock, NULL);
    for (Workers *each = workers_all; each != NULL; each = each->next) {
        pthread_cond_init(&each->ended, NULL);
        for (Worker *one = each->first; one != NULL; one = one->next) {
            thread_condition_init(&one->wake);
        }
        each->count = each->has_last = 0;
    }
}

static inline void
workers_watch_forks(void)
{
    pthread_atfork(workers_before_fork, workers_in_parent, workers_in_child);
}

/// After a fork

/* In a child, where no thread of a worker is there: let each worker know. */
static inline void
workers_lose(Workers *workers)
{
    pthread_mutex_lock(&workers_lock);
    Worker *lost = workers->first;
    workers->first = NULL;
    pthread_mutex_unlock(&workers_lock);
    while (lost != NULL) {
        Worker *next = lost->next;
        lost->next = lost->previous = NULL;
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
workers_after_fork(PyObject *capsule, PyObject *Py_UNUSED(ignored))
{
    workers_lose(workers_from(capsule));
    Py_RETURN_NONE;
}

static PyMethodDef workers_exit_hook = {"at_exit", workers_at_exit,
                                        METH_NOARGS, NULL};
static PyMethodDef workers_fork_hook = {"after_fork", workers_after_fork,
                                        METH_NOARGS, NULL};

/// Setting the hooks

/* Let Python call the hooks with `capsule`. Return 0, or -1 with an exception
   set. */
static inline int
workers_set_hooks(PyObject *capsule)
{
    PyObject *at_exit = PyCFunction_New(&workers_exit_hook, capsule);
    PyObject *after_fork = PyCFunction_New(&workers_fork_hook, capsule);
    int status = -1;
    if (at_exit != NULL && after_fork != NULL) {
        PyObject *args = Py_BuildValue("(O)", at_exit);
        status = module_call("atexit", "register", args, NULL);
    }
    if (status == 0) {
        PyObject *kwargs = Py_BuildValue("{sO}", "after_in_child", after_fork);
        status = module_call("os", "register_at_fork", PyTuple_New(0), kwargs);
    }
    Py_XDECREF(at_exit);
    Py_XDECREF(after_fork);
    return status;
}

/// Making and freeing

/* Enter the list of all Workers. */
static inline void
workers_link(Workers *workers)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, workers_watch_forks);
    pthread_mutex_lock(&workers_lock);
    workers->next = workers_all;
    workers_all = workers;
    pthread_mutex_unlock(&workers_lock);
}

static inline void
workers_free(Workers *workers)
{
    pthread_mutex_lock(&workers_lock);
    Workers **link = &workers_all;
    while (*link != workers) {
        link = &(*link)->next;
    }
    *link = workers->next;
    pthread_mutex_unlock(&workers_lock);
#if PY_VERSION_HEX >= 0x030F0000
    PyInterpreterView_Close(workers->interpreter);
#endif
    pthread_cond_destroy(&workers->ended);
    PyMem_RawFree(workers);
}

static inline void
workers_free_capsule(PyObject *capsule)
{
    workers_free(workers_from(capsule));
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
    pthread_cond_init(&workers->ended, NULL);
    workers_link(workers);
    PyObject *capsule =
        PyCapsule_New(workers, "workers", workers_free_capsule);
    if (capsule == NULL) {
        workers_free(workers);
    }
    else if (workers_set_hooks(capsule) < 0) {
        Py_CLEAR(capsule);
    }
    return capsule;
}
