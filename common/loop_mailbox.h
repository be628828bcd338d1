/* loop_mailbox.h: an event loop reads the mailbox that threads write to.

   In Python: loop.add_reader(descriptor, read_mailbox, …).
   Use: #include "loop_mailbox.h"; link with -pthread. It needs the GIL.
   Taught in book/04_native_future_bridge.md. */

/// What a loop needs

#pragma once
#include <pthread.h>
#include "future.h"
#include "module_call.h"
#include "native_mailbox.h"

/// The mailboxes of all loops

static pthread_mutex_t mailboxes_lock = PTHREAD_MUTEX_INITIALIZER;
static Mailbox *mailboxes;

/* Return the mailbox of `loop`, with a reference, or NULL if it has none. */
static inline Mailbox *
mailboxes_find(PyObject *loop)
{
    pthread_mutex_lock(&mailboxes_lock);
    Mailbox *found = mailboxes;
    while (found != NULL && found->loop != loop) {
        found = found->next;
    }
    if (found != NULL) {
        found->references++;
    }
    pthread_mutex_unlock(&mailboxes_lock);
    return found;
}

static inline void
mailboxes_add(Mailbox *mailbox)
{
    pthread_mutex_lock(&mailboxes_lock);
    mailbox->next = mailboxes;
    mailboxes = mailbox;
    pthread_mutex_unlock(&mailboxes_lock);
}

static inline void
mailboxes_remove(Mailbox *mailbox)
{
    pthread_mutex_lock(&mailboxes_lock);
    Mailbox **link = &mailboxes;
    while (*link != NULL && *link != mailbox) {
        link = &(*link)->next;
    }
    if (*link != NULL) {
        *link = mailbox->next;
    }
    pthread_mutex_unlock(&mailboxes_lock);
}

/// Delivering

/* Let go on what waits for this mail: its future, which the mail owns. */
static inline void
mail_deliver(Mail *mail)
{
    Future *future = atomic_exchange(&mail->target, NULL);
    if (future == NULL) {
        return;
    }
    int status = 0;
    Py_BEGIN_CRITICAL_SECTION(future);
    if (future->state == PENDING) {
        status = future_set_result(future, Py_None);
    }
    Py_END_CRITICAL_SECTION();
    if (status < 0) {
        PyErr_WriteUnraisable((PyObject *)future);
    }
    Py_DECREF(future);
}

/* Let go on all that has a mail in `mailbox`, in order. */
static inline void
mailbox_deliver(Mailbox *mailbox)
{
    WakeLink *taken = wake_list_take(&mailbox->mails);
    WakeLink *link;
    while ((link = wake_list_next(&taken)) != NULL) {
        Mail *mail = (Mail *)((char *)link - offsetof(Mail, link));
        mail_deliver(mail);
        mail_release(&mail->waker);
    }
}

/// Reading

/* What the loop calls, with a capsule and itself, when the bell has rung. */
static inline PyObject *
mailbox_read(PyObject *Py_UNUSED(module), PyObject *const *args,
             Py_ssize_t count)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "read needs two arguments");
        return NULL;
    }
    Mailbox *mailbox = PyCapsule_GetPointer(args[0], "mailbox");
    if (mailbox == NULL) {
        return NULL;
    }
    if (mailbox->ring == mailbox_ring) { /* else it rings for the parent */
        mailbox_hush(mailbox);
    }
    mailbox_deliver(mailbox);
    Py_RETURN_NONE;
}

static PyMethodDef mailbox_read_method = {
    "read", (PyCFunction)(void (*)(void))mailbox_read, METH_FASTCALL, NULL};

/// The end of a loop

/* The loop reads no more: nobody shall add a mail any more. */
static inline void
mailbox_free_capsule(PyObject *capsule)
{
    Mailbox *mailbox = PyCapsule_GetPointer(capsule, "mailbox");
    mailboxes_remove(mailbox);
    mailbox->loop = NULL;
    WakeLink *left = wake_list_close(&mailbox->mails);
    WakeLink *link;
    while ((link = wake_list_next(&left)) != NULL) {
        mail_release(&((Mail *)((char *)link - offsetof(Mail, link)))->waker);
    }
    mailbox_release(mailbox);
}

/// A loop that cannot read

