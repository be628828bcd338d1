/* native_pool.h: a few threads that do one job after the other.

   In Python: classes Compute and Pool of chapter 4's model.py.
   Use: #include "native_pool.h"; link with -pthread. It needs no Python.
   Taught in book/04_native_future_bridge.md. */

/// What the pool needs

#pragma once
#include <unistd.h>
#include "native_promise.h"
#include "native_thread.h"
#include "wake_list.h"

/// A job

typedef struct PoolJob PoolJob;

struct PoolJob {
    Promise promise; /* comes first; its `begin` is pool_add() */
    WakeLink link;   /* in the queue */
    /* Do the work, in a thread of the pool. Return NULL, or why it failed. */
    const char *(*run)(PoolJob *self);
};

/// The pool

enum { POOL_THREADS = 16 }; /* at most; else one for each processor */

static struct {
    WakeList added; /* jobs: anybody may add, without the lock */
    atomic_long begun; /* how many jobs were added */
    atomic_int threads;
    pthread_mutex_t lock; /* for all that follows */
    pthread_cond_t called;
    WakeLink *queue; /* the jobs that were taken out of `added` */
    PoolJob *running[POOL_THREADS]; /* what each thread works on, or NULL */
    int most; /* threads */
    int idle;
    long ended; /* how many jobs have left */
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER,
          .called = PTHREAD_COND_INITIALIZER};

/// Calling a thread

static inline void *pool_main(void *argument);

/* Let one thread more see to the queue, if there can be one. The caller has
   the lock. */
static inline void
pool_call(void)
{
    int threads = pool.threads;
    if (pool.idle > 0) {
        pthread_cond_signal(&pool.called);
    }
    else if (threads < pool.most
             && thread_start(pool_main, &pool.running[threads]) == 0) {
        pool.threads = threads + 1;
    }
}

/// The queue

/* Take the first job, or return NULL if there is none. The caller has the
   lock. */
static inline PoolJob *
pool_take(void)
{
    if (pool.queue == NULL) {
        pool.queue = wake_list_take(&pool.added);
    }
    WakeLink *link = wake_list_next(&pool.queue);
    if (link == NULL) {
        return NULL;
    }
    return (PoolJob *)((char *)link - offsetof(PoolJob, link));
}

/* Wait for a job, and take it. The caller has the lock. */
static inline PoolJob *
pool_wait(void)
{
    PoolJob *job;
    while ((job = pool_take()) == NULL) {
        pool.idle++;
        pthread_cond_wait(&pool.called, &pool.lock);
        pool.idle--;
    }
    if (pool.queue != NULL || atomic_load(&pool.added.last) != NULL) {
        pool_call();
    }
    return job;
}

/// A thread of the pool

/* Say that `job` has run, with `error` or NULL. The caller has the lock. */
static inline void
pool_end(PoolJob *job, const char *error)
{
    pool.ended++;
    promise_fulfil(&job->promise, error);
}

static inline void *
pool_main(void *argument)
{
    PoolJob **running = argument;
    pthread_detach(pthread_self());
    pthread_mutex_lock(&pool.lock);
    for (;;) {
        PoolJob *job = *running = pool_wait();
        pthread_mutex_unlock(&pool.lock);
        const char *error = NULL;
        if (!promise_is_abandoned(&job->promise)) {
            error = job->run(job);
        }
        pthread_mutex_lock(&pool.lock);
        *running = NULL;
        pool_end(job, error);
    }
    return NULL;
}

/// The pool and fork

static inline void
pool_before_fork(void)
{
    pthread_mutex_lock(&pool.lock);
}

static inline void
pool_in_parent(void)
{
    pthread_mutex_unlock(&pool.lock);
}

/* End every job, since no thread is there. */
static inline void
pool_in_child(void)
{
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.called, NULL);
    for (int i = 0; i < POOL_THREADS; i++) {
        if (pool.running[i] != NULL) {
            pool_end(pool.running[i], native_forked);
            pool.running[i] = NULL;
        }
    }
    PoolJob *lost;
    while ((lost = pool_take()) != NULL) {
        pool_end(lost, native_forked);
    }
    pool.threads = pool.idle = 0;
}

static inline void
pool_prepare(void)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    pool.most = processors > 0 && processors < POOL_THREADS ? (int)processors
                                                            : POOL_THREADS;
    pthread_atfork(pool_before_fork, pool_in_parent, pool_in_child);
}

/// Adding a job

/* Start the first thread, if there is none. Return NULL, or why not. */
static inline const char *
pool_start(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, pool_prepare);
    if (pool.threads > 0) {
        return NULL;
    }
    pthread_mutex_lock(&pool.lock);
    pool_call();
    pthread_mutex_unlock(&pool.lock);
    return pool.threads > 0 ? NULL : native_no_thread;
}

/* Add a job, a PoolJob, to the queue. Return NULL, or why not. */
static inline const char *
pool_add(Promise *promise)
{
    PoolJob *job = (PoolJob *)promise;
    const char *error = pool_start();
    if (error != NULL) {
        return error;
    }
    pool.begun++;
    if (wake_list_add(&pool.added, &job->link) == WAKE_FIRST) {
        pthread_mutex_lock(&pool.lock);
        pool_call();
        pthread_mutex_unlock(&pool.lock);
    }
    return NULL;
}
