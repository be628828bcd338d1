"""Let the system refuse threads, for lack of memory."""

import asyncio
import os
import sys

from native_future_bridge import compute, counters, join, select, sleep, timeout

try:
    import resource

    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
except (ImportError, OSError):
    print("this system has no limit that we could set")
    raise SystemExit(77) from None

before = resource.getrlimit(resource.RLIMIT_AS)
HOUR = 3600
CASES = {
    "sleep": lambda: sleep(HOUR),
    "compute": lambda: compute(3),
    "join": lambda: join(compute(3), sleep(HOUR)),
    "select": lambda: select(sleep(HOUR), asyncio.sleep(HOUR)),
    "timeout": lambda: timeout(asyncio.sleep(HOUR), HOUR),
}


async def refused(make):
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0])
    resource.setrlimit(
        resource.RLIMIT_AS, (used * os.sysconf("SC_PAGE_SIZE") + (96 << 10), before[1])
    )
    try:
        await make()
    except RuntimeError as error:
        return str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


async def main():
    assert await sleep(0, 1) == 1
    for _ in range(10):
        for name, make in CASES.items():
            message = await refused(make)
            if message != "can't start new thread":
                sys.exit(f"{name}: {message}")
    assert counters()["sleepers"] == counters()["jobs"] == 0
    assert await join(compute(10), sleep(0.001, 2)) == [55, 2]


asyncio.run(main())
print("done")
