"""From a recipe to a saved model: train, attack, fit the detector, export, write the card.

The one place where data, models, attacks, detection, evaluation and serving meet; the command line and the tests
call it, and a user's own script may.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import shutil
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from erkeras import __version__
from erkeras.building import build_gan, build_model
from erkeras.data import Dataset, Split, load_dataset
from erkeras.errors import InputError
from erkeras.files import write_text
from erkeras.recipes import Recipe
from erkeras.serving.folder import CARD, FORMAT, digests, read_card

#: Steps of the PGD that judges, each of epsilon / 30: on MNIST 40 steps of 0.01, as Madry et al.
JUDGING_STEPS, JUDGING_STEP_RATIO = 40, 1 / 30
#: Through a purifier, which makes each of these looks thousands of times dearer: one internal batch of images, and
#: PGD-10 with one restart.
PURIFIED_IMAGES, PURIFIED_STEPS, PURIFIED_STEP_RATIO = 128, 10, 1 / 4
#: Images for one update of a generator, and for each of its critic's.
_GENERATOR_BATCH = 64
#: With fewer successful attacks on validation images, the detector learns from all attacked ones.
_FEWEST_POSITIVES = 10
#: Images of each class that the detector stands on.
_CENTRES, _COMPACT_CENTRES = 1000, 50


@dataclass(frozen=True)
class Job:
    """What `erkeras train` was asked for; with the same job, the same weights and figures.

    Attributes:
        dataset: as `load_dataset` takes it.
        recipe: see `Recipe`.
        seed: of initial weights, data order, training's and the attacks' random numbers.
        limit: how many test images are judged, drawn by the seed; None for all. At most `PURIFIED_IMAGES` behind a
            purifier.
        restarts: of the PGD that judges; one behind a purifier.
        baseline: also train the same network without any defence and judge it on the same images.
        features: the detector's, "combined" (ER2) or "code" (ER1).
        compact: for a model that ships: save it without what only training needs (optimizers, critic, averages), and
            with a detector that stands on 50 images a class instead of 1,000. The card says what that costs.
        deterministic: run TensorFlow's deterministic operations, for the same bits on one machine.
        command: the command that does this again, for the card.
    """

    dataset: str
    recipe: Recipe
    seed: int = 0
    limit: int | None = 1000
    restarts: int = 5
    baseline: bool = False
    features: str = "combined"
    compact: bool = False
    deterministic: bool = True
    command: str = ""

    def settings(self) -> dict[str, Any]:
        # Through JSON, so that what was read back compares equal.
        return json.loads(json.dumps({**dataclasses.asdict(self), "erkeras": __version__}))


class Progress:
    """Hears how a job gets on. This one says nothing; the command line draws bars."""

    def stage(self, name: str, total: int) -> None:
        """A stage of `total` units begins."""

    def advance(self, units: int, note: str = "") -> None:
        """Some units of the stage are done; `note` is the latest figure."""


def training_folder(output: Path) -> Path:
    """Where the checkpoints of an unfinished job live: beside the output, hidden."""
    return output.parent / f".{output.name}.training"


def check_output(output: Path, job: Job, resume: bool) -> bool:
    """Finds, without TensorFlow, whether a job may write to a folder.

    Returns:
        True where the job is already done there.

    Raises:
        InputError: where the folder exists and `resume` is not set, or holds another job.
    """
    unfinished = training_folder(output) / "job.json"
    if output.exists():
        if not resume:
            raise InputError(f"{output} exists: give another --output, delete it, or add --resume.")
        _compare(output, read_card(output)["job"], job)
        return True
    if unfinished.exists():
        if not resume:
            raise InputError(
                f"an unfinished training for {output} is in {unfinished.parent}: add --resume to go on with it, "
                "or delete that folder."
            )
        _compare(output, json.loads(unfinished.read_text()), job)
    return False


def _compare(output: Path, before: dict[str, Any], job: Job) -> None:
    now = job.settings()
    flat = [{**settings, **settings.get("recipe", {}), "recipe": None} for settings in (before, now)]
    differing = [key for key in flat[1] if key != "command" and flat[0].get(key) != flat[1][key]]
    if differing:
        listed = ", ".join(f"{key} {flat[0].get(key)} (now {flat[1][key]})" for key in differing)
        raise InputError(f"{output} was started with {listed}: give the same settings, or another --output.")


def fit_model(
    job: Job, dataset: Dataset, checkpoint: Any = None, progress: Progress | None = None, name: str = "training"
) -> Any:
    """Trains the model of a job, from its last checkpoint where there is one.

    The best epoch is kept (`Recipe.keep_best`) beside the checkpoint, and without one the last.

    Raises:
        InputError: for a batch of more images than there are.
    """
    import keras

    from erkeras.data import training_batches
    from erkeras.models import AveragesInValidation, KeepBest

    recipe, progress = job.recipe, progress or Progress()
    steps = len(dataset.train) // recipe.batch_size
    if not steps:
        raise InputError(
            f"{job.dataset} has {len(dataset.train)} training images: give a --batch-size of at most that."
        )
    model = build_model(recipe, dataset.image_shape, dataset.classes, steps, job.seed)
    epoch = checkpoint.restore(model) if checkpoint else 0
    progress.stage(name, recipe.epochs * steps)
    progress.advance(epoch * steps)

    def report(batch: int, logs: dict[str, float]) -> None:
        accuracy = logs.get("adversarial_accuracy", logs["clean_accuracy"])
        progress.advance(1, f"loss {logs['loss']:.3f}, accuracy {accuracy:.1%}")

    callbacks = [keras.callbacks.LambdaCallback(on_train_batch_end=report)]
    if recipe.averaging:
        callbacks.append(AveragesInValidation())
    if checkpoint:
        if recipe.keep_best:  # first: what a checkpoint knows of is on disk
            callbacks.append(KeepBest(checkpoint.folder))
        callbacks.append(checkpoint)
    validation = dataset.validation.sample(1000, seed=0)
    model.fit(
        training_batches(dataset.train, recipe.batch_size, job.seed, epoch, recipe.augment),
        steps_per_epoch=steps,
        epochs=recipe.epochs,
        initial_epoch=epoch,
        validation_data=(validation.images, validation.labels),
        validation_batch_size=250,
        shuffle=False,  # the batches come shuffled
        verbose=0,
        callbacks=callbacks,
    )
    if recipe.averaging:
        model.take_averages()
    return model


def fit_generator(gan: Any, job: Job, dataset: Dataset, checkpoint: Any, progress: Progress) -> Any:
    """Trains a WassersteinGAN on the training images, from its last checkpoint where there is one.

    Returns:
        Its generator.
    """
    import keras

    from erkeras.data import training_batches

    batch_size = gan.critic_updates * min(_GENERATOR_BATCH, len(dataset.train) // gan.critic_updates)
    steps = len(dataset.train) // batch_size
    epochs = -(-job.recipe.generator_updates // steps)
    epoch = checkpoint.restore(gan)
    progress.stage("training generator", epochs * steps)
    progress.advance(epoch * steps)

    def report(batch: int, logs: dict[str, float]) -> None:
        progress.advance(1, f"Wasserstein distance {logs['wasserstein_distance']:.3f}")

    gan.fit(
        training_batches(dataset.train, batch_size, job.seed, epoch),
        steps_per_epoch=steps,
        epochs=epochs,
        initial_epoch=epoch,
        shuffle=False,  # the batches come shuffled
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=report), checkpoint],
    )
    return gan.generator


def purified(model: Any, generator: Any, job: Job) -> Any:
    """An ERClassifier behind the purifier of a job's recipe."""
    import keras

    from erkeras.models import DefenseGAN

    recipe = job.recipe
    return DefenseGAN(
        generator,
        keras.Sequential([model.encoder, model.classifier], name="classifier"),
        steps=recipe.purifier_steps,
        restarts=recipe.purifier_restarts,
        step_size=recipe.purifier_step_size,
        seed=job.seed,
    )


