/* native_timer.h: one thread that wakes any number of sleepers.

   In Python: classes Sleep and Timer of chapter 4's model.py.
   Use: #include "native_timer.h"; link with -pthread. It needs no Python.
   Taught in book/04_native_future_bridge.md. */

/// What the timer needs

#pragma once
#include "native_future.h"
#include "native_thread.h"

/// A sleeper and the timer

typedef struct {
    NativeFuture future;
    double due; /* in how many seconds; once it has begun, at which time */
    Waker *waker; /* or NULL before it begins and when it has ended */
    unsigned int place; /* in the heap, or 0 */
    atomic_int outcome; /* what the next poll will say */
} NativeSleep;

typedef struct {
    pthread_mutex_t
        lock; /* of all this, and of the sleepers that have begun */
    pthread_cond_t changed; /* another sleeper is due first */
    NativeSleep **heap; /* from place 1 on; who stands there is due first */
    unsigned int count;
    unsigned int room;
    int has_thread;
} Timer;

static Timer timer = {.lock = PTHREAD_MUTEX_INITIALIZER};

/// The time

/* Return the time in seconds, by a clock that nobody sets. */
static inline double
timer_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/// Up the heap

/* Let `sleep` stand at `place` of the heap. */
static inline void
timer_put(NativeSleep *sleep, unsigned int place)
{
    timer.heap[place] = sleep;
    sleep->place = place;
}

/* Find the place of `sleep`, from `place` on upwards. */
static inline void
timer_rise(NativeSleep *sleep, unsigned int place)
{
    while (place > 1 && sleep->due < timer.heap[place / 2]->due) {
        timer_put(timer.heap[place / 2], place);
        place /= 2;
    }
    timer_put(sleep, place);
}

/// Down the heap

/* Find the place of `sleep`, from `place` on downwards. */
static inline void
timer_sink(NativeSleep *sleep, unsigned int place)
{
    unsigned int below;
    while ((below = 2 * place) <= timer.count) {
        NativeSleep **heap = timer.heap;
        if (below < timer.count && heap[below + 1]->due < heap[below]->due) {
            below++;
        }
        if (sleep->due <= heap[below]->due) {
            break;
        }
        timer_put(heap[below], place);
        place = below;
    }
    timer_put(sleep, place);
}

/// Into the heap

/* Put `sleep` into the heap. Return 0, or -1 without memory. */
static inline int
timer_add(NativeSleep *sleep)
{
    if (timer.count + 1 >= timer.room) {
        unsigned int room = timer.room == 0 ? 64 : timer.room * 2;
        NativeSleep **heap = realloc(timer.heap, room * sizeof(*heap));
        if (heap == NULL) {
            return -1;
        }
        timer.heap = heap;
        timer.room = room;
    }
    timer.count++;
    timer_rise(sleep, timer.count);
    return 0;
}

/// Out of the heap

/* Take `sleep` out of the heap, if it is there. */
static inline void
timer_remove(NativeSleep *sleep)
{
    unsigned int place = sleep->place;
    if (place == 0) {
        return;
    }
    sleep->place = 0;
    NativeSleep *last = timer.heap[timer.count];
    timer.count--;
    if (last != sleep) {
        timer_rise(last, place);
        timer_sink(last, last->place);
    }
}

/// Waking the sleepers

/* End `sleep`, and wake who waits for it. As soon as the outcome is written,
   the owner may free `sleep`. */
static inline void
timer_end(NativeSleep *sleep, NativeState outcome)
{
    timer_remove(sleep);
    Waker *waker = sleep->waker;
    sleep->waker = NULL;
    sleep->outcome = (int)outcome;
    waker_wake(&waker);
}

enum { TIMER_BATCH = 100 };

/* Wake who is due, but let others have the lock after some. Return the time in
   seconds until the next is due, or -1 if there is none. */
