/* native_timeout.h: a native future that must not take too long.

   In Python: class Timeout of chapter 4's model.py, and asyncio.timeout().
   Use: #include "native_timeout.h"; link with -pthread. It needs no Python.
   Taught in book/04_native_future_bridge.md. */

/// What a limit needs

#pragma once
#include "native_timer.h"

/// A child and a limit

typedef struct {
    NativeFuture future;
    NativeFuture *child;
    NativeSleep limit;
    int is_cancelled;
} NativeTimeout;

static const char native_timed_out[] = "timed out";

/// Polling both

/* If the limit ends now, cancel the child. Return 1 then, else 0. */
static inline int
timeout_expires(NativeTimeout *self, Waker *waker)
{
    if (self->limit.future.state != NATIVE_PENDING
        || native_poll(&self->limit.future, waker) == NATIVE_PENDING) {
        return 0;
    }
    native_cancel(self->child);
    return 1;
}

/* Forget the limit, if it is still there. */
static inline void
timeout_lift(NativeTimeout *self)
{
    if (self->limit.future.state == NATIVE_PENDING) {
        native_drop(&self->limit.future);
    }
}

/// Polling a child with a limit

static inline NativeState
timeout_poll(NativeFuture *future, Waker *waker)
{
    NativeTimeout *self = (NativeTimeout *)future;
    NativeState state = native_poll(self->child, waker);
    if (state == NATIVE_PENDING && timeout_expires(self, waker)) {
        state = native_poll(self->child, waker);
    }
    if (state == NATIVE_PENDING) {
        return state;
    }
    int is_over = self->limit.future.state != NATIVE_PENDING;
    timeout_lift(self);
    if (state == NATIVE_CANCELLED && is_over && !self->is_cancelled) {
        const char *why = self->limit.future.error;
        return native_fail(future, why != NULL ? why : native_timed_out);
    }
    return state;
}

/// Ending early

static inline void
timeout_cancel(NativeFuture *future)
{
    NativeTimeout *self = (NativeTimeout *)future;
    self->is_cancelled = 1;
    timeout_lift(self);
    if (self->child->state == NATIVE_PENDING) {
        native_cancel(self->child);
    }
}

static inline void
timeout_drop(NativeFuture *future)
{
    NativeTimeout *self = (NativeTimeout *)future;
    timeout_lift(self);
    if (self->child->state == NATIVE_PENDING) {
        native_drop(self->child);
    }
}

static const NativeKind timeout_kind = {
    .poll = timeout_poll,
    .cancel = timeout_cancel,
    .drop = timeout_drop,
};

/// A new limit

/* Make `self` a future of `child`, for which it has so many `seconds`. */
static inline void
timeout_init(NativeTimeout *self, NativeFuture *child, double seconds)
{
    *self = (NativeTimeout){
        .future = {.kind = &timeout_kind},
        .child = child,
    };
    sleep_init(&self->limit, seconds);
}