def train(job: Job, output: Path, resume: bool = False, progress: Progress | None = None) -> dict[str, Any]:
    """Does a whole job: trains, attacks the test images, fits the detector, exports, and only then makes `output`.

    Interrupted at any moment, it goes on from the last whole epoch when called again with `resume`.

    Returns:
        The card of the saved model (see `erkeras.serving.folder`).

    Raises:
        InputError: as `check_output`, and for data that cannot be loaded.
    """
    folder = training_folder(output)
    if check_output(output, job, resume):
        shutil.rmtree(folder, ignore_errors=True)  # left where the process died after its last step but one
        return read_card(output)
    import tensorflow as tf

    from erkeras.models import Checkpoint, KeepBest

    dataset = load_dataset(job.dataset)
    if job.deterministic:
        tf.config.experimental.enable_op_determinism()

    progress = progress or Progress()
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "job.json", json.dumps(job.settings(), indent=1))
    started = time.perf_counter()
    checkpoint, generator_checkpoint = Checkpoint(folder / "checkpoint"), Checkpoint(folder / "generator")
    try:
        # First, so that images which no generator makes are refused at once.
        gan = build_gan(job.recipe, dataset.image_shape, job.seed) if job.recipe.generator_updates else None
        model = fit_model(job, dataset, checkpoint, progress)
    except InputError:
        if not checkpoint.history:  # nothing to go on with
            shutil.rmtree(folder)
        raise
    if gan is not None:
        model = purified(model, fit_generator(gan, job, dataset, generator_checkpoint, progress), job)
    seconds = time.perf_counter() - started
    kept = KeepBest(checkpoint.folder).epoch if job.recipe.keep_best else job.recipe.epochs

    test = dataset.test.sample(min(job.limit or PURIFIED_IMAGES, PURIFIED_IMAGES) if gan else job.limit, job.seed)
    robustness = _judge(model, test, job, progress, "attacking")
    evaluation = {**_evaluation_settings(job), **robustness.summary(), "indices": test.indices.tolist()}
    if job.baseline:
        plain = dataclasses.replace(
            job.recipe,
            training_ratio=0.0,
            coefficient=0.0,
            objective="cross-entropy",
            noise=0.0,
            passes=1,
            defense="e-cla",
        )
        undefended = fit_model(
            dataclasses.replace(job, recipe=plain), dataset, progress=progress, name="training undefended"
        )
        evaluation["baseline"] = _judge(undefended, test, job, progress, "attacking undefended").summary()
    # A purifier has no code: nothing that an ER-Detector could look at.
    detector, detection = (None, None) if gan else _fit_detector(model, dataset, job, robustness, test, progress)

    partial = folder / "saved_model"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    _export(partial, model.without_training_state() if job.compact and not gan else model, detector, dataset)
    _draw(partial / "attacked.png", detector, test, robustness, dataset, job)
    card = {
        "format": FORMAT,
        "name": output.name,
        "job": job.settings(),
        "versions": versions(),
        "dataset": {
            "name": dataset.name,
            "image_shape": list(dataset.image_shape),
            "class_names": list(dataset.class_names),
            **{split: len(getattr(dataset, split)) for split in ("train", "validation", "test")},
        },
        "training": {
            "seconds_of_last_run": round(seconds, 1),
            "last_epoch": checkpoint.history[-1],
            "kept_epoch": kept,
            "warnings": _training_warnings(checkpoint.history[:kept]),
            **({"generator_last_epoch": generator_checkpoint.history[-1]} if gan else {}),
        },
        "evaluation": evaluation,
        "detector": detection,
    }
    from erkeras.serving.card import render_card

    card["files"] = digests(partial)
    (partial / "README.md").write_text(render_card(card))
    (partial / CARD).write_text(json.dumps(card, indent=1))
    partial.rename(output)
    shutil.rmtree(folder)
    return card


