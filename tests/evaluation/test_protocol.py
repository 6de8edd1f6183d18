"""The protocol of section 4.5.1."""

import dataclasses

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from erkeras.attacks import FGSM, PGD, AdaptiveAttack, CarliniWagner
from erkeras.data import load_dataset
from erkeras.detection import Regression, fit_named_detector
from erkeras.evaluation import draw_scores, evaluate_robustness, protocol
from erkeras.evaluation.protocol import ALL, SUCCESSFUL
from erkeras.evaluation.sample import fitting_and_test_sets
from erkeras.progress import Progress
from erkeras.saved import load_model
from erkeras.threat import ThreatModel

THREAT = ThreatModel("l_inf", 0.15)
ATTACKS = {"fgsm": FGSM(THREAT), "pgd": PGD(THREAT, 5, 0.05)}


def attacked(model, split, attack):
    return protocol.within_ball(model, split, evaluate_robustness(model, split, [attack]))


@pytest.fixture(scope="module")
def dataset():
    return load_dataset("digits")


@pytest.fixture(scope="module")
def model(saved_model):
    return load_model("keras", saved_model / "model.keras")


@pytest.fixture(scope="module")
def halves(dataset, model):
    return [
        protocol.Half(clean, {name: attacked(model, clean, attack) for name, attack in ATTACKS.items()})
        for clean in fitting_and_test_sets(dataset.test, 0)
    ]


@pytest.fixture(scope="module", params=["er1", "lid"])
def seen(request, dataset, model, halves):
    fitted = fit_named_detector(request.param, model, dataset.train, 0)
    return protocol.Seen(request.param, "model", fitted, *halves, Progress())


def test_attacked_images_are_of_those_that_are_right_when_clean(model, halves):
    clean, found = halves[1].clean, halves[1].attacked["pgd"]
    right = model.predict(clean.images, verbose=0).argmax(axis=1) == clean.labels
    assert 0.5 < right.mean() < 1
    assert len(found.images) == right.sum()
    assert np.abs(found.images - clean.images[right]).max() <= 0.15 + 1e-6
    predictions = model.predict(found.images, verbose=0).argmax(axis=1)
    np.testing.assert_array_equal(found.right, predictions == clean.labels[right])
    assert found.rows(ALL).all()
    np.testing.assert_array_equal(found.rows(SUCCESSFUL), ~found.right)


def test_what_is_found_outside_the_bound_is_brought_back(model, dataset):
    split = dataset.test.take(np.arange(40))
    threat = ThreatModel.root_mean_square(0.05, dataset.image_shape)
    attack = CarliniWagner(threat, learning_rate=0.1, iterations=60, binary_search_steps=3, initial_constant=1.0)
    found = attacked(model, split, attack)
    right = model.predict(split.images, verbose=0).argmax(axis=1) == split.labels
    distance = np.sqrt(np.mean((found.images - split.images[right]) ** 2, axis=(1, 2, 3)))
    assert distance.max() <= 0.05 + 1e-5
    assert np.mean(distance > 0.0499) > 0.3
    predictions = model.predict(found.images, verbose=0).argmax(axis=1)
    np.testing.assert_array_equal(found.right, predictions == split.labels[right])
    assert found.right[distance > 0.0499].any()


@pytest.mark.parametrize("positives", [ALL, SUCCESSFUL])
def test_a_cell_is_fitted_on_one_set_and_evaluated_on_the_other(seen, halves, positives):
    cell = seen.cell("fgsm", "pgd", positives, None)
    (natural, _), (fgsm, pgd) = (
        [seen.detector.statistics(half.clean.images) for half in halves],
        [half.attacked[name] for half, name in zip(halves, ("fgsm", "pgd"), strict=True)],
    )
    rows = [~part.right if positives == SUCCESSFUL else slice(None) for part in (fgsm, pgd)]
    regression = Regression.fit(natural, seen.detector.statistics(fgsm.images[rows[0]]), None)
    odds = [
        regression.log_odds(seen.detector.statistics(images))
        for images in (halves[1].clean.images, pgd.images[rows[1]])
    ]
    right = pgd.right[rows[1]]
    assert cell.criteria.acc_nadv == np.mean(odds[0] <= 0)
    assert cell.criteria.acc_adv == np.mean(odds[1] > 0)
    assert cell.criteria.acc_com == np.mean((odds[1] > 0) | right)
    assert cell.criteria.without_detector == np.mean(right)
    assert cell.criteria.adversarial == len(right)
    truth = np.repeat([0, 1], [len(odds[0]), len(odds[1])])
    assert cell.separation.auroc == pytest.approx(roc_auc_score(truth, np.concatenate(odds)))
    if positives == SUCCESSFUL:
        assert cell.criteria.without_detector == 0
        assert cell.criteria.acc_com == cell.criteria.acc_adv


