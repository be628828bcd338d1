/* therm.c: the library of therm.h. Two of its three thermometers work.

   In Python: a function that takes a callback and starts a thread.
   Use: see therm.h.
   Taught in book/05_take_it_all_home.md. */

/// What a reading needs

#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include "therm.h"

typedef struct {
    int sensor;
    ThermCallback *callback;
    void *user;
} Reading;

/// Reading

static void *
reading_run(void *argument)
{
    Reading reading = *(Reading *)argument;
    struct timespec while_it_reads = {.tv_nsec = 10000000};
    free(argument);
    nanosleep(&while_it_reads, NULL);
    if (reading.sensor == 2) {
        reading.callback(reading.user, 0, "the thermometer is broken");
    }
    else {
        reading.callback(reading.user, 20.5 + reading.sensor, NULL);
    }
    return NULL;
}

int
therm_read(int sensor, ThermCallback *callback, void *user)
{
    pthread_t thread;
    Reading *reading = malloc(sizeof(*reading));
    if (reading == NULL || sensor < 0 || sensor > 2) {
        free(reading);
        return -1;
    }
    *reading = (Reading){sensor, callback, user};
    if (pthread_create(&thread, NULL, reading_run, reading) != 0) {
        free(reading);
        return -1;
    }
    pthread_detach(thread);
    return 0;
}