def _training_warnings(history: list[dict[str, float]]) -> list[str]:
    from erkeras.models import catastrophic_overfitting

    epoch = catastrophic_overfitting(history)
    if epoch is None:
        return []
    return [
        f"After epoch {epoch} the accuracy under attack fell to less than half on validation images and stayed so, as "
        "when training overfits a cheap adversary: train with more --steps, or with --keep-best."
    ]


def judging_attacks(
    epsilon: float, restarts: int, steps: int = JUDGING_STEPS, step_ratio: float = JUDGING_STEP_RATIO
) -> list[Any]:
    """FGSM and PGD within an l_inf ball."""
    from erkeras.attacks import FGSM, PGD
    from erkeras.threat import ThreatModel

    threat = ThreatModel("l_inf", epsilon)
    return [FGSM(threat), PGD(threat, steps, step_ratio * epsilon, restarts)]


def _pgd_settings(job: Job) -> dict[str, Any]:
    """Restarts, steps and their length, as a portion of epsilon, of the PGD that judges."""
    if job.recipe.generator_updates:
        return {"restarts": 1, "steps": PURIFIED_STEPS, "step_ratio": PURIFIED_STEP_RATIO}
    return {"restarts": job.restarts, "steps": JUDGING_STEPS, "step_ratio": JUDGING_STEP_RATIO}


def _judge(model: Any, split: Split, job: Job, progress: Progress, name: str) -> Any:
    from erkeras.evaluation import evaluate_robustness

    attacks = judging_attacks(job.recipe.epsilon, **_pgd_settings(job))
    progress.stage(name, len(split) * sum(attack.work for attack in attacks))
    return evaluate_robustness(model, split, attacks, seed=job.seed, progress=progress.advance)


