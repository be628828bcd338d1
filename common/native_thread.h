/* native_thread.h: threads, and how they wait for a time or for each other.

   In Python: threading.Thread(daemon=True) and threading.Condition.
   Use: #include "native_thread.h"; link with -pthread. It needs no Python.
   Taught in book/03_thread_woken_future.md. */

/// What threads need

#pragma once
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

/// The stack of a thread

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { THREAD_STACK = 4 * 1024 * 1024 };
#else
enum { THREAD_STACK = 256 * 1024 };
#endif

/// Starting a thread

/* The signals of a crash, which belong to the thread that crashes. */
static const int thread_faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

/* Let a thread call `run(argument)`; no signal from outside will reach it.
   Return 0 or an error number. */
static inline int
thread_start(void *(*run)(void *), void *argument)
{
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, before;
    int error = pthread_attr_init(&attributes);
    if (error != 0) {
        return error;
    }
    pthread_attr_setstacksize(&attributes, THREAD_STACK);
    sigfillset(&all);
    for (size_t i = 0; i < sizeof(thread_faults) / sizeof(int); i++) {
        sigdelset(&all, thread_faults[i]);
    }
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&thread, &attributes, run, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return error;
}

/// A condition

/* Make `condition` one that thread_wait() can wait for. */
static inline void
thread_condition_init(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
#ifndef __APPLE__
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
#endif
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

/// A deadline

/* Return the time `seconds` from now, for thread_wait(). */
static inline struct timespec
thread_deadline(double seconds)
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

/// Waiting

/* Wait until `deadline`, or until somebody signals, or for no reason. Returns
   0 or an error number. The caller has the lock. */
static inline int
thread_wait(pthread_cond_t *condition, pthread_mutex_t *lock,
            const struct timespec *deadline)
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
        rest = (struct timespec){0};
    }
    return pthread_cond_timedwait_relative_np(condition, lock, &rest);
#else
    return pthread_cond_timedwait(condition, lock, deadline);
#endif
}
