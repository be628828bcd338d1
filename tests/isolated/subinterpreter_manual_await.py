"""Import and use the module in subinterpreters, each with its own GIL from 3.12 on."""

import sys

from subinterpreters import interpreters

CODE = f"""
import sys
sys.path[:] = {sys.path!r}
import manual_await

async def add(a, b):
    return a + b

assert manual_await.run(add(1, 2)) == 3
try:
    manual_await.run(3)
except TypeError:
    pass
else:
    raise AssertionError
"""

from manual_await import run  # noqa: E402, F401 (the main interpreter has it too)

for _ in range(3):
    interpreter = interpreters.create()
    failure = interpreters.run_string(interpreter, CODE)
    if failure is not None:
        sys.exit(str(failure))
    interpreters.destroy(interpreter)
print("3 subinterpreters")
