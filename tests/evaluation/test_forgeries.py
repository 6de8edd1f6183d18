"""Records that say more than is so: each forgery is found, by what is recomputed or by attacking again."""

import json
import shutil

import numpy as np
import pytest

from erkeras.data import load_dataset
from erkeras.errors import InputError
from erkeras.evaluation import Evaluation, verify_record
from erkeras.evaluation.answers import ANSWERS
from erkeras.saved import newest_version

LIMIT = 40


@pytest.fixture(scope="module")
def made(saved_model, tmp_path_factory):
    """A model whose card keeps a record of two attacks. Not to be written to."""
    model = shutil.copytree(saved_model, tmp_path_factory.mktemp("made") / "model")
    Evaluation(model, ["fgsm", "apgd-ce"], limit=LIMIT, card=True).run()
    return model


class Forger:
    """Changes the files of a model's record."""

    def __init__(self, model):
        self.model = model
        (self.record,) = (model / "records").iterdir()
        self.lines = [json.loads(line) for line in (self.record / "examples.jsonl").read_text().splitlines()]
        with np.load(self.record / "images.npz") as arrays:
            self.images = arrays["images"].copy()
        self.settings, self.result, self.card = (
            json.loads(path.read_text())
            for path in (self.record / "settings.json", self.record / "result.json", model / "card.json")
        )
        self.entry = self.card["evaluations"][0]

    def row(self, broken_by):
        return next(row for row, line in enumerate(self.lines) if line["broken_by"] == broken_by)

    def figures(self):
        """Both places of the figures."""
        return self.result["summary"], self.entry["summary"]

    def write(self):
        (self.record / ANSWERS).unlink()  # a record need not keep any
        (self.record / "examples.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in self.lines))
        np.savez_compressed(self.record / "images.npz", images=self.images)
        for path, value in (
            (self.record / "settings.json", self.settings),
            (self.record / "result.json", self.result),
            (self.model / "card.json", self.card),
        ):
            path.write_text(json.dumps(value))


@pytest.fixture
def forger(made, tmp_path):
    return Forger(shutil.copytree(made, tmp_path / "model"))


def clean_image(forger, row):
    split = load_dataset("digits").test
    return split.images[np.flatnonzero(split.indices == forger.lines[row]["index"])[0]]


def put_back(forger):
    """A broken image becomes a standing one, with the clean image in its place, and every figure follows."""
    for row, line in enumerate(forger.lines):
        if line["broken_by"] == "apgd-ce":
            forger.images[row] = clean_image(forger, row)
            line.update(broken_by=None, prediction=line["label"], distance=0.0)
    for figures in forger.figures():
        figures["attacks"]["apgd-ce"] = figures["robust_accuracy"] = figures["attacks"]["fgsm"]


def break_claims(forger, **changes):
    forger.lines[forger.row("fgsm")].update(changes)


def settings(forger, **changes):
    forger.settings.update(changes)


def double_epsilon(forger, everywhere):
    threats = [forger.settings["threat"]]
    if everywhere:
        threats += [attack["config"]["threat"] for attack in forger.settings["attacks"]] + [forger.entry["threat"]]
    for threat in threats:
        threat["epsilon"] *= 2


def repeat(forger):
    """One standing example, as often as there are examples."""
    row = forger.row(None)
    forger.lines, forger.images = [forger.lines[row]] * LIMIT, np.repeat(forger.images[row : row + 1], LIMIT, axis=0)
    for figures in forger.figures():
        figures.update(clean_accuracy=1.0, robust_accuracy=1.0, attacks={"fgsm": 1.0, "apgd-ce": 1.0})


def leave_out(forger):
    row = forger.row("fgsm")
    del forger.lines[row]
    forger.images = np.delete(forger.images, row, axis=0)
    forger.settings["images"] = LIMIT - 1


def swap(forger):
    forger.lines[0], forger.lines[1] = forger.lines[1], forger.lines[0]
    forger.images[[0, 1]] = forger.images[[1, 0]]


def pixel(forger, broken_by, value):
    forger.images[forger.row(broken_by), 0, 0, 0] = value


def easier_data(forger):
    """The same labels, and images that hold the label in a pixel."""
    digits = load_dataset("digits")
    pixels = np.concatenate([part.images for part in (digits.train, digits.validation, digits.test)])
    labels = np.concatenate([part.labels for part in (digits.train, digits.validation, digits.test)])
    np.savez(forger.model.parent / "easy.npz", images=pixels * 0.5, labels=labels)
    forger.settings["dataset"] = forger.entry["dataset"] = f"npz:{forger.model.parent / 'easy.npz'}"


def rename(forger):
    forger.settings["attacks"][1]["name"] = "autoattack"


def figure(forger, places, name, value):
    for place in places:
        forger.figures()[place][name] = value


def another_model(forger):
    shutil.copy(forger.model / "1" / "saved_model.pb", forger.model / "other.pb")
    forger.settings["digest"] = "0" * 64


#: What is forged, and whether it takes an attack to find it.
FORGERIES = {
    "broken images put back": (put_back, True),
    "an image of the ball's outside": (lambda forger: pixel(forger, "fgsm", 0.99), False),
    "a standing image outside the ball": (lambda forger: pixel(forger, None, 0.99), False),
    "a pixel that is no number": (lambda forger: pixel(forger, "fgsm", np.nan), False),
    "a standing image that is no number": (lambda forger: pixel(forger, None, np.nan), False),
    "a pixel above 1": (lambda forger: pixel(forger, "apgd-ce", 1.2), False),
    "a pixel below 0": (lambda forger: pixel(forger, None, -0.2), False),
    "an example left out": (leave_out, False),
    "one example, repeated": (repeat, False),
    "two examples in another order": (swap, False),
    "a broken image that is said to stand": (lambda forger: break_claims(forger, broken_by=None), False),
    "a broken image that is said to be wrong when clean": (
        lambda forger: break_claims(forger, broken_by="clean"),
        False,
    ),
    "a broken image of another attack": (lambda forger: break_claims(forger, broken_by="apgd-ce"), False),
    "a broken image without an answer": (lambda forger: break_claims(forger, broken_by="no number"), True),
    "another label": (lambda forger: break_claims(forger, label=(forger.lines[0]["label"] + 1) % 10), False),
    "another index": (lambda forger: break_claims(forger, index=forger.lines[0]["index"] + 1), False),
    "another clean prediction": (lambda forger: break_claims(forger, clean_prediction=99), False),
    "another prediction": (lambda forger: break_claims(forger, prediction=99), False),
    "a smaller distance": (lambda forger: break_claims(forger, distance=0.01), False),
    "more passes": (lambda forger: break_claims(forger, queries={"fgsm": 900, "apgd-ce": 9}), False),
    "an epsilon of the settings": (lambda forger: double_epsilon(forger, False), False),
    "an epsilon everywhere": (lambda forger: double_epsilon(forger, True), True),
    "an attack's name": (rename, False),
    "an attack of more iterations": (
        lambda forger: forger.settings["attacks"][1]["config"].update(iterations=200),
        True,
    ),
    "another seed": (lambda forger: settings(forger, seed=5), False),
    "another limit": (lambda forger: settings(forger, limit=30), False),
    "another split": (lambda forger: settings(forger, split="validation"), False),
    "an easier data set": (easier_data, False),
    "the images' digest": (lambda forger: settings(forger, images_digest="0" * 64), False),
    "another model": (another_model, False),
    "99% in the result": (lambda forger: figure(forger, [0], "robust_accuracy", 0.99), False),
    "99% on the card": (lambda forger: figure(forger, [1], "robust_accuracy", 0.99), False),
    "99% in both": (lambda forger: figure(forger, [0, 1], "robust_accuracy", 0.99), False),
    "99% when clean": (lambda forger: figure(forger, [0, 1], "clean_accuracy", 0.99), False),
    "99% after an attack": (lambda forger: figure(forger, [1], "attacks", {"fgsm": 0.99, "apgd-ce": 0.99}), False),
    "more images": (lambda forger: figure(forger, [0, 1], "images", 1000), False),
    "passes of the result": (lambda forger: figure(forger, [0], "forward_passes", {"fgsm": 1, "apgd-ce": 1}), False),
    "outputs": (lambda forger: figure(forger, [1], "outputs", "probabilities"), False),
    "an epsilon of the card": (lambda forger: forger.entry["threat"].update(epsilon=0.3), False),
    "a data set of the card": (lambda forger: forger.entry.update(dataset="mnist"), False),
    "a seed of the card": (lambda forger: forger.entry.update(seed=3), False),
}


def test_what_is_not_forged_holds_and_withstands_the_attacks_again(made, heard):
    (record,) = (made / "records").iterdir()
    found = verify_record(record, again=LIMIT, progress=heard)
    assert found.false_claims == ()
    assert found.again == LIMIT
    assert heard.stages[0][0] == "attacking again"
    assert newest_version(made) == 1


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_is_found(forger, name):
    forge, again = FORGERIES[name]
    forge(forger)
    forger.write()
    try:
        found = verify_record(forger.record, again=LIMIT if again else 0, seed=1)
    except InputError:
        return
    assert not found.holds
    assert all(claim and "\n" not in claim for claim in found.false_claims)


@pytest.mark.parametrize("name", [name for name, (_, again) in FORGERIES.items() if again])
def test_that_images_stand_is_proved_by_attacking_alone(forger, name):
    """As for an image said to have had no answer: nothing of it can be seen in the record."""
    forge, _ = FORGERIES[name]
    forge(forger)
    forger.write()
    assert verify_record(forger.record).holds
