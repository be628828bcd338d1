/* native_mailbox.h: where threads leave what shall go on in another thread.

   In Python: class Mailbox of chapter 4's model.py.
   Use: #include "native_mailbox.h"; nothing to link. It needs no Python.
   Taught in book/04_native_future_bridge.md. */

/// What a mailbox needs

#pragma once
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/eventfd.h>
#endif
#include "native_future.h"
#include "wake_list.h"

/// A mailbox

typedef struct Mailbox Mailbox;

struct Mailbox {
    Mailbox *next; /* in the list of who reads them */
    WakeList mails;
    atomic_int references; /* of who reads it, and of the mails */
    int read_end; /* becomes readable when the list is no longer empty */
    int write_end;
    atomic_long wakes;  /* how often a mail was added */
    atomic_long writes; /* how often the descriptor was written */
    void (*ring)(Mailbox *self); /* tells who reads it */
    const void
        *loop; /* for which loop, and of which module, it is: these two */
    const void *owner; /* are only compared */
};

/// The descriptors

/* Open both ends. Return 0, or -1 with errno set. */
static inline int
mailbox_open(Mailbox *self)
{
#ifdef __linux__
    self->read_end = self->write_end = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return self->read_end < 0 ? -1 : 0;
#else
    int ends[2];
    if (pipe(ends) < 0) {
        return -1;
    }
    for (int i = 0; i < 2; i++) {
        fcntl(ends[i], F_SETFD, FD_CLOEXEC);
        fcntl(ends[i], F_SETFL, O_NONBLOCK);
    }
    self->read_end = ends[0];
    self->write_end = ends[1];
    return 0;
#endif
}

/// The bell

/* Make the read end readable. If it cannot take more, it is already. */
static inline void
mailbox_ring(Mailbox *self)
{
    uint64_t one = 1;
    atomic_fetch_add(&self->writes, 1);
    while (write(self->write_end, &one, sizeof(one)) < 0 && errno == EINTR) {
    }
}

/* Make the read end unreadable. */
static inline void
mailbox_hush(Mailbox *self)
{
    char bytes[64];
    ssize_t count;
    do {
        count = read(self->read_end, bytes, sizeof(bytes));
    } while (count == sizeof(bytes) || (count < 0 && errno == EINTR));
}

/// The life of a mailbox

/* Return a new mailbox with one reference, or NULL with errno set. */
static inline Mailbox *
mailbox_new(void)
{
    Mailbox *self = calloc(1, sizeof(*self));
    if (self == NULL || mailbox_open(self) < 0) {
        free(self);
        return NULL;
    }
    self->references = 1;
    self->ring = mailbox_ring;
    return self;
}

/* Drop a reference; the last one closes the descriptors. */
static inline void
mailbox_release(Mailbox *self)
{
    if (atomic_fetch_sub(&self->references, 1) > 1) {
        return;
    }
    close(self->read_end);
    if (self->write_end != self->read_end) {
        close(self->write_end);
    }
    free(self);
}

/// A mail

typedef struct {
    Waker waker; /* comes first */
    WakeLink link;
    Mailbox *mailbox;
    _Atomic(void *) target; /* what shall go on: for who reads it */
    atomic_int references;
} Mail;

static inline void
mail_release(Waker *waker)
{
    Mail *self = (Mail *)waker;
    if (atomic_fetch_sub(&self->references, 1) == 1) {
        mailbox_release(self->mailbox);
        free(self);
    }
}

static inline void
mail_keep(Waker *waker)
{
    atomic_fetch_add(&((Mail *)waker)->references, 1);
}

/// Waking by mail

static inline void
mail_wake(Waker *waker)
{
    Mail *self = (Mail *)waker;
    Mailbox *mailbox = self->mailbox;
    if (!wake_link_claim(&self->link)) {
        return;
    }
    mail_keep(waker);
    switch (wake_list_add(&mailbox->mails, &self->link)) {
    case WAKE_CLOSED:
        mail_release(waker);
        return;
    case WAKE_FIRST:
        mailbox->ring(mailbox);
        break;
    }
    atomic_fetch_add(&mailbox->wakes, 1);
}

static const WakerKind mail_kind = {
    .wake = mail_wake,
    .keep = mail_keep,
    .release = mail_release,
};

/// A new mail

/* Return a waker that goes through `mailbox`, with one reference, or NULL
   without memory. */
static inline Mail *
mail_new(Mailbox *mailbox)
{
    Mail *self = calloc(1, sizeof(*self));
    if (self != NULL) {
        self->waker.kind = &mail_kind;
        self->references = 1;
        self->mailbox = mailbox;
        atomic_fetch_add(&mailbox->references, 1);
    }
    return self;
}
