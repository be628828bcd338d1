/* native_futures.c: tests of the native headers of chapter 4, without Python.

   Run it: python3 run.py test native_future_bridge
   Or one case alone: the program that this builds, with its name. */

/// What fails on purpose

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define FOREVER 1000000

static atomic_int memory_left = FOREVER; /* so many allocations succeed */
static atomic_int threads_left = FOREVER;
static atomic_int blocks; /* from calloc(), and not freed yet */

static int
take_one(atomic_int *left)
{
    if (*left >= FOREVER) {
        return 1;
    }
    if (*left == 0) {
        return 0;
    }
    --*left;
    return 1;
}

static void *
test_calloc(size_t count, size_t size)
{
    if (!take_one(&memory_left)) {
        errno = ENOMEM;
        return NULL;
    }
    blocks++;
    return calloc(count, size);
}

static void *
test_realloc(void *block, size_t size)
{
    return take_one(&memory_left) ? realloc(block, size) : NULL;
}

static void
test_free(void *block)
{
    if (block != NULL) {
        blocks--;
    }
    free(block);
}

static int
test_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                    void *(*run)(void *), void *argument)
{
    if (!take_one(&threads_left)) {
        return EAGAIN;
    }
    return pthread_create(thread, attributes, run, argument);
}

#define calloc test_calloc
#define realloc test_realloc
#define free test_free
#define pthread_create test_pthread_create
#include "native_group.h"
#include "native_mailbox.h"
#include "native_pool.h"
#include "native_timeout.h"
#undef pthread_create
#undef free
#undef realloc
#undef calloc

/// Checking

#define CHECK(condition)                                                      \
    do {                                                                      \
        if (!(condition)) {                                                   \
            fprintf(stderr, "%s:%d: %s: not %s\n", __FILE__, __LINE__,        \
                    __func__, #condition);                                    \
            _exit(1);                                                         \
        }                                                                     \
    } while (0)

/* Wait until `condition`, and fail if that takes half a minute. */
#define EVENTUALLY(condition)                                                 \
    do {                                                                      \
        double until = timer_now() + 30;                                      \
        while (!(condition)) {                                                \
            CHECK(timer_now() < until || !#condition);                        \
            sched_yield();                                                    \
        }                                                                     \
    } while (0)

static const double HOUR = 3600;

/* Return a number below `limit`, the same ones in each run. */
static unsigned int
number_below(unsigned int limit)
{
    static _Thread_local unsigned int last = 12345;
    last = last * 1664525u + 1013904223u;
    return (unsigned int)(((unsigned long long)last * limit) >> 32);
}

/* Return from 0 to `seconds`. */
static double
some_of(double seconds)
{
    return seconds * number_below(1000) / 1000;
}

static void *
checked(void *result)
{
    CHECK(result != NULL);
    return result;
}

static pthread_t
start(void *(*run)(void *), void *argument)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, run, argument) == 0);
    return thread;
}

/// An executor

typedef struct {
    Waker waker; /* comes first */
    atomic_int references;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int is_woken;
    atomic_long wakes;
} Runner;

static void
runner_wake(Waker *waker)
{
    Runner *self = (Runner *)waker;
    CHECK(self->references > 0);
    pthread_mutex_lock(&self->lock);
    self->is_woken = 1;
    self->wakes++;
    pthread_cond_signal(&self->changed);
    pthread_mutex_unlock(&self->lock);
}

static void
runner_keep(Waker *waker)
{
    CHECK(atomic_fetch_add(&((Runner *)waker)->references, 1) > 0);
}

static void
runner_release(Waker *waker)
{
    CHECK(atomic_fetch_sub(&((Runner *)waker)->references, 1) > 1);
}

static const WakerKind runner_kind = {
    .wake = runner_wake,
    .keep = runner_keep,
    .release = runner_release,
};

static void
runner_init(Runner *self)
{
    memset(self, 0, sizeof(*self));
    self->waker.kind = &runner_kind;
    self->references = 1;
    pthread_mutex_init(&self->lock, NULL);
    thread_condition_init(&self->changed);
}

/* Wait until `self` is woken, or was since the last time. */
static void
runner_wait(Runner *self)
{
    struct timespec deadline = thread_deadline(30);
    pthread_mutex_lock(&self->lock);
    while (!self->is_woken) {
        int error = thread_wait(&self->changed, &self->lock, &deadline);
        CHECK(error == 0 || !"nobody wakes");
    }
    self->is_woken = 0;
    pthread_mutex_unlock(&self->lock);
}

static NativeState
runner_finish(Runner *self, NativeFuture *future)
{
    while (native_poll(future, &self->waker) == NATIVE_PENDING) {
        runner_wait(self);
    }
    return future->state;
}

/* Check that nobody has the waker any more. */
static void
runner_end(Runner *self)
{
    EVENTUALLY(self->references == 1);
    pthread_mutex_lock(&self->lock); /* who released it has unlocked */
    pthread_mutex_unlock(&self->lock);
    pthread_mutex_destroy(&self->lock);
    pthread_cond_destroy(&self->changed);
}

static NativeState
finish(NativeFuture *future)
{
    Runner runner;
    runner_init(&runner);
    NativeState state = runner_finish(&runner, future);
    runner_end(&runner);
    return state;
}

/// A future that does what it is told

typedef struct {
    NativeFuture future;
    atomic_int outcome;    /* what the next poll says */
    NativeState on_cancel; /* what it is after a cancel */
    int wakes;             /* so many polls wake, and are pending */
    int hoards;            /* it keeps the waker for ever */
    Waker *waker;
    int polls, cancels, drops;
} Manual;

static NativeState
manual_poll(NativeFuture *future, Waker *waker)
{
    Manual *self = (Manual *)future;
    self->polls++;
    if (self->waker == NULL) {
        self->waker = waker_keep(waker);
    }
    CHECK(self->waker == waker);
    if (self->wakes > 0) {
        self->wakes--;
        waker->kind->wake(waker);
        return NATIVE_PENDING;
    }
    if (self->outcome != NATIVE_PENDING && !self->hoards) {
        waker_clear(&self->waker);
    }
    return (NativeState)self->outcome;
}

static void
manual_cancel(NativeFuture *future)
{
    Manual *self = (Manual *)future;
    self->cancels++;
    if (self->on_cancel != NATIVE_PENDING) {
        self->outcome = (int)self->on_cancel;
    }
}

static void
manual_drop(NativeFuture *future)
{
    Manual *self = (Manual *)future;
    self->drops++;
    if (!self->hoards) {
        waker_clear(&self->waker);
    }
}

static const NativeKind manual_kind = {
    .poll = manual_poll,
    .cancel = manual_cancel,
    .drop = manual_drop,
};

static Manual
manual(NativeState outcome)
{
    return (Manual){
        .future = {.kind = &manual_kind},
        .outcome = (int)outcome,
        .on_cancel = NATIVE_CANCELLED,
    };
}

/* Let it end with `outcome`, and wake who waits. */
static void
manual_set(Manual *self, NativeState outcome)
{
    self->outcome = (int)outcome;
    if (self->waker != NULL) {
        self->waker->kind->wake(self->waker);
    }
}

/// A job that does what it is told

typedef struct {
    PoolJob job;
    int number;
    int result;
    atomic_int *runs;
    atomic_int *gate; /* it waits until this is not 0, or until abandoned */
    atomic_int *ended;
} TestJob;

typedef struct {
    NativePromise native;
    int result;
} TestWork;

static const char test_error[] = "odd";

static const char *
test_job_run(PoolJob *job)
{
    TestJob *self = (TestJob *)job;
    if (self->runs != NULL) {
        ++*self->runs;
    }
    while (self->gate != NULL && !*self->gate
           && !promise_is_abandoned(&job->promise)) {
        sched_yield();
    }
    self->result = self->number * 2;
    if (self->ended != NULL) {
        ++*self->ended;
    }
    return self->number % 2 == 0 ? NULL : test_error;
}

static void
test_job_finish(Promise *promise, NativeFuture *future)
{
    ((TestWork *)future)->result = ((TestJob *)promise)->result;
}

static const PromiseKind test_job_kind = {
    .begin = pool_add,
    .finish = test_job_finish,
};

/* Make `self` a job that gives 2 * `number`, or fails if that is odd. */
static TestJob *
work_init(TestWork *self, int number)
{
    Promise *promise = checked(promise_new(&test_job_kind, sizeof(TestJob)));
    TestJob *job = (TestJob *)promise;
    job->job.run = test_job_run;
    job->number = number;
    native_promise_init(&self->native, promise);
    self->result = -1;
    return job;
}

