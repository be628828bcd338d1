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


def fail_with(problems):
    """Fail with the problems and nothing else, if there are any."""
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


@pytest.mark.once
@pytest.mark.parametrize("check", book.CHECKS, ids=lambda check: check.__name__[6:])
def test_the_book_passes_the_check_of(check):
    try:
        fail_with(check(ROOT))
    except weave.WeaveError as error:
        fail_with([str(error)])


def test_the_pages_are_equal_to_what_they_show(capsys, record_property):
    stems = [path.stem for path in ROOT.glob("chapters/[0-9]*_*/*.c")]
    missing = [stem for stem in stems if not importlib.util.find_spec(stem)]
    fail_with([f"{s} is not built; run: python3 run.py test" for s in missing])
    report = weave.weave(ROOT, check=True)
    record_property("weave", str(report))
    with capsys.disabled():
        print(f"\n{report}")
    fail_with(report.problems)
