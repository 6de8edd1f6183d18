"""What the tests of reports share: folders of models with card and records, and nothing that runs."""

import dataclasses

import numpy as np

from erkeras.evaluation import Examples, Record
from erkeras.evaluation.answers import Answers, rows_to_show, write_answers
from erkeras.evaluation.examples import STANDING, WRONG_WHEN_CLEAN
from erkeras.evaluation.rows import stands_after
from erkeras.saved import MODEL, DatasetEntry, EvaluationEntry, Summary, fingerprint
from erkeras.saved.folder import write_card
from erkeras.threat import ThreatModel
from helpers.golden import GOLDEN

N, THREAT = 60, ThreatModel("l_inf", 0.2)
HOSTILE = ("<b id='injected'>one</b>", 'zwei & "drei"', "</style><script>document.title = 'taken'</script>")
WARNING = (
    "square broke 5.0% of the images after the gradient attacks had given up: the gradients may be masked. Run it with "
    "more queries, and gradient attacks with more restarts."
)


def examples_of(broken=(1, 2, 3, 4, 5), later=(8, 9, 10), wrong=(0,), n=N, classes=3, shape=(8, 8, 1), attacks=2):
    """Images of which some are broken by the first attack, some by the second, and some wrong when clean; and these."""
    random = np.random.RandomState(0)
    clean = random.rand(n, *shape).astype(np.float32)
    labels = (np.arange(n) % classes).astype(np.int32)
    broken_by = np.full(n, STANDING, np.int32)
    broken_by[list(broken)], broken_by[list(later)], broken_by[list(wrong)] = 0, attacks - 1, WRONG_WHEN_CLEAN
    other = (labels + 1) % classes
    predictions = np.where(broken_by == STANDING, labels, other).astype(np.int32)
    clean_predictions = np.where(broken_by == WRONG_WHEN_CLEAN, other, labels).astype(np.int32)
    attacked = np.clip(clean + 0.2 * np.sign(random.rand(*clean.shape) - 0.5), 0, 1).astype(np.float32)
    counts = np.full((n, attacks), 7, np.int64)
    distance = np.full(n, 0.2, np.float32)
    found = Examples(
        1000 + np.arange(n), labels, clean_predictions, broken_by, predictions, distance, counts, counts, attacked
    )
    return found, clean


def answers_of(examples, clean, with_scores=True):
    """Margins that agree with the examples, and scores that find most broken images."""
    each = np.arange(len(examples), dtype=np.float32)
    right = examples.predictions == examples.labels
    margins = np.where(right, 1 + each / 10, -1 - each / 10).astype(np.float32)
    clean_margins = np.where(examples.broken_by == WRONG_WHEN_CLEAN, -1, 2 + each / 10).astype(np.float32)
    scores = np.where(right, each / 30 - 1, 2 - each / 4).astype(np.float32)
    rows = rows_to_show(examples, margins)
    both = (each / 30 - 2, scores) if with_scores else (None, None)
    return Answers(clean_margins, margins, *both, rows, clean[rows])


def summary_of(examples, names, warnings=(), **changes):
    after = {name: float(np.mean(stands_after(examples, number))) for number, name in enumerate(names)}
    passes = {name: 7 * len(examples) for name in names}
    clean = float(np.mean(examples.broken_by != WRONG_WHEN_CLEAN))
    found = Summary(
        len(examples), "logits", clean, after, list(after.values())[-1], None, passes, passes, tuple(warnings)
    )
    return dataclasses.replace(found, **changes)


def record_of(folder, digest, examples, names, summary, threat=THREAT, **changes):
    """A finished record in a folder."""
    attacks = [{"name": name, "config": {"threat": dataclasses.asdict(threat), "steps": 3}} for name in names]
    record = Record.create(
        folder,
        {"model": "elsewhere", "digest": digest, "dataset": "digits", "split": "test", "limit": len(examples),
         "seed": 5, "threat": dataclasses.asdict(threat), "images": len(examples),
         "image_shape": list(examples.images.shape[1:]), "attacks": attacks, "versions": {"erkeras": "0.2.0"},
         "processor": "A processor", **changes},
    )  # fmt: skip
    record.append(examples, [1.0] * len(names))
    record.finish({"seconds": dict.fromkeys(names, 1.0), "summary": dataclasses.asdict(summary)})
    return record


def model_of(
    folder, classes=HOSTILE, names=("apgd-ce", "square"), made=None, with_answers=True, weights=b"weights",
    warnings=(WARNING,), **changes,
):  # fmt: skip
    """A folder with a card and a record, whose model is a few bytes; its one evaluation."""
    folder.mkdir(parents=True)
    (folder / MODEL).write_bytes(weights)
    examples, clean = made or examples_of()
    summary = summary_of(examples, names, warnings)
    title = f"{' '.join(names)} l_inf 0.2 test"
    place = folder / "records" / title.replace(" ", "-")
    place.parent.mkdir()
    record_of(place, fingerprint(folder / MODEL), examples, names, summary)
    if with_answers:
        write_answers(place, answers_of(examples, clean))
    entry = EvaluationEntry(title, "digits", "test", 5, THREAT, summary, f"records/{place.name}")
    card = dataclasses.replace(
        GOLDEN,
        name=folder.name,
        dataset=DatasetEntry(examples.images.shape[1:], tuple(classes), "digits", 1149, 288, 360),
        evaluations=(entry,),
        files={},
        **changes,
    )
    write_card(folder, card)
    return folder
