"""Let threads drive awaitables whose steps are all C until the main thread says."""

import functools
import threading

from manual_await import run

box = {}
entered = threading.Event()


class UntilStopped:
    """Yields None until box["stop"] is "now"; no step runs any Python code."""

    def __await__(self):
        entered.set()
        return iter(functools.partial(box.get, "stop"), "now")


threads = [threading.Thread(target=run, args=[UntilStopped()]) for _ in range(4)]
for thread in threads:
    thread.start()
    entered.wait()
box["stop"] = "now"
for thread in threads:
    thread.join()
print("stopped")
