"""Time what a chapter makes beside what Python makes, in turns, in one process.

Run it: python3 run.py bench [CHAPTER] [--rounds N] [--json] [--peers]
        python3 run.py bench CHAPTER COMMAND [WORD ...]

chapters/NN_CHAPTER/bench.py has ROWS, the statements to time, by title; VARIANTS, for
each way of making things the names that the statements use; and SHARED, names that
all of them use. CLOCK, if it is there, is the clock; else it is the processor time of
the thread, which does not count what other programs take. REPEATED, if it is there, is
how often a statement stands in its loop. COMMANDS, if they are there, are functions
that print something else, and take words. Every statement is timed with the names of
every variant, and the others are compared with the first, round by round.
"""

import argparse
import asyncio
import builtins
import dis
import itertools
import json
import os
import platform
import re
import runpy
import statistics
import sys
import sysconfig
import time
from pathlib import Path
from textwrap import fill

import peers

SUMMARY = "Time what a chapter makes beside what Python makes."
ROOT = Path(__file__).resolve().parent.parent
HOME = Path(sys.prefix).parent  # build/VERSION-…, see run.py
TREE = HOME / "tree-bench"
AGAIN = "again"  # the first variant once more: what it differs from itself is noise
REPEATED = 10  # statements in a loop, so that looping is cheap
SLICE = 0.004  # seconds, about, that one variant runs before it is the turn of another

LEGEND = """\
±: half of the rounds were at least as near. ~: within the noise, which is how far
the first variant is from itself, timed once more as if it were another."""
LOOP = """\
async def loop(times):
    for _ in times:
        {}
"""


# What is timed --------------------------------------------------------------


def make_loop(statement, names, repeated):
    """Return the coroutine function that repeats `statement` with `names`, or None
    if it uses a name that is not among them."""
    scope = dict(names)
    exec(LOOP.format("\n        ".join([statement] * repeated)), scope)
    loop = scope["loop"]
    used = (i.argval for i in dis.get_instructions(loop) if i.opname == "LOAD_GLOBAL")
    known = scope.keys() | vars(builtins).keys()
    return loop if known.issuperset(used) else None


def make_loops(statement, variants, shared, repeated=REPEATED):
    """Return the loops by variant, AGAIN last."""
    first = next(iter(variants))
    loops = {
        variant: make_loop(statement, shared | names, repeated)
        for variant, names in (variants | {AGAIN: variants[first]}).items()
    }
    return {variant: loop for variant, loop in loops.items() if loop}


async def clock(loop, count, now):
    """Return the seconds, by the clock `now`, that `count` turns of `loop` take."""
    times = itertools.repeat(None, count)
    start = now()
    await loop(times)
    return now() - start


async def find_count(loop, limit, now):
    """Return how many turns of `loop` take about `limit` seconds."""
    count = 1
    while (taken := await clock(loop, count, now)) < limit:
        count *= 2
    return max(1, round(count * limit / taken))


def in_turns(variants, rounds):
    """Yield the order of each round: there and back, so that none is always first."""
    variants = list(variants)
    for number in range(rounds):
        yield variants[:: -1 if number % 2 else 1]


async def measure(loops, rounds, limit, now=time.thread_time, repeated=REPEATED):
    """Return by variant the nanoseconds of one statement, round by round."""
    counts = {name: await find_count(loop, limit, now) for name, loop in loops.items()}
    taken = {variant: [] for variant in loops}
    for order in in_turns(loops, rounds):
        for variant in order:
            seconds = await clock(loops[variant], counts[variant], now)
            taken[variant].append(seconds * 1e9 / counts[variant] / repeated)
    return taken


# What comes of it -----------------------------------------------------------