/* Wait until the pool has nothing to do. */
static void
pool_rest(void)
{
    for (long left = 1; left > 0; sched_yield()) {
        pthread_mutex_lock(&pool.lock);
        left = pool.begun - pool.ended;
        pthread_mutex_unlock(&pool.lock);
    }
}

/// One of each kind

enum {
    A_SHORT_SLEEP,
    A_LONG_SLEEP,
    NO_SLEEP,
    A_JOB,
    A_FAILING_JOB,
    AN_ENDLESS_JOB,
    A_JOIN,
    A_SELECT,
    A_TIMEOUT,
    A_SHORT_TIMEOUT,
    KINDS
};

static const NativeState outcomes[KINDS] = {
    [A_SHORT_SLEEP] = NATIVE_READY,  [A_LONG_SLEEP] = NATIVE_PENDING,
    [NO_SLEEP] = NATIVE_READY,       [A_JOB] = NATIVE_READY,
    [A_FAILING_JOB] = NATIVE_FAILED, [AN_ENDLESS_JOB] = NATIVE_PENDING,
    [A_JOIN] = NATIVE_FAILED,        [A_SELECT] = NATIVE_READY,
    [A_TIMEOUT] = NATIVE_PENDING,    [A_SHORT_TIMEOUT] = NATIVE_FAILED,
};

typedef struct Any Any;

struct Any {
    union {
        NativeFuture future;
        NativeSleep sleep;
        TestWork work;
        NativeGroup group;
        NativeTimeout timeout;
    } as;
    Any *children;
};

static atomic_int closed_gate;

static Any *
any_new(int kind)
{
    Any *self = checked(test_calloc(1, sizeof(*self)));
    self->children = checked(test_calloc(1, 1));
    static const int parts[KINDS][3] = {
        [A_JOIN] = {A_FAILING_JOB, A_LONG_SLEEP, AN_ENDLESS_JOB},
        [A_SELECT] = {AN_ENDLESS_JOB, A_LONG_SLEEP, A_SHORT_SLEEP},
        [A_TIMEOUT] = {A_LONG_SLEEP},
        [A_SHORT_TIMEOUT] = {AN_ENDLESS_JOB},
    };
    Any **children = NULL;
    if (kind >= A_JOIN) {
        test_free(self->children);
        children = checked(test_calloc(3, sizeof(*children)));
        self->children = (Any *)(void *)children;
        for (int i = 0; i < (kind >= A_TIMEOUT ? 1 : 3); i++) {
            children[i] = any_new(parts[kind][i]);
        }
    }
    switch (kind) {
    case A_SHORT_SLEEP:
    case A_LONG_SLEEP:
    case NO_SLEEP:
        sleep_init(&self->as.sleep, kind == A_SHORT_SLEEP  ? 0.001
                                    : kind == A_LONG_SLEEP ? HOUR
                                                           : 0);
        break;
    case A_JOB:
    case A_FAILING_JOB:
        work_init(&self->as.work, kind == A_JOB ? 2 : 3);
        break;
    case AN_ENDLESS_JOB:
        work_init(&self->as.work, 2)->gate = &closed_gate;
        break;
    case A_JOIN:
    case A_SELECT:
        CHECK(group_init(&self->as.group, 3, kind == A_SELECT) == 0);
        for (size_t i = 0; i < 3; i++) {
            group_set(&self->as.group, i, &children[i]->as.future);
        }
        break;
    default:
        timeout_init(&self->as.timeout, &children[0]->as.future,
                     kind == A_TIMEOUT ? HOUR : 0.001);
    }
    return self;
}

static void
any_free(Any *self, int kind)
{
    if (kind >= A_JOIN) {
        Any **children = (Any **)(void *)self->children;
        for (int i = 0; i < (kind >= A_TIMEOUT ? 1 : 3); i++) {
            any_free(children[i], 0);
        }
    }
    test_free(self->children);
    test_free(self);
}

/// The contract

/* Poll without a reason; who holds the waker holds no more for it. */
static void
poll_often(Runner *runner, NativeFuture *future)
{
    native_poll(future, &runner->waker);
    int references = runner->references;
    for (int i = 0; i < 5 && future->state == NATIVE_PENDING; i++) {
        native_poll(future, &runner->waker);
    }
    CHECK(runner->references <= references);
}

enum { TO_ITS_END, CANCEL, CANCEL_TWICE, DROP, WAYS };

static void
end_one(int kind, int way, int polls, int waits)
{
    Runner runner;
    runner_init(&runner);
    Any *any = any_new(kind);
    NativeFuture *future = &any->as.future;
    if (polls) {
        poll_often(&runner, future);
    }
    if (waits && outcomes[kind] != NATIVE_PENDING) {
        runner_wait(&runner); /* it has ended, but nobody knows */
    }
    if (way == DROP && future->state == NATIVE_PENDING) {
        native_drop(future);
        CHECK(future->state == NATIVE_CANCELLED);
    }
    for (int i = 0; i < (way == CANCEL_TWICE ? 2 : way == CANCEL); i++) {
        if (future->state == NATIVE_PENDING) {
            native_cancel(future);
        }
    }
    if (future->state == NATIVE_PENDING) {
        NativeState state = runner_finish(&runner, future);
        if (way == TO_ITS_END) {
            CHECK(state == outcomes[kind]);
        }
        else {
            CHECK(state == outcomes[kind] || state == NATIVE_CANCELLED);
        }
    }
    any_free(any, kind);
    runner_end(&runner);
}

static void
contract(void)
{
    for (int kind = 0; kind < KINDS; kind++) {
        for (int way = 0; way < WAYS; way++) {
            if (way == TO_ITS_END && outcomes[kind] == NATIVE_PENDING) {
                continue;
            }
            end_one(kind, way, 0, 0);
            end_one(kind, way, 1, 0);
            end_one(kind, way, 1, 1);
        }
    }
}

/* A waker may be used when what it woke is gone. */
static void
late_wakes(void)
{
    for (int ends_early = 0; ends_early < 3; ends_early++) {
        Runner runner;
        runner_init(&runner);
        Manual child = manual(NATIVE_PENDING);
        child.hoards = 1;
        NativeGroup group;
        CHECK(group_init(&group, 1, 0) == 0);
        group_set(&group, 0, &child.future);
        NativeTimeout timeout;
        timeout_init(&timeout, &group.future, HOUR);
        NativeFuture *future = &timeout.future;
        CHECK(native_poll(future, &runner.waker) == NATIVE_PENDING);
        if (ends_early == 0) {
            manual_set(&child, NATIVE_READY);
            CHECK(runner_finish(&runner, future) == NATIVE_READY);
        }
        else if (ends_early == 1) {
            native_cancel(future);
            CHECK(runner_finish(&runner, future) == NATIVE_CANCELLED);
        }
        else {
            native_drop(future);
        }
        memset(&group, 0xaa, sizeof(group));
        memset(&timeout, 0xaa, sizeof(timeout));
        for (int i = 0; i < 3; i++) {
            child.waker->kind->wake(child.waker);
        }
        CHECK(runner.references == 2);
        waker_clear(&child.waker);
        CHECK(runner.references == 1);
        runner_end(&runner);
    }
}

/// Wakes from many threads

enum { WAKERS = 4, WOKEN = 8, ROUNDS = 5000 };

typedef struct {
    Manual children[WOKEN];
    atomic_int goes;
} Crowd;

static void *
wake_crowd(void *argument)
{
    Crowd *crowd = argument;
    while (crowd->goes) {
        Waker *waker = crowd->children[number_below(WOKEN)].waker;
        waker->kind->wake(waker);
    }
    return NULL;
}

/* While threads wake for no reason, no wake for a reason is lost. */
static void
many_wakers(void)
{
    Runner runner;
    runner_init(&runner);
    Crowd crowd = {.goes = 1};
    NativeGroup group;
    CHECK(group_init(&group, WOKEN, 0) == 0);
    for (size_t i = 0; i < WOKEN; i++) {
        crowd.children[i] = manual(NATIVE_PENDING);
        crowd.children[i].hoards = 1;
        group_set(&group, i, &crowd.children[i].future);
    }
    CHECK(native_poll(&group.future, &runner.waker) == NATIVE_PENDING);
    pthread_t threads[WAKERS];
    for (int i = 0; i < WAKERS; i++) {
        threads[i] = start(wake_crowd, &crowd);
    }
    for (int i = 0; i < ROUNDS; i++) {
        runner_wait(&runner);
        CHECK(native_poll(&group.future, &runner.waker) == NATIVE_PENDING);
    }
    for (int i = 0; i < WOKEN; i++) {
        manual_set(&crowd.children[i], NATIVE_READY);
    }
    CHECK(runner_finish(&runner, &group.future) == NATIVE_READY);
    crowd.goes = 0;
    for (int i = 0; i < WAKERS; i++) {
        pthread_join(threads[i], NULL);
    }
    for (int i = 0; i < WOKEN; i++) {
        waker_clear(&crowd.children[i].waker);
    }
    runner_end(&runner);
}

