"""The model card for people."""

from __future__ import annotations

from erkeras.recipes import TITLES, Recipe
from erkeras.saved.card import Card, DetectorEntry, EvaluationEntry, Summary, TrainingEntry
from erkeras.saved.hub import metadata

#: Columns of `detection_rows`.
DETECTION_COLUMNS = ["positives", "images", "AUROC", "found at 5% FPR", "found", "false positives"]


def render_card(card: Card) -> str:
    """Writes Markdown of a card: what the model is, how it was trained, what was measured, with which command."""
    parts = [metadata(card), _head(card), _data(card), _training(card), _purifier(card.recipe), _report(card)]
    parts += [_detector(card), _again(card), *map(_evaluation, card.evaluations)]
    if card.evaluation:
        parts.append("![Test images, clean and attacked, with the labels given](attacked.png)")
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(card: Card) -> str:
    paper = 'as in "Towards Robustness of Deep Neural Networks via Regularization"'
    guarded = " with an ER-Detector" if card.detector else ""
    if card.job is None:
        return f"# {card.name}\n\nA classifier{guarded} ({paper}), saved by `erkeras.save`."
    return f"# {card.name}\n\n{defense_title(card.job.recipe)} ({paper}){guarded}, made by\n\n    {card.job.command}"


def _data(card: Card) -> str:
    data = card.dataset
    counts = ""
    if data.train is not None:
        counts = f"{data.train} training, {data.validation} validation and {data.test} test images of\n"
    size = " x ".join(map(str, data.image_shape))
    return f"**Data.** {data.name or 'Images'}: {counts}{size}; classes {', '.join(data.class_names)}."


def _training(card: Card) -> str:
    if card.job is None or card.training is None:
        return ""
    recipe = card.job.recipe
    radius, code_size = f"{_norm(recipe)}epsilon", card.training.code_size or recipe.code_size
    return f"""\
**Training.** Network `{recipe.network}`, code size {code_size}, {recipe.epochs} epochs, batch
{recipe.batch_size}, {_adversary(recipe)}, {_regularizer(recipe)}, seed {card.job.seed}; evaluated at {radius}
{recipe.epsilon:g}. All settings are in `card.json`.{_start(recipe)}{_kept(card.training)}"""


def _start(recipe: Recipe) -> str:
    text = ""
    if recipe.network_fingerprint:
        text += f"\nIt started from the network's weights (fingerprint `{recipe.network_fingerprint[:16]}`)."
    if recipe.code_layer:
        text += f"\nThe network is cut at its layer `{recipe.code_layer}`."
    return text


def _kept(training: TrainingEntry) -> str:
    kept = f"Epoch {training.kept_epoch} is kept." if training.kept_epoch is not None else ""
    return "".join(f"\n{sentence}" for sentence in (kept, *training.warnings) if sentence)


def _adversary(recipe: Recipe) -> str:
    epsilon = recipe.epsilon * recipe.training_ratio
    if not epsilon:
        return "clean images"
    trades = f", TRADES with beta {recipe.beta:g}" if recipe.objective == "trades" else ""
    return f"PGD-{recipe.steps} at {_norm(recipe)}epsilon {epsilon:.4g}{trades}"


def _norm(recipe: Recipe) -> str:
    return "" if recipe.norm == "l_inf" else f"{recipe.norm} "


def _regularizer(recipe: Recipe) -> str:
    if not recipe.coefficient:
        return "no regularizer"
    return f"regularizer {recipe.regularizer} with lambda {recipe.coefficient:g} ({recipe.coupling})"


def _purifier(recipe: Recipe | None) -> str:
    if recipe is None or not recipe.generator_updates:
        return ""
    steps, restarts = recipe.purifier_steps, recipe.purifier_restarts
    return f"""\
**Purifier.** The classifier sees the nearest image that a generator can make, sought in {steps} steps from each of
{restarts} starts (step size {recipe.purifier_step_size:g}). The generator was trained by WGAN-GP,
{recipe.generator_updates} updates at rate {recipe.generator_learning_rate:g}. A look at an image costs
{steps * restarts} passes through the generator, forward and backward, so few images are attacked, by a short PGD.
Backwards the purifier counts as the identity (BPDA). `erkeras attack THIS_FOLDER --naive` attacks the classifier
alone."""


def _report(card: Card) -> str:
    report = card.evaluation
    if report is None:
        return ""
    pgd, rows = report.pgd, results_rows(card)
    accuracies = _markdown(["", *rows[0][1]], [[name, *cells.values()] for name, cells in rows])
    machine = f" The processor was {card.processor}." if card.processor else ""
    return f"""\
## Measured

On {report.summary.images} test images (their indices are in `card.json`), {report.threat.norm}, epsilon
{report.threat.epsilon:g}, seed {report.seed}. PGD: {pgd.steps} steps of {pgd.step_size:.4g}, {pgd.restarts} restarts,
the worst for each image. A stronger attack finds more.{machine}

{accuracies}"""


