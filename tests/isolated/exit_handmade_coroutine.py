"""Leave a coroutine to the end of the process: KIND CASE. KIND is twin or native."""

import builtins
import sys
import threading
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

import handmade_coroutine as native
import twins as twin

m = {"twin": twin, "native": native}[sys.argv[1]]


class Closes:
    """Suspends; prints when it is closed."""

    def __init__(self):
        self.print = print

    def __await__(self):
        try:
            yield
        finally:
            self.print("closed", flush=True)


class Fails:
    """Suspends; raises when it is closed."""

    def __await__(self):
        try:
            yield
        finally:
            raise KeyError("while closing")


def begun(coroutine):
    coroutine.send(None)
    return coroutine


def fresh():
    return m.add(native.Echo(1), native.Echo(2))


def suspended():
    return begun(m.add(Closes(), 2))


def in_a_cycle(coroutine):
    cycle = [coroutine]
    cycle.append(cycle)


def tick():
    return Closes()


def dropped():
    fresh()


def kept():
    global kept_coroutine
    kept_coroutine = fresh()


def cycle():
    in_a_cycle(fresh())


def in_builtins():
    builtins.kept_coroutine = fresh()


def with_origin():
    sys.set_coroutine_origin_tracking_depth(2)
    kept()


def in_a_thread():
    thread = threading.Thread(target=kept)
    thread.start()
    thread.join()


def while_raising():
    print(fresh(), suspended(), 1 / 0)


def kept_suspended():
    global kept_coroutine
    kept_coroutine = suspended()


def cycle_suspended():
    in_a_cycle(suspended())


def in_builtins_suspended():
    builtins.kept_coroutine = suspended()


def awaits_once_more():
    global kept_coroutine
    kept_coroutine = begun(m.countdown(3, tick))


def fails_to_close():
    global kept_coroutine
    kept_coroutine = begun(m.add(Fails(), 2))


globals()[sys.argv[2]]()