/* Each thread completes children, once; the group polls until all are. */
typedef struct {
    Manual *children;
    int begin, end;
} Share;

static void *
set_share(void *argument)
{
    Share *share = argument;
    for (int i = share->begin; i < share->end; i++) {
        if (number_below(4) == 0) {
            sched_yield();
        }
        manual_set(&share->children[i], NATIVE_READY);
    }
    return NULL;
}

static void
no_wake_is_lost(void)
{
    enum { EACH = 8, ALL = WAKERS * EACH };
    for (int round = 0; round < 200; round++) {
        Runner runner;
        runner_init(&runner);
        Manual children[ALL];
        NativeGroup group;
        CHECK(group_init(&group, ALL, 0) == 0);
        for (size_t i = 0; i < ALL; i++) {
            children[i] = manual(NATIVE_PENDING);
            children[i].hoards = 1;
            group_set(&group, i, &children[i].future);
        }
        CHECK(native_poll(&group.future, &runner.waker) == NATIVE_PENDING);
        pthread_t threads[WAKERS];
        Share shares[WAKERS];
        for (int i = 0; i < WAKERS; i++) {
            shares[i] = (Share){children, i * EACH, (i + 1) * EACH};
            threads[i] = start(set_share, &shares[i]);
        }
        CHECK(runner_finish(&runner, &group.future) == NATIVE_READY);
        for (int i = 0; i < WAKERS; i++) {
            pthread_join(threads[i], NULL);
        }
        for (int i = 0; i < ALL; i++) {
            waker_clear(&children[i].waker);
        }
        runner_end(&runner);
    }
}

/// The list

static void
list_order(void)
{
    WakeList list = {NULL};
    WakeLink links[10] = {{NULL}};
    CHECK(wake_list_take(&list) == NULL);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 10; i++) {
            CHECK(wake_link_claim(&links[i]));
            CHECK(!wake_link_claim(&links[i]));
            CHECK(wake_list_add(&list, &links[i])
                  == (i == 0 ? WAKE_FIRST : WAKE_ADDED));
        }
        WakeLink *taken = wake_list_take(&list);
        for (int i = 0; i < 10; i++) {
            CHECK(!wake_link_claim(&links[i]));
            CHECK(wake_list_next(&taken) == &links[i]);
            if (i % 2) { /* it may be added again at once */
                CHECK(wake_link_claim(&links[i]));
                CHECK(wake_list_add(&list, &links[i])
                      == (i == 1 ? WAKE_FIRST : WAKE_ADDED));
            }
        }
        CHECK(wake_list_next(&taken) == NULL);
        taken = wake_list_take(&list);
        for (int i = 1; i < 10; i += 2) {
            CHECK(wake_list_next(&taken) == &links[i]);
        }
        CHECK(wake_list_next(&taken) == NULL);
    }
    CHECK(wake_list_add(&list, &links[3]) == WAKE_FIRST);
    CHECK(wake_list_add(&list, &links[5]) == WAKE_ADDED);
    WakeLink *left = wake_list_close(&list);
    CHECK(wake_list_next(&left) == &links[3]);
    CHECK(wake_list_next(&left) == &links[5]);
    CHECK(wake_list_next(&left) == NULL);
    for (int i = 0; i < 2; i++) {
        CHECK(wake_link_claim(&links[i]));
        CHECK(wake_list_add(&list, &links[i]) == WAKE_CLOSED);
    }
}

enum { LINKS = 50000 };

typedef struct {
    WakeLink link; /* comes first */
    int producer, number;
} Numbered;

typedef struct {
    WakeList *list;
    atomic_int *firsts;
    int producer;
    Numbered *links;
} Producer;

static void *
produce(void *argument)
{
    Producer *self = argument;
    for (int i = 0; i < LINKS; i++) {
        self->links[i].producer = self->producer;
        self->links[i].number = i;
        CHECK(wake_link_claim(&self->links[i].link));
        int added = wake_list_add(self->list, &self->links[i].link);
        CHECK(added != WAKE_CLOSED);
        *self->firsts += added == WAKE_FIRST;
    }
    return NULL;
}

static void
list_producers(void)
{
    WakeList list = {NULL};
    atomic_int firsts = 0;
    Producer producers[WAKERS];
    pthread_t threads[WAKERS];
    int next[WAKERS] = {0};
    for (int i = 0; i < WAKERS; i++) {
        Numbered *links = checked(calloc(LINKS, sizeof(Numbered)));
        producers[i] = (Producer){&list, &firsts, i, links};
        threads[i] = start(produce, &producers[i]);
    }
    int takes = 0;
    for (int count = 0; count < WAKERS * LINKS;) {
        WakeLink *taken = wake_list_take(&list);
        takes += taken != NULL;
        WakeLink *link;
        while ((link = wake_list_next(&taken)) != NULL) {
            Numbered *numbered = (Numbered *)link;
            CHECK(numbered->number == next[numbered->producer]++);
            count++;
        }
    }
    for (int i = 0; i < WAKERS; i++) {
        pthread_join(threads[i], NULL);
        free(producers[i].links);
    }
    CHECK(firsts == takes);
    CHECK(wake_list_take(&list) == NULL);
}

/// The timer

typedef struct {
    Waker waker; /* comes first */
    NativeSleep sleep;
    int position; /* as the how many-th it was woken, or -1 */
} Sleeper;

static atomic_int sleepers_woken;

static void
sleeper_wake(Waker *waker)
{
    Sleeper *self = (Sleeper *)waker;
    CHECK(self->position == -1);
    self->position = sleepers_woken++;
}

static void
sleeper_ignore(Waker *waker)
{
    (void)waker;
}

static const WakerKind sleeper_kind = {
    .wake = sleeper_wake,
    .keep = sleeper_ignore,
    .release = sleeper_ignore,
};

static int
sleeper_order(const void *a, const void *b)
{
    const Sleeper *one = a, *other = b;
    return (one->position > other->position)
           - (one->position < other->position);
}

static unsigned int
timer_count(void)
{
    pthread_mutex_lock(&timer.lock);
    unsigned int count = timer.count;
    pthread_mutex_unlock(&timer.lock);
    return count;
}

/* They are woken in the order of their deadlines, whatever is cancelled. */
static void
timer_order(void)
{
    enum { COUNT = 3000 };
    Sleeper *sleepers = checked(calloc(COUNT, sizeof(Sleeper)));
    sleepers_woken = 0;
    for (int i = 0; i < COUNT; i++) {
        Sleeper *one = &sleepers[i];
        one->waker.kind = &sleeper_kind;
        one->position = -1;
        sleep_init(&one->sleep, 0.001 + some_of(0.1));
        CHECK(native_poll(&one->sleep.future, &one->waker) == NATIVE_PENDING);
    }
    int cancelled = 0;
    for (int i = 0; i < COUNT; i += 3) {
        NativeFuture *future = &sleepers[i].sleep.future;
        if (native_poll(future, &sleepers[i].waker) == NATIVE_PENDING) {
            native_cancel(future);
            CHECK(native_poll(future, NULL) == NATIVE_CANCELLED);
            cancelled += sleepers[i].position == -1;
        }
    }
    EVENTUALLY(sleepers_woken == COUNT - cancelled);
    CHECK(timer_count() == 0);
    qsort(sleepers, COUNT, sizeof(Sleeper), sleeper_order);
    for (int i = 0; i < COUNT; i++) {
        Sleeper *one = &sleepers[i];
        CHECK(one->position == (i < cancelled ? -1 : i - cancelled));
        CHECK(i <= cancelled || one[-1].sleep.due <= one->sleep.due);
        if (i >= cancelled && one->sleep.future.state == NATIVE_PENDING) {
            CHECK(native_poll(&one->sleep.future, &one->waker)
                  == NATIVE_READY);
        }
    }
    free(sleepers);
}

static int
later(const void *a, const void *b)
{
    double one = *(const double *)a, other = *(const double *)b;
    return (one > other) - (one < other);
}

/* Check that everybody stands after who stands above, and knows where. */
static void
check_heap(unsigned int count)
{
    pthread_mutex_lock(&timer.lock);
    CHECK(timer.count == count);
    for (unsigned int i = 1; i <= timer.count; i++) {
        CHECK(timer.heap[i]->place == i);
        CHECK(i == 1 || timer.heap[i / 2]->due <= timer.heap[i]->due);
    }
    pthread_mutex_unlock(&timer.lock);
}

