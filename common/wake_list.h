/* wake_list.h: a list to which any thread adds, and from which one takes all.

   In Python: collections.deque(), with append() and popleft().
   Use: #include "wake_list.h"; nothing to link. It needs no Python.
   Taught in book/04_native_future_bridge.md. */

/// What the list needs

#pragma once
#include <stdatomic.h>
#include <stddef.h>

/// A list without a lock

typedef struct WakeLink WakeLink;

struct WakeLink {
    WakeLink *next;
    atomic_int is_queued; /* claimed: in a list, or on its way there */
};

typedef struct {
    _Atomic(WakeLink *) last; /* added last, or NULL if the list is empty */
} WakeList;

/* What `last` is when nobody takes from the list any more. */
static WakeLink wake_list_closed;

/// Adding

/* Say that `link` is in a list from now on. Return 1 if it was in none, so
   that the caller has to add it, else 0. */
static inline int
wake_link_claim(WakeLink *link)
{
    return !atomic_load(&link->is_queued)
           && !atomic_exchange(&link->is_queued, 1);
}

enum { WAKE_CLOSED = -1, WAKE_ADDED, WAKE_FIRST };

/* Add `link`, which is in no list. Return WAKE_FIRST if the list was empty,
   WAKE_ADDED if not, or WAKE_CLOSED if it is closed, without adding. */
static inline int
wake_list_add(WakeList *list, WakeLink *link)
{
    WakeLink *seen = atomic_load(&list->last);
    do {
        if (seen == &wake_list_closed) {
            return WAKE_CLOSED;
        }
        link->next = seen;
    } while (!atomic_compare_exchange_weak(&list->last, &seen, link));
    return seen == NULL ? WAKE_FIRST : WAKE_ADDED;
}

/// In order

/* Return the links from `last` on, in the order in which they were added. */
static inline WakeLink *
wake_list_reverse(WakeLink *last)
{
    WakeLink *first = NULL;
    while (last != NULL) {
        WakeLink *before = last->next;
        last->next = first;
        first = last;
        last = before;
    }
    return first;
}

/// Taking

/* Return all links, in the order in which they were added, for
   wake_list_next(). The list is empty then. */
static inline WakeLink *
wake_list_take(WakeList *list)
{
    return wake_list_reverse(atomic_exchange(&list->last, NULL));
}

/* Do the same, and close the list for ever. */
static inline WakeLink *
wake_list_close(WakeList *list)
{
    return wake_list_reverse(atomic_exchange(&list->last, &wake_list_closed));
}

/* Return 1 if nobody takes from the list any more, else 0. */
static inline int
wake_list_is_closed(WakeList *list)
{
    return atomic_load(&list->last) == &wake_list_closed;
}

/* Return the first of the links that were taken, which may be added again from
   now on, or NULL at the end. */
static inline WakeLink *
wake_list_next(WakeLink **taken)
{
    WakeLink *link = *taken;
    if (link != NULL) {
        *taken = link->next;
        atomic_store(&link->is_queued, 0);
    }
    return link;
}