def test_without_a_success_to_fit_on_there_is_no_figure(dataset, model, halves):
    """Of an attack that broke nothing on set I."""
    unbroken = dataclasses.replace(
        halves[0].attacked["fgsm"], right=np.ones(len(halves[0].attacked["fgsm"].right), bool)
    )
    fitting = protocol.Half(halves[0].clean, {"fgsm": unbroken})
    evaluating = protocol.Half(halves[1].clean, {"fgsm": halves[1].attacked["fgsm"]})
    detector = fit_named_detector("er1", model, dataset.train, 0)
    seen = protocol.Seen("er1", "model", detector, fitting, evaluating, Progress())
    cell = seen.cell("fgsm", "fgsm", SUCCESSFUL, None)
    assert cell.criteria is None
    assert cell.summary()["acc_com"] is None
    assert seen.cell("fgsm", "fgsm", ALL, None).criteria is not None


def test_the_adaptive_attacker_does_no_worse(seen, halves, model):
    part = halves[1].clean.take(np.arange(64))
    found = seen.against_adaptive("pgd", ATTACKS["pgd"], part, None, 0, Progress(), "adaptive")
    plain = ATTACKS["pgd"](model, part.images, part.labels, indices=part.indices)
    verdicts = seen.regression("pgd", ALL, None).verdicts(seen.detector.statistics(plain.images))
    right = ~plain.wrong_when_clean
    assert found["acc_com"] <= np.mean((~plain.success | verdicts)[right])
    alone = protocol.accuracy_under(model, part, ATTACKS["pgd"], 0, Progress(), "alone")
    assert found["acc_com"] >= alone - 0.05
    assert found["acc_nadv"] == seen.cell("pgd", "pgd", ALL, None).criteria.acc_nadv


def test_what_the_classifier_keeps_is_counted_of_what_it_gets_right(halves, model):
    part = halves[1].clean.take(np.arange(40))
    logits = model.predict(part.images, verbose=0)
    right = np.flatnonzero(logits.argmax(axis=1) == part.labels)
    # Labels that were wrong when clean, on either side of the prediction, and that no attack has to break.
    labels = logits.argmin(axis=1)
    labels[right[::2]] = part.labels[right[::2]]
    mixed = dataclasses.replace(part, labels=labels)
    assert (labels < logits.argmax(axis=1)).any()
    assert (labels > logits.argmax(axis=1)).any()
    found = protocol.accuracy_under(model, mixed, ATTACKS["pgd"], 0, Progress(), "alone")
    restarts = AdaptiveAttack(ATTACKS["pgd"]).attempts
    attack = dataclasses.replace(ATTACKS["pgd"], restarts=restarts)
    kept = part.take(right[::2])
    assert found == np.mean(~attack(model, kept.images, kept.labels, indices=kept.indices).success)
    none = part.take(right[1::2])
    none = dataclasses.replace(none, labels=logits.argmin(axis=1)[right[1::2]])
    assert protocol.accuracy_under(model, none, ATTACKS["pgd"], 0, Progress(), "alone") is None


def test_scores_are_drawn(seen, tmp_path):
    panel = seen.scores("fgsm", "pgd", None)
    assert len(panel["failed"]) + len(panel["successful"]) == len(seen.evaluating.attacked["pgd"].right)
    assert panel["threshold"] == 0
    draw_scores(tmp_path / "s.png", {"one": panel, "other": {**panel, "failed": np.zeros(0)}}, "title")
    assert np.asarray(Image.open(tmp_path / "s.png").convert("L")).std() > 10