static void
timer_heap(void)
{
    enum { COUNT = 300 };
    NativeSleep sleeps[COUNT];
    Runner runner;
    runner_init(&runner);
    unsigned int there = 0;
    memset(sleeps, 0, sizeof(sleeps));
    for (int i = 0; i < 20 * COUNT; i++) {
        NativeSleep *one = &sleeps[number_below(COUNT)];
        if (one->place == 0) {
            sleep_init(one, HOUR + number_below(1000));
            CHECK(native_poll(&one->future, &runner.waker) == NATIVE_PENDING);
            CHECK(one->place != 0);
            there++;
        }
        else if (number_below(2)) {
            native_cancel(&one->future);
            CHECK(one->place == 0);
            CHECK(native_poll(&one->future, NULL) == NATIVE_CANCELLED);
            there--;
        }
        check_heap(there);
        CHECK(runner.references == 1 + (int)there);
    }
    double dues[COUNT];
    unsigned int count = 0;
    for (int i = 0; i < COUNT; i++) {
        if (sleeps[i].place != 0) {
            dues[count++] = sleeps[i].due;
        }
    }
    CHECK(count == there && count > 0);
    qsort(dues, count, sizeof(double), later);
    for (unsigned int i = 0; i < count; i++) {
        NativeSleep *first = timer.heap[1];
        CHECK(!(first->due < dues[i]) && !(first->due > dues[i]));
        native_drop(&first->future);
        check_heap(count - i - 1);
    }
    CHECK(runner.wakes == 0);
    runner_end(&runner);
}

static void
timer_earlier(void)
{
    Runner runner;
    runner_init(&runner);
    NativeSleep hour, soon;
    sleep_init(&hour, HOUR);
    for (int i = 0; i < 20; i++) {
        if (i % 10 == 0) {
            CHECK(native_poll(&hour.future, &runner.waker) == NATIVE_PENDING);
        }
        sleep_init(&soon, 0.001);
        CHECK(finish(&soon.future) == NATIVE_READY);
    }
    CHECK(runner.wakes == 0);
    native_drop(&hour.future);
    runner_end(&runner);
}

static void
timer_zero(void)
{
    Runner runner;
    runner_init(&runner);
    NativeSleep none;
    sleep_init(&none, 0);
    CHECK(native_poll(&none.future, &runner.waker) == NATIVE_PENDING);
    CHECK(runner.wakes == 1 && runner.references == 1);
    CHECK(timer_count() == 0);
    CHECK(native_poll(&none.future, &runner.waker) == NATIVE_READY);
    CHECK(runner.wakes == 1);
    runner_end(&runner);
}

static void
timer_crowd(void)
{
    enum { COUNT = 100000 };
    Runner runner;
    runner_init(&runner);
    NativeSleep *sleeps = checked(calloc(COUNT, sizeof(NativeSleep)));
    for (int i = 0; i < COUNT; i++) {
        sleep_init(&sleeps[i], 0.001 + some_of(0.2));
        CHECK(native_poll(&sleeps[i].future, &runner.waker) == NATIVE_PENDING);
    }
    EVENTUALLY(runner.wakes == COUNT);
    for (int i = 0; i < COUNT; i++) {
        CHECK(native_poll(&sleeps[i].future, &runner.waker) == NATIVE_READY);
    }
    CHECK(timer_count() == 0);
    runner_end(&runner);
    free(sleeps);
}

/* Cancel at the moment at which it is due. */
static void
timer_race(void)
{
    for (int i = 0; i < 2000; i++) {
        Runner runner;
        runner_init(&runner);
        NativeSleep *sleep = checked(calloc(1, sizeof(*sleep)));
        sleep_init(sleep, some_of(0.0002) + 1e-9);
        native_poll(&sleep->future, &runner.waker);
        double until = timer_now() + some_of(0.0002);
        while (timer_now() < until) {
        }
        if (sleep->future.state == NATIVE_PENDING) {
            if (i % 2) {
                native_drop(&sleep->future);
            }
            else {
                native_cancel(&sleep->future);
                CHECK(native_poll(&sleep->future, &runner.waker)
                      == NATIVE_CANCELLED);
            }
        }
        free(sleep);
        runner_end(&runner);
    }
    CHECK(timer_count() == 0);
}

/// The pool

static void
pool_runs(void)
{
    for (int i = 0; i < 100; i++) {
        TestWork work;
        work_init(&work, i);
        NativeState state = finish(&work.native.future);
        CHECK(state == (i % 2 ? NATIVE_FAILED : NATIVE_READY));
        CHECK(work.result == 2 * i);
        CHECK(work.native.future.error == (i % 2 ? test_error : NULL));
        CHECK(work.native.promise == NULL);
    }
    pool_rest();
}

/// A promise that is fulfilled at once

typedef struct {
    Promise promise;
    atomic_int *cleared;
} TestPromise;

static const char *
test_promise_begin(Promise *self)
{
    promise_fulfil(self, NULL);
    return NULL;
}

static const char *
test_promise_refuse(Promise *self)
{
    (void)self;
    return test_error;
}

static void
test_promise_finish(Promise *self, NativeFuture *future)
{
    (void)self;
    (void)future;
}

static void
test_promise_clear(Promise *self)
{
    ++*((TestPromise *)self)->cleared;
}

/* The first poll is pending, and has woken; then the promise ends, is cleared
   once, and freed. It may also be dropped, or cancelled, in between. */
static void
promise_at_once(const PromiseKind *kind, NativeState outcome)
{
    for (int way = 0; way < 3; way++) {
        Runner runner;
        runner_init(&runner);
        atomic_int cleared = 0;
        NativePromise self;
        Promise *promise = checked(promise_new(kind, sizeof(TestPromise)));
        ((TestPromise *)promise)->cleared = &cleared;
        native_promise_init(&self, promise);
        NativeFuture *future = &self.future;
        CHECK(native_poll(future, &runner.waker) == NATIVE_PENDING);
        CHECK(runner.wakes == 1 && runner.references == 1 && cleared == 0);
        if (way == 1) {
            native_drop(future);
        }
        else {
            if (way == 2) {
                native_cancel(future);
            }
            NativeState expected = way == 2 ? NATIVE_CANCELLED : outcome;
            CHECK(native_poll(future, &runner.waker) == expected);
        }
        CHECK(cleared == 1);
        runner_end(&runner);
    }
}

static void
promises(void)
{
    PromiseKind kind = {
        .begin = test_promise_begin,
        .finish = test_promise_finish,
        .clear = test_promise_clear,
    };
    promise_at_once(&kind, NATIVE_READY);
    kind.begin = test_promise_refuse;
    promise_at_once(&kind, NATIVE_FAILED);
}

/* A job that is cancelled before its first poll is none for the pool. */
static void
pool_never_begun(void)
{
    long begun = pool.begun;
    TestWork work;
    work_init(&work, 2);
    native_cancel(&work.native.future);
    CHECK(finish(&work.native.future) == NATIVE_CANCELLED);
    work_init(&work, 2);
    native_drop(&work.native.future);
    CHECK(pool.begun == begun && work.result == -1);
}

/* Give the pool so much to do that nothing else begins. */
static void
pool_block(TestWork *works, Runner *runner, atomic_int *gate)
{
    atomic_int runs = 0;
    CHECK(pool_start() == NULL);
    for (int i = 0; i < pool.most; i++) {
        TestJob *job = work_init(&works[i], 2 * i);
        job->gate = gate;
        job->runs = &runs;
        CHECK(native_poll(&works[i].native.future, &runner->waker)
              == NATIVE_PENDING);
    }
    EVENTUALLY(runs == pool.most);
}

static void
pool_cancelled(void)
{
    Runner runner;
    runner_init(&runner);
    atomic_int gate = 0, runs = 0;
    TestWork blocking[POOL_THREADS], waiting[10];
    pool_block(blocking, &runner, &gate);
    for (int i = 0; i < 10; i++) {
        work_init(&waiting[i], 2 * i)->runs = &runs;
        NativeFuture *future = &waiting[i].native.future;
        CHECK(native_poll(future, &runner.waker) == NATIVE_PENDING);
        if (i % 3 == 0) {
            native_cancel(future);
            CHECK(native_poll(future, &runner.waker) == NATIVE_CANCELLED);
        }
        else if (i % 3 == 1) {
            native_drop(future);
        }
    }
    gate = 1;
    for (int i = 0; i < pool.most; i++) {
        CHECK(runner_finish(&runner, &blocking[i].native.future)
              == NATIVE_READY);
        CHECK(blocking[i].result == 4 * i);
    }
    for (int i = 2; i < 10; i += 3) {
        CHECK(runner_finish(&runner, &waiting[i].native.future)
              == NATIVE_READY);
        CHECK(waiting[i].result == 4 * i);
    }
    pool_rest();
    CHECK(runs == 3); /* those that were given up were never run */
    runner_end(&runner);
}

