"""run.py bench: what it times, in which order, what it makes of it, what it says."""

import asyncio
import importlib.util
import json
import re
import runpy
import sys
import time
from pathlib import Path

import bench
import peers
import pytest

ROOT = Path(__file__).resolve().parent.parent

TINY = """\
import asyncio

async def twice(number):
    return 2 * number

async def slowly(number):
    for _ in range(100):
        number += 0
    return 2 * number

SHARED = {"sleep": asyncio.sleep}
VARIANTS = {
    "first": {"double": twice, "only_here": twice},
    "second": {"double": slowly},
}
ROWS = {
    "doubling": "await double(21)",
    "with a loop": "await sleep(0, double)",
    "not of all": "await only_here(1)",
}
"""


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Let the chapters be one tiny chapter, of which nothing was built."""
    folder = tmp_path / "chapters" / "07_tiny"
    folder.mkdir(parents=True)
    (folder / "bench.py").write_text(TINY)
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    monkeypatch.setattr(bench, "HOME", tmp_path)
    monkeypatch.setattr(bench, "TREE", tmp_path)
    monkeypatch.setattr(bench, "SLICE", 1e-5)
    return folder


def rounds(*ratios):
    """Return the times of a variant in rounds that differ in length."""
    return [ratio * 10**number for number, ratio in enumerate(ratios)]


# What is timed --------------------------------------------------------------


def test_a_loop_repeats_its_statement_so_that_looping_costs_little():
    done = []

    async def note(word):
        done.append(word)

    loop = bench.make_loop("await note('x')", {"note": note}, bench.REPEATED)
    asyncio.run(bench.clock(loop, 3, time.thread_time))
    assert done == ["x"] * 3 * bench.REPEATED
    assert bench.REPEATED >= 10


def test_a_loop_that_lacks_a_name_is_left_out():
    variants = {"a": {"f": 1, "g": 2}, "b": {"f": 3}}
    all_have = "f + s.real + abs(1)"
    assert [*bench.make_loops(all_have, variants, {"s": 4})] == ["a", "b", bench.AGAIN]
    assert [*bench.make_loops("f + g", variants, {})] == ["a", bench.AGAIN]


def test_every_other_round_goes_the_other_way(monkeypatch):
    turns = []

    async def clock(loop, count, now):
        turns.append(loop)
        return 1.0

    monkeypatch.setattr(bench, "clock", clock)
    loops = dict.fromkeys("abc")
    taken = asyncio.run(bench.measure({name: name for name in loops}, 3, 0.5))
    assert "".join(turns[3:]) == "abccbaabc"  # the first three were to calibrate
    assert {name: len(times) for name, times in taken.items()} == dict(a=3, b=3, c=3)


def test_a_turn_is_about_as_long_as_it_should_be_and_gives_nanoseconds(monkeypatch):
    asked = []

    async def clock(loop, count, now):
        asked.append(count)
        return 0.001 * count

    monkeypatch.setattr(bench, "clock", clock)
    taken = asyncio.run(bench.measure({"a": None}, 2, 0.02))
    assert asked[-2:] == [20, 20]
    assert taken["a"] == pytest.approx([1e6 / bench.REPEATED] * 2)


# What comes of it -----------------------------------------------------------


def test_a_ratio_is_the_median_of_the_ratios_of_each_round():
    found = bench.compare(rounds(8, 1, 3, 2, 4), rounds(1, 1, 1, 1, 1))
    assert found["ratio"] == pytest.approx(3)
    assert found["quartiles"] == pytest.approx([2, 4])


@pytest.mark.parametrize(
    ("again", "other", "is_noise"),
    [
        ((0.9, 1, 1, 1, 1.1), (1.2, 1.2, 1.2, 1.2, 1.2), False),
        ((0.9, 1, 1, 1, 1.1), (0.8, 0.9, 1.2, 1.3, 1.4), True),  # reaches 1 itself
        ((0.7, 0.8, 1, 1.2, 1.3), (1.2, 1.2, 1.2, 1.2, 1.2), True),  # as does the first
        ((0.9, 1, 1, 1, 1.1), (0.8, 0.8, 0.8, 0.8, 0.8), False),
    ],
)
def test_what_the_first_variant_reaches_by_itself_is_noise(again, other, is_noise):
    one = (1,) * 5
    taken = {"a": rounds(*one), "b": rounds(*other), bench.AGAIN: rounds(*again)}
    found = bench.evaluate(taken)
    assert [*found["variants"]] == ["a", "b"]
    assert found["variants"]["b"]["within_noise"] is is_noise
    line = bench.table([{"row": "title", **found}]).splitlines()[1]
    assert line.startswith("title ")
    assert line.endswith("~") is is_noise


# What it says ---------------------------------------------------------------


def test_the_table_has_a_line_for_each_row_and_says_what_is_missing(tiny, capsys):
    assert bench.main(["tiny", "--rounds", "3"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    head = [line.split() for line in lines].index(["first", "second"])
    assert [line[:24].strip() for line in lines[head + 1 : head + 4]] == [
        "doubling",
        "with a loop",
        "not of all",
    ]
    assert lines[head + 3].endswith("–")
    assert out.startswith(f"Python {sys.version.split()[0]}, ")
    assert max(map(len, lines)) <= 88
    assert err.split("\n")[:1] == ["    doubling"]


def test_json_has_the_build_and_for_each_row_what_the_table_has(tiny, capsys):
    assert bench.main(["--json", "--rounds", "4"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["rounds"] == 4
    assert report["python"]["version"] == sys.version.split()[0]
    assert report["python"]["debug"] == hasattr(sys, "gettotalrefcount")
    row = report["chapters"]["tiny"][0]
    assert (row["row"], row["statement"]) == ("doubling", "await double(21)")
    first, second = row["variants"]["first"], row["variants"]["second"]
    assert first.keys() == {"ns"}
    low, high = second["quartiles"]
    assert 0 < low <= second["ratio"] <= high
    assert isinstance(second["within_noise"], bool)
    assert [*report["chapters"]["tiny"][2]["variants"]] == ["first"]


@pytest.mark.parametrize("words", [["timy"], ["--rounds", "1"], ["--rounds", "x"]])
def test_what_it_cannot_do_is_an_error_of_usage(tiny, capsys, words):
    with pytest.raises(SystemExit) as stop:
        bench.main(words)
    assert stop.value.code == 2
    assert "usage: run.py bench" in capsys.readouterr().err


def test_the_flags_that_count_are_found():
    flags = "-g -O3 -Wall -DNDEBUG -flto=auto -fprofile-use -Os -fPIC -DNDEBUGGER"
    found = bench.optimisation(flags)
    assert found == ["-Os", "-DNDEBUG", "-flto=auto", "-fprofile-use"]


def test_the_build_of_the_chapters_is_read_from_meson(tmp_path):
    assert bench.chapter_build(tmp_path) == {}
    info = tmp_path / "meson-info"
    info.mkdir()
    compilers = {"host": {"c": {"id": "gcc", "version": "12.2.0"}}}
    (info / "intro-compilers.json").write_text(json.dumps(compilers))
    targets = [{"target_sources": [{"parameters": ["-I.", "-O3", "-DNDEBUG"]}]}]
    (info / "intro-targets.json").write_text(json.dumps(targets))
    found = bench.chapter_build(tmp_path)
    assert found == {"compiler": "gcc 12.2.0", "flags": ["-O3", "-DNDEBUG"]}
    python = bench.python_build() | {"debug": True, "with_lto": False}
    text = bench.describe(python, found)
    assert "a debug build" in text.replace("\n", " ")
    assert "no --with-lto" in text.replace("\n", " ")
    assert text.endswith("\nChapters: gcc 12.2.0, -O3, -DNDEBUG")


def test_run_py_times_a_build_that_is_optimised(monkeypatch):
    spec = importlib.util.spec_from_file_location("run_py", ROOT / "run.py")
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)
    built, started = [], []
    monkeypatch.setattr(run, "prepare", lambda *words: built.append(words))
    monkeypatch.setattr(run.os, "execve", lambda *words: started.append(words))
    run.main("bench", "handmade_coroutine", "--json")
    run.main("tour")
    (tree, options), (other, none) = built
    assert tree.name == bench.TREE.name != other.name
    assert ("--buildtype=release" in options, none) == (True, [])
    _, words, env = started[0]
    assert words[1:] == [ROOT / "tools/bench.py", "handmade_coroutine", "--json"]
    assert str(tree) in env["PYTHONPATH"]


# Peers ----------------------------------------------------------------------


def test_a_peer_that_cannot_be_built_is_named_and_the_others_are_timed(
    tiny, capsys, monkeypatch
):
    (tiny / "peers").mkdir()
    for source in peers.PEERS.values():
        (tiny / "peers" / source).touch()
    made = tiny / "made.py"
    made.write_text("async def double(number):\n    return 2 * number\n")

    def compile_peer(peer, folder, home):
        if peer == "Cython":
            raise RuntimeError("no such thing")
        return made

    monkeypatch.setattr(peers, "compile_peer", compile_peer)
    assert bench.main(["tiny", "--rounds", "2", "--peers"]) == 0
    out, err = capsys.readouterr()
    assert "Cython cannot be built: no such thing\n" in err
    assert ["first", "second", "PyAwaitable"] in [
        line.split() for line in out.splitlines()
    ]


def test_the_error_of_a_failed_command_is_its_line_that_says_error():
    code = "print('a.c: In f:'); print('a.c:1: error: no'); raise SystemExit(1)"
    with pytest.raises(RuntimeError, match=r"^a\.c:1: error: no$"):
        peers.run(sys.executable, "-c", code)
    with pytest.raises(RuntimeError, match="failed"):
        peers.run(sys.executable, "-c", "raise SystemExit(1)")


# The chapters ---------------------------------------------------------------


@pytest.mark.parametrize(
    "folder",
    sorted(path.parent for path in ROOT.glob("chapters/[0-9]*_*/bench.py")),
    ids=lambda folder: folder.name[3:],
)
def test_every_row_gives_the_same_whoever_made_it(folder, monkeypatch):
    pytest.importorskip(folder.name[3:])
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "model", raising=False)
    given = runpy.run_path(str(folder / "bench.py"))
    sys.modules.pop("model", None)

    async def results(statement):
        for names in given["VARIANTS"].values():
            scope = given["SHARED"] | names
            if bench.make_loop(statement, scope, 1):
                exec(f"async def once():\n    return {statement}", scope)
                yield await scope["once"]()

    async def compare():
        for title, statement in given["ROWS"].items():
            found = [result async for result in results(statement)]
            assert found == found[:1] * len(found) and len(found) > 1, title

    asyncio.run(compare())


# The commands ---------------------------------------------------------------


def test_a_chapter_may_have_commands(tiny, capsys):
    with (tiny / "bench.py").open("a") as file:
        file.write('\n\ndef say(word="nothing"):\n    print("said", word)\n')
        file.write('\n\nCOMMANDS = {"say": say}\n')
    assert bench.main(["tiny", "say", "it"]) == 0
    assert bench.main(["tiny", "say"]) == 0
    assert bench.main(["tiny", "sing"]) == 2
    out, err = capsys.readouterr()
    assert out == "said it\nsaid nothing\n"
    assert err == "tiny has no sing, only ['say']\n"


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        (("pending", "1000"), r" +waiting .*\n +1000( +-?\d+\.?\d*){4}\n"),
        (("blocked", "3"), r"(\S.*: median +\d+\.\d us, p99 +\d+\.\d us\n){2}"),
        (
            ("soak", "0.5"),
            r"\d+ done; [\d.]+ MB, \d+ descriptors; {'sleepers': 0, 'jobs': 0}\n",
        ),
    ],
)
def test_the_commands_of_chapter_4(command, printed, capfd):
    pytest.importorskip("native_future_bridge")
    assert bench.main(["native_future_bridge", *command]) == 0
    assert re.fullmatch(printed, capfd.readouterr().out)
