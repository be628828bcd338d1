/* therm.h: a tiny library that reads thermometers, in threads of its own.

   It knows nothing of Python: it stands for any library that calls back.
   Use: #include "therm.h"; compile therm.c, and link with -pthread.
   Taught in book/05_take_it_all_home.md. */

/// What the library offers

#pragma once

/* What is called, in a thread of the library, when the reading is done:
   `error` is NULL, or says why there is no result. */
typedef void ThermCallback(void *user, double degrees, const char *error);

/* Begin to read thermometer number `sensor`; `callback` will be called once,
   with `user`. Return 0, or -1 if the reading cannot begin. */
int therm_read(int sensor, ThermCallback *callback, void *user);