static void
pool_cancelled_running(void)
{
    for (int way = 0; way < 2; way++) {
        Runner runner;
        runner_init(&runner);
        atomic_int gate = 0, ended = 0, runs = 0;
        TestWork work;
        TestJob *job = work_init(&work, 2);
        job->gate = &gate;
        job->ended = &ended;
        job->runs = &runs;
        CHECK(native_poll(&work.native.future, &runner.waker)
              == NATIVE_PENDING);
        EVENTUALLY(runs == 1);
        CHECK(ended == 0);
        if (way == 0) {
            native_cancel(&work.native.future);
            CHECK(runner_finish(&runner, &work.native.future)
                  == NATIVE_CANCELLED);
        }
        else {
            native_drop(&work.native.future);
        }
        CHECK(work.result == -1);
        runner_end(&runner);
        EVENTUALLY(ended == 1); /* it has noticed */
        pool_rest();
    }
}

static void *
produce_jobs(void *argument)
{
    atomic_int *runs = argument;
    enum { COUNT = 20 };
    for (int round = 0; round < 100; round++) {
        Runner runner;
        runner_init(&runner);
        TestWork works[COUNT];
        for (int i = 0; i < COUNT; i++) {
            work_init(&works[i], 2 * i)->runs = runs;
            native_poll(&works[i].native.future, &runner.waker);
        }
        for (int i = 0; i < COUNT; i++) {
            if (works[i].native.future.state == NATIVE_PENDING) {
                CHECK(runner_finish(&runner, &works[i].native.future)
                      == NATIVE_READY);
            }
            CHECK(works[i].result == 4 * i);
        }
        runner_end(&runner);
    }
    return NULL;
}

static void
pool_producers(void)
{
    atomic_int runs = 0;
    pthread_t threads[WAKERS];
    for (int i = 0; i < WAKERS; i++) {
        threads[i] = start(produce_jobs, &runs);
    }
    for (int i = 0; i < WAKERS; i++) {
        pthread_join(threads[i], NULL);
    }
    CHECK(runs == WAKERS * 100 * 20);
    pool_rest();
}

static void
pool_race(void)
{
    for (int i = 0; i < 3000; i++) {
        Runner runner;
        runner_init(&runner);
        TestWork work;
        work_init(&work, 2);
        native_poll(&work.native.future, &runner.waker);
        double until = timer_now() + some_of(0.00005);
        while (timer_now() < until) {
        }
        if (work.native.future.state == NATIVE_PENDING && i % 2) {
            native_drop(&work.native.future);
        }
        else if (work.native.future.state == NATIVE_PENDING) {
            native_cancel(&work.native.future);
            NativeState state = runner_finish(&runner, &work.native.future);
            CHECK(state == NATIVE_CANCELLED
                  || (state == NATIVE_READY && work.result == 4));
        }
        runner_end(&runner);
    }
    pool_rest();
}

/// Groups

enum { THREE = 3 };

typedef struct {
    NativeGroup group;
    Manual children[THREE];
    Runner runner;
} Family;

static NativeFuture *
family_init(Family *self, int is_select, NativeState first)
{
    runner_init(&self->runner);
    CHECK(group_init(&self->group, THREE, is_select) == 0);
    for (size_t i = 0; i < THREE; i++) {
        self->children[i] = manual(i == 0 ? first : NATIVE_PENDING);
        group_set(&self->group, i, &self->children[i].future);
    }
    return &self->group.future;
}

static NativeState
family_poll(Family *self)
{
    return native_poll(&self->group.future, &self->runner.waker);
}

static void
family_end(Family *self, NativeState state, size_t decider)
{
    CHECK(self->group.future.state == state);
    CHECK(self->group.decider == decider);
    CHECK(self->group.members == NULL);
    for (int i = 0; i < THREE; i++) {
        CHECK(self->children[i].waker == NULL);
    }
    CHECK(self->runner.references == 1);
    runner_end(&self->runner);
}

static void
group_joins(void)
{
    Family family;
    family_init(&family, 0, NATIVE_READY); /* it ends at the first poll */
    CHECK(family_poll(&family) == NATIVE_PENDING);
    CHECK(family_poll(&family) == NATIVE_PENDING);
    CHECK(family.children[1].polls == 1); /* only who was woken is polled */
    manual_set(&family.children[2], NATIVE_READY);
    CHECK(family.runner.wakes == 1);
    CHECK(family_poll(&family) == NATIVE_PENDING);
    CHECK(family.children[1].polls == 1 && family.children[2].polls == 2);
    manual_set(&family.children[1], NATIVE_READY);
    CHECK(family_poll(&family) == NATIVE_READY);
    CHECK(family.runner.wakes == 2);
    for (int i = 0; i < THREE; i++) {
        CHECK(family.children[i].cancels == 0);
    }
    family_end(&family, NATIVE_READY, GROUP_NOBODY);
}

static void
group_fails(void)
{
    Family family;
    family_init(&family, 0, NATIVE_PENDING);
    family.children[2].on_cancel = NATIVE_PENDING; /* it takes its time */
    CHECK(family_poll(&family) == NATIVE_PENDING);
    manual_set(&family.children[1], NATIVE_FAILED);
    CHECK(family_poll(&family) == NATIVE_PENDING);
    CHECK(family.children[0].cancels == 1 && family.children[2].cancels == 1);
    CHECK(family.children[0].future.state == NATIVE_CANCELLED);
    manual_set(&family.children[2], NATIVE_FAILED); /* too late to decide */
    CHECK(family_poll(&family) == NATIVE_FAILED);
    family_end(&family, NATIVE_FAILED, 1);
}

static void
group_fails_at_once(void)
{
    Family family;
    family_init(&family, 0, NATIVE_FAILED);
    CHECK(family_poll(&family) == NATIVE_FAILED);
    CHECK(family.children[1].cancels == 1 && family.children[2].cancels == 1);
    family_end(&family, NATIVE_FAILED, 0);
}

/* The last one fails, when the others have been polled already. */
static void
group_fails_last(void)
{
    Family family;
    family_init(&family, 0, NATIVE_PENDING);
    family.children[THREE - 1].outcome = (int)NATIVE_FAILED;
    CHECK(family_poll(&family) == NATIVE_FAILED);
    family_end(&family, NATIVE_FAILED, THREE - 1);
}

static void
group_child_cancelled(void)
{
    Family family;
    family_init(&family, 0, NATIVE_PENDING);
    CHECK(family_poll(&family) == NATIVE_PENDING);
    manual_set(&family.children[1], NATIVE_CANCELLED);
    CHECK(family_poll(&family) == NATIVE_CANCELLED);
    family_end(&family, NATIVE_CANCELLED, 1);
}

static void
group_selects(void)
{
    static const NativeState first[] = {NATIVE_READY, NATIVE_FAILED,
                                        NATIVE_CANCELLED};
    for (int i = 0; i < 3; i++) {
        Family family;
        family_init(&family, 1, NATIVE_PENDING);
        family.children[0].on_cancel = NATIVE_READY;
        CHECK(family_poll(&family) == NATIVE_PENDING);
        manual_set(&family.children[1], first[i]);
        CHECK(family_poll(&family) == first[i]);
        CHECK(family.children[0].cancels == 1);
        CHECK(family.children[2].cancels == 1);
        family_end(&family, first[i], 1);
        family_init(&family, 1, first[i]);
        CHECK(family_poll(&family) == first[i]);
        family_end(&family, first[i], 0);
    }
}

static void
group_cancelled(void)
{
    for (int is_select = 0; is_select < 2; is_select++) {
        for (int polls = 0; polls < 2; polls++) {
            Family family;
            NativeFuture *future =
                family_init(&family, is_select, NATIVE_PENDING);
            if (polls) {
                CHECK(family_poll(&family) == NATIVE_PENDING);
            }
            native_cancel(future);
            CHECK(family_poll(&family) == NATIVE_CANCELLED);
            family_end(&family, NATIVE_CANCELLED, GROUP_NOBODY);
            /* A failure says more than that it was cancelled. */
            future = family_init(&family, is_select, NATIVE_PENDING);
            family.children[2].on_cancel = NATIVE_FAILED;
            family.children[1].on_cancel = NATIVE_READY;
            if (polls) {
                CHECK(family_poll(&family) == NATIVE_PENDING);
            }
            native_cancel(future);
            CHECK(family_poll(&family) == NATIVE_FAILED);
            family_end(&family, NATIVE_FAILED, 2);
        }
    }
}

