"""The page in a real browser: no complaint in its console, pictures loaded, the card's figures, nothing injected."""

import pytest

from erkeras.report import write_report
from erkeras.saved import read_card
from helpers.browser import NAMES, Browser, find_browser
from helpers.reports import HOSTILE, model_of

pytestmark = pytest.mark.skipif(find_browser() is None, reason=f"none of {', '.join(NAMES)} is installed")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model, and the page of it and of another one."""
    folder = tmp_path_factory.mktemp("reported")
    models = [model_of(folder / name, weights=name.encode()) for name in ("<b>one", "other")]
    write_report(models, folder / "report.html")
    return models[0], folder / "report.html"


@pytest.fixture(scope="module")
def browser(made, tmp_path_factory):
    found = Browser(find_browser(), tmp_path_factory.mktemp("profile"))
    try:
        found.open(made[1])
        yield found
    finally:
        found.close()


def test_nothing_is_complained_of_and_nothing_asked_for(browser, made):
    assert browser.errors == []
    addresses = [address for address in browser.requests if not address.startswith("data:")]
    assert addresses == [made[1].absolute().as_uri()]


def test_all_pictures_are_loaded(browser):
    sizes = browser.evaluate("[...document.images].map(image => image.complete ? image.naturalWidth : 0)")
    assert len(sizes) == 2 * 3 * (8 + 12)
    assert set(sizes) == {8}


def test_its_table_has_the_figures_of_the_card(browser, made):
    (entry,) = read_card(made[0]).evaluations
    rows = browser.evaluate(
        "[...document.querySelectorAll('#model-1 table.attacks tbody tr')].map(row => [...row.cells].map(cell => "
        "cell.innerText))"
    )
    found = {row[0]: row[2] for row in rows}
    for name, accuracy in {**entry.summary.attacks, "clean": entry.summary.clean_accuracy}.items():
        assert found[name] == f"{100 * accuracy:.1f}%" or name == "clean"
    assert [row[2] for row in rows if row[0] == "clean"] == ["95.0%", "98.3%"]


def test_names_with_markup_stay_text(browser):
    assert browser.evaluate("document.title") == "Robustness of 2 models"
    assert browser.evaluate("document.querySelectorAll('script, b, #injected').length") == 0
    shown = browser.evaluate("document.querySelector('#model-1').innerText")
    assert all(name in shown for name in HOSTILE)
    assert browser.evaluate("document.querySelector('#model-1 h2').innerText") == "<b>one"


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_narrow_window_light_and_dark(browser, made, dark):
    browser.open(made[1], width=400, dark=dark)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 400
    colours = browser.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        ".map(colour => colour.match(/\\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0))"
    )
    assert (colours[0] < colours[1]) == dark
    assert browser.errors == []
