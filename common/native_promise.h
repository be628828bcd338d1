/* native_promise.h: a native future that somebody else completes, anywhere.

   In Python: concurrent.futures.Future, set by a thread.
   Use: #include "native_promise.h"; nothing to link. It needs no Python.
   Taught in book/04_native_future_bridge.md. */

/// What a promise needs

#pragma once
#include "native_future.h"

/// A promise

typedef struct Promise Promise;

typedef struct {
    /* Begin, with a reference more: somebody, in any thread, calls
       promise_fulfil() later, once. Return NULL, or why that cannot be. */
    const char *(*begin)(Promise *self);
    /* Give to the future what came of it, in the thread of its owner. */
    void (*finish)(Promise *self, NativeFuture *future);
    /* Free what it has besides its own memory. In any thread; or NULL. */
    void (*clear)(Promise *self);
} PromiseKind;

struct Promise {
    const PromiseKind *kind;
    _Atomic(Waker *) waker; /* or NULL before it begins, and at the end */
    const char *error; /* why it has failed */
    atomic_int outcome; /* what the next poll will say */
    atomic_int references; /* the future's, and of who will fulfil it */
};

/// Making and freeing

/* Return a promise of `size` bytes, all 0 but for the Promise that they begin
   with, with one reference, or NULL without memory. */
static inline Promise *
promise_new(const PromiseKind *kind, size_t size)
{
    Promise *self = calloc(1, size);
    if (self != NULL) {
        self->kind = kind;
        self->references = 1;
    }
    return self;
}

static inline void
promise_release(Promise *self)
{
    if (atomic_fetch_sub(&self->references, 1) > 1) {
        return;
    }
    if (self->kind->clear != NULL) {
        self->kind->clear(self);
    }
    free(self);
}

/// Fulfilling it

/* Say that the result is there, or with `error` that there will be none, and
   drop the reference that begin() was called with. In any thread. */
static inline void
promise_fulfil(Promise *self, const char *error)
{
    int pending = NATIVE_PENDING;
    int outcome = error == NULL ? NATIVE_READY : NATIVE_FAILED;
    self->error = error;
    atomic_compare_exchange_strong(&self->outcome, &pending, outcome);
    Waker *waker = atomic_exchange(&self->waker, NULL);
    waker_wake(&waker);
    promise_release(self);
}

/* Return 1 if nobody waits for it any more, else 0. In any thread. */
static inline int
promise_is_abandoned(Promise *self)
{
    return atomic_load(&self->outcome) == NATIVE_CANCELLED;
}

/// The future of a promise

typedef struct {
    NativeFuture future;
    Promise *promise; /* or NULL when it has ended */
    int has_begun;
} NativePromise;

static inline void
native_promise_cancel(NativeFuture *future)
{
    Promise *promise = ((NativePromise *)future)->promise;
    promise->outcome = NATIVE_CANCELLED;
    Waker *waker = atomic_exchange(&promise->waker, NULL);
    waker_clear(&waker);
}

/* Let go of the promise, which somebody may still fulfil, but for nobody. */
static inline void
native_promise_leave(NativeFuture *future)
{
    NativePromise *self = (NativePromise *)future;
    promise_release(self->promise);
    self->promise = NULL;
}

static inline void
native_promise_drop(NativeFuture *future)
{
    native_promise_cancel(future);
    native_promise_leave(future);
}

/// Polling a promise

static inline void
native_promise_begin(NativePromise *self, Waker *waker)
{
    Promise *promise = self->promise;
    self->has_begun = 1;
    promise->waker = waker_keep(waker);
    promise->references++;
    const char *error = promise->kind->begin(promise);
    if (error != NULL) {
        promise_fulfil(promise, error);
    }
}

static inline NativeState
native_promise_poll(NativeFuture *future, Waker *waker)
{
    NativePromise *self = (NativePromise *)future;
    Promise *promise = self->promise;
    if (!self->has_begun && !promise_is_abandoned(promise)) {
        native_promise_begin(self, waker);
        return NATIVE_PENDING;
    }
    NativeState outcome = (NativeState)atomic_load(&promise->outcome);
    if (outcome == NATIVE_PENDING) {
        return outcome;
    }
    if (outcome != NATIVE_CANCELLED) {
        future->error = promise->error;
        promise->kind->finish(promise, future);
    }
    native_promise_leave(future);
    return outcome;
}

/// A new future of a promise

static const NativeKind native_promise_kind = {
    .poll = native_promise_poll,
    .cancel = native_promise_cancel,
    .drop = native_promise_drop,
};

/* Make `self` the future of `promise`, and steal the reference to that. */
static inline void
native_promise_init(NativePromise *self, Promise *promise)
{
    *self = (NativePromise){
        .future = {.kind = &native_promise_kind},
        .promise = promise,
    };
}
