/* native_future.h: what C calls a future and a waker, after Rust's model.

   In Python: class NativeFuture of chapters/04_native_future_bridge/model.py.
   Use: #include "native_future.h"; nothing to link. It needs no Python.
   Taught in book/04_native_future_bridge.md. */

/// What native futures need

#pragma once
#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

/// A waker

typedef struct Waker Waker;

/* All three in any thread, any number of times, also when what is woken is
   gone, as long as the caller has a reference. None may block or poll. */
typedef struct {
    void (*wake)(Waker *self);    /* it is worth while to poll again */
    void (*keep)(Waker *self);    /* one reference more */
    void (*release)(Waker *self); /* one less; the last one frees it */
} WakerKind;

struct Waker {
    const WakerKind *kind;
};

/// Keeping a waker

/* Return a new reference to `waker`. */
static inline Waker *
waker_keep(Waker *waker)
{
    waker->kind->keep(waker);
    return waker;
}

/* Drop the reference in `*slot`, if there is one. */
static inline void
waker_clear(Waker **slot)
{
    Waker *waker = *slot;
    *slot = NULL;
    if (waker != NULL) {
        waker->kind->release(waker);
    }
}

/* Wake the waker in `*slot`, if there is one, and drop that reference. */
static inline void
waker_wake(Waker **slot)
{
    if (*slot != NULL) {
        (*slot)->kind->wake(*slot);
        waker_clear(slot);
    }
}

/// A native future

typedef enum {
    NATIVE_PENDING,
    NATIVE_READY,
    NATIVE_FAILED,
    NATIVE_CANCELLED
} NativeState;

typedef struct NativeFuture NativeFuture;

/* Its owner, one thread at a time, polls it until it is not NATIVE_PENDING any
   more, or drops it instead. Then it holds nothing but its outcome, and the
   owner may free its memory. */
typedef struct {
    /* Go on. If pending, keep `waker`, the same in each call, and wake it when
       it is worth while to call again. To call without a reason is allowed. */
    NativeState (*poll)(NativeFuture *self, Waker *waker);
    /* End early. The owner polls at once, and until it has ended. */
    void (*cancel)(NativeFuture *self);
    /* End now: nobody will poll again. */
    void (*drop)(NativeFuture *self);
} NativeKind;

struct NativeFuture {
    const NativeKind *kind;
    const char *error; /* why it has failed, if C knows */
    NativeState state; /* what the last poll said; once dropped, cancelled */
};

/// Calling a native future

static inline NativeState
native_poll(NativeFuture *self, Waker *waker)
{
    assert(self->state == NATIVE_PENDING);
    self->state = self->kind->poll(self, waker);
    return self->state;
}

static inline void
native_cancel(NativeFuture *self)
{
    assert(self->state == NATIVE_PENDING);
    self->kind->cancel(self);
}

static inline void
native_drop(NativeFuture *self)
{
    assert(self->state == NATIVE_PENDING);
    self->kind->drop(self);
    self->state = NATIVE_CANCELLED;
}

/// Why a native future fails

static const char native_no_memory[] = "out of memory";
static const char native_no_thread[] = "can't start new thread";
static const char native_forked[] =
    "this process was forked, and the thread that worked was not";

/* Fail with `error`; returns what a poll returns. */
static inline NativeState
native_fail(NativeFuture *self, const char *error)
{
    self->error = error;
    return NATIVE_FAILED;
}