static inline double
timer_wake_due(void)
{
    double now = timer_now();
    for (int i = 0; i < TIMER_BATCH && timer.count > 0; i++) {
        NativeSleep *first = timer.heap[1];
        if (first->due > now) {
            return first->due - now;
        }
        timer_end(first, NATIVE_READY);
    }
    return timer.count > 0 ? 0 : -1;
}

/// The thread of the timer

static inline void *
timer_main(void *unused)
{
    pthread_detach(pthread_self());
    pthread_mutex_lock(&timer.lock);
    for (;;) {
        double left = timer_wake_due();
        if (left < 0) {
            pthread_cond_wait(&timer.changed, &timer.lock);
        }
        else {
            struct timespec deadline = thread_deadline(left);
            thread_wait(&timer.changed, &timer.lock, &deadline);
        }
    }
    return unused;
}

/// The timer and fork

static inline void
timer_before_fork(void)
{
    pthread_mutex_lock(&timer.lock);
}

static inline void
timer_in_parent(void)
{
    pthread_mutex_unlock(&timer.lock);
}

static inline void
timer_in_child(void)
{
    pthread_mutex_init(&timer.lock, NULL);
    thread_condition_init(&timer.changed);
    timer.has_thread = 0;
    while (timer.count > 0) {
        NativeSleep *lost = timer.heap[timer.count];
        lost->future.error = native_forked;
        timer_end(lost, NATIVE_FAILED);
    }
}

static inline void
timer_prepare(void)
{
    thread_condition_init(&timer.changed);
    pthread_atfork(timer_before_fork, timer_in_parent, timer_in_child);
}

/// Beginning to sleep

/* See to it that the timer has a thread. Return 0, or an error number. */
static inline int
timer_start(void)
{
    int error = timer.has_thread ? 0 : thread_start(timer_main, NULL);
    timer.has_thread = error == 0;
    return error;
}

/* Put `self` into the heap, or end it at once if that fails. */
static inline void
sleep_begin(NativeSleep *self, Waker *waker)
{
    self->due += timer_now();
    if (timer_start() != 0) {
        self->outcome = (int)native_fail(&self->future, native_no_thread);
    }
    else if (timer_add(self) < 0) {
        self->outcome = (int)native_fail(&self->future, native_no_memory);
    }
    else {
        self->waker = waker_keep(waker);
        if (self->place == 1) {
            pthread_cond_signal(&timer.changed);
        }
    }
}

/// Polling a sleeper

static inline NativeState
sleep_poll(NativeFuture *future, Waker *waker)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    NativeSleep *self = (NativeSleep *)future;
    if (self->outcome != NATIVE_PENDING) {
        return (NativeState)self->outcome;
    }
    if (self->due == 0) {
        self->outcome = NATIVE_READY;
        waker->kind->wake(waker);
        return NATIVE_PENDING;
    }
    pthread_once(&once, timer_prepare);
    pthread_mutex_lock(&timer.lock);
    if (self->outcome == NATIVE_PENDING && self->waker == NULL) {
        sleep_begin(self, waker);
    }
    NativeState outcome = (NativeState)self->outcome;
    pthread_mutex_unlock(&timer.lock);
    return outcome;
}

/// Ending a sleeper

static inline void
sleep_cancel(NativeFuture *future)
{
    NativeSleep *self = (NativeSleep *)future;
    pthread_mutex_lock(&timer.lock);
    timer_remove(self);
    waker_clear(&self->waker);
    self->outcome = NATIVE_CANCELLED;
    pthread_mutex_unlock(&timer.lock);
}

static const NativeKind sleep_kind = {
    .poll = sleep_poll,
    .cancel = sleep_cancel,
    .drop = sleep_cancel,
};

/* Make `self` a future that is ready `seconds` after it was polled first. */
static inline void
sleep_init(NativeSleep *self, double seconds)
{
    *self = (NativeSleep){.future = {.kind = &sleep_kind}, .due = seconds};
}
