"""The book: its pages are equal to what they show, and keep the book's rules."""

import importlib
import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("cogapp", reason="the weave needs cogapp")
pytest.importorskip("markdown_it", reason="the book's checks need markdown-it-py")
ROOT = Path(__file__).resolve().parents[1]
book = importlib.import_module("book")
weave = importlib.import_module("weave")


@pytest.mark.once
@pytest.mark.parametrize("check", book.CHECKS, ids=lambda check: check.__name__[6:])
def test_the_book_passes_the_check_of(check):
    problems = check(ROOT)
    assert not problems, "\n".join(["", *problems])


def test_the_chapters_that_the_pages_run_are_built():
    for path in ROOT.glob("chapters/[0-9]*_*/*.c"):
        found = importlib.util.find_spec(path.stem)
        assert found, f"{path.stem} is not built; run: python3 run.py test"


def test_the_pages_are_equal_to_what_they_show(capsys, record_property):
    report = weave.weave(ROOT, check=True)
    record_property("weave", str(report))
    with capsys.disabled():
        print(f"\n{report}")
    assert not report.problems, "\n".join(["", *report.problems])