/* Replace what says that the loop has no add_reader() by RuntimeError. */
static inline void
mailbox_explain(void)
{
    if (!PyErr_ExceptionMatches(PyExc_NotImplementedError)
        && !PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return;
    }
    PyObject *cause = PyErr_GetRaisedException();
    PyErr_SetString(PyExc_RuntimeError,
                    "native futures need an event loop with add_reader()");
    PyObject *error = PyErr_GetRaisedException();
    PyException_SetCause(error, Py_NewRef(cause));
    PyException_SetContext(error, cause);
    PyErr_SetRaisedException(error);
}

/// A mailbox for a loop

/* Let `loop` call `read` when the bell of `mailbox` rings. Steals the
   reference to `mailbox`. Return 0, or -1 with an exception set. */
static inline int
mailbox_attach(Mailbox *mailbox, PyObject *loop, PyObject *read)
{
    PyObject *capsule =
        PyCapsule_New(mailbox, "mailbox", mailbox_free_capsule);
    if (capsule == NULL) {
        mailbox_release(mailbox);
        return -1;
    }
    PyObject *done = PyObject_CallMethod(
        loop, "add_reader", "iOOO", mailbox->read_end, read, capsule, loop);
    if (done == NULL) {
        mailbox_explain();
    }
    else {
        mailbox->loop = loop;
        mailbox->owner = PyCFunction_GetSelf(read);
        mailboxes_add(mailbox);
    }
    Py_XDECREF(done);
    Py_DECREF(capsule);
    return done == NULL ? -1 : 0;
}

/* Return a new mailbox for `loop`, with a reference, or NULL with an exception
   set. */
static inline Mailbox *
mailbox_make(PyObject *loop, PyObject *read)
{
    errno = 0;
    Mailbox *mailbox = mailbox_new();
    if (mailbox == NULL) {
        return (Mailbox *)PyErr_SetFromErrno(PyExc_OSError);
    }
    mailbox->references++;
    if (mailbox_attach(mailbox, loop, read) < 0) {
        mailbox_release(mailbox);
        return NULL;
    }
    return mailbox;
}

/// After a fork

/* In the child, the descriptors are the parent's too: do without them, except
   in a thread of C, which cannot deliver. */
static inline void
mailbox_ring_forked(Mailbox *self)
{
    if (PyGILState_GetThisThreadState() != NULL) {
        mailbox_deliver(self);
    }
    else {
        mailbox_ring(self);
    }
}

static inline PyObject *
mailboxes_after_fork(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    for (Mailbox *each = mailboxes; each != NULL; each = each->next) {
        if (each->owner == module) {
            each->ring = mailbox_ring_forked;
            mailbox_deliver(each);
        }
    }
    Py_RETURN_NONE;
}

static PyMethodDef mailboxes_fork_hook = {"after_fork", mailboxes_after_fork,
                                          METH_NOARGS, NULL};

static inline void
mailboxes_before_fork(void)
{
    pthread_mutex_lock(&mailboxes_lock);
}

static inline void
mailboxes_in_parent(void)
{
    pthread_mutex_unlock(&mailboxes_lock);
}

static inline void
mailboxes_in_child(void)
{
    pthread_mutex_init(&mailboxes_lock, NULL);
}

/// Watching for forks

static inline void
mailboxes_prepare(void)
{
    pthread_atfork(mailboxes_before_fork, mailboxes_in_parent,
                   mailboxes_in_child);
}

/* Let mailboxes know of forks. Return 0, or -1 with an exception set. */
static inline int
mailboxes_watch_forks(PyObject *module)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, mailboxes_prepare);
    PyObject *hook = PyCFunction_New(&mailboxes_fork_hook, module);
    if (hook == NULL) {
        return -1;
    }
    PyObject *kwargs = Py_BuildValue("{sN}", "after_in_child", hook);
    return module_call("os", "register_at_fork", PyTuple_New(0), kwargs);
}

/// The mailbox of a loop

/* Return the mailbox of `loop`, a new one if it has none, with a reference, or
   NULL with an exception set. */
static inline Mailbox *
mailbox_get(PyObject *loop, PyObject *read)
{
    Mailbox *mailbox = mailboxes_find(loop);
    if (mailbox == NULL) {
        return mailbox_make(loop, read);
    }
    if (mailbox->ring != mailbox_ring) {
        PyErr_SetString(PyExc_RuntimeError, native_forked);
        mailbox_release(mailbox);
        return NULL;
    }
    return mailbox;
}
