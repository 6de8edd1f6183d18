"""One model in the page: which figure stands above all, what it shows, and what it says is missing."""

import dataclasses
import shlex
import shutil

import numpy as np
import pytest

from erkeras.cli import main
from erkeras.evaluation.answers import ANSWERS
from erkeras.report.models import headline_of, part
from erkeras.report.sources import Curve, Reported, read_sources
from erkeras.saved import read_card
from erkeras.threat import ThreatModel
from helpers.reports import examples_of, model_of, summary_of

RECORD = "records/apgd-ce-square-l_inf-0.2-test"


@pytest.fixture
def folder(tmp_path):
    return model_of(tmp_path / "mine")


def read(folder, **options):
    (found,) = read_sources([folder], **options)
    return found


def titles(charts):
    return [chart.title for chart in charts]


def test_a_part_holds_the_figures_of_the_card(folder):
    card = read_card(folder)
    found = part(read(folder), "a", 10**6)
    assert found.anchor == "a"
    assert [section.anchor for section in found.sections] == ["a-evaluation-1", "a-evaluation-2"]
    recorded = next(section for section in found.sections if section.measured.folder)
    rows = {row[0]: row[2] for row in recorded.attacks.rows}
    assert rows == {"clean": "98.3%", "apgd-ce": "90.0%", "square": "85.0%"}
    assert recorded.attacks.rows[1][3:] == ("79.9% to 95.3%", "420", "420")
    assert recorded.verify == f"erkeras verify {folder / RECORD}"
    assert next(row[1:4] for row in recorded.classes.rows) == ("20", "95.0%", "85.0%")
    assert sum(count for _, cells in recorded.confusion.rows for count, _, _ in cells) == 60
    assert found.baseline.rows[1][1:] == ("98.0%", "30.0%", "2.0%", "2.0%")
    assert found.detector.rows[0][2] == "0.900"
    assert found.command == card.job.command
    assert dict(found.settings[1].rows)["epochs"] == "60"
    record = next(table for table in found.settings if table.caption.startswith("Record"))
    assert dict(record.rows)["seed"] == "5"
    assert dict(record.rows)["attack apgd-ce"] == "steps 3"


def test_the_headline_is_the_lowest_figure_of_the_cards_own_ball(folder):
    model = read(folder)
    recorded, trained = model.measured
    assert headline_of(model) is trained  # the card reports at 0.15, and the record is at 0.2
    same = dataclasses.replace(recorded, threat=trained.threat)
    assert headline_of(dataclasses.replace(model, measured=(same, trained))) is trained
    lower = dataclasses.replace(same, summary=dataclasses.replace(same.summary, robust_accuracy=0.1))
    assert headline_of(dataclasses.replace(model, measured=(trained, lower))) is lower
    aimed = dataclasses.replace(lower, summary=dataclasses.replace(lower.summary, attacks={"pgd-detector": 0.1}))
    assert headline_of(dataclasses.replace(model, measured=(trained, aimed))) is trained


def test_charts_of_a_record_with_answers(folder):
    found = part(read(folder), "a", 10**6)
    recorded = next(section for section in found.sections if section.measured.folder)
    assert titles(recorded.charts) == [
        "How far images are from a wrong label",
        "The detector's scores",
        "What the detector finds, over its false alarms (ROC)",
    ]
    assert [legend[1].split(":")[0] for legend in recorded.charts[2].legend[:2]] == [
        "broken images",
        "all attacked images",
    ]
    assert [gallery.broken for gallery in recorded.galleries] == [True, False]


def test_what_is_missing_is_named_with_a_command_that_exists(folder):
    def missing(model):
        found = part(model, "a", 10**6)
        return [
            *found.missing_curve,
            *found.missing_adaptive,
            *(one for part in found.sections for one in part.missing),
        ]

    everything = missing(read(folder))
    (folder / RECORD / ANSWERS).unlink()
    everything += missing(read(folder))
    shutil.rmtree(folder / "records")
    everything += missing(read(folder))
    model = read(folder)
    everything += missing(dataclasses.replace(model, measured=(model.training,)))
    sentences = [one.sentence for one in everything]
    for words in (
        "Accuracy over epsilon was not measured",
        "Nobody has attacked model and detector at once",
        "Almost all perturbations have the same norm",
        "does not keep what the model says of its images",
        "is not there. It would show",
        "Training keeps no record",
    ):
        assert any(words in sentence for sentence in sentences), words
    for command in (line for one in everything for line in one.command.splitlines()):
        _, name, *arguments = shlex.split(command)
        assert main.commands[name].make_context(name, arguments).params


def test_curves_come_from_files_from_distances_and_from_several_balls(folder, tmp_path):
    model = read(folder)
    assert part(model, "a", 10**6).curves == ()
    curve = Curve(tmp_path, (0.0, 0.1), ("pgd",), "l_inf", "digits", 20, 0, False, {"digest": (1.0, 0.5)})
    recorded = model.measured[0]
    near = dataclasses.replace(
        recorded, threat=ThreatModel("l_inf", 0.1), summary=dataclasses.replace(recorded.summary, robust_accuracy=0.95)
    )
    examples, _ = examples_of(broken=(1, 2), later=(), wrong=(0,), attacks=1)
    examples.distance[:] = np.linspace(0, 0.6, 60)
    rays = dataclasses.replace(
        recorded,
        title="rays",
        summary=summary_of(examples, ("rays",), mean_boundary_distance=0.3),
        examples=examples,
        answers=None,
    )
    full = dataclasses.replace(model, measured=(*model.measured, near, rays), curves=(curve,))
    found = part(full, "a", 10**6)
    assert titles(found.curves) == [
        "pgd on 20 test images of digits, seed 0",
        "RayS, l_inf epsilon 0.2, from the distances of its record",
        "apgd-ce and square, of 2 evaluations",
    ]
    assert found.missing_curve == ()
    assert "from 98.3% to 85.0%" in found.curves[2].description
    distances = next(section for section in found.sections if section.measured is rays)
    assert titles(distances.charts) == ["How large the perturbations are that break images"]


def test_a_model_of_which_little_is_known_makes_little(folder):
    model = read(folder)
    card = dataclasses.replace(
        model.card, job=None, training=None, evaluation=None, detector=None, processor=None, files={}
    )
    found = part(Reported(folder, card, model.measured[:1], (), "mine"), "a", 10**6)
    assert (found.baseline, found.detector, found.detector_sentences, found.command) == (None, None, (), "")
    assert found.missing_adaptive == ()
    assert dict(found.facts)["Detector"] == "none"


def test_many_classes_have_the_rows_of_both_ends(tmp_path):
    made = examples_of(broken=range(0, 30, 2), later=(), wrong=(), n=120, classes=30)
    folder = model_of(tmp_path / "many", classes=[f"class {number}" for number in range(30)], made=made)
    recorded = part(read(folder), "a", 10**6).sections
    (section,) = [one for one in recorded if one.measured.folder]
    assert len(section.classes.rows) == 20
    assert section.classes.rows[0][3] == "75.0%"
    assert section.classes.rows[-1][3] == "100.0%"
    assert section.confusion.rows == ()
    assert len(section.confusion.frequent) == 15
