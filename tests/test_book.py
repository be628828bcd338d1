"""The book: its pages are equal to what they show, and keep the book's rules."""

import importlib
import importlib.util
from pathlib import Path

import pytest

for package in "cogapp", "markdown_it", "patch_ng":
    pytest.importorskip(package, reason=f"the book's checks need {package}")
ROOT = Path(__file__).resolve().parents[1]
checks = importlib.import_module("book_checks")
weave = importlib.import_module("weave")


@pytest.fixture(scope="module")
def woven(pytestconfig):
    """Compare the pages; return their Blocks and what is wrong with them."""
    stems = [path.stem for path in ROOT.glob("chapters/[0-9]*_*/*.c")]
    missing = [stem for stem in stems if not importlib.util.find_spec(stem)]
    if missing:
        pytest.fail(f"not built: {missing}; run: python3 run.py test", pytrace=False)
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():  # the weave prints what it has checked
        print()
        return weave.weave(ROOT, check=True)


def test_the_pages_are_equal_to_what_they_show(woven):
    if woven[1]:
        pytest.fail("\n".join(woven[1]), pytrace=False)


@pytest.mark.once
@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__[6:])
def test_the_book_passes_the_check_of(check, woven):
    if woven[1]:
        pytest.skip("the pages are not equal to what they show")
    problems = list(check(ROOT, woven[0]))
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)
