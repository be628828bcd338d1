"""Random trees of awaitables for chapter 4, and twins of its functions in asyncio.

A tree is plain data, so that it is built anew for ours and for the twins. Its leaves
wait for gates, and one gate is opened at a time, after which the loop turns until all
is quiet: what happens does not depend on clocks, nor on how many turns of the loop an
implementation takes. Within one such phase asyncio promises no order: what happened
in it is compared sorted.
"""

import asyncio
import contextlib
import random
import time
import types

HOUR = 3600
TURNS = 60  # more than a twin of the deepest tree takes to come to rest
PATIENCE = 60  # seconds for a short timeout to pass


class TooSlow(Exception):
    """A short timeout may have passed before what it limits has come to rest."""


### The twins


async def sleep(delay, value=None):
    return await asyncio.sleep(delay, value)


def failed(child):
    return not child.cancelled() and child.exception() is not None


async def group(awaitables, is_select):
    """Wait for all, or for the first; then for the cleanup of the others."""
    children = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    left = dict.fromkeys(children)  # in order
    first = outside = None  # the child that decides; the cancellation of all
    while left:
        try:
            await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError as error:
            outside = error
            if first is not None and not failed(first):
                first = None
            for child in left:
                child.cancel()
            continue
        for child in [child for child in left if child.done()]:
            del left[child]
            is_over = is_select or child.cancelled()
            if first is None and (failed(child) or (is_over and outside is None)):
                first = child
                if outside is None:  # otherwise they were cancelled already
                    for other in left:
                        other.cancel()
    if first is not None:
        return first.result()
    if outside is not None:
        raise outside
    return [child.result() for child in children]


def join(*awaitables):
    return group(awaitables, is_select=False)


def select(*awaitables):
    return group(awaitables, is_select=True)


async def timeout(awaitable, delay):
    child = asyncio.ensure_future(awaitable)
    async with asyncio.timeout(delay):
        return await child


twins = types.SimpleNamespace(sleep=sleep, join=join, select=select, timeout=timeout)


### Growing a tree
ENDS = ["return", "return", "return", "raise", "cancel"]
ON_CANCEL = ["end", "end", "end", "suppress", "late end", "late return", "late raise"]


class Gardener:
    """Grows trees, the gates of which are numbered."""

    def __init__(self, rng):
        self.rng, self.gates = rng, 0

    def gate(self):
        self.gates += 1
        return self.gates

    def leaf(self):
        kind = self.rng.choices(
            ["waits", "object", "future", "task", "zero", "forever"], [6, 1, 2, 1, 1, 1]
        )[0]
        if kind == "forever":
            return (kind,)
        if kind == "zero":
            return kind, self.gate()
        if kind == "future":
            return kind, self.gate(), self.rng.choice(ENDS)
        ends = self.rng.choice(ENDS), self.rng.choice(ON_CANCEL)
        return kind, self.gate(), *ends, self.gate()

    def tree(self, height):
        if height == 0 or self.rng.random() < 0.1:
            return self.leaf()
        kind = self.rng.choices(
            ["join", "select", "long", "short", "sequence", "catches", "cleans up"],
            [6, 6, 2, 2, 2, 1, 1],
        )[0]
        if kind in ("join", "select", "sequence"):
            count = self.rng.randint(1, 3)
            return kind, *[self.tree(height - 1) for _ in range(count)]
        if kind in ("short", "cleans up"):
            return kind, self.gate(), self.tree(height - 1)
        return kind, self.tree(height - 1)


def grow(rng):
    """Return a tree and a script: gates to open, and None to cancel all."""
    gardener = Gardener(rng)
    tree = gardener.tree(rng.randint(1, 4))
    script = list(range(1, gardener.gates + 1))
    rng.shuffle(script)
    for _ in range(rng.choice([0, 0, 1, 1, 2, 3])):
        script.insert(rng.randint(0, len(script)), None)
    return tree, script


