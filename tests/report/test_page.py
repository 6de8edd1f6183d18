"""The page: its figures are the card's, its texts stay texts, it asks for nothing from elsewhere, and it is small."""

import base64
import dataclasses
import hashlib
import itertools
import re
from html.parser import HTMLParser

import pytest

from erkeras.errors import InputError
from erkeras.report import page, render_report, write_report
from erkeras.report.evaluations import Table
from erkeras.report.sources import read_sources
from erkeras.saved import read_card
from helpers.reports import HOSTILE, examples_of, model_of

_EMPTY = ("meta", "link", "img", "br")


class Elements(HTMLParser):
    """The elements of a page, each with its attributes, and the text of each cell."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.cells, self.texts = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, name, attributes):
        self.found.append((name, dict(attributes)))
        assert len(dict(attributes)) == len(attributes)
        if name not in _EMPTY:
            self.open.append(name)
        if name in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, text):
        self.texts.append(text)
        if "td" in self.open or "th" in self.open:
            self.cells[-1] += text

    def of(self, name):
        return [attributes for kind, attributes in self.found if kind == name]


@pytest.fixture
def folder(tmp_path):
    return model_of(tmp_path / "<i>mine & 'yours'")


@pytest.fixture
def text(folder):
    return render_report(read_sources([folder]))


def test_the_figures_of_its_tables_are_the_cards(folder, text):
    cells = Elements(text).cells
    (entry,) = read_card(folder).evaluations
    for name, accuracy in {"clean": entry.summary.clean_accuracy, **entry.summary.attacks}.items():
        places = [place for place, cell in enumerate(cells) if cell == name]
        assert any(cells[place + 2] == f"{100 * accuracy:.1f}%" for place in places), name


def test_names_with_markup_stay_text(text):
    found = Elements(text)
    assert not found.of("script")
    assert not found.of("b")
    assert not found.of("i")
    assert not [attributes for _, attributes in found.found if attributes.get("id") == "injected"]
    for name in HOSTILE:
        assert name in found.cells
    assert any("<i>mine & 'yours'" in words for words in found.texts)
    assert len(found.of("style")) == 1


def test_it_asks_for_nothing_from_elsewhere_and_runs_nothing(text):
    found = Elements(text)
    policy = next(each["content"] for each in found.of("meta") if each.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy
    assert "url(" not in style
    assert "@import" not in style
    for name, attributes in found.found:
        assert not [key for key in attributes if key.startswith("on") or key == "style"], name
        for key in ("src", "href", "action", "data", "poster", "srcset"):
            assert attributes.get(key, "#").startswith(("#", "data:image/png;base64,")), attributes


def test_every_link_leads_to_one_place(text):
    found = Elements(text)
    names = [attributes["id"] for _, attributes in found.found if "id" in attributes]
    assert len(names) == len(set(names))
    assert {attributes["href"][1:] for attributes in found.of("a")} <= set(names)


def test_pictures_tables_and_charts_are_named_for_who_does_not_see_them(text):
    found = Elements(text)
    assert len(found.of("img")) == 3 * (8 + 12)
    assert all(attributes["alt"] for attributes in found.of("img"))
    assert all(a.get("aria-label") or a.get("aria-hidden") for a in found.of("svg"))
    assert all(attributes.get("scope") in ("col", "row") for attributes in found.of("th"))
    assert len(found.of("caption")) == len(found.of("table"))
    assert found.of("html") == [{"lang": "en"}]
    levels = [int(name[1]) for name, _ in found.found if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))


def test_the_same_sources_give_the_same_page(folder, text):
    assert render_report(read_sources([folder])) == text


def test_several_models_stand_beside_each_other(tmp_path):
    models = [model_of(tmp_path / name, weights=name.encode()) for name in ("a", "b")]
    text = render_report(read_sources(models))
    found = Elements(text)
    assert "Robustness of 2 models" in text
    assert "Paired tests" in text
    assert {"#model-1", "#model-2", "#comparison"} <= {attributes["href"] for attributes in found.of("a")}
    levels = [int(name[1]) for name, _ in found.found if re.fullmatch("h[1-6]", name)]
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))


def test_bare_models_have_a_page(tmp_path):
    """Without training, detector, record, or answers, one after the other."""
    from erkeras.saved.folder import write_card

    folder = model_of(tmp_path / "mine", with_answers=False)
    card = read_card(folder)
    for changes in ({"detector": None}, {"job": None, "training": None}, {"evaluation": None}):
        card = dataclasses.replace(card, **changes)
        write_card(folder, card)
        Elements(render_report(read_sources([folder])))
    write_card(folder, dataclasses.replace(read_card(folder), dataset=dataclasses.replace(card.dataset, name=None)))
    Elements(render_report(read_sources([folder])))


def test_what_has_no_shape_becomes_a_sign(tmp_path):
    folder = model_of(tmp_path / "mine", classes=("a\x00\x1b[2J", "\u202eolleh", "c"))
    assert write_report([folder], tmp_path / "report.html") > 0
    text = (tmp_path / "report.html").read_text()
    assert text.count("\ufffd") > 3
    assert not re.search("[\x00\x1b\u202e]", text)
    (model,) = read_sources([folder])
    elsewhere = dataclasses.replace(model, folder=tmp_path / "no UTF-8 \udcff")
    assert "no UTF-8 \ufffd" in render_report([elsewhere])


def test_a_page_of_large_colour_images_is_small(tmp_path):
    made = examples_of(broken=range(1, 13), later=(), n=26, shape=(130, 130, 3))
    size = write_report([model_of(tmp_path / "large", made=made)], tmp_path / "report.html")
    assert 2_000_000 < size < 5_000_000
    assert (tmp_path / "report.html").stat().st_size == size


def test_a_page_that_would_be_too_large_is_refused(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "MOST", 10_000)
    with pytest.raises(InputError, match=r"the report has 0\.\d MB, and may have 0\.01: give fewer models"):
        write_report([folder], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_numbers_stand_in_columns_of_numbers(text):
    assert '<td class="number">85.0%</td>' in text
    columns = ("model", "images", "interval", "taken for", "nothing")
    table = Table("T", columns, (("1", "1,234", "98.8% to 99%", "9 (3 of 4)", ""), ("2", "", "-1.5", "3", "")))
    assert table.numeric == (False, True, True, False, False)