def _evaluation_settings(job: Job) -> dict[str, Any]:
    pgd = _pgd_settings(job)
    return {
        "split": "test",
        "norm": "l_inf",
        "epsilon": job.recipe.epsilon,
        "pgd": {
            "steps": pgd["steps"],
            "step_size": pgd["step_ratio"] * job.recipe.epsilon,
            "restarts": pgd["restarts"],
        },
        "seed": job.seed,
    }


def _fit_detector(
    model: Any, dataset: Dataset, job: Job, robustness: Any, test: Split, progress: Progress
) -> tuple[Any, dict[str, Any]]:
    from erkeras.detection import ERDetector

    validation = dataset.validation.sample(job.limit, job.seed)
    found = _judge(model, validation, dataclasses.replace(job, restarts=1), progress, "attacking validation")
    progress.stage("fitting detector", 1)
    adversarial, successful = found.examples.images, found.successful
    enough = int(successful.sum()) >= _FEWEST_POSITIVES
    test_adversarial, test_successful = robustness.examples.images, robustness.successful

    def fit(centres: int) -> ERDetector:
        detector = ERDetector(model, job.features)
        detector.fit(dataset.train.images, dataset.train.labels, limit=centres, seed=job.seed)
        return detector.calibrate(validation.images, adversarial[successful] if enough else adversarial)

    centres = _COMPACT_CENTRES if job.compact else _CENTRES
    detector = fit(centres)
    result = {
        "features": job.features,
        "fitted_on": f"clean training images, at most {centres:,} of each class",
        "calibrated_on": f"validation images, clean and {'successfully attacked' if enough else 'attacked'} by PGD",
        "stated_false_positive_rate": detector.false_positive_rate,
        "threshold": detector.threshold,
        "successful": detector.evaluate(test.images, test_adversarial[test_successful]),
        "all_attacked": detector.evaluate(test.images, test_adversarial),
    }
    if job.compact:
        whole = fit(_CENTRES)
        difference = detector.log_density(test.images) - whole.log_density(test.images)
        result["reduced_from"] = {
            "centres": _CENTRES,
            "log_density_root_mean_square_error": float((difference**2).mean() ** 0.5),
            "log_density_standard_deviation": float(whole.log_density(test.images).std()),
            "successful": whole.evaluate(test.images, test_adversarial[test_successful]),
            "all_attacked": whole.evaluate(test.images, test_adversarial),
        }
    progress.advance(1)
    return detector, result


def _export(folder: Path, model: Any, detector: Any, dataset: Dataset) -> None:
    from erkeras.serving import export_classifier, export_saved_model

    model.save(folder / "model.keras")
    if detector is None:
        export_classifier(model, dataset.image_shape, folder / "1")
        return
    export_saved_model(detector, folder / "1")
    detector.save(folder / "detector.npz")


def _draw(path: Path, detector: Any, test: Split, robustness: Any, dataset: Dataset, job: Job) -> None:
    """The first image of each class (at most ten) that was right when clean, and what the attacks made of it."""
    from erkeras.evaluation import draw_verdicts

    right = robustness.examples.clean_predictions == test.labels
    of_classes = [(right & (test.labels == label)).nonzero()[0] for label in range(dataset.classes)]
    rows = [int(places[0]) for places in of_classes if len(places)][:10]
    if not rows:
        return
    examples = robustness.examples
    clean, adversarial = test.images[rows], examples.images[rows]
    befores = _captions(detector, clean, examples.clean_predictions[rows], dataset)
    afters = _captions(detector, adversarial, examples.predictions[rows], dataset)
    captions = []
    for row, before, after in zip(rows, befores, afters, strict=True):
        truth = int(test.labels[row])
        captions.append((before[0], before[1] == truth and not before[2], after[0], after[1] == truth or after[2]))
    title = f"Clean and attacked at epsilon {job.recipe.epsilon:g}: the label given"
    title += ", and the detector's verdict" if detector else ""
    draw_verdicts(path, clean, adversarial, captions, title)


def _captions(detector: Any, images: Any, predictions: Any, dataset: Dataset) -> list[tuple[str, int, bool]]:
    if detector is None:
        return [(dataset.class_names[label], int(label), False) for label in predictions]
    detection = detector.predict(images)
    return [
        (f"{dataset.class_names[label]}\n{'adversarial' if verdict else 'natural'}", int(label), bool(verdict))
        for label, verdict in zip(detection.label, detection.verdict, strict=True)
    ]


def versions() -> dict[str, str]:
    """Of everything that figures depend on."""
    packages = ("tensorflow", "keras", "numpy", "scikit-learn", "cleverhans")
    return {"erkeras": __version__, "python": platform.python_version(), **{name: version(name) for name in packages}}