/* Cancel a group whose first child has decided, and another has not ended. */
static void
group_cancelled_late(void)
{
    for (int is_select = 0; is_select < 2; is_select++) {
        Family family;
        NativeState first = is_select ? NATIVE_READY : NATIVE_FAILED;
        NativeFuture *future = family_init(&family, is_select, first);
        family.children[1].on_cancel = NATIVE_PENDING;
        CHECK(family_poll(&family) == NATIVE_PENDING);
        native_cancel(future);
        CHECK(family.children[1].cancels == 2);
        CHECK(family_poll(&family) == NATIVE_PENDING);
        manual_set(&family.children[1], NATIVE_CANCELLED);
        NativeState last = is_select ? NATIVE_CANCELLED : NATIVE_FAILED;
        CHECK(family_poll(&family) == last);
        family_end(&family, last, is_select ? GROUP_NOBODY : 0);
    }
}

static void
group_dropped(void)
{
    for (int stage = 0; stage < 5; stage++) {
        Family family;
        NativeFuture *future = family_init(&family, 0, NATIVE_PENDING);
        family.children[2].on_cancel = NATIVE_PENDING;
        if (stage >= 1) {
            CHECK(family_poll(&family) == NATIVE_PENDING);
        }
        if (stage >= 2) {
            manual_set(&family.children[1], NATIVE_READY);
        }
        if (stage >= 3) {
            CHECK(family_poll(&family) == NATIVE_PENDING);
        }
        if (stage >= 4) {
            native_cancel(future);
            CHECK(family_poll(&family) == NATIVE_PENDING);
        }
        native_drop(future);
        CHECK(family.children[0].drops == (stage < 4));
        CHECK(family.children[1].drops == (stage < 3));
        CHECK(family.children[2].drops == 1);
        if (family.children[1].waker != NULL) {
            waker_clear(&family.children[1].waker);
        }
        family_end(&family, NATIVE_CANCELLED, GROUP_NOBODY);
    }
}

static void
group_nested(void)
{
    enum { DEPTH = 100 };
    for (int way = 0; way < 5; way++) {
        Runner runner;
        runner_init(&runner);
        NativeGroup groups[DEPTH];
        Manual one = manual(NATIVE_PENDING), others[DEPTH];
        NativeFuture *inner = &one.future;
        for (int i = 0; i < DEPTH; i++) {
            others[i] = manual(i % 2 ? NATIVE_PENDING : NATIVE_READY);
            CHECK(group_init(&groups[i], 2, i % 2) == 0);
            group_set(&groups[i], 0, &others[i].future);
            group_set(&groups[i], 1, inner);
            inner = &groups[i].future;
        }
        if (way > 0) {
            CHECK(native_poll(inner, &runner.waker) == NATIVE_PENDING);
            CHECK(native_poll(inner, &runner.waker) == NATIVE_PENDING);
            CHECK(one.polls == 1);
        }
        if (way == 1) {
            manual_set(&one, NATIVE_READY);
            CHECK(runner.wakes == 1);
            CHECK(native_poll(inner, &runner.waker) == NATIVE_READY);
            CHECK(one.polls == 2 && others[DEPTH - 1].cancels == 1);
        }
        else if (way == 2) {
            manual_set(&one, NATIVE_FAILED);
            CHECK(native_poll(inner, &runner.waker) == NATIVE_FAILED);
        }
        else if (way == 3) {
            native_cancel(inner);
            CHECK(native_poll(inner, &runner.waker) == NATIVE_CANCELLED);
            CHECK(one.cancels == 1);
        }
        else {
            native_drop(inner);
            CHECK(one.drops == 1);
        }
        CHECK(runner.references == 1);
        runner_end(&runner);
    }
}

/* Children that wake in their polls are polled again, not at once. */
static void
group_wakes_in_polls(void)
{
    Family family;
    family_init(&family, 0, NATIVE_READY);
    for (int i = 0; i < THREE; i++) {
        family.children[i].wakes = 3 * i;
        family.children[i].outcome = (int)NATIVE_READY;
    }
    CHECK(runner_finish(&family.runner, &family.group.future) == NATIVE_READY);
    for (int i = 0; i < THREE; i++) {
        CHECK(family.children[i].polls == 1 + 3 * i);
    }
    CHECK(family.runner.wakes == 6);
    family_end(&family, NATIVE_READY, GROUP_NOBODY);
}

/* A wake that came before the end of the group, for a child that has ended. */
static void
group_wake_for_nothing(void)
{
    Family family;
    family_init(&family, 0, NATIVE_PENDING);
    CHECK(family_poll(&family) == NATIVE_PENDING);
    manual_set(&family.children[1], NATIVE_READY);
    manual_set(&family.children[0], NATIVE_FAILED);
    manual_set(&family.children[2], NATIVE_PENDING);
    CHECK(family.runner.wakes == 1);
    CHECK(family_poll(&family) == NATIVE_FAILED);
    CHECK(family.children[1].future.state == NATIVE_READY);
    CHECK(family.children[2].future.state == NATIVE_CANCELLED);
    family_end(&family, NATIVE_FAILED, 0);
}

/// A limit

static void
timeouts(void)
{
    Runner runner;
    runner_init(&runner);
    NativeTimeout timeout;
    NativeFuture *future = &timeout.future;
    Manual child = manual(NATIVE_READY);
    timeout_init(&timeout, &child.future, HOUR); /* it ends at once */
    CHECK(native_poll(future, &runner.waker) == NATIVE_READY);
    CHECK(timer_count() == 0 && runner.references == 1);

    child = manual(NATIVE_PENDING); /* in time */
    timeout_init(&timeout, &child.future, HOUR);
    CHECK(native_poll(future, &runner.waker) == NATIVE_PENDING);
    CHECK(timer_count() == 1);
    manual_set(&child, NATIVE_FAILED);
    CHECK(native_poll(future, &runner.waker) == NATIVE_FAILED);
    CHECK(future->error == NULL && timer_count() == 0);
    CHECK(child.cancels == 0 && runner.references == 1);

    static const double delays[] = {0, 0.001};
    for (int i = 0; i < 2; i++) {
        child = manual(NATIVE_PENDING); /* too late */
        timeout_init(&timeout, &child.future, delays[i]);
        CHECK(runner_finish(&runner, future) == NATIVE_FAILED);
        CHECK(future->error == native_timed_out && child.cancels == 1);

        child = manual(NATIVE_PENDING); /* it ends in its own way */
        child.on_cancel = i ? NATIVE_READY : NATIVE_FAILED;
        timeout_init(&timeout, &child.future, delays[i]);
        CHECK(runner_finish(&runner, future) == child.on_cancel);
        CHECK(future->error == NULL);

        child = manual(NATIVE_PENDING); /* it takes its time */
        child.on_cancel = NATIVE_PENDING;
        timeout_init(&timeout, &child.future, delays[i]);
        while (child.cancels == 0) {
            CHECK(native_poll(future, &runner.waker) == NATIVE_PENDING);
            if (child.cancels == 0) {
                runner_wait(&runner);
            }
        }
        CHECK(native_poll(future, &runner.waker) == NATIVE_PENDING);
        if (i) { /* cancelled from outside after that */
            native_cancel(future);
            CHECK(child.cancels == 2);
        }
        manual_set(&child, NATIVE_CANCELLED);
        CHECK(native_poll(future, &runner.waker)
              == (i ? NATIVE_CANCELLED : NATIVE_FAILED));
        EVENTUALLY(runner.references == 1);
    }
    child = manual(NATIVE_PENDING); /* there is no limit after a cancel */
    child.on_cancel = NATIVE_PENDING;
    timeout_init(&timeout, &child.future, HOUR);
    CHECK(native_poll(future, &runner.waker) == NATIVE_PENDING);
    native_cancel(future);
    CHECK(timer_count() == 0);
    manual_set(&child, NATIVE_READY);
    CHECK(native_poll(future, &runner.waker) == NATIVE_READY);
    for (int polls = 0; polls < 2; polls++) {
        for (int way = 0; way < 2; way++) {
            child = manual(NATIVE_PENDING);
            timeout_init(&timeout, &child.future, HOUR);
            if (polls) {
                CHECK(native_poll(future, &runner.waker) == NATIVE_PENDING);
            }
            if (way) {
                native_cancel(future);
                CHECK(native_poll(future, &runner.waker) == NATIVE_CANCELLED);
                CHECK(child.cancels == 1 && child.drops == 0);
            }
            else {
                native_drop(future);
                CHECK(child.cancels == 0 && child.drops == 1);
            }
            CHECK(timer_count() == 0 && runner.references == 1);
        }
    }
    runner_end(&runner);
}

/// The mailbox

