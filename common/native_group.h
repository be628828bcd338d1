/* native_group.h: many native futures as one: all of them, or the first.

   In Python: class Group of chapter 4's model.py.
   Use: #include "native_group.h"; nothing to link. It needs no Python.
   Taught in book/04_native_future_bridge.md. */

/// What a group needs

#pragma once
#include <stdint.h>
#include "native_future.h"
#include "wake_list.h"

/// A group and its members

#define GROUP_NOBODY SIZE_MAX

typedef struct GroupMembers GroupMembers;

typedef struct {
    Waker waker; /* the waker of this child; comes first */
    WakeLink link; /* in the list `woken` */
    GroupMembers *all;
    NativeFuture *child;
    atomic_int references; /* the group's and those to the waker */
} GroupMember;

struct GroupMembers {
    atomic_size_t alive; /* how many members are referred to */
    WakeList woken; /* whom it is worth while to poll */
    Waker *outer; /* what wakes the group, or NULL before its first poll */
    size_t count;
    GroupMember each[];
};

typedef struct {
    NativeFuture future;
    GroupMembers *members; /* or NULL when it has ended */
    size_t left; /* how many children are pending */
    size_t decider; /* the place of who decided, or GROUP_NOBODY */
    NativeState decision; /* what the last poll will say */
    char is_select; /* the first decides */
    char is_cancelled;
    char polls_all; /* not only who was woken */
} NativeGroup;

/// The waker of a member

static inline void
member_wake(Waker *waker)
{
    GroupMember *self = (GroupMember *)waker;
    GroupMembers *all = self->all;
    if (wake_link_claim(&self->link)
        && wake_list_add(&all->woken, &self->link) == WAKE_FIRST) {
        all->outer->kind->wake(all->outer);
    }
}

static inline void
member_keep(Waker *waker)
{
    atomic_fetch_add(&((GroupMember *)waker)->references, 1);
}

static inline void
member_release(Waker *waker)
{
    GroupMember *self = (GroupMember *)waker;
    GroupMembers *all = self->all;
    if (atomic_fetch_sub(&self->references, 1) == 1
        && atomic_fetch_sub(&all->alive, 1) == 1) {
        waker_clear(&all->outer);
        free(all);
    }
}

static const WakerKind member_kind = {
    .wake = member_wake,
    .keep = member_keep,
    .release = member_release,
};

/// The end of a child

/* Cancel the children that are pending. */
static inline void
group_cancel_children(NativeGroup *self)
{
    self->polls_all = 1;
    for (size_t i = 0; i < self->members->count; i++) {
        NativeFuture *child = self->members->each[i].child;
        if (child->state == NATIVE_PENDING) {
            native_cancel(child);
        }
    }
}

/* Let the end of a child decide over all, if it does. */
static inline void
group_end_child(NativeGroup *self, GroupMember *member)
{
    NativeState state = member->child->state;
    int decides = self->is_cancelled
                      ? state == NATIVE_FAILED
                      : self->is_select || state != NATIVE_READY;
    self->left--;
    if (decides && self->decider == GROUP_NOBODY) {
        self->decider = (size_t)(member - self->members->each);
        self->decision = state;
        if (!self->is_cancelled) {
            group_cancel_children(self);
        }
    }
}

/// Polling the children

static inline void
group_poll_child(NativeGroup *self, GroupMember *member)
{
    NativeFuture *child = member->child;
    if (child->state == NATIVE_PENDING
        && native_poll(child, &member->waker) != NATIVE_PENDING) {
        group_end_child(self, member);
    }
}

static inline void
group_poll_children(NativeGroup *self)
{
    WakeLink *taken = wake_list_take(&self->members->woken);
    WakeLink *link;
    while ((link = wake_list_next(&taken)) != NULL) {
        size_t offset = offsetof(GroupMember, link);
        group_poll_child(self, (GroupMember *)((char *)link - offset));
    }
    while (self->polls_all) {
        self->polls_all = 0;
        for (size_t i = 0; i < self->members->count; i++) {
            group_poll_child(self, &self->members->each[i]);
        }
    }
}

/// Polling a group

/* Let go of the members, which wakers may still refer to. */
static inline void
group_leave(NativeGroup *self)
{
    GroupMembers *members = self->members;
    self->members = NULL;
    for (size_t i = members->count; i > 0; i--) {
        member_release(&members->each[i - 1].waker);
    }
}

static inline NativeState
group_poll(NativeFuture *future, Waker *waker)
{
    NativeGroup *self = (NativeGroup *)future;
    if (self->members->outer == NULL) {
        self->members->outer = waker_keep(waker);
    }
    group_poll_children(self);
    if (self->left > 0) {
        return NATIVE_PENDING;
    }
    group_leave(self);
    return self->decision;
}

/// Cancelling a group

static inline void
group_cancel(NativeFuture *future)
{
    NativeGroup *self = (NativeGroup *)future;
    self->is_cancelled = 1;
    if (self->decision != NATIVE_FAILED) {
        self->decider = GROUP_NOBODY;
        self->decision = NATIVE_CANCELLED;
    }
    group_cancel_children(self);
}

static inline void
group_drop(NativeFuture *future)
{
    NativeGroup *self = (NativeGroup *)future;
    for (size_t i = 0; i < self->members->count; i++) {
        NativeFuture *child = self->members->each[i].child;
        if (child->state == NATIVE_PENDING) {
            native_drop(child);
        }
    }
    group_leave(self);
}

static const NativeKind group_kind = {
    .poll = group_poll,
    .cancel = group_cancel,
    .drop = group_drop,
};

/// A new group

/* Make `self` a group of `count` children, at least one, which group_set()
   sets. Return 0, or -1 without memory. */
static inline int
group_init(NativeGroup *self, size_t count, int is_select)
{
    GroupMembers *members =
        calloc(1, sizeof(*members) + count * sizeof(members->each[0]));
    if (members == NULL) {
        return -1;
    }
    members->alive = count;
    members->count = count;
    *self = (NativeGroup){
        .future = {.kind = &group_kind},
        .members = members,
        .left = count,
        .decider = GROUP_NOBODY,
        .decision = NATIVE_READY,
        .is_select = (char)is_select,
        .polls_all = 1,
    };
    return 0;
}

/* Let `child` be the one at `place`, from 0 on. */
static inline void
group_set(NativeGroup *self, size_t place, NativeFuture *child)
{
    GroupMember *member = &self->members->each[place];
    member->waker.kind = &member_kind;
    member->references = 1;
    member->all = self->members;
    member->child = child;
}
