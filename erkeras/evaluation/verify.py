"""Whoever doubts: everything that a record claims, held against its images, its model and its data.

What is proved: the sample is the one that data set, split, limit and seed draw; its images are those of the data set;
every attacked image is finite, within the pixel bounds and the ball; every prediction, distance and accuracy is what
the model says of the images, in the examples, the result and the model's card. That an image withstands an attack is
proved by attacking it again: a verdict depends on the seed and the image's index alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from erkeras import attacks, data, evaluation, saved
from erkeras.attacks import Attack, Victim
from erkeras.attacks.named import recorded_attack
from erkeras.data import Split
from erkeras.evaluation.answers import ANSWERS, Answers, ask, read_answers, write_answers
from erkeras.evaluation.attacker import Attacker, Workers
from erkeras.evaluation.examples import STANDING, UNANSWERED, WRONG_WHEN_CLEAN, Examples
from erkeras.evaluation.record import Record
from erkeras.evaluation.sample import Sample
from erkeras.evaluation.subject import Subject, find_recorded
from erkeras.progress import Progress

#: How far a figure or a pixel may be off: rounding, on another processor too.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Verification:
    """Sets what a record says against what its images say.

    Attributes:
        images: how many.
        dataset, split: of the images.
        recorded, recomputed: robust accuracy.
        doubtful: int64, original indices of the images about which the two differ.
        false_claims: sentences about what does not hold; none where all does.
        again: how many images were attacked again.
    """

    images: int
    dataset: str
    split: str
    recorded: float
    recomputed: float
    doubtful: np.ndarray
    false_claims: tuple[str, ...]
    again: int = 0

    @property
    def holds(self) -> bool:
        """Tells whether all that the record claims is so."""
        return not self.false_claims


def verify_record(
    folder: str | Path,
    model: Any = None,
    modules: Sequence[str] = (),
    *,
    images: Split | None = None,
    again: int = 0,
    seed: int = 0,
    keep: bool = False,
    progress: Progress | None = None,
    workers: Workers | None = None,
) -> Verification:
    """Holds everything that a record claims against its images, its model and its data.

    Example:
        verify_record("record", again=10).holds

    Args:
        folder: of a record that is whole.
        model, modules: as for `find_recorded`.
        images: the whole split that the record is about, where it is loaded already.
        again: attack so many of the images again, and compare verdicts and images.
        seed: of the draw of these.
        keep: keep for a report, where the claims hold, what model and detector say of the images.
        progress: hears of a stage for these.
        workers: attack these in this process' place, as `erkeras.cluster.Workers` do.

    Raises:
        InputError: as `find_recorded`, and for a record that is not whole.
    """
    record, subject = find_recorded(folder, model, modules)
    chosen = [recorded_attack(entry) for entry in record.settings["attacks"]]
    examples = record.read_whole()
    sample = _sample_of(record)
    split = images or getattr(data.load_dataset(sample.dataset), sample.split)
    false_claims = list(_of_settings(record, chosen))
    clean, claim = _clean_images(record, examples, sample.draw(split), split)
    if clean is None:
        return _verification(record, sample, examples, None, np.zeros(0, bool), (*false_claims, claim), 0)
    false_claims += [claim] if claim else []
    with_detector = chosen[0].outputs_per_class > 1
    victim = attacks.as_victim(subject.load(with_detector))
    looked = _look(victim, chosen, clean, examples, record.internal_batch)
    false_claims += looked.false_claims
    figures = evaluation.Robustness(tuple(chosen), examples, victim.outputs, (), ()).summary()
    false_claims += _of_figures(record, subject, dataclasses.asdict(figures))
    asked = partial(ask, subject, victim, clean, examples, record.internal_batch, with_detector)
    false_claims += [] if keep else _of_answers(record, examples, asked)
    doubtful = looked.doubtful
    if again:
        attacker = workers.hold(subject, with_detector) if workers else victim
        differs = _attack_again(attacker, record, chosen, clean, examples, again, seed, progress or Progress())
        if differs.any():
            listed = _listed(examples.indices[differs])
            false_claims.append(f"attacked again, {differs.sum()} images end otherwise ({listed})")
        doubtful = doubtful | differs
    if keep and not false_claims:
        write_answers(record.folder, asked())
    return _verification(
        record, sample, examples, looked.stands, doubtful, tuple(false_claims), min(again, len(examples))
    )


def _verification(
    record: Record,
    sample: Sample,
    examples: Examples,
    stands: np.ndarray | None,
    doubtful: np.ndarray,
    false_claims: tuple[str, ...],
    again: int,
) -> Verification:
    return Verification(
        images=len(examples),
        dataset=sample.dataset,
        split=sample.split,
        recorded=float(np.mean(examples.broken_by == STANDING)),
        recomputed=float("nan") if stands is None else float(stands.mean()),
        doubtful=examples.indices[np.flatnonzero(doubtful)],
        false_claims=false_claims,
        again=again,
    )


def _sample_of(record: Record) -> Sample:
    settings = record.settings
    names = ("split", "limit", "seed", "part")
    return Sample(settings.get("dataset", ""), **{name: settings[name] for name in names if name in settings})


def _of_settings(record: Record, chosen: list[Attack]) -> Iterator[str]:
    """Lists where the settings contradict the attacks that they list."""
    threat = record.settings.get("threat")
    for attack in chosen:
        if threat is not None and dataclasses.asdict(attack.threat) != threat:
            yield f"the threat model is said to be {threat}, and {attack.name} acts in {attack.threat}"
    names = [attack.name for attack in chosen]
    if len(set(names)) < len(names):
        yield f"the attacks {', '.join(names)} are not each there once"


def _clean_images(record: Record, examples: Examples, drawn: Split, split: Split) -> tuple[Split | None, str]:
    """The clean images of the examples, and a claim about them that is false; None where they cannot be had."""
    digest = record.settings.get("images_digest")
    order = np.argsort(split.indices)
    rows = order[np.minimum(np.searchsorted(split.indices[order], examples.indices), len(split) - 1)]
    if not np.array_equal(split.indices[rows], examples.indices):
        return None, "it names images that the data set does not have"
    clean = split.take(rows)
    if not np.array_equal(clean.labels, examples.labels):
        return clean, "it has other labels than the data set"
    known = {"dataset", "split", "limit"} <= record.settings.keys()  # of one that was made by hand it is not
    if known and not np.array_equal(drawn.indices, examples.indices):
        return clean, "its images are not the sample that its data set, split, limit and seed draw, each once"
    if digest is not None and clean.digest != digest:
        return clean, "its data set had other images than this one"
    return clean, ""


@dataclass(frozen=True)
class _Looked:
    """Holds what a model says of a record's images.

    Attributes:
        stands: bool `[n]`, right when clean and attacked.
        doubtful: bool `[n]`, a claim about the image is false.
        false_claims: in words.
    """

    stands: np.ndarray
    doubtful: np.ndarray
    false_claims: list[str]


def _look(victim: Victim, chosen: list[Attack], clean: Split, examples: Examples, internal_batch: int) -> _Looked:
    attack, threat = chosen[0], chosen[0].threat
    outputs = [
        victim.outputs_for(images, attack.knowledge, internal_batch) for images in (clean.images, examples.images)
    ]
    broken_clean, broken = (attack.broken(examples.labels, part).numpy() for part in outputs)
    predictions = [attack.predictions(part).numpy() for part in outputs]
    distance = np.asarray(threat.distance(examples.images, clean.images))
    axes = tuple(range(1, examples.images.ndim))
    finite = np.isfinite(examples.images).all(axis=axes)
    inside = threat.allows(distance) & finite
    # One that minimises keeps the nearest image that it found, where it is outside the ball too.
    kept_outside = chosen[-1].minimises & (examples.broken_by == STANDING)
    said = examples.broken_by
    stands = ~broken_clean & ~(broken & inside) & (said != UNANSWERED)
    with np.errstate(invalid="ignore"):
        in_bounds = ((examples.images >= threat.lower) & (examples.images <= threat.upper)).all(axis=axes)
        near = np.abs(distance - examples.distance) <= _ROUNDING * (1 + np.abs(distance))
    claims = {
        "an attacked image is no number or outside the pixel bounds": ~(finite & in_bounds),
        "an attacked image is outside the ball": ~inside & ~kept_outside,
        "an image is said to be wrong when clean, or right, and is not": (said == WRONG_WHEN_CLEAN) != broken_clean,
        "an image is said to be broken, and is not": (said >= 0) & ~(broken & inside),
        "an image is said to stand, and is broken": (said == STANDING) & broken & inside,
        "a prediction is not what the model gives": (predictions[1] != examples.predictions),
        "a clean prediction is not what the model gives": (predictions[0] != examples.clean_predictions),
        "a distance is not the image's": ~near,
        "a number of passes is negative": ((examples.queries < 0) | (examples.gradients < 0)).any(axis=1),
    }
    false_claims = [
        f"{words} ({rows.sum()} images: {_listed(examples.indices[rows])})"
        for words, rows in claims.items()
        if rows.any()
    ]
    return _Looked(stands, np.any(list(claims.values()), axis=0), false_claims)


def _of_figures(record: Record, subject: Subject, figures: dict[str, Any]) -> Iterator[str]:
    """Lists where the result and the model's card contradict the examples."""
    places = {evaluation.record.RESULT: record.result().get("summary", {})}
    home = subject.path or Path()
    for entry in subject.card.evaluations if subject.card else ():
        if (home / entry.record).absolute() == record.folder.absolute():
            places[saved.CARD] = dataclasses.asdict(entry.summary)
            for name in ("dataset", "split", "seed", "threat"):
                said, recorded = getattr(entry, name), record.settings.get(name)
                if (dataclasses.asdict(said) if name == "threat" else said) != recorded:
                    yield f"{saved.CARD} says {name} {said}, and the record {recorded}"
    for place, said in places.items():
        for name, value in figures.items():
            if name != "warnings" and not _same(said.get(name), value):
                yield f"{place} says {name} {said.get(name)}, and the examples {value}"