/* Return whether somebody should read. */
static int
has_rung(Mailbox *mailbox, int milliseconds)
{
    struct pollfd one = {.fd = mailbox->read_end, .events = POLLIN};
    int count = poll(&one, 1, milliseconds);
    CHECK(count >= 0 || errno == EINTR);
    return count > 0;
}

static Mail *
mail_from(WakeLink *link)
{
    return (Mail *)((char *)link - offsetof(Mail, link));
}

static void
mailbox_quiet(void)
{
    enum { COUNT = 1000 };
    Mailbox *mailbox = checked(mailbox_new());
    Mail *mails[COUNT];
    CHECK(!has_rung(mailbox, 0));
    for (int i = 0; i < COUNT; i++) {
        mails[i] = checked(mail_new(mailbox));
        for (int j = 0; j < 3; j++) {
            mail_wake(&mails[i]->waker);
        }
        CHECK(mails[i]->references == 2);
    }
    CHECK(mailbox->wakes == COUNT && mailbox->writes == 1);
    CHECK(has_rung(mailbox, 0));
    mailbox_hush(mailbox);
    CHECK(!has_rung(mailbox, 0));
    WakeLink *taken = wake_list_take(&mailbox->mails);
    for (int i = 0; i < COUNT; i++) {
        CHECK(mail_from(wake_list_next(&taken)) == mails[i]);
        if (i % 2) { /* while others are read */
            mail_wake(&mails[i]->waker);
        }
        mail_release(&mails[i]->waker);
    }
    CHECK(mailbox->writes == 2 && has_rung(mailbox, 0));
    WakeLink *left = wake_list_close(&mailbox->mails);
    for (int i = 1; i < COUNT; i += 2) {
        CHECK(mail_from(wake_list_next(&left)) == mails[i]);
        mail_release(&mails[i]->waker);
    }
    CHECK(wake_list_next(&left) == NULL);
    mailbox_hush(mailbox);
    for (int i = 0; i < COUNT; i++) {
        mail_wake(&mails[i]->waker); /* it is closed */
        CHECK(mails[i]->references == 1);
    }
    CHECK(!has_rung(mailbox, 0));
    int read_end = mailbox->read_end;
    CHECK(fcntl(read_end, F_GETFD) == FD_CLOEXEC);
    CHECK(fcntl(read_end, F_GETFL) & O_NONBLOCK);
    mailbox_release(mailbox); /* the mails still need it */
    for (int i = 0; i < COUNT; i++) {
        CHECK(fcntl(read_end, F_GETFD) >= 0);
        mail_release(&mails[i]->waker);
    }
    CHECK(fcntl(read_end, F_GETFD) < 0);
}

/* Where there is no eventfd there is a pipe, which can be full. */
static void
mailbox_full(void)
{
    Mailbox *mailbox = checked(mailbox_new());
    int ends[2];
    CHECK(pipe(ends) == 0);
    for (int i = 0; i < 2; i++) {
        fcntl(ends[i], F_SETFL, O_NONBLOCK);
    }
    close(mailbox->read_end);
    if (mailbox->write_end != mailbox->read_end) {
        close(mailbox->write_end);
    }
    mailbox->read_end = ends[0];
    mailbox->write_end = ends[1];
    for (int writes = 0; writes < 3; writes++) {
        char byte = 1;
        while (writes == 2 && write(ends[1], &byte, 1) == 1) {
        }
        Mail *mail = checked(mail_new(mailbox));
        for (int i = 0; i < 1 + 7 * writes; i++) { /* 64 bytes, too */
            mail_wake(&mail->waker);
            CHECK(has_rung(mailbox, 0));
            WakeLink *taken = wake_list_take(&mailbox->mails);
            CHECK(mail_from(wake_list_next(&taken)) == mail);
            mail_release(&mail->waker);
        }
        mailbox_hush(mailbox);
        CHECK(!has_rung(mailbox, 0));
        mail_release(&mail->waker);
    }
    mailbox_release(mailbox);
    CHECK(fcntl(ends[0], F_GETFD) < 0 && fcntl(ends[1], F_GETFD) < 0);
}

/// A million wakes

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { WAKES = 100000 };
#else
enum { WAKES = 250000 };
#endif
enum { MAILS = 8 };

typedef struct {
    Mail *mail;
    atomic_long sent, seen;
} Letter;

static void *
send_letters(void *argument)
{
    Letter *letters = argument;
    for (int i = 0; i < WAKES; i++) {
        Letter *letter = &letters[number_below(MAILS)];
        letter->sent++;
        mail_wake(&letter->mail->waker);
        if (number_below(64) == 0) {
            sched_yield();
        }
        if (number_below(256) == 0) { /* is the last one lost? */
            EVENTUALLY(letter->seen == letter->sent);
        }
    }
    return NULL;
}

static void
mailbox_million(void)
{
    Mailbox *mailbox = checked(mailbox_new());
    Letter letters[WAKERS][MAILS];
    pthread_t threads[WAKERS];
    for (int i = 0; i < WAKERS; i++) {
        for (int j = 0; j < MAILS; j++) {
            Letter *letter = &letters[i][j];
            memset(letter, 0, sizeof(*letter));
            letter->mail = checked(mail_new(mailbox));
            letter->mail->target = letter;
        }
        threads[i] = start(send_letters, letters[i]);
    }
    long received = 0, all = 0;
    while (all < (long)WAKERS * WAKES) {
        CHECK(has_rung(mailbox, 30000) || !"a wake is lost");
        mailbox_hush(mailbox);
        WakeLink *taken = wake_list_take(&mailbox->mails);
        WakeLink *link;
        while ((link = wake_list_next(&taken)) != NULL) {
            Mail *mail = mail_from(link);
            Letter *letter = mail->target;
            long sent = letter->sent;
            all += sent - letter->seen;
            letter->seen = sent;
            received++;
            mail_release(&mail->waker);
        }
    }
    for (int i = 0; i < WAKERS; i++) {
        pthread_join(threads[i], NULL);
    }
    /* What was sent after it was counted, and seen before, is left. */
    WakeLink *left = wake_list_close(&mailbox->mails);
    WakeLink *link;
    while ((link = wake_list_next(&left)) != NULL) {
        received++;
        mail_release(&mail_from(link)->waker);
    }
    CHECK(mailbox->wakes == received); /* none twice */
    CHECK(mailbox->writes <= mailbox->wakes);
    for (int i = 0; i < WAKERS * MAILS; i++) {
        Mail *mail = letters[i / MAILS][i % MAILS].mail;
        CHECK(mail->references == 1);
        mail_release(&mail->waker);
    }
    CHECK(mailbox->references == 1);
    mailbox_release(mailbox);
}

/// Fork

enum { LOST = 300 };

/* Let a child do `check` and end; it must succeed. */
static void
fork_and(void (*check)(void *), void *argument)
{
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        signal(SIGALRM, SIG_DFL);
        alarm(60);
        check(argument);
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(status == 0);
}

typedef struct {
    NativeSleep sleeps[LOST];
    TestWork works[LOST];
    NativeTimeout timeout;
    NativeGroup group;
    Runner runner, of_group;
    Manual manual;
} Pending;

static void
check_child(void *argument)
{
    Pending *pending = argument;
    Runner *runner = &pending->runner;
    CHECK(runner->wakes == 2 * LOST + 1);
    for (int i = 0; i < LOST; i++) {
        CHECK(runner_finish(runner, &pending->sleeps[i].future)
              == NATIVE_FAILED);
        CHECK(pending->sleeps[i].future.error == native_forked);
        NativeFuture *work = &pending->works[i].native.future;
        if (work->state == NATIVE_PENDING) {
            CHECK(runner_finish(runner, work) == NATIVE_FAILED);
            CHECK(work->error == native_forked);
        }
    }
    CHECK(runner_finish(runner, &pending->timeout.future) == NATIVE_FAILED);
    CHECK(pending->timeout.future.error == native_forked);
    CHECK(pending->of_group.wakes == 1);
    CHECK(runner_finish(&pending->of_group, &pending->group.future)
          == NATIVE_FAILED);
    CHECK(runner->references == 1 && pending->of_group.references == 1);
    contract(); /* and new ones work */
    pool_runs();
    pool_producers();
    timer_order();
}