def _detector(card: Card) -> str:
    detector = card.detector
    if detector is None:
        return ""
    kind = "ER2" if detector.features == "combined" else "ER1"
    origin = f"**Detector.** {kind}, with the threshold {detector.threshold:.4g} of its score."
    if detector.fitted_on:
        origin = f"""\
The detector ({kind}) was fitted on {detector.fitted_on} and
calibrated on {detector.calibrated_on}. Positives below are attacked test images, negatives the clean ones."""
    if not detection_rows(card):
        return origin
    return f"""\
{origin}

"Found at 5% FPR" is a point of their ROC curve; "found" and "false positives" are what the detector's own threshold
gives, which was set for {percent(detector.stated_false_positive_rate)} on the validation images.

{_markdown(DETECTION_COLUMNS, detection_rows(card))}{_reduction(detector)}"""


def _reduction(detector: DetectorEntry) -> str:
    """Says how much accuracy the reduction of the densities to few centres costs."""
    whole = detector.unreduced
    if whole is None:
        return ""
    kinds = (
        ("successful", detector.successful, whole.successful),
        ("all attacked", detector.all_attacked, whole.all_attacked),
    )
    pairs = [
        f"{name} {found.auroc:.3f} instead of {before.auroc:.3f}"
        for name, found, before in kinds
        if found and found.auroc is not None and before.auroc is not None
    ]
    spread, error = whole.log_density_standard_deviation, whole.log_density_root_mean_square_error
    return f"""

To stay small, its densities are reduced by k-means to {detector.centres} centres a class. On the clean test images
its log density differs from the whole one, whose standard deviation is {spread:.3g}, by {error:.3g} (root mean square);
AUROC: {", ".join(pairs)}."""


def _again(card: Card) -> str:
    report = card.evaluation
    if report is None:
        return ""
    return f"""\
The classifier's figures again:

    erkeras attack THIS_FOLDER --attack fgsm --attack pgd --steps {report.pgd.steps} \\
      --step-size {report.pgd.step_size!r} --restarts {report.pgd.restarts} --epsilon {report.threat.epsilon:g} \\
      --limit {report.summary.images} --seed {report.seed}"""


def _evaluation(found: EvaluationEntry) -> str:
    """Renders an evaluation that `erkeras attack --card` added."""
    figures = found.summary
    rows = [[name, percent(accuracy)] for name, accuracy in figures.attacks.items()]
    sentences = list(figures.warnings)
    if figures.mean_boundary_distance is not None:
        sentences.insert(0, f"Mean distance to the decision boundary: {figures.mean_boundary_distance:.4f}.")
    remarks = f"{' '.join(sentences)}\n\n" if sentences else ""
    return f"""\
### {found.title}

On {figures.images} {found.split} images of {found.dataset}, {found.threat.norm}, epsilon {found.threat.epsilon:g},
seed {found.seed}; each attack gets the images that still stand.

{_markdown(["attack", "robust accuracy after it"], [[clean_title(figures), percent(figures.clean_accuracy)], *rows])}

{remarks}Verified, from the attacked images, by

    erkeras verify THIS_FOLDER/{found.record}"""


def clean_title(figures: Summary) -> str:
    """Names the accuracy before any attack: with a detector, an image that it finds stands as well."""
    return "clean, or found" if any(name.endswith("-detector") for name in figures.attacks) else "clean"


def results_rows(card: Card) -> list[tuple[str, dict[str, str]]]:
    """Makes the rows (model, {column: percentage}) of the table of accuracies, the baseline's last."""
    report = card.evaluation
    if report is None:
        return []
    rows: list[tuple[str, Summary]] = [(defense_title(card.recipe) if card.recipe else card.name, report.summary)]
    if report.baseline:
        rows.append(("the same network without defense", report.baseline))
    names = {"fgsm": "FGSM", "pgd": f"PGD-{report.pgd.steps}"}
    return [
        (
            name,
            {
                "clean": percent(figures.clean_accuracy),
                **{names.get(attack, attack): percent(accuracy) for attack, accuracy in figures.attacks.items()},
                "worst of all": percent(figures.robust_accuracy),
            },
        )
        for name, figures in rows
    ]


def defense_title(recipe: Recipe) -> str:
    """Gives what the paper calls a recipe's defense; an ER-Classifier without its parts is what is left of it."""
    defense = recipe.defense
    if defense == "er-classifier" and not recipe.coefficient:
        defense = "madry" if recipe.training_ratio else "e-cla"
    elif defense == "er-classifier" and not recipe.training_ratio:
        defense = "er-classifier-minus"
    return TITLES[defense]


def percent(fraction: float | None) -> str:
    """Writes a fraction as a percentage."""
    return "none" if fraction is None else f"{100 * fraction:.1f}%"


def detection_rows(card: Card) -> list[list[str]]:
    """Makes the rows of the table of detection: successful attacks alone, and all attacked images, as positives."""
    if card.detector is None:
        return []
    kinds = (
        ("successful attacks", card.detector.successful),
        ("all attacked images", card.detector.all_attacked),
    )
    return [
        [
            name,
            str(figures.adversarial),
            "none" if figures.auroc is None else f"{figures.auroc:.3f}",
            percent(figures.detection_rate_at_5),
            percent(figures.detection_rate),
            percent(figures.false_positive_rate),
        ]
        for name, figures in kinds
        if figures
    ]


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