def _of_answers(record: Record, examples: Examples, asked: Callable[[], Answers]) -> Iterator[str]:
    """Lists where the record's answers for a report contradict the model and its detector."""
    kept = read_answers(record.folder, examples)
    # A randomised model says otherwise each time.
    if kept and kept.differs(found := asked()) and not found.differs(asked()):
        yield f"{ANSWERS} says otherwise of the images than the model and its detector"


def _same(said: Any, value: Any) -> bool:
    if isinstance(value, dict):
        return (
            isinstance(said, dict)
            and said.keys() == value.keys()
            and all(_same(said[key], value[key]) for key in value)
        )
    if isinstance(value, float):
        return isinstance(said, (int, float)) and abs(said - value) <= _ROUNDING
    return bool(said == value)


def _attack_again(
    attacker: Attacker | Victim,
    record: Record,
    chosen: list[Attack],
    clean: Split,
    examples: Examples,
    count: int,
    seed: int,
    progress: Progress,
) -> np.ndarray:
    """Attacks some images again: bool `[n]`, which end otherwise than recorded."""
    rows = np.sort(np.random.RandomState(seed).permutation(len(clean))[:count])
    found = evaluation.evaluate_robustness(
        attacker,
        clean.take(rows),
        chosen,
        seed=_sample_of(record).seed,
        internal_batch=record.internal_batch,
        progress=progress,
        stage="attacking again",
    ).examples
    differs = np.zeros(len(clean), bool)
    axes = tuple(range(1, found.images.ndim))
    differs[rows] = (
        (found.broken_by != examples.broken_by[rows])
        | (found.predictions != examples.predictions[rows])
        | (found.queries != examples.queries[rows]).any(axis=1)
        | (found.gradients != examples.gradients[rows]).any(axis=1)
        | ~np.isclose(found.images, examples.images[rows], atol=_ROUNDING).all(axis=axes)
    )
    return differs


def _listed(indices: np.ndarray) -> str:
    words = ", ".join(str(index) for index in indices[:5])
    return f"original indices {words}{', ...' if len(indices) > 5 else ''}"