static void
forks(void)
{
#ifdef __SANITIZE_THREAD__
    return; /* it allows no new threads in a child */
#endif
    Pending *pending = checked(test_calloc(1, sizeof(*pending)));
    atomic_int gate = 0;
    runner_init(&pending->runner);
    runner_init(&pending->of_group);
    Waker *waker = &pending->runner.waker;
    for (int i = 0; i < LOST; i++) {
        sleep_init(&pending->sleeps[i], HOUR + some_of(HOUR));
        work_init(&pending->works[i], 2 * i)->gate = &gate;
        CHECK(native_poll(&pending->sleeps[i].future, waker)
              == NATIVE_PENDING);
        CHECK(native_poll(&pending->works[i].native.future, waker)
              == NATIVE_PENDING);
    }
    pending->manual = manual(NATIVE_PENDING);
    timeout_init(&pending->timeout, &pending->manual.future, HOUR);
    CHECK(native_poll(&pending->timeout.future, waker) == NATIVE_PENDING);
    NativeSleep sleeps[2];
    CHECK(group_init(&pending->group, 2, 0) == 0);
    for (size_t i = 0; i < 2; i++) {
        sleep_init(&sleeps[i], HOUR);
        group_set(&pending->group, i, &sleeps[i].future);
    }
    CHECK(native_poll(&pending->group.future, &pending->of_group.waker)
          == NATIVE_PENDING);
    for (int i = 0; i < 3; i++) {
        fork_and(check_child, pending);
    }
    CHECK(pending->runner.wakes == 0 && pending->of_group.wakes == 0);
    gate = 1;
    for (int i = 0; i < LOST; i++) {
        CHECK(pending->works[i].native.future.state == NATIVE_PENDING);
        CHECK(runner_finish(&pending->runner, &pending->works[i].native.future)
              == NATIVE_READY);
        CHECK(pending->works[i].result == 4 * i);
        native_drop(&pending->sleeps[i].future);
    }
    native_drop(&pending->timeout.future);
    native_drop(&pending->group.future);
    runner_end(&pending->runner);
    runner_end(&pending->of_group);
    test_free(pending);
    pool_rest();
}

/* Fork while threads end jobs and wake sleepers. */
static void
check_busy_child(void *argument)
{
    (void)argument;
    pool_rest();
    TestWork work;
    work_init(&work, 2);
    CHECK(finish(&work.native.future) == NATIVE_READY);
    NativeSleep sleep;
    sleep_init(&sleep, 0.0001);
    CHECK(finish(&sleep.future) == NATIVE_READY);
}

static void
forks_when_busy(void)
{
#ifdef __SANITIZE_THREAD__
    return;
#endif
    enum { COUNT = 100 };
    for (int round = 0; round < 30; round++) {
        Runner runner;
        runner_init(&runner);
        NativeSleep sleeps[COUNT];
        TestWork works[COUNT];
        for (int i = 0; i < COUNT; i++) {
            sleep_init(&sleeps[i], 1e-9 + some_of(0.002));
            work_init(&works[i], 2 * i);
            native_poll(&sleeps[i].future, &runner.waker);
            native_poll(&works[i].native.future, &runner.waker);
        }
        fork_and(check_busy_child, NULL);
        for (int i = 0; i < COUNT; i++) {
            if (sleeps[i].future.state == NATIVE_PENDING) {
                CHECK(runner_finish(&runner, &sleeps[i].future)
                      == NATIVE_READY);
            }
            if (works[i].native.future.state == NATIVE_PENDING) {
                CHECK(runner_finish(&runner, &works[i].native.future)
                      == NATIVE_READY);
            }
            CHECK(works[i].result == 4 * i);
        }
        runner_end(&runner);
    }
    pool_rest();
}

/// Not enough of something

/* This comes first: afterwards there are threads. */
static void
no_threads(void)
{
    Runner runner;
    runner_init(&runner);
    for (int round = 0; round < 3; round++) {
        threads_left = 0;
        NativeSleep sleep;
        sleep_init(&sleep, 0.001);
        CHECK(runner_finish(&runner, &sleep.future) == NATIVE_FAILED);
        CHECK(sleep.future.error == native_no_thread);
        TestWork work;
        work_init(&work, 2);
        CHECK(runner_finish(&runner, &work.native.future) == NATIVE_FAILED);
        CHECK(work.native.future.error == native_no_thread);
        Manual child = manual(NATIVE_PENDING);
        NativeTimeout timeout;
        timeout_init(&timeout, &child.future, HOUR);
        CHECK(runner_finish(&runner, &timeout.future) == NATIVE_FAILED);
        CHECK(timeout.future.error == native_no_thread && child.cancels == 1);
        CHECK(runner.references == 1 && timer.count == 0);
        sleep_init(&sleep, 0); /* which needs none */
        CHECK(runner_finish(&runner, &sleep.future) == NATIVE_READY);
    }
    threads_left = 1; /* one is enough for many jobs */
    TestWork works[50];
    for (int i = 0; i < 50; i++) {
        work_init(&works[i], 2 * i);
        native_poll(&works[i].native.future, &runner.waker);
    }
    for (int i = 0; i < 50; i++) {
        if (works[i].native.future.state == NATIVE_PENDING) {
            runner_finish(&runner, &works[i].native.future);
        }
        CHECK(works[i].result == 4 * i);
    }
    CHECK(pool.threads == 1 && threads_left == 0);
    threads_left = FOREVER;
    NativeSleep sleep;
    sleep_init(&sleep, 0.001);
    CHECK(runner_finish(&runner, &sleep.future) == NATIVE_READY);
    runner_end(&runner);
    pool_rest();
}

static void
no_memory(void)
{
    NativeGroup group;
    Mailbox *mailbox = checked(mailbox_new());
    memory_left = 0;
    CHECK(promise_new(&test_job_kind, sizeof(TestJob)) == NULL);
    CHECK(group_init(&group, 3, 0) < 0);
    CHECK(mail_new(mailbox) == NULL && mailbox->references == 1);
    CHECK(mailbox_new() == NULL && errno == ENOMEM);
    Runner runner;
    runner_init(&runner);
    NativeSleep *sleeps = checked(calloc(FOREVER, sizeof(*sleeps)));
    unsigned int count = 0;
    do { /* until the heap is full */
        CHECK(count < FOREVER);
        sleep_init(&sleeps[count], HOUR);
        native_poll(&sleeps[count].future, &runner.waker);
    } while (sleeps[count++].future.state == NATIVE_PENDING);
    NativeSleep *last = &sleeps[--count];
    CHECK(last->future.state == NATIVE_FAILED);
    CHECK(last->future.error == native_no_memory);
    CHECK(timer_count() == count);
    CHECK(runner.references == 1 + (int)count && runner.wakes == 0);
    memory_left = FOREVER;
    sleep_init(last, HOUR); /* it grows now */
    CHECK(native_poll(&last->future, &runner.waker) == NATIVE_PENDING);
    for (unsigned int i = 0; i <= count; i++) {
        native_drop(&sleeps[i].future);
    }
    free(sleeps);
    runner_end(&runner);
    mailbox_release(mailbox);
}

/// Running the cases

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    {"no_threads", no_threads}, /* comes first */
    {"no_memory", no_memory},
    {"contract", contract},
    {"late_wakes", late_wakes},
    {"many_wakers", many_wakers},
    {"no_wake_is_lost", no_wake_is_lost},
    {"list_order", list_order},
    {"list_producers", list_producers},
    {"timer_order", timer_order},
    {"timer_heap", timer_heap},
    {"timer_earlier", timer_earlier},
    {"timer_zero", timer_zero},
    {"timer_crowd", timer_crowd},
    {"timer_race", timer_race},
    {"pool_runs", pool_runs},
    {"promises", promises},
    {"pool_never_begun", pool_never_begun},
    {"pool_cancelled", pool_cancelled},
    {"pool_cancelled_running", pool_cancelled_running},
    {"pool_producers", pool_producers},
    {"pool_race", pool_race},
    {"group_joins", group_joins},
    {"group_fails", group_fails},
    {"group_fails_at_once", group_fails_at_once},
    {"group_fails_last", group_fails_last},
    {"group_child_cancelled", group_child_cancelled},
    {"group_selects", group_selects},
    {"group_cancelled", group_cancelled},
    {"group_cancelled_late", group_cancelled_late},
    {"group_dropped", group_dropped},
    {"group_nested", group_nested},
    {"group_wakes_in_polls", group_wakes_in_polls},
    {"group_wake_for_nothing", group_wake_for_nothing},
    {"timeouts", timeouts},
    {"mailbox_quiet", mailbox_quiet},
    {"mailbox_full", mailbox_full},
    {"mailbox_million", mailbox_million},
    {"forks", forks},
    {"forks_when_busy", forks_when_busy},
};

int
main(int argc, char **argv)
{
    int played = 0;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (argc > 1 && strcmp(argv[1], cases[i].name) != 0) {
            continue;
        }
        double before = timer_now();
        cases[i].run();
        pool_rest();
        EVENTUALLY(blocks == 0);
        printf("%s: %.3f s\n", cases[i].name, timer_now() - before);
        fflush(stdout);
        played++;
    }
    CHECK(played > 0);
    return 0;
}