def compare(times, reference):
    """Return the median of the ratios of each round, and their quartiles."""
    ratios = [a / b for a, b in zip(times, reference, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return {"ratio": middle, "quartiles": [low, high]}


def is_noise(found, noise):
    """Tell whether half of the ratios `found` reach 1, give or take `noise`."""
    low, high = found["quartiles"]
    return low <= 1 + noise and high >= 1 - noise


def evaluate(taken):
    """Return what the times of one row, by variant, say."""
    first = next(iter(taken))
    low, high = compare(taken[AGAIN], taken[first])["quartiles"]
    noise = max(1 - low, high - 1)
    variants = {}
    for variant, times in taken.items():
        if variant == AGAIN:
            continue
        found = {"ns": statistics.median(times)}
        if variant != first:
            found |= compare(times, taken[first])
            found["within_noise"] = is_noise(found, noise)
        variants[variant] = found
    return {"noise": noise, "variants": variants}


def load(chapter):
    """Return the names of bench.py in the folder `chapter`."""
    sys.modules.pop("model", None)  # that of another chapter
    sys.path.insert(0, str(chapter))
    try:
        return runpy.run_path(str(chapter / "bench.py"))
    finally:
        sys.path.remove(str(chapter))


def bench(chapter, rounds, more, progress):
    """Time every row of the folder `chapter`, also for the variants `more`.

    Calls progress(title) before each row.
    """
    given = load(chapter)
    now = given.get("CLOCK", time.thread_time)
    repeated = given.get("REPEATED", REPEATED)
    variants = given["VARIANTS"] | more
    rows = []
    for title, statement in given["ROWS"].items():
        progress(title)
        loops = make_loops(statement, variants, given["SHARED"], repeated)
        taken = asyncio.run(measure(loops, rounds, SLICE, now, repeated))
        rows.append({"row": title, "statement": statement, **evaluate(taken)})
    return rows


# Which Python, which build --------------------------------------------------


def optimisation(flags):
    """Return those of the compiler's `flags` that decide how fast the code is."""
    levels = re.findall(r"(?<!\S)-O\w*", flags)[-1:]  # the last one counts
    others = r"(?<!\S)-(?:DNDEBUG|flto|flto=\S+|fprofile-use|fprofile-use=\S+)(?!\S)"
    return levels + re.findall(others, flags)


def python_build():
    """Return what is known of the build of this Python."""
    get = sysconfig.get_config_var
    flags = f"{get('PY_CORE_CFLAGS') or ''} {get('PY_CORE_LDFLAGS') or ''}"
    arguments = get("CONFIG_ARGS") or ""
    is_enabled = getattr(getattr(sys, "_jit", None), "is_enabled", lambda: False)
    return {
        "version": sys.version.split()[0],
        "compiler": platform.python_compiler(),
        "flags": optimisation(flags),
        "enable_optimizations": "--enable-optimizations" in arguments,
        "with_lto": "--with-lto" in arguments or "-flto" in flags,
        "shared_library": bool(get("Py_ENABLE_SHARED")),
        "debug": bool(get("Py_DEBUG")),
        "free_threaded": bool(get("Py_GIL_DISABLED")),
        "jit": is_enabled(),
    }


def chapter_build(tree):
    """Return how meson compiles the chapters in `tree`; {} if it does not say."""
    try:
        compilers = json.loads((tree / "meson-info/intro-compilers.json").read_text())
        targets = json.loads((tree / "meson-info/intro-targets.json").read_text())
    except OSError:
        return {}
    sources = targets[0]["target_sources"][0]
    compiler = compilers["host"]["c"]
    return {
        "compiler": f"{compiler['id']} {compiler['version']}",
        "flags": optimisation(" ".join(sources["parameters"])),
    }


def describe(python, chapters):
    """Return a text that names the builds of Python and of the chapters."""
    kinds = {
        "debug": "a debug build",
        "free_threaded": "free-threaded",
        "shared_library": "a shared library",
        "jit": "with its JIT compiler on",
    }
    words = [f"Python {python['version']}", python["compiler"], *python["flags"]]
    words += [kind for key, kind in kinds.items() if python[key]]
    for key in "enable_optimizations", "with_lto":
        option = "--" + key.replace("_", "-")
        words.append(option if python[key] else f"no {option}")
    text = fill(", ".join(words), 80, break_on_hyphens=False)
    if chapters:
        text += f"\nChapters: {', '.join([chapters['compiler'], *chapters['flags']])}"
    return text


# What is printed ------------------------------------------------------------


def cell(found):
    """Return a ratio as the table has it; "~" marks what is within the noise."""
    low, high = found["quartiles"]
    spread = max(high - found["ratio"], found["ratio"] - low)
    mark = "~" if found["within_noise"] else " "
    return f"{found['ratio']:.2f} ±{spread:.2f}{mark}"


def table(rows):
    """Return the lines that show `rows`: the first variant's time, others' ratios."""
    first, *others = dict.fromkeys(name for row in rows for name in row["variants"])
    lines = [f"{'':24}{first:>12}" + "".join(f"{name:>13} " for name in others)]
    for row in rows:
        found = row["variants"]
        line = f"{row['row']:24}{found[first]['ns']:9.1f} ns"
        for name in others:
            line += f"{cell(found[name]) if name in found else '– ':>14}"
        lines.append(line)
    return "\n".join(line.rstrip() for line in lines)


def show(report):
    """Print a report, which --json prints whole."""
    print(describe(report["python"], report["chapters_build"]))
    print(f"{report['cpu']}; {report['rounds']} rounds")
    for stem, rows in report["chapters"].items():
        first = next(iter(rows[0]["variants"]))
        print(f"\n{stem}: the time of one statement; others as a ratio to `{first}`\n")
        print(table(rows))
    print(f"\n{LEGEND}")


def cpu():
    """Return the name of the processor, as well as it is known."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    name = re.search(r"^model name\s*:\s*(.*)", text, re.MULTILINE)
    return f"{name[1] if name else platform.machine()}, {os.cpu_count()} CPUs"


def positive(word):
    """Return the number of rounds that `word` says: quartiles want at least two."""
    if int(word) < 2:
        raise ValueError
    return int(word)


def names_of_peers(chapter):
    """Build the peers of the folder `chapter`; return their names by variant."""
    built, failed = peers.build_peers(chapter / "peers", HOME / "peers")
    for peer, why in failed.items():
        print(f"{peer} cannot be built: {why}", file=sys.stderr)
    return {peer: vars(module) for peer, module in built.items()}


def run_command(chapter, name, *words):
    """Call the command `name` of the folder `chapter`; return the exit status."""
    commands = load(chapter).get("COMMANDS", {})
    if name not in commands:
        print(f"{chapter.name[3:]} has no {name}, only {[*commands]}", file=sys.stderr)
        return 2
    commands[name](*words)
    return 0


def main(arguments=None):
    """Time a chapter, or all that have a bench.py, and return the exit status."""
    folders = sorted(path.parent for path in ROOT.glob("chapters/[0-9]*_*/bench.py"))
    known = {folder.name[3:]: folder for folder in folders}
    parser = argparse.ArgumentParser(prog="run.py bench", description=SUMMARY)
    parser.add_argument("chapter", nargs="?", choices=known, help="default: all")
    parser.add_argument("command", nargs="*", help="one of COMMANDS in its bench.py")
    parser.add_argument("--rounds", type=positive, default=150, help="default: 150")
    parser.add_argument("--json", action="store_true", help="print all that was found")
    parser.add_argument(
        "--peers", action="store_true", help="also time other libraries"
    )
    options = parser.parse_args(arguments)
    if options.command:
        return run_command(known[options.chapter], *options.command)
    report = {
        "python": python_build(),
        "chapters_build": chapter_build(TREE),
        "cpu": cpu(),
        "rounds": options.rounds,
        "chapters": {},
    }

    def progress(title):
        print(f"    {title}", file=sys.stderr, flush=True)

    for stem in [options.chapter] if options.chapter else known:
        more = names_of_peers(known[stem]) if options.peers else {}
        report["chapters"][stem] = bench(known[stem], options.rounds, more, progress)
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        show(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