### A world in which a tree runs
class World:
    """A tree of the `functions`, which are ours or the twins; its gates and its log."""

    def __init__(self, functions, tree, limit):
        self.functions = functions
        self.limit = limit  # seconds of a short timeout
        self.loop = asyncio.get_running_loop()
        self.waiting = {}  # the future of each gate at which a leaf waits
        self.ends = {}  # how a leaf that is such a future ends
        self.busy = 0  # how many leaves will go on by themselves
        self.log, self.phases = [], []
        self.task = self.loop.create_task(self.run(tree))

    async def run(self, tree):
        return await self.build(tree)

    async def pass_gate(self, gate):
        self.waiting[gate] = self.loop.create_future()
        try:
            await self.waiting[gate]
        finally:
            del self.waiting[gate]

    def open(self, gate):
        future = self.waiting.get(gate)
        end = self.ends.get(gate, "return")
        if future is None or future.done():
            return
        if end == "return":
            future.set_result(gate)
        elif end == "raise":
            future.set_exception(ValueError(gate))
        else:
            future.cancel()

    def step(self, gate):
        """Open a gate; or cancel all, if it is None."""
        if gate is None:
            self.task.cancel()
        else:
            self.open(gate)

    def next_step(self):
        """Return what may bring the tree to its end when the script is over."""
        left = [gate for gate, future in self.waiting.items() if not future.done()]
        return min(left, default=None)

    def end_phase(self):
        self.phases.append(sorted(self.log))
        self.log.clear()

    def outcome(self):
        if not self.task.done():
            return "does not end", None
        if self.task.cancelled():
            return "is cancelled", None
        error = self.task.exception()
        if error is not None:
            return type(error).__name__, error.args
        return "returns", repr(self.task.result())

    # leaves

    async def waits(self, gate, end, on_cancel, late):
        self.log.append((gate, "begins"))
        try:
            await self.pass_gate(gate)
        except asyncio.CancelledError:
            self.log.append((gate, "cancelled"))
            if on_cancel == "end":
                raise
            if on_cancel == "suppress":
                return gate, "suppressed"
            try:
                await self.pass_gate(late)
            except asyncio.CancelledError:
                self.log.append((gate, "cancelled again"))
                raise
            self.log.append((gate, "late"))
            if on_cancel == "late end":
                raise
            if on_cancel == "late return":
                return gate, "late"
            raise KeyError(gate) from None
        self.log.append((gate, end))
        if end == "raise":
            raise ValueError(gate)
        if end == "cancel":
            raise asyncio.CancelledError
        return gate

    async def zero(self, gate):
        await self.pass_gate(gate)
        self.busy += 1
        try:
            value = await self.functions.sleep(0, gate)
            self.log.append((gate, "slept"))
            return value
        finally:
            self.busy -= 1

    def future(self, gate, end):
        self.waiting[gate], self.ends[gate] = self.loop.create_future(), end
        return self.waiting[gate]

    # coroutines of Python with subtrees

    async def sequence(self, *nodes):
        values = []
        for number, node in enumerate(nodes):
            values.append(await self.build(node))
            self.log.append((0, f"step {number} of {len(nodes)}"))
        return values

    async def catches(self, node):
        try:
            return await self.build(node)
        except Exception as error:
            self.log.append((0, f"caught {error!r}"))
            return "caught"

    async def cleans_up(self, gate, node):
        try:
            return await self.build(node)
        finally:
            self.log.append((gate, "cleans up"))
            await self.pass_gate(gate)
            self.log.append((gate, "cleaned up"))

    async def short(self, gate, node):
        """After the gate a timeout that passes before anything else happens."""
        await self.pass_gate(gate)
        self.log.append((gate, "in time"))
        try:
            both = self.functions.select(self.is_busy(), self.build(node))
            return await self.functions.timeout(both, self.limit)
        except TimeoutError:
            self.log.append((gate, "timed out"))
            raise

    async def is_busy(self):
        self.busy += 1
        try:
            await self.loop.create_future()
        finally:
            self.busy -= 1

    def build(self, tree):
        """Return a fresh awaitable for the tree."""
        kind, *args = tree
        match kind:
            case "waits":
                return self.waits(*args)
            case "object":
                return Object(self.waits(*args))
            case "task":
                return self.loop.create_task(self.waits(*args))
            case "future":
                return self.future(*args)
            case "zero":
                return self.zero(*args)
            case "forever":
                return self.functions.sleep(HOUR)
            case "join":
                return self.functions.join(*map(self.build, args))
            case "select":
                return self.functions.select(*map(self.build, args))
            case "long":
                return self.functions.timeout(self.build(*args), HOUR)
            case "short":
                return self.short(*args)
            case "sequence":
                return self.sequence(*args)
            case "catches":
                return self.catches(*args)
            case "cleans up":
                return self.cleans_up(*args)
        raise AssertionError(tree)


class Object:
    """An awaitable that is no coroutine."""

    def __init__(self, coroutine):
        self.coroutine = coroutine

    def __await__(self):
        return self.coroutine.__await__()


### Running many trees side by side
async def come_to_rest(worlds, limit):
    """Let the loop turn until nothing has gone on by itself for long enough."""
    begun = time.monotonic()
    for _ in range(TURNS):
        await asyncio.sleep(0)
    if time.monotonic() - begun > limit:
        raise TooSlow
    async with asyncio.timeout(PATIENCE):
        quiet = 0
        while quiet < TURNS:
            quiet += 1
            if any(world.busy for world in worlds):
                quiet = 0
                await asyncio.sleep(0.001)
            await asyncio.sleep(0)
    for world in worlds:
        world.end_phase()


async def run_all(functions, cases, limit):
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    worlds = [World(functions, tree, limit) for tree, _ in cases]
    try:
        await run_scripts(worlds, [script for _, script in cases], limit)
        left = len(asyncio.all_tasks()) - 1
    finally:
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.sleep(0)
    return [(world.outcome(), world.phases) for world in worlds], left


async def run_scripts(worlds, scripts, limit):
    await come_to_rest(worlds, limit)
    for number in range(200):
        if all(world.task.done() for world in worlds):
            break
        for world, script in zip(worlds, scripts, strict=True):
            if not world.task.done():
                has_step = number < len(script)
                world.step(script[number] if has_step else world.next_step())
        await come_to_rest(worlds, limit)
    for world in worlds:
        while world.phases and not world.phases[-1]:
            world.phases.pop()


def outcomes(functions, cases):
    """Return how each tree ends and what happens before; and how many tasks stay."""
    for limit in 0.05, 0.5, 5:
        with contextlib.suppress(TooSlow):
            return asyncio.run(run_all(functions, cases, limit))
    raise TooSlow


def some_cases(seed, count):
    rng = random.Random(seed)
    return [grow(rng) for _ in range(count)]
