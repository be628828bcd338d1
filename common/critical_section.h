/* critical_section.h: one thread at a time, on Python 3.12 and earlier too.

   In Python: `with object_lock:`, if each object had a lock.
   Use: #include "critical_section.h"; nothing to link. Both need the GIL.
   Taught in book/02_handmade_coroutine.md. Delete it when you drop 3.12. */

/// What 3.12 lacks

#pragma once
#include <Python.h>
#ifndef Py_BEGIN_CRITICAL_SECTION
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#endif
