"""A recorded evaluation: who is attacked, on which images, by what, and what is kept of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from erkeras import attacks, evaluation, saved
from erkeras.arguments import check_counts
from erkeras.attacks.named import AttackSettings
from erkeras.data import Split, check_dataset
from erkeras.errors import InputError
from erkeras.evaluation.answers import ANSWERS, ask, write_answers
from erkeras.evaluation.record import Record
from erkeras.evaluation.sample import Sample
from erkeras.evaluation.subject import Subject
from erkeras.memory import within_memory
from erkeras.progress import Progress
from erkeras.saved import EvaluationEntry
from erkeras.threat import ThreatModel
from erkeras.versions import processor, versions

if TYPE_CHECKING:
    from erkeras.attacks import Attack
    from erkeras.evaluation.attacker import Attacker, Workers
    from erkeras.evaluation.robustness import Robustness

#: Folder, within a model's, of the records that its card names.
RECORDS = "records"
#: What to do where memory runs out.
_LESS_MEMORY = "give a smaller internal batch; a record keeps what it has, and is gone on with by --resume"


class Evaluation:
    """Attacks a model, and keeps the results in a record and on the model's card.

    Whatever can be checked is checked at once, without TensorFlow.

    Example:
        evaluation = Evaluation("saved_models/digits-er-classifier", "apgd-ce", limit=100, card=True)
        print(evaluation.run().robust_accuracy)
        print(verify_record(evaluation.folder).recomputed)

    Args:
        model: the path of a folder of ours, of a .keras file or of a SavedModel; a model in memory; or a `Subject`.
        attacks: a name, names, `AttackSettings`, or attacks, which then have threat models of their own.
        dataset: as `load_dataset` takes it; by default what the model was trained on.
        split, limit, seed: see `Sample`; the seed is also that of the attacks' random numbers.
        part: see `Sample`.
        threat: by default the l_inf ball in which the model's card reports.
        record: folder for the record.
        card: record in the model's folder, and put the figures on its card.
        resume: go on with a record that is there.
        internal_batch: how many images the model sees at once; by default as the record says that goes on, or what
            suits the device.
        jit_compile: whether XLA compiles the loops of attacks; "auto": on a GPU.
        images: the sample, where it is loaded already.

    Attributes:
        subject, settings, sample, threat: as found; `settings` is None for attacks that have no names.
        folder: of the record; None without one.

    Raises:
        InputError: where the model, its data set, its threat model or its detector is missing, the record is there and
            `resume` is not set, or it is of another evaluation.
    """

    def __init__(
        self,
        model: Any,
        attacks: str | AttackSettings | Sequence[str] | Sequence[Attack] = "pgd",
        *,
        dataset: str | None = None,
        split: str = "test",
        limit: int | None = 1000,
        seed: int = 0,
        part: str | None = None,
        threat: ThreatModel | None = None,
        record: str | Path | None = None,
        card: bool = False,
        resume: bool = False,
        internal_batch: int | None = None,
        jit_compile: bool | str = "auto",
        images: Split | None = None,
    ) -> None:
        self.subject = Subject.find(model)
        self.settings, self._attacks = _understand(attacks)
        self.sample = Sample(_dataset_of(self.subject, dataset), split, limit, seed, part)
        self.threat = threat or (self._attacks[0].threat if self._attacks else threat_of(self.subject))
        if self._attacks and any(attack.threat != self.threat for attack in self._attacks):
            raise InputError(
                "the attacks have different threat models, or another one than threat: give all attacks the same, "
                "and leave threat out."
            )
        if internal_batch is not None:
            check_counts("the evaluation", internal_batch=internal_batch)
        self._internal_batch, self._jit_compile = internal_batch, jit_compile
        self._images = images
        self._attacker: Attacker | None = None
        self._with_detector = bool(self.settings and self.settings.with_detector)
        shape = images.pixels.shape[1:] if images else check_dataset(self.sample.dataset)
        self.subject.check(self._with_detector, shape, self.sample.dataset)
        self.folder = Path(record) if record is not None else None
        if card:
            if self.subject.card is None or self.subject.path is None or record is not None:
                raise InputError(
                    "the card was asked for without a folder that erkeras wrote, or together with a record: leave "
                    "one out."
                )
            self.folder = self.subject.path / RECORDS / self.title.replace(" ", "-")
        self._record = self._open(resume)

    def run(
        self, progress: Progress | None = None, stage: str = "attacking", workers: Workers | None = None
    ) -> Robustness:
        """Attacks the images; those that a record holds are not attacked again.

        Args:
            progress: hears of one stage.
            stage: its name.
            workers: attack in this process' place, as `erkeras.cluster.Workers` do; the record is the same.

        Raises:
            InputError: whatever the attacks raise.
            OutOfMemoryError: says what to make smaller. A record keeps the images that it has.
        """
        if workers:
            self._attacker = workers.hold(self.subject, self._with_detector, self._jit_compile)
        else:
            self._attacker = evaluation.ThisProcess(attacks.as_victim(self.victim, self._jit_compile))
        if self.folder is not None:
            self._record = self._checked() if self._record else Record.create(self.folder, self._all_settings())
        try:
            with within_memory("in attacking", _LESS_MEMORY):
                found = evaluation.evaluate_robustness(
                    self._attacker,
                    self.images,
                    self.attacks,
                    seed=self.sample.seed,
                    internal_batch=self.internal_batch,
                    record=self._record,
                    progress=progress,
                    stage=stage,
                )
        except Exception as error:
            # A served model's failure as it was, not as TensorFlow tells of it.
            failure = None if workers else getattr(self.victim, "failure", None)
            if failure is None:
                raise
            raise failure from error
        finally:
            if self._record:
                self._record.unlock()
        if self.folder is not None and self.subject.path and self.folder.parent == self.subject.path / RECORDS:
            saved.add_evaluation(self.subject.path, self.card_entry(found))
            if workers is None and not (self.folder / ANSWERS).exists():  # who has workers holds no model
                self._keep_answers(self.folder, found)
        return found

    def _keep_answers(self, folder: Path, found: Robustness) -> None:
        """Keeps, for a report, what the model and its detector say of the images."""
        victim = attacks.as_victim(self.victim, self._jit_compile)
        asked = ask(self.subject, victim, self.images, found.examples, self.internal_batch, self._with_detector)
        write_answers(folder, asked)

    def check_naive(self) -> None:
        """Checks that the model has a purifier, and that nothing is recorded.

        Raises:
            InputError: where not.
        """
        if not (self.subject.card and self.subject.card.purified) or self.folder or self._with_detector:
            raise InputError(
                "a naive attack was asked for without a model of erkeras train --defense defense-gan, or together with "
                "a record, a card or a detector: leave it out."
            )

    def run_naively(self, progress: Progress | None = None) -> Robustness:
        """Attacks the classifier behind a purifier alone, and classifies what comes of it through the purifier.

        Raises:
            InputError: as `check_naive`, and whatever the attacks raise.
        """
        self.check_naive()
        progress = progress or Progress()
        found = evaluation.evaluate_robustness(
            self.victim.classifier,
            self.images,
            self.attacks,
            seed=self.sample.seed,
            internal_batch=self.internal_batch,
            progress=progress,
        )
        progress.stage("purifying", 1)
        found = evaluation.evaluate_transferred(self.victim, found, self.images)
        progress.advance(1)
        return found

    @cached_property
    def images(self) -> Split:
        """Loads the images."""
        return self._images or self.sample.load()

    @cached_property
    def victim(self) -> Any:
        """Loads the model as attacks take it."""
        return self.subject.load(self._with_detector)

    @cached_property
    def internal_batch(self) -> int:
        """Gives how many images the model sees at once."""
        if self._record is not None:
            return self._record.internal_batch
        if self._internal_batch is not None:
            return self._internal_batch
        attacker = self._attacker or evaluation.ThisProcess(attacks.as_victim(self.victim, self._jit_compile))
        return attacker.fitting_batch(self.images.take(np.arange(1)).images)

    @cached_property
    def attacks(self) -> list[Attack]:
        """Makes the attacks."""
        return self._attacks or (self.settings.make(self.threat) if self.settings else [])

    @property
    def title(self) -> str:
        """Gives what tells this evaluation apart from others of the same model."""
        if self.settings:
            version = f"autoattack {self.settings.version or 'standard'}"
            names = [version if name == "autoattack" else name for name in self.settings.attacks]
        else:
            names = [attack.name for attack in self.attacks]
        detector = "with detector" if self._with_detector else ""
        threat = f"{self.threat.norm} {self.threat.epsilon:g}"
        return " ".join(word for word in [*dict.fromkeys(names), detector, threat, self.sample.split] if word)

    def card_entry(self, robustness: Robustness) -> EvaluationEntry:
        """Makes what the model's card says of the evaluation."""
        assert self.folder is not None
        assert self.subject.path is not None
        return EvaluationEntry(
            title=self.title,
            dataset=self.sample.dataset,
            split=self.sample.split,
            seed=self.sample.seed,
            threat=self.threat,
            summary=robustness.summary(),
            record=self.folder.relative_to(self.subject.path).as_posix(),
        )

    def report(self, robustness: Robustness) -> dict[str, Any]:
        """Lists the figures, the settings, and the verdict of every image, as plain values."""
        return {
            "model": self.subject.name,
            "dataset": self.sample.dataset,
            "split": self.sample.split,
            "seed": self.sample.seed,
            "settings": {attack.name: attack.get_config() for attack in robustness.attacks},
            **dataclasses.asdict(robustness.summary()),
            "seconds": dict(zip(robustness.names, robustness.seconds, strict=True)),
            "examples": evaluation.as_lines(robustness.examples, robustness.names),
        }

    def _asked(self) -> dict[str, Any]:
        """The settings by which a record is another one, known without TensorFlow."""
        return {
            "digest": self.subject.digest,
            "dataset": self.sample.dataset,
            "split": self.sample.split,
            "limit": self.sample.limit,
            "seed": self.sample.seed,
            "threat": dataclasses.asdict(self.threat),
            **({"part": self.sample.part} if self.sample.part else {}),
            **({"internal_batch": self._internal_batch} if self._internal_batch is not None else {}),
            **({"asked": dataclasses.asdict(self.settings)} if self.settings else {}),
        }

    def _all_settings(self) -> dict[str, Any]:
        parts = [part for attack in self.attacks for part in attack.parts]
        return {
            "model": self.subject.name,
            **self._asked(),
            "images": len(self.images),
            "internal_batch": self.internal_batch,
            "images_digest": self.images.digest,
            "image_shape": list(self.images.pixels.shape[1:]),
            "attacks": [
                {"name": part.name, "class": type(part).__name__, "config": part.get_config()} for part in parts
            ],
            "versions": versions(),
            "processor": processor(),
        }

    def _open(self, resume: bool) -> Record | None:
        """The record to go on with; None where there is none yet."""
        if self.folder is None or not self.folder.exists():
            return None
        if not resume:
            raise InputError(f"{self.folder} exists: give another record, delete it, or resume it.")
        return self._compare(Record.open(self.folder), self._asked())

    def _checked(self) -> Record:
        """The record, once the attacks are known to be the same too."""
        assert self._record is not None
        return self._compare(self._record, self._all_settings())

    def _compare(self, record: Record, settings: dict[str, Any]) -> Record:
        asked = {name: value for name, value in settings.items() if name != "model"}
        digest = record.settings.get("digest")
        if self.subject.is_named(digest):
            asked["digest"] = digest
        differing = record.differs(asked)
        if differing:
            raise InputError(
                f"{self.folder} was made with {differing}: give the same settings, another record, or delete it."
            )
        return record


def _understand(asked: Any) -> tuple[AttackSettings | None, list[Attack]]:
    """Settings of attacks by name, or the attacks themselves."""
    if isinstance(asked, AttackSettings):
        return asked, []
    chosen = list(asked) if isinstance(asked, Sequence) and not isinstance(asked, str) else [asked]
    if all(isinstance(attack, str) for attack in chosen):
        return AttackSettings(tuple(chosen)), []
    if any(isinstance(attack, str) for attack in chosen):
        raise InputError("names of attacks and attack objects were given together: give names alone, or objects alone.")
    return None, chosen


def _dataset_of(subject: Subject, dataset: str | None) -> str:
    known = subject.card.dataset.name if subject.card else None
    if dataset is None and known is None:
        raise InputError(f"{subject.name} does not say what it was trained on: give --dataset.")
    return dataset or known or ""


def threat_of(subject: Subject) -> ThreatModel:
    """Gives the threat model in which a model's card reports; raises InputError where there is none."""
    if subject.card is None or subject.card.evaluation is None:
        raise InputError(f"no epsilon is known for {subject.name}: give --epsilon.")
    return subject.card.evaluation.threat
